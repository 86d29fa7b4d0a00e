"""Arrays of any layout, byte order and class: the same bits, or an error that says why not."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import Network, spec
from tests.cases import random_weights


class Sub(np.ndarray):
    pass


def placed(a: Any, dtype: Any, offset: int) -> Any:
    """Return an array whose first number is so many bytes into one that is aligned."""
    array = np.ndarray(a.shape, dtype, np.zeros(a.nbytes + 8, np.uint8), offset)
    array[...] = a
    return array


def forms(a: Any) -> Iterator[tuple[str, Any]]:
    """Yield the numbers of an array in other arrays."""
    swapped = a.dtype.newbyteorder(">")
    yield "fortran", np.asfortranarray(a)
    yield "reversed", a[::-1].copy()[::-1]
    yield "unaligned", placed(a, a.dtype, 1)
    yield "swapped", a.astype(swapped)
    yield "swapped, unaligned", placed(a, swapped, 3)
    frozen = a.copy()
    frozen.flags.writeable = False
    yield "read only", frozen
    yield "subclass", a.view(Sub)
    yield "recarray", a.view(np.recarray)
    yield "nothing masked", np.ma.masked_array(a)
    yield "rows apart", np.repeat(a, 2, 0)[::2]
    yield "columns apart", np.repeat(a, 2, -1)[..., ::2]
    fields = np.zeros(a.shape, [("p", "u1"), ("v", a.dtype)])
    fields["v"] = a
    yield "a field", fields["v"]
    yield "broadcast", np.broadcast_to(a, a.shape)
    yield "wider", a.astype("f8" if a.dtype.kind == "f" else "u8")
    yield "list", a.tolist()
    yield "buffer", memoryview(a)


def model(*layers: spec.Layer) -> numlstm.Model:
    return numlstm.Model(random_weights(Network(layers)))


VECTORS = model(spec.LSTM(3, 20), spec.Linear(20, 2))
TOKENS = model(spec.Embedding(50, 5), spec.GRU(5, 20))
MASKED = model(spec.Masking(3), spec.LSTM(3, 20))
BOTH_WAYS = model(spec.LSTM(3, 20, direction="bidirectional"))
READS = model(spec.GRU(3, 4), spec.Attention(4, 4))
COPIES = model(spec.Linear(3, 5 + 1 + 4), spec.Copy(5, 4))

CHANCE = np.random.default_rng(0)
XS = CHANCE.standard_normal((7, 3)).astype(np.float32)
IDS = CHANCE.integers(0, 50, 7).astype(np.int32)
MEMORY = CHANCE.standard_normal((7, 4)).astype(np.float32)
MEMORY_IDS = CHANCE.integers(0, 5, 7).astype(np.int32)


def pooled(of: numlstm.Model, xs: Any, slots: Any = range(7)) -> Any:
    pool = of.pool(8)
    for _ in range(7):
        pool.open()
    return pool.step(slots, xs)


def late(xs: Any) -> Any:
    stream = BOTH_WAYS.stream(lookahead=2)
    return np.concatenate([stream.run(xs), stream.finish()])


CALLS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "run": (VECTORS.run, XS),
    "run tokens": (TOKENS.run, IDS),
    "run masked": (MASKED.run, XS),
    "run both ways": (BOTH_WAYS.run, XS),
    "run_batch": (lambda xs: np.concatenate(VECTORS.run_batch([xs, xs])), XS),
    "run_batch tokens": (lambda xs: np.concatenate(TOKENS.run_batch([xs, xs])), IDS),
    "step": (lambda x: VECTORS.stream().step(x), XS[0].copy()),
    "stream.run": (lambda xs: VECTORS.stream().run(xs), XS),
    "stream.run tokens": (lambda xs: TOKENS.stream().run(xs), IDS),
    "trace": (lambda xs: VECTORS.stream().trace(xs).ys, XS),
    "lookahead": (late, XS),
    "pool": (lambda xs: pooled(VECTORS, xs), XS),
    "pool tokens": (lambda xs: pooled(TOKENS, xs), IDS),
    "slots": (lambda slots: pooled(VECTORS, XS, slots), np.arange(7)[::-1].copy()),
    "memory": (lambda rows: READS.run(XS, memory=rows), MEMORY),
    "memory_ids": (lambda ids: COPIES.run(XS, memory=MEMORY, memory_ids=ids), MEMORY_IDS),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_bits_do_not_depend_on_how_the_numbers_lie(name):
    call, plain = CALLS[name]
    expected = call(plain).tobytes()
    for form, array in forms(plain):
        assert call(array).tobytes() == expected, form


@pytest.mark.parametrize("name", CALLS)
def test_what_has_no_numbers_is_refused(name):
    call, plain = CALLS[name]
    mask = np.arange(plain.size).reshape(plain.shape) == 1
    with pytest.raises(TypeError, match="has masked numbers: fill them"):
        call(np.ma.masked_array(plain, mask))
    with pytest.raises(TypeError, match="object"):
        call(plain.astype(object))


def test_an_out_of_any_layout_is_filled_or_refused():
    expected = VECTORS.run(XS)
    filled = []
    for form, out in forms(np.zeros((7, 2), np.float32)):
        try:
            VECTORS.run(XS, out=out)
        except (TypeError, ValueError):
            continue
        np.testing.assert_array_equal(np.asarray(out), expected, form)
        filled.append(form)
    assert "subclass" in filled
