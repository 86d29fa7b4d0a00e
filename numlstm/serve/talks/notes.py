"""What a session of text keeps beside the state of its network."""

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.serve.messages import Message, bad
from numlstm.strict_json import read_json
from numlstm.tasks.checks import check_text
from numlstm.tasks.text.encoding import Encoder

_NUMBER = np.dtype("<f4")
_HEADER = np.dtype("<u4")


class AgainError(Exception):
    """A message was read before; what was answered then."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__("the message was read before")
        self.answer = answer


@dataclass(frozen=True, eq=False)
class Note:
    """What a session of text keeps.

    As bytes: the size of a JSON text in UTF-8, uint32; that text; float32 numbers. All are
    little-endian.

    num_read   characters of all messages
    rest       the text that is not complete yet
    answer     to the last message, if that said where it begins
    given      CRC-32 of the text of that
    row        the last row that was answered
    """

    num_read: int = 0
    rest: str = ""
    answer: dict[str, Any] | None = None
    given: int = 0
    row: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def to_bytes(self) -> bytes:
        """Return the note as bytes."""
        fields = {name: getattr(self, name) for name in ("num_read", "rest", "answer", "given")}
        text = json.dumps(fields).encode()
        row = self.row.astype(_NUMBER, copy=False).tobytes()
        return np.array(len(text), _HEADER).tobytes() + text + row

    @classmethod
    def from_bytes(cls, note: bytes) -> "Note":
        """Return the note of bytes; an empty one of none.

        Raises
        ------
        ValueError
            If they are no note.
        """
        if not note:
            return cls()
        size = int.from_bytes(note[:4], "little")
        row = note[4 + size :]
        if len(note) < 4 + size or len(row) % 4:
            raise ValueError("the note of the session is damaged")
        fields = read_json(note[4 : 4 + size])
        return cls(**fields, row=np.frombuffer(row, _NUMBER).astype(np.float32))


def read_text(encoder: Encoder, note: Note, message: Message) -> tuple[list[int], Note]:
    """Return the ids of the words that a message completes, and the note behind it.

    Raises
    ------
    AgainError
        If the message was read before.
    RefusalError, TypeError, ValueError
        If it brings something else than text, or begins at another place than the session is.
    """
    if message.xs is not None or message.ids is not None:
        raise bad("the model takes text")
    text = check_text(message.text or "")
    given = zlib.crc32(text.encode())
    if message.at not in (None, note.num_read):
        is_last = note.given == given and message.at == note.num_read - len(text)
        if note.answer is not None and is_last:
            raise AgainError(note.answer)
        raise bad(f"the session has read {note.num_read} characters, not {message.at}")
    pieces, rest = encoder.complete(note.rest + text)
    if message.finish and rest:
        pieces, rest = [*pieces, rest], ""
    return encoder.ids(pieces), Note(note.num_read + len(text), rest, None, given, note.row)
