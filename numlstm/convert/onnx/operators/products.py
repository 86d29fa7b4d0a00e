"""The products of ONNX with a matrix of constants, as Linear layers."""

import math

import numpy as np

from numlstm.convert.assembly import Array, Refused
from numlstm.convert.onnx.operators.attention import summed_product
from numlstm.convert.onnx.trace import Handler, Node, Op, Trace
from numlstm.convert.onnx.values import Ids, Value, roomy
from numlstm.spec import Linear

MOST_ROWS = 64  # of a tensor within a step, each of which is multiplied by a layer of its own


def linear(
    trace: Trace, op: Op, ids: Ids, weight: Array, bias: Array | None = None, row: bool = False
) -> Node:
    """Return ``weight @ x + bias`` of these numbers, weight (output_size, len(ids))."""
    tensors = {"weight": weight} | ({} if bias is None else {"bias": bias})
    layer = Linear(weight.shape[1], weight.shape[0], bias is not None)
    return trace.layer(op, layer, [ids], tensors, row)


def _rows_times(trace: Trace, op: Op, value: Value, weight: Array, bias: Array | None) -> Value:
    """Return each row of a tensor (.., n) times a matrix (outputs, n): a layer for each row."""
    if value.time == len(value.shape) - 1:
        raise Refused(
            f"a product of {value.shape} and {weight.T.shape}: it sums over steps",
            "over time the mean, the sum and sums by a softmax are known",
        )
    if value.shape[-1] != weight.shape[1]:
        raise Refused(f"a product of {value.shape} and {weight.T.shape}")
    rows = value.ids.reshape(-1, weight.shape[1])
    if len(rows) > MOST_ROWS:
        raise Refused(
            f"a product of {value.shape} and {weight.T.shape}: {len(rows)} rows in each step, "
            f"expected at most {MOST_ROWS}"
        )
    row = trace.is_row(value)
    ids = np.stack([linear(trace, op, ids, weight, bias, row).ids for ids in rows])
    return Value(ids.reshape((*value.ids.shape[:-1], len(weight))), value.time, value.length)


def _matmul(trace: Trace, op: Op) -> Value:
    if isinstance(op.inputs[0], np.ndarray):
        return _matmul_from_left(trace, op)
    value, weight = op.value(0), op.inputs[1]
    if isinstance(weight, Value):
        attended = summed_product(trace, op, value, weight)
        if attended is not None:
            return attended
        raise Refused(
            f"a product of two tensors that depend on the input, {value.shape} and {weight.shape}",
            "of attention, only a softmax over time that weighs and sums the steps is known",
        )
    weight = op.floats(1)
    matrix = weight[:, None] if weight.ndim == 1 else weight
    if matrix.ndim > 2 and matrix.size == matrix.shape[-1] * matrix.shape[-2]:
        matrix = matrix.reshape(matrix.shape[-2:])
    if matrix.ndim != 2:
        raise Refused(f"a product of {value.shape} and {weight.shape}")
    found = _rows_times(trace, op, value, matrix.T, None)
    if weight.ndim > 1:
        return found
    return Value(found.ids.reshape(found.ids.shape[:-1]), value.time, value.length)


def _matmul_from_left(trace: Trace, op: Op) -> Value:
    """Return W @ X, where each column of X is multiplied."""
    value, weight = op.value(1), op.floats(0)
    last = len(value.shape) - 1
    if weight.ndim != 2 or last < 1 or value.time == last - 1:
        raise Refused(f"a product of {weight.shape} and {value.shape}")
    turned = value.moved(value.whole().swapaxes(-1, -2), _swapped(value.time, last))
    found = _rows_times(trace, op, turned, weight, None)
    return found.moved(found.whole().swapaxes(-1, -2), value.time)


def _swapped(time: int | None, last: int) -> int | None:
    """Return where an axis is after the last two have changed places."""
    if time is None or time < last - 1:
        return time
    return last - 1 if time == last else last


def _gemm(trace: Trace, op: Op) -> Value:
    if isinstance(op.inputs[0], np.ndarray):
        raise Refused("its input 0 does not depend on the input of the network")
    value, weight = op.value(0), op.floats(1)
    if op.attribute("transA", 0):
        if len(value.shape) != 2:
            raise Refused(f"transA of a tensor {value.shape}")
        value = value.moved(value.whole().T, _swapped(value.time, 1))
    weight = weight if op.attribute("transB", 0) else weight.T
    weight = weight * op.attribute("alpha", 1.0)
    if weight.ndim != 2 or len(value.shape) != 2:
        raise Refused(f"a product of {value.shape} and {weight.T.shape}")
    bias = None
    if op.has(2):
        given = op.floats(2) * op.attribute("beta", 1.0)
        if given.size not in (1, len(weight)):
            raise Refused(f"a bias {given.shape} for {len(weight)} numbers of a step")
        bias = np.broadcast_to(given.ravel(), (len(weight),))
    return _rows_times(trace, op, value, weight, bias)


def _einsum(trace: Trace, op: Op) -> Value:
    """Return ``...i, io -> ...o`` with any letters: a product with a matrix of constants."""
    equation = str(op.attribute("equation")).replace(" ", "")
    given, _, result = equation.partition("->")
    names = given.split(",")
    values = [n for n, value in enumerate(op.inputs) if isinstance(value, Value)]
    if "." in equation or len(names) != 2 or len(values) != 1 or not result:
        raise Refused(f"equation {equation!r}, expected that of a product with a constant matrix")
    of_value, of_weight = names[values[0]], names[1 - values[0]]
    value, weight = op.value(values[0]), op.floats(1 - values[0])
    summed = [n for n in of_value if n not in result]
    new = [n for n in of_weight if n not in of_value]
    kept = [n for n in of_value if n in result]
    if (
        sorted(of_weight) != sorted(summed + new)
        or sorted(result) != sorted(kept + new)
        or len(set(of_value)) != len(value.shape)
    ):
        raise Refused(f"equation {equation!r}, expected that of a product with a constant matrix")
    order = [of_value.index(n) for n in kept + summed]
    time = None if value.time is None else order.index(value.time)
    if time is not None and time >= len(kept):
        raise Refused(
            f"equation {equation!r} sums over steps",
            "over time the mean, the sum and sums by a softmax are known",
        )
    turned = value.moved(value.whole().transpose(order), time)
    sizes = dict(zip(of_value, value.shape, strict=True)) | dict(
        zip(of_weight, weight.shape, strict=True)
    )
    matrix = weight.transpose([of_weight.index(n) for n in new + summed])
    matrix = matrix.reshape(math.prod(sizes[n] for n in new), -1)
    whole = turned.whole()
    whole = whole.reshape((*whole.shape[: len(kept)], -1))
    found = _rows_times(trace, op, turned.moved(whole, time), matrix, None).whole()
    found = found.reshape((*found.shape[:-1], *(sizes[n] for n in new)))
    back = [(kept + new).index(n) for n in result]
    roomy(op.label, found.shape)
    return value.moved(found.transpose(back), None if time is None else back.index(time))


PRODUCTS: dict[str, Handler] = {"MatMul": _matmul, "Gemm": _gemm, "Einsum": _einsum}
