"""What a network is: its layers, their sizes, and the names and shapes of their tensors.

The tensors are PyTorch's (shapes, gate order ``i f g o`` and ``r z n``, two biases) under the names
``embedding.weight`` and ``layers.{n}.weight_ih``, ``layers.{n}.weight`` and so on, n counting the
layers after the embedding from 0.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from numlstm.budget import spend
from numlstm.cached import cached_property
from numlstm.errors import WeightsError, listed
from numlstm.network.layer import ACTIVATIONS, DTYPES, INPUT, LAYERS, Layer, MatrixLayer, Shape
from numlstm.network.layers import (
    Add,
    Attention,
    Copy,
    Embedding,
    Feedback,
    Masking,
    Multiply,
    OneHot,
    Repeat,
    Windowed,
)
from numlstm.network.recurrent import Recurrent

Tensors = Mapping[str, NDArray[np.float32]]

MAX_NUMBERS = 2**40  # in all tensors of a network, far beyond any CPU's use
MAX_WIDTH = 2**26  # outputs of all layers together: the buffers of a step are a few times that

# What a layer costs whatever its size: the objects that describe it, and looking at them.
_LAYER_BYTES, _LAYER_OPERATIONS = 2**12, 1e5

# What float32 rounding explains of the difference to another engine's float32:
# |y - expected| <= TOLERANCE * (1 + |expected|).
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Network:
    """Layers in forward order, each reading the one before it, or those it names as its inputs.

        Network((
            LSTM(40, 128, name="a"),
            LSTM(128, 128, name="b"),
            Linear(296, 3, inputs=("input", "a", "b")),
        ))

    "input" is the input of the network. The last layer's output is the network's.

    Raises
    ------
    WeightsError
        If names or sizes do not fit, or a layer is where it cannot be.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        strangers = [repr(layer) for layer in self.layers if not isinstance(layer, Layer)]
        if strangers:
            raise WeightsError(f"not layers: {', '.join(strangers)}")
        if not self.layers:
            raise WeightsError("the network has no layers")
        spend(
            f"a network of {len(self.layers):,} layers",
            memory=_LAYER_BYTES * len(self.layers),
            operations=_LAYER_OPERATIONS * len(self.layers),
        )
        problems = self._name_problems()
        if not problems:
            for n, layer in enumerate(self.layers):
                problems += [f"{n}: {type(layer).__name__}: {p}" for p in self._problems(n, layer)]
            problems += self._memory_problems()
        numbers = sum(math.prod(shape) for shape in self.tensor_shapes().values())
        if numbers > MAX_NUMBERS:
            problems.append(f"the tensors would hold {numbers} numbers, at most {MAX_NUMBERS} fit")
        width = sum(layer.output_size for layer in self.layers)
        if width > MAX_WIDTH:
            problems.append(f"the layers have {width} outputs together, at most {MAX_WIDTH} fit")
        if problems:
            raise WeightsError(f"the layers do not form a network:{listed(problems)}")

    def _name_problems(self) -> list[str]:
        problems = []
        known: set[str] = {INPUT}
        every = {layer.name for layer in self.layers}
        for n, layer in enumerate(self.layers):
            label = f"{n}: {type(layer).__name__}"
            reads = (*layer.inputs, *([layer.memory] if _attends(layer) else []))
            for name in reads:
                if name not in known:
                    problems.append(f"{label}: no layer before it is named {name!r}")
            if isinstance(layer, Feedback) and layer.source not in every - {""}:
                problems.append(f"{label}: no layer is named {layer.source!r}")
            if layer.name in known:
                problems.append(f"{label}: the name {layer.name!r} is taken")
            known |= {layer.name} - {""}
        if isinstance(self.layers[0], Feedback) or self.layers[0].inputs not in ((), (INPUT,)):
            problems.append(f"0: {type(self.layers[0]).__name__}: the first layer reads the input")
        return problems

    def _problems(self, n: int, layer: Layer) -> list[str]:
        """Return what is wrong with a layer at its place."""
        problems = []
        if isinstance(layer, Embedding | OneHot | Masking):
            if n > 0:
                problems.append(f"it must be the first layer: {type(layer).__name__}")
            return problems
        if isinstance(layer, Feedback):
            size = self.layers[self.index(layer.source)].output_size
            if size != layer.output_size:
                problems.append(f"output_size is {layer.output_size}, {layer.source} gives {size}")
            if not self.is_causal:
                problems.append("a network with feedback must be causal")
            return problems
        sizes = [self.size(source) for source in self.sources(n)]
        if self.reads_tokens and -1 in self.sources(n):
            problems.append("the input is a token id, which only the first layer reads")
        elif isinstance(layer, Add | Multiply):
            if set(sizes) != {layer.input_size}:
                problems.append(f"input_size is {layer.input_size}, the inputs give {sizes}")
        elif sum(sizes) != layer.input_size and n > 0:
            before = "the layer before gives" if not layer.inputs else "the inputs give"
            problems.append(f"input_size is {layer.input_size}, {before} {sum(sizes)}")
        found = {self.rows_of(source) for source in self.sources(n)}
        if len(found) > 1 and _ONE not in found:
            problems.append("joins sequences of different lengths")
        if isinstance(layer, Attention) and layer.memory == INPUT and self.reads_tokens:
            problems.append("the input is a token id, which is no memory")
        elif isinstance(layer, Attention) and layer.memory:
            size = self.size(self.index(layer.memory))
            if size != layer.memory_size:
                problems.append(f"memory_size is {layer.memory_size}, {layer.memory} gives {size}")
        return problems

    def _memory_problems(self) -> list[str]:
        """Return what is wrong with the layers that read the memory of a stream."""
        problems = []
        if len(set(self._memory_sizes)) > 1:
            problems.append(f"the sizes of the stream's memory differ: {self._memory_sizes}")
        if self._memory_sizes and not self.is_causal:
            problems.append("a network that reads the memory of a stream must be causal")
        return problems

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {layer.name: n for n, layer in enumerate(self.layers) if layer.name}

    @cached_property
    def _memory_sizes(self) -> list[int]:
        return [layer.memory_size for layer in self.layers if _reads_memory(layer)]

    def index(self, name: str) -> int:
        """Return the number of the layer with a name, or -1 for "input"."""
        return self._numbers.get(name, -1)

    def sources(self, n: int) -> tuple[int, ...]:
        """Return the numbers of the layers that layer n reads, -1 for the input of the network."""
        layer = self.layers[n]
        if isinstance(layer, Feedback):
            return ()
        return tuple(self.index(name) for name in layer.inputs) if layer.inputs else (n - 1,)

    def size(self, n: int) -> int:
        """Return the size of what layer n gives, or of the input for -1."""
        return self.layers[n].output_size if n >= 0 else self.input_size

    @cached_property
    def is_causal(self) -> bool:
        """Whether every answer needs nothing but the steps up to it."""
        return all(layer.is_causal for layer in self.layers)

    @cached_property
    def reads_later(self) -> bool:
        """Whether an answer needs steps behind it; if not, there may be less of them than steps."""
        return any(layer.reads_later for layer in self.layers)

    @cached_property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """What is equal for layers that give as many rows: ("steps",), ("one",) and so on.

        In a network that is not causal a pooling gives one row.
        """
        result: list[tuple[Any, ...]] = []
        for n, layer in enumerate(self.layers):
            of_sources = {result[s] if s >= 0 else _STEPS for s in self.sources(n)}
            rows = _ONE if _ONE in of_sources else next(iter(of_sources), _STEPS)
            if isinstance(layer, Repeat):
                rows = ("repeat", layer.num_steps) if layer.num_steps > 1 else _ONE
            elif isinstance(layer, Windowed) and not layer.keeps_rows:
                rows = ("conv", n)
            elif layer.pools and not self.is_causal:
                rows = _ONE
            result.append(rows)
        return tuple(result)

    def rows_of(self, n: int) -> tuple[Any, ...]:
        """Return the `rows` of layer n, or of the input for -1."""
        return self.rows[n] if n >= 0 else _STEPS

    def reads_last(self, n: int) -> bool:
        """Whether layer n joins a single row with sequences, of which it reads the last row."""
        return len({self.rows_of(s) for s in self.sources(n)}) > 1

    @property
    def memory_size(self) -> int | None:
        """Numbers per row of the memory that a stream must be given, or None."""
        return self._memory_sizes[0] if self._memory_sizes else None

    @cached_property
    def memory_vocab_size(self) -> int | None:
        """How many tokens the rows of the memory may stand for, of a network that copies them."""
        sizes = [layer.vocab_size for layer in self.layers if isinstance(layer, Copy)]
        return min(sizes, default=None)

    @property
    def reads_tokens(self) -> bool:
        return isinstance(self.layers[0], Embedding | OneHot)

    @property
    def vocab_size(self) -> int | None:
        first = self.layers[0]
        return first.vocab_size if isinstance(first, Embedding | OneHot) else None

    @property
    def input_size(self) -> int:
        """Numbers per step: 1 for a network that reads tokens."""
        return self.layers[0].input_size

    @property
    def output_size(self) -> int:
        return self.layers[-1].output_size

    @property
    def masks(self) -> bool:
        """Whether it skips some steps."""
        first = self.layers[0]
        return isinstance(first, Masking) or (isinstance(first, Embedding) and first.mask_zero)

    @cached_property
    def rests(self) -> bool:
        """Whether skipped steps have the answer to a layer's rest, not that to the step before.

        So where a layer reads later steps: in both directions its answers at skipped steps are
        zeros, as Keras's and those of a packed sequence of PyTorch are. It is the recurrent layers
        that the answer reads through no other one that count.
        """
        reached: list[Layer] = []
        waiting, seen = [len(self.layers) - 1], set()
        while waiting:
            n = waiting.pop()
            if n < 0 or n in seen:
                continue
            seen.add(n)
            if isinstance(self.layers[n], Recurrent):
                reached.append(self.layers[n])
            else:
                waiting += self.sources(n)
        return not self.is_causal and not all(layer.is_causal for layer in reached)

    def masked(self, xs: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Return which steps are skipped, (T,), or None for a network that skips none."""
        first = self.layers[0]
        if isinstance(first, Embedding) and first.mask_zero:
            return np.asarray(xs == 0)
        if isinstance(first, Masking):
            return np.asarray((xs == np.float32(first.value)).all(1))
        return None

    def accepts(self, xs: NDArray[Any]) -> bool:
        """Tell whether xs, not empty, can be run: int32 ids (T,) or finite float32 (T, I)."""
        if self.vocab_size is not None:
            return _are_ids(xs, self.vocab_size)
        return _are_rows(xs, self.input_size)

    def accepts_memory(self, memory: NDArray[Any] | None, memory_ids: NDArray[Any] | None) -> bool:
        """Tell whether a memory is float32 (M, memory_size), its ids int32 (M,), where needed."""
        if memory is None or self.memory_size is None:
            return memory is None and memory_ids is None and self.memory_size is None
        if not _are_rows(memory, self.memory_size):
            return False
        if memory_ids is None or self.memory_vocab_size is None:
            return memory_ids is None and self.memory_vocab_size is None
        return _are_ids(memory_ids, self.memory_vocab_size) and len(memory_ids) == len(memory)

    def named_layers(self) -> Iterator[tuple[str, Layer]]:
        """Yield each layer with the prefix of its tensors' names."""
        offset = 1 if self.reads_tokens else 0
        for n, layer in enumerate(self.layers):
            yield ("embedding" if n < offset else f"layers.{n - offset}"), layer

    def tensor_shapes(self) -> dict[str, Shape]:
        """Return the shape of every tensor by its canonical name."""
        return {
            f"{prefix}.{name}": shape
            for prefix, layer in self.named_layers()
            for name, shape in layer.tensors().items()
        }

    def matrix_dtypes(self) -> dict[str, str]:
        """Return the dtype of every matrix by its canonical name."""
        return {
            f"{prefix}.{name}": layer.dtype
            for prefix, layer in self.named_layers()
            if isinstance(layer, MatrixLayer)
            for name in layer.matrices()
        }

    def with_dtype(self, dtype: str, activations: str = "int16") -> "Network":
        """Return the network with all matrices of a dtype, or raise a ValueError."""
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}, expected one of: {', '.join(DTYPES)}")
        if activations not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"activations is {activations!r}, expected one of: {known}")
        if activations != "int16" and dtype != "int8":
            raise ValueError(f"activations={activations!r} goes with dtype='int8', not {dtype!r}")
        layers = (
            replace(layer, dtype=dtype, activations=activations)
            if isinstance(layer, MatrixLayer)
            else layer
            for layer in self.layers
        )
        return Network(tuple(layers))

    def check_tensors(self, tensors: Tensors, source: str = "the tensors") -> None:
        """Raise a `WeightsError` that lists every tensor which is not as the layers say."""
        if not isinstance(tensors, Mapping):
            raise WeightsError(f"{source} are {type(tensors).__name__}, expected a dict of arrays")
        problems = []
        expected = self.tensor_shapes()
        for name, shape in expected.items():
            if name not in tensors:
                problems.append(f"{name}  missing, expected {shape}")
                continue
            tensor = tensors[name]
            if not isinstance(tensor, np.ndarray):
                problems.append(f"{name}  expected a float32 array, found {type(tensor).__name__}")
            elif tensor.shape != shape:
                hint = "   (transposed?)" if tensor.shape == shape[::-1] else ""
                problems.append(f"{name}  expected {shape}, found {tensor.shape}{hint}")
            elif tensor.dtype != np.float32:
                problems.append(f"{name}  expected float32, found {tensor.dtype}")
            elif not np.isfinite(tensor).all():
                bad = int(np.count_nonzero(~np.isfinite(tensor)))
                problems.append(f"{name}  {bad} of {tensor.size} numbers are not finite")
            elif name.endswith("running_var") and (tensor < 0).any():
                problems.append(f"{name}  a variance is negative")
        problems += [f"{name}  not in the spec" for name in tensors if name not in expected]
        if problems:
            count = f"{len(problems)} tensor{'s do' if len(problems) > 1 else ' does'}"
            raise WeightsError(f"{source}: {count} not match the spec:{listed(problems)}")

    def to_json(self) -> list[dict[str, Any]]:
        """Return the layers as plain data: ``{"layer": "LSTM", "input_size": 64, ...}``."""
        return [{"layer": type(layer).__name__} | layer.options() for layer in self.layers]

    @classmethod
    def from_json(cls, data: Any) -> "Network":
        """Return the network that `to_json` described; unknown layers and options are refused."""
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            raise WeightsError("the spec is not a list of layers")
        problems = []
        layers = []
        for n, item in enumerate(data):
            options = dict(item)
            kind = options.pop("layer", None)
            layer_type = LAYERS.get(kind) if isinstance(kind, str) else None
            if layer_type is None:
                problems.append(f"{n}: layer {kind!r} is not known; known: {', '.join(LAYERS)}")
                continue
            try:
                layers.append(layer_type(**options))
            except (TypeError, WeightsError) as error:
                problems.append(f"{n}: {error}")
        if problems:
            raise WeightsError(f"the spec cannot be read:{listed(problems)}")
        return cls(tuple(layers))


_STEPS, _ONE = ("steps",), ("one",)


def _are_ids(ids: NDArray[Any], vocab_size: int) -> bool:
    """Whether an array is int32 token ids (T,), not empty."""
    known = isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype == np.int32 and ids.size > 0
    return bool(known and ids.min() >= 0 and ids.max() < vocab_size)


def _are_rows(rows: NDArray[Any], size: int) -> bool:
    """Whether an array is finite float32 (T, size), not empty."""
    known = isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.dtype == np.float32
    return bool(known and rows.shape[1] == size and rows.size > 0 and np.isfinite(rows).all())


def _attends(layer: Layer) -> TypeGuard[Attention]:
    """Whether a layer reads all rows of another one."""
    return isinstance(layer, Attention) and bool(layer.memory)


def _reads_memory(layer: Layer) -> TypeGuard[Attention | Copy]:
    """Whether a layer reads the memory of its stream."""
    return isinstance(layer, Copy) or (isinstance(layer, Attention) and not layer.memory)
