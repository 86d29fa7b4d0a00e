"""A model in ONNX -> `Weights`, held to what ONNX Runtime or the onnx package says it answers.

The graph must read a sequence; the batch is one. An axis of any size is that of time rather than
one of a fixed size. Several inputs are the columns of one row, those of the whole sequence repeated
in each; an input that is an initial state, or that an output of its name or shape continues, is the
state of the stream and starts at zero; of several such inputs and outputs of one shape the first
belongs to the first. Lengths and masks are those of one sequence without padding, resets are none.
Outputs that are but a state are left out, if there are others, and whole numbers beside others,
which are made of them; what remains is joined.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from numlstm import reference
from numlstm.budget import spend
from numlstm.convert import silero
from numlstm.convert.assembly import Refused, reading
from numlstm.convert.onnx.files import read
from numlstm.convert.onnx.proto import tensors_in
from numlstm.convert.onnx.roles.bound import bind, check_outputs, fix
from numlstm.convert.onnx.roles.sizes import sized
from numlstm.convert.onnx.rounding.judge import compared
from numlstm.convert.onnx.rounding.plain import Plain, in_float32
from numlstm.convert.onnx.rounding.quantized import DYNAMIC, INT8_WEIGHTS, STATIC
from numlstm.convert.onnx.rounding.rows import with_int8_rows
from numlstm.convert.onnx.source import Found, Source
from numlstm.convert.onnx.walk import Walk
from numlstm.convert.probes import make_probes
from numlstm.network.weights import explained
from numlstm.spec import TOLERANCE, Columns, Network, Probe, Tensors, Weights, WeightsError

_OLDEST_OPSET = 7
_OF_A_NODE = 1e4  # operations that it takes to run one

Shapes = Mapping[str, Sequence[int | None]] | None


def convert(
    source: Any,
    *,
    constants: Mapping[str, Any] | None = None,
    shapes: Shapes = None,
    outputs: Sequence[str] | None = None,
) -> Weights:
    """Convert a file, bytes, or an onnx.ModelProto; see `numlstm.from_onnx`.

    Raises
    ------
    WeightsError
        Lists everything that cannot be converted.
    """
    model = read(source)
    version = _version_of_silero(model.graph)
    if constants is not None:
        bind(model, constants)
    if version is not None:
        shapes = _of_silero(model, constants or {}, shapes, is_old=version == 1)
    if shapes is not None:
        fix(model, shapes)
    if outputs is not None:
        check_outputs(model, outputs)
    with reading("the graph cannot be read"):
        unrounded, found = _read(model, outputs)
    found.network.check_tensors(found.tensors, "the graph")
    _say(found)
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
        is_rounded = not {STATIC, DYNAMIC}.isdisjoint(unrounded.kinds)
        network, said = with_int8_rows(network, found.tensors, is_rounded)
        origin += f"; {said}"
    inputs, answers = _columns(found.roles.data), _columns(found.answers)
    return Weights(
        network=network,
        tensors=found.tensors,
        probes=probes,
        origin=origin,
        inputs=inputs if len(inputs) > 1 else (),
        outputs=answers if len(answers) > 1 else (),
    )


def _version_of_silero(graph: onnx.GraphProto) -> int | None:
    """Return which of its kinds a graph of Silero VAD that is told a rate is, None of any other."""
    names = ({tensor.name for tensor in graph.input}, {tensor.name for tensor in graph.output})
    if names not in silero.GRAPHS or not any(
        silero.is_basis(tuple(tensor.dims)) for tensor in tensors_in(graph)
    ):
        return None
    return silero.GRAPHS.index(names)


def _of_silero(
    model: onnx.ModelProto, constants: Mapping[str, Any], shapes: Shapes, *, is_old: bool
) -> Shapes:
    """Bind the rate of a graph of Silero VAD, unless it is said; return the shapes of inputs."""
    if "sr" not in constants:
        logging.getLogger("numlstm").info(
            "Silero VAD, at 16 kHz unless constants={'sr': 8000} says that it is at 8 kHz"
        )
        bind(model, {"sr": 16000})
    rate = int(np.ravel(constants.get("sr", 16000))[0])
    if shapes is not None or not is_old or rate not in silero.CHUNKS_OF_4:
        return shapes
    return {"input": (1, silero.CHUNKS_OF_4[rate])}


def find(model: onnx.ModelProto, outputs: Sequence[str] | None = None) -> Found:
    """Return the network of a graph that `read` has read, not yet held to its answers."""
    return _read(model, outputs)[1]


def _read(model: onnx.ModelProto, outputs: Sequence[str] | None) -> tuple[Plain, Found]:
    """Return a graph in float32 and its network.

    Where a layer is written out, and each part of it rounded, the ends of the ranges of the parts
    hide it: then they are left out, but where they are a relu.
    """
    opset = _opset(model)
    unrounded = in_float32(model, opset)
    try:
        return unrounded, _of_any_size(unrounded.model, opset, outputs)
    except Refused:
        if not unrounded.kinds:
            raise
    unrounded = in_float32(model, opset, clips=False)
    return unrounded, _of_any_size(unrounded.model, opset, outputs)


def _of_any_size(model: onnx.ModelProto, opset: int, outputs: Sequence[str] | None) -> Found:
    """Return the network of a graph, which may leave it free how long a row is."""
    try:
        return Walk(model, opset, outputs).found()
    except Refused:
        longest = sized(model, lambda other: Walk(other, opset, outputs).found())
        if longest is None:
            raise
    name, size, found = longest
    logging.getLogger("numlstm").info(
        "a row of input %r has %d numbers: the most of which the graph leaves none over", name, size
    )
    return found


def _say(found: Found) -> None:
    """Say what was made of the inputs and outputs that are not those of the network."""
    log = logging.getLogger("numlstm").info
    for given in found.roles.given:
        what = "the length of the sequence" if given.value == "length" else f"all {given.value}"
        log("input %r is taken for %s, and is none of the network", given.input.name, what)
    for name in found.left_out:
        log(
            "output %r is left out: whole numbers; those that they are chosen by are to be one",
            name,
        )


def _opset(model: onnx.ModelProto) -> int:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST_OPSET <= opset <= newest:
        raise WeightsError(f"opset {opset}, expected {_OLDEST_OPSET} to {newest}")
    return int(opset)


# Probes -------------------------------------------------------------------------------------------


def _spend_answers(source: Source, num_nodes: int) -> None:
    """Spend what it costs to ask the graph itself; it computes its constants each time, too."""
    found = source.found
    runs, steps = 1, source.num_steps
    if found.length == 1:
        runs, steps = steps, 1
    elif found.length is None and not found.gives_rows and found.network.is_causal:
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
        inputs = [source.draw(source.num_steps, generator) for _ in range(3)]
        probes = tuple(Probe(xs, source.run(xs)) for xs in inputs)
    else:
        probes = make_probes(network, tensors, source.run, source.num_steps, source.draw)
    answers = _columns(found.answers)
    largest = max(float(_excess(network, tensors, probe, answers)) for probe in probes)
    if not largest <= 1:
        raise WeightsError(
            f"the network that was found does not answer as {source.name} does: the largest "
            f"difference is {largest:.1g} times what rounding explains"
        )
    return probes


def _columns(parts: Iterable[Any]) -> tuple[Columns, ...]:
    return tuple(Columns(part.name, part.size) for part in parts)


def _excess(network: Network, tensors: Tensors, probe: Probe, answers: tuple[Columns, ...]) -> Any:
    """Return the largest difference in units of what rounding explains."""
    ys, _ = reference.run(network, tensors, probe.xs)
    return (np.abs(probe.ys - ys) / explained(ys, TOLERANCE, answers)).max()
