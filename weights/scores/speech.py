"""Score the speech model: words right, and how long after they end they are known."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr

import numlstm
from numlstm.audio.features import ROW_SECONDS, SAMPLE_RATE
from numlstm.audio.transcribe import Transcriber, Transcript
from weights.recipes.speech_data import Utterance, read, singles, strings, word_errors
from weights.scores.card import NOTES, Subject, seconds, watch

SEED = 0
NUM_STRINGS = {"valid": 150, "test": 200}
BEAM_SIZES = (1, 8)
RATES = (SAMPLE_RATE, 16_000, 44_100)
LATENCY_STRINGS = 50
PIECE_MS = 10  # what a stream is fed at once
PERCENTILES = (50, 90, 99)


def measure(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield the tables of the card."""
    model = subject.pipeline().model
    yield "summary", summary(subject.data, model)
    yield "scores", score_table(subject.data, model)
    yield "latency", latency_table(subject.data, model)
    yield "speed", speed(subject.data, model)
    rows = dtype_table(subject)
    if rows:
        yield "dtypes", rows


def summary(data: Path, model: numlstm.Model) -> str:
    """Return the scores of the test part in a line."""
    _, right, _, rate = score_row(Transcriber(model), *parts(data, "test")).split(" | ")
    return f"{right} of digits, word error rate {rate} of strings"


def transcribe(pipe: Transcriber, utterances: list[Utterance], name: str) -> list[Transcript]:
    """Transcribe all, with a progress bar."""
    todo = watch(utterances, name)
    return [pipe((each.samples, SAMPLE_RATE)) for each in todo]


def parts(data: Path, split: str) -> tuple[list[Utterance], list[Utterance]]:
    """Return the recordings of a split as they are, and strings of them."""
    recordings = read(data / "speech_digits", split)
    return singles(recordings), strings(recordings, NUM_STRINGS[split], SEED)


def score_row(pipe: Transcriber, alone: list[Utterance], joined: list[Utterance]) -> str:
    """Return the share of recordings that are right, and the word error rate of strings."""
    cells = []
    for utterances in (alone, joined):
        found = [each.text for each in transcribe(pipe, utterances, "transcribe")]
        errors = word_errors(utterances, found)
        cells += [f"{errors.num_words:,}"]
        cells += [f"{errors.right:.1%}" if utterances is alone else f"{errors.rate:.2%}"]
    return " | ".join(cells)


def score_table(data: Path, model: numlstm.Model) -> str:
    """Return words right and wrong as a Markdown table, and what was taken for what."""
    lines = [
        "| split | decoder | recordings | right | words in strings | word error rate | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for split, note in NOTES.items():
        alone, joined = parts(data, split)
        for beam_size in BEAM_SIZES:
            decoder = "best path" if beam_size == 1 else f"beam of {beam_size}"
            row = score_row(Transcriber(model, beam_size), alone, joined)
            lines.append(f"| {split} | {decoder} | {row} | {note} |")
    found = transcribe(Transcriber(model), alone, "transcribe")
    wrong = [
        f"{each.text} taken for {heard.text or 'silence'}"
        for each, heard in zip(alone, found, strict=True)
        if each.text != heard.text
    ]
    lines += ["", f"Recordings of test that were wrong: {', '.join(wrong) or 'none'}."]
    return "\n".join(lines)


def dtype_table(subject: Subject) -> str:
    """Return the scores of each dtype as a Markdown table."""
    lines = [
        "| dtype | split | recordings right | word error rate of strings |",
        "|---|---|---:|---:|",
    ]
    for dtype, pipe in subject.in_each_dtype():
        for split in NOTES:
            _, right, _, rate = score_row(pipe, *parts(subject.data, split)).split(" | ")
            lines.append(f"| {dtype} | {split} | {right} | {rate} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def speed(data: Path, model: numlstm.Model) -> str:
    """Return how much faster than it is spoken speech is transcribed."""
    pipe = Transcriber(model)
    _, joined = parts(data, "valid")
    joined = joined[:LATENCY_STRINGS]
    duration = sum(len(each.samples) for each in joined) / SAMPLE_RATE
    taken = seconds(lambda: [pipe((each.samples, SAMPLE_RATE)) for each in joined])
    per_row = taken / (duration / ROW_SECONDS)
    return (
        f"{duration / taken:,.0f} seconds of sound per second on one core, "
        f"{per_row * 1e6:.0f} us per step of {ROW_SECONDS * 1e3:.0f} ms, its features included."
    )


def arrivals(pipe: Transcriber, string: Utterance, rate: int) -> Iterator[float]:
    """Yield how many seconds of sound had arrived when each word was first said."""
    stream = pipe.stream(rate)
    samples = soxr.resample(string.samples, SAMPLE_RATE, rate)
    size = rate * PIECE_MS // 1000
    said = 0
    for at in range(0, len(samples), size):
        piece = samples[at : at + size]
        words = stream.feed(piece).words
        yield from [(at + len(piece)) / rate] * (len(words) - said)
        said = len(words)


def latency_table(data: Path, model: numlstm.Model) -> str:
    """Return how long after its end a word is said, and how far its times are off."""
    pipe = Transcriber(model)
    _, joined = parts(data, "test")
    heading = " | ".join(f"{p} %" for p in PERCENTILES)
    lines = [f"| sound | words | {heading} |", "|---|---:|" + "---:|" * len(PERCENTILES)]
    chosen = joined[:LATENCY_STRINGS]
    for rate in RATES:
        late: list[float] = []
        for string in watch(chosen, f"{rate} Hz"):
            # Only where all words are right it is known which is which.
            times = list(arrivals(pipe, string, rate))
            if pipe((string.samples, SAMPLE_RATE)).text == string.text and len(times) == len(
                string.words
            ):
                late += [t - word.end for t, word in zip(times, string.words, strict=True)]
        cells = " | ".join(f"{1000 * np.percentile(late, p):.0f} ms" for p in PERCENTILES)
        lines.append(f"| {rate:,} Hz | {len(late)} | {cells} |")
    found = transcribe(pipe, joined, "times")
    pairs = [
        pair
        for string, heard in zip(joined, found, strict=True)
        if heard.text == string.text
        for pair in zip(heard.words, string.words, strict=True)
    ]
    start, end = (
        1000 * np.median([abs(getattr(a, side) - getattr(b, side)) for a, b in pairs])
        for side in ("start", "end")
    )
    lines += ["", f"Median error of a word's start {start:.0f} ms, of its end {end:.0f} ms."]
    return "\n".join(lines)
