"""A .pt file -> its tensors, read as data: nothing in it is run."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from numlstm.convert.assembly import Refused, reading
from numlstm.convert.torch.files.archives import INSTEAD, Archive, read_archive, read_legacy
from numlstm.convert.torch.files.checkpoints import Fits, state_dict_in
from numlstm.convert.torch.files.exported import is_exported, read_exported
from numlstm.convert.torch.files.instances import with_state_dicts
from numlstm.convert.torch.files.npz import is_npz, read_npz
from numlstm.convert.torch.files.pickles import Stranger
from numlstm.convert.torch.files.stored import NumbersOf, Stored
from numlstm.convert.torch.packed import unpacked
from numlstm.errors import first_of
from numlstm.spec import WeightsError

_RENEW = f"load it with PyTorch, and {INSTEAD}"


def read_state_dict(
    path: str | os.PathLike[str], key: str | None = None, fits: Fits = ()
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


def state_dict_of(file: BinaryIO, key: str | None = None, fits: Fits = ()) -> dict[str, Any]:
    """Read the state dict of what torch.save wrote; see `read_state_dict`."""
    data, numbers_of = _read(file)
    data = with_state_dicts(data)
    found = state_dict_in(data, key, fits)
    if found is not None:
        once = cache(numbers_of)  # those of a flattened module are all of one storage
        values = unpacked(found, lambda value: float(_loaded(value, once)))
        return {name: _loaded(value, once) for name, value in values.items()}
    parts = data.values() if isinstance(data, Mapping) else (data,)
    strangers = dict.fromkeys(v.text for v in parts if isinstance(v, Stranger))
    if strangers:
        raise WeightsError(
            f"cannot be read as tensors only: holds {first_of(strangers)}; {INSTEAD}"
        )
    raise WeightsError(f"holds no state dict; {INSTEAD}")


def _read(file: BinaryIO) -> tuple[Any, NumbersOf]:
    """Return what a file holds, and what reads the numbers of its tensors."""
    head = file.read(262)
    file.seek(0)
    if head[257:] == b"ustar":
        raise Refused("is of the first format of PyTorch, before 0.4", _RENEW)
    if head[:6] == b"\x93NUMPY":
        raise Refused("is one array", "save all under their names: numpy.savez(path, **arrays)")
    if not head.startswith(b"PK"):
        return read_legacy(file)
    archive = Archive(file)
    if is_npz([*archive.entries]):
        return read_npz(file), lambda storage: bytearray()
    if is_exported(archive):
        return read_exported(archive)
    if any(name.endswith("/model.json") for name in archive.entries):
        raise Refused("is a TorchScript program of PyTorch before 1.4", _RENEW)
    return read_archive(archive)


def _loaded(value: Any, numbers_of: NumbersOf) -> Any:
    return value.load(numbers_of) if isinstance(value, Stored) else value
