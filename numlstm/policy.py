"""Recurrent policies: what a robot or a game sees goes in, what it does comes out, step by step.

The words, and what they mean, are those of Stable-Baselines3 and sb3-contrib (`RecurrentPPO`).

    policy = RecurrentPolicy(model, Box([-1, -1], [1, 1]))
    action, state = policy.predict(observation, state, episode_start)
"""

import logging
import math
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.budget import Budget
from numlstm.load import checked
from numlstm.model import Model
from numlstm.network.columns import slices
from numlstm.run.border import (
    Floats,
    as_floats,
    finite_floats,
    refuse_masked,
    refuse_numbers,
    token_ids,
)
from numlstm.run.pool import Pool
from numlstm.run.threads import Turn, in_turn
from numlstm.spec import INPUT, Activation, Attention, BatchNorm, Layer, Network

if TYPE_CHECKING:
    from numlstm.convert.torch.sb3 import SavedPolicy

Actions = NDArray[Any]
State = NDArray[np.float32]

# The spaces of actions ----------------------------------------------------------------------------


class Space(Protocol):
    """What a policy may do, and how it is read from the numbers that the network gives.

    num_numbers   how many of them it takes
    """

    @property
    def num_numbers(self) -> int: ...

    def likeliest(self, ys: Floats) -> Actions:
        """Return the action of each row of ys (n, num_numbers) that is done without chance."""
        ...

    def drawn(self, ys: Floats, generator: np.random.Generator) -> Actions:
        """Return an action of each row, drawn from the distribution that it describes."""
        ...


@dataclass(frozen=True)
class Discrete:
    """One of n actions, by the logits of a categorical distribution: int64 (num_envs,)."""

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", _count("n", self.n))

    @property
    def num_numbers(self) -> int:
        return self.n

    def likeliest(self, ys: Floats) -> Actions:
        return np.asarray(ys.argmax(1))

    def drawn(self, ys: Floats, generator: np.random.Generator) -> Actions:
        # The largest of logits with Gumbel noise has the probabilities of their softmax.
        return np.asarray((ys + generator.gumbel(size=ys.shape)).argmax(1))


@dataclass(frozen=True)
class MultiDiscrete:
    """Several choices at once, one of each of nvec: int64 (num_envs, len(nvec))."""

    nvec: tuple[int, ...]

    def __init__(self, nvec: Sequence[int]) -> None:
        object.__setattr__(self, "nvec", tuple(_count("nvec", n) for n in nvec))
        if not self.nvec:
            raise ValueError("nvec is empty, expected how many actions each choice has")

    @property
    def num_numbers(self) -> int:
        return sum(self.nvec)

    def likeliest(self, ys: Floats) -> Actions:
        return np.stack([part.argmax(1) for part in self._parts(ys)], 1)

    def drawn(self, ys: Floats, generator: np.random.Generator) -> Actions:
        noisy = ys + generator.gumbel(size=ys.shape)
        return np.stack([part.argmax(1) for part in self._parts(noisy)], 1)

    def _parts(self, ys: NDArray[Any]) -> list[NDArray[Any]]:
        return np.split(ys, np.cumsum(self.nvec)[:-1], 1)


@dataclass(frozen=True)
class MultiBinary:
    """n switches, by the logits of each: int8 0 or 1 (num_envs, n)."""

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", _count("n", self.n))

    @property
    def num_numbers(self) -> int:
        return self.n

    def likeliest(self, ys: Floats) -> Actions:
        return (ys > 0).astype(np.int8)

    def drawn(self, ys: Floats, generator: np.random.Generator) -> Actions:
        return (ys + generator.logistic(size=ys.shape) > 0).astype(np.int8)


@dataclass(frozen=True, eq=False)
class Box:
    """Numbers between bounds, by the mean of a normal distribution: float32 (num_envs, *shape).

    low, high : array of the shape of an action
        The bounds; infinite ones are none.
    squash : bool
        False: actions beyond the bounds are clipped. True: they are tanh of what the network gives,
        stretched from [-1, 1] to the bounds (``squash_output`` of Stable-Baselines3).
    log_std : array of the shape of an action, optional
        The logarithm of the deviation, without which no action can be drawn.
    """

    low: Floats
    high: Floats
    squash: bool = False
    log_std: Floats | None = None

    def __init__(
        self,
        low: ArrayLike,
        high: ArrayLike,
        squash: bool = False,
        log_std: ArrayLike | None = None,
    ) -> None:
        bounds = {"low": _numbers("low", low), "high": _numbers("high", high)}
        shape = bounds["low"].shape
        if bounds["high"].shape != shape or not (bounds["low"] < bounds["high"]).all():
            raise ValueError("every number of low must be below that of high")
        if squash and not all(np.isfinite(bound).all() for bound in bounds.values()):
            raise ValueError("what is squashed needs finite bounds")
        deviation = None if log_std is None else finite_floats("log_std", log_std, shape).copy()
        for name, value in (*bounds.items(), ("squash", bool(squash)), ("log_std", deviation)):
            object.__setattr__(self, name, value)

    @property
    def num_numbers(self) -> int:
        return self.low.size

    def likeliest(self, ys: Floats) -> Actions:
        ys = ys.reshape(-1, *self.low.shape)
        if not self.squash:
            return ys.clip(self.low, self.high)
        share = (np.tanh(ys) + np.float32(1)) / np.float32(2)
        return (self.low + share * (self.high - self.low)).clip(self.low, self.high)

    def drawn(self, ys: Floats, generator: np.random.Generator) -> Actions:
        if self.log_std is None:
            raise ValueError("to draw actions needs Box(log_std=), or use deterministic=True")
        noise = generator.standard_normal(ys.shape, np.float32)
        deviation: Floats = np.exp(self.log_std).ravel()
        return self.likeliest(ys + deviation * noise)


def _count(name: str, n: Any) -> int:
    if isinstance(n, bool) or operator.index(n) < 1:
        raise ValueError(f"{name} is {n!r}, expected 1 action or more")
    return operator.index(n)


def _numbers(name: str, given: ArrayLike) -> Floats:
    """Return a copy of float32 numbers, of which some may be infinite, but none NaN."""
    numbers = as_floats(name, given, np.shape(given)).copy()
    if not numbers.ndim or not numbers.size or np.isnan(numbers).any():
        raise ValueError(f"{name} is {given!r}, expected one number or more, and none of them NaN")
    return numbers


# The policy ---------------------------------------------------------------------------------------


class RecurrentPolicy:
    """A network that acts: observations in, actions out, with a state from step to step.

    Environments that take their steps together read the weights once; each is a slot of a `Pool`.
    A policy belongs to one thread at a time.

    Parameters
    ----------
    model : Model
        A causal network; what it reads is an observation.
    actions : Discrete, MultiDiscrete, MultiBinary or Box
        What its answers mean.
    output : str, optional
        Which of `Model.outputs` the action is, of a network that gives a value beside it. Without
        it that which has as many numbers as the actions need, if there is but one.
    shape : tuple of int, optional
        Of an observation with more than one axis, whose numbers the model reads in their order.
    seed : int, optional
        Of the actions that are drawn.

    Attributes
    ----------
    model : Model
    actions : Space

    Raises
    ------
    TypeError, ValueError
        If the model reads later steps or a memory, or its answers do not fit the actions.

    Examples
    --------
    >>> policy = numlstm.policy.from_sb3("ppo_lstm.zip")
    >>> state, start = None, True
    >>> while True:
    ...     action, state = policy.predict(observation, state, start)
    ...     observation, _, start, *_ = env.step(action)
    """

    def __init__(
        self,
        model: Model,
        actions: Space,
        *,
        output: str | None = None,
        shape: Sequence[int] | None = None,
        seed: int | None = None,
    ) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"model is {type(model).__name__}, expected a Model")
        self.model = model
        own = () if model.vocab_size is not None else (model.input_size,)
        self._shape = own if shape is None else tuple(shape)
        if math.prod(self._shape) != math.prod(own):
            raise ValueError(f"shape is {self._shape}, the model reads {math.prod(own)} numbers")
        self.actions = actions
        self._columns = _columns(model, actions, output)
        self._vocab_size = model.vocab_size
        self._input_size = model.input_size
        self._generator = np.random.default_rng(seed)
        self._turn = Turn()
        self._pool: Pool = model.pool(1)
        self._slots = np.array([self._pool.open()])
        # What the pool holds after the last call, if that is known.
        self._state: State | None = None

    @in_turn
    def predict(
        self,
        observation: ArrayLike,
        state: State | None = None,
        episode_start: ArrayLike | None = None,
        deterministic: bool = True,
    ) -> tuple[Actions, State]:
        """Return what to do, and the state with which to ask the next time.

        Parameters
        ----------
        observation : array of shape (input_size,) or (num_envs, input_size)
            Of one environment, or of several, or of `shape`; token ids, () or (num_envs,), if the
            model reads them.
        state : array, optional
            What the call before returned; None begins anew. It is not changed, and can be used
            again.
        episode_start : bool, or array of shape (num_envs,), optional
            Which environments were reset: their part of the state is the initial one.
        deterministic : bool
            True: the likeliest action, or the mean. False: one that is drawn.

        Returns
        -------
        action : array
            As its space says; without the axis of environments where the observation has none.
        state : float32 array of shape (num_envs, num_kept)
            All that is kept from step to step; it is only read.

        Raises
        ------
        TypeError, ValueError
            If something is not as above, or the network overflows. The state is as it was.
        RuntimeError
            If another thread is in the policy.
        """
        xs, is_one = self._observations(observation)
        starts = None if episode_start is None else _flags(episode_start, len(xs))
        self._go_to(state, len(xs))
        self._state = None  # until all is done
        if starts is not None and starts.any():
            self._pool.reset(self._slots[starts])
        try:
            ys = self._pool.step(self._slots, xs)[:, self._columns]
        except ValueError:
            refuse_numbers("observation", xs)
            raise
        space = self.actions
        actions = space.likeliest(ys) if deterministic else space.drawn(ys, self._generator)
        after = self._pool.kept(self._slots)
        after.flags.writeable = False
        self._state = after[:]  # a view, which nobody can make writable again
        return (actions[0] if is_one else actions), self._state

    def _observations(self, observation: ArrayLike) -> tuple[NDArray[Any], bool]:
        """Return observations (num_envs, ...), and whether one had no axis of environments."""
        if isinstance(observation, dict):
            raise TypeError("the observation is a dict: join its arrays end to end")
        given = observation if isinstance(observation, np.ndarray) else np.asarray(observation)
        refuse_masked("observation", given)
        is_one = given.ndim == len(self._shape)
        rows = given[None] if is_one else given
        if self._vocab_size is not None:
            return token_ids("observation", rows, self._vocab_size), is_one
        floats = as_floats("observation", rows, (-1, *self._shape))
        return floats.reshape(-1, self._input_size), is_one

    def _go_to(self, state: State | None, num_envs: int) -> None:
        """Put states into as many slots as there are environments."""
        if num_envs != len(self._slots):
            self._state = None
            self._pool = self.model.pool(max(num_envs, 1))
            self._slots = np.array([self._pool.open() for _ in range(num_envs)], np.int64)
        if state is None:
            self._state = None
            self._pool.reset(self._slots)
        elif state is not self._state:
            self._state = None
            self._pool.restore(self._slots, state)

    def __repr__(self) -> str:
        return f"<numlstm.policy.RecurrentPolicy of {self.model!r}, {self.actions}>"


def _columns(model: Model, actions: Space, output: str | None) -> slice:
    """Return where in the answers of a model the numbers of the action are."""
    size = actions.num_numbers
    places = slices(model.outputs) or {"": slice(0, model.output_size)}
    fits = {name: place for name, place in places.items() if place.stop - place.start == size}
    if output is not None:
        fits = {name: place for name, place in fits.items() if name == output}
    if len(fits) == 1:
        return next(iter(fits.values()))
    have = ", ".join(f"{name} {p.stop - p.start}".strip() for name, p in places.items())
    which = "the output" if output is None else f"output {output!r}"
    raise ValueError(
        f"{actions} needs {size} numbers; {which} is to give them, and the model has {have}"
        + ("; choose one by output=" if len(fits) > 1 else "")
    )


def _flags(episode_start: ArrayLike, num_envs: int) -> NDArray[np.bool_]:
    """Return which environments begin; what frameworks give is bool, or 0.0 and 1.0."""
    given = np.asarray(episode_start)
    is_bool = given.dtype.kind == "b"
    if not is_bool and not (given.dtype.kind in "fiu" and ((given == 0) | (given == 1)).all()):
        raise TypeError(f"episode_start is {given.dtype} {given}, expected True or False of each")
    if given.ndim == 0:
        given = given[None]
    if given.shape != (num_envs,):
        raise ValueError(f"episode_start has shape {given.shape}, expected ({num_envs},)")
    return given if is_bool else given.astype(np.bool_)


# Policies of others -------------------------------------------------------------------------------


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
        The .zip of a policy of observations that are vectors or numbers (``MlpLstmPolicy``). Any
        space of actions is read, with its bounds and whether they are squashed.
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
    return Box(space.low, space.high, saved.squash, saved.log_std)


# Observations that are normalised -----------------------------------------------------------------


def normalized(
    model: Model, mean: ArrayLike, var: ArrayLike, clip: float = 10.0, eps: float = 1e-8
) -> Model:
    """Return a model that normalises what it reads first: clip((x - mean) / sqrt(var + eps)).

    It is what `VecNormalize` of Stable-Baselines3 does with observations, as two layers of the
    network: saved with it, and run by the same compiled call.

    Parameters
    ----------
    model : Model
        A network that reads numbers.
    mean, var : array of shape (input_size,)
        Of the observations of training, ``obs_rms.mean`` and ``obs_rms.var``.
    clip : float
        ``clip_obs``: what the result is bounded by.
    eps : float
        ``epsilon``.

    Raises
    ------
    TypeError, ValueError
        If these are not of that shape, not finite, or negative.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model is {type(model).__name__}, expected a Model")
    if model.vocab_size is not None:
        raise ValueError("the model reads token ids, which are not normalised")
    size = model.input_size
    variance = finite_floats("var", var, (size,))
    if (variance < 0).any() or not clip > 0 or not np.isfinite(clip):
        raise ValueError("var is negative, or clip is not a finite number above 0")
    own = {"running_mean": finite_floats("mean", mean, (size,)), "running_var": variance}
    before: tuple[Layer, ...] = (
        BatchNorm(size, eps, weight=False, bias=False),
        Activation(size, f"clip({-float(clip)!r}, {float(clip)!r})", name=_NORMALIZED),
    )
    weights = model.weights
    network = Network((*before, *(_reading_it(layer) for layer in weights.network.layers)))
    names = [prefix for prefix, _ in network.named_layers()]
    moved = zip(weights.network.named_layers(), names[len(before) :], strict=True)
    tensors = {
        f"{new}.{name}": weights.tensors[f"{old}.{name}"]
        for (old, layer), new in moved
        for name in layer.tensors()
    }
    tensors |= {f"{names[0]}.{name}": tensor for name, tensor in own.items()}
    return Model(replace(weights, network=network, tensors=tensors, probes=()))


_NORMALIZED = "normalized observation"


def _reading_it(layer: Layer) -> Layer:
    """Return a layer that reads the normalised observation where it read the input."""
    if isinstance(layer, Attention) and layer.memory == INPUT:
        layer = replace(layer, memory=_NORMALIZED)
    inputs = tuple(_NORMALIZED if name == INPUT else name for name in layer.inputs)
    return replace(layer, inputs=inputs)
