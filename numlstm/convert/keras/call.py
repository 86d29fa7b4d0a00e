"""One call of a Keras layer: what it reads, and the network that grows by it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numlstm import spec
from numlstm.convert.assembly import Assembly, Draft, Misfit, Read
from numlstm.convert.keras.config import Config, Key, config_of
from numlstm.convert.keras.hdf5 import Array
from numlstm.convert.keras.options import Options
from numlstm.convert.keras.tensors import tensors_of
from numlstm.spec import Layer

TOKENS, SEQUENCE, VECTOR = "token ids", "a sequence", "one vector"


@dataclass(frozen=True)
class Value:
    """What a call gives.

    draft    what gives it; None is the input of the network
    size     numbers of each step
    kind     TOKENS, SEQUENCE or VECTOR: of a whole sequence, or an input without time
    steps    how many, where the config says so
    masked   whether a mask comes with it
    """

    draft: Read
    size: int
    kind: str = SEQUENCE
    steps: int | None = None
    masked: bool = False


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
    assembly: Assembly
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
            raise Misfit(f"reads {len(self.inputs)} inputs, expected one")
        (value,) = self.inputs
        if kinds and value.kind not in kinds:
            raise Misfit(f"reads {value.kind}, expected {' or '.join(kinds)}")
        return value

    def add(
        self,
        kind: type[Layer],
        *sizes: Any,
        reads: Sequence[Value],
        arrays: Sequence[Array] | None = None,
        tensors: Mapping[str, Array] | None = None,
        memory: Read = None,
        fuses: bool = False,
        **options: Any,
    ) -> Draft:
        """Add a layer under the name of this one, with tensors or the arrays of Keras for them."""
        layer = kind(*sizes, inputs=("",) * len(reads), **options)
        if arrays is not None:
            tensors = tensors_of(layer, arrays)
        drafts = [value.draft for value in reads]
        return self.assembly.grow(layer, drafts, tensors, self.name, memory=memory, fuses=fuses)

    def then(self, value: Value, draft: Draft, **changes: Any) -> Value:
        """Return what a layer makes of a value."""
        return replace(value, draft=draft, size=draft.layer.output_size, **changes)

    def function(self, value: Value, function: str, fuses: bool = False) -> Value:
        """Apply a function, as a layer of its own unless it may be part of the one before."""
        match function:
            case "linear":
                return value
            case "softmax":
                return self.then(value, self.add(spec.Softmax, value.size, reads=[value]))
            case "log_softmax":
                return self.then(value, self.add(spec.LogSoftmax, value.size, reads=[value]))
        draft = self.add(spec.Activation, value.size, function, reads=[value], fuses=fuses)
        return self.then(value, draft)

    def weighted(
        self, kind: type[Layer], value: Value, function: str, *sizes: Any, **options: Any
    ) -> Value:
        """Add a Linear or Conv1d with its activation."""
        draft = self.add(kind, *sizes, reads=[value], arrays=self.own, **options)
        return self.function(self.then(value, draft), function, fuses=True)
