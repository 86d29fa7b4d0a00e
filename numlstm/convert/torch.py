"""PyTorch modules, or a state dict and a description of its layers -> `Weights`.

The description is a list of words in forward order, ``[prefix:]kind[(option=value)]``:

    embed:Embedding lstm:LSTM mean head:Linear softmax

prefix   the module's name in the state dict, whose tensors give the sizes; may be empty
kind     Embedding, RNN, GRU, LSTM (all its layers), Linear, LayerNorm; without a prefix last, mean,
         max (pooling over time), tanh, relu, sigmoid, softmax
option   nonlinearity=relu of an RNN, eps=1e-6 of a LayerNorm
"""

import copy
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from numlstm import spec
from numlstm.spec import POOLINGS, Layer, Network, Probe, Weights, WeightsError

_ACTIVATIONS: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.Sigmoid: "sigmoid"}
_DROPPED = (nn.Dropout, nn.Identity)  # what they do ends with training
_RECURRENT = {nn.RNN: spec.RNN, nn.GRU: spec.GRU, nn.LSTM: spec.LSTM}
_WORDS: dict[str, Any] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "softmax": lambda: nn.Softmax(dim=-1),
}

_NUM_PROBES = 3
_PROBE_STEPS = 24

Step: TypeAlias = nn.Module | str  # a module, or the name of a pooling
Arrays: TypeAlias = dict[str, NDArray[np.float32]]


def convert(
    modules: Sequence[Any],
    *,
    layers: str | Sequence[str] | None = None,
    key: str | None = None,
    labels: Sequence[str] = (),
    tokenizer: str | None = None,
) -> Weights:
    """Convert modules in forward order, a state dict, or a .pt file; see `numlstm.from_torch`.

    The probes are random inputs and what the modules themselves answer.

    Raises
    ------
    WeightsError
        Lists everything that cannot be converted.
    """
    source = modules[0] if len(modules) == 1 else None
    if isinstance(source, os.PathLike) or (isinstance(source, str) and source not in POOLINGS):
        source = read_state_dict(source, key)
    elif key is not None:
        raise WeightsError("key is for a .pt file")
    if isinstance(source, Mapping):
        if not _is_state_dict(source):
            others = [
                f"{name!r} is {type(value).__name__}"
                for name, value in source.items()
                if not (isinstance(name, str) and isinstance(value, torch.Tensor))
            ]
            raise WeightsError(
                f"a state dict has names and tensors; here {', '.join(others) or 'is nothing'}"
            )
        if layers is None:
            raise WeightsError(
                "a state dict does not say what its layers are; describe them, for example as "
                f'"embed:Embedding lstm:LSTM head:Linear". It holds: {", ".join(source)}'
            )
        steps = _steps_of_state_dict(source, layers)
    elif layers is not None:
        raise WeightsError("layers is for a state dict; modules describe themselves")
    else:
        steps = _flatten(modules)
    network, tensors = _translate(steps)
    weights = Weights(
        network=network,
        tensors=tensors,
        labels=tuple(labels),
        tokenizer=tokenizer,
        probes=_probe(network, steps),
        origin=f"torch {torch.__version__}",
    )
    if tokenizer is not None:
        weights.load_tokenizer()  # or the file would be refused where it is used
    return weights


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
    try:
        with warnings.catch_warnings(action="ignore"):
            data = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file raises almost anything
        first_line = str(error).strip().split("\n")[0]
        raise WeightsError(
            f"{os.fspath(path)}: cannot be read as tensors only; save model.state_dict() "
            f"with torch.save and convert that ({first_line})"
        ) from error
    if key is not None:
        if not isinstance(data, Mapping) or key not in data:
            raise WeightsError(f"{os.fspath(path)}: holds no {key!r}")
        data = data[key]
    if _is_state_dict(data):
        return dict(data)
    inside = (
        [str(k) for k, v in data.items() if _is_state_dict(v)] if isinstance(data, Mapping) else []
    )
    hint = f"; name one of its parts as key: {', '.join(inside)}" if inside else ""
    raise WeightsError(f"{os.fspath(path)}: is not a state dict{hint}")


def _is_state_dict(data: Any) -> bool:
    return (
        isinstance(data, Mapping)
        and len(data) > 0
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in data.items())
    )


# Modules -> network and tensors -------------------------------------------------------------------


def _flatten(modules: Sequence[Any]) -> list[Step]:
    """Return the modules with those inside nn.Sequential in their place, as copies in eval mode."""
    problems = []
    steps: list[Step] = []
    for module in modules:
        if isinstance(module, nn.Module) and (module._forward_hooks or module._forward_pre_hooks):
            problems.append(f"{type(module).__name__} has hooks, which cannot be converted")
        elif type(module) is nn.Sequential:
            steps += _flatten(list(module))
        elif isinstance(module, nn.Module):
            strange = {
                str(p.dtype) if not p.is_meta else "no data"
                for p in module.parameters()
                if p.is_meta or not p.is_floating_point()
            }
            if strange:
                kind = type(module).__name__
                problems.append(f"{kind} has weights of {', '.join(sorted(strange))}")
                continue
            steps.append(copy.deepcopy(module).cpu().float().eval())
        elif isinstance(module, str) and module in POOLINGS:
            steps.append(module)
        else:
            what = repr(module) if isinstance(module, str) else type(module).__name__
            problems.append(f"{what} is neither a torch module nor one of {', '.join(POOLINGS)}")
    _raise_if(problems)
    return steps


def _translate(steps: Sequence[Step]) -> tuple[Network, Arrays]:
    problems: list[str] = []
    layers: list[Layer] = []
    contents: list[Arrays] = []
    for n, step in enumerate(steps):
        if isinstance(step, str):
            if not layers:
                problems.append(f"{n}: {step} has nothing before it to pool")
                continue
            found: list[tuple[Layer, Arrays]] = [(spec.Pooling(layers[-1].output_size, step), {})]
        elif isinstance(step, _DROPPED):
            continue
        elif type(step) in _ACTIVATIONS or isinstance(step, nn.Softmax):
            if not layers:
                problems.append(f"{n}: {type(step).__name__} has nothing before it")
                continue
            previous = layers[-1]
            size = previous.output_size
            if isinstance(step, nn.Softmax):
                if step.dim != -1:
                    problems.append(f"{n}: Softmax(dim={step.dim}): only dim=-1, the features")
                found = [(spec.Softmax(size), {})]
            elif isinstance(previous, spec.Linear) and previous.activation is None:
                layers[-1] = replace(previous, activation=_ACTIVATIONS[type(step)])
                continue
            else:
                found = [(spec.Activation(size, _ACTIVATIONS[type(step)]), {})]
        else:
            refusals = _refusals(step)
            problems += [f"{n}: {type(step).__name__}: {refusal}" for refusal in refusals]
            if refusals:
                continue
            found = _layers_of(step)
        layers += [layer for layer, _ in found]
        contents += [tensors for _, tensors in found]
    _raise_if(problems)
    network = Network(tuple(layers))
    tensors = {
        f"{prefix}.{name}": tensor
        for (prefix, _), own in zip(network.named_layers(), contents, strict=True)
        for name, tensor in own.items()
    }
    return network, tensors


def _refusals(module: nn.Module) -> list[str]:
    """Return what of a module cannot be converted."""
    problems = []
    match module:
        case nn.RNNBase():
            if type(module) not in _RECURRENT:
                problems.append("is not a layer numlstm knows")
            if module.bidirectional:
                problems.append("bidirectional=True is not supported yet")
            if module.proj_size:
                problems.append(f"proj_size={module.proj_size} is not supported yet")
        case nn.Embedding():
            if module.max_norm is not None:
                problems.append("max_norm, which changes the weights at run time, is not supported")
        case nn.LayerNorm():
            if len(module.normalized_shape) != 1:
                problems.append(f"normalized_shape={module.normalized_shape}: only the features")
        case nn.Linear():
            pass
        case _:
            problems.append(
                "is not a layer numlstm knows; pass the layers it is made of, in forward order"
            )
    return problems


def _layers_of(module: nn.Module) -> list[tuple[Layer, Arrays]]:
    """Return the layers of one module, each with its tensors by their names within it."""
    own = {name: _array(tensor) for name, tensor in module.state_dict().items()}
    match module:
        case nn.Embedding():
            return [(spec.Embedding(module.num_embeddings, module.embedding_dim), own)]
        case nn.Linear():
            bias = module.bias is not None
            return [(spec.Linear(module.in_features, module.out_features, bias), own)]
        case nn.LayerNorm():
            size = module.normalized_shape[0]
            return [(spec.LayerNorm(size, module.eps, "weight" in own, "bias" in own), own)]
    assert isinstance(module, nn.RNNBase)
    found: list[tuple[Layer, Arrays]] = []
    size = module.input_size
    for n in range(module.num_layers):
        suffix = f"_l{n}"
        of_layer = {
            name.removesuffix(suffix): tensor
            for name, tensor in own.items()
            if name.endswith(suffix)
        }
        options = {"nonlinearity": module.nonlinearity} if isinstance(module, nn.RNN) else {}
        layer = _RECURRENT[type(module)](size, module.hidden_size, module.bias, **options)
        found.append((layer, of_layer))
        size = module.hidden_size
    return found


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.array(tensor.detach().to("cpu", torch.float32).numpy())


# Probes -------------------------------------------------------------------------------------------


def _probe(network: Network, steps: Sequence[Step]) -> tuple[Probe, ...]:
    """Return random inputs with the modules' own outputs.

    A network with large weights is chaotic: the rounding of the first step may be all of the
    tenth. So a probe ends where the modules themselves differ between float32 and float64.
    """
    generator = torch.Generator().manual_seed(0)
    exact_steps = [s if isinstance(s, str) else copy.deepcopy(s).double() for s in steps]
    probes = []
    for _ in range(_NUM_PROBES):
        if network.vocab_size is not None:
            xs = torch.randint(network.vocab_size, (_PROBE_STEPS,), generator=generator)
            exact_xs, inputs = xs, xs.numpy().astype(np.int32)
        else:
            xs = torch.randn(_PROBE_STEPS, network.input_size, generator=generator)
            exact_xs, inputs = xs.double(), xs.numpy()
        with torch.no_grad():
            ys, exact = xs, exact_xs
            for step, exact_step in zip(steps, exact_steps, strict=True):
                ys, exact = _apply(step, ys), _apply(exact_step, exact)
        rounded = (ys - exact).abs() > spec.TOLERANCE / 10 * (1 + exact.abs())
        chaotic = rounded.any(1).nonzero()
        length = max(1, int(chaotic[0])) if len(chaotic) else _PROBE_STEPS
        probes.append(Probe(inputs[:length].copy(), ys[:length].numpy().copy()))
    return tuple(probes)


def _apply(step: Step, xs: torch.Tensor) -> torch.Tensor:
    """Return what a step makes of a sequence (T, ...); pooling gives the value so far."""
    match step:
        case "last":
            return xs
        case "mean":
            return xs.cumsum(0) / torch.arange(1, len(xs) + 1)[:, None]
        case "max":
            return xs.cummax(0).values
        case nn.RNNBase():
            # Without a batch axis, so that batch_first does not matter.
            return step(xs)[0]
        case nn.Module():
            return step(xs)
    raise WeightsError(f"no pooling {step!r}")


# State dicts --------------------------------------------------------------------------------------


_WORD = re.compile(
    r"(?:(?P<prefix>[^:()\s]*):)?(?P<kind>\w+)(?:\((?P<option>\w+)=(?P<value>[^()]+)\))?"
)


def _steps_of_state_dict(
    tensors: Mapping[str, torch.Tensor], layers: str | Sequence[str]
) -> list[Step]:
    """Return modules with the tensors of a state dict, as the description says."""
    words = layers.split() if isinstance(layers, str) else list(layers)
    problems: list[str] = []
    steps: list[Step] = []
    rest = dict(tensors)
    for word in words:
        match = _WORD.fullmatch(word) if isinstance(word, str) else None
        if match is None:
            problems.append(f"{word!r} is not [prefix:]kind[(option=value)]")
            continue
        prefix, kind, option, value = match.groups()
        if prefix is None and kind in POOLINGS:
            steps.append(kind)
        elif prefix is None and kind in _WORDS:
            steps.append(_WORDS[kind]())
        elif prefix is None:
            problems.append(f"{word}: {kind} needs the prefix of its tensors, as in lstm:{kind}")
        else:
            dot = f"{prefix}." if prefix else ""
            own = {name.removeprefix(dot): t for name, t in rest.items() if name.startswith(dot)}
            rest = {name: t for name, t in rest.items() if not name.startswith(dot)}
            try:
                with torch.random.fork_rng(devices=[]):  # a new module draws random weights
                    steps.append(_module(kind, own, {option: value} if option else {}))
            except (RuntimeError, KeyError, ValueError) as error:
                what = f"no tensor {error}" if isinstance(error, KeyError) else str(error)
                problems.append(f"{word}: {what}; the state dict has {_describe(own) or 'nothing'}")
    problems += [f"{name} belongs to no layer of the description" for name in rest]
    _raise_if(problems)
    return steps


def _describe(own: Mapping[str, torch.Tensor]) -> str:
    return ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in own.items())


def _module(kind: str, own: dict[str, torch.Tensor], options: dict[str, str]) -> nn.Module:
    """Return a module of a kind whose sizes are those of its tensors."""
    module: nn.Module
    strange = {str(t.dtype) for t in own.values() if not t.is_floating_point()}
    if strange:
        raise WeightsError(f"weights of {', '.join(sorted(strange))}, expected floating point")
    weights = [own[name] for name in ("weight", "weight_ih_l0", "weight_hh_l0") if name in own]
    num_axes = 1 if kind == "LayerNorm" else 2
    if any(weight.dim() != num_axes for weight in weights):
        raise WeightsError(f"the weight of {kind} has {num_axes} axes")
    if kind == "Embedding":
        module = nn.Embedding(*own["weight"].shape)
    elif kind == "Linear":
        size, input_size = own["weight"].shape
        module = nn.Linear(input_size, size, bias="bias" in own)
    elif kind == "LayerNorm":
        eps = float(options.pop("eps", 1e-5))
        module = nn.LayerNorm(own["weight"].shape[0], eps, bias="bias" in own)
    elif kind in ("RNN", "GRU", "LSTM"):
        for suffix, what in (("_reverse", "bidirectional"), ("weight_hr_l0", "proj_size")):
            if any(name.endswith(suffix) for name in own):
                raise WeightsError(f"{what} is not supported yet")
        module = getattr(nn, kind)(
            own["weight_ih_l0"].shape[1],
            own["weight_hh_l0"].shape[1],
            num_layers=sum(name.startswith("weight_ih_l") for name in own),
            bias="bias_ih_l0" in own,
            **({"nonlinearity": options.pop("nonlinearity", "tanh")} if kind == "RNN" else {}),
        )
    else:
        raise WeightsError(f"{kind} is not known")
    if options:
        raise WeightsError(f"{kind} has no option {', '.join(options)}")
    module.load_state_dict(own)
    return module.float().eval()


def _raise_if(problems: list[str]) -> None:
    if problems:
        raise WeightsError("cannot be converted:\n  " + "\n  ".join(problems))
