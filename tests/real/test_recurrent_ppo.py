"""A policy for CartPole without velocities, trained and recorded with sb3-contrib."""

import numpy as np

from numlstm import policy


def test_the_recorded_trajectory_is_acted_again(real):
    actor = policy.from_sb3(real / "ppo_lstm_cartpole_novel.zip")
    assert actor.actions == policy.Discrete(2)
    with np.load(real / "ref_300_steps.npz") as file:
        steps = zip(file["obs"], file["episode_start"], strict=True)
        expected = file["action"]
    state, found = None, []
    for observation, start in steps:
        action, state = actor.predict(observation, state, start)
        found.append(action)
    np.testing.assert_array_equal(found, expected)
