"""What is measured: networks with random weights, and what one call asks of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Inputs = NDArray[Any]

SIZES = (16, 32, 64, 128, 256, 512, 1024)
_GATES = {"LSTM": "ifgo", "GRU": "rzn"}


@dataclass(frozen=True)
class Case:
    """A network of ``num_layers`` cells, and a task.

    task            "step", "sequence", "pool" or "generate"
    cell            "LSTM" or "GRU"
    hidden_size     also the size of the input, or of the embedding
    num_directions  2 for a layer that is read in both directions
    vocab_size      0 for vectors in and h out; else an embedding before, a Linear behind
    num_steps       T of one call; calls of more than one step begin anew
    num_streams     S of one call
    num_threads     that an engine may use
    fades           small weights, no biases but a forget gate of sigmoid(2): without input the
                    state decays to 0
    """

    task: str
    cell: str
    hidden_size: int
    num_layers: int = 1
    num_directions: int = 1
    vocab_size: int = 0
    num_steps: int = 1
    num_streams: int = 1
    num_threads: int = 1
    fades: bool = False

    @property
    def output_size(self) -> int:
        return self.vocab_size or self.num_directions * self.hidden_size

    @property
    def is_anew(self) -> bool:
        """Whether each call begins from the initial state."""
        return self.num_steps > 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(T, S, I), or (T, S) of token ids."""
        shape = (self.num_steps, self.num_streams)
        return shape if self.vocab_size else (*shape, self.hidden_size)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(T, S, O)."""
        return self.num_steps, self.num_streams, self.output_size

    @property
    def flops(self) -> int:
        """Multiplications and additions of the recurrent layers in one call."""
        gates = len(_GATES[self.cell]) * self.hidden_size
        per_step = 2 * gates * 2 * self.hidden_size * self.num_layers * self.num_directions
        return per_step * self.num_steps * self.num_streams

    def __str__(self) -> str:
        tokens = f", {self.vocab_size:,} tokens" if self.vocab_size else ""
        both = ", two directions" if self.num_directions == 2 else ""
        streams = f", {self.num_streams} streams" if self.num_streams > 1 else ""
        steps = f", {self.num_steps:,} steps" if self.num_steps > 1 else ""
        return f"{self.cell} {self.num_layers} x {self.hidden_size}{tokens}{steps}{both}{streams}"


def make_tensors(case: Case) -> dict[str, Floats]:
    """Return weights by their canonical names, as PyTorch initialises them; the same every time."""
    rng = np.random.default_rng(case.hidden_size)
    size = case.hidden_size
    gates, limit = len(_GATES[case.cell]) * size, size**-0.5
    if case.fades:
        limit *= 0.1  # else h keeps c from fading

    def uniform(*shape: int) -> Floats:
        return rng.uniform(-limit, limit, shape).astype(np.float32)

    tensors = {}
    if case.vocab_size:
        tensors["embedding.weight"] = rng.standard_normal((case.vocab_size, size), np.float32)
    for n in range(case.num_layers):
        for suffix in ("", "_reverse")[: case.num_directions]:
            tensors[f"layers.{n}.weight_ih{suffix}"] = uniform(gates, size)
            tensors[f"layers.{n}.weight_hh{suffix}"] = uniform(gates, size)
            for name in (f"layers.{n}.bias_ih{suffix}", f"layers.{n}.bias_hh{suffix}"):
                tensors[name] = np.zeros(gates, np.float32) if case.fades else uniform(gates)
        if case.fades:
            forget = slice(size, 2 * size)
            tensors[f"layers.{n}.bias_ih"][forget] = 2
    if case.vocab_size:
        n = case.num_layers
        tensors[f"layers.{n}.weight"] = uniform(case.vocab_size, size)
        tensors[f"layers.{n}.bias"] = uniform(case.vocab_size)
    return tensors


def make_inputs(case: Case, num_calls: int) -> Inputs:
    """Return the inputs of calls (N, T, S, I), or ids (N, T, S); the same every time."""
    rng = np.random.default_rng(0)
    shape = (num_calls, *case.input_shape)
    if case.vocab_size:
        return rng.integers(case.vocab_size, size=shape)
    return rng.standard_normal(shape, np.float32)
