"""Streams that never end: the same bits however they go on, no drift, no more memory.

Two streams of every kind and dtype read the same rows, for as long as there is time: one in long
runs, the other in pieces of any size, by steps, through bytes, and in a pool. Both answer and keep
the same bits. A cell that goes on from where it is answers what the reference does from there; what
gathers all steps since the beginning is held against float64 over all of them.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import numlstm
from numlstm import Network, reference, spec
from tests.cases import Tolerance, random_input, random_weights
from tests.fuzz import Clock, Figures, Found

ROWS = 2**15  # of input, of which a round reads some
ROUND = 2**13  # steps that each of two streams takes
JUDGED = 24  # steps that are held against the reference
EVERY = 16  # rounds of a pair
MOST_MEMORY = 2**25  # bytes, beyond what the first rounds of all have taken

DTYPES = ("float32",), ("bfloat16",), ("int8",), ("int8", "int8")
TOLERANCES = {
    "float32": Tolerance(1e-5, 1e-5, "float32, of a few steps"),
    "bfloat16": Tolerance(1e-5, 1e-5, "the sums are float32, of weights rounded before"),
    "int8": Tolerance(1e-3, 1e-3, "inputs rounded to 16 bits"),
    "int8/int8": Tolerance(1e-1, 1e-1, "inputs rounded to 8 bits"),
}
# Sums that are corrected (Kahan 1965) do not feel how many steps there were.
GATHERED = Tolerance(1e-5, 1e-5, "float32, of all steps since the beginning")

# What is held against the reference from where it is: it keeps nothing but states with names.
CELLS: dict[str, tuple[spec.Layer, ...]] = {
    "LSTM": (spec.LSTM(4, 8),),
    "LSTM, GRU": (spec.LSTM(4, 17), spec.GRU(17, 5), spec.Linear(5, 2)),
    "GRU": (spec.GRU(4, 8),),
    "RNN": (spec.RNN(4, 8),),
    "RNN, relu": (spec.RNN(4, 8, nonlinearity="relu"),),
    "LSTM with options": (
        spec.LSTM(4, 8, peepholes=True, proj_size=3, cell_clip=2.0, initial_state=True),
    ),
    "GRU with options": (spec.GRU(4, 8, reset_after=False, activation="softsign"),),
    "MinGRU": (spec.MinGRU(4, 8, activation="tanh"),),
    "MinLSTM": (spec.MinLSTM(4, 8, activation="tanh"),),
    "SRU": (spec.SRU(4, 8),),
    "tokens": (spec.Embedding(11, 4), spec.GRU(4, 8), spec.Linear(8, 3), spec.Softmax(3)),
    "decoder": (spec.GRU(4, 5), spec.Attention(5, 5)),
}
# What has other things to keep; its bits are compared.
OTHERS: dict[str, tuple[spec.Layer, ...]] = {
    "feedback": (
        spec.Linear(4, 3, name="x"),
        spec.Feedback(5, "h", name="fed"),
        spec.GRU(8, 5, inputs=("x", "fed"), name="h"),
    ),
    "convolution": (spec.Conv1d(4, 6, 3, dilation=2, activation="relu"), spec.LSTM(6, 5)),
    "masked tokens": (spec.Embedding(5, 4, mask_zero=True), spec.GRU(4, 5)),
    "masked rows": (spec.Masking(4, 0.0), spec.GRU(4, 5), spec.Pooling(5, "mean")),
}
# What gathers all rows.
GATHERS: dict[str, tuple[spec.Layer, ...]] = {
    mode: (spec.Pooling(4, mode),) for mode in ("mean", "sum", "max")
} | {"attention": (spec.AttentionPooling(4),)}


class Pair:
    """Two streams that read the same."""

    def __init__(self, name: str, network: Network, dtype: str) -> None:
        self.name, self.dtype = f"{name} in {dtype}", dtype
        weights = random_weights(network, 1)
        self.model = numlstm.Model(weights)
        self.tensors = self.model.weights.tensors
        self.xs = random_input(network, ROWS)
        if network.masks and not network.reads_tokens:
            self.xs[::3] = 0
        self.given: dict[str, Any] = {}
        if network.memory_size is not None:
            self.given = {
                "memory": random_input(Network((spec.Linear(network.memory_size, 1),)), 5)
            }
        self.pool = self.model.pool(3) if not self.given else None
        self.one, self.other = self.model.stream(**self.given), self.model.stream(**self.given)
        self.num_rounds = self.num_steps = 0

    def go_on(self, rng: np.random.Generator) -> int:
        """Take a round; return how many steps were taken."""
        at = int(rng.integers(0, ROWS - ROUND))
        xs = self.xs[at : at + ROUND]
        ys = self.one.run(xs)
        parts = []
        at = 0
        while at < ROUND:
            size = int(rng.choice([1, 2, 15, 17, 500, 3000]))
            parts.append(self.another_way(xs[at : at + size], int(rng.integers(4))))
            at += size
        if np.concatenate(parts).tobytes() != ys.tobytes():
            raise Found(f"{self.name}: other answers in pieces, after {self.num_steps} steps")
        if self.one.save_state() != self.other.save_state():
            raise Found(f"{self.name}: another state in pieces, after {self.num_steps} steps")
        masked = self.model.network.masked(xs)
        self.num_steps += ROUND if masked is None else int((~masked).sum())
        if self.one.num_steps != self.num_steps:
            raise Found(f"{self.name}: {self.one.num_steps} steps for {self.num_steps}")
        self.look(xs, ys)
        self.num_rounds += 1
        return 2 * ROUND

    def another_way(self, xs: NDArray[Any], way: int) -> NDArray[Any]:
        if way == 0 and self.pool is not None:
            slot = self.pool.open(self.other)
            ys: NDArray[Any] = self.pool.run([slot], xs[:, None])[:, 0]
            self.other = self.pool.stream(slot)
            self.pool.close(slot)
            return ys
        if way == 1:
            blob = self.other.save_state()
            self.other = self.other.copy()
            self.other.reset()
            self.other.load_state(blob)
        if len(xs) < 16:
            return np.array([self.other.step(x) for x in xs])
        return self.other.run(xs)

    def look(self, xs: NDArray[Any], ys: NDArray[Any]) -> None:
        """Look at what was answered besides."""


class Cell(Pair):
    """A pair that is held against the reference, from where it is."""

    def look(self, xs: NDArray[Any], ys: NDArray[Any]) -> None:
        if self.num_rounds % EVERY:
            return
        rows, states = xs[:JUDGED], self.one.state
        found = self.one.copy().run(rows)
        expected, _ = reference.run(
            self.model.network, self.tensors, rows, states=states, **self.given
        )
        TOLERANCES[self.dtype].check(found, expected, f"{self.name}, {self.num_steps} steps: ")


class Gathering(Pair):
    """A pair that is held against what float64 gathers of all steps."""

    def __init__(self, name: str, network: Network, dtype: str) -> None:
        super().__init__(name, network, dtype)
        self.mode = name
        self.total, self.weight, self.size = np.zeros(4), 0.0, 0.0
        self.largest = np.full(4, -np.inf)

    def look(self, xs: NDArray[Any], ys: NDArray[Any]) -> None:
        rows = xs.astype(np.float64)
        weights = np.ones(len(rows))
        if self.mode == "attention":
            weights = np.exp(rows @ self.tensors["layers.0.weight"])
        self.total += weights @ rows
        self.weight += weights.sum()
        self.size += np.abs(rows).sum(0).max()
        self.largest = np.maximum(self.largest, rows.max(0))
        mean = self.total / self.weight
        # Of a sum that cancels, what is left is as uncertain as its parts are large.
        scale = self.size / self.num_steps
        expected = {"max": self.largest}.get(self.mode, mean) / scale
        found = ys[-1] / (scale * (self.num_steps if self.mode == "sum" else 1))
        GATHERED.check(found, expected, f"{self.name}, {self.num_steps} steps: ")


def pairs() -> list[Pair]:
    """Return a pair of every kind and dtype."""
    made: list[Pair] = []
    for dtype in DTYPES:
        label = "/".join(dtype)
        for kind, networks in ((Cell, CELLS), (Pair, OTHERS)):
            for name, layers in networks.items():
                made.append(kind(name, Network(layers).with_dtype(*dtype), label))
    made += [Gathering(name, Network(layers), "float32") for name, layers in GATHERS.items()]
    return made


def memory() -> int:
    """Return the bytes that this process has in memory, 0 where nothing tells."""
    table = Path("/proc/self/statm")
    return int(table.read_text().split()[1]) * 4096 if table.exists() else 0


def run(clock: Clock, seed: int) -> Figures:
    """Let all pairs go on, one after another."""
    rng = np.random.default_rng(seed)
    figures = Figures()
    all_pairs = pairs()
    first = 0
    rounds = 0
    while clock.ticks():
        figures["steps"] += all_pairs[rounds % len(all_pairs)].go_on(rng)
        rounds += 1
        if rounds == 2 * len(all_pairs):
            first = memory()
        elif rounds % len(all_pairs) == 0 and first and memory() > first + MOST_MEMORY:
            raise Found(f"{memory() - first:,} bytes more in memory after {figures}; seed {seed}")
    figures["rounds"] = rounds
    if first:
        figures["bytes more"] = max(0, memory() - first)
    return figures
