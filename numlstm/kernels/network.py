"""The walker: one compiled function that runs any plan, and its compilation."""

import hashlib
import logging
import time
from pathlib import Path

import numba
from numba import njit, types
from numba.core import event

from numlstm.kernels.layers import (
    copy,
    elementwise,
    gru,
    layer_norm,
    linear,
    lstm,
    max_pool,
    mean_pool,
    read_embedding,
    read_input,
    rnn,
    softmax_rows,
    write_output,
)
from numlstm.kernels.plan import (
    ACTIVATION,
    BLOCK_ROWS,
    EMBEDDING,
    GRU,
    KIND,
    LAYER_NORM,
    LINEAR,
    LSTM,
    MAX,
    MEAN,
    NUM_COLUMNS,
    RNN,
    SOFTMAX,
    STATE_SIZE,
    X_SIZE,
)
from numlstm.kernels.simd import jit, offset, pointer

# What `run` returns. Unless it is DONE, the state is as it was before the call.
DONE, INPUT_NOT_FINITE, OUTPUT_NAN = range(3)

SIGNATURE = types.int64(
    types.Array(types.int64, 2, "C", readonly=True),
    types.Array(types.float32, 1, "C", readonly=True),
    types.Array(types.float32, 1, "C"),
    types.Array(types.float32, 1, "C", readonly=True),
    types.Array(types.float32, 1, "C"),
)


@jit
def _run_layer(op, params, state, num_rows):
    kind = op[KIND]
    if kind == LINEAR:
        linear(op, params, state, num_rows)
    elif kind == LSTM:
        lstm(op, params, state, num_rows)
    elif kind == GRU:
        gru(op, params, state, num_rows)
    elif kind == RNN:
        rnn(op, params, state, num_rows)
    elif kind == MEAN:
        mean_pool(op, state, num_rows)
    elif kind == MAX:
        max_pool(op, state, num_rows)
    elif kind == LAYER_NORM:
        layer_norm(op, params, state, num_rows)
    elif kind == ACTIVATION:
        elementwise(op, state, num_rows)
    elif kind == SOFTMAX:
        softmax_rows(op, state, num_rows)


def _make_run(sources):
    def run(plan, params, state, xs, ys):
        """Run T steps of a network, T = xs.size // X_SIZE; return DONE or why not.

        plan     (L, NUM_COLUMNS), int64: input, operations, output (`plan.py`)
        params   weights, float32, 64-byte aligned
        state    float32: what is kept from step to step, room for a copy of it, work buffers
        xs       (T * X_SIZE,), float32; of a token model (T,), int32 ids in the bits of float32
        ys       (T * Y_SIZE,), float32, written

        Nothing is checked but the numbers in xs and ys; sizes are the caller's to check.
        """
        sources  # noqa: B018  part of the cache's key: see `compile_run`
        last = plan.shape[0] - 1
        first = pointer(plan)
        params, state = pointer(params), pointer(state)
        num_steps = xs.size // first[X_SIZE]
        xs, ys = pointer(xs), pointer(ys)
        block_rows = first[BLOCK_ROWS]
        state_size = first[STATE_SIZE]
        copy(state, 0, state, state_size, state_size)
        status = DONE
        for t in range(0, num_steps, block_rows):
            num_rows = min(block_rows, num_steps - t)
            if first[KIND] == EMBEDDING:
                read_embedding(first, params, xs, t, state, num_rows)
            elif not read_input(first, xs, t, state, num_rows):
                status = INPUT_NOT_FINITE
                break
            for layer in range(1, last):
                _run_layer(offset(first, layer * NUM_COLUMNS), params, state, num_rows)
            if not write_output(offset(first, last * NUM_COLUMNS), state, ys, t, num_rows):
                status = OUTPUT_NAN
                break
        if status != DONE:
            copy(state, state_size, state, 0, state_size)
        return status

    return run


def _hash_sources() -> int:
    """Return a number that changes with any edit of the kernels."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:6])


# Numba's cache looks at this file only. The hash is a closure variable, which is part of the
# cache's key, so an edit of any kernel recompiles and stale code never runs.
run = njit(nogil=True, error_model="numpy", boundscheck=False, cache=True)(
    _make_run(_hash_sources())
)


# Compilation --------------------------------------------------------------------------------------

_log = logging.getLogger("numlstm")


class _Announcer(event.Listener):
    """Logs that a compilation has begun; a load from the cache compiles nothing."""

    started = False

    def on_start(self, event):
        if not self.started:
            self.started = True
            _log.info("compiling the kernels for this CPU, once (about 10 seconds)")

    def on_end(self, event):
        pass


def compile_run():
    """Return `run` for this CPU, from the cache or compiled anew, as a plain callable.

    What is returned skips Numba's dispatcher, which costs as much as a small step. It does not
    look at the types of its arguments: they must be those of SIGNATURE.
    """
    if numba.config.DISABLE_JIT:
        return run
    if not run.overloads:
        announcer = _Announcer()
        began = time.perf_counter()
        with event.install_listener("numba:compile", announcer):
            run.compile(SIGNATURE)
        if announcer.started:
            _log.info("compiled the kernels in %.1f s", time.perf_counter() - began)
    return next(iter(run.overloads.values())).entry_point
