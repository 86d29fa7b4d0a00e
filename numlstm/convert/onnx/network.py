"""The nodes of a trace that the answer needs -> `Network` and tensors."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numlstm.convert.onnx.trace import Array, Ids, Node, Trace
from numlstm.spec import (
    INPUT,
    Activation,
    Add,
    Concat,
    Conv1d,
    Embedding,
    Feedback,
    Layer,
    Linear,
    Multiply,
    Network,
    OneHot,
    Pooling,
    Slice,
    WeightsError,
)

_MOST_PARTS = 8  # that a layer reads by name; more are gathered by a matrix


@dataclass(eq=False)
class _Draft:
    """A layer with what it reads: other drafts, or None for the input of the network."""

    layer: Layer
    tensors: dict[str, Array]
    reads: "list[_Draft | None]"
    after: "_Draft | None" = None  # the source of a Feedback
    name: str = ""


class Assembly:
    """Makes a network of the nodes behind the ids of an answer.

    problems   what the answer needs and no layer gives
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.problems: list[str] = []
        self._drafts: dict[tuple[Any, ...], _Draft] = {}
        self._feedbacks: list[tuple[_Draft, Ids]] = []
        self._next = np.full(sum(node.size for node in trace.nodes), -1)
        for states, after in trace.carried:
            self._next[states] = after
        self._transparent = self._without_last_steps()

    def _without_last_steps(self) -> Ids:
        """Return for every id the one to read in its place.

        In a causal network the last step so far is the step itself.
        """
        nodes = self.trace.nodes
        same = np.arange(sum(node.size for node in nodes))
        # The layers that the answer needs are known later; until then, all count.
        self.is_causal = all(node.layer is None or node.layer.is_causal for node in nodes)
        for node in nodes if self.is_causal else ():
            if isinstance(node.layer, Pooling) and node.layer.mode == "last":
                same[node.ids] = same[node.sources[0]]
        return same

    def network(self, answer: Ids) -> tuple[Network, dict[str, Array]]:
        """Return the network whose answer these numbers are, and its tensors."""
        last = self._one(answer.ravel())
        roots = []
        for feedback, after in self._feedbacks:  # which grow while their sources are found
            feedback.after = self._one(after)
            if feedback.after is not None:
                roots.append(feedback.after)
        if self.problems:
            raise WeightsError("\n  ".join(dict.fromkeys(self.problems)))
        order = _ordered([*roots, last])
        drafts = _fused(order, last)
        if last is None or drafts[-1] is not last:
            source = [last]
            drafts.append(_Draft(Concat(answer.size), {}, source))
        drafts = self._begun(drafts)
        layers = _named(drafts)
        network = Network(layers)
        tensors = {
            f"{prefix}.{name}": np.asarray(tensor, np.float32)
            for (prefix, _), draft in zip(network.named_layers(), drafts, strict=True)
            for name, tensor in draft.tensors.items()
        }
        return network, tensors

    def _begun(self, drafts: list[_Draft]) -> list[_Draft]:
        """Return the layers, of which the first reads the whole input."""
        first = drafts[0]
        size = self._input().size
        for draft in drafts:
            if isinstance(draft.layer, Embedding | OneHot):
                return [draft, *(other for other in drafts if other is not draft)]
        if first.reads == [None] and first.layer.input_size == size:
            return drafts
        return [_Draft(Concat(size), {}, [None]), *drafts]

    def _input(self) -> Node:
        return next(node for node in self.trace.nodes if node.kind == "input")

    # Ids -> drafts --------------------------------------------------------------------------------

    def _draft(self, node: Node) -> "_Draft | None":
        """Return the layer of a node, or None for the input of the network."""
        if node.kind == "input":
            return None
        key = ("node", node.start)
        if key in self._drafts:
            return self._drafts[key]
        if node.layer is None:
            what = {
                "cell": "c of a layer is read, which no layer gives",
                "length": "the length of the sequence is read",
                "state": "no output is what it is one step later",
                "part": "it is known as a part of a layer norm only",
            }[node.kind]
            self.problems.append(f"{node.label}: {what}")
            draft = _Draft(Concat(node.size), {}, [])
        else:
            draft = _Draft(node.layer, dict(node.tensors), [])
            self._drafts[key] = draft
            if isinstance(node.layer, Add | Multiply):
                draft.reads = [self._one(ids) for ids in node.sources]
            elif isinstance(node.layer, Linear):
                draft.reads = self._columns(draft, node.sources[0])
            else:
                draft.reads = self._joined(node.sources[0])
        self._drafts[key] = draft
        return draft

    def _segments(self, ids: Ids) -> list[tuple[Node, int, int, bool]]:
        """Return runs of neighbouring numbers of one node: (node, start, stop, one step before).

        A state is what something else was one step before.
        """
        nodes = self.trace.nodes
        starts = np.array([node.start for node in nodes])
        known = self._next[ids] >= 0
        numbers = self._transparent[np.where(known, self._next[ids], ids)]
        owner = np.searchsorted(starts, numbers, side="right") - 1
        changes = (np.diff(numbers) != 1) | (np.diff(owner) != 0) | np.diff(known)
        segments = []
        for run in np.split(np.arange(len(ids)), np.flatnonzero(changes) + 1) if len(ids) else ():
            first = int(numbers[run[0]] - starts[owner[run[0]]])
            node = nodes[owner[run[0]]]
            segments.append((node, first, first + len(run), bool(known[run[0]])))
        return segments

    def _joined(self, ids: Ids) -> "list[_Draft | None]":
        """Return layers that give these numbers end to end."""
        ids = self._transparent[ids]
        segments = self._segments(ids)
        if len(segments) > _MOST_PARTS:
            return [self._gathered(ids)]
        return [self._segment(*segment) for segment in segments]

    def _segment(self, node: Node, start: int, stop: int, before: bool) -> "_Draft | None":
        if before:
            return self._feedback(node, start, stop)
        source = self._draft(node)
        if (start, stop) == (0, node.size):
            return source
        return self._cached(Slice(node.size, start, stop), [source])

    def _feedback(self, node: Node, start: int, stop: int) -> _Draft:
        key = ("before", node.start, start, stop)
        if key not in self._drafts:
            draft = _Draft(Feedback(stop - start, "?"), {}, [])
            self._drafts[key] = draft
            self._feedbacks.append((draft, node.ids[start:stop]))
        return self._drafts[key]

    def _one(self, ids: Ids) -> "_Draft | None":
        """Return one layer that gives these numbers."""
        parts = self._joined(np.ravel(ids))
        if len(parts) == 1:
            return parts[0]
        return self._cached(Concat(np.size(ids)), parts)

    def _cached(self, layer: Layer, reads: "list[_Draft | None]") -> _Draft:
        key = (layer, *(id(draft) for draft in reads))
        if key not in self._drafts:
            self._drafts[key] = _Draft(layer, {}, reads)
        return self._drafts[key]

    def _gathered(self, ids: Ids) -> "_Draft | None":
        weight = np.eye(len(ids))
        draft = _Draft(Linear(len(ids), len(ids), False), {"weight": weight}, [])
        key = ("gathered", ids.tobytes())
        if key in self._drafts:
            return self._drafts[key]
        draft.reads = self._scattered(draft, ids)
        self._drafts[key] = draft
        return draft

    def _columns(self, draft: _Draft, ids: Ids) -> "list[_Draft | None]":
        """Return what a Linear reads, its columns put in that order."""
        found = self._segments(self._transparent[ids])
        nodes = {node.start: node.size for node, *_ in found}
        if len(found) > len(nodes) and sum(nodes.values()) <= 2 * len(ids):
            return self._scattered(draft, self._transparent[ids])
        return self._joined(ids)

    def _scattered(self, draft: _Draft, ids: Ids) -> "list[_Draft | None]":
        found = self._segments(ids)
        if any(before for *_, before in found):
            return [self._segment(*segment) for segment in found]
        nodes = {node.start: node for node, *_ in found}
        order = [nodes[start] for start in sorted(nodes)]
        every = np.concatenate([node.ids for node in order])
        weight = draft.tensors["weight"]
        wide = np.zeros((len(weight), len(every)))
        np.add.at(wide.T, np.searchsorted(every, ids), weight.T)
        draft.tensors["weight"] = wide
        assert isinstance(draft.layer, Linear)
        draft.layer = replace(draft.layer, input_size=len(every))
        return [self._segment(node, 0, node.size, False) for node in order]


# Drafts -> layers ---------------------------------------------------------------------------------


def _ordered(roots: "Iterable[_Draft | None]") -> list[_Draft]:
    """Return the layers, each after those it reads."""
    order: list[_Draft] = []
    seen: set[int] = set()
    for root in roots:
        waiting = [(root, False)]
        while waiting:
            draft, done = waiting.pop()
            if draft is None or (not done and id(draft) in seen):
                continue
            if done:
                order.append(draft)
                continue
            seen.add(id(draft))
            waiting.append((draft, True))
            waiting += [(read, False) for read in reversed(draft.reads)]
    return order


def _fused(drafts: list[_Draft], last: "_Draft | None") -> list[_Draft]:
    """Return the layers, a function being part of the Linear or Conv1d that alone it reads."""
    readers: dict[int, int] = {}
    for draft in drafts:
        for read in (*draft.reads, draft.after):
            readers[id(read)] = readers.get(id(read), 0) + 1
    gone: set[int] = set()
    for draft in drafts:
        before = draft.reads[0] if draft.reads else None
        if not isinstance(draft.layer, Activation) or before is None or before is last:
            continue
        layer = before.layer
        if (
            isinstance(layer, Linear | Conv1d)
            and layer.activation is None
            and len(draft.reads) == readers[id(before)] == 1
        ):
            draft.layer = replace(layer, activation=draft.layer.function)
            draft.tensors, draft.reads = before.tensors, before.reads
            gone.add(id(before))
    return [draft for draft in drafts if id(draft) not in gone]


def _named(drafts: list[_Draft]) -> tuple[Layer, ...]:
    """Return the layers with names where one is read from afar."""
    called: set[int] = set()
    for n, draft in enumerate(drafts):
        if draft.after is not None:
            called.add(id(draft.after))
        if not _reads_the_one_before(drafts, n):
            called |= {id(read) for read in draft.reads if read is not None}
    for n, draft in enumerate(drafts):
        if id(draft) in called:
            draft.name = f"{type(draft.layer).__name__.lower()}_{n}"
    layers = []
    for n, draft in enumerate(drafts):
        options: dict[str, Any] = {"name": draft.name}
        if isinstance(draft.layer, Feedback):
            assert draft.after is not None
            options["source"] = draft.after.name
        elif not _reads_the_one_before(drafts, n):
            options["inputs"] = tuple(INPUT if r is None else r.name for r in draft.reads)
        else:
            options["inputs"] = ()
        layers.append(replace(draft.layer, **options))
    return tuple(layers)


def _reads_the_one_before(drafts: list[_Draft], n: int) -> bool:
    return drafts[n].reads == [drafts[n - 1] if n else None]
