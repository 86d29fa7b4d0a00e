"""Write the voice detector: the networks of Silero VAD, whose authors trained them.

Run it with the folder of silero_vad_op18_ifless.onnx, which is in silero_vad/data of the package
silero-vad 6.2.3:

    python weights/recipes/vad.py --data DIR --out weights/vad.safetensors

Nothing is trained and nothing is rounded. The file has two networks, for sound at 16 and at 8 kHz;
`numlstm.convert.silero` says what they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
from onnx.numpy_helper import to_array

import numlstm
from numlstm.convert.silero import rates, weights_of

FILE = "silero_vad_op18_ifless.onnx"


def read(path: Path) -> dict[str, numlstm.Weights]:
    """Return the networks of the authors' file, by their rates."""
    tensors = {tensor.name: to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    found = rates({name: tensor.shape for name, tensor in tensors.items()})
    return {str(rate): weights_of(tensors, prefix) for prefix, rate in found.items()}


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description="Write the voice detector.")
    parser.add_argument("--data", type=Path, required=True, help=f"folder of {FILE}")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    parts = {rate: numlstm.Model(weights) for rate, weights in read(args.data / FILE).items()}
    numlstm.save_parts(parts, args.out)


if __name__ == "__main__":
    main()
