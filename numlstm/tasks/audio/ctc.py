"""CTC decoding, as the steps arrive: what is said, of log-probabilities per step.

A path names one label per step; what it says is that without repetitions, then without blanks.
Graves, Fernandez, Gomez, Schmidhuber 2006. Label 0 is the blank.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLANK = 0


class Peak(NamedTuple):
    """A label, and the step that it began at."""

    label: int
    step: int


class GreedyDecoder:
    """Says what the most probable path says."""

    def __init__(self) -> None:
        self._peaks: list[Peak] = []
        self._last = BLANK
        self._num_steps = 0

    def feed(self, log_probs: Floats) -> None:
        """Take more steps: log_probs (T, num_labels)."""
        for label in log_probs.argmax(axis=1).tolist():
            if label not in (self._last, BLANK):
                self._peaks.append(Peak(label, self._num_steps))
            self._last = label
            self._num_steps += 1

    @property
    def peaks(self) -> list[Peak]:
        """What is said so far; it only grows."""
        return self._peaks.copy()


class _Beam:
    """The paths that say the same, by whether they end in a blank, and the steps of the labels."""

    __slots__ = ("blank", "label", "largest", "steps")

    def __init__(self) -> None:
        self.blank = self.label = self.largest = -math.inf
        self.steps: tuple[int, ...] = ()

    @property
    def total(self) -> float:
        return _log_add(self.blank, self.label)

    def add(self, log_prob: float, steps: tuple[int, ...], ends_in_blank: bool) -> None:
        """Add paths; the steps are those of the most probable ones."""
        if ends_in_blank:
            self.blank = _log_add(self.blank, log_prob)
        else:
            self.label = _log_add(self.label, log_prob)
        if log_prob > self.largest:
            self.largest, self.steps = log_prob, steps


class BeamDecoder:
    """Says what the most probable set of paths says: all paths that say the same count together.

    Prefix beam search: Graves 2008, section 7.5.1; Hannun et al. 2014. Labels that all beams begin
    with are settled.

    beam_size   how many are followed
    margin      in nats: what is this far behind the best is dropped, inf for nothing
    """

    def __init__(self, beam_size: int = 8, margin: float = 12.0) -> None:
        if beam_size < 1:
            raise ValueError(f"beam_size is {beam_size}, expected at least 1")
        self._beam_size = beam_size
        self._margin = margin
        self._settled: list[Peak] = []
        self._num_steps = 0
        empty = _Beam()
        empty.blank = 0.0
        self._beams: dict[tuple[int, ...], _Beam] = {(): empty}  # the best one first

    def feed(self, log_probs: Floats) -> None:
        """Take more steps: log_probs (T, num_labels)."""
        for row in log_probs.tolist():
            self._step(row)
            self._settle()

    def _step(self, row: list[float]) -> None:
        # A label less probable than the margin would be dropped again.
        labels = [
            (label, log_prob)
            for label, log_prob in enumerate(row)
            if label != BLANK and log_prob >= -self._margin
        ]
        beams: dict[tuple[int, ...], _Beam] = {}
        for prefix, beam in self._beams.items():
            last = prefix[-1] if prefix else BLANK
            total = beam.total
            same = beams.setdefault(prefix, _Beam())
            same.add(total + row[BLANK], beam.steps, True)
            if prefix:
                same.add(beam.label + row[last], beam.steps, False)
            steps = (*beam.steps, self._num_steps)
            for label, log_prob in labels:
                before = beam.blank if label == last else total
                longer = beams.setdefault((*prefix, label), _Beam())
                longer.add(before + log_prob, steps, False)
        ranked = sorted(beams.items(), key=lambda item: -item[1].total)[: self._beam_size]
        least = ranked[0][1].total - self._margin
        self._beams = {prefix: beam for prefix, beam in ranked if beam.total >= least}
        self._num_steps += 1

    def _settle(self) -> None:
        """Take off the labels that all beams begin with, all but one: it may be repeated."""
        first, *others = self._beams
        num_shared = len(first)
        for prefix in others:
            pairs = enumerate(zip(first[:num_shared], prefix, strict=False))
            shared = min(num_shared, len(prefix))
            num_shared = next((n for n, (a, b) in pairs if a != b), shared)
        num_settled = num_shared - 1
        if num_settled < 1:
            return
        self._settled += self._best()[:num_settled]
        for beam in self._beams.values():
            beam.steps = beam.steps[num_settled:]
        self._beams = {prefix[num_settled:]: beam for prefix, beam in self._beams.items()}

    def _best(self) -> list[Peak]:
        prefix, beam = next(iter(self._beams.items()))
        return [Peak(*pair) for pair in zip(prefix, beam.steps, strict=True)]

    @property
    def peaks(self) -> list[Peak]:
        """What is said so far; all but the settled may still change."""
        return self._settled + self._best()

    @property
    def log_prob(self) -> float:
        """The log-probability of what is said so far: of all its paths that were followed."""
        return next(iter(self._beams.values())).total


def _log_add(a: float, b: float) -> float:
    """Return log(exp(a) + exp(b))."""
    low, high = (a, b) if a < b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
