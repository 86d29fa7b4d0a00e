"""The recurrent cells as operations: a function each, and its row in `CELLS`.

What a cell makes of its input alone, ``bias + weight_ih @ x``, it asks `read` for, once and before
its rows: it is taken for many steps at once, or is a row of a table where the input is a token. The
rest runs row by row. PyTorch's LSTM and GRU are one operation each; any other cell, and any option,
is a short program of elementwise operations.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from numlstm.kernels import plan as columns
from numlstm.kernels.packing import pad_rows, padded
from numlstm.kernels.plan import HALF
from numlstm.network.recurrent import GRU, LSTM, RNN, SRU, IndRNN, MinGRU, MinLSTM, Recurrent
from numlstm.program.builder import Builder, Operation, Own, Place
from numlstm.program.program import Doubles, Floats
from numlstm.quantize import Matrix


class Read(Protocol):
    """Adds ``bias + weight @ x``, x being what the layer reads, and x behind it if asked."""

    def __call__(self, weight: Matrix, bias: Floats, with_x: bool = False) -> Place: ...


# Returns where h is after the step.
Cell = Callable[[Builder, Any, Own, Read], Place]


# What cells share ---------------------------------------------------------------------------------


def by_gate(rows: NDArray[Any], num_gates: int, stride: int = 0) -> NDArray[Any]:
    """Return (G * H, ...) with the rows of each gate padded to a stride, or a multiple of 16."""
    hidden_size = len(rows) // num_gates
    if hidden_size == padded(hidden_size):
        return rows
    rest = rows.shape[1:]
    gates = np.zeros((num_gates, stride or padded(hidden_size), *rest), rows.dtype)
    gates[:, :hidden_size] = rows.reshape(num_gates, hidden_size, *rest)
    return gates.reshape(-1, *rest)


def matrix(layer: Recurrent, own: Own, name: str, stride: int = 0) -> Matrix:
    """Return a matrix of all gates, padded gate by gate."""
    return own.matrix(name).arranged(lambda rows: by_gate(rows, layer.num_gates, stride))


def biases(layer: Recurrent, own: Own) -> tuple[Floats, Floats]:
    """Return copies of the two biases (G * H,), zeros where there is none."""
    if layer.bias:
        return own["bias_ih"].copy(), own["bias_hh"].copy()
    size = layer.num_gates * layer.hidden_size
    return np.zeros(size, np.float32), np.zeros(size, np.float32)


def states(builder: Builder, layer: Recurrent, own: Own) -> list[Place]:
    """Return places for what the cell keeps from step to step, in the order of its `states`."""
    return [
        builder.keep(size, own[f"initial_{name}"] if layer.initial_state else 0.0, name)
        for name, size in layer.states.items()
    ]


def begins_in_unit(layer: Recurrent, own: Own) -> bool:
    """Whether the first h is in [-1, 1]."""
    return not layer.initial_state or bool((np.abs(own["initial_h"]) <= 1).all())


def one_minus(builder: Builder, x: Place, y: Place | None = None) -> Place:
    return builder.activation(x, "affine(-1.0, 1.0)", y)


def gates_of_x(layer: Recurrent, own: Own, read: Read) -> list[Place]:
    """Return where each gate is, of a cell whose gates read nothing but x."""
    size, number = layer.hidden_size, layer.num_gates
    bias = own.get("bias_ih", np.zeros(number * size, np.float32))
    a = read(matrix(layer, own, "weight_ih"), by_gate(bias, number))
    return [a.part(gate * padded(size), size) for gate in range(number)]


def weigh(builder: Builder, keeps: Place, h: Place, takes: Place, n: Place) -> Place:
    """Add ``h <- keeps * h + takes * n``; return where it is after the step."""
    y = builder.buffer(h.size)
    taken = builder.multiply(takes, n)
    with builder.rows():
        builder.add(builder.multiply(keeps, h), taken, y)
        builder.keep_new(y, h)
    return y


# What a trace makes of that which a cell leaves: in float64.


def as_it_is(a: Doubles) -> Doubles:
    return a


def sigmoid(a: Doubles) -> Doubles:
    """1 / (1 + exp(-a)), without overflow."""
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1.0, e) / (1.0 + e)


def tanh(a: Doubles) -> Doubles:
    return np.asarray(np.tanh(a))


# Cells --------------------------------------------------------------------------------------------


def _rnn(builder: Builder, layer: RNN, own: Own, read: Read) -> Place:
    bias_ih, bias_hh = biases(layer, own)
    a = read(matrix(layer, own, "weight_ih"), pad_rows(bias_ih + bias_hh))
    (h,) = states(builder, layer, own)
    y = builder.buffer(layer.hidden_size)
    is_tanh = layer.nonlinearity == "tanh" and layer.clip is None
    unit = is_tanh and begins_in_unit(layer, own)
    with builder.rows():
        builder.linear_add(h, matrix(layer, own, "weight_hh"), a, y, layer.activations, unit)
        builder.clip(y, layer.clip)
        builder.activation(y, layer.nonlinearity, y)
        builder.keep_new(y, h)
    return y


def _gru(builder: Builder, layer: GRU, own: Own, read: Read) -> Place:
    """Add a GRU of any activations, the reset gate before or after the product."""
    size, stride = layer.hidden_size, padded(layer.hidden_size)
    bias_ih, bias_hh = biases(layer, own)
    # The bias inside the brackets that a reset gate multiplies stays with the other half.
    inner = 2 * size if layer.reset_after else 3 * size
    bias_ih[:inner] += bias_hh[:inner]
    a = read(matrix(layer, own, "weight_ih"), by_gate(bias_ih, 3))
    a_rz, a_n = a.part(0, 2 * stride), a.part(2 * stride, size)
    w_hh = matrix(layer, own, "weight_hh")
    w_rz = w_hh.arranged(lambda rows: rows[: 2 * stride])
    w_n = w_hh.arranged(lambda rows: rows[2 * stride :])
    (h,) = states(builder, layer, own)
    is_torch = layer.reset_after and layer.clip is None
    is_torch &= (layer.activation, layer.recurrent_activation) == ("tanh", "sigmoid")
    unit = is_torch and begins_in_unit(layer, own)
    y = builder.buffer(size)
    with builder.rows():
        rz = builder.linear_add(h, w_rz, a_rz, a_rz, layer.activations, unit)
        r, z = rz.part(0, size), rz.part(stride, size)
        if layer.reset_after:
            bias_n = pad_rows(bias_hh[2 * size :])
            n_h = builder.linear(h, w_n, bias_n, layer.activations, unit).part(0, size)
        if is_torch:
            builder.leave("r", sigmoid, r)
            builder.leave("z", sigmoid, z)
            builder.leave("n", lambda r, x, h: tanh(x + sigmoid(r) * h), r, a_n, n_h)
            return builder.append(Operation(columns.GRU_CELL, a, y, n_h, h_at=h.at))
        builder.clip(rz, layer.clip)
        builder.activation(rz, layer.recurrent_activation, rz)
        if layer.reset_after:
            n = builder.add(a_n, builder.multiply(r, n_h))
        else:
            rh = builder.multiply(r, h)
            n = builder.linear_add(rh, w_n, a_n, None, layer.activations).part(0, size)
        builder.clip(n, layer.clip)
        builder.activation(n, layer.activation, n)
        for name, gate in (("r", r), ("z", z), ("n", n)):
            builder.leave(name, as_it_is, gate)
        new = builder.multiply(one_minus(builder, z), n)
        builder.add(new, builder.multiply(z, h), y)
        builder.keep_new(y, h)
    return y


def _lstm(builder: Builder, layer: LSTM, own: Own, read: Read) -> Place:
    """Add an LSTM with any options; the equations are those of `spec.LSTM`."""
    size = layer.hidden_size
    is_torch = not (layer.peepholes or layer.coupled or layer.proj_size)
    is_torch &= layer.clip is None and layer.cell_clip is None
    functions = layer.recurrent_activation, layer.activation, layer.output_activation
    is_torch &= functions == ("sigmoid", "tanh", "tanh")
    stride = HALF if is_torch and size <= HALF else padded(size)
    bias_ih, bias_hh = biases(layer, own)
    bias_ih[size : 2 * size] += np.float32(layer.forget_bias)
    a = read(matrix(layer, own, "weight_ih", stride), by_gate(bias_ih + bias_hh, 4, stride))
    h, c = states(builder, layer, own)
    unit = is_torch and begins_in_unit(layer, own)
    y = builder.buffer(layer.h_size)
    with builder.rows():
        w_hh = matrix(layer, own, "weight_hh", stride)
        ifgo = builder.linear_add(h, w_hh, a, a, layer.activations, unit)
        i, f, g, o = (ifgo.part(gate * stride, size) for gate in range(4))
        formulas = (sigmoid, sigmoid, tanh, sigmoid) if is_torch else (as_it_is,) * 4
        for name, formula, gate in zip("ifgo", formulas, (i, f, g, o), strict=True):
            builder.leave(name, formula, gate)
        if is_torch:
            return builder.append(Operation(columns.LSTM_CELL, ifgo, y, h_at=h.at, c_at=c.at))

        def activate_gate(gate: Place, name: str) -> None:
            if layer.peepholes:
                builder.scale_add(c, own[f"peephole_{name}"], gate, gate)
            builder.clip(gate, layer.clip)
            builder.activation(gate, layer.recurrent_activation, gate)

        activate_gate(i, "i")
        if layer.coupled:
            one_minus(builder, i, f)
        else:
            activate_gate(f, "f")
        builder.clip(g, layer.clip)
        builder.activation(g, layer.activation, g)
        builder.add(builder.multiply(f, c), builder.multiply(i, g), c)
        builder.clip(c, layer.cell_clip)
        builder.keep_new(c, c)
        activate_gate(o, "o")
        product = builder.multiply(o, builder.activation(c, layer.output_activation))
        if layer.proj_size:
            weight = own.matrix("weight_hr").arranged(pad_rows)
            no_bias = np.zeros(padded(layer.proj_size), np.float32)
            product = builder.linear(product, weight, no_bias, layer.activations)
            product = product.part(0, layer.proj_size)
            builder.clip(product, layer.proj_clip)
        builder.copy(product, y)
        builder.keep_new(y, h)
    return y


def _min_gru(builder: Builder, layer: MinGRU, own: Own, read: Read) -> Place:
    z, n = gates_of_x(layer, own, read)
    (h,) = states(builder, layer, own)
    builder.activation(z, "sigmoid", z)
    builder.activation(n, layer.activation, n)
    builder.leave("z", as_it_is, z)
    builder.leave("n", as_it_is, n)
    return weigh(builder, one_minus(builder, z), h, z, n)


def _min_lstm(builder: Builder, layer: MinLSTM, own: Own, read: Read) -> Place:
    """Add a MinLSTM; ``f / (f + i) = sigmoid(log f - log i)``, which needs no division."""
    minus = "affine(-1.0, 0.0)"
    f, i, n = gates_of_x(layer, own, read)
    (h,) = states(builder, layer, own)
    for gate in (f, i):
        builder.activation(gate, minus, gate)
        builder.activation(gate, "softplus", gate)  # -log(sigmoid(a)) = softplus(-a)
    difference = builder.add(i, builder.activation(f, minus))
    builder.activation(difference, "sigmoid", f)
    builder.activation(builder.activation(difference, minus), "sigmoid", i)
    builder.activation(n, layer.activation, n)
    for name, gate in (("f", f), ("i", i), ("n", n)):
        builder.leave(name, as_it_is, gate)
    return weigh(builder, f, h, i, n)


def _ind_rnn(builder: Builder, layer: IndRNN, own: Own, read: Read) -> Place:
    (a,) = gates_of_x(layer, own, read)
    (h,) = states(builder, layer, own)
    y = builder.buffer(layer.hidden_size)
    with builder.rows():
        builder.scale_add(h, own["weight_hh"], a, y)
        builder.activation(y, layer.nonlinearity, y)
        builder.keep_new(y, h)
    return y


def _sru(builder: Builder, layer: SRU, own: Own, read: Read) -> Place:
    size, stride, number = layer.hidden_size, padded(layer.hidden_size), layer.num_gates
    bias = np.zeros((number, size), np.float32)
    bias[1:3] = own.get("bias_ih", np.zeros(2 * size, np.float32)).reshape(2, size)
    weight = matrix(layer, own, "weight_ih")
    a = read(weight, by_gate(bias.reshape(-1), number), with_x=number == 3)
    # Behind the three gates is the fourth, or x itself.
    n, f, r, highway = (a.part(gate * stride, size) for gate in range(4))
    (c,) = states(builder, layer, own)
    y = builder.buffer(size)
    if layer.highway_scale != 1.0:
        builder.activation(highway, f"affine({layer.highway_scale!r}, 0.0)", highway)
    with builder.rows():
        for name, gate in (("f", f), ("r", r)):
            if layer.peepholes:
                builder.scale_add(c, own[f"peephole_{name}"], gate, gate)
            builder.activation(gate, "sigmoid", gate)
            builder.leave(name, as_it_is, gate)
        builder.add(builder.multiply(f, c), builder.multiply(one_minus(builder, f), n), c)
        builder.keep_new(c, c)
        of_c = builder.multiply(r, builder.activation(c, layer.activation))
        builder.add(of_c, builder.multiply(one_minus(builder, r), highway), y)
        builder.leave("h", as_it_is, y)
    return y


CELLS: dict[type[Recurrent], Cell] = {
    RNN: _rnn,
    GRU: _gru,
    LSTM: _lstm,
    MinGRU: _min_gru,
    MinLSTM: _min_lstm,
    IndRNN: _ind_rnn,
    SRU: _sru,
}
