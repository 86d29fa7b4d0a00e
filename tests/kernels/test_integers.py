"""Products of int8 weights: exact sums, and the same bits of them whichever instructions add."""

import numpy as np
import pytest

from numlstm.kernels import cpu, integers
from numlstm.kernels.addresses import COMPILED
from numlstm.kernels.cpu import LEVEL, LEVELS
from tests.cases import assert_same_bits
from tests.conftest import Python, output_of
from tests.kernels.products import F, answers, cases, products, quantized

# Around a word, a vector, what float32 holds exactly (516 inputs) and a block (512).
SIZES = (1, 2, 3, 4, 5, 16, 17, 64, 129, 511, 512, 513, 516, 517, 518, 520, 1024, 1025, 4096)
# Outputs and inputs.
EVERY_LEVEL = (112, 16, 100, 516, 520, 1024, 4096)
IN_PYTHON = (48, 7, 16, 516, 520)


def rounded(sums):
    """Return what is made of exact sums, as `integers.py` says; float64 holds it exactly."""
    return ((sums >> 8).astype(F) * 256.0 + (sums & 255)).astype(F)


@pytest.mark.parametrize("k_size", SIZES if COMPILED else SIZES[:8])
def test_products_are_exact_for_the_largest_weights_and_inputs(k_size):
    for name, q, xs in cases(k_size, 112):
        one, zero = np.ones(len(q), F), np.zeros(len(q), F)
        for num_bytes in (1, 2):
            inputs = xs if num_bytes == 2 else np.rint(xs / 258.0).astype(F)
            assert np.abs(inputs).max() == (127, 32767)[num_bytes - 1]
            exact = rounded(inputs.astype(np.int64) @ q.astype(np.int64).T)
            for num_rows in range(1, len(xs) + 1):
                found = products(q, one, zero, inputs[:num_rows], num_bytes)
                assert_same_bits(found, exact[:num_rows], f"{name}, {num_bytes}, {num_rows} rows")


@pytest.mark.parametrize("num_bytes", [1, 2])
@pytest.mark.parametrize("y_size", [16, 32, 48, 64, 80, 96, 128, 240])
def test_every_number_of_outputs_and_rows(y_size, num_bytes):
    (_, q, xs) = list(cases(37, y_size))[-1]
    bias = np.linspace(-1e6, 1e6, y_size, dtype=F)
    scale = np.linspace(1, 2, y_size, dtype=F)
    exact = bias + xs.astype(np.float64) @ (q * scale[:, None].astype(np.float64)).T
    alone = np.concatenate([products(q, scale, bias, xs[n : n + 1], num_bytes) for n in range(9)])
    largest = np.abs(xs).max() * np.abs(q).sum(axis=1) * scale
    atol = largest * (2e-3 if num_bytes == 1 else 1e-6) + 1
    assert (np.abs(alone - exact) <= atol).all()
    for num_rows in (2, 3, 4, 5, 9):
        found = products(q, scale, bias, xs[:num_rows], num_bytes)
        assert_same_bits(found, alone[:num_rows], f"{num_rows} rows")


@pytest.mark.parametrize("num_bytes", [1, 2])
@pytest.mark.parametrize("is_unit", [False, True])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 100, 600])
def test_inputs_are_scaled_by_their_largest_and_rounded(size, is_unit, num_bytes):
    xs = np.random.default_rng(size).standard_normal((3, size)).astype(F)
    xs *= np.array([[0.3], [1.0], [50.0]], F)
    found, scale = quantized(xs, num_bytes, is_unit)
    largest = F((127, 32767)[num_bytes - 1])
    bound = np.abs(xs).max(axis=1)
    if is_unit:
        bound = np.maximum(bound, F(1))
    assert_same_bits(scale, bound / largest)
    np.testing.assert_array_equal(found, np.rint(xs * (largest / bound)[:, None]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("num_bytes", [1, 2])
def test_what_is_not_finite_makes_every_answer_of_its_row_a_nan(num_bytes, bad):
    (_, q, xs) = list(cases(600, 48))[-1]
    xs[1, 70] = bad
    found = products(q, np.ones(48, F), np.zeros(48, F), xs, num_bytes)
    assert np.isnan(found[1]).all()
    assert np.isfinite(np.delete(found, 1, 0)).all()


@pytest.mark.slow
@pytest.mark.parametrize("level", list(filter(cpu.fits, LEVELS)), ids=lambda level: level.name)
def test_every_level_of_this_machine_gives_the_same_bits(python: Python, tmp_path, level):
    file = str(tmp_path / "found.npz")
    arguments = ("-m", "tests.kernels.products", file, *map(str, EVERY_LEVEL))
    output_of(python(*arguments, NUMLSTM_LEVEL=level.name))
    assert_same_answers(file, EVERY_LEVEL)


@pytest.mark.long
@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_every_level_as_plain_python_gives_the_same_bits(python: Python, tmp_path, level):
    file = str(tmp_path / "found.npz")
    arguments = ("-m", "tests.kernels.products", file, *map(str, IN_PYTHON))
    output_of(python(*arguments, NUMLSTM_LEVEL=level.name, NUMBA_DISABLE_JIT="1"))
    assert_same_answers(file, IN_PYTHON)


def assert_same_answers(file, sizes):
    expected = answers(*sizes)
    with np.load(file) as found:
        assert set(found) == set(expected)
        for name in expected:
            assert_same_bits(found[name], expected[name], name)


@pytest.mark.skipif(not COMPILED or not LEVEL.needs, reason="nothing is compiled that may lack")
def test_a_target_without_the_instructions_is_refused(monkeypatch):
    """LLVM would end the process."""

    class Context:
        def codegen(self):
            return self

        _tm_features = "+sse2"

    missing = sorted(LEVEL.needs)[0]
    with pytest.raises(RuntimeError, match=f"of the level {LEVEL.name} need {missing}"):
        integers._check_target(Context())
