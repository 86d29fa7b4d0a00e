"""What nodes give that do not depend on the input, computed by the reference of the onnx package.

A node of a few bytes can ask for gigabytes. So how many numbers it gives is known, and spent,
before it is computed, and nodes of which it is not known are refused.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from numlstm.budget import spend
from numlstm.convert.assembly import Refused

_OF_A_NODE = 1e6  # operations of the evaluator, beside those on numbers
_OF_A_NUMBER = 16  # bytes, with what it takes on the way

# Numbers in all that a node gives, and operations on numbers, from its inputs and attributes.
Cost: TypeAlias = Callable[[Any], tuple[float, float]]


def fold(op: Any) -> tuple[tuple[Any, ...], float]:
    """Return what a node gives whose inputs are constants, and how many operations that took.

    Raises
    ------
    Refused
        If that cannot be done, or is not.
    OverBudget
        If it gives too much.
    """
    if op.kind not in _COSTS:
        raise Refused("of constants it is not computed", "simplify the graph before, with onnxsim")
    numbers, operations = _COSTS[op.kind](op)
    spend(op.label, _OF_A_NUMBER * numbers, _OF_A_NODE + numbers + operations)
    names = [name for name in op.proto.input if name]
    feeds = dict(zip(op.proto.input, op.inputs, strict=True))
    none = onnx.TypeProto()
    graph = onnx.helper.make_graph(
        [op.proto],
        "constant",
        [onnx.helper.make_value_info(name, none) for name in dict.fromkeys(names)],
        [onnx.helper.make_value_info(name, none) for name in op.proto.output if name],
    )
    opsets = [onnx.helper.make_opsetid("", op.opset)]
    try:
        model = onnx.helper.make_model(graph, opset_imports=opsets)
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(model).run(None, {name: feeds[name] for name in names})
    except Exception as error:  # the evaluator raises almost anything
        raise Refused(f"its constants cannot be computed: {error}") from error
    given = iter(found)
    values = tuple(np.asarray(next(given)) if name else None for name in op.proto.output)
    return values, numbers + operations


def _each(op: Any) -> tuple[float, float]:
    """Each number of the inputs with each other, as they are broadcast."""
    shape = np.broadcast_shapes(*(np.shape(a) for a in op.inputs if a is not None))
    return math.prod(shape), 0


def _no_more(op: Any) -> tuple[float, float]:
    """No more numbers than the inputs have."""
    numbers = sum(np.size(a) for a in op.inputs if a is not None)
    return numbers, numbers


def _constant(op: Any) -> tuple[float, float]:
    if "sparse_value" in op.attributes:
        raise Refused("sparse_value, expected numbers one by one")
    return op.proto.ByteSize() + 2 * math.prod(_dims(op)), 0


def _dims(op: Any) -> list[int]:
    value = op.attributes.get("value")
    return [abs(int(n)) for n in value.dims] if isinstance(value, onnx.TensorProto) else [0]


def _filled(op: Any) -> tuple[float, float]:
    return math.prod(max(int(n), 0) for n in np.ravel(op.constant(0))), 0


def _expanded(op: Any) -> tuple[float, float]:
    shape = tuple(int(n) for n in np.ravel(op.constant(1)))
    return math.prod(np.broadcast_shapes(np.shape(op.constant(0)), shape)), 0


def _tiled(op: Any) -> tuple[float, float]:
    return math.prod([np.size(op.constant(0)), *(max(n, 0) for n in op.ints(1, "") or [])]), 0


def _range(op: Any) -> tuple[float, float]:
    start, limit, delta = (float(np.ravel(op.constant(n))[0]) for n in range(3))
    return max(math.ceil((limit - start) / delta), 0), 0


def _padded(op: Any) -> tuple[float, float]:
    shape = list(np.shape(op.constant(0)))
    pads = op.ints(1, "pads") or []
    axes = op.ints(3, "") or range(len(shape))
    for n, axis in enumerate(axes):
        shape[axis] += max(pads[n], 0) + max(pads[n + len(pads) // 2], 0)
    return math.prod(shape), 0


def _gathered(op: Any) -> tuple[float, float]:
    shape = np.shape(op.constant(0))
    axis = op.attribute("axis", 0)
    return math.prod([*shape[:axis], *shape[axis:][1:], np.size(op.constant(1))]), 0


def _one_hot(op: Any) -> tuple[float, float]:
    return np.size(op.constant(0)) * max(int(np.ravel(op.constant(1))[0]), 0), 0


def _product(op: Any) -> tuple[float, float]:
    a, b = np.shape(op.constant(0)), np.shape(op.constant(1))
    if op.kind == "Gemm":
        a = a[::-1] if op.attribute("transA", 0) else a
        b = b[::-1] if op.attribute("transB", 0) else b
    a, b = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    numbers = math.prod((*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]))
    return numbers, 4.0 * numbers * a[-1]


def _random(op: Any) -> tuple[float, float]:
    raise Refused(
        "it gives random numbers", "export the model after net.eval(), and draw outside of it"
    )


_RANDOM = "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike"
_ELEMENTWISE = (
    "Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip Cos "
    "Div Elu Equal Erf Exp Floor Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN "
    "LeakyRelu Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow PRelu Reciprocal Relu "
    "Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Tanh ThresholdedRelu Where Xor"
)
_MOVING = (
    "ArgMax ArgMin CumSum DequantizeLinear Dropout EyeLike Flatten GatherElements LogSoftmax "
    "QuantizeLinear ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare Reshape ReverseSequence ScatterElements ScatterND Shape Size Slice Softmax "
    "Split Squeeze Transpose Trilu Unsqueeze Concat"
)
_COSTS: dict[str, Cost] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _each),
    **dict.fromkeys(_MOVING.split(), _no_more),
    **dict.fromkeys(_RANDOM.split(), _random),
    **dict.fromkeys(("MatMul", "Gemm"), _product),
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "Gather": _gathered,
    "OneHot": _one_hot,
    "Pad": _padded,
    "Range": _range,
    "Tile": _tiled,
}
