"""A file or folder -> a state dict: .pt, .safetensors, what Hugging Face's libraries save.

A folder has its weights in one file, or in several that an index tells: ``{"weight_map": {name:
file}}``. Only those two are read, never the code or the settings beside them.
"""

import os
from pathlib import Path
from typing import Any

from numlstm.budget import grow, spend
from numlstm.convert.assembly import Refused, reading
from numlstm.convert.folders import beside, size_on_disk
from numlstm.convert.torch.files import read_state_dict
from numlstm.convert.torch.files.checkpoints import Fits
from numlstm.convert.torch.files.safetensors import read_safetensors
from numlstm.convert.torch.leftover import say
from numlstm.errors import first_of
from numlstm.spec import WeightsError
from numlstm.strict_json import read_json

_INDEX = ".index.json"
# In the order in which Hugging Face's libraries look for them.
_KNOWN = (
    "model.safetensors",
    f"model.safetensors{_INDEX}",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin",
    f"pytorch_model.bin{_INDEX}",
)
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def read_path(path: str | os.PathLike[str], key: str | None, fits: Fits) -> dict[str, Any]:
    """Read the state dict of a file, a folder or an index; see `state_dict_in` for key and fits.

    Raises
    ------
    WeightsError
        If it holds none, is damaged, or names files that are not in its folder.
    """
    path = Path(path)
    if path.is_dir():
        with reading("cannot be read as a folder of weights", os.fspath(path)):
            path = _weights_in(path)
    if path.name.endswith(_INDEX):
        return _read_shards(path, key, fits)
    return _read_file(path, key, fits)


def _weights_in(folder: Path) -> Path:
    """Return the file of weights of a folder."""
    names = sorted(entry.name for entry in folder.iterdir())
    known = [name for name in _KNOWN if name in names]
    found = known[:1] or [name for name in names if name.endswith(_SUFFIXES)]
    if len(found) != 1:
        what = f"several: {first_of(found)}" if found else f"only {first_of(names) or 'nothing'}"
        raise Refused(
            f"expected one file of weights ({', '.join(_KNOWN[:2])} or the like), found {what}",
            "give the path of the file that is meant",
        )
    path = beside(folder, found[0])
    say(f"the weights of the folder are those of {found[0]}")
    grow(size_on_disk(path))
    return folder / found[0]


def _read_shards(index: Path, key: str | None, fits: Fits) -> dict[str, Any]:
    """Read all files of an index."""
    with reading("cannot be read as an index of weights", os.fspath(index)):
        spend("the index", 20 * index.stat().st_size, 100 * index.stat().st_size)
        places = _weight_map(read_json(index.read_text(encoding="utf-8")))
        paths = {name: beside(index.parent, name) for name in dict.fromkeys(places.values())}
    values: dict[str, Any] = {}
    for name, path in paths.items():
        grow(size_on_disk(path))
        found = _read_file(path, key, (lambda names: True,))
        own = {tensor for tensor, place in places.items() if place == name}
        missing = own - found.keys()
        if missing:
            raise WeightsError(f"{index}: {first_of(sorted(missing))} is not in {name}, as it says")
        values |= found
    return values


def _weight_map(index: Any) -> dict[str, str]:
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise WeightsError("has no weight_map")
    if not all(isinstance(place, str) for place in places.values()):
        raise WeightsError("its weight_map has what is no name of a file")
    return places


def _read_file(path: Path, key: str | None, fits: Fits) -> dict[str, Any]:
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{" and head[:2] != b"PK":
        if key is not None:
            raise WeightsError(f"{path}: has no {key!r}: a .safetensors file has no dicts in it")
        return dict(read_safetensors(path))
    return read_state_dict(path, key, fits)
