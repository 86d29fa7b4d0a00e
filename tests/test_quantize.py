"""Weights in bfloat16 and int8: what rounding gives, and that it changes nothing done twice."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import numlstm
from numlstm import WeightsError, reference, spec
from numlstm.kernels.plan import Dtype
from numlstm.quantize import (
    FORMATS,
    Format,
    Matrix,
    as_dtype,
    bfloat16_bits,
    bfloat16_values,
    check_rows,
    dequantize_rows,
    num_bytes,
    quantize_rows,
    rounded,
)
from numlstm.spec import DTYPES, Network, Probe, Weights
from tests.cases import (
    NETWORKS,
    NOT_CAUSAL,
    Tolerance,
    assert_same_bits,
    random_input,
    random_weights,
)
from tests.lazy import torch
from tests.strategies import networks

F = np.float32
TINY, MAX = F(1e-45), np.finfo(F).max
LOW_DTYPES = ("bfloat16", "int8")

# The weights are those of the reference; int8 rounds activations to 16 bits besides.
ROUNDED = Tolerance(1e-3, 1e-3, "activations of 16 bits, through a few layers")
ROUNDED_TO_8 = Tolerance(
    0.1, 0.1, "activations of 8 bits, each off by up to 1 / 254 of the largest"
)

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
MATRICES = st.tuples(
    arrays.arrays(F, arrays.array_shapes(min_dims=2, max_dims=3, max_side=6), elements=FLOATS),
    st.sampled_from([1.0, 2.0**-99, 2.0**-120, 1e-30]),
).map(lambda drawn: drawn[0] * F(drawn[1]))


def column(*numbers: Any) -> Any:
    return np.array(numbers, F)[:, None]


# bfloat16 -----------------------------------------------------------------------------------------


def test_bfloat16_rounds_to_nearest_and_ties_to_even():
    step = 2.0**-7
    values = np.array([1, 1 + 0.49 * step, 1 + step / 2, 1 + 0.51 * step, 1 + 1.5 * step, -0.0], F)
    expected = np.array([1, 1, 1, 1 + step, 1 + 2 * step, -0.0], F)
    assert_same_bits(bfloat16_values(bfloat16_bits(values)), expected)


def test_bfloat16_is_that_of_torch():
    exponents = np.arange(255, dtype=np.uint32)[:, None] << 23
    mantissas = np.random.default_rng(0).integers(0, 2**23, 2000, np.uint32)
    mantissas[:128] = np.arange(128, dtype=np.uint32) << 16 | 0x8000  # the ties
    values = (exponents | mantissas).view(F).reshape(-1)
    values = np.concatenate([values, -values])
    expected = torch.from_numpy(values).to(torch.bfloat16)
    assert_same_bits(bfloat16_bits(values), expected.view(torch.int16).numpy().view(np.uint16))
    assert_same_bits(bfloat16_values(bfloat16_bits(values)), expected.float().numpy())


@given(arrays.arrays(np.uint16, 9))
def test_every_bfloat16_comes_back(bits):
    finite = bits[np.isfinite(bfloat16_values(bits))]
    assert_same_bits(bfloat16_bits(bfloat16_values(finite)), finite)


# int8 ---------------------------------------------------------------------------------------------


def test_a_row_has_its_scale_and_ties_go_to_even():
    weight = np.array([[127, 0.5, 1.5, -2.5, -127], [0, 0, 0, 0, 0], [-254, 3, 5, -7, 0]], F)
    q, scale = quantize_rows(weight)
    assert scale.tolist() == [1, 0, 2]
    assert q.tolist() == [[127, 0, 2, -2, -127], [0, 0, 0, 0, 0], [-127, 2, 2, -4, 0]]
    assert q.dtype == np.int8
    assert scale.dtype == F


@given(MATRICES)
@example(column(MAX, -MAX, TINY, -TINY, 0.0, 2.0**-100, 2.0**-101, 127 * 33026 * 2.0**106))
@example(np.array([[MAX, 1.0, TINY, -MAX]], F))
def test_to_quantise_again_changes_nothing(weight):
    q, scale = quantize_rows(weight)
    values = dequantize_rows(q, scale)
    assert np.isfinite(values).all()
    again = quantize_rows(values)
    assert_same_bits(again[0], q)
    assert_same_bits(again[1], scale)
    check_rows(q, scale)


@given(MATRICES)
def test_the_error_is_at_most_half_a_scale(weight):
    q, scale = quantize_rows(weight)
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    largest = np.abs(rows).max(axis=1)
    error = np.abs(dequantize_rows(q, scale).reshape(rows.shape) - rows).max(axis=1)
    limit = np.where(scale > 0, scale.astype(np.float64) * (0.5 + 1e-4), 2.0**-100)
    assert (error <= limit).all()
    assert ((scale == 0) == (largest < 2.0**-100)).all()
    assert (scale <= largest / 127 * (1 + 2.0**-15)).all()
    assert q.min() >= -127


def test_the_rows_of_a_convolution_are_its_outputs():
    weight = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(F)
    q, scale = quantize_rows(weight)
    flat, same = quantize_rows(weight.reshape(4, 15))
    assert scale.shape == (4,)
    assert_same_bits(q, flat.reshape(4, 3, 5))
    assert_same_bits(scale, same)


@pytest.mark.parametrize(
    ("q", "scale", "message"),
    [
        ([[127]], [np.nan], "not finite"),
        ([[127]], [np.inf], "not finite"),
        ([[127]], [-1], "negative"),
        ([[0]], [-0.0], "negative"),
        ([[127]], [1 + 2.0**-16], "16 significant bits"),
        ([[127]], [2.0**-107], "too small"),
        ([[127]], [2.0**122], "large"),
        ([[-128]], [1], "largest of a row"),
        ([[127, -128]], [1], "largest of a row"),
        ([[126]], [1], "largest of a row"),
        ([[1]], [0], "largest of a row"),
    ],
)
def test_rows_that_no_weights_give_are_refused(q, scale, message):
    with pytest.raises(WeightsError, match=message):
        check_rows(np.array(q, np.int8), np.array(scale, F))


# Networks -----------------------------------------------------------------------------------------


MIXED = Network(
    (
        spec.Embedding(5, 4, dtype="int8"),
        spec.LSTM(4, 6, dtype="bfloat16", direction="bidirectional"),
        spec.LayerNorm(12),
        spec.Linear(12, 3, dtype="int8"),
        spec.Linear(3, 2),
    )
)


def test_the_dtype_is_an_option_of_layers_with_matrices():
    layer = spec.LSTM(4, 6, dtype="int8", name="a")
    assert repr(layer) == "LSTM(input_size=4, hidden_size=6, bias=True, dtype='int8', name='a')"
    assert "dtype" not in repr(spec.LSTM(4, 6))
    assert Network.from_json(MIXED.to_json()) == MIXED
    with pytest.raises(WeightsError, match="expected one of: float32, bfloat16, int8"):
        spec.GRU(4, 6, dtype="int4")
    with pytest.raises(WeightsError, match="dtype"):
        Network.from_json([{"layer": "LayerNorm", "input_size": 2, "dtype": "int8"}])


def test_the_dtype_is_of_the_matrices_alone():
    layer = spec.LSTM(4, 6, proj_size=2, peepholes=True, initial_state=True, dtype="int8")
    two = replace(layer, direction="bidirectional")
    matrices = ["weight_ih", "weight_hh", "weight_hr"]
    assert layer.matrices() == matrices
    assert two.matrices() == matrices + [f"{name}_reverse" for name in matrices]
    assert spec.Conv1d(4, 2, 3).matrices() == ["weight"]
    assert list(MIXED.matrix_dtypes().items())[:2] == [
        ("embedding.weight", "int8"),
        ("layers.0.weight_ih", "bfloat16"),
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_network_takes_a_dtype(dtype):
    network = MIXED.with_dtype(dtype)
    assert set(network.matrix_dtypes().values()) == {dtype}
    assert network.with_dtype("float32") == MIXED.with_dtype("float32")
    assert network.layers[2] == MIXED.layers[2]


@given(network=networks(), dtype=st.sampled_from(LOW_DTYPES), seed=st.integers(0, 2**32 - 1))
def test_to_round_again_changes_nothing(network, dtype, seed):
    weights = random_weights(network, seed)
    once = as_dtype(weights, dtype)
    again = rounded(once)
    dtypes = once.network.matrix_dtypes()
    for name, tensor in once.tensors.items():
        assert_same_bits(again.tensors[name], tensor, name)
        if name not in dtypes:
            assert tensor is weights.tensors[name]
    assert as_dtype(once, dtype).fingerprint == once.fingerprint


def test_only_the_layers_of_a_dtype_are_rounded():
    weights = random_weights(MIXED)
    found = rounded(weights)
    same = {name for name, tensor in found.tensors.items() if tensor is weights.tensors[name]}
    low = {name for name, dtype in MIXED.matrix_dtypes().items() if dtype != "float32"}
    assert same == set(weights.tensors) - low
    float32 = random_weights(MIXED.with_dtype("float32"))
    assert rounded(float32) is float32


def test_all_else_is_kept():
    network = Network((spec.Linear(2, 2),))
    probe = Probe(np.ones((1, 2), F), np.ones((1, 2), F))
    weights = replace(
        random_weights(network), labels=("a", "b"), tokenizer="{}", probes=(probe,), origin="me"
    )
    found = as_dtype(weights, "int8")
    assert (found.labels, found.tokenizer, found.origin) == (("a", "b"), "{}", "me")
    assert found.probes == weights.probes


def test_numbers_too_large_for_bfloat16_are_refused():
    network = Network((spec.Linear(2, 1, dtype="bfloat16"), spec.Linear(1, 1, dtype="int8")))
    weights = random_weights(network)
    weight = np.array([[MAX, 1]], F)
    large = replace(weights, tensors={**weights.tensors, "layers.0.weight": weight})
    with pytest.raises(WeightsError, match=r"layers.0.weight: a number is too large for bfloat16"):
        numlstm.Model(large)
    largest = np.array([[-bfloat16_values(np.array([0x7F7F], np.uint16))[0], 1]], F)
    fits = replace(weights, tensors={**weights.tensors, "layers.0.weight": largest})
    assert_same_bits(rounded(fits).tensors["layers.0.weight"], largest)


def test_every_dtype_of_a_layer_is_a_row():
    assert tuple(FORMATS) == DTYPES
    assert [dtype.name.lower() for dtype in Dtype] == list(FORMATS)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_matrix_is_moved_with_its_scales(dtype):
    weight = np.random.default_rng(0).standard_normal((6, 4, 3), F)
    matrix = FORMATS[dtype].encode(weight)
    turned = matrix.arranged(lambda rows: rows[::-2])
    assert_same_bits(turned.values(), matrix.values()[::-2])


@pytest.mark.parametrize("dtype", [None, *DTYPES])
def test_to_load_rounds_every_matrix_once_and_checks_every_tensor_once(
    tmp_path, monkeypatch, dtype
):
    numlstm.Model(random_weights(NETWORKS["lstm_17"])).save(tmp_path / "m.safetensors")
    checks, rounds = [], []
    check = Network.check_tensors

    def counting(network, tensors, *args):
        checks.append(network)
        check(network, tensors, *args)

    def encode(form, weight):
        rounds.append(form.name)
        return Matrix(form, *form.round(weight))

    monkeypatch.setattr(Network, "check_tensors", counting)
    monkeypatch.setattr(Format, "encode", encode)
    model = numlstm.load(tmp_path / "m.safetensors", dtype)
    assert len(checks) == 1
    low = dtype if dtype in LOW_DTYPES else None
    num_matrices = len(model.network.matrix_dtypes())
    assert [name for name in rounds if name != "float32"] == [low] * num_matrices * (
        low is not None
    )


# Models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", LOW_DTYPES)
@pytest.mark.parametrize("name", [*NETWORKS, *NOT_CAUSAL])
def test_a_model_answers_as_the_reference_does_with_rounded_weights(name, dtype):
    weights = as_dtype(random_weights((NETWORKS | NOT_CAUSAL)[name]), dtype)
    xs = random_input(weights.network, 20)
    expected, _ = reference.run(weights.network, weights.tensors, xs)
    ROUNDED.check(numlstm.Model(weights).run(xs), expected, name)


@pytest.mark.parametrize("name", [*NETWORKS, *NOT_CAUSAL])
def test_activations_of_8_bits_are_near_the_reference(name):
    weights = as_dtype(random_weights((NETWORKS | NOT_CAUSAL)[name]), "int8", "int8")
    xs = random_input(weights.network, 20)
    expected, _ = reference.run(weights.network, weights.tensors, xs)
    ROUNDED_TO_8.check(numlstm.Model(weights).run(xs), expected, name)


def test_activations_of_8_bits_are_those_of_the_equations():
    """One matrix, in float64: q = round(127 x / max |x|), of halves the even one."""
    weights = as_dtype(random_weights(Network((spec.Linear(37, 20),))), "int8", "int8")
    xs = random_input(weights.network, 7).astype(np.float64)
    largest = np.abs(xs).max(axis=1, keepdims=True)
    q = np.round(xs * 127 / largest)
    weight, bias = (weights.tensors[f"layers.0.{name}"] for name in ("weight", "bias"))
    expected = (q * largest / 127) @ weight.T.astype(np.float64) + bias
    found = numlstm.Model(weights).run(xs)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    in_16 = numlstm.Model(as_dtype(weights, "int8")).run(xs)
    exact = xs @ weight.T.astype(np.float64) + bias
    assert 20 * np.abs(in_16 - exact).max() < np.abs(found - exact).max()


def test_activations_go_with_int8_alone(float_model):
    with pytest.raises(
        ValueError, match="activations='int8' goes with dtype='int8', not 'float32'"
    ):
        float_model.astype("float32", "int8")
    with pytest.raises(ValueError, match="activations is 'int4', expected one of: int16, int8"):
        float_model.astype("int8", "int4")
    with pytest.raises(ValueError, match="activations='int8' goes with dtype='int8'"):
        numlstm.load("sentiment", activations="int8")
    with pytest.raises(WeightsError, match="activations are those of int8 matrices"):
        spec.Linear(3, 4, activations="int8")


def test_activations_stay_with_the_file(float_model, tmp_path):
    model = float_model.astype("int8", "int8")
    model.save(tmp_path / "m.safetensors")
    xs = random_input(model.network, 9)
    loaded = numlstm.load(tmp_path / "m.safetensors")
    assert loaded.network == model.network
    assert_same_bits(loaded.run(xs), model.run(xs))


def test_dtypes_may_differ_by_layer():
    weights = random_weights(MIXED)
    xs = random_input(MIXED, 20)
    expected, _ = reference.run(MIXED, rounded(weights).tensors, xs)
    ROUNDED.check(numlstm.Model(weights).run(xs), expected)


@pytest.mark.parametrize("dtype", ["float64", "INT8", "", 3, None])
def test_other_dtypes_are_refused(float_model, dtype):
    message = f"dtype is {dtype!r}, expected one of: float32, bfloat16, int8"
    with pytest.raises(ValueError, match=message):
        float_model.astype(dtype)


def test_astype_float32_keeps_what_was_rounded(float_model):
    xs = random_input(float_model.network, 9)
    back = float_model.astype("int8").astype("float32")
    assert back.network == float_model.network
    assert np.abs(back.run(xs) - float_model.run(xs)).max() > 0
    assert_same_bits(float_model.astype("float32").run(xs), float_model.run(xs))


def probed(network: Network) -> Weights:
    """Return weights with a probe: what the network answers in float32."""
    weights = random_weights(network.with_dtype("float32"))
    xs = random_input(network, 20)
    return replace(weights, probes=(Probe(xs, numlstm.Model(weights).run(xs)),))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in NETWORKS if "lstm" in name or "gru" in name])
def test_probes_of_float32_verify_rounded_weights(name, dtype):
    weights = probed(NETWORKS[name])
    result = numlstm.Model(weights).astype(dtype).verify()
    assert result.ok
    assert (result.largest_difference > 0) == (dtype != "float32")


@pytest.mark.parametrize("dtype", LOW_DTYPES)
def test_gross_errors_are_found(dtype):
    weights = as_dtype(probed(NETWORKS["lstm_17"]), dtype)
    turned = weights.tensors["layers.0.weight_ih"][::-1].copy()
    wrong = replace(weights, tensors={**weights.tensors, "layers.0.weight_ih": turned})
    result = numlstm.Model(wrong).verify()
    assert not result.ok
    assert result.largest_difference > FORMATS[dtype].tolerance


def test_info_tells_the_dtypes_and_the_size():
    model = numlstm.Model(random_weights(Network((spec.Linear(1000, 2000, dtype="int8"),))))
    assert num_bytes(model.network) == 2_000_000 + 4 * 2000 + 4 * 2000
    assert "2,002,000 weights, 2.0 MB in int8\n" in model.info()
    assert "4.0 MB in bfloat16\n" in model.astype("bfloat16").info()
    assert "8.0 MB in float32\n" in model.astype("float32").info()
    mixed = numlstm.Model(random_weights(MIXED)).info()
    assert "MB in float32 and bfloat16 and int8\n" in mixed


@pytest.mark.parametrize("activations", ["int16", "int8"])
@pytest.mark.parametrize("make", [spec.LSTM, spec.GRU, spec.RNN])
def test_a_state_beyond_one_is_not_clamped(make, activations):
    network = Network((make(5, 20),)).with_dtype("int8", activations)
    weights = as_dtype(random_weights(network), "int8", activations)
    h = np.linspace(-3, 3, 20, dtype=np.float32)
    stream = numlstm.Model(weights).stream()
    stream.state = {"layers.0.h": h}
    x = random_input(network, 1)
    expected, _ = reference.run(network, weights.tensors, x, states={"layers.0.h": h})
    assert np.abs(stream.run(x) - expected).max() < (2e-4 if activations == "int16" else 0.05)
