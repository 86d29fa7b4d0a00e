"""Cells that a graph writes out, product by product, as the layers that they are.

A state that is carried from step to step can always be a `Feedback`. Where what computes the next
one is the equation of an LSTM, a GRU or an RNN, one layer takes its place, which is much faster.
"""

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from numlstm.convert.assembly import Array
from numlstm.convert.onnx.trace import Node, Trace
from numlstm.convert.onnx.values import Ids, roomy
from numlstm.spec import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Add,
    BatchNorm,
    Layer,
    Linear,
    Multiply,
)

_MOST_UNITS = 4096  # of a cell whose parts are not products with matrices


class _TooWideError(Exception):
    """Too many numbers for a matrix of each with each: they stay what they are."""


@dataclass(frozen=True)
class _Sums:
    """Weighted sums of numbers: ``weight @ numbers[ids] + bias``, and no id twice."""

    weight: Array
    ids: Ids
    bias: Array

    def columns(self, ids: Ids) -> Array:
        """Return the weights of some numbers, zeros for those that are in no sum."""
        if not self.ids.size:
            return np.zeros((len(self.weight), ids.size))
        at = np.minimum(np.searchsorted(self.ids, ids), self.ids.size - 1)
        return np.where(self.ids[at] == ids, self.weight[:, at], 0.0)

    def rest(self, *without: Ids) -> Ids:
        """Return the numbers in the sums that are not among these."""
        used = (self.weight != 0).any(0)
        return np.setdiff1d(self.ids[used], np.concatenate(without))


class Cells:
    """What is made of a trace whose states are carried.

    before   for each id, that of the state that it is one step later, or -1
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.before = np.full(trace.size, -1)
        for states, after in trace.carried:
            self.before[after] = states

    def replace(self, answer: Ids) -> int:
        """Put layers in the place of the cells that the trace writes out; return how many."""
        count = 0
        for node in list(self.trace.nodes):
            with suppress(_TooWideError):
                match node.layer:
                    case Add():
                        count += self._lstm(node, answer) or self._gru(node)
                    case Activation():
                        count += self._rnn(node)
        return count

    # Numbers ----------------------------------------------------------------------------------

    def _state(self, ids: Ids) -> Ids | None:
        """Return the states that numbers are one step later, or None."""
        before = self.before[ids]
        return before if ids.size and (before >= 0).all() else None

    def _sources(self, ids: Ids, kind: type[Layer]) -> list[Ids] | None:
        """Return what gives numbers reads for each, if it is one layer of this kind."""
        nodes = self.trace.owners(ids)
        if len(nodes) != 1 or not isinstance(nodes[0].layer, kind):
            return None
        return [source[ids - nodes[0].start] for source in nodes[0].sources]

    def _function(self, ids: Ids) -> tuple[str, Ids] | None:
        """Return the function that gives these numbers, and of which; of one name."""
        names: set[str] = set()
        of = np.zeros_like(ids)
        for node in self.trace.owners(ids):
            if not isinstance(node.layer, Activation) or node.note[:1] == ("affine",):
                return None
            own = node.has(ids)
            of[own] = node.sources[0][ids[own] - node.start]
            names.add(node.layer.function)
        return (names.pop(), of) if len(names) == 1 else None

    def _sums(self, ids: Ids) -> _Sums:
        """Return numbers as the sums that products, sums and factors make of others."""
        weight, read, bias = [], [], np.zeros(ids.size)
        for node in self.trace.owners(ids):
            rows = np.flatnonzero(node.has(ids))
            for own, source, shift in self._terms(node, ids[rows] - node.start):
                wide = np.zeros(roomy(node.label, (ids.size, source.size)))
                wide[rows] = own
                weight.append(wide)
                read.append(source)
                bias[rows] += shift
        every, places = np.unique(np.concatenate(read), return_inverse=True)
        total = np.zeros((ids.size, every.size))
        np.add.at(total.T, places, np.concatenate(weight, 1).T)
        return _Sums(total, every, bias)

    def _terms(self, node: Node, at: Ids) -> list[tuple[Array, Ids, Array]]:
        """Return the sums that some numbers of a node are, as weights, ids and a bias each."""
        match node.layer:
            case Linear(activation=None):
                bias = node.tensors.get("bias", np.zeros(node.size))
                return [(node.tensors["weight"][at].astype(float), node.sources[0], bias[at])]
            case Add():
                terms = [self._sums(source[at]) for source in node.sources]
                return [(sums.weight, sums.ids, sums.bias) for sums in terms]
            case Activation() | BatchNorm() if node.note[:1] == ("affine",):
                _, scale, shift, source = node.note
                sums = self._sums(source[at])
                bias = sums.bias * scale[at] + shift[at]
                return [(sums.weight * scale[at][:, None], sums.ids, bias)]
        if node.kind == "constant" and node.numbers is not None:
            return [(np.zeros((at.size, 0)), np.zeros(0, np.int64), node.numbers[at])]
        if at.size > _MOST_UNITS:
            raise _TooWideError
        return [(np.eye(at.size), node.start + at, np.zeros(at.size))]

    def _is_negative(self, ids: Ids, of: Ids, plus: float = 0.0) -> bool:
        """Tell whether numbers are a number less others: 1 - those of a gate."""
        (node, *others) = self.trace.owners(ids)
        if others or node.note[:1] != ("affine",):
            return False
        _, scale, shift, source = node.note
        at = ids - node.start
        is_less = (scale[at] == -1).all() and (shift[at] == plus).all()
        return bool(is_less and np.array_equal(source[at], of))

    def _read_elsewhere(self, ids: Ids, but: list[Node]) -> bool:
        """Tell whether others than these nodes read some of these numbers."""
        inside = np.zeros(self.trace.size, bool)
        inside[ids] = True
        return any(
            inside[source].any()
            for node in self.trace.nodes
            if node not in but
            for source in node.sources
        )

    # Cells ------------------------------------------------------------------------------------

    def _put(
        self,
        node: Node,
        layer: RNN | GRU | LSTM,
        sums: _Sums,
        states: dict[str, Ids],
        recurrent: Array,
        biases: Array,
    ) -> int:
        """Make a node the layer of a cell, which reads what its sums have besides h."""
        h = states["h"]
        xs = sums.rest(h)
        if not xs.size:
            return 0
        cell = replace(layer, input_size=xs.size)
        tensors = {
            "weight_ih": sums.columns(xs),
            "weight_hh": recurrent,
            "bias_ih": sums.bias,
            "bias_hh": biases,
        }
        starts = {f"initial_{name}": ids for name, ids in states.items()}
        if any(
            node.numbers is not None for ids in starts.values() for node in self.trace.owners(ids)
        ):
            tensors |= {name: self.trace.numbers(ids) for name, ids in starts.items()}
            cell = replace(cell, initial_state=True)
        node.layer = cell
        node.tensors = {n: np.ascontiguousarray(t, np.float32) for n, t in tensors.items()}
        node.sources, node.note, node.is_state = (xs,), (), True
        return 1

    def _lstm(self, cell: Node, answer: Ids) -> int:
        """c' = s(f) * c + s(i) * a(g); h' = s(o) * b(c')."""
        c = self._state(cell.ids)
        if c is None or np.isin(cell.ids, answer).any():
            return 0
        parts = [self._sources(ids, Multiply) for ids in cell.sources]
        if len(parts) != 2 or parts[0] is None or parts[1] is None:
            return 0
        forget = next((n for n, pair in enumerate(parts) if _other(pair, c) is not None), None)
        if forget is None:
            return 0
        gates = {"f": self._function(_other(parts[forget], c))}  # type: ignore[arg-type]
        kept, new = (self.trace.owners(cell.sources[n])[0] for n in (forget, 1 - forget))
        pair = [self._function(ids) for ids in parts[1 - forget] or ()]
        for answered in self.trace.nodes:
            bounded = self._output(answered, cell)
            if bounded is not None:
                break
        else:
            return 0
        tanh, gates["o"], name = bounded
        h = self._state(answered.ids)
        if h is None or gates["f"] is None or gates["o"] is None or None in pair:
            return 0
        first, second = pair
        assert first is not None
        assert second is not None
        if first[0] != gates["f"][0]:
            first, second = second, first
        gates |= {"i": first, "g": second}
        if not first[0] == gates["f"][0] == gates["o"][0]:
            return 0
        if self._read_elsewhere(c, [kept]) or self._read_elsewhere(cell.ids, [tanh]):
            return 0
        of = np.concatenate([gates[gate][1] for gate in "ifgo"])  # type: ignore[index]
        sums = self._sums(of)
        if np.isin(c, sums.ids).any() or new is kept:
            return 0

        layer = LSTM(
            1,
            h.size,
            recurrent_activation=first[0],
            activation=second[0],
            output_activation=name,
        )
        states = {"h": h, "c": c}
        return self._put(answered, layer, sums, states, sums.columns(h), np.zeros(len(of)))

    def _output(self, node: Node, cell: Node) -> tuple[Node, tuple[str, Ids] | None, str] | None:
        """Return b, s(o) and the name of b, if a node is ``s(o) * b(c')``."""
        if not isinstance(node.layer, Multiply) or len(node.sources) != 2:
            return None
        for n, ids in enumerate(node.sources):
            function = self._function(ids)
            if function is not None and np.array_equal(function[1], cell.ids):
                (tanh, *_) = self.trace.owners(ids)
                return tanh, self._function(node.sources[1 - n]), function[0]
        return None

    def _rnn(self, node: Node) -> int:
        """h' = f(W x + U h)."""
        h = self._state(node.ids)
        if h is None or node.note or not isinstance(node.layer, Activation):
            return 0
        sums = self._sums(node.sources[0])
        if not np.isin(h, sums.ids).any():
            return 0
        layer = RNN(1, h.size, nonlinearity=node.layer.function)
        return self._put(node, layer, sums, {"h": h}, sums.columns(h), np.zeros(h.size))

    def _gru(self, node: Node) -> int:
        """h' = (1 - s(z)) * n + s(z) * h, and n = a(W x + r * (U h)) or a(W x + U (r * h))."""
        h = self._state(node.ids)
        mixed = None if h is None else self._mixed(node, h)
        if h is None or mixed is None:
            return 0
        update, new = self._function(mixed[0]), self._function(mixed[1])
        if update is None or new is None:
            return 0
        inner = self._sums(new[1])
        reset = self._reset(inner, h)
        if reset is None:
            return 0
        gate, of_h, after, products = reset
        if gate is None or gate[0] != update[0]:
            return 0
        gates = self._sums(np.concatenate([gate[1], update[1]]))
        xs = np.union1d(gates.rest(h), inner.rest(products))
        if np.isin(h, inner.rest(products)).any() or np.isin(products, gates.ids).any():
            return 0
        weight = np.concatenate([gates.columns(xs), inner.columns(xs)])
        sums = _Sums(weight, xs, np.concatenate([gates.bias, inner.bias]))
        recurrent = np.concatenate([gates.columns(h), of_h.columns(h)])
        biases = np.concatenate([np.zeros(2 * h.size), of_h.bias])
        layer = GRU(1, h.size, recurrent_activation=gate[0], activation=new[0], reset_after=after)
        return self._put(node, layer, sums, {"h": h}, recurrent, biases)

    def _mixed(self, node: Node, h: Ids) -> tuple[Ids, Ids] | None:
        """Return the gate z and n of ``(1 - z) * n + z * h``, or of ``n + z * (h - n)``."""
        for kept, other in (node.sources, node.sources[::-1]) if len(node.sources) == 2 else ():
            pair = self._sources(kept, Multiply)
            gate = None if pair is None else _other(pair, h)
            rest = self._sources(other, Multiply)
            if gate is not None and rest is not None:
                for factor, new in (rest, rest[::-1]):
                    if self._is_negative(factor, gate, plus=1.0):
                        return gate, new
            for gate, difference in (pair, pair[::-1]) if pair is not None else ():
                sums = self._sources(difference, Add)
                negative = None if sums is None else _other(sums, h)
                if negative is not None and self._is_negative(negative, other):
                    return gate, other
        return None

    def _reset(
        self, inner: _Sums, h: Ids
    ) -> tuple[tuple[str, Ids] | None, _Sums, bool, Ids] | None:
        """Return the gate r, what it weighs, whether after the product, and their products."""
        for node in self.trace.owners(inner.ids):
            if not isinstance(node.layer, Multiply) or not np.isin(node.ids, inner.ids).all():
                continue
            for gate, weighed in (node.sources, node.sources[::-1]):
                if np.array_equal(weighed, h):  # r * h, before the product
                    of_h = _Sums(inner.columns(node.ids), h, np.zeros(h.size))
                    return self._function(gate), _sorted(of_h), False, node.ids
                sums = self._sums(weighed)
                own = inner.columns(node.ids)
                if not sums.rest(h).size and np.array_equal(own, np.eye(h.size)):
                    return self._function(gate), sums, True, node.ids
        return None


def _sorted(sums: _Sums) -> _Sums:
    order = np.argsort(sums.ids)
    return _Sums(sums.weight[:, order], sums.ids[order], sums.bias)


def _other(pair: list[Ids] | None, ids: Ids) -> Ids | None:
    """Return the one of two that does not have these numbers, if the other has."""
    if pair is None or len(pair) != 2:
        return None
    for n in (0, 1):
        if np.array_equal(pair[n], ids):
            return pair[1 - n]
    return None
