"""The cases and the tolerances that tests and benches share, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm import spec
from numlstm.spec import Network, Weights

# Around the edges of a vector of 16, of a panel of 64, and of two panels.
SIZES = (1, 2, 7, 8, 15, 16, 17, 64, 129)
NUM_LAYERS = (1, 2, 3)
SEQ_LEN = 200

CELLS: dict[str, Any] = {
    "rnn_tanh": lambda i, h, bias: spec.RNN(i, h, bias, "tanh"),
    "rnn_relu": lambda i, h, bias: spec.RNN(i, h, bias, "relu"),
    "gru": spec.GRU,
    "lstm": spec.LSTM,
    "min_gru": spec.MinGRU,
    "min_lstm": spec.MinLSTM,
    "ind_rnn": spec.IndRNN,
    "sru": spec.SRU,
}

# Cells that torch.nn has not, with each of their options.
CELL_OPTIONS: dict[str, Any] = {
    "min_gru": spec.MinGRU(3, 7),
    "min_gru_options": spec.MinGRU(3, 7, False, activation="tanh", initial_state=True),
    "min_gru_log": spec.MinGRU(3, 7, activation="linear_sigmoid"),
    "min_lstm": spec.MinLSTM(3, 7),
    "min_lstm_options": spec.MinLSTM(3, 7, False, activation="tanh", initial_state=True),
    "min_lstm_log": spec.MinLSTM(3, 7, activation="linear_sigmoid"),
    "ind_rnn": spec.IndRNN(3, 7),
    "ind_rnn_options": spec.IndRNN(3, 7, False, "tanh", initial_state=True),
    "sru": spec.SRU(3, 7),
    "sru_highway": spec.SRU(7, 7, highway_scale=1.5, activation="tanh"),
    "sru_options": spec.SRU(3, 7, False, peepholes=False, activation="tanh", initial_state=True),
}


@dataclass(frozen=True)
class Case:
    """A stack of equal recurrent layers, `size` units each, that reads `size` numbers."""

    cell: str
    size: int
    bias: bool
    num_layers: int

    @property
    def id(self) -> str:
        bias = "bias" if self.bias else "no_bias"
        return f"{self.cell}-{self.size}-{bias}-{self.num_layers}"

    @property
    def network(self) -> Network:
        return Network((CELLS[self.cell](self.size, self.size, self.bias),) * self.num_layers)


CASES = tuple(
    Case(cell, size, bias, num_layers)
    for cell, size, bias, num_layers in product(CELLS, SIZES, (True, False), NUM_LAYERS)
)

# Networks with every kind of layer, and sizes that are no multiple of 16.
NETWORKS: dict[str, Network] = {
    **{
        f"{cell}_{size}": Network((make(size, size, True), make(size, size, False)))
        for cell, make in CELLS.items()
        for size in (7, 17)
    },
    **{name: Network((layer, spec.Linear(7, 3))) for name, layer in CELL_OPTIONS.items()},
    "tokens": Network(
        (
            spec.Embedding(11, 5),
            spec.LSTM(5, 17),
            spec.LayerNorm(17),
            spec.GRU(17, 8),
            spec.Linear(8, 9, True, "relu"),
            spec.RNN(9, 20, True, "tanh"),
            spec.Pooling(20, "mean"),
            spec.Linear(20, 3, False),
            spec.Softmax(3),
        )
    ),
    "vectors": Network(
        (
            spec.Linear(3, 70, True, "tanh"),
            spec.RNN(70, 33, True, "relu"),
            spec.Activation(33, "sigmoid"),
            spec.Pooling(33, "max"),
            spec.LayerNorm(33, 1e-3, True, False),
            spec.Pooling(33, "last"),
            spec.Linear(33, 2, True, "sigmoid"),
        )
    ),
    "pooled_input": Network((spec.Activation(7, "tanh"), spec.Pooling(7, "mean"))),
    "lstm_options": Network(
        (
            spec.LSTM(
                5,
                17,
                peepholes=True,
                proj_size=7,
                proj_clip=0.1,
                cell_clip=0.2,
                clip=0.8,
                forget_bias=1.0,
                initial_state=True,
                recurrent_activation="hard_sigmoid",
                activation="softsign",
                output_activation="leaky_relu(0.3)",
            ),
            spec.LSTM(7, 16, coupled=True, initial_state=True),
            spec.LSTM(16, 20, forget_bias=1.0, proj_size=3),
        )
    ),
    "gru_options": Network(
        (
            spec.GRU(5, 17, reset_after=False, activation="relu", initial_state=True),
            spec.GRU(17, 8, recurrent_activation="hard_sigmoid", clip=0.5, activation="linear"),
            spec.RNN(8, 33, nonlinearity="elu", initial_state=True),
            spec.RNN(33, 9, nonlinearity="softplus", clip=0.5),
        )
    ),
    "graph": Network(
        (
            spec.Conv1d(5, 12, 4, dilation=3, activation="silu", name="conv"),
            spec.BatchNorm(12),
            spec.Conv1d(12, 6, 2, groups=3, bias=False),
            spec.LSTM(6, 7, name="a"),
            spec.LSTM(7, 7, name="b"),
            spec.Add(7, inputs=("a", "b"), name="sum"),
            spec.Multiply(7, inputs=("a", "b", "sum"), name="product"),
            spec.Slice(7, 2, 7, name="slice"),
            spec.AttentionPooling(7, eps=1e-3, inputs=("b",), name="attended"),
            spec.Pooling(7, "sum", inputs=("a",), name="total"),
            spec.Linear(36, 20, inputs=("input", "slice", "product", "conv", "attended")),
            spec.LogSoftmax(20, name="log"),
            spec.Concat(27, inputs=("log", "total")),
        )
    ),
    "frames": Network(
        (
            spec.FrameConv1d(5, 1, 20, 3, padding=(1, 1), stride=2, activation="relu"),
            spec.FrameConv1d(60, 20, 7, 2, bias=False, padding=(1, 0)),
            spec.LSTM(21, 6, name="a"),
            spec.FrameConv1d(6, 6, 18, 3, padding=(2, 2), name="b"),
            spec.FrameConv1d(60, 12, 3, 3, padding=(0, 2), inputs=("a", "b")),
        )
    ),
    "feedback": Network(
        (
            spec.Linear(5, 7, name="read"),
            spec.Feedback(6, "write", name="fed"),
            spec.LSTM(13, 7, inputs=("read", "fed")),
            spec.Pooling(7, "max"),
            spec.GRU(7, 6, reset_after=False, name="write"),
            spec.Conv1d(6, 6, 3),
        )
    ),
    "feedback_is_the_output": Network(
        (
            spec.GRU(5, 7, name="a"),
            spec.Feedback(7, "a", name="f"),
            spec.Slice(7, 1, 7),
            spec.Pooling(6, "last"),
        )
    ),
    "feedback_of_feedback": Network(
        (
            spec.RNN(5, 7, name="a"),
            spec.Feedback(7, "a", name="f"),
            spec.Feedback(7, "f", name="g"),
            spec.Feedback(7, "h", name="early"),
            spec.Feedback(7, "g", name="h"),
            spec.Linear(14, 3, inputs=("g", "early")),
        )
    ),
    "windows": Network(
        (
            spec.Pool1d(5, 3, name="max"),
            spec.Pool1d(5, 4, "mean", name="mean"),
            spec.Pool1d(5, 2, "sum", inputs=("input",), name="sum"),
            spec.Pool1d(5, 1, "mean"),
            spec.GRU(5, 17, name="a"),
            spec.Pool1d(17, 5, "mean", name="pooled"),
            spec.Linear(32, 7, inputs=("max", "mean", "sum", "pooled"), name="joined"),
            spec.Flatten(7, 3),
            spec.Flatten(21, 1, name="flat"),
            spec.Linear(28, 3, inputs=("flat", "joined")),
        )
    ),
    "one_hot": Network((spec.OneHot(9, 6), spec.GRU(6, 17), spec.Linear(17, 2))),
    "masked": Network((spec.Embedding(5, 4, mask_zero=True), spec.LSTM(4, 7), spec.Linear(7, 3))),
    "functions": Network(
        (
            spec.Linear(5, 20, name="x"),
            spec.Activation(20, "exp", name="positive"),
            *(
                spec.Activation(
                    20,
                    function,
                    name=function,
                    inputs=("positive" if function in ("log", "sqrt", "reciprocal") else "x",),
                )
                for function in spec.FUNCTIONS
            ),
            spec.Concat(20 * len(spec.FUNCTIONS), inputs=tuple(spec.FUNCTIONS)),
        )
    ),
}

# Networks that read later steps, or all of them.
NOT_CAUSAL: dict[str, Network] = {
    **{
        f"both_{name}": Network((replace(layer, direction="bidirectional"), spec.Linear(14, 3)))
        for name, layer in CELL_OPTIONS.items()
    },
    "lstm": Network((spec.LSTM(5, 7, direction="bidirectional"),)),
    "stacked": Network(
        (
            spec.Embedding(9, 5),
            spec.LSTM(5, 17, direction="bidirectional"),
            spec.GRU(34, 6, direction="bidirectional", merge="mul"),
            spec.Linear(6, 3),
            spec.Softmax(3),
        )
    ),
    "shared": Network((spec.GRU(5, 7, direction="bidirectional", merge="sum", shared=True),)),
    "last": Network(
        (
            spec.RNN(5, 7, direction="bidirectional", merge="ave", outputs="last"),
            spec.Linear(7, 2),
        )
    ),
    "pooled": Network(
        (
            spec.LSTM(5, 7, direction="bidirectional", name="both"),
            spec.Pooling(14, "mean", name="mean"),
            spec.Pooling(14, "max", inputs=("both",), name="max"),
            spec.Linear(33, 2, inputs=("mean", "max", "input")),
        )
    ),
    "reverse": Network(
        (spec.LSTM(5, 7, direction="reverse", peepholes=True, proj_size=3), spec.Reverse(3))
    ),
    "reverse_last": Network((spec.RNN(5, 7, direction="reverse", outputs="last"),)),
    "skip": Network(
        (
            spec.Linear(5, 6, name="e"),
            spec.LSTM(6, 7, direction="bidirectional", name="b"),
            spec.LSTM(20, 4, direction="bidirectional", inputs=("e", "b"), name="c"),
            spec.Linear(19, 3, inputs=("c", "e", "input")),
        )
    ),
    "repeat": Network(
        (spec.LSTM(5, 7, outputs="last"), spec.Repeat(7, 4), spec.GRU(7, 3), spec.Linear(3, 2))
    ),
    "conv_same": Network(
        (spec.Conv1d(5, 6, 3, padding=(1, 1), activation="relu"), spec.LSTM(6, 4))
    ),
    "conv_valid": Network((spec.Conv1d(5, 6, 4, padding=(0, 0)),)),
    "pool_halves": Network(
        (spec.Pool1d(5, 2, stride=2), spec.Pool1d(5, 3, "mean", stride=2, ceil_mode=True))
    ),
    "pool_padded": Network(
        (
            spec.Pool1d(5, 3, "mean", padding=(1, 1), name="mean"),
            spec.Pool1d(5, 4, padding=(1, 2), inputs=("input",), name="max"),
            spec.Pool1d(5, 4, "sum", padding=(0, 3), inputs=("input",), name="sum"),
            spec.LSTM(15, 4, inputs=("mean", "max", "sum")),
        )
    ),
    "pool_valid": Network((spec.GRU(5, 7), spec.Pool1d(7, 4, "mean", padding=(0, 0)))),
    "flat": Network(
        (
            spec.LSTM(5, 7, direction="bidirectional"),
            spec.Flatten(14, 6),
            spec.Linear(84, 3, activation="gelu"),
        )
    ),
    "conv_stride": Network(
        (
            spec.Conv1d(5, 6, 3, padding=(1, 1), stride=2),
            spec.Conv1d(6, 6, 3, padding=(1, 1), stride=3),
            spec.GRU(6, 4, direction="bidirectional"),
        )
    ),
    "crf": Network((spec.LSTM(5, 7, direction="bidirectional"), spec.Linear(14, 4), spec.CRF(4))),
    "attention": Network(
        (
            spec.LSTM(5, 7, direction="bidirectional", name="memory"),
            spec.Pooling(14, "last"),
            spec.Linear(14, 14),
            spec.Attention(14, 14, memory="memory"),
        )
    ),
    "attention_to_the_input": Network(
        (
            spec.GRU(5, 7, name="a"),
            spec.GRU(7, 6, direction="reverse", name="b"),
            spec.AttentionPooling(7, inputs=("a",), name="p"),
            spec.Attention(20, 5, "general", inputs=("p", "b", "a"), memory="input"),
        )
    ),
    "repeat_in_both_directions": Network(
        (
            spec.LSTM(5, 7, outputs="last"),
            spec.Repeat(7, 30),
            spec.GRU(7, 3, direction="bidirectional"),
        )
    ),
    "one_number_beside_another": Network(
        (
            spec.Linear(5, 1, name="a"),
            spec.GRU(5, 3, inputs=("input",), name="b"),
            spec.LSTM(1, 4, direction="bidirectional", inputs=("a",), name="c"),
            spec.Conv1d(1, 1, 3, padding=(1, 1), inputs=("a",), name="d"),
            spec.Attention(3, 1, "general", memory="a", inputs=("b",), name="e"),
            spec.Linear(14, 2, inputs=("a", "b", "c", "d", "e")),
        )
    ),
    "attention_of_every_step": Network(
        (
            spec.LSTM(5, 7, direction="bidirectional", name="memory"),
            spec.Attention(14, 14, "additive", size=5, memory="memory"),
        )
    ),
}

# Decoders: they attend to a memory, and one reads its own attention of the step before.
DECODERS: dict[str, Network] = {
    "dot": Network((spec.LSTM(5, 7), spec.Attention(7, 7, scale=0.5))),
    "input_feeding": Network(
        (
            spec.Embedding(9, 5, name="token"),
            spec.Feedback(6, "attended", name="fed"),
            spec.GRU(11, 17, inputs=("token", "fed"), name="query"),
            spec.Attention(17, 20, "general", name="context"),
            spec.Linear(37, 6, activation="tanh", inputs=("context", "query"), name="attended"),
            spec.Linear(6, 9),
        )
    ),
    "two": Network(
        (
            spec.GRU(5, 7, name="query"),
            spec.Attention(7, 4, "additive", size=6, name="a"),
            spec.Attention(7, 4, "additive", size=17, inputs=("query",), name="b"),
            spec.Linear(15, 3, inputs=("query", "a", "b")),
        )
    ),
    "copies": Network(
        (
            spec.Embedding(19, 5),
            spec.GRU(5, 7, name="query"),
            spec.Attention(7, 7, "additive", size=6, name="context"),
            spec.Linear(14, 19, inputs=("query", "context")),
            spec.Softmax(19, name="written"),
            spec.Linear(14, 1, activation="sigmoid", inputs=("query", "context"), name="gate"),
            spec.Copy(19, 7, inputs=("written", "gate", "query")),
        )
    ),
    "copies_alone": Network((spec.LSTM(5, 48), spec.Copy(16, 31))),
}


# Tolerances ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tolerance:
    """|found - expected| <= absolute + relative * |expected|, element by element."""

    absolute: float
    relative: float
    reason: str

    def check(self, found: ArrayLike, expected: ArrayLike, what: str = "") -> None:
        """Raise an AssertionError that tells where the largest excess is."""
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        assert found.shape == expected.shape, f"{what}: {found.shape} for {expected.shape}"
        allowed = self.absolute + self.relative * np.abs(expected)
        excess = np.abs(found - expected) / allowed
        if not (excess <= 1).all():  # also where there is a NaN
            at = np.unravel_index(np.nan_to_num(excess, nan=np.inf).argmax(), excess.shape)
            raise AssertionError(
                f"{what}{list(map(int, at))}: {found[at]:.9g} for {expected[at]:.9g}, "
                f"off by {abs(found[at] - expected[at]):.1e}, allowed {allowed[at]:.1e}: "
                f"{self.reason}"
            )


TOLERANCES: Mapping[str, Tolerance] = {
    "h": Tolerance(
        1e-5, 0.0, "float32 rounding of 200 steps; h of these networks is in about [-1, 1]"
    ),
    "c": Tolerance(1e-5, 1e-5, "c has no bound and grows to hundreds, so its error is relative"),
    "float64": Tolerance(1e-12, 1e-12, "two float64 computations in different orders of sums"),
    "output": Tolerance(1e-5, 1e-5, "what numlstm.spec.TOLERANCE promises of a conversion"),
    "python": Tolerance(2e-6, 2e-6, "the plain Python fma rounds twice, rarely, in every sum"),
}


def assert_same_bits(found: NDArray[Any], expected: NDArray[Any], what: str = "") -> None:
    """Raise unless two arrays are equal in type, shape and every bit."""
    assert found.dtype == expected.dtype, what
    assert found.shape == expected.shape, what
    if found.tobytes() != expected.tobytes():
        bits = f"u{found.itemsize}"
        differ = np.argwhere(
            np.ascontiguousarray(found).view(bits) != np.ascontiguousarray(expected).view(bits)
        )
        at = tuple(differ[0])
        raise AssertionError(
            f"{what}: {len(differ)} of {found.size} differ, first "
            f"{list(map(int, at))}: {found[at]!r} for {expected[at]!r}"
        )


# Random material ----------------------------------------------------------------------------------


def random_weights(network: Network, seed: int = 0, scale: float = 1.0) -> Weights:
    """Return weights as frameworks initialise them: uniform, within 1 / sqrt(columns)."""
    generator = np.random.default_rng(seed)
    tensors = {
        name: (
            generator.uniform(-scale, scale, shape)
            / np.sqrt(shape[-1] if "embedding" not in name else 1)
        ).astype(np.float32)
        for name, shape in network.tensor_shapes().items()
    }
    for name in tensors:
        if name.endswith("running_var"):
            tensors[name] = np.abs(tensors[name]) + np.float32(0.5)
    return Weights(network, tensors, origin="tests")


def random_input(network: Network, seq_len: int, seed: int = 0) -> NDArray[Any]:
    """Return token ids (T,), or normally distributed numbers (T, I)."""
    generator = np.random.default_rng(seed)
    if network.vocab_size is not None:
        return generator.integers(0, network.vocab_size, seq_len).astype(np.int32)
    return generator.standard_normal((seq_len, network.input_size), np.float32)


def every_exponent(per_exponent: int = 4096) -> NDArray[np.float32]:
    """Return float32 numbers of both signs: random mantissas and the edges of each exponent."""
    generator = np.random.default_rng(0)
    mantissas = generator.integers(0, 2**23, (255, per_exponent), np.uint32)
    mantissas[:, :4] = 0, 1, 2**22, 2**23 - 1
    exponents = np.arange(255, dtype=np.uint32)[:, None] << 23  # 0: denormals; no NaN, no inf
    positive = (exponents | mantissas).view(np.float32).ravel()
    return np.concatenate([positive, -positive])


def with_tensor(weights: Weights, name: str, tensor: NDArray[np.float32]) -> Weights:
    """Return weights with one tensor replaced."""
    return replace(weights, tensors={**weights.tensors, name: tensor})
