"""Score the part-of-speech tagger by the engine: whole sentences, and as a stream.

    python -m weights.scores.tagging --data DIR

DIR holds the folder ``pos_tagging``. What it finds goes into the card, ``weights/pos.md``.
"""

import argparse
import gzip
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import numlstm
from weights.scores.card import describe, fill

POS = Path(__file__).parents[1] / "pos.safetensors"
UNKNOWN = 0  # the id of words that have no embedding
MAX_CHARACTERS = 40  # of a word; the rest is not read
DTYPES = ("float32", "bfloat16", "int8")
LOOKAHEADS = (0, 1, 2, 4, 8)
NUM_CONFUSIONS = 8
NOTES = {"valid": "the epoch was chosen on it", "test": "never seen"}

console = Console()


@dataclass(frozen=True)
class Sentence:
    """Words and their tags."""

    words: list[str]
    tags: list[str]


def read(data: Path, split: str) -> list[Sentence]:
    """Read lines of form, tag and more; a blank line is between sentences."""
    path = data / "pos_tagging" / f"ud_english_ewt.{split}.conll.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        blocks = file.read().split("\n\n")
    tables = [[line.split("\t") for line in b.split("\n") if "\t" in line] for b in blocks]
    return [Sentence([row[0] for row in rows], [row[1] for row in rows]) for rows in tables if rows]


def files(path: Path) -> dict[str, Path]:
    """Return the files of the embedding of words, of their spelling, and of the tagger."""
    return {
        "words": path.with_suffix(".words.safetensors"),
        "characters": path.with_suffix(".characters.safetensors"),
        "tagger": path,
    }


class Tagger:
    """Tags the words of a sentence: POS.words, POS.characters and POS .safetensors."""

    def __init__(self, path: Path, dtype: str | None = None) -> None:
        self.words, self.characters, self.tagger = (
            numlstm.load(file, dtype=dtype) for file in files(path).values()
        )
        self._words = self.words.load_tokenizer()
        self._characters = self.characters.load_tokenizer()
        self.vector = lru_cache(2**14)(self._vector)

    def _vector(self, word: str) -> NDArray[np.float32]:
        """Return what the tagger reads of a word: its embedding beside its spelling."""
        token = self._words.token_to_id(self._words.normalizer.normalize_str(word))
        ids = self._characters.encode(word[:MAX_CHARACTERS], add_special_tokens=False).ids
        return np.concatenate(
            [
                self.words.run(np.array([token or UNKNOWN], np.int32))[-1],
                self.characters.run(np.array(ids, np.int32))[-1],
            ]
        )

    def tag(self, words: Sequence[str]) -> list[str]:
        """Return the tags of the words of a whole sentence."""
        return self._labels(self.tagger.run(np.stack([self.vector(word) for word in words])))

    def tag_late(self, words: Sequence[str], lookahead: int) -> list[str]:
        """Return the tags of words that come one by one, each tag `lookahead` words late."""
        stream = self.tagger.stream(lookahead=lookahead)
        answers = [stream.run(self.vector(word)[None]) for word in words]
        return self._labels(np.concatenate([*answers, stream.finish()]))

    def _labels(self, scores: NDArray[np.float32]) -> list[str]:
        return [self.tagger.labels[best] for best in scores.argmax(axis=1)]


def tags_of(
    tag: Callable[[Sequence[str]], list[str]], sentences: Sequence[Sentence], name: str
) -> list[str]:
    """Return the tags of all words of all sentences."""
    todo = track(sentences, name, console=console, transient=True)
    return [label for sentence in todo for label in tag(sentence.words)]


def share(found: Sequence[str], right: Sequence[str], among: Sequence[bool] | None = None) -> float:
    """Return how many tags are right, of all or of those `among` which to count."""
    hits = [a == b for a, b in zip(found, right, strict=True)]
    return float(np.mean(hits if among is None else list(itertools.compress(hits, among))))


def score_table(path: Path, data: Path) -> tuple[str, str, str]:
    """Return Markdown tables of the scores as shipped, of the dtypes, and of the lookaheads."""
    parts = {split: read(data, split) for split in ("train", "valid", "test")}
    known = {word for sentence in parts["train"] for word in sentence.words}
    tagger = Tagger(path)
    scores = ["| split | words | accuracy | words not in train | |", "|---|---:|---:|---:|---|"]
    right = {n: [tag for sentence in part for tag in sentence.tags] for n, part in parts.items()}
    found = {}
    for split, note in NOTES.items():
        found[split] = tags_of(tagger.tag, parts[split], split)
        new = [word not in known for sentence in parts[split] for word in sentence.words]
        scores.append(
            f"| {split} | {len(right[split]):,} | {share(found[split], right[split]):.2%} "
            f"| {share(found[split], right[split], new):.2%} | {note} |"
        )
    scores += ["", f"Most frequent confusions on test: {confusions(found['test'], right['test'])}."]

    dtypes = ["| dtype | valid | test | words per second |", "|---|---:|---:|---:|"]
    for dtype in DTYPES:
        other = Tagger(path, dtype)
        other.tag(parts["test"][0].words)  # compiles
        started = time.perf_counter()
        shares = [share(tags_of(other.tag, parts[s], dtype), right[s]) for s in NOTES]
        seconds = time.perf_counter() - started
        speed = sum(len(right[s]) for s in NOTES) / seconds
        dtypes.append(f"| {dtype} | {shares[0]:.2%} | {shares[1]:.2%} | {speed:,.0f} |")

    late = ["| lookahead | accuracy on test |", "|---|---:|"]
    for lookahead in LOOKAHEADS:
        tags = tags_of(
            lambda words, lookahead=lookahead: tagger.tag_late(words, lookahead),
            parts["test"],
            f"lookahead {lookahead}",
        )
        late.append(f"| {lookahead} | {share(tags, right['test']):.2%} |")
    late.append(f"| whole sentence | {share(found['test'], right['test']):.2%} |")
    return "\n".join(scores), "\n".join(dtypes), "\n".join(late)


def confusions(found: Sequence[str], right: Sequence[str]) -> str:
    """Return the most frequent wrong tags with how often each was given for what."""
    wrong = Counter((b, a) for a, b in zip(found, right, strict=True) if a != b)
    most = wrong.most_common(NUM_CONFUSIONS)
    return ", ".join(f"{true} taken for {tag} ({n})" for (true, tag), n in most)


def main() -> None:
    """Score, print, write the card."""
    parser = argparse.ArgumentParser(description="Score the part-of-speech tagger.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--model", type=Path, default=POS, help="the .safetensors file")
    args = parser.parse_args()
    card = args.model.with_suffix(".md")
    tables = score_table(args.model, args.data)
    fill(card, "model", describe(**files(args.model)))
    for name, table in zip(("scores", "dtypes", "lookahead"), tables, strict=True):
        console.print(table)
        fill(card, name, table)


if __name__ == "__main__":
    main()
