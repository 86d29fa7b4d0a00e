"""One call of a Keras layer: what it reads, and the network that grows by it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm import spec
from numlstm.convert.keras.config import Config, Key, config_of
from numlstm.convert.keras.files import Array
from numlstm.convert.keras.options import MisfitError, Options
from numlstm.convert.keras.tensors import tensors_of
from numlstm.spec import INPUT, Layer

TOKENS, SEQUENCE, VECTOR = "token ids", "a sequence", "one vector"


@dataclass(frozen=True)
class Value:
    """What a call gives.

    name     of the layer of the network that gives it
    size     numbers of each step
    kind     TOKENS, SEQUENCE or VECTOR: of a whole sequence, or an input without time
    steps    how many, where the config says so
    masked   whether a mask comes with it
    """

    name: str
    size: int
    kind: str = SEQUENCE
    steps: int | None = None
    masked: bool = False


class Builder:
    """The layers of a network as they are found, in order."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.tensors: list[dict[str, NDArray[np.float32]]] = []
        self.mask: tuple[str, float] | None = None  # the value of the input which is skipped

    def add(
        self,
        kind: type[Layer],
        *sizes: Any,
        name: str,
        reads: Sequence[Value],
        arrays: Sequence[Array] | None = None,
        **options: Any,
    ) -> Layer:
        """Add a layer that reads values; return it, with the name it got."""
        taken = {layer.name for layer in self.layers} | {INPUT}
        unique, n = name, 0
        while unique in taken:
            n += 1
            unique = f"{name}_{n}"
        inputs = tuple(value.name for value in reads)
        layer = kind(*sizes, name=unique, inputs=inputs, **options)
        self.tensors.append(tensors_of(layer, arrays) if arrays is not None else {})
        self.layers.append(layer)
        return layer


@dataclass
class Call:
    """One call of a Keras layer.

    arrays   of each part of the layer, see `leaves_of`
    inner    calls another layer: TimeDistributed
    """

    item: Config
    name: str
    key: Key
    inputs: list[Value]
    arrays: dict[Key, list[Array]]
    builder: Builder
    major: int | None
    version: str
    inner: Callable[[Config, Key, list[Value]], list[Value]]

    @property
    def options(self) -> Options:
        return Options(config_of(self.item), self.major)

    @property
    def own(self) -> list[Array]:
        return self.arrays.get(self.key, [])

    def one(self, *kinds: str) -> Value:
        """Return the only input, of one of some kinds."""
        if len(self.inputs) != 1:
            raise MisfitError(f"reads {len(self.inputs)} inputs, expected one")
        (value,) = self.inputs
        if kinds and value.kind not in kinds:
            raise MisfitError(f"reads {value.kind}, expected {' or '.join(kinds)}")
        return value

    def add(self, kind: type[Layer], *sizes: Any, reads: Sequence[Value], **options: Any) -> Layer:
        """Add a layer under the name of this one."""
        return self.builder.add(kind, *sizes, name=self.name, reads=reads, **options)

    def then(self, value: Value, layer: Layer, **changes: Any) -> Value:
        """Return what a layer makes of a value."""
        return replace(value, name=layer.name, size=layer.output_size, **changes)

    def function(self, value: Value, function: str) -> Value:
        """Apply a function, as a layer of its own."""
        match function:
            case "linear":
                return value
            case "softmax":
                return self.then(value, self.add(spec.Softmax, value.size, reads=[value]))
            case "log_softmax":
                return self.then(value, self.add(spec.LogSoftmax, value.size, reads=[value]))
        return self.then(value, self.add(spec.Activation, value.size, function, reads=[value]))

    def weighted(
        self, kind: type[Layer], value: Value, function: str, *sizes: Any, **options: Any
    ) -> Value:
        """Add a Linear or Conv1d with its activation."""
        of_rows = function in ("softmax", "log_softmax")
        own = None if of_rows or function == "linear" else function
        layer = self.add(kind, *sizes, own, reads=[value], arrays=self.own, **options)
        found = self.then(value, layer)
        return self.function(found, function) if of_rows else found
