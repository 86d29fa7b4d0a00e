"""What `RecurrentPPO.save` of sb3-contrib wrote -> the networks of the policy, and its spaces.

The file is a zip with ``policy.pth``, a state dict, and ``data``, JSON in which objects of Python
are pickles. These are not looked at: beside each stands what it is as text, from which the spaces
are read; sizes are those of the tensors.

    actor    observation, lstm_actor, mlp_extractor.policy_net, action_net
    critic   observation, lstm_critic, mlp_extractor.value_net, value_net; in place of lstm_critic
             may stand critic, a Linear, or the lstm of the actor
"""

import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from numlstm.budget import Budget, spend, spending
from numlstm.convert.assembly import Refused, reading
from numlstm.convert.torch import convert as convert_modules
from numlstm.convert.torch.files import state_dict_of
from numlstm.convert.torch.modules import Step
from numlstm.convert.torch.vec_normalize import Normalizer, read_normalizer
from numlstm.convert.torch.words import steps_of_state_dict
from numlstm.convert.zips import unpacked
from numlstm.errors import first_of
from numlstm.spec import Columns, Weights, WeightsError
from numlstm.strict_json import read_json

_ACTIVATION = re.compile(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>")
_ACTIVATIONS = (
    nn.Tanh, nn.ReLU, nn.ELU, nn.LeakyReLU, nn.SELU, nn.SiLU, nn.GELU, nn.Mish, nn.Sigmoid,
    nn.Softplus, nn.Softsign, nn.Hardtanh, nn.ReLU6, nn.CELU, nn.LogSigmoid,
)  # fmt: skip
_INSTEAD = (
    "run policy.features_extractor beside it, and convert what reads the features: "
    "from_torch(policy.lstm_actor, policy.mlp_extractor.policy_net, policy.action_net)"
)
_PART = re.compile(r"'([^'\\]+)'(?::|,)\s*Box\([^'()]*\((\d+),\),\s*\w+\)")
_BETWEEN_PARTS = re.compile(r"(OrderedDict)?[\s{}\[\](),]*")


@dataclass(frozen=True, eq=False)
class SavedSpace:
    """What an observation or an action is, as Gymnasium has it.

    kind        "Box", "Discrete", "MultiDiscrete", "MultiBinary", or "Dict" of observations
    shape       of one observation or action
    sizes       how many values each choice has: (n,) of a Discrete, nvec of a MultiDiscrete
    low, high   of a Box of actions, float32, of its shape
    parts       names and sizes of the vectors of a Dict, in the order in which they are joined
    """

    kind: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...] = ()
    low: NDArray[np.float32] | None = None
    high: NDArray[np.float32] | None = None
    parts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, eq=False)
class SavedPolicy:
    """A policy of sb3-contrib, as data.

    actor         observation (or its number, of a Discrete) -> logits, or the mean of a Box
    critic        observation -> value
    squash        whether actions are tanh of the mean, stretched to low and high; else clipped
    log_std       (numbers of the action,), of a Box without state-dependent noise
    activation    between the layers of the two MLPs, "Tanh"
    normalizer    of what `VecNormalize.save` wrote, if that was given
    notes         what was assumed, as the file does not say it
    """

    actor: Weights
    critic: Weights
    observations: SavedSpace
    actions: SavedSpace
    squash: bool
    log_std: NDArray[np.float32] | None
    activation: str
    normalizer: Normalizer | None
    notes: tuple[str, ...] = ()


def convert(
    path: str | os.PathLike[str],
    *,
    normalizer: str | os.PathLike[str] | None = None,
    budget: Budget | None = None,
) -> SavedPolicy:
    """Read the .zip of a policy, and the .pkl of its `VecNormalize`, as data.

    Raises
    ------
    WeightsError
        If it is damaged, no recurrent policy, or one whose features are more than the observation.
    """
    name = os.fspath(path)
    with spending(Path(path).stat().st_size, budget):
        with reading("cannot be read as what RecurrentPPO.save writes", name):
            policy = _policy(Path(path))
            if normalizer is None:
                return policy
        found = read_normalizer(normalizer)
        if found.mean.shape != policy.observations.shape:
            raise WeightsError(
                f"{os.fspath(normalizer)}: normalises observations of {found.mean.shape}, those of "
                f"the policy are {policy.observations.shape}"
            )
        return SavedPolicy(**{**vars(policy), "normalizer": found})


def _policy(path: Path) -> SavedPolicy:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "policy.pth" not in names or "data" not in names:
            raise WeightsError(
                "is no policy of Stable-Baselines3, which holds policy.pth and data; here are "
                f"{first_of(names) or 'none'}"
            )
        data = read_json(unpacked(archive, "data").getvalue())
        state = state_dict_of(unpacked(archive, "policy.pth"))
    if not isinstance(data, Mapping):
        raise WeightsError(f"its data is {type(data).__name__}, expected an object")
    if not any(name.startswith("lstm_actor.") for name in state):
        raise WeightsError(
            "is no recurrent policy: it holds no lstm_actor; RecurrentPPO of sb3-contrib has one"
        )
    given = data.get("policy_kwargs")
    options = given if isinstance(given, Mapping) else {}
    activation, notes = _activation(options)
    observations, actions = (
        _space(name, data.get(name)) for name in ("observation_space", "action_space")
    )
    log_std = state.pop("log_std", None)
    has_std = actions.kind == "Box" and log_std is not None and log_std.dim() == 1
    parts = _Parts(state, observations, activation)
    return SavedPolicy(
        actor=parts.actor(),
        critic=parts.critic(),
        observations=observations,
        actions=actions,
        squash=options.get("squash_output") is True and actions.kind == "Box",
        log_std=log_std.float().numpy().copy() if has_std else None,
        activation=activation.__name__,
        normalizer=None,
        notes=notes,
    )


# Networks -----------------------------------------------------------------------------------------


class _Parts:
    """The tensors of a policy, and the networks that are made of them.

    Raises
    ------
    WeightsError
        If there are tensors that a policy of observations that are vectors or numbers has not.
    """

    def __init__(
        self, state: dict[str, torch.Tensor], observations: SavedSpace, activation: type[nn.Module]
    ) -> None:
        self.state, self.observations, self.activation = state, observations, activation
        known = ("lstm_actor", "lstm_critic", "critic", "action_net", "value_net", "mlp_extractor")
        strange = [name for name in state if name.partition(".")[0] not in known]
        if strange:
            raise Refused(
                f"has tensors that an MlpLstmPolicy has not: {first_of(strange)}",
                _INSTEAD,
            )

    def actor(self) -> Weights:
        found = self._weights("lstm_actor", "policy_net", "action_net")
        parts = self.observations.parts
        if parts and self.observations.shape != (found.network.input_size,):
            raise Refused(
                f"it reads {found.network.input_size} features, its observations are "
                f"{dict(parts)} numbers",
                _INSTEAD,
            )
        return replace(found, inputs=tuple(Columns(*part) for part in parts))

    def critic(self) -> Weights:
        own = (name for name in ("lstm_critic", "critic") if self._tensors(name))
        return self._weights(next(own, "lstm_actor"), "value_net", "value_net")

    def _weights(self, first: str, net: str, last: str) -> Weights:
        kind = "Linear" if first == "critic" else "LSTM"
        steps = [*self._one_hot(), *self._steps(first, kind)]
        for part in ("shared_net", net):  # the first of Stable-Baselines3 before 1.8
            for name in self._linear(f"mlp_extractor.{part}"):
                steps += [*self._steps(name, "Linear"), self.activation()]
        return convert_modules([*steps, *self._steps(last, "Linear")])

    def _one_hot(self) -> Iterator[nn.Module]:
        """Yield what makes features of an observation, if it is a number."""
        space = self.observations
        if space.kind == "Discrete":
            spend("the one-hot rows of observations", 4 * space.sizes[0] ** 2, space.sizes[0] ** 2)
            yield nn.Embedding.from_pretrained(torch.eye(space.sizes[0]))

    def _linear(self, prefix: str) -> list[str]:
        """Return the names of the layers of an nn.Sequential in their order."""
        own = self._tensors(prefix)
        numbers = {int(name.removeprefix(f"{prefix}.").partition(".")[0]) for name in own}
        return [f"{prefix}.{number}" for number in sorted(numbers)]

    def _steps(self, prefix: str, kind: str) -> list[Step]:
        return steps_of_state_dict(self._tensors(prefix), f"{prefix}:{kind}")

    def _tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        return {name: t for name, t in self.state.items() if name.startswith(f"{prefix}.")}


# What the data says -------------------------------------------------------------------------------


def _activation(options: Mapping[str, Any]) -> tuple[type[nn.Module], tuple[str, ...]]:
    """Return the activation of the MLPs, and what was assumed."""
    if "activation_fn" not in options:
        if ":serialized:" in options and len(options) <= 2:
            return nn.Tanh, ("the activation is not said as text; Tanh, the default, is assumed",)
        return nn.Tanh, ()
    text = str(options["activation_fn"])
    match = _ACTIVATION.fullmatch(text)
    known = {kind.__name__: kind for kind in _ACTIVATIONS}
    if match is None or match[1] not in known:
        raise Refused(
            f"activation_fn is {text:.100}, expected one of torch.nn: {', '.join(known)}",
            "convert its parts with from_torch",
        )
    return known[match[1]], ()


def _space(name: str, data: Any) -> SavedSpace:
    if not isinstance(data, Mapping) or not isinstance(data.get(":type:"), str):
        raise WeightsError(f"its {name} is not said")
    kind = data[":type:"].removesuffix("'>").rpartition(".")[2]
    shape = data.get("_shape", data.get("shape")) or ()
    if not isinstance(shape, list | tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise WeightsError(f"its {name} has the shape {shape!s:.100}")
    shape = tuple(shape)
    match kind:
        case "Discrete":
            return SavedSpace(kind, (), _whole(name, data.get("n"), (1,)))
        case "MultiDiscrete" if name == "action_space":
            return SavedSpace(kind, shape, _whole(name, data.get("nvec"), shape))
        case "MultiBinary":
            return SavedSpace(kind, shape)
        case "Box" if name == "observation_space":
            if len(shape) == 3 and data.get("dtype") == "uint8":
                raise Refused(
                    f"its observations are images {shape}, which other layers read first", _INSTEAD
                )
            return SavedSpace(kind, shape)  # its bounds bound nothing, and are cut short if many
        case "Box":
            low, high = (
                _bounds(f"{side} of {name}", data.get(side), shape) for side in ("low", "high")
            )
            return SavedSpace(kind, shape, low=low, high=high)
        case "Dict" if name == "observation_space":
            parts = _parts(data.get("spaces"))
            return SavedSpace(kind, (sum(size for _, size in parts),), parts=parts)
    raise Refused(
        f"{name} is a {kind:.60}, expected Box, Discrete"
        f"{', MultiDiscrete' if name == 'action_space' else ''} or MultiBinary",
        _INSTEAD,
    )


def _parts(text: Any) -> tuple[tuple[str, int], ...]:
    """Return names and sizes of a Dict as text, "{'a': Box(-1.0, 1.0, (2,), float32), ...}"."""
    found = tuple((name, int(size)) for name, size in _PART.findall(str(text)))
    if not found or not _BETWEEN_PARTS.fullmatch(_PART.sub("", str(text))):
        raise Refused(
            f"observation_space is a Dict of {text!s:.200}, expected a Box with one axis for each",
            _INSTEAD,
        )
    return found


def _numbers(name: str, text: Any, shape: tuple[int, ...]) -> list[float]:
    """Return the numbers of an array as text, "[ 1. -2.]"."""
    try:
        found = [float(number) for number in re.findall(r"[^\s\[\],]+", str(text))]
    except ValueError:  # "..." of more than 1,000
        found = []
    if len(found) != math.prod(shape):
        raise WeightsError(f"{name} is {text!s:.60}, expected {shape} numbers")
    return found


def _whole(name: str, text: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    found = _numbers(name, text, shape)
    if not all(number.is_integer() and 1 <= number < 2**31 for number in found):
        raise WeightsError(f"{name} is {text!s:.60}, expected numbers from 1 up")
    return tuple(int(number) for number in found)


def _bounds(name: str, text: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.array(_numbers(name, text, shape), np.float32).reshape(shape)
