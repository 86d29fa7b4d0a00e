"""`RecurrentPolicy`: observations in, actions out; environments are slots of a pool."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.model import Model
from numlstm.network.columns import slices
from numlstm.policy.spaces import Actions, Space
from numlstm.run.border import Floats, as_floats, refuse_masked, refuse_numbers, token_ids
from numlstm.run.pool import Pool
from numlstm.run.threads import Turn, in_turn

State = NDArray[np.float32]


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
        observation: ArrayLike | Mapping[str, ArrayLike],
        state: State | None = None,
        episode_start: ArrayLike | None = None,
        deterministic: bool = True,
    ) -> tuple[Actions, State]:
        """Return what to do, and the state with which to ask the next time.

        Parameters
        ----------
        observation : array of shape (input_size,) or (num_envs, input_size)
            Of one environment, or of several, or of `shape`; token ids, () or (num_envs,), if the
            model reads them; a dict of vectors by the names of `Model.inputs`.
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
        known, self._state = self._state, None  # until all is done
        self._go_to(state, len(xs), is_there=state is known)
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

    def _observations(
        self, observation: ArrayLike | Mapping[str, ArrayLike]
    ) -> tuple[NDArray[Any], bool]:
        """Return observations (num_envs, ...), and whether one had no axis of environments."""
        if isinstance(observation, Mapping):
            observation = self._joined(observation)
        given = observation if isinstance(observation, np.ndarray) else np.asarray(observation)
        refuse_masked("observation", given)
        is_one = given.ndim == len(self._shape)
        rows = given[None] if is_one else given
        if self._vocab_size is not None:
            return token_ids("observation", rows, self._vocab_size), is_one
        floats = as_floats("observation", rows, (-1, *self._shape))
        return floats.reshape(-1, self._input_size), is_one

    def _joined(self, observation: Mapping[str, ArrayLike]) -> Floats:
        """Return the vectors of an observation end to end, as the model reads them."""
        sizes = {
            name: place.stop - place.start for name, place in slices(self.model.inputs).items()
        }
        if not sizes:
            raise TypeError("the observation is a dict: join its arrays end to end")
        if observation.keys() != sizes.keys():
            raise ValueError(
                f"the observation has {', '.join(map(str, observation))}, the model reads "
                f"{', '.join(sizes)}"
            )
        vectors = [
            as_floats(name, observation[name], (*np.shape(observation[name])[:-1], size))
            for name, size in sizes.items()
        ]
        return np.concatenate(vectors, -1)

    def _go_to(self, state: State | None, num_envs: int, is_there: bool) -> None:
        """Put states into as many slots as there are environments, if they are not there."""
        if num_envs != len(self._slots):
            pool = self.model.pool(max(num_envs, 1))
            slots = np.array([pool.open() for _ in range(num_envs)], np.int64)
            self._pool, self._slots = pool, slots  # nothing is called, so nothing comes, between
            is_there = False
        if state is None:
            self._pool.reset(self._slots)
        elif not is_there:
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
