"""A guitar amplifier, sdatkinson/NeuralAmpModelerCore: an LSTM of 3 units, sample by sample."""

import json

import numpy as np

import numlstm
from numlstm import spec
from numlstm.spec import Network, Weights
from tests.cases import Tolerance

SAMPLES = Tolerance(1e-6, 0.0, "24000 samples of an output in [-1, 1], from float32 states")


def test_24000_samples_are_those_of_torch(real):
    document = json.loads((real / "lstm.nam").read_text())
    numbers = np.array(document["weights"], np.float32)
    size, rows = 3, 12
    both, bias, h, c, head, head_bias = np.split(numbers, np.cumsum([rows * 4, rows, 3, 3, 3]))
    both = both.reshape(rows, 1 + size)  # [weight_ih | weight_hh]
    tensors = {
        "layers.0.weight_ih": both[:, :1],
        "layers.0.weight_hh": both[:, 1:],
        "layers.0.bias_ih": bias,
        "layers.0.bias_hh": np.zeros_like(bias),
        "layers.1.weight": head.reshape(1, size),
        "layers.1.bias": head_bias,
    }
    network = Network((spec.LSTM(1, size), spec.Linear(size, 1)))
    model = numlstm.Model(Weights(network, tensors))
    stream = model.stream()
    for name, values in (("layers.0.h", h), ("layers.0.c", c)):
        # The file begins in a state of its own, which has no public way in.
        at, _ = model._program.state_names[name]
        stream._state[at : at + size] = values
    with np.load(real / "ref.npz") as file:
        xs, ys = file["x"], file["y"]
    twin = stream.copy()
    SAMPLES.check(stream.run(xs[:, None])[:, 0], ys, "run")
    SAMPLES.check([twin.step([x])[0] for x in xs[:2000]], ys[:2000], "steps")
