"""Speech that is written down as it is spoken."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from numlstm.model import Model
from numlstm.serve.messages import Message, bad
from numlstm.serve.talks import Alone, only
from numlstm.tasks.audio.sound import mono
from numlstm.tasks.audio.transcribe import Transcriber

RATE = 16000  # samples per second that clients send


class SpeechTalk:
    """Opens sounds: samples at 16 kHz, float32 within -1 to 1."""

    task = "speech"
    input = "sound"

    def __init__(self, parts: Mapping[str, Model]) -> None:
        self.model = only(parts, "transcribe")
        self.pipe = Transcriber(self.model)

    def open(self) -> Alone:
        """Return a sound that begins."""
        return _Speech(self.pipe)


class _Speech:
    """A sound in progress."""

    def __init__(self, pipe: Transcriber) -> None:
        self._stream = pipe.stream(RATE)

    def feed(self, message: Message) -> Iterator[dict[str, Any]]:
        """Yield what is said so far; behind the end, all of it."""
        if message.text is not None or message.ids is not None:
            raise bad("the model takes sound: float32 samples at 16 kHz, in binary messages or xs")
        samples = np.zeros(0, np.float32) if message.xs is None else message.xs.ravel()
        mono(samples)  # before anything is given up
        if message.reset:
            self._stream.reset()
        found = self._stream.feed(samples)
        if message.finish:
            found = self._stream.finish()
            self._stream.reset()
        words = [asdict(word) for word in found.words]
        yield {"text": found.text, "words": words, "done": message.finish}

    def save(self) -> None:
        """Return nothing: a sound is not continued elsewhere."""

    def load(self, blob: bytes) -> None:
        """Raise: nothing was saved."""
        raise ValueError("a sound is not continued elsewhere: begin a new session")
