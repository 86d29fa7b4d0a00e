"""PyTorch modules in forward order -> a network with its tensors."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from numlstm import spec
from numlstm.convert.assembly import Assembly, Draft, Refusals, Refused
from numlstm.convert.gates import from_torch
from numlstm.convert.torch.bare import bare
from numlstm.convert.torch.composed import GROWN, Flat, input_size_of, name_of, resolved
from numlstm.convert.torch.functions import ELEMENTWISE, Function, named_module
from numlstm.spec import POOLINGS, Layer, Network, WeightsError

Arrays: TypeAlias = dict[str, NDArray[np.float32]]
Step: TypeAlias = nn.Module | str  # a module, or what it makes of all steps: `POOLINGS`, "final"

FINAL = "final"  # h_n of the recurrent layer before it

_DROPPED = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    nn.Identity,
)
_RECURRENT: dict[type[nn.Module], Any] = {
    nn.RNN: spec.RNN,
    nn.GRU: spec.GRU,
    nn.LSTM: spec.LSTM,
    nn.RNNCell: spec.RNN,
    nn.GRUCell: spec.GRU,
    nn.LSTMCell: spec.LSTM,
}


class CRF(nn.Module):  # type: ignore[misc]
    """The tensors of a linear-chain CRF under the names of pytorch-crf."""

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self.start_transitions = nn.Parameter(torch.zeros(num_tags))
        self.end_transitions = nn.Parameter(torch.zeros(num_tags))
        self.transitions = nn.Parameter(torch.zeros(num_tags, num_tags))

    def decode(self, scores: torch.Tensor) -> list[list[int]]:
        """Return the best path of each sequence of scores (T, 1, num_tags)."""
        best = self.start_transitions + scores[0, 0]
        back = []
        for row in scores[1:, 0]:
            best, came_from = (best[:, None] + self.transitions).max(0)
            best = best + row
            back.append(came_from)
        tags = [int((best + self.end_transitions).argmax())]
        for came_from in reversed(back):
            tags.append(int(came_from[tags[-1]]))
        return [tags[::-1]]


def step_of_word(word: str) -> Step | None:
    """Return what a word without tensors means, or None."""
    if word in (*POOLINGS, FINAL):
        return word
    if word in ("softmax", "log_softmax"):
        return nn.Softmax(-1) if word == "softmax" else nn.LogSoftmax(-1)
    try:
        return Function(word)
    except WeightsError:
        return named_module(word)


def flatten(modules: Sequence[Any]) -> list[Step]:
    """Return the modules with those inside nn.Sequential in their place, as copies in eval mode.

    Raises
    ------
    WeightsError
        Lists everything that is no module, or of which the answers are not those of its tensors.
    """
    refusals = Refusals("the modules")
    steps = _flat(modules, refusals)
    refusals.check()
    return steps


def _flat(modules: Sequence[Any], refusals: Refusals) -> list[Step]:
    steps: list[Step] = []
    for module in modules:
        subject = repr(module) if isinstance(module, str) else type(module).__name__
        with refusals.of(subject):
            if type(module) is nn.Sequential and not _has_hooks(module):
                steps += _flat(list(module), refusals)
            else:
                steps.append(_step_of(module))
    return steps


def _step_of(module: Any) -> Step:
    """Return a word as what it means, or a module as a copy in eval mode."""
    if isinstance(module, str):
        step = step_of_word(module)
        if step is None:
            words = ", ".join((*POOLINGS, FINAL))
            raise Refused(
                f"is neither a torch module nor one of {words}, softmax, log_softmax, a function"
            )
        return step
    if not isinstance(module, nn.Module):
        raise Refused("is neither a torch module nor a word")
    module = bare(module)
    if _has_hooks(module):
        raise Refused("has hooks, which cannot be converted", "remove them: handle.remove()")
    strange = _strange_parameters(module)
    if strange:
        raise Refused(f"has weights of {strange}")
    return copy.deepcopy(module).cpu().float().eval()


def _has_hooks(module: nn.Module) -> bool:
    # PyTorch tells of them nowhere else.
    return bool(module._forward_hooks or module._forward_pre_hooks)  # noqa: SLF001


def _strange_parameters(module: nn.Module) -> str:
    return ", ".join(
        sorted(
            {
                str(p.dtype) if not p.is_meta else "no data"
                for p in module.parameters()
                if p.is_meta or not p.is_floating_point()
            }
        )
    )


# Modules -> network and tensors -------------------------------------------------------------------


def translate(steps: Sequence[Step]) -> tuple[Network, Arrays]:
    """Return the network that the steps are, and its tensors.

    Raises
    ------
    WeightsError
        Lists everything that cannot be converted.
    """
    chain = _Chain(input_size_of(steps))
    for n, step in enumerate(resolved(steps)):
        name = str(step) if isinstance(step, str | Function) else name_of(step)
        with chain.refusals.of(f"{n}: {name}"):
            chain.append(step)
    if chain.pads is not None:
        chain.refusals.add("ZeroPad1d", "has no Conv1d behind it")
    chain.refusals.check()
    if chain.last is None:
        raise Refused("there are no layers among the modules")
    return chain.assembly.network(chain.last, chain.assembly.drafts[0].layer.input_size)


class _Chain:
    """The layers so far, each of which reads the one before it.

    size   of the input where modules stand first that do not say it, 0 if none behind them does
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.refusals = Refusals("the modules")
        self.assembly = Assembly()
        self.last: Draft | None = None
        self.pads: tuple[int, int] | None = None  # of the next Conv1d
        self.flat: Flat | None = None  # what the next Linear reads

    def append(self, step: Step) -> None:
        """Add a step, or raise why it cannot be converted."""
        if isinstance(step, _DROPPED):  # what they do ends with training
            return
        if isinstance(step, nn.ConstantPad1d) and step.value == 0:
            before, after = self.pads or (0, 0)
            self.pads = (before + step.padding[0], after + step.padding[1])
            return
        pads, self.pads = self.pads, None
        if pads is not None and not isinstance(step, nn.Conv1d):
            raise Refused(
                "comes after a ZeroPad1d, which only a Conv1d may",
                "pad right before the convolution",
            )
        flat, self.flat = self.flat, step if isinstance(step, Flat) else None
        if not isinstance(step, str) and type(step) not in {*ELEMENTWISE, *GROWN}:
            _check(step)
            for layer, tensors in _layers_of(step, pads):
                self._grow(layer, _behind_flat(tensors, flat, self.last))
        elif self.last is not None and isinstance(step, str):
            self._append_pooling(step, self.last)
        elif self.last is not None or (self.size and not isinstance(step, str)):
            size = self.size if self.last is None else self.last.layer.output_size
            if type(step) in GROWN:
                self.last = GROWN[type(step)](self.assembly.grow, self.last, size, step)
            else:
                self._append_elementwise(step, size)
        elif not self.refusals:  # after one nothing more is known of the sizes
            raise Refused(
                "has nothing before it",
                "begin with a layer whose input has a size: Linear, LSTM, Embedding",
            )

    def _append_pooling(self, word: str, before: Draft) -> None:
        if word != FINAL:
            self._grow(spec.Pooling(before.layer.output_size, word))
        elif isinstance(before.layer, spec.Recurrent):
            before.layer = replace(before.layer, outputs="last")
        else:
            kind = type(before.layer).__name__
            raise Refused(
                f"is of a recurrent layer, before it is {kind}",
                "put it right behind one; last is the last row of any layer",
            )

    def _append_elementwise(self, module: nn.Module, size: int) -> None:
        function = ELEMENTWISE[type(module)](module)
        if function is None:
            raise Refused(f"is not a function numlstm knows with these options: {module}")
        self._grow(spec.Activation(size, function), fuses=True)

    def _grow(self, layer: Layer, tensors: Arrays | None = None, fuses: bool = False) -> None:
        self.last = self.assembly.grow(layer, [self.last], tensors, fuses=fuses)


def _check(module: nn.Module) -> None:
    """Refuse a module that has no layer, or options that its layer has not."""
    if hasattr(module, "parametrizations"):
        raise Refused("is parametrized", "torch.nn.utils.parametrize.remove_parametrizations first")
    match module:
        case nn.RNNBase() | nn.RNNCellBase() if type(module) in _RECURRENT:
            return
        case nn.Embedding() if module.max_norm is not None:
            raise Refused(
                "max_norm, which changes the weights at run time, is not supported",
                "renormalise the weights once, and set max_norm to None",
            )
        case nn.LayerNorm() if len(module.normalized_shape) != 1:
            raise Refused(
                f"normalized_shape={module.normalized_shape}: only the features",
                "norm the features of each step",
            )
        case nn.BatchNorm1d() if module.running_mean is None:
            raise Refused(
                "track_running_stats=False: what it answers depends on the batch",
                "train it with track_running_stats=True",
            )
        case nn.Conv1d() if module.padding_mode != "zeros":
            raise Refused(
                f"padding_mode={module.padding_mode!r}: only 'zeros'",
                "pad the sequence before the network",
            )
        case nn.InstanceNorm1d() if not module.track_running_stats:
            raise Refused(
                "track_running_stats=False: it takes the mean of each sequence, which a stream "
                "does not know before its end",
                "norm the features of each step by a LayerNorm",
            )
        case nn.InstanceNorm1d():
            return
        case nn.AdaptiveAvgPool1d() | nn.AdaptiveMaxPool1d():
            raise Refused(
                f"output_size={module.output_size}: its windows depend on the length of the "
                "sequence, which a stream does not know before its end",
                "only output_size=1 is known, the mean or the largest of all steps",
            )
        case nn.Embedding() | nn.LayerNorm() | nn.BatchNorm1d() | nn.Conv1d() | nn.Linear():
            return
        case nn.Flatten():
            raise Refused(
                "would join the steps of a sequence, and does not say how many",
                "it may stand right before the Linear that reads them all, whose size says it",
            )
        case _ if is_crf(module):
            return
    raise Refused("is not a layer numlstm knows", "pass the layers it is made of, in forward order")


def is_crf(module: nn.Module) -> TypeGuard[CRF]:
    """Whether it is a CRF of pytorch-crf, by its tensors: the package need not be there."""
    names = {"start_transitions", "end_transitions", "transitions"}
    return type(module).__name__ == "CRF" and set(module.state_dict()) == names


def _layers_of(module: nn.Module, pads: tuple[int, int] | None) -> list[tuple[Layer, Arrays]]:
    """Return the layers of one module, each with its tensors; pads are those of a ZeroPad1d."""
    own = {
        name: np.array(tensor.detach().to("cpu", torch.float32).numpy())
        for name, tensor in module.state_dict().items()
        if name != "num_batches_tracked"
    }
    match module:
        case nn.Embedding():
            return [(spec.Embedding(module.num_embeddings, module.embedding_dim), own)]
        case nn.Linear():
            bias = module.bias is not None
            return [(spec.Linear(module.in_features, module.out_features, bias), own)]
        case nn.LayerNorm():
            size = module.normalized_shape[0]
            return [(spec.LayerNorm(size, module.eps, "weight" in own, "bias" in own), own)]
        case nn.BatchNorm1d() | nn.InstanceNorm1d():
            size = module.num_features
            return [(spec.BatchNorm(size, module.eps, "weight" in own, "bias" in own), own)]
        case nn.Conv1d():
            return [(_convolution(module, pads or (0, 0)), own)]
        case nn.RNNBase():
            return _recurrent_layers(module, own)
        case nn.RNNCellBase():
            return [(_recurrent_layer(module, module.input_size), own)]
    return [(spec.CRF(len(own["transitions"])), own)]


def _behind_flat(tensors: Arrays, flat: Flat | None, before: Draft | None) -> Arrays:
    """Return the tensors of a Linear, its columns in the order in which a `Flatten` joins steps."""
    if flat is None or not flat.channels_first or before is None:
        return tensors
    weight, steps = tensors["weight"], before.layer.num_steps  # type: ignore[attr-defined]
    columns = weight.reshape(len(weight), -1, steps).transpose(0, 2, 1)
    return tensors | {"weight": columns.reshape(len(weight), -1)}


def _convolution(module: nn.Conv1d, pads: tuple[int, int]) -> spec.Conv1d:
    kernel_size, dilation = module.kernel_size[0], module.dilation[0]
    reach = (kernel_size - 1) * dilation
    before, after = pads
    if module.padding == "same":
        before, after = before + reach // 2, after + reach - reach // 2
    elif module.padding != "valid":
        before, after = before + int(module.padding[0]), after + int(module.padding[0])
    return spec.Conv1d(
        module.in_channels,
        module.out_channels,
        kernel_size,
        module.bias is not None,
        dilation=dilation,
        stride=module.stride[0],
        groups=module.groups,
        padding=None if (before, after) == (reach, 0) else (before, after),
    )


def _recurrent_layer(module: Any, input_size: int) -> Any:
    """Return one layer of an RNN, GRU or LSTM, or a cell."""
    options: dict[str, Any] = {}
    if isinstance(module, nn.RNN | nn.RNNCell):
        options["nonlinearity"] = module.nonlinearity
    if getattr(module, "bidirectional", False):
        options["direction"] = "bidirectional"
    if getattr(module, "proj_size", 0):
        options["proj_size"] = module.proj_size
    return _RECURRENT[type(module)](input_size, module.hidden_size, module.bias, **options)


def _recurrent_layers(module: nn.RNNBase, own: Arrays) -> list[tuple[Layer, Arrays]]:
    found: list[tuple[Layer, Arrays]] = []
    size = module.input_size
    for n in range(module.num_layers):
        layer = _recurrent_layer(module, size)
        found.append((layer, from_torch(own, n)))
        size = layer.output_size
    return found
