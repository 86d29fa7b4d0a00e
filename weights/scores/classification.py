"""Score the models that classify text by the engine, in each dtype.

    python -m weights.scores.classification email --data DIR
    python -m weights.scores.classification sentiment-bilstm --data DIR

DIR holds the folders ``spam`` and ``sentiment``. What it finds goes into the model's card.
"""

import argparse
import gzip
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

import numlstm
from weights.scores.card import describe, fill

WEIGHTS = Path(__file__).parents[1]
DTYPES = ("float32", "bfloat16", "int8")
POLARITY = {"0": "negative", "1": "positive"}
SPLITS = {
    "email": {
        "spam/sms_spam.valid": "the epoch was chosen on it",
        "spam/sms_spam.test": "never seen",
    },
    "sentiment-bilstm": {
        "sentiment/sentence_polarity.valid": "the epoch was chosen on it",
        "sentiment/sentence_polarity.test": "never seen",
        "sentiment/movie_reviews.test": "never seen; whole reviews, another kind of text",
    },
}

console = Console()


def read(path: Path) -> tuple[list[str], list[str]]:
    """Return the texts and the labels of a file: the first column is the label, the last a text."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return [row[-1] for row in rows], [POLARITY.get(row[0], row[0]) for row in rows]


class Classifier:
    """Gives whole texts labels, by networks that are causal and by those that are not."""

    def __init__(self, path: Path, dtype: str | None = None) -> None:
        self.model = numlstm.load(path, dtype=dtype)
        self.tokenizer = self.model.load_tokenizer()
        self.num_tokens = 0

    def labels(self, texts: Sequence[str], name: str) -> list[str]:
        """Return the labels of texts."""
        found = []
        for text in track(texts, name, console=console, transient=True):
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids or [0]
            self.num_tokens += len(ids)
            best = self.model.run(np.array(ids, np.int32))[-1].argmax()
            found.append(self.model.labels[best])
        return found


def accuracy(found: Sequence[str], right: Sequence[str]) -> float:
    """Return the share of right labels."""
    return float(np.mean([a == b for a, b in zip(found, right, strict=True)]))


def f1(found: Sequence[str], right: Sequence[str], label: str) -> float:
    """Return the harmonic mean of precision and recall of a label."""
    hits = sum(a == b == label for a, b in zip(found, right, strict=True))
    return 2 * hits / (list(found).count(label) + list(right).count(label))


def score_tables(path: Path, data: Path) -> tuple[str, str]:
    """Return the scores as shipped and those of each dtype as Markdown tables."""
    splits = SPLITS[path.stem]
    parts = {split: read(data / f"{split}.tsv.gz") for split in splits}
    model = Classifier(path)
    last = model.model.labels[-1]
    scores = [f"| split | texts | accuracy | F1 of {last} | |", "|---|---:|---:|---:|---|"]
    for split, (texts, right) in parts.items():
        found = model.labels(texts, split)
        scores.append(
            f"| {split.partition('/')[2]} | {len(texts):,} | {accuracy(found, right):.1%} "
            f"| {f1(found, right, last):.3f} | {splits[split]} |"
        )
    names = " | ".join(split.partition("/")[2] for split in splits)
    dtypes = [
        f"| dtype | {names} | microseconds per token |",
        "|---|" + "---:|" * (len(splits) + 1),
    ]
    for dtype in DTYPES:
        model = Classifier(path, dtype)
        model.labels(["compiled"], dtype)
        model.num_tokens, started = 0, time.perf_counter()
        shares = [accuracy(model.labels(texts, dtype), right) for texts, right in parts.values()]
        each = (time.perf_counter() - started) / model.num_tokens * 1e6
        dtypes.append(f"| {dtype} | {' | '.join(f'{s:.1%}' for s in shares)} | {each:.1f} |")
    return "\n".join(scores), "\n".join(dtypes)


def not_shipped(path: Path) -> str:
    """Return what the recipe measured of the network for emails, which is not shipped."""
    scores = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    lines = ["| split | accuracy | precision | recall | F1 of spam |", "|---|---:|---:|---:|---:|"]
    for split, found in scores["spamassassin_not_shipped"].items():
        lines.append(
            f"| spamassassin_email.{split} | {found['accuracy']:.1%} "
            f"| {found['spam_precision']:.1%} | {found['spam_recall']:.1%} "
            f"| {found['spam_f1']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Score, print, write the card."""
    parser = argparse.ArgumentParser(description="Score a model that classifies text.")
    parser.add_argument("name", choices=SPLITS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    args = parser.parse_args()
    path = WEIGHTS / f"{args.name}.safetensors"
    card = path.with_suffix(".md")
    fill(card, "model", describe(classifier=path))
    tables = dict(zip(("scores", "dtypes"), score_tables(path, args.data), strict=True))
    if args.name == "email":
        tables["not shipped"] = not_shipped(path)
    for name, table in tables.items():
        console.print(table)
        fill(card, name, table)


if __name__ == "__main__":
    main()
