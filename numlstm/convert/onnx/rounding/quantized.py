"""Quantised operators of ONNX and ONNX Runtime as those of the numbers before they were rounded.

What an operator rounds is (x - zero point) * scale of integers x. Of weights, these numbers are
what the file holds; of activations, what was rounded is taken, clipped where the integers end.
"""

import numpy as np
import onnx

from numlstm.convert.assembly import Array, Refused
from numlstm.convert.onnx.rounding.integers import RANGES, dequantized, quantized, spread
from numlstm.convert.onnx.rounding.ranges import EVERY
from numlstm.convert.onnx.rounding.rewriting import OF_CONV, Replaced, Rewriting, Rule

INT8_WEIGHTS = "int8 weights"
STATIC = "activations in the range of their 8 bits"
DYNAMIC = "activations that were rounded as they came"

# Numbers -----------------------------------------------------------------------------------------


def _zero(r: Rewriting, name: str) -> Array | None:
    return r.array(name) if name else None


def _centred(r: Rewriting, x: str, zero: str, axis: int = -1, rank: int = 0) -> str:
    """Return the name of x - zero; of a tensor of the file in float32, once and for all."""
    if x in r.units and r.same((r.units[x][0], zero), r.units[x]):
        return r.emit("Div", [x, r.units[x][0]])
    if r.holds(x) and x not in r.units:
        r.kinds[INT8_WEIGHTS] = None
        return r.constant(dequantized(r.array(x), np.ones(()), _zero(r, zero), axis))
    found = r.emit("Cast", [r.integers(x)], to=onnx.TensorProto.FLOAT)
    if not zero or (r.holds(zero) and not r.array(zero).any()):
        return found
    if r.holds(zero):
        zeros = r.array(zero)
        zero = r.constant(spread(zeros, rank, axis) if rank else zeros)
    return r.emit("Sub", [found, r.emit("Cast", [zero], to=onnx.TensorProto.FLOAT)])


def _real(r: Rewriting, x: str, scale: str, zero: str, axis: int = 1, name: str = "") -> str:
    """Return the name of (x - zero) * scale."""
    if x in r.units and r.same(r.units[x], (scale, zero)):
        return r.emit("Identity", [x], name) if name else x
    if r.holds(x) and x not in r.units:
        r.kinds[INT8_WEIGHTS] = None
        found = dequantized(r.array(x), r.array(scale), _zero(r, zero), axis)
        return r.constant(found, name)
    if r.holds(scale) and r.array(scale).size > 1:
        raise Refused(
            "a scale for each row of what is computed",
            "quantise activations with one scale for each tensor",
        )
    return r.emit("Mul", [_centred(r, x, zero), scale], name)


def _range(r: Rewriting, zero: str, kind: int) -> tuple[int, int]:
    """Return the smallest and the largest integer of the type of a zero point."""
    if zero:
        kind = onnx.helper.np_dtype_to_tensor_dtype(r.array(zero).dtype)
    if kind not in RANGES:
        raise Refused(f"it rounds to {onnx.TensorProto.DataType.Name(kind)}, expected integers")
    return RANGES[kind]


def _rounded(
    r: Rewriting, x: str, scale: str, zero: str, name: str, kind: int = onnx.TensorProto.UINT8
) -> None:
    """Give a name to x as it is before it is rounded: clipped, of the units of the integers."""
    low, high = _range(r, zero, kind)
    of_scale = r.array(scale)
    if of_scale.size != 1:
        raise Refused(
            "a scale for each row of what is computed",
            "quantise activations with one scale for each tensor",
        )
    offset = 0 if not zero else int(r.array(zero).reshape(()))
    bounds = [float(of_scale.reshape(())) * (n - offset) for n in (low, high)]
    start, end = r.ranges.get(x, EVERY)
    if start >= bounds[0] and end <= bounds[1]:
        r.emit("Identity", [x], name)
    elif r.clips:
        _clip(r, x, bounds[0], bounds[1], name)
    else:
        r.emit("Relu" if bounds[0] == 0 and start < 0 else "Identity", [x], name)
    r.units[name] = (scale, zero)


def _clip(r: Rewriting, x: str, low: float, high: float, name: str = "") -> str:
    if r.opset < 11:
        found = r.emit("Clip", [x], name, min=low, max=high)
    else:
        found = r.emit("Clip", [x, r.constant(low), r.constant(high)], name)
    r.ranges[found] = (low, high)
    return found


# Operators of ONNX --------------------------------------------------------------------------------


def _dequantize(r: Rewriting, node: Replaced) -> str:
    x, scale, zero = (node.input(n) for n in range(3))
    axis, size = node.attribute("axis", 1), node.attribute("block_size", 0)
    if size and r.holds(x):
        found = dequantized(r.array(x), r.array(scale), _zero(r, zero), axis, size)
        r.constant(found, node.outputs[0])
    elif size:
        raise Refused("blocks of what is computed")
    else:
        _real(r, x, scale, zero, axis, node.outputs[0])
    return INT8_WEIGHTS if r.is_fixed([x]) else ""


def _quantize(r: Rewriting, node: Replaced) -> str:
    x, scale, zero = (node.input(n) for n in range(3))
    kind = node.attribute("output_dtype", 0) or onnx.TensorProto.UINT8
    if not r.is_fixed([scale, zero]):
        return _computed_range(r, node)
    if not r.is_fixed([x]):
        _rounded(r, x, scale, zero, node.outputs[0], kind)
        return STATIC
    low, high = _range(r, zero, kind)
    if not r.holds(x):  # a constant that is computed
        found = r.emit("Round", [r.emit("Div", [x, scale])]) if r.opset >= 11 else ""
        if not found or r.array(scale).size > 1:
            raise Refused("a constant that is computed is rounded", "fold constants before")
        found = r.emit("Add", [found, r.constant(_zero(r, zero) if zero else 0.0)])
        _clip(r, found, low, high, node.outputs[0])
        return INT8_WEIGHTS
    bounds, axis = (low, high), node.attribute("axis", 1)
    integers = quantized(r.array(x), r.array(scale), _zero(r, zero), axis, bounds)
    r.constant(integers, node.outputs[0])
    return INT8_WEIGHTS


def _computed_range(r: Rewriting, node: Replaced) -> str:
    """Take x as it is, where its range is computed from it: then the range has all of it."""
    for name, number in zip(node.inputs[1:3], (1.0, 0.0), strict=False):
        r.renamed[name] = r.constant(number)
    r.emit("Identity", [node.input(0)], node.outputs[0])
    return DYNAMIC


def _dynamic(r: Rewriting, node: Replaced) -> str:
    r.emit("Identity", [node.input(0)], node.outputs[0])
    for name, number in zip(node.outputs[1:3], (1.0, 0.0), strict=True):
        if name:
            r.constant(number, name)
    return DYNAMIC


def _matmul_integer(r: Rewriting, node: Replaced) -> str:
    a = _centred(r, node.input(0), node.input(2))
    b = _centred(r, node.input(1), node.input(3))
    r.emit("MatMul", [a, b], node.outputs[0])
    return INT8_WEIGHTS


def _conv_integer(r: Rewriting, node: Replaced) -> str:
    x = _centred(r, node.input(0), node.input(2))
    w = _centred(r, node.input(1), node.input(3), axis=0)
    r.emit("Conv", [x, w], node.outputs[0], **node.options(*OF_CONV))
    return INT8_WEIGHTS


def _qlinear_matmul(r: Rewriting, node: Replaced) -> str:
    a = _real(r, node.input(0), node.input(1), node.input(2))
    b = _real(r, node.input(3), node.input(4), node.input(5), -1)
    _rounded(r, r.emit("MatMul", [a, b]), node.input(6), node.input(7), node.outputs[0])
    return STATIC


def _bias(r: Rewriting, name: str, x_scale: str, w_scale: str, alpha: float = 1.0) -> str:
    scale = r.array(x_scale).reshape(()) * r.array(w_scale) * np.float32(alpha)
    return r.constant(dequantized(r.array(name), scale, None, -1))


def _qlinear_conv(r: Rewriting, node: Replaced) -> str:
    x = _real(r, node.input(0), node.input(1), node.input(2))
    w = _real(r, node.input(3), node.input(4), node.input(5), 0)
    rank, last = r.array(node.input(3)).ndim, node.attribute("channels_last", 0)
    x = r.emit("Transpose", [x], perm=[0, rank - 1, *range(1, rank - 1)]) if last else x
    inputs = [x, w]
    if node.input(8):
        inputs.append(_bias(r, node.input(8), node.input(1), node.input(4)))
    y = r.emit("Conv", inputs, **node.options(*OF_CONV))
    y = r.emit("Transpose", [y], perm=[0, *range(2, rank), 1]) if last else y
    _rounded(r, y, node.input(6), node.input(7), node.outputs[0])
    return STATIC


# Operators of ONNX Runtime ------------------------------------------------------------------------


def _qgemm(r: Rewriting, node: Replaced) -> str:
    options = node.options("alpha", "transA", "transB")
    a = _real(r, node.input(0), node.input(1), node.input(2))
    b = _real(r, node.input(3), node.input(4), node.input(5), 0 if options["transB"] else 1)
    inputs = [a, b]
    if node.input(6):
        alpha = options["alpha"] or 1.0
        inputs.append(_bias(r, node.input(6), node.input(1), node.input(4), alpha))
    rounds = bool(node.input(7))
    y = r.emit("Gemm", inputs, "" if rounds else node.outputs[0], **options)
    if rounds:
        _rounded(r, y, node.input(7), node.input(8), node.outputs[0])
    return STATIC if rounds else INT8_WEIGHTS


_BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul"}


def _qlinear_binary(r: Rewriting, node: Replaced) -> str:
    a, b = (_real(r, node.input(n), node.input(n + 1), node.input(n + 2)) for n in (0, 3))
    y = r.emit(_BINARY[node.kind], [a, b])
    _rounded(r, y, node.input(6), node.input(7), node.outputs[0])
    return STATIC


# Those of one input: what they compute, and the options that it has.
_UNARY: dict[str, tuple[str, tuple[str, ...]]] = {
    "QLinearSigmoid": ("Sigmoid", ()),
    "QLinearLeakyRelu": ("LeakyRelu", ("alpha",)),
    "QLinearSoftmax": ("Softmax", ("axis",)),
    "QLinearReduceMean": ("ReduceMean", ("axes", "keepdims")),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", ()),
    "QLinearAveragePool": (
        "AveragePool",
        ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"),
    ),
}


def _qlinear_unary(r: Rewriting, node: Replaced) -> str:
    kind, names = _UNARY[node.kind]
    if node.attribute("channels_last", 0):
        raise Refused("channels_last", "optimise the model for no device, or not at all")
    x, options = _real(r, node.input(0), node.input(1), node.input(2)), node.options(*names)
    inputs = [x]
    if kind == "ReduceMean" and r.opset >= 18 and options["axes"]:
        inputs.append(r.constant(np.array(options.pop("axes"), np.int64)))
    y = r.emit(kind, inputs, **options)
    _rounded(r, y, node.input(3), node.input(4), node.outputs[0])
    return STATIC


def _qlinear_concat(r: Rewriting, node: Replaced) -> str:
    parts = [_real(r, *node.inputs[n : n + 3]) for n in range(2, len(node.inputs), 3)]
    y = r.emit("Concat", parts, axis=node.attribute("axis"))
    _rounded(r, y, node.input(0), node.input(1), node.outputs[0])
    return STATIC


def _with_bias(r: Rewriting, a: str, b: str, bias: str, output: str) -> None:
    y = r.emit("MatMul", [a, b], "" if bias else output)
    if bias:
        r.emit("Add", [y, bias], output)


def _matmul_to_float(r: Rewriting, node: Replaced) -> str:
    a, b, a_scale, b_scale, a_zero, b_zero, bias = (node.input(n) for n in range(7))
    real = _real(r, a, a_scale, a_zero), _real(r, b, b_scale, b_zero, -1)
    _with_bias(r, *real, bias, node.outputs[0])
    return INT8_WEIGHTS


def _dynamic_matmul(r: Rewriting, node: Replaced) -> str:
    a, b, scale, zero, bias = (node.input(n) for n in range(5))
    _with_bias(r, a, _real(r, b, scale, zero, -1), bias, node.outputs[0])
    return DYNAMIC


_OF_LSTM = (
    "activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size",
    "input_forget",
)  # fmt: skip


def _dynamic_lstm(r: Rewriting, node: Replaced) -> str:
    inputs = [node.input(n) for n in range(8)]
    for n, at in ((1, 8), (2, 10)):
        q, scale = r.array(node.input(n)), r.array(node.input(at))
        zero = _zero(r, node.input(at + 1))
        # (D, I, 4H), a scale for each direction, or for each of its columns.
        parts = [None if a is None else _of_directions(a, len(q)) for a in (scale, zero)]
        assert parts[0] is not None
        weights = dequantized(q, parts[0], parts[1])
        inputs[n] = r.constant(weights.transpose(0, 2, 1))
    r.kinds[INT8_WEIGHTS] = None
    r.emit_all("LSTM", inputs, node.outputs[:3], **node.options(*_OF_LSTM))
    return DYNAMIC


def _of_directions(array: Array, count: int) -> Array:
    return array.reshape(count, 1, -1)


def _matmul_nbits(r: Rewriting, node: Replaced) -> str:
    columns, rows, bits, size = (node.attribute(n, 4) for n in ("K", "N", "bits", "block_size"))
    if bits != 4 or node.input(4):
        raise Refused(f"{bits} bits, or g_idx, expected 4 bits in order")
    q = _nibbles(r.array(node.input(1)).reshape(rows, -1))
    scale = r.array(node.input(2)).reshape(rows, -1)
    zero: Array = np.full(scale.shape, 8.0, np.float32)
    if node.input(3):
        zero = r.array(node.input(3)).reshape(rows, -1)
        zero = zero if zero.dtype == np.float32 else _nibbles(zero)[:, : scale.shape[1]]
    weights = dequantized(q, scale, zero, 1, size)[:, :columns]
    _with_bias(r, node.input(0), r.constant(weights.T), node.input(5), node.outputs[0])
    return "4-bit weights"


def _nibbles(packed: Array) -> Array:
    """Return two numbers of 4 bits for each byte, the lower first."""
    return np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1)


QUANTIZED: dict[str, Rule] = {
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _matmul_integer,
    "ConvInteger": _conv_integer,
    "QLinearMatMul": _qlinear_matmul,
    "QLinearConv": _qlinear_conv,
    "QGemm": _qgemm,
    **dict.fromkeys(_BINARY, _qlinear_binary),
    **dict.fromkeys(_UNARY, _qlinear_unary),
    "QLinearConcat": _qlinear_concat,
    "MatMulIntegerToFloat": _matmul_to_float,
    "DynamicQuantizeMatMul": _dynamic_matmul,
    "DynamicQuantizeLSTM": _dynamic_lstm,
    "MatMulNBits": _matmul_nbits,
}
