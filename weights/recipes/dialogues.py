"""The dialogues of the chat model, and its tokenizer. Needs no PyTorch."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from numlstm.text.chat import HISTORY_TURNS, MARKS

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


def build_tokenizer(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train a byte-pair tokenizer that can write any text; `MARKS` are its first ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.encode_special_tokens = True  # a mark in a text is plain text
    return tokenizer
