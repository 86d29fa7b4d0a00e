"""A process that libFuzzer leads to what no case has reached: python -m tests.fuzz._guide READER.

What follows are options of libFuzzer, and a folder in which it keeps what led on.
"""

import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["numlstm"], enable_loader_override=False):
    from tests.fuzz._worker import limit_memory
    from tests.fuzz.readers import reader, seeds

    NAME = sys.argv.pop(1)
    READER = reader(NAME)
    FOLDER = Path(tempfile.mkdtemp(prefix="numlstm-guided-"))
    for _file in seeds(NAME)[:3]:  # what is imported where it is used
        READER.read(_file, FOLDER, Random(0))


def read(data: bytes) -> None:
    """Read a case; what is random in it follows from its bytes."""
    READER.read(data, FOLDER, Random(data))


def change(data: bytes, max_size: int, seed: int) -> bytes:
    """Change a case as the other campaign does, or as libFuzzer itself would."""
    random = Random(seed)
    if random.random() < 0.3:
        return bytes(atheris.Mutate(data, max_size))
    try:
        changed = READER.change(data, random.choice(seeds(NAME)), random)
    except Exception:  # it is not a file that can be taken apart
        return bytes(atheris.Mutate(data, max_size))
    return bytes(changed[:max_size])


if __name__ == "__main__":
    limit_memory()
    atheris.Setup(sys.argv, read, custom_mutator=change)
    atheris.Fuzz()
