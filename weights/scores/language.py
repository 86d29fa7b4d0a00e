"""Score the language models by the engine: nats per character, perplexity, what they write.

    python -m weights.scores.language --data DIR

DIR holds the folder ``language_model``. What it finds goes into the cards: ``character.md``,
``subword.md`` and ``words.md`` in ``weights``.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

import numlstm
from weights.recipes.kneser_ney import KneserNey
from weights.recipes.surprise import nats_of, read
from weights.scores.card import describe, fill

WEIGHTS = Path(__file__).parents[1]
SETS = {
    "character": "tinyshakespeare",
    "subword": "tinyshakespeare",
    "words": "wikitext2_small",
}
NOTES = {"valid": "the epoch was chosen on it", "test": "never seen"}
ORDER = 5  # of Kneser-Ney

SEED = 0
TEMPERATURE = 0.8
SAMPLE_TOKENS = {"character": 600, "subword": 240, "words": 120}

console = Console()


@dataclass(frozen=True)
class Surprise:
    """How a model found a text: all its tokens but the first, the state never reset."""

    nats: float
    num_tokens: int
    num_characters: int

    @property
    def perplexity(self) -> float:
        """Return it per token."""
        return math.exp(self.nats / self.num_tokens)

    @property
    def nats_per_character(self) -> float:
        """Return it for the characters of the scored tokens."""
        return self.nats / self.num_characters


def encode(model: numlstm.Model, text: str) -> list[int]:
    """Return the token ids of a text."""
    return list(model.load_tokenizer().encode(text).ids)


def score(model: numlstm.Model, text: str) -> Surprise:
    """Score a text by the engine."""
    first, *others = model.load_tokenizer().encode(text).offsets
    nats = nats_of(model, encode(model, text))
    return Surprise(nats, len(others), len(text) - first[1])


def score_file(name: str, data: Path, split: str = "test", dtype: str | None = None) -> Surprise:
    """Score the text of a split by a bundled model, in its own dtype or another one."""
    model = numlstm.load(WEIGHTS / f"{name}.safetensors", dtype=dtype)
    return score(model, read(data, f"{SETS[name]}.{split}"))


def score_table(name: str, data: Path) -> str:
    """Return the scores of a model on valid and test as a Markdown table."""
    lines = [
        "| split | tokens | perplexity per token | nats per character | |",
        "|---|---:|---:|---:|---|",
    ]
    for split, note in NOTES.items():
        found = score_file(name, data, split)
        lines.append(
            f"| {SETS[name]}.{split} | {found.num_tokens:,} | {found.perplexity:.2f} "
            f"| {found.nats_per_character:.3f} | {note} |"
        )
    return "\n".join(lines)


def kneser_ney_table(name: str, data: Path) -> str:
    """Return what n-grams find on the same tokens as a Markdown table."""
    model = numlstm.load(WEIGHTS / f"{name}.safetensors")
    ids = {split: encode(model, read(data, f"{SETS[name]}.{split}")) for split in ("train", *NOTES)}
    ngrams = KneserNey(ids["train"], model.output_size, ORDER)
    lines = [
        f"| split | perplexity of {name} | of modified Kneser-Ney, {ORDER}-grams |",
        "|---|---:|---:|",
    ]
    for split in NOTES:
        nats = nats_of(model, ids[split]) / (len(ids[split]) - 1)
        theirs = ngrams.nats_per_token(ids[split])
        lines.append(f"| {SETS[name]}.{split} | {math.exp(nats):.1f} | {math.exp(theirs):.1f} |")
    return "\n".join(lines)


def dtype_table(name: str) -> str:
    """Return what the recipe measured, by the engine in each dtype, as a Markdown table."""
    scores = json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))
    key = next(key for key in scores if key.endswith("_by_engine"))
    what = key.removesuffix("_by_engine").replace("_", " ")
    lines = [f"| dtype | {what} |", "|---|---:|"]
    return "\n".join([*lines, *(f"| {dtype} | {x:.4f} |" for dtype, x in scores[key].items())])


def write(model: numlstm.Model, start: Sequence[int], num_tokens: int, seed: int) -> list[int]:
    """Draw tokens after `start`; the unknown token, id 0 of words, is one of them."""
    generator = np.random.default_rng(seed)
    stream = model.stream()
    logits = stream.run(np.array(start, np.int32))[-1]
    tokens: list[int] = []
    while len(tokens) < num_tokens:
        scaled = logits.astype(np.float64) / TEMPERATURE
        p = np.exp(scaled - scaled.max()).cumsum()
        tokens.append(int(np.searchsorted(p, generator.random() * p[-1], side="right")))
        logits = stream.step(tokens[-1])
    return tokens


def sample(name: str) -> str:
    """Return what a model writes, chosen by seed, as a Markdown block."""
    model = numlstm.load(WEIGHTS / f"{name}.safetensors")
    tokens = write(model, encode(model, "\n"), SAMPLE_TOKENS[name], SEED)
    text = model.load_tokenizer().decode(tokens, skip_special_tokens=False)
    text = text.replace("<eos> ", "<eos>\n").strip()
    return f"```text\n{text}\n```"


def time_per_token(name: str, num_tokens: int = 2000) -> float:
    """Return the median seconds of a step, by one thread."""
    stream = numlstm.load(WEIGHTS / f"{name}.safetensors").stream()
    durations = []
    for token in np.arange(num_tokens) % 60:
        started = time.perf_counter()
        stream.step(int(token))
        durations.append(time.perf_counter() - started)
    return float(np.median(durations))


def main() -> None:
    """Score, print, write the cards."""
    parser = argparse.ArgumentParser(description="Score the language models.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    data = parser.parse_args().data / "language_model"
    for name in SETS:
        path = WEIGHTS / f"{name}.safetensors"
        if not path.exists():
            console.print(f"{path.name} is not here")
            continue
        table = score_table(name, data)
        console.print(table)
        card = path.with_suffix(".md")
        fill(card, "model", describe(**{name: path}))
        fill(card, "scores", table)
        fill(card, "dtypes", dtype_table(name))
        fill(card, "speed", f"{time_per_token(name) * 1e6:.0f} us per token on one core.")
        fill(card, "sample", sample(name))
        if name == "words":
            fill(card, "kneser_ney", kneser_ney_table(name, data))


if __name__ == "__main__":
    main()
