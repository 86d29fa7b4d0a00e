"""A graph in float32 and in operators of ONNX: what halves, quantised and fused nodes stand for.

float16, bfloat16 and float64 become float32. A node that computes with rounded numbers becomes one
of the numbers before they were rounded: its weights stay what the file holds, and activations are
clipped to the range of their 8 bits, not rounded. So the graph that the network is read from, and
held to, has the weights of the file and float32 between them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from numlstm.budget import spend
from numlstm.convert.onnx.rounding.fused import FUSED
from numlstm.convert.onnx.rounding.quantized import QUANTIZED
from numlstm.convert.onnx.rounding.rewriting import OF_TYPES, OTHERS, Rewriting, Rule


@dataclass(frozen=True)
class Plain:
    """A graph in float32.

    model   itself, where there was nothing to do
    kinds   what the file was before: "float16", "rounded to 8 bits", ...; none of plain float32
    """

    model: onnx.ModelProto
    kinds: tuple[str, ...] = ()


def in_float32(model: onnx.ModelProto, opset: int, clips: bool = True) -> Plain:
    """Return a model in float32; activations end where their integers do, unless `clips` is off.

    Raises
    ------
    WeightsError
        Lists the nodes that cannot be replaced.
    """
    rules = QUANTIZED | FUSED
    if not _has_others(model.graph, rules):
        return Plain(model)
    spend("the graph in float32", model.ByteSize(), model.ByteSize())
    rewriting = Rewriting(model.graph, opset, rules, clips)
    graph = rewriting.run()
    rewriting.refusals.check()
    found = onnx.ModelProto()
    found.CopyFrom(model)
    found.graph.CopyFrom(graph)
    return Plain(found, tuple(rewriting.kinds))


def _has_others(graph: onnx.GraphProto, rules: Mapping[str, Rule]) -> bool:
    typed = [tensor.data_type for tensor in graph.initializer]
    typed += [info.type.tensor_type.elem_type for info in (*graph.input, *graph.output)]
    return any(kind in OTHERS for kind in typed) or any(
        node.op_type in rules or any(_is_other(a, rules) for a in node.attribute)
        for node in graph.node
    )


def _is_other(attribute: onnx.AttributeProto, rules: Mapping[str, Rule]) -> bool:
    if attribute.HasField("g"):
        return _has_others(attribute.g, rules)
    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    kind = attribute.t.data_type if attribute.HasField("t") else attribute.i
    return kind in halves and (attribute.HasField("t") or attribute.name in OF_TYPES)
