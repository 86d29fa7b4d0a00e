"""`Stream.kept` takes what a stream gave, and nothing else."""

import pickle

import numpy as np
import pytest

import numlstm
from numlstm import spec
from numlstm.spec import Network
from tests.cases import (
    DECODERS,
    NETWORKS,
    NOT_CAUSAL,
    assert_same_bits,
    random_input,
    random_weights,
)
from tests.conftest import model_of

MEMORY = np.random.default_rng(0).normal(0, 1, (4, 7)).astype(np.float32)


@pytest.mark.parametrize("name", ["tokens", "vectors", "graph", "masked", "feedback"])
def test_what_a_stream_kept_is_where_it_goes_on(name):
    model = model_of(name)
    xs = random_input(model.network, 40)
    stream = model.stream()
    first = stream.kept
    ys = stream.run(xs)
    middle, after = model.stream(), stream.kept
    middle.run(xs[:20])
    twin = model.stream()
    twin.kept = middle.kept
    assert_same_bits(twin.run(xs[20:]), ys[20:])
    assert_same_bits(twin.kept, after)
    twin.kept = first
    assert_same_bits(twin.run(xs), ys)


WRONG = {
    "a number": lambda kept: 0.0,
    "nothing": lambda kept: None,
    "one number": lambda kept: kept[:1],
    "more": lambda kept: np.append(kept, kept),
    "a row": lambda kept: kept[None],
    "float64": lambda kept: kept.astype(np.float64),
    "int32": lambda kept: kept.view(np.int32),
    "a list": lambda kept: kept.tolist(),
    "NaN": lambda kept: np.append(kept[:-1], np.float32(np.nan)),
    "infinity": lambda kept: np.append(kept[:-1], np.float32(np.inf)),
    "negative count": lambda kept: np.append(np.array([-1]).view(np.float32), kept[2:]),
    "large count": lambda kept: np.append(np.array([2**62]).view(np.float32), kept[2:]),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("name", ["tokens", "copies"])
def test_what_no_stream_keeps_is_refused_and_nothing_is_set(name, what):
    network = (NETWORKS | DECODERS)[name]
    given = {"memory": MEMORY, "memory_ids": [3, 7, 18, 3]} if name == "copies" else {}
    stream = numlstm.Model(random_weights(network)).stream(**given)
    stream.run([1, 2, 3])
    before = stream.save_state()
    with pytest.raises((TypeError, ValueError), match="kept"):
        stream.kept = WRONG[what](stream.kept)
    assert stream.save_state() == before


def test_a_count_of_rows_that_is_set_is_that_of_the_memory():
    stream = numlstm.Model(random_weights(DECODERS["copies"])).stream(
        memory=MEMORY, memory_ids=[3, 7, 18, 3]
    )
    twin = stream.copy()
    kept, at = stream.kept, stream.model._program.memory.count_at
    kept[at : at + 2].view(np.int64)[0] = 2**40
    stream.kept = kept
    assert_same_bits(stream.run([1, 2]), twin.run([1, 2]))


def test_what_a_pickle_of_a_lookahead_stream_holds_is_looked_at():
    model = numlstm.Model(random_weights(NOT_CAUSAL["lstm"]))
    stream = model.stream(lookahead=2)
    stream.run(random_input(model.network, 9))
    restore, (_, lookahead, (flows, waiting, finished)) = stream.__reduce__()
    (inner, *rest), *others = flows  # of the first layer that has two directions
    twin = restore(model, lookahead, (flows, waiting, finished))
    assert_same_bits(twin.finish(), pickle.loads(pickle.dumps(stream)).finish())
    for wrong in (inner[:3], np.full_like(inner, np.nan), 0.0):
        forged = [(wrong, *rest), *others]
        with pytest.raises((TypeError, ValueError), match="kept"):
            restore(model, lookahead, (forged, waiting, finished))


@pytest.mark.parametrize("name", ["stacked", "reverse", "conv_stride", "crf", "attention"])
def test_a_pickle_of_a_lookahead_stream_goes_on(name):
    """Its arrays have dtypes of their own, which the kernel does not know."""
    model = numlstm.Model(random_weights(NOT_CAUSAL[name]))
    stream = model.stream(lookahead=2)
    xs = random_input(model.network, 12)
    stream.run(xs)
    twin, other = pickle.loads(pickle.dumps(stream)), pickle.loads(pickle.dumps(stream))
    assert_same_bits(twin.finish(), stream.copy().finish())
    assert_same_bits(other.run(xs), stream.run(xs))
    assert_same_bits(other.finish(), stream.finish())


def test_a_maximum_begins_at_minus_infinity_and_is_that_nowhere_else():
    model = numlstm.Model(random_weights(Network((spec.Linear(3, 4), spec.Pooling(4, "max")))))
    stream = model.stream()
    kept = stream.kept
    assert np.isneginf(kept).any()
    stream.kept = kept
    kept[np.isneginf(kept)] = np.inf
    with pytest.raises(ValueError, match="is inf, which no stream of this model keeps"):
        stream.kept = kept
