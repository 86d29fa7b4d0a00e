"""The papers of SciTLDR, their sentences, and ROUGE. Needs no PyTorch."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

MARKS = ("[END]", "[SUMMARY]", "[TITLE]", "[SENTENCE]")
END, SUMMARY, TITLE, SENTENCE = range(len(MARKS))

ROUGES = ("rouge1", "rouge2", "rougeL")
_ROUGE = RougeScorer(ROUGES, use_stemmer=True)
_END_OF_SENTENCE = re.compile(
    r"(?<=[.!?])(?<!\bal\.)(?<!e\.g\.)(?<!i\.e\.)(?<!\bvs\.)(?<!\bcf\.)(?<!\bFig\.)(?<!\bEq\.)"
    r"(?<!\b[A-Z]\.) (?=[\"'(\[]*[A-Z0-9])"
)


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


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, at least one."""
    return _END_OF_SENTENCE.split(text)


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
    return tokenizer


def encode_sentences(
    tokenizer: Tokenizer, sentences: Sequence[str], max_tokens: int
) -> tuple[list[int], list[int]]:
    """Return the ids of an abstract, a mark before each sentence, and where sentences begin.

    Sentences that begin beyond `max_tokens` are left out.
    """
    tokenizer.encode_special_tokens = True
    ids: list[int] = []
    starts = []
    for sentence in sentences:
        if len(ids) >= max_tokens:
            break
        starts.append(len(ids))
        ids += [SENTENCE, *tokenizer.encode(sentence, add_special_tokens=False).ids]
    return ids[:max_tokens], starts
