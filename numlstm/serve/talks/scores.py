"""Text that is scored token by token, and what may come next."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.serve.messages import Message
from numlstm.serve.talks import Floats, Rows, only
from numlstm.serve.talks.notes import Note, read_text
from numlstm.sessions.record import LARGEST_NOTE
from numlstm.tasks.text.language import LanguageModel

_NUM_NEXT = 10  # tokens that may come next are named


class ScoreTalk:
    """Text in, the surprise of each token out, and the likeliest ones to come.

    The first message begins with the end of a line, which a text is taken to follow.
    """

    task = "language-model"
    input = "text"

    def __init__(self, parts: Mapping[str, Model]) -> None:
        self.model = only(parts, "score text")
        self.pipe = LanguageModel(self.model)
        if 4 * self.model.output_size > LARGEST_NOTE // 2:
            raise WeightsError(
                f"the model cannot be served: {self.model.output_size} scores of the next token do "
                "not fit beside a state"
            )

    def read(self, note: bytes, message: Message) -> tuple[Rows, Note]:
        """Return the ids of the words that a message completes."""
        before = Note.from_bytes(note)
        ids, after = read_text(self.pipe.encoder, before, message)
        start = [] if len(before.row) else self.pipe.start.tolist()
        return np.array([*start, *ids], np.int32), after

    def answer(
        self, read: Note, message: Message, rows: Rows, ys: Floats
    ) -> tuple[dict[str, Any], bytes]:
        """Return the tokens, the nats of each, and those that may come next."""
        begins = not len(read.row)
        # The answer before each token: to the start, or to what was read before.
        ids = rows[len(self.pipe.start) :] if begins else rows
        answers = ys[len(self.pipe.start) - 1 :] if begins else np.vstack([read.row, ys])
        log_p = self.pipe.log_p(answers[-1:])[0]
        best = np.argsort(-log_p, kind="stable")[:_NUM_NEXT].tolist()
        token = self.pipe.encoder.token
        answer = {
            "tokens": list(map(token, ids.tolist())),
            "nats": self.pipe.nats(ids, answers[:-1]).tolist(),
            "next": [{"token": token(n), "p": float(np.exp(log_p[n]))} for n in best],
        }
        kept = None if message.at is None else answer
        return answer, replace(read, row=answers[-1], answer=kept).to_bytes()
