"""Score the speech model: words right, and how long after they end they are known."""

from collections.abc import Iterator
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

import numlstm
from numlstm.tasks.audio.features import ROW_SECONDS, SAMPLE_RATE
from numlstm.tasks.audio.transcribe import Transcriber, Transcript
from weights.recipes.speech_data import Utterance, WordErrors, read, singles, strings, word_errors
from weights.scores.card import NOTES, Subject, seconds, table, watch

SEED = 0
NUM_STRINGS = {"valid": 150, "test": 200}
BEAM_SIZES = (1, 8)
RATES = (SAMPLE_RATE, 16_000, 44_100)
LATENCY_STRINGS = 50
PIECE_MS = 10  # what a stream is fed at once
PERCENTILES = (50, 90, 99)


class Score(NamedTuple):
    """What was right of a split: the recordings as they are, and the words of strings of them."""

    alone: WordErrors
    joined: WordErrors
    wrong: list[str]  # of the recordings, what was taken for what
    heard: list[Transcript]  # of the strings

    @property
    def cells(self) -> tuple[str, str]:
        """The share of recordings that are right, and the word error rate of strings."""
        return f"{self.alone.right:.1%}", f"{self.joined.rate:.2%}"


def measure(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield the tables of the card."""
    model = subject.pipeline().model
    sounds = {split: parts(subject.data, split) for split in NOTES}
    scores = {
        (split, beam_size): score(Transcriber(model, beam_size), *sounds[split])
        for split in NOTES
        for beam_size in BEAM_SIZES
    }
    best_path = scores["test", BEAM_SIZES[0]]
    right, rate = best_path.cells
    yield "summary", f"{right} of digits, word error rate {rate} of strings"
    rows = []
    for (split, beam_size), found in scores.items():
        decoder = "best path" if beam_size == 1 else f"beam of {beam_size}"
        right, rate = found.cells
        counts = f"{found.alone.num_words:,}", f"{found.joined.num_words:,}"
        rows.append([split, decoder, counts[0], right, counts[1], rate, NOTES[split]])
    head = ("split", "decoder", "recordings", "right", "words in strings", "word error rate", "")
    wrong = ", ".join(best_path.wrong) or "none"
    yield "scores", f"{table(head, rows)}\n\nRecordings of test that were wrong: {wrong}."
    yield "latency", latency_table(model, sounds["test"][1], best_path.heard)
    yield "speed", speed(model, sounds["valid"][1][:LATENCY_STRINGS])
    rows = [
        [dtype, split, *score(pipe, *sounds[split]).cells]
        for dtype, pipe in subject.in_each_dtype()
        for split in NOTES
    ]
    if rows:
        head = ("dtype", "split", "recordings right", "word error rate of strings")
        yield "dtypes", table(head, rows)


def parts(data: Path, split: str) -> tuple[list[Utterance], list[Utterance]]:
    """Return the recordings of a split as they are, and strings of them."""
    recordings = read(data / "speech_digits", split)
    return singles(recordings), strings(recordings, NUM_STRINGS[split], SEED)


def score(pipe: Transcriber, alone: list[Utterance], joined: list[Utterance]) -> Score:
    """Score recordings, and strings of them."""
    words, heard = (
        [pipe((each.samples, SAMPLE_RATE)) for each in watch(of, "transcribe")]
        for of in (alone, joined)
    )
    wrong = [
        f"{each.text} taken for {found.text or 'silence'}"
        for each, found in zip(alone, words, strict=True)
        if each.text != found.text
    ]
    errors = (
        word_errors(of, [each.text for each in found])
        for of, found in ((alone, words), (joined, heard))
    )
    return Score(*errors, wrong, heard)


def speed(model: numlstm.Model, joined: list[Utterance]) -> str:
    """Return how much faster than it is spoken speech is transcribed."""
    pipe = Transcriber(model)
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


def latency_table(model: numlstm.Model, joined: list[Utterance], heard: list[Transcript]) -> str:
    """Return how long after its end a word is said, and how far its times are off."""
    pipe = Transcriber(model)
    # Only where all words are right it is known which is which.
    are_right = [found.text == string.text for found, string in zip(heard, joined, strict=True)]
    chosen = list(compress(joined[:LATENCY_STRINGS], are_right))
    rows = []
    for rate in RATES:
        late: list[float] = []
        for string in watch(chosen, f"{rate} Hz"):
            times = list(arrivals(pipe, string, rate))
            if len(times) == len(string.words):
                late += [t - word.end for t, word in zip(times, string.words, strict=True)]
        cells = (f"{1000 * np.percentile(late, p):.0f} ms" for p in PERCENTILES)
        rows.append([f"{rate:,} Hz", f"{len(late)}", *cells])
    pairs = [
        pair
        for found, string in compress(zip(heard, joined, strict=True), are_right)
        for pair in zip(found.words, string.words, strict=True)
    ]
    start, end = (
        1000 * np.median([abs(getattr(a, side) - getattr(b, side)) for a, b in pairs])
        for side in ("start", "end")
    )
    latency = table(("sound", "words", *(f"{p} %" for p in PERCENTILES)), rows)
    return f"{latency}\n\nMedian error of a word's start {start:.0f} ms, of its end {end:.0f} ms."
