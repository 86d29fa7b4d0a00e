"""How fast this core could read the weights of a step, if it did nothing else."""

import time
from math import prod
from typing import Any

import numpy as np

from numlstm.kernels.addresses import COMPILED, aligned
from numlstm.model import Model
from numlstm.quantize import FORMATS
from numlstm.spec import Embedding

_PASS = 2**25  # bytes that are read for a time
_ROUNDS = 7


def step_bytes(model: Model) -> int:
    """Return about how many bytes of weights a step reads: all but those of token ids.

    An embedding costs a row; of a token model whose first layer is a table of rows, so do its
    weights of the input.
    """
    network = model.network
    shapes = network.tensor_shapes()
    total = 0
    names = list(network.named_layers())
    for n, (name, layer) in enumerate(names):
        if isinstance(layer, Embedding):
            continue
        behind_embedding = n > 0 and isinstance(names[n - 1][1], Embedding)
        form = FORMATS[getattr(layer, "dtype", None) or "float32"]
        total += sum(
            form.num_bytes(shape) if len(shape) > 1 else 4 * prod(shape)
            for key, shape in shapes.items()
            if key.startswith(f"{name}.")
            and not (behind_embedding and key.startswith(f"{name}.weight_ih"))
        )
    return total


def read_time(num_bytes: int) -> dict[str, Any] | None:
    """Return the microseconds in which this core reads so many bytes, at best; None without Numba.

    The fastest of three compiled loops that load every number of an array and add it.
    """
    if not COMPILED:
        return None
    try:
        from numlstm.kernels.bandwidth import READS
    except ImportError:
        return None
    values = aligned(max(num_bytes // 4, 128))
    values[:] = 1
    sums = aligned(16)
    num_reads = max(1, _PASS // values.nbytes)
    best: dict[str, float] = {}
    for name, read in READS.items():
        read(values, sums, 1)
        times = []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            read(values, sums, num_reads)
            times.append((time.perf_counter() - began) / num_reads)
        best[name] = float(np.median(times))
    name = min(best, key=lambda each: best[each])
    return {"loop": name, "us": 1e6 * best[name], "gb_per_s": values.nbytes / best[name] / 1e9}
