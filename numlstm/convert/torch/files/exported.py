"""A .pt2 file of torch.export -> its tensors; the graph beside them is not read.

``data/weights/{model}_weights_config.json`` tells of each tensor what it is and in which file of
the folder it lies.
"""

from collections.abc import Mapping
from typing import Any

import torch

from numlstm.budget import spend
from numlstm.convert.assembly import Refused
from numlstm.convert.torch.files.archives import Archive
from numlstm.convert.torch.files.stored import NumbersOf, Storage, Stored, strided
from numlstm.strict_json import read_json

_INSTEAD = "save torch.export.load(path).state_dict with torch.save, and convert that"
_FOLDER = "data/weights/"
# torch._export.serde.schema.ScalarType
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip


def is_exported(archive: Archive) -> bool:
    """Whether an archive is of torch.export, whatever its version."""
    names = ("serialized_exported_program.json", "models/model.json")
    return archive.text("archive_format") == "pt2" or any(name in archive for name in names)


def read_exported(archive: Archive) -> tuple[dict[str, Stored], NumbersOf]:
    """Return the tensors of an archive of torch.export, and what reads their numbers.

    Raises
    ------
    WeightsError
        If it is of another version, or holds more than one model.
    """
    ends = "_weights_config.json"
    configs = [n for n in archive.entries if n.startswith(_FOLDER) and n.endswith(ends)]
    if len(configs) != 1:
        found = f"{len(configs)} lists of weights, expected 1, as PyTorch 2.8 writes it"
        raise Refused(f"is a program of torch.export with {found}", _INSTEAD)
    data = archive.read(configs[0])
    spend("the list of the weights", 20 * len(data), 100 * len(data))
    config = read_json(bytes(data))["config"]
    tensors = {name: _tensor(name, entry) for name, entry in config.items()}

    def numbers_of(storage: Storage) -> bytearray:
        return archive.read(_FOLDER + storage.key, storage.size * storage.dtype.itemsize)

    return tensors, numbers_of


def _tensor(name: str, entry: Mapping[str, Any]) -> Stored:
    spend("the list of the weights", 1000, 1e4)
    meta, key = entry["tensor_meta"], entry["path_name"]
    dtype = _DTYPES.get(meta["dtype"])
    if entry.get("use_pickle") or dtype is None or not isinstance(key, str):
        raise Refused("is a tensor in a form that is not known", _INSTEAD, f"{name:.100}")
    shape, strides = (tuple(size["as_int"] for size in meta[what]) for what in ("sizes", "strides"))
    start = meta["storage_offset"]["as_int"]
    last = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    return strided(Storage(dtype, key, start + last + 1), start, shape, strides)
