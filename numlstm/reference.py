"""Every layer in plain NumPy float64, from the equations: the definition of correct.

Frameworks are held against it, kernels are held against it. It is slow and knows no layouts.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm import spec

Doubles = NDArray[np.float64]
Tensors = Mapping[str, NDArray[Any]]


def sigmoid(x: Doubles) -> Doubles:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def relu(x: Doubles) -> Doubles:
    """max(x, 0), a NaN staying one."""
    return np.where(x < 0, 0.0, x)


def softmax(x: Doubles) -> Doubles:
    """exp(x) / sum(exp(x)) over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


FUNCTIONS: dict[str, Callable[[Doubles], Doubles]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": relu,
}


def run(
    network: spec.Network, tensors: Tensors, xs: ArrayLike
) -> tuple[Doubles, dict[str, Doubles]]:
    """Run a sequence from the initial state.

    Parameters
    ----------
    tensors : canonical names, any float type
    xs : token ids (T,), or numbers (T, input_size)

    Returns
    -------
    ys : (T, output_size)
    states : the last h (and c) of each recurrent layer, ``layers.{n}.h``: (hidden_size,)
    """
    values: Any = np.asarray(xs)
    states: dict[str, Doubles] = {}
    for prefix, layer in network.named_layers():
        own = {name: tensors[f"{prefix}.{name}"].astype(np.float64) for name in layer.tensors()}
        if isinstance(layer, spec.Embedding):
            values = own["weight"][values]
        elif isinstance(layer, spec.RNN | spec.GRU | spec.LSTM):
            values, last = _recurrent(layer, own, values.astype(np.float64))
            states |= {f"{prefix}.{name}": value for name, value in last.items()}
        else:
            values = _feed_forward(layer, own, values.astype(np.float64))
    return values, states


def _feed_forward(layer: spec.Layer, own: dict[str, Doubles], xs: Doubles) -> Doubles:
    match layer:
        case spec.Linear():
            ys = xs @ own["weight"].T + own.get("bias", 0.0)
            return ys if layer.activation is None else FUNCTIONS[layer.activation](ys)
        case spec.LayerNorm():
            centred = xs - xs.mean(-1, keepdims=True)
            normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
            return np.asarray(normed * own.get("weight", 1.0) + own.get("bias", 0.0))
        case spec.Activation():
            return FUNCTIONS[layer.function](xs)
        case spec.Softmax():
            return softmax(xs)
        case spec.Pooling(mode="last"):
            return xs
        case spec.Pooling(mode="mean"):
            return np.cumsum(xs, 0) / np.arange(1, len(xs) + 1)[:, None]
        case spec.Pooling(mode="max"):
            return np.maximum.accumulate(xs, 0)
    raise TypeError(f"no reference for {layer}")


def _recurrent(
    layer: spec.RNN | spec.GRU | spec.LSTM, own: dict[str, Doubles], xs: Doubles
) -> tuple[Doubles, dict[str, Doubles]]:
    """Run one recurrent layer from zero; return (T, H) and the last state."""
    w_ih, w_hh = own["weight_ih"], own["weight_hh"]
    b_ih, b_hh = own.get("bias_ih", np.zeros(len(w_ih))), own.get("bias_hh", np.zeros(len(w_hh)))
    h = c = np.zeros(layer.hidden_size)
    hs = np.zeros((len(xs), layer.hidden_size))
    for t, x in enumerate(xs):
        from_x, from_h = w_ih @ x + b_ih, w_hh @ h + b_hh
        match layer:
            case spec.LSTM():
                i, f, g, o = np.split(from_x + from_h, 4)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            case spec.GRU():
                r_x, z_x, n_x = np.split(from_x, 3)
                r_h, z_h, n_h = np.split(from_h, 3)
                n = np.tanh(n_x + sigmoid(r_x + r_h) * n_h)
                z = sigmoid(z_x + z_h)
                h = (1 - z) * n + z * h
            case spec.RNN():
                h = FUNCTIONS[layer.nonlinearity](from_x + from_h)
        hs[t] = h
    return hs, {"h": h, "c": c} if isinstance(layer, spec.LSTM) else {"h": h}
