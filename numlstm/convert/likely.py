"""What modules of PyTorch tensors are likely of, by their names and shapes: a guess to be shown.

{"lstm.weight_ih_l0": (32, 8), ...}  ->  ["lstm:LSTM", "head:Linear"]
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from numlstm.errors import first_of

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

_GATES = {1: "RNN", 3: "GRU", 4: "LSTM"}
_ORDER = ("Embedding", "Conv1d", "RNN", "GRU", "LSTM", "BatchNorm1d", "LayerNorm", "Linear", "CRF")


def likely_description(shapes: Shapes) -> str:
    """Return a description of all tensors whose kinds are told, in an order that is likely."""
    words = sorted(likely_words(shapes), key=lambda word: _ORDER.index(_kind_of_word(word)))
    return " ".join(words)


def command_for(path: Path, shapes: Shapes) -> str:
    """Return what to say of a file of others: the command that converts it, and what is in it."""
    target = f"{path.stem}.numlstm.safetensors"
    command = f"numlstm convert {path} {target}"
    if path.suffix.lower() in (".keras", ".h5", ".hdf5", ".onnx"):
        return f"not a numlstm model; this converts it: {command}"
    if not shapes:
        return f"not a numlstm model; this says what it holds, and what to tell of it: {command}"
    likely = likely_description(shapes) or "embed:Embedding lstm:LSTM head:Linear"
    held = (f"{name} {shape}" for name, shape in shapes.items())
    return (
        f'not a numlstm model; this converts it: {command} --layers "{likely}", with the layers in '
        "forward order and the functions and poolings between them, such as relu or last. It holds "
        f"{first_of(held)}"
    )


def likely_words(shapes: Shapes) -> list[str]:
    """Return ``module:kind`` of every module whose kind is told."""
    stacks: dict[str, dict[str, tuple[int, ...]]] = {}
    for module, own in by_module(shapes).items():
        stacks.setdefault(_stack_of(module, next(iter(own))), {}).update(own)
    kinds = {module: likely_kind(module, own) for module, own in stacks.items()}
    return [f"{module}:{kind}" for module, kind in kinds.items() if kind and ":" not in module]


def by_module(shapes: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes of each module: {"lstm": {"weight_ih_l0": (32, 8), ...}, ...}."""
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        module, _, own = name.rpartition(".")
        modules.setdefault(module, {})[own] = tuple(shape)
    return modules


def likely_kind(module: str, own: Shapes) -> str:
    """Return the kind of a module with these tensors of its own, or ""."""
    weight = own.get("weight", ())
    match len(weight):
        case _ if "transitions" in own:
            return "CRF"
        case _ if "running_mean" in own:
            return "BatchNorm1d"
        case _ if any(name.startswith("weight_hh") for name in own):
            return _recurrent(own)
        case 1 if "bias" in own:
            return "LayerNorm"
        case 2:
            return "Embedding" if _embeds(module, own) else "Linear"
        case 3:
            return "Conv1d"
    return ""


def _stack_of(module: str, own: str) -> str:
    """Return the module of a tensor; of cells by number it is their list, "cells"."""
    match = re.fullmatch(r"(.+)\.\d{1,3}", module)
    of_cells = own.startswith(("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    return match[1] if match and of_cells else module


def _recurrent(own: Shapes) -> str:
    rows = next((s[0] for name, s in own.items() if name.startswith("weight_ih") and s), 0)
    shape = next(s for name, s in own.items() if name.startswith("weight_hh"))
    projected = next((s for name, s in own.items() if name.startswith("weight_hr")), shape[::-1])
    size = projected[1] if len(projected) == 2 and len(shape) == 2 else 0
    if "weight_hr_l0" not in own:
        size = shape[1] if len(shape) == 2 else 0
    num_gates, rest = divmod(rows, size) if size else (0, 0)
    kind = "" if rest else _GATES.get(num_gates, "")
    return f"{kind}Cell" if kind and "weight_ih" in own else kind


def _embeds(module: str, own: Shapes) -> bool:
    return "bias" not in own and re.search("emb|wte", module.lower()) is not None


def _kind_of_word(word: str) -> str:
    return word.rpartition(":")[2].removesuffix("Cell")
