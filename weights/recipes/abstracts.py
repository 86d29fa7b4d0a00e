"""The papers of SciTLDR, a tokenizer for them, and ROUGE. Needs no PyTorch."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from numlstm.text.summarize import MARKS, encode_sentence

ROUGES = ("rouge1", "rouge2", "rougeL")
_ROUGE = RougeScorer(ROUGES, use_stemmer=True)


@dataclass(frozen=True)
class Paper:
    """A title, an abstract, and one or more summaries of one sentence."""

    title: str
    abstract: str
    summaries: tuple[str, ...]


def read(data: Path, split: str) -> list[Paper]:
    """Read one split of SciTLDR."""
    with gzip.open(data / f"scitldr.{split}.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return [Paper(row[1], row[2], tuple(row[3].split(" ||| "))) for row in rows]


def rouge(references: Sequence[str], text: str) -> dict[str, float]:
    """Return F1 of ROUGE-1, 2 and L with stemming: of each, the best over the references."""
    scores = [_ROUGE.score(reference, text) for reference in references]
    return {name: max(score[name].fmeasure for score in scores) for name in ROUGES}


def mean_rouge(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the means, in percent."""
    return {name: 100 * sum(score[name] for score in scores) / len(scores) for name in ROUGES}


def build_tokenizer(texts: Sequence[str], vocab_size: int, lowercase: bool) -> Tokenizer:
    """Train a byte-pair tokenizer that can write any text; `MARKS` are its first ids."""
    tokenizer = Tokenizer(models.BPE())
    forms: list[normalizers.Normalizer] = [normalizers.NFC()]
    tokenizer.normalizer = normalizers.Sequence(forms + [normalizers.Lowercase()] * lowercase)
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


def encode_sentences(
    tokenizer: Tokenizer, sentences: Sequence[str], max_tokens: int
) -> tuple[list[int], list[int]]:
    """Return the ids of an abstract, a mark before each sentence, and where sentences begin.

    Sentences that begin beyond `max_tokens` are left out.
    """
    ids: list[int] = []
    starts = []
    for sentence in sentences:
        if len(ids) >= max_tokens:
            break
        starts.append(len(ids))
        ids += encode_sentence(tokenizer, sentence)
    return ids[:max_tokens], starts
