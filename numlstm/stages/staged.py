"""Staged: a network that reads later steps, ready to run whole sequences."""

from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.cached import cached_property
from numlstm.network.weights import fingerprint_of
from numlstm.program.lower import Fold
from numlstm.quantize import Encoded, floats_of
from numlstm.run.border import FLOAT32, Floats
from numlstm.run.mask import answer_or_zeros, resting, run_unmasked
from numlstm.spec import Network
from numlstm.stages.split import split
from numlstm.stages.stage import INPUT, Rows


class Staged:
    """A network as stages. Immutable; threads share it.

    Attributes
    ----------
    network : Network
        Its layers.
    stages : list of Stage
        What they are run as, in the order of the work.
    """

    def __init__(
        self, network: Network, tensors: Encoded, fold: Fold, num_threads: int = 1
    ) -> None:
        self.network = network
        self.stages, self._parts = split(network, tensors, fold, num_threads)
        held = {name for part in self._parts for name in part.names.values()}
        self._beside = {name: deepcopy(t) for name, t in tensors.items() if name not in held}

    @property
    def tensors(self) -> dict[str, Floats]:
        """The tensors that the stages were made of, in float32: their own numbers, bit for bit."""
        found = floats_of(deepcopy(self._beside))
        for part in self._parts:
            found |= {part.names[name]: t for name, t in part.compiled.tensors.items()}
        return found

    @cached_property
    def fingerprint(self) -> bytes:
        """16 bytes that differ for any other network or tensors."""
        return fingerprint_of(self.network, self.tensors)

    def run(self, xss: list[NDArray[Any]]) -> list[Floats]:
        """Return the outputs of sequences of checked rows, leaving masked steps out.

        They repeat the answer before, or have that of a network at rest, where there is an answer
        to each step; see `Network.rests`.
        """
        return run_unmasked(self.network, xss, self._run, lambda: self._answer_at_rest)

    @cached_property
    def _answer_at_rest(self) -> Floats:
        """What is answered to a masked step alone, (1, O) as a rule; zeros where that overflows."""
        network, tensors, x = resting(self.network, self.tensors)
        staged = Staged(network, tensors, False)
        return answer_or_zeros(lambda: staged.run([x])[0], self.network.output_size)

    def _run(self, xss: list[NDArray[Any]]) -> list[Floats]:
        # Without a row there is nothing that a stage could join or pool.
        empty = [n for n, xs in enumerate(xss) if not len(xs)]
        values: dict[int, list[Rows]] = {INPUT: [xs for xs in xss if len(xs)]}
        for stage in self.stages if values[INPUT] else []:
            inputs = [
                [x[-1:] if read.last else x for x in values[read.source]] for read in stage.reads
            ]
            yss = stage.run([list(parts) for parts in zip(*inputs, strict=True)])
            at = 0
            for n, size in stage.writes:
                values[n] = [ys[:, at : at + size] for ys in yss]
                at += size
        last = values.get(len(self.network.layers) - 1, [])
        yss = [np.ascontiguousarray(ys) for ys in last]
        for n in empty:
            yss.insert(n, np.empty((0, self.network.output_size), FLOAT32))
        return yss
