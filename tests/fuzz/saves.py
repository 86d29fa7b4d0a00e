"""Saves that are killed, raced, and refused by a disk: at the path is the old file or the new one.

A case is a child, or two, that save to one path again and again until they are killed; sometimes a
limit of the size of files stands for a full disk, and sometimes a call of the system fails instead.
The bytes of the file are compared with those of whole ones.
"""

import errno
import os
import random
import resource
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import numlstm
from numlstm import Network, Weights, spec, storage
from numlstm.saving import saving
from tests.fuzz import Clock, Figures, Found

_CALLS = ("open", "fsync", "replace", "chmod", "fchown")
_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)


def run(clock: Clock, seed: int) -> Figures:
    """Kill saves while there is time."""
    chance = random.Random(seed)
    figures = Figures(saves_killed=0, saves_done=0, errors_injected=0, partials_left=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "model.safetensors"
        choices = [_weights(n) for n in range(4)]
        known, start = set(), time.perf_counter()
        for weights in choices:
            storage.save(weights, path)
            known.add(path.read_bytes())
        each = (time.perf_counter() - start) / len(choices)
        while clock.ticks():
            case = f"seed {seed}, case {figures['saves_killed']}"
            kind = chance.random()
            if kind < 0.1:
                _inject(path, choices, chance, known, case)
                figures["errors_injected"] += 1
            else:
                wait = 2 * each * chance.random()
                figures["saves_done"] += _kill(path, choices, chance, wait, full=kind > 0.9)
                figures["saves_killed"] += 1
                num_left = len(list(folder.glob(".*")))
                figures["partials_left"] += num_left
                if num_left > 4:
                    raise Found(f"{case}: partial files pile up: {list(folder.iterdir())}")
            if path.read_bytes() not in known:
                raise Found(f"{case}: {path} is neither old nor new")
            if chance.random() < 0.2:
                numlstm.load(path)
                storage.save(choices[0], path)
                if list(folder.iterdir()) != [path]:
                    raise Found(f"{case}: the next save leaves {list(folder.iterdir())}")
    return figures


def _weights(n: int) -> Weights:
    """Return a network of a size of its own, 10 to 300 KB."""
    size = (8, 40, 90, 130)[n]
    network = Network((spec.LSTM(size, size),))
    chance = np.random.default_rng(n)
    shapes = network.tensor_shapes()
    return Weights(network, {k: chance.standard_normal(s, np.float32) for k, s in shapes.items()})


def _kill(
    path: Path, choices: list[Weights], chance: random.Random, wait: float, full: bool
) -> int:
    """Kill a child that saves, and sometimes another one beside it; return how many they did."""
    children = []
    for _ in range(1 + (chance.random() < 0.3)):
        reads, writes = os.pipe()
        order = [chance.choice(choices) for _ in range(50)]
        limit = chance.randrange(300_000) if full else None
        pid = os.fork()
        if not pid:
            os.close(reads)
            _save_for_ever(path, order, writes, limit)
        os.close(writes)
        children.append((pid, reads))
    os.read(children[0][1], 1)  # it has begun
    time.sleep(wait)
    done = 1 - len(children)  # what each of them says first
    for pid, _ in children:
        os.kill(pid, signal.SIGKILL)
    for pid, reads in children:
        os.waitpid(pid, 0)
        while said := os.read(reads, 4096):
            done += len(said)
        os.close(reads)
    return max(done, 0)


def _save_for_ever(path: Path, order: list[Weights], writes: int, limit: int | None) -> None:
    """Be the child: begin, and say so with a byte; say each save with one more."""
    try:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        os.write(writes, b".")
        while True:
            for weights in order:
                try:
                    storage.save(weights, path)
                except OSError as error:
                    if limit is None or error.errno != errno.EFBIG:
                        raise
                else:
                    os.write(writes, b".")
    finally:
        os._exit(1)


def _inject(
    path: Path, choices: list[Weights], chance: random.Random, known: set[bytes], case: str
) -> None:
    """Fail one call of the system in a save, or one write in the middle of a file."""
    before = path.read_bytes()
    code, count = chance.choice(_CODES), chance.randrange(3)
    where = chance.choice((*_CALLS, "write"))
    error = OSError(code, os.strerror(code))
    if where == "write":
        cut = chance.randrange(len(before))
        try:
            with saving(path) as file:
                file.write(before[:cut])
                raise error
        except OSError as raised:
            _check(raised, path, case)
    else:
        owner: Any = Path if where in ("replace", "chmod") else os
        real = getattr(owner, where)

        def fail(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count -= 1
            if count < 0:
                raise error
            return real(*arguments, **options)

        setattr(owner, where, fail)
        try:
            storage.save(chance.choice(choices), path)
        except OSError as raised:
            _check(raised, path, case)
        finally:
            setattr(owner, where, real)
    if path.read_bytes() not in known:
        raise Found(f"{case}: after {where} failed, {path} is neither old nor new")


def _check(raised: OSError, path: Path, case: str) -> None:
    if str(path) not in str(raised):
        raise Found(f"{case}: the error does not name the path: {raised}")
