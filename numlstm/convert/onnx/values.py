"""Tensors that depend on the input of a graph: which number of which layer each element is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from numlstm.budget import spend
from numlstm.convert.assembly import Array, Refused

Ids: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that depends on the input.

    ids      of one step: the numbers of layers, in the shape of the tensor without its time axis
    time     where in the shape of the tensor its time axis is; None for one row
    length   of the time axis
    pads     steps of zeros before and after, which only a convolution reads; less than 0 are steps
             left out at an end
    """

    ids: Ids
    time: int | None
    length: int = 1
    pads: tuple[int, int] = (0, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.restored((self.length + sum(self.pads),))

    def check_steps(self) -> None:
        """Raise unless these are all the steps, and no others."""
        if min(self.pads) < 0:
            first, last = -self.pads[0], self.length + self.pads[1]
            raise Refused(
                f"it reads steps {first} to {last} of {self.length}, which no layer gives",
                "known are all, the first, the last, and zeros before all but the last ones",
            )
        if any(self.pads):
            raise Refused(
                "it reads steps of padding, which only Conv may",
                "pad right before the convolution, or before the network",
            )

    def restored(self, steps: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape with ``steps`` as its time axis."""
        shape = self.ids.shape
        return shape if self.time is None else (*shape[: self.time], *steps, *shape[self.time :])

    def whole(self) -> Ids:
        """Return the ids with a time axis of one step."""
        return self.ids.reshape(self.restored((1,)))

    def widened(self, rank: int) -> tuple[Ids, int | None]:
        """Return `whole` with axes of one before it, up to a rank, and where time is then."""
        lead = rank - len(self.shape)
        time = None if self.time is None else self.time + lead
        return self.whole().reshape((1,) * lead + self.whole().shape), time

    def moved(self, whole: Ids, time: int | None) -> "Value":
        """Return this tensor with other ids, which still have a time axis of one step, there."""
        ids = whole if time is None else whole.reshape(np.delete(whole.shape, time))
        return Value(ids, time, self.length, self.pads)


def of_each_step(value: Value, constant: Array) -> Array:
    """Return a constant as it is at each step, if it is the same at all of them."""
    if value.time is None:
        return constant
    axis = value.time - len(value.shape)
    if constant.ndim < -axis or constant.shape[axis] == 1:
        return constant
    one = constant.take([0], axis)
    if not (constant == one).all():
        raise Refused(
            "its constant differs from step to step, which no layer knows",
            "leave positions out of the graph, or give them as numbers of the input",
        )
    return one


def roomy(label: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape that ids are about to have, after the room for them is spent."""
    shape = tuple(shape)
    spend(label, 8 * math.prod(shape), math.prod(shape))
    return shape
