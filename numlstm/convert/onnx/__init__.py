"""A model in ONNX -> `Weights`, held to what ONNX Runtime or the onnx package says it answers.

The graph must read one sequence; the batch is one. An axis of any size is that of time rather than
one of a fixed size. An input that is an initial state, or that an
output of the same shape continues, is the state of the stream and starts at zero; of several such
inputs and outputs of one shape the first belongs to the first. Outputs that are but a state are
left out, if there are others.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from numlstm import reference
from numlstm.budget import spend
from numlstm.convert.assembly import Refusals, Refused, reading
from numlstm.convert.onnx.branches import INNER
from numlstm.convert.onnx.cells import Cells
from numlstm.convert.onnx.files import read
from numlstm.convert.onnx.inputs import Input, Roles, all_roles
from numlstm.convert.onnx.network import Growth
from numlstm.convert.onnx.nodes import HANDLERS, UNKNOWN
from numlstm.convert.onnx.plain import Plain, in_float32
from numlstm.convert.onnx.quantized import INT8_WEIGHTS
from numlstm.convert.onnx.rounding import compared
from numlstm.convert.onnx.rows import with_int8_rows
from numlstm.convert.onnx.sizes import sized, spare
from numlstm.convert.onnx.source import Found, Source
from numlstm.convert.onnx.trace import Array, Trace, Value
from numlstm.convert.probes import make_probes, random_input
from numlstm.spec import TOLERANCE, Network, Probe, Tensors, Weights, WeightsError

# Two lengths of time: what depends on the length differs between them, and is refused.
_LENGTHS = (11, 17)
_OLDEST_OPSET = 7
_OF_A_NODE = 1e4  # operations that it takes to run one


def convert(source: Any) -> Weights:
    """Convert a file, bytes, or an onnx.ModelProto; see `numlstm.from_onnx`.

    Raises
    ------
    WeightsError
        Lists everything that cannot be converted.
    """
    model = read(source)
    with reading("the graph cannot be read"):
        unrounded, found = _read(model)
    found.network.check_tensors(found.tensors, "the graph")
    source = Source(unrounded.model, found)
    _spend_answers(source, len(unrounded.model.graph.node))
    source.check_batch()
    probes = _probe(source)
    network = found.network
    origin = f"onnx {onnx.__version__}, answered by {source.name}"
    if unrounded.kinds:
        own = Source(model, found)
        _spend_answers(own, len(model.graph.node))
        origin += f" in float32; {compared(own, unrounded.kinds, probes)}"
    if INT8_WEIGHTS in unrounded.kinds:
        network, said = with_int8_rows(network, found.tensors)
        origin += f"; {said}"
    return Weights(network=network, tensors=found.tensors, probes=probes, origin=origin)


def find(model: onnx.ModelProto) -> Found:
    """Return the network of a graph that `read` has read, not yet held to its answers."""
    return _read(model)[1]


def _read(model: onnx.ModelProto) -> tuple[Plain, Found]:
    """Return a graph in float32 and its network.

    Where a layer is written out, and each part of it rounded, the ends of the ranges of the parts
    hide it: then they are left out, but where they are a relu.
    """
    opset = _opset(model)
    unrounded = in_float32(model, opset)
    try:
        return unrounded, _of_any_size(unrounded.model, opset)
    except Refused:
        if not unrounded.kinds:
            raise
    unrounded = in_float32(model, opset, clips=False)
    return unrounded, _of_any_size(unrounded.model, opset)


def _of_any_size(model: onnx.ModelProto, opset: int) -> Found:
    """Return the network of a graph, which may leave it free how long a row is."""
    try:
        return _choose(model, opset)
    except Refused:
        longest = sized(model, lambda other: _choose(other, opset))
        if longest is None:
            raise
    name, size, found = longest
    logging.getLogger("numlstm").info(
        "a row of input %r has %d numbers: the most of which the graph leaves none over", name, size
    )
    return found


def _opset(model: onnx.ModelProto) -> int:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST_OPSET <= opset <= newest:
        raise WeightsError(f"opset {opset}, expected {_OLDEST_OPSET} to {newest}")
    return int(opset)


# The walk -----------------------------------------------------------------------------------------


def _choose(model: onnx.ModelProto, opset: int) -> Found:
    """Return the one network that the graph can be."""
    found: list[Found] = []
    failures: list[_Failure] = []
    for roles in all_roles(model):
        if any(f.roles.data == roles.data and f.roles.rank < roles.rank for f in found):
            continue  # a graph that reads any number of steps reads one, too
        try:
            network = _of_any_length(model, opset, roles)
        except _Failure as failure:
            failures.append(failure)
            continue
        if not any(network.same(other) for other in found):
            found.append(network)
    if not found:
        inputs = ", ".join(f"{i.name} {i.shape}" for i in map(Input.of, model.graph.input))
        nothing = _failure(0, "no input is a sequence of one batch", inputs)
        max(failures, key=lambda failure: failure.progress, default=nothing).refusals.check()
    if len(found) > 1:
        ways = ", ".join(f"{f.roles.data.name} (time is axis {f.roles.time})" for f in found)
        raise WeightsError(f"the graph can be read in {len(found)} ways: the data is {ways}")
    return found[0]


class _Failure(Exception):  # noqa: N818  # one of several readings, seen if it is the best
    def __init__(self, progress: int, refusals: Refusals) -> None:
        super().__init__(progress, refusals)
        self.progress = progress
        self.refusals = refusals


def _failure(progress: int, subject: str, why: str) -> _Failure:
    refusals = Refusals("the graph")
    refusals.add(subject, why)
    return _Failure(progress, refusals)


def _check(trace: Trace) -> None:
    if trace.refusals:
        raise _Failure(trace.progress, trace.refusals)


def _of_any_length(model: onnx.ModelProto, opset: int, roles: Roles) -> Found:
    if roles.length is not None:
        return _walk(model, opset, roles, roles.length, roles.length)
    try:
        first, second = (_walk(model, opset, roles, length, None) for length in _LENGTHS)
        if not first.same(second):
            why = "the network that is found depends on the length of the sequence"
            raise _failure(len(model.graph.node), f"input {roles.data.name!r}", why)
    except _Failure as failure:
        # An exporter may call a length free, and yet fix it: the shapes of the outputs say so.
        sizes = {size for output in model.graph.output for size in Input.of(output).shape}
        for length in sorted(size for size in sizes if size and size > 1):
            try:
                return _walk(model, opset, roles, length, length)
            except _Failure:
                continue
        raise failure from None
    return first


def _walk(
    model: onnx.ModelProto, opset: int, roles: Roles, length: int, fixed: int | None
) -> Found:
    """Return the network of a graph for one length of time."""
    trace = Trace(HANDLERS, opset, length, INNER, UNKNOWN)
    scope = _inputs(trace, roles, length)
    after = trace.run(model.graph, scope)
    outputs = {o.name: after.get(o.name) for o in model.graph.output}
    _check(trace)
    for state, output in roles.pairs:
        value = outputs[output.name]
        if not isinstance(value, Value) or value.ids.size != scope[state.name].ids.size:
            why = f"it does not continue input {state.name!r}"
            raise _failure(trace.progress, f"output {output.name!r}", why)
        trace.carried.append((scope[state.name].ids.ravel(), value.ids.ravel()))
    name, value = _answer(trace, roles, outputs)
    Cells(trace).replace(value.ids)
    growth = Growth(trace)
    last = growth.answer(value.ids)
    _check(trace)
    with trace.refusals.of("the network"):
        network, tensors = growth.network(last)
    _check(trace)
    rows = {n: v.ids for n, v in outputs.items() if isinstance(v, Value) and v.time is None}
    moves = _moves(trace, roles, list(rows.values()), scope)
    return Found(
        roles, network, tensors, name, value.time, value.ids.shape, fixed, moves, tuple(rows),
        trace.size, trace.work, trace.folded, spare(trace, value.ids),
    )  # fmt: skip


def _inputs(trace: Trace, roles: Roles, length: int) -> dict[str, Value]:
    data = roles.data
    size = 1 if roles.features is None else data.shape[roles.features]
    node = trace.add("input", size or 1, f"input {data.name!r}")
    shape = [n for axis, n in enumerate(data.ones) if axis != roles.time]
    time = roles.time if length > 1 else None
    if roles.time is not None and time is None:
        shape.insert(roles.time, 1)
    scope = {data.name: Value(node.ids.reshape(shape), time, length)}
    for kind, others in (("state", roles.states), ("length", roles.lengths)):
        for other in others:
            size = math.prod(other.ones)
            of_other = trace.add(kind, size, f"input {other.name!r}")
            scope[other.name] = Value(of_other.ids.reshape(other.ones), None)
    return scope


def _answer(trace: Trace, roles: Roles, outputs: dict[str, Any]) -> tuple[str, Value]:
    """Return the output that is not a state; if all are, the first that is an h."""
    paired = {output.name for _, output in roles.pairs}
    values = {n: v for n, v in outputs.items() if isinstance(v, Value) and n not in paired}
    states = {name for name, value in values.items() if _is_state(trace, value)}
    answers = [name for name in values if name not in states]
    if not answers:
        every = {name: value for name, value in outputs.items() if isinstance(value, Value)}
        answers = [name for name in every if trace.kinds(every[name].ids) == {"layer"}][:1]
    if len(answers) != 1:
        what = ", ".join(repr(name) for name in answers) or "none"
        raise _failure(trace.progress, "outputs that are no states", f"{what}, expected one")
    return answers[0], outputs[answers[0]]


def _is_state(trace: Trace, value: Value) -> bool:
    return all(node.is_state for node in trace.owners(value.ids))


def _moves(
    trace: Trace, roles: Roles, rows: Sequence[Array], scope: dict[str, Value]
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


# Probes -------------------------------------------------------------------------------------------


def _spend_answers(source: Source, num_nodes: int) -> None:
    """Spend what it costs to ask the graph itself; it computes its constants each time, too."""
    found = source.found
    runs, steps = 1, source.num_steps
    if found.length == 1:
        runs, steps = steps, 1
    elif found.length is None and found.time is None and found.network.is_causal:
        runs = steps  # a longer sequence each time
    operations = found.folded + steps * (found.work + found.size) + _OF_A_NODE * num_nodes
    spend(f"a run of {source.name}", 8 * steps * found.size)
    spend(f"the runs of {source.name}", 0, (3 * runs + 3) * operations)


def _probe(source: Source) -> tuple[Probe, ...]:
    """Return probes, after checking that the network answers them as the model does."""
    found = source.found
    network, tensors = found.network, found.tensors
    if source.num_steps == found.length:
        generator = np.random.default_rng(0)
        inputs = [random_input(network, source.num_steps, generator) for _ in range(3)]
        probes = tuple(Probe(xs, source.run(xs)) for xs in inputs)
    else:
        probes = make_probes(network, tensors, source.run, num_steps=source.num_steps)
    largest = max(float(_excess(network, tensors, probe)) for probe in probes)
    if not largest <= 1:
        raise WeightsError(
            f"the network that was found does not answer as {source.name} does: the largest "
            f"difference is {largest:.1g} times what rounding explains"
        )
    return probes


def _excess(network: Network, tensors: Tensors, probe: Probe) -> Any:
    """Return the largest difference in units of what rounding explains."""
    ys, _ = reference.run(network, tensors, probe.xs)
    return (np.abs(probe.ys - ys) / (TOLERANCE * (1 + np.abs(ys)))).max()
