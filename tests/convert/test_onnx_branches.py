"""If of ONNX where its condition is known, and rows whose size the graph leaves free.

The graph is a small one of the kind of Silero VAD's: one of two networks by a sampling rate, each
with its tensors within its branch, which asks again for the shapes of what it reads.
"""

import logging

import numpy as np
import pytest

import numlstm
from numlstm.spec import WeightsError
from tests.convert.test_onnx import holds, layers_of
from tests.lazy import from_onnx, numpy_helper, onnx

UNITS = 4


def _tensor(name: str, shape: tuple[int, ...], seed: int) -> str:
    """Return the text of a constant with random numbers."""
    numbers = np.random.default_rng(seed).uniform(-0.8, 0.8, shape).ravel().round(4)
    inner = ", ".join(f"{number:.4f}" for number in numbers)
    sizes = ", ".join(map(str, shape))
    return (
        f"{name}_flat = Constant <value_floats = [{inner}]> () "
        f"{name}_to = Constant <value_ints = [{sizes}]> () "
        f"{name} = Reshape ({name}_flat, {name}_to) "
    )


def _network(p: str, window: int, hop: int, pad: int, seed: int) -> str:
    """Return the text of a detector: reflection, spectrum, convolution, a cell written out."""
    tensors = _tensor(f"{p}k", (6, 1, window), seed) + _tensor(f"{p}e", (UNITS, 3, 3), seed + 1)
    tensors += _tensor(f"{p}w", (4 * UNITS, UNITS), seed + 2)
    tensors += _tensor(f"{p}u", (4 * UNITS, UNITS), seed + 3)
    tensors += _tensor(f"{p}b", (4 * UNITS,), seed + 4) + _tensor(f"{p}o", (UNITS, 1), seed + 5)
    return (
        f"{tensors} {p}pads = Constant <value_ints = [0, 0, 0, {pad}]> () "
        f"{p}zero = Constant <value_int = 0> () {p}one = Constant <value_int = 1> () "
        f"{p}axis = Constant <value_ints = [1]> () {p}two = Constant <value_float = 2.0> () "
        f"{p}rank = Constant <value_int = 2> () "
        f'{p}p = Pad <mode = "reflect"> (input, {p}pads) '
        f"{p}shape = Shape ({p}p) {p}size = Size ({p}shape) {p}flat = Equal ({p}size, {p}rank) "
        f"{p}a = If ({p}flat) <then_branch = t{p} () => ({p}a1) "
        f"{{ {p}a1 = Unsqueeze ({p}p, {p}axis) }}, else_branch = e{p} () => ({p}a2) "
        f"{{ {p}a2 = Identity ({p}p) }}> "
        f"{p}c = Conv <strides = [{hop}]> ({p}a, {p}k) "
        f"{p}re, {p}im = Split <axis = 1, num_outputs = 2> ({p}c) "
        f"{p}r2 = Pow ({p}re, {p}two) {p}i2 = Pow ({p}im, {p}two) {p}m2 = Add ({p}r2, {p}i2) "
        f"{p}m = Sqrt ({p}m2) {p}d = Conv <pads = [1, 1], strides = [2]> ({p}m, {p}e) "
        f"{p}f = Relu ({p}d) {p}g = Conv <pads = [1, 1], strides = [2]> ({p}f, {p}e3) "
        f"{p}x = Gather <axis = 2> ({p}g, {p}zero) "
        f"{p}h0 = Gather <axis = 0> (state, {p}zero) {p}c0 = Gather <axis = 0> (state, {p}one) "
        f"{p}gx = Gemm <transB = 1> ({p}x, {p}w, {p}b) {p}gh = Gemm <transB = 1> ({p}h0, {p}u) "
        f"{p}s = Add ({p}gh, {p}gx) "
        f"{p}s1, {p}s2, {p}s3, {p}s4 = Split <axis = 1, num_outputs = 4> ({p}s) "
        f"{p}i = Sigmoid ({p}s1) {p}ff = Sigmoid ({p}s2) {p}gg = Tanh ({p}s3) "
        f"{p}oo = Sigmoid ({p}s4) {p}fc = Mul ({p}ff, {p}c0) {p}ig = Mul ({p}i, {p}gg) "
        f"{p}c1 = Add ({p}fc, {p}ig) {p}tc = Tanh ({p}c1) {p}h1 = Mul ({p}oo, {p}tc) "
        f"{p}hs = Unsqueeze ({p}h1, {p}first) {p}cs = Unsqueeze ({p}c1, {p}first) "
        f"{p}n = Concat <axis = 0> ({p}hs, {p}cs) {p}l = MatMul ({p}h1, {p}o) {p}y = Sigmoid ({p}l)"
    ).replace(
        f"{p}rank = ",
        f"{p}first = Constant <value_ints = [0]> () "
        + _tensor(f"{p}e3", (UNITS, UNITS, 3), seed + 6)
        + f"{p}rank = ",
    )


def detector(rate: int | None, name: str = "sr") -> "onnx.ModelProto":
    """Return the graph for a rate, or with the rate as an input of a name."""
    big = _network("B", 16, 8, 4, 0)
    small = _network("S", 8, 4, 2, 50)
    rates = f"int64 {name}, " if rate is None else ""
    text = (
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"g (float[N, S] input, {rates}float[2, N, {UNITS}] state) "
        f"=> (float[N, 1] output, float[2, N, {UNITS}] stateN) "
        f"{{ k16 = Constant <value_int = 16000> () is_big = Equal ({name}, k16) "
        f"output, stateN = If (is_big) <then_branch = big () => (By, Bn) {{ {big} }}, "
        f"else_branch = small () => (Sy, Sn) {{ {small} }}> }}"
    )
    model = onnx.parser.parse_model(text)
    if rate is not None:
        tensor = numpy_helper.from_array(np.array(rate, np.int64), name)
        model.graph.initializer.append(tensor)
    return model


@pytest.mark.parametrize(("rate", "size"), [(16000, 36), (8000, 18)])
def test_a_branch_is_taken_and_the_row_is_as_long_as_nothing_is_left_over(rate, size, caplog):
    with caplog.at_level(logging.INFO, "numlstm"):
        weights = holds(detector(rate))
    assert weights.network.input_size == size
    assert layers_of(weights).count("LSTM") == 1
    assert "Feedback" not in layers_of(weights)
    assert f"a row of input 'input' has {size} numbers" in caplog.text


def test_chunk_by_chunk_as_onnx_runtime():
    import onnxruntime

    model = detector(16000)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    stream = numlstm.Model(from_onnx.convert(model)).stream()
    xs = np.random.default_rng(1).standard_normal((60, 36)).astype(np.float32)
    state = np.zeros((2, 1, UNITS), np.float32)
    for x in xs:
        y, state = session.run(None, {"input": x[None], "state": state})
        np.testing.assert_allclose(stream.step(x), y[0], 0, 2e-6)


def test_a_rate_that_is_an_input_is_named():
    with pytest.raises(WeightsError, match=r"constants=\{'rate': \.\.\.\}"):
        from_onnx.convert(detector(None, "rate"))
