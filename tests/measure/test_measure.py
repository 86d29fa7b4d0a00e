"""What is measured is what was called; a certificate fails where bits differ."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import numlstm
from numlstm import GRU, LSTM, Embedding, Linear, Network
from numlstm.measure import certify, measure
from numlstm.measure.against import against_onnx, against_torch
from numlstm.measure.inputs import inputs
from numlstm.measure.process import allocations
from numlstm.measure.roof import step_bytes
from numlstm.measure.times import paced, percentiles, timed
from tests.cases import random_weights

FRAMES = numlstm.Model(random_weights(Network((LSTM(3, 17), GRU(17, 8), Linear(8, 5)))))
TOKENS = numlstm.Model(random_weights(Network((Embedding(30, 6), LSTM(6, 17), Linear(17, 30)))))
BOTH = numlstm.Model(random_weights(Network((LSTM(3, 17, direction="bidirectional"),))))
MODELS = {"frames": FRAMES, "tokens": TOKENS, "both": BOTH}


def test_percentiles_of_known_times():
    found = percentiles(np.arange(1001))
    assert found == {
        "num_calls": 1001, "p50_us": 500, "p90_us": 900, "p99_us": 990, "p999_us": 999,
        "max_us": 1000,
    }  # fmt: skip
    assert percentiles([2.5])["p999_us"] == 2.5


def test_calls_are_timed_as_they_are_numbered():
    numbers = []
    times = timed(numbers.append, 0)
    assert len(times) == 100
    assert numbers[-100:] == list(range(100))
    order = []
    times = paced(lambda n: order.append(("call", n)), lambda n: order.append(("give", n)), 1, 3)
    assert len(times) == 3
    assert order == [(what, n) for n in range(3) for what in ("give", "call")]


def test_what_calls_keep_is_counted():
    kept = []
    found = allocations(lambda: kept.append(object()), 1000)
    assert found["kept_blocks"] >= 1000
    assert found["kept_bytes"] > 10_000
    assert allocations(lambda: None, 1000)["kept_blocks"] == 0


def test_inputs_are_those_of_the_finaliser():
    def number(n):
        z = n * 0x9E3779B9 % 2**32
        z ^= z >> 16
        z = z * 0x85EBCA6B % 2**32
        z ^= z >> 13
        z = z * 0xC2B2AE35 % 2**32
        return (z ^ z >> 16) >> 8

    assert inputs(TOKENS, 5, 7).tolist() == [number(n) % 30 for n in range(7, 12)]
    rows = inputs(FRAMES, 2, 1)
    expected = [number(n) / 2**23 - 1 for n in range(3, 9)]
    np.testing.assert_array_equal(rows, np.array(expected, np.float32).reshape(2, 3))
    assert np.abs(inputs(FRAMES, 1000)).max() <= 1


@pytest.mark.parametrize("name", MODELS)
def test_a_measurement_has_every_part(name):
    found = measure(lambda: MODELS[name], seconds=0.01, pace=(1,) if name == "frames" else ())
    said = json.loads(found.to_json())
    assert said["sequence"]["steps_per_s"] > 0
    if name == "both":
        assert said["lookahead"]["p50_us"] > 0
        return
    assert said["step"]["p50_us"] <= said["step"]["p999_us"] <= said["step"]["max_us"]
    assert set(said["pool"]) == {"1", "4", "16", "64", "128"}
    assert said["allocations"]["kept_blocks"] == 0
    assert ("tokens_per_s" in said["sequence"]) == (name == "tokens")
    assert (set(said["paced"]) == {"1"}) == (name == "frames")


def test_the_bytes_of_a_step_are_those_of_what_it_reads():
    assert step_bytes(FRAMES) == 4 * sum(t.size for t in FRAMES.weights.tensors.values())
    lstm, linear = 4 * 17 * (17 + 2), 30 * 17 + 30
    assert step_bytes(TOKENS) == 4 * (lstm + linear)


@pytest.mark.parametrize("name", MODELS)
def test_a_certificate_of_a_sound_model_passes(name):
    found = certify(MODELS[name], name, seconds=0.01)
    assert found.passed, found.to_markdown()
    assert found.digest in found.to_markdown()
    assert json.loads(found.to_json())["passed"] is True
    assert certify(MODELS[name], seconds=0.01, digest=found.digest[:16]).passed
    other = certify(MODELS[name], seconds=0.01, digest="0" * 16)
    assert [check.name for check in other.checks if not check.passed] == [
        "the digest of another machine"
    ]


def test_a_step_that_is_off_by_one_bit_fails(monkeypatch):
    step = numlstm.Stream.step

    def off(self, x, out=None):
        y = step(self, x, out)
        return np.nextafter(y, np.float32(2)) if self.num_steps == 100 else y

    monkeypatch.setattr(numlstm.Stream, "step", off)
    found = certify(FRAMES, seconds=0.01)
    assert not found.passed
    assert "FAILED" in found.to_markdown()
    failed = {check.name: check.found for check in found.checks if not check.passed}
    assert failed["steps one by one"] == "1 of 256 rows differ"
    # Looking at the number of steps makes an integer.
    assert failed.keys() == {"steps one by one", "steps allocate nothing"}


def test_a_step_that_keeps_memory_or_starts_a_thread_fails(monkeypatch):
    step, kept, stop = numlstm.Stream.step, [], threading.Event()

    def leaks(self, x, out=None):
        kept.append(object())
        if len(kept) == 1:
            threading.Thread(target=stop.wait, daemon=True).start()
        return step(self, x, out)

    monkeypatch.setattr(numlstm.Stream, "step", leaks)
    failed = {check.name for check in certify(FRAMES, seconds=0.01).checks if not check.passed}
    stop.set()
    assert failed == {"steps allocate nothing", "threads started"}


def test_what_is_allocated_and_given_back_counts_and_so_does_a_thread_of_the_first_run(monkeypatch):
    step, run = numlstm.Stream.step, numlstm.Model.run
    stop, threads = threading.Event(), []

    def makes(self, x, out=None):
        bytearray(100_000)
        return step(self, x, out)

    def starts(self, xs, **options):
        if not threads:
            threads.append(threading.Thread(target=stop.wait, daemon=True))
            threads[0].start()
        return run(self, xs, **options)

    monkeypatch.setattr(numlstm.Stream, "step", makes)
    monkeypatch.setattr(numlstm.Model, "run", starts)
    failed = {check.name for check in certify(FRAMES, seconds=0.01).checks if not check.passed}
    stop.set()
    assert failed == {"steps allocate nothing", "threads started"}


@pytest.mark.long
@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
def test_other_levels_find_the_same_digest(level, tmp_path):
    from numlstm.kernels.cpu import LEVEL

    if not LEVEL.name.startswith("x86-64-v4"):
        pytest.skip("this CPU has no other level")
    path = tmp_path / "model.safetensors"
    TOKENS.save(path)
    digest = certify(TOKENS, seconds=0.01).digest
    command = [sys.executable, "-m", "numlstm", "certify", str(path), "--digest", digest]
    done = subprocess.run(
        command, env=os.environ | {"NUMLSTM_LEVEL": level}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| CPU level | {level}" in done.stdout


def test_a_network_that_attends_is_refused():
    decoder = numlstm.load_parts("chat")["decoder"]
    with pytest.raises(ValueError, match="attends to a memory"):
        certify(decoder)
    with pytest.raises(ValueError, match="attends to a memory"):
        measure(lambda: decoder)


def test_pytorch_with_the_same_weights_is_timed():
    pytest.importorskip("torch")
    for model in (FRAMES, TOKENS):
        assert against_torch(model, 0.01)["p50_us"] > 0
    with pytest.raises(numlstm.WeightsError, match="is nothing that is compared with PyTorch"):
        against_torch(numlstm.Model(random_weights(Network((numlstm.MinGRU(3, 4),)))), 0.01)


def test_the_graph_that_a_model_was_is_timed_and_another_one_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, numbers = onnx.helper, onnx.TensorProto.FLOAT
    random = np.random.default_rng(0)
    shapes = {"W": (1, 16, 3), "R": (1, 16, 4), "B": (1, 32)}
    tensors = {n: random.normal(0, 0.3, shape).astype(np.float32) for n, shape in shapes.items()}

    def graph(path, inputs):
        state = ["h", "c"] if len(inputs) > 1 else []
        node = helper.make_node(
            "LSTM", ["x", "W", "R", "B", "", *state], ["y", "h2", "c2"], hidden_size=4
        )
        given = {"x": [1, 1, 3], "h": [1, 1, 4], "c": [1, 1, 4]}
        answers = {"y": [1, 1, 1, 4], "h2": [1, 1, 4], "c2": [1, 1, 4]}
        made = helper.make_graph(
            [node],
            "lstm",
            [helper.make_tensor_value_info(n, numbers, given[n]) for n in inputs],
            [helper.make_tensor_value_info(n, numbers, shape) for n, shape in answers.items()],
            [onnx.numpy_helper.from_array(t, n) for n, t in tensors.items()],
        )
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(made, opset_imports=opset, ir_version=8), path)
        return path

    path = graph(tmp_path / "lstm.onnx", ["x", "h", "c"])
    model = numlstm.from_onnx(path)
    assert against_onnx(model, path, 0.01)["p50_us"] > 0
    other = numlstm.Model(random_weights(Network((LSTM(3, 4),)), 5))
    with pytest.raises(numlstm.WeightsError, match="answers step 0 otherwise"):
        against_onnx(other, path, 0.01)
    with pytest.raises(numlstm.WeightsError, match="has no inputs for its state"):
        against_onnx(model, graph(tmp_path / "whole.onnx", ["x"]), 0.01)
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(numlstm.WeightsError, match="cannot load it"):
        against_onnx(model, tmp_path / "broken.onnx", 0.01)


@pytest.mark.long
def test_the_commands(tmp_path):
    path = tmp_path / "model.safetensors"
    FRAMES.save(path)

    def run(*arguments):
        command = [sys.executable, "-m", "numlstm", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    done = run("bench", str(path), "--seconds", "0.01", "--json", "--plot", "times.png")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"]["num_calls"] >= 100
    assert (tmp_path / "times.png").stat().st_size > 10_000
    done = run("bench", str(path), "--seconds", "0.01")
    assert "a step of 128 in a pool" in done.stdout, done.stderr
    done = run("bench", str(path), "--against", "keras")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--against is 'keras', expected torch or onnx=FILE" in done.stderr
    done = run("certify", str(path), "--output", "page.md")
    assert done.returncode == 0, done.stderr
    assert "ok: threads started: 0" in done.stdout
    assert "model.safetensors: passed" in (tmp_path / "page.md").read_text()
    done = run("certify", str(path), "--digest", "12345678", "--output", "page.json")
    assert done.returncode == 1
    assert json.loads((tmp_path / "page.json").read_text())["passed"] is False
    assert "does not end in .md or .json" in run("certify", str(path), "-o", "page.pdf").stderr
