"""What makes no sense is a TypeError or a ValueError, whatever it is and wherever it is given."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import Model, Network, Weights, reference, spec
from numlstm.analysis import horizon
from tests.cases import random_weights


class Sub(np.ndarray):
    pass


VALUES: list[Any] = [
    10**30, -(10**30), 2**63, 2**64, -1, 0, True, False, float("nan"), float("inf"), -float("inf"),
    1e308, 1.5, "", "a", "\0", b"", b"x", None, [], [[]], [None], ["a"], {}, set(), (), object(),
    1j, np.int8(-1), np.uint64(2**64 - 1), np.float32("nan"), np.bool_(True), np.str_("x"),
    np.array([]), np.array(3), np.array([1, 2, 3]), np.zeros((0, 3)), np.zeros((3, 0)),
    np.zeros((2, 3)), np.zeros((2, 2, 2)), np.array(["a"]), np.array([None, object()], object),
    np.array([10**30], object), np.array([1, 2, 3], object), np.zeros(3, complex),
    np.array(["2020-01-01"] * 3, "datetime64[D]"), np.array([1, 2, 3], "timedelta64[s]"),
    np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]), np.zeros(3).view(Sub), np.zeros(3, ">f4"),
    np.array([1, 2, 3], ">i4"), np.zeros(6)[::2], np.zeros(3, np.longdouble), np.full(3, 1e300),
    np.array([2**63], np.uint64), np.zeros(3, [("a", "f4")]), range(3), lambda: 0, Model,
    np.array([np.nan, 0, 0]), [1, [2, 3]], [10**400], memoryview(b"abc"), slice(0, 3), Ellipsis,
    [True, False, True],
]  # fmt: skip


@cache
def model(*layers: spec.Layer) -> Model:
    return Model(random_weights(Network(layers)))


def vectors() -> Model:
    return model(spec.LSTM(3, 4), spec.Linear(4, 3))


def tokens() -> Model:
    return model(spec.Embedding(5, 3), spec.LSTM(3, 4), spec.Linear(4, 5))


def both_ways() -> Model:
    return model(spec.LSTM(3, 4, direction="bidirectional"))


def masked() -> Model:
    return model(spec.Masking(3), spec.LSTM(3, 4))


def reads() -> Model:
    return model(spec.GRU(3, 4), spec.Attention(4, 4))


def copies() -> Model:
    return model(spec.Linear(3, 5 + 1 + 4), spec.Copy(5, 4))


def pool() -> Any:
    made = vectors().pool(4)
    made.open_many([vectors().stream().save_state()] * 2)
    return made


def run_reference(made: Model, xs: Any, **options: Any) -> None:
    with np.errstate(all="ignore"):  # it takes numbers that overflow
        reference.run(made.network, made.weights.tensors, xs, **options)


def with_parts(**parts: Any) -> Weights:
    return replace(vectors().weights, **parts)


def probed(xs: Any, ys: Any) -> None:
    Model(with_parts(probes=(spec.Probe(xs, ys),))).verify()


X, XS, YS = np.zeros((1, 3), np.float32), np.zeros((5, 3)), np.zeros((1, 3), np.float32)
MEMORY = np.zeros((2, 4))

CALLS: dict[str, Callable[[Any], object]] = {
    "run": lambda v: vectors().run(v),
    "run out": lambda v: vectors().run(X, out=v),
    "run memory": lambda v: vectors().run(X, memory=v),
    "run memory_ids": lambda v: vectors().run(X, memory_ids=v),
    "run tokens": lambda v: tokens().run(v),
    "run both ways": lambda v: both_ways().run(v),
    "run masked": lambda v: masked().run(v),
    "run_batch": lambda v: vectors().run_batch(v),
    "run_batch one": lambda v: vectors().run_batch([v]),
    "run_batch tokens": lambda v: tokens().run_batch([v]),
    "memory": lambda v: reads().stream(memory=v),
    "memory_ids": lambda v: copies().stream(memory=MEMORY, memory_ids=v),
    "lookahead": lambda v: vectors().stream(lookahead=v),
    "capacity": lambda v: vectors().pool(v),
    "step": lambda v: vectors().stream().step(v),
    "step out": lambda v: vectors().stream().step(X[0], out=v),
    "step token": lambda v: tokens().stream().step(v),
    "step masked": lambda v: masked().stream().step(v),
    "step late": lambda v: both_ways().stream(lookahead=1).step(v),
    "stream.run": lambda v: vectors().stream().run(v),
    "trace": lambda v: vectors().stream().trace(v),
    "first_id": lambda v: tokens().stream().generate(v, 3),
    "load_state": lambda v: vectors().stream().load_state(v),
    "state": lambda v: setattr(vectors().stream(), "state", v),
    "state h": lambda v: setattr(vectors().stream(), "state", {"layers.0.h": v}),
    "kept": lambda v: setattr(vectors().stream(), "kept", v),
    "slots": lambda v: pool().step(v, np.zeros((2, 3))),
    "pool.step": lambda v: pool().step([0, 1], v),
    "pool.run": lambda v: pool().run([0, 1], v),
    "pool.step out": lambda v: pool().step([0, 1], np.zeros((2, 3)), out=v),
    "close": lambda v: pool().close(v),
    "pool.stream": lambda v: pool().stream(v),
    "open": lambda v: pool().open(v),
    "open_many": lambda v: pool().open_many(v),
    "open_many one": lambda v: pool().open_many([v]),
    "save_states": lambda v: pool().save_states(v),
    "astype": lambda v: vectors().astype(v),
    "astype activations": lambda v: vectors().astype("int8", v),
    "save": lambda v: vectors().save(v),
    "save_parts": lambda v: numlstm.save_parts(v, "parts"),
    "save_parts one": lambda v: numlstm.save_parts({"a": v}, "parts"),
    "load": lambda v: numlstm.load(v),
    "load_parts": lambda v: numlstm.load_parts(v),
    "Model": lambda v: Model(v),
    "fold": lambda v: Model(vectors().weights, fold=v),
    "num_threads": lambda v: Model(vectors().weights, num_threads=v),
    "network": lambda v: with_parts(network=v),
    "tensors": lambda v: with_parts(tensors=v),
    "tensor": lambda v: with_parts(
        tensors={**vectors().weights.tensors, "layers.0.weight_ih": v}
    ),
    "labels": lambda v: with_parts(labels=v),
    "tokenizer": lambda v: with_parts(tokenizer=v),
    "probes": lambda v: with_parts(probes=v),
    "probe": lambda v: with_parts(probes=(v,)),
    "probe xs": lambda v: probed(v, YS),
    "probe ys": lambda v: probed(X, v),
    "Network": lambda v: Network(v),
    "layer": lambda v: Network((v,)),
    "from_json": lambda v: Network.from_json(v),
    "size": lambda v: spec.LSTM(v, 4),
    "clip": lambda v: spec.LSTM(4, 4, clip=v),
    "activation": lambda v: spec.LSTM(4, 4, activation=v),
    "padding": lambda v: spec.Conv1d(4, 4, 3, padding=v),
    "inputs": lambda v: spec.Linear(3, 3, inputs=v),
    "reference": lambda v: run_reference(vectors(), v),
    "reference tokens": lambda v: run_reference(tokens(), v),
    "reference both ways": lambda v: run_reference(both_ways(), v),
    "reference masked": lambda v: run_reference(masked(), v),
    "reference memory": lambda v: run_reference(reads(), XS, memory=v),
    "reference memory_ids": lambda v: run_reference(copies(), XS, memory=MEMORY, memory_ids=v),
    "horizon": lambda v: horizon(vectors(), v),
    "max_distance": lambda v: horizon(vectors(), XS, max_distance=v),
    "num_starts": lambda v: horizon(vectors(), XS, num_starts=v),
    **{
        name: lambda v, name=name: tokens().stream().generate(1, 2, **{name: v})  # type: ignore[misc]
        for name in (
            "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop",
            "history",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_it_is_no_other_error(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in VALUES:
        try:
            CALLS[name](value)
        except Exception as error:
            is_expected = isinstance(error, TypeError | ValueError | OSError)
            if not is_expected or "please report" in str(error):
                pytest.fail(f"{value!r}: {error!r}")


def test_keys_that_overflow_are_of_the_memory():
    weights = random_weights(Network((spec.GRU(3, 4), spec.Attention(4, 4, "additive", size=4))))
    keys = {"layers.1.weight_memory": np.full((4, 4), 2, np.float32)}
    made = Model(replace(weights, tensors={**weights.tensors, **keys}))
    with pytest.raises(ValueError, match="memory makes the keys overflow"):
        made.stream(memory=np.full((2, 4), 3e38, np.float32))


@pytest.mark.parametrize("value", [sys.maxsize + 1, 10**20])
def test_more_tokens_than_can_be_counted_are_refused(value):
    with pytest.raises(ValueError, match=f"max_tokens is {value}, expected 0 to"):
        numlstm.pipeline("generate")("a", max_tokens=value)


NETWORKS = {
    "feedback": (
        spec.LSTM(3, 4, name="b"),
        spec.Feedback(4, "a", name="c"),
        spec.Add(4, inputs=("b", "c"), name="a"),
    ),
    "path": (spec.LSTM(3, 4), spec.CRF(4)),
    "both ways": (spec.LSTM(3, 4, direction="bidirectional"),),
    "tokens": (spec.Embedding(5, 3),),
    "attention pooling": (spec.AttentionPooling(3),),
    **{mode: (spec.Pooling(3, mode),) for mode in ("last", "mean", "max", "sum")},
    "convolution": (spec.Conv1d(3, 2, 3), spec.Softmax(2), spec.LayerNorm(2)),
    "a row again": (spec.Repeat(3, 2),),
    "itself": (spec.Activation(3, name="a"), spec.Attention(3, 3, memory="a")),
}


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_the_reference_of_no_rows_is_no_rows(layers):
    made = model(*layers)
    ys, _ = reference.run(made.network, made.weights.tensors, [] if made.vocab_size else XS[:0])
    assert ys.shape == (0, made.output_size) == made.run([] if made.vocab_size else XS[:0]).shape


def test_masked_rows_alone_have_the_answer_of_a_network_at_rest():
    made = model(spec.Masking(3), spec.LSTM(3, 4, direction="bidirectional"), spec.Pooling(8))
    for run in (made.run, lambda xs: reference.run(made.network, made.weights.tensors, xs)[0]):
        np.testing.assert_array_equal(run(XS), np.zeros((1, 8)))


def test_masked_rows_alone_that_are_weighed_have_the_answer_of_the_model():
    made = model(spec.Masking(3, 0.5), spec.AttentionPooling(3))
    xs = np.full((2, 3), 0.5, np.float32)
    ys, _ = reference.run(made.network, made.weights.tensors, xs)
    np.testing.assert_array_equal(ys, made.run(xs))


def test_a_pool_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="the states of so many streams"):
        vectors().pool(10**15)


def test_a_budget_is_one(tmp_path: Path):
    vectors().save(tmp_path / "model")
    with pytest.raises(TypeError, match="budget is int, expected"):
        numlstm.load(tmp_path / "model", budget=3)
