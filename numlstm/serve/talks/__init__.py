"""What the messages of a session mean, a kind of model in each file.

A session of a causal network is *pooled*: what it keeps beside its state is a note of bytes,
reading a message and writing an answer are functions, and the steps between are taken together with
those of other sessions. A session of anything else is *alone*: an object that is fed, in a thread.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.serve.messages import Message

Rows = NDArray[Any]  # float32 (T, input_size), or token ids (T,)
Floats = NDArray[np.float32]


class Pooled(Protocol):
    """How sessions of a causal network talk.

    task     what it does: "sentiment", "frames"
    input    what it takes: "text", "ids" or "frames"
    model    the network
    """

    task: str
    input: str
    model: Model

    def read(self, note: bytes, message: Message) -> tuple[Rows, Any]:
        """Return the rows that a message completes, and what `answer` goes on from.

        Raises
        ------
        RefusalError, TypeError, ValueError
            If it brings something else than the model takes.
        AgainError
            If it was read before.
        """

    def answer(
        self, read: Any, message: Message, rows: Rows, ys: Floats
    ) -> tuple[dict[str, Any], bytes]:
        """Return what is answered after the steps of a message, and the note from then on."""


class Alone(Protocol):
    """A session that steps alone, one thread's at a time."""

    def feed(self, message: Message) -> Iterator[dict[str, Any]]:
        """Yield the answers to a message as they come.

        Raises
        ------
        RefusalError, TypeError, ValueError
            If it brings something else than it takes; it is as it was then.
        """

    def save(self) -> bytes | None:
        """Return what `load` continues from; None if it cannot be continued elsewhere."""

    def load(self, blob: bytes) -> None:
        """Go on from where `save` was called."""


class Opens(Protocol):
    """What opens sessions that are alone.

    task, input    as of `Pooled`; input may be "sound"
    model          the network that describes it
    """

    task: str
    input: str
    model: Model

    def open(self) -> Alone:
        """Return a session that begins."""


def talk_of(parts: Mapping[str, Model], task: str | None = None) -> "Pooled | Opens":
    """Return how sessions of the networks of a file talk.

    Parameters
    ----------
    parts : mapping of Model
        The networks by their names.
    task : str, optional
        As of `numlstm.pipeline`; the first one that the networks can do if not given, and frames or
        ids if there is none.

    Raises
    ------
    WeightsError
        If they cannot do the task, or are several networks that do none together.
    """
    from numlstm.serve.talks.chat import ChatTalk
    from numlstm.serve.talks.labels import LabelTalk
    from numlstm.serve.talks.rows import RowTalk
    from numlstm.serve.talks.scores import ScoreTalk
    from numlstm.serve.talks.sound import SpeechTalk

    makers: dict[str, Any] = {
        "sentiment": LabelTalk,
        "language-model": ScoreTalk,
        "speech": SpeechTalk,
        "chat": ChatTalk,
        "rows": RowTalk,
    }
    if task is not None and task not in makers:
        raise WeightsError(f"the task is {task!r}, expected one of: {', '.join(makers)}")
    problems = []
    for maker in makers.values() if task is None else [makers[task]]:
        try:
            talk: Pooled | Opens = maker(parts)
            return talk
        except WeightsError as error:
            problems.append(str(error))
    raise WeightsError("; ".join(problems))


def only(parts: Mapping[str, Model], what: str) -> Model:
    """Return the only network of a file, which has no name, or raise a WeightsError."""
    if set(parts) != {""}:
        raise WeightsError(f"the model cannot {what}: it has several networks, {', '.join(parts)}")
    return parts[""]
