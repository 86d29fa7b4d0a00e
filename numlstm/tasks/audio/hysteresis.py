"""From the probability of speech in every chunk of a sound to where there is speech.

The rule is that of Silero VAD's `get_speech_timestamps`: speech begins with a chunk at `threshold`
and ends where chunks below `neg_threshold` begin, if they go on for `min_silence_duration` with
none at `threshold` in between. Here it is told of chunks as they come, and tells of a beginning and
an end as soon as no later chunk can change it.
"""

import math
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

_MIN_PAUSE = 0.098  # seconds: in a shorter one, speech that is too long is not cut
_MARGIN = 0.15  # between the thresholds
_LOWEST = 0.01  # that the lower one is by itself


class HysteresisOptions(TypedDict, total=False):
    """What is speech and what is not: the options of the task "vad", durations in seconds.

    threshold              a chunk of this probability begins speech; 0.5
    neg_threshold          one below it may end it; None: 0.15 less, 0.01 at least
    min_speech_duration    speech that is no longer is left out; 0.25
    min_silence_duration   a pause that is shorter is part of the speech around it; 0.1
    speech_pad             how much of the sound around it belongs to speech, half of the pause
                           between two at most; 0.03
    max_speech_duration    longer speech is cut at the longest pause in it of more than 98 ms, or
                           where it becomes too long; without end
    """

    threshold: float
    neg_threshold: float | None
    min_speech_duration: float
    min_silence_duration: float
    speech_pad: float
    max_speech_duration: float


@dataclass(frozen=True)
class Hysteresis:
    """`HysteresisOptions`, all of them and checked."""

    threshold: float = 0.5
    neg_threshold: float | None = None
    min_speech_duration: float = 0.25
    min_silence_duration: float = 0.1
    speech_pad: float = 0.03
    max_speech_duration: float = math.inf

    def __post_init__(self) -> None:
        for name, high in (
            ("threshold", 1.0),
            ("neg_threshold", 1.0),
            ("min_speech_duration", math.inf),
            ("min_silence_duration", math.inf),
            ("speech_pad", math.inf),
            ("max_speech_duration", math.inf),
        ):
            value = getattr(self, name)
            if value is None and name == "neg_threshold":
                continue
            is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            is_last = name == "max_speech_duration"
            if not is_number or not 0 <= value <= high or (value == math.inf and not is_last):
                bounds = "0 to 1" if high == 1 else "of seconds, 0 or more"
                raise ValueError(f"{name} is {value!r}, expected a number, {bounds}")
        if self.neg_threshold is not None and self.neg_threshold > self.threshold:
            raise ValueError(
                f"neg_threshold is {self.neg_threshold!r}, above the threshold, {self.threshold!r}"
            )
        if self.max_speech_duration <= 2 * self.speech_pad:
            raise ValueError(
                f"max_speech_duration is {self.max_speech_duration!r}, of which speech_pad, "
                f"{self.speech_pad!r} on both sides, leaves nothing"
            )

    @property
    def lower(self) -> float:
        """The lower of the thresholds."""
        if self.neg_threshold is None:
            return min(max(self.threshold - _MARGIN, _LOWEST), self.threshold)
        return self.neg_threshold


class Segmenter:
    """Follows one sound. Its places count the samples that the network reads.

    Attributes
    ----------
    is_speech : bool
        Whether there is speech now, be it long enough or not.
    edges : list of (bool, int)
        Whether it is a beginning, and where: what is certain, from the first one on. A beginning
        and an end take turns.
    """

    def __init__(self, options: Hysteresis, rate: int, chunk_size: int) -> None:
        self._chunk_size = chunk_size
        self._threshold, self._lower = options.threshold, options.lower
        self._min_speech = options.min_speech_duration * rate
        self._min_silence = options.min_silence_duration * rate
        self._min_pause = _MIN_PAUSE * rate
        self._pad = options.speech_pad * rate
        self._max_speech = options.max_speech_duration * rate - chunk_size - 2 * self._pad
        self.edges: list[tuple[bool, int]] = []
        self._at = 0  # where the next chunk begins
        self._start: int | None = None  # of the speech that goes on
        self._is_certain = False  # that it is long enough
        self._silence: int | None = None  # where in it a silence has begun that goes on
        self._pauses: list[tuple[int, int]] = []  # in it: where to cut it, and where to go on
        self._end: int | None = None  # of the speech before, until it is known how it is padded

    @property
    def is_speech(self) -> bool:
        return self._start is not None

    def feed(self, probability: float, size: int | None = None) -> None:
        """Take the probability of the next chunk, of so many samples if it is the last one."""
        at = self._at
        self._at = at + (self._chunk_size if size is None else size)
        if probability >= self._threshold:
            self._hear(at)
        elif self._start is None and self._end is None:
            return
        if self._start is not None and self._start != at:
            if at - self._start > self._max_speech:
                self._cut(at)
            if probability < self._lower:
                self._wait(at)
        if self._start is not None and self._silence is None:
            self._confirm(self._at)
        if self._end is not None:
            self._settle(self._at if self._start is None else self._start)

    def finish(self, num_samples: int) -> None:
        """Take the sound as complete."""
        if self._start is not None:
            self._close(num_samples)
        if self._end is not None:
            self.edges.append((False, min(num_samples, int(self._end + self._pad))))
            self._end = None

    def _hear(self, at: int) -> None:
        """Go on with speech, or begin it."""
        if self._silence is not None:
            if at - self._silence > self._min_pause:
                self._pauses.append((self._silence, at))
            self._silence = None
        if self._start is None:
            self._begin(at)

    def _begin(self, at: int) -> None:
        self._start, self._is_certain, self._silence, self._pauses = at, False, None, []

    def _wait(self, at: int) -> None:
        """End speech if the silence in it is long enough."""
        if self._start is None:
            return
        if self._silence is None:
            self._silence = at
        if at - self._silence >= self._min_silence:
            self._close(self._silence)

    def _cut(self, at: int) -> None:
        """End speech that is too long; what follows the longest pause in it is new speech."""
        end, resumed = max(self._pauses, key=lambda pause: pause[1] - pause[0], default=(at, None))
        self._open()
        self._close(end)
        if resumed is not None:
            self._begin(resumed)

    def _confirm(self, end: int) -> None:
        """Tell of the beginning of speech that lasts until there, if that is long enough."""
        assert self._start is not None
        if end - self._start > self._min_speech:
            self._open()

    def _open(self) -> None:
        """Tell of the beginning of the speech that goes on, and of the end of that before."""
        if self._is_certain:
            return
        assert self._start is not None
        self._is_certain = True
        start = self._start - self._pad
        if self._end is not None:
            silence = self._start - self._end
            if silence < 2 * self._pad:
                self.edges.append((False, self._end + silence // 2))
                start = self._start - silence // 2
            else:
                self.edges.append((False, int(self._end + self._pad)))
            self._end = None
        self.edges.append((True, max(0, int(start))))

    def _close(self, end: int) -> None:
        """End the speech that goes on, or leave it out if it is too short."""
        self._confirm(end)
        if self._is_certain:
            self._end = end
        self._start, self._is_certain, self._silence, self._pauses = None, False, None, []

    def _settle(self, next_start: int) -> None:
        """Tell of an end whose padding cannot meet that of speech which begins later."""
        assert self._end is not None
        if next_start - self._end >= 2 * self._pad:
            self.edges.append((False, int(self._end + self._pad)))
            self._end = None
