"""Noise suppression of breizhn/DTLN from its graphs in ONNX, of one block each.

In model_1 the layers are LSTM operators; in model_2 each cell is written out. The state that goes
into each graph and comes out of it is that of the stream.
"""

import numpy as np
import pytest

import numlstm
from tests.lazy import from_onnx
from tests.real import test_dtln_h5 as h5
from tests.real.conftest import assert_streams

FOLDER = "dtln"
blocks = h5.blocks


@pytest.fixture(scope="module")
def converted():
    """Convert each graph once."""
    found = {}

    def of(path):
        return found[path] if path in found else found.setdefault(path, from_onnx.convert(path))

    return of


@pytest.fixture
def stages(real, converted):
    return converted(real / "model_1.onnx"), converted(real / "model_2.onnx")


def test_8_seconds_are_those_of_onnxruntime(real, stages, blocks, record):
    found = h5.denoise(stages, blocks)
    h5.hold(found, h5.denoise_in_onnxruntime(real, blocks), record, "from ONNX, of ONNX Runtime")


def test_the_reference_of_3_seconds_is_that_of_onnxruntime(real, stages, blocks):
    few = blocks[:300]
    found, expected = h5.denoise_in_float64(stages, few), h5.denoise_in_onnxruntime(real, few)
    for allowed, a, b in zip((h5.MASKS, h5.AUDIO, h5.AUDIO), found, expected, strict=True):
        allowed.check(a, b)


def test_a_stream_has_the_bits_of_a_run(stages, blocks):
    few = blocks[:100]
    assert_streams(stages[0], np.abs(np.fft.rfft(few)).astype(np.float32))
    assert_streams(stages[1], few)


def test_the_engine_gives_the_answers_kept_in_the_weights(stages):
    for weights in stages:
        assert numlstm.Model(weights).verify().ok
