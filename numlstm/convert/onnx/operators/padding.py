"""Padding in ONNX: steps of zeros, which a convolution reads; any numbers within a step."""

from dataclasses import replace

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.operators.shapes import axis_of
from numlstm.convert.onnx.trace import Handler, Op, Trace
from numlstm.convert.onnx.values import Value, roomy


def _pad(trace: Trace, op: Op) -> Value:
    value = op.value()
    pads = op.ints(1, "pads") or []
    rank = len(value.shape)
    axes = op.ints(3, "") if op.has(3) else list(range(rank))
    assert axes is not None
    if len(pads) != 2 * len(axes):
        raise Refused(f"{len(pads)} pads for {len(axes)} axes")
    by_axis = {
        axis_of(value, a): (b, c)
        for a, b, c in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True)
    }
    at_time = by_axis.pop(-1 if value.time is None else value.time, (0, 0))
    mode = op.attribute("mode", "constant")
    fill = float(op.constant(2).ravel()[0]) if op.has(2) else float(op.attribute("value", 0.0))
    if any(at_time):
        _check_padded_steps(at_time, mode, fill)
    if any(any(pad) for pad in by_axis.values()):
        value = _padded(trace, op, value, by_axis, mode, fill)
    return replace(value, pads=at_time)


def _check_padded_steps(pads: tuple[int, int], mode: str, fill: float) -> None:
    if min(pads) < 0:
        raise Refused(
            f"it drops {[-n for n in pads if n < 0]} steps at an end, which no layer does",
            "leave them in, and drop their answers",
        )
    if mode != "constant":
        raise Refused(
            f"mode {mode!r} over time: it repeats steps, which a stream has not read yet",
            "pad with zeros, or give the network the sequence with its steps repeated",
        )
    if fill != 0.0:
        raise Refused(
            f"it pads steps with {fill:g}: a convolution is padded with zeros",
            "subtract that number before, and pad with zeros",
        )


def _padded(
    trace: Trace,
    op: Op,
    value: Value,
    by_axis: dict[int, tuple[int, int]],
    mode: str,
    fill: float,
) -> Value:
    """Return a tensor with more numbers within a step: those that it has again, or a constant."""
    ids = value.whole()
    cut = [by_axis.get(n, (0, 0)) for n in range(ids.ndim)]
    parts = tuple(
        slice(max(-b, 0), n - max(-c, 0)) for n, (b, c) in zip(ids.shape, cut, strict=True)
    )
    ids = ids[parts]
    pads = [(max(b, 0), max(c, 0)) for b, c in cut]
    roomy(op.label, [size + sum(pad) for size, pad in zip(ids.shape, pads, strict=True)])
    if mode == "constant":
        constant = trace.constant(op, np.array([fill])).ids[0]
        return value.moved(np.pad(ids, pads, constant_values=constant), value.time)
    if mode not in ("reflect", "edge", "wrap"):
        raise Refused(f"mode {mode!r}, known: constant, reflect, edge, wrap")
    most = {"reflect": -1, "wrap": 0}.get(mode)
    for size, pad in zip(ids.shape, pads, strict=True):
        if most is not None and max(pad) > size + most:
            raise Refused(f"mode {mode!r} with {max(pad)} of {size} numbers")
    return value.moved(np.pad(ids, pads, mode=mode), value.time)  # type: ignore[call-overload]


PADDING: dict[str, Handler] = {"Pad": _pad}
