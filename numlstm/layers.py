"""The layers a network can have: their sizes, options, and the shapes of their tensors.

How they are computed is defined by `reference.py` and made fast by `build.py`.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from numlstm.errors import WeightsError
from numlstm.functions import parse_function

Shape = tuple[int, ...]

_MAX_COPIED = 2**24  # token ids that a float32 holds
MAX_SIZE = 2**31 - 1  # token ids and sizes are int32
MAX_HISTORY = 2**26  # numbers of earlier steps that a convolution keeps

_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

INPUT = "input"  # what layers call the input of the network
POOLINGS = ("last", "mean", "max", "sum")
DIRECTIONS = ("forward", "reverse", "bidirectional")
MERGES = ("concat", "sum", "mul", "ave")
OUTPUTS = ("sequence", "last")
ATTENTIONS = ("dot", "general", "additive")
DTYPES = ("float32", "bfloat16", "int8")
ACTIVATIONS = ("int16", "int8")


def _check(value: Any, option: Any) -> str | None:
    """Return what is wrong with the value of an option, by its type, or None."""
    kind = option.type
    if kind is int:
        least = option.metadata.get("least", 1)
        if type(value) is not int or not least <= value <= MAX_SIZE:
            return f"expected {least} to {MAX_SIZE}"
    elif kind is bool:
        if type(value) is not bool:
            return "expected true or false"
    elif kind is float or kind == float | None:
        if value is None and kind is not float:
            return None
        least = option.metadata.get("least", _SMALLEST)
        if type(value) not in (int, float) or not least <= value <= _LARGEST:
            return "expected a positive float32" if least > 0 else "expected a float32"
    elif kind is str and type(value) is not str:
        return "expected a string"
    return None


@dataclass(frozen=True, repr=False)
class Layer:
    """What every layer has: `input_size`, `output_size`, tensors, and its place in the network.

    name     by which other layers call its output, or ""
    inputs   names of the layers it reads, joined end to end; () for the layer before it
    """

    _: KW_ONLY
    name: str = ""
    inputs: tuple[str, ...] = ()

    choices: ClassVar[Mapping[str, tuple[str | None, ...]]] = {}
    functions: ClassVar[tuple[str, ...]] = ()  # options that are functions

    if TYPE_CHECKING:  # a field in some layers, a property in others

        @property
        def input_size(self) -> int: ...
        @property
        def output_size(self) -> int: ...

    def tensors(self) -> dict[str, Shape]:
        """Return the shape of each tensor by its name within the layer."""
        return {}

    def options(self) -> dict[str, Any]:
        """Return the sizes and options, of the keywords only those that are not the defaults."""
        last = {"dtype": 1, "activations": 2, "name": 3, "inputs": 4}
        return {
            option.name: getattr(self, option.name)
            for option in sorted(fields(self), key=lambda option: last.get(option.name, 0))
            if not option.kw_only or getattr(self, option.name) != option.default
        }

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        return f"{type(self).__name__}({options})"

    @property
    def is_causal(self) -> bool:
        """Whether each of its answers needs nothing but the steps up to it."""
        return True

    @property
    def pools(self) -> bool:
        """Whether it gives one row for all in a network that is not causal."""
        return False

    def problems(self) -> list[str]:
        """Return what is wrong with the options together, each being right on its own."""
        return []

    def __post_init__(self) -> None:
        problems = []
        object.__setattr__(self, "inputs", _tuple(self.inputs))
        if not isinstance(self.inputs, tuple) or not all(type(i) is str for i in self.inputs):
            problems.append(f"inputs is {self.inputs!r}, expected names of layers")
        for option in fields(self):
            value = getattr(self, option.name)
            wrong = _check(value, option)
            if wrong is not None:
                problems.append(f"{option.name} is {value!r}, {wrong}")
            elif option.name in self.choices and value not in self.choices[option.name]:
                known = ", ".join(str(choice) for choice in self.choices[option.name])
                problems.append(f"{option.name} is {value!r}, expected one of: {known}")
            elif option.name in self.functions and value is not None:
                try:
                    parse_function(value)
                except WeightsError as error:
                    problems.append(f"{option.name}: {error}")
        if not problems:
            problems = self.problems()
        if problems:
            raise WeightsError(f"{type(self).__name__}: " + "; ".join(problems))


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Precision:
    """What the matrices of a layer are, and what int8 ones are multiplied with."""

    dtype: str = "float32"
    activations: str = "int16"


FLOAT32 = Precision()


@dataclass(frozen=True, repr=False)
class MatrixLayer(Layer):
    """A layer with matrices: its tensors of two or more axes.

    dtype         of the matrices, "float32", "bfloat16" or "int8"; all else is float32
    activations   what int8 matrices are multiplied with: "int16", or faster and less exact "int8"
    """

    _: KW_ONLY
    dtype: str = "float32"
    activations: str = "int16"

    choices: ClassVar = {"dtype": DTYPES, "activations": ACTIVATIONS}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activations != "int16" and self.dtype != "int8":
            raise WeightsError(f"{type(self).__name__}: activations are those of int8 matrices")

    @property
    def precision(self) -> Precision:
        return Precision(self.dtype, self.activations)

    def matrices(self) -> list[str]:
        """Return the names of the tensors that `dtype` is of."""
        return [name for name, shape in self.tensors().items() if len(shape) > 1]


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
class _SameSize(Layer):
    input_size: int

    @property
    def output_size(self) -> int:
        return self.input_size


@dataclass(frozen=True, repr=False)
class Masking(_SameSize):
    """Steps whose numbers all are `value` are skipped: they change no state. Only the first.

    keras.layers.Masking. The answer to a skipped step is that to the step before it.
    """

    value: float = field(default=0.0, metadata={"least": -_LARGEST})


@dataclass(frozen=True, repr=False)
class _Recurrent(MatrixLayer):
    """One recurrent layer.

    direction       "reverse" reads from the last step to the first; its answers are in the order
                    of the input. "bidirectional" does both
    merge           of the two directions: "concat" (forward first), "sum", "mul", "ave"
    shared          both directions have the same tensors
    outputs         "last" gives what each direction answers at its own last step: one row
    initial_state   the first h (and c) are tensors, not zeros
    clip            pre-activations are clipped to [-clip, clip] (ONNX)
    """

    input_size: int
    hidden_size: int
    bias: bool = True
    _: KW_ONLY
    direction: str = "forward"
    merge: str = "concat"
    shared: bool = False
    outputs: str = "sequence"
    initial_state: bool = False
    clip: float | None = None

    num_gates: ClassVar[int] = 1
    choices: ClassVar = {
        "direction": DIRECTIONS,
        "merge": MERGES,
        "outputs": OUTPUTS,
        "dtype": DTYPES,
        "activations": ACTIVATIONS,
    }

    @property
    def is_causal(self) -> bool:
        return self.direction == "forward"

    @property
    def pools(self) -> bool:
        return self.outputs == "last"

    @property
    def h_size(self) -> int:
        """Numbers in h: hidden_size, or less where it is projected."""
        return self.hidden_size

    @property
    def output_size(self) -> int:
        joined = self.direction == "bidirectional" and self.merge == "concat"
        return 2 * self.h_size if joined else self.h_size

    def tensors(self) -> dict[str, Shape]:
        one = self.tensors_of_direction()
        if self.direction != "bidirectional" or self.shared:
            return one
        return one | {f"{name}_reverse": shape for name, shape in one.items()}

    def tensors_of_direction(self) -> dict[str, Shape]:
        """Return the tensors of one direction; those of the second end in ``_reverse``."""
        gates = self.num_gates * self.hidden_size
        shapes: dict[str, Shape] = {
            "weight_ih": (gates, self.input_size),
            "weight_hh": (gates, self.h_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
        if self.initial_state:
            shapes |= {"initial_h": (self.h_size,)}
        return shapes

    def problems(self) -> list[str]:
        two = self.direction == "bidirectional"
        return [
            f"{option} is for two directions"
            for option, set_ in (("merge", self.merge != "concat"), ("shared", self.shared))
            if set_ and not two
        ]


@dataclass(frozen=True, repr=False)
class RNN(_Recurrent):
    """One layer of torch.nn.RNN: ``h' = f(W_ih x + b_ih + W_hh h + b_hh)``; f any function."""

    nonlinearity: str = field(default="tanh", kw_only=False)

    functions: ClassVar = ("nonlinearity",)


@dataclass(frozen=True, repr=False)
class GRU(_Recurrent):
    """One layer of torch.nn.GRU; gates r, z, n.

    reset_after False applies the reset gate to h, before the product: Cho et al. 2014, TensorFlow
    1, Keras 1 and 2, and ONNX by default. True applies it after: cuDNN, PyTorch, Keras 3.
    """

    _: KW_ONLY
    reset_after: bool = True
    activation: str = "tanh"  # of n
    recurrent_activation: str = "sigmoid"  # of r and z

    num_gates: ClassVar[int] = 3
    functions: ClassVar = ("activation", "recurrent_activation")


@dataclass(frozen=True, repr=False)
class LSTM(_Recurrent):
    """One layer of torch.nn.LSTM; gates i, f, g, o.

        i, f, g = s(i + p_i c), s(f + forget_bias + p_f c), a(g)
        c' = clip(f c + i g)
        o = s(o + p_o c')
        h' = clip(weight_hr @ (o b(c')))

    activation             a, of the candidate g
    recurrent_activation   s, of the gates i, f, o
    output_activation      b, of c
    peepholes              p_i, p_f, p_o, (H,) each (Gers, Schmidhuber 2000)
    coupled                f is 1 - i; the rows of f in the tensors are not read (ONNX input_forget)
    proj_size              rows of weight_hr, or 0 for none (Sak et al. 2014)
    proj_clip, cell_clip   bounds of h and c (TensorFlow 1)
    forget_bias            added to f when run (TensorFlow 1's BasicLSTMCell: 1.0)
    """

    _: KW_ONLY
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    output_activation: str = "tanh"
    peepholes: bool = False
    coupled: bool = False
    proj_size: int = field(default=0, metadata={"least": 0})
    proj_clip: float | None = None
    cell_clip: float | None = None
    forget_bias: float = field(default=0.0, metadata={"least": -_LARGEST})

    num_gates: ClassVar[int] = 4
    functions: ClassVar = ("activation", "recurrent_activation", "output_activation")

    @property
    def h_size(self) -> int:
        return self.proj_size or self.hidden_size

    def tensors_of_direction(self) -> dict[str, Shape]:
        shapes = super().tensors_of_direction()
        if self.initial_state:
            shapes["initial_c"] = (self.hidden_size,)
        if self.peepholes:
            shapes |= {f"peephole_{gate}": (self.hidden_size,) for gate in "ifo"}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        return shapes

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.proj_size >= self.hidden_size:
            problems.append(f"proj_size {self.proj_size} is not below {self.hidden_size}")
        if self.proj_clip is not None and not self.proj_size:
            problems.append("proj_clip is for a proj_size")
        return problems


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
class Conv1d(MatrixLayer):
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
    def keeps_rows(self) -> bool:
        """Whether it gives as many rows as it reads."""
        return sum(self.pads) == self.reach and self.stride == 1

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
        object.__setattr__(self, "padding", _tuple(self.padding))
        if self.padding is not None and not (
            isinstance(self.padding, tuple)
            and len(self.padding) == 2
            and all(type(n) is int and 0 <= n <= MAX_SIZE for n in self.padding)
        ):
            problems.append(f"padding is {self.padding!r}, expected two whole numbers")
        elif max(self.pads) > self.reach:
            problems.append(f"padding {self.pads} is more than the kernel reaches, {self.reach}")
        if self.reach * self.input_size > MAX_HISTORY:
            problems.append(
                f"it reads {self.reach} steps back, {self.input_size} numbers each; "
                f"at most {MAX_HISTORY} numbers are kept"
            )
        return problems


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
class _Elementwise(_SameSize):
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
    """What the layer named `source` gave one step before; zeros at the first step."""

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


LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        Embedding, OneHot, Masking, RNN, GRU, LSTM, Linear, Conv1d, LayerNorm, BatchNorm,
        Activation, Softmax, LogSoftmax, Pooling, AttentionPooling, Concat, Add, Multiply, Slice,
        Feedback, Attention, Copy, Repeat, Reverse, CRF,
    )
}  # fmt: skip
