"""A state as bytes, and back: checked, as every number that the kernel takes for a place must be.

    magic         8 bytes, "numlstm2"
    fingerprint   16 bytes, of the network (`Weights.fingerprint`)
    num_steps     int64, the steps that were taken
    size          uint64, of the numbers in bytes
    checksum      uint32, CRC-32 of the numbers behind a header whose checksum is 0
    numbers       float32: what is kept from step to step, then the rows of the memory

All are little-endian. The checksum finds accidents; it is no proof of who wrote the bytes: anyone
can make one. So nothing depends on it: whatever the numbers are, they are refused or are a state
that a stream could be in. Who must know that the bytes are their own signs them (`hmac`).
"""

import struct
import zlib

import numpy as np

from numlstm.program.program import MOST_STEPS, Memory
from numlstm.run.border import FLOAT32, NO_MEMORY, Floats
from numlstm.run.compiled import Compiled

_HEADER = struct.Struct("<8s16sqQI")
_MAGIC = b"numlstm2"
_NUMBER = np.dtype("<f4")
_COUNTER = struct.Struct("<q")  # of the steps, in place of the first two numbers

# Before: no count of steps, and the checksum of the numbers alone.
_OLD_HEADER = struct.Struct("<8s16sII")
_OLD_MAGIC = b"numlstm1"
_COUNTER_SIZE = 16  # floats, which those states do not begin with


def to_bytes(compiled: Compiled, kept: Floats, memory_rows: Floats) -> bytes:
    """Return what a stream of the network keeps as bytes."""
    numbers = _little_endian(kept).tobytes()
    if memory_rows.size:
        numbers += _little_endian(memory_rows).tobytes()
    (num_steps,) = _COUNTER.unpack_from(numbers)
    fields = _MAGIC, compiled.fingerprint, num_steps, len(numbers)
    checksum = zlib.crc32(numbers, zlib.crc32(_HEADER.pack(*fields, 0)))
    return _HEADER.pack(*fields, checksum) + numbers


def _little_endian(values: Floats) -> Floats:
    return values if _NUMBER.isnative else values.astype(_NUMBER)


def from_bytes(compiled: Compiled, blob: bytes) -> tuple[Floats, Floats]:
    """Return what is kept, (num_kept,), and the rows of the memory, of what `to_bytes` returned.

    Raises
    ------
    TypeError, ValueError
        If it is not a saved state, is damaged, or is another network's.
    """
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise TypeError(f"the state is {type(blob).__name__}, expected bytes of save_state")
    fingerprint, num_steps, body, is_sound = _read(bytes(blob))
    if fingerprint != compiled.fingerprint:
        raise ValueError("the state is another model's; load it with the model that saved it")
    layout, num_kept = compiled.program.memory, compiled.num_kept
    row_size = 0 if layout is None else layout.row_size
    beyond = len(body) // 4 - num_kept
    fits = beyond % row_size == 0 and beyond > 0 if row_size else beyond == 0
    if len(body) % 4 or not fits or not is_sound:
        raise ValueError("the state is damaged: its length or checksum is wrong")
    numbers = np.frombuffer(body, _NUMBER).astype(FLOAT32)
    kept, memory_rows = numbers[:num_kept], numbers[num_kept:].reshape(-1, row_size or 1)
    _check_kept(compiled, kept, num_steps, len(memory_rows))
    if layout is None:
        return kept, NO_MEMORY
    return kept, _memory_of(compiled, layout, memory_rows)


def _memory_of(compiled: Compiled, layout: Memory, rows: Floats) -> Floats:
    """Return the rows of a memory anew, of what was given for them: nothing else is believed."""
    ids = rows[:, layout.keys_end] if layout.has_ids else None
    vocab_size = compiled.network.memory_vocab_size or 0
    if ids is not None and not ((ids >= 0) & (ids < vocab_size) & (ids == np.floor(ids))).all():
        raise ValueError(
            "the state is damaged: its memory holds numbers that are no token ids, "
            f"0 <= id < {vocab_size}"
        )
    try:
        given = rows[:, : layout.memory_size]
        return compiled.memory_rows(given, None if ids is None else ids.astype(np.int32))
    except ValueError as error:
        raise ValueError(f"the state is damaged: {error}") from error


def _read(blob: bytes) -> tuple[bytes, int | None, bytes, bool]:
    """Return fingerprint, number of steps, numbers, and whether size and checksum are right."""
    if blob.startswith(_MAGIC) and len(blob) >= _HEADER.size:
        magic, fingerprint, num_steps, size, checksum = _HEADER.unpack_from(blob)
        body = blob[_HEADER.size :]
        header = _HEADER.pack(magic, fingerprint, num_steps, size, 0)
        is_sound = len(body) == size and zlib.crc32(body, zlib.crc32(header)) == checksum
        return fingerprint, num_steps, body, is_sound
    if blob.startswith(_OLD_MAGIC) and len(blob) >= _OLD_HEADER.size:
        _, fingerprint, size, checksum = _OLD_HEADER.unpack_from(blob)
        body = blob[_OLD_HEADER.size :]
        is_sound = len(body) == size and zlib.crc32(body) == checksum
        return fingerprint, None, bytes(4 * _COUNTER_SIZE) + body, is_sound
    raise ValueError("the state was not written by save_state of this version")


def _check_kept(compiled: Compiled, kept: Floats, num_steps: int | None, num_rows: int) -> None:
    """Raise a ValueError unless it could be kept after the steps, with rows of a memory."""
    program = compiled.program
    counts = {at: int(kept[at : at + 2].view(np.int64)[0]) for at in program.counters}
    steps = counts.pop(program.counters[0])
    agree = num_steps in (steps, None)
    if program.memory is not None:
        agree &= counts.pop(program.memory.count_at) == num_rows
    # What pools have counted; their steps were not, in states of before.
    agree &= all(steps <= count for count in counts.values())
    if not agree or not all(0 <= count < MOST_STEPS for count in (steps, *counts.values())):
        raise ValueError("the state is damaged: its numbers of steps do not agree")
    if not program.could_keep(kept).all():
        raise ValueError("the state is damaged: it holds a NaN, or a number that no stream keeps")
