"""A model with random numbers, what it reads, and what the reference says of it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

import numlstm
from numlstm import Network, reference, spec
from tests.cases import Tolerance, random_input, random_weights

NUM_ROWS = 48  # of input

# How far an answer may be from float64; how much a small change of all weights may move it where it
# is held against that: exp, and division by a small deviation, make some networks ill-conditioned.
FLOATS = Tolerance(1e-3, 1e-3, "float32, through up to a dozen layers of any kind"), 1e-6, 1e-4
INT8 = Tolerance(5e-2, 5e-2, "inputs of int8 weights rounded to 16 bits"), 1e-4, 1e-2

Rows = NDArray[Any]


class Case:
    """A model, what it reads, and what the reference says of it."""

    def __init__(
        self,
        network: Network,
        number: int,
        fold: Any = "auto",
        num_threads: int = 1,
        most: float = 1.0,
    ) -> None:
        weights = random_weights(network, number)
        self.made_of = network.to_json(), number, fold, num_threads, most
        rng = np.random.default_rng(number)
        self.xs = random_input(network, NUM_ROWS, number)
        if most > 1:
            tensors = {n: grown(t, most, rng) for n, t in weights.tensors.items()}
            weights = weights.with_tensors(network, tensors)
            if network.vocab_size is None:
                self.xs = grown(self.xs, most, rng)
        self.network, self.model = network, numlstm.Model(weights, fold, num_threads)
        if isinstance(network.layers[0], spec.Masking):
            self.xs[rng.random(NUM_ROWS) < 0.3] = network.layers[0].value
        self.memories: list[dict[str, Any]] = [{}]
        if network.memory_size is not None:
            self.memories = [
                self._memory(rng, int(num_rows)) for num_rows in rng.integers(1, 20, 2)
            ]
        tolerances = [
            INT8 if layer.dtype == "int8" else FLOATS
            for layer in network.layers
            if isinstance(layer, spec.MatrixLayer)
        ]
        self.tolerance, self.nudge, self.moves = max(tolerances, key=lambda t: t[1], default=FLOATS)
        self.is_judged = most == 1 and all(map(is_judged, network.layers))
        self.tensors = {n: t.astype(np.float64) for n, t in self.model.weights.tensors.items()}
        self.nudged = {
            n: t * (1 + self.nudge * rng.uniform(-1, 1, t.shape)) for n, t in self.tensors.items()
        }

    def __str__(self) -> str:
        layers, *others = self.made_of
        return f"case = Case(Network.from_json({layers}), *{others})"

    def _memory(self, rng: np.random.Generator, num_rows: int) -> dict[str, Any]:
        size = self.network.memory_size
        given = {"memory": rng.standard_normal((num_rows, size or 0), np.float32)}
        vocab_size = self.network.memory_vocab_size
        if vocab_size is None:
            return given
        return given | {"memory_ids": rng.integers(0, vocab_size, num_rows)}

    def expected(self, xs: Rows, **given: Any) -> Rows | None:
        """Return what the reference answers, None where float32 cannot be held against it."""
        if not self.is_judged:
            return None
        with np.errstate(all="ignore"):  # what the functions do beyond where they are defined
            try:
                ys, _ = reference.run(self.network, self.tensors, xs, **given)
                moved, _ = reference.run(self.network, self.nudged, xs, **given)
            except ValueError:  # no rows are left to attend to
                return None
            fits = moved.shape == ys.shape and (np.abs(ys) < 1e3).all()
            return ys if fits and (np.abs(moved - ys) < self.moves).all() else None

    def judge_whole(self) -> bool:
        """Hold a run of all rows against the reference; return whether it could be."""
        given = self.memories[0]
        masked = self.network.masked(self.xs)
        if masked is not None and masked.all():
            return False
        try:
            ys = self.model.run(self.xs, **given)
        except ValueError as error:
            if not is_excuse(error):
                raise
            return False
        return self.judge(ys, self.xs, **given)

    def judge(self, ys: Rows, xs: Rows, **given: Any) -> bool:
        """Hold answers from the initial state against the reference; return whether it could be."""
        expected = self.expected(xs, **given)
        if expected is not None:
            self.tolerance.check(ys, expected)
        return expected is not None


def is_judged(layer: spec.Layer) -> bool:
    """Whether float32 is to be as good as float64 in a layer, if small changes change little.

    Of two paths that are equally good either may be taken, and 8 bits are few. A cell that makes
    large numbers, as of an exp, takes ``(1 - z) * n`` of them, where ``1 - z`` has few digits.
    """
    if isinstance(layer, spec.CRF) or getattr(layer, "activations", "") == "int8":
        return False
    own = [str(getattr(layer, name)) for name in layer.functions]
    grows = any(text.startswith(("exp", "square")) for text in own)
    return not (isinstance(layer, spec.Recurrent) and grows)


def grown(numbers: Rows, most: float, rng: np.random.Generator) -> Rows:
    """Return numbers by a factor up to ``most``, some of them far from the others."""
    factor = most ** rng.choice([0, 0, rng.random(), 1])
    scales = np.where(rng.random(numbers.shape) < 0.8, factor, most ** rng.choice([-1, 0, 0.5]))
    return heated(numbers, scales)


def heated(numbers: Rows, factor: Any) -> Rows:
    """Return numbers times a factor, as large as float32 can be."""
    return np.clip(numbers.astype(np.float64) * factor, -3e38, 3e38).astype(np.float32)


def is_excuse(error: ValueError) -> bool:
    """Whether a network may refuse sound rows for this."""
    excuses = ("made the network overflow", "makes the keys overflow", "no rows are left")
    return any(words in str(error) for words in excuses)
