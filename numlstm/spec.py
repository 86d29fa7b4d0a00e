"""What a network is: its layers, their sizes, and the names and shapes of their tensors.

The tensors are PyTorch's (shapes, gate order ``i f g o`` and ``r z n``, two biases) under the names
``embedding.weight`` and ``layers.{n}.weight_ih``, ``layers.{n}.weight`` and so on, n counting the
layers after the embedding from 0.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Shape = tuple[int, ...]
Tensors = Mapping[str, NDArray[np.float32]]

MAX_SIZE = 2**31 - 1  # token ids and sizes are int32
MAX_NUMBERS = 2**40  # in all tensors of a network, far beyond any CPU's use
MAX_WIDTH = 2**26  # outputs of all layers together: the buffers of a step are a few times that

# What float32 rounding explains of the difference to another engine's float32:
# |y - expected| <= TOLERANCE * (1 + |expected|).
TOLERANCE = 1e-5

_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

ACTIVATIONS = ("tanh", "sigmoid", "relu")
POOLINGS = ("last", "mean", "max")
NONLINEARITIES = ("tanh", "relu")


class WeightsError(ValueError):
    """A file, a conversion or a set of tensors that cannot become a model."""


@dataclass(frozen=True)
class Layer:
    """What every layer has: `input_size`, `output_size`, and tensors."""

    choices: ClassVar[Mapping[str, tuple[str | None, ...]]] = {}

    if TYPE_CHECKING:  # a field in some layers, a property in others

        @property
        def input_size(self) -> int: ...
        @property
        def output_size(self) -> int: ...

    def tensors(self) -> dict[str, Shape]:
        """Return the shape of each tensor by its name within the layer."""
        return {}

    def __post_init__(self) -> None:
        problems = []
        for option in fields(self):
            value = getattr(self, option.name)
            if option.type is int and (type(value) is not int or not 1 <= value <= MAX_SIZE):
                problems.append(f"{option.name} is {value!r}, expected 1 to {MAX_SIZE}")
            elif option.type is bool and type(value) is not bool:
                problems.append(f"{option.name} is {value!r}, expected true or false")
            elif option.type is float and not (
                type(value) in (int, float) and _SMALLEST <= value <= _LARGEST
            ):
                problems.append(f"{option.name} is {value!r}, expected a positive float32")
            elif option.name in self.choices and value not in self.choices[option.name]:
                known = ", ".join(str(choice) for choice in self.choices[option.name])
                problems.append(f"{option.name} is {value!r}, expected one of: {known}")
        if problems:
            raise WeightsError(f"{type(self).__name__}: " + "; ".join(problems))


@dataclass(frozen=True)
class Embedding(Layer):
    """A table of one vector per token id. Only the first layer of a network."""

    vocab_size: int
    embedding_size: int

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return self.embedding_size

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.vocab_size, self.embedding_size)}


@dataclass(frozen=True)
class _Recurrent(Layer):
    input_size: int
    hidden_size: int
    bias: bool = True

    num_gates: ClassVar[int] = 1

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def tensors(self) -> dict[str, Shape]:
        gates = self.num_gates * self.hidden_size
        shapes: dict[str, Shape] = {
            "weight_ih": (gates, self.input_size),
            "weight_hh": (gates, self.hidden_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
        return shapes


@dataclass(frozen=True)
class RNN(_Recurrent):
    """One layer of torch.nn.RNN: ``h' = f(W_ih x + b_ih + W_hh h + b_hh)``."""

    nonlinearity: str = "tanh"

    choices: ClassVar = {"nonlinearity": NONLINEARITIES}


@dataclass(frozen=True)
class GRU(_Recurrent):
    """One layer of torch.nn.GRU; gates r, z, n, the reset applied after the product."""

    num_gates: ClassVar[int] = 3


@dataclass(frozen=True)
class LSTM(_Recurrent):
    """One layer of torch.nn.LSTM; gates i, f, g, o."""

    num_gates: ClassVar[int] = 4


@dataclass(frozen=True)
class Linear(Layer):
    """``activation(W x + b)``, as torch.nn.Linear."""

    input_size: int
    output_size: int
    bias: bool = True
    activation: str | None = None

    choices: ClassVar = {"activation": (None, *ACTIVATIONS)}

    def tensors(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"weight": (self.output_size, self.input_size)}
        if self.bias:
            shapes["bias"] = (self.output_size,)
        return shapes


@dataclass(frozen=True)
class _SameSize(Layer):
    input_size: int

    @property
    def output_size(self) -> int:
        return self.input_size


@dataclass(frozen=True)
class LayerNorm(_SameSize):
    """torch.nn.LayerNorm over the features of one step."""

    eps: float = 1e-5
    weight: bool = True
    bias: bool = True

    def tensors(self) -> dict[str, Shape]:
        shape = (self.input_size,)
        present = {"weight": self.weight, "bias": self.bias}
        return {name: shape for name, here in present.items() if here}


@dataclass(frozen=True)
class Pooling(_SameSize):
    """The last, mean or largest value of each feature over all steps so far."""

    mode: str = "mean"

    choices: ClassVar = {"mode": POOLINGS}


@dataclass(frozen=True)
class Activation(_SameSize):
    """An elementwise function."""

    function: str = "tanh"

    choices: ClassVar = {"function": ACTIVATIONS}


@dataclass(frozen=True)
class Softmax(_SameSize):
    """``exp(x) / sum(exp(x))`` over the features of one step."""


LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        Embedding, RNN, GRU, LSTM, Linear, LayerNorm, Pooling, Activation, Softmax,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """Layers in forward order. The output of each is the input of the next.

    Raises
    ------
    WeightsError
        If the sizes of neighbours differ, or an embedding is not first.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        strangers = [repr(layer) for layer in self.layers if not isinstance(layer, Layer)]
        if strangers:
            raise WeightsError(f"not layers: {', '.join(strangers)}")
        if not self.layers:
            raise WeightsError("the network has no layers")
        problems = []
        size: int | None = None
        for n, layer in enumerate(self.layers):
            label = f"{n}: {type(layer).__name__}"
            if isinstance(layer, Embedding):
                if n > 0:
                    problems.append(f"{label}: an Embedding must be the first layer")
            else:
                found = layer.input_size
                if size is not None and found != size:
                    problems.append(
                        f"{label}: input_size is {found}, the layer before gives {size}"
                    )
            size = layer.output_size
        numbers = sum(math.prod(shape) for shape in self.tensor_shapes().values())
        if numbers > MAX_NUMBERS:
            problems.append(f"the tensors would hold {numbers} numbers, at most {MAX_NUMBERS} fit")
        width = sum(layer.output_size for layer in self.layers)
        if width > MAX_WIDTH:
            problems.append(f"the layers have {width} outputs together, at most {MAX_WIDTH} fit")
        if problems:
            raise WeightsError("the layers do not form a network:\n  " + "\n  ".join(problems))

    @property
    def reads_tokens(self) -> bool:
        return isinstance(self.layers[0], Embedding)

    @property
    def vocab_size(self) -> int | None:
        first = self.layers[0]
        return first.vocab_size if isinstance(first, Embedding) else None

    @property
    def input_size(self) -> int:
        """Numbers per step: 1 for a network that reads tokens."""
        return self.layers[0].input_size

    @property
    def output_size(self) -> int:
        return self.layers[-1].output_size

    def accepts(self, xs: NDArray[Any]) -> bool:
        """Tell whether xs, not empty, can be run: int32 ids (T,) or finite float32 (T, I)."""
        if self.vocab_size is not None:
            known = xs.ndim == 1 and xs.dtype == np.int32 and xs.size > 0
            return bool(known and xs.min() >= 0 and xs.max() < self.vocab_size)
        known = xs.ndim == 2 and xs.shape[1] == self.input_size and xs.dtype == np.float32
        return bool(known and xs.size > 0 and np.isfinite(xs).all())

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

    def check_tensors(self, tensors: Tensors, source: str = "the tensors") -> None:
        """Raise a `WeightsError` that lists every tensor which is not as the layers say."""
        problems = []
        expected = self.tensor_shapes()
        for name, shape in expected.items():
            if name not in tensors:
                problems.append(f"{name}  missing, expected {shape}")
                continue
            tensor = tensors[name]
            if tensor.shape != shape:
                hint = "   (transposed?)" if tensor.shape == shape[::-1] else ""
                problems.append(f"{name}  expected {shape}, found {tensor.shape}{hint}")
            elif tensor.dtype != np.float32:
                problems.append(f"{name}  expected float32, found {tensor.dtype}")
            elif not np.isfinite(tensor).all():
                bad = int(np.count_nonzero(~np.isfinite(tensor)))
                problems.append(f"{name}  {bad} of {tensor.size} numbers are not finite")
        problems += [f"{name}  not in the spec" for name in tensors if name not in expected]
        if problems:
            count = f"{len(problems)} tensor{'s do' if len(problems) > 1 else ' does'}"
            raise WeightsError(f"{source}: {count} not match the spec:\n  " + "\n  ".join(problems))

    def to_json(self) -> list[dict[str, Any]]:
        """Return the layers as plain data: ``{"layer": "LSTM", "input_size": 64, ...}``."""
        return [
            {"layer": type(layer).__name__}
            | {option.name: getattr(layer, option.name) for option in fields(layer)}
            for layer in self.layers
        ]

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
            raise WeightsError("the spec cannot be read:\n  " + "\n  ".join(problems))
        return cls(tuple(layers))


@dataclass(frozen=True, eq=False)
class Probe:
    """An input of a network with the output that the framework which trained it gave.

    xs   (T, input_size) float32, or (T,) int32 token ids
    ys   (T, output_size) float32
    """

    xs: NDArray[Any]
    ys: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Weights:
    """All that a model file holds: a network, its tensors, and what goes with them.

    tensors     canonical names, float32
    labels      names of the outputs, or empty
    tokenizer   the text of a tokenizer.json, or None
    probes      see `Probe`
    origin      which framework and version the tensors and the probes are from

    Raises
    ------
    WeightsError
        If the parts do not fit each other.
    """

    network: Network
    tensors: Tensors
    labels: tuple[str, ...] = ()
    tokenizer: str | None = None
    probes: tuple[Probe, ...] = field(default=())
    origin: str = ""

    def __post_init__(self) -> None:
        self.network.check_tensors(self.tensors)
        problems = []
        size = self.network.output_size
        if not all(isinstance(label, str) for label in self.labels):
            problems.append(f"labels {self.labels!r}, expected strings")
        if not isinstance(self.tokenizer, str | None):
            kind = type(self.tokenizer).__name__
            problems.append(f"tokenizer is {kind}, expected the text of a tokenizer.json")
        if self.labels and len(self.labels) != size:
            problems.append(f"{len(self.labels)} labels for an output of {size}")
        for n, probe in enumerate(self.probes):
            if not self.network.accepts(probe.xs):
                problems.append(f"probe {n}: xs {probe.xs.dtype}{probe.xs.shape} is not an input")
            elif probe.ys.shape != (len(probe.xs), size) or probe.ys.dtype != np.float32:
                problems.append(
                    f"probe {n}: ys {probe.ys.dtype}{probe.ys.shape}, "
                    f"expected float32{(len(probe.xs), size)}"
                )
        if problems:
            raise WeightsError("the parts of the model do not fit:\n  " + "\n  ".join(problems))

    def load_tokenizer(self) -> "Tokenizer":
        """Return the tokenizer, which gives no ids but those that the network reads.

        Raises
        ------
        WeightsError
            If there is none, if it cannot be read, or if it gives other ids.
        """
        from tokenizers import Tokenizer

        if self.tokenizer is None:
            raise WeightsError("the model has no tokenizer")
        try:
            tokenizer = Tokenizer.from_str(self.tokenizer)
        except BaseException as error:
            # The library raises no narrower type, and a panic of it is no Exception.
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise WeightsError(f"the tokenizer cannot be read: {error}") from error
            raise
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        vocab_size = self.network.vocab_size
        if vocab_size is None or largest >= vocab_size:
            reads = "vectors" if vocab_size is None else f"ids below {vocab_size}"
            raise WeightsError(f"the tokenizer gives ids up to {largest}, the model reads {reads}")
        return tokenizer

    @cached_property
    def fingerprint(self) -> bytes:
        """16 bytes that differ for any other network or tensors."""
        digest = hashlib.sha256(json.dumps(self.network.to_json(), sort_keys=True).encode())
        for name in self.network.tensor_shapes():
            digest.update(np.ascontiguousarray(self.tensors[name]).data)
        return digest.digest()[:16]
