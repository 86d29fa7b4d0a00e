"""The JSON of a network, as ``--network`` and ``Network.from_json`` take it."""

import json
from pathlib import Path
from random import Random

import numpy as np

import numlstm
from numlstm import spec
from numlstm.budget import spending
from tests.fuzz import Found
from tests.fuzz._changes import change_bytes
from tests.fuzz._promises import check_model, refused
from tests.fuzz.readers.model import changed_network

_MAX_NUMBERS = 2**16


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    if random.random() < 0.1:
        return change_bytes(data, donor, random)
    return changed_network(json.loads(data), json.loads(donor), random).encode()


def read(data: bytes, folder: Path, random: Random) -> str:
    try:
        described = json.loads(data)
    except (ValueError, RecursionError):
        return "no JSON"
    try:
        with spending(len(data)):
            network = spec.Network.from_json(described)
            shapes = network.tensor_shapes()
            if sum(float(np.prod(s, dtype=float)) for s in shapes.values()) > _MAX_NUMBERS:
                return "large"
            generator = np.random.default_rng(random.getrandbits(32))
            drawn = {name: generator.normal(0, 0.5, shape) for name, shape in shapes.items()}
            tensors = {
                name: (np.abs(t) if name.endswith("running_var") else t).astype(np.float32)
                for name, t in drawn.items()
            }
            model = numlstm.Model(spec.Weights(network, tensors))
    except numlstm.WeightsError as error:
        return refused(error)
    if spec.Network.from_json(json.loads(json.dumps(network.to_json()))) != network:
        raise Found("a network is not what its own JSON gives")
    return check_model(model, random)
