"""The inputs of a Keras model: what each is, and which columns of a row it is.

A network reads one row per step. Sequences stand in it end to end, and so do inputs of the whole
sequence, in every row. Ids beside numbers stand as 1 at the id; ids alone are token ids.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numlstm import spec
from numlstm.budget import spend
from numlstm.convert.assembly import Assembly, Refusals
from numlstm.convert.keras.call import SEQUENCE, TOKENS, VECTOR, Value
from numlstm.convert.keras.config import (
    MODELS,
    RECURRENT,
    Config,
    class_of,
    config_of,
    layers_of,
    name_of,
)
from numlstm.convert.keras.nodes import nodes_of, refs_of
from numlstm.spec import WeightsError

_EXPECTED = "expected (batch, steps) token ids, (batch, steps, features) or (batch, features)"
_SAME = ("Dropout", "SpatialDropout1D", "GaussianNoise", "Identity", "InputLayer", "Masking")


@dataclass(frozen=True)
class Entrance:
    """An input of the model.

    shape     of a batch, None where it is free
    readers   the layers that read it
    """

    name: str
    shape: list[Any]
    readers: tuple[Config, ...]

    @property
    def vocab_size(self) -> int:
        """Of how many the ids are, or 0 if these are no ids: something else reads them too."""
        tables = [_table_of(layer) for layer in self.readers]
        sizes = {config_of(table).get("input_dim") for table in tables if table is not None}
        (size,) = sizes if len(sizes) == 1 and None not in tables else (None,)
        return size if type(size) is int and size > 0 else 0

    @property
    def is_flat(self) -> bool:
        """Whether each number is a step: all that reads it makes one feature of each."""
        return bool(self.readers) and all(map(_makes_steps, self.readers))


def _table_of(layer: Config) -> Config | None:
    """Return the Embedding that a layer is, or runs for each step, or None."""
    if class_of(layer) == "TimeDistributed":
        layer = config_of(layer).get("layer") or {}
    return layer if class_of(layer) == "Embedding" else None


def _makes_steps(layer: Config) -> bool:
    config = config_of(layer)
    if class_of(layer) == "Reshape":
        target = config.get("target_shape")
        return isinstance(target, list) and len(target) == 2 and target[1] == 1
    return class_of(layer) == "ExpandDims" and config.get("axis") in (2, -1)


def values_of(
    entrances: Sequence[Entrance], assembly: Assembly, refusals: Refusals, time_major: bool
) -> list[Value]:
    """Return what the inputs are, as parts of a row."""
    alone = len(entrances) == 1
    lengths = [_steps(e, time_major) for e in entrances if len(e.shape) == 3]
    values, before = [], len(refusals)
    for entrance in entrances:
        value = _value_of(entrance, alone, lengths, time_major)
        if value is None:
            refusals.add(
                f'input "{entrance.name}"', f"has shape {tuple(entrance.shape)}, {_EXPECTED}"
            )
        values.append(value or Value(None, 1))
    _check_together(entrances, values, refusals)
    if len(refusals) > before:  # nothing that reads them can be judged
        refusals.check()
    if alone:
        return values
    has_steps = any(value.kind == SEQUENCE for value in values)
    total, start, parts = sum(value.size for value in values), 0, []
    for entrance, value in zip(entrances, values, strict=True):
        draft = assembly.part(None, total, start, start + value.size, entrance.name)
        parts.append(replace(value, draft=draft, fixed=has_steps and value.kind == VECTOR))
        start += value.size
    return parts


def _steps(entrance: Entrance, time_major: bool) -> int | None:
    steps = entrance.shape[0 if time_major else 1]
    return steps if isinstance(steps, int) else None


def _value_of(
    entrance: Entrance, alone: bool, lengths: list[int | None], time_major: bool
) -> Value | None:
    """Return what an input is, or None if its shape is none that is known.

    lengths   of the sequences of numbers among the inputs
    """
    shape, vocab_size = entrance.shape, entrance.vocab_size
    rank, width = len(shape), shape[-1] if shape else None
    if rank not in (2, 3):
        return None
    steps = _steps(entrance, time_major)
    if type(width) is not int:
        return _of_any_width(entrance, alone) if width is None and rank == 2 else None
    if vocab_size and rank == 3:
        return Value(None, width * vocab_size, SEQUENCE, steps, table=width, ids=vocab_size)
    if vocab_size and alone:
        return Value(None, 1, TOKENS, steps)
    if vocab_size and (width in lengths or not lengths):
        return Value(None, vocab_size, SEQUENCE, steps, ids=vocab_size)
    if vocab_size:
        return Value(None, width * vocab_size, VECTOR, table=width, ids=vocab_size)
    if rank == 3:
        return Value(None, width, SEQUENCE, steps)
    if entrance.is_flat and (alone or width in lengths):
        return Value(None, 1, SEQUENCE, steps, flat=True)
    return Value(None, width, VECTOR)


def _of_any_width(entrance: Entrance, alone: bool) -> Value | None:
    """Return what an input (batch, None) is: token ids, or numbers that each are a step."""
    if entrance.is_flat:
        return Value(None, 1, SEQUENCE, flat=True)
    if alone:
        return Value(None, 1, TOKENS)
    size = entrance.vocab_size
    return Value(None, size, SEQUENCE, ids=size) if size else None


def _check_together(
    entrances: Sequence[Entrance], values: Sequence[Value], refusals: Refusals
) -> None:
    lengths = {
        entrance.name: value.steps
        for entrance, value in zip(entrances, values, strict=True)
        if value.kind == SEQUENCE and value.steps is not None
    }
    if len(set(lengths.values())) > 1:
        spelled = ", ".join(f'"{name}" {steps}' for name, steps in lengths.items())
        refusals.add(
            "several inputs",
            f"sequences of different lengths ({spelled}), of which a row has no steps in common",
            "convert the part that reads each as a model of its own",
        )
    total = sum(value.size for value in values)
    if total > spec.MAX_WIDTH:
        refusals.add(
            "several inputs", f"{total:,} numbers in a row, at most {spec.MAX_WIDTH:,} can be",
            "start the model behind its embeddings, and give it their rows",
        )  # fmt: skip


# What the config says -----------------------------------------------------------------------------


def entrances_of(config: Config, kernel_of: Any) -> list[Entrance]:
    """Return the inputs of a model.

    kernel_of   of the name of a layer, its first array or None
    """
    layers = layers_of(config)
    if class_of(config) != "Sequential":
        by_name = {name_of(layer): layer for layer in layers}
        names = [name for name, _, _ in refs_of(config_of(config).get("input_layers"))]
        return [
            Entrance(name, _shape_of(by_name.get(name, {})) or [], tuple(_readers(config, n)))
            for n, name in enumerate(names)
        ]
    if not layers:
        raise WeightsError("the Keras model has no layers")
    first = layers[0]
    while class_of(first) in MODELS and layers_of(first):
        if class_of(first) != "Sequential":
            return entrances_of(first, kernel_of)
        first = layers_of(first)[0]
    shape = _shape_of(first) or config_of(config).get("build_input_shape")
    if not isinstance(shape, list):
        shape = (config.get("build_config") or {}).get("input_shape")
    if not isinstance(shape, list) and class_of(first) == "Embedding":
        shape = [None, None]
    if not isinstance(shape, list) and class_of(first) in (*RECURRENT, "Bidirectional", "RNN"):
        kernel = kernel_of(name_of(first))
        shape = None if kernel is None else [None, None, kernel.shape[0]]
    if not isinstance(shape, list):
        raise WeightsError("the config names no shape of the input; build the model, then save")
    return [Entrance(name_of(first), shape, tuple(_readers(config, 0)))]


def _readers(item: Config, n: int) -> Iterator[Config]:
    """Yield the layers that read an input of a model, or what does nothing to it."""
    spend("the readers of the inputs", operations=2e5)  # a model may be called within a model
    if class_of(item) == "Sequential":
        for layer in layers_of(item):
            if class_of(layer) in MODELS:
                yield from _readers(layer, n)
                return
            if class_of(layer) not in _SAME:
                yield layer
                return
        return
    names = {name for name, _, _ in refs_of(config_of(item).get("input_layers"))[n : n + 1]}
    for layer in layers_of(item):
        for node in nodes_of(layer):
            at = [m for m, ref in enumerate(node.refs) if ref[0] in names]
            if not at:
                continue
            if class_of(layer) in MODELS:
                for m in at:
                    yield from _readers(layer, m)
            elif class_of(layer) in _SAME:
                names.add(name_of(layer))
            elif class_of(layer) != "NotEqual":  # a mask, which Keras 3 writes out
                yield layer


def _shape_of(layer: Config) -> list[Any] | None:
    """Return the shape of a batch of inputs, if the layer has one in its config."""
    config = config_of(layer)
    for name in ("batch_shape", "batch_input_shape"):
        if isinstance(config.get(name), list):
            return list(config[name])
    if isinstance(config.get("input_shape"), list):
        return [None, *config["input_shape"]]
    if isinstance(config.get("layer"), dict):
        return _shape_of(config["layer"])
    return None
