"""What comes from outside at run time, checked once, with errors that say what to do."""

import operator
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.kernels.plan import INPUT_NOT_FINITE, OUTPUT_NOT_FINITE, WRONG_ID
from numlstm.spec import Network

Floats = NDArray[np.float32]

FLOAT32, INT32 = np.dtype(np.float32), np.dtype(np.int32)

NO_MEMORY = np.zeros((0, 0), FLOAT32)  # the rows of a memory, of a network that reads none


def token_id(x: Any) -> int:
    """Return x, an integer of any kind but bool, as an int; its range is the caller's to check."""
    if isinstance(x, bool | np.bool_):
        raise TypeError(f"x is {x!r}, expected an integer token id")
    try:
        return operator.index(x)
    except TypeError:
        raise TypeError(f"x is {type(x).__name__}, expected an integer token id") from None


def token_ids(
    name: str, xs: ArrayLike, vocab_size: int, shape: tuple[int, ...] = (-1,)
) -> NDArray[np.int32]:
    """Return a copy of token ids as int32, of a shape, -1 for any length.

    What is checked is what is used then: nobody else can change it.
    """
    refuse_masked(name, xs)
    ids = np.array(xs)
    if ids.size == 0 and ids.ndim == len(shape):
        ids = ids.astype(np.int32)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name} is of {ids.dtype}, expected integer token ids")
    if not _fits(ids, shape):
        raise ValueError(f"{name} has shape {ids.shape}, model expects {_text(shape)} token ids")
    refuse_ids(name, ids, 0, vocab_size)
    return ids.astype(np.int32, copy=False)


def refuse_ids(name: str, ids: NDArray[Any], start: int, vocab_size: int) -> None:
    """Raise a ValueError if one is no token's; they begin at index ``start`` of what was given."""
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        first, *rest = (int(n) for n in np.argwhere(outside)[0])
        at = ", ".join(str(n) for n in (first + start, *rest))
        token = ids[(first, *rest)]
        raise ValueError(f"token id {token} at {name}[{at}] is outside 0 <= id < {vocab_size}")


def refuse_masked(name: str, x: Any) -> None:
    """Raise a TypeError if x is a masked array that hides a number, which would be read as any."""
    is_other = isinstance(x, np.ndarray) and type(x) is not np.ndarray
    if is_other and np.any(getattr(x, "mask", False)):
        raise TypeError(f"{name} has masked numbers: fill them, or leave out those steps")


def _fits(array: NDArray[Any], shape: tuple[int, ...]) -> bool:
    return array.ndim == len(shape) and all(
        size in (-1, found) for size, found in zip(shape, array.shape, strict=True)
    )


def _text(shape: tuple[int, ...]) -> str:
    """Return a shape as errors spell it: (T, 16)."""
    sizes = ["T" if size == -1 else str(size) for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def as_floats(name: str, x: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Return x as a contiguous float32 array of a shape, -1 for any length."""
    refuse_masked(name, x)
    try:
        array = np.asarray(x)
    except (RuntimeError, ValueError) as error:  # a tensor with a gradient, a ragged list
        raise TypeError(f"{name} cannot be read as an array: {error}") from error
    if not _fits(array, shape):
        raise ValueError(f"{name} has shape {array.shape}, model expects {_text(shape)}")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} is of {array.dtype}, expected float32")
    plain = type(array) is np.ndarray and array.dtype is FLOAT32
    if plain and array.flags.c_contiguous and array.flags.aligned:
        return array
    floats = np.empty(array.shape, FLOAT32)
    with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the kernel refuses
        floats[...] = array
    return floats


def finite_floats(name: str, x: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Return x as `as_floats` does, or raise a ValueError if a number is not finite."""
    floats = as_floats(name, x, shape)
    refuse_numbers(name, floats)
    return floats


def checked_rows(network: Network, xs: ArrayLike, name: str = "xs") -> NDArray[Any]:
    """Return xs as a network reads them: int32 ids (T,), or finite float32 (T, input_size)."""
    if network.vocab_size is None:
        return finite_floats(name, xs, (-1, network.input_size))
    return token_ids(name, xs, network.vocab_size)


def refuse_numbers(name: str, x: NDArray[Any], start: int = 0) -> None:
    """Raise a ValueError if one is not finite; they begin at index ``start`` of what was given."""
    is_finite = np.isfinite(x)
    if not is_finite.all():  # to look for them takes ten times as long
        bad = np.argwhere(~is_finite)
        at = ", ".join(str(index) for index in (bad[0][0] + start, *bad[0][1:]))
        raise ValueError(f"{name}[{at}] is {x[tuple(bad[0])]}, expected finite numbers")


def check_out(out: Any, shape: tuple[int, ...]) -> None:
    """Raise a TypeError or ValueError unless out is a float32 array that can be written."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is {type(out).__name__}, expected a float32 array")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, expected {shape}")
    if out.dtype != FLOAT32:
        raise TypeError(f"out is of {out.dtype}, expected float32")
    if not out.flags.carray:
        raise ValueError("out must be contiguous, aligned and writeable")


def for_kernel(
    xs: NDArray[Any], out: Floats | None, shape: tuple[int, ...]
) -> tuple[NDArray[Any], Floats]:
    """Return xs and what the kernel writes to: out, or a new array if it is none or no plain one.

    Raises a TypeError or ValueError unless out is a float32 array of the shape that can be written.
    """
    if out is None:
        return xs, np.empty(shape, FLOAT32)
    check_out(out, shape)
    if np.may_share_memory(xs, out):
        xs = xs.copy()
    # The kernel knows plain arrays, and one of the objects that mean float32.
    is_plain = type(out) is np.ndarray and out.dtype is FLOAT32
    return xs, out if is_plain else np.empty(shape, FLOAT32)


def filled(out: Floats | None, ys: Floats) -> Floats:
    """Return out with ys in it, or ys if there is no out."""
    if out is None:
        return ys
    if out is not ys:
        np.asarray(out)[...] = ys  # not by what a class of arrays makes of an assignment
    return out


def refuse_overflow(name: str, where: str = "") -> NoReturn:
    """Raise a ValueError: a number within the network is beyond float32, or is none."""
    raise ValueError(
        f"{name} made the network overflow{where}; scale the input as the model was trained on"
    )


def raise_status(
    name: str, x: NDArray[Any], start: int, status: int, vocab_size: int | None
) -> NoReturn:
    """Raise what a status of the kernel means; x begins at index ``start`` of what was given."""
    if status == INPUT_NOT_FINITE:
        refuse_numbers(name, x, start)
    if status == WRONG_ID and vocab_size is not None:
        refuse_ids(name, x, start, vocab_size)
    if status in (INPUT_NOT_FINITE, WRONG_ID):
        raise ValueError(f"{name} was changed by another thread while the network read it")
    if status == OUTPUT_NOT_FINITE:
        refuse_overflow(name)
    raise RuntimeError(f"the kernel refused {name}, status {status}; please report this")
