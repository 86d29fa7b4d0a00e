"""Operations of a functional model: ``x[:, -1]``, ``a + b``, ``2 * x``, and others of keras.ops.

They are data in the config, a name and its arguments: of keras.ops in Keras 3, of TensorFlow in
Keras 2, whose names become those of Keras 3.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from numlstm import spec
from numlstm.convert.assembly import Misfit, Refused
from numlstm.convert.keras.call import SEQUENCE, VECTOR, Call, Value
from numlstm.convert.keras.config import MODELS, Config, class_of, config_of
from numlstm.convert.keras.merging import (
    added,
    concatenate,
    largest,
    multiplied,
    smallest,
    subtracted,
)
from numlstm.convert.keras.nodes import OF_MASKS
from numlstm.convert.keras.options import Options, function_of
from numlstm.convert.keras.reshaping import (
    expand_dims,
    flip,
    get_item,
    reshaped_to,
    slice_of,
    squeeze,
)
from numlstm.convert.keras.windows import pooled
from numlstm.spec import function_text

Operate: TypeAlias = Callable[[Call], Value | list[Value]]


def operation_of(item: Config) -> str | None:
    """Return the name of an operation as Keras 3 calls it, or None of a layer.

    An .h5 file of Keras 3 names no module: what is an operation has a call, and is never trained.
    """
    kind = class_of(item)
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        function = str(config_of(item).get("function", "")).removeprefix("tf.")
        return _OF_TENSORFLOW.get(function, f"tf.{function}")
    module, nodes = item.get("module"), item.get("inbound_nodes")
    if module is not None:
        return kind if ".ops" in str(module) else None
    is_called = isinstance(nodes, list) and bool(nodes) and isinstance(nodes[0], dict)
    known = kind in OPERATIONS or kind in OF_MASKS
    of_layers = {"trainable"} if known else {"trainable", "dtype"}
    is_layer = bool(of_layers & set(config_of(item))) or "written_as" in item or kind in MODELS
    return kind if is_called and not is_layer else None


# TensorFlow's, as Keras 2 records them, by the names of Keras 3.
_OF_TENSORFLOW = {
    "__operators__.getitem": "GetItem", "__operators__.add": "Add",
    "math.add": "Add", "math.subtract": "Subtract", "math.multiply": "Multiply",
    "math.truediv": "TrueDivide", "math.divide": "TrueDivide", "math.negative": "Negative",
    "math.maximum": "Maximum", "math.minimum": "Minimum", "math.pow": "Power",
    "math.square": "Square", "math.sqrt": "Sqrt", "math.exp": "Exp", "math.log": "Log",
    "math.abs": "Absolute", "math.tanh": "Tanh", "math.sigmoid": "Sigmoid",
    "math.softplus": "Softplus", "math.reciprocal": "Reciprocal",
    "math.reduce_mean": "Mean", "math.reduce_sum": "Sum", "math.reduce_max": "Max",
    "nn.relu": "Relu", "nn.relu6": "Relu6", "nn.softmax": "Softmax", "nn.sigmoid": "Sigmoid",
    "nn.tanh": "Tanh", "nn.elu": "Elu", "nn.selu": "Selu", "nn.softplus": "Softplus",
    "nn.log_softmax": "LogSoftmax", "nn.swish": "Silu", "nn.silu": "Silu",
    "nn.leaky_relu": "LeakyRelu", "nn.softsign": "Softsign", "nn.gelu": "Gelu",
    "concat": "Concatenate", "reshape": "Reshape", "expand_dims": "ExpandDims",
    "squeeze": "Squeeze", "reverse": "Flip", "clip_by_value": "Clip", "cast": "Cast",
    "identity": "Identity", "stop_gradient": "StopGradient", "transpose": "Transpose",
    "split": "Split", "stack": "Stack", "unstack": "Unstack",
}  # fmt: skip


# Arithmetic ---------------------------------------------------------------------------------------


def _numbers(call: Call, value: Any) -> Any:
    """Return an argument that is no value: a number, or an array of one per feature."""
    found = Options({"x": value}, call.major).numbers("x")
    if found is None:
        raise Refused("called with None")
    return float(found) if found.size == 1 else found


def _constants(call: Call) -> list[Any]:
    """Return the arguments that are no values."""
    return [arg for arg in call.args if not isinstance(arg, Value)]


def _two(call: Call) -> tuple[Any, Any]:
    """Return both arguments, of which at least one is a value."""
    if len(call.args) != 2:
        raise Misfit(f"reads {len(call.args)} arguments, expected two")
    first, second = (arg if isinstance(arg, Value) else _numbers(call, arg) for arg in call.args)
    return first, second


def _checked(call: Call) -> Value:
    """Return the only value among the arguments: numbers of each step."""
    return call.one(SEQUENCE, VECTOR)


def _binary(
    both: Callable[[Call], Value], numbers: Callable[[Call, Value, Any, bool], Value]
) -> Operate:
    """Return an operation of two values, or of a value and numbers.

    numbers   of the call, the value, the numbers, and whether they stand first
    """

    def operate(call: Call) -> Value:
        first, second = _two(call)
        if isinstance(first, Value) and isinstance(second, Value):
            call.inputs = [first, second]
            return both(call)
        value = _checked(call)
        is_first = not isinstance(first, Value)
        return numbers(call, value, first if is_first else second, is_first)

    return operate


def _subtract(call: Call, value: Value, number: Any, is_first: bool) -> Value:
    return call.affine(value, -1.0, number) if is_first else call.affine(value, 1.0, -number)


def _divided(call: Call) -> Value:
    call.inputs[1] = call.function(call.inputs[1], "reciprocal")
    return multiplied(call)


def _divide(call: Call, value: Value, number: Any, is_first: bool) -> Value:
    if is_first:
        return call.affine(call.function(value, "reciprocal"), number)
    if not np.all(number):
        raise Refused("divides by 0", "divide by other numbers")
    return call.affine(value, 1 / number)


def _bounded(sign: float) -> Callable[[Call, Value, Any, bool], Value]:
    """max(x, n) = n + relu(x - n); min(x, n) = n - relu(n - x)."""

    def bound(call: Call, value: Value, number: Any, is_first: bool) -> Value:
        above = call.affine(value, sign, -sign * number)
        return call.affine(call.function(above, "relu"), sign, number)

    return bound


def _power(call: Call) -> Value:
    value, exponent = _two(call)
    if isinstance(exponent, Value) or not isinstance(value, Value):
        raise Refused("a power of values, expected a number as the exponent")
    functions = {1.0: "linear", 2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}
    if exponent not in functions:
        raise Refused(f"a power of {exponent}, expected one of 2, 0.5, 1, -1")
    return call.function(_checked(call), functions[exponent])


def _clip(call: Call) -> Value:
    options = call.options
    low = options.take("x_min", "clip_value_min", default=None)
    high = options.take("x_max", "clip_value_max", default=None)
    given = _constants(call)
    low, high = (n if n is not None else given.pop(0) if given else None for n in (low, high))
    low, high = _numbers(call, low), _numbers(call, high)
    return call.function(_checked(call), function_text("clip", low, high))


def _function(name: str) -> Operate:
    def operate(call: Call) -> Value:
        return call.function(_checked(call), name)

    return operate


def _named(name: str) -> Operate:
    """A function of keras.activations by its name there."""

    def operate(call: Call) -> Value:
        options = call.options
        axis = options.take("axis", default=-1)
        slope = options.take("negative_slope", "alpha", default=None)
        approximate = options.take("approximate", default=None)
        value = _checked(call)
        if name in ("softmax", "log_softmax") and axis not in (-1, value.axis):
            raise Refused(f"axis={axis!r}, expected that of the features")
        text = function_of(name, call.major)
        if name in ("leaky_relu", "elu") and slope is not None:
            text = function_text(name, float(slope))
        if name == "gelu":
            text = "gelu" if approximate is False else "gelu_tanh"
        return call.function(value, text)

    return operate


# Over time, and shapes ----------------------------------------------------------------------------


def _over(mode: str) -> Operate:
    """A mean, sum or maximum over the steps; over the features of each step."""

    def operate(call: Call) -> Value:
        options = call.options
        axis = options.take("axis", default=None)
        keeps = options.flag("keepdims")
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        value = call.any_one()
        if axis == 1 and (value.kind == SEQUENCE or value.table):
            if value.masked:
                raise Misfit("reads a sequence with a mask, which it would not heed")
            return pooled(call, mode, keeps)
        return _over_features(call, mode, axis, keeps)

    return operate


def _over_features(call: Call, mode: str, axis: Any, keeps: bool) -> Value:
    value = _checked(call)
    if axis not in (-1, value.axis) or mode == "max" or not keeps:
        raise Refused(
            f"axis={axis!r}, keepdims={keeps} of {value.described}",
            "over the steps (axis=1) and, of means and sums with keepdims=True, over the features "
            "it is known",
        )
    share = 1 / value.size if mode == "mean" else 1.0
    tensors = {"weight": np.full((1, value.size), share, np.float32)}
    layer = call.add(spec.Linear, value.size, 1, False, reads=[value], tensors=tensors)
    return call.then(value, layer)


def _get_item(call: Call) -> Value:
    options = call.options
    index = options.take("slice_spec", "key", default=None)
    return get_item(call, next(iter(_constants(call)), index))


def _take(call: Call) -> Value:
    options = call.options
    axis, index = options.take("axis"), options.take("indices", default=None)
    index = next(iter(_constants(call)), index)
    if type(axis) is not int or axis < 1 or type(index) is not int:
        raise Refused(f"axis={axis!r}, indices={str(index)[:40]}: expected one step or feature")
    return get_item(call, [slice_of()] * axis + [index])


def _reshape(call: Call) -> Value:
    options = call.options
    target = options.take("newshape", "shape", default=None)
    target = next(iter(_constants(call)), target)
    if not isinstance(target, list) or not target or target[0] not in (-1, None):
        raise Refused(f"shape={target!r}, expected (-1, ...), of which the first is the batch")
    call.inputs = [call.any_one()]
    return reshaped_to(call, target)


def _with_axis(operate: Callable[[Call, Any], Value], default: Any = -1) -> Operate:
    def with_axis(call: Call) -> Value:
        axis = call.options.take("axis", default=next(iter(_constants(call)), default))
        return operate(call, axis)

    return with_axis


def _concatenate(call: Call) -> Value:
    given = [arg for arg in call.args if not isinstance(arg, Value | list | tuple)]
    axis = call.options.take("axis", default=given[0] if given else -1)
    call.item = call.item | {"config": {"axis": axis}}
    return concatenate(call)


def _split(call: Call) -> list[Value]:
    options = call.options
    axis = options.take("axis", default=-1)
    sections = options.take("indices_or_sections", "num_or_size_splits", default=None)
    sections = next(iter(_constants(call)), sections)
    value = _checked(call)
    if axis not in (-1, value.axis) or type(sections) is not int or sections < 1:
        raise Refused(f"axis={axis!r}, {sections!r}: expected a number of parts of the features")
    if value.size % sections:
        raise Misfit(f"{sections} parts of {value.size} features")
    size = value.size // sections
    index = [slice_of()] * value.axis
    return [get_item(call, [*index, slice_of(n * size, (n + 1) * size)]) for n in range(sections)]


def _same(call: Call) -> Value:
    return call.any_one()


def _moves_axes(call: Call) -> Value:
    axes = call.options.take("axes", "perm", default=None)
    if isinstance(axes, list) and axes == sorted(axes):
        return call.any_one()
    raise Misfit(
        f"axes={axes!r}: steps would become features, and features steps",
        "a network reads one row per step; transpose the input, and start the model behind",
    )


OPERATIONS: Mapping[str, Operate] = {
    "Add": _binary(added, lambda call, value, number, _: call.affine(value, 1.0, number)),
    "Subtract": _binary(subtracted, _subtract),
    "Multiply": _binary(multiplied, lambda call, value, number, _: call.affine(value, number)),
    **dict.fromkeys(("TrueDivide", "Divide"), _binary(_divided, _divide)),
    "Maximum": _binary(largest, _bounded(1.0)),
    "Minimum": _binary(smallest, _bounded(-1.0)),
    "Power": _power,
    "Clip": _clip,
    "Negative": lambda call: call.affine(_checked(call), -1.0),
    **{name: _function(function) for name, function in {
        "Square": "square", "Sqrt": "sqrt", "Exp": "exp", "Log": "log", "Absolute": "abs",
        "Abs": "abs", "Reciprocal": "reciprocal", "Erf": "erf",
    }.items()},
    **{name: _named(function) for name, function in {
        "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Elu": "elu",
        "Selu": "selu", "Softplus": "softplus", "Softsign": "softsign", "Silu": "silu",
        "Gelu": "gelu", "LeakyRelu": "leaky_relu", "Softmax": "softmax",
        "LogSoftmax": "log_softmax", "HardSigmoid": "hard_sigmoid",
        "Mish": "mish", "HardSilu": "hard_silu", "LogSigmoid": "log_sigmoid", "Celu": "celu",
    }.items()},
    "Mean": _over("mean"),
    "Sum": _over("sum"),
    "Max": _over("max"),
    "GetItem": _get_item,
    "Take": _take,
    "Reshape": _reshape,
    "ExpandDims": _with_axis(expand_dims),
    "Squeeze": _with_axis(squeeze),
    "Flip": _with_axis(flip),
    "Transpose": _moves_axes,
    "Concatenate": _concatenate,
    "Split": _split,
    **dict.fromkeys(("Cast", "ConvertToTensor", "Identity", "StopGradient"), _same),
}  # fmt: skip
