"""Keras layers over time that read some steps at once, or give other steps than they read."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from numlstm import spec
from numlstm.budget import spend
from numlstm.convert.assembly import Misfit, Refused
from numlstm.convert.compositions import same_padding
from numlstm.convert.keras.call import SEQUENCE, Call, Value
from numlstm.convert.keras.options import Options, function_of


def sequence_of(call: Call) -> Value:
    """Return the only input, a sequence all of whose steps count."""
    value = call.one(SEQUENCE)
    if value.masked:
        raise Misfit("reads a sequence with a mask, which it would not heed")
    return value


def _pads(padding: str, reach: int, stride: int, steps: int | None) -> tuple[int, int] | None:
    """Return the steps of padding before and after; None of all before.

    reach   how many steps before the newest one a window has

    Of "same", TensorFlow gives as many as the last window needs, the larger half of them after.
    """
    if padding == "causal":
        return None
    if padding == "valid":
        return 0, 0
    if padding != "same":
        raise Refused(f"padding={padding!r}, expected 'valid', 'same' or 'causal'")
    if stride == 1:
        return reach // 2, reach - reach // 2
    if steps is None:
        raise Refused(
            "padding='same' with strides, which depends on the length of the sequence",
            "name the length in the shape of the input",
        )
    return same_padding(reach + 1, stride, steps)[0]


def _steps(value: Value, reach: int, stride: int, pads: tuple[int, int] | None) -> int | None:
    """Return how many steps a window gives, where that is known."""
    if value.steps is None:
        return None
    return (value.steps + (reach if pads is None else sum(pads)) - reach - 1) // stride + 1


def _expect_last_channels(options: Options) -> None:
    options.expect("data_format", "channels_last", None)


def conv(call: Call) -> Value:
    """Conv1D, and what Keras 1 called it."""
    options = call.options
    size = options.size("filters", "nb_filter")
    length = options.size("kernel_size", "filter_length")
    bias = options.flag("use_bias", "bias", default=True)
    function = function_of(options.take("activation"), call.major)
    stride = options.size("strides", "subsample_length", default=1)
    dilation = options.size("dilation_rate", "atrous_rate", default=1)
    groups = options.size("groups", default=1)
    padding = options.take("padding", "border_mode", default="valid")
    _expect_last_channels(options)
    options.end()
    value = sequence_of(call)
    reach = (length - 1) * dilation
    pads = _pads(padding, reach, stride, value.steps)
    found = call.weighted(
        spec.Conv1d, value, function, value.size, size, length, bias,
        dilation=dilation, stride=stride, groups=groups, padding=pads,
    )  # fmt: skip
    return replace(found, steps=_steps(value, reach, stride, pads))


def pooling(mode: str) -> Callable[[Call], Value]:
    """MaxPooling1D, AveragePooling1D."""

    def pool(call: Call) -> Value:
        options = call.options
        length = options.size("pool_size", "pool_length", default=2)
        stride = options.size("strides", "stride", default=length)
        padding = options.take("padding", "border_mode", default="valid")
        _expect_last_channels(options)
        options.end()
        value = sequence_of(call)
        pads, whole = (
            same_padding(length, stride, value.steps)
            if padding == "same"
            else (_pads(padding, length - 1, stride, value.steps), False)
        )
        layer = call.add(
            spec.Pool1d, value.size, length, mode,
            reads=[value], stride=stride, padding=pads, ceil_mode=whole,
        )  # fmt: skip
        return call.then(value, layer, steps=_steps(value, length - 1, stride, pads))

    return pool


def global_pooling(mode: str) -> Callable[[Call], Value]:
    """GlobalAveragePooling1D, GlobalMaxPooling1D."""

    def pool(call: Call) -> Value:
        options = call.options
        _expect_last_channels(options)
        keeps = options.flag("keepdims")
        options.end()
        return pooled(call, mode, keeps)

    return pool


def pooled(call: Call, mode: str, keeps: bool = False) -> Value:
    """Pool a sequence over time, or what a step has several rows of."""
    value = call.any_one()
    if value.table:
        return _over_table(call, value, mode)
    value = call.one(SEQUENCE)
    if value.masked and mode != "mean":
        raise Misfit("reads a sequence with a mask, which it would not heed")
    found = call.whole(value, call.add(spec.Pooling, value.size, mode, reads=[value]))
    return replace(found, table=1) if keeps else found


def _over_table(call: Call, value: Value, mode: str) -> Value:
    """Return the mean or sum of the rows that a step has."""
    if mode not in ("mean", "sum") or value.ids:
        raise Misfit(f"reads {value.described} for each step", "only their mean and sum are known")
    size, count = value.size // value.table, value.table
    spend(f"the weights of {call.name}", 8 * size * value.size, size * value.size)
    weight = np.tile(np.eye(size, dtype=np.float32), count) / (count if mode == "mean" else 1)
    tensors = {"weight": weight.astype(np.float32)}
    layer = call.add(spec.Linear, value.size, size, False, reads=[value], tensors=tensors)
    return call.then(value, layer, table=0)


# Steps that are cut off or put before and after ---------------------------------------------------


def _pair(options: Options, name: str) -> tuple[int, int]:
    """Return an option that says how many steps at the start and at the end."""
    value = options.take(name, default=1)
    pair = [value, value] if type(value) is int else value
    if not isinstance(pair, list) or len(pair) not in (1, 2):
        raise Refused(f"{name}={value!r}, expected two whole numbers")
    pair = pair * 2 if len(pair) == 1 else pair
    if not all(type(n) is int and n >= 0 for n in pair):
        raise Refused(f"{name}={value!r}, expected two whole numbers from 0")
    return pair[0], pair[1]


def _shifted(call: Call, value: Value, reach: int, tap: int, pads: tuple[int, int]) -> Value:
    """Return the steps as they are, but others: a convolution with a single 1.

    tap   which step of the window, from its oldest, is given
    """
    spend(f"the weights of {call.name}", 4 * value.size * (reach + 1), value.size * (reach + 1))
    weight = np.zeros((value.size, 1, reach + 1), np.float32)
    weight[:, :, tap] = 1.0
    layer = call.add(
        spec.Conv1d, value.size, value.size, reach + 1, False,
        reads=[value], tensors={"weight": weight}, groups=value.size, padding=pads,
    )  # fmt: skip
    return call.then(value, layer, steps=_steps(value, reach, 1, pads))


def cropped(call: Call, value: Value, start: int, end: int) -> Value:
    """Return a sequence without some steps at its start and its end."""
    if value.steps is not None and start + end >= value.steps:
        raise Misfit(f"leaves no steps of {value.steps}")
    if start == end == 0:
        return value
    return _shifted(call, value, start + end, start, (0, 0))


def cropping(call: Call) -> Value:
    """Cropping1D."""
    options = call.options
    start, end = _pair(options, "cropping")
    options.end()
    return cropped(call, sequence_of(call), start, end)


def zero_padding(call: Call) -> Value:
    """ZeroPadding1D."""
    options = call.options
    before, after = _pair(options, "padding")
    _expect_last_channels(options)
    options.end()
    value = sequence_of(call)
    if before == after == 0:
        return value
    reach = before + after
    return _shifted(call, value, reach, reach - before, (reach, reach))
