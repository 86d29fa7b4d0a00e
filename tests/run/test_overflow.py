"""A number that is not finite is never kept, nor hidden by what stands behind it."""

from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import Network, Weights, reference, spec
from tests.cases import assert_same_bits

NUM_STEPS = 70  # several blocks of `run`, and far beyond float32 for what doubles at each step

GROWING = spec.RNN(2, 20, nonlinearity="relu", name="a")
BOUNDING = (
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "clip(-1.0, 1.0)",
    "softsign",
    "scaled_tanh(0.5, 2.0)",
)

# All of these overflow within, none in a number that has to be an answer.
NETWORKS: dict[str, tuple[spec.Layer, ...]] = {
    **{name: (GROWING, spec.Activation(20, name)) for name in BOUNDING},
    "a bounded sum": (GROWING, spec.Pooling(20, "sum"), spec.Activation(20, "tanh")),
    "a bounded mean": (GROWING, spec.Pooling(20, "mean"), spec.Activation(20, "tanh")),
    "a bounded maximum": (GROWING, spec.Pooling(20, "max"), spec.Activation(20, "tanh")),
    "a bounded window": (GROWING, spec.Conv1d(20, 3, 3, activation="tanh")),
    "a bounded maximum of a window": (GROWING, spec.Pool1d(20, 3), spec.Activation(20, "tanh")),
    "a bounded sum of a window": (
        GROWING,
        spec.Pool1d(20, 3, "sum"),
        spec.Activation(20, "tanh"),
    ),
    "rows end to end": (GROWING, spec.Flatten(20, 3), spec.Activation(60, "tanh")),
    "a bounded attention": (
        GROWING,
        spec.AttentionPooling(20),
        spec.Activation(20, "tanh"),
    ),
    "a softmax": (spec.RNN(2, 20, nonlinearity="linear"), spec.Softmax(20)),
    "another network reads it": (GROWING, spec.GRU(20, 5), spec.LSTM(5, 3)),
    "it is left out": (GROWING, spec.LSTM(2, 3, inputs=("input",))),
    "an open cell": (spec.LSTM(2, 20, activation="relu", recurrent_activation="softplus"),),
    "an open cell, bounded": (
        spec.LSTM(
            2, 20, activation="relu", recurrent_activation="softplus", output_activation="tanh"
        ),
        spec.Activation(20, "tanh"),
    ),
    "a feedback": (
        spec.Linear(2, 3, name="x"),
        spec.Feedback(3, "b", name="f"),
        spec.Linear(6, 3, inputs=("x", "f"), name="b"),
        spec.Activation(3, "tanh"),
    ),
}


def model_of(*layers: spec.Layer, value: float = 3.0, dtype: str = "float32") -> numlstm.Model:
    network = Network(layers).with_dtype(dtype)
    tensors = {n: np.full(s, value, np.float32) for n, s in network.tensor_shapes().items()}
    return numlstm.Model(Weights(network, tensors))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_overflows_is_refused_by_all_at_the_same_step(name, dtype):
    model = model_of(*NETWORKS[name], dtype=dtype)
    xs = np.full((NUM_STEPS, 2), 10, np.float32)
    stream, taken = model.stream(), []
    before = stream.save_state()
    for x in xs:
        try:
            taken.append(stream.step(x))
        except ValueError:
            break
        before = stream.save_state()
    assert len(taken) < NUM_STEPS
    with pytest.raises(ValueError, match="overflow"):
        stream.step(xs[0])
    assert stream.save_state() == before  # as it was before the step that was refused
    model.stream().load_state(before)
    assert all(np.isfinite(array).all() for array in stream.state.values())

    fine = xs[: len(taken)]
    expected, _ = reference.run(model.network, model.weights.tensors, fine)
    np.testing.assert_allclose(taken, expected, 2e-2 if dtype == "int8" else 2e-5, 1e-5)
    assert_same_bits(model.run(fine), np.array(taken))
    for refused in (model.run, lambda xs: model.run_batch([fine, xs, xs]), stream.run):
        with pytest.raises(ValueError, match="overflow"):
            refused(xs)
    assert stream.save_state() == before

    pool = model.pool(3)
    calm, hot = pool.open(), pool.open()
    both = np.stack([np.zeros_like(xs), xs], axis=1)
    with pytest.raises(ValueError, match=f"overflow in slot {hot}"):
        pool.run([calm, hot], both)
    assert_same_bits(pool.run([calm, hot], both[: len(taken)])[:, 1], np.array(taken))


HIDING: dict[str, tuple[spec.Layer, ...]] = {
    **{
        function: (spec.Activation(20, function),)
        for function in (
            *BOUNDING,
            "relu",
            "softplus",
            "elu(1.0)",
            "silu",
            "linear_sigmoid",
            "gelu",
            "gelu_tanh",
            "erf",
            "abs",
        )
    },
    "reciprocal": (spec.Activation(20, "affine(1.0, 1.0)"), spec.Activation(20, "reciprocal")),
    "softmax": (spec.Softmax(20),),
    "log_softmax, exp": (spec.LogSoftmax(20), spec.Activation(20, "exp")),
    "LSTM": (spec.LSTM(20, 20),),
    "a small LSTM": (spec.LSTM(20, 5),),
    "a large LSTM": (spec.LSTM(20, 40),),
    "an LSTM with options": (spec.LSTM(20, 5, coupled=True, clip=3.0),),
    "GRU": (spec.GRU(20, 20),),
    "a small GRU": (spec.GRU(20, 5),),
    "a GRU with options": (spec.GRU(20, 5, reset_after=False),),
    "RNN": (spec.RNN(20, 5),),
    "MinGRU": (spec.MinGRU(20, 5, activation="tanh"),),
    "MinLSTM": (spec.MinLSTM(20, 5, activation="tanh"),),
    "SRU": (spec.SRU(20, 5, activation="tanh"), spec.Activation(5, "tanh")),
    "IndRNN": (spec.IndRNN(20, 5, nonlinearity="tanh"),),
    "attention pooling": (spec.AttentionPooling(20), spec.Activation(20, "tanh")),
    "maximum": (spec.Pooling(20, "max"), spec.Activation(20, "tanh")),
    "maximum of a window": (spec.Pool1d(20, 3), spec.Activation(20, "tanh")),
    "mean of a window": (spec.Pool1d(20, 3, "mean"), spec.Activation(20, "tanh")),
}


def first_of(pair: tuple[float, float]) -> tuple[spec.Linear, dict[str, np.ndarray]]:
    """Return a layer of 20 numbers that are each the sum of two inputs, with these weights."""
    weight = np.tile(np.array(pair, np.float32), (20, 1))
    return spec.Linear(2, 20, bias=False), {"layers.0.weight": weight}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", HIDING)
@pytest.mark.parametrize("pair", [(1e30, 1e30), (-1e30, -1e30), (1e30, -1e30)])
def test_nothing_hides_a_sum_that_overflows(name, dtype, pair):
    """Of the last pair the sum is 0, and is an infinity where it is taken one by one."""
    first, own = first_of(pair)
    network = Network((first, *HIDING[name])).with_dtype(dtype)
    tensors = {n: np.full(s, 0.25, np.float32) for n, s in network.tensor_shapes().items()} | own
    model = numlstm.Model(Weights(network, tensors))
    hot, calm = np.full(2, 1e30, np.float32), np.zeros(2, np.float32)
    stream = model.stream()
    stream.step(calm)
    before = stream.save_state()
    xs = np.stack([hot, calm])
    calls = [
        lambda: stream.step(hot),
        lambda: stream.run(hot[None]),
        lambda: stream.run(xs),
        lambda: model.run_batch([xs, xs]),
        lambda: model.stream(lookahead=0).run(xs),
    ]
    if stream.state:
        calls.append(lambda: stream.trace(xs))
    for call in calls:
        with pytest.raises(ValueError, match="overflow"):
            call()
    assert stream.save_state() == before
    pool = model.pool(2)
    slots = [pool.open(), pool.open()]
    with pytest.raises(ValueError, match="overflow in slot 1"):
        pool.step(slots, [calm, hot])


@pytest.mark.parametrize("score", ["dot", "general", "additive"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_that_overflows_is_not_left_out(score, sign):
    """Minus infinity would weigh nothing, where all others are small as well."""
    options = {"size": 4} if score == "additive" else {}
    network = Network((spec.Linear(2, 3, bias=False), spec.Attention(3, 3, score, **options)))
    tensors = {n: np.full(s, 1.0, np.float32) for n, s in network.tensor_shapes().items()}
    tensors["layers.0.weight"] *= 1e20
    memory = np.array([[1e20, 0, 0], [0, 0, 0], [1, 1, 1]], np.float32)
    if score == "additive":
        tensors["layers.1.weight_query"] *= 1e20
        memory /= 1e20
    stream = numlstm.Model(Weights(network, tensors)).stream(memory=memory)
    with pytest.raises(ValueError, match="overflow"):
        stream.step(np.array([sign, sign], np.float32))
    stream.step(np.array([0, 0], np.float32))


@pytest.mark.parametrize("scale", [1e18, 1e20, 1e37])
def test_a_layer_norm_of_large_numbers_is_right_or_refused(scale):
    model = model_of(spec.LayerNorm(7), value=1.0)
    x = np.arange(7, dtype=np.float32) * np.float32(scale)
    expected, _ = reference.run(model.network, model.weights.tensors, x[None])
    if scale == 1e18:
        np.testing.assert_allclose(model.run(x[None]), expected, 1e-5, 1e-6)
        return
    with pytest.raises(ValueError, match="overflow"):
        model.run(x[None])


def test_generation_refuses_what_the_scores_hide():
    layers: tuple[Any, ...] = (
        spec.Embedding(4, 2),
        GROWING,
        spec.Activation(20, "tanh"),
        spec.Linear(20, 4),
    )
    stream = model_of(*layers).stream()
    before = stream.save_state()
    with pytest.raises(ValueError, match="overflow"):
        stream.generate(1, NUM_STEPS, temperature=0)
    assert stream.save_state() == before
