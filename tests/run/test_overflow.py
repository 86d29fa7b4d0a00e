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


def test_an_infinity_may_be_bounded_where_nothing_keeps_it():
    model = model_of(spec.Linear(2, 20), spec.Activation(20, "tanh"), value=1e30)
    xs = np.array([[1e30, 1e30], [1, 1]], np.float32)
    np.testing.assert_allclose(model.run(xs), np.ones((2, 20)), 1e-6)


@pytest.mark.parametrize("size", [5, 16, 20])
def test_a_cell_that_an_infinity_saturates_is_as_good_with_padding_as_without(size):
    model = model_of(spec.Linear(2, 3), spec.LSTM(3, size), spec.GRU(size, size), value=1e30)
    xs = np.full((2, 2), 1e30, np.float32)
    expected, _ = reference.run(model.network, model.weights.tensors, xs)
    np.testing.assert_allclose(model.run(xs), expected, 1e-5)


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
