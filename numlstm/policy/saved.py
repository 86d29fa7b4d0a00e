"""Policies that other packages saved."""

import logging
import os
from typing import TYPE_CHECKING

from numlstm.budget import Budget
from numlstm.load import checked
from numlstm.policy.normalizing import normalized
from numlstm.policy.recurrent import RecurrentPolicy
from numlstm.policy.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space

if TYPE_CHECKING:
    from numlstm.convert.torch.sb3 import SavedPolicy


def from_sb3(
    path: str | os.PathLike[str],
    *,
    normalizer: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    budget: Budget | None = None,
) -> RecurrentPolicy:
    """Return the policy that `RecurrentPPO.save` of sb3-contrib wrote, held to PyTorch.

    The file is read as data: no object in it is unpickled, neither package is needed.

    Parameters
    ----------
    path : str or path
        The .zip of a policy of observations that are vectors or numbers (``MlpLstmPolicy``), or
        dicts of vectors (``MultiInputLstmPolicy``). Any space of actions is read, with its bounds
        and whether they are squashed.
    normalizer : str or path, optional
        What `VecNormalize.save` wrote: observations are normalised by it, within the network.
    seed : int, optional
        Of the actions that are drawn.
    budget : Budget, optional
        What the file may cost, in bytes and seconds; without it by its size.

    Raises
    ------
    WeightsError
        If it is damaged, no recurrent policy, or one whose features are more than the observation.
    ImportError
        If PyTorch is not installed.
    """
    try:
        from numlstm.convert.torch import sb3
    except ModuleNotFoundError as error:
        raise ImportError(
            f"reading a policy needs {error.name}; install it with: pip install 'numlstm[torch]'"
        ) from error
    saved = sb3.convert(path, normalizer=normalizer, budget=budget)
    for note in saved.notes:
        logging.getLogger("numlstm").warning("%s: %s", os.fspath(path), note)
    model = checked(saved.actor)
    if saved.normalizer is not None:
        own = saved.normalizer
        model = normalized(model, own.mean.ravel(), own.var.ravel(), own.clip, own.epsilon)
    shape = saved.observations.shape
    return RecurrentPolicy(model, _space_of(saved), shape=shape, seed=seed)


def _space_of(saved: "SavedPolicy") -> Space:
    space = saved.actions
    match space.kind:
        case "Discrete":
            return Discrete(space.sizes[0])
        case "MultiDiscrete":
            return MultiDiscrete(space.sizes)
        case "MultiBinary":
            return MultiBinary(saved.actor.network.output_size)
    assert space.low is not None
    assert space.high is not None
    deviation = None if saved.log_std is None else saved.log_std.reshape(space.shape)
    return Box(space.low, space.high, saved.squash, deviation)
