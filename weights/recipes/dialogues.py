"""The dialogues of the chat model. Needs no PyTorch."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

from numlstm.tasks.text.chat import HISTORY_TURNS

SETS = ("schema_guided", "topical_chat")


@dataclass(frozen=True)
class Exchange:
    """What was said in a conversation, the user last, and the reply to it."""

    conversation: str
    history: tuple[str, ...]
    reply: str


def read(data: Path, name: str) -> list[Exchange]:
    """Read the exchanges of one split, `schema_guided.train` for example.

    schema_guided has an utterance and its reply in each row; in topical_chat the reply of a row
    is the utterance of the next.
    """
    with gzip.open(data / f"{name}.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    exchanges = []
    history: list[str] = []
    of = ""
    for conversation, *_, said, reply in rows:
        if conversation != of:
            of, history = conversation, []
        if not history or history[-1] != said:
            history.append(said)
        exchanges.append(Exchange(conversation, tuple(history[-HISTORY_TURNS:]), reply))
        history.append(reply)
    return exchanges
