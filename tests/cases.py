"""The cases and the tolerances that tests and benches share, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm import spec
from numlstm.spec import Network, Weights

# Around the edges of a vector of 16, of a panel of 64, and of two panels.
SIZES = (1, 2, 7, 8, 15, 16, 17, 64, 129)
NUM_LAYERS = (1, 2, 3)
SEQ_LEN = 200

CELLS: dict[str, Any] = {
    "rnn_tanh": lambda i, h, bias: spec.RNN(i, h, bias, "tanh"),
    "rnn_relu": lambda i, h, bias: spec.RNN(i, h, bias, "relu"),
    "gru": spec.GRU,
    "lstm": spec.LSTM,
}


@dataclass(frozen=True)
class Case:
    """A stack of equal recurrent layers, `size` units each, that reads `size` numbers."""

    cell: str
    size: int
    bias: bool
    num_layers: int

    @property
    def id(self) -> str:
        bias = "bias" if self.bias else "no_bias"
        return f"{self.cell}-{self.size}-{bias}-{self.num_layers}"

    @property
    def network(self) -> Network:
        return Network((CELLS[self.cell](self.size, self.size, self.bias),) * self.num_layers)


CASES = tuple(
    Case(cell, size, bias, num_layers)
    for cell, size, bias, num_layers in product(CELLS, SIZES, (True, False), NUM_LAYERS)
)

# Networks with every kind of layer, and sizes that are no multiple of 16.
NETWORKS: dict[str, Network] = {
    **{
        f"{cell}_{size}": Network((make(size, size, True), make(size, size, False)))
        for cell, make in CELLS.items()
        for size in (7, 17)
    },
    "tokens": Network(
        (
            spec.Embedding(11, 5),
            spec.LSTM(5, 17),
            spec.LayerNorm(17),
            spec.GRU(17, 8),
            spec.Linear(8, 9, True, "relu"),
            spec.RNN(9, 20, True, "tanh"),
            spec.Pooling(20, "mean"),
            spec.Linear(20, 3, False),
            spec.Softmax(3),
        )
    ),
    "vectors": Network(
        (
            spec.Linear(3, 70, True, "tanh"),
            spec.RNN(70, 33, True, "relu"),
            spec.Activation(33, "sigmoid"),
            spec.Pooling(33, "max"),
            spec.LayerNorm(33, 1e-3, True, False),
            spec.Pooling(33, "last"),
            spec.Linear(33, 2, True, "sigmoid"),
        )
    ),
    "pooled_input": Network((spec.Activation(7, "tanh"), spec.Pooling(7, "mean"))),
}


# Tolerances ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tolerance:
    """|found - expected| <= absolute + relative * |expected|, element by element."""

    absolute: float
    relative: float
    reason: str

    def check(self, found: ArrayLike, expected: ArrayLike, what: str = "") -> None:
        """Raise an AssertionError that tells where the largest excess is."""
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        assert found.shape == expected.shape, f"{what}: {found.shape} for {expected.shape}"
        allowed = self.absolute + self.relative * np.abs(expected)
        excess = np.abs(found - expected) / allowed
        if not (excess <= 1).all():  # also where there is a NaN
            at = np.unravel_index(np.nan_to_num(excess, nan=np.inf).argmax(), excess.shape)
            raise AssertionError(
                f"{what}{list(map(int, at))}: {found[at]:.9g} for {expected[at]:.9g}, "
                f"off by {abs(found[at] - expected[at]):.1e}, allowed {allowed[at]:.1e}: "
                f"{self.reason}"
            )


TOLERANCES: Mapping[str, Tolerance] = {
    "h": Tolerance(
        1e-5, 0.0, "float32 rounding of 200 steps; h of these networks is in about [-1, 1]"
    ),
    "c": Tolerance(1e-5, 1e-5, "c has no bound and grows to hundreds, so its error is relative"),
    "float64": Tolerance(1e-12, 1e-12, "two float64 computations in different orders of sums"),
    "output": Tolerance(1e-5, 1e-5, "what numlstm.spec.TOLERANCE promises of a conversion"),
    "python": Tolerance(2e-6, 2e-6, "the plain Python fma rounds twice, rarely, in every sum"),
}


def assert_same_bits(found: NDArray[Any], expected: NDArray[Any], what: str = "") -> None:
    """Raise unless two arrays are equal in type, shape and every bit."""
    assert found.dtype == expected.dtype, what
    assert found.shape == expected.shape, what
    if found.tobytes() != expected.tobytes():
        bits = f"u{found.itemsize}"
        differ = np.argwhere(
            np.ascontiguousarray(found).view(bits) != np.ascontiguousarray(expected).view(bits)
        )
        at = tuple(differ[0])
        raise AssertionError(
            f"{what}: {len(differ)} of {found.size} differ, first "
            f"{list(map(int, at))}: {found[at]!r} for {expected[at]!r}"
        )


# Random material ----------------------------------------------------------------------------------


def random_weights(network: Network, seed: int = 0, scale: float = 1.0) -> Weights:
    """Return weights as frameworks initialise them: uniform, within 1 / sqrt(columns)."""
    generator = np.random.default_rng(seed)
    tensors = {
        name: (
            generator.uniform(-scale, scale, shape)
            / np.sqrt(shape[-1] if "embedding" not in name else 1)
        ).astype(np.float32)
        for name, shape in network.tensor_shapes().items()
    }
    return Weights(network, tensors, origin="tests")


def random_input(network: Network, seq_len: int, seed: int = 0) -> NDArray[Any]:
    """Return token ids (T,), or normally distributed numbers (T, I)."""
    generator = np.random.default_rng(seed)
    if network.vocab_size is not None:
        return generator.integers(0, network.vocab_size, seq_len).astype(np.int32)
    return generator.standard_normal((seq_len, network.input_size), np.float32)


def with_tensor(weights: Weights, name: str, tensor: NDArray[np.float32]) -> Weights:
    """Return weights with one tensor replaced."""
    return replace(weights, tensors={**weights.tensors, name: tensor})
