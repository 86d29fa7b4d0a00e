"""How far back a recurrent network remembers, as the Jacobian of its state by an earlier one.

A state that depends on the state k steps before hardly at all has forgotten it, and no gradient
that comes back over those k steps can teach it better: Hochreiter 1991; Bengio, Simard, Frasconi
1994; Pascanu, Mikolov, Bengio 2013. The derivatives here are those of the cells' equations, in
float64, with the weights that the engine has.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm import reference, spec
from numlstm.model import Model
from numlstm.reference import (
    CELLS,
    Doubles,
    Own,
    evaluate,
    first_states,
    normal_below,
    sigmoid,
)


@dataclass(frozen=True)
class Horizon:
    """How much the state at a step changes with the state k steps before.

    distances   k = 0, 1, ..., K steps
    norms       of each recurrent layer the mean norm at every distance, (K + 1,), by name:
                ``layers.0``, and ``layers.0_reverse`` of a second direction. 1 at k = 0;
                fewer numbers where a layer reads fewer steps than there are distances
    """

    distances: NDArray[np.int64]
    norms: dict[str, Doubles]

    @property
    def half_life(self) -> dict[str, int | None]:
        """The first distance from which on a layer's norm is below 1/2; None if it never is."""
        lives: dict[str, int | None] = {}
        for name, norms in self.norms.items():
            last = int(np.flatnonzero(norms >= 0.5)[-1])
            lives[name] = int(self.distances[last + 1]) if last + 1 < len(norms) else None
        return lives

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the norms against the distance, a curve per layer.

        Parameters
        ----------
        path : str or path
            The picture to write: .png, .svg or .pdf.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from numlstm.plots import draw_horizons

        draw_horizons(self.norms, path)


def horizon(model: Model, xs: ArrayLike, max_distance: int = 100, num_starts: int = 4) -> Horizon:
    """Return how much the states of a model depend on those before, along a sequence.

    The norm is the largest singular value of ``d state[T] / d state[T - k]``: what the most telling
    small change of the state k steps ago, of length 1, has become at step T. The state is all that
    the layer keeps, (h, c) of an LSTM; its inputs stay as they are. The Jacobian over k steps is
    the product of those over each step.

    Parameters
    ----------
    model : Model
        Of any dtype; bidirectional layers give a curve for either direction.
    xs : array of shape (T,) or (T, input_size)
        Token ids, or numbers.
    max_distance : int
        The largest k, or T where the sequence is shorter.
    num_starts : int
        How many steps T - k, evenly spread over those with max_distance after them, the mean at
        every k is over.

    Returns
    -------
    Horizon

    Raises
    ------
    TypeError, ValueError
        If xs is not as above or empty, a number is not positive, or the network has no recurrent
        layer, has feedback between layers or attends to a memory given from outside.

    Examples
    --------
    >>> model = numlstm.load("sentiment")
    >>> numlstm.analysis.horizon(model, range(1, 200)).half_life  # doctest: +SKIP
    {'layers.0': 31}
    """
    for name, number in (("max_distance", max_distance), ("num_starts", num_starts)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise ValueError(f"{name} is {number!r}, expected 1 or more")
    rows = model.check_xs(xs)
    masked = model.network.masked(rows)
    if masked is not None:
        rows = rows[~masked]
    if not len(rows):
        raise ValueError("xs has no steps that are not masked, so no state depends on another")
    norms = {}
    max_distance = min(int(max_distance), len(rows))
    for name, layer, own, inputs in _recurrent_layers(model, rows):
        furthest = min(max_distance, len(inputs))
        norms[name] = _mean_norms(layer, own, inputs, furthest, int(num_starts))
    return Horizon(np.arange(max_distance + 1), norms)


def _recurrent_layers(
    model: Model, xs: NDArray[np.float32] | NDArray[np.int32]
) -> Iterator[tuple[str, spec.Recurrent, Own, Doubles]]:
    """Yield name, layer, tensors and inputs (T, I), in its order, of each direction of a layer."""
    network, tensors = model.network, model.weights.tensors
    named = [(n, *pair) for n, pair in enumerate(network.named_layers())]
    if not any(isinstance(layer, spec.Recurrent) for _, _, layer in named):
        raise ValueError("the network has no recurrent layer, so it remembers nothing")
    if any(isinstance(layer, spec.Feedback) for layer in network.layers):
        raise ValueError("feedback between layers is not supported: a state is more than a layer's")
    if network.memory_size is not None:
        raise ValueError("the network attends to a memory, which a sequence alone does not give")
    for n, prefix, layer in named:
        if not isinstance(layer, spec.Recurrent):
            continue
        inputs = xs.astype(np.float64)
        if n:  # what the layers before it answer
            join = spec.Concat(layer.input_size, inputs=layer.inputs)
            inputs, _ = reference.run(spec.Network((*network.layers[:n], join)), tensors, xs)
        own = {name: tensors[f"{prefix}.{name}"].astype(np.float64) for name in layer.tensors()}
        first = {name: tensor for name, tensor in own.items() if not name.endswith("_reverse")}
        one = layer.one_direction()
        if layer.direction != "reverse":
            yield prefix, one, first, inputs
        if layer.direction != "forward":
            second = {name: own.get(f"{name}_reverse", first[name]) for name in first}
            suffix = "_reverse" if layer.direction == "bidirectional" else ""
            yield f"{prefix}{suffix}", one, second, inputs[::-1]


def _mean_norms(
    layer: spec.Recurrent, own: Own, xs: Doubles, max_distance: int, num_starts: int
) -> Doubles:
    """Return the mean norms of the Jacobians over 0 to max_distance of the steps of xs."""
    num_starts = min(num_starts, len(xs) - max_distance + 1)  # more would be the same ones
    starts = np.linspace(0, len(xs) - max_distance, num_starts).round().astype(int)
    starts = np.unique(starts)
    states = [_first_state(layer, own)]
    for x in xs[: starts[-1]]:
        states.append(_step(layer, own, x, states[-1]))
    norms = np.ones((len(starts), max_distance + 1))
    for start, of_start in zip(starts, norms, strict=True):
        state = Dual.variable(states[start].value)
        for k in range(max_distance):
            # The derivative goes on with the step, which multiplies it by the step's Jacobian.
            state = _step(layer, own, xs[start + k], state)
            of_start[k + 1] = _norm(state.slope)
    return np.asarray(norms.mean(0))


def _norm(matrix: Doubles) -> float:
    """Return the largest singular value, to 1e-12 of it.

    The Lanczos process on M^T M with all vectors kept orthogonal: Golub, Kahan 1965. Of 1024 x 1024
    it takes a tenth of the time of a decomposition.
    """
    largest = float(np.abs(matrix).max())
    if largest == 0.0 or not np.isfinite(largest):
        return largest
    matrix = matrix / largest  # so that no square is too small or too large
    size = matrix.shape[1]
    basis: Doubles = np.zeros((0, size))
    new = np.random.default_rng(0).standard_normal(size)
    projected = np.zeros((size + 1, size + 1))
    for k in range(size):
        basis = np.vstack([basis, new / np.linalg.norm(new)])
        new = (matrix @ basis[k]) @ matrix
        projected[k, k] = basis[k] @ new / (basis[k] @ basis[k])  # of an identity exactly 1
        for _ in range(2):
            new = new - (basis @ new) @ basis
        rest = np.linalg.norm(new)
        projected[k, k + 1] = projected[k + 1, k] = rest
        values, vectors = np.linalg.eigh(projected[: k + 1, : k + 1])
        if rest * abs(vectors[-1, -1]) <= 1e-12 * values[-1]:
            break
    return largest * float(np.sqrt(values[-1]))


# The Jacobians of a step --------------------------------------------------------------------------


class Dual:
    """A vector (N,) and its derivative (N, D) by D variables: differentiation as it is computed.

    It goes through the equations of `reference.CELLS` in place of an array.
    """

    __array_ufunc__ = None  # so that an array leaves `array * dual` to the dual

    def __init__(self, value: Doubles, slope: Doubles) -> None:
        self.value = value
        self.slope = slope

    @classmethod
    def variable(cls, value: Doubles) -> "Dual":
        """Return the variables themselves, whose derivative is the identity."""
        return cls(value, np.eye(len(value)))

    @classmethod
    def joined(cls, duals: Iterable["Dual"]) -> "Dual":
        """Return duals end to end."""
        values, slopes = zip(*((dual.value, dual.slope) for dual in duals), strict=True)
        return cls(np.concatenate(values), np.concatenate(slopes))

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, part: slice) -> "Dual":
        return Dual(self.value[part], self.slope[part])

    def __add__(self, other: Any) -> "Dual":
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.slope + other.slope)
        return Dual(self.value + other, self.slope)

    def __rsub__(self, other: Any) -> "Dual":
        return Dual(other - self.value, -self.slope)

    def __mul__(self, other: Any) -> "Dual":
        if isinstance(other, Dual):
            slope = _column(other.value) * self.slope + _column(self.value) * other.slope
            return Dual(self.value * other.value, slope)
        return Dual(self.value * other, _column(other) * self.slope)

    def __truediv__(self, other: "Dual") -> "Dual":
        value = self.value / other.value
        slope = (self.slope - _column(value) * other.slope) / _column(other.value)
        return Dual(value, slope)

    def __rmatmul__(self, matrix: Doubles) -> "Dual":
        return Dual(matrix @ self.value, matrix @ self.slope)

    __radd__, __rmul__ = __add__, __mul__


def _column(x: ArrayLike) -> Doubles:
    """Return a vector, or a number, as what scales the rows of a matrix."""
    return np.reshape(x, (-1, 1))


@evaluate.register
def _evaluate(x: Dual, name: str, parameters: tuple[float, ...]) -> Dual:
    slope = _column(DERIVATIVES[name](x.value, *parameters))
    return Dual(evaluate(x.value, name, parameters), slope * x.slope)


def jacobians(layer: spec.Recurrent, own: Own, xs: ArrayLike) -> Iterator[Doubles]:
    """Yield ``d state[t] / d state[t - 1]``, (D, D), of a layer of one direction at every step.

    Parameters
    ----------
    layer : any recurrent layer
        With any options.
    own : dict of float64 arrays
        Its tensors by their names within it: ``weight_ih``.
    xs : array of shape (T, input_size)
        What it reads, from its initial state on.

    Yields
    ------
    float64 array of shape (D, D)
        The state is what `layer.states` names, end to end: h before c of an LSTM.
    """
    state = _first_state(layer, own)
    for x in np.asarray(xs, np.float64):
        state = _step(layer, own, x, Dual.variable(state.value))
        yield state.slope


def _first_state(layer: spec.Recurrent, own: Own) -> Dual:
    """Return the state before the first step, a constant."""
    value = np.concatenate(list(first_states(layer, own).values()))
    return Dual(value, np.zeros((len(value), 0)))


def _step(layer: spec.Recurrent, own: Own, x: Doubles, state: Dual) -> Dual:
    """Return the state after a step, by whatever variables the state before it is."""
    ends = np.cumsum([0, *layer.states.values()])
    before = {
        name: state[start:end]
        for name, (start, end) in zip(layer.states, pairwise(ends), strict=True)
    }
    made: Any = CELLS[type(layer)](layer, own, x, **before)
    return Dual.joined(made[name] for name in layer.states)


# The derivatives of functions ---------------------------------------------------------------------


def _elu(x: Doubles, alpha: float) -> Doubles:
    return np.where(x >= 0, 1.0, alpha * np.exp(np.minimum(x, 0.0)))


def _silu(x: Doubles) -> Doubles:
    s = sigmoid(x)
    return np.asarray(s * (1 + x * (1 - s)))


def _gelu_tanh(x: Doubles) -> Doubles:
    scale = 2 * math.sqrt(2 / math.pi)
    s = sigmoid(scale * (x + 0.044715 * x**3))
    return np.asarray(s + x * s * (1 - s) * scale * (1 + 3 * 0.044715 * x**2))


# Of the functions that layers know, by x and their parameters; at a corner, that of one side.
DERIVATIVES: dict[str, Callable[..., Doubles]] = {
    "linear": np.ones_like,
    "tanh": lambda x: 1 - np.tanh(x) ** 2,
    "sigmoid": lambda x: sigmoid(x) * sigmoid(-x),
    "relu": lambda x: (x > 0).astype(np.float64),
    "affine": lambda x, alpha, beta: np.full_like(x, alpha),
    "leaky_relu": lambda x, alpha: np.where(x >= 0, 1.0, alpha),
    "thresholded_relu": lambda x, alpha: (x > alpha).astype(np.float64),
    "scaled_tanh": lambda x, alpha, beta: alpha * beta * (1 - np.tanh(beta * x) ** 2),
    "hard_sigmoid": lambda x, alpha, beta: np.where(np.abs(alpha * x + beta - 0.5) < 0.5, alpha, 0),
    "elu": _elu,
    "selu": lambda x, alpha, beta: beta * _elu(x, alpha),
    "softsign": lambda x: 1 / (1 + np.abs(x)) ** 2,
    "softplus": sigmoid,
    "silu": _silu,
    "clip": lambda x, low, high: ((x >= low) & (x <= high)).astype(np.float64),
    "exp": np.exp,
    "log": lambda x: 1 / x,
    "sqrt": lambda x: 0.5 / np.sqrt(x),
    "square": lambda x: 2 * x,
    "linear_sigmoid": lambda x: np.where(x >= 0, 1.0, sigmoid(x) * sigmoid(-x)),
    "abs": np.sign,
    "reciprocal": lambda x: -1 / x**2,
    "gelu": lambda x: normal_below(x) + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi),
    "gelu_tanh": _gelu_tanh,
    "erf": lambda x: 2 / math.sqrt(math.pi) * np.exp(-(x**2)),
}
