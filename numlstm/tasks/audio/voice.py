"""A voice followed in a sound: what the network answers to its chunks, and where speech is.

A sound as it arrives, or many at once: calls, whose chunks are read together.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.model import Model
from numlstm.run.threads import Turn, in_turn
from numlstm.tasks.audio.features import Floats
from numlstm.tasks.audio.hysteresis import Hysteresis, Segmenter
from numlstm.tasks.audio.sound import Resampler, mono, scaled
from numlstm.tasks.pipelines import PipelineStream

# What is taken at once, so that an hour takes no more room than this.
_BLOCK = 2**18


class Chunking(NamedTuple):
    """How a network reads a sound: rows of `context` samples of before and `size` new ones."""

    rate: int
    size: int
    context: int


# By the numbers that a row has: those of Silero VAD from version 5 on, and those of 4.
CHUNKINGS = {
    c.size + c.context: c
    for c in (
        Chunking(16000, 512, 64),
        Chunking(8000, 256, 32),
        Chunking(16000, 512, 0),
        Chunking(8000, 256, 0),
    )
}


@dataclass(frozen=True)
class SpeechSegment:
    """From when to when somebody speaks: in seconds, and in samples of the sound as it was given.

    The first sample is `start_sample`, the first one behind the last is `end_sample`.
    """

    start: float
    end: float
    start_sample: int
    end_sample: int


@dataclass(frozen=True)
class SpeechEvent:
    """That speech begins or ends, "start" or "end": at which second, and which sample."""

    kind: str
    time: float
    sample: int


@dataclass(frozen=True, eq=False)
class VoiceActivity:
    """Where there is speech, and how probable it is in every chunk.

    segments        where there is speech, from the first on
    probabilities   float32 (chunks,)
    chunk_seconds   how long a chunk is: 0.032
    """

    segments: tuple[SpeechSegment, ...]
    probabilities: Floats
    chunk_seconds: float

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VoiceActivity):
            return NotImplemented
        return (
            self.segments == other.segments
            and self.chunk_seconds == other.chunk_seconds
            and self.probabilities.tobytes() == other.probabilities.tobytes()
        )

    __hash__ = None  # type: ignore[assignment]


class Ear:
    """What is heard of one sound: places in it, and what was said of its chunks."""

    def __init__(self, chunking: Chunking, hysteresis: Hysteresis, rate: float) -> None:
        self.chunking, self.rate = chunking, rate
        self.resampler = Resampler(rate, chunking.rate)
        self.segmenter = Segmenter(hysteresis, chunking.rate, chunking.size)
        self.num_samples = 0  # that were given
        self.num_read = 0  # of the rate of the network
        self.probabilities = array("f")

    def resample(self, samples: Floats, last: bool = False) -> Floats:
        """Return what the network reads of samples."""
        self.num_samples += len(samples)
        resampled = self.resampler.feed(samples, last)
        self.num_read += len(resampled)
        return resampled

    def hear(self, probability: float, size: int | None = None) -> None:
        """Take the answer to a chunk; the last one may have fewer samples than the others."""
        self.probabilities.append(probability)
        self.segmenter.feed(probability, size)

    @property
    def num_events(self) -> int:
        return len(self.segmenter.edges)

    def events(self, first: int = 0) -> list[SpeechEvent]:
        """Return what is certain, from the event of a number on."""
        return [
            SpeechEvent("start" if begins else "end", self._second(at), self._sample(at))
            for begins, at in self.segmenter.edges[first:]
        ]

    def activity(self) -> VoiceActivity:
        """Return all that is certain."""
        places = [at for _, at in self.segmenter.edges]
        segments = (
            SpeechSegment(self._second(a), self._second(b), self._sample(a), self._sample(b))
            for a, b in zip(places[::2], places[1::2], strict=False)
        )
        seconds = self.chunking.size / self.chunking.rate
        return VoiceActivity(tuple(segments), np.array(self.probabilities, np.float32), seconds)

    def _sample(self, at: int) -> int:
        return min(round(at * self.rate / self.chunking.rate), self.num_samples)

    def _second(self, at: int) -> float:
        return min(at / self.chunking.rate, self.num_samples / self.rate)


class VoiceStream(PipelineStream[VoiceActivity]):
    """A sound in progress. Get one from `VoiceDetector.stream`; it belongs to one thread at a time.

    In whatever pieces it arrives, the probabilities have the same bits and the segments are the
    same. If samples are refused, the stream is as it was before.

    Attributes
    ----------
    rate : float
        Samples per second.
    """

    _item = "sound"

    def __init__(self, model: Model, hysteresis: Hysteresis, rate: float) -> None:
        super().__init__()
        self.rate, self._hysteresis = rate, hysteresis
        self._chunking = CHUNKINGS[model.input_size]
        self._stream = model.stream()
        self.reset()

    @in_turn
    def reset(self) -> None:
        """Begin a new sound."""
        self._stream.reset()
        self._ear = Ear(self._chunking, self._hysteresis, self.rate)
        self._rest = np.zeros(self._chunking.context, np.float32)  # what the next row begins with
        self._finished = False

    @property
    def probabilities(self) -> Floats:
        """The probability of speech in every chunk so far, (chunks,)."""
        return np.array(self._ear.probabilities, np.float32)

    @property
    def events(self) -> list[SpeechEvent]:
        """All beginnings and ends that are certain so far, those that `finish` made so as well."""
        return self._ear.events()

    @property
    def is_speech(self) -> bool:
        """Whether somebody speaks now: from the first chunk on, before it is certain."""
        return self._ear.segmenter.is_speech

    @in_turn
    def feed(self, samples: ArrayLike) -> list[SpeechEvent]:
        """Take more of the sound, cut anywhere.

        Parameters
        ----------
        samples : array of shape (T,) or (T, channels)
            Floats within -1 to 1, int16, int32 or uint8.

        Returns
        -------
        list of SpeechEvent
            The beginnings and ends that are certain now and were not before: a beginning when the
            speech has lasted for `min_speech_duration`, an end when the silence behind it has for
            `min_silence_duration`. They are those of the segments of `finish`.

        Raises
        ------
        TypeError, ValueError
            If samples are not as above, or the sound was finished before.
        """
        self._check_open()
        checked = mono(samples)
        num_events = self._ear.num_events
        for at in range(0, len(checked), _BLOCK):
            self._read(self._ear.resample(checked[at : at + _BLOCK]))
        return self._ear.events(num_events)

    def _end(self) -> VoiceActivity:
        ear, chunking = self._ear, self._chunking
        self._read(ear.resample(np.zeros(0, np.float32), last=True))
        size = len(self._rest) - chunking.context
        if size:  # zeros behind it make it a chunk
            row = np.pad(self._rest, (0, chunking.size - size))
            ear.hear(float(self._stream.step(row)[0]), size)
        ear.segmenter.finish(ear.num_read)
        return ear.activity()

    def _read(self, samples: Floats) -> None:
        """Take samples of the network's rate."""
        size, context = self._chunking.size, self._chunking.context
        rest = np.concatenate([self._rest, samples])
        count = (len(rest) - context) // size
        if count == 1:  # as it is: a view of many takes as long as what is read of one
            self._ear.hear(float(self._stream.step(rest[: context + size])[0]))
        elif count:
            rows = np.lib.stride_tricks.sliding_window_view(rest, context + size)[::size]
            for probability in self._stream.run(np.ascontiguousarray(rows))[:, 0].tolist():
                self._ear.hear(probability)
        self._rest = rest[count * size :]


class VoicePool:
    """Many sounds in progress, calls for example: their chunks are read together.

    Get one from `VoiceDetector.pool`. Each has a slot from `open` to `close`, and gets the bits of
    a lone `VoiceStream`. It belongs to one thread at a time: whichever method a second one calls
    meanwhile raises a RuntimeError. If samples are refused, no sound has taken any.

    Attributes
    ----------
    rate : float
        Samples per second, of all of them.
    capacity : int
        How many may be open.

    Examples
    --------
    >>> pool = numlstm.pipeline("vad").pool(100, rate=8000)
    >>> slots = [pool.open(), pool.open()]
    >>> pool.feed(slots, np.zeros((2, 160), np.int16))
    [[], []]
    >>> pool.close(slots[0]).segments
    ()
    """

    def __init__(self, model: Model, hysteresis: Hysteresis, capacity: int, rate: float) -> None:
        self.rate, self._hysteresis = rate, hysteresis
        self._chunking = CHUNKINGS[model.input_size]
        self._pool = model.pool(capacity)
        self.capacity = self._pool.capacity
        self._turn = Turn()
        self._ears: dict[int, Ear] = {}
        # By slot: the row that is being filled, and how many samples of its chunk are there.
        self._rows = np.zeros((self.capacity, model.input_size), np.float32)
        self._counts = [0] * self.capacity

    def __len__(self) -> int:
        """How many sounds are open."""
        return len(self._ears)

    @in_turn
    def open(self) -> int:
        """Begin a sound; return its slot.

        Raises
        ------
        ValueError
            If every slot is open.
        """
        slot = self._pool.open()
        self._rows[slot], self._counts[slot] = 0, 0
        self._ears[slot] = Ear(self._chunking, self._hysteresis, self.rate)
        return slot

    @in_turn
    def feed(
        self, slots: Iterable[int], samples: Sequence[ArrayLike] | NDArray[Any]
    ) -> list[list[SpeechEvent]]:
        """Take more of several sounds, each cut anywhere.

        Parameters
        ----------
        slots : n int
            Of open sounds, each at most once.
        samples : n arrays, or an array of shape (n, T)
            Of each what `VoiceStream.feed` takes; not as many of each, unless it is an array.

        Returns
        -------
        list of n lists of SpeechEvent
            Of each what `VoiceStream.feed` returns.

        Raises
        ------
        TypeError, ValueError
            If a slot is not open or comes twice, or as `VoiceStream.feed`, naming the slot.
        """
        ears = self._open_ones(slots)
        if len(samples) != len(ears):
            raise ValueError(f"samples are those of {len(samples)} sounds, slots are {len(ears)}")
        checked = list(_checked(samples, ears))
        before = [ear.num_events for ear in ears.values()]
        parts = [ear.resample(part) for ear, part in zip(ears.values(), checked, strict=True)]
        self._read(list(ears), parts)
        return [ear.events(first) for ear, first in zip(ears.values(), before, strict=True)]

    @in_turn
    def close(self, slot: int) -> VoiceActivity:
        """Take the sound of a slot as complete and return where there is speech in it.

        Raises
        ------
        ValueError
            If the slot is not open.
        """
        ((slot, ear),) = self._open_ones([slot]).items()
        self._read([slot], [ear.resample(np.zeros(0, np.float32), last=True)])
        size = self._counts[slot]
        if size:  # zeros behind it make it a chunk
            self._rows[slot, self._chunking.context + size :] = 0
            self._step([slot], size)
        ear.segmenter.finish(ear.num_read)
        self._pool.close(slot)
        del self._ears[slot]
        return ear.activity()

    @in_turn
    def probabilities(self, slot: int) -> Floats:
        """Return the probability of speech in every chunk so far of the sound of a slot."""
        (ear,) = self._open_ones([slot]).values()
        return np.array(ear.probabilities, np.float32)

    @in_turn
    def is_speech(self, slot: int) -> bool:
        """Return whether somebody speaks now in the sound of a slot."""
        (ear,) = self._open_ones([slot]).values()
        return ear.segmenter.is_speech

    def _open_ones(self, slots: Iterable[int]) -> dict[int, Ear]:
        """Return what was heard of the sounds of slots, each open and named once, or raise."""
        found: dict[int, Ear] = {}
        for slot in slots.tolist() if isinstance(slots, np.ndarray) else slots:
            if slot not in self._ears:
                raise ValueError(f"slot {slot!r} is not open")
            if slot in found:
                raise ValueError(f"slot {slot} comes twice")
            found[slot] = self._ears[slot]
        return found

    def _read(self, slots: list[int], parts: list[Floats]) -> None:
        """Take samples of the network's rate of several sounds."""
        size, context = self._chunking.size, self._chunking.context
        rows, counts = self._rows, self._counts
        left = [(slot, part) for slot, part in zip(slots, parts, strict=True) if len(part)]
        while left:
            more, full = [], []
            for slot, part in left:
                at = counts[slot]
                count = min(len(part), size - at)
                rows[slot, context + at : context + at + count] = part[:count]
                counts[slot] = at + count
                if at + count == size:
                    full.append(slot)
                    if len(part) > count:
                        more.append((slot, part[count:]))
            if full:
                self._step(full)
            left = more

    def _step(self, slots: list[int], size: int | None = None) -> None:
        """Read the chunks of some slots, which are full, together."""
        numbers = np.array(slots)
        rows = self._rows[numbers]
        found = self._pool.step(numbers, rows)[:, 0].tolist()
        self._rows[numbers, : self._chunking.context] = rows[:, self._chunking.size :]
        for slot, probability in zip(slots, found, strict=True):
            self._counts[slot] = 0
            self._ears[slot].hear(probability, size)


def _checked(samples: Sequence[ArrayLike] | NDArray[Any], slots: Iterable[int]) -> Iterator[Floats]:
    """Yield the samples of every slot as `mono` returns them; an error names the slot."""
    if isinstance(samples, np.ndarray) and samples.ndim == 2:  # all at once
        yield from np.ascontiguousarray(scaled(samples), np.float32)
        return
    for slot, part in zip(slots, samples, strict=True):
        try:
            yield mono(part)
        except (TypeError, ValueError) as error:
            raise type(error)(f"slot {slot}: {error}") from error
