"""Recurrent layers: what a cell says of itself, and the cells.

The class of a cell tells its tensors and its states; its equations are in `reference.py`, its
operations in `program/cells.py`.
"""

from dataclasses import KW_ONLY, field, replace
from typing import ClassVar, Self

from numlstm.network.functions import LARGEST
from numlstm.network.layer import ACTIVATIONS, DTYPES, MatrixLayer, Shape, dataclass

__all__ = ["GRU", "LSTM", "RNN", "SRU", "IndRNN", "MinGRU", "MinLSTM", "Recurrent"]

DIRECTIONS = ("forward", "reverse", "bidirectional")
MERGES = ("concat", "sum", "mul", "ave")
OUTPUTS = ("sequence", "last")


@dataclass(frozen=True, repr=False)
class Recurrent(MatrixLayer, is_abstract=True):
    """One recurrent layer, of any cell.

    direction       "reverse" reads from the last step to the first; its answers are in the order
                    of the input. "bidirectional" does both
    merge           of the two directions: "concat" (forward first), "sum", "mul", "ave"
    shared          both directions have the same tensors
    outputs         "last" gives what each direction answers at its own last step: one row
    initial_state   the first states are tensors, not zeros
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
    def num_gates(self) -> int:
        """Rows of weight_ih for each unit."""
        return 1

    @property
    def h_size(self) -> int:
        """Numbers in h, the answer: hidden_size, or less where it is projected."""
        return self.hidden_size

    @property
    def states(self) -> dict[str, int]:
        """What the cell keeps from step to step, names and sizes: h, or h and c, or c."""
        return {"h": self.h_size}

    def one_direction(self) -> Self:
        """Return the layer that reads from the first step to the last, and answers at each."""
        return replace(
            self, direction="forward", merge="concat", shared=False, outputs="sequence",
            name="", inputs=(),
        )  # fmt: skip

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
        """Return the tensors of one direction; those of the second end in ``_reverse``.

        Weights and biases, first states, then what is the cell's own: fingerprints go by the order.
        """
        shapes = self.tensors_of_cell()
        first = {f"initial_{name}": (size,) for name, size in self.states.items()}
        shared = {n: s for n, s in shapes.items() if n.endswith(("_ih", "_hh"))}
        return shared | (first if self.initial_state else {}) | shapes

    def tensors_of_cell(self) -> dict[str, Shape]:
        """Return the tensors of a step: those that go with x, of a cell that has no others."""
        gates = self.num_gates * self.hidden_size
        shapes: dict[str, Shape] = {"weight_ih": (gates, self.input_size)}
        return shapes | ({"bias_ih": (gates,)} if self.bias else {})

    def problems(self) -> list[str]:
        two = self.direction == "bidirectional"
        return [
            f"{option} is for two directions"
            for option, set_ in (("merge", self.merge != "concat"), ("shared", self.shared))
            if set_ and not two
        ]


@dataclass(frozen=True, repr=False)
class MatrixCell(Recurrent, is_abstract=True):
    """A cell that multiplies its h with a matrix: those of torch.nn.

    clip   pre-activations are clipped to [-clip, clip] (ONNX)
    """

    _: KW_ONLY
    clip: float | None = None

    def tensors_of_cell(self) -> dict[str, Shape]:
        gates = self.num_gates * self.hidden_size
        shapes: dict[str, Shape] = {
            "weight_ih": (gates, self.input_size),
            "weight_hh": (gates, self.h_size),
        }
        return shapes | ({"bias_ih": (gates,), "bias_hh": (gates,)} if self.bias else {})


@dataclass(frozen=True, repr=False)
class RNN(MatrixCell):
    """One layer of torch.nn.RNN: ``h' = f(W_ih x + b_ih + W_hh h + b_hh)``; f any function."""

    nonlinearity: str = field(default="tanh", kw_only=False)

    functions: ClassVar = ("nonlinearity",)


@dataclass(frozen=True, repr=False)
class GRU(MatrixCell):
    """One layer of torch.nn.GRU; gates r, z, n.

    reset_after False applies the reset gate to h, before the product: Cho et al. 2014, TensorFlow
    1, Keras 1 and 2, and ONNX by default. True applies it after: cuDNN, PyTorch, Keras 3.
    """

    _: KW_ONLY
    reset_after: bool = True
    activation: str = "tanh"  # of n
    recurrent_activation: str = "sigmoid"  # of r and z

    functions: ClassVar = ("activation", "recurrent_activation")

    @property
    def num_gates(self) -> int:
        return 3


@dataclass(frozen=True, repr=False)
class LSTM(MatrixCell):
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
    forget_bias: float = field(default=0.0, metadata={"least": -LARGEST})

    functions: ClassVar = ("activation", "recurrent_activation", "output_activation")

    @property
    def num_gates(self) -> int:
        return 4

    @property
    def h_size(self) -> int:
        return self.proj_size or self.hidden_size

    @property
    def states(self) -> dict[str, int]:
        return {"h": self.h_size, "c": self.hidden_size}

    def tensors_of_cell(self) -> dict[str, Shape]:
        shapes = super().tensors_of_cell()
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
class MinGRU(Recurrent):
    """The GRU of Feng et al. 2024, whose gates do not read h; gates z, n.

    activation   of the candidate n
    """

    _: KW_ONLY
    activation: str = "linear"

    functions: ClassVar = ("activation",)

    @property
    def num_gates(self) -> int:
        return 2


@dataclass(frozen=True, repr=False)
class MinLSTM(Recurrent):
    """The LSTM of Feng et al. 2024, whose gates do not read h and whose state is h; gates f, i, n.

    activation   of the candidate n
    """

    _: KW_ONLY
    activation: str = "linear"

    functions: ClassVar = ("activation",)

    @property
    def num_gates(self) -> int:
        return 3


@dataclass(frozen=True, repr=False)
class IndRNN(Recurrent):
    """Li et al. 2018: each unit reads its own h alone, ``h' = f(W_ih x + b_ih + weight_hh * h)``.

    nonlinearity   f, any function
    """

    nonlinearity: str = field(default="relu", kw_only=False)

    functions: ClassVar = ("nonlinearity",)

    def tensors_of_cell(self) -> dict[str, Shape]:
        return super().tensors_of_cell() | {"weight_hh": (self.hidden_size,)}


@dataclass(frozen=True, repr=False)
class SRU(Recurrent):
    """Lei et al. 2018; gates n, f, r, and a fourth that takes the place of x where sizes differ.

        f, r = s(f + v_f c), s(r + v_r c)
        c' = f c + (1 - f) n
        h' = r g(c') + (1 - r) highway_scale x

    The state is c alone. Only f and r have a bias.

    activation      g, of c
    peepholes       v_f, v_r, (H,) each
    highway_scale   of x, where it is as large as h
    """

    _: KW_ONLY
    activation: str = "linear"
    peepholes: bool = True
    highway_scale: float = 1.0

    functions: ClassVar = ("activation",)

    @property
    def num_gates(self) -> int:
        return 3 if self.input_size == self.hidden_size else 4

    @property
    def states(self) -> dict[str, int]:
        return {"c": self.hidden_size}

    def tensors_of_cell(self) -> dict[str, Shape]:
        shapes = super().tensors_of_cell()
        if self.bias:
            shapes["bias_ih"] = (2 * self.hidden_size,)
        if self.peepholes:
            shapes |= {f"peephole_{gate}": (self.hidden_size,) for gate in "fr"}
        return shapes

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.highway_scale != 1.0 and self.input_size != self.hidden_size:
            problems.append("highway_scale is for an input_size that is the hidden_size")
        return problems
