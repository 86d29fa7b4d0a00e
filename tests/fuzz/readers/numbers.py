"""NumPy's ``.npy`` files, which ``numlstm horizon --file`` reads."""

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import numlstm
from numlstm import analysis, spec
from numlstm.cli import horizon
from tests.fuzz import Found
from tests.fuzz._changes import change_bytes
from tests.fuzz._promises import refused


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    return change_bytes(data, donor, random)


@cache
def _model() -> Any:
    network = spec.Network((spec.GRU(3, 4),))
    shapes = network.tensor_shapes()
    return numlstm.Model(
        spec.Weights(network, {n: np.full(s, 0.1, np.float32) for n, s in shapes.items()})
    )


def read(data: bytes, folder: Path, random: Random) -> str:
    path = folder / "numbers.npy"
    path.write_bytes(data)
    try:
        xs = horizon._read(_model(), None, path)
        found = analysis.horizon(_model(), xs[:20], 5)
    except (ValueError, OSError, TypeError) as error:
        return refused(error)
    if not all(np.isfinite(norms).all() for norms in found.norms.values()):
        raise Found("norms that are not finite")
    return "read"
