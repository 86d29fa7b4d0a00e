"""The tensors of a network whose layers are named as the modules of a state dict."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from numlstm import spec
from numlstm.convert.assembly import Refusals
from numlstm.convert.gates import torch_name
from numlstm.convert.torch.leftover import Leftover
from numlstm.convert.torch.modules import Arrays
from numlstm.convert.torch.names import Wanted, like
from numlstm.errors import first_of
from numlstm.spec import Layer, Network


def wanted_by_network(network: Network, given: Mapping[str, Any]) -> Wanted:
    """Return the modules that the layers of a network name, but for those that are given whole."""
    modules = set()
    for prefix, layer in network.named_layers():
        names = {f"{prefix}.{name}" for name in layer.tensors()}
        if layer.name and not names.issubset(given):
            modules.add(_stack_of(layer)[0])
    return Wanted(frozenset(modules))


def owns(network: Network, name: str) -> bool:
    """Whether a tensor is of a module that a layer names."""
    module = name.rpartition(".")[0]
    named = (n for layer in network.layers for n in (layer.name, _stack_of(layer)[0]) if n)
    return module in named


def tensors_of_network(network: Network, leftover: Leftover, given: Mapping[str, Any]) -> Arrays:
    """Return the tensors of a network: those given, by their names in it, and those of its modules.

    A layer named "lstm" has ``lstm.weight_ih_l0`` or, of a cell, ``lstm.weight_ih``; one named
    "lstm.l1" is the second layer of that module and has ``lstm.weight_ih_l1``. Modules that no
    layer names are left out; of one that a layer names nothing may be left.

    Raises
    ------
    WeightsError
        Lists every tensor that is missing, that does not fit, and that belongs to no layer.
    """
    refusals = Refusals("the state dict")
    tensors = _given(network, given, refusals)
    reader = _Reader(leftover, refusals)
    for prefix, layer in network.named_layers():
        wanted = {n: s for n, s in layer.tensors().items() if f"{prefix}.{n}" not in given}
        for name in layer.tensors().keys() - wanted.keys():
            reader.skip(layer, name)
        if wanted and not layer.name:
            refusals.add(f"{prefix}: {layer}", "its name is that of its module, expected one")
            continue
        for name, shape in wanted.items():
            found = reader.array(layer, name, shape)
            if found is not None:
                tensors[f"{prefix}.{name}"] = found
    leftover.settle(refusals)
    refusals.check()
    return tensors


def _given(network: Network, given: Mapping[str, Any], refusals: Refusals) -> Arrays:
    """Return the tensors that are given by hand."""
    shapes, found = network.tensor_shapes(), {}
    for name, value in given.items():
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if name not in shapes:
            known = f"it has {first_of(shapes)}"
            refusals.add(f"tensors[{name!r}]", "is none of the network", known)
        elif array.shape != shapes[name]:
            refusals.add(f"tensors[{name!r}]", f"expected {shapes[name]}, found {array.shape}")
        elif array.dtype.kind != "f":
            refusals.add(f"tensors[{name!r}]", f"expected floating point, found {array.dtype}")
        else:
            found[name] = np.array(array, np.float32)
    return found


class _Reader:
    """Reads what a state dict has for the layers of a network."""

    def __init__(self, leftover: Leftover, refusals: Refusals) -> None:
        self.leftover, self.refusals = leftover, refusals
        self.names = leftover.located.names

    def array(self, layer: Layer, name: str, shape: tuple[int, ...]) -> Any:
        """Return a tensor of a layer, or None if it is refused."""
        known = _names_in_state_dict(layer, name)
        own = next((n for n in known if self._is_free(n)), None)
        if own is None:
            self.refusals.add(" or ".join(known), f"missing, expected {shape}", self._hint(layer))
            return None
        self.leftover.taken.add(self.names[own])
        tensor = self.leftover.tensors[self.names[own]]
        if tuple(tensor.shape) != shape:
            self.refusals.add(own, f"expected {shape}, found {tuple(tensor.shape)}")
        elif not tensor.is_floating_point():
            self.refusals.add(own, f"expected floating point, found {tensor.dtype}")
        else:
            return np.array(tensor.detach().to("cpu", torch.float32).numpy())
        return None

    def skip(self, layer: Layer, name: str) -> None:
        """Take what is given by hand from the state dict, if it has that too."""
        known = (n for n in _names_in_state_dict(layer, name) if n in self.names)
        self.leftover.taken |= {self.names[own] for own in known}

    def _hint(self, layer: Layer) -> str:
        """Say what a module that is not there may be called."""
        module = _stack_of(layer)[0]
        if any(name.rpartition(".")[0] == module for name in self.names):
            return ""
        found = like(module, list(self.names.values()))
        return f"like it: {first_of(found)}" if found else ""

    def _is_free(self, name: str) -> bool:
        return name in self.names and self.names[name] not in self.leftover.taken


def _names_in_state_dict(layer: Layer, name: str) -> list[str]:
    """Return what a tensor of a layer may be called, the likeliest first."""
    if not isinstance(layer, spec.Recurrent):
        return [f"{layer.name}.{name}"]
    names = [f"{layer.name}.{torch_name(name)}", f"{layer.name}.{name}"]
    module, n = _stack_of(layer)
    return names if n is None else [*names, f"{module}.{torch_name(name, n)}"]


def _stack_of(layer: Layer) -> tuple[str, int | None]:
    """Return the module of a layer, "lstm" of "lstm.l1", and its number there."""
    match = re.fullmatch(r"(.*)\.l(\d{1,4})", layer.name)
    if match is None or not isinstance(layer, spec.Recurrent):
        return layer.name, None
    return match[1], int(match[2])
