"""What each Keras layer is in numlstm: one call of a layer -> layers and tensors."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from numlstm import spec
from numlstm.budget import spend
from numlstm.convert.assembly import Misfit, Refused
from numlstm.convert.keras.call import SEQUENCE, TOKENS, VECTOR, Call, Value
from numlstm.convert.keras.config import class_of, config_of
from numlstm.convert.keras.options import Options, advanced, function_of
from numlstm.convert.keras.recurrent import bidirectional, recurrent
from numlstm.spec import Layer

# Layers of one step -------------------------------------------------------------------------------


def _input(call: Call) -> Value:
    raise Misfit("reads something")


def _same(call: Call) -> Value:
    """Dropout and others that end with training."""
    return call.one()


def _embedding(call: Call) -> Value:
    options = call.options
    vocab_size, size = options.size("input_dim"), options.size("output_dim")
    mask_zero = options.flag("mask_zero")
    options.take("dropout")
    options.end()
    value = call.one(TOKENS)
    if value.draft is not None or call.assembly.drafts:
        raise Misfit("is not the first and only layer that reads the token ids")
    layer = call.add(
        spec.Embedding, vocab_size, size, reads=[value], arrays=call.own, mask_zero=mask_zero
    )
    return call.then(value, layer, kind=SEQUENCE, masked=mask_zero)


def _masking(call: Call) -> Value:
    options = call.options
    skipped = options.number("mask_value", default=0.0)
    options.end()
    value = call.one(SEQUENCE)
    if value.draft is not None or call.assembly.drafts:
        raise Misfit("is not the first and only layer that reads the input")
    layer = call.add(spec.Masking, value.size, skipped, reads=[value])
    return call.then(value, layer, masked=True)


def _dense(call: Call) -> Value:
    options = call.options
    size = options.size("units", "output_dim")
    bias = options.flag("use_bias", "bias", default=True)
    function = function_of(options.take("activation"), call.major)
    options.end()
    value = call.one(SEQUENCE, VECTOR)
    return call.weighted(spec.Linear, value, function, value.size, size, bias)


def _activation(call: Call) -> Value:
    options = call.options
    function = function_of(options.take("activation"), call.major)
    options.end()
    return call.function(call.one(SEQUENCE, VECTOR), function)


def _advanced(call: Call) -> Value:
    function = advanced(class_of(call.item), call.options)
    assert function is not None
    value = call.one(SEQUENCE, VECTOR)
    if function == "softmax" and value.masked:
        raise Misfit("is a Softmax layer, which would add the mask to its input")
    return call.function(value, function)


def _rescaling(call: Call) -> Value:
    options = call.options
    scale, offset = options.number("scale", default=1.0), options.number("offset", default=0.0)
    options.end()
    value = call.one(SEQUENCE, VECTOR)
    return call.function(value, spec.function_text("affine", scale, offset))


def _check_axis(options: Options, value: Value) -> None:
    """Refuse a normalisation over anything but the features."""
    axis = options.take("axis", default=-1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in (-1, 2 if value.kind == SEQUENCE else 1):
        raise Refused(f"axis={axis!r}, expected that of the features")


def _batch_norm(call: Call) -> Value:
    options = call.options
    value = call.one()
    _check_axis(options, value)
    eps = options.number("epsilon", default=1e-3)
    scale, center = options.flag("scale", default=True), options.flag("center", default=True)
    options.expect("mode", 0)
    options.end()
    call.one(SEQUENCE, VECTOR)
    layer = call.add(spec.BatchNorm, value.size, eps, scale, center, reads=[value], arrays=call.own)
    return call.then(value, layer)


def _layer_norm(call: Call) -> Value:
    options = call.options
    value = call.one()
    _check_axis(options, value)
    eps = options.number("epsilon", default=1e-3)
    scale, center = options.flag("scale", default=True), options.flag("center", default=True)
    options.end()
    call.one(SEQUENCE, VECTOR)
    layer = call.add(spec.LayerNorm, value.size, eps, scale, center, reads=[value], arrays=call.own)
    return call.then(value, layer)


def _reshape(call: Call) -> Value:
    """Flatten and Reshape, where they change nothing."""
    options = call.options
    target = options.take("target_shape")
    options.expect("data_format", "channels_last", None)
    options.end()
    value = call.one(SEQUENCE, VECTOR)
    if value.masked:
        raise Misfit("reads a sequence with a mask")
    flat = target in (None, [value.size], [-1])
    if flat and (value.kind == VECTOR or value.steps == 1):
        return replace(value, kind=VECTOR, steps=None)
    if value.kind == SEQUENCE and target in ([-1, value.size], [value.steps, value.size]):
        return value
    raise Misfit(f"changes the shape of {value.kind}: the steps would become features")


def _repeat(call: Call) -> Value:
    options = call.options
    count = options.size("n")
    options.end()
    value = call.one(VECTOR)
    layer = call.add(spec.Repeat, value.size, count, reads=[value])
    return call.then(value, layer, kind=SEQUENCE, steps=count)


# Layers over time ---------------------------------------------------------------------------------


def _conv(call: Call) -> Value:
    options = call.options
    size, length = (
        options.size("filters", "nb_filter"),
        options.size("kernel_size", "filter_length"),
    )
    bias = options.flag("use_bias", "bias", default=True)
    function = function_of(options.take("activation"), call.major)
    stride = options.size("strides", "subsample_length", default=1)
    dilation = options.size("dilation_rate", "atrous_rate", default=1)
    groups = options.size("groups", default=1)
    padding = options.take("padding", "border_mode", default="valid")
    options.expect("data_format", "channels_last", None)
    options.end()
    value = call.one(SEQUENCE)
    if value.masked:
        raise Misfit("reads a sequence with a mask, which it would not heed")
    reach = (length - 1) * dilation
    if padding == "same" and stride > 1:
        raise Refused("padding='same' with strides, which depends on the length")
    if padding not in ("causal", "same", "valid"):
        raise Refused(f"padding={padding!r}")
    pads = {"causal": None, "same": (reach // 2, reach - reach // 2), "valid": (0, 0)}[padding]
    steps = None
    if value.steps is not None:
        steps = (value.steps + (0 if padding == "valid" else reach) - reach - 1) // stride + 1
    return replace(
        call.weighted(
            spec.Conv1d, value, function, value.size, size, length, bias,
            dilation=dilation, stride=stride, groups=groups, padding=pads,
        ),
        steps=steps,
    )  # fmt: skip


def _pooling(mode: str) -> Callable[[Call], Value]:
    def pooling(call: Call) -> Value:
        options = call.options
        options.expect("data_format", "channels_last", None)
        keepdims = options.flag("keepdims")
        options.end()
        value = call.one(SEQUENCE)
        if keepdims:
            raise Refused("keepdims=True")
        if value.masked and mode != "mean":
            raise Misfit("reads a sequence with a mask, which it would not heed")
        layer = call.add(spec.Pooling, value.size, mode, reads=[value])
        return call.then(value, layer, kind=VECTOR, steps=None, masked=False)

    return pooling


def _attention(call: Call) -> Value:
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
    if len(call.inputs) != 2 or {value.kind for value in call.inputs} != {SEQUENCE}:
        raise Misfit("expected [query, value], two sequences")
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


# Several inputs -----------------------------------------------------------------------------------


def _together(call: Call, same_size: bool = True) -> Value:
    """Return the first input, after a look at whether all go together."""
    first, *others = call.inputs
    if not others:
        raise Misfit("reads one input, expected several")
    for value in others:
        if value.kind != first.kind or value.masked != first.masked or first.kind == TOKENS:
            raise Misfit(f"joins {_describe(first)} and {_describe(value)}")
        if same_size and value.size != first.size:
            raise Misfit(f"joins {first.size} and {value.size} features, which it would stretch")
        if None not in (value.steps, first.steps) and value.steps != first.steps:
            raise Misfit(f"joins sequences of {first.steps} and {value.steps} steps")
    return first


def _describe(value: Value) -> str:
    return value.kind + (" with a mask" if value.masked else "")


def _concatenate(call: Call) -> Value:
    options = call.options
    axis = options.take("axis", "concat_axis", default=-1)
    options.end()
    value = _together(call, same_size=False)
    if axis not in (-1, 2 if value.kind == SEQUENCE else 1):
        raise Refused(f"axis={axis!r}, expected that of the features")
    size = sum(v.size for v in call.inputs)
    return call.then(value, call.add(spec.Concat, size, reads=call.inputs))


def _elementwise(kind: type[Layer]) -> Callable[[Call], Value]:
    def join(call: Call) -> Value:
        call.options.end()
        value = _together(call)
        return call.then(value, call.add(kind, value.size, reads=call.inputs))

    return join


def _average(call: Call) -> Value:
    found = _elementwise(spec.Add)(call)
    return call.function(found, spec.function_text("affine", 1 / len(call.inputs), 0.0))


def _subtract(call: Call) -> Value:
    if len(call.inputs) == 2:
        negative = call.function(call.inputs[1], spec.function_text("affine", -1.0, 0.0))
        call.inputs[1] = negative
    return _elementwise(spec.Add)(call)


def _merge(call: Call) -> Value:
    """Merge, of Keras 1."""
    options = call.options
    mode = options.take("mode", default="sum")
    for name in ("mode_type", "dot_axes", "output_shape", "output_shape_type", "output_mask",
                 "output_mask_type", "arguments", "node_indices", "tensor_indices"):  # fmt: skip
        options.take(name)
    axis = options.take("concat_axis", default=-1)
    if config_of(call.item).get("layers") and len(call.inputs) < 2:
        raise Refused("layers of its own", "convert the model as a functional one")
    options.take("layers")
    options.end()
    joins = {"sum": "Add", "mul": "Multiply", "ave": "Average", "concat": "Concatenate"}
    if mode not in joins:
        raise Refused(f"mode={mode!r}")
    config = {"axis": axis} if mode == "concat" else {}
    call.item = {"class_name": joins[mode], "config": config}
    return LAYERS[joins[mode]](call)


def _time_distributed(call: Call) -> Value:
    options = call.options
    item = options.take("layer")
    options.end()
    value = call.one(SEQUENCE)
    step = replace(value, kind=VECTOR, steps=None, masked=False)
    (found,) = call.inner(item, (*call.key, "layer"), [step])
    if found.kind != VECTOR:
        raise Misfit(f"{class_of(item)} gives {found.kind} for each step")
    return replace(found, kind=SEQUENCE, steps=value.steps, masked=value.masked)


# Every layer there is -----------------------------------------------------------------------------

Translate: TypeAlias = Callable[[Call], Value]

_TRAINED_ONLY = (
    "Dropout", "SpatialDropout1D", "AlphaDropout", "GaussianDropout", "GaussianNoise",
    "ActivityRegularization", "Identity",
)  # fmt: skip
_MEAN, _MAX = _pooling("mean"), _pooling("max")
LAYERS: dict[str, Translate] = {
    **dict.fromkeys(_TRAINED_ONLY, _same),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU", "RNN"), recurrent),
    **dict.fromkeys(("LeakyReLU", "ELU", "ThresholdedReLU", "ReLU", "Softmax"), _advanced),
    **dict.fromkeys(("Conv1D", "Convolution1D", "AtrousConvolution1D"), _conv),
    **dict.fromkeys(("Flatten", "Reshape"), _reshape),
    **dict.fromkeys(("Attention", "AdditiveAttention"), _attention),
    **dict.fromkeys(("Dense", "TimeDistributedDense"), _dense),
    "InputLayer": _input,
    "Embedding": _embedding,
    "Masking": _masking,
    "Activation": _activation,
    "Rescaling": _rescaling,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "RepeatVector": _repeat,
    "GlobalAveragePooling1D": _MEAN,
    "GlobalMaxPooling1D": _MAX,
    "GlobalAvgPool1D": _MEAN,
    "GlobalMaxPool1D": _MAX,
    "Bidirectional": bidirectional,
    "TimeDistributed": _time_distributed,
    "Concatenate": _concatenate,
    "Add": _elementwise(spec.Add),
    "Multiply": _elementwise(spec.Multiply),
    "Average": _average,
    "Subtract": _subtract,
    "Merge": _merge,
}
