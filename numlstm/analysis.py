"""How far back a recurrent network remembers, as the Jacobian of its state by an earlier one.

A state that depends on the state k steps before hardly at all has forgotten it, and no gradient
that comes back over those k steps can teach it better: Hochreiter 1991; Bengio, Simard, Frasconi
1994; Pascanu, Mikolov, Bengio 2013. The derivatives here are those of the cells' equations, in
float64, with the weights that the engine has.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm import reference, spec
from numlstm.model import Model
from numlstm.reference import Doubles, Own, apply, clip, sigmoid


@dataclass(frozen=True)
class Memory:
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
        from numlstm.plots import draw_memories

        draw_memories(self.norms, path)


def memory(model: Model, xs: ArrayLike, max_distance: int = 100, num_starts: int = 4) -> Memory:
    """Return how much the states of a model depend on those before, along a sequence.

    The norm is the largest singular value of ``d state[T] / d state[T - k]``: what the most telling
    small change of the state k steps ago, of length 1, has become at step T. The state is (h, c) of
    an LSTM, h of other cells; the inputs of the layer stay as they are. The Jacobian over k steps
    is the product of those over each step.

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
    Memory

    Raises
    ------
    TypeError, ValueError
        If xs is not as above or empty, a number is not positive, or the network has no recurrent
        layer, has feedback between layers or attends to a memory given from outside.

    Examples
    --------
    >>> model = numlstm.load("sentiment")
    >>> numlstm.analysis.memory(model, range(1, 200)).half_life  # doctest: +SKIP
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
    max_distance = min(max_distance, len(rows))
    for name, layer, own, inputs in _recurrent_layers(model, rows):
        steps = jacobians(layer, own, inputs)
        norms[name] = _mean_norms(steps, len(inputs), min(max_distance, len(inputs)), num_starts)
    return Memory(np.arange(max_distance + 1), norms)


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
    steps: Iterator[Doubles], seq_len: int, max_distance: int, num_starts: int
) -> Doubles:
    """Return the mean norms of products of 0 to max_distance of the Jacobians of seq_len steps."""
    starts = np.linspace(0, seq_len - max_distance, num_starts).round().astype(int)
    starts = np.unique(starts)
    norms = np.ones((len(starts), max_distance + 1))
    products: dict[int, Doubles] = {}  # by row of norms, of those under way
    for t, step in enumerate(steps):
        products |= {int(row): np.eye(len(step)) for row in np.flatnonzero(starts == t)}
        for row, product in list(products.items()):
            k = t + 1 - starts[row]
            products[row] = product = step @ product
            norms[row, k] = _norm(product)
            if k == max_distance:
                del products[row]
    return np.asarray(norms.mean(0))


def _norm(matrix: Doubles) -> float:
    """Return the largest singular value, in half the time of a decomposition."""
    largest = float(np.abs(matrix).max())
    if largest == 0.0 or not np.isfinite(largest):
        return largest
    matrix = matrix / largest  # so that no square is too small or too large
    return largest * float(np.sqrt(np.linalg.eigvalsh(matrix.T @ matrix)[-1]))


# The Jacobians of a step --------------------------------------------------------------------------


def jacobians(layer: spec.Recurrent, own: Own, xs: ArrayLike) -> Iterator[Doubles]:
    """Yield ``d state[t] / d state[t - 1]``, (D, D), of a layer of one direction at every step.

    Parameters
    ----------
    layer : RNN, GRU or LSTM
        With any options.
    own : dict of float64 arrays
        Its tensors by their names within it: ``weight_ih``.
    xs : array of shape (T, input_size)
        What it reads, from its initial state on.

    Yields
    ------
    float64 array of shape (D, D)
        D is ``h_size + hidden_size`` for an LSTM, whose state is h before c; else ``hidden_size``.
    """
    bias = own.get("bias_ih", np.zeros(len(own["weight_ih"])))
    from_x = np.asarray(xs, np.float64) @ own["weight_ih"].T + bias
    h = own.get("initial_h", np.zeros(layer.h_size))
    c = own.get("initial_c", np.zeros(layer.hidden_size))
    for a in from_x:
        match layer:
            case spec.LSTM():
                h, c, jacobian = _lstm_step(layer, own, a, h, c)
            case spec.GRU():
                h, jacobian = _gru_step(layer, own, a, h)
            case spec.RNN():
                h, jacobian = _rnn_step(layer, own, a, h)
        yield jacobian


def _b_hh(own: Own) -> Doubles:
    return own.get("bias_hh", np.zeros(len(own["weight_hh"])))


def _rnn_step(layer: spec.RNN, own: Own, a: Doubles, h: Doubles) -> tuple[Doubles, Doubles]:
    """Return h' and ``dh'/dh = diag(f'(a)) W_hh``."""
    a = a + own["weight_hh"] @ h + _b_hh(own)
    h, slope = _gate(layer.nonlinearity, a, layer.clip)
    return h, slope[:, None] * own["weight_hh"]


def _gru_step(layer: spec.GRU, own: Own, a: Doubles, h: Doubles) -> tuple[Doubles, Doubles]:
    """Return h' and ``dh'/dh``; ``h' = (1 - z) n + z h``."""
    w_r, w_z, w_n = np.split(own["weight_hh"], 3)
    b_r, b_z, b_n = np.split(_b_hh(own), 3)
    a_r, a_z, a_n = np.split(a, 3)
    r, r_slope = _gate(layer.recurrent_activation, a_r + w_r @ h + b_r, layer.clip)
    z, z_slope = _gate(layer.recurrent_activation, a_z + w_z @ h + b_z, layer.clip)
    dr, dz = r_slope[:, None] * w_r, z_slope[:, None] * w_z
    if layer.reset_after:
        inner = w_n @ h + b_n
        a_n, d_inner = a_n + r * inner, r[:, None] * w_n + inner[:, None] * dr
    else:
        a_n, d_inner = a_n + w_n @ (r * h) + b_n, w_n @ (np.diag(r) + h[:, None] * dr)
    n, n_slope = _gate(layer.activation, a_n, layer.clip)
    dn = n_slope[:, None] * d_inner
    jacobian = (1 - z)[:, None] * dn + (h - n)[:, None] * dz + np.diag(z)
    return (1 - z) * n + z * h, jacobian


def _lstm_step(
    layer: spec.LSTM, own: Own, a: Doubles, h: Doubles, c: Doubles
) -> tuple[Doubles, Doubles, Doubles]:
    """Return h', c' and ``d(h', c') / d(h, c)``; the equations are those of `spec.LSTM`.

    A derivative by h is a matrix ``x_h``, one by c a diagonal ``x_c``.
    """
    w_i, w_f, w_g, w_o = np.split(own["weight_hh"], 4)
    a_i, a_f, a_g, a_o = np.split(a + own["weight_hh"] @ h + _b_hh(own), 4)
    p_i, p_f, p_o = (own.get(f"peephole_{gate}", np.zeros_like(c)) for gate in "ifo")
    i, slope = _gate(layer.recurrent_activation, a_i + p_i * c, layer.clip)
    i_h, i_c = slope[:, None] * w_i, slope * p_i
    if layer.coupled:
        f, f_h, f_c = 1 - i, -i_h, -i_c
    else:
        a_f = a_f + layer.forget_bias + p_f * c
        f, slope = _gate(layer.recurrent_activation, a_f, layer.clip)
        f_h, f_c = slope[:, None] * w_f, slope * p_f
    g, slope = _gate(layer.activation, a_g, layer.clip)
    g_h = slope[:, None] * w_g

    new, slope = _gate("linear", f * c + i * g, layer.cell_clip)
    new_h = slope[:, None] * (c[:, None] * f_h + g[:, None] * i_h + i[:, None] * g_h)
    new_c = slope * (f + c * f_c + g * i_c)

    o, slope = _gate(layer.recurrent_activation, a_o + p_o * new, layer.clip)
    o_h = slope[:, None] * (w_o + p_o[:, None] * new_h)
    o_c = slope * p_o * new_c
    b, slope = _gate(layer.output_activation, new, None)
    h = o * b
    h_h = b[:, None] * o_h + (o * slope)[:, None] * new_h
    h_c = np.diag(b * o_c + o * slope * new_c)
    if layer.proj_size:
        w_hr = own["weight_hr"]
        h, slope = _gate("linear", w_hr @ h, layer.proj_clip)
        h_h, h_c = slope[:, None] * (w_hr @ h_h), slope[:, None] * (w_hr @ h_c)
    return h, new, np.block([[h_h, h_c], [new_h, np.diag(new_c)]])


def _gate(function: str, a: Doubles, bound: float | None) -> tuple[Doubles, Doubles]:
    """Return ``f(clip(a))`` and its derivative by a."""
    inside = np.ones_like(a) if bound is None else (np.abs(a) <= bound).astype(np.float64)
    a = clip(a, bound)
    name, parameters = spec.parse_function(function)
    return apply(function, a), inside * DERIVATIVES[name](a, *parameters)


def _elu(x: Doubles, alpha: float) -> Doubles:
    return np.where(x >= 0, 1.0, alpha * np.exp(np.minimum(x, 0.0)))


def _silu(x: Doubles) -> Doubles:
    s = sigmoid(x)
    return np.asarray(s * (1 + x * (1 - s)))


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
}
