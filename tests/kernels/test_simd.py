"""Every function of `simd.py`, compiled, against its plain Python text, bit for bit."""

import operator

import numba
import numpy as np
import pytest

from numlstm.kernels import simd
from numlstm.kernels.simd import (
    LANES,
    at_least,
    at_most,
    exponent,
    first_lanes,
    floats_between,
    fma,
    load,
    load_half,
    low_half,
    magnitude,
    max_lanes,
    offset,
    pointer,
    power_of_two,
    reinterpret,
    splat,
    square_root,
    store,
    sum_lanes,
    times_power_of_two,
    where_greater,
)
from tests.cases import assert_same_bits

F = np.float32


def same_but_for_nan_bits(found, expected, what=""):
    """Compare bit for bit, any NaN equal to any other: IEEE 754 leaves their bits open."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), what)
    assert_same_bits(
        np.where(np.isnan(found), F(0), found), np.where(np.isnan(expected), F(0), expected), what
    )


def material() -> np.ndarray:
    """Return vectors (N, 16): ordinary numbers, every exponent, and the edges."""
    generator = np.random.default_rng(0)
    ordinary = generator.standard_normal((64, LANES)).astype(F)
    any_bits = generator.integers(0, 2**32, (256, LANES), np.uint32).view(F)
    edges = np.array([0.0, -0.0, 1e-45, -1e-45, 1, -1, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan], F)
    return np.concatenate([ordinary, any_bits, generator.choice(edges, (128, LANES))])


VECTORS = material()
TWINS = VECTORS[np.random.default_rng(1).permutation(len(VECTORS))]
THIRDS = VECTORS[np.random.default_rng(2).permutation(len(VECTORS))]


def compiled(function, num_vectors, scalar=False):
    """Return a function on arrays (N, 16) that applies one on vectors, row by row."""
    # Numba needs the number of arguments when it compiles.
    if num_vectors == 1:

        @numba.njit(error_model="numpy")
        def one(a, b, c, at):
            return function(load(a, at))

    elif num_vectors == 2:

        @numba.njit(error_model="numpy")
        def one(a, b, c, at):
            return function(load(a, at), load(b, at))

    else:

        @numba.njit(error_model="numpy")
        def one(a, b, c, at):
            return function(load(a, at), load(b, at), load(c, at))

    @numba.njit(error_model="numpy")
    def vectors(a, b, c, ys):
        a, b, c = pointer(a, np.float32), pointer(b, np.float32), pointer(c, np.float32)
        y = pointer(ys, np.float32)
        for at in range(0, ys.size, LANES):
            store(y, at, one(a, b, c, at))

    @numba.njit(error_model="numpy")
    def scalars(a, b, c, ys):
        a, b, c = pointer(a, np.float32), pointer(b, np.float32), pointer(c, np.float32)
        for row in range(ys.size):
            ys[row] = one(a, b, c, row * LANES)

    def apply(a, b, c):
        ys = np.empty(len(a) if scalar else a.shape, F)
        (scalars if scalar else vectors)(*(np.ascontiguousarray(v) for v in (a, b, c)), ys)
        return ys

    return apply


def plain(function, *arrays):
    with np.errstate(all="ignore"):
        return np.array([function(*rows) for rows in zip(*arrays, strict=True)], F)


# Each as (number of vectors it takes, does it return a scalar).
EXACT = {
    "add": (operator.add, 2, False),
    "sub": (operator.sub, 2, False),
    "mul": (operator.mul, 2, False),
    "truediv": (operator.truediv, 2, False),
    "at_least": (at_least, 2, False),
    "at_most": (at_most, 2, False),
    "low_half": (low_half, 1, False),
    "magnitude": (magnitude, 1, False),
    "square_root": (square_root, 1, False),
    "sum_lanes": (sum_lanes, 1, True),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_compiled_is_the_python_text(name):
    function, num_vectors, scalar = EXACT[name]
    found = compiled(function, num_vectors, scalar)(VECTORS, TWINS, THIRDS)
    expected = plain(function, *(VECTORS, TWINS, THIRDS)[:num_vectors])
    same_but_for_nan_bits(found, expected, name)


def test_max_lanes_of_numbers():
    rows = VECTORS[~np.isnan(VECTORS).any(1)]
    found = compiled(max_lanes, 1, True)(rows, rows, rows)
    assert_same_bits(found, plain(max_lanes, rows))
    np.testing.assert_array_equal(found, rows.max(1))


def test_at_least_and_at_most_keep_the_nan_of_their_first_argument_only():
    nan, one = np.full(LANES, np.nan, F), np.ones(LANES, F)
    rows = np.stack([nan, one]), np.stack([one, nan])
    for function in (at_least, at_most):
        for apply in (compiled(function, 2), lambda a, b, c, f=function: plain(f, a, b)):
            found = apply(*rows, rows[0])
            assert np.isnan(found[0]).all()
            np.testing.assert_array_equal(found[1], one)


def test_fma_rounds_once_and_its_twin_differs_by_one_unit_at_most():
    found = compiled(fma, 3)(VECTORS, TWINS, THIRDS)
    expected = plain(fma, VECTORS, TWINS, THIRDS)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    differ = (found != expected) & ~np.isnan(found)
    assert differ.mean() < 1e-3
    with np.errstate(invalid="ignore", over="ignore"):
        assert (np.abs(found - expected)[differ] <= np.spacing(np.abs(expected[differ]))).all()
    # 1 + 2^-12 squared needs 25 bits: rounded before the sum it would lose the last one.
    a = np.full((1, LANES), 1 + 2.0**-12, F)
    c = np.full((1, LANES), -(1 + 2.0**-11), F)
    np.testing.assert_array_equal(compiled(fma, 3)(a, a, c), np.full_like(a, 2.0**-24))


def test_where_greater_is_a_choice_that_a_nan_does_not_pass():
    def ramp(x, low, no):
        return where_greater(x, low, x + x, no)

    found = compiled(numba.njit(ramp), 3)(VECTORS, TWINS, THIRDS)
    same_but_for_nan_bits(found, plain(ramp, VECTORS, TWINS, THIRDS))
    with np.errstate(all="ignore"):
        expected = np.where(VECTORS > TWINS, VECTORS + VECTORS, THIRDS)
    same_but_for_nan_bits(found, expected)


def test_exponent_of_normal_numbers():
    values = np.abs(VECTORS[np.isfinite(VECTORS).all(1)])
    values = np.where(values < np.finfo(F).tiny, F(1), values)
    found = compiled(exponent, 1)(values, values, values)
    assert_same_bits(found, plain(exponent, values))
    scaled = values.astype(np.float64) / np.exp2(found.astype(np.float64))
    root = np.float64(np.uint32(0x3F3504F3).view(F))
    assert scaled.min() >= root
    assert scaled.max() < 2 * root


def test_power_of_two():
    powers = np.arange(-126, 128, dtype=F)
    rows = np.resize(powers, (16, LANES))
    found = compiled(power_of_two, 1)(rows, rows, rows)
    assert_same_bits(found, plain(power_of_two, rows))
    np.testing.assert_array_equal(found, np.exp2(rows.astype(np.float64)))


def test_power_of_two_of_a_nan_is_some_number():
    nan = np.full((1, LANES), np.nan, F)
    assert np.abs(compiled(power_of_two, 1)(nan, nan, nan)).max() <= 2.0**127


def test_times_power_of_two():
    rng = np.random.default_rng(5)
    whole = np.resize(np.arange(-125, 126, dtype=F), (16, LANES))
    values = rng.uniform(0.5, 2.0, whole.shape).astype(F) * rng.choice(F([-1, 1]), whole.shape)
    shifted = whole + F(1.5 * 2**23)
    found = compiled(times_power_of_two, 2)(values, shifted, shifted)
    assert_same_bits(found, plain(times_power_of_two, values, shifted))
    np.testing.assert_array_equal(found, np.ldexp(values.astype(np.float64), whole.astype(int)))


def test_splat():
    @numba.njit
    def fill(x, ys):
        store(pointer(ys, np.float32), 0, splat(x))

    for x in (F(1.5), F(-0.0), F(np.inf), F(1e-45)):
        ys = np.zeros(LANES, F)
        fill(x, ys)
        assert_same_bits(ys, splat(x))


def test_first_lanes():
    @numba.njit
    def compiled_first_lanes(xs, count, fill, ys):
        x = load(pointer(xs, np.float32), 0)
        fill = load(pointer(fill, np.float32), 0)
        store(pointer(ys, np.float32), 0, first_lanes(x, count, fill))

    xs, fill = np.arange(LANES, dtype=F), -np.ones(LANES, F)
    for count in (-3, 0, 1, 7, 15, 16, 17, 1000):
        ys = np.zeros(LANES, F)
        compiled_first_lanes(xs, count, fill, ys)
        assert_same_bits(ys, first_lanes(xs, count, fill), str(count))
        kept = min(max(count, 0), LANES)
        np.testing.assert_array_equal(ys, np.append(xs[:kept], fill[kept:]))


def test_load_and_store_at_any_offset():
    @numba.njit
    def move(xs, x_at, ys, y_at):
        store(pointer(ys, np.float32), y_at, load(pointer(xs, np.float32), x_at))

    xs = np.arange(50, dtype=F)
    for x_at, y_at in ((0, 0), (1, 0), (0, 3), (34, 17)):
        ys, expected = np.zeros(33, F), np.zeros(33, F)
        move(xs, x_at, ys, y_at)
        store(expected, y_at, load(xs, x_at))
        assert_same_bits(ys, expected)
        np.testing.assert_array_equal(ys[y_at : y_at + LANES], xs[x_at : x_at + LANES])


def test_half_a_vector_is_loaded_with_zeros_behind_it():
    @numba.njit
    def move(xs, x_at, ys):
        store(pointer(ys, np.float32), 0, load_half(pointer(xs, np.float32), x_at))

    xs, ys = np.arange(1, 12, dtype=F), np.ones(LANES, F)
    for x_at in (0, 3):
        move(xs, x_at, ys)
        assert_same_bits(ys, load_half(xs, x_at))
        np.testing.assert_array_equal(ys, [*xs[x_at : x_at + 8], *[0] * 8])


def test_pointers():
    def text(a, at, ids):
        p = offset(pointer(a, np.float32), at)
        p[1] = p[0] + np.float32(1)
        q = reinterpret(p, np.int32)
        ids[0] = q[0]
        q[2] = np.int32(1065353216)  # 1.0
        return p[2]

    expected, found = np.arange(8, dtype=F), np.arange(8, dtype=F)
    expected_ids, found_ids = np.zeros(1, np.int32), np.zeros(1, np.int32)
    assert text(expected, 3, expected_ids) == numba.njit(text)(found, 3, found_ids) == 1.0
    assert_same_bits(found, expected)
    assert_same_bits(found_ids, expected_ids)
    assert found_ids[0] == F(3).view(np.int32)


def test_floats_between_pointers():
    def text(a, x_at, y_at):
        p = pointer(a, np.float32)
        return floats_between(offset(p, x_at), offset(p, y_at))

    a = np.arange(50, dtype=F)
    for x_at, y_at in ((0, 0), (3, 40), (40, 3)):
        assert text(a, x_at, y_at) == numba.njit(text)(a, x_at, y_at) == y_at - x_at


def test_a_pointer_of_an_address_is_that_of_the_array():
    @numba.njit
    def first(address):
        return pointer(address, np.float32)[0]

    xs = np.array([2.5, 3.5], F)
    assert first(np.uintp(xs.ctypes.data)) == 2.5
    assert first(np.uintp(xs[1:].ctypes.data)) == 3.5


def test_load_copies():
    xs = np.zeros(LANES, F)
    v = load(xs, 0)
    xs[:] = 1
    np.testing.assert_array_equal(v, np.zeros(LANES))


def test_nothing_here_is_left_untested():
    functions = {
        name
        for name, value in vars(simd).items()
        if callable(value)
        and getattr(value, "__module__", "") == simd.__name__
        and not name.startswith(("_", "emit_"))
        and not isinstance(value, type)
    }
    tested = {
        "at_least", "at_most", "exponent", "first_lanes", "floats_between", "fma", "load",
        "load_half", "low_half", "magnitude", "max_lanes", "offset", "pointer", "power_of_two",
        "reinterpret", "splat", "square_root", "store", "sum_lanes", "times_power_of_two",
        "where_greater",
    }  # fmt: skip
    assert functions - {"lowered", "f32x16", "i32x16"} == tested
