"""What a caller says of an ONNX graph: values and sizes of its inputs, and which outputs count."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from numlstm.budget import spend
from numlstm.convert.assembly import Array
from numlstm.convert.onnx.roles.inputs import Input
from numlstm.errors import first_of
from numlstm.spec import WeightsError


def bind(model: onnx.ModelProto, constants: Mapping[str, Any]) -> None:
    """Make initializers of inputs of a model, with the values that a caller gives.

    Raises
    ------
    WeightsError
        If a name is no input, or a value not of its shape and type.
    """
    inputs = _inputs(model, "constants", constants)
    for name, value in constants.items():
        tensor = numpy_helper.from_array(_cast(inputs[name], value), name)
        _remove(model.graph.initializer, name)
        _remove(model.graph.input, name)
        model.graph.initializer.append(tensor)


def fix(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int | None]]) -> None:
    """Fix sizes of inputs of a model that may differ; None is one that may.

    Raises
    ------
    WeightsError
        If a name is no input, or its shape another one.
    """
    inputs = _inputs(model, "shapes", shapes)
    infos = {info.name: info.type.tensor_type for info in model.graph.input}
    for name, shape in shapes.items():
        found, given = inputs[name].shape, tuple(shape)
        subject = f"shapes: {name!r} is {given}, "
        if not all(size is None or (type(size) is int and size > 0) for size in given):
            raise WeightsError(f"{subject}expected sizes, or None of those that may differ")
        known = infos[name].HasField("shape")
        if known and not (
            len(given) == len(found)
            and all(a in (None, b) for a, b in zip(found, given, strict=True))
        ):
            raise WeightsError(f"{subject}expected {inputs[name].sizes}")
        infos[name].shape.Clear()
        for size in given:
            dim = infos[name].shape.dim.add()
            if size is not None:
                dim.dim_value = size


def _inputs(model: onnx.ModelProto, what: str, given: Mapping[str, Any]) -> dict[str, Input]:
    """Return the inputs of a model, of which all that is given must be some."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} is {type(given).__name__}, expected a dict by names of inputs")
    inputs = {info.name: Input.of(info) for info in model.graph.input}
    for name in given:
        if name not in inputs:
            has = first_of(inputs) or "none"
            raise WeightsError(f"{what}: {name!r} is no input of the graph; it has {has}")
    return inputs


def _remove(entries: Any, name: str) -> None:
    for n in reversed(range(len(entries))):
        if entries[n].name == name:
            del entries[n]


def _cast(tensor: Input, value: Any) -> Array:
    """Return a value as the graph reads it."""
    subject = f"constants: {tensor.name!r}"
    try:
        given = np.asarray(value)
        found = given.astype(tensor.dtype)
        same = np.issubdtype(given.dtype, np.number) or given.dtype == bool
    except (TypeError, ValueError):
        same = False
    if not same:
        kind = type(value).__name__
        raise WeightsError(f"{subject} is {kind}, expected numbers ({tensor.dtype})")
    spend(f"the constant {tensor.name!r}", 2 * found.nbytes)
    if not np.isfinite(found.astype(np.float64)).all():
        raise WeightsError(f"{subject} has numbers that are not finite")
    if tensor.kind in "bi" and not np.array_equal(found, given):
        raise WeightsError(f"{subject} is {given!s:.40}, expected {tensor.dtype}")
    if len(found.shape) != len(tensor.shape) and found.size == np.prod(tensor.ones):
        found = found.reshape(tensor.ones)  # a number for an axis of one, and the reverse
    fits = len(found.shape) == len(tensor.shape) and all(
        b in (None, a) for a, b in zip(found.shape, tensor.shape, strict=True)
    )
    if not fits:
        raise WeightsError(f"{subject} has shape {found.shape}, expected {tensor.sizes}")
    return found


def check_outputs(model: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Raise a WeightsError unless these are names of outputs of a model, each once."""
    if isinstance(outputs, str):
        raise TypeError("outputs is a str, expected a list of str")
    names = [output.name for output in model.graph.output]
    for name in outputs:
        if name not in names:
            raise WeightsError(
                f"outputs: {name!r} is no output of the graph; it has {first_of(names)}"
            )
    if len(set(outputs)) != len(outputs):
        raise WeightsError(f"outputs: {', '.join(outputs)}, expected each once")
