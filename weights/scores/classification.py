"""Score the models that classify text: accuracy, F1 and speed."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from numlstm.tasks.text.classify import Classifier
from weights.scores.card import NOTES, Subject, accuracy, read_rows, seconds, table, watch

POLARITY = {"0": "negative", "1": "positive"}
SPLITS = {
    "sentiment": {
        "sentiment/sentence_polarity.valid": NOTES["valid"],
        "sentiment/sentence_polarity.test": NOTES["test"],
        "sentiment/movie_reviews.test": f"{NOTES['test']}; whole reviews, another kind of text",
    },
    "email": {
        "spam/sms_spam.valid": NOTES["valid"],
        "spam/sms_spam.test": NOTES["test"],
    },
}
NUM_TIMED = 200


def measure(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield the tables of the card."""
    pipe = subject.pipeline()
    splits = SPLITS[subject.task]
    parts = {split: read(subject, split) for split in splits}
    last = pipe.model.labels[-1]

    found = {split: labels(pipe, texts, split) for split, (texts, _) in parts.items()}
    test = next(split for split in splits if split.endswith(".test"))
    yield "summary", f"{accuracy(found[test], parts[test][1]):.1%} of {test.partition('/')[2]}"

    def row(split: str) -> list[str]:
        texts, right = parts[split]
        shares = f"{accuracy(found[split], right):.1%}", f"{f1(found[split], right, last):.3f}"
        return [split.partition("/")[2], f"{len(texts):,}", *shares, splits[split]]

    head = ("split", "texts", "accuracy", f"F1 of {last}", "")
    yield "scores", table(head, (row(split) for split in splits))

    yield "speed", speed(pipe, parts[test][0][:NUM_TIMED])

    rows = [
        [dtype, *(f"{accuracy(labels(other, t, dtype), right):.2%}" for t, right in parts.values())]
        for dtype, other in subject.in_each_dtype()
    ]
    if rows:
        yield "dtypes", table(("dtype", *(s.partition("/")[2] for s in splits)), rows)
    if subject.task == "email":
        yield "not shipped", not_shipped(subject)


def read(subject: Subject, split: str) -> tuple[list[str], list[str]]:
    """Return the texts and the labels of a split."""
    return read_texts(subject.data / f"{split}.tsv.gz")


def read_texts(path: Path) -> tuple[list[str], list[str]]:
    """Return the texts and the labels of a file: its last column and its first one."""
    rows = read_rows(path)
    return [row[-1] for row in rows], [POLARITY.get(row[0], row[0]) for row in rows]


def labels(pipe: Classifier, texts: Sequence[str], name: str) -> list[str]:
    """Return the labels of texts."""
    return [pipe(text).label for text in watch(texts, name)]


def f1(found: Sequence[str], right: Sequence[str], label: str) -> float:
    """Return the harmonic mean of precision and recall of a label."""
    hits = sum(a == b == label for a, b in zip(found, right, strict=True))
    return 2 * hits / (list(found).count(label) + list(right).count(label))


def speed(pipe: Classifier, texts: Sequence[str]) -> str:
    """Return how long a token takes, from text to answer."""
    num_tokens = sum(len(pipe.encoder(text)) for text in texts)
    each = seconds(lambda: labels(pipe, texts, "speed")) / num_tokens
    return f"{each * 1e6:.1f} us per token on one core, from text to answer."


def not_shipped(subject: Subject) -> str:
    """Return what the recipe measured of the network for emails, which is not shipped."""
    scores = json.loads(subject.path.with_suffix(".json").read_text(encoding="utf-8"))
    head = ("split", "accuracy", "precision", "recall", "F1 of spam")
    rows = (
        [f"spamassassin_email.{split}"]
        + [f"{found[name]:.1%}" for name in ("accuracy", "spam_precision", "spam_recall")]
        + [f"{found['spam_f1']:.3f}"]
        for split, found in scores["spamassassin_not_shipped"].items()
    )
    return table(head, rows)
