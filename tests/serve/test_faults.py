"""A server that is killed at any moment: every answer after it is that of an unbroken stream.

    python -m tests.serve.test_faults --kills 100 --store sqlite

does it more often, and says what was counted.
"""

import argparse
import asyncio
import json
import random
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm import LSTM, Linear, Network
from tests.cases import random_weights
from tests.conftest import PATIENCE
from tests.lazy import Lazy
from tests.serve.served import server
from tests.services import redis_server

websockets = Lazy("websockets")

NUM_CLIENTS = 8


class Load:
    """Clients that send a row at a time, and resume wherever they were cut off.

    counts   what happened: answers, resumptions, answers that were lost and given again
    """

    def __init__(self, model):
        self.model = model
        self.address = "127.0.0.1:1"  # where nobody listens
        self.is_over = False
        self.counts = Counter()

    async def client(self, seed):
        rows, stream = np.random.default_rng(seed), self.model.stream()
        token = None
        x = rows.standard_normal(3).astype(np.float32)
        while not self.is_over:
            resume = "" if token is None else f"&resume={token}"
            url = f"ws://{self.address}/v1/models/model/stream?numbered=1{resume}"
            try:
                async with websockets.connect(url) as session:
                    hello = json.loads(await session.recv())
                    assert "error" not in hello, hello
                    if token is not None:
                        self.counts["resumptions"] += 1
                        self.counts["given again"] += hello["num_steps"] - stream.num_steps
                    while not self.is_over:
                        at = stream.num_steps
                        await session.send(np.int64(at).tobytes() + x.tobytes())
                        answer = await session.recv()
                        assert isinstance(answer, bytes), answer
                        assert int.from_bytes(answer[:8], "little") == at + 1
                        if stream.step(x).tobytes() != answer[8:]:
                            self.counts["differences"] += 1
                        self.counts["answers"] += 1
                        token = hello["session"]  # a session without a step is not kept
                        x = rows.standard_normal(3).astype(np.float32)
            except (OSError, websockets.ConnectionClosed, websockets.InvalidMessage):
                await asyncio.sleep(0.02)

    async def kills(self, count, arguments):
        """Start the server again and again; kill all but the last one."""
        moments = random.Random(0)
        for n in range(count + 1):
            with server(*arguments) as (process, address):
                self.address = address
                await asyncio.sleep(moments.uniform(0.05, 0.6))
                if n == count:
                    self.is_over = True
                    await asyncio.sleep(0.2)
                else:
                    process.kill()
                    process.wait()

    async def run(self, count, arguments):
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for seed in range(NUM_CLIENTS):
                group.create_task(self.client(seed))
            group.create_task(self.kills(count, arguments))


def counted(kind, kills, folder):
    """Return what was counted of a server with a store that is killed so many times."""
    model = numlstm.Model(random_weights(Network((LSTM(3, 17), Linear(17, 5)))))
    model.save(folder / "model.safetensors")
    store = redis_server() if kind == "redis" else f"{kind}:{folder / kind}"
    load = Load(model)
    arguments = [str(folder / "model.safetensors"), "--durable", "--store", store]
    asyncio.run(load.run(kills, arguments))
    return load.counts


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_answers_after_a_kill_are_those_of_an_unbroken_stream(kind, tmp_path):
    counts = counted(kind, 4, tmp_path)
    assert counts["differences"] == 0
    assert counts["answers"] > 40
    assert counts["resumptions"] > NUM_CLIENTS


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--store", choices=("sqlite", "folder", "redis"), default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(dict(counted(options.store, options.kills, Path(name))))
