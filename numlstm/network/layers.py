"""The layers without a recurrence: their sizes, options, and the shapes of their tensors.

How they are computed is defined by `reference.py` and made fast by `program/layers.py`.
"""

from dataclasses import KW_ONLY, field
from typing import TYPE_CHECKING, ClassVar

from numlstm.network.functions import LARGEST
from numlstm.network.layer import MAX_SIZE, Layer, MatrixLayer, Shape, as_tuple, dataclass

_MAX_COPIED = 2**24  # token ids that a float32 holds
MAX_HISTORY = 2**26  # numbers of earlier steps that a convolution keeps

MAX_FRAMES = 2**10  # that a convolution gives of a step: each is an operation

POOLINGS = ("last", "mean", "max", "sum")
WINDOW_POOLINGS = ("max", "mean", "sum")
ATTENTIONS = ("dot", "general", "additive")


@dataclass(frozen=True, repr=False)
class Embedding(MatrixLayer):
    """A table of one vector per token id. Only the first layer of a network.

    mask_zero   steps of token 0 are skipped, as in Keras: they change no state
    """

    vocab_size: int
    embedding_size: int
    _: KW_ONLY
    mask_zero: bool = False

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return self.embedding_size

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.vocab_size, self.embedding_size)}


@dataclass(frozen=True, repr=False)
class OneHot(Layer):
    """1 at the token's id, 0 elsewhere; ids from `output_size` on give zeros. Only the first."""

    vocab_size: int
    output_size: int

    @property
    def input_size(self) -> int:
        return 1


@dataclass(frozen=True, repr=False)
class _SameSize(Layer, is_abstract=True):
    """A layer that gives as many numbers as it reads."""

    input_size: int

    @property
    def output_size(self) -> int:
        return self.input_size


@dataclass(frozen=True, repr=False)
class Masking(_SameSize):
    """Steps whose numbers all are `value` are skipped: they change no state. Only the first.

    keras.layers.Masking. The answer to a skipped step is that to the step before it.
    """

    value: float = field(default=0.0, metadata={"least": -LARGEST})


@dataclass(frozen=True, repr=False)
class Linear(MatrixLayer):
    """``activation(W x + b)``, as torch.nn.Linear."""

    input_size: int
    output_size: int
    bias: bool = True
    activation: str | None = None

    functions: ClassVar = ("activation",)

    def tensors(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"weight": (self.output_size, self.input_size)}
        if self.bias:
            shapes["bias"] = (self.output_size,)
        return shapes


@dataclass(frozen=True, repr=False)
class Windowed(Layer, is_abstract=True):
    """A layer that reads a window of steps."""

    if TYPE_CHECKING:  # fields, or constants of the class

        @property
        def kernel_size(self) -> int: ...
        @property
        def dilation(self) -> int: ...
        @property
        def stride(self) -> int: ...
        @property
        def padding(self) -> tuple[int, int] | None: ...

    @property
    def reach(self) -> int:
        """How many steps before the newest one the kernel reads."""
        return (self.kernel_size - 1) * self.dilation

    @property
    def pads(self) -> tuple[int, int]:
        """The steps of zeros before and after."""
        return (self.reach, 0) if self.padding is None else self.padding

    @property
    def is_causal(self) -> bool:
        return self.pads == (self.reach, 0) and self.stride == 1

    @property
    def reads_later(self) -> bool:
        return self.pads[1] > 0

    @property
    def keeps_rows(self) -> bool:
        """Whether it gives as many rows as it reads."""
        return sum(self.pads) == self.reach and self.stride == 1

    def problems(self) -> list[str]:
        problems = []
        object.__setattr__(self, "padding", as_tuple(self.padding))
        if self.padding is not None and not (
            isinstance(self.padding, tuple)
            and len(self.padding) == 2
            and all(type(n) is int and 0 <= n <= MAX_SIZE for n in self.padding)
        ):
            problems.append(f"padding is {self.padding!r}, expected two whole numbers")
        elif max(self.pads) > self.reach:
            problems.append(f"padding {self.pads} is more than the kernel reaches, {self.reach}")
        return problems + _history_problems(self.reach, self.input_size)


def _history_problems(reach: int, size: int) -> list[str]:
    """Return what is wrong with a layer that keeps so many steps of so many numbers."""
    if reach * size <= MAX_HISTORY:
        return []
    kept = f"at most {MAX_HISTORY} numbers are kept"
    return [f"it reads {reach} steps back, {size} numbers each; {kept}"]


@dataclass(frozen=True, repr=False)
class Conv1d(Windowed, MatrixLayer):
    """torch.nn.Conv1d over time; weight (output_size, input_size / groups, kernel_size).

    padding   steps of zeros (before the first, after the last); None is causal: all before
    stride    gives every so-manyth answer
    """

    input_size: int
    output_size: int
    kernel_size: int
    bias: bool = True
    activation: str | None = None
    _: KW_ONLY
    dilation: int = 1
    stride: int = 1
    groups: int = 1
    padding: tuple[int, int] | None = None

    functions: ClassVar = ("activation",)

    def tensors(self) -> dict[str, Shape]:
        each = self.input_size // self.groups
        shapes: dict[str, Shape] = {"weight": (self.output_size, each, self.kernel_size)}
        if self.bias:
            shapes["bias"] = (self.output_size,)
        return shapes

    def problems(self) -> list[str]:
        problems = []
        if self.input_size % self.groups or self.output_size % self.groups:
            problems.append(f"groups {self.groups} does not divide the sizes")
        return problems + super().problems()


@dataclass(frozen=True, repr=False)
class FrameConv1d(MatrixLayer):
    """torch.nn.Conv1d within a step, over frames that lie in it end to end.

    A step is input_size / in_channels frames, and gives frames of out_channels numbers; weight
    (out_channels, in_channels, kernel_size). No step reads another one: it streams.

    padding   frames of zeros (before the first, after the last)
    stride    gives every so-manyth frame
    """

    input_size: int
    in_channels: int
    out_channels: int
    kernel_size: int
    bias: bool = True
    activation: str | None = None
    _: KW_ONLY
    stride: int = 1
    padding: tuple[int, int] = (0, 0)

    functions: ClassVar = ("activation",)

    @property
    def output_size(self) -> int:
        return len(self.starts) * self.out_channels

    @property
    def starts(self) -> range:
        """For each frame that it gives, the first that the kernel reads; before 0 it is padding."""
        before, after = self.padding
        num_frames = self.input_size // self.in_channels
        return range(-before, num_frames + after - self.kernel_size + 1, self.stride)

    def tensors(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {
            "weight": (self.out_channels, self.in_channels, self.kernel_size)
        }
        if self.bias:
            shapes["bias"] = (self.out_channels,)
        return shapes

    def problems(self) -> list[str]:
        object.__setattr__(self, "padding", as_tuple(self.padding))
        if not (
            isinstance(self.padding, tuple)
            and len(self.padding) == 2
            and all(type(n) is int and 0 <= n < self.kernel_size for n in self.padding)
        ):
            return [f"padding is {self.padding!r}, expected two numbers from 0 to kernel_size - 1"]
        if self.input_size % self.in_channels:
            return [f"{self.input_size} numbers are no frames of {self.in_channels}"]
        if not self.starts:
            frames = self.input_size // self.in_channels + sum(self.padding)
            return [f"the kernel reads {self.kernel_size} frames of {frames}, padding included"]
        if self.output_size > MAX_SIZE:
            return [f"it gives {self.output_size} numbers, expected at most {MAX_SIZE}"]
        if len(self.starts) > MAX_FRAMES:
            return [f"it gives {len(self.starts)} frames, expected at most {MAX_FRAMES}"]
        return []


@dataclass(frozen=True, repr=False)
class LayerNorm(_SameSize):
    """torch.nn.LayerNorm over the features of one step."""

    eps: float = 1e-5
    weight: bool = True
    bias: bool = True

    def tensors(self) -> dict[str, Shape]:
        shape = (self.input_size,)
        present = {"weight": self.weight, "bias": self.bias}
        return {name: shape for name, here in present.items() if here}


@dataclass(frozen=True, repr=False)
class BatchNorm(LayerNorm):
    """torch.nn.BatchNorm1d of the features, with the statistics of training."""

    def tensors(self) -> dict[str, Shape]:
        shape = (self.input_size,)
        return super().tensors() | {"running_mean": shape, "running_var": shape}


@dataclass(frozen=True, repr=False)
class Activation(_SameSize):
    """An elementwise function."""

    function: str = "tanh"

    functions: ClassVar = ("function",)


@dataclass(frozen=True, repr=False)
class Softmax(_SameSize):
    """``exp(x) / sum(exp(x))`` over the features of one step."""


@dataclass(frozen=True, repr=False)
class LogSoftmax(_SameSize):
    """``x - log(sum(exp(x)))`` over the features of one step."""


@dataclass(frozen=True, repr=False)
class Pooling(_SameSize):
    """The last, mean or largest value, or the sum, of each feature over all steps so far.

    In a network that is not causal: over all steps, one row.
    """

    mode: str = "mean"

    choices: ClassVar = {"mode": POOLINGS}

    @property
    def pools(self) -> bool:
        return True


@dataclass(frozen=True, repr=False)
class Pool1d(Windowed, _SameSize):
    """The largest value, mean or sum of each feature over the last `kernel_size` steps.

    torch.nn.MaxPool1d, AvgPool1d. Steps of the padding are none of them: they are no maximum, and a
    mean is over the steps that are there (count_include_pad=False).

    padding     as `Conv1d` has it: None is causal
    stride      gives every so-manyth answer
    ceil_mode   a last window that ends behind the padding counts too, if it begins before it
    """

    kernel_size: int
    mode: str = "max"
    _: KW_ONLY
    stride: int = 1
    padding: tuple[int, int] | None = None
    ceil_mode: bool = False

    choices: ClassVar = {"mode": WINDOW_POOLINGS}
    dilation: ClassVar = 1


@dataclass(frozen=True, repr=False)
class Flatten(Layer):
    """The last `num_steps` rows end to end, the oldest first; zeros for those before the first.

    The flattening of a sequence of known length. In a network that is not causal: one row.
    """

    input_size: int
    num_steps: int

    @property
    def output_size(self) -> int:
        return self.num_steps * self.input_size

    @property
    def reach(self) -> int:
        """How many steps before the newest one it reads."""
        return self.num_steps - 1

    @property
    def pools(self) -> bool:
        return True

    def problems(self) -> list[str]:
        return _history_problems(self.reach, self.input_size)


@dataclass(frozen=True, repr=False)
class AttentionPooling(_SameSize):
    """The mean of all steps so far, weighted by ``exp(weight . x)``; rows as `Pooling`.

        a_t = exp(weight . x_t - max) / (sum + eps)

    eps   0, or what a framework adds: textgenrnn, 1e-7
    """

    eps: float = field(default=0.0, metadata={"least": 0.0})

    @property
    def pools(self) -> bool:
        return True

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.input_size,)}


@dataclass(frozen=True, repr=False)
class Concat(_SameSize):
    """Its inputs, end to end, as they are."""


@dataclass(frozen=True, repr=False)
class _Elementwise(_SameSize, is_abstract=True):
    """A function of inputs of the same size, number by number."""

    def problems(self) -> list[str]:
        return [] if len(self.inputs) > 1 else ["expected two inputs or more"]


@dataclass(frozen=True, repr=False)
class Add(_Elementwise):
    """The sum of two or more inputs of the same size: a residual connection."""


@dataclass(frozen=True, repr=False)
class Multiply(_Elementwise):
    """The product of two or more inputs of the same size."""


@dataclass(frozen=True, repr=False)
class Slice(Layer):
    """Features `start` to `stop` of one step."""

    input_size: int
    start: int = field(metadata={"least": 0})
    stop: int

    @property
    def output_size(self) -> int:
        return self.stop - self.start

    def problems(self) -> list[str]:
        fits = self.start < self.stop <= self.input_size
        return [] if fits else [f"{self.start} to {self.stop} is not within {self.input_size}"]


@dataclass(frozen=True, repr=False)
class Feedback(Layer):
    """What the layer named `source` gave one step before; zeros at the first step.

    source   any layer, one behind it as a rule; another feedback too
    """

    output_size: int
    source: str

    @property
    def input_size(self) -> int:
        return 0

    def problems(self) -> list[str]:
        return ["it has a source, not inputs"] if self.inputs else []


@dataclass(frozen=True, repr=False)
class Attention(Layer):
    """The mean of the rows of a memory, weighted by how well they fit the input, the query.

        context = sum_m a_m memory_m,  a = softmax(scale * score(query, memory_m))

    score    "dot" q . m; "general" (weight_query @ q) . m (Luong et al. 2015); "additive"
             weight_score . tanh(weight_query @ q + weight_memory @ m + bias) (Bahdanau et al. 2015)
    memory   the name of a layer, all of whose rows are the memory; "" takes that of
             ``model.stream(memory=)``, (M, memory_size)
    size     of the additive score
    """

    input_size: int
    memory_size: int
    score: str = "dot"
    _: KW_ONLY
    memory: str = ""
    size: int = field(default=0, metadata={"least": 0})
    scale: float = 1.0

    choices: ClassVar = {"score": ATTENTIONS}

    @property
    def output_size(self) -> int:
        return self.memory_size

    @property
    def is_causal(self) -> bool:
        return not self.memory

    def tensors(self) -> dict[str, Shape]:
        match self.score:
            case "general":
                return {"weight_query": (self.memory_size, self.input_size)}
            case "additive":
                return {
                    "weight_query": (self.size, self.input_size),
                    "weight_memory": (self.size, self.memory_size),
                    "bias": (self.size,),
                    "weight_score": (self.size,),
                }
        return {}

    def problems(self) -> list[str]:
        if (self.score == "additive") != (self.size > 0):
            return [f"size is {self.size} for a score {self.score!r}"]
        if self.score == "dot" and self.input_size != self.memory_size:
            return [f"a dot of {self.input_size} and {self.memory_size} numbers"]
        return []


@dataclass(frozen=True, repr=False)
class Copy(Layer):
    """Probabilities of tokens that are written, or copied from those that a memory stands for.

        y = g written + (1 - g) sum_m a_m onehot(id_m),  a = softmax(query . memory_m)

    The pointer-generator of See, Liu, Manning 2017. It reads written (vocab_size,), g (1,) and
    query (memory_size,), end to end; memory and ids are those of
    ``model.stream(memory=, memory_ids=)``, (M, memory_size) and (M,).
    """

    vocab_size: int
    memory_size: int

    @property
    def input_size(self) -> int:
        return self.vocab_size + 1 + self.memory_size

    @property
    def output_size(self) -> int:
        return self.vocab_size

    def problems(self) -> list[str]:
        if self.vocab_size > _MAX_COPIED:
            return [f"vocab_size is {self.vocab_size}, expected at most {_MAX_COPIED}"]
        return []


@dataclass(frozen=True, repr=False)
class Repeat(_SameSize):
    """The last row, `num_steps` times: keras.layers.RepeatVector."""

    num_steps: int

    @property
    def is_causal(self) -> bool:
        return False


@dataclass(frozen=True, repr=False)
class Reverse(_SameSize):
    """The rows from the last to the first."""

    @property
    def is_causal(self) -> bool:
        return False


@dataclass(frozen=True, repr=False)
class CRF(_SameSize):
    """1 for the tag of the best path, 0 for the others, of a linear-chain CRF (Viterbi).

    The inputs are the scores of the tags. Lafferty et al. 2001; tensors as in pytorch-crf:
    ``transitions[a, b]`` is the score of b after a.
    """

    def tensors(self) -> dict[str, Shape]:
        size = self.input_size
        return {
            "start_transitions": (size,),
            "end_transitions": (size,),
            "transitions": (size, size),
        }

    @property
    def is_causal(self) -> bool:
        return False
