"""Exports of a policy for CartPole without velocities: states and a reset in, two answers out."""

from itertools import pairwise

import numpy as np
import pytest

import numlstm
from tests.cases import TOLERANCES, Tolerance
from tests.real.conftest import Runner

FOLDER = "recurrent_ppo"
VALUES = Tolerance(1e-4, 1e-6, "values up to 94 in float32")


@pytest.fixture
def expected(real):
    with np.load(real / "ref_300_steps.npz") as file:
        return {name: file[name] for name in file}


def segments(expected):
    """Yield the environments and steps between their resets."""
    for n in range(2):
        starts = np.flatnonzero(expected["episode_start"][:, n])
        for start, end in pairwise([*starts, len(expected["obs"])]):
            yield np.s_[start:end, n]


def log_prob_of(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("name", ["step_actor", "step_actor_critic"])
def test_the_recorded_trajectory(real, runner: Runner, expected, name):
    model = numlstm.from_onnx(real / f"{name}.onnx")
    has_critic = name == "step_actor_critic"
    assert model.inputs == ()
    assert model.outputs == ((("logits", 2), ("value", 1)) if has_critic else ())
    for steps in segments(expected):
        ys, _ = runner.run(model.weights, expected["obs"][steps])
        logits = ys[:, :2]
        assert (logits.argmax(1) == expected["action"][steps]).all()
        found, allowed = log_prob_of(logits), TOLERANCES["output"]
        runner.hold("recurrent PPO, ONNX", "log_prob", found, expected["log_prob"][steps], allowed)
        if has_critic:
            value = expected["value"][steps]
            runner.hold("recurrent PPO, ONNX", "value", ys[:, 2], value, VALUES)


def test_step_by_step_in_a_pool(real, expected):
    model = numlstm.from_onnx(real / "step_actor_critic.onnx")
    pool = model.pool(2)
    slots = [pool.open(), pool.open()]
    for t, obs in enumerate(expected["obs"]):
        for n in range(2):
            if expected["episode_start"][t, n]:
                pool.close(slots[n])
                slots[n] = pool.open()
        parts = model.by_name(pool.step(slots, obs))
        np.testing.assert_allclose(log_prob_of(parts["logits"]), expected["log_prob"][t], 0, 2e-5)
        np.testing.assert_allclose(parts["value"][:, 0], expected["value"][t], 1e-6, 1e-4)


def test_one_of_the_answers(real):
    model = numlstm.from_onnx(real / "step_actor_critic.onnx", outputs=["value"])
    assert (model.output_size, model.outputs) == (1, ())
