"""PyTorch modules, or a state dict and what its tensors are -> `Weights`.

`description` says how a state dict is described.
"""

import os
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from numlstm.convert.probes import make_probes, reference_run
from numlstm.convert.torch.description import steps_of_state_dict, tensors_of_network
from numlstm.convert.torch.modules import Arrays, flatten, step_of_word, translate
from numlstm.convert.torch.probes import runner
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
                f"a state dict has names and tensors; here {', '.join(strangers) or 'is nothing'}"
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
                f'"embed:Embedding lstm:LSTM head:Linear". It holds: {", ".join(source)}'
            )
        steps = steps_of_state_dict(source, layers)
    network, tensors = translate(steps)
    network.check_tensors(tensors)
    return network, tensors, runner(steps, network.is_causal)


def read_state_dict(path: str | os.PathLike[str], key: str | None = None) -> dict[str, Any]:
    """Read the tensors of a .pt file, never anything that could run code.

    Parameters
    ----------
    key : str, optional
        Where in the file the state dict is, if the file is a dict with other things in it.

    Raises
    ------
    WeightsError
        If the file holds anything but tensors and plain data, or no state dict.
    """
    name = os.fspath(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            data = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file raises almost anything
        if _is_torchscript(path):
            raise WeightsError(
                f"{name}: is a TorchScript program; save its tensors, "
                "torch.save(torch.jit.load(path).state_dict(), other_path), and convert those"
            ) from error
        first_line = str(error).strip().split("\n")[0]
        raise WeightsError(
            f"{name}: cannot be read as tensors only; save model.state_dict() "
            f"with torch.save and convert that ({first_line})"
        ) from error
    if key is not None:
        if not isinstance(data, Mapping) or key not in data:
            raise WeightsError(f"{name}: holds no {key!r}")
        data = data[key]
    if _is_state_dict(data):
        return dict(data)
    inside = (
        [str(k) for k, v in data.items() if _is_state_dict(v)] if isinstance(data, Mapping) else []
    )
    hint = f"; name one of its parts as key: {', '.join(inside)}" if inside else ""
    raise WeightsError(f"{name}: is not a state dict{hint}")


def _is_torchscript(path: str | os.PathLike[str]) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _is_state_dict(data: Any) -> bool:
    return isinstance(data, Mapping) and len(data) > 0 and not _strangers(data)


def _strangers(data: Mapping[Any, Any]) -> list[str]:
    """Return what a state dict does not have: other things than names with tensors."""
    return [
        f"{name!r} is {type(value).__name__}"
        for name, value in data.items()
        if not (isinstance(name, str) and isinstance(value, torch.Tensor))
    ]
