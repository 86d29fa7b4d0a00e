"""The layers that do not recur as operations: a function each, and its row in `LAYERS`."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from numlstm import spec
from numlstm.budget import spend
from numlstm.kernels import plan as columns
from numlstm.kernels.packing import pad_rows, padded
from numlstm.kernels.plan import LANES
from numlstm.network.functions import LARGEST
from numlstm.program.builder import MEMORY, Builder, Operation, Own, Place
from numlstm.program.program import Floats
from numlstm.quantize import Matrix


def _linear(builder: Builder, layer: spec.Linear, own: Own, x: Place) -> Place:
    return _matrix(builder, layer, own.matrix("weight"), own, x)


def _matrix(
    builder: Builder, layer: spec.Linear | spec.Conv1d, weight: Matrix, own: Own, x: Place
) -> Place:
    bias = own["bias"] if layer.bias else np.zeros(layer.output_size, np.float32)
    y = builder.linear(x, weight.arranged(pad_rows), pad_rows(bias), layer.activations)
    y = y.part(0, layer.output_size)
    return y if layer.activation is None else builder.activation(y, layer.activation, y)


def _conv1d(builder: Builder, layer: spec.Conv1d, own: Own, x: Place) -> Place:
    """Add a window of the steps that the kernel reads, and a matrix of it."""
    taps, each = layer.kernel_size, layer.input_size // layer.groups
    given = own.matrix("weight")
    shape = (layer.output_size, taps, layer.input_size)
    spend(f"{own.prefix} with zeros between its groups", memory=4 * prod(shape))
    numbers = np.zeros(shape, given.numbers.dtype)
    of_group = layer.output_size // layer.groups
    parts = [
        (slice(group * of_group, (group + 1) * of_group), slice(group * each, (group + 1) * each))
        for group in range(layer.groups)
    ]
    for outs, ins in parts:
        numbers[outs, :, ins] = given.numbers[outs].transpose(0, 2, 1)

    def back(rows: Floats) -> Floats:
        """Return (output_size, input_size / groups, kernel_size) of rows (output_size, ...)."""
        windows = rows.reshape(-1, taps, layer.input_size)
        return np.concatenate([windows[outs, :, ins].transpose(0, 2, 1) for outs, ins in parts])

    weight = replace(given, numbers=numbers.reshape(layer.output_size, -1), back=back)
    return _matrix(builder, layer, weight, own, _window(builder, x, taps, layer.dilation))


def _window(builder: Builder, x: Place, taps: int, dilation: int = 1, before: float = 0.0) -> Place:
    """Add the last steps of x, so far apart, end to end; `before` are the numbers before any."""
    if taps == 1:
        return x
    kept = builder.keep((taps - 1) * dilation * padded(x.size), before)
    window = builder.buffer(taps * x.size, LANES - 1)
    return builder.append(
        Operation(columns.WINDOW, x, window, h_at=kept.at, taps=taps, dilation=dilation)
    )


def _pool1d(builder: Builder, layer: spec.Pool1d, own: Own, x: Place) -> Place:
    """Add a window of steps, and what is gathered of it."""
    taps = layer.kernel_size
    if taps == 1:
        return x
    window = _window(builder, x, taps, before=-LARGEST if layer.mode == "max" else 0.0)
    y = builder.buffer(layer.input_size)
    if layer.mode != "mean":
        kind = columns.WINDOW_MAX if layer.mode == "max" else columns.WINDOW_SUM
        return builder.append(Operation(kind, window, y, taps=taps))
    count_at = builder.keep_counter()
    return builder.append(Operation(columns.WINDOW_MEAN, window, y, taps=taps, count_at=count_at))


def _flatten(builder: Builder, layer: spec.Flatten, own: Own, x: Place) -> Place:
    return _window(builder, x, layer.num_steps)


def _frame_conv1d(builder: Builder, layer: spec.FrameConv1d, own: Own, x: Place) -> Place:
    """Add a product for each frame that it gives; those of as many taps share their weights.

    At the ends the taps that read padding are left out: their products are zeros.
    """
    taps, channels, size = layer.kernel_size, layer.in_channels, layer.out_channels
    given = own.matrix("weight")
    numbers = given.numbers.transpose(0, 2, 1).reshape(size, -1)

    def back(rows: Floats) -> Floats:
        """Return (out_channels, in_channels, kernel_size) of rows (out_channels, ...)."""
        return rows.reshape(-1, taps, channels).transpose(0, 2, 1)

    whole = replace(given, numbers=numbers, back=back).arranged(pad_rows)
    bias = pad_rows(own["bias"] if layer.bias else np.zeros(size, np.float32))
    num_frames = layer.input_size // channels
    y = builder.buffer(layer.output_size, LANES - 1)
    made: dict[tuple[int, int], Operation] = {}
    for n, start in enumerate(layer.starts):
        part = max(0, -start), min(taps, num_frames - start)
        frame = x.part((start + part[0]) * channels, (part[1] - part[0]) * channels)
        # What is written beyond a frame belongs to the next one, which is written later.
        place = y.part(n * size, padded(size))
        if part in made:
            builder.again(made[part], frame, place)
            continue
        weight = whole if part == (0, taps) else _some_taps(whole, part, channels)
        builder.linear(frame, weight, bias, layer.activations, y=place)
        made[part] = builder.operations[-1]
    return y if layer.activation is None else builder.activation(y, layer.activation, y)


def _some_taps(whole: Matrix, part: tuple[int, int], channels: int) -> Matrix:
    """Return the columns of some taps of a kernel, which are no tensor of their own."""
    numbers = whole.numbers[:, part[0] * channels : part[1] * channels]
    return replace(whole, numbers=np.ascontiguousarray(numbers), name="", back=None)


def _activation(builder: Builder, layer: spec.Activation, own: Own, x: Place) -> Place:
    return builder.activation(x, layer.function)


def _softmax(builder: Builder, layer: spec.Layer, own: Own, x: Place) -> Place:
    kind = columns.SOFTMAX if isinstance(layer, spec.Softmax) else columns.LOG_SOFTMAX
    return builder.append(Operation(kind, x, builder.buffer(x.size)))


def _layer_norm(builder: Builder, layer: spec.LayerNorm, own: Own, x: Place) -> Place:
    size = layer.input_size
    return builder.append(
        Operation(
            columns.LAYER_NORM, x, builder.buffer(size),
            w_at=builder.param(own.get("weight", np.ones(size, np.float32))),
            b_at=builder.param(own.get("bias", np.zeros(size, np.float32))),
            alpha_at=builder.parameters(layer.eps),
        )
    )  # fmt: skip


def _batch_norm(builder: Builder, layer: spec.BatchNorm, own: Own, x: Place) -> Place:
    """Add the statistics of training, weight and bias as one factor and one shift."""
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    variance = own["running_var"].astype(np.float64)
    factor = own.get("weight", one) / np.sqrt(variance + layer.eps)
    shift = own.get("bias", zero) - own["running_mean"].astype(np.float64) * factor
    w_at = builder.made(factor.astype(np.float32))
    b_at = builder.made(shift.astype(np.float32))
    return builder.append(Operation(columns.SCALE, x, builder.buffer(x.size), w_at=w_at, b_at=b_at))


def _pooling(builder: Builder, layer: spec.Pooling, own: Own, x: Place) -> Place:
    size = layer.input_size
    if layer.mode == "last":  # so far
        return x
    y = builder.buffer(size)
    if layer.mode == "max":
        return builder.append(Operation(columns.MAX, x, y, h_at=builder.keep(size, -np.inf).at))
    kind = columns.MEAN if layer.mode == "mean" else columns.SUM
    total, excess = builder.keep(size), builder.keep(size)
    return builder.append(
        Operation(kind, x, y, h_at=total.at, c_at=excess.at, count_at=builder.keep_counter())
    )


def _attention_pooling(builder: Builder, layer: spec.AttentionPooling, own: Own, x: Place) -> Place:
    mean = builder.keep(layer.input_size)
    largest = builder.keep(LANES, -np.inf)  # the largest score,
    builder.keep(LANES)  # the sum behind it, and what rounding has added too much to both sums
    builder.keep(LANES)
    builder.keep(layer.input_size)
    return builder.append(
        Operation(
            columns.ATTENTION_POOL, x, builder.buffer(layer.input_size),
            h_at=mean.at, c_at=largest.at,
            w_at=builder.param(own["weight"]), alpha_at=builder.parameters(layer.eps),
        )
    )  # fmt: skip


def _attention(builder: Builder, layer: spec.Attention, own: Own, x: Place) -> Place:
    alpha_at, w_at = builder.parameters(layer.scale), 0
    key = None
    if layer.score != "dot":
        weight = own.matrix("weight_query").arranged(pad_rows)
        bias = own.get("bias", np.zeros(layer.size or layer.memory_size, np.float32))
        x = builder.linear(x, weight, pad_rows(bias)).part(0, len(bias))
    if layer.score == "additive":
        key = own["weight_memory"]
        w_at = builder.param(own["weight_score"])
    key_at = builder.add_keys(layer.memory_size, key)
    y = builder.buffer(layer.memory_size)
    return builder.append(
        Operation(
            columns.ATTENTION, x, y, MEMORY,
            w_at=w_at, alpha_at=alpha_at, key_at=key_at, is_additive=layer.score == "additive",
        )
    )  # fmt: skip


def _copy(builder: Builder, layer: spec.Copy, own: Own, x: Place) -> Place:
    at = builder.parameters(1.0)  # the scale of the scores
    key_at = builder.add_keys(layer.memory_size, None)
    builder.add_ids()
    y = builder.buffer(layer.vocab_size)
    return builder.append(Operation(columns.COPY_TOKENS, x, y, MEMORY, alpha_at=at, key_at=key_at))


def _pass_on(builder: Builder, layer: spec.Layer, own: Own, x: Place) -> Place:
    return x


def _slice(builder: Builder, layer: spec.Slice, own: Own, x: Place) -> Place:
    return x.part(layer.start, layer.output_size)


LAYERS: dict[type[spec.Layer], Callable[[Builder, Any, Own, Place], Place]] = {
    spec.Masking: _pass_on,
    spec.Linear: _linear,
    spec.Conv1d: _conv1d,
    spec.FrameConv1d: _frame_conv1d,
    spec.Pool1d: _pool1d,
    spec.Flatten: _flatten,
    spec.LayerNorm: _layer_norm,
    spec.BatchNorm: _batch_norm,
    spec.Activation: _activation,
    spec.Softmax: _softmax,
    spec.LogSoftmax: _softmax,
    spec.Pooling: _pooling,
    spec.AttentionPooling: _attention_pooling,
    spec.Concat: _pass_on,
    spec.Slice: _slice,
    spec.Attention: _attention,
    spec.Copy: _copy,
}
