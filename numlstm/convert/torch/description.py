"""A state dict and what its tensors are -> PyTorch modules, or the tensors of a network.

A description is a list of words in forward order, ``[prefix:]kind[(option=value, ...)]``:

    embed:Embedding lstm:LSTM mean head:Linear softmax

prefix   the module's name in the state dict, whose tensors give the sizes; may be empty
kind     Embedding; RNN, GRU, LSTM (all its layers and directions), RNNCell, GRUCell, LSTMCell;
         Linear, Conv1d, LayerNorm, BatchNorm1d, CRF (of pytorch-crf)
option   nonlinearity=relu of an RNN; eps=1e-6 of a norm; of a Conv1d padding=1, same, valid or
         causal, and stride, dilation, groups

Without a prefix stand what has no tensors: last, mean, max, sum (pooling over time), final (h_n of
the recurrent layer before it), softmax, log_softmax, and functions as in ``leaky_relu(0.1)``.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from numlstm import spec
from numlstm.budget import spend
from numlstm.convert.assembly import Refusals, Refused
from numlstm.convert.gates import torch_name
from numlstm.convert.torch.modules import CRF, Arrays, Step, step_of_word
from numlstm.errors import first_of
from numlstm.spec import Layer, Network, WeightsError

_WORD = re.compile(r"(?:(?P<prefix>[^:()\s]*):)?(?P<kind>\w+)(?:\((?P<options>[^()]*)\))?")
_WORDS = re.compile(r"(?:[^\s()]|\([^()]*\)|[()])+")  # spaces within brackets are of a word

Own = dict[str, torch.Tensor]  # tensors by their names within a module
Options = dict[str, str]


def steps_of_state_dict(
    tensors: Mapping[str, torch.Tensor], layers: str | Sequence[str]
) -> list[Step]:
    """Return modules with the tensors of a state dict, as the description says.

    Raises
    ------
    WeightsError
        Lists every word that does not fit, and every tensor that belongs to none.
    """
    words = _WORDS.findall(layers) if isinstance(layers, str) else list(layers)
    refusals = Refusals("the state dict")
    steps: list[Step] = []
    rest = dict(tensors)
    for word in words:
        match = _WORD.fullmatch(word) if isinstance(word, str) else None
        if match is None:
            refusals.add(repr(word), "is not [prefix:]kind[(option=value, ...)]")
            continue
        prefix, kind, options = match.groups()
        with refusals.of(word):
            if prefix is None:
                steps.append(_step_without_tensors(word, kind))
                continue
            dot = f"{prefix}." if prefix else ""
            own = {name.removeprefix(dot): t for name, t in rest.items() if name.startswith(dot)}
            rest = {name: t for name, t in rest.items() if not name.startswith(dot)}
            try:
                steps += _modules(kind, own, _read_options(options))
            except (RuntimeError, KeyError, ValueError, TypeError) as error:
                what = f"no tensor {error}" if isinstance(error, KeyError) else str(error)
                found = f"the state dict has {_describe(own) or 'nothing'}"
                raise Refused(what, found) from error
    for name in rest:
        refusals.add(name, "belongs to no layer of the description")
    refusals.check()
    return steps


def _step_without_tensors(word: str, kind: str) -> Step:
    step = step_of_word(word)
    if step is not None:
        return step
    if kind in spec.FUNCTIONS:
        raise Refused(f"expected {len(spec.FUNCTIONS[kind])} numbers in brackets")
    raise Refused(f"{kind} needs the prefix of its tensors, as in lstm:{kind}")


def _describe(own: Own) -> str:
    return first_of(f"{name} {tuple(tensor.shape)}" for name, tensor in own.items())


def _read_options(text: str | None) -> Options:
    options: Options = {}
    for part in text.split(",") if text is not None else []:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise WeightsError(f"{part.strip()!r} is not option=value")
        if name in options:
            raise WeightsError(f"option {name} is there twice")
        options[name] = value
    return options


# Modules of each kind -----------------------------------------------------------------------------


def _modules(kind: str, own: Own, options: Options) -> list[nn.Module]:
    """Return a module of a kind whose sizes are those of its tensors, and a padding before it."""
    if kind not in _KINDS:
        raise WeightsError(f"{kind} is not known; known: {', '.join(_KINDS)}")
    strange = _strange_dtypes(own)
    if strange:
        raise WeightsError(f"weights of {strange}, expected floating point")
    make, named, num_axes = _KINDS[kind]
    weights = [own[name] for name in named if name in own]
    if any(weight.dim() != num_axes for weight in weights):
        axes = "axis" if num_axes == 1 else "axes"
        raise WeightsError(f"the weight of {kind} has {num_axes} {axes}")
    given = dict(options)
    spend(f"modules of {kind}", 1e4 * len(own), 1e6 * len(own))
    # It draws no random weights, takes no memory for them, and would warn of those of no size.
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        modules = make(kind, own, given)
    if given:
        raise WeightsError(f"{kind} has no option {', '.join(given)}")
    modules[-1].load_state_dict(own, assign=True)
    return [module.float().eval() for module in modules]


def _strange_dtypes(own: Mapping[str, torch.Tensor]) -> str:
    return ", ".join(
        sorted(
            {
                str(tensor.dtype)
                for name, tensor in own.items()
                if not tensor.is_floating_point() and not _is_count(name)
            }
        )
    )


def _is_count(name: str) -> bool:
    """Whether a tensor is one of a BatchNorm1d that does nothing after training."""
    return name.endswith("num_batches_tracked")


def _whole(options: Options, name: str, default: int) -> int:
    text = options.pop(name, str(default))
    if not text.isdecimal():
        raise WeightsError(f"{name} is {text!r}, expected a whole number")
    return int(text)


def _eps(options: Options) -> float:
    text = options.pop("eps", "1e-5")
    try:
        return float(text)
    except ValueError:
        raise WeightsError(f"eps is {text!r}, expected a number") from None


def _embedding(kind: str, own: Own, options: Options) -> list[nn.Module]:
    return [nn.Embedding(*own["weight"].shape)]


def _linear(kind: str, own: Own, options: Options) -> list[nn.Module]:
    output_size, input_size = own["weight"].shape
    return [nn.Linear(input_size, output_size, bias="bias" in own)]


def _layer_norm(kind: str, own: Own, options: Options) -> list[nn.Module]:
    return [nn.LayerNorm(own["weight"].shape[0], _eps(options), bias="bias" in own)]


def _batch_norm(kind: str, own: Own, options: Options) -> list[nn.Module]:
    size = own["running_mean"].shape[0]
    module = nn.BatchNorm1d(size, _eps(options), affine="weight" in own)
    if "num_batches_tracked" not in own:  # files before PyTorch 0.4.1 have none
        own["num_batches_tracked"] = torch.tensor(0)
    return [module]


def _convolution(kind: str, own: Own, options: Options) -> list[nn.Module]:
    output_size, of_each, kernel_size = own["weight"].shape
    stride, dilation, groups = (
        _whole(options, name, 1) for name in ("stride", "dilation", "groups")
    )
    before = (kernel_size - 1) * dilation
    named = options.get("padding") in ("same", "valid", "causal")
    padding: Any = options.pop("padding") if named else _whole(options, "padding", 0)
    module = nn.Conv1d(
        of_each * groups,
        output_size,
        kernel_size,
        stride,
        "valid" if padding == "causal" else padding,
        dilation,
        groups,
        bias="bias" in own,
    )
    return [nn.ZeroPad1d((before, 0)), module] if padding == "causal" else [module]


def _recurrent(kind: str, own: Own, options: Options) -> list[nn.Module]:
    given: dict[str, Any] = {"proj_size": own["weight_hr_l0"].shape[0]} if _projects(own) else {}
    if kind == "RNN":
        given["nonlinearity"] = options.pop("nonlinearity", "tanh")
    return [
        getattr(nn, kind)(
            own["weight_ih_l0"].shape[1],
            _hidden_size(kind, own["weight_ih_l0"]),
            num_layers=sum(re.fullmatch(r"weight_ih_l\d+", name) is not None for name in own),
            bias="bias_ih_l0" in own,
            bidirectional="weight_ih_l0_reverse" in own,
            **given,
        )
    ]


def _projects(own: Own) -> bool:
    return "weight_hr_l0" in own


def _cell(kind: str, own: Own, options: Options) -> list[nn.Module]:
    given = {"nonlinearity": options.pop("nonlinearity", "tanh")} if kind == "RNNCell" else {}
    weight = own["weight_ih"]
    hidden_size = _hidden_size(kind, weight)
    return [getattr(nn, kind)(weight.shape[1], hidden_size, bias="bias_ih" in own, **given)]


def _hidden_size(kind: str, weight_ih: torch.Tensor) -> int:
    num_gates = getattr(spec, kind.removesuffix("Cell"))(1, 1).num_gates
    size, rest = divmod(weight_ih.shape[0], num_gates)
    if rest:
        raise WeightsError(f"weight_ih has {weight_ih.shape[0]} rows, not {num_gates} per unit")
    return int(size)


def _crf(kind: str, own: Own, options: Options) -> list[nn.Module]:
    return [CRF(own["transitions"].shape[0])]


# What makes a kind, the tensors that give its sizes, and how many axes these have.
_KINDS: dict[str, tuple[Callable[[str, Own, Options], list[nn.Module]], tuple[str, ...], int]] = {
    "Embedding": (_embedding, ("weight",), 2),
    "RNN": (_recurrent, ("weight_ih_l0", "weight_hr_l0"), 2),
    "GRU": (_recurrent, ("weight_ih_l0",), 2),
    "LSTM": (_recurrent, ("weight_ih_l0", "weight_hr_l0"), 2),
    "RNNCell": (_cell, ("weight_ih",), 2),
    "GRUCell": (_cell, ("weight_ih",), 2),
    "LSTMCell": (_cell, ("weight_ih",), 2),
    "Linear": (_linear, ("weight",), 2),
    "Conv1d": (_convolution, ("weight",), 3),
    "LayerNorm": (_layer_norm, ("weight",), 1),
    "BatchNorm1d": (_batch_norm, ("weight", "running_mean"), 1),
    "CRF": (_crf, ("transitions",), 2),
}


# The tensors of a network -------------------------------------------------------------------------


def tensors_of_network(state: Mapping[str, torch.Tensor], network: Network) -> Arrays:
    """Return the tensors of a network whose layers are named as the modules of a state dict.

    A layer named "lstm" has ``lstm.weight_ih_l0`` or, of a cell, ``lstm.weight_ih``; one named
    "lstm.l1" is the second layer of that module and has ``lstm.weight_ih_l1``.

    Raises
    ------
    WeightsError
        Lists every tensor that is missing, that does not fit, and that belongs to no layer.
    """
    refusals = Refusals("the state dict")
    tensors: Arrays = {}
    rest = {name: tensor for name, tensor in state.items() if not _is_count(name)}
    for prefix, layer in network.named_layers():
        if layer.tensors() and not layer.name:
            refusals.add(f"{prefix}: {layer}", "its name is that of its module, expected one")
            continue
        for name, shape in layer.tensors().items():
            known = _names_in_state_dict(layer, name)
            found = next((candidate for candidate in known if candidate in rest), None)
            if found is None:
                refusals.add(" or ".join(known), f"missing, expected {shape}")
                continue
            tensor = rest.pop(found)
            if tuple(tensor.shape) != shape:
                refusals.add(found, f"expected {shape}, found {tuple(tensor.shape)}")
            elif not tensor.is_floating_point():
                refusals.add(found, f"expected floating point, found {tensor.dtype}")
            else:
                array = tensor.detach().to("cpu", torch.float32).numpy()
                tensors[f"{prefix}.{name}"] = np.array(array)
    for name in rest:
        refusals.add(name, "belongs to no layer of the network")
    refusals.check()
    return tensors


def _names_in_state_dict(layer: Layer, name: str) -> list[str]:
    """Return what a tensor of a layer may be called, the likeliest first."""
    if not isinstance(layer, spec.Recurrent):
        return [f"{layer.name}.{name}"]
    names = [f"{layer.name}.{torch_name(name)}", f"{layer.name}.{name}"]
    match = re.fullmatch(r"(.*)\.l(\d+)", layer.name)
    return [*names, f"{match[1]}.{torch_name(name, int(match[2]))}"] if match else names
