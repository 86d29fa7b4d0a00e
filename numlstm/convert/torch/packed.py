"""A state dict of dynamically quantised modules -> one with the weights that they stand for.

PyTorch packs a matrix and its bias into one object, of which a file has what it is made of. With
these weights the network answers in float32: what PyTorch rounds besides, all that is multiplied
with them, is not rounded.

    head._packed_params._packed_params      head.weight, head.bias
    cell._packed_weight_ih, _hh             cell.weight_ih, cell.bias_ih, ...
    lstm._all_weight_values.{n}.param       lstm.weight_ih_l0, ..., layer by layer, forward first
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from numlstm.convert.assembly import Refusals, Refused
from numlstm.convert.torch.files.pickles import Stranger
from numlstm.convert.torch.files.stored import Stored

_PACKED = re.compile(
    r"((?:.+\.)?)(_packed_params\._packed_params|_packed_params\._packed_weight"
    r"|_packed_weight_ih|_packed_weight_hh|_all_weight_values\.\d{1,6}\.param)"
)
_KINDS = ("quantized_dynamic", "quantized_fp16")
# What is not a tensor, of a module with packed ones: how many directions, and what outputs are
# rounded to. A state dict may have some of it, a whole module has all as attributes.
ATTRIBUTES = ("bidirectional", "scale", "zero_point")

Number: TypeAlias = Callable[[Any], float]


@dataclass(frozen=True)
class Matrix:
    """A matrix and its bias, or None, as they are in a state dict: `Stored`, or tensors."""

    weight: Any
    bias: Any


Cell: TypeAlias = tuple[Matrix, Matrix]  # for x and for h


def packed(value: Any) -> Matrix | Cell | None:
    """Return what a packed object holds, None of others."""
    match _content(value):
        case [weight, bias] if is_tensor(weight) and (bias is None or is_tensor(bias)):
            return Matrix(weight, bias)
        case [str() as kind, *_, [ih, hh]] if kind in _KINDS:
            for_x, for_h = _content(ih), _content(hh)
            if isinstance(for_x, list | tuple) and isinstance(for_h, list | tuple):
                return Matrix(*for_x[:2]), Matrix(*for_h[:2])
    return None


def is_packed(name: str, value: Any) -> bool:
    """Whether a value of a state dict is packed, by its name there too."""
    return _PACKED.fullmatch(name) is not None and packed(value) is not None


def _content(value: Any) -> Any:
    """Return what a packed object is made of; eager files name its class beside that."""
    if isinstance(value, torch.ScriptObject):
        value = value.__getstate__()
    elif isinstance(value, Stranger):
        value = value.state
    match value:
        case [content, str() as name] if name.startswith("__torch__."):
            return content
    return value


def is_tensor(value: Any) -> bool:
    return isinstance(value, Stored | torch.Tensor)


def unpacked(state: Mapping[str, Any], number: Number) -> dict[str, Any]:
    """Return a state dict with weights in place of what is packed.

    Parameters
    ----------
    number : callable
        Gives the number that a tensor of the state dict is.

    Raises
    ------
    WeightsError
        Lists the modules whose weights are not said by what is packed.
    """
    modules: dict[str, dict[str, Any]] = {}
    for name, value in state.items():
        match = _PACKED.fullmatch(name) if isinstance(name, str) else None
        if match is not None:
            modules.setdefault(match[1], {})[match[2]] = value
    refusals = Refusals("the state dict")
    found = dict(state)
    for prefix, own in modules.items():
        beside = {name: found.pop(prefix + name, None) for name in ATTRIBUTES}
        for name in (*own, "_packed_params.dtype"):
            found.pop(prefix + name, None)
        with refusals.of(prefix.removesuffix(".")):
            weights = _weights(own, beside, number)
            found |= {prefix + name: _float(weight) for name, weight in weights.items()}
    refusals.check()
    return {name: _float(value) for name, value in found.items()}


def _weights(own: Mapping[str, Any], beside: Mapping[str, Any], number: Number) -> dict[str, Any]:
    """Return the weights of one module, by their names within it."""
    rounded = {name: number(beside[name]) for name in ATTRIBUTES[1:] if beside[name] is not None}
    if rounded.get("scale", 1) != 1 or rounded.get("zero_point", 0) != 0:
        raise Refused(
            "its outputs are rounded too (static quantisation)", "convert the float module"
        )
    weights: dict[str, Any] = {}
    cells: dict[int, Cell] = {}
    for name, value in own.items():
        match packed(value):
            case Matrix() as matrix if name.startswith("_packed"):
                weights |= _named(matrix, name.removeprefix("_packed_weight"))
            case (_, _) as cell if name.startswith("_all"):
                cells[int(name.split(".")[1])] = cell
            case None if name.endswith("_packed_weight") and is_tensor(value):
                weights["weight"] = value
            case _:
                raise Refused(f"{name} is not what PyTorch packs")
    if sorted(cells) != list(range(len(cells))):
        raise Refused(
            "the packed weights of a layer are missing",
            "save the whole module with torch.save(model, path)",
        )
    return weights | _recurrent([cells[n] for n in range(len(cells))], beside["bidirectional"])


def _named(matrix: Matrix, suffix: str) -> dict[str, Any]:
    suffix = suffix if suffix in ("_ih", "_hh") else ""
    bias = {} if matrix.bias is None else {f"bias{suffix}": matrix.bias}
    return {f"weight{suffix}": matrix.weight, **bias}


def _recurrent(cells: Sequence[Cell], bidirectional: Any) -> dict[str, Any]:
    """Return the weights of the cells of an LSTM or GRU, layer by layer, forward first."""
    num_directions = _num_directions(cells, bidirectional)
    weights: dict[str, Any] = {}
    for n, (for_x, for_h) in enumerate(cells):
        layer, reverse = divmod(n, num_directions)
        end = f"_l{layer}{'_reverse' if reverse else ''}"
        for matrix, suffix in ((for_x, "_ih"), (for_h, "_hh")):
            weights |= {name + end: tensor for name, tensor in _named(matrix, suffix).items()}
    return weights


def _num_directions(cells: Sequence[Cell], bidirectional: Any) -> int:
    """Return how many cells a layer has, which a state dict does not say: by what they read."""
    if isinstance(bidirectional, bool) or len(cells) % 2:
        return 2 if bidirectional is True else 1
    sizes = [tuple(for_x.weight.shape)[-1] for for_x, _ in cells]
    hidden_size = tuple(cells[0][1].weight.shape)[-1] if cells else 0
    if len(cells) > 2:
        return 2 if sizes[2] == 2 * hidden_size else 1
    if cells and sizes[0] == hidden_size:
        raise Refused(
            f"two packed cells that read {hidden_size} numbers and have {hidden_size} units may be "
            "two layers, or the two directions of one",
            "save the whole module with torch.save(model, path) in place of its state dict",
        )
    return 2 if cells and sizes[1] == sizes[0] else 1


def _float(value: Any) -> Any:
    """Return a quantised tensor of a running program in float32, and all else as it is."""
    is_quantised = isinstance(value, torch.Tensor) and value.is_quantized
    return value.dequantize() if is_quantised else value
