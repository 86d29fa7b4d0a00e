"""What the nodes of an ONNX graph do with its inputs: what tells their roles beyond shapes."""

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from numlstm.budget import spend
from numlstm.convert.onnx.proto import label_of, names_read

_STRUCTURAL = {"Identity", "Cast", "Slice", "Squeeze", "Unsqueeze", "Transpose", "Reshape"}
_STRUCTURAL |= {"Split", "Gather", "Concat", "Expand"}
_RECURRENT = {"RNN", "GRU", "LSTM"}
_TENSORS = {1: "W", 2: "R", 3: "B", 7: "P"}  # of these operators
_OF_A_NAME = 1000  # operations that it takes to follow one


class _Use(NamedTuple):
    """A node by its names; `reads` has those that the graphs within it read, too."""

    kind: str
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reads: tuple[str, ...]

    @classmethod
    def of(cls, node: Any) -> "_Use":
        reads = tuple(names_read(node))
        return cls(node.op_type, label_of(node), tuple(node.input), tuple(node.output), reads)


class Uses:
    """Who gives and who reads each name of a graph.

    initial   inputs that are initial states of a recurrent operator, or a part of one is
    scaled    inputs of which those are products or choices, too
    lengths   inputs that are its sequence_lens
    weights   inputs that are its tensors, each with what it is: "W of LSTM 'name'"
    """

    def __init__(self, graph: Any) -> None:
        self._constants = {tensor.name for tensor in graph.initializer}
        uses = [_Use.of(node) for node in graph.node]
        names = sum(len(use.reads) for use in uses)
        spend("the names of the graph", 200 * names, _OF_A_NAME * names)
        self._producers = {name: use for use in uses for name in use.outputs}
        self._readers: dict[str, list[_Use]] = {}
        for use in uses:
            for name in dict.fromkeys(use.reads):
                self._readers.setdefault(name, []).append(use)
        self._outputs = {output.name for output in graph.output}
        self._known: dict[str, bool] = {}
        recurrent = [use for use in uses if use.kind in _RECURRENT]
        starts = [name for use in recurrent for name in use.inputs[5:7]]
        self.initial = self._origins(starts)
        self.scaled = self._origins(starts, {"Mul", "Where"})
        lengths = self._origins(name for use in recurrent for name in use.inputs[4:5])
        self.lengths = lengths - self.initial
        self.weights = {
            name: f"{letter} of {use.label}"
            for use in recurrent
            for n, letter in _TENSORS.items()
            for name in self._origins(use.inputs[n : n + 1])
        }

    def is_read(self, name: str) -> bool:
        return name in self._readers or name in self._outputs

    def is_index(self, name: str) -> bool:
        """Tell whether an input chooses rows of a table."""
        own = self._moved([name])
        return any(
            use.kind == "Gather" and use.inputs[0] in self._constants and use.inputs[1] in own
            for use in self._all_readers(own)
        )

    def is_reset(self, name: str, states: Iterable[str]) -> bool:
        """Tell whether all that an input does is to let states through, or not."""
        kept, own = self._moved(states), self._made([name])
        last = [use for use in self._all_readers(own) if not self._are_made_of(use.reads, own)]
        return bool(last) and all(
            use.kind in ("Mul", "Where")
            and any(name in kept for name in use.inputs)
            and self._are_made_of(use.inputs, own | kept)
            for use in last
        )

    def needed(self, names: Iterable[str], beyond: Collection[str] = ()) -> set[str]:
        """Return the names that some names are made of, and these; of some kinds, not beyond."""
        found, waiting = set(names), list(names)
        while waiting:
            use = self._producers.get(waiting.pop())
            reads = () if use is None or use.kind in beyond else use.reads
            new = [name for name in reads if name not in found]
            spend("the names of the graph", operations=_OF_A_NAME * (1 + len(new)))
            found.update(new)
            waiting += new
        return found

    # Following names ------------------------------------------------------------------------------

    def _origins(self, names: Iterable[str], joining: Collection[str] = ()) -> set[str]:
        """Return the inputs that some tensors only are parts of, or what some kinds make of all."""
        found: set[str] = set()
        seen: set[str] = set()
        waiting = [name for name in names if name]
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            use = self._producers.get(name)
            if use is None:
                found.add(name)
            elif use.kind in joining or use.kind == "Concat":
                waiting += use.inputs
            elif use.kind in _STRUCTURAL:
                waiting += use.inputs[:1]
        return found - self._constants

    def _moved(self, names: Iterable[str]) -> set[str]:
        """Return the names and all that is only moved of them."""
        return self._closure(
            names, lambda use, own: use.kind in _STRUCTURAL and use.inputs[0] in own
        )

    def _made(self, names: Iterable[str]) -> set[str]:
        """Return the names and all that is made of them and constants."""
        return self._closure(names, lambda use, own: self._are_made_of(use.reads, own))

    def _closure(self, names: Iterable[str], follows: Callable[[_Use, set[str]], bool]) -> set[str]:
        own = set(names)
        waiting = list(own)
        while waiting:
            for use in self._readers.get(waiting.pop(), ()):
                spend("the roles of inputs", operations=_OF_A_NAME * len(use.reads))
                new = [name for name in use.outputs if name and name not in own]
                if new and follows(use, own):
                    own.update(new)
                    waiting += new
        return own

    def _all_readers(self, names: Iterable[str]) -> list[_Use]:
        return list(dict.fromkeys(use for name in names for use in self._readers.get(name, ())))

    def _are_made_of(self, names: Iterable[str], own: set[str]) -> bool:
        return all(name in own or self._is_constant(name) for name in names)

    def _is_constant(self, name: str) -> bool:
        """Tell whether a name is a constant, or made of shapes alone."""
        if not name or name in self._constants:
            return True
        if name not in self._known:
            made_of = self.needed([name], beyond={"Shape", "Size"})
            self._known[name] = made_of <= self._producers.keys() | self._constants
        return self._known[name]
