"""What reads something from outside, a module each.

    change(data, donor, random) -> bytes   a hostile variant of a file, with parts of another one
    read(data, folder, random) -> str      reads it as a user would, holds it to what is promised,
                                           and tells what came of it: "refused", "ran", ...

Each is read in a process of its own, so that a module may switch off, in its framework, what would
cost time and finds nothing here.
"""

import importlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz._changes import change_bytes

_HERE = Path(__file__).parent
_FIRST = ("model", "network", "onnx", "torch", "keras")  # where a short campaign begins
READERS = sorted(
    (path.stem for path in _HERE.glob("*.py") if not path.stem.startswith("_")),
    key=lambda name: (*(name != first for first in _FIRST), name),
)

_DATA = _HERE.parents[1] / "data"
_MORE = {
    "h5": ("keras1.h5", "keras2_cudnn.h5", "keras2_stateful.h5", "keras2_time_major_weights.h5")
}


def reader(name: str) -> Any:
    """Return the module of a reader."""
    return importlib.import_module(f"{__name__}.{name}")


@cache
def seeds(name: str) -> tuple[bytes, ...]:
    """Return the valid files that a reader's hostile ones are made of."""
    own = sorted((_HERE.parent / "corpus" / name).iterdir())
    more = [_DATA / file for file in _MORE.get(name, ())]
    return tuple(path.read_bytes() for path in [*own, *more])


def case(name: str, seed: int, index: int) -> tuple[bytes, Random]:
    """Return the bytes of a case, which seed and index repeat, and what else is random in it."""
    random = Random(f"{name} {seed} {index}")
    data, donor = random.choice(seeds(name)), random.choice(seeds(name))
    try:
        return reader(name).change(data, donor, random), random
    except Exception:  # the first change has left nothing that the second one could read
        return change_bytes(data, donor, random), random
