"""A .pt file -> its tensors, read as data: nothing in it is run."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from numlstm.convert.assembly import reading
from numlstm.convert.torch.archives import INSTEAD, read_archive, read_legacy
from numlstm.convert.torch.checkpoints import Fits, state_dict_in
from numlstm.convert.torch.pickles import Stranger
from numlstm.convert.torch.stored import Stored
from numlstm.errors import first_of
from numlstm.spec import WeightsError


def read_state_dict(
    path: str | os.PathLike[str], key: str | None = None, fits: Fits = lambda names: False
) -> dict[str, Any]:
    """Read a state dict of a .pt file, never anything that could run code.

    What is in it beside tensors is as `pickles` has it. See `state_dict_in` for key and fits.

    Raises
    ------
    WeightsError
        If the file holds no state dict, or is damaged.
    """
    name = os.fspath(path)
    what = "cannot be read as tensors only"
    with Path(path).open("rb") as file, reading(what, name, INSTEAD):
        return state_dict_of(file, key, fits)


def state_dict_of(
    file: BinaryIO, key: str | None = None, fits: Fits = lambda names: False
) -> dict[str, Any]:
    """Read the state dict of what torch.save wrote; see `read_state_dict`."""
    head = file.read(2)
    file.seek(0)
    data, numbers_of = (read_archive if head == b"PK" else read_legacy)(file)
    found = state_dict_in(data, key, fits)
    if found is not None:
        once = cache(numbers_of)  # those of a flattened module are all of one storage
        return {n: v.load(once) if isinstance(v, Stored) else v for n, v in found.items()}
    parts = data.values() if isinstance(data, Mapping) else (data,)
    strangers = dict.fromkeys(v.text for v in parts if isinstance(v, Stranger))
    if strangers:
        raise WeightsError(
            f"cannot be read as tensors only: holds {first_of(strangers)}; {INSTEAD}"
        )
    raise WeightsError(f"holds no state dict; {INSTEAD}")
