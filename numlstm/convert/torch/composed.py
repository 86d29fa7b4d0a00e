"""Modules that are several layers, or that depend on what stands before and behind them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from numlstm import spec
from numlstm.convert import compositions
from numlstm.convert.assembly import Refused
from numlstm.convert.compositions import COMPOSED, Grow
from numlstm.convert.torch.functions import GroupedSoftmax, Normalize, is_plain_softplus

_ROWS = ("a stream knows before its end neither the mean nor the variance of a sequence; norm the "
         "features of each step by a LayerNorm")  # fmt: skip


class Flat(nn.Module):  # type: ignore[misc]
    """nn.Flatten of a sequence, whose length is known from the Linear that reads it.

    size             of what that reads
    channels_first   whether the steps of a feature are side by side, as behind an nn.Conv1d
    """

    def __init__(self, size: int, channels_first: bool) -> None:
        super().__init__()
        self.size, self.channels_first = size, channels_first

    def steps(self, num_features: int) -> int:
        """Return how many steps of so many features it joins."""
        steps, rest = divmod(self.size, num_features)
        if rest:
            raise Refused(
                f"the Linear behind it reads {self.size} numbers, which are no steps of "
                f"{num_features}"
            )
        return steps

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        """Return the last steps end to end, for each step: (T, F) -> (T, size)."""
        steps = self.steps(xs.shape[1])
        windows = functional.pad(xs, (0, 0, steps - 1, 0)).unfold(0, steps, 1)  # (T, F, steps)
        return (windows if self.channels_first else windows.transpose(1, 2)).flatten(1)


@dataclass
class _Shape:
    """What is known of the tensors between modules.

    is_row           whether they have no time axis any more
    channels_first   whether the features stand before the steps, (N, C, L)
    is_sure          whether nothing between modules may have turned that round again
    has_begun        whether there was a module that says something of it
    """

    is_row: bool = False
    channels_first: bool = False
    is_sure: bool = True
    has_begun: bool = False

    def behind(self, step: Any) -> None:
        match step:
            case str():
                self.is_row = True
            case Flat():
                self.is_row, self.channels_first = True, False
            case nn.Conv1d() | nn.MaxPool1d() | nn.AvgPool1d():
                self.channels_first = self.is_sure = True
            case nn.BatchNorm1d() | nn.InstanceNorm1d() if not self.is_row:
                self.is_sure = self.is_sure and (self.channels_first or not self.has_begun)
                self.channels_first = True
            case nn.RNNBase() | nn.RNNCellBase() | nn.Linear() | nn.LayerNorm() | nn.Embedding():
                self.channels_first, self.is_sure = False, True
        self.has_begun |= not isinstance(step, nn.Dropout | nn.Identity)

    def are_features(self, axis: int | None) -> bool:
        """Whether an axis is that of the features."""
        return axis == -1 or axis == (1 if self.is_row or self.channels_first else 2)


def resolved(steps: Sequence[Any]) -> list[Any]:
    """Return steps with those in place that depend on what stands before and behind them."""
    shape, found = _Shape(), []
    for n, step in enumerate(steps):
        new = _resolved(step, steps[n + 1 :], shape)
        found.append(new)
        shape.behind(new)
    return found


def _resolved(step: Any, behind: Sequence[Any], shape: _Shape) -> Any:
    match step:
        case nn.AdaptiveAvgPool1d() | nn.AdaptiveMaxPool1d() if _is_one(step.output_size):
            return "mean" if isinstance(step, nn.AdaptiveAvgPool1d) else "max"
        case nn.Flatten() if (step.start_dim, step.end_dim) in ((1, -1), (1, 2)):
            if shape.is_row:
                return nn.Identity()
            readers = (s for s in behind if not isinstance(s, nn.Dropout | nn.Identity))
            reader: Any = next(readers, None)
            if type(reader) is not nn.Linear:
                return step
            if not shape.is_sure:
                return _Unsure(step)
            return Flat(reader.in_features, shape.channels_first)
        case nn.Softmax() | nn.LogSoftmax() | nn.Softmin() | nn.GLU():
            return type(step)(-1) if shape.are_features(step.dim) else step
        case nn.GroupNorm() if not shape.is_row:
            return _OfSequence(step)
        case nn.Softplus() if step.beta != 1:
            return _ScaledSoftplus(step)
    return step


def input_size_of(steps: Sequence[Any]) -> int:
    """Return how many numbers the first modules read that keep the size, said by those behind."""
    for step in steps:
        match step:
            case nn.Conv1d():
                return int(step.in_channels)
            case nn.Linear():
                return int(step.in_features)
            case nn.RNNBase() | nn.RNNCellBase():
                return int(step.input_size)
            case nn.BatchNorm1d() | nn.InstanceNorm1d():
                return int(step.num_features)
            case nn.LayerNorm() if len(step.normalized_shape) == 1:
                return int(step.normalized_shape[0])
            case nn.GLU() | nn.Flatten() | nn.Embedding():
                return 0
    return 0


def _is_one(size: Any) -> bool:
    return size in (1, (1,))


class _Held(nn.Module):  # type: ignore[misc]
    """A module that is not what its class says: of other options, or at another place."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.module(x))


class _OfSequence(_Held):
    """A norm that would be over all steps."""


class _Unsure(_Held):
    """A flattening of what may have its steps or its features first."""


class _ScaledSoftplus(_Held):
    """An nn.Softplus with a beta."""


def name_of(step: Any) -> str:
    """Return what a user calls a step."""
    if isinstance(step, Flat):
        return "Flatten"
    return type(step.module if isinstance(step, _Held) else step).__name__


# Modules -> layers --------------------------------------------------------------------------------


def _function(name: str, *options: str) -> Callable[..., Any]:
    """Return a function of `COMPOSED` with the values of options of its module."""
    return lambda grow, x, size, m: COMPOSED[name](grow, x, size, *(getattr(m, o) for o in options))


def _softplus(grow: Grow, x: Any, size: int, held: _ScaledSoftplus) -> Any:
    """log(1 + exp(beta x)) / beta"""
    beta, threshold = float(held.module.beta), float(held.module.threshold)
    if not is_plain_softplus(threshold) or not beta > 0:
        raise Refused(f"is not a function numlstm knows with these options: {held.module}")
    inner = compositions.activated(grow, x, size, "affine", beta, 0.0)
    inner = compositions.activated(grow, inner, size, "softplus")
    return compositions.activated(grow, inner, size, "affine", 1 / beta, 0.0)


def _of_features(kind: type[spec.Softmax | spec.LogSoftmax]) -> Callable[..., Any]:
    def grown(grow: Grow, x: Any, size: int, module: Any) -> Any:
        _check_axis(module)
        return grow(kind(size), [x])

    return grown


def _softmin(grow: Grow, x: Any, size: int, module: nn.Softmin) -> Any:
    _check_axis(module)
    return grow(spec.Softmax(size), [compositions.activated(grow, x, size, "affine", -1.0, 0.0)])


def _glu(grow: Grow, x: Any, size: int, module: nn.GLU) -> Any:
    _check_axis(module)
    return compositions.gated_half(grow, x, size)


def _check_axis(module: Any) -> None:
    if module.dim != -1:
        raise Refused(
            f"dim={module.dim}: only dim=-1, the features",
            "or dim=1 behind a Conv1d or what leaves one row of a sequence",
        )


def _prelu(grow: Grow, x: Any, size: int, module: nn.PReLU) -> Any:
    slopes = module.weight.detach().double().numpy()
    if len(slopes) not in (1, size):
        raise Refused(f"it has {len(slopes)} slopes for {size} features")
    return compositions.prelu(grow, x, slopes.repeat(size // len(slopes)))


def _group_norm(grow: Grow, x: Any, size: int, module: nn.GroupNorm) -> Any:
    if size != module.num_channels:
        raise Refused(f"num_channels={module.num_channels}, before it are {size} features")
    own = {name: t.numpy() for name, t in module.state_dict().items()}
    return compositions.grouped_norm(
        grow, x, size, module.num_groups, module.eps, own.get("weight"), own.get("bias")
    )


def _rms_norm(grow: Grow, x: Any, size: int, module: Any) -> Any:
    if tuple(module.normalized_shape) != (size,):
        raise Refused(f"normalized_shape={tuple(module.normalized_shape)}: only the features")
    eps = torch.finfo(torch.float32).eps if module.eps is None else module.eps
    weight = None if module.weight is None else module.weight.detach().numpy()
    return compositions.rms_norm(grow, x, size, eps, weight)


def _unsure(grow: Grow, x: Any, size: int, module: _Unsure) -> Any:
    raise Refused(
        "behind a norm of (N, C, L) and what gives (N, T, F): whether steps or features stand "
        "first is not said",
        "describe the network in layers: Flatten joins steps, each with its features",
    )


def _normalize(grow: Grow, x: Any, size: int, module: Normalize) -> Any:
    if not module.eps > 0:
        raise Refused(f"eps={module.eps}, expected a positive number")
    return compositions.divided_by_norm(grow, x, size, module.p, module.groups, least=module.eps)


def _of_sequence(grow: Grow, x: Any, size: int, module: _OfSequence) -> Any:
    raise Refused("would take the mean over all steps, but behind a pooling", _ROWS)


def _pooling(grow: Grow, x: Any, size: int, module: Any) -> Any:
    kernel_size, stride, pad = (
        _one(n) for n in (module.kernel_size, module.stride, module.padding)
    )
    is_max = isinstance(module, nn.MaxPool1d)
    if is_max and _one(module.dilation) != 1:
        raise Refused(f"dilation={module.dilation}: only 1", "pool with a dilation of 1")
    if is_max and module.return_indices:
        raise Refused("return_indices=True: only the values", "make it with return_indices=False")
    return compositions.window_pooling(
        grow, x, size, kernel_size, "max" if is_max else "mean",
        stride=stride, padding=(pad, pad), ceil_mode=module.ceil_mode,
        counts_padding=not is_max and module.count_include_pad,
    )  # fmt: skip


def _one(size: Any) -> int:
    return int(size[0] if isinstance(size, tuple) else size)


def _flat(grow: Grow, x: Any, size: int, module: Flat) -> Any:
    return grow(spec.Flatten(size, module.steps(size)), [x])


GROWN: dict[type[nn.Module], Callable[..., Any]] = {
    nn.Softmax: _of_features(spec.Softmax),
    nn.LogSoftmax: _of_features(spec.LogSoftmax),
    nn.Softmin: _softmin,
    nn.GLU: _glu,
    nn.Hardswish: _function("hard_swish"),
    nn.Mish: _function("mish"),
    nn.LogSigmoid: _function("log_sigmoid"),
    nn.Softshrink: _function("soft_shrink", "lambd"),
    nn.Hardshrink: _function("hard_shrink", "lambd"),
    nn.Tanhshrink: _function("tanh_shrink"),
    nn.CELU: _function("celu", "alpha"),
    nn.PReLU: _prelu,
    nn.GroupNorm: _group_norm,
    _OfSequence: _of_sequence,
    _ScaledSoftplus: _softplus,
    _Unsure: _unsure,
    Normalize: _normalize,
    GroupedSoftmax: lambda grow, x, size, m: compositions.grouped_softmax(grow, x, size, m.groups),
    nn.MaxPool1d: _pooling,
    nn.AvgPool1d: _pooling,
    Flat: _flat,
}
if hasattr(nn, "RMSNorm"):  # since PyTorch 2.4
    GROWN[nn.RMSNorm] = _rms_norm
