"""A dialogue, its answers as they are written."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.run.sampling import SamplingOptions
from numlstm.serve.messages import Message, bad
from numlstm.serve.talks import Alone
from numlstm.strict_json import read_json
from numlstm.tasks.text.chat import Chat

_OPTIONS = SamplingOptions.__annotations__.keys() | {"max_tokens"}
_MAX_TURNS = 200  # kept; the network reads the last ones


class ChatTalk:
    """Opens dialogues."""

    task = "chat"
    input = "text"

    def __init__(self, parts: Mapping[str, Model]) -> None:
        if len(parts) < 2:
            raise WeightsError("the model cannot chat: it is one network")
        self.pipe = Chat(parts)
        self.model = next(iter(parts.values()))

    def open(self) -> Alone:
        """Return a dialogue that begins."""
        return _Dialogue(self.pipe)


class _Dialogue:
    """A dialogue; what was said is all that it keeps."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._session = chat.session()

    def feed(self, message: Message) -> Iterator[dict[str, Any]]:
        """Yield pieces of the answer, then all of it."""
        if message.reset:
            self._session.reset()
        if message.text is None:
            if not message.reset:
                raise bad("a dialogue takes text: what you say")
            yield {"answer": "", "done": True}
            return
        options = message.options or {}
        if unknown := options.keys() - _OPTIONS:
            raise bad(f"unknown options: {', '.join(sorted(unknown))[:100]}")
        pieces = []
        for piece in self._session.stream(message.text, **options):
            pieces.append(piece)
            yield {"piece": piece}
        yield {"answer": "".join(pieces), "done": True}

    def save(self) -> bytes:
        """Return what was said."""
        turns = [turn.text for turn in self._session.history[-_MAX_TURNS:]]
        return json.dumps(turns).encode()

    def load(self, blob: bytes) -> None:
        """Go on behind what was said."""
        turns = read_json(blob)
        if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
            raise ValueError("the dialogue in the store is damaged")
        self._session = self._chat.session(turns)
