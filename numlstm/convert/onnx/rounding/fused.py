"""Nodes that optimizers of ONNX Runtime fuse, as the operators of ONNX that they were."""

import math
from typing import Any

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.rounding.rewriting import OF_CONV, Replaced, Rewriting, Rule

_FUSED = ""  # no kind of numbers: nothing is rounded


def _transposed(r: Rewriting, name: str, turn: Any) -> str:
    if not turn:
        return name
    return r.constant(np.swapaxes(r.array(name), -1, -2))


def _matmul(r: Rewriting, node: Replaced) -> str:
    if node.attribute("transA", 0) or node.attribute("transBatchA", 0):
        raise Refused("transA", "optimise the model less, or not at all")
    if node.attribute("transBatchB", 0):
        raise Refused("transBatchB", "optimise the model less, or not at all")
    b = _transposed(r, node.input(1), node.attribute("transB", 0))
    alpha, activation = node.attribute("alpha", 1.0), node.attribute("activation", "")
    y = r.emit("MatMul", [node.input(0), b])
    y = r.emit("Mul", [y, r.constant(alpha)]) if alpha != 1.0 else y
    _activated(r, node, y, activation, "activation_")
    return _FUSED


def _gemm(r: Rewriting, node: Replaced) -> str:
    y = r.emit("Gemm", node.inputs, **node.options("alpha", "beta", "transA", "transB"))
    _activated(r, node, y, node.attribute("activation", ""), "activation_")
    return _FUSED


def _conv(r: Rewriting, node: Replaced) -> str:
    y = r.emit("Conv", node.inputs[:3], **node.options(*OF_CONV))
    y = r.emit("Add", [y, node.input(3)]) if node.input(3) else y
    _activated(r, node, y, node.attribute("activation", ""), "")
    return _FUSED


# Functions with parameters, in the order in which a fused Conv lists them.
_PARAMETERS = {
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}


def _activated(r: Rewriting, node: Replaced, y: str, function: str, prefix: str) -> None:
    """Apply the function of a fused node, whose parameters are a list, or one by one."""
    output = node.outputs[0]
    names = _PARAMETERS.get(function, ())
    given = dict(zip(names, node.attribute("activation_params") or (), strict=False))
    given |= {n: node.attribute(prefix + n) for n in names if prefix and n not in given}
    if function == "Clip" and r.opset >= 11:
        bounds = [r.constant(given[name]) for name in names]
        r.emit("Clip", [y, *bounds], output)
    else:
        r.emit(function or "Identity", [y], output, **given)


# Functions ----------------------------------------------------------------------------------------


def _gelu(r: Rewriting, node: Replaced) -> str:
    """Write out x / 2 * (1 + erf(x / sqrt(2))), of x with a bias or without."""
    x = r.emit("Add", node.inputs[:2]) if node.input(1) else node.input(0)
    if r.opset >= 20:
        r.emit("Gelu", [x], node.outputs[0])
        return _FUSED
    erf = r.emit("Erf", [r.emit("Div", [x, r.constant(math.sqrt(2))])])
    product = r.emit("Mul", [x, r.emit("Add", [erf, r.constant(1.0)])])
    r.emit("Mul", [product, r.constant(0.5)], node.outputs[0])
    return _FUSED


def _fast_gelu(r: Rewriting, node: Replaced) -> str:
    """Write out x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))."""
    x = r.emit("Add", node.inputs[:2]) if node.input(1) else node.input(0)
    cube = r.emit("Mul", [x, r.emit("Mul", [x, x])])
    inner = r.emit("Add", [x, r.emit("Mul", [cube, r.constant(0.044715)])])
    gate = r.emit("Tanh", [r.emit("Mul", [inner, r.constant(math.sqrt(2 / math.pi))])])
    product = r.emit("Mul", [x, r.emit("Add", [gate, r.constant(1.0)])])
    r.emit("Mul", [product, r.constant(0.5)], node.outputs[0])
    return _FUSED


def _quick_gelu(r: Rewriting, node: Replaced) -> str:
    x = node.input(0)
    scaled = r.emit("Mul", [x, r.constant(node.attribute("alpha", 1.702))])
    r.emit("Mul", [x, r.emit("Sigmoid", [scaled])], node.outputs[0])
    return _FUSED


# Layer norms --------------------------------------------------------------------------------------


def _layer_norm(r: Rewriting, node: Replaced) -> str:
    options = node.options("axis", "epsilon")
    r.emit("LayerNormalization", node.inputs, node.outputs[0], **options)
    return _FUSED


def _root_mean_square(r: Rewriting, node: Replaced) -> str:
    if node.attribute("axis", -1) not in (-1, 2):
        raise Refused(f"axis {node.attribute('axis')}, expected the last")
    _by_root(r, node.input(0), node.input(1), node.attribute("epsilon", 1e-5), node.outputs[0])
    return _FUSED


def _by_root(r: Rewriting, x: str, gamma: str, epsilon: float, output: str) -> None:
    """Write out x / sqrt(mean(x^2) + epsilon) * gamma: of what is centred it is a layer norm."""
    squares = r.emit("Mul", [x, x])
    if r.opset >= 18:
        mean = r.emit("ReduceMean", [squares, r.constant(np.array([-1]))])
    else:
        mean = r.emit("ReduceMean", [squares], axes=[-1])
    root = r.emit("Sqrt", [r.emit("Add", [mean, r.constant(epsilon)])])
    r.emit("Mul", [r.emit("Div", [x, root]), gamma], output)


def _skip_by_root(r: Rewriting, node: Replaced) -> str:
    x = _added(r, node, node.input(3))
    _by_root(r, x, node.input(2), node.attribute("epsilon", 1e-12), node.outputs[0])
    return _FUSED


def _added(r: Rewriting, node: Replaced, bias: str) -> str:
    """Return the sum of the first two inputs and a bias, which may be an output as well."""
    total = node.outputs[3]
    x = r.emit("Add", node.inputs[:2], "" if bias else total)
    return r.emit("Add", [x, bias], total) if bias else x


def _skip_layer_norm(r: Rewriting, node: Replaced) -> str:
    gamma, beta = node.input(2), node.input(3)
    inputs = [_added(r, node, node.input(4)), gamma, *([beta] if beta else [])]
    epsilon = node.attribute("epsilon", 1e-12)
    r.emit("LayerNormalization", inputs, node.outputs[0], axis=-1, epsilon=epsilon)
    return _FUSED


def _no_layer(r: Rewriting, node: Replaced) -> str:
    raise Refused(
        "a part of transformers, for which numlstm has no layer",
        "export the recurrent part of the model by itself",
    )


_NO_LAYERS = (
    "Attention EmbedLayerNormalization GroupQueryAttention MultiHeadAttention QAttention "
    "QEmbedLayerNormalization QOrderedAttention"
)

FUSED: dict[str, Rule] = {
    "FusedMatMul": _matmul,
    "FusedMatMulActivation": _matmul,
    "FusedGemm": _gemm,
    "FusedConv": _conv,
    "BiasGelu": _gelu,
    "Gelu": _gelu,
    "FastGelu": _fast_gelu,
    "QuickGelu": _quick_gelu,
    "LayerNormalization": _layer_norm,
    "SkipLayerNormalization": _skip_layer_norm,
    "SimplifiedLayerNormalization": _root_mean_square,
    "SkipSimplifiedLayerNormalization": _skip_by_root,
    **dict.fromkeys(_NO_LAYERS.split(), _no_layer),
}
