"""Saved states that are damaged, spliced, cut, or forged with the checksum that goes with them.

Each is refused with a ValueError, and the stream is as it was; or it is a state that a stream could
be in: step, run and a pool give the same bits from there, finite ones, or all of them refuse to. A
child process does it, on arrays beside pages that cannot be touched.
"""

import mmap
import signal
import struct
import zlib
from typing import Any

import numpy as np

import numlstm
from tests.cases import assert_same_bits, random_input, random_weights
from tests.fence import fences, in_child
from tests.fuzz import Clock, Figures, Found
from tests.fuzz.plans import KNOWN

HEADER = struct.Struct("<8s16sqQI")  # what `numlstm.run.saved` documents
OLD_HEADER = struct.Struct("<8s16sII")
NUMBERS = np.float32(
    [np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 1e-40, 1e30, -1e30, 3.4e38, 0.5, 16, 2**24, 1e9, -3]
)
COUNTS = np.array([-1, 0, 1, 2, 3, 4, 2**31, 2**40, 2**62 - 1, 2**62, 2**63 - 1, -(2**63)])
NUM_STEPS, BATCH = 5, 500
WORDS = "refused", "run", "overflowed"


def sealed(blob: bytes, body: bytes, num_steps: int) -> bytes:
    """Return a state of the model of another, with the size and checksum that go with it."""
    fields = *HEADER.unpack_from(blob)[:2], num_steps, len(body)
    return HEADER.pack(*fields, zlib.crc32(body, zlib.crc32(HEADER.pack(*fields, 0)))) + body


def forged(blobs: list[bytes], rng: np.random.Generator) -> bytes:
    """Return one of some states of a model, changed."""
    blob = blobs[rng.integers(len(blobs))]
    num_steps = HEADER.unpack_from(blob)[2]
    floats = np.frombuffer(blob[HEADER.size :], np.float32).copy()
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(floats.size))
        match rng.integers(8):
            case 0:
                floats[at] = NUMBERS[rng.integers(NUMBERS.size)]
            case 1:
                floats.view(np.uint32)[at] ^= np.uint32(1 << rng.integers(32))
            case 2:
                count = COUNTS[rng.integers(COUNTS.size)]
                place = floats[at // 16 * 16 :][:2]
                place[:] = np.array([count]).view(np.float32)[: place.size]
                if at < 16:
                    num_steps = int(count)
            case 3:
                size = int(rng.integers(1, 65))
                floats[at : at + size] = rng.normal(0, 10.0 ** rng.integers(-30, 39), 1)
            case 4:
                other = np.frombuffer(blobs[rng.integers(len(blobs))][HEADER.size :], np.float32)
                floats[at:] = np.resize(other, floats.size)[at:]
            case 5:
                floats = np.roll(floats, rng.integers(-16, 17))
            case 6:
                size = int(rng.integers(1, 65))
                floats = (
                    np.delete(floats, slice(at, at + size))
                    if at % 2
                    else np.append(floats, floats[:size])
                )
                floats = floats if floats.size else np.zeros(1, np.float32)
            case 7:
                floats.view(np.uint8)[:] = rng.permutation(floats.view(np.uint8))
    body = floats.tobytes()
    match rng.integers(10):
        case 0:  # the checksum of before
            return blob[: HEADER.size] + body
        case 1:
            return blob[: rng.integers(len(blob))]
        case 2:
            fields = b"numlstm1", blob[8:24], len(body) - 64, zlib.crc32(body[64:])
            return OLD_HEADER.pack(fields[0], fields[1], max(fields[2], 0), fields[3]) + body[64:]
        case 3:
            damaged = bytearray(sealed(blob, body, num_steps))
            damaged[rng.integers(HEADER.size)] ^= 1 << rng.integers(8)
            return bytes(damaged)
    return sealed(blob, body, num_steps)


class Ground:
    """Streams and a pool of one model, which go on from what is forged."""

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        network = KNOWN[name]
        self.model = numlstm.Model(random_weights(network))
        self.blobs = []
        for _ in range(3):
            stream = self.model.stream(**self._memory(rng))
            stream.run(random_input(network, int(rng.integers(20)), int(rng.integers(99))))
            self.blobs.append(stream.save_state())
        self.stream = stream
        self.pool = self.model.pool(2) if network.memory_size is None else None
        self.xs = random_input(network, NUM_STEPS)

    def _memory(self, rng: np.random.Generator) -> dict[str, Any]:
        network = self.model.network
        if network.memory_size is None:
            return {}
        num_rows = int(rng.integers(1, 5))
        memory = rng.normal(0, 1, (num_rows, network.memory_size)).astype(np.float32)
        if network.memory_vocab_size is None:
            return {"memory": memory}
        ids = rng.integers(0, network.memory_vocab_size, num_rows)
        return {"memory": memory, "memory_ids": ids}

    def take(self, blob: bytes) -> str:
        """Load a state and go on from it; return what became of it."""
        stream = self.stream
        before = stream.save_state()
        try:
            stream.load_state(blob)
        except ValueError as error:
            if not str(error).startswith("the state "):
                raise Found(f"refused, but with: {error}") from error
            if stream.save_state() != before:
                raise Found("refused, but the stream is not as before") from error
            return "refused"
        loaded = stream.save_state()
        answers = [self._steps(stream), self._steps(self._again(loaded))]
        stream.load_state(loaded)
        answers.append(self._run(stream))
        if self.pool is not None:
            answers.append(self._of_pool(loaded))
        first = answers[0]
        for other in answers[1:]:
            assert_same_bits(other, first)
        return "run" if len(first) == NUM_STEPS else "overflowed"

    def _again(self, blob: bytes) -> numlstm.Stream:
        twin = self.stream.copy()
        twin.load_state(blob)
        return twin

    def _steps(self, stream: numlstm.Stream) -> np.ndarray:
        """Return the answers up to a step that overflows, which must change nothing."""
        ys = np.zeros((NUM_STEPS, self.model.output_size), np.float32)
        for t, x in enumerate(self.xs):
            before = stream.save_state()
            try:
                ys[t] = stream.step(x)
            except ValueError:
                if stream.save_state() != before:
                    raise Found("a step that overflows changed the state") from None
                return ys[:t]
        if not np.isfinite(ys).all():
            raise Found("an answer is not finite")
        return ys

    def _run(self, stream: numlstm.Stream) -> np.ndarray:
        """Return the answers of the longest run that does not overflow."""
        for count in range(NUM_STEPS, 0, -1):
            try:
                return stream.run(self.xs[:count])
            except ValueError:
                continue
        return np.zeros((0, self.model.output_size), np.float32)

    def _of_pool(self, blob: bytes) -> np.ndarray:
        assert self.pool is not None
        slots = self.pool.open_many([blob, self.blobs[0]])
        ys = []
        try:
            for x in self.xs:
                try:
                    ys.append(self.pool.step(slots[:1], np.asarray(x)[None])[0])
                except ValueError:
                    break
        finally:
            for slot in slots:
                self.pool.close(slot)
        return np.array(ys, np.float32).reshape(-1, self.model.output_size)


def try_states(name: str, seed: int, clock: Clock) -> Figures:
    """Forge states of a network; raise a Found for one that does harm."""
    # What the child has done, and is at.
    shared = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), np.int64)

    def work() -> None:
        with fences(bool(seed % 2)):
            ground = Ground(name, np.random.default_rng(seed))
            for n in range(BATCH):
                if not clock.ticks():
                    break
                shared[-1] = n
                signal.alarm(60)
                blob = forged(ground.blobs, np.random.default_rng([seed, n]))
                shared[WORDS.index(ground.take(blob))] += 1

    if status := in_child(work):
        raise Found(f"{name}, seed {seed}, state {shared[-1]}: status {status}, as said above")
    for _ in range(shared[:3].sum()):
        clock.ticks()
    return Figures(
        states=int(shared[:3].sum()), **dict(zip(WORDS, shared[:3].tolist(), strict=True))
    )


def run(clock: Clock, seed: int) -> Figures:
    """Take networks at random, 500 states of each; the clock counts states."""
    rng = np.random.default_rng(seed)
    names, figures = sorted(KNOWN), Figures()
    while clock.ticks():
        name = names[rng.integers(len(names))]
        figures += try_states(name, int(rng.integers(2**31)), clock)
        figures["networks"] += 1
    return figures
