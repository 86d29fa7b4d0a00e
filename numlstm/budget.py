"""What a file may cost its reader: bytes of memory and seconds of work, from its size.

A file of a few bytes can name a tensor of gigabytes, or a layer that never ends. Every reader says
what it is about to take, before it takes it: `spend`. What is not read from a file spends nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from numbers import Real

from numlstm.errors import WeightsError

_OPERATIONS = 1e9  # simple ones, of numbers, that a slow core does in a second


class OverBudget(WeightsError):  # noqa: N818  # it is one, and says how
    """What a file takes is more than it may; nothing more of it is read."""


@dataclass(frozen=True)
class Budget:
    """What a file may cost before it is refused.

    Attributes
    ----------
    memory : float
        Bytes that are taken to read it, and by the model that is made of it.
    seconds : float
        Of work to read it, or of one step, on one slow core: counted, not measured.

    Raises
    ------
    ValueError
        If one is no number, or a NaN, within which anything would be.

    Examples
    --------
    >>> model = numlstm.load(path, budget=numlstm.Budget(memory=8e9, seconds=60))
    """

    memory: float
    seconds: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, Real) or not float(value) >= 0:
                raise ValueError(f"{name} is {value!r}, expected a number, 0 or more")

    @classmethod
    def of_file(cls, size: int) -> "Budget":
        """Return that of a file of so many bytes: 1 GB and 32 times its size; 4 s and 1 s a MB.

        Weights of int8 become four times as large in float32, and a matrix of few rows sixteen
        times as it is padded; tables of what is made of each token take up to 64 MB each, three
        times while they are made. No bundled model, in any dtype and folded, takes a third of it.
        """
        return cls(memory=2.0**30 + 32 * size, seconds=4 + size / 2**20)


class _Account:
    def __init__(self, size: int, budget: Budget | None) -> None:
        self.size, self.given = size, budget
        self.memory = self.seconds = 0.0

    @property
    def budget(self) -> Budget:
        return self.given or Budget.of_file(self.size)

    def spend(self, what: str, memory: float, operations: float) -> None:
        self.memory += memory
        self.seconds += operations / _OPERATIONS
        if self.memory > self.budget.memory or self.seconds > self.budget.seconds:
            raise OverBudget(
                f"{what} takes {_text(memory, operations / _OPERATIONS)}; with it the file, of "
                f"{self.size:,} bytes, takes {_text(self.memory, self.seconds)}, and may take "
                f"{_text(self.budget.memory, self.budget.seconds)}; if you trust it, give it more "
                "with budget=numlstm.Budget(memory=..., seconds=...)"
            )


_account: ContextVar[_Account | None] = ContextVar("account", default=None)


@contextmanager
def spending(size: int, budget: Budget | None = None) -> Iterator[None]:
    """Hold all that is read within to a budget, that of a file of `size` bytes if None.

    Within another one it does nothing: a file that is a part of another spends of that one's.
    """
    if budget is not None and not isinstance(budget, Budget):
        raise TypeError(f"budget is {type(budget).__name__}, expected numlstm.Budget")
    if _account.get() is not None:
        yield
        return
    token = _account.set(_Account(size, budget))
    try:
        yield
    finally:
        _account.reset(token)


def spend(what: str, memory: float = 0, operations: float = 0) -> None:
    """Say what is about to be taken, so many bytes and so many operations on numbers.

    Raises
    ------
    OverBudget
        If it is more than is left of the budget of `spending`.
    """
    account = _account.get()
    if account is not None:
        account.spend(what, memory, operations)


def grow(size: int) -> None:
    """Say that so many bytes of another file belong to the one that is read, and were seen."""
    account = _account.get()
    if account is not None:
        account.size += size


def _text(memory: float, seconds: float) -> str:
    return f"{memory / 1e6:,.1f} MB and {seconds:,.1f} s of work"
