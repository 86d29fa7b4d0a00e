"""What must hold for every network, whatever its numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numlstm
from numlstm import spec
from numlstm.spec import Network, Weights
from tests.cases import (
    CASES,
    CELLS,
    TOLERANCES,
    assert_same_bits,
    random_input,
    random_weights,
    with_tensor,
)


@st.composite
def recurrent(draw, cells=tuple(CELLS)):
    """Draw weights of one layer."""
    cell = draw(st.sampled_from(cells))
    input_size, size = draw(st.integers(1, 20)), draw(st.integers(1, 40))
    if cell == "sru" and input_size == size:  # its answer holds the input itself
        size += 1
    network = Network((CELLS[cell](input_size, size, draw(st.booleans())),))
    return cell, random_weights(network, draw(st.integers(0, 2**31)))


@given(recurrent(), st.randoms(use_true_random=False))
def test_permuting_the_units_permutes_the_output(drawn, random):
    _, weights = drawn
    size = weights.network.output_size
    order = list(range(size))
    random.shuffle(order)
    tensors = {}
    for name, tensor in weights.tensors.items():
        gates = tensor.reshape(-1, size, *tensor.shape[1:])
        tensors[name] = gates[:, order].reshape(tensor.shape)
        if name.endswith("weight_hh") and tensor.ndim == 2:
            tensors[name] = tensors[name][:, order].copy()
    xs = random_input(weights.network, 40)
    expected = numlstm.Model(weights).run(xs)[:, order]
    found = numlstm.Model(Weights(weights.network, tensors)).run(xs)
    TOLERANCES["output"].check(found, expected)  # the sums over h are in another order


@given(recurrent(), st.randoms(use_true_random=False))
def test_permuting_the_features_of_the_input_changes_nothing(drawn, random):
    _, weights = drawn
    order = list(range(weights.network.input_size))
    random.shuffle(order)
    w_ih = weights.tensors["layers.0.weight_ih"]
    other = with_tensor(weights, "layers.0.weight_ih", w_ih[:, order])
    xs = random_input(weights.network, 40)
    TOLERANCES["output"].check(
        numlstm.Model(other).run(xs[:, order]), numlstm.Model(weights).run(xs)
    )


@given(recurrent(), st.integers(-6, 6))
def test_a_power_of_two_moves_from_the_input_to_its_weights_without_a_bit(drawn, exponent):
    _, weights = drawn
    scale = np.float32(2.0**exponent)
    w_ih = weights.tensors["layers.0.weight_ih"]
    other = with_tensor(weights, "layers.0.weight_ih", w_ih / scale)
    xs = random_input(weights.network, 40)
    assert_same_bits(numlstm.Model(other).run(xs * scale), numlstm.Model(weights).run(xs))


@given(recurrent(cells=("rnn_relu",)), st.integers(-6, 6))
def test_a_relu_network_without_bias_scales_with_its_input(drawn, exponent):
    _, weights = drawn
    scale = np.float32(2.0**exponent)
    tensors = {
        name: tensor * np.float32("weight" in name) for name, tensor in weights.tensors.items()
    }
    model = numlstm.Model(Weights(weights.network, tensors))
    xs = random_input(weights.network, 40)
    assert_same_bits(model.run(xs * scale), model.run(xs) * scale)


@given(recurrent(cells=("rnn_tanh",)))
def test_a_tanh_network_without_bias_is_odd(drawn):
    _, weights = drawn
    tensors = {
        name: tensor * np.float32("weight" in name) for name, tensor in weights.tensors.items()
    }
    model = numlstm.Model(Weights(weights.network, tensors))
    xs = random_input(weights.network, 40)
    np.testing.assert_array_equal(model.run(-xs), -model.run(xs))


@given(recurrent(), st.integers(0, 60))
def test_a_prefix_of_the_input_gives_a_prefix_of_the_output(drawn, length):
    _, weights = drawn
    model = numlstm.Model(weights)
    xs = random_input(weights.network, 60)
    assert_same_bits(model.run(xs[:length]), model.run(xs)[:length])


@given(recurrent(cells=("rnn_tanh", "gru", "lstm")), st.floats(0.1, 1000))
def test_h_never_leaves_minus_one_to_one(drawn, scale):
    _, weights = drawn
    tensors = {name: tensor * np.float32(scale) for name, tensor in weights.tensors.items()}
    model = numlstm.Model(Weights(weights.network, tensors))
    assert np.abs(model.run(np.float32(scale) * random_input(weights.network, 60))).max() <= 1


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(0, 2**31))
def test_units_with_zero_weights_add_nothing_to_the_others(size, seed):
    """The padding to 16 units is such units."""
    small = random_weights(Network((spec.LSTM(3, size),)), seed)
    wide = Network((spec.LSTM(3, size + 7),))
    tensors = {name: np.zeros(shape, np.float32) for name, shape in wide.tensor_shapes().items()}
    for name, tensor in small.tensors.items():
        for gate in range(4):
            rows = slice(gate * (size + 7), gate * (size + 7) + size)
            part = tensor[gate * size : (gate + 1) * size]
            if part.ndim == 1:
                tensors[name][rows] = part
            else:
                tensors[name][rows, : part.shape[1]] = part
    xs = random_input(wide, 40)
    found = numlstm.Model(Weights(wide, tensors)).run(xs)
    assert_same_bits(found[:, :size].copy(), numlstm.Model(small).run(xs))
    np.testing.assert_array_equal(found[:, size:], 0)


@given(st.integers(1, 70), st.integers(-8, 8), st.integers(0, 2**31))
def test_softmax_does_not_feel_a_common_shift(size, shift, seed):
    model = numlstm.Model(Weights(Network((spec.Softmax(size),)), {}))
    # Multiples of 1/64 below 64 add to a whole number without rounding.
    generator = np.random.default_rng(seed)
    xs = (generator.integers(-1000, 1000, (5, size)) / 64).astype(np.float32)
    assert_same_bits(model.run(xs + np.float32(shift)), model.run(xs))


@given(st.integers(2, 70), st.integers(0, 2**31))
def test_layer_norm_gives_mean_zero_and_variance_one(size, seed):
    layer = spec.LayerNorm(size, 1e-12, False, False)
    model = numlstm.Model(Weights(Network((layer,)), {}))
    xs = np.random.default_rng(seed).standard_normal((5, size)) * 3 + 2
    ys = model.run(xs).astype(float)
    # The mean is rounded: what is left of nearly equal numbers is as uncertain as it is small.
    uncertain = 1e-6 * (1 + np.abs(xs).max(1) / xs.std(1))
    np.testing.assert_array_less(np.abs(ys.mean(1)), uncertain)
    np.testing.assert_array_less(np.abs(ys.var(1) - 1), 4 * uncertain)


NOT_SRU = [case for case in CASES if case.cell != "sru"]  # whose answer holds the input itself


@pytest.mark.parametrize("case", NOT_SRU[::7], ids=lambda case: case.id)
def test_zero_weights_give_zero(case):
    shapes = case.network.tensor_shapes()
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    model = numlstm.Model(Weights(case.network, tensors))
    ys = model.run(random_input(case.network, 20))
    np.testing.assert_array_equal(ys, np.zeros((20, case.size)))
