"""Steps that are left out change no state and repeat the answer before."""

import numpy as np
import pytest

import numlstm
from numlstm import Network, reference, spec
from tests.cases import CELLS, NETWORKS, TOLERANCES, assert_same_bits, random_input, random_weights

ONES = np.array([[1, 1, 1], [1, 1, 1], [0.5, 0, 2], [1, 1, 1], [2, 1, 0]], np.float32)
TOKENS = np.array([0, 0, 3, 0, 4], np.int32)
MEMORY = np.random.default_rng(0).normal(0, 1, (3, 6)).astype(np.float32)

# Networks whose first steps are masked: what these answer is seen in the answers.
CASES: dict[str, tuple[Network, np.ndarray]] = {
    **{
        f"a cell: {cell}": (
            Network((spec.Masking(3, 1.0), make(3, 4, True), spec.Linear(4, 2))),
            ONES,
        )
        for cell, make in CELLS.items()
    },
    "no recurrence": (Network((spec.Masking(3, 1.0), spec.Linear(3, 2))), ONES),
    "beside the input": (
        Network(
            (
                spec.Masking(3, 1.0, name="x"),
                spec.LSTM(3, 4, name="h"),
                spec.Linear(7, 2, inputs=("x", "h")),
            )
        ),
        ONES,
    ),
    "tokens": (
        Network((spec.Embedding(5, 4, mask_zero=True), spec.LSTM(4, 6), spec.Linear(6, 2))),
        TOKENS,
    ),
    "a convolution": (
        Network((spec.Masking(3, 1.0), spec.Conv1d(3, 4, 3, dilation=2), spec.GRU(4, 5))),
        ONES,
    ),
    "pools": (
        Network(
            (
                spec.Masking(3, 1.0, name="x"),
                spec.Pooling(3, "mean", inputs=("x",), name="mean"),
                spec.Pooling(3, "max", inputs=("x",), name="max"),
                spec.AttentionPooling(3, inputs=("x",), name="attended"),
                spec.RNN(9, 4, inputs=("mean", "max", "attended"), name="h"),
                spec.Concat(13, inputs=("mean", "max", "attended", "h")),
            )
        ),
        ONES,
    ),
    "feedback": (
        Network(
            (
                spec.Masking(3, 1.0, name="x"),
                spec.Feedback(4, "h", name="f"),
                spec.GRU(7, 4, inputs=("x", "f"), name="h"),
                spec.Linear(11, 2, inputs=("x", "f", "h")),
            )
        ),
        ONES,
    ),
    "both directions": (
        Network(
            (
                spec.Masking(3, 1.0, name="x"),
                spec.GRU(3, 4, direction="bidirectional", name="h"),
                spec.Linear(11, 2, inputs=("x", "h")),
            )
        ),
        ONES,
    ),
    "attention": (
        Network((spec.Embedding(5, 4, mask_zero=True), spec.GRU(4, 6), spec.Attention(6, 6))),
        TOKENS,
    ),
    "copies": (
        Network(
            (
                spec.Embedding(5, 4, mask_zero=True),
                spec.GRU(4, 6, name="query"),
                spec.Linear(6, 5, name="written"),
                spec.Linear(6, 1, activation="sigmoid", inputs=("query",), name="gate"),
                spec.Copy(5, 6, inputs=("written", "gate", "query")),
            )
        ),
        TOKENS,
    ),
}


def given_to(network: Network) -> dict[str, np.ndarray]:
    """Return the memory that a network needs, and its ids."""
    given = {} if network.memory_size is None else {"memory": MEMORY}
    return given | (
        {} if network.memory_vocab_size is None else {"memory_ids": np.array([4, 0, 4])}
    )


@pytest.mark.parametrize("name", CASES)
def test_masked_steps_are_those_of_the_reference(name):
    network, xs = CASES[name]
    weights, given = random_weights(network, seed=3), given_to(network)
    model = numlstm.Model(weights)
    expected, _ = reference.run(network, weights.tensors, xs, **given)
    ys = model.run(xs, **given)
    TOLERANCES["output"].check(ys, expected)
    assert_same_bits(ys[0], ys[1])  # the two before any other
    assert_same_bits(ys[3], ys[0 if network.rests else 2])
    if not network.is_causal:
        return
    stream = model.stream(**given)
    for _ in range(2):
        assert_same_bits(np.array([stream.step(x) for x in xs]), ys)
        stream.reset()
    assert_same_bits(np.concatenate([stream.run(xs[:1]), stream.run(xs[1:])]), ys)
    if network.memory_size is None:
        pool = model.pool(3)
        slot = pool.open()
        assert_same_bits(pool.run([slot], xs[:, None])[:, 0], ys)
        assert_same_bits(model.run_batch([xs, xs[:1]])[1], ys[:1])


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("tokens", 5, r"token id 5 at xs\[4\] is outside 0 <= id < 5"),
        ("no recurrence", np.nan, r"xs\[4, 0\] is nan, expected finite numbers"),
    ],
)
def test_an_error_counts_the_steps_that_are_left_out(name, wrong, message):
    network, xs = CASES[name]
    xs = xs.copy()
    xs[4] = wrong
    model = numlstm.Model(random_weights(network))
    for run in (model.run, model.stream().run):
        with pytest.raises(ValueError, match=message):
            run(xs)


def test_a_loaded_memory_brings_its_own_answer_before_any_step():
    network, xs = CASES["attention"]
    model = numlstm.Model(random_weights(network, seed=3))
    stream, other = model.stream(memory=MEMORY), model.stream(memory=-MEMORY[:2])
    stream.load_state(other.save_state())
    stream.run(xs)
    stream.reset()
    assert_same_bits(stream.run(xs), model.run(xs, memory=-MEMORY[:2]))


def test_a_resting_network_that_overflows_answers_zeros():
    network = Network(
        (spec.Embedding(5, 4, mask_zero=True), spec.GRU(4, 6), spec.Activation(6, "log"))
    )
    ys = numlstm.Model(random_weights(network)).run(np.zeros(2, np.int32))
    assert_same_bits(ys, np.zeros((2, 6), np.float32))


def test_masked_steps_change_no_state_and_repeat_the_answer():
    network = NETWORKS["masked"]
    model = numlstm.Model(random_weights(network))
    xs = np.array([0, 0, 3, 0, 1, 2, 0, 0], np.int32)
    ys = model.run(xs)
    assert_same_bits(ys[[2, 4, 5]], model.run(xs[xs > 0]))
    assert_same_bits(ys[[3, 6, 7]], ys[[2, 5, 5]])
    assert_same_bits(ys[0], ys[1])
    expected, _ = reference.run(network, random_weights(network).tensors, xs)
    TOLERANCES["output"].check(ys, expected)
    stream, out = model.stream(), np.empty(3, np.float32)
    for x, y in zip(xs, ys, strict=True):
        assert stream.step(x, out=out) is out
        assert_same_bits(out, y)
    restored = model.stream()
    restored.load_state(stream.save_state())
    assert_same_bits(restored.step(0), ys[-1])


def test_masked_rows_of_numbers_are_skipped():
    network = Network((spec.Masking(3, value=-1.0), spec.GRU(3, 7)))
    weights = random_weights(network)
    xs = random_input(network, 12)
    xs[[0, 5, 11]] = -1.0
    xs[7, 1] = -1.0  # not all of it
    expected, _ = reference.run(network, weights.tensors, xs)
    model = numlstm.Model(weights)
    TOLERANCES["output"].check(model.run(xs), expected)
    stream = model.stream()
    assert_same_bits(np.stack([stream.step(x) for x in xs]), model.run(xs))
    with pytest.raises(ValueError, match=r"x has shape \(2,\)"):
        stream.step([-1.0, -1.0])
