"""Score the bundled models, as shipped and by the engine, on data they were not trained on.

    python -m weights.evaluate --data DIR

DIR holds the folder ``sentiment`` with the .tsv.gz files. The table goes to the terminal and into
the card, ``weights/sentiment.md``.
"""

import argparse
import gzip
import re
from pathlib import Path

from rich.console import Console
from rich.progress import track

import numlstm
from numlstm.text.classify import Classifier

HERE = Path(__file__).parent
SPLITS = {
    "sentence_polarity.valid": "the epoch was chosen on it",
    "sentence_polarity.test": "never seen",
    "movie_reviews.test": "never seen; whole reviews of 700 words, another kind of text",
}

console = Console()


def read(path: Path) -> tuple[list[str], list[str]]:
    """Return the texts and the labels of a file: the first column is the label, the last a text."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    names = ("negative", "positive")
    return [row[-1] for row in rows], [names[int(row[0])] for row in rows]


def accuracy(pipe: Classifier, path: Path) -> tuple[int, float]:
    """Return the number of texts and the share whose label is right."""
    texts, labels = read(path)
    found = [pipe(text).label for text in track(texts, path.name, console=console, transient=True)]
    return len(texts), sum(a == b for a, b in zip(found, labels, strict=True)) / len(texts)


def score_table(data: Path) -> str:
    """Return the scores of the sentiment model as a Markdown table."""
    pipe = numlstm.pipeline("sentiment")
    lines = ["| split | texts | accuracy | |", "|---|---|---|---|"]
    for split, note in SPLITS.items():
        num_texts, share = accuracy(pipe, data / "sentiment" / f"{split}.tsv.gz")
        lines.append(f"| {split} | {num_texts:,} | {share:.1%} | {note} |")
    return "\n".join(lines)


def write_card(card: Path, table: str) -> None:
    """Put the table between the card's markers."""
    pattern = r"(<!-- scores -->\n).*?(<!-- /scores -->)"
    text, count = re.subn(
        pattern, rf"\g<1>{table}\n\g<2>", card.read_text(encoding="utf-8"), flags=re.S
    )
    if count != 1:
        raise ValueError(f"{card} has no place for scores")
    card.write_text(text, encoding="utf-8")


def main() -> None:
    """Score, print, write the card."""
    parser = argparse.ArgumentParser(description="Score the bundled models.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    table = score_table(parser.parse_args().data)
    console.print(table)
    write_card(HERE / "sentiment.md", table)


if __name__ == "__main__":
    main()
