"""tanh, sigmoid, relu, exp and softmax against float64, over every exponent of float32."""

import numba
import numpy as np
import pytest

from numlstm import reference
from numlstm.kernels import activations, simd
from numlstm.kernels.plan import LANES, Function
from numlstm.kernels.simd import load, pointer, store
from numlstm.network import functions
from tests.cases import every_exponent

SIGNS = (1.0, -1.0)
ZERO = np.float32(0.0)
SOFTMAX_SIZES = (1, 2, 15, 16, 17, 1000)


def compiled(function):
    """Return a function that applies one on vectors to a float32 array, a multiple of 16 long."""

    @numba.njit(error_model="numpy")
    def apply(xs, ys):
        x, y = pointer(xs, np.float32), pointer(ys, np.float32)
        for at in range(0, xs.size, LANES):
            store(y, at, function(load(x, at)))

    def wrapped(xs):
        padded = np.zeros(-(-xs.size // LANES) * LANES, np.float32)
        padded[: xs.size] = xs
        ys = np.empty_like(padded)
        apply(padded, ys)
        return ys[: xs.size]

    return wrapped


TANH, SIGMOID, RELU, EXP = (
    compiled(function)
    for function in (activations.tanh, activations.sigmoid, activations.relu, activations.exp)
)


@numba.njit(error_model="numpy")
def _softmax(a, at, size):
    activations.softmax(pointer(a, np.float32), at, size)


NUMBERS = every_exponent()
# The exponents where the functions bend, denser.
DENSE = np.concatenate(
    [sign * np.linspace(1e-3, 110, 2_000_000, dtype=np.float32) for sign in SIGNS]
)
XS = np.concatenate([NUMBERS, DENSE])


def ulps(found, expected):
    """Return |found - expected| in units of the last place of float32 at `expected`."""
    unit = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    return np.abs(found.astype(np.float64) - expected) / unit


def test_tanh_is_close_everywhere():
    expected = np.tanh(XS.astype(np.float64))
    found = TANH(XS)
    assert np.abs(found - expected).max() <= 3e-7
    small = np.abs(expected) < 0.5
    assert ulps(found[small], expected[small]).max() <= 4
    assert np.abs(found).max() <= 1
    assert (np.signbit(found) == np.signbit(XS)).all()


def test_tanh_never_exceeds_one_at_the_clamp():
    x = np.float32(7.9)
    near = x + np.arange(-4096, 4096, dtype=np.float32) * np.spacing(x)
    for sign in SIGNS:
        found = TANH(np.float32(sign) * near)
        assert np.abs(found).max() <= 1
        assert np.abs(found - np.tanh(sign * near.astype(np.float64))).max() <= 3e-7


def sigmoid64(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def test_sigmoid_is_close_everywhere():
    expected = sigmoid64(XS.astype(np.float64))
    found = SIGMOID(XS)
    assert np.abs(found - expected).max() <= 1e-7
    above = XS > -87
    assert ulps(found[above], expected[above]).max() <= 4
    assert found.min() >= 0
    assert found.max() <= 1


def test_exp_is_within_little_more_than_one_unit_in_the_last_place():
    inside = (XS >= -104) & (XS <= 89)
    xs = XS[inside]
    with np.errstate(over="ignore"):
        expected = np.exp(xs.astype(np.float64))
        finite = expected.astype(np.float32) < np.inf
    found = EXP(xs)
    # The largest error found is 1.033, at -59.949715.
    assert ulps(found[finite], expected[finite]).max() <= 1.05
    assert (found[~finite] == np.inf).all()
    assert (EXP(XS[XS < -104]) == 0).all()
    assert (EXP(XS[XS > 89]) == np.inf).all()


def test_exp_reaches_the_denormals_step_by_step():
    xs = np.linspace(-104, -87, 100_000, dtype=np.float32)
    expected = np.exp(xs.astype(np.float64))
    found = EXP(xs)
    assert np.abs(found - expected).max() <= 1.5 * 2.0**-149
    assert (np.diff(found) >= 0).all()
    assert 0 < found[found > 0].min() <= 2 * 2.0**-149


def test_relu_is_exact():
    np.testing.assert_array_equal(RELU(XS), np.maximum(XS, 0))


INF, TINY = np.inf, 1e-45
# Pairs of x and f(x).
EDGES = {
    "tanh": (TANH, [(0.0, 0.0), (-0.0, -0.0), (TINY, TINY), (-TINY, -TINY)]),
    "sigmoid": (SIGMOID, [(0.0, 0.5), (-0.0, 0.5), (TINY, 0.5), (INF, 1.0)]),
    "relu": (RELU, [(0.0, 0.0), (-1.0, 0.0), (TINY, TINY), (-TINY, 0.0), (INF, INF), (-INF, 0.0)]),
    "exp": (EXP, [(0.0, 1.0), (-0.0, 1.0), (TINY, 1.0), (-TINY, 1.0), (INF, INF), (-INF, 0.0)]),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_are_exact_and_nan_stays_nan(name):
    function, edges = EDGES[name]
    xs, expected = np.array(edges, np.float32).T
    found = function(xs)
    np.testing.assert_array_equal(found, expected)
    assert name == "relu" or (np.signbit(found) == np.signbit(expected)).all()
    nans = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(function(np.repeat(nans, 5))).all()


@pytest.mark.parametrize("sign", SIGNS)
def test_infinities_give_the_limits(sign):
    x = np.array([sign * np.inf], np.float32)
    assert abs(TANH(x)[0] - sign) <= 3e-7
    assert abs(SIGMOID(x)[0] - (sign > 0)) <= 1e-7


def test_a_nan_touches_only_its_own_lane():
    xs = np.linspace(-3, 3, LANES, dtype=np.float32)
    for function in (TANH, SIGMOID, RELU, EXP):
        expected = function(xs)
        for lane in range(LANES):
            damaged = xs.copy()
            damaged[lane] = np.nan
            found = function(damaged)
            assert np.isnan(found[lane])
            np.testing.assert_array_equal(np.delete(found, lane), np.delete(expected, lane))


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu"])
def test_activate_rounds_up_to_16_and_touches_nothing_else(name):
    function_id = Function[name.upper()]

    @numba.njit(error_model="numpy")
    def activate(a, at, size):
        activations.activate(function_id, ZERO, ZERO, pointer(a, np.float32), at, size)

    xs = np.linspace(-2, 2, 80, dtype=np.float32)
    found = xs.copy()
    activate(found, 16, 17)
    np.testing.assert_array_equal(found[:16], xs[:16])
    np.testing.assert_array_equal(found[16:48], EDGES[name][0](xs[16:48]))
    np.testing.assert_array_equal(found[48:], xs[48:])


# The others ---------------------------------------------------------------------------------------


LOG = compiled(activations.log)


def test_log_is_close_everywhere():
    xs = NUMBERS[np.finfo(np.float32).tiny <= NUMBERS]
    xs = np.concatenate([xs, np.linspace(0.5, 2, 1_000_001, dtype=np.float32)])
    expected = np.log(xs.astype(np.float64))
    found = LOG(xs)
    assert ulps(found, expected).max() <= 1
    edges = np.array([0.0, -0.0, 1e-45, -1.0, -np.inf, np.nan, np.inf, 1.0], np.float32)
    expected = np.array([-np.inf, -np.inf, -np.inf, *[np.nan] * 3, np.inf, 0.0], np.float32)
    np.testing.assert_array_equal(LOG(edges), expected)


# |found - expected| <= this (1 + |expected|), on numbers of every exponent within the bounds.
# What a function of the others adds up to: an exp is relative, expm1 and log1p are absolute.
BOUNDS = {
    "linear": (0, 1e38), "tanh": (3e-7, 1e38), "sigmoid": (1e-7, 1e38), "relu": (0, 1e38),
    "affine": (1e-7, 1e37), "leaky_relu": (1e-7, 1e38), "thresholded_relu": (0, 1e38),
    "scaled_tanh": (6e-7, 1e37), "hard_sigmoid": (1e-7, 1e38), "elu": (2e-7, 1e38),
    "selu": (4e-7, 1e38), "softsign": (1e-7, 1e38), "softplus": (2e-7, 1e38),
    "silu": (2e-7, 1e38), "clip": (0, 1e38), "exp": (2e-7, 80), "log": (2e-7, 1e38),
    "sqrt": (1e-7, 1e38), "square": (1e-7, 1e18),
    "linear_sigmoid": (1e-7, 1e38), "abs": (0, 1e38), "reciprocal": (1e-7, 1e38),
    "gelu": (1e-7, 1e38), "gelu_tanh": (2e-7, 1e38), "erf": (2e-7, 1e38),
}  # fmt: skip
PARAMETERS = {
    "affine": (-0.75, 0.5), "leaky_relu": (0.3,), "thresholded_relu": (0.5,),
    "scaled_tanh": (1.7159, 0.6667), "hard_sigmoid": (1 / 6, 0.5), "elu": (0.7,),
    "clip": (-0.25, 6.0),
}  # fmt: skip


@numba.njit(error_model="numpy")
def _activate(function, alpha, beta, a):
    activations.activate(function, alpha, beta, pointer(a, np.float32), 0, a.size)


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_every_function_is_that_of_the_reference(name):
    bound, largest = BOUNDS[name]
    xs = XS[np.abs(XS) <= largest]
    if name in ("log", "sqrt"):
        xs = xs[xs >= np.finfo(np.float32).tiny]
    if name == "reciprocal":
        xs = xs[np.abs(xs) >= 1e-37]
    xs = xs[: xs.size // LANES * LANES]
    parameters = [np.float32(p) for p in PARAMETERS.get(name, functions.FUNCTIONS[name])]
    text = functions.function_text(name, *(float(p) for p in parameters))
    with np.errstate(under="ignore", over="ignore"):
        expected = reference.apply(text, xs.astype(np.float64))
    found = xs.copy()
    _activate(Function[name.upper()], *[*parameters, ZERO, ZERO][:2], found)
    assert (np.abs(found - expected) <= bound * (1 + np.abs(expected))).all()
    nans = np.full(LANES, np.nan, np.float32)
    _activate(Function[name.upper()], *[*parameters, ZERO, ZERO][:2], nans)
    assert np.isnan(nans).all()


def test_every_function_has_a_number():
    assert [function.name.lower() for function in Function] == list(functions.FUNCTIONS)
    assert sorted(Function) == list(range(len(functions.FUNCTIONS)))


# Softmax ------------------------------------------------------------------------------------------


def softmax64(x):
    e = np.exp(x.astype(np.float64) - x.max())
    return e / e.sum()


def softmax(x, at=32):
    """Return the softmax of a run inside a larger array full of NaN."""
    padded = -(-x.size // LANES) * LANES
    a = np.full(at + padded + LANES, np.nan, np.float32)
    a[at : at + x.size] = x
    _softmax(a, at, x.size)
    assert np.isnan(a[:at]).all(), "written before the run"
    assert np.isnan(a[at + padded :]).all(), "written behind the run"
    if not np.isnan(a[at]):
        assert (a[at + x.size : at + padded] == 0).all(), "padding lanes are not zero"
    return a[at : at + x.size]


def _logits(kind: str, size: int) -> np.ndarray:
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    match kind:
        case "huge":
            return x * np.float32(5e37)
        case "small":
            return x * np.float32(1e-38)
        case "spread":
            return x * np.float32(30)
        case "equal":
            return np.full(size, 3.25, np.float32)
        case "negative":
            return x - np.float32(1e30)
        case "two_largest":
            x[0] = x[-1] = 9
        case "minus_inf":
            x[1::2] = -np.inf
    return x


KINDS = ("normal", "huge", "small", "spread", "equal", "negative", "two_largest", "minus_inf")


@pytest.mark.parametrize("size", SOFTMAX_SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_softmax_is_close(kind, size):
    x = _logits(kind, size)
    found, expected = softmax(x), softmax64(x)
    # x - max rounds: an error of half a unit of |x - max| <= 104 in the exponent.
    np.testing.assert_allclose(found, expected, rtol=5e-6, atol=2e-38)
    assert abs(found.astype(np.float64).sum() - 1) <= 1e-6
    assert (found[x == x.max()] == found.max()).all()
    assert (found[np.isneginf(x)] == 0).all()


@numba.njit(error_model="numpy")
def _log_softmax(a, size):
    activations.log_softmax(pointer(a, np.float32), 0, size)


@pytest.mark.parametrize("size", SOFTMAX_SIZES)
@pytest.mark.parametrize("kind", ["normal", "spread", "equal", "negative", "two_largest"])
def test_log_softmax_is_close(kind, size):
    x = _logits(kind, size)
    a = np.full(size + LANES, np.nan, np.float32)
    a[:size] = x
    _log_softmax(a, size)
    expected = reference.log_softmax(x.astype(np.float64))
    np.testing.assert_allclose(a[:size], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", SOFTMAX_SIZES)
def test_softmax_of_a_nan_is_nan_everywhere(size):
    for lane in {0, size // 2, size - 1}:
        x = _logits("normal", size)
        x[lane] = np.nan
        assert np.isnan(softmax(x)).all()


def test_softmax_of_only_minus_infinity_is_nan_as_by_the_equation():
    assert np.isnan(softmax(np.full(5, -np.inf, np.float32))).all()


def test_vectors_have_the_lanes_the_tests_think():
    assert simd.LANES == LANES == 16
