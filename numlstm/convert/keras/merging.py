"""Keras layers and operations of several inputs: joined, added, multiplied, attended to."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from numlstm import spec
from numlstm.budget import spend
from numlstm.convert.assembly import Misfit, Refused
from numlstm.convert.compositions import divided_by_norm, spread, total
from numlstm.convert.keras.call import SEQUENCE, STATE, TOKENS, VECTOR, Call, Value
from numlstm.convert.keras.config import class_of, config_of

# Inputs that go together --------------------------------------------------------------------------


def _together(call: Call) -> Value:
    """Return what the inputs are together, after a look at whether they go so."""
    first, *others = call.inputs
    if not others:
        raise Misfit("reads one input, expected several")
    if first.kind in (TOKENS, STATE):
        raise Misfit(f"joins {first.described}")
    for value in others:
        same = (first.kind, first.table, first.flat) == (value.kind, value.table, value.flat)
        if not same or value.masked != first.masked or value.ids:
            raise Misfit(f"joins {first.described} and {value.described}", _how_to_join(call))
        if None not in (value.steps, first.steps) and value.steps != first.steps:
            raise Misfit(f"joins sequences of {first.steps} and {value.steps} steps")
    return replace(
        first,
        steps=next((value.steps for value in call.inputs if value.steps is not None), None),
        holds=all(value.holds for value in call.inputs),
        mixed=first.masked and len({value.holds for value in call.inputs}) > 1,
        fixed=all(value.fixed for value in call.inputs),
    )


def _how_to_join(call: Call) -> str:
    kinds = {value.kind for value in call.inputs}
    if kinds == {SEQUENCE, VECTOR}:
        return "repeat the vector in every step (RepeatVector), or pool the sequence"
    return ""


def concatenate(call: Call) -> Value:
    """Concatenate, over the features."""
    options = call.options
    axis = options.take("axis", "concat_axis", default=-1)
    options.end()
    value = _together(call)
    if value.table > 1 or axis not in (-1, value.axis):
        raise Refused(f"axis={axis!r} of {value.described}, expected that of the features")
    size = sum(v.size for v in call.inputs)
    return call.then(value, call.add(spec.Concat, size, reads=call.inputs))


def of_one_size(call: Call) -> Value:
    """Widen the inputs that have one number for each step to the size of the others."""
    size = max(value.size for value in call.inputs)
    call.inputs = [_widened(call, value, size) for value in call.inputs]
    value = _together(call)
    others = {v.size for v in call.inputs}
    if len(others) > 1:
        raise Misfit(f"joins {' and '.join(map(str, sorted(others)))} features")
    return value


def _widened(call: Call, value: Value, size: int) -> Value:
    if value.size != 1 or size == 1 or value.kind == TOKENS or value.table or value.ids:
        return value
    return call.then(value, spread(call.grow, value.draft, 1, size))


def added(call: Call) -> Value:
    """Add."""
    value = of_one_size(call)
    return call.then(value, call.add(spec.Add, value.size, reads=call.inputs))


def multiplied(call: Call) -> Value:
    """Multiply."""
    value = of_one_size(call)
    return call.then(value, call.add(spec.Multiply, value.size, reads=call.inputs))


def averaged(call: Call) -> Value:
    """Average."""
    return call.affine(added(call), 1 / len(call.inputs))


def subtracted(call: Call) -> Value:
    """Subtract: the first without the second."""
    if len(call.inputs) == 2:
        call.inputs[1] = call.affine(call.inputs[1], -1.0)
    return added(call)


def largest(call: Call) -> Value:
    """Maximum: a + relu(b - a), of more than two one after the other."""
    value = of_one_size(call)
    first, *others = call.inputs
    for other in others:
        more = call.function(_sum(call, other, call.affine(first, -1.0)), "relu")
        first = _sum(call, first, more)
    return replace(value, draft=first.draft)


def _sum(call: Call, *values: Value) -> Value:
    return call.then(values[0], call.add(spec.Add, values[0].size, reads=values))


def smallest(call: Call) -> Value:
    """Minimum: the largest of what is negative, negated."""
    call.inputs = [call.affine(value, -1.0) for value in call.inputs]
    return call.affine(largest(call), -1.0)


def plain(join: Callable[[Call], Value]) -> Callable[[Call], Value]:
    """Return a join as a layer without options."""

    def layer(call: Call) -> Value:
        call.options.end()
        return join(call)

    return layer


def dot(call: Call) -> Value:
    """Dot of two vectors."""
    options = call.options
    axes, normalize = options.take("axes"), options.flag("normalize")
    options.end()
    if {value.kind for value in call.inputs} != {VECTOR} or any(v.table for v in call.inputs):
        kinds = " and ".join(value.described for value in call.inputs)
        raise Misfit(f"a product of {kinds}, expected two vectors", "Attention is known")
    if axes not in (1, -1, [1, 1], [-1, -1]):
        raise Refused(f"axes={axes!r}, expected 1")
    if normalize:
        call.inputs = [unit(call, value) for value in call.inputs]
    return summed(call, multiplied(call))


def summed(call: Call, value: Value) -> Value:
    """Return the sum over the features of each step."""
    return call.then(value, total(call.grow, value.draft, value.size))


def unit(call: Call, value: Value) -> Value:
    """Return features divided by the root of the sum of their squares, which is 1e-12 at least."""
    return call.then(value, divided_by_norm(call.grow, value.draft, value.size, least=1e-6))


# Attention ----------------------------------------------------------------------------------------


def _is_query(value: Value) -> bool:
    """Tell whether a value is a sequence, or the only row of one."""
    return value.kind == SEQUENCE or (value.kind == VECTOR and value.table == 1 and not value.fixed)


def attention(call: Call) -> Value:
    """Attention and AdditiveAttention: [query, value], two sequences."""
    options = call.options
    additive = class_of(call.item) == "AdditiveAttention"
    use_scale = options.flag("use_scale", default=additive)
    additive = options.take("score_mode", default="dot") == "concat" or additive
    options.take("causal")
    options.end()
    if config_of(call.item).get("causal"):
        raise Refused("causal=True")
    if len(call.inputs) == 3 and call.inputs[2] == call.inputs[1]:
        call.inputs.pop()
    if len(call.inputs) != 2 or not _is_query(call.inputs[0]) or call.inputs[1].kind != SEQUENCE:
        kinds = " and ".join(value.described for value in call.inputs)
        raise Misfit(f"reads {kinds}, expected [query, value], two sequences")
    query, value = call.inputs
    own = [float(np.squeeze(a)) if a.size == 1 else np.asarray(a, np.float32) for a in call.own]
    memory = value
    if value.draft is None:  # a memory is what a layer gives
        memory = call.then(value, call.add(spec.Concat, value.size, reads=[value]))
    size = query.size
    if not additive:
        given: dict[str, Any] = {"scale": own[0]} if use_scale and own else {}
        layer = call.add(
            spec.Attention, size, value.size, "dot", memory=memory.draft, reads=[query], **given
        )
        return call.then(query, layer)
    is_concat = class_of(call.item) == "Attention"
    spend(f"the weights of {call.name}", 3 * 8 * size**2, size**2)
    scale = np.ones(size, np.float32) * (own[0] if use_scale and own else 1.0)
    score = np.ones(size, np.float32) * (own[-1] if is_concat and own else 1.0)
    # Of "concat" the scale is within the tanh, of AdditiveAttention it weighs what comes out.
    inside, outside = (scale, score) if is_concat else (np.ones_like(scale), scale)
    tensors = {
        "weight_query": np.diag(inside).astype(np.float32),
        "weight_memory": np.diag(inside).astype(np.float32),
        "bias": np.zeros(size, np.float32),
        "weight_score": np.asarray(outside, np.float32),
    }
    layer = call.add(
        spec.Attention,
        size,
        value.size,
        "additive",
        memory=memory.draft,
        size=size,
        reads=[query],
        tensors=tensors,
    )
    return call.then(query, layer)
