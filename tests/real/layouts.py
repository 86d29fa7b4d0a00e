"""The tensors of one layer as Keras and TensorFlow 1 keep them -> as PyTorch does."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, NDArray[np.float32]]


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    """Return the tensors under their names in a network: ``layers.0.weight_ih``."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _recurrent(w_ih: Array, w_hh: Array, bias: Array) -> Tensors:
    arrays = {"weight_ih": w_ih.T, "weight_hh": w_hh.T, "bias_ih": bias, "bias_hh": 0 * bias}
    return {name: np.ascontiguousarray(a, np.float32) for name, a in arrays.items()}


def _gates(array: Array, num_gates: int, order: tuple[int, ...]) -> Array:
    blocks = np.split(array, num_gates, -1)
    return np.concatenate([blocks[n] for n in order], -1)


def linear(kernel: Array, bias: Array | None = None) -> Tensors:
    """Return a Linear from a kernel (I, O)."""
    tensors = {"weight": np.ascontiguousarray(kernel.T, np.float32)}
    return tensors if bias is None else tensors | {"bias": np.asarray(bias, np.float32)}


def keras_lstm(kernel: Array, recurrent_kernel: Array, bias: Array) -> Tensors:
    """Return an LSTM from kernels (I, 4H), (H, 4H), gates i f c o, which are i f g o."""
    return _recurrent(kernel, recurrent_kernel, bias)


def keras_gru(kernel: Array, recurrent_kernel: Array, bias: Array) -> Tensors:
    """Return a GRU with reset_after=False from kernels (I, 3H), (H, 3H), gates z r h."""
    return _recurrent(*(_gates(a, 3, (1, 0, 2)) for a in (kernel, recurrent_kernel, bias)))


def tf_lstm(kernel: Array, bias: Array) -> Tensors:
    """Return a BasicLSTMCell from one kernel (I + H, 4H), gates i j f o, j being g."""
    kernel, bias = _gates(kernel, 4, (0, 2, 1, 3)), _gates(bias, 4, (0, 2, 1, 3))
    hidden_size = len(bias) // 4
    return _recurrent(kernel[:-hidden_size], kernel[-hidden_size:], bias)


def tf_gru(gates: Array, gates_bias: Array, candidate: Array, candidate_bias: Array) -> Tensors:
    """Return a GRUCell from kernels (I + H, 2H), gates r u, and (I + H, H)."""
    kernel = np.hstack([gates, candidate])
    hidden_size = len(candidate_bias)
    bias = np.hstack([gates_bias, candidate_bias])
    return _recurrent(kernel[:-hidden_size], kernel[-hidden_size:], bias)
