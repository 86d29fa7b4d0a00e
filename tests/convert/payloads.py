"""Code that files of others may hold, and that must not run."""

import zipfile
from pathlib import Path
from typing import Any


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.write_text, (self.target, "the code ran"))


def importable(folder: Path, target: Path, monkeypatch: Any) -> None:
    """Put a module `a_payload` where it is found, which writes a file when it is imported."""
    program = f"open({str(target)!r}, 'w').write('imported')\nclass Mine: pass\nrelu = Mine\n"
    (folder / "a_payload.py").write_text(program)
    monkeypatch.syspath_prepend(folder)


def read_zip(path: Path) -> dict[str, bytes]:
    """Return the files of an archive by their names."""
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    """Write an archive of files by their names, none of them packed."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
