"""The hash of the kernels' sources: which machine code was made of them."""

import hashlib
from functools import cache
from pathlib import Path

# Where images are that came with the package, or were compiled where it lies.
IMAGES = Path(__file__).parent / "images"


def image_name(level: str) -> str:
    """Return the name of the file with a level's image that comes with the package."""
    return f"{level}.image"


def _read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))}


@cache
def hash_sources() -> str:
    """Return what changes with any edit of any kernel; "" where there are no sources.

    There are none in a zip, where nobody edits them.
    """
    files = _read(Path(__file__).parent)
    digest = hashlib.sha256()
    for name, text in files.items():
        digest.update(f"{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()[:32] if files else ""
