"""Recurrent policies: what a robot or a game sees goes in, what it does comes out, step by step.

The words, and what they mean, are those of Stable-Baselines3 and sb3-contrib (`RecurrentPPO`).

    policy = RecurrentPolicy(model, Box([-1, -1], [1, 1]))
    action, state = policy.predict(observation, state, episode_start)
"""

from numlstm.policy.normalizing import normalized
from numlstm.policy.recurrent import RecurrentPolicy
from numlstm.policy.saved import from_sb3
from numlstm.policy.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space

__all__ = [
    "Box",
    "Discrete",
    "MultiBinary",
    "MultiDiscrete",
    "RecurrentPolicy",
    "Space",
    "from_sb3",
    "normalized",
]
