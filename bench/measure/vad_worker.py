"""The process of one voice detector: ``python -m bench.measure.vad_worker JSON``.

It answers each line on its standard input, the JSON of a request, with one on its standard output:
``{"case": NAME, "num_calls": N, "folder": PATH}`` with the probabilities of the first call, and
with ``"seconds"`` the milliseconds of CPU of each of some runs, for a second of sound of a call.
"""

import json
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from bench.measure import level

# Before NumPy and the engine count the cores and ask for their instructions.
if __name__ == "__main__":
    _request = json.loads(sys.argv[1])
    if _request["cores"]:
        os.sched_setaffinity(0, _request["cores"])
    level.hide(_request["hidden"])

import numpy as np

from bench.engines.detectors import CHUNK, ENGINES, RATE, Pcm
from numlstm.tasks.audio.sound import open_sound
from weights.scores.card import WEIGHTS

NUM_CHUNKS = 93  # 3 s, whole chunks


def sounds(num_calls: int) -> Pcm:
    """Return digits (N, T), of each call from another place on; every sample twice, for 16 kHz."""
    with open_sound(WEIGHTS / "digits.wav") as (rate, blocks):
        assert 2 * rate == RATE
        samples = np.repeat(np.concatenate(list(blocks))[:, 0], 2) * np.float32(2**15 - 1)
    turned = [np.roll(samples, 137 * n)[: NUM_CHUNKS * CHUNK] for n in range(num_calls)]
    return np.stack(turned).astype(np.int16)


def cpu_ms(run: Any, seconds: float) -> list[float]:
    """Return the milliseconds of CPU of three runs or more, after one that warms up."""
    run()
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(times) < 3:
        began = time.process_time_ns()
        run()
        times.append((time.process_time_ns() - began) / 1e6)
    return times


def main() -> None:
    """Answer requests until there are no more."""
    engine = json.loads(sys.argv[1])["name"]
    make = cache(lambda folder, num_calls: ENGINES[engine](Path(folder), num_calls))
    for line in sys.stdin:
        request = json.loads(line)
        num_calls = request["num_calls"]
        detector, heard = make(request["folder"], num_calls), sounds(num_calls)

        def run(detector: Any = detector, heard: Pcm = heard, case: str = request["case"]) -> Any:
            return detector.whole(heard[0])[None] if case == "whole" else detector.live(heard)

        if "seconds" in request:
            duration = num_calls * NUM_CHUNKS * CHUNK / RATE
            found: Any = [ms / duration for ms in cpu_ms(run, request["seconds"])]
        else:
            found = run()[[0, -1]].tolist()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
