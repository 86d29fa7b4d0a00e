"""The operators of ONNX that slide a window along axes: convolutions and poolings.

A window slides along time, which a layer does; or along axes within a step, samples of a frame for
example, where each of its places is a layer of its own with the same weights.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from numlstm.convert.assembly import Array, Refused
from numlstm.convert.compositions import same_padding, window_pooling
from numlstm.convert.onnx.operators.choices import larger
from numlstm.convert.onnx.operators.elementwise import grown, in_order
from numlstm.convert.onnx.operators.products import linear
from numlstm.convert.onnx.trace import Handler, Op, Trace
from numlstm.convert.onnx.values import Ids, Value, roomy
from numlstm.spec import Conv1d, FrameConv1d

_NOTHING = -1  # in place of the id of a number: what a window reads beside the tensor
_MOST_CUTS = 3  # in what a frame lies in, for it to be read as one
_MOST_PLACES = 256  # of a window within a step, each of which is a layer


@dataclass(frozen=True)
class _Axis:
    """How a window slides along one axis."""

    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int] = (0, 0)
    extra: int = 0  # steps behind all that ceil_mode lets a window begin before

    @property
    def reach(self) -> int:
        return (self.kernel - 1) * self.dilation

    @property
    def rest(self) -> int:
        """How many numbers after the last window no window reads."""
        return (self.size + sum(self.pads) - self.reach - 1) % self.stride

    @property
    def places(self) -> int:
        return (self.size + sum(self.pads) + self.extra - self.reach - 1) // self.stride + 1


def _axes(op: Op, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> list[_Axis]:
    """Return how a window of this kernel slides along the last axes of a tensor."""
    count = len(kernel)
    given = op.attribute("kernel_shape") or list(kernel)
    if list(given) != list(kernel):
        raise Refused(f"kernel_shape {given}, the kernel has {list(kernel)}")
    strides, dilations = (op.attribute(n) or [1] * count for n in ("strides", "dilations"))
    pads = op.attribute("pads") or [0] * (2 * count)
    axes = []
    for n in range(count):
        axis = _Axis(sizes[n], kernel[n], strides[n], dilations[n], (pads[n], pads[n + count]))
        axes.append(replace(axis, pads=_pads(op, axis)))
    return axes


def _pads(op: Op, axis: _Axis) -> tuple[int, int]:
    auto = op.attribute("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        return axis.pads
    if auto == "VALID":
        return 0, 0
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise Refused(f"auto_pad {auto!r}")
    (less, more), _ = same_padding(axis.reach + 1, axis.stride, axis.size)
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def _spread(op: Op, value: Value, axes: list[_Axis], time: int | None) -> Ids:
    """Return (C, *sizes) ids within a step, with nothing around them where a window reads it."""
    ids = value.whole()[0]
    pads = [(0, 0) if n == time else (a.pads[0], a.pads[1] + a.extra) for n, a in enumerate(axes)]
    roomy(op.label, [size + sum(pad) for size, pad in zip(ids.shape[1:], pads, strict=True)])
    return np.pad(ids, [(0, 0), *pads], constant_values=_NOTHING)


def _windows(ids: Ids, axes: list[_Axis]) -> Iterator[tuple[tuple[int, ...], Ids]]:
    """Yield each place of a window, with the (C, *kernel) ids that it reads there."""
    for place in np.ndindex(*(axis.places for axis in axes)):
        parts = [
            slice(p * a.stride, p * a.stride + a.reach + 1, a.dilation)
            for p, a in zip(place, axes, strict=True)
        ]
        yield place, ids[(slice(None), *parts)]


def _check_places(axes: list[_Axis]) -> int:
    count = math.prod(axis.places for axis in axes)
    if not 1 <= count <= _MOST_PLACES:
        raise Refused(
            f"its window has {count} places within a step, expected 1 to {_MOST_PLACES}",
            "make the rows shorter, or the stride longer",
        )
    return count


# Convolutions -------------------------------------------------------------------------------------


def _conv(trace: Trace, op: Op) -> Value:
    value, weight = op.inputs[0], op.floats(1)
    if not isinstance(value, Value):
        raise Refused("its input does not depend on the input of the network")
    rank = weight.ndim - 2
    if rank < 1 or len(value.shape) != weight.ndim or value.whole().shape[0] != 1:
        raise Refused(f"a kernel {weight.shape} for a tensor {value.shape}")
    if value.time == 1:
        raise Refused("time is its axis of channels; a window slides along time or within a step")
    if min(value.pads) < 0:
        value.check_steps()
    bias = op.floats(2) if op.has(2) else None
    axes = _axes(op, value.whole().shape[2:], weight.shape[2:])
    if not value.time and not any(value.pads):
        return _conv_within(trace, op, value, axes, weight, bias)
    return _conv_over_time(trace, op, value, axes, weight, bias)


def _ungrouped(op: Op, weight: Array, channels: int) -> Array:
    """Return a kernel that reads all channels, with zeros for those of other groups."""
    groups = op.attribute("group", 1)
    outputs, each = weight.shape[:2]
    if each * groups != channels or outputs % groups:
        raise Refused(f"a kernel {weight.shape} of {groups} groups for {channels} channels")
    if groups == 1:
        return weight
    whole = np.zeros(roomy(op.label, (outputs, channels, *weight.shape[2:])))
    for n, own in enumerate(np.split(np.arange(outputs), groups)):
        whole[own, n * each : (n + 1) * each] = weight[own]
    return whole


def _conv_within(
    trace: Trace, op: Op, value: Value, axes: list[_Axis], weight: Array, bias: Array | None
) -> Value:
    """Return a convolution along axes within a step: a Linear for each place of its window."""
    count = _check_places(axes)
    ids = _spread(op, value, axes, None)
    weight = _ungrouped(op, weight, len(ids))
    flat = weight.reshape(len(weight), -1)
    row = trace.is_row(value)
    found = np.zeros((len(weight), count), np.int64)
    reads = [read for _, read in _windows(ids, axes)]
    framed = _framed(axes, reads)
    if len(framed):
        found[:, framed] = _frame_conv(trace, op, ids, axes[0], framed, weight, bias, row)
    for n, read in enumerate(reads):
        if n in framed:
            continue
        read = read.ravel()
        own = read != _NOTHING
        found[:, n] = linear(trace, op, read[own], flat[:, own], bias, row).ids
    trace.windows.append((found, axes[-1].stride, axes[-1].rest))
    shape = (1, len(weight), *(axis.places for axis in axes))
    return replace(value, ids=found.reshape(shape[1:] if value.time == 0 else shape))


def _framed(axes: list[_Axis], reads: list[Ids]) -> range:
    """Return the places, side by side, at which a window reads frames that lie end to end.

    Not those that read what is reflected at an edge, for example.
    """
    if len(axes) != 1 or axes[0].dilation != 1:
        return range(0)
    cuts = [int((np.diff(read.T[read.T != _NOTHING]) != 1).sum()) for read in reads]
    whole = [(read == _NOTHING).any(0).sum() == (read == _NOTHING).all(0).sum() for read in reads]
    fits = [few and cut <= _MOST_CUTS for few, cut in zip(whole, cuts, strict=True)]
    best, start = range(0), 0
    for n, fit in enumerate([*fits, False]):
        if not fit:
            best = max(best, range(start, n), key=len)
            start = n + 1
    return best if len(best) > 1 else range(0)


def _frame_conv(
    trace: Trace,
    op: Op,
    ids: Ids,
    axis: _Axis,
    places: range,
    weight: Array,
    bias: Array | None,
    row: bool,
) -> Ids:
    """Return (outputs, places) ids of a convolution over the frames of a step."""
    first = places[0] * axis.stride
    frames = ids[:, first : first + (len(places) - 1) * axis.stride + axis.kernel]
    there = np.flatnonzero((frames != _NOTHING).any(0))
    pads = (int(there[0]), frames.shape[1] - 1 - int(there[-1]))
    source = frames[:, there[0] : there[-1] + 1].T
    outputs, channels, kernel = weight.shape
    layer = FrameConv1d(
        source.size, channels, outputs, kernel, bias is not None, stride=axis.stride, padding=pads
    )
    tensors = {"weight": weight} | ({} if bias is None else {"bias": bias})
    node = trace.layer(op, layer, [source], tensors, row)
    return node.ids.reshape(len(places), outputs).T


def _conv_over_time(
    trace: Trace, op: Op, value: Value, axes: list[_Axis], weight: Array, bias: Array | None
) -> Value:
    """Return a convolution over time: one layer for each place of its window within a step."""
    assert value.time is not None
    at = value.time - 2
    time = axes[at]
    own_pads = op.attribute("auto_pad", "NOTSET") not in ("NOTSET", "", "VALID")
    if own_pads and time.stride > 1:
        raise Refused(
            f"auto_pad {op.attribute('auto_pad')} with stride {time.stride}",
            "give it pads, which do not depend on the length",
        )
    if own_pads:
        time = replace(time, pads=_pads(op, replace(time, size=value.length)))
    pads = (time.pads[0] + value.pads[0], time.pads[1] + value.pads[1])
    padding = None if pads == (time.reach, 0) else pads
    length = (value.length + sum(pads) - time.reach - 1) // time.stride + 1
    axes = [*axes[:at], _Axis(1, 1), *axes[at + 1 :]]
    count = _check_places(axes)
    ids = _spread(op, value, axes, at)
    groups = op.attribute("group", 1) if ids.size == len(ids) == count * len(ids) else 1
    weight = weight if groups > 1 else _ungrouped(op, weight, len(ids))
    kernel = np.moveaxis(weight, at + 2, -1).reshape(len(weight), -1, time.kernel)
    found = np.zeros((len(weight), count), np.int64)
    tensors = {} if bias is None else {"bias": bias}
    for n, (_, read) in enumerate(_windows(ids, axes)):
        read = read.ravel()
        own = np.flatnonzero(read != _NOTHING)
        taken = kernel if groups > 1 else kernel[:, own]
        if (time.kernel, time.stride, groups, pads) == (1, 1, 1, (0, 0)):
            found[:, n] = linear(trace, op, read[own], taken[:, :, 0], bias).ids
            continue
        sizes = (len(own), len(weight), time.kernel, bias is not None)
        layer = Conv1d(*sizes, padding=padding, groups=groups)
        layer = replace(layer, dilation=time.dilation, stride=time.stride)
        found[:, n] = trace.layer(op, layer, [read[own]], {"weight": taken, **tensors}).ids
    places = [axis.places for axis in axes]
    shape = (1, len(weight), *places[:at], *places[at + 1 :])
    return Value(found.reshape(shape), value.time, length)


# Poolings -----------------------------------------------------------------------------------------


def _pool(trace: Trace, op: Op) -> Value:
    value = op.value()
    kernel = tuple(op.attribute("kernel_shape") or ())
    if len(value.shape) != len(kernel) + 2 or value.whole().shape[0] != 1 or value.time == 1:
        raise Refused(f"a window {kernel} for a tensor {value.shape}")
    if len([name for name in op.proto.output if name]) > 1:
        raise Refused(
            "its indices are read, which no layer gives", "export it with return_indices=False"
        )
    axes = _axes(op, value.whole().shape[2:], kernel)
    at = None if value.time is None or value.time == 0 else value.time - 2
    if at is not None:
        return _pooled_steps(trace, op, value, axes, at)
    if op.attribute("ceil_mode", 0):
        axes = [replace(a, extra=(a.stride - a.rest) % a.stride) for a in axes]
    _check_places(axes)
    windows = [read for _, read in _windows(_spread(op, value, axes, at), axes)]
    reads = np.stack([read.reshape(len(read), -1) for read in windows], 1)  # (C, places, taps)
    roomy(op.label, reads.shape)
    shape = (len(reads), *(axis.places for axis in axes))
    shape = shape if value.time == 0 else (1, *shape)
    if op.kind == "MaxPool":
        first = reads.max(2)  # any that is there
        every = np.where(reads == _NOTHING, first[:, :, None], reads)
        ids = every[:, :, 0].ravel()
        for n in range(1, every.shape[2]):
            ids = larger(trace, op, ids, every[:, :, n].ravel(), row=trace.is_row(value))
        return replace(value, ids=ids.reshape(shape))
    return replace(value, ids=_averages(trace, op, value, reads).reshape(shape))


def _pooled_steps(trace: Trace, op: Op, value: Value, axes: list[_Axis], at: int) -> Value:
    """Return a pooling over windows of steps."""
    time = axes[at]
    if any(axis.kernel > 1 or axis.stride > 1 for n, axis in enumerate(axes) if n != at):
        raise Refused(
            "its windows are of steps and of numbers of a step at once",
            "pool over time and over the numbers of a step by a layer each",
        )
    if time.dilation > 1:
        raise Refused(f"dilation {time.dilation} of a window of steps", "a dilation of 1")
    mode = "max" if op.kind == "MaxPool" else "mean"
    pads, ceil = time.pads, bool(op.attribute("ceil_mode", 0))
    auto = op.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads, ceil = same_padding(time.kernel, time.stride)
        pads = pads[::-1] if auto == "SAME_LOWER" else pads
    (ids,), places = in_order(value.ids)
    found: Ids = window_pooling(
        grown(trace, op), ids, ids.size, time.kernel, mode,
        stride=time.stride, padding=pads, ceil_mode=ceil,
        counts_padding=bool(op.attribute("count_include_pad", 0)),
    )  # fmt: skip
    reached = value.length + sum(pads) - time.kernel
    length = (-(-reached // time.stride) if ceil else reached // time.stride) + 1
    return Value(found[places].reshape(value.ids.shape), value.time, length)


def _averages(trace: Trace, op: Op, value: Value, reads: Ids) -> Ids:
    """Return the mean of each window of reads (C, places, taps), as one matrix."""
    rows = reads.reshape(-1, reads.shape[2])
    there = rows != _NOTHING
    counts = there.sum(1) if not op.attribute("count_include_pad", 0) else rows.shape[1]
    read = np.unique(rows[there])
    matrix = np.zeros(roomy(op.label, (len(rows), len(read))))
    at = np.searchsorted(read, rows)
    for n in range(rows.shape[1]):
        own = np.flatnonzero(there[:, n])
        matrix[own, at[own, n]] += 1.0
    weight = matrix / np.reshape(counts, (-1, 1))
    return linear(trace, op, read, weight, row=trace.is_row(value)).ids


WINDOWS: dict[str, Handler] = {
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
}
