"""The zip that RecurrentPPO.save wrote of a policy for CartPole without velocities."""

from itertools import pairwise

import numpy as np

from tests.cases import TOLERANCES, Tolerance
from tests.lazy import Lazy
from tests.real.conftest import Runner

FOLDER = "recurrent_ppo"
sb3 = Lazy("numlstm.convert.torch.sb3")
VALUES = Tolerance(1e-4, 1e-6, "values up to 94 in float32")


def test_the_recorded_trajectory_is_that_of_the_networks_in_the_zip(real, runner: Runner):
    saved = sb3.convert(real / "ppo_lstm_cartpole_novel.zip")
    assert (saved.activation, saved.notes, saved.actions.sizes) == ("ReLU", (), (2,))
    with np.load(real / "ref_300_steps.npz") as file:
        expected = {name: file[name] for name in file}
    for n in range(2):
        starts = [*np.flatnonzero(expected["episode_start"][:, n]), len(expected["obs"])]
        logits, values = (
            np.concatenate(
                [
                    runner.run(weights, expected["obs"][start:end, n])[0]
                    for start, end in pairwise(starts)
                ]
            ).astype(np.float64)
            for weights in (saved.actor, saved.critic)
        )
        assert (logits.argmax(1) == expected["action"][:, n]).all()
        found = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        log_prob = expected["log_prob"][:, n]
        runner.hold("recurrent PPO", "log_prob", found, log_prob, TOLERANCES["output"])
        runner.hold("recurrent PPO", "value", values[:, 0], expected["value"][:, n], VALUES)
