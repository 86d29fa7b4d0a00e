"""Modules of a running program whose weights are made of parts, or packed -> plain modules.

`torch.nn.utils` hangs the making of a weight on its module, as a hook or as a class of its own.
Quantising gives modules other classes.
"""

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from numlstm.convert.torch.packed import unpacked
from numlstm.convert.torch.parametrized import without_parts

_QUANTISED = ("torch.ao.nn.quantized.dynamic", "torch.nn.quantized.dynamic")
_MAKERS = (WeightNorm, SpectralNorm, prune.BasePruningMethod)


def bare(module: nn.Module) -> nn.Module:
    """Return a module with its weights in place of their parts; others are what they are."""
    if type(module).__module__.startswith(_QUANTISED):
        return _unpacked(module)
    own = vars(module)
    hooks = own["_forward_pre_hooks"]
    others = {key: hook for key, hook in hooks.items() if not isinstance(hook, _MAKERS)}
    if len(others) == len(hooks) and not parametrize.is_parametrized(module):
        return module
    state = {n: t for n, t in module.state_dict().items() if not n.startswith("parametrizations.")}
    state, made = without_parts({**state, **_parametrized(module)})
    names = {name: value for name, value in state.items() if "." not in name}
    buffers = {name: names.pop(name) for name in own["_buffers"] if name in names}
    twin: Any = object.__new__(parametrize.type_before_parametrizations(module))
    vars(twin).update({name: value for name, value in own.items() if name not in made})
    vars(twin).update(
        _parameters={
            name: nn.Parameter(value, requires_grad=False) for name, value in names.items()
        },
        _buffers=buffers,
        _modules={n: inner for n, inner in own["_modules"].items() if n != "parametrizations"},
        _forward_pre_hooks=OrderedDict(others),
    )
    if isinstance(twin, nn.RNNBase):
        vars(twin)["_flat_weights"] = [getattr(twin, name) for name in own["_flat_weights_names"]]
    return twin


def _parametrized(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return what the weights of a module are that it makes as it is asked for them."""
    if not parametrize.is_parametrized(module):
        return {}
    twin = copy.deepcopy(module).eval()  # in training spectral norm changes what it is made of
    return {name: getattr(twin, name).detach() for name in twin.parametrizations}


def _unpacked(module: Any) -> Any:
    """Return the module of torch.nn whose weights are packed in one; others are what they are."""
    name = type(module).__name__
    if name not in ("Linear", "LSTM", "GRU", "LSTMCell", "GRUCell", "RNNCell"):
        return module
    state: dict[str, Any] = {**module.state_dict()}
    with torch.device("meta"):
        if name == "Linear":
            twin: Any = nn.Linear(module.in_features, module.out_features)
        elif name.endswith("Cell"):
            given = {"nonlinearity": module.nonlinearity} if name == "RNNCell" else {}
            twin = getattr(nn, name)(module.input_size, module.hidden_size, **given)
        else:
            state["bidirectional"] = module.bidirectional
            twin = getattr(nn, name)(
                module.input_size,
                module.hidden_size,
                module.num_layers,
                batch_first=module.batch_first,
                bidirectional=module.bidirectional,
            )
    weights = unpacked(state, float)
    zeros = {n: torch.zeros(t.shape) for n, t in twin.state_dict().items() if n not in weights}
    twin.load_state_dict({**zeros, **weights}, assign=True)  # without a bias there is none packed
    return twin
