"""The walker: one function that runs any plan."""

import numpy as np

from numlstm.kernels import plan as columns
from numlstm.kernels.addresses import READABLE, WRITEABLE
from numlstm.kernels.arrays import array_data, array_size
from numlstm.kernels.attention import attention
from numlstm.kernels.elementwise import (
    activate_rows,
    add,
    copy,
    copy_rows,
    keep_rows,
    log_softmax_rows,
    multiply,
    scale,
    scale_add,
    softmax_rows,
    window,
)
from numlstm.kernels.integers import quantize
from numlstm.kernels.operations import (
    gru_cells,
    layer_norm,
    linear,
    lstm_cells,
    read_input,
    read_tokens,
    write_output,
)
from numlstm.kernels.plan import (
    ARRAY_TYPE_AT,
    BLOCK_ROWS,
    CHECK_AT,
    DONE,
    FLOAT32_AT,
    INPUT,
    INPUT_NOT_FINITE,
    KEPT_AT,
    KIND,
    LANES,
    MAX_AXES,
    MAX_STEPS,
    NUM_COLUMNS,
    NUM_ROWS,
    OUTPUT_NOT_FINITE,
    REPEATS,
    ROWS,
    SAMPLE,
    SLOTS_AT,
    STATE_SIZE,
    STOPPED,
    WRONG_ARRAY,
    WRONG_ID,
    X_SIZE,
    X_TYPE_AT,
    Y_SIZE,
)
from numlstm.kernels.pooling import attention_pool, max_pool, sum_pool, window_max, window_sum
from numlstm.kernels.sampling import sample
from numlstm.kernels.simd import (
    floats_between,
    inlined,
    load,
    offset,
    pointer,
    reinterpret,
    splat,
    store,
    sum_lanes,
)

_ZERO = np.float32(0.0)


@inlined
def _run_operation(op, params, state, first, stop):
    """Run one operation, not ROWS, on rows `first` to `stop` of the block."""
    kind = op[KIND]
    if kind == columns.LINEAR or kind == columns.LINEAR_ADD:
        linear(op, params, state, first, stop)
    elif kind == columns.QUANTIZE:
        quantize(op, state, first, stop)
    elif kind == columns.LSTM_CELL:
        lstm_cells(op, state, first, stop)
    elif kind == columns.GRU_CELL:
        gru_cells(op, state, first, stop)
    elif kind == columns.ACTIVATION:
        activate_rows(op, params, state, first, stop)
    elif kind == columns.MULTIPLY:
        multiply(op, state, first, stop)
    elif kind == columns.ADD:
        add(op, state, first, stop)
    elif kind == columns.COPY:
        copy_rows(op, state, first, stop)
    elif kind == columns.KEEP:
        keep_rows(op, state, first, stop)
    elif kind == columns.SCALE_ADD:
        scale_add(op, params, state, first, stop)
    elif kind == columns.SCALE:
        scale(op, params, state, first, stop)
    elif kind == columns.MEAN or kind == columns.SUM:
        sum_pool(op, state, first, stop)
    elif kind == columns.MAX:
        max_pool(op, state, first, stop)
    elif kind == columns.LAYER_NORM:
        layer_norm(op, params, state, first, stop)
    elif kind == columns.SOFTMAX:
        softmax_rows(op, state, first, stop)
    elif kind == columns.LOG_SOFTMAX:
        log_softmax_rows(op, state, first, stop)
    elif kind == columns.WINDOW:
        window(op, state, first, stop)
    elif kind == columns.WINDOW_MAX:
        window_max(op, state, first, stop)
    elif kind == columns.WINDOW_SUM or kind == columns.WINDOW_MEAN:
        window_sum(op, state, first, stop)
    elif kind == columns.ATTENTION_POOL:
        attention_pool(op, params, state, first, stop)
    elif kind == columns.ATTENTION or kind == columns.COPY_TOKENS:
        attention(op, params, state, first, stop)


@inlined
def _run_operations(plan, last, params, state, num_rows):
    """Run operations 1 to `last` on the rows of a block.

    ROWS takes the REPEATS operations behind it row by row: what they keep from one row is what they
    read of the next.
    """
    at = 1
    while at < last:
        count, passes, height = 1, 1, num_rows
        if plan[at * NUM_COLUMNS + KIND] == ROWS:
            count, passes, height = plan[at * NUM_COLUMNS + REPEATS], num_rows, 1
            at += 1
        for row in range(passes):
            for n in range(at, at + count):
                op = offset(plan, n * NUM_COLUMNS)
                _run_operation(op, params, state, row, row + height)
        at += count


def run(plan, params, state, xs, ys):
    """Run T steps of a network, T = xs.size // X_SIZE; return DONE or why not.

    plan     (NUM_ROWS, NUM_COLUMNS), int64: input, operations, output (`plan.py`)
    params   weights, float32, 64-byte aligned
    state    float32: what is kept from step to step, room for a copy of it, work buffers
    xs       T * X_SIZE numbers, float32; of a token model T ids, int32
    ys       T * Y_SIZE numbers, float32, written

    In a pool T is a number of steps times BLOCK_ROWS streams, which lie together at each step.
    Where the plan ends in SAMPLE, ys become ids, in the bits of float32: ``ids[:-1]`` and
    ``ids[1:]`` of one array make each the input of the next step. It returns STOPPED after one
    that stops.

    Compiled, it takes the addresses of plan, params and state (`addresses.argument`). Any
    objects may come as xs and ys: what is not such an array is answered with WRONG_ARRAY, and so
    are several blocks that share memory with ys; an id that is no token's with WRONG_ID. The shape
    is the caller's to check.
    """
    first = pointer(plan, np.int64)
    params, state = pointer(params, np.float32), pointer(state, np.float32)
    last = first[NUM_ROWS] - 1
    array_type_at, max_axes = first[ARRAY_TYPE_AT], first[MAX_AXES]
    x_size = array_size(xs, array_type_at, first[X_TYPE_AT], max_axes, READABLE)
    y_size = array_size(ys, array_type_at, first[FLOAT32_AT], max_axes, WRITEABLE)
    num_steps = x_size // first[X_SIZE]
    if (
        num_steps < 1
        or num_steps > first[MAX_STEPS]
        or x_size != num_steps * first[X_SIZE]
        or y_size != num_steps * first[last * NUM_COLUMNS + Y_SIZE]
    ):
        return WRONG_ARRAY
    xs, ys = array_data(xs), array_data(ys)
    # An answer must not change what a later block reads, but for a token that it chooses.
    behind = floats_between(xs, ys)
    if (
        num_steps > first[BLOCK_ROWS]
        and first[last * NUM_COLUMNS + KIND] != SAMPLE
        and behind < x_size
        and -behind < y_size
    ):
        return WRONG_ARRAY
    block_rows = first[BLOCK_ROWS]
    state_size = first[STATE_SIZE]
    slots = offset(reinterpret(state, np.int64), first[SLOTS_AT] // 2)
    if first[KEPT_AT] == 0:
        copy(state, 0, state, state_size, state_size)
    else:
        for row in range(block_rows):
            kept_at = first[KEPT_AT] + slots[row] * state_size
            copy(state, kept_at, state, row * state_size, state_size)
    status, num_taken, t = DONE, 0, 0
    while t < num_steps:  # a range could raise, of a step of 0, and nothing here may
        num_rows = min(block_rows, num_steps - t)
        for row in range(num_rows):
            store(state, first[CHECK_AT] + row * LANES, splat(_ZERO))
        if first[KIND] == INPUT:
            is_known, refusal = read_input(first, xs, t, state, num_rows, x_size), INPUT_NOT_FINITE
        else:
            is_known, refusal = read_tokens(first, params, xs, t, state, num_rows), WRONG_ID
        if not is_known:
            status = refusal
            break
        _run_operations(first, last, params, state, num_rows)
        stops, output = False, offset(first, last * NUM_COLUMNS)
        if output[KIND] == SAMPLE:
            is_finite = sum_lanes(load(state, first[CHECK_AT])) == _ZERO
            if is_finite:
                is_finite, stops = sample(output, state, ys, t)
        else:
            is_finite = write_output(output, state, ys, t, num_rows, y_size)
        if not is_finite:
            status = OUTPUT_NOT_FINITE
            break
        num_taken += num_rows
        if stops:
            status = STOPPED
            break
        t += block_rows
    counts = reinterpret(state, np.int64)
    if first[KEPT_AT] == 0:
        if status > STOPPED:
            copy(state, state_size, state, 0, state_size)
        else:
            counts[0] += num_taken
    elif status == DONE:
        for row in range(block_rows):
            counts[row * state_size // 2] += num_taken // block_rows
            kept_at = first[KEPT_AT] + slots[row] * state_size
            copy(state, row * state_size, state, kept_at, state_size)
    return status
