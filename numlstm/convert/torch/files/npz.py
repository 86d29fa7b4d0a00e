"""An .npz file of NumPy -> a state dict: each array is a tensor of its name."""

import io
import math
import zipfile
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy

from numlstm.convert.assembly import Refusals, Refused
from numlstm.convert.zips import unpacked

_END = ".npy"
NUMBERS = "fciub"  # kinds of dtypes
_HEADERS: Any = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def is_npz(names: list[str]) -> bool:
    """Whether the files of an archive are those of an .npz."""
    return bool(names) and all(name.endswith(_END) for name in names)


def read_npz(file: BinaryIO) -> dict[str, torch.Tensor]:
    """Return the arrays of a file; none of them is unpickled.

    Raises
    ------
    WeightsError
        Lists every array that is no array of numbers.
    """
    refusals = Refusals("the file")
    tensors = {}
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(_END)
            with refusals.of(name):
                tensors[name] = tensor_of(_read(unpacked(archive, entry.filename)))
    refusals.check()
    return tensors


def _read(file: io.BytesIO) -> Any:
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise Refused(f"it is of version {version} of the format of arrays")
    shape, by_columns, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise Refused(
            "it is an array of objects, which are pickles, and not read",
            "save an array of numbers",
        )
    if dtype.kind not in NUMBERS:
        raise Refused(f"it is an array of {dtype}, expected floating point")
    size = math.prod(shape) * dtype.itemsize
    data = file.getbuffer()[file.tell() :]
    if not 0 <= size <= len(data):
        raise Refused(f"it says {shape!s:.60} of {dtype}, which is not in its file")
    return np.frombuffer(data[:size], dtype).reshape(shape, order="F" if by_columns else "C")


def tensor_of(array: Any) -> torch.Tensor:
    """Return an array of numbers as a tensor of the same; what PyTorch has not becomes float64."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("=")))
