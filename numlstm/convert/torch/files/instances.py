"""Whole modules in a file -> their state dicts: what torch.save(model) and TorchScript write.

A module is an object of a class that is not looked for: its state is a dict of attributes, which
are read, and its code, which is not. An eager module keeps its tensors and the modules within it
in dicts of their own; one of TorchScript has all as attributes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from numlstm.budget import spend
from numlstm.convert.assembly import Refused
from numlstm.convert.torch.files.pickles import Stranger
from numlstm.convert.torch.packed import ATTRIBUTES, is_tensor, packed

_SCRIPT = "__torch__."
_DEEPEST = 8  # dicts within dicts


def with_state_dicts(data: Any, depth: int = 0) -> Any:
    """Return what a file holds, with the state dict of each module in its place."""
    spend("the modules of the file", 200, 5000)
    if is_module(data):
        state = dict(_entries(data))
        if not state and data.text.startswith(_SCRIPT):
            raise Refused(
                "is a TorchScript program whose tensors have no names: it was frozen, which makes "
                "them constants of its code",
                "save it before torch.jit.freeze or optimize_for_mobile",
            )
        return state
    if isinstance(data, dict) and depth < _DEEPEST:
        return {name: with_state_dicts(value, depth + 1) for name, value in data.items()}
    return data


def is_module(value: Any) -> bool:
    """Whether a value is a module; packed tensors are objects of TorchScript too."""
    if not isinstance(value, Stranger) or not isinstance(value.state, Mapping):
        return False
    return value.text.startswith(_SCRIPT) or {"_parameters", "_modules"} <= value.state.keys()


def _entries(module: Stranger, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a module and of those within it, as `nn.Module.state_dict` names them.

    What is packed is among them, and the attributes that tell what it is.
    """
    spend("the modules of the file", 1000, 1e4)
    own = _attributes(module)
    has_packed = "_packed_params" in own or "_all_weight_values" in own
    for name, value in own.items():
        spend("the modules of the file", 200, 1e4)
        is_packed = (name.startswith("_packed") or name == "param") and packed(value) is not None
        if is_tensor(value) or is_packed or (has_packed and name in ATTRIBUTES):
            yield prefix + name, value
        for inner, child in _modules(name, value):
            yield from _entries(child, f"{prefix}{inner}.")


def _attributes(module: Stranger) -> dict[str, Any]:
    """Return what is in a module, by names."""
    state: Mapping[Any, Any] = module.state
    if module.text.startswith(_SCRIPT):
        return {name: value for name, value in state.items() if isinstance(name, str)}
    hidden = state.get("_non_persistent_buffers_set")
    temporary = {n for n in hidden if isinstance(n, str)} if isinstance(hidden, list) else set()
    kept = {name: value for name, value in state.items() if not is_tensor(value)}
    for group in ("_parameters", "_buffers", "_modules"):
        inner = state.get(group)
        kept |= inner if isinstance(inner, Mapping) else {}
    return {n: v for n, v in kept.items() if isinstance(n, str) and n not in temporary}


def _modules(name: str, value: Any) -> Iterator[tuple[str, Stranger]]:
    """Yield the module that an attribute is, or those in the list that it is."""
    if is_module(value):
        yield name, value
    elif isinstance(value, list):
        yield from ((f"{name}.{n}", item) for n, item in enumerate(value) if is_module(item))
