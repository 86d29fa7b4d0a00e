"""Names of the columns of a row, where the source of a network has several inputs or outputs.

A network reads one row per step and answers one. What its source reads, or gives, apart stands in
them end to end: an input of the whole sequence is repeated in every row.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.errors import shortened


class Columns(NamedTuple):
    """Some neighbouring columns of a row: ``size`` of them, by the name that their source has."""

    name: str
    size: int


def read_columns(found: Any) -> tuple[Columns, ...]:
    """Return what JSON says columns are; what they are not stays as it is, and is no `Columns`."""
    if not isinstance(found, list | tuple):
        return (found,)
    return tuple(
        Columns(*pair) if isinstance(pair, list | tuple) and len(pair) == 2 else pair
        for pair in found
    )


def problems_of(what: str, columns: Sequence[Any], size: int) -> Iterator[str]:
    """Yield what is wrong with the names of all columns of rows of a size."""
    for column in columns:
        if not isinstance(column, Columns) or not _fits(column):
            yield f"{what} {shortened(repr(column))}, expected a name and a size"
            return
    names = [column.name for column in columns]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{what} has {name!r} {names.count(name)} times"
    total = sum(column.size for column in columns)
    if columns and total != size:
        yield f"{what} has {total} numbers together, expected {size}"


def _fits(column: Columns) -> bool:
    name, size = column
    return isinstance(name, str) and bool(name) and type(size) is int and size > 0


def slices(columns: Sequence[Columns]) -> dict[str, slice]:
    """Return which columns of a row those of each name are."""
    ends = np.cumsum([column.size for column in columns]).tolist()
    return {c.name: slice(end - c.size, end) for c, end in zip(columns, ends, strict=True)}


def joined(columns: Sequence[Columns], arrays: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
    """Return rows (T, size) of arrays by name, each (T, size), or (size,) for all rows.

    Raises
    ------
    ValueError
        If they are not those that the columns name, or of other shapes. Without any (T, size) the
        row is one, (size,).
    """
    names = [column.name for column in columns]
    if set(arrays) != set(names):
        found = ", ".join(arrays) or "nothing"
        raise ValueError(f"{found}, expected {', '.join(names) or 'no arrays: inputs has none'}")
    parts = {name: np.asarray(arrays[name], np.float32) for name in names}
    for name, size in columns:
        part = parts[name]
        if part.ndim not in (1, 2) or part.shape[-1] != size:
            raise ValueError(f"{name} has shape {part.shape}, expected (T, {size}) or ({size},)")
    lengths = {name: len(part) for name, part in parts.items() if part.ndim == 2}
    if len(set(lengths.values())) > 1:
        steps = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"the arrays have different numbers of steps: {steps}")
    lead = tuple(lengths.values())[:1]
    every = [np.broadcast_to(parts[name], (*lead, size)) for name, size in columns]
    return np.concatenate(every, -1)
