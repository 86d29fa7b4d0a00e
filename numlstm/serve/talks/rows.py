"""Rows in, rows out: what any causal network can do."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.serve.messages import Message, bad
from numlstm.serve.talks import Floats, Rows, only


class RowTalk:
    """Frames of numbers or token ids, answered by the rows of the last layer."""

    task = "rows"

    def __init__(self, parts: Mapping[str, Model]) -> None:
        self.model = model = only(parts, "be served")
        if not model.network.is_causal or model.network.memory_size is not None:
            raise WeightsError("the model cannot be served: it reads later steps or a memory")
        self.input = "frames" if model.vocab_size is None else "ids"

    def read(self, note: bytes, message: Message) -> tuple[Rows, bytes]:
        """Return the rows of a message."""
        rows: Rows | None = message.xs
        other: Rows | None = message.ids
        if self.input == "ids":
            rows, other = other, rows
        if (
            message.text is not None
            or other is not None
            or (rows is None and not (message.finish or message.reset))
        ):
            name = "xs, rows of numbers" if self.input == "frames" else "ids, token ids"
            raise bad(f"the model takes {name}")
        if rows is None or not rows.size:
            if self.input == "ids":
                return np.zeros(0, np.int32), note
            return np.zeros((0, self.model.input_size), np.float32), note
        return rows, note

    def answer(
        self, read: bytes, message: Message, rows: Rows, ys: Floats
    ) -> tuple[dict[str, Any], bytes]:
        """Return the rows of the last layer, where they are not sent as bytes."""
        return {} if message.is_binary else {"ys": ys.tolist()}, read
