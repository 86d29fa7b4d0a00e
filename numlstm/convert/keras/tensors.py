"""The arrays of a Keras layer, as Keras lists them -> the canonical tensors of a layer.

Keras has kernels (I, O), gates i f c o of an LSTM and z r h of a GRU, and one bias. Weights of
cuDNN layers have each block transposed in its own memory, and two biases, end to end.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from numlstm import spec
from numlstm.spec import Layer, WeightsError

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Sequence[Array]
Recurrent: TypeAlias = spec.RNN | spec.GRU | spec.LSTM

_GRU_ORDER = (1, 0, 2)  # z r h -> r z n


def tensors_of(layer: Layer, arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a layer by their names within it.

    Raises
    ------
    WeightsError
        If there are too few or too many arrays, or arrays of other shapes.
    """
    found: Mapping[str, Array]
    match layer:
        case spec.RNN() | spec.GRU() | spec.LSTM():
            found = _recurrent(layer, arrays)
        case spec.Embedding():
            (weight,) = _expect(arrays, embeddings=(layer.vocab_size, layer.embedding_size))
            found = {"weight": weight}
        case spec.Linear():
            found = _named(layer, arrays, kernel=(layer.input_size, layer.output_size))
        case spec.Conv1d():
            found = _named(layer, [_conv_kernel(layer, array) for array in arrays], kernel=(
                layer.kernel_size, layer.input_size // layer.groups, layer.output_size
            ))  # fmt: skip
        case spec.BatchNorm() | spec.LayerNorm():
            names = list(layer.tensors())
            keras = {"weight": "gamma", "bias": "beta"}
            shapes = {keras.get(name, name): (layer.input_size,) for name in names}
            found = dict(zip(names, _expect(arrays, **shapes), strict=True))
        case spec.AttentionPooling():
            arrays = [np.ravel(array) for array in arrays]
            found = {"weight": _expect(arrays, weight=(layer.input_size,))[0]}
        case _:
            if arrays:
                raise WeightsError(f"{len(arrays)} weights for a layer that has none")
            found = {}
    return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}


def _expect(arrays: Arrays, **shapes: tuple[int, ...]) -> Arrays:
    """Return the arrays if each has its shape."""
    if len(arrays) != len(shapes):
        raise WeightsError(f"expected {', '.join(shapes) or 'no weights'}, found {_shapes(arrays)}")
    problems = [
        f"{name} expected {shape}, found {array.shape}"
        for array, (name, shape) in zip(arrays, shapes.items(), strict=True)
        if array.shape != shape
    ]
    if problems:
        raise WeightsError("; ".join(problems))
    return arrays


def _shapes(arrays: Arrays) -> str:
    return ", ".join(str(array.shape) for array in arrays) or "none"


def _named(
    layer: spec.Linear | spec.Conv1d, arrays: Arrays, kernel: tuple[int, ...]
) -> dict[str, Array]:
    bias = {"bias": (layer.output_size,)} if layer.bias else {}
    weight, *rest = _expect(arrays, kernel=kernel, **bias)
    return {"weight": weight.T} | ({"bias": rest[0]} if rest else {})


def _conv_kernel(layer: spec.Conv1d, array: Array) -> Array:
    """Return the kernel of a Conv1D of Keras 1, which has an axis of size 1, as Keras 2 has it."""
    if array.ndim != 4:
        return array
    if array.shape[:2] == (layer.kernel_size, 1):
        return array[:, 0]
    return array[..., 0].transpose(2, 1, 0)


# Recurrent layers ---------------------------------------------------------------------------------


def _recurrent(layer: Recurrent, arrays: Arrays) -> dict[str, Array]:
    num_directions = 2 if layer.direction == "bidirectional" and not layer.shared else 1
    if not arrays or len(arrays) % num_directions:
        raise WeightsError(f"expected kernel, recurrent_kernel, bias, found {_shapes(arrays)}")
    each = len(arrays) // num_directions
    found = _one_direction(layer, arrays[:each])
    if num_directions == 2:
        second = _one_direction(layer, arrays[each:])
        found |= {f"{name}_reverse": array for name, array in second.items()}
    return found


def _one_direction(layer: Recurrent, arrays: Arrays) -> dict[str, Array]:
    gates, size = layer.num_gates, layer.hidden_size
    if layer.initial_state or layer.h_size != size or getattr(layer, "peepholes", False):
        raise WeightsError("Keras has no projection, peepholes or initial state as weights")
    if gates > 1 and len(arrays) == 3 * gates:
        arrays = _of_keras_1(arrays)
    shapes: dict[str, tuple[int, ...]] = {
        "kernel": (layer.input_size, gates * size),
        "recurrent_kernel": (size, gates * size),
    }
    is_cudnn = len(arrays) == 3 and gates > 1 and arrays[2].shape == (2 * gates * size,)
    two_biases = isinstance(layer, spec.GRU) and layer.reset_after
    if layer.bias:
        shapes["bias"] = (2 * gates * size,) if is_cudnn else (gates * size,)
        if two_biases and not is_cudnn:
            shapes["bias"] = (2, gates * size)
    kernel, recurrent, *biases = _expect(arrays, **shapes)
    if is_cudnn:
        if isinstance(layer, spec.GRU) and not layer.reset_after:
            raise WeightsError("weights of cuDNN for a GRU with reset_after=False")
        kernel, recurrent, biases = _of_cudnn(kernel, recurrent, biases[0], gates)
    found = {"weight_ih": _gates(layer, kernel.T), "weight_hh": _gates(layer, recurrent.T)}
    if layer.bias:
        bias = biases[0].reshape(-1, gates * size)
        both = bias if len(bias) == 2 else np.stack([bias[0], np.zeros_like(bias[0])])
        found |= {"bias_ih": _gates(layer, both[0]), "bias_hh": _gates(layer, both[1])}
    return found


def _gates(layer: Recurrent, rows: Array) -> Array:
    if not isinstance(layer, spec.GRU):
        return rows
    blocks = np.split(rows, 3)
    return np.concatenate([blocks[n] for n in _GRU_ORDER])


def _of_cudnn(
    kernel: Array, recurrent: Array, bias: Array, gates: int
) -> tuple[Array, Array, list[Array]]:
    """Return the kernels of a cuDNN layer as other layers have them, and the bias (2, G*H)."""
    blocks = [k.T.reshape(k.shape, order="F") for k in np.split(kernel, gates, 1)]
    squares = [k.T for k in np.split(recurrent, gates, 1)]
    return np.hstack(blocks), np.hstack(squares), [bias.reshape(2, -1)]


def _of_keras_1(arrays: Arrays) -> Arrays:
    """Return kernel, recurrent kernel and bias of Keras 1, which had W, U, b of each gate.

    Of an LSTM the gates are i, c, f, o; of a GRU z, r, h.
    """
    num_gates = len(arrays) // 3
    order = (0, 2, 1, 3) if num_gates == 4 else (0, 1, 2)
    try:
        return [np.concatenate([arrays[3 * n + k] for n in order], -1) for k in range(3)]
    except ValueError as error:
        raise WeightsError(f"the gates have weights {_shapes(arrays)}") from error
