"""A stream or a pool is one thread's at a time: a second one is refused, and nothing is harmed."""

import pickle
import sys
import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import Network, spec
from numlstm.policy import Discrete, RecurrentPolicy
from numlstm.run.threads import Turn
from tests.cases import random_weights

XS = np.random.default_rng(0).standard_normal((20_000, 8)).astype(np.float32)
SLOTS = np.arange(2)


def model_of(*layers: spec.Layer) -> numlstm.Model:
    return numlstm.Model(random_weights(Network(layers)))


VECTORS = model_of(spec.LSTM(8, 64), spec.Linear(64, 8))
MASKED = model_of(spec.Masking(8, 9.0), spec.LSTM(8, 64))
TOKENS = model_of(spec.Embedding(8, 8), spec.LSTM(8, 64), spec.Linear(64, 8))
BOTH_WAYS = model_of(spec.LSTM(8, 16, direction="bidirectional"))

# What takes long enough to be met, what it works on, and what another thread then tries.
Tries = dict[str, Callable[[Any], object]]
STREAM: Tries = {
    "step": lambda s: s.step(XS[0]),
    "run": lambda s: s.run(XS[:2]),
    "trace": lambda s: s.trace(XS[:2]),
    "reset": lambda s: s.reset(),
    "copy": lambda s: s.copy(),
    "state": lambda s: s.state,
    "set state": lambda s: setattr(s, "state", {"layers.0.h": np.zeros(64)}),
    "save_state": lambda s: s.save_state(),
    "load_state": lambda s: s.load_state(VECTORS.stream().save_state()),
    "kept": lambda s: s.kept,
    "set kept": lambda s: setattr(s, "kept", VECTORS.stream().kept),
    "num_steps": lambda s: s.num_steps,
    "deepcopy": deepcopy,
    "pickle": pickle.dumps,
    "go on in a pool": lambda s: VECTORS.pool(1).open(s),
}
MASKED_STREAM: Tries = {
    "step": lambda s: s.step(XS[0]),
    "masked step": lambda s: s.step(np.full(8, 9.0)),
    "run": lambda s: s.run(XS[:2]),
}
GENERATING: Tries = {
    "step": lambda s: s.step(1),
    "generate": lambda s: s.generate(1, 2),
    "tokens": lambda s: next(s.tokens(1)),
}
POOL: Tries = {
    "step": lambda p: p.step(SLOTS, XS[:2]),
    "run": lambda p: p.run(SLOTS, XS[:4].reshape(2, 2, 8)),
    "open": lambda p: p.open(),
    "close": lambda p: p.close(0),
    "stream": lambda p: p.stream(0),
    "open a stream": lambda p: p.open(VECTORS.stream()),
    "open_many": lambda p: p.open_many([VECTORS.stream().save_state()]),
    "save_states": lambda p: p.save_states(SLOTS),
    "reset": lambda p: p.reset(SLOTS),
    "kept": lambda p: p.kept(SLOTS),
    "restore": lambda p: p.restore(SLOTS[:1], VECTORS.stream().kept[None]),
}
ACTING: Tries = {"predict": lambda p: p.predict(XS[0])}
LOOKAHEAD: Tries = {
    "step": lambda s: s.step(XS[0]),
    "finish": lambda s: s.finish(),
    "reset": lambda s: s.reset(),
    "copy": lambda s: s.copy(),
    "run": lambda s: s.run(XS[:2]),
    "kept": lambda s: s.kept,
    "set kept": lambda s: setattr(s, "kept", BOTH_WAYS.stream(lookahead=4).kept),
    "deepcopy": deepcopy,
    "pickle": pickle.dumps,
}
LIVE: Tries = {
    "feed": lambda s: s.feed("The movie"),
    "reset": lambda s: s.reset(),
    "finish": lambda s: s.finish(),
}


def turn_of(subject: Any) -> Turn:
    """Return what tells whose turn it is."""
    turn: Turn = subject._state if isinstance(subject, numlstm.Stream) else subject._turn
    return turn


def open_pool() -> numlstm.Pool:
    pool = VECTORS.pool(4)
    for _ in SLOTS:
        pool.open()
    return pool


CASES: dict[str, tuple[Callable[[], Any], Tries]] = {
    "stream": (VECTORS.stream, STREAM),
    "masked": (MASKED.stream, MASKED_STREAM),
    "generating": (TOKENS.stream, GENERATING),
    "pool": (open_pool, POOL),
    "lookahead": (lambda: BOTH_WAYS.stream(lookahead=4), LOOKAHEAD),
    "policy": (lambda: RecurrentPolicy(VECTORS, Discrete(VECTORS.output_size)), ACTING),
    "live": (lambda: numlstm.pipeline("sentiment").stream(), LIVE),
}


@pytest.mark.parametrize(
    ("name", "what"), [(n, w) for n, (_, tries) in CASES.items() for w in tries]
)
def test_who_comes_out_of_turn_is_refused(name, what):
    make, tries = CASES[name]
    subject = make()
    turn = turn_of(subject)
    turn.taken = True
    with pytest.raises(RuntimeError, match="in use by another thread"):
        tries[what](subject)
    turn.taken = False
    tries[what](subject)  # it was left alone


WORK: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "run": (VECTORS.stream, lambda s: s.run(XS), lambda s: s.reset()),
    "trace": (VECTORS.stream, lambda s: s.trace(XS[:4000]).ys, lambda s: s.step(XS[0])),
    "generate": (TOKENS.stream, lambda s: s.generate(1, 20_000, seed=0), lambda s: s.step(1)),
    "pool": (open_pool, lambda p: p.run(SLOTS, XS.reshape(-1, 2, 8)), lambda p: p.close(1)),
}


@pytest.mark.parametrize("name", WORK)
def test_a_second_thread_is_refused_and_the_first_goes_on(name):
    make, work, other = WORK[name]
    expected = work(make()).tobytes()
    refused = 0
    while not refused:  # until the two have met
        subject, found = make(), []
        worker = threading.Thread(target=lambda s=subject, f=found: f.append(work(s).tobytes()))
        worker.start()
        while worker.is_alive() and not refused:
            if turn_of(subject).taken:
                try:
                    other(subject)
                except RuntimeError:
                    refused += 1
        worker.join()
    assert found == [expected]


MASKED_XS = np.where(np.arange(len(XS))[:, None] % 3 == 0, np.float32(9.0), XS)
LONG: dict[str, Callable[[Any], Any]] = {
    "stream": lambda s: s.run(XS).tobytes(),
    "masked": lambda s: s.run(MASKED_XS).tobytes(),
    "generating": lambda s: s.generate(1, 20_000, seed=0).tobytes(),
    "pool": lambda p: p.run(SLOTS, XS.reshape(-1, 2, 8)).tobytes(),
    "lookahead": lambda s: s.run(XS[:4000]).tobytes(),
    "policy": lambda p: p.predict(XS)[1].tobytes(),
    "live": lambda s: s.feed("not a good movie, but a long one " * 3000),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_that_a_second_thread_tries_harms_the_first(name):
    make, tries = CASES[name]
    work, wanted, met = LONG[name], set(tries) - {"go on in a pool"}, set()
    expected = work(make())
    while met != wanted:
        subject, found = make(), []
        turn = turn_of(subject)
        worker = threading.Thread(target=lambda s=subject, f=found: f.append(work(s)))
        worker.start()
        for what in sorted(wanted - met):
            while worker.is_alive() and not turn.taken:
                pass
            if not worker.is_alive():
                break
            try:
                tries[what](subject)
            except RuntimeError as error:
                assert "another thread" in str(error)  # noqa: PT017 - it may be its turn
                met.add(what)
            else:
                break  # the first one had ended
        worker.join()
        assert found == [expected]


def test_what_was_refused_works_afterwards():
    stream = VECTORS.stream()
    turn_of(stream).taken = True
    with pytest.raises(RuntimeError, match="another thread"):
        stream.step(XS[0])
    turn_of(stream).taken = False
    with pytest.raises(ValueError, match="finite"):
        stream.step(np.full(8, np.nan))
    fresh = VECTORS.stream()
    assert stream.step(XS[0]).tobytes() == fresh.step(XS[0]).tobytes()
    twin = stream.copy()
    turn_of(stream).taken = True
    twin.step(XS[1])  # it has a turn of its own
    twin.copy().step(XS[1])


def test_weights_are_shared_by_threads():
    expected = VECTORS.run(XS[:500]).tobytes()
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(VECTORS.run(XS[:500]).tobytes()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


CALLS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "save_state": (VECTORS.stream, lambda s: s.save_state()),
    "trace": (VECTORS.stream, lambda s: s.trace(XS[:3])),
    "masked": (MASKED.stream, lambda s: s.run(XS[:3])),
    "tokens": (lambda: TOKENS.stream().tokens(1, seed=0), next),
    "pool": (open_pool, lambda p: p.save_states(SLOTS)),
    "lookahead": (lambda: BOTH_WAYS.stream(lookahead=1), lambda s: s.copy()),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_interruption_anywhere_ends_the_turn(name):
    """A signal is handled where Python begins a function: at each of those in turn."""
    make, call = CALLS[name]
    subject, count = make(), 0

    def interrupt(frame: Any, event: str, argument: Any) -> None:
        nonlocal left
        if event == "call" and "numlstm" in frame.f_code.co_filename:
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

    while True:
        left = count = count + 1
        sys.setprofile(interrupt)
        try:
            call(subject)
            break
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
    assert count > 1
    call(subject)


def test_tokens_go_on_after_one_was_refused():
    expected = TOKENS.stream().generate(1, 9, seed=3).tolist()
    stream = TOKENS.stream()
    tokens = stream.tokens(1, seed=3)
    found = []
    for _ in range(9):
        turn_of(stream).taken = True
        with pytest.raises(RuntimeError, match="another thread"):
            next(tokens)
        turn_of(stream).taken = False
        found.append(next(tokens))
    assert found == expected


class Calls:
    """An argument that calls back when it is asked for what it is."""

    def __init__(self, value: Any, call: Callable[[], object]) -> None:
        self.value, self.call = value, call
        self.refused = 0

    def _call(self) -> None:
        try:
            self.call()
        except RuntimeError:
            self.refused += 1

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        self._call()
        return np.asarray(self.value, dtype)

    def __index__(self) -> int:
        self._call()
        return int(self.value)


BACK: dict[str, tuple[Callable[[], Any], Callable[[Any, Callable[[], object]], Any], Tries]] = {
    "step": (VECTORS.stream, lambda s, call: s.step(Calls(XS[0], call)), STREAM),
    "run": (VECTORS.stream, lambda s, call: s.run(Calls(XS[:3], call)), STREAM),
    "trace": (VECTORS.stream, lambda s, call: s.trace(Calls(XS[:3], call)).ys, STREAM),
    "a token": (TOKENS.stream, lambda s, call: s.step(Calls(3, call)), GENERATING),
    "a pool": (open_pool, lambda p, call: p.step(SLOTS, Calls(XS[:2], call)), POOL),
    "slots": (open_pool, lambda p, call: p.step(Calls(SLOTS, call), XS[:2]), POOL),
    "steps of a pool": (open_pool, lambda p, call: p.run(SLOTS, Calls(XS[None, :2], call)), POOL),
}


@pytest.mark.parametrize(
    ("name", "what"), [(n, w) for n, (*_, tries) in BACK.items() for w in tries]
)
def test_an_argument_that_calls_back_is_refused_and_changes_nothing(name, what):
    make, call, tries = BACK[name]
    subject, quiet = make(), make()
    calls: list[object] = []

    def back() -> None:
        calls.append(what)
        with pytest.raises(RuntimeError, match="another thread"):
            tries[what](subject)

    assert call(subject, back).tobytes() == call(quiet, lambda: None).tobytes()
    assert calls
    kept = (lambda p: p.save_states(SLOTS)) if make is open_pool else (lambda s: s.save_state())
    assert kept(subject) == kept(quiet)


def test_a_masked_row_is_asked_for_once():
    """One that is masked when it is read, and was not when it was looked at, would be a step."""
    rows = iter([XS[0], np.full(8, 9.0)])

    class Changes:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.asarray(next(rows), dtype)

    stream, quiet = MASKED.stream(), MASKED.stream()
    assert stream.step(Changes()).tobytes() == quiet.step(XS[0]).tobytes()
    assert stream.save_state() == quiet.save_state()


def test_what_an_array_does_when_it_is_written_to_is_not_asked():
    class Loud(np.ndarray):
        def __setitem__(self, key: Any, value: Any) -> None:
            raise ValueError("no")

    stream, quiet = VECTORS.stream(), VECTORS.stream()
    out = np.zeros(8, np.float32).view(Loud)
    assert stream.step(XS[0], out=out) is out
    assert out.tobytes() == quiet.step(XS[0]).tobytes()
    many = np.zeros((3, 8), np.float32).view(Loud)
    assert stream.run(XS[:3], out=many).tobytes() == quiet.run(XS[:3]).tobytes()
    assert stream.save_state() == quiet.save_state()
