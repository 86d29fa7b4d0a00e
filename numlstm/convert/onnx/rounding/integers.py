"""What integers of a quantised graph stand for: (x - zero point) * scale, in arrays."""

import numpy as np
from onnx import TensorProto

from numlstm.convert.assembly import Array, Refused

# The smallest and the largest of each type that is rounded to.
RANGES: dict[int, tuple[int, int]] = {
    TensorProto.UINT8: (0, 255),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT16: (0, 65535),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT4: (-8, 7),
}


def spread(array: Array, rank: int, axis: int) -> Array:
    """Return numbers of one axis (N,), or one for all, as they meet a tensor of a rank."""
    if array.size == 1 or array.ndim != 1:
        return array.reshape(()) if array.size == 1 else array
    if not -rank <= axis < rank:
        raise Refused(f"axis {axis} of a tensor with {rank} axes")
    return array.reshape([-1 if n == axis % rank else 1 for n in range(rank)])


def _in_blocks(array: Array, shape: tuple[int, ...], axis: int, size: int) -> Array:
    """Return numbers of blocks along an axis, once for each number of the block."""
    if not -len(shape) <= axis < len(shape) or array.ndim != len(shape) or size < 1:
        raise Refused(f"blocks of {size} along axis {axis} of a tensor {shape}")
    if array.shape[axis] != -(-shape[axis] // size):
        raise Refused(f"{array.shape[axis]} blocks of {size} for {shape[axis]} numbers")
    return np.take(array, np.arange(shape[axis]) // size, axis)


def _fits(array: Array, x: Array) -> bool:
    """Tell whether numbers meet those of a tensor, without making it larger."""
    ends = x.shape[x.ndim - array.ndim :]
    return array.ndim <= x.ndim and all(
        size in (1, end) for size, end in zip(array.shape, ends, strict=True)
    )


def dequantized(
    x: Array, scale: Array, zero: Array | None, axis: int = 1, block_size: int = 0
) -> Array:
    """Return (x - zero) * scale in float32, of one scale, of one an axis, or of one a block."""
    parts = [np.asarray(scale, np.float32), np.zeros((), np.int32) if zero is None else zero]
    if block_size:
        parts = [p if p.ndim == 0 else _in_blocks(p, x.shape, axis, block_size) for p in parts]
    else:
        parts = [spread(p, x.ndim, axis) for p in parts]
    factor, zeros = parts
    if not _fits(factor, x) or not _fits(zeros, x):
        raise Refused(f"scales {np.shape(scale)} along axis {axis} of a tensor {x.shape}")
    return (x.astype(np.float32) - zeros.astype(np.float32)) * factor


def quantized(
    x: Array, scale: Array, zero: Array | None, axis: int, bounds: tuple[int, int]
) -> Array:
    """Return the integers, in float32, that numbers are rounded to."""
    factor = spread(np.asarray(scale, np.float32), x.ndim, axis)
    zeros = np.zeros(()) if zero is None else spread(zero.astype(np.float32), x.ndim, axis)
    return np.clip(np.rint(x / factor) + zeros, *bounds)
