"""(network, tensors) -> Program: a causal network becomes operations, its tensors flat arrays.

The fast layouts are derived here, once, and nothing else knows them. The cells of PyTorch are one
operation each; any other cell is a short program of elementwise operations.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import reduce
from typing import Any, Literal

import numba
import numpy as np

from numlstm import spec
from numlstm.kernels import plan as columns
from numlstm.kernels import sampling
from numlstm.kernels.network import DONE, argument, compile_run
from numlstm.kernels.simd import LANES
from numlstm.program import (
    MEMORY,
    Builder,
    Floats,
    Layout,
    Place,
    Program,
    aligned,
    pad_rows,
    padded,
)

# Steps that `run` takes through a layer before the next layer. More rows read the input weights
# less often; the buffers (16 rows of a 512-unit LSTM's gates are 128 KB) must stay in the L2 cache.
BLOCK_ROWS = 16

# Streams that a pool takes through a step together.
POOL_ROWS = 32

Own = spec.Tensors  # the tensors of one layer, by their names within it


# A table of what the first recurrent layer makes of every token is made if it fits in this.
FOLD_BUDGET = 64 * 2**20  # bytes

Fold = bool | Literal["auto"]


def build(network: spec.Network, tensors: spec.Tensors, fold: Fold = False) -> Program:
    """Return the program of a causal network.

    tensors   canonical names and shapes, float32, as `Network.check_tensors` demands
    fold      whether to tabulate the input half of the layer that reads the tokens: `can_fold`
    """
    builder = Builder()
    folded = _folding_layer(network) if can_fold(network, fold) else None
    table = None if folded is None else _folded_table(network, tensors, folded)
    if table is None:
        folded, first = None, _add_input(builder, network, tensors)
    else:
        first = _add_embedding(builder, table)
    has_feedback = any(isinstance(layer, spec.Feedback) for layer in network.layers)
    with builder.rows() if has_feedback else nullcontext():
        places = _add_layers(builder, network, tensors, first, folded)
    answer = None
    if network.masks:
        answer = builder.keep(network.output_size)
        builder.keep_copy(places[-1], answer)
    generate = _layout_to_generate(builder.twin(), network, places[-1])
    builder.operation(columns.OUTPUT, places[-1], places[-1])
    return builder.program(BLOCK_ROWS, POOL_ROWS, generate, answer)


def _layout_to_generate(builder: Builder, network: spec.Network, scores: Place) -> Layout | None:
    """Return a layout that chooses a token in place of giving the scores, if the network reads it.

    A softmax at the end is left out: the scores are the logits that go into it.
    """
    if network.masks or (network.vocab_size or 0) < network.output_size:
        return None
    are_probabilities = isinstance(network.layers[-1], spec.Softmax)
    last = builder.operations[-1]
    is_softmax = last[columns.KIND] in (columns.SOFTMAX, columns.LOG_SOFTMAX)
    if is_softmax and last[columns.Y_AT] == scores:
        before = builder.operations.pop()[columns.X_AT]
        assert isinstance(before, Place)
        scores, are_probabilities = before, False
    settings = builder.buffer(sampling.NUM_SETTINGS)
    rows = builder.buffer(sampling.NUM_ROWS * padded(scores.size))
    named = {"X_SIZE": scores.size, "Y_SIZE": 1, "FUNCTION": int(are_probabilities)}
    builder.operation(columns.SAMPLE, scores, settings, rows, **named)
    return builder.layout(1, max_steps=2**31)


def _add_input(builder: Builder, network: spec.Network, tensors: spec.Tensors) -> Place:
    """Add the operation that reads the input: numbers, or the row of a token."""
    match network.layers[0]:
        case spec.OneHot() as layer:
            size = layer.output_size
            y = builder.buffer(size)
            named: dict[str, Any] = {"X_SIZE": 1, "VOCAB_SIZE": layer.vocab_size}
            return builder.operation(columns.ONE_HOT, None, y, **named)
        case spec.Embedding() as layer:
            table = np.zeros((layer.vocab_size, padded(layer.embedding_size)), np.float32)
            table[:, : layer.embedding_size] = tensors["embedding.weight"]
            return _add_embedding(builder, table).part(0, layer.embedding_size)
    return builder.operation(columns.INPUT, None, builder.buffer(network.input_size))


def _add_embedding(builder: Builder, table: Floats) -> Place:
    """Add the operation that reads the row of a token. table (V, N), N a multiple of 16."""
    y = builder.buffer(table.shape[1])
    named: dict[str, Any] = {"W_AT": builder.param(table), "X_SIZE": 1, "VOCAB_SIZE": len(table)}
    return builder.operation(columns.EMBEDDING, None, y, **named)


# Folding ------------------------------------------------------------------------------------------


def _folding_layer(network: spec.Network) -> int | None:
    """Return the number of the recurrent layer that alone reads the tokens, if there is one."""
    readers = [n for n in range(1, len(network.layers)) if 0 in network.sources(n)]
    fits = (
        network.reads_tokens
        and len(readers) == 1
        and network.sources(readers[0]) == (0,)
        and isinstance(network.layers[readers[0]], spec.Recurrent)
        and not any(isinstance(layer, spec.Feedback) for layer in network.layers)
    )
    return readers[0] if fits else None


def can_fold(network: spec.Network, fold: Fold) -> bool:
    """Whether the input half of the layer that reads the tokens is to be a table.

    fold   "auto": if it takes no more than FOLD_BUDGET bytes, and the kernels are compiled
    """
    n = _folding_layer(network)
    if n is None or not fold:
        return False
    layer = network.layers[n]
    assert isinstance(layer, spec.Recurrent)
    num_bytes = 4 * (network.vocab_size or 0) * layer.num_gates * padded(layer.hidden_size)
    return fold is True or (num_bytes <= FOLD_BUDGET and not numba.config.DISABLE_JIT)


def _folded_table(network: spec.Network, tensors: spec.Tensors, n: int) -> Floats | None:
    """Return what layer n, which reads the tokens, makes of each without its h, (V, N).

    The kernels make it, so it has the bits they would give at every step, in float32. None if some
    numbers overflow: the steps may never meet those.
    """
    prefix, layer = list(network.named_layers())[n]
    assert isinstance(layer, spec.Recurrent)
    own = {name: tensors[f"{prefix}.{name}"] for name in layer.tensors()}
    builder = Builder()
    y = builder.linear(_add_input(builder, network, tensors), *_input_half(layer, own))
    builder.operation(columns.OUTPUT, y, y)
    ids = np.arange(network.vocab_size or 0, dtype=np.int32)
    table = np.empty((len(ids), y.size), np.float32)
    program = builder.program(BLOCK_ROWS, 1, None, None)
    state = aligned(program.block.state_size)
    state[: program.initial_state.size] = program.initial_state
    arrays = (program.block.plan_at, program.params_at, argument(state))
    status = compile_run()(*arrays, ids, table)
    return table if status == DONE else None


# Layers -------------------------------------------------------------------------------------------


def _add_layers(
    builder: Builder,
    network: spec.Network,
    tensors: spec.Tensors,
    first: Place,
    folded: int | None,
) -> list[Place]:
    """Add every layer; return where each one's output is.

    first    where the input is, or what the layer ``folded`` has made of it
    """
    places: list[Place] = []
    fed: list[tuple[Place, int]] = []  # where a feedback keeps what it gives, and of which layer
    for n, (prefix, layer) in enumerate(network.named_layers()):
        own = {name: tensors[f"{prefix}.{name}"] for name in layer.tensors()}
        inputs = [first if source < 0 else places[source] for source in network.sources(n)]
        builder.prefix = prefix
        if isinstance(layer, spec.Embedding | spec.OneHot):
            places.append(first)
        elif isinstance(layer, spec.Feedback):
            kept = builder.keep(layer.output_size)
            fed.append((kept, network.index(layer.source)))
            # A copy, as the output of this step is read after the next one is kept.
            places.append(builder.copy(kept, builder.buffer(layer.output_size)))
        elif isinstance(layer, spec.Add | spec.Multiply):
            combine = builder.add if isinstance(layer, spec.Add) else builder.multiply
            places.append(reduce(combine, inputs))
        elif isinstance(layer, spec.Recurrent):
            a = first
            if n != folded:
                x = builder.join(inputs)
                a = builder.linear(x, *_input_half(layer, own), layer.precision)
            places.append(_RECURRENT[type(layer)](builder, layer, own, a))
        else:
            places.append(_ADD[type(layer)](builder, layer, own, builder.join(inputs)))
    for kept, source in fed:
        builder.keep_copy(places[source], kept)
    return places


# Recurrent layers ---------------------------------------------------------------------------------


def _planar(weight: Floats, num_gates: int) -> Floats:
    """Return (G * H, ...) with the rows of each gate padded to a multiple of 16."""
    hidden_size = len(weight) // num_gates
    rest = weight.shape[1:]
    gates = np.zeros((num_gates, padded(hidden_size), *rest), np.float32)
    gates[:, :hidden_size] = weight.reshape(num_gates, hidden_size, *rest)
    return gates.reshape(-1, *rest)


def _biases(layer: spec.Recurrent, own: Own) -> tuple[Floats, Floats]:
    """Return copies of the two biases, zeros where there is none."""
    if layer.bias:
        bias_ih, bias_hh = own["bias_ih"].copy(), own["bias_hh"].copy()
    else:
        bias_ih = bias_hh = np.zeros(layer.num_gates * layer.hidden_size, np.float32)
        bias_hh = bias_hh.copy()
    if isinstance(layer, spec.LSTM):
        bias_ih[layer.hidden_size : 2 * layer.hidden_size] += np.float32(layer.forget_bias)
    return bias_ih, bias_hh


def _keep_h(builder: Builder, layer: spec.Recurrent, own: Own) -> Place:
    return builder.keep(layer.h_size, own["initial_h"] if layer.initial_state else 0.0, "h")


def _keep_c(builder: Builder, layer: spec.LSTM, own: Own) -> Place:
    return builder.keep(layer.hidden_size, own["initial_c"] if layer.initial_state else 0.0, "c")


def _input_half(layer: spec.Recurrent, own: Own) -> tuple[Floats, Floats]:
    """Return the weight (G * H, I) and the bias of what does not depend on h, gate by gate."""
    bias_ih, bias_hh = _biases(layer, own)
    # The bias inside the brackets that a reset gate multiplies stays with the other half.
    apart = isinstance(layer, spec.GRU) and layer.reset_after
    inner = 2 * layer.hidden_size if apart else len(bias_ih)
    bias_ih[:inner] += bias_hh[:inner]
    return _planar(own["weight_ih"], layer.num_gates), _planar(bias_ih, layer.num_gates)


# What a layer of torch.nn can have; its cell is one operation. Any other option makes another cell.
_PLAIN = {
    "input_size", "hidden_size", "bias", "nonlinearity", "forget_bias", "initial_state", "dtype",
    "activations",
    "direction", "merge", "shared", "outputs", "name", "inputs",
}  # fmt: skip


def _is_plain(layer: spec.Recurrent) -> bool:
    return layer.options().keys() <= _PLAIN


def _is_unit(layer: spec.Recurrent, own: Own) -> bool:
    """Whether h stays in [-1, 1]: it is a tanh, gated, and begins there."""
    tanh = not isinstance(layer, spec.RNN) or layer.nonlinearity == "tanh"
    begins = not layer.initial_state or bool((np.abs(own["initial_h"]) <= 1).all())
    return _is_plain(layer) and tanh and begins


def _add_rnn(builder: Builder, layer: spec.RNN, own: Own, a: Place) -> Place:
    h = _keep_h(builder, layer, own)
    y = builder.buffer(layer.hidden_size)
    with builder.rows():
        unit = _is_unit(layer, own)
        builder.linear_add(h, pad_rows(own["weight_hh"]), a, y, layer.precision, unit)
        builder.clip(y, layer.clip)
        builder.activation(y, layer.nonlinearity, y)
        builder.keep_new(y, h)
    return y


def _add_gru(builder: Builder, layer: spec.GRU, own: Own, a: Place) -> Place:
    """Add a GRU of any activations, the reset gate before or after the product."""
    size, stride = layer.hidden_size, padded(layer.hidden_size)
    w_hh = _planar(own["weight_hh"], 3)
    w_rz, w_n = w_hh[: 2 * stride], w_hh[2 * stride :]
    a_rz, a_n = a.part(0, 2 * stride), a.part(2 * stride, size)
    h, unit = _keep_h(builder, layer, own), _is_unit(layer, own)
    y = builder.buffer(size)
    with builder.rows():
        rz = builder.linear_add(h, w_rz, a_rz, a_rz, layer.precision, unit)
        if layer.reset_after:
            _, bias_hh = _biases(layer, own)
            n_h = builder.linear(h, w_n, pad_rows(bias_hh[2 * size :]), layer.precision, unit)
        if _is_plain(layer):
            r, z = (a.part(gate * stride, size) for gate in range(2))
            builder.leave(a_r=r, a_z=z, n_x=a_n, n_h=n_h.part(0, size))
            return builder.operation(columns.GRU_CELL, a, y, n_h, H_AT=h.at)
        builder.clip(rz, layer.clip)
        builder.activation(rz, layer.recurrent_activation, rz)
        r, z = rz.part(0, size), rz.part(stride, size)
        if layer.reset_after:
            n = builder.add(a_n, builder.multiply(r, n_h.part(0, size)))
        else:
            rh = builder.multiply(r, h)
            n = builder.linear_add(rh, w_n, a_n, None, layer.precision).part(0, size)
        builder.clip(n, layer.clip)
        builder.activation(n, layer.activation, n)
        builder.leave(r=r, z=z, n=n)
        new = builder.multiply(builder.activation(z, "affine(-1.0, 1.0)"), n)
        builder.add(new, builder.multiply(z, h), y)
        builder.keep_new(y, h)
    return y


def _add_lstm(builder: Builder, layer: spec.LSTM, own: Own, a: Place) -> Place:
    """Add an LSTM with any options; the equations are those of `spec.LSTM`."""
    size, stride = layer.hidden_size, padded(layer.hidden_size)
    h, unit = _keep_h(builder, layer, own), _is_unit(layer, own)
    c = _keep_c(builder, layer, own)
    y = builder.buffer(layer.h_size)
    with builder.rows():
        ifgo = builder.linear_add(h, _planar(own["weight_hh"], 4), a, a, layer.precision, unit)
        i, f, g, o = (ifgo.part(gate * stride, size) for gate in range(4))
        if _is_plain(layer):
            builder.leave(a_i=i, a_f=f, a_g=g, a_o=o)
            return builder.operation(columns.LSTM_CELL, ifgo, y, H_AT=h.at, C_AT=c.at)
        builder.leave(i=i, f=f, g=g, o=o)

        def activate_gate(gate: Place, name: str) -> None:
            if layer.peepholes:
                w_at = builder.param(own[f"peephole_{name}"])
                builder.operation(columns.SCALE_ADD, c, gate, gate, W_AT=w_at)
            builder.clip(gate, layer.clip)
            builder.activation(gate, layer.recurrent_activation, gate)

        activate_gate(i, "i")
        if layer.coupled:
            builder.activation(i, "affine(-1.0, 1.0)", f)
        else:
            activate_gate(f, "f")
        builder.clip(g, layer.clip)
        builder.activation(g, layer.activation, g)
        builder.add(builder.multiply(f, c), builder.multiply(i, g), c)
        builder.clip(c, layer.cell_clip)
        builder.keep_new(c, c)
        activate_gate(o, "o")
        product = builder.multiply(o, builder.activation(c, layer.output_activation))
        if layer.proj_size:
            weight = pad_rows(own["weight_hr"])
            no_bias = np.zeros(len(weight), np.float32)
            product = builder.linear(product, weight, no_bias, layer.precision)
            product = product.part(0, layer.proj_size)
            builder.clip(product, layer.proj_clip)
        builder.copy(product, y)
        builder.keep_new(y, h)
    return y


# They get the pre-activations that the input half gives.
_RECURRENT: dict[type[spec.Layer], Callable[[Builder, Any, Own, Place], Place]] = {
    spec.RNN: _add_rnn,
    spec.GRU: _add_gru,
    spec.LSTM: _add_lstm,
}


# Other layers -------------------------------------------------------------------------------------


def _add_linear(builder: Builder, layer: spec.Linear, own: Own, x: Place) -> Place:
    return _add_matrix(builder, layer, own["weight"], own, x)


def _add_matrix(
    builder: Builder, layer: spec.Linear | spec.Conv1d, weight: Floats, own: Own, x: Place
) -> Place:
    bias = own["bias"] if layer.bias else np.zeros(layer.output_size, np.float32)
    y = builder.linear(x, pad_rows(weight), pad_rows(bias), layer.precision)
    y = y.part(0, layer.output_size)
    return y if layer.activation is None else builder.activation(y, layer.activation, y)


def _add_conv1d(builder: Builder, layer: spec.Conv1d, own: Own, x: Place) -> Place:
    """Add a window of the steps that the kernel reads, and a matrix of it."""
    taps, each = layer.kernel_size, layer.input_size // layer.groups
    weight: Floats = np.zeros((layer.output_size, taps, layer.input_size), np.float32)
    of_group = layer.output_size // layer.groups
    for group in range(layer.groups):
        outs = slice(group * of_group, (group + 1) * of_group)
        ins = slice(group * each, (group + 1) * each)
        weight[outs, :, ins] = own["weight"][outs].transpose(0, 2, 1)
    weight = weight.reshape(layer.output_size, -1)
    if taps == 1:
        return _add_matrix(builder, layer, weight, own, x)
    kept = builder.keep(layer.reach * padded(layer.input_size))
    window = builder.buffer(taps * layer.input_size, LANES - 1)
    builder.operation(columns.WINDOW, x, window, H_AT=kept.at, COUNT=taps, SPREAD=layer.dilation)
    return _add_matrix(builder, layer, weight, own, window)


def _add_activation(builder: Builder, layer: spec.Activation, own: Own, x: Place) -> Place:
    return builder.activation(x, layer.function)


def _add_softmax(builder: Builder, layer: spec.Layer, own: Own, x: Place) -> Place:
    kind = columns.SOFTMAX if isinstance(layer, spec.Softmax) else columns.LOG_SOFTMAX
    return builder.operation(kind, x, builder.buffer(x.size))


def _add_layer_norm(builder: Builder, layer: spec.LayerNorm, own: Own, x: Place) -> Place:
    size = layer.input_size
    at: dict[str, Any] = {
        "W_AT": builder.param(own.get("weight", np.ones(size, np.float32))),
        "B_AT": builder.param(own.get("bias", np.zeros(size, np.float32))),
        "ALPHA_AT": builder.parameters(layer.eps),
    }
    return builder.operation(columns.LAYER_NORM, x, builder.buffer(size), **at)


def _add_batch_norm(builder: Builder, layer: spec.BatchNorm, own: Own, x: Place) -> Place:
    """Add the statistics of training, weight and bias as one factor and one shift."""
    factor = own.get("weight", np.ones(1)) / np.sqrt(
        own["running_var"].astype(np.float64) + layer.eps
    )
    shift = own.get("bias", np.zeros(1)) - own["running_mean"].astype(np.float64) * factor
    w_at = builder.param(factor.astype(np.float32))
    b_at = builder.param(shift.astype(np.float32))
    return builder.operation(columns.SCALE, x, builder.buffer(x.size), W_AT=w_at, B_AT=b_at)


def _add_pooling(builder: Builder, layer: spec.Pooling, own: Own, x: Place) -> Place:
    size = layer.input_size
    if layer.mode == "last":  # so far
        return x
    y = builder.buffer(size)
    if layer.mode == "max":
        h_at = builder.keep(size, -np.inf).at
        return builder.operation(columns.MAX, x, y, H_AT=h_at)
    at: dict[str, Any] = {"H_AT": builder.keep(size).at, "C_AT": builder.keep(size).at}
    at["COUNT_AT"] = builder.keep_counter()
    kind = columns.MEAN if layer.mode == "mean" else columns.SUM
    return builder.operation(kind, x, y, **at)


def _add_attention_pooling(
    builder: Builder, layer: spec.AttentionPooling, own: Own, x: Place
) -> Place:
    at: dict[str, Any] = {"H_AT": builder.keep(layer.input_size).at}
    at["C_AT"] = builder.keep(LANES, -np.inf).at  # the largest score,
    builder.keep(LANES)  # and the sum behind it
    at["W_AT"] = builder.param(own["weight"])
    at["ALPHA_AT"] = builder.parameters(layer.eps)
    return builder.operation(columns.ATTENTION_POOL, x, builder.buffer(layer.input_size), **at)


def _add_attention(builder: Builder, layer: spec.Attention, own: Own, x: Place) -> Place:
    at: dict[str, Any] = {"ALPHA_AT": builder.parameters(layer.scale)}
    key = None
    if layer.score != "dot":
        weight = own["weight_query"]
        bias = own.get("bias", np.zeros(len(weight), np.float32))
        x = builder.linear(x, pad_rows(weight), pad_rows(bias)).part(0, len(weight))
    if layer.score == "additive":
        key = own["weight_memory"]
        at["W_AT"] = builder.param(own["weight_score"])
        at["FUNCTION"] = 1
    at["KEY_AT"] = builder.add_keys(layer.memory_size, key)
    y = builder.buffer(layer.memory_size)
    return builder.operation(columns.ATTENTION, x, y, MEMORY, **at)


def _add_copy(builder: Builder, layer: spec.Copy, own: Own, x: Place) -> Place:
    at = builder.parameters(1.0)  # the scale of the scores
    key_at = builder.add_keys(layer.memory_size, None)
    builder.add_ids()
    y = builder.buffer(layer.vocab_size)
    return builder.operation(columns.COPY_TOKENS, x, y, MEMORY, ALPHA_AT=at, KEY_AT=key_at)


def _pass_on(builder: Builder, layer: spec.Layer, own: Own, x: Place) -> Place:
    return x


def _add_slice(builder: Builder, layer: spec.Slice, own: Own, x: Place) -> Place:
    return x.part(layer.start, layer.output_size)


_ADD: dict[type[spec.Layer], Callable[[Builder, Any, Own, Place], Place]] = {
    spec.Masking: _pass_on,
    spec.Linear: _add_linear,
    spec.Conv1d: _add_conv1d,
    spec.LayerNorm: _add_layer_norm,
    spec.BatchNorm: _add_batch_norm,
    spec.Activation: _add_activation,
    spec.Softmax: _add_softmax,
    spec.LogSoftmax: _add_softmax,
    spec.Pooling: _add_pooling,
    spec.AttentionPooling: _add_attention_pooling,
    spec.Concat: _pass_on,
    spec.Slice: _add_slice,
    spec.Attention: _add_attention,
    spec.Copy: _add_copy,
}
