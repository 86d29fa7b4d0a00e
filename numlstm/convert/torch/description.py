"""The modules of PyTorch that a word of a description stands for, made of their tensors.

`words` says what a description is.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from numlstm import spec
from numlstm.budget import spend
from numlstm.convert.torch.modules import CRF
from numlstm.errors import first_of
from numlstm.spec import WeightsError

Own = dict[str, torch.Tensor]  # tensors by their names within a module


class Options(dict[str, str]):
    """What stands in brackets. Who makes a module takes it out; `asked` is all that it can take."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__(given)
        self.asked: dict[str, None] = {}

    def get(self, name: str, default: Any = None) -> Any:
        self.asked[name] = None
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        self.asked[name] = None
        return super().pop(name, *default)


# Modules of each kind -----------------------------------------------------------------------------


def modules_of(kind: str, own: Own, given: Options) -> list[nn.Module]:
    """Return a module of a kind whose sizes are those of its tensors, and a padding before it."""
    if kind not in _KINDS:
        raise WeightsError(f"{kind} is not known; known: {', '.join(_KINDS)}")
    strange = _strange_dtypes(own)
    if strange:
        raise WeightsError(
            f"{strange}, expected floating point: whole numbers are weights only with the scale "
            "that they are to be multiplied with"
        )
    make, named, num_axes = _KINDS[kind]
    weights = [own[name] for name in named if name in own]
    if any(weight.dim() != num_axes for weight in weights):
        axes = "axis" if num_axes == 1 else "axes"
        raise WeightsError(f"the weight of {kind} has {num_axes} {axes}")
    spend(f"modules of {kind}", 1e4 * len(own), 1e6 * len(own))
    # It draws no random weights, takes no memory for them, and would warn of those of no size.
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        modules = make(kind, own, given)
    if given:
        raise WeightsError(_no_option(kind, given))
    known = modules[-1].state_dict()
    _check_shapes(own, {name: tuple(tensor.shape) for name, tensor in known.items()})
    modules[-1].load_state_dict({n: t for n, t in own.items() if n in known}, assign=True)
    return [module.float().eval() for module in modules]


def _check_shapes(own: Own, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise what tensors of a module are missing or of other shapes."""
    missing = [repr(name) for name in shapes if name not in own]
    other = [
        f"{name} expected {shape}, found {tuple(own[name].shape)}"
        for name, shape in shapes.items()
        if name in own and tuple(own[name].shape) != shape
    ]
    if missing:
        raise WeightsError(f"no tensor {first_of(missing)}")
    if other:
        raise WeightsError(first_of(other))


def _no_option(kind: str, given: Options) -> str:
    known = ", ".join(given.asked) or "none"
    is_stack = kind in ("RNN", "GRU", "LSTM")
    read = "layers, directions, bias and projection" if is_stack else "sizes and bias"
    options = f"no option {', '.join(given)}, it has {known}"
    return f"{kind} has {options}; {read} are read from its tensors"


def _strange_dtypes(own: Mapping[str, torch.Tensor]) -> str:
    return first_of(
        f"{name} is {tensor.dtype}"
        for name, tensor in own.items()
        if not tensor.is_floating_point() and not _is_count(name)
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


def _instance_norm(kind: str, own: Own, options: Options) -> list[nn.Module]:
    (module,) = _batch_norm(kind, own, options)
    size, eps, affine = module.num_features, module.eps, module.affine
    return [nn.InstanceNorm1d(size, eps, affine=affine, track_running_stats=True)]


def _group_norm(kind: str, own: Own, options: Options) -> list[nn.Module]:
    num_groups = _whole(options, "num_groups", 0)
    if not num_groups:
        raise WeightsError("num_groups is not said by its tensors: GroupNorm(num_groups=4)")
    return [nn.GroupNorm(num_groups, own["weight"].shape[0], _eps(options))]


def _rms_norm(kind: str, own: Own, options: Options) -> list[nn.Module]:
    eps = _eps(options) if "eps" in options else None
    return [nn.RMSNorm(own["weight"].shape[0], eps)]


def _prelu(kind: str, own: Own, options: Options) -> list[nn.Module]:
    return [nn.PReLU(own["weight"].shape[0])]


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
    "InstanceNorm1d": (_instance_norm, ("weight", "running_mean"), 1),
    "GroupNorm": (_group_norm, ("weight",), 1),
    "RMSNorm": (_rms_norm, ("weight",), 1),
    "PReLU": (_prelu, ("weight",), 1),
    "CRF": (_crf, ("transitions",), 2),
}


# Cells and stacks ---------------------------------------------------------------------------------


def stacked(kind: str, names: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Return the modules that one word stands for, and what each tensor of theirs is called.

    A layer of a stack may be a module, a cell or a list of them: the names tell which, whatever of
    these the word says. A module alone within another stands for it.

    Parameters
    ----------
    kind : str
        "LSTM" or "LSTMCell", for example; of others there is one module.
    names : dict
        The names of tensors within the module, and what the state dict calls them.
    """
    names = _unwrapped(names)
    base = kind.removesuffix("Cell")
    if base not in ("RNN", "GRU", "LSTM"):
        return [(kind, names)]
    layers = _numbered(names)
    if layers:
        return [module for own in layers for module in stacked(kind, own)]
    if "weight_ih" in names:
        return [(f"{base}Cell", names)]
    return [(base if "weight_ih_l0" in names else kind, names)]


def _unwrapped(names: Mapping[str, str]) -> dict[str, str]:
    """Return names without what all begin with, a module within the module: "rnn."."""
    found = dict(names)
    while found and len(heads := {name.partition(".")[0] for name in found}) == 1:
        head = f"{heads.pop()}."
        if head[:-1].isdigit() or not all(name.startswith(head) for name in found):
            break
        found = {name.removeprefix(head): full for name, full in found.items()}
    return found


def _numbered(names: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the tensors of each layer of a list, of 0, 1, ... without a gap; or nothing."""
    layers: dict[str, dict[str, str]] = {}
    for name, full in names.items():
        number, dot, own = name.partition(".")
        if not dot:
            return []
        layers.setdefault(number, {})[own] = full
    order = [str(n) for n in range(len(layers))]
    return [layers[n] for n in order] if set(order) == layers.keys() else []
