"""The border of the kernels: every number of a plan, held against the arrays that it is a place in.

Kernels look at no bounds. So before a plan runs, what its rows read and write is worked out here,
for all rows of a block, and must lie in `params` and `state`. This file knows how the kernels
address, column by column, and shares nothing with what makes the plans.

The parts of a state, one behind the other:

    kept      what a stream keeps; of a pool as many of it as a block has rows
    copy      what it was before the call; of a pool the slots of the rows, int64
    buffers   and of SAMPLE its settings, the tokens that were seen among them
    checks    16 floats per row
    behind    the rows of the memory; of a pool, what its streams keep

Kernels take some numbers of a state for places or counts: the counters, the slots, the tokens that
were seen. No operation writes there but the one that they belong to. At an id of a token they look
themselves.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from numlstm.kernels import plan as columns
from numlstm.kernels.addresses import ARRAY_TYPE_AT, FLOAT32_AT, INT32_AT, address
from numlstm.kernels.packing import ARE_SHORTS, BLOCK
from numlstm.kernels.plan import (
    ALPHA_AT,
    B_AT,
    C_AT,
    CHECK_AT,
    COUNT_AT,
    H_AT,
    HALF,
    KEY_AT,
    KIND,
    LANES,
    NUM_COLUMNS,
    S_AT,
    SCORE_AT,
    SX_AT,
    SX_STRIDE,
    W_AT,
    X_AT,
    X_SIZE,
    X_STRIDE,
    Y_AT,
    Y_SIZE,
    Y_STRIDE,
    Z_AT,
    Z_STRIDE,
    Dtype,
    Function,
)

if TYPE_CHECKING:
    from numlstm.program.program import Layout, Program

_NAMES = list(vars(columns))
_KINDS = _NAMES[_NAMES.index("INPUT") : _NAMES.index("SAMPLE") + 1]
_COLUMNS = _NAMES[_NAMES.index("KIND") : _NAMES.index("NUM_COLUMNS")]

Interval = tuple[int, int]  # of offsets, the end is behind it


def check_program(program: "Program") -> None:
    """Raise a RuntimeError unless all layouts of a program stay within its arrays."""
    params = program.params
    if params.dtype != np.float32 or params.ndim != 1 or (params.size and address(params) % 64):
        raise RuntimeError("the params are no aligned float32 numbers; please report this")
    for name in ("step", "block", "pool", "generate"):
        layout = getattr(program, name)
        if layout is not None:
            check_layout(program, layout, name)


def check_layout(
    program: "Program", layout: "Layout", name: str, num_floats: int = 0, capacity: int = 0
) -> None:
    """Raise a RuntimeError unless a layout stays within the params and a state.

    name         of the layout, for the error
    num_floats   of the state of a pool that is to run, with what its streams keep
    capacity     how many streams these are
    """
    plan = layout.plan
    is_table = plan.dtype == np.int64 and plan.ndim == 2 and plan.flags.c_contiguous
    if not is_table or plan.shape[1] != NUM_COLUMNS or len(plan) < 2:
        raise RuntimeError(f"the plan of {name} is no table of int64; please report this")
    check = _Check(program, layout, name)
    check.begin(0)
    check.arrays(num_floats, capacity)
    _FIRST_KINDS[check.kind(_FIRST_KINDS)](check)
    last = len(plan) - 1
    inside = 0  # the last row that a ROWS takes
    for n in range(1, last):
        check.begin(n)
        if check[KIND] != columns.ROWS:
            _KINDS_BETWEEN[check.kind(_KINDS_BETWEEN)](check)
        elif n <= inside:
            check.refuse(KIND, "no ROWS within another")
        else:
            check.within(columns.REPEATS, 0, last - 1 - n)
            inside = n + check[columns.REPEATS]
    check.begin(last)
    _LAST_KINDS[check.kind(_LAST_KINDS)](check)


def _up(size: int) -> int:
    """Return a size rounded up to whole vectors, which is what most loops touch."""
    return (size + LANES - 1) // LANES * LANES


class _Check:
    """A plan, the row that is looked at, and the parts of its arrays."""

    def __init__(self, program: "Program", layout: "Layout", name: str) -> None:
        self.program, self.name, self.plan = program, name, layout.plan
        self.num_params, self.end = program.params.size, layout.state_size
        self.memory = program.memory
        self.counters = sorted(program.counters)
        self.free = set(program.counters) - {0}  # the counters whose owner was not met yet

    def begin(self, n: int) -> None:
        """Go to a row."""
        self.n = n
        self.numbers: list[int] = self.plan[n].tolist()
        if n:
            self.equals(CHECK_AT, self.checks[0])
            self.equals(columns.KEPT_STRIDE, self.kept_stride)
        if self[KIND] != columns.ROWS:
            self.within(X_SIZE, 1)
            self.within(Y_SIZE, 1)

    def __getitem__(self, column: int) -> int:
        return self.numbers[column]

    def refuse(self, column: int, expected: object) -> NoReturn:
        kind = self[KIND]
        raise RuntimeError(
            f"the plan of {self.name} does not fit its arrays: row {self.n} "
            f"({_KINDS[kind] if 0 <= kind < len(_KINDS) else kind}), {_COLUMNS[column]} is "
            f"{self[column]}, expected {expected}; please report this"
        )

    def kind(self, known: "_Kinds") -> int:
        if self[KIND] not in known:
            self.refuse(KIND, " or ".join(_KINDS[kind] for kind in known))
        return self[KIND]

    def equals(self, column: int, expected: int) -> None:
        if self[column] != expected:
            self.refuse(column, expected)

    def within(self, column: int, least: int, most: int = 2**62) -> None:
        if not least <= self[column] <= most:
            self.refuse(column, f"{least} to {most}")

    # The first row --------------------------------------------------------------------------------

    def arrays(self, num_floats: int, capacity: int) -> None:
        """Look at what the walker itself reads, and find the parts of the state."""
        self.equals(columns.NUM_ROWS, len(self.plan))
        self.equals(columns.ARRAY_TYPE_AT, ARRAY_TYPE_AT)
        self.equals(columns.FLOAT32_AT, FLOAT32_AT)
        is_number = self[KIND] == columns.INPUT
        self.equals(columns.X_TYPE_AT, FLOAT32_AT if is_number else INT32_AT)
        self.within(columns.MAX_STEPS, 1)
        self.within(columns.MAX_AXES, 1, 3)
        self.within(columns.BLOCK_ROWS, 1, self.end)
        num_kept = self.program.initial_state.size
        if num_kept % LANES:
            self.refuse(columns.STATE_SIZE, "whole vectors")
        self.equals(columns.STATE_SIZE, num_kept)
        self.num_kept, self.num_rows = num_kept, self[columns.BLOCK_ROWS]
        self.is_pool = self[columns.KEPT_AT] != 0
        self.kept_stride = num_kept if self.is_pool else 0
        self.equals(columns.KEPT_STRIDE, self.kept_stride)
        start = 2 * num_kept
        if self.is_pool:
            start = self.num_rows * num_kept
            self.within(columns.SLOTS_AT, start, self.end)
            if self[columns.SLOTS_AT] % 2:
                self.refuse(columns.SLOTS_AT, "an even place, of int64")
            start = self[columns.SLOTS_AT] + 2 * self.num_rows
            self.within(columns.KEPT_AT, self.end)
            if capacity:
                self.within(columns.KEPT_AT, self.end, num_floats - capacity * num_kept)
                if self.memory is not None:  # which would lie there too
                    self.refuse(columns.KEPT_AT, "no memory")
        else:
            self.equals(columns.SLOTS_AT, 0)
        self.buffers = start, self[CHECK_AT]
        self.checks = self[CHECK_AT], self[CHECK_AT] + self.num_rows * LANES
        self.within(CHECK_AT, start, self.end - self.num_rows * LANES)
        self._counters()
        self.fixed = self._fixed()

    def _counters(self) -> None:
        at, pairs = self.counters, zip(self.counters, self.counters[1:], strict=False)
        fit = at[0] == 0 and at[-1] + 2 <= self.num_kept and not any(c % 2 for c in at)
        if not fit or any(b < a + 2 for a, b in pairs):
            self.refuse(columns.STATE_SIZE, f"room for int64 at {at}")
        if self.memory is not None:
            self.free.discard(self.memory.count_at)

    def _fixed(self) -> list[Interval]:
        """Return the buffers of SAMPLE, which stay from call to call."""
        last = self.plan[-1].tolist()
        if last[KIND] != columns.SAMPLE:
            return []
        rows = columns.NUM_SAMPLE_ROWS * _up(last[X_SIZE])
        return [(last[Y_AT], last[Y_AT] + columns.NUM_SETTINGS), (last[Z_AT], last[Z_AT] + rows)]

    # Places ---------------------------------------------------------------------------------------

    def _span(self, column: int, stride: int, size: int) -> Interval:
        """Return what the rows of a block touch, so far apart."""
        at = self[column]
        return at, at + (self.num_rows - 1) * stride + size

    def stride(self, column: int) -> int:
        """Return how far apart rows are."""
        if self[column] < 0:
            self.refuse(column, "0 or more")
        return self[column]

    def lies_in(self, column: int, span: Interval, part: Interval, what: str) -> None:
        """Raise unless what a column is a place of lies in a part of the arrays."""
        if span[0] < part[0] or span[1] > part[1]:
            self.refuse(
                column,
                f"{span[1] - span[0]} numbers from there on within {what}, {part[0]} to {part[1]}",
            )

    def params(self, column: int, size: int, stride: int = 0) -> None:
        """Rows of so many params are read."""
        self.lies_in(column, self._span(column, stride, size), (0, self.num_params), "the params")

    def reads(self, column: int, stride: int, size: int) -> None:
        """Rows of so many floats of the state are read."""
        span = self._span(column, self.stride(stride), size)
        self.lies_in(column, span, (0, self.end), "the state")

    def writes(self, column: int, stride: int, size: int) -> None:
        """Rows of so many floats are written: to a buffer, or to what each stream keeps."""
        if self[column] < self.num_kept:
            self.equals(stride, self.kept_stride)
            self.keeps(column, size)
            return
        span = self._span(column, self.stride(stride), size)
        self.lies_in(column, span, self.buffers, "the buffers")
        for low, high in self.fixed:
            if span[0] < high and low < span[1]:
                self.refuse(column, f"nothing of SAMPLE's, {low} to {high}")

    def keeps(self, column: int, size: int) -> None:
        """So many floats of what a stream keeps are read and written."""
        at, end = self[column], self[column] + size
        self.lies_in(column, (at, end), (0, self.num_kept), "what a stream keeps")
        n = bisect_right(self.counters, at - 2)
        if n < len(self.counters) and self.counters[n] < end:
            self.refuse(column, f"no counter, as at {self.counters[n]}")

    def counts(self) -> None:
        """An int64 is counted up."""
        if self[COUNT_AT] not in self.free:
            self.refuse(COUNT_AT, "a counter of its own")
        self.free.remove(self[COUNT_AT])


# Kinds: what each reads and writes ----------------------------------------------------------------

_Kinds = dict[int, Callable[[_Check], None]]


def _input(row: _Check) -> None:
    row.writes(Y_AT, Y_STRIDE, _up(row[X_SIZE]))


def _tokens(row: _Check) -> None:
    row.equals(X_SIZE, 1)
    row.within(columns.VOCAB_SIZE, 1, 2**31)
    row.writes(Y_AT, Y_STRIDE, _up(row[Y_SIZE]))
    if row[KIND] == columns.EMBEDDING:
        row.params(W_AT, (row[columns.VOCAB_SIZE] - 1) * row[Y_SIZE] + _up(row[Y_SIZE]))


def _linear(row: _Check) -> None:
    num_inputs, num_outputs = row[X_SIZE], row[Y_SIZE]
    if num_outputs % LANES:
        row.refuse(Y_SIZE, "whole vectors")
    row.within(columns.DTYPE, 0, len(Dtype) - 1)
    if row[KIND] == columns.LINEAR:  # whose rows share a bias, 0 apart
        row.params(B_AT, num_outputs, row.stride(Z_STRIDE))
    else:
        row.reads(Z_AT, Z_STRIDE, num_outputs)
    row.writes(Y_AT, Y_STRIDE, num_outputs)
    if row[columns.DTYPE] != Dtype.INT8:
        per_word = 2 if row[columns.DTYPE] == Dtype.BFLOAT16 else 1
        row.params(W_AT, -(-num_inputs // per_word) * num_outputs)
        row.reads(X_AT, X_STRIDE, num_inputs)
        return
    num_words = -(-num_inputs // 4)
    row.params(W_AT, num_words * num_outputs)
    row.params(S_AT, 2 * num_outputs)
    row.within(columns.PLANES, 1, 2)
    row.reads(X_AT, X_STRIDE, num_words * (2 if ARE_SHORTS else row[columns.PLANES]))
    row.reads(SX_AT, SX_STRIDE, 1 + (-(-num_words // BLOCK) if ARE_SHORTS else 0))


def _quantize(row: _Check) -> None:
    size = row[X_SIZE]
    row.within(X_SIZE, 1, columns.MAX_INPUTS)
    row.within(columns.PLANES, 1, 2)
    row.reads(X_AT, X_STRIDE, _up(size))
    row.writes(Y_AT, Y_STRIDE, _up(size) // (2 if ARE_SHORTS or row[columns.PLANES] == 2 else 4))
    row.writes(Z_AT, Z_STRIDE, 1 + (-(-size // (4 * BLOCK)) if ARE_SHORTS else 0))


def _gru_cell(row: _Check) -> None:
    size = _up(row[Y_SIZE])
    last = HALF if row[Y_SIZE] <= HALF else size
    row.reads(X_AT, X_STRIDE, 2 * size + last)
    row.reads(Z_AT, Z_STRIDE, last)
    row.writes(Y_AT, Y_STRIDE, size)
    row.keeps(H_AT, size)


def _lstm_cell(row: _Check) -> None:
    size = _up(row[Y_SIZE])
    row.reads(X_AT, X_STRIDE, 4 * (HALF if row[Y_SIZE] <= HALF else size))
    row.writes(Y_AT, Y_STRIDE, size)
    row.keeps(H_AT, size)
    row.keeps(C_AT, size)


def _copy(row: _Check) -> None:
    size = _up(row[X_SIZE])
    row.reads(X_AT, X_STRIDE, size)
    row.writes(Y_AT, Y_STRIDE, size)


def _activation(row: _Check) -> None:
    _copy(row)
    row.within(columns.FUNCTION, 0, len(Function) - 1)
    row.params(ALPHA_AT, 2)


def _pair(row: _Check) -> None:
    _copy(row)
    row.reads(Z_AT, Z_STRIDE, _up(row[X_SIZE]))


def _scale(row: _Check) -> None:
    _copy(row)
    row.params(W_AT, _up(row[X_SIZE]))
    row.params(B_AT, _up(row[X_SIZE]))


def _scale_add(row: _Check) -> None:
    _pair(row)
    row.params(W_AT, _up(row[X_SIZE]))


def _layer_norm(row: _Check) -> None:
    _scale(row)
    row.params(ALPHA_AT, 1)


def _window(row: _Check) -> None:
    size, taps = row[X_SIZE], row[columns.TAPS]
    row.within(columns.TAPS, 1)
    row.within(columns.DILATION, 1)
    row.reads(X_AT, X_STRIDE, _up(size))
    row.writes(Y_AT, Y_STRIDE, (taps - 1) * size + _up(size))
    row.keeps(H_AT, (taps - 1) * row[columns.DILATION] * _up(size))


def _pool_window(row: _Check) -> None:
    size, taps = row[Y_SIZE], row[columns.TAPS]
    row.within(columns.TAPS, 1)
    row.equals(X_SIZE, taps * size)
    row.reads(X_AT, X_STRIDE, (taps - 1) * size + _up(size))
    row.writes(Y_AT, Y_STRIDE, _up(size))
    if row[KIND] == columns.WINDOW_MEAN:
        row.counts()


def _sum(row: _Check) -> None:
    _copy(row)
    row.keeps(H_AT, _up(row[X_SIZE]))
    row.keeps(C_AT, _up(row[X_SIZE]))
    row.counts()


def _max(row: _Check) -> None:
    _copy(row)
    row.keeps(H_AT, _up(row[X_SIZE]))


def _attention_pool(row: _Check) -> None:
    _copy(row)
    row.params(W_AT, _up(row[X_SIZE]))
    row.params(ALPHA_AT, 1)
    row.keeps(H_AT, _up(row[X_SIZE]))
    row.keeps(C_AT, 3 * LANES + _up(row[X_SIZE]))


def _attention(row: _Check) -> None:
    memory = row.memory
    if memory is None:
        row.refuse(KIND, "a memory to attend to")
    row.equals(columns.MEMORY_STRIDE, memory.row_size)
    row.equals(COUNT_AT, memory.count_at)
    row.equals(Z_AT, row.end)
    row.equals(SCORE_AT, memory.row_size - LANES)  # before it an id, or the end of the keys
    copies = row[KIND] == columns.COPY_TOKENS
    query_at = row[Y_SIZE] + 1 if copies else 0
    size = row[X_SIZE] - query_at
    if size < 1:
        row.refuse(X_SIZE, f"more than {query_at}")
    row.within(KEY_AT, 0, row[SCORE_AT] - _up(size))
    row.params(ALPHA_AT, 1)
    row.reads(X_AT, X_STRIDE, query_at + _up(size))
    row.writes(Y_AT, Y_STRIDE, _up(row[Y_SIZE]))
    if copies:
        row.equals(columns.IS_ADDITIVE, 0)
        row.reads(X_AT, X_STRIDE, _up(row[Y_SIZE]))
    else:
        row.within(Y_SIZE, 1, row[SCORE_AT])
    if row[columns.IS_ADDITIVE]:
        row.params(W_AT, _up(size))


def _output(row: _Check) -> None:
    row.reads(X_AT, X_STRIDE, _up(row[Y_SIZE]))


def _sample(row: _Check) -> None:
    row.equals(Y_SIZE, 1)
    if row.num_rows != 1 or row.is_pool:
        row.refuse(KIND, "a block of one row")
    row.reads(X_AT, X_STRIDE, _up(row[X_SIZE]))
    settings, rows = row.fixed
    row.lies_in(Y_AT, settings, row.buffers, "the buffers")
    row.lies_in(Z_AT, rows, row.buffers, "the buffers")
    if settings[0] < rows[1] and rows[0] < settings[1]:
        row.refuse(Z_AT, f"nothing of the settings, {settings[0]} to {settings[1]}")


_FIRST_KINDS: _Kinds = {
    columns.INPUT: _input,
    columns.EMBEDDING: _tokens,
    columns.ONE_HOT: _tokens,
}
_KINDS_BETWEEN: _Kinds = {
    columns.LINEAR: _linear,
    columns.LINEAR_ADD: _linear,
    columns.QUANTIZE: _quantize,
    columns.GRU_CELL: _gru_cell,
    columns.LSTM_CELL: _lstm_cell,
    columns.COPY: _copy,
    columns.KEEP: _copy,
    columns.ACTIVATION: _activation,
    columns.ADD: _pair,
    columns.MULTIPLY: _pair,
    columns.SCALE: _scale,
    columns.SCALE_ADD: _scale_add,
    columns.SOFTMAX: _copy,
    columns.LOG_SOFTMAX: _copy,
    columns.LAYER_NORM: _layer_norm,
    columns.WINDOW: _window,
    columns.WINDOW_MAX: _pool_window,
    columns.WINDOW_SUM: _pool_window,
    columns.WINDOW_MEAN: _pool_window,
    columns.SUM: _sum,
    columns.MEAN: _sum,
    columns.MAX: _max,
    columns.ATTENTION_POOL: _attention_pool,
    columns.ATTENTION: _attention,
    columns.COPY_TOKENS: _attention,
}
_LAST_KINDS: _Kinds = {columns.OUTPUT: _output, columns.SAMPLE: _sample}
