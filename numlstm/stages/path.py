"""The best path through a linear-chain CRF."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numlstm import spec
from numlstm.run.border import token_ids
from numlstm.stages.stage import Flow, Read, Rows, Stage, joined


class BestPath(Stage):
    """The tags of the best path through a linear-chain CRF, as rows of zeros and a one."""

    def __init__(
        self, reads: tuple[Read, ...], writes: tuple[tuple[int, int], ...], own: spec.Tensors
    ) -> None:
        super().__init__(reads, writes)
        # In float64: a score of a long path, or of one that is forbidden twice, is within it.
        names = "start_transitions", "transitions", "end_transitions"
        self.start, transitions, self.end = (own[n].astype(np.float64) for n in names)
        # A row is all ways to one tag: the best one is found along it.
        self.to_from = np.ascontiguousarray(transitions.T)

    def run_one(self, inputs: list[Rows]) -> Rows:
        flow = _BestPathFlow(self, lookahead=len(inputs[0]))
        return np.concatenate([flow.push(inputs), flow.finish()])

    def flow(self, lookahead: int) -> Flow:
        return _BestPathFlow(self, lookahead)

    def latency(self, lookahead: int) -> int | None:
        return lookahead


class _BestPathFlow(Flow):
    """Viterbi 1967; a tag is that on the best path to the newest row, ``lookahead`` rows later."""

    def __init__(self, stage: BestPath, lookahead: int) -> None:
        self.stage = stage
        self.lookahead = lookahead
        # The best score of a path to each tag, and the tag before each, of rows not answered yet.
        self._kept: tuple[Rows | None, tuple[Rows, ...]] = (None, ())

    @property
    def kept(self) -> Any:
        return self._kept

    @kept.setter
    def kept(self, value: Any) -> None:
        best, back = value
        size = self.stage.size
        back = tuple(token_ids("tags", tags, size, (size,)).astype(np.intp) for tags in back)
        if best is None:
            if back:
                raise ValueError("there are tags on best paths without their scores")
        else:
            best = np.array(best, np.float64)
            if best.shape != (size,) or not np.isfinite(best).all():
                raise ValueError(f"the scores of the best paths are {best}")
        self._kept = best, back

    def push(self, rows: list[Rows]) -> Rows:
        best, kept = self._kept
        back = list(kept)
        tags = []
        for scores in joined(rows):
            if best is None:
                best, before = self.stage.start + scores, np.arange(len(scores))
            else:
                paths = best + self.stage.to_from
                before = paths.argmax(1)
                best = paths.max(1) + scores
            back.append(before)
            if len(back) > self.lookahead:
                tags.append(self._trace(best, back)[0])
                del back[0]
        self._kept = best, tuple(back)
        return self._one_hot(tags)

    def finish(self) -> Rows:
        best, back = self._kept
        self._kept = best, ()
        return self._one_hot([] if best is None else self._trace(best + self.stage.end, back))

    def _trace(self, best: Rows, back: Sequence[Rows]) -> list[int]:
        """Return the tags of the rows in `back` on the best path."""
        tags = [int(best.argmax())]
        for before in reversed(back[1:]):
            tags.append(int(before[tags[-1]]))
        return tags[len(tags) - len(back) :][::-1] if back else []

    def _one_hot(self, tags: list[int]) -> Rows:
        return np.eye(self.stage.size, dtype=np.float32)[np.array(tags, np.intp)]
