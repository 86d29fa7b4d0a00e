"""`numlstm.backend` runs the official node tests of RNN, GRU and LSTM, and whole graphs."""

import unittest
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest

import numlstm
from tests.cases import Tolerance
from tests.conftest import Python
from tests.lazy import Lazy, backend, helper, onnx, onnxruntime

official, evaluator = Lazy("onnx.backend.test"), Lazy("onnx.reference")

ENGINE = Tolerance(2e-6, 0.0, "states of a few units in float32")
OFFICIAL = tuple(
    f"test_{name}"
    for name in (
        *(f"gru_{case}" for case in ("defaults", "with_initial_bias", "seq_length")),
        *(f"gru_{case}" for case in ("batchwise", "bidirectional", "reverse")),
        *(f"lstm_{case}" for case in ("defaults", "with_initial_bias", "with_peepholes")),
        *(f"lstm_{case}" for case in ("batchwise", "bidirectional", "reverse")),
        *(f"simple_rnn_{case}" for case in ("defaults", "with_initial_bias")),
        *(f"simple_rnn_{case}" for case in ("batchwise", "bidirectional", "reverse")),
        "rnn_seq_length",
    )
)


@cache
def official_cases() -> dict[str, Any]:
    """Return the node tests of onnx whose names tell of a recurrent operator."""
    with warnings.catch_warnings(action="ignore"):  # the package overflows while it makes them
        cases = official.loader.load_model_tests(kind="node")
    names = ("rnn", "gru", "lstm")
    return {case.name: case for case in cases if any(name in case.name for name in names)}


@cache
def suite() -> Any:
    with warnings.catch_warnings(action="ignore"):
        tests = official.BackendTest(backend, __name__)
    for name in OFFICIAL:
        tests.include(f"^{name}_cpu$")
    return tests


@pytest.mark.long
@pytest.mark.parametrize("name", OFFICIAL)
def test_official(name):
    (case,) = (
        test
        for cases in suite().test_cases.values()
        for test in unittest.defaultTestLoader.loadTestsFromTestCase(cases)
        if test.id().endswith(f".{name}_cpu")
    )
    result = unittest.TestResult()
    case.run(result)
    problems = [text for _, text in result.failures + result.errors + result.skipped]
    assert not problems, problems[0]
    assert result.testsRun == 1


@pytest.mark.long
def test_the_official_tests_are_all_there():
    assert sorted(official_cases()) == sorted(OFFICIAL)


# Beyond the official tests ------------------------------------------------------------------------

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
LENGTH, BATCH, INPUTS, H = 6, 4, 3, 5


def operator(kind: str, direction: str) -> "tuple[onnx.ModelProto, dict[str, Any]]":
    """Return a graph of one operator whose inputs are all its inputs, and values for them."""
    generator = np.random.default_rng(0)
    d, gates = (2 if direction == "bidirectional" else 1), GATES[kind]

    def array(*shape: int) -> np.ndarray:
        return generator.uniform(-1, 1, shape).astype(np.float32)

    values = {
        "X": array(LENGTH, BATCH, INPUTS),
        "W": array(d, gates * H, INPUTS),
        "R": array(d, gates * H, H),
        "B": array(d, 2 * gates * H),
        "sequence_lens": np.array([6, 2, 1, 0], np.int32),
        "initial_h": array(d, BATCH, H),
    }
    if kind == "LSTM":
        values |= {"initial_c": array(d, BATCH, H), "P": array(d, 3 * H)}
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    node = helper.make_node(kind, list(values), outputs, hidden_size=H, direction=direction)
    info = helper.make_tensor_value_info
    types = {"sequence_lens": onnx.TensorProto.INT32}
    graph = helper.make_graph(
        [node],
        "operator",
        [
            info(name, types.get(name, onnx.TensorProto.FLOAT), a.shape)
            for name, a in values.items()
        ],
        [
            info(name, onnx.TensorProto.FLOAT, [None] * (4 if name == "Y" else 3))
            for name in outputs
        ],
    )
    opsets = [helper.make_opsetid("", 14)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), values


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", GATES)
def test_batches_of_several_lengths_are_those_of_onnxruntime(kind, direction):
    model, values = operator(kind, direction)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = session.run(None, values)
    prepared = backend.prepare(model)
    for inputs in (list(values.values()), values):
        found = prepared.run(inputs)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            ENGINE.check(a, b)
    assert np.array_equal(found.Y, found[0])


@pytest.mark.long
@pytest.mark.parametrize("name", OFFICIAL)
def test_the_evaluator_of_onnx_agrees(name):
    case = official_cases()[name]
    assert case.data_sets
    for inputs, _ in case.data_sets:
        names = [info.name for info in case.model.graph.input]
        expected = evaluator.ReferenceEvaluator(case.model).run(
            None, dict(zip(names, inputs, strict=True))
        )
        for a, b in zip(backend.run_model(case.model, inputs), expected, strict=True):
            ENGINE.check(a, b, name)


def test_run_node():
    model, values = operator("GRU", "forward")
    found = backend.run_node(model.graph.node[0], list(values.values()))
    expected = backend.run_model(model, values)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.raises(ValueError, match="operator Tanh, expected one of RNN, GRU, LSTM"):
        backend.run_node(helper.make_node("Tanh", ["x"], ["y"]), [np.zeros(1)])


def whole_graph(batch: int | str = "n") -> "onnx.ModelProto":
    """Return a bidirectional GRU, its last answers, and a linear layer, its weights constants."""
    values = operator("GRU", "bidirectional")[1]
    info = helper.make_tensor_value_info
    constants = {"W": values["W"], "R": values["R"], "B": values["B"]}
    constants["head"] = np.ones((2 * H, 2), np.float32) / 7
    constants["shape"] = np.array([0, -1, 2 * H])
    nodes = [
        helper.make_node("Transpose", ["x"], ["X"], perm=[1, 0, 2]),
        helper.make_node(
            "GRU", ["X", "W", "R", "B"], ["Y"], hidden_size=H, direction="bidirectional"
        ),
        helper.make_node("Transpose", ["Y"], ["T"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["T", "shape"], ["F"]),
        helper.make_node("MatMul", ["F", "head"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "whole",
        [info("x", onnx.TensorProto.FLOAT, [batch, "t", INPUTS])],
        [info("y", onnx.TensorProto.FLOAT, [batch, "t", 2])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 14)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_whole_graphs_run_for_any_batch():
    model = whole_graph()
    xs = np.random.default_rng(1).normal(size=(3, 8, INPUTS)).astype(np.float32)
    (expected,) = evaluator.ReferenceEvaluator(model).run(None, {"x": xs})
    (found,) = backend.run_model(model, [xs])
    ENGINE.check(found, expected)
    with pytest.raises(ValueError, match="expected 3 axes"):
        backend.run_model(model, [xs[0]])


def test_what_cannot_be_prepared():
    model = whole_graph()
    assert backend.is_compatible(model)
    assert not backend.is_compatible(whole_graph(batch=2))
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA:0")
    with pytest.raises(ValueError, match="device 'CUDA', expected 'CPU'"):
        backend.prepare(model, "CUDA")
    model.graph.output.append(
        helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, [None] * 4)
    )
    with pytest.raises(numlstm.WeightsError, match="output 'Y' is another one"):
        backend.prepare(model)


def test_inputs_that_do_not_fit():
    model, values = operator("LSTM", "forward")
    prepared = backend.prepare(model)
    with pytest.raises(ValueError, match="2 inputs, expected 8: X, W, R, B"):
        prepared.run([values["X"], values["W"]])
    with pytest.raises(ValueError, match="X is float64"):
        prepared.run(values | {"X": values["X"].astype(np.float64)})
    with pytest.raises(ValueError, match="sequence_lens"):
        prepared.run(values | {"sequence_lens": np.array([7, 1, 1, 1])})


IMPORT = "import sys; sys.modules['onnx'] = None; import numlstm; import numlstm.backend"


def test_without_onnx_the_error_says_what_to_install(python: Python):
    _, errors = python("-c", IMPORT).communicate()
    assert "ImportError: numlstm.backend needs onnx: pip install 'numlstm[onnx]'" in errors
