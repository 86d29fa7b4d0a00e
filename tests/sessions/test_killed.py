"""A process that is killed between any two instructions has lost nothing that it acknowledged."""

import subprocess
import sys
import time

import numpy as np
import pytest

import numlstm
from numlstm import LSTM, Linear, Network
from numlstm.sessions import Sessions, open_store
from tests.cases import random_weights
from tests.services import redis_server

KEYS = [f"key {n}" for n in range(12)]
NUM_KILLS = 5

# Steps sessions by turns in a pool that has room for a third of them; says each answer once it has
# it. Begins at what the store has.
WORKER = """
import sys
import numpy as np
import numlstm
from numlstm.sessions import Sessions, open_store
model = numlstm.load(sys.argv[1])
sessions = Sessions(model, open_store(sys.argv[2]), capacity=4)
keys = sys.argv[3].split(",")
turn = 0
while True:
    some = [keys[(3 * turn + n) % len(keys)] for n in range(3)]
    turn += 1
    at = [sessions.num_steps(key) for key in some]
    xs = [np.random.default_rng(n).standard_normal(3).astype(np.float32) for n in at]
    ys = sessions.step(some, np.stack(xs), at=at, durable=True)
    for key, n, y in zip(some, at, ys):
        sys.stdout.write(f"{key}|{n}|{y.tobytes().hex()}\\n")
    sys.stdout.flush()
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "folder", "redis"])
def test_what_was_acknowledged_is_there_after_a_kill(kind, tmp_path):
    address = redis_server() if kind == "redis" else f"{kind}:{tmp_path / kind}"
    model = numlstm.Model(random_weights(Network((LSTM(3, 9), Linear(9, 2))), len(kind)))
    model.save(tmp_path / "model.safetensors")
    random = np.random.default_rng(0)
    said: dict[str, int] = dict.fromkeys(KEYS, 0)
    streams = {key: model.stream() for key in KEYS}
    repeated = answers = 0
    for _ in range(NUM_KILLS):
        arguments = [str(tmp_path / "model.safetensors"), address, ",".join(KEYS)]
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(random.uniform(0.0, 0.2))
        process.kill()
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        for line in lines:
            if not line.endswith("\n"):
                continue  # half a line: it was not said
            key, at, found = line.strip().split("|")
            assert int(at) >= said[key], "a step was taken twice that was acknowledged"
            while said[key] < int(at):  # acknowledged to nobody, and taken
                streams[key].step(row(said[key]))
                said[key] += 1
                repeated += 1
            assert streams[key].step(row(int(at))).tobytes().hex() == found
            said[key] += 1
            answers += 1
        sessions = Sessions(model, open_store(address), capacity=4)
        assert all(sessions.num_steps(key) >= said[key] for key in KEYS)
    assert answers > 10 * NUM_KILLS
    assert repeated < answers


def row(n):
    return np.random.default_rng(n).standard_normal(3).astype(np.float32)
