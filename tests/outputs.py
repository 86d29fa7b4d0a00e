"""What the engine answers to fixed inputs, for tests that compare processes.

``python -m tests.outputs FILE.npz all|small`` writes every output and how they were computed;
``python -m tests.outputs FILE.npz all like OTHER.npz`` compares them with those of another CPU too.
"""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import numlstm
from numlstm import reference
from numlstm.kernels import addresses, cpu
from numlstm.network.functions import LARGEST
from numlstm.spec import (
    FUNCTIONS,
    GRU,
    LSTM,
    RNN,
    Activation,
    Embedding,
    Linear,
    Network,
    Weights,
)
from tests.cases import (
    CASES,
    NETWORKS,
    assert_same_bits,
    every_exponent,
    random_input,
    random_weights,
)

SMALL_STEPS = 20  # more than a block of 16 rows; plain Python takes milliseconds for each
NUM_STREAMS = 9  # tiles of 6, 4 and 2 rows, and a rest

PRECISIONS = (("float32",), ("bfloat16",), ("int8",), ("int8", "int8"))


# Cells over a number of units and inputs that fill no vector and no word.
ROUNDED = {
    f"{cell.__name__} {' '.join(precision)}": Network((cell(17, 23), Linear(23, 19))).with_dtype(
        *precision
    )
    for cell in (RNN, GRU, LSTM)
    for precision in PRECISIONS[1:]
}

# Sums that are longer than any block of them.
LONG = {
    f"long {' '.join(precision)}": Network((LSTM(600, 520), Linear(520, 33))).with_dtype(*precision)
    for precision in PRECISIONS
}


GENERATING = Network((Embedding(40, 8), LSTM(8, 17), Linear(17, 40)))
GENERATIONS = {
    "": {"top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.1},
    " likeliest": {"temperature": 0.0},
    " of all": {"temperature": 1.7},
}


def networks(which: str) -> dict[str, Network]:
    few = NETWORKS | ROUNDED
    if which == "small":
        return few
    return few | LONG | {case.id: case.network for case in CASES if case.num_layers == 1}


def of_pools(network: Network) -> np.ndarray:
    """Return what streams of a pool answer that are each a step behind the one before."""
    pool = numlstm.Model(random_weights(network)).pool(NUM_STREAMS)
    slots = [pool.open() for _ in range(NUM_STREAMS)]
    xs = random_input(network, SMALL_STEPS)
    rows = np.stack([np.roll(xs, n, axis=0) for n in range(NUM_STREAMS)], axis=1)
    return np.stack([pool.step(slots, row) for row in rows])


def of_functions() -> Iterator[tuple[str, np.ndarray]]:
    """Yield what each function makes of every exponent, where that is a normal number or zero."""
    xs = every_exponent(16)
    xs = xs[np.abs(xs) >= np.finfo(np.float32).tiny]
    for name in FUNCTIONS:
        with np.errstate(all="ignore"):
            exact = reference.apply(name, xs.astype(np.float64))
            fits = np.abs(exact) < LARGEST / 2
        model = numlstm.Model(Weights(Network((Activation(1, name),)), {}))
        yield name, model.run(xs[fits, None])


def outputs(which: str) -> dict[str, np.ndarray]:
    """Return the output of `run`, of steps, and the last state, of every network.

    Of all, those of pools, of functions and of more ways to generate as well.
    """
    results = {"how": np.array([addresses.COMPILED, *cpu.LEVEL.floats.tile])}
    for name, network in networks(which).items():
        model = numlstm.Model(random_weights(network))
        xs = random_input(network, SMALL_STEPS)
        stream = model.stream()
        results[f"{name} run"] = stream.run(xs)
        results |= {f"{name} {key}": value for key, value in stream.state.items()}
        stream.reset()
        results[f"{name} steps"] = np.stack([stream.step(x) for x in xs])
    model = numlstm.Model(random_weights(GENERATING))
    for name, options in GENERATIONS.items() if which == "all" else [("", GENERATIONS[""])]:
        results[f"generate{name}"] = model.stream().generate(0, SMALL_STEPS, seed=0, **options)
    if which == "all":
        results |= {f"{name} pool": of_pools(network) for name, network in networks(which).items()}
        results |= {f"function {name}": ys for name, ys in of_functions()}
    return results


def read(path: str | Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file}


def assert_same_outputs(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        if name != "how":
            assert_same_bits(found[name], expected[name], name)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s: %(message)s")
    found = outputs(sys.argv[2])
    np.savez(sys.argv[1], **found)
    if "like" in sys.argv:
        assert_same_outputs(found, read(sys.argv[-1]))
        print(f"{cpu.LEVEL.name}: the bits of {len(found) - 1} outputs are those of {sys.argv[-1]}")
