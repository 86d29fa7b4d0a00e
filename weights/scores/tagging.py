"""Score the part-of-speech tagger: whole sentences, and as a stream."""

import gzip
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from numlstm import Tag
from numlstm.tasks.text.tag import Tagger
from weights.scores.card import NOTES, Subject, accuracy, seconds, table, watch

LOOKAHEADS = (0, 1, 2, 4, 8)
NUM_CONFUSIONS = 8
NUM_TIMED = 200


@dataclass(frozen=True)
class Sentence:
    """Words and their tags."""

    words: list[str]
    tags: list[str]


def measure(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield the tables of the card."""
    pipe = subject.pipeline()
    parts = {split: read(subject.data, split) for split in ("train", *NOTES)}
    known = {word for sentence in parts["train"] for word in sentence.words}
    right = {n: [tag for sentence in part for tag in sentence.tags] for n, part in parts.items()}
    found = {split: tags_of(pipe.tag, parts[split], split) for split in NOTES}

    yield "summary", f"{accuracy(found['test'], right['test']):.1%} of UD EWT's test part"

    def row(split: str, note: str) -> list[str]:
        new = [word not in known for sentence in parts[split] for word in sentence.words]
        shares = accuracy(found[split], right[split]), accuracy(found[split], right[split], new)
        return [split, f"{len(new):,}", *(f"{each:.2%}" for each in shares), note]

    head = ("split", "words", "accuracy", "words not in train", "")
    scores = table(head, (row(*item) for item in NOTES.items()))
    wrong = confusions(found["test"], right["test"])
    yield "scores", f"{scores}\n\nMost frequent confusions on test: {wrong}."

    test = parts["test"]
    yield (
        "lookahead",
        table(
            ("lookahead", "accuracy on test"),
            [
                *(
                    [str(n), f"{accuracy(tags_late(pipe, test, n), right['test']):.2%}"]
                    for n in LOOKAHEADS
                ),
                ["whole sentence", f"{accuracy(found['test'], right['test']):.2%}"],
            ],
        ),
    )
    timed = test[:NUM_TIMED]
    num_words = sum(len(sentence.words) for sentence in timed)
    each = seconds(lambda: tags_of(pipe.tag, timed, "speed")) / num_words
    yield "speed", f"{each * 1e6:.1f} us per word on one core; each word's vector is made once."
    rows = [
        [dtype, *(f"{accuracy(tags_of(p.tag, parts[s], dtype), right[s]):.2%}" for s in NOTES)]
        for dtype, p in subject.in_each_dtype()
    ]
    if rows:
        yield "dtypes", table(("dtype", *NOTES), rows)


def read(data: Path, split: str) -> list[Sentence]:
    """Read lines of form, tag and more; a blank line is between sentences."""
    path = data / "pos_tagging" / f"ud_english_ewt.{split}.conll.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        blocks = file.read().split("\n\n")
    tables = [[line.split("\t") for line in b.split("\n") if "\t" in line] for b in blocks]
    return [Sentence([row[0] for row in rows], [row[1] for row in rows]) for rows in tables if rows]


def tags_of(
    tag: Callable[[Sequence[str]], list[Tag]], sentences: Sequence[Sentence], name: str
) -> list[str]:
    """Return the tags of all words of all sentences."""
    return [each.tag for sentence in watch(sentences, name) for each in tag(sentence.words)]


def tags_late(pipe: Tagger, sentences: Sequence[Sentence], lookahead: int) -> list[str]:
    """Return the tags of words that come one by one, each tag so many words late."""
    stream = pipe.stream(lookahead)

    def tag(words: Sequence[str]) -> list[Tag]:
        stream.reset()
        found = [tag for word in words for tag in stream.feed_words([word])]
        return found + stream.finish()

    return tags_of(tag, sentences, f"lookahead {lookahead}")


def confusions(found: Sequence[str], right: Sequence[str]) -> str:
    """Return the most frequent wrong tags with how often each was given for what."""
    wrong = Counter((b, a) for a, b in zip(found, right, strict=True) if a != b)
    most = wrong.most_common(NUM_CONFUSIONS)
    return ", ".join(f"{true} taken for {tag} ({n})" for (true, tag), n in most)
