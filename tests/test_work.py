"""What a step costs, as it is counted, beside what it takes: a call of the kernel is short."""

import time

import numpy as np
import pytest

from numlstm import spec
from numlstm.program.lower import BLOCK_ROWS
from numlstm.run.border import NO_MEMORY
from numlstm.run.compiled import Compiled
from numlstm.spec import Network
from numlstm.work import work
from tests.cases import random_weights

WIDE = 2**16


def wide(layer: spec.Layer) -> Network:
    """A layer that gives many numbers, of which the network answers one."""
    return Network((layer, spec.Slice(layer.output_size, 0, 1)))


NETWORKS = {
    "function": wide(spec.Activation(WIDE, "softplus")),
    "softmax": wide(spec.Softmax(4 * WIDE)),
    "log_softmax": wide(spec.LogSoftmax(WIDE)),
    "layer_norm": wide(spec.LayerNorm(WIDE)),
    "batch_norm": wide(spec.BatchNorm(WIDE)),
    "mean": wide(spec.Pooling(WIDE, "mean")),
    "attention_pooling": wide(spec.AttentionPooling(WIDE)),
    "one_hot": wide(spec.OneHot(WIDE, WIDE)),
    "feedback": Network(
        (
            spec.Concat(WIDE, name="x"),
            spec.Feedback(WIDE, "sum"),
            spec.Add(WIDE, inputs=("x", "input"), name="sum"),
            spec.Slice(WIDE, 0, 1),
        )
    ),
    "window": Network((spec.Conv1d(64, 1, 1000),)),
    "long_pool": Network((spec.Pool1d(64, 1000, "mean"),)),
    "wide_pool": wide(spec.Pool1d(WIDE, 3)),
    "flatten": wide(spec.Flatten(64, 1000)),
    "frames": Network((spec.FrameConv1d(2048, 1, 64, 256, stride=2),)),
    "history": Network((spec.Conv1d(64, 1, 2, dilation=100_000),)),
    "long_history": Network((spec.Conv1d(1, 1, 2, dilation=2**20),)),
    "long_window": Network((spec.Conv1d(1, 1, 2**19),)),
    "sum": Network(
        (
            spec.Activation(4096, name="x"),
            spec.Add(4096, inputs=("x",) * 1000),
            spec.Slice(4096, 0, 1),
        )
    ),
    "groups": wide(spec.Conv1d(2048, 2048, 1, groups=2048)),
    "many_layers": Network(tuple(spec.Linear(1, 1) for _ in range(100))),
    "cells_with_options": Network(
        tuple(spec.LSTM(1, 1, peepholes=True, cell_clip=3.0, clip=2.0) for _ in range(30))
    ),
    "SRU": Network((spec.SRU(1, WIDE), spec.Slice(WIDE, 0, 1))),
    "IndRNN": Network((spec.IndRNN(1, WIDE), spec.Slice(WIDE, 0, 1))),
    "LSTM_1": Network((spec.LSTM(1, 1),)),
    "LSTM_128": Network((spec.LSTM(8, 128),)),
    "LSTM_2048": Network((spec.LSTM(8, 2048),)),
    "LSTM_2048_int8": Network((spec.LSTM(8, 2048, dtype="int8"),)),
    "Linear": Network((spec.Linear(2048, 2048),)),
    "dot": Network((spec.GRU(8, 64), spec.Attention(64, 64))),
    "additive": Network((spec.GRU(8, 64), spec.Attention(64, 64, "additive", size=64))),
    "copy": Network((spec.Linear(8, 100 + 1 + 64), spec.Copy(100, 64))),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_a_call_of_the_kernel_is_short(name):
    network = NETWORKS[name]
    compiled = Compiled(network, random_weights(network).tensors)
    memory_rows, num_steps = NO_MEMORY, compiled.steps_per_call
    if network.memory_size is not None:
        num_rows = 50_000
        ids = None if network.memory_vocab_size is None else np.zeros(num_rows, np.int32)
        memory = np.full((num_rows, network.memory_size), 0.01, np.float32)
        memory_rows = compiled.memory_rows(memory, ids)
        num_steps = compiled.steps_with(num_rows)
    tried = min(num_steps, 500)
    xs = np.zeros(tried, np.int32)
    if not network.reads_tokens:
        xs = np.zeros((tried, network.input_size), np.float32)
    compiled.run_whole(xs[:1], memory_rows)
    each = []
    for _ in range(3):
        start = time.thread_time()
        compiled.run_whole(xs, memory_rows)
        each.append((time.thread_time() - start) / tried)
    assert min(each) * num_steps < 0.25  # 2 to 50 ms on one machine; it was up to 66 s


def test_steps_of_a_large_network_share_what_they_read():
    def steps_of(*layers: spec.Layer) -> int:
        network = Network(layers)
        return Compiled(network, random_weights(network).tensors).steps_per_call

    assert steps_of(spec.LSTM(8, 2048)) == BLOCK_ROWS
    assert steps_of(spec.GRU(8, 64), spec.Attention(64, 64)) < BLOCK_ROWS  # but of a memory


def test_all_of_a_layer_counts():
    def of(*layers: spec.Layer, memory_rows: int = 0) -> int:
        return work(Network(layers), memory_rows)

    products = 4 * 128 * (8 + 128)
    assert products < of(spec.LSTM(8, 128)) < 1.5 * products
    assert of(spec.LSTM(8, 128, dtype="int8")) < products
    both = spec.LSTM(8, 128, direction="bidirectional")
    shared = spec.LSTM(8, 128, direction="bidirectional", shared=True)
    assert of(shared) == of(both) > 1.9 * of(spec.LSTM(8, 128))
    assert of(spec.Conv1d(64, 64, 1, groups=64)) == of(spec.Conv1d(64, 64, 1))
    frames = spec.FrameConv1d(100, 1, 64, 40)
    assert of(frames) > 61 * 64 * 40
    attention = spec.Attention(64, 64)
    assert of(attention, memory_rows=2000) > 1.9 * of(attention, memory_rows=1000)
    added = spec.Add(64, inputs=("x",) * 1000)
    assert of(spec.Concat(64, name="x"), added) > 1000 * 64
    assert of(spec.Conv1d(1, 1, 10_000)) > 16 * 10_000  # as for 16 outputs
    assert of(spec.Repeat(4, 2**26)) < 10_000  # a step; what it repeats is of a sequence
