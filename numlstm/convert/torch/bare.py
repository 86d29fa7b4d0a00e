"""Modules of a running program whose weights are made of parts -> modules with the weights.

`torch.nn.utils` hangs the making of a weight on its module, as a hook or as a class of its own.
"""

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from numlstm.convert.torch.parametrized import without_parts

_MAKERS = (WeightNorm, SpectralNorm, prune.BasePruningMethod)


def bare(module: nn.Module) -> nn.Module:
    """Return a module with its weights in place of their parts; others are what they are."""
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
