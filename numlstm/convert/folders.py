"""Files that a file names: they must be plain, and in its folder or below."""

import stat
from pathlib import Path

from numlstm.convert.assembly import Refused


def beside(folder: Path, location: str) -> Path:
    """Return the path of a file in a folder, or below; nothing leads out of that.

    A snapshot of the cache of Hugging Face has its files as links into the folder of its model,
    which is the one that counts.

    Raises
    ------
    WeightsError
        If the location leads out of the folder, or is no plain file.
    """
    folder = folder.resolve()
    path = (folder / location).resolve()
    within = folder.parent.parent if folder.parent.name == "snapshots" else folder
    out = Path(location).is_absolute() or ".." in Path(location).parts
    if not location or out or not path.is_relative_to(within) or path == folder:
        raise Refused(
            f"{location!r} leads out of the folder", "copy that file into it, and name it there"
        )
    if not path.exists() or not stat.S_ISREG(path.stat().st_mode):
        raise Refused(f"there is no file {location!r} in the folder", "copy it there")
    return path


def size_on_disk(path: Path) -> int:
    """Return how many bytes a file has without its holes, which read as zeros."""
    found = path.stat()
    return min(found.st_size, getattr(found, "st_blocks", 2**50) * 512 + 4096)
