"""What weighs the steps of a sequence by a softmax over all of them: attention that pools.

The weights of steps are known when the last step is; what is summed with them is an
`AttentionPooling`, which a stream keeps up with. So they are read by a sum over the steps alone.
"""

from dataclasses import replace

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.trace import Node, Op, Trace
from numlstm.convert.onnx.values import Ids, Value, roomy
from numlstm.spec import AttentionPooling

STEPS_MEET_STEPS = (
    "each step of one tensor meets each of the other, as where every step attends to all",
    "export what stands in front of it as a graph of its own, and compute the rest from its rows",
)

_WEIGHTS, _WEIGHED = "weights", "weighed"


def weights_of_steps(trace: Trace, op: Op, value: Value) -> Value:
    """Return the softmax over time of each number."""
    node = trace.add("weights", value.ids.size, op.label, note=(_WEIGHTS, value.ids.ravel()))
    return replace(value, ids=node.ids.reshape(value.ids.shape))


def _of_weights(trace: Trace, ids: Ids) -> tuple[Node, Ids] | None:
    """Return the weights that some numbers are, and the scores that they are of."""
    (node, *others) = trace.owners(ids)
    if others or node.note[:1] != (_WEIGHTS,):
        return None
    return node, node.note[1][ids.ravel() - node.start].reshape(ids.shape)


def weighed(trace: Trace, op: Op, left: Value, right: Value) -> Value | None:
    """Return the product of weights of steps and numbers of a step, if one of both is weights."""
    for weights, value in ((left, right), (right, left)):
        found = _of_weights(trace, weights.ids) if weights.ids.size else None
        if found is None or value.time is None or value.length != weights.length:
            continue
        rank = max(len(weights.shape), len(value.shape))
        both = [v.widened(rank) for v in (replace(weights, ids=found[1]), value)]
        (first, time), (second, other_time) = both
        if time != other_time:
            raise Refused(*STEPS_MEET_STEPS)
        roomy(op.label, np.broadcast_shapes(first.shape, second.shape))
        scores, numbers = np.broadcast_arrays(first, second)
        note = (_WEIGHED, scores.ravel(), numbers.ravel())
        node = trace.add("weights", scores.size, op.label, note=note)
        return value.moved(node.ids.reshape(scores.shape), time)
    return None


def summed_steps(trace: Trace, op: Op, value: Value) -> Value | None:
    """Return the sum over time of what is weighed, if it is, without the axis of time."""
    nodes = trace.owners(value.ids)
    if len(nodes) != 1 or nodes[0].note[:1] != (_WEIGHED,):
        return None
    at = value.ids.ravel() - nodes[0].start
    scores, numbers = nodes[0].note[1][at], nodes[0].note[2][at]
    found = np.zeros(at.size, np.int64)
    for score in np.unique(scores):
        own = scores == score
        found[own] = _pooled(trace, op, int(score), numbers[own])
    return Value(found.reshape(value.ids.shape), None)


def _pooled(trace: Trace, op: Op, score: int, numbers: Ids) -> Ids:
    """Return the mean of numbers, each step weighed by the exponential of its score."""
    layer = AttentionPooling(1 + numbers.size)
    weight = np.zeros(layer.input_size)
    weight[0] = 1.0
    source = np.concatenate([[score], numbers])
    return trace.layer(op, layer, [source], {"weight": weight}, row=True).ids[1:]


def summed_product(trace: Trace, op: Op, left: Value, right: Value) -> Value | None:
    """Return a product (.., k, T) @ (.., T, n) of weights of steps and numbers, if it is one."""
    last = len(left.shape) - 1
    if left.time != last or right.time != len(right.shape) - 2 or left.length != right.length:
        return None
    found = _of_weights(trace, left.ids)
    if found is None or right.whole().shape[:-2] not in ((), (1,) * (len(right.shape) - 2)):
        return None
    scores = found[1]  # (.., k)
    numbers = right.ids.ravel()
    rows = [_pooled(trace, op, int(score), numbers) for score in scores.ravel()]
    return Value(np.stack(rows).reshape((*scores.shape, numbers.size)), None)
