"""Code that files of others may hold, and that must not run."""

from pathlib import Path


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.write_text, (self.target, "the code ran"))
