"""The arrays of a Keras layer, as Keras lists them -> the canonical tensors of a layer."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from numlstm import spec
from numlstm.convert import gates
from numlstm.convert.assembly import Array
from numlstm.spec import Layer, WeightsError

Arrays: TypeAlias = Sequence[Array]
Recurrent: TypeAlias = spec.RNN | spec.GRU | spec.LSTM


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
    size, rows = layer.hidden_size, layer.num_gates * layer.hidden_size
    if layer.initial_state or layer.h_size != size or getattr(layer, "peepholes", False):
        raise WeightsError("Keras has no projection, peepholes or initial state as weights")
    if layer.num_gates > 1 and len(arrays) == 3 * layer.num_gates:
        each = {"W": (layer.input_size, size), "U": (size, size), "b": (size,)}
        order = gates.KERAS_1[layer.num_gates]
        named = {f"{name}_{gate}": shape for gate in order for name, shape in each.items()}
        return gates.from_keras_1(*_expect(arrays, **named))
    shapes: dict[str, tuple[int, ...]] = {
        "kernel": (layer.input_size, rows),
        "recurrent_kernel": (size, rows),
    }
    is_cudnn = len(arrays) == 3 and layer.num_gates > 1 and arrays[2].shape == (2 * rows,)
    two_biases = isinstance(layer, spec.GRU) and layer.reset_after
    if layer.bias:
        shapes["bias"] = (2 * rows,) if is_cudnn else (2, rows) if two_biases else (rows,)
    kernel, recurrent, *biases = _expect(arrays, **shapes)
    if is_cudnn and isinstance(layer, spec.GRU) and not layer.reset_after:
        raise WeightsError("weights of cuDNN for a GRU with reset_after=False")
    translate = gates.from_keras_cudnn if is_cudnn else gates.from_keras
    return translate(kernel, recurrent, *biases)
