"""Score the language models: nats per character, perplexity, what they write."""

import gzip
import math
from collections.abc import Iterator
from functools import partial

import numpy as np

import numlstm
from numlstm import Score
from numlstm.tasks.text.language import LanguageModel
from weights.recipes.kneser_ney import KneserNey
from weights.scores.card import NOTES, Subject, console, seconds, table

SETS = {
    "character": "tinyshakespeare",
    "subword": "tinyshakespeare",
    "words": "wikitext2_small",
}
ORDER = 5  # of Kneser-Ney

SEED = 0
TEMPERATURE = 0.8
SAMPLE_TOKENS = {"character": 600, "subword": 240, "words": 120}
NUM_TIMED = 2000


def measure(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield the tables of the card."""
    pipe = subject.pipeline()
    name = SETS[subject.name]
    texts = {split: read(subject, split) for split in ("train", *NOTES)}
    scores = {split: score(pipe, texts[split], split) for split in NOTES}
    test = scores["test"]
    per_character = test.nats / len(texts["test"])
    yield (
        "summary",
        f"perplexity {test.perplexity:.1f} of {name}.test"
        if subject.name == "words"
        else f"{per_character:.3f} nats per character of {name}.test",
    )
    rows = []
    for split, found in scores.items():
        figures = f"{found.perplexity:.2f}", f"{found.nats / len(texts[split]):.3f}"
        rows.append([f"{name}.{split}", f"{found.num_tokens:,}", *figures, NOTES[split]])
    yield "scores", table(("split", "tokens", "perplexity", "nats per character", ""), rows)
    if subject.name == "words":
        ids = {split: pipe.encoder(text) for split, text in texts.items()}
        ngrams = KneserNey(ids["train"], pipe.model.output_size, ORDER)
        rows = []
        for split, found in scores.items():
            theirs = math.exp(ngrams.nats_per_token(ids[split]))
            rows.append([f"{name}.{split}", f"{found.perplexity:.1f}", f"{theirs:.1f}"])
        head = ("split", "perplexity of words", f"of modified Kneser-Ney, {ORDER}-grams")
        yield "kneser_ney", table(head, rows)
    rows = []
    for dtype, other in subject.in_each_dtype():
        for split in NOTES:
            found = score(other, texts[split], f"{split} in {dtype}")
            per_character = found.nats / len(texts[split])
            rows.append([dtype, split, f"{found.perplexity:.3f}", f"{per_character:.4f}"])
    if rows:
        yield "dtypes", table(("dtype", "split", "perplexity", "nats per character"), rows)
    yield "speed", speed(pipe.model, texts["test"])
    yield "sample", sample(pipe.model, subject.name)


def read(subject: Subject, split: str) -> str:
    """Return the text of a split."""
    path = subject.data / "language_model" / f"{SETS[subject.name]}.{split}.txt.gz"
    return gzip.decompress(path.read_bytes()).decode("utf-8")


def score(pipe: LanguageModel, text: str, name: str) -> Score:
    """Score a text from its first token to its last; the state is never reset."""
    with console.status(f"scoring {name}"):
        return pipe.score(text)


def sample(model: numlstm.Model, name: str) -> str:
    """Return what a model writes, chosen by seed, as a Markdown block."""
    writer = numlstm.pipeline("generate", model)
    text = writer("", max_tokens=SAMPLE_TOKENS[name], temperature=TEMPERATURE, seed=SEED)
    text = "\n".join(line.strip() for line in text.replace("<eos>", "<eos>\n").split("\n")).strip()
    return f"```text\n{text}\n```"


def speed(model: numlstm.Model, text: str) -> str:
    """Return how long a step and a written character take."""
    stream = model.stream()
    ids = numlstm.pipeline("language-model", model).encoder(text[: 8 * NUM_TIMED])[:NUM_TIMED]
    step = np.median([seconds(partial(stream.step, token), 1) for token in ids])
    writer = numlstm.pipeline("generate", model)
    written = writer("", max_tokens=NUM_TIMED, seed=SEED)
    duration = seconds(lambda: writer("", max_tokens=NUM_TIMED, seed=SEED))
    return (
        f"{step * 1e6:.1f} us per token on one core, {len(written) / duration:,.0f} characters "
        "written per second."
    )
