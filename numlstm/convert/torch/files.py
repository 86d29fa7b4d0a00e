"""A .pt file -> its tensors, read as data: nothing in it is run."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from numlstm.convert.assembly import reading
from numlstm.convert.torch.archives import INSTEAD, read_archive, read_legacy
from numlstm.convert.torch.pickles import Stranger
from numlstm.convert.torch.stored import Stored
from numlstm.errors import first_of
from numlstm.spec import WeightsError


def read_state_dict(path: str | os.PathLike[str], key: str | None = None) -> dict[str, Any]:
    """Read the tensors of a .pt file, never anything that could run code.

    Parameters
    ----------
    key : str, optional
        Where in the file the state dict is, if the file is a dict with other things in it.

    Raises
    ------
    WeightsError
        If the file holds no state dict, or is damaged.
    """
    name = os.fspath(path)
    what = "cannot be read as tensors only"
    with Path(path).open("rb") as file, reading(what, name, INSTEAD):
        return state_dict_of(file, key)


def state_dict_of(file: BinaryIO, key: str | None = None) -> dict[str, Any]:
    """Read the tensors of what torch.save wrote; see `read_state_dict`."""
    head = file.read(10)
    file.seek(0)
    if head[8:] == b'{"':
        raise WeightsError("is a .safetensors file; pass safetensors.torch.load_file(path)")
    data, numbers_of = (read_archive if head[:2] == b"PK" else read_legacy)(file)
    if key is not None:
        if not isinstance(data, Mapping) or key not in data:
            raise WeightsError(f"holds no {key!r}")
        data = data[key]
    if _is_state_dict(data):
        once = cache(numbers_of)  # those of a flattened module are all of one storage
        return {name: tensor.load(once) for name, tensor in data.items()}
    parts = data.items() if isinstance(data, Mapping) else ()
    strangers = dict.fromkeys(v.text for _, v in parts if isinstance(v, Stranger))
    strangers |= {data.text: None} if isinstance(data, Stranger) else {}
    if strangers:
        raise WeightsError(
            f"cannot be read as tensors only: holds {first_of(strangers)}; {INSTEAD}"
        )
    inside = [k for k, v in parts if isinstance(k, str) and _is_state_dict(v)]
    hint = f"; name one of its parts as key: {first_of(inside)}" if inside else ""
    raise WeightsError(f"is not a state dict{hint}")


def _is_state_dict(data: Any) -> bool:
    return (
        isinstance(data, Mapping)
        and len(data) > 0
        and all(isinstance(k, str) and isinstance(v, Stored) for k, v in data.items())
    )
