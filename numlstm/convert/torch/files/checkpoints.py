"""A checkpoint, a dict of whatever training keeps -> the state dict in it that is meant."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from numlstm.budget import spend
from numlstm.convert.assembly import Refused
from numlstm.convert.torch.leftover import say
from numlstm.convert.torch.names import is_of_training
from numlstm.convert.torch.packed import is_packed, is_tensor
from numlstm.errors import first_of

Fit: TypeAlias = Callable[[Collection[str]], bool]  # whether a description goes with names
Fits: TypeAlias = Sequence[Fit]  # the first that any names pass is the one
Part: TypeAlias = tuple[str, dict[str, Any]]  # a state dict, and where it is: "model.state"

_DEEPEST = 8  # dicts within dicts


def state_dict_in(data: Any, key: str | None, fits: Fits) -> dict[str, Any] | None:
    """Return the names and values of the state dict that is meant; None without any.

    That is the one of which the names fit, or the only one. Where the dicts of several modules
    stand side by side, their names are joined with dots.

    Parameters
    ----------
    key : str, optional
        Where it is: keys joined with dots. Within it the same is done.

    Raises
    ------
    WeightsError
        If there are several that may be meant, or none under this key.
    """
    start = ""
    if key is not None:
        found = _at(data, key)
        if found is None:
            raise Refused(f"holds no {key!r}", _hint(data, key))
        start, data = key, found
    if not isinstance(data, Mapping):
        return None
    ways = (_fitting(start, data, fit) for fit in fits)
    found = next(filter(None, ways), None) or _named_parts(start, data)
    if len(found) > 1:
        parts = first_of(f"{at!r} ({', '.join(list(names)[:3])}, ...)" for at, names in found)
        raise Refused(f"holds several state dicts: {parts}", f"choose one, as key={found[0][0]!r}")
    if not found:
        return None
    ((at, values),) = found
    if at and key is None:
        say(f"the state dict is that under {at!r}")
    return values


def _has_tensors(values: Mapping[str, Any]) -> bool:
    return any(
        is_tensor(value) or isinstance(value, np.ndarray) or is_packed(name, value)
        for name, value in values.items()
    )


def _fitting(at: str, data: Mapping[Any, Any], fits: Fit) -> list[Part]:
    """Return the smallest parts whose names fit."""
    own = _own(data)
    if _has_tensors(own) and fits(own):
        return [(at, own)]
    below = [part for key, inner in _inner(at, data) for part in _fitting(key, inner, fits)]
    if below:
        return below
    joined = _joined(data)
    return [(at, joined)] if _has_tensors(joined) and fits(joined) else []


def _named_parts(at: str, data: Mapping[Any, Any]) -> list[Part]:
    """Return all parts with tensors in them."""
    own = _own(data)
    found = [(at, own)] if _has_tensors(own) else []
    return found + [part for key, inner in _inner(at, data) for part in _named_parts(key, inner)]


def _own(data: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what has a name and is no dict."""
    spend("the names of the file", 100 * len(data), 1e4 * len(data))
    return {
        name: value
        for name, value in data.items()
        if isinstance(name, str) and not isinstance(value, Mapping)
    }


def _inner(at: str, data: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield the dicts within one, by their keys from the outermost; no optimizer and the like."""
    if at.count(".") >= _DEEPEST:
        return
    for name, value in data.items():
        if isinstance(name, str) and isinstance(value, Mapping) and not is_of_training(name):
            yield f"{at}.{name}" if at else name, value


def _joined(data: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """Return what is within, however deep, by names joined with dots."""
    found = _own(data)
    if depth < _DEEPEST:
        for at, inner in _inner("", data):
            below = _joined(inner, depth + 1)
            spend("the names of the file", (100 + len(at)) * len(below), 1e3 * len(below))
            found |= {f"{at}.{name}": value for name, value in below.items()}
    return found


def _at(data: Any, key: str) -> Any:
    """Return what is in dicts under keys joined with dots, which may have dots; None if nothing."""
    if isinstance(data, Mapping):
        if key in data:
            return data[key]
        ends = [n for n, character in enumerate(key) if character == "."]
        for end in reversed(ends):
            if isinstance(data.get(key[:end]), Mapping):
                return _at(data[key[:end]], key[end + 1 :])
    return None


def _hint(data: Any, key: str) -> str:
    names = [name for name in data if isinstance(name, str)] if isinstance(data, Mapping) else []
    if any(name.startswith(f"{key}.") for name in names):
        return f"its names begin with it: say prefix={key!r}"
    return f"it holds {first_of(names)}" if names else ""
