"""A graph walked in each way in which it can be read -> the one network that it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from numlstm.convert.assembly import Array, Refusals
from numlstm.convert.onnx.cells import Cells
from numlstm.convert.onnx.network import Growth
from numlstm.convert.onnx.operators.branches import INNER
from numlstm.convert.onnx.operators.nodes import HANDLERS, UNKNOWN
from numlstm.convert.onnx.operators.whole import row_of_input
from numlstm.convert.onnx.proto import label_of
from numlstm.convert.onnx.roles.inputs import Input, Roles
from numlstm.convert.onnx.roles.search import Search
from numlstm.convert.onnx.roles.sizes import spare
from numlstm.convert.onnx.roles.uses import Uses
from numlstm.convert.onnx.source import Answer, Found
from numlstm.convert.onnx.trace import Trace
from numlstm.convert.onnx.values import Value
from numlstm.spec import WeightsError

# Two lengths of time: what depends on the length differs between them, and is refused. Two others,
# as a constant of the graph may be one of the first.
_LENGTHS = ((11, 17), (19, 29))


class _Failure(Exception):  # noqa: N818  # one of several ways, seen if it is the best
    def __init__(self, progress: int, refusals: Refusals) -> None:
        super().__init__(progress, refusals)
        self.progress = progress
        self.refusals = refusals


def _failure(progress: int, subject: str, why: str, instead: str = "") -> _Failure:
    refusals = Refusals("the graph")
    refusals.add(subject, why, instead)
    return _Failure(progress, refusals)


class Walk:
    """The ways in which a graph can be read, each walked.

    outputs   names of those that are the answer, end to end; None for all that are no states
    """

    def __init__(
        self, model: onnx.ModelProto, opset: int, outputs: Sequence[str] | None = None
    ) -> None:
        self.model, self.opset, self.outputs = model, opset, outputs
        self._search = Search(model.graph)
        every = [Input.of(output) for output in model.graph.output]
        floats = {output.name for output in every if output.kind == "f"} or {o.name for o in every}
        self._wanted = floats | set(outputs or ())
        self.left_out = [output.name for output in every if output.name not in self._wanted]

    def found(self) -> Found:
        """Return the one network that the graph can be.

        Raises
        ------
        WeightsError
            If it is none, or several.
        """
        found: list[Found] = []
        failures: list[tuple[Roles, _Failure]] = []
        for roles in self._search.ways():
            if any(other.roles.rank < roles.rank for other in found):
                break  # a graph that reads any number of steps reads one, too
            try:
                network = self._of_any_length(roles)
            except _Failure as failure:
                failures.append((roles, failure))
                continue
            if not any(network.same(other) for other in found):
                found.append(network)
        if not found:
            self._search.refusals.check()
            self._raise_best(failures)
        found = [f for f in found if f.length == f.roles.length] or found
        if len(found) > 1:
            ways = ", ".join(str(f.roles) for f in found)
            name = found[0].roles.main.name
            raise WeightsError(
                f"the graph can be read in {len(found)} ways: the data is {ways}; say which axis "
                f"is that of time with shapes={{{name!r}: (1, None, ...)}}, or export the model "
                "with states and their outputs named alike (h, h_out)"
            )
        return found[0]

    def _raise_best(self, failures: Sequence[tuple[Roles, _Failure]]) -> None:
        """Raise what is refused in the way that got furthest."""
        roles, best = max(failures, key=lambda failed: failed[1].progress)
        data = roles.main.input
        if sum(size is None for size in data.shape) > 1 and roles.time is not None:
            best.refusals.add(
                f"input {data}", "two of its sizes may differ, of which one was taken for time",
                f"if it is not, say which are fixed: shapes={{{data.name!r}: (1, None, ...)}}",
            )  # fmt: skip
        best.refusals.check()

    def _of_any_length(self, roles: Roles) -> Found:
        if roles.length is not None:
            return self._of_length(roles, roles.length, roles.length)
        try:
            for lengths in _LENGTHS:
                first, second = (self._of_length(roles, length, None) for length in lengths)
                if first.same(second):
                    return first
            why = "the network that is found depends on the length of the sequence"
            instead = "export it with a sequence of one length"
            num_nodes = len(self.model.graph.node)
            raise _failure(num_nodes, f"input {roles.main.name!r}", why, instead)
        except _Failure as failure:
            if any(given.value == "length" for given in roles.given):
                raise
            # An exporter may call a length free, and yet fix it: the shapes of the outputs say so.
            sizes = {n for o in self.model.graph.output for n in Input.of(o).shape if n and n > 1}
            for length in sorted(sizes):
                try:
                    return self._of_length(roles, length, length)
                except _Failure:
                    continue
            raise failure from None

    def _of_length(self, roles: Roles, length: int, fixed: int | None) -> Found:
        """Return the network of a graph for one length of time."""
        trace = Trace(HANDLERS, self.opset, length, INNER, UNKNOWN)
        trace.fixed = fixed is not None
        scope = _inputs(trace, roles, length)
        after = trace.run(self._part(), scope)
        outputs: dict[str, Any] = {o.name: after.get(o.name) for o in self.model.graph.output}
        needed = [output.name for _, output in roles.pairs]
        self._check(trace, outputs, [*needed, *(self.outputs or ())])
        self._carry(trace, roles, scope, outputs)
        names = self.outputs or self._answers(trace, roles, outputs)
        self._check(trace, outputs, [*needed, *names])
        trace.refusals.found.clear()  # of what is not needed
        ids = np.concatenate([outputs[name].ids.ravel() for name in names])
        Cells(trace).replace(ids)
        growth = Growth(trace)
        last = growth.answer(ids)
        _raise(trace)
        with trace.refusals.of("the network"):
            network, tensors = growth.network(last)
        _raise(trace)
        answers = tuple(Answer(n, outputs[n].time, outputs[n].ids.shape) for n in names)
        if not network.is_causal and len({answer.time is None for answer in answers}) > 1:
            said = ", ".join(f"{a.name!r} ({'row' if a.time is None else 'rows'})" for a in answers)
            why = f"one row for all steps and one for each cannot be joined: {said}"
            raise _failure(trace.progress, "outputs", why, "choose some with outputs=[...]")
        rows = {n: v.ids for n, v in outputs.items() if isinstance(v, Value) and v.time is None}
        moves = _moves(trace, roles, list(rows.values()), scope)
        return Found(
            roles, network, tensors, answers, fixed, moves, tuple(rows),
            trace.size, trace.work, trace.folded, spare(trace, ids), tuple(self.left_out),
        )  # fmt: skip

    def _part(self) -> Any:
        """Return what the wanted outputs need of the graph."""
        return _Part(self.model.graph, self._search.uses, self._wanted)

    def _check(self, trace: Trace, outputs: dict[str, Any], names: Sequence[str]) -> None:
        """Raise what was refused if that leaves outputs without a value."""
        missing = [name for name in names if not isinstance(outputs[name], Value)]
        if not missing:
            return
        if not trace.refusals:
            why = "it does not depend on the input of the network"
            raise _failure(trace.progress, f"output {missing[0]!r}", why)
        part = _Part(self.model.graph, self._search.uses, set(missing))
        own = {label_of(node) for node in part.node}
        every = {label_of(node) for node in self.model.graph.node}
        trace.refusals.found = [
            refused
            for refused in trace.refusals.found
            if refused.subject in own or refused.subject not in every
        ]
        _raise(trace)

    def _carry(
        self, trace: Trace, roles: Roles, scope: dict[str, Any], outputs: dict[str, Any]
    ) -> None:
        """Say what continues each state, where no operator has said it."""
        known = {int(n) for before, _ in trace.carried for n in before}
        for state, output in roles.pairs:
            own, value = scope[state.name].ids.ravel(), outputs[output.name]
            if known.issuperset(own.tolist()):
                continue
            if value.ids.size != own.size:
                why = f"it does not continue input {state.name!r}"
                raise _failure(trace.progress, f"output {output.name!r}", why)
            trace.carried.append((own, value.ids.ravel()))

    def _answers(self, trace: Trace, roles: Roles, outputs: dict[str, Any]) -> list[str]:
        """Return the outputs that are not states; if all are, the first that is an h."""
        paired = {output.name for _, output in roles.pairs}
        own = [
            name
            for name, value in outputs.items()
            if name in self._wanted - paired and not isinstance(value, np.ndarray)
        ]
        values = {n: outputs[n] for n in own if isinstance(outputs[n], Value)}
        states = {n for n, value in values.items() if _is_state(trace, value)}
        answers = [name for name in own if name not in states and outputs[name] is not None]
        refused = [name for name in own if outputs[name] is None]
        if refused and answers:
            some = ", ".join(map(repr, answers))
            for name in refused:
                trace.refusals.add(
                    f"output {name!r}", "what it is made of is refused",
                    f"outputs=[{some}] leaves it out",
                )  # fmt: skip
        answers = [name for name in own if name not in states]
        if not answers:
            every = {name: value for name, value in outputs.items() if isinstance(value, Value)}
            answers = [name for name in every if trace.kinds(every[name].ids) == {"layer"}][:1]
        if not answers:
            what = "all are states that no layer gives"
            raise _failure(trace.progress, "outputs that are no states: none", what)
        return answers


class _Part:
    """The part of a graph that some outputs need."""

    def __init__(self, graph: Any, uses: Uses, outputs: set[str]) -> None:
        needed = uses.needed(outputs)
        self.node = [node for node in graph.node if needed.intersection(node.output)]
        self.initializer = [tensor for tensor in graph.initializer if tensor.name in needed]
        self.output = [output for output in graph.output if output.name in outputs]


def _raise(trace: Trace) -> None:
    if trace.refusals:
        raise _Failure(trace.progress, trace.refusals)


def _inputs(trace: Trace, roles: Roles, length: int) -> dict[str, Any]:
    """Return what each input is in a walk; the columns of a row are those of one node."""
    said = " and ".join(repr(part.name) for part in roles.data)
    node = trace.add("input", sum(part.size for part in roles.data), f"input {said}")
    scope: dict[str, Any] = {}
    for part, columns in roles.columns():
        ids = node.ids[columns]
        if roles.is_whole(part):
            ids = row_of_input(trace, ids, f"input {part.name!r}")
        shape = list(part.shape)
        time = part.time if length > 1 else None
        if part.time is not None and time is None:
            shape.insert(part.time, 1)
        scope[part.name] = Value(ids.reshape(shape), time, 1 if time is None else length)
    for state in roles.states:
        own = trace.add("state", int(np.prod(state.ones)), f"input {state.name!r}")
        scope[state.name] = Value(own.ids.reshape(state.ones), None)
    return scope | {given.input.name: given.array(length) for given in roles.given}


def _is_state(trace: Trace, value: Value) -> bool:
    return all(node.is_state for node in trace.owners(value.ids))


def _moves(
    trace: Trace, roles: Roles, rows: Sequence[Array], scope: dict[str, Any]
) -> tuple[tuple[Input, Array], ...]:
    """Return for each state where its next values are in these outputs, end to end, or -1."""
    after: dict[int, int] = {}
    for states, following in trace.carried:
        after |= dict(zip(states.tolist(), following.tolist(), strict=True))
    every = [number for ids in rows for number in ids.ravel().tolist()]
    places = {number: n for n, number in enumerate(every)}
    moves = []
    for state in roles.states:
        numbers = scope[state.name].ids.ravel().tolist()
        moves.append((state, np.array([places.get(after.get(n, -1), -1) for n in numbers])))
    return tuple(moves)
