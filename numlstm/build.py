"""(network, tensors) -> Program: the flat arrays that the compiled walker runs.

The fast layouts are derived here, once, and nothing else knows them. `hidden_size` and every
buffer are padded to multiples of 16 with zeros.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm import spec
from numlstm.kernels import plan as columns
from numlstm.kernels.activations import FUNCTIONS
from numlstm.kernels.arrays import ARRAY_TYPE_AT, FLOAT32_AT
from numlstm.kernels.simd import LANES
from numlstm.kernels.tiles import pack, panel_widths

Floats = NDArray[np.float32]

# Steps that `run` takes through a layer before the next layer. More rows read the input weights
# less often; the buffers (16 rows of a 512-unit LSTM's gates are 128 KB) must stay in the L2 cache.
BLOCK_ROWS = 16


def aligned(size: int) -> Floats:
    """Return an array, not initialised, at a multiple of 64 bytes: unaligned runs at half speed."""
    spare = np.empty(size + LANES, np.float32)
    start = -spare.ctypes.data % 64 // 4
    return spare[start : start + size]


def _padded(size: int) -> int:
    return -(-size // LANES) * LANES


@dataclass(frozen=True)
class Layout:
    """A plan for blocks of a number of rows, and the size of a `state` that can run it."""

    plan: NDArray[np.int64]
    state_size: int


@dataclass(frozen=True)
class Program:
    """A network as arrays.

    `initial_state` is what a new stream begins with. Both layouts keep it in the same place, so a
    state moves between them by a copy of its first floats. `state_names` tells where in it the h
    and c of each layer are: name -> (offset, size).
    """

    params: Floats
    step: Layout
    block: Layout
    initial_state: Floats
    state_names: dict[str, tuple[int, int]]


class _Builder:
    """Collects params, the state's initial values, and operations with their buffers."""

    def __init__(self) -> None:
        self.params: list[Floats] = []
        self.params_size = 0
        self.state: list[Floats] = []
        self.state_size = 0
        self.state_names: dict[str, tuple[int, int]] = {}
        self.buffer_sizes: list[int] = []  # of one row
        self.operations: list[dict[int, int]] = []
        self.last_buffer = -1  # holds the output of the operation before

    def param(self, values: Floats) -> int:
        """Append weights, padded to 16 floats; return where they are."""
        at = self.params_size
        padded = np.zeros(_padded(values.size), np.float32)
        padded[: values.size] = values.ravel()
        self.params.append(padded)
        self.params_size += padded.size
        return at

    def kept(self, values: Floats) -> int:
        """Append a vector (a multiple of 16) that is kept from step to step."""
        at = self.state_size
        self.state.append(values)
        self.state_size += values.size
        return at

    def add(self, kind: int, x_size: int, y_size: int, **columns_by_name: int) -> None:
        """Append an operation that reads the last buffer and writes a new one."""
        self.buffer_sizes.append(_padded(y_size))
        self._append(kind, x_size, y_size, len(self.buffer_sizes) - 1, columns_by_name)

    def add_in_place(self, kind: int, x_size: int, y_size: int, **columns_by_name: int) -> None:
        """Append an operation that changes the last buffer."""
        self._append(kind, x_size, y_size, self.last_buffer, columns_by_name)

    def _append(
        self, kind: int, x_size: int, y_size: int, y_buffer: int, columns_by_name: dict[str, int]
    ) -> None:
        operation = {
            columns.KIND: kind,
            columns.X_SIZE: x_size,
            columns.Y_SIZE: y_size,
            columns.X_AT: self.last_buffer,
            columns.Y_AT: y_buffer,
        }
        for name, value in columns_by_name.items():
            operation[getattr(columns, name)] = value
        self.operations.append(operation)
        self.last_buffer = y_buffer

    def layout(self, num_rows: int, max_steps: int) -> Layout:
        """Place the buffers for blocks of ``num_rows`` behind the state and the copy of it."""
        starts = 2 * self.state_size + num_rows * np.cumsum([0, *self.buffer_sizes])
        plan = np.zeros((len(self.operations), columns.NUM_COLUMNS), np.int64)
        for row, operation in zip(plan, self.operations, strict=True):
            for column, value in operation.items():
                row[column] = value
            for at, stride in ((columns.X_AT, columns.X_STRIDE), (columns.Y_AT, columns.Y_STRIDE)):
                buffer = operation[at]
                if buffer >= 0:
                    row[at] = starts[buffer]
                    row[stride] = self.buffer_sizes[buffer]
        plan[0, columns.BLOCK_ROWS] = num_rows
        plan[0, columns.STATE_SIZE] = self.state_size
        plan[0, columns.NUM_ROWS] = len(plan)
        plan[0, columns.MAX_STEPS] = max_steps
        plan[0, columns.ARRAY_TYPE_AT] = ARRAY_TYPE_AT
        plan[0, columns.FLOAT32_AT] = FLOAT32_AT
        plan.flags.writeable = False
        return Layout(plan, int(starts[-1]))


def build(network: spec.Network, tensors: spec.Tensors) -> Program:
    """Return the program of a network.

    tensors   canonical names and shapes, float32, as `Network.check_tensors` demands
    """
    builder = _Builder()
    if not network.reads_tokens:
        builder.add(columns.INPUT, network.input_size, network.input_size)
    for prefix, layer in network.named_layers():
        own = {name: tensors[f"{prefix}.{name}"] for name in layer.tensors()}
        first = len(builder.operations)
        _ADD[type(layer)](builder, layer, own)
        for operation in builder.operations[first:]:
            for name, column in (("h", columns.H_AT), ("c", columns.C_AT)):
                if operation[columns.KIND] in _CELLS and column in operation:
                    at = operation[column]
                    builder.state_names[f"{prefix}.{name}"] = (at, layer.output_size)
    builder.add_in_place(columns.OUTPUT, network.output_size, network.output_size)
    params = aligned(builder.params_size)
    if builder.params:
        np.concatenate(builder.params, out=params)
    params.flags.writeable = False
    initial_state = np.concatenate([np.zeros(0, np.float32), *builder.state])
    initial_state.flags.writeable = False
    return Program(
        params,
        builder.layout(1, max_steps=1),
        builder.layout(BLOCK_ROWS, max_steps=2**31),
        initial_state,
        builder.state_names,
    )


_CELLS = (columns.RNN, columns.GRU, columns.LSTM)


# Layers -------------------------------------------------------------------------------------------


def _zeros(size: int) -> Floats:
    return np.zeros(_padded(size), np.float32)


def _pad_rows(weight: Floats) -> Floats:
    """Return (N, K) or (N,) with N padded to a multiple of 16 by zeros."""
    missing = _padded(len(weight)) - len(weight)
    return np.pad(weight, [(0, missing)] + [(0, 0)] * (weight.ndim - 1)) if missing else weight


def _interleave(weight: Floats, num_gates: int) -> Floats:
    """Return (G * H, ...) with the gates of 16 units together: [unit block][gate][16]."""
    hidden_size = len(weight) // num_gates
    rest = weight.shape[1:]
    gates = np.zeros((num_gates, _padded(hidden_size), *rest), np.float32)
    gates[:, :hidden_size] = weight.reshape(num_gates, hidden_size, *rest)
    blocks = gates.reshape(num_gates, -1, LANES, *rest).swapaxes(0, 1)
    return blocks.reshape(-1, *rest)


def _add_matrix(builder: _Builder, weight: Floats, bias: Floats) -> None:
    """Add ``bias + W x``; W (N, K) with N a multiple of 16."""
    builder.add(
        columns.LINEAR,
        weight.shape[1],
        len(weight),
        W_AT=builder.param(pack(weight, panel_widths(len(weight) // LANES))),
        B_AT=builder.param(bias),
    )


def _add_embedding(builder: _Builder, layer: spec.Embedding, own: spec.Tensors) -> None:
    table = np.zeros((layer.vocab_size, _padded(layer.embedding_size)), np.float32)
    table[:, : layer.embedding_size] = own["weight"]
    builder.add(columns.EMBEDDING, 1, table.shape[1], W_AT=builder.param(table))


def _biases(layer: spec.RNN | spec.GRU | spec.LSTM, own: spec.Tensors) -> tuple[Floats, Floats]:
    if layer.bias:
        return own["bias_ih"], own["bias_hh"]
    nothing = np.zeros(layer.num_gates * layer.hidden_size, np.float32)
    return nothing, nothing


def _add_recurrent(
    builder: _Builder, layer: spec.RNN | spec.GRU | spec.LSTM, own: spec.Tensors
) -> None:
    """Add the input half, a LINEAR to the gates, and the recurrent half."""
    gates, hidden_size = layer.num_gates, layer.hidden_size
    bias_ih, bias_hh = _biases(layer, own)
    at = {}
    if isinstance(layer, spec.GRU):
        # n keeps its two biases apart: the reset gate multiplies one of them.
        inner = 2 * hidden_size
        bias = bias_ih.copy()
        bias[:inner] += bias_hh[:inner]
        at["B_AT"] = builder.param(_pad_rows(bias_hh[inner:]))
    else:
        bias = bias_ih + bias_hh
    _add_matrix(builder, _interleave(own["weight_ih"], gates), _interleave(bias, gates))
    recurrent = _interleave(own["weight_hh"], gates)
    num_vectors = len(recurrent) // LANES
    if isinstance(layer, spec.RNN):
        kind, widths = columns.RNN, panel_widths(num_vectors)
        at["FUNCTION"] = FUNCTIONS[layer.nonlinearity]
    else:
        kind = columns.GRU if isinstance(layer, spec.GRU) else columns.LSTM
        widths = [gates] * (num_vectors // gates)
    at["W_AT"] = builder.param(pack(recurrent, widths))
    at["H_AT"] = builder.kept(_zeros(hidden_size))
    if isinstance(layer, spec.LSTM):
        at["C_AT"] = builder.kept(_zeros(hidden_size))
    builder.add(kind, hidden_size, _padded(hidden_size), **at)


def _add_linear(builder: _Builder, layer: spec.Linear, own: spec.Tensors) -> None:
    bias = own["bias"] if layer.bias else np.zeros(layer.output_size, np.float32)
    _add_matrix(builder, _pad_rows(own["weight"]), _pad_rows(bias))
    if layer.activation is not None:
        _add_elementwise(builder, layer.output_size, layer.activation)


def _add_elementwise(builder: _Builder, size: int, function: str) -> None:
    function_id = FUNCTIONS[function]
    builder.add_in_place(columns.ACTIVATION, size, _padded(size), FUNCTION=function_id)


def _add_activation(builder: _Builder, layer: spec.Activation, own: spec.Tensors) -> None:
    _add_elementwise(builder, layer.input_size, layer.function)


def _add_softmax(builder: _Builder, layer: spec.Softmax, own: spec.Tensors) -> None:
    builder.add_in_place(columns.SOFTMAX, layer.input_size, _padded(layer.input_size))


def _add_layer_norm(builder: _Builder, layer: spec.LayerNorm, own: spec.Tensors) -> None:
    size = layer.input_size
    weight = own["weight"] if layer.weight else np.ones(size, np.float32)
    bias = own["bias"] if layer.bias else np.zeros(size, np.float32)
    w_at = builder.param(weight)
    b_at = builder.param(bias)
    builder.param(np.full(1, layer.eps, np.float32))
    builder.add(columns.LAYER_NORM, size, _padded(size), W_AT=w_at, B_AT=b_at)


def _add_pooling(builder: _Builder, layer: spec.Pooling, own: spec.Tensors) -> None:
    size = layer.input_size
    if layer.mode == "mean":
        at = {name: builder.kept(_zeros(size)) for name in ("H_AT", "C_AT")}
        at["COUNT_AT"] = builder.kept(_zeros(1))
        builder.add(columns.MEAN, size, _padded(size), **at)
    elif layer.mode == "max":
        lowest = np.full(_padded(size), -np.inf, np.float32)
        builder.add(columns.MAX, size, _padded(size), H_AT=builder.kept(lowest))
    # The last value of a stream is the output of the layer before.


_ADD: dict[type[spec.Layer], Callable[[_Builder, Any, spec.Tensors], None]] = {
    spec.Embedding: _add_embedding,
    spec.RNN: _add_recurrent,
    spec.GRU: _add_recurrent,
    spec.LSTM: _add_recurrent,
    spec.Linear: _add_linear,
    spec.Activation: _add_activation,
    spec.Softmax: _add_softmax,
    spec.LayerNorm: _add_layer_norm,
    spec.Pooling: _add_pooling,
}
