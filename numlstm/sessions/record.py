"""A session as bytes, and back.

    magic         8 bytes, "numlstmK"
    num_steps     int64, the rows that the session was given
    sizes         uint32 each: of the state, of the answers, of the note; and the answers' rows
    given         uint32, CRC-32 of the rows that were answered so
    checksum      uint32, CRC-32 of all behind this header, and of the header with a checksum of 0
    state         what `Stream.save_state` returns
    answers       float32 (T, output_size), those of the last call, if it said which steps it takes
    note          what the caller keeps beside the state

All are little-endian. As with a state the checksum finds accidents; what the state says is checked
when it is loaded.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct("<8sqIIIIII")
_MAGIC = b"numlstmK"
_NUMBER = np.dtype("<f4")

LARGEST_NOTE = 2**20


@dataclass(frozen=True)
class Record:
    """What is stored of a session.

    Attributes
    ----------
    state : bytes
        What `Stream.save_state` returns.
    num_steps : int
        How many rows it was given.
    answers : float32 array of shape (T, output_size), or None
        Of the last call, to answer it again.
    given : int
        CRC-32 of the rows of that call, by which it is known again.
    note : bytes
        What the caller keeps beside the state.
    """

    state: bytes
    num_steps: int = 0
    answers: NDArray[np.float32] | None = None
    note: bytes = b""
    given: int = 0

    def to_bytes(self) -> bytes:
        """Return the record as bytes; see `numlstm.sessions.record` for the layout."""
        answers = b"" if self.answers is None else self.answers.astype(_NUMBER).tobytes()
        num_rows = 0 if self.answers is None else len(self.answers)
        body = self.state + answers + self.note
        sizes = len(self.state), len(answers), len(self.note), num_rows, self.given
        head = _HEADER.pack(_MAGIC, self.num_steps, *sizes, 0)
        checksum = zlib.crc32(body, zlib.crc32(head))
        return _HEADER.pack(_MAGIC, self.num_steps, *sizes, checksum) + body

    @classmethod
    def from_bytes(cls, blob: bytes) -> "Record":
        """Return the record that `to_bytes` wrote.

        Raises
        ------
        TypeError, ValueError
            If it is none, or is damaged.
        """
        if not isinstance(blob, bytes | bytearray | memoryview):
            raise TypeError(f"the record is {type(blob).__name__}, expected bytes")
        blob = bytes(blob)
        if len(blob) < _HEADER.size or not blob.startswith(_MAGIC):
            raise ValueError("the record is not of a session of this version of numlstm")
        _, num_steps, *sizes, num_rows, given, checksum = _HEADER.unpack_from(blob)
        body = blob[_HEADER.size :]
        head = _HEADER.pack(_MAGIC, num_steps, *sizes, num_rows, given, 0)
        is_sound = len(body) == sum(sizes) and zlib.crc32(body, zlib.crc32(head)) == checksum
        state_size, answers_size, note_size = sizes
        fits = not answers_size if not num_rows else not answers_size % (4 * num_rows)
        if not is_sound or not fits or num_steps < 0 or note_size > LARGEST_NOTE:
            raise ValueError("the record is damaged: its sizes or its checksum are wrong")
        note_at = state_size + answers_size
        answers = None
        if num_rows:
            numbers = np.frombuffer(body[state_size:note_at], _NUMBER).astype(np.float32)
            answers = numbers.reshape(num_rows, -1)
        return cls(body[:state_size], num_steps, answers, body[note_at:], given)
