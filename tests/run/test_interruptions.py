"""Ctrl-C: a stream or a pool is as before the call or as after it, and no thread goes on."""

import _thread
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import Network, spec
from numlstm.kernels.addresses import COMPILED
from numlstm.run.threads import go_on, run_together
from tests.cases import random_weights
from tests.conftest import PATIENCE

XS = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = _thread._count()
    yield
    until = time.monotonic() + PATIENCE
    while _thread._count() > before:
        assert time.monotonic() < until
        time.sleep(0.001)


def model_of(*layers: spec.Layer, num_threads: int = 1) -> numlstm.Model:
    return numlstm.Model(random_weights(Network(layers)), num_threads=num_threads)


VECTORS = model_of(spec.LSTM(8, 16), spec.Linear(16, 8), num_threads=2)
MASKED = model_of(spec.Masking(8, 9.0), spec.LSTM(8, 16))
TOKENS = model_of(spec.Embedding(8, 8), spec.LSTM(8, 16), spec.Linear(16, 8))
READS = model_of(spec.GRU(8, 16), spec.Attention(16, 16))
BOTH_WAYS = model_of(spec.LSTM(8, 16, direction="bidirectional"), spec.GRU(32, 4))
CRF = model_of(spec.LSTM(8, 6), spec.CRF(6))

MEMORIES = [np.full((n, 16), n / 100, np.float32) for n in (3, 7)]
OTHER = READS.stream(memory=MEMORIES[1])
OTHER.run(XS)
SLOTS = np.arange(12)
STATES = [VECTORS.stream().save_state()] * 3


def open_pool() -> numlstm.Pool:
    pool = VECTORS.pool(16)
    for _ in SLOTS:
        pool.open()
    return pool


def begun(stream: Any) -> Any:
    stream.run(XS[:3] if stream.model.vocab_size is None else [1, 2, 3])
    return stream


def of_stream(stream: numlstm.Stream) -> bytes:
    return stream.save_state()


def of_pool(pool: numlstm.Pool) -> bytes:
    is_open = [slot for slot in range(pool.capacity) if pool._is_open[slot]]
    return repr((len(pool), is_open, pool.save_states(is_open))).encode()


def of_lookahead(stream: Any) -> bytes:
    return b"".join(np.asarray(ys).tobytes() for ys in (stream.copy().finish(),))


ALIVE = []  # an iterator that ends is a function that begins


def next_of(tokens: Any) -> int:
    ALIVE.append(tokens)
    return int(next(tokens))


MASKED_XS = np.where(np.arange(40)[:, None] % 3 == 1, np.float32(9.0), XS)
HS = {"layers.0.h": np.full(16, 0.5), "layers.0.c": np.full(16, 0.25)}

# What is made, what is called, and all that can be seen of it afterwards.
CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], bytes]]] = {
    "step": (lambda: begun(VECTORS.stream()), lambda s: s.step(XS[0]), of_stream),
    "run": (lambda: begun(VECTORS.stream()), lambda s: s.run(XS), of_stream),
    "run_one": (lambda: begun(VECTORS.stream()), lambda s: s.run(XS[:1]), of_stream),
    "trace": (lambda: begun(VECTORS.stream()), lambda s: s.trace(XS[:3]), of_stream),
    "reset": (lambda: begun(VECTORS.stream()), lambda s: s.reset(), of_stream),
    "state": (lambda: begun(VECTORS.stream()), lambda s: setattr(s, "state", HS), of_stream),
    "load": (lambda: begun(VECTORS.stream()), lambda s: s.load_state(STATES[0]), of_stream),
    "masked": (lambda: begun(MASKED.stream()), lambda s: s.run(MASKED_XS), of_stream),
    "generate": (
        lambda: begun(TOKENS.stream()), lambda s: s.generate(1, 5, seed=0, top_k=3), of_stream
    ),
    "tokens": (lambda: begun(TOKENS.stream()), lambda s: next_of(s.tokens(1, seed=0)), of_stream),
    "memory": (
        lambda: begun(READS.stream(memory=MEMORIES[0])), lambda s: s.run(XS), of_stream
    ),
    "load_memory": (
        lambda: begun(READS.stream(memory=MEMORIES[0])),
        lambda s: s.load_state(OTHER.save_state()),
        of_stream,
    ),
    "pool.step": (open_pool, lambda p: p.step(SLOTS, XS[:12]), of_pool),
    "pool.run": (open_pool, lambda p: p.run(SLOTS, XS[:36].reshape(3, 12, 8)), of_pool),
    "pool.open": (open_pool, lambda p: p.open(), of_pool),
    "pool.open_many": (open_pool, lambda p: p.open_many(STATES), of_pool),
    "pool.close": (open_pool, lambda p: p.close(7), of_pool),
    "lookahead": (lambda: begun(BOTH_WAYS.stream(lookahead=3)), lambda s: s.run(XS), of_lookahead),
    "lookahead.reset": (
        lambda: begun(BOTH_WAYS.stream(lookahead=3)), lambda s: s.reset(), of_lookahead
    ),
    "path": (lambda: begun(CRF.stream(lookahead=3)), lambda s: s.run(XS), of_lookahead),
}  # fmt: skip


class CtrlC:
    """Raises KeyboardInterrupt where a signal is handled: where a function begins, or C returns.

    n        at the so-manyth of these places
    again    whether also where the next function of Python begins, if one does
    """

    def __init__(self, n: int, again: bool) -> None:
        self.left, self.again = n, again
        self.raised = 0

    def profile(self, frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_return") and "numlstm" in frame.f_code.co_filename:
            self.left -= 1
            if self.left == 0:
                self.raised += 1
                raise KeyboardInterrupt

    def trace(self, frame: Any, event: str, argument: Any) -> None:
        if event == "call" and self.again and self.raised == 1:
            self.raised += 1
            raise KeyboardInterrupt

    def call(self, function: Callable[[], Any]) -> Any:
        """Return what a function does, or raise."""
        before = sys.gettrace()
        gc.disable()  # pytest's and Hypothesis' callbacks of it are functions that begin, too
        try:
            sys.settrace(self.trace)
            sys.setprofile(self.profile)
            return function()
        finally:
            sys.setprofile(None)
            sys.settrace(before)
            gc.enable()


@pytest.mark.skipif(not COMPILED, reason="plain Python is interrupted within the kernel")
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_interrupted_is_as_before_or_as_after(name, again, monkeypatch):
    """Wherever the signal comes, and the second one after it."""
    if name == "pool.run":
        monkeypatch.setattr("numlstm.run.pool.THREAD_WORK", 1)
    make, call, see = CASES[name]
    subject, done = make(), make()
    before = see(subject)
    call(done)
    after = see(done)
    n = 0
    while True:
        n += 1
        try:
            CtrlC(n, again).call(partial(call, subject))
            break
        except KeyboardInterrupt:
            pass
        found = see(subject)
        assert found in (before, after), n
        if found != before:
            subject = make()
    assert n > 3
    assert see(subject) == after
    subject = make()
    with pytest.raises(KeyboardInterrupt):
        CtrlC(1, again).call(lambda: call(subject))
    call(subject)
    assert see(subject) == after


@pytest.mark.skipif(not COMPILED, reason="plain Python is interrupted within the kernel")
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 0}], ids=["best", "random"])
def test_tokens_go_on_where_they_were_interrupted(options, again):
    """A token that was chosen, and not taken, is not one that was seen."""

    def begin() -> tuple[numlstm.Stream, Iterator[int]]:
        stream = TOKENS.stream()
        return stream, stream.tokens(1, repetition_penalty=100.0, **options)

    expected = list(islice(begin()[1], 7))
    n, last = 0, False
    while not last:
        n += 1
        stream, tokens = begin()
        found = list(islice(tokens, 2))
        ctrl_c = CtrlC(n, again)
        try:
            found.append(ctrl_c.call(partial(next, tokens)))
        except KeyboardInterrupt:
            if stream.num_steps == 3:  # as after it
                found.append(expected[2])
        found += islice(tokens, len(expected) - len(found))
        assert found == expected, n
        last = not ctrl_c.raised
    assert n > 3


# Threads ------------------------------------------------------------------------------------------


class Other:
    """Work of another thread, which asks whether to go on; it never ends by itself."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.is_at_work = False

    def __call__(self) -> None:
        self.is_at_work = True
        try:
            self.begun.set()
            while True:
                go_on()
                time.sleep(0.001)
        finally:
            time.sleep(0.01)  # it takes a moment to end
            self.is_at_work = False


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_if_one_thread_fails_the_others_end(error):
    def fail() -> None:
        assert all(other.begun.wait(10) for other in others)
        raise error("first")

    for place in (0, 1, 2):
        others = [Other(), Other()]
        work: list[Callable[[], None]] = [*others]
        work.insert(place, fail)
        with pytest.raises(error, match="first"):
            run_together(work)
        assert not any(other.is_at_work for other in others)
    run_together([go_on, go_on])  # what failed is forgotten
    go_on()


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_no_thread_is_at_work_after_an_interruption_anywhere(again):
    """Also while threads begin, and while they are waited for."""
    n, last = 0, False
    while not last:
        n += 1
        other = Other()
        ctrl_c = CtrlC(n, again)

        def end(other: Other = other) -> None:
            """Interrupt where nothing else did, so that this ends."""
            other.begun.wait(10)
            raise KeyboardInterrupt

        try:
            ctrl_c.call(partial(run_together, [end, other]))
        except KeyboardInterrupt:
            assert not other.is_at_work, n
        last = not ctrl_c.raised
    assert n > 10
