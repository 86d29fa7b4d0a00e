"""Text that is classified as it arrives."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.serve.messages import Message
from numlstm.serve.talks import Floats, Rows, only
from numlstm.serve.talks.notes import Note, read_text
from numlstm.tasks.text.classify import Classifier


class LabelTalk:
    """Text in, a label and the probabilities of all out, after each complete word."""

    task = "sentiment"
    input = "text"

    def __init__(self, parts: Mapping[str, Model]) -> None:
        self.model = only(parts, "classify text")
        if not self.model.network.is_causal:
            raise WeightsError("the model cannot be served: it reads a text from both ends")
        self.pipe = Classifier(self.model)

    def read(self, note: bytes, message: Message) -> tuple[Rows, Note]:
        """Return the ids of the words that a message completes."""
        ids, after = read_text(self.pipe.encoder, Note.from_bytes(note), message)
        return np.array(ids, np.int32), after

    def answer(
        self, read: Note, message: Message, rows: Rows, ys: Floats
    ) -> tuple[dict[str, Any], bytes]:
        """Return the label and the probabilities; "" and 0 while there is no word."""
        row = ys[-1] if len(ys) else read.row
        found = self.pipe.prediction(row[None] if len(row) else ys)
        scores = dict(zip(self.model.labels, map(float, row), strict=False))
        answer = {"label": found.label, "score": found.score, "scores": scores}
        kept = None if message.at is None else answer
        return answer, replace(read, row=row, answer=kept).to_bytes()
