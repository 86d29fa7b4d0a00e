"""Write the voice detector: the networks of Silero VAD, whose authors trained them.

Run it with the folder of silero_vad_op18_ifless.onnx, which is in silero_vad/data of the package
silero-vad 6.2.3:

    python weights/recipes/vad.py --data DIR --out weights/vad.safetensors

Nothing is trained and nothing is rounded. The file has two networks, for sound at 16 and at 8 kHz;
`numlstm.convert.silero` says what they are.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import numlstm
from numlstm.convert.probes import make_probes
from numlstm.convert.silero import rates, weights_of

FILE = "silero_vad_op18_ifless.onnx"


def read(path: Path) -> dict[str, numlstm.Weights]:
    """Return the networks of the authors' file, by their rates."""
    import onnx  # a test of what this reads is collected without it
    from onnx.numpy_helper import to_array

    tensors = {tensor.name: to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    found = rates({name: tensor.shape for name, tensor in tensors.items()})
    return {str(rate): weights_of(tensors, prefix) for prefix, rate in found.items()}


def answers(path: Path, rate: str, xs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities (T, 1) of rows (T, 576) or (T, 288), by the authors' own file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    state, ys = np.zeros((2, 1, 128), np.float32), []
    for x in xs:
        y, state = session.run(None, {"input": x[None], "state": state, "sr": np.array(int(rate))})
        ys.append(y[0])
    return np.array(ys, np.float32)


def with_probes(weights: numlstm.Weights, path: Path, rate: str) -> numlstm.Weights:
    """Return a network with the authors' answers to random samples."""
    run = partial(answers, path, rate)
    probes = make_probes(weights.network, weights.tensors, run)
    return replace(weights, probes=probes, origin="silero-vad 6.2.3, answered by onnxruntime")


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description="Write the voice detector.")
    parser.add_argument("--data", type=Path, required=True, help=f"folder of {FILE}")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    path = args.data / FILE
    parts = {
        rate: numlstm.Model(with_probes(weights, path, rate))
        for rate, weights in read(path).items()
    }
    numlstm.save_parts(parts, args.out)


if __name__ == "__main__":
    main()
