"""Functional models of Keras: which call reads which, in the formats of Keras 1, 2 and 3."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from numlstm.budget import spend
from numlstm.convert.keras.config import MODELS, Config, class_of
from numlstm.spec import WeightsError

Ref: TypeAlias = tuple[str, int, int]  # a layer, which of its calls, which of its outputs

# Operations of keras.ops that masks are made of.
OF_MASKS = {"Any", "LogicalOr", "LogicalAnd", "ExpandDims", "ZerosLike", "OnesLike", "Concatenate",
             "ConvertToTensor", "NotEqual", "BroadcastTo", "Cast"}  # fmt: skip


OPERATIONS_OF_KERAS_2 = ("TFOpLambda", "SlicingOpLambda")
_CONSTANT = "_CONSTANT_VALUE"


@dataclass(frozen=True)
class Node:
    """One call in a functional model.

    refs        what it reads
    options     by name
    constants   arguments that are not read
    args        all arguments, in their order, with the refs of those that are read
    """

    refs: tuple[Ref, ...]
    options: dict[str, Any]
    constants: tuple[Any, ...] = ()
    args: tuple[Any, ...] = ()


def refs_of(data: Any) -> list[Ref]:
    """Return the tensors that are named in a piece of config, whatever holds them."""
    if isinstance(data, dict):
        history = data.get("config", {}).get("keras_history") if "class_name" in data else None
        if history is not None:
            return refs_of(history)
        return [ref for value in data.values() for ref in refs_of(value)]
    if not isinstance(data, list):
        return []
    if len(data) in (3, 4) and isinstance(data[0], str) and all(type(n) is int for n in data[1:3]):
        return [(data[0], data[1], data[2])]
    return [ref for value in data for ref in refs_of(value)]


def nodes_of(layer: Config) -> list[Node]:
    """Return the calls of a layer: lists up to Keras 2, dicts since."""
    found = []
    for node in layer.get("inbound_nodes") or []:
        if isinstance(node, dict):
            args = node.get("args") or []
            constants = tuple(arg for arg in args if not refs_of(arg))
            kwargs = node.get("kwargs") or {}
            found.append(Node(tuple(refs_of(args)), kwargs, constants, tuple(args)))
            continue
        node = [node] if node and isinstance(node[0], str) else node
        options: dict[str, Any] = {}
        for ref in node:
            options |= ref[3] if isinstance(ref, list) and len(ref) > 3 else {}
        found.append(_node_of_keras_2(node, options, class_of(layer) in OPERATIONS_OF_KERAS_2))
    return found


def _node_of_keras_2(node: list[Any], options: dict[str, Any], is_operation: bool) -> Node:
    """Return a call as Keras 2 writes it: ``[["lstm", 0, 0, {...}]]``.

    Of an operation more may be read by name, and the first argument may be a constant:
    ``["_CONSTANT_VALUE", -1, 2.0, {"y": ["lstm", 0, 0]}]``.
    """
    firsts = [ref[:3] for ref in node]
    if not is_operation:
        return Node(tuple(refs_of(firsts)), options)
    args = [ref[2] if ref[0] == _CONSTANT else ref for ref in firsts]
    options = {name: value for name, value in options.items() if name != "name"}
    args += [options.pop(name) for name in ("y", "b") if name in options]
    refs = refs_of([arg for arg in args if isinstance(arg, list)])
    return Node(tuple(refs), options, (), tuple(args))


def numbered(layers: dict[str, Config], outputs: list[Ref]) -> dict[tuple[str, int], Node]:
    """Return the calls of all layers by their numbers.

    Keras 2 counts the call by which a model was made as that of number 0, but does not list it.
    """
    listed = {name: nodes_of(layer) for name, layer in layers.items()}
    largest: dict[str, int] = {}
    for name, n, _ in [
        r for nodes in listed.values() for node in nodes for r in node.refs
    ] + outputs:
        largest[name] = max(largest.get(name, 0), n)
    found: dict[tuple[str, int], Node] = {}
    for name, nodes in listed.items():
        is_offset = largest.get(name, 0) == len(nodes)
        first = int(class_of(layers[name]) in MODELS and is_offset)
        found |= {(name, first + n): node for n, node in enumerate(nodes)}
    return found


def order_of(
    nodes: dict[tuple[str, int], Node], outputs: list[Ref], given: set[tuple[str, int]]
) -> list[tuple[str, int]]:
    """Return the calls that the outputs need, each after what it reads."""
    order: list[tuple[str, int]] = []
    done, entered = set(given), set()
    stack = [(name, n) for name, n, _ in reversed(outputs)]
    while stack:
        at = stack[-1]
        if at in done:
            stack.pop()
            continue
        if at not in nodes:
            raise WeightsError(f'no call {at[1]} of a layer "{at[0]}"')
        open_ = [(name, n) for name, n, _ in nodes[at].refs if (name, n) not in done]
        if at in entered and open_:
            raise WeightsError(f'layer "{at[0]}" reads what it gives')
        entered.add(at)
        if open_:
            stack += open_
        else:
            done.add(at)
            order.append(stack.pop())
    return order


def is_own_mask(
    ref: Ref, nodes: dict[tuple[str, int], Node], layers: dict[str, Config], values: set[float]
) -> bool:
    """Tell whether a mask is what Keras 3 writes for the masks it makes itself."""
    pending, seen = [ref], set()
    while pending:
        name, n, _ = at = pending.pop()
        if at in seen:
            continue
        seen.add(at)
        spend("the masks of calls", operations=1e4)
        layer, node = layers.get(name, {}), nodes.get((name, n))
        if node is None or class_of(layer) not in OF_MASKS:
            return False
        match class_of(layer):
            case "NotEqual":
                if len(node.constants) != 1 or node.constants[0] not in values:
                    return False
            case "ZerosLike" | "OnesLike":
                pass
            case _:
                pending += node.refs
    return True
