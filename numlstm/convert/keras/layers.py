"""What each Keras layer is in numlstm: one call of a layer -> layers and tensors."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from numlstm import spec
from numlstm.budget import spend
from numlstm.convert.assembly import Misfit, Refused
from numlstm.convert.compositions import grouped_norm, prelu, rms_norm
from numlstm.convert.keras.call import SEQUENCE, TOKENS, VECTOR, Call, Value
from numlstm.convert.keras.config import class_of, config_of
from numlstm.convert.keras.merging import (
    added,
    attention,
    averaged,
    concatenate,
    dot,
    largest,
    multiplied,
    plain,
    smallest,
    subtracted,
    unit,
)
from numlstm.convert.keras.options import Options, advanced, function_of
from numlstm.convert.keras.recurrent import bidirectional, recurrent
from numlstm.convert.keras.reshaping import flatten, permute, repeat, reshape
from numlstm.convert.keras.windows import (
    conv,
    cropping,
    global_pooling,
    pooling,
    zero_padding,
)
from numlstm.network.layer import SMALLEST

# Layers of one step -------------------------------------------------------------------------------


def _input(call: Call) -> Value:
    raise Misfit("reads something")


def _same(call: Call) -> Value:
    """Dropout and others that end with training."""
    return call.any_one()


def _embedding(call: Call) -> Value:
    options = call.options
    vocab_size, size = options.size("input_dim"), options.size("output_dim")
    mask_zero = options.flag("mask_zero")
    options.take("dropout")
    options.end()
    value = call.any_one()
    if value.ids:
        return _embedded(call, value, size, mask_zero)
    value = call.one(TOKENS)
    if value.draft is not None or call.assembly.drafts:
        raise Misfit("is not the first and only layer that reads the token ids")
    layer = call.add(
        spec.Embedding, vocab_size, size, reads=[value], arrays=call.own, mask_zero=mask_zero
    )
    return call.then(value, layer, kind=SEQUENCE, masked=mask_zero)


def _embedded(call: Call, value: Value, size: int, mask_zero: bool) -> Value:
    """Embed ids that stand as ones among other numbers: a row of the table for each."""
    if mask_zero:
        raise Refused(
            "mask_zero=True beside other inputs, whose steps are not skipped with it",
            "give sequences without padding, and "
            'custom={"Embedding": "Embedding(mask_zero=false)"}',
        )
    (table,) = call.own or [np.zeros((0, 0))]
    count = value.table or 1
    if table.shape != (value.ids, size):
        raise Misfit(f"embeddings expected {(value.ids, size)}, found {table.shape}")
    weight = np.tile(table.T, (count, 1))[..., None]
    layer = call.add(
        spec.Conv1d, value.size, count * size, 1, False,
        reads=[value], tensors={"weight": weight}, groups=count,
    )  # fmt: skip
    return call.then(value, layer, ids=0)


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
    if axis not in (-1, value.axis):
        raise Refused(f"axis={axis!r}, expected that of the features")


def _norm(kind: type[spec.BatchNorm | spec.LayerNorm]) -> Callable[[Call], Value]:
    """BatchNormalization, LayerNormalization."""

    def norm(call: Call) -> Value:
        options = call.options
        _check_axis(options, call.one())
        eps = options.number("epsilon", default=1e-3)
        scale, center = options.flag("scale", default=True), options.flag("center", default=True)
        if kind is spec.BatchNorm:
            options.expect("mode", 0)
        options.end()
        value = call.one(SEQUENCE, VECTOR)
        layer = call.add(kind, value.size, eps, scale, center, reads=[value], arrays=call.own)
        return call.then(value, layer)

    return norm


def _normalization(call: Call) -> Value:
    """Normalization: (x - mean) / max(sqrt(variance), epsilon), or the way back."""
    options = call.options
    value = call.one(SEQUENCE, VECTOR)
    if options.rest.get("axis", -1) not in (None, []):  # of one mean for all
        _check_axis(options, value)
    options.take("axis")
    mean, variance = options.numbers("mean"), options.numbers("variance")
    invert = options.flag("invert")
    options.end()
    if mean is None or variance is None:
        if len(call.own) < 2:
            raise Refused("has no mean and variance", "adapt it to data, then save the model")
        mean, variance = call.own[:2]
    deviation = np.maximum(np.sqrt(np.asarray(variance, np.float64)), 1e-7)
    if invert:
        return call.affine(value, deviation, mean)
    tensors = {
        "running_mean": call.per_feature(value, mean),
        "running_var": call.per_feature(value, deviation**2),
    }
    layer = call.add(
        spec.BatchNorm, value.size, SMALLEST, False, False, reads=[value], tensors=tensors
    )
    return call.then(value, layer)


def _unit_normalization(call: Call) -> Value:
    options = call.options
    value = call.one(SEQUENCE, VECTOR)
    _check_axis(options, value)
    options.end()
    return unit(call, value)


def _group_norm(call: Call) -> Value:
    """GroupNormalization of a vector: each group of features by itself."""
    options = call.options
    value = call.one(SEQUENCE, VECTOR)
    _check_axis(options, value)
    groups = options.take("groups", default=32)
    eps = options.number("epsilon", default=1e-3)
    scale, center = options.flag("scale", default=True), options.flag("center", default=True)
    options.end()
    if value.kind == SEQUENCE:
        raise Misfit(
            "groups of features are normalised over all steps together",
            "LayerNormalization is over the features of each step",
        )
    groups = value.size if groups == -1 else groups
    if type(groups) is not int:
        raise Refused(f"groups={groups!r}, expected a whole number")
    arrays = [call.per_feature(value, array) for array in call.own]
    weight, bias = arrays[0] if scale else None, arrays[-1] if center else None
    spend(f"the groups of {call.name}", 5000 * groups, 1e5 * groups)
    return call.then(
        value, grouped_norm(call.grow, value.draft, value.size, groups, eps, weight, bias)
    )


def _rms_norm(call: Call) -> Value:
    options = call.options
    value = call.one(SEQUENCE, VECTOR)
    _check_axis(options, value)
    eps = options.number("epsilon", default=1e-6)
    options.end()
    (weight,) = call.own or [np.ones(1)]
    weight = call.per_feature(value, weight)
    return call.then(value, rms_norm(call.grow, value.draft, value.size, eps, weight))


def _prelu(call: Call) -> Value:
    """PReLU: max(x, 0) + alpha min(x, 0), alpha for each feature."""
    options = call.options
    options.take("shared_axes")
    options.end()
    value = call.one(SEQUENCE, VECTOR)
    (alpha,) = call.own or [np.zeros(0)]
    rows = alpha.reshape(-1, alpha.shape[-1]) if alpha.ndim else alpha
    if not rows.size or (rows != rows[0]).any():
        raise Refused(f"alpha {alpha.shape} of each step apart", "make it with shared_axes=[1]")
    return call.then(value, prelu(call.grow, value.draft, call.per_feature(value, rows[0])))


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
    return LAYERS[joins[mode]](call)  # type: ignore[return-value]  # of one output


def _time_distributed(call: Call) -> Value:
    options = call.options
    item = options.take("layer")
    options.end()
    value = call.any_one()
    if value.kind != SEQUENCE:
        raise Misfit(f"reads {value.described}, expected a sequence")
    step = replace(value, kind=VECTOR, steps=None, masked=False, holds=False)
    (found,) = call.inner(item, (*call.key, "layer"), [step])
    if found.kind != VECTOR:
        raise Misfit(f"{class_of(item)} gives {found.kind} for each step")
    return replace(found, kind=SEQUENCE, steps=value.steps, masked=value.masked, holds=value.holds)


# Every layer there is -----------------------------------------------------------------------------

Translate: TypeAlias = Callable[[Call], Value | list[Value]]

_TRAINED_ONLY = (
    "Dropout", "SpatialDropout1D", "AlphaDropout", "GaussianDropout", "GaussianNoise",
    "ActivityRegularization", "Identity", "Autocast",
)  # fmt: skip
_MEAN, _MAX = global_pooling("mean"), global_pooling("max")
LAYERS: dict[str, Translate] = {
    **dict.fromkeys(_TRAINED_ONLY, _same),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU", "RNN"), recurrent),
    **dict.fromkeys(("LeakyReLU", "ELU", "ThresholdedReLU", "ReLU", "Softmax"), _advanced),
    **dict.fromkeys(("Conv1D", "Convolution1D", "AtrousConvolution1D"), conv),
    **dict.fromkeys(("MaxPooling1D", "MaxPool1D"), pooling("max")),
    **dict.fromkeys(("AveragePooling1D", "AvgPool1D"), pooling("mean")),
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAvgPool1D"), _MEAN),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPool1D"), _MAX),
    **dict.fromkeys(("Attention", "AdditiveAttention"), attention),
    **dict.fromkeys(("Dense", "TimeDistributedDense"), _dense),
    "InputLayer": _input,
    "Embedding": _embedding,
    "Masking": _masking,
    "Activation": _activation,
    "PReLU": _prelu,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "BatchNormalization": _norm(spec.BatchNorm),
    "LayerNormalization": _norm(spec.LayerNorm),
    "GroupNormalization": _group_norm,
    "RMSNormalization": _rms_norm,
    "UnitNormalization": _unit_normalization,
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "RepeatVector": repeat,
    "Cropping1D": cropping,
    "ZeroPadding1D": zero_padding,
    "Bidirectional": bidirectional,
    "TimeDistributed": _time_distributed,
    "Concatenate": concatenate,
    "Add": plain(added),
    "Multiply": plain(multiplied),
    "Average": plain(averaged),
    "Subtract": plain(subtracted),
    "Maximum": plain(largest),
    "Minimum": plain(smallest),
    "Dot": dot,
    "Merge": _merge,
}
