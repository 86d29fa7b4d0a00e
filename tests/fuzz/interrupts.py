"""Ctrl-C at any moment of anything: it returns soon, what is kept is whole, no thread goes on.

A case is a call of the API, interrupted after a random time by a real signal, as a rule by two more
at once, and called again. The largest delay from the first signal to the caller is a figure, of all
and of the slowest call by its name; a busy machine adds its own.
"""

import _thread
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import numlstm
from numlstm import Network, reference, spec, storage
from numlstm.analysis import horizon
from tests.cases import random_weights
from tests.fuzz import Clock, Figures, Found

LIMIT = 5.0  # seconds that no machine should need


class Case(NamedTuple):
    """A subject, a long call, and what can be seen of the subject."""

    make: Callable[[], Any]
    call: Callable[[Any], Any]
    see: Callable[[Any], bytes] = lambda subject: b""


@cache
def model(*layers: spec.Layer, num_threads: int = 1) -> numlstm.Model:
    return numlstm.Model(random_weights(Network(layers)), num_threads=num_threads)


@cache
def weights(*layers: spec.Layer) -> Any:
    return random_weights(Network(layers))


XS = np.random.default_rng(0).standard_normal((2_000_000, 8), np.float32)


def rows(count: int) -> Any:
    return XS[:count]


def stream(*layers: spec.Layer, memory: int = 0) -> Callable[[], Any]:
    def make() -> Any:
        made = model(*layers)
        given = {}
        if memory:
            given["memory"] = np.full((memory, made.network.memory_size or 0), 0.01, np.float32)
        return made.stream(**given)

    return make


def pool(num_threads: int) -> Callable[[], Any]:
    def make() -> Any:
        made = model(spec.LSTM(8, 256), num_threads=num_threads).pool(128)
        for _ in range(128):
            made.open()
        return made

    return make


def state(subject: Any) -> bytes:
    saved: bytes = subject.save_state()
    return saved


def states(subject: Any) -> bytes:
    return b"".join(subject.save_states(range(128)))


def answers(subject: Any) -> bytes:
    rest: bytes = subject.copy().finish().tobytes()
    return rest


BIG = (spec.LSTM(8, 2048),)
BOTH = (spec.LSTM(8, 256, direction="bidirectional"),)
LANGUAGE = (spec.Embedding(20_000, 32), spec.GRU(32, 64), spec.Linear(64, 20_000))
SHARP = {"temperature": 0.8, "top_k": 5_000, "top_p": 0.9, "seed": 0}


def cases(folder: Path) -> dict[str, Case]:
    """Return what is interrupted; each takes a second or more, or is asked to."""
    file = folder / "big.safetensors"
    storage.save(weights(*BIG), file)
    ids = np.arange(200_000) % 20_000
    of_pool = rows(256_000).reshape(-1, 128, 8)
    batch = [rows(100_000)[: 3000 + n] for n in range(100)]
    return {
        "run": Case(stream(spec.LSTM(8, 128)), lambda s: s.run(rows(500_000)), state),
        "run 1 unit": Case(stream(spec.LSTM(8, 1)), lambda s: s.run(rows(2_000_000)), state),
        "run 2048": Case(stream(*BIG), lambda s: s.run(rows(2000)), state),
        "run softmax": Case(
            stream(spec.Linear(8, 2**18), spec.Softmax(2**18), spec.Slice(2**18, 0, 1)),
            lambda s: s.run(rows(20_000)),
            state,
        ),
        "run attention": Case(
            stream(spec.GRU(8, 64), spec.Attention(64, 64), memory=50_000),
            lambda s: s.run(rows(2000)),
            state,
        ),
        "trace": Case(stream(spec.LSTM(8, 64)), lambda s: s.trace(rows(200_000)), state),
        "generate": Case(stream(*LANGUAGE), lambda s: s.generate(1, 100_000, **SHARP), state),
        "masked": Case(
            stream(spec.Masking(8), spec.LSTM(8, 128)), lambda s: s.run(rows(500_000)), state
        ),
        "pool": Case(pool(1), lambda p: p.run(range(128), of_pool), states),
        "pool, 2 threads": Case(pool(2), lambda p: p.run(range(128), of_pool), states),
        "lookahead": Case(
            lambda: model(*BOTH).stream(lookahead=20), lambda s: s.run(rows(20_000)), answers
        ),
        "both ways": Case(lambda: model(*BOTH), lambda m: m.run(rows(100_000))),
        "both ways, 2 threads": Case(
            lambda: model(*BOTH, num_threads=2), lambda m: m.run(rows(100_000))
        ),
        "batch": Case(lambda: model(spec.LSTM(8, 256)), lambda m: m.run_batch(batch)),
        "batch, 2 threads": Case(
            lambda: model(spec.LSTM(8, 256), num_threads=2), lambda m: m.run_batch(batch)
        ),
        "tokens": Case(lambda: model(*LANGUAGE), lambda m: m.run(ids)),
        "Model": Case(lambda: weights(*BIG), numlstm.Model),
        "astype": Case(lambda: model(*BIG), lambda m: m.astype("int8")),
        "load": Case(lambda: file, numlstm.load),
        "load int8": Case(lambda: file, lambda f: numlstm.load(f, dtype="int8")),
        "save": Case(
            lambda: model(*BIG),
            lambda m: m.save(folder / "saved.safetensors"),
        ),
        "reference": Case(
            lambda: weights(spec.LSTM(8, 256)),
            lambda w: reference.run(w.network, w.tensors, rows(100_000)),
        ),
        "horizon": Case(
            lambda: model(spec.LSTM(8, 96)),
            lambda m: horizon(m, rows(2000), max_distance=500, num_starts=50),
        ),
    }


class Interrupter:
    """Sends signals to the main thread from another one; tells when it sent the first."""

    def __init__(self, wait: float, more: int) -> None:
        self.sent = 0.0
        self._wait, self._more = wait, more
        self._is_over = threading.Event()
        self._main = threading.main_thread().ident
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        if self._is_over.wait(self._wait):
            return
        self.sent = time.perf_counter()
        for _ in range(1 + self._more):
            if self._is_over.is_set():
                return
            signal.pthread_kill(self._main or 0, signal.SIGINT)
            time.sleep(random.random() * 2e-4)

    def stop(self) -> None:
        self._is_over.set()


@contextmanager
def ctrl_c() -> Iterator[None]:
    """Raise on the signal, also where the shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def interrupted(call: Callable[[], Any], wait: float, more: int) -> float | None:
    """Return how long an interruption took to get through a call, or None if it ended before."""
    interrupter = Interrupter(wait, more)
    took: float | None = None
    # The signals behind the first one come anywhere, and here as well.
    while True:
        try:
            try:
                if not interrupter.thread.ident:
                    interrupter.thread.start()
                    call()
                took = took or None
            except KeyboardInterrupt:
                if interrupter.sent and took is None:
                    took = time.perf_counter() - interrupter.sent
            interrupter.stop()
            interrupter.thread.join()
            return took
        except KeyboardInterrupt:
            pass


def run(clock: Clock, seed: int) -> Figures:
    """Interrupt calls while there is time."""
    chance = random.Random(seed)
    figures = Figures(interruptions=0, ended_before=0)
    slowest: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, ctrl_c():
        known = cases(Path(name))
        while clock.ticks():
            what = chance.choice(list(known))
            took = _try(what, known[what], chance, f"seed {seed}")
            figures["ended_before" if took is None else "interruptions"] += 1
            slowest[what] = max(slowest.get(what, 0.0), took or 0.0)
    for what, took in sorted(slowest.items(), key=lambda item: -item[1]):
        figures[f"ms at most in {what}"] = round(took * 1e3)
    return figures


def _try(what: str, case: Case, chance: random.Random, where: str) -> float | None:
    subject = case.make()
    before = case.see(subject)
    wait = chance.choice((chance.random() * 0.01, chance.random() * 0.3))
    num_threads = _thread._count()
    took = interrupted(lambda: case.call(subject), wait, chance.choice((0, 2, 2, 5)))
    until = time.monotonic() + LIMIT
    while _thread._count() > num_threads:
        if time.monotonic() > until:
            raise Found(f"{where}: {what}: a thread is left")
    if took is None:
        return None
    if took > LIMIT:
        raise Found(f"{where}: {what}: an interruption took {took:.1f} s")
    if case.see(subject) != before:  # a long call has not ended in so short a time
        raise Found(f"{where}: {what}: what is kept has changed")
    return took
