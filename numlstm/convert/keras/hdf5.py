"""What Keras keeps in HDF5 files: arrays by their paths, lists of names, texts."""

import math
import re
from typing import Any

import h5py
import numpy as np

from numlstm.budget import spend
from numlstm.convert.assembly import Array
from numlstm.spec import WeightsError

# HDF5 may pack by any code that is installed, and pack twice; Keras packs by none of them.
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_FILTERS |= {h5py.h5z.FILTER_LZF}

_HEAP = re.compile(rb"GCOL\x01\0\0\0")  # of texts of any length
_FIELD = 8  # bytes of a length


def check_heaps(data: Any) -> None:
    """Refuse a heap that the HDF5 library would read for ever: free space of another size than is.

    Section III.E of its format: objects of an index, 6 bytes, a size, and so many bytes; what is
    left has index 0.
    """
    head = bytes(data[:11])
    lengths = head[10:] if head[8:9] in (b"\2", b"\3") else bytes(data[14:15])
    if head[:4] == b"\x89HDF" and lengths != bytes([_FIELD]):
        raise WeightsError(f"has lengths of {lengths!r} bytes, expected {_FIELD}")
    for match in _HEAP.finditer(data):
        at = match.end() + _FIELD
        end = match.start() + int.from_bytes(data[match.end() : at], "little")
        while at + 16 <= min(end, len(data)):
            spend("the texts of the file", operations=1000)
            index = int.from_bytes(data[at : at + 2], "little")
            size = int.from_bytes(data[at + 8 : at + 16], "little")
            if index == 0:
                if size != end - at:
                    raise WeightsError("is damaged: a heap of texts does not end where it says")
                break
            at += 16 + -(-size // 8) * 8


def arrays_in(file: Any) -> dict[str, Any]:
    """Return the arrays of numbers in a file by their paths, not yet read.

    A link to elsewhere, which could be any file of this machine or a pipe, is not followed.
    """
    found: dict[str, Any] = {}
    known: set[int] = set()
    groups = [("", file)]
    while groups:
        path, group = groups.pop()
        for name in group:
            where = f"{path}{name}"
            spend("the groups and arrays of the file", 2000 + len(where), 1e5)
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise WeightsError(f"{where[:200]} is a link, expected all in the file itself")
            item = group[name]
            if isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                groups += [] if address in known else [(f"{where}/", item)]
                known.add(address)
            elif isinstance(item, h5py.Dataset) and item.shape is not None:
                found[where] = item
    return dict(sorted(found.items()))


def array_of(name: str, item: Any) -> Array:
    """Return the numbers of an array that is in the file itself."""
    if item.dtype.kind not in "fiu":
        raise WeightsError(f"{name} is of {item.dtype}, expected numbers")
    if item.external or item.is_virtual:
        raise WeightsError(f"{name} is in another file")
    made = item.id.get_create_plist()
    filters = [made.get_filter(n)[0] for n in range(made.get_nfilters())]
    if len(set(filters) & _FILTERS) < len(filters):
        raise WeightsError(
            f"{name} is packed by the filters {filters}, expected one of each of deflate, shuffle, "
            "fletcher32 and lzf at most; repack the file without"
        )
    if item.size and not item.id.get_storage_size():
        raise WeightsError(f"{name} is a shape without numbers, they were never written")
    chunk = math.prod(item.chunks or ()) * item.dtype.itemsize
    spend(name, item.nbytes + chunk, item.size)
    return np.asarray(item[()])


def attribute_of(group: Any, name: str) -> Any:
    """Return an attribute, or None without."""
    if name not in group.attrs:
        return None
    attribute = group.attrs.get_id(name)
    # Each text of any length may be the same one of the whole file.
    each = attribute.dtype.itemsize
    each = group.file.id.get_filesize() if attribute.dtype.hasobject else each
    spend(f"attribute {name}", math.prod(attribute.shape or ()) * each, 2e5)
    return group.attrs[name]


def arrays_of_layers(arrays: dict[str, Any]) -> dict[str, Array]:
    """Read the arrays of layers, not those of an optimizer, by paths as Keras 3 spells them."""
    old = "_layer_checkpoint_dependencies"  # Keras 2.11 and 2.12
    return {
        name.replace(old, "layers"): array_of(name, array)
        for name, array in arrays.items()
        if name.startswith(("layers/", f"{old}/"))
    }


def names_in(group: Any, attribute: str) -> list[str] | None:
    """Return a list of names, which Keras cuts in pieces where it is long: weight_names0, ..."""
    whole = attribute_of(group, attribute)
    if whole is not None:
        return [text_of(name) for name in whole]
    pieces: list[Any] = []
    while (piece := attribute_of(group, f"{attribute}{len(pieces)}")) is not None:
        pieces.append(piece)
    return [text_of(name) for piece in pieces for name in piece] if pieces else None


def text_of(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
