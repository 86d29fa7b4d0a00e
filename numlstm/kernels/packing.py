"""How weights lie in `params`: plain NumPy, for those who write them and the kernels that read.

A matrix (N, K), N a multiple of 16, is cut into panels of 4 vectors (64 outputs; the last ones of 2
and 1), or where the level says so of one (`cpu.Floats`), and stored as
``[panel][word][vector][16]``. A word of 32 bits holds the weights of an output for

    1 input    float32
    2 inputs   bfloat16, the earlier one in the low half
    4 inputs   int8, the earliest one in the low byte; or as the level wants them (below)

`tiles.py` reads the first two, `integers.py` the third, whose scales and sums lie apart.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.kernels.cpu import LEVEL
from numlstm.kernels.plan import LANES

Floats = NDArray[np.float32]

PANEL = 4  # vectors
FLOAT_PANEL = LEVEL.floats.panel


def padded(size: int) -> int:
    """Return a size rounded up to a multiple of 16."""
    return -(-size // LANES) * LANES


def pad_rows(weight: NDArray[Any]) -> NDArray[Any]:
    """Return (N, K) or (N,) with N padded to a multiple of 16 by zeros."""
    missing = padded(len(weight)) - len(weight)
    return np.pad(weight, [(0, missing)] + [(0, 0)] * (weight.ndim - 1)) if missing else weight


# Panels -------------------------------------------------------------------------------------------


def as_words(values: NDArray[Any]) -> Floats:
    """Return numbers (N, K) of 8, 16 or 32 bits as words of 32 (N, number of words)."""
    per_word = 4 // values.itemsize
    if values.shape[1] % per_word == 0:
        return np.ascontiguousarray(values).view(np.float32)
    whole = np.zeros((len(values), -(-values.shape[1] // per_word) * per_word), values.dtype)
    whole[:, : values.shape[1]] = values
    return whole.view(np.float32)


def panel_widths(num_vectors: int, widest: int = PANEL) -> list[int]:
    """Return the widths of the panels, in vectors, that the kernels read; widest is 4, 2 or 1."""
    rest = num_vectors % widest
    return [widest] * (num_vectors // widest) + [width for width in (2, 1) if rest & width]


def pack(words: Floats, widths: list[int], out: Floats | None = None) -> Floats:
    """Return words (N, number of words) in panels of the given widths, flat."""
    out = np.empty(words.size, np.float32) if out is None else out
    at, num_words = 0, words.shape[1]
    while widths:
        # Equal panels are moved together.
        width = widths[0]
        count = next((n for n, other in enumerate(widths) if other != width), len(widths))
        size = width * LANES
        rows = words[at : at + count * size].reshape(count, size, num_words)
        panels = out[at * num_words : (at + count * size) * num_words]
        panels.reshape(count, num_words, size)[:] = rows.transpose(0, 2, 1)
        at += count * size
        widths = widths[count:]
    return out


def packed_size(values: NDArray[Any]) -> int:
    """Return how many words weights (N, K) of 8, 16 or 32 bits take."""
    num_rows, num_inputs = values.shape
    return int(num_rows * -(-num_inputs * values.itemsize // 4))


def _widest(kind: Any) -> int:
    return INTEGER_PANEL if np.dtype(kind) == np.int8 else FLOAT_PANEL


def pack_weights(values: NDArray[Any], out: Floats) -> None:
    """Write weights (N, K) of 8, 16 or 32 bits as the kernels read them, flat."""
    words = as_words(values)
    if values.dtype == np.int8 and ARE_SHORTS:
        quads = np.take(_quads(words), _SWAP, -1)
        quads ^= _FLIP
        words = quads.view(np.float32)[..., 0]
    pack(words, panel_widths(len(values) // LANES, _widest(values.dtype)), out)


def unpacked(
    params: Floats, at: int, shape: tuple[int, int], kind: type[np.generic]
) -> NDArray[Any]:
    """Return weights (N, K) of a type that `pack_weights` put there: the same bits."""
    num_rows, num_inputs = shape
    num_words = -(-num_inputs // (4 // np.dtype(kind).itemsize))
    words = np.empty((num_rows, num_words), np.float32)
    row = 0
    for width in panel_widths(num_rows // LANES, _widest(kind)):
        size = width * LANES
        panel = params[at : at + size * num_words].reshape(num_words, size)
        words[row : row + size] = panel.T
        at, row = at + panel.size, row + size
    if kind == np.int8 and ARE_SHORTS:
        words = np.take(_quads(words) ^ _FLIP, _SWAP, -1).view(np.float32)[..., 0]
    return words.view(kind)[:, :num_inputs]


# int8 ---------------------------------------------------------------------------------------------
# What the weights are multiplied with, and by which instruction, is the level's: `cpu.Integers`.

INTEGER_PANEL = LEVEL.integers.panel  # vectors
ARE_SHORTS = LEVEL.integers.inputs == "int16"

# Bytes of a quantised input, by its type.
INPUT_BYTES = {"int16": 2, "int8": 1}

# Words of weights whose products with 16 bits int32 can sum: 512 * 127 * 32767 < 2**31.
BLOCK = 128

# A word of weights for 16 bits has inputs 0 and 1 in its bytes 0 and 2, 128 too large, so that a
# mask widens them; a shift widens 2 and 3, in the bytes 1 and 3.
_SWAP, _FLIP = [0, 2, 1, 3], np.array([128, 0, 128, 0], np.uint8)


def _quads(words: Floats) -> NDArray[np.uint8]:
    return words.view(np.uint8).reshape(*words.shape, 4)


def scales_and_sums(q: NDArray[np.int8], scale: Floats) -> Floats:
    """Return what lies beside int8 weights: their scales (N,), and int32 that sums begin with (N,).

    Inputs that come as unsigned bytes are 128 too large, and of signed bytes the low one is 128 too
    small: this many times the sum of the weights makes up for it. Where inputs are 16 bits nothing
    does.
    """
    times = {"uint8": -128, "int8": 128, "int16": 0}[LEVEL.integers.inputs]
    sums = times * q.sum(axis=1, dtype=np.int32)
    return np.concatenate([scale, sums.view(np.float32)])


def quantized_size(num_inputs: int, num_bytes: int) -> int:
    """Return the words of a row of quantised inputs of 1 or 2 bytes, whole vectors of them."""
    return padded(num_inputs) * (2 if ARE_SHORTS else num_bytes) // 4


def num_scales(num_inputs: int) -> int:
    """Return the words beside such a row: its scale, and what the sums of its blocks begin with."""
    return 1 + (-(-num_inputs // (4 * BLOCK)) if ARE_SHORTS else 0)
