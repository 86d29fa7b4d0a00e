"""What the engine answers to fixed inputs, for tests that compare processes.

``python -m tests.outputs FILE.npz all|small`` writes every output and how they were computed.
"""

import logging
import sys

import numba
import numpy as np

import numlstm
from numlstm.kernels import cpu
from numlstm.spec import GRU, LSTM, RNN, Embedding, Linear, Network
from tests.cases import CASES, NETWORKS, random_input, random_weights

SMALL_STEPS = 20  # more than a block of 16 rows; plain Python takes milliseconds for each


# Cells over a number of units and inputs that fill no vector and no word.
ROUNDED = {
    f"{cell.__name__} {' '.join(precision)}": Network((cell(17, 23), Linear(23, 19))).with_dtype(
        *precision
    )
    for cell in (RNN, GRU, LSTM)
    for precision in (("bfloat16",), ("int8",), ("int8", "int8"))
}


GENERATING = Network((Embedding(40, 8), LSTM(8, 17), Linear(17, 40)))


def networks(which: str) -> dict[str, Network]:
    few = NETWORKS | ROUNDED
    if which == "small":
        return few
    return few | {case.id: case.network for case in CASES if case.num_layers == 1}


def outputs(which: str) -> dict[str, np.ndarray]:
    """Return the output of `run`, of steps, and the last state, of every network."""
    compiled = not numba.config.DISABLE_JIT
    results = {"how": np.array([compiled, *cpu.LEVEL.floats])}
    for name, network in networks(which).items():
        model = numlstm.Model(random_weights(network))
        xs = random_input(network, SMALL_STEPS)
        stream = model.stream()
        results[f"{name} run"] = stream.run(xs)
        results |= {f"{name} {key}": value for key, value in stream.state.items()}
        stream.reset()
        results[f"{name} steps"] = np.stack([stream.step(x) for x in xs])
    stream = numlstm.Model(random_weights(GENERATING)).stream()
    options = {"top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.1}
    results["generate"] = stream.generate(0, SMALL_STEPS, seed=0, **options)
    return results


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s: %(message)s")
    np.savez(sys.argv[1], **outputs(sys.argv[2]))
