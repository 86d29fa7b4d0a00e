"""PyTorch modules, or a state dict and what its tensors are -> `Weights`.

`description` says how a state dict is described.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from numlstm.convert.assembly import reading
from numlstm.convert.probes import make_probes, reference_run
from numlstm.convert.torch.description import steps_of_state_dict, tensors_of_network
from numlstm.convert.torch.files import read_state_dict
from numlstm.convert.torch.modules import Arrays, flatten, step_of_word, translate
from numlstm.convert.torch.probes import runner
from numlstm.errors import first_of
from numlstm.spec import Network, Weights, WeightsError


def convert(
    modules: Sequence[Any],
    *,
    layers: str | Sequence[str] | None = None,
    network: Network | None = None,
    key: str | None = None,
) -> Weights:
    """Convert modules in forward order, a state dict, or a .pt file; see `numlstm.from_torch`.

    The probes are random inputs and what the modules themselves answer; with ``network=``, which
    has no modules, what `reference` does.

    Raises
    ------
    WeightsError
        Lists everything that cannot be converted.
    """
    source = modules[0] if len(modules) == 1 else None
    if isinstance(source, os.PathLike) or (isinstance(source, str) and not step_of_word(source)):
        source = read_state_dict(source, key)
    elif key is not None:
        raise WeightsError("key is for a .pt file")
    with reading("the source cannot be converted"):
        network, tensors, run = _parts(modules, source, layers, network)
    probes = make_probes(network, tensors, run)
    return Weights(
        network=network,
        tensors=tensors,
        probes=probes,
        origin=f"torch {torch.__version__}",
    )


def _parts(
    modules: Sequence[Any],
    source: Any,
    layers: str | Sequence[str] | None,
    network: Network | None,
) -> tuple[Network, Arrays, Callable[[NDArray[Any]], NDArray[Any]]]:
    """Return the network, its tensors, and a ``run`` for its probes."""
    if not isinstance(source, Mapping):
        if layers is not None or network is not None:
            what = "layers" if layers is not None else "network"
            raise WeightsError(f"{what} is for a state dict; modules describe themselves")
        steps = flatten(modules)
    else:
        strangers = _strangers(source)
        if strangers or not source:
            raise WeightsError(
                f"a state dict has names and tensors; here {first_of(strangers) or 'is nothing'}"
            )
        if layers is not None and network is not None:
            raise WeightsError("layers and network both say what a state dict is; pass one")
        if network is not None:
            tensors = tensors_of_network(source, network)
            network.check_tensors(tensors)
            return network, tensors, reference_run(network, tensors)
        if layers is None:
            raise WeightsError(
                "a state dict does not say what its layers are; describe them, for example as "
                f'"embed:Embedding lstm:LSTM head:Linear". It holds: {first_of(source)}'
            )
        steps = steps_of_state_dict(source, layers)
    network, tensors = translate(steps)
    network.check_tensors(tensors)
    return network, tensors, runner(steps, network.is_causal)


def _strangers(data: Mapping[Any, Any]) -> list[str]:
    """Return what a state dict does not have: other things than names with dense tensors."""
    return [
        f"{name!r} is {_kind(value) or type(value).__name__}"
        if isinstance(name, str | int | float)  # of others the text may be without end
        else f"a {type(name).__name__} is a name"
        for name, value in data.items()
        if not isinstance(name, str) or _kind(value)
    ]


def _kind(value: Any) -> str:
    """Return what a value is that is not a tensor of numbers, or ""."""
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    if value.layout is not torch.strided or value.is_nested:
        return f"a {str(value.layout).removeprefix('torch.')} tensor"
    if value.is_meta or value.is_quantized or value.is_complex():
        return f"a tensor of {'no data' if value.is_meta else value.dtype}"
    return ""
