"""The files of torch.save: an archive since PyTorch 1.6, before it five pickles and the numbers.

An archive is a zip that is not packed, with all its files in one folder: ``data.pkl`` refers to the
numbers in ``data/{key}``. Numbers are read when it is known which are wanted.
"""

import os
import zipfile
from typing import Any, BinaryIO

from numlstm.budget import spend
from numlstm.convert.assembly import Refused
from numlstm.convert.torch.files.pickles import follow
from numlstm.convert.torch.files.stored import FUNCTIONS, NumbersOf, Storage, Storages
from numlstm.spec import WeightsError

INSTEAD = "save model.state_dict() with torch.save and convert that"
_NEWEST = 10  # version of the archive
_LEGACY = 0x1950A86A20F9469CFC6C  # what the first pickle of an old file holds
_PIECE = 2**24


class Archive:
    """The files of an archive, by their names within its folder.

    Raises
    ------
    WeightsError
        If it is packed, or says that it has what it has not.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
        spend("the names of the archive", 1000 * len(entries), 1e4 * len(entries))
        names = [entry.filename for entry in entries]
        roots = {
            name.removesuffix(end.removeprefix("/"))
            for name in names
            for end in ("/data.pkl", "/archive_format")
            if name.endswith(end)
        }
        self.root = roots.pop() if len(roots) == 1 else ""
        self.is_package = any(name.endswith("/.data/extern_modules") for name in names)
        self.entries = {entry.filename.removeprefix(self.root): entry for entry in entries}

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def text(self, name: str) -> str:
        """Return a short text, or "" without."""
        if name not in self.entries:
            return ""
        at, size = self._place(name)
        return bytes(_read(self.file, at, min(size, 20))).decode("ascii").strip()

    def read(self, name: str, largest: int = 2**62) -> bytearray:
        """Return the bytes of a file, no more of them than a size."""
        at, size = self._place(name)
        return _read(self.file, at, min(size, largest))

    def follow(self, name: str) -> Any:
        """Return what a pickle makes."""
        self.file.seek(self._place(name)[0])
        return follow(self.file, FUNCTIONS, Storages())

    def numbers_of(self, storage: Storage) -> bytearray:
        return self.read(f"data/{storage.key}", storage.size * storage.dtype.itemsize)

    def _place(self, name: str) -> tuple[int, int]:
        """Return where the bytes of a file are, and how many."""
        entry = self.entries.get(name)
        if entry is None:
            raise WeightsError(f"lacks the numbers {name[:100]}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise WeightsError(f"{entry.filename[:100]} is packed, which torch.save never does")
        self.file.seek(entry.header_offset)
        head = self.file.read(30)
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            raise WeightsError(f"{entry.filename[:100]} is not where the archive says")
        lengths = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        return entry.header_offset + 30 + lengths, entry.file_size


def read_archive(archive: Archive) -> tuple[Any, NumbersOf]:
    """Return what an archive holds, tensors as `Stored`, and what reads their numbers."""
    if archive.is_package:
        instead = f"open it with torch.package.PackageImporter, load the module, and {INSTEAD}"
        raise Refused("is a package of torch.package, a module as code, which is not run", instead)
    version = archive.text("version") or "0"
    if not version.isdecimal() or int(version) > _NEWEST or "archive_format" in archive:
        raise WeightsError(
            f"is of a format that is not known, version {version}, known up to {_NEWEST}; load it "
            f"with the PyTorch that wrote it, and {INSTEAD}"
        )
    if "policy.pth" in archive:
        instead = "numlstm.policy.from_sb3(path) reads one of RecurrentPPO"
        raise Refused("is a policy of Stable-Baselines3", instead)
    if not archive.root:
        raise Refused("is an archive, but not of torch.save: it holds no data.pkl", INSTEAD)
    if archive.text("byteorder") == "big":
        raise WeightsError(f"has its numbers in the order of another kind of CPU; there, {INSTEAD}")
    return archive.follow("data.pkl"), archive.numbers_of


def read_legacy(file: BinaryIO) -> tuple[Any, NumbersOf]:
    """Return the same of a file before PyTorch 1.6."""
    if follow(file, FUNCTIONS) != _LEGACY:
        raise WeightsError(f"cannot be read as tensors only: not of torch.save; {INSTEAD}")
    version, system = follow(file, FUNCTIONS), follow(file, FUNCTIONS)
    if version != 1001 or not isinstance(system, dict) or not system.get("little_endian"):
        raise WeightsError(f"is of an old format that is not known; {INSTEAD}")
    storages = Storages()
    data = follow(file, FUNCTIONS, storages)
    places: dict[str, int] = {}
    for key in follow(file, FUNCTIONS):
        spend("the storages of the file", 200, 1e4)
        if key not in storages.found:
            raise WeightsError("has numbers of no tensor")
        storage = storages.found[key]
        count = int.from_bytes(file.read(8), "little")
        places[key] = file.tell()
        if count != storage.size:
            raise WeightsError(f"has {count} numbers for {storage.size}")
        file.seek(count * storage.dtype.itemsize, os.SEEK_CUR)

    def numbers_of(storage: Storage) -> bytearray:
        return _read(file, places[storage.key], storage.size * storage.dtype.itemsize)

    return data, numbers_of


def _read(file: BinaryIO, at: int, size: int) -> bytearray:
    """Return so many bytes of a file, which may claim more than it has."""
    spend("the numbers of the file", size, size)
    file.seek(at)
    data = bytearray()
    while len(data) < size:
        piece = file.read(min(size - len(data), _PIECE))
        if not piece:
            raise WeightsError("ends before its numbers do")
        data += piece
    return data
