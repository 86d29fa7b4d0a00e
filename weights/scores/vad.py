"""Score the voice detector: words found among silences, how soon, and whether as its authors'."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import soxr

import numlstm
from numlstm.tasks.audio.vad import VoiceDetector
from numlstm.tasks.audio.voice import CHUNKINGS, SpeechSegment
from weights.recipes.speech_data import (
    SAMPLE_RATE,
    Floats,
    Recordings,
    Utterance,
    join,
    pick,
    read,
    seconds,
)
from weights.recipes.vad import FILE
from weights.scores.card import DTYPES, Subject, table, watch

SEED = 0
NUM_STRINGS = 60
NUM_WORDS = 6
SILENCE = (0.5, 2.0)  # seconds before, between and after words
NOISES = {"none": None, "20 dB": 20.0, "10 dB": 10.0, "5 dB": 5.0}  # speech above white noise
RATES = (SAMPLE_RATE, 16_000)
EDGE = 0.1  # seconds around an end of a word where either answer is right
PIECE_MS = 10  # what a stream is fed at once
PERCENTILES = (50, 90, 99)


class Score(NamedTuple):
    """Of strings: chunks that are right, words that are found, and segments without a word."""

    right: float
    words: float
    false: int

    @property
    def cells(self) -> tuple[str, ...]:
        return f"{self.right:.1%}", f"{self.words:.1%}", str(self.false)


def measure(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield the tables of the card."""
    pipe = subject.pipeline()
    sounds = {noise: strings(subject.data, snr) for noise, snr in NOISES.items()}
    scores = {(rate, noise): score(pipe, sounds[noise], rate) for rate in RATES for noise in NOISES}
    worst = differences(subject, pipe, sounds["10 dB"])
    clean = scores[SAMPLE_RATE, "20 dB"]
    yield (
        "summary",
        f"{clean.words:.1%} of words at 20 dB, as the authors' within {max(worst.values()):.0e}",
    )
    rows = [[f"{rate:,} Hz", noise, *found.cells] for (rate, noise), found in scores.items()]
    head = ("sound", "speech above noise", "chunks right", "words found", "segments without words")
    yield "scores", table(head, rows)
    yield "authors", authors(worst)
    yield "latency", latency_table(pipe, sounds["20 dB"])
    yield "speed", speed(pipe, sounds["20 dB"])
    yield "dtypes", dtypes_table(subject, sounds["10 dB"])


def strings(data: Path, snr: float | None) -> list[Utterance]:
    """Return words of test among silences, with noise: the same ones for a seed."""
    recordings: Recordings = read(data / "speech_digits", "test")
    rng = np.random.default_rng(SEED)
    result = []
    for _ in range(NUM_STRINGS):
        chosen = pick(recordings, rng, NUM_WORDS)
        words = [(recordings.digits[n], recordings.samples[n]) for n in chosen]
        string = join(words, seconds(rng, SILENCE, NUM_WORDS + 1))
        noise = rng.standard_normal(len(string.samples))
        if snr is not None:
            power = np.concatenate([samples for _, samples in words]).std()
            noisy = string.samples + noise * power * 10 ** (-snr / 20)
            string = Utterance(noisy.astype(np.float32), string.words)
        result.append(string)
    return result


def at_rate(string: Utterance, rate: int) -> Floats:
    resampled: Floats = soxr.resample(string.samples, SAMPLE_RATE, rate)
    return resampled


def score(pipe: VoiceDetector, sounds: list[Utterance], rate: int) -> Score:
    """Score strings at a rate."""
    right, num_words, num_false = [], 0, 0
    for string in watch(sounds, f"{rate} Hz"):
        found = pipe((at_rate(string, rate), rate))
        times = (np.arange(len(found.probabilities)) + 0.5) * found.chunk_seconds
        are_words = _within(times, [(word.start, word.end) for word in string.words])
        ends = [end for word in string.words for end in (word.start, word.end)]
        counts = np.abs(times[:, None] - ends).min(axis=1) > EDGE
        right.append(((found.probabilities >= pipe.hysteresis.threshold) == are_words)[counts])
        middles = [(word.start + word.end) / 2 for word in string.words]
        num_words += sum(any(s.start < m < s.end for s in found.segments) for m in middles)
        num_false += sum(not _meets(segment, string) for segment in found.segments)
    return Score(
        float(np.concatenate(right).mean()), num_words / len(sounds) / NUM_WORDS, num_false
    )


def _within(times: Floats, spans: list[tuple[float, float]]) -> Any:
    return np.any([(times >= start) & (times < end) for start, end in spans], axis=0)


def _meets(segment: SpeechSegment, string: Utterance) -> bool:
    return any(word.start < segment.end and segment.start < word.end for word in string.words)


def differences(subject: Subject, pipe: VoiceDetector, sounds: list[Utterance]) -> dict[int, float]:
    """Return the largest difference of a probability from that of the authors' file, by rate."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(subject.data / "silero_vad_6" / FILE, options)
    worst = {}
    for rate, model in pipe.models.items():
        chunking = CHUNKINGS[model.input_size]
        worst[rate] = 0.0
        for string in watch(sounds, "ONNX Runtime"):
            samples = at_rate(string, rate)
            count = len(samples) // chunking.size
            found = pipe((samples, rate)).probabilities[:count]
            state = np.zeros((2, 1, 128), np.float32)
            padded = np.concatenate([np.zeros(chunking.context, np.float32), samples])
            for n in range(count):
                x = padded[n * chunking.size :][: chunking.context + chunking.size]
                feeds = {"input": x[None], "state": state, "sr": np.array(rate)}
                y, state = session.run(None, feeds)
                worst[rate] = max(worst[rate], abs(float(y[0, 0]) - float(found[n])))
    return worst


def authors(worst: dict[int, float]) -> str:
    """Return how far the probabilities are from the authors', in words."""
    said = ", ".join(f"{each:.1e} at {rate:,} Hz" for rate, each in worst.items())
    return (
        f"On {NUM_STRINGS} strings of 10 dB the probabilities differ from those of the authors' "
        f"file in ONNX Runtime {onnxruntime.__version__} by at most {said}."
    )


def latency_table(pipe: VoiceDetector, sounds: list[Utterance]) -> str:
    """Return how long after it a beginning and an end are told, by options."""
    rows = []
    for name, detector in (
        ("as they are", pipe),
        ("min_speech_duration=0", VoiceDetector(_parts(pipe), min_speech_duration=0)),
    ):
        late: dict[str, list[float]] = {"start": [], "end": []}
        for string in watch(sounds, name):
            stream = detector.stream(SAMPLE_RATE)
            size = SAMPLE_RATE * PIECE_MS // 1000
            for at in range(0, len(string.samples), size):
                for event in stream.feed(string.samples[at : at + size]):
                    late[event.kind].append((at + size) / SAMPLE_RATE - event.time)
        for kind, each in late.items():
            cells = (f"{1000 * np.percentile(each, p):.0f} ms" for p in PERCENTILES)
            rows.append([name, kind, f"{len(each)}", *cells])
    return table(("options", "event", "events", *(f"{p} %" for p in PERCENTILES)), rows)


def _parts(pipe: VoiceDetector) -> dict[str, numlstm.Model]:
    return {str(rate): model for rate, model in pipe.models.items()}


def speed(pipe: VoiceDetector, sounds: list[Utterance]) -> str:
    """Return how much faster than it is spoken speech is found, in files and as it arrives."""
    said = []
    for rate in RATES:
        samples = np.concatenate([at_rate(string, rate) for string in sounds[:10]])
        duration = len(samples) / rate
        whole = cpu_seconds(lambda samples=samples, rate=rate: pipe((samples, rate)))

        def live(samples: Floats = samples, rate: int = rate) -> None:
            stream = pipe.stream(rate)
            for at in range(0, len(samples), rate // 50):
                stream.feed(samples[at : at + rate // 50])

        said.append(
            f"{duration / whole:,.0f} seconds of sound at {rate:,} Hz per second of CPU, "
            f"{duration / cpu_seconds(live):,.0f} as it arrives, 20 ms at a time"
        )
    return "; ".join(said) + "."


def cpu_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Return the median of what a call takes of the CPU."""
    durations = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        durations.append(time.process_time() - started)
    return sorted(durations)[repeats // 2]


def dtypes_table(subject: Subject, sounds: list[Utterance]) -> str:
    """Return what rounding the weights does to the probabilities, at 16 kHz."""
    rows = []
    exact = subject.pipeline()
    expected = [exact((at_rate(string, 16_000), 16_000)).probabilities for string in sounds]
    for dtype in DTYPES:
        pipe = numlstm.pipeline(subject.task, numlstm.load_parts(subject.path, dtype))
        found = [pipe((at_rate(string, 16_000), 16_000)).probabilities for string in sounds]
        worst = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
        rows.append([dtype, f"{worst:.1e}", *score(pipe, sounds, 16_000).cells])
    head = ("dtype", "largest change", "chunks right", "words found", "segments without words")
    return table(head, rows)
