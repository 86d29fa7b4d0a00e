"""PyTorch modules, or a state dict and what its tensors are -> `Weights`.

`words` says how a state dict is described.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from numlstm.convert import silero
from numlstm.convert.assembly import Refused, reading
from numlstm.convert.likely import likely_description
from numlstm.convert.probes import make_probes, reference_run
from numlstm.convert.torch.files import read_state_dict as read_state_dict
from numlstm.convert.torch.files.checkpoints import state_dict_in
from numlstm.convert.torch.files.folders import read_path
from numlstm.convert.torch.files.npz import NUMBERS, tensor_of
from numlstm.convert.torch.files.pickles import Stranger
from numlstm.convert.torch.leftover import Leftover, patterns_of, say
from numlstm.convert.torch.modules import Arrays, flatten, step_of_word, translate
from numlstm.convert.torch.named import owns, tensors_of_network, wanted_by_network
from numlstm.convert.torch.names import Wanted, locate
from numlstm.convert.torch.packed import unpacked
from numlstm.convert.torch.parametrized import without_parts
from numlstm.convert.torch.probes import runner
from numlstm.convert.torch.words import Word, steps_of, wanted_by, words_of
from numlstm.errors import first_of
from numlstm.spec import Network, Weights, WeightsError

_GATHERED = "save the state dict as StateDictType.FULL_STATE_DICT gives it, and convert that"
_Run = Callable[[NDArray[Any]], NDArray[Any]]


def convert(
    modules: Sequence[Any],
    *,
    layers: str | Sequence[str] | None = None,
    network: Network | None = None,
    key: str | None = None,
    prefix: str | None = None,
    ignore: str | Iterable[str] = (),
    tensors: Mapping[str, Any] | None = None,
) -> Weights:
    """Convert modules in forward order, a state dict, or a file; see `numlstm.from_torch`.

    The probes are random inputs and what the modules themselves answer; with ``network=``, which
    has no modules, what `reference` does.

    Raises
    ------
    WeightsError
        Lists everything that cannot be converted.
    """
    source: Any = modules[0] if len(modules) == 1 else None
    is_path = isinstance(source, os.PathLike) or (
        isinstance(source, str) and not step_of_word(source)
    )
    given = {"layers": layers, "network": network, "key": key, "prefix": prefix, "tensors": tensors}
    given["ignore"] = patterns_of(ignore) or None
    if not is_path and not isinstance(source, Mapping):
        for what, value in given.items():
            if value is not None:
                raise WeightsError(f"{what} is for a state dict; modules describe themselves")
        with reading("the source cannot be converted"):
            found, arrays, run = _of_steps(flatten(modules))
    else:
        description = _Description.of(layers, network, tensors or {})
        read = read_path if is_path else _read_live
        values = read(source, key, description.wanted.fits)
        with reading("the source cannot be converted"):
            state, made = without_parts(_tensors_among(values))
            if made:
                say("computed: " + ", ".join(f"{name} ({by})" for name, by in made.items()))
            leftover = description.leftover(state, prefix, patterns_of(ignore))
            found, arrays, run = description.network_of(leftover)
    return Weights(
        network=found,
        tensors=arrays,
        probes=make_probes(found, arrays, run),
        origin=f"torch {torch.__version__}",
    )


def _of_steps(steps: Sequence[Any]) -> tuple[Network, Arrays, _Run]:
    """Return the network of steps, its tensors, and a ``run`` for its probes."""
    network, arrays = translate(steps)
    network.check_tensors(arrays)
    return network, arrays, runner(steps, network.is_causal)


# A state dict -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Description:
    """What a state dict is said to be: words, or a network with tensors that are given by hand."""

    words: Sequence[Word] | None
    network: Network | None
    given: Mapping[str, Any]
    wanted: Wanted

    @classmethod
    def of(
        cls, layers: str | Sequence[str] | None, network: Network | None, given: Mapping[str, Any]
    ) -> "_Description":
        if layers is not None and network is not None:
            raise WeightsError("layers and network both say what a state dict is; pass one")
        if given and network is None:
            raise WeightsError("tensors are those of a network; pass network= too")
        if network is not None:
            return cls(None, network, given, wanted_by_network(network, given))
        words = words_of(layers) if layers is not None else None
        return cls(words, None, given, wanted_by(words or ()))

    def leftover(
        self, state: Mapping[str, torch.Tensor], prefix: str | None, ignore: tuple[str, ...]
    ) -> Leftover:
        located = locate(state, self.wanted, prefix)
        if located.prefix and not located.chosen:
            say(f'the names of the layers begin with "{located.prefix}"')
        network = self.network
        if network is None:
            return Leftover(state, located, ignore)
        return Leftover(
            state, located, ignore, "layer of the network", lambda name: owns(network, name)
        )

    def network_of(self, leftover: Leftover) -> tuple[Network, Arrays, _Run]:
        if self.network is not None:
            arrays = tensors_of_network(self.network, leftover, self.given)
            self.network.check_tensors(arrays)
            return self.network, arrays, reference_run(self.network, arrays)
        if self.words is None:
            return _recognised(leftover)
        return _of_steps(steps_of(self.words, leftover))


def _recognised(leftover: Leftover) -> tuple[Network, Arrays, _Run]:
    """Return the network of a state dict that nobody described, if its names are well known."""
    tensors, located = leftover.tensors, leftover.located
    found = silero.rates({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if located.chosen:
        found = {prefix: rate for prefix, rate in found.items() if prefix == located.prefix}
    if not found:
        raise WeightsError(_undescribed(tensors))
    if len(found) > 1:
        each = " and ".join(f"{prefix!r} at {rate} Hz" for prefix, rate in found.items())
        raise Refused(f"it holds two networks of Silero VAD, {each}", "choose one by prefix=")
    ((prefix, rate),) = found.items()
    say(f"its names are those of Silero VAD, at {rate} Hz")
    arrays = {n: t.detach().cpu().float().numpy() for n, t in tensors.items()}
    weights = silero.weights_of(arrays, prefix)
    return weights.network, dict(weights.tensors), reference_run(weights.network, weights.tensors)


def _undescribed(state: Mapping[str, torch.Tensor]) -> str:
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    likely = likely_description(shapes)
    example = likely or "embed:Embedding lstm:LSTM head:Linear"
    what = "as its tensors look like" if likely else "for example as"
    return (
        "a state dict does not say what its layers are; describe them in forward order, with the "
        f'functions and poolings between them, {what} layers="{example}". It holds: '
        f"{first_of(shapes)}"
    )


def _read_live(data: Mapping[Any, Any], key: str | None, fits: Any) -> Mapping[Any, Any]:
    """Return the state dict that is in a dict of a running program."""
    found = state_dict_in(data, key, fits)
    return unpacked(data if found is None else found, float)


def _tensors_among(values: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors of numbers of a state dict; what else may be there is left out and said.

    Raises
    ------
    WeightsError
        If there are none, or something else is where a tensor is wanted.
    """
    tensors, others = {}, {}
    for name, value in values.items():
        found = _tensor(value) if isinstance(name, str) else value
        if isinstance(found, torch.Tensor) and isinstance(name, str) and not _kind(found):
            tensors[name] = found
        else:
            others[name] = _text(name, found)
    if any(name.endswith("flat_param") for name in tensors):
        raise Refused("the state dict holds parameters that FSDP has flattened", _GATHERED)
    needed = [text for name, text in others.items() if _is_of_module(name)]
    if needed or not tensors:
        raise WeightsError(
            "a state dict has names and tensors; here "
            f"{first_of(needed or others.values()) or 'is nothing'}"
        )
    if others:
        say(f"left out, no tensors: {first_of(map(str, others))}")
    return tensors


def _is_of_module(name: Any) -> bool:
    """Whether a name is that of a tensor within a module, and of nothing kept beside them."""
    return isinstance(name, str) and "." in name and not name.endswith("._extra_state")


def _tensor(value: Any) -> Any:
    """Return an array as a tensor of the same numbers, and anything else as it is."""
    is_array = isinstance(value, np.ndarray) and value.dtype.kind in NUMBERS
    return tensor_of(value) if is_array else value


def _text(name: Any, value: Any) -> str:
    if not isinstance(name, str | int | float):  # of others the text may be without end
        return f"a {type(name).__name__} is a name"
    what = value.text if isinstance(value, Stranger) else _kind(value)
    return f"{name!r} is {what or type(value).__name__}"


def _kind(value: Any) -> str:
    """Return what a value is that is not a tensor of numbers, or ""."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    if value.layout is not torch.strided or value.is_nested:
        return f"a {str(value.layout).removeprefix('torch.')} tensor"
    if value.is_meta or value.is_quantized or value.is_complex():
        return f"a tensor of {'no data' if value.is_meta else value.dtype}"
    return ""
