"""Models with random weights."""

import numpy as np

from numlstm import Model, Network
from numlstm.program.lower import Fold
from numlstm.spec import Layer, Weights


def random_model(*layers: Layer, fold: Fold = "auto") -> Model:
    """Return a model of the layers; its weights are small enough that no output saturates."""
    network = Network(layers)
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in network.tensor_shapes().items():
        limit = shape[-1] ** -0.5
        tensors[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return Model(Weights(network, tensors), fold)
