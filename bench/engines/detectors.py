"""Voice detectors: Silero VAD by each engine, from 16-bit samples at 16 kHz to probabilities.

An engine hears a whole sound, one as it arrives, and many of them as they arrive, in pieces.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import numlstm

RATE, CHUNK, CONTEXT = 16_000, 512, 64
PIECE = 320  # samples that arrive at once: 20 ms

Pcm = NDArray[np.int16]
Floats = NDArray[np.float32]


class Detector(Protocol):
    """What an engine is asked."""

    def whole(self, sound: Pcm) -> Floats:
        """Return the probabilities of a sound (T,)."""
        ...

    def live(self, sounds: Pcm) -> Floats:
        """Return those of sounds (S, T) that arrive together, (S, chunks)."""
        ...


class Numlstm:
    """The pipeline: segments are found as well."""

    def __init__(self, _: Path, num_calls: int) -> None:
        self._pipe = numlstm.pipeline("vad")

    def whole(self, sound: Pcm) -> Floats:
        return self._pipe((sound, RATE)).probabilities

    def live(self, sounds: Pcm) -> Floats:
        if len(sounds) == 1:
            stream = self._pipe.stream(RATE)
            for piece in pieces(sounds[0]):
                stream.feed(piece)
            return stream.probabilities[None]
        pool = self._pipe.pool(len(sounds), RATE)
        slots = [pool.open() for _ in sounds]
        for piece in pieces(sounds):
            pool.feed(slots, piece)
        return np.stack([pool.probabilities(slot) for slot in slots])


class OnnxRuntime:
    """The authors' file, a session for each call, one thread."""

    def __init__(self, folder: Path, num_calls: int) -> None:
        self._sessions = [session(folder / FILE) for _ in range(num_calls)]

    def whole(self, sound: Pcm) -> Floats:
        return self._follow(0, iter([sound]))

    def live(self, sounds: Pcm) -> Floats:
        return np.stack([self._follow(n, pieces(sound)) for n, sound in enumerate(sounds)])

    def _follow(self, n: int, arriving: Iterator[Pcm]) -> Floats:
        """Return the probabilities of one call, whose user keeps its state and its samples."""
        run = self._sessions[n].run
        state, rate = np.zeros((2, 1, 128), np.float32), np.array(RATE)
        rest = np.zeros(CONTEXT, np.float32)
        found = []
        for piece in arriving:
            rest = np.concatenate([rest, piece / np.float32(2**15)])
            at = 0
            while len(rest) - at >= CONTEXT + CHUNK:
                x = rest[None, at : at + CONTEXT + CHUNK]
                y, state = run(None, {"input": x, "state": state, "sr": rate})
                found.append(y[0, 0])
                at += CHUNK
            rest = rest[at:]
        return np.array(found)


class OnnxRuntimeTogether:
    """The authors' file for whole sounds; of calls that keep step with each other, one batch."""

    def __init__(self, folder: Path, num_calls: int) -> None:
        self._whole = session(folder / "silero_vad_16k_sequence.onnx")
        self._batch = session(folder / FILE)

    def whole(self, sound: Pcm) -> Floats:
        padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound / np.float32(2**15)])
        rows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + CHUNK)[::CHUNK]
        zeros = np.zeros((1, 1, 128), np.float32)
        feeds = {"input": np.ascontiguousarray(rows), "h": zeros, "c": zeros}
        found: Floats = self._whole.run(None, feeds)[0]
        return found

    def live(self, sounds: Pcm) -> Floats:
        state, rate = np.zeros((2, len(sounds), 128), np.float32), np.array(RATE)
        rest = np.zeros((len(sounds), CONTEXT), np.float32)
        found = []
        for piece in pieces(sounds):
            rest = np.concatenate([rest, piece / np.float32(2**15)], axis=1)
            if rest.shape[1] >= CONTEXT + CHUNK:
                x = np.ascontiguousarray(rest[:, : CONTEXT + CHUNK])
                y, state = self._batch.run(None, {"input": x, "state": state, "sr": rate})
                found.append(y[:, 0])
                rest = rest[:, CHUNK:]
        return np.stack(found, axis=1)


FILE = "silero_vad_op18_ifless.onnx"
ENGINES: dict[str, Callable[[Path, int], Detector]] = {
    "numlstm": Numlstm,
    "ONNX Runtime": OnnxRuntime,
    "ONNX Runtime, together": OnnxRuntimeTogether,
}


def pieces(sounds: Pcm) -> Iterator[Pcm]:
    """Yield pieces of sounds (..., T) as they arrive."""
    for at in range(0, sounds.shape[-1], PIECE):
        yield sounds[..., at : at + PIECE]


def session(path: Path) -> Any:
    """Return a session of one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
