"""Many whole sequences, of any lengths: as many as a pool holds at a time, the longest first."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.program.lower import POOL_ROWS
from numlstm.run.border import FLOAT32, Floats
from numlstm.run.compiled import Compiled
from numlstm.run.pool import THREAD_WORK, Pool
from numlstm.run.threads import go_on, run_together

# Floats that are gathered at a time, 4 MB.
_GATHERED = 2**20


def run_sequences(
    compiled: Compiled, xss: list[NDArray[Any]], num_threads: int = 1
) -> list[Floats]:
    """Return the outputs (T, O) of sequences (T,) or (T, I), each from the initial state.

    The network has no memory; what is given was checked, and no step is masked.
    """
    if len(xss) == 1:
        return [compiled.run_whole(xss[0])]
    lengths = np.array([len(xs) for xs in xss], np.int64)
    starts = np.cumsum(lengths) - lengths
    ys = np.empty((int(lengths.sum()), compiled.output_size), FLOAT32)
    longest_first = np.argsort(-lengths, kind="stable")
    longest_first = longest_first[: np.count_nonzero(lengths)]
    pay = len(ys) * compiled.work // THREAD_WORK
    num_threads = max(1, min(num_threads, pay, len(longest_first) // 4))
    xs = np.concatenate(xss) if xss else np.zeros(0, FLOAT32)
    run_together(
        [
            partial(_run_share, compiled, xs, ys, starts[share], lengths[share])
            for share in (longest_first[n::num_threads] for n in range(num_threads))
        ]
    )
    return [ys[at : at + length] for at, length in zip(starts, lengths, strict=True)]


def _run_share(
    compiled: Compiled,
    xs: NDArray[Any],
    ys: Floats,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> None:
    """Run sequences that begin at rows of xs; a new one takes the slot of one that has ended."""
    pool = Pool(None, compiled, max(1, min(POOL_ROWS, len(starts))))
    most = _GATHERED // (xs[:1].size + compiled.output_size)
    next_one = 0
    slots = np.zeros(0, np.int64)
    at, left = slots.copy(), slots.copy()  # the next row of each, and how many there are
    while next_one < len(starts) or len(slots):
        go_on()
        count = min(len(starts) - next_one, pool.capacity - len(slots))
        new = slice(next_one, next_one + count)
        slots = np.append(slots, [pool.open() for _ in range(count)]).astype(np.int64)
        at, left = np.append(at, starts[new]), np.append(left, lengths[new])
        next_one += count
        if len(slots) == 1:  # the steps of one stream share their reads of the weights
            rows = slice(int(at[0]), int(at[0] + left[0]))
            pool.take_alone(int(slots[0]), xs[rows], ys[rows])
            return
        num_steps = max(1, min(int(left.min()), most // len(slots)))
        rows_of_steps = at + np.arange(num_steps)[:, None]
        out = np.empty((*rows_of_steps.shape, compiled.output_size), FLOAT32)
        pool.take(slots, xs[rows_of_steps], out, xs)
        ys[rows_of_steps] = out
        at, left = at + num_steps, left - num_steps
        for slot in slots[left == 0]:
            pool.close(int(slot))
        slots, at, left = slots[left > 0], at[left > 0], left[left > 0]
