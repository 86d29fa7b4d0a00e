"""Compiled kernels stay within their arrays: those end where pages begin that cannot be touched."""

import os

import numpy as np
import pytest

import numlstm
from numlstm.kernels.addresses import COMPILED
from tests.cases import DECODERS, random_input, random_weights
from tests.fence import fenced, fences, in_child
from tests.outputs import assert_same_outputs, outputs

MEMORY = np.random.default_rng(0).normal(0, 1, (3, 31)).astype(np.float32)

pytestmark = [
    pytest.mark.skipif(not COMPILED, reason="plain Python looks at bounds itself"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here"),
]


@pytest.mark.parametrize("at_end", [True, False])
def test_a_fence_is_met(at_end):
    def touch() -> None:
        array = fenced(10, at_end=at_end)
        np.lib.stride_tricks.as_strided(array, (11,), (4 if at_end else -4,))[10] = 1

    assert in_child(touch) < 0


@pytest.mark.long
@pytest.mark.parametrize("at_end", [True, False])
def test_no_network_reads_or_writes_beyond_its_arrays(at_end):
    expected = outputs("all")

    def run() -> None:
        with fences(at_end):
            assert_same_outputs(outputs("all"), expected)

    assert in_child(run) == 0


@pytest.mark.parametrize("token", [1e9, -1e9, 1e30, -3.0, 16.0, np.inf, np.nan])
def test_an_id_of_a_memory_that_is_no_tokens_is_no_place(token):
    def run() -> None:
        with fences(True):
            model = numlstm.Model(random_weights(DECODERS["copies_alone"]))
            stream = model.stream(memory=MEMORY, memory_ids=[0, 1, 2])
            state, layout = stream._state, model._program.memory
            rows = state._array[-len(MEMORY) * layout.row_size :].reshape(len(MEMORY), -1)
            rows[0, layout.keys_end] = token  # which no public call can bring about
            y = stream.step(random_input(model.network, 1)[0])
            assert 0 < np.abs(y).sum() < np.inf

    assert in_child(run) == 0
