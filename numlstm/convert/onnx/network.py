"""The nodes of a trace that the answer needs -> `Network` and tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from numlstm.budget import spend
from numlstm.convert.assembly import Array, Assembly, Draft, Read
from numlstm.convert.onnx.trace import Node, Trace
from numlstm.convert.onnx.values import Ids
from numlstm.spec import (
    Activation,
    Add,
    Concat,
    Embedding,
    Feedback,
    Layer,
    Linear,
    Multiply,
    Network,
    OneHot,
    Pooling,
    Slice,
)

_MOST_PARTS = 8  # that a layer reads by name; more are gathered by a matrix
_OF_A_PART = (200, 1e4)  # bytes and operations
_NO_LAYER = {
    "cell": "c of a layer is read, which no layer gives",
    "counter": "the number of the step is read, which no layer gives",
    "weights": "weights of all steps are read; known is what sums the steps by them",
    "state": "no output is what it is one step later",
}


class Growth:
    """The network that grows from the ids of an answer back to the input.

    What the answer needs and no layer gives is refused in the trace.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.assembly = Assembly()
        self._drafts: dict[tuple[Any, ...], Draft] = {}
        self._feedbacks: list[tuple[Draft, Ids]] = []
        self._next = np.full(trace.size, -1)
        for states, after in trace.carried:
            self._next[states] = after
        self._transparent = self._without_last_steps()

    def _without_last_steps(self) -> Ids:
        """Return for every id the one to read in its place.

        In a causal network the last step so far is the step itself.
        """
        nodes = self.trace.nodes
        same = np.arange(self.trace.size)
        # The layers that the answer needs are known later; until then, all count.
        is_causal = all(node.layer is None or node.layer.is_causal for node in nodes)
        for node in nodes if is_causal else ():
            if isinstance(node.layer, Pooling) and node.layer.mode == "last":
                same[node.ids] = same[node.sources[0]]
        return same

    def answer(self, ids: Ids) -> Read:
        """Return the layer that gives these numbers, after all that it needs."""
        last = self._one(ids.ravel())
        for feedback, after in self._feedbacks:  # which grow while their sources are found
            source = self._one(after)
            if source is None:  # the input itself
                source = self._cached(Concat(len(after)), [None])
            feedback.source = source
        return last

    def network(self, answer: Read) -> tuple[Network, dict[str, Array]]:
        """Return the network of which this is the answer, and its tensors."""
        size = next(node.size for node in self.trace.nodes if node.kind == "input")
        return self.assembly.network(answer, size)

    # Ids -> drafts --------------------------------------------------------------------------------

    def _draft(self, node: Node) -> Read:
        """Return the layer of a node, or None for the input of the network."""
        if node.kind == "input":
            return None
        if node.kind == "constant" and node.numbers is not None:
            return self._constant(node.numbers)
        key = ("node", node.start)
        if key not in self._drafts:
            self._drafts[key] = self._grow(node)
        return self._drafts[key]

    def _grow(self, node: Node) -> Draft:
        match node.layer:
            case None:
                self.trace.refusals.add(node.label, _NO_LAYER[node.kind])
                return Draft(Concat(node.size), [])
            case Add() | Multiply():
                return self.assembly.grow(node.layer, [self._one(ids) for ids in node.sources])
            case Linear():
                return self._columns(node.layer, node.tensors, node.sources[0])
        reads, fuses = self._joined(node.sources[0]), isinstance(node.layer, Activation)
        return self.assembly.grow(node.layer, reads, node.tensors, fuses=fuses)

    def _constant(self, numbers: Array) -> Draft:
        """Return a layer that gives these numbers, whatever it reads."""
        key = ("constant", numbers.tobytes())
        if key not in self._drafts:
            nodes = self.trace.nodes
            source = next((n for n in nodes if isinstance(n.layer, Embedding | OneHot)), nodes[0])
            layer = Linear(source.size, len(numbers), True)
            weight = np.zeros((len(numbers), source.size))
            tensors = {"weight": weight, "bias": numbers}
            self._drafts[key] = self.assembly.grow(layer, [self._draft(source)], tensors)
        return self._drafts[key]

    def _segments(self, ids: Ids) -> list[tuple[Node, int, int, bool]]:
        """Return runs of neighbouring numbers of one node: (node, start, stop, one step before).

        A state is what something else was one step before.
        """
        nodes = self.trace.nodes
        starts = self.trace.starts
        known = self._next[ids] >= 0
        for state in self.trace.owners(ids[known]) if known.any() else ():
            if state.numbers is not None:
                self.trace.refusals.add(
                    state.label,
                    "what it carries begins with other than zeros, and is no LSTM, GRU or RNN",
                    "begin with zeros, and add the constants where they are read",
                )
        numbers = self._transparent[np.where(known, self._next[ids], ids)]
        owner = np.searchsorted(starts, numbers, side="right") - 1
        changes = (np.diff(numbers) != 1) | (np.diff(owner) != 0) | np.diff(known)
        changes = np.flatnonzero(changes) + 1
        segments = []
        spend("the parts of a tensor", _OF_A_PART[0] * len(changes), _OF_A_PART[1] * len(changes))
        for run in np.split(np.arange(len(ids)), changes) if len(ids) else ():
            first = int(numbers[run[0]] - starts[owner[run[0]]])
            node = nodes[owner[run[0]]]
            segments.append((node, first, first + len(run), bool(known[run[0]])))
        return segments

    def _joined(self, ids: Ids) -> list[Read]:
        """Return layers that give these numbers end to end."""
        ids = self._transparent[ids]
        segments = self._segments(ids)
        parts = [node for node, start, stop, _ in segments if stop - start < node.size]
        if len(parts) > max(_MOST_PARTS, len(ids) // _MOST_PARTS):
            return [self._gathered(ids)]
        return [self._segment(*segment) for segment in segments]

    def _segment(self, node: Node, start: int, stop: int, before: bool) -> Read:
        if before:
            return self._feedback(node, start, stop)
        source = self._draft(node)
        if (start, stop) == (0, node.size):
            return source
        return self._cached(Slice(node.size, start, stop), [source])

    def _feedback(self, node: Node, start: int, stop: int) -> Draft:
        key = ("before", node.start, start, stop)
        if key not in self._drafts:
            self._drafts[key] = self.assembly.grow(Feedback(stop - start, "?"), [])
            self._feedbacks.append((self._drafts[key], node.ids[start:stop]))
        return self._drafts[key]

    def _one(self, ids: Ids) -> Read:
        """Return one layer that gives these numbers."""
        parts = self._joined(np.ravel(ids))
        if len(parts) == 1:
            return parts[0]
        return self._cached(Concat(np.size(ids)), parts)

    def _cached(self, layer: Layer, reads: Sequence[Read]) -> Draft:
        key = (layer, *(id(draft) for draft in reads))
        if key not in self._drafts:
            self._drafts[key] = self.assembly.grow(layer, reads)
        return self._drafts[key]

    def _gathered(self, ids: Ids) -> Draft:
        key = ("gathered", ids.tobytes())
        if key not in self._drafts:
            spend("a matrix that gathers numbers", 3 * 8 * len(ids) ** 2, len(ids) ** 2)
            layer = Linear(len(ids), len(ids), False)
            self._drafts[key] = self._scattered(layer, {"weight": np.eye(len(ids))}, ids)
        return self._drafts[key]

    def _columns(self, layer: Linear, tensors: Mapping[str, Array], ids: Ids) -> Draft:
        """Return a Linear of these numbers, its columns in the order in which it reads them."""
        layer, tensors, ids = self._without_constants(layer, tensors, self._transparent[ids])
        found = self._segments(ids)
        nodes = {node.start: node.size for node, *_ in found}
        if len(found) > len(nodes):
            if sum(nodes.values()) <= 2 * len(ids) and not any(before for *_, before in found):
                return self._scattered(layer, tensors, ids)
            layer, tensors, ids = self._sorted(layer, tensors, ids)
        return self.assembly.grow(layer, self._joined(ids), tensors)

    def _sorted(
        self, layer: Linear, tensors: Mapping[str, Array], ids: Ids
    ) -> tuple[Linear, Mapping[str, Array], Ids]:
        """Return a Linear that reads each number once, in order."""
        every, places = np.unique(ids, return_inverse=True)
        weight = np.zeros((layer.output_size, len(every)))
        np.add.at(weight.T, places, tensors["weight"].T)
        return replace(layer, input_size=len(every)), {**tensors, "weight": weight}, every

    def _without_constants(
        self, layer: Linear, tensors: Mapping[str, Array], ids: Ids
    ) -> tuple[Linear, Mapping[str, Array], Ids]:
        """Return a Linear to whose bias the constants that it reads are added."""
        owners = [node for node in self.trace.owners(ids) if node.kind == "constant"]
        if not owners:
            return layer, tensors, ids
        numbers = np.zeros(len(ids))
        constant = np.zeros(len(ids), bool)
        for node in owners:
            assert node.numbers is not None
            own = node.has(ids)
            numbers[own] = node.numbers[ids[own] - node.start]
            constant |= own
        if constant.all():
            return layer, tensors, ids
        weight = np.asarray(tensors["weight"], np.float64)
        bias = tensors.get("bias", np.zeros(len(weight))) + weight @ numbers
        kept = ~constant
        layer = replace(layer, input_size=int(kept.sum()), bias=True)
        return layer, {"weight": weight[:, kept], "bias": bias}, ids[kept]

    def _scattered(self, layer: Linear, tensors: Mapping[str, Array], ids: Ids) -> Draft:
        """Return a Linear that reads whole layers, with zeros for what is not among the ids."""
        found = self._segments(ids)
        if any(before for *_, before in found):
            return self.assembly.grow(layer, [self._segment(*s) for s in found], tensors)
        nodes = {node.start: node for node, *_ in found}
        order = [nodes[start] for start in sorted(nodes)]
        every = np.concatenate([node.ids for node in order])
        numbers = layer.output_size * len(every)
        spend("a matrix that reads whole layers", 2 * 8 * numbers, numbers)
        wide = np.zeros((layer.output_size, len(every)))
        np.add.at(wide.T, np.searchsorted(every, ids), tensors["weight"].T)
        reads = [self._segment(node, 0, node.size, False) for node in order]
        layer = replace(layer, input_size=len(every))
        return self.assembly.grow(layer, reads, {**tensors, "weight": wide})
