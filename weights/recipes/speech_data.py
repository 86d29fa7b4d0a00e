"""Spoken digits: the recordings, and strings of them with silences between.

The recipe trains on such strings, `weights.scores.speech` scores them. A string knows when each
of its words is spoken.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from numlstm.tasks.audio.features import SAMPLE_RATE
from numlstm.tasks.audio.transcribe import Word

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

NUM_WORDS = (3, 8)  # of a string, at least and at most
SILENCE = (0.1, 0.5)  # seconds before, between and after words
NOISE = (1e-4, 1e-3)  # its standard deviation; full scale is 1
SPEECH_DB = 35  # a recording is speech from the first to the last 10 ms this far below its loudest

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Recordings:
    """Single words: samples at `SAMPLE_RATE` from -1 to 1, the digit, who speaks."""

    samples: list[Floats]
    digits: list[int]
    speakers: list[str]


@dataclass(frozen=True)
class Utterance:
    """Samples, and what is said in them."""

    samples: Floats
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def read(data: Path, split: str) -> Recordings:
    """Read `fsdd.{split}.npz`."""
    with np.load(data / f"fsdd.{split}.npz") as file:
        samples = file["samples"].astype(np.float32) / 2**15
        if file["sample_rate"] != SAMPLE_RATE:
            raise ValueError(f"{split}: {file['sample_rate']} Hz, expected {SAMPLE_RATE}")
        return Recordings(
            np.split(samples, file["offsets"][1:-1]),
            file["digit"].tolist(),
            file["speaker"].tolist(),
        )


def speech_bounds(samples: Floats) -> tuple[int, int]:
    """Return where the speech of a recording begins and ends: without quiet edges."""
    size = SAMPLE_RATE // 100
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    energy = np.square(blocks).mean(axis=1)
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-SPEECH_DB / 10))
    return int(loud[0]) * size, (int(loud[-1]) + 1) * size


def join(words: list[tuple[int, Floats]], silences: list[int]) -> Utterance:
    """Join words, (digit, samples), with silences of so many samples before, between and after."""
    parts, spoken, at = [np.zeros(silences[0], np.float32)], [], silences[0]
    for (digit, samples), silence in zip(words, silences[1:], strict=True):
        start, end = ((at + bound) / SAMPLE_RATE for bound in speech_bounds(samples))
        spoken.append(Word(WORDS[digit], start, end))
        parts += [samples, np.zeros(silence, np.float32)]
        at += len(samples) + silence
    return Utterance(np.concatenate(parts), tuple(spoken))


def pick(recordings: Recordings, rng: np.random.Generator, num_words: int) -> list[int]:
    """Return recordings for a string: every other string has one speaker, the others any."""
    speakers = np.array(recordings.speakers)
    among = np.arange(len(speakers))
    if rng.random() < 0.5:
        among = np.flatnonzero(speakers == rng.choice(np.unique(speakers)))
    chosen: list[int] = rng.choice(among, num_words).tolist()
    return chosen


def seconds(rng: np.random.Generator, bounds: tuple[float, float], size: int) -> list[int]:
    """Return random durations, in samples."""
    durations: list[int] = (rng.uniform(*bounds, size) * SAMPLE_RATE).astype(int).tolist()
    return durations


def strings(recordings: Recordings, num_strings: int, seed: int) -> list[Utterance]:
    """Return random strings with low noise all through: the same ones for a seed."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(num_strings):
        num_words = int(rng.integers(NUM_WORDS[0], NUM_WORDS[1] + 1))
        chosen = pick(recordings, rng, num_words)
        words = [(recordings.digits[n], recordings.samples[n]) for n in chosen]
        string = join(words, seconds(rng, SILENCE, num_words + 1))
        noise = rng.normal(0, rng.uniform(*NOISE), len(string.samples))
        result.append(Utterance(string.samples + noise.astype(np.float32), string.words))
    return result


def singles(recordings: Recordings) -> list[Utterance]:
    """Return every recording as it is."""
    return [
        join([(digit, samples)], [0, 0])
        for digit, samples in zip(recordings.digits, recordings.samples, strict=True)
    ]


def edit_distance(found: list[str], expected: list[str]) -> int:
    """Return the fewest words to insert, delete or replace."""
    row = list(range(len(expected) + 1))
    for i, word in enumerate(found, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(expected, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


@dataclass(frozen=True)
class WordErrors:
    """How many words were wrong in how many, and how many utterances were right throughout."""

    num_errors: int
    num_words: int
    num_right: int
    num_utterances: int

    @property
    def rate(self) -> float:
        """The word error rate: insertions, deletions and replacements per word said."""
        return self.num_errors / self.num_words

    @property
    def right(self) -> float:
        """The share of utterances without an error."""
        return self.num_right / self.num_utterances


def word_errors(utterances: list[Utterance], found: list[str]) -> WordErrors:
    """Compare what was found in utterances with what is said in them."""
    errors = [
        edit_distance(text.split(), each.text.split())
        for text, each in zip(found, utterances, strict=True)
    ]
    num_words = sum(len(each.words) for each in utterances)
    return WordErrors(sum(errors), num_words, errors.count(0), len(errors))
