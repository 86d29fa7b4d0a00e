"""A state dict whose weights are made of other tensors -> one with the weights themselves.

Training keeps some weights in parts, of which it makes them anew in each step. What a weight is
after training, of a tensor named ``weight``, or ``weight_hh_l0``:

    weight norm     g * v / |v|       weight_g, weight_v; or parametrizations.weight.original0 and 1
    spectral norm   W / (u . W v)     weight_orig, weight_u, weight_v; or
                                      parametrizations.weight.original, .0._u, .0._v
    pruning         W * mask          weight_orig, weight_mask
    weight drop     W                 weight_raw, of the module or of what it is the module of

|v| is taken over the axes along which g has one number. Sums are taken in float64.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from numlstm.budget import spend
from numlstm.convert.assembly import Refusals, Refused

_NEW = re.compile(r"((?:.+\.)?)parametrizations\.([^.]+)\.(.+)")
_OLD = re.compile(r"(.+)_(g|v|u|orig|mask)")
_SAVE = "save the state dict after"
_RAW = re.compile(r"((?:.+\.)?)((?:weight|bias)[^.]*)_raw")


def without_parts(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a state dict with weights in place of their parts, and what each was made by.

    What is no tensor stays as it is.

    Raises
    ------
    WeightsError
        Lists every weight that its parts do not say how to make.
    """
    refusals = Refusals("the state dict")
    found, made = dict(state), {}
    for weight in (*_new(state), *_old(state), *_raw(state)):
        with refusals.of(weight.name):
            tensor = weight.made()
            for name in weight.parts.values():
                found.pop(name, None)
            found[weight.name] = tensor
            made[weight.name] = weight.by
    refusals.check()
    return found, made


@dataclass(frozen=True)
class _Parts:
    """A weight that is made of others.

    name    its own, "lstm.weight_hh_l0"
    by      "weight norm", for example, or "" if that is not known
    parts   by what they are, "g": the names of tensors in the state dict
    """

    name: str
    by: str
    parts: dict[str, str]
    state: Mapping[str, Any]

    def made(self) -> torch.Tensor:
        own = {part: self.state[name].detach() for part, name in self.parts.items()}
        for part, tensor in own.items():
            if not tensor.is_floating_point() and part != "mask":
                raise Refused(f"{self.parts[part]} is {tensor.dtype}, expected floating point")
        size = sum(tensor.numel() for tensor in own.values())
        spend(f"the weights of {self.by}", 8 * size, 4 * size)
        return _RULES[self.by]({part: tensor.double() for part, tensor in own.items()}).float()


# Which weights are in parts -----------------------------------------------------------------------


def _tensors(state: Mapping[str, Any]) -> Iterator[str]:
    return (n for n, v in state.items() if isinstance(n, str) and isinstance(v, torch.Tensor))


def _new(state: Mapping[str, Any]) -> Iterator[_Parts]:
    """Yield those of torch.nn.utils.parametrize."""
    weights: dict[str, dict[str, str]] = {}
    for name in _tensors(state):
        match = _NEW.fullmatch(name)
        if match is not None:
            weights.setdefault(match[1] + match[2], {})[match[3]] = name
    for name, own in weights.items():
        match own.keys():
            case keys if keys == {"original0", "original1"}:
                parts = {"g": own["original0"], "v": own["original1"]}
                yield _Parts(name, "weight norm", parts, state)
            case keys if keys == {"original", "0._u", "0._v"}:
                parts = {"orig": own["original"], "u": own["0._u"], "v": own["0._v"]}
                yield _Parts(name, "spectral norm", parts, state)
            case _:
                yield _Parts(name, "", own, state)


def _old(state: Mapping[str, Any]) -> Iterator[_Parts]:
    """Yield those of torch.nn.utils.weight_norm, spectral_norm and prune."""
    weights: dict[str, dict[str, str]] = {}
    for name in _tensors(state):
        match = _OLD.fullmatch(name)
        if match is not None:
            weights.setdefault(match[1], {})[match[2]] = name
    for name, own in weights.items():
        for by, needed in (
            ("weight norm", ("g", "v")),
            ("spectral norm", ("orig", "u", "v")),
            ("pruning", ("orig", "mask")),
        ):
            if own.keys() == set(needed) and _are_parts(by, own, state):
                yield _Parts(name, by, own, state)
        if own.keys() == {"orig", "u"} and name in state:  # before PyTorch 1.0, beside the weight
            yield _Parts(name, "weight drop", {**own, "raw": name}, state)


def _are_parts(by: str, own: Mapping[str, str], state: Mapping[str, Any]) -> bool:
    """Whether tensors are parts of a weight; w_g and w_v may be two gates of a cell."""
    if by != "weight norm":
        return True
    g, v = state[own["g"]], state[own["v"]]
    is_norm = g.dim() == v.dim() > 1 and sum(n != 1 for n in g.shape) <= 1
    return bool(g.dim() == 0 or is_norm)


def _raw(state: Mapping[str, Any]) -> Iterator[_Parts]:
    """Yield those of which training drops a part; in fastai they are outside of their module."""
    for name in _tensors(state):
        match = _RAW.fullmatch(name)
        if match is None:
            continue
        inside = f"{match[1]}module."
        prefix = inside if any(other.startswith(inside) for other in state) else match[1]
        yield _Parts(prefix + match[2], "weight drop", {"raw": name}, state)


# What they make -----------------------------------------------------------------------------------


def _weight_norm(own: dict[str, torch.Tensor]) -> torch.Tensor:
    g, v = own["g"], own["v"]
    g = g.reshape((1,) * v.dim()) if g.numel() == 1 else g
    if g.dim() != v.dim() or any(n not in (1, m) for n, m in zip(g.shape, v.shape, strict=True)):
        raise Refused(
            f"g {tuple(own['g'].shape)} of weight norm does not go with v {tuple(v.shape)}",
            f"{_SAVE} torch.nn.utils.remove_weight_norm(module, tensor_name)",
        )
    axes = [axis for axis, n in enumerate(g.shape) if n == 1]
    norms = v.square().sum(axes, keepdim=True).sqrt() if axes else v.abs()
    return v * (g / norms)


def _spectral_norm(own: dict[str, torch.Tensor]) -> torch.Tensor:
    weight, u, v = own["orig"], own["u"], own["v"]
    for axis, size in enumerate(weight.shape):  # the first, but for transposed convolutions
        matrix = weight.movedim(axis, 0).flatten(1) if weight.dim() > 1 else weight[:, None]
        if u.shape == (size,) and v.shape == matrix.shape[1:]:
            return weight / (u @ matrix @ v)
    raise Refused(
        f"u {tuple(u.shape)} and v {tuple(v.shape)} of spectral norm do not go with the weight "
        f"{tuple(weight.shape)}",
        f"{_SAVE} torch.nn.utils.remove_spectral_norm(module, tensor_name)",
    )


def _pruned(own: dict[str, torch.Tensor]) -> torch.Tensor:
    if own["mask"].shape != own["orig"].shape:
        raise Refused(
            f"the mask {tuple(own['mask'].shape)} of pruning does not go with the weight "
            f"{tuple(own['orig'].shape)}",
            f"{_SAVE} torch.nn.utils.prune.remove(module, tensor_name)",
        )
    return own["orig"] * own["mask"]


def _unknown(own: dict[str, torch.Tensor]) -> torch.Tensor:
    raise Refused(
        f"it is made of {', '.join(own)} by a parametrization, which is code",
        f"{_SAVE} torch.nn.utils.parametrize.remove_parametrizations(module, tensor_name)",
    )


_RULES: dict[str, Callable[[dict[str, torch.Tensor]], torch.Tensor]] = {
    "weight norm": _weight_norm,
    "spectral norm": _spectral_norm,
    "pruning": _pruned,
    "weight drop": lambda own: own["raw"],
    "": _unknown,
}
