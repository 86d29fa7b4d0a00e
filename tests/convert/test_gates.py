"""Gate orders of other frameworks: there and back, and each as its framework runs it."""

import os
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numlstm import reference
from numlstm.convert import gates
from numlstm.reference import sigmoid
from numlstm.spec import GRU, LSTM, RNN, Network, WeightsError
from tests.cases import TOLERANCES

I, H, T = 3, 5, 7  # noqa: E741  # the letters of the shapes

Tensors = dict[str, np.ndarray]

KINDS = {1: RNN, 3: GRU, 4: LSTM}
num_gates = st.sampled_from([*KINDS])
sizes = st.integers(1, 9)


def ours(num_gates: int, input_size: int = I, hidden_size: int = H, **bias: Any) -> Tensors:
    """Return random tensors: ``bias="both"``, ``"one"`` (bias_hh is zeros) or ``"none"``."""
    generator = np.random.default_rng(num_gates)
    rows = num_gates * hidden_size
    shapes = {"weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size)}
    found = {name: generator.standard_normal(shape) for name, shape in shapes.items()}
    which = bias.get("bias", "both")
    if which != "none":
        found["bias_ih"] = generator.standard_normal(rows)
        found["bias_hh"] = generator.standard_normal(rows) * (which == "both")
    return found


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = found.values(), expected.values()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def run(layer: Any, tensors: Tensors, xs: np.ndarray) -> np.ndarray:
    named = {f"layers.0.{name}": np.asarray(tensor) for name, tensor in tensors.items()}
    return reference.run(Network((layer,)), named, xs)[0]


@pytest.fixture
def xs() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((T, I)).astype(np.float32)


# There and back -----------------------------------------------------------------------------------


@given(num_gates, sizes, sizes, st.sampled_from(["none", "one", "both"]), st.booleans())
def test_keras_and_back(num_gates, input_size, hidden_size, bias, reset_after):
    reset_after = num_gates == 3 and (bias == "both" or reset_after)
    if bias == "both" and not reset_after:
        bias = "one"
    tensors = ours(num_gates, input_size, hidden_size, bias=bias)
    theirs = gates.to_keras(tensors, reset_after)
    shapes = [(input_size, num_gates * hidden_size), (hidden_size, num_gates * hidden_size)]
    shapes += [] if bias == "none" else [np.shape(theirs[2])]
    assert [array.shape for array in theirs] == shapes
    assert_same(gates.from_keras(*theirs), tensors)
    assert_same(gates.to_keras(gates.from_keras(*theirs), reset_after), theirs)


@given(st.sampled_from([3, 4]), sizes, sizes)
def test_keras_1_and_back(num_gates, input_size, hidden_size):
    tensors = ours(num_gates, input_size, hidden_size, bias="one")
    theirs = gates.to_keras_1(tensors)
    assert len(theirs) == 3 * num_gates
    assert_same(gates.from_keras_1(*theirs), tensors)
    assert_same(gates.to_keras_1(gates.from_keras_1(*theirs)), theirs)


@given(st.sampled_from([3, 4]), sizes, sizes)
def test_cudnn_layers_of_keras_and_back(num_gates, input_size, hidden_size):
    tensors = ours(num_gates, input_size, hidden_size)
    theirs = gates.to_keras_cudnn(tensors)
    assert_same(gates.from_keras_cudnn(*theirs), tensors)
    assert_same(gates.to_keras_cudnn(gates.from_keras_cudnn(*theirs)), theirs)


@given(sizes, sizes, sizes)
def test_tensorflow_and_back(input_size, hidden_size, proj_size):
    lstm = ours(4, input_size, hidden_size, bias="one")
    lstm["weight_hh"] = np.resize(lstm["weight_hh"], (4 * hidden_size, proj_size))
    theirs = gates.to_tensorflow_lstm(lstm)
    assert_same(gates.from_tensorflow_lstm(*theirs, proj_size), lstm)
    gru = ours(3, input_size, hidden_size, bias="one")
    theirs = gates.to_tensorflow_gru(gru)
    assert_same(gates.from_tensorflow_gru(*theirs), gru)
    assert_same(gates.to_tensorflow_gru(gates.from_tensorflow_gru(*theirs)), theirs)


@given(num_gates, sizes, sizes, st.sampled_from(["none", "both"]), st.booleans())
def test_onnx_and_back(num_gates, input_size, hidden_size, bias, peepholes):
    tensors = ours(num_gates, input_size, hidden_size, bias=bias)
    if peepholes:
        tensors |= {f"peephole_{gate}": np.full(hidden_size, n) for n, gate in enumerate("iof")}
    theirs = gates.to_onnx(tensors)
    assert [array is None for array in theirs] == [False, False, bias == "none", not peepholes]
    assert_same(gates.from_onnx(*theirs), tensors)


@given(num_gates, sizes, sizes, st.sampled_from(["none", "both"]))
def test_cudnn_and_back(num_gates, input_size, hidden_size, bias):
    tensors = ours(num_gates, input_size, hidden_size, bias=bias)
    params = gates.to_cudnn(tensors)
    assert_same(gates.from_cudnn(params, num_gates, input_size, hidden_size), tensors)


@given(num_gates, st.integers(0, 3))
def test_names_of_pytorch_and_back(num_gates, n):
    tensors = ours(num_gates)
    tensors |= {f"{name}_reverse": tensor + 1 for name, tensor in tensors.items()}
    state = gates.to_torch(tensors, n) | gates.to_torch(ours(num_gates), n + 1)
    assert f"weight_ih_l{n}_reverse" in state
    assert_same(gates.from_torch(state, n), tensors)


def test_dtypes_stay():
    tensors = {name: tensor.astype(np.float16) for name, tensor in ours(3).items()}
    found = gates.from_onnx(*gates.to_onnx(tensors))
    assert {tensor.dtype for tensor in found.values()} == {np.dtype(np.float16)}


# What the frameworks run --------------------------------------------------------------------------


@pytest.mark.parametrize("num_gates", KINDS)
def test_what_pytorch_runs(num_gates, xs):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = getattr(torch.nn, KINDS[num_gates].__name__)(I, H, 2, bidirectional=True)
    with torch.no_grad():
        expected = module(torch.from_numpy(xs))[0].numpy()
    layers = [KINDS[num_gates](size, H, direction="bidirectional") for size in (I, 2 * H)]
    named = {
        f"layers.{n}.{name}": tensor.detach().numpy()
        for n in range(2)
        for name, tensor in gates.from_torch(module.state_dict(), n).items()
    }
    found, _ = reference.run(Network(tuple(layers)), named, xs)
    TOLERANCES["output"].check(found, expected)


@pytest.mark.filterwarnings("ignore:::keras", "ignore:::torch", "ignore:::numpy")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SimpleRNN", {}),
        ("LSTM", {}),
        ("LSTM", {"use_bias": False}),
        ("GRU", {}),
        ("GRU", {"use_bias": False}),
        ("GRU", {"reset_after": False}),
    ],
)
def test_what_keras_runs(name, options, xs):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings(action="ignore"):
        keras = pytest.importorskip("keras")
    layer = getattr(keras.layers, name)(H, return_sequences=True, bias_initializer="normal",
                                        **options)  # fmt: skip
    expected = np.asarray(layer(xs[None])[0].detach())
    arrays = layer.get_weights()
    tensors = gates.from_keras(*arrays)
    kind = {"SimpleRNN": RNN, "LSTM": LSTM, "GRU": GRU}[name]
    own = {"reset_after": options.get("reset_after", True)} if kind is GRU else {}
    ys = run(kind(I, H, options.get("use_bias", True), **own), tensors, xs)
    TOLERANCES["output"].check(ys, expected)
    assert_same(gates.to_keras(tensors, **own), arrays)


@pytest.mark.parametrize(
    ("num_gates", "after"),
    [(1, 0), (3, 0), (3, 1), (4, 0)],
    ids=["RNN", "GRU", "GRU_after", "LSTM"],
)
def test_what_onnxruntime_runs(num_gates, after, xs):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    tensors = {name: tensor.astype(np.float32) for name, tensor in ours(num_gates).items()}
    if num_gates == 4:
        tensors |= {f"peephole_{g}": np.full(H, n / 3, np.float32) for n, g in enumerate("iof")}
    kind = KINDS[num_gates]
    inputs = dict(zip("WRBP", gates.to_onnx(tensors), strict=True))
    given = {name: array[None] for name, array in inputs.items() if array is not None}
    names = ["x", "W", "R", "B", *(["", "", "", "P"] if "P" in given else [])]
    options = {"linear_before_reset": after} if kind is GRU else {}
    node = onnx.helper.make_node(kind.__name__, names, ["y"], hidden_size=H, **options)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [info("x", 1, [T, 1, I])],
        [info("y", 1, [T, 1, 1, H])],
        [onnx.numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    opset = [onnx.helper.make_opsetid("", 14)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (expected,) = session.run(None, {"x": xs[:, None]})
    own = {"reset_after": bool(after)} if kind is GRU else {}
    own |= {"peepholes": True} if kind is LSTM else {}
    TOLERANCES["output"].check(run(kind(I, H, **own), tensors, xs), expected[:, 0, 0])


# Equations ----------------------------------------------------------------------------------------


def test_the_lstm_of_tensorflow(xs):
    """BasicLSTMCell of TensorFlow 1.15: i, j, f, o = split([x, h] @ kernel + bias)."""
    generator = np.random.default_rng(1)
    kernel, bias = generator.standard_normal((I + H, 4 * H)), generator.standard_normal(4 * H)
    h, c, expected = np.zeros(H), np.zeros(H), []
    for x in xs:
        i, j, f, o = np.split(np.concatenate([x, h]) @ kernel + bias, 4)
        c = c * sigmoid(f + 1.0) + sigmoid(i) * np.tanh(j)
        h = np.tanh(c) * sigmoid(o)
        expected.append(h)
    found = run(LSTM(I, H, forget_bias=1.0), gates.from_tensorflow_lstm(kernel, bias), xs)
    TOLERANCES["float64"].check(found, expected)


def test_the_lstm_of_tensorflow_with_a_projection(xs):
    generator = np.random.default_rng(1)
    size = 2
    kernel, bias = generator.standard_normal((I + size, 4 * H)), generator.standard_normal(4 * H)
    projection = generator.standard_normal((H, size))
    h, c, expected = np.zeros(size), np.zeros(H), []
    for x in xs:
        i, j, f, o = np.split(np.concatenate([x, h]) @ kernel + bias, 4)
        c = c * sigmoid(f) + sigmoid(i) * np.tanh(j)
        h = (np.tanh(c) * sigmoid(o)) @ projection
        expected.append(h)
    own = gates.from_tensorflow_lstm(kernel, bias, size) | {"weight_hr": projection.T}
    TOLERANCES["float64"].check(run(LSTM(I, H, proj_size=size), own, xs), expected)


def test_the_gru_of_tensorflow(xs):
    """GRUCell of TensorFlow 1.15: the reset gate is applied to h before the product."""
    generator = np.random.default_rng(1)
    shapes = ((I + H, 2 * H), (2 * H,), (I + H, H), (H,))
    kernel, bias, of_candidate, its_bias = (generator.standard_normal(shape) for shape in shapes)
    h, expected = np.zeros(H), []
    for x in xs:
        r, u = np.split(sigmoid(np.concatenate([x, h]) @ kernel + bias), 2)
        candidate = np.tanh(np.concatenate([x, r * h]) @ of_candidate + its_bias)
        h = u * h + (1 - u) * candidate
        expected.append(h)
    own = gates.from_tensorflow_gru(kernel, bias, of_candidate, its_bias)
    TOLERANCES["float64"].check(run(GRU(I, H, reset_after=False), own, xs), expected)


def blob(num_gates: int) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """Return a weight space, and its W, R, b_W, b_R of each gate.

    linLayerID of cudnnGetRNNWeightParams: all W, then all R; of a GRU 0 is the reset gate, 1 the
    update gate, 2 the new memory; of an LSTM input, forget, new memory, output.
    """
    generator = np.random.default_rng(1)
    shapes = ((H, I), (H, H), (H,), (H,))
    parts = [[generator.standard_normal(shape) for _ in range(num_gates)] for shape in shapes]
    return np.concatenate([array.ravel() for part in parts for array in part]), parts


def test_the_lstm_of_cudnn(xs):
    params, (w, r, b, d) = blob(4)
    h, c, expected = np.zeros(H), np.zeros(H), []
    for x in xs:
        i, f, new, o = (w[n] @ x + r[n] @ h + b[n] + d[n] for n in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
        h = sigmoid(o) * np.tanh(c)
        expected.append(h)
    TOLERANCES["float64"].check(run(LSTM(I, H), gates.from_cudnn(params, 4, I, H), xs), expected)


def test_the_gru_of_cudnn(xs):
    params, (w, r, b, d) = blob(3)
    h, expected = np.zeros(H), []
    for x in xs:
        reset, update = (sigmoid(w[n] @ x + r[n] @ h + b[n] + d[n]) for n in range(2))
        new = np.tanh(w[2] @ x + b[2] + reset * (r[2] @ h + d[2]))
        h = (1 - update) * new + update * h
        expected.append(h)
    TOLERANCES["float64"].check(run(GRU(I, H), gates.from_cudnn(params, 3, I, H), xs), expected)


@pytest.mark.parametrize("num_gates", [3, 4])
def test_a_cudnn_layer_is_what_keras_loads_it_as(num_gates):
    """preprocess_weights_for_loading of Keras 2 turns it into a GRU or LSTM by these lines."""
    tensors = ours(num_gates)
    kernel, recurrent_kernel, bias = gates.to_keras_cudnn(tensors)
    kernels = [k.T.reshape(k.shape, order="F") for k in np.hsplit(kernel, num_gates)]
    squares = [k.T for k in np.hsplit(recurrent_kernel, num_gates)]
    own = bias.reshape((2, -1)) if num_gates == 3 else np.sum(np.split(bias, 2, axis=0), axis=0)
    found = gates.from_keras(np.hstack(kernels), np.hstack(squares), own)
    if num_gates == 4:
        tensors["bias_ih"] = tensors["bias_ih"] + tensors["bias_hh"]
        tensors["bias_hh"] = np.zeros_like(tensors["bias_hh"])
    assert_same(found, tensors)


# Refusals -----------------------------------------------------------------------------------------

Z = np.zeros
REFUSED: dict[str, tuple[Any, str]] = {
    "gates": (
        lambda: gates.from_keras(Z((3, 10)), Z((5, 10))),
        r"recurrent_kernel has shape \(10, 5\), expected 1, 3 or 4 square blocks",
    ),
    "kernel": (
        lambda: gates.from_keras(Z((3, 15)), Z((5, 20))),
        r"kernel has shape \(3, 15\), expected \(3, 20\)",
    ),
    "bias": (
        lambda: gates.from_keras(Z((3, 20)), Z((5, 20)), Z(15)),
        r"bias has shape \(15,\), expected \(20,\)",
    ),
    "keras_1": (lambda: gates.from_keras_1(*[Z(3)] * 6), "6 arrays, expected W, U and b of 3 or 4"),
    "of_a_gate": (lambda: gates.from_keras_1(*[Z((3, 2)), Z((3, 2)), Z(2)] * 3), "U has shape"),
    "cudnn_bias": (
        lambda: gates.from_keras_cudnn(Z((3, 20)), Z((5, 20)), Z(20)),
        r"bias has shape \(20,\), expected \(40,\)",
    ),
    "tensorflow": (
        lambda: gates.from_tensorflow_lstm(Z((8, 15)), Z(20)),
        r"kernel has shape \(8, 15\), expected \(8, 20\)",
    ),
    "candidate": (
        lambda: gates.from_tensorflow_gru(Z((8, 10)), Z(10), Z((7, 5)), Z(5)),
        r"candidate_kernel has shape \(7, 5\), expected \(8, 5\)",
    ),
    "onnx": (lambda: gates.from_onnx(Z((20, 3)), Z((20, 5)), Z(20)), r"B has shape .* \(40,\)"),
    "peepholes": (
        lambda: gates.from_onnx(Z((20, 3)), Z((20, 5)), None, Z(20)),
        r"P has shape .* \(15,\)",
    ),
    "blob": (
        lambda: gates.from_cudnn(Z(7), 4, 3, 5),
        r"params has shape \(7,\), expected \(200,\)",
    ),
    "count": (lambda: gates.from_cudnn(Z(7), 2, 3, 5), "num_gates is 2, expected 1, 3 or 4"),
    "w_of_no_axis": (
        lambda: gates.from_onnx(Z(()), Z((12, 4))),
        r"W has shape \(\), expected \(12, I\)",
    ),
    "kernel_of_no_axis": (lambda: gates.from_keras(Z(()), Z((4, 12))), r"kernel has shape \(\)"),
    "square_of_no_axis": (
        lambda: gates.from_keras(Z((4, 4)), Z(())),
        r"recurrent_kernel has shape \(\)",
    ),
    "bias_of_no_axis": (
        lambda: gates.from_tensorflow_lstm(Z((4, 4)), Z(())),
        r"bias has shape \(\), expected \(I,\)",
    ),
    "candidate_of_no_axis": (
        lambda: gates.from_tensorflow_gru(Z(()), Z(4), Z(()), Z(())),
        r"candidate_bias has shape \(\)",
    ),
    "no_tensors": (lambda: gates.to_onnx({}), "weight_ih and weight_hh missing, found none"),
    "a_tensor_missing": (
        lambda: gates.to_keras({"weight_hh": Z((4, 4))}),
        "weight_ih missing, found weight_hh",
    ),
    "a_row": (
        lambda: gates.to_cudnn({"weight_ih": Z(4), "weight_hh": Z((4, 4))}),
        r"weight_ih has shape \(4,\), expected \(4, I\)",
    ),
    "blocks": (lambda: gates.reordered(Z(7), "rzn", "zrn"), r"axis 0 of \(7,\) is not 3 blocks"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(WeightsError, match=message):
        call()
