"""Write the voice detector: the networks of Silero VAD, whose authors trained them.

Run it with the folder of silero_vad_op18_ifless.onnx, which is in silero_vad/data of the package
silero-vad 6.2.3:

    python weights/recipes/vad.py --data DIR --out weights/vad.safetensors

Nothing is trained and nothing is rounded. The file has two networks, for sound at 16 and at 8 kHz.
Their tensors are found by name; what the graph does with them is written down in `network`.

1. A row is a chunk of 32 ms, and before it the end of the chunk before: 576 samples, or 288.
2. Its spectrum: four windows, each half as long again as the next begins later. The last one reads
   a quarter beyond the end, where the graph mirrors the samples; that is part of its own matrix.
3. Magnitudes, then four convolutions over the four frames, which leave one.
4. An LSTM from chunk to chunk, a ReLU, a sigmoid.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.numpy_helper import to_array

import numlstm
from numlstm import LSTM, Activation, Add, Concat, FrameConv1d, Linear, Network, Slice, Weights
from numlstm.spec import Layer

FILE = "silero_vad_op18_ifless.onnx"
PREFIXES = {"16000": "model.", "8000": "model_8k."}  # of the names of their tensors
CHANNELS = (128, 64, 64, 128)  # of the convolutions
STRIDES = (1, 2, 2, 1)

Tensors = Mapping[str, NDArray[np.float32]]


class Chain:
    """Layers in forward order, with their tensors."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.tensors: dict[str, NDArray[np.float32]] = {}

    def add(self, layer: Layer, **tensors: NDArray[np.float32]) -> None:
        for name, tensor in tensors.items():
            self.tensors[f"layers.{len(self.layers)}.{name}"] = np.ascontiguousarray(tensor)
        self.layers.append(layer)

    def weights(self) -> Weights:
        return Weights(Network(tuple(self.layers)), self.tensors)


def network(tensors: Tensors) -> Weights:
    """Return one of the networks.

    tensors   as the authors name them: ``stft.forward_basis_buffer`` (2 bins, 1, window), the real
              parts above the imaginary ones; ``encoder.{n}.reparam_conv``, ``decoder.rnn``,
              ``decoder.decoder.2``
    """
    chain = Chain()
    basis = tensors["stft.forward_basis_buffer"][:, 0]
    size = _add_magnitudes(chain, basis)
    for n, (channels, stride) in enumerate(zip(CHANNELS, STRIDES, strict=True)):
        weight, bias = (tensors[f"encoder.{n}.reparam_conv.{name}"] for name in ("weight", "bias"))
        layer = FrameConv1d(
            size, weight.shape[1], channels, 3,
            activation="relu", stride=stride, padding=(1, 1),
        )  # fmt: skip
        chain.add(layer, weight=weight, bias=bias)
        size = layer.output_size
    cell = LSTM(size, 128)
    chain.add(cell, **{name: tensors[f"decoder.rnn.{name}"] for name in cell.tensors()})
    chain.add(Activation(128, "relu"))
    last = {name: tensors[f"decoder.decoder.2.{name}"] for name in ("weight", "bias")}
    chain.add(
        Linear(128, 1, activation="sigmoid"), weight=last["weight"][:, :, 0], bias=last["bias"]
    )
    return chain.weights()


def _add_magnitudes(chain: Chain, basis: NDArray[np.float32]) -> int:
    """Add four spectra of a row, end to end; return how many numbers they have together."""
    num_bins, window = len(basis) // 2, basis.shape[1]
    hop, beyond = window // 2, window // 4
    row_size = 2 * window + beyond
    # Behind sample n there is n - 1: the last window reads them as well.
    mirror = np.eye(window, window - beyond, dtype=np.float32)
    for n in range(beyond):
        mirror[window - beyond + n, window - beyond - 2 - n] = 1
    last = basis @ mirror
    chain.add(Slice(row_size, row_size - window + beyond, row_size, name="end"))
    for part, rows in (("re", slice(num_bins)), ("im", slice(num_bins, None))):
        convolution = FrameConv1d(
            row_size, 1, num_bins, window, False, stride=hop, inputs=("input",), name=part
        )
        chain.add(convolution, weight=basis[rows, None])
        matrix = Linear(window - beyond, num_bins, False, inputs=("end",), name=f"{part}_end")
        chain.add(matrix, weight=last[rows])
        chain.add(Concat(4 * num_bins, inputs=(part, matrix.name)))
        chain.add(Activation(4 * num_bins, "square", name=f"{part}_squared"))
    chain.add(Add(4 * num_bins, inputs=("re_squared", "im_squared")))
    chain.add(Activation(4 * num_bins, "sqrt"))
    return 4 * num_bins


def read(path: Path) -> dict[str, Weights]:
    """Return the networks of the authors' file, by their rates."""
    found = {tensor.name: to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    return {
        rate: network({n.removeprefix(prefix): t for n, t in found.items() if n.startswith(prefix)})
        for rate, prefix in PREFIXES.items()
    }


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
