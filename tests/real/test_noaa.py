"""Hourly streamflow, NOAA-OWP/lstm: PyTorch LSTMs of 126 and of 64 units, one hour at a time."""

from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm import reference
from numlstm.spec import LSTM, Linear, Network, Weights
from tests.cases import TOLERANCES, Tolerance, assert_same_bits
from tests.lazy import nn, torch
from tests.real.conftest import Record, Runner, assert_streams

STREAMED = Tolerance(1e-4, 0.0, "logits and streamed states after 720 hours in float32")


def read(path: Path) -> numlstm.Model:
    return numlstm.from_torch(path, layers="lstm:LSTM head.net.0:Linear")


@pytest.fixture
def stream(real) -> numlstm.Stream:
    return read(real / "aorc_hourly_model_epoch009.pt").stream()


@pytest.fixture
def expected(real) -> dict[str, np.ndarray]:
    with np.load(real / "ref_aorc_cat67.npz") as file:
        return {name: file[name] for name in file}


def test_720_hours_streamed_are_those_of_torch(stream, expected, record: Record):
    ys, hs = [], []
    for x in expected["x"]:
        ys.append(stream.step(x))
        hs.append(stream.state["layers.0.h"])
    for what, found, wanted, allowed in (
        ("head", np.concatenate(ys), expected["head_out"], STREAMED),
        ("h", hs[-1], expected["h_last"], STREAMED),
        ("c", stream.state["layers.0.c"], expected["c_last"], TOLERANCES["c"]),
        ("h every 48 hours", hs[::48], expected["h_every_48"], STREAMED),
    ):
        allowed.check(found, wanted, what)
        record("NOAA cat67", what, np.abs(np.asarray(found) - wanted).max(), allowed)


def test_a_run_has_the_bits_of_the_stream(stream, expected):
    twin = stream.copy()
    ys = np.stack([twin.step(x) for x in expected["x"]])
    assert_same_bits(stream.run(expected["x"]), ys)


def test_the_reference_gives_them_too(stream, expected):
    weights = stream.model.weights
    ys, _ = reference.run(weights.network, weights.tensors, expected["x"])
    STREAMED.check(ys[:, 0], expected["head_out"], "reference")


# Sugar Creek: tensors without their program, and a state to begin in ------------------------------


@pytest.fixture
def state_dict(real) -> "dict[str, torch.Tensor]":
    with np.load(real / "sugar_creek_weights.npz") as file:
        return {name.replace("__", "."): torch.from_numpy(file[name]) for name in file}


@pytest.fixture
def sugar_creek(real, state_dict) -> Weights:
    """The network with its first state among the tensors."""
    h, c = np.loadtxt(
        real / "sugar_creek_initial_states.csv", np.float32, delimiter=",", skiprows=1
    ).T
    initial = {"lstm.initial_h": torch.from_numpy(h), "lstm.initial_c": torch.from_numpy(c)}
    network = Network((LSTM(11, 64, initial_state=True, name="lstm"), Linear(64, 1, name="head")))
    return numlstm.from_torch(state_dict | initial, network=network).weights


def test_sugar_creek_begins_in_its_state_and_answers_as_torch(
    runner: Runner, sugar_creek, state_dict
):
    modules = nn.ModuleDict({"lstm": nn.LSTM(11, 64), "head": nn.Linear(64, 1)})
    modules.load_state_dict(state_dict)
    first = tuple(
        torch.from_numpy(sugar_creek.tensors[f"layers.0.initial_{name}"])[None] for name in "hc"
    )
    xs = torch.randn(720, 11, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hs, (h, c) = modules["lstm"](xs, first)
        expected = modules["head"](hs).numpy()
    ys, states = runner.run(sugar_creek, xs.numpy())
    runner.hold("NOAA sugar creek", "head", ys, expected, STREAMED)
    runner.hold("NOAA sugar creek", "h", states["layers.0.h"], h[0].numpy(), STREAMED)
    runner.hold("NOAA sugar creek", "c", states["layers.0.c"], c[0].numpy(), TOLERANCES["c"])
    assert_streams(sugar_creek, xs.numpy())


def test_the_program_of_torchscript_has_the_tensors_of_the_state_dict(real, state_dict):
    layers = "lstm:LSTM head:Linear"
    found, expected = (
        numlstm.from_torch(source, layers=layers).weights.tensors
        for source in (real / "sugar_creek_trained.pt", state_dict)
    )
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert_same_bits(tensor, expected[name], name)


def test_a_state_that_is_set_is_the_state_it_began_in(sugar_creek, state_dict):
    stream = numlstm.from_torch(state_dict, layers="lstm:LSTM head:Linear").stream()
    initial = {n: sugar_creek.tensors[f"layers.0.initial_{n}"] for n in "hc"}
    stream.state = {f"layers.0.{name}": array for name, array in initial.items()}
    xs = np.random.default_rng(0).standard_normal((50, 11), np.float32)
    expected = numlstm.Model(sugar_creek).run(xs)
    TOLERANCES["output"].check(stream.run(xs), expected)
