"""What a policy may do, and how actions are read from the numbers that its network gives.

The spaces are those of Gymnasium, their distributions those of Stable-Baselines3.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.run.border import Floats, as_floats, finite_floats

Actions = NDArray[Any]


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
class _Counted:
    """A space that reads n logits."""

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", _count("n", self.n))

    @property
    def num_numbers(self) -> int:
        return self.n


class Discrete(_Counted):
    """One of n actions, by the logits of a categorical distribution: int64 (num_envs,)."""

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


class MultiBinary(_Counted):
    """n switches, by the logits of each: int8 0 or 1 (num_envs, n)."""

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
