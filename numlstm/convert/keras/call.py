"""One call of a Keras layer: what it reads, and the network that grows by it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numlstm import spec
from numlstm.convert.assembly import Array, Assembly, Draft, Misfit, Read
from numlstm.convert.compositions import COMPOSED, scaled
from numlstm.convert.keras.config import Config, Key, config_of
from numlstm.convert.keras.options import Options
from numlstm.convert.keras.tensors import tensors_of
from numlstm.spec import Layer

TOKENS, SEQUENCE, VECTOR = "token ids", "a sequence", "one vector"
STATE = "a state that is no output, as the c of an LSTM"


@dataclass(frozen=True)
class Value:
    """What a call gives.

    draft    what gives it; None is the input of the network
    size     numbers of each step
    kind     TOKENS, SEQUENCE or VECTOR: of a whole sequence, or an input without time
    steps    how many, where the config says so
    masked   whether a mask comes with it
    holds    whether it repeats, at masked steps, what it was before
    mixed    whether some of it does, and some does not
    fixed    whether it is of the whole sequence and stands in every row of the input
    table    of how many rows, end to end, the numbers of a step are: 32 letters of a word; 0 of one
    ids      of how many ids each number is one, which stands as 1 at the id; 0 of no id
    flat     an input (batch, steps), of which each number is a step
    """

    draft: Read
    size: int
    kind: str = SEQUENCE
    steps: int | None = None
    masked: bool = False
    holds: bool = False
    mixed: bool = False
    fixed: bool = False
    table: int = 0
    ids: int = 0
    flat: bool = False

    @property
    def described(self) -> str:
        """What it is, as a message says it."""
        if self.ids:
            return "ids"
        if self.table:
            return f"a table of {self.table} x {self.size // self.table} numbers"
        return self.kind + (" with a mask" if self.masked else "")

    @property
    def axis(self) -> int:
        """Which axis of an array of Keras its features are."""
        return 1 + (self.kind == SEQUENCE) + (self.table > 0)


@dataclass
class Call:
    """One call of a Keras layer.

    arrays   of each part of the layer, see `leaves_of`
    inner    calls another layer: TimeDistributed
    args     of an operation: its inputs, and constants between them
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
    args: tuple[Any, ...] = ()

    @property
    def options(self) -> Options:
        return Options(config_of(self.item), self.major)

    @property
    def own(self) -> list[Array]:
        return self.arrays.get(self.key, [])

    def any_one(self) -> Value:
        """Return the only input, whatever it is."""
        if len(self.inputs) != 1:
            raise Misfit(f"reads {len(self.inputs)} inputs, expected one")
        return self.inputs[0]

    def one(self, *kinds: str) -> Value:
        """Return the only input, of one of some kinds and no table."""
        value = self.any_one()
        if value.kind == STATE:
            raise Misfit(f"reads {STATE}", "the h of a layer can be read; stream.state has all")
        if kinds and value.kind not in kinds:
            raise Misfit(f"reads {value.described}, expected {' or '.join(kinds)}")
        if value.ids or value.table > 1:
            raise Misfit(f"reads {value.described} for each step, expected one row")
        if value.flat:
            raise Misfit(
                f"reads {value.size} numbers", "reshape them to (steps, 1) in the model before it"
            )
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

    def grow(
        self, layer: Layer, reads: Sequence[Any], tensors: Mapping[str, Array] | None = None, /
    ) -> Draft:
        """Add a layer that reads drafts, under the name of this one: that of `compositions`."""
        return self.assembly.grow(layer, reads, tensors, self.name)

    def then(self, value: Value, draft: Draft, **changes: Any) -> Value:
        """Return what a layer makes of a value."""
        return replace(value, draft=draft, size=draft.layer.output_size, **changes)

    def whole(self, value: Value, draft: Read) -> Value:
        """Return what a layer makes of a whole sequence: one vector."""
        size = value.size if draft is None else draft.layer.output_size
        return replace(
            value, draft=draft, size=size, kind=VECTOR, steps=None,
            masked=False, holds=False, mixed=False,
        )  # fmt: skip

    def affine(self, value: Value, scale: Any = 1.0, offset: Any = 0.0) -> Value:
        """Return ``scale * value + offset``, each a number, or an array of one per feature."""
        if np.ndim(scale) == 0 and np.ndim(offset) == 0:
            text = spec.function_text("affine", float(scale), float(offset))
            return value if text == "affine" else self.function(value, text)
        rows = [self.per_feature(value, numbers) for numbers in (scale, offset)]
        return self.then(value, scaled(self.grow, value.draft, *rows))

    def per_feature(self, value: Value, numbers: Any) -> Array:
        """Return a number, or an array of one per feature, as such an array."""
        try:
            return np.broadcast_to(np.squeeze(np.asarray(numbers, np.float64)), (value.size,))
        except ValueError as error:
            shape = np.shape(numbers)
            raise Misfit(f"numbers of shape {shape} for {value.size} features") from error

    def function(self, value: Value, function: str, fuses: bool = False) -> Value:
        """Apply a function, as a layer of its own unless it may be part of the one before."""
        match function:
            case "linear":
                return value
            case "softmax":
                return self.then(value, self.add(spec.Softmax, value.size, reads=[value]))
            case "log_softmax":
                return self.then(value, self.add(spec.LogSoftmax, value.size, reads=[value]))
            case name if name in COMPOSED:
                return self.then(value, COMPOSED[name](self.grow, value.draft, value.size))
        draft = self.add(spec.Activation, value.size, function, reads=[value], fuses=fuses)
        return self.then(value, draft)

    def weighted(
        self, kind: type[Layer], value: Value, function: str, *sizes: Any, **options: Any
    ) -> Value:
        """Add a Linear or Conv1d with its activation."""
        draft = self.add(kind, *sizes, reads=[value], arrays=self.own, **options)
        return self.function(self.then(value, draft), function, fuses=True)
