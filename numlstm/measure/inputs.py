"""Inputs that are the same on every machine, made by integers alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.model import Model


def inputs(model: Model, count: int, start: int = 0) -> NDArray[Any]:
    """Return rows that a model reads: numbers in [-1, 1), or token ids.

    The n-th number of all is made of n by the finaliser of MurmurHash3 (Appleby 2011), a bijection
    of 32 bits: its upper 24 bits are a number or, modulo the vocabulary, an id.

    Parameters
    ----------
    model : Model
        Who reads them.
    count : int
        How many rows.
    start : int
        The number of the first row.

    Returns
    -------
    array of shape (count,) of int32, or (count, input_size) of float32
    """
    size = 1 if model.vocab_size is not None else model.input_size
    z = np.arange(start * size, (start + count) * size, dtype=np.uint32) * np.uint32(0x9E3779B9)
    z ^= z >> np.uint32(16)
    z *= np.uint32(0x85EBCA6B)
    z ^= z >> np.uint32(13)
    z *= np.uint32(0xC2B2AE35)
    z ^= z >> np.uint32(16)
    upper = z >> np.uint32(8)
    if model.vocab_size is not None:
        return (upper % np.uint32(model.vocab_size)).astype(np.int32)
    numbers = upper.astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return numbers.reshape(count, size)


def single(xs: NDArray[Any]) -> list[Any]:
    """Return rows one by one as a stream takes them: an int each, or an array of numbers."""
    return [int(x) for x in xs] if xs.ndim == 1 else list(xs)
