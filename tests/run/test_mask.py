"""Steps that are left out: no state changes, the answer is repeated."""

import numpy as np
import pytest

import numlstm
from numlstm import reference, spec
from numlstm.spec import Network
from tests.cases import NETWORKS, TOLERANCES, assert_same_bits, random_input, random_weights


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
