"""A source -> `onnx.ModelProto`: checked, with the data of other files in it, functions inlined."""

import heapq
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner

from numlstm.budget import grow, spend
from numlstm.convert.assembly import Refused, reading
from numlstm.convert.folders import beside, size_on_disk
from numlstm.convert.onnx.proto import graphs_of, names_read
from numlstm.spec import WeightsError

_FIELDS = range(0b10, 128, 8)  # of protobuf, which hold a message or text; of none with a 0 behind
_OF_A_MESSAGE = 350  # bytes that one takes, even of none, and its copy that is checked
_RUNTIME = "com.microsoft"  # the operators of ONNX Runtime
_OF_A_NODE = (1000, 1e5)  # bytes and operations of a node that is inlined and checked


def read(source: Any) -> onnx.ModelProto:
    """Read a model from a path (with the data beside it) or bytes; check it, and inline functions.

    Raises
    ------
    WeightsError
        If it is not a model in ONNX.
    """
    path, folder = "the model", None
    if isinstance(source, str | os.PathLike):
        path, folder = os.fspath(source), Path(source).parent
        source = Path(source).read_bytes()  # what cannot be opened is an OSError
    if not isinstance(source, onnx.ModelProto | bytes | bytearray | memoryview):
        kind = type(source).__name__
        raise WeightsError(f"source is {kind}, expected a path, bytes or an onnx.ModelProto")
    with reading("is not a model in ONNX", path):
        model = onnx.ModelProto()
        if isinstance(source, onnx.ModelProto):
            model.CopyFrom(source)
        else:
            data = bytes(source)
            empty = sum(data.count(bytes([field, 0])) for field in _FIELDS)
            spend("the messages of the model", 2 * len(data) + _OF_A_MESSAGE * empty)
            model.ParseFromString(data)
        _load_data(model, folder)
        if model.functions:
            _spend_inlined(model)
            model = onnx.inliner.inline_local_functions(model)
        _check(model)
        for info in model.graph.input:
            onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
            if any(dim.dim_value < 0 for dim in info.type.tensor_type.shape.dim):
                raise WeightsError(f"input {info.name!r} has an axis of a negative size")
    return model


# What is no fault to ONNX Runtime -----------------------------------------------------------------


def _check(model: onnx.ModelProto) -> None:
    """Check a model as onnx does, but for what quantizers and ONNX Runtime write beyond that.

    Nodes in the order in which they were added, which are sorted; quantised weights with an axis
    before opset 13, which only ONNX Runtime's own operator has; layer norms before opset 17.
    """
    _sort(model.graph)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", 0)
    with_axis = [n for n in model.graph.node if opset < 13 and _has_axis(n)]
    norms = [node for node in model.graph.node if _is_norm(node, opset)]
    for node in with_axis + norms:
        node.domain = _RUNTIME
    if with_axis + norms and _RUNTIME not in versions:
        model.opset_import.append(onnx.helper.make_opsetid(_RUNTIME, 1))
    onnx.checker.check_model(model)
    for node in norms:  # which ONNX Runtime knows as those of onnx
        node.domain = ""


def _has_axis(node: onnx.NodeProto) -> bool:
    is_own = node.op_type in ("QuantizeLinear", "DequantizeLinear") and not node.domain
    return is_own and any(attribute.name == "axis" for attribute in node.attribute)


def _is_norm(node: onnx.NodeProto, opset: int) -> bool:
    early = node.op_type == "LayerNormalization" and opset < 17
    return not node.domain and (early or node.op_type == "SimplifiedLayerNormalization")


def _sort(graph: onnx.GraphProto) -> None:
    order = _sorted(graph)
    if order != list(range(len(order))):
        nodes = [onnx.NodeProto.FromString(graph.node[n].SerializeToString()) for n in order]
        del graph.node[:]
        graph.node.extend(nodes)


def _sorted(graph: onnx.GraphProto) -> list[int]:
    """Return the numbers of nodes such that each comes after what it reads, else as they were.

    All in the order in which they stand where some read each other.
    """
    producers = {name: n for n, node in enumerate(graph.node) for name in node.output if name}
    reads = [{producers[n] for n in names_read(node) if n in producers} for node in graph.node]
    waits = [len(own) for own in reads]
    readers: list[list[int]] = [[] for _ in reads]
    for n, own in enumerate(reads):
        for producer in own:
            readers[producer].append(n)
    ready, order = [n for n, count in enumerate(waits) if not count], []
    heapq.heapify(ready)
    while ready:
        order.append(heapq.heappop(ready))
        for reader in readers[order[-1]]:
            waits[reader] -= 1
            if not waits[reader]:
                heapq.heappush(ready, reader)
    return order if len(order) == len(reads) else list(range(len(reads)))


# Data in other files ------------------------------------------------------------------------------


def _load_data(model: onnx.ModelProto, folder: Path | None) -> None:
    """Put the data of tensors that are in files of a folder into the model."""
    seen: set[Path] = set()
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if folder is None:
            raise WeightsError(
                f"tensor {tensor.name!r} is in the file {entries.get('location')!r}; give the path "
                "of the model, beside which that is"
            )
        path = _beside(folder, entries.get("location", ""), tensor.name)
        found = path.stat()
        if path not in seen:
            grow(size_on_disk(path))
            seen.add(path)
        start = int(entries.get("offset") or 0)
        length = int(entries.get("length") or found.st_size - start)
        if start < 0 or length < 0 or start + length > found.st_size:
            raise WeightsError(
                f"tensor {tensor.name!r} is bytes {start} to {start + length} of "
                f"{entries['location']!r}, which has {found.st_size}"
            )
        spend(f"tensor {tensor.name!r}", 2 * length)
        with path.open("rb") as file:
            file.seek(start)
            tensor.raw_data = file.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _beside(folder: Path, location: str, name: str) -> Path:
    """Return the path of the file that a tensor is in."""
    try:
        return beside(folder, location)
    except Refused as error:
        raise Refused(error.why, error.instead, f"tensor {name!r}") from None


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all tensors of a model, wherever they stand."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)
        yield from _tensors_of_attributes(function.attribute_proto)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        yield from _tensors_of_attributes(node.attribute)


def _tensors_of_attributes(
    attributes: Iterable[onnx.AttributeProto],
) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:  # whatever type it says that it is
        yield from attribute.tensors
        if attribute.HasField("t"):
            yield attribute.t
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in graphs_of(attribute):
            yield from _tensors_of_graph(graph)


# Functions ----------------------------------------------------------------------------------------


def _spend_inlined(model: onnx.ModelProto) -> None:
    """Spend what the functions of a model are, inlined: each may call another twice."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    counts: dict[tuple[str, str, str], int] = {}
    entered: set[tuple[str, str, str]] = set()

    def count(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            total += of_function(key) if key in functions else 1
            for attribute in node.attribute:
                total += sum(count(graph.node) for graph in graphs_of(attribute))
        return total

    def of_function(key: tuple[str, str, str]) -> int:
        if key not in counts:
            if key in entered:
                raise WeightsError(f"function {key[1]!r} calls itself")
            entered.add(key)
            counts[key] = count(functions[key].node)
        return counts[key]

    memory, operations = _OF_A_NODE
    total = count(model.graph.node)
    spend("its functions, inlined,", memory * total, operations * total)
