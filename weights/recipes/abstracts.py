"""The papers of SciTLDR, and ROUGE. Needs no PyTorch."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer
from tokenizers import Tokenizer

from numlstm.tasks.text.summarize import encode_sentence

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
