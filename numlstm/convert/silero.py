"""Silero VAD by the names and shapes of its tensors -> `Weights`: its files have no other words.

1. A row is a chunk of 32 ms, and before it the end of the chunk before: 576 samples, or 288.
2. Its spectrum: four windows, each beginning half of one behind the one before. The last reads a
   quarter beyond the end, where the samples are mirrored; that is part of its own matrix.
3. Magnitudes, then four convolutions over the four frames, which leave one.
4. An LSTM from chunk to chunk, a ReLU, a sigmoid.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from numlstm.convert.assembly import Array, Assembly, Draft
from numlstm.spec import (
    LSTM,
    Activation,
    Add,
    Concat,
    FrameConv1d,
    Linear,
    Slice,
    Weights,
)

Tensors: TypeAlias = Mapping[str, NDArray[np.float32]]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

_WINDOWS = {256: 16000, 128: 8000}  # samples of a window, and how many there are in a second
_CONVOLUTIONS = ((128, 1), (64, 2), (64, 2), (128, 1))  # channels and strides
_SIZE = 128  # of the LSTM

# Inputs and outputs of its graphs that are told a rate: of version 5 and later, and before, when
# chunks of other sizes were read as well.
GRAPHS = (
    ({"input", "state", "sr"}, {"output", "stateN"}),
    ({"input", "h", "c", "sr"}, {"output", "hn", "cn"}),
)
CHUNKS_OF_4 = {16000: 512, 8000: 256}

# What its files call the modules: in ONNX and TorchScript, and in safetensors.
_SPELLINGS = (
    {
        "basis": "stft.forward_basis_buffer",
        "lstm": "decoder.rnn",
        "head": "decoder.decoder.2",
        **{f"conv{n}": f"encoder.{n}.reparam_conv" for n in range(4)},
    },
    {
        "basis": "stft_conv.weight",
        "lstm": "lstm_cell",
        "head": "final_conv",
        **{f"conv{n}": f"conv{n + 1}" for n in range(4)},
    },
)


def is_basis(shape: tuple[int, ...]) -> bool:
    """Tell whether a tensor is of the shape of what slides along the samples of a chunk."""
    return len(shape) == 3 and shape[1] == 1 and shape[2] in _WINDOWS


def rates(shapes: Shapes) -> dict[str, int]:
    """Return the networks that are among tensors: what their names begin with -> samples/s."""
    return {prefix: _WINDOWS[window] for prefix, window, _ in _found(shapes)}


def weights_of(tensors: Tensors, prefix: str) -> Weights:
    """Return the network whose names begin with a prefix that `rates` has."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    ((_, window, spelling),) = (found for found in _found(shapes) if found[0] == prefix)
    own = {name: tensors[f"{prefix}{theirs}"] for name, theirs in _names(spelling).items()}
    return _network(own, window)


def _found(shapes: Shapes) -> Iterator[tuple[str, int, Mapping[str, str]]]:
    """Yield prefix, window and spelling of every network all of whose tensors are there."""
    for spelling in _SPELLINGS:
        names = _names(spelling)
        for name, shape in shapes.items():
            if not name.endswith(spelling["basis"]) or shape[2:] not in {(w,) for w in _WINDOWS}:
                continue
            prefix = name.removesuffix(spelling["basis"])
            expected = _shapes(shape[2])
            if all(shapes.get(prefix + names[own]) == expected[own] for own in expected):
                yield prefix, shape[2], spelling


def _names(spelling: Mapping[str, str]) -> dict[str, str]:
    """Return what every tensor is called."""
    parts = {"basis": [""], "lstm": list(LSTM(1, 1).tensors())}
    return {
        f"{module}.{part}" if part else module: f"{theirs}.{part}" if part else theirs
        for module, theirs in spelling.items()
        for part in parts.get(module, ["weight", "bias"])
    }


def _shapes(window: int) -> dict[str, tuple[int, ...]]:
    num_bins = window // 2 + 1
    shapes: dict[str, tuple[int, ...]] = {"basis": (2 * num_bins, 1, window)}
    size = num_bins
    for n, (channels, _) in enumerate(_CONVOLUTIONS):
        shapes |= {f"conv{n}.weight": (channels, size, 3), f"conv{n}.bias": (channels,)}
        size = channels
    shapes |= {f"lstm.{name}": shape for name, shape in LSTM(size, _SIZE).tensors().items()}
    return shapes | {"head.weight": (1, _SIZE, 1), "head.bias": (1,)}


def _network(own: Tensors, window: int) -> Weights:
    assembly = Assembly()
    draft = _magnitudes(assembly, own["basis"][:, 0], window)
    inputs = window // 2 + 1
    for n, (channels, stride) in enumerate(_CONVOLUTIONS):
        layer = FrameConv1d(
            draft.layer.output_size, inputs, channels, 3,
            activation="relu", stride=stride, padding=(1, 1),
        )  # fmt: skip
        tensors = {"weight": own[f"conv{n}.weight"], "bias": own[f"conv{n}.bias"]}
        draft, inputs = assembly.grow(layer, [draft], tensors), channels
    cell = LSTM(draft.layer.output_size, _SIZE)
    draft = assembly.grow(cell, [draft], {name: own[f"lstm.{name}"] for name in cell.tensors()})
    draft = assembly.grow(Activation(_SIZE, "relu"), [draft])
    tensors = {"weight": own["head.weight"][:, :, 0], "bias": own["head.bias"]}
    draft = assembly.grow(Linear(_SIZE, 1, activation="sigmoid"), [draft], tensors)
    return Weights(*assembly.network(draft, 2 * window + window // 4))


def _magnitudes(assembly: Assembly, basis: Array, window: int) -> Draft:
    """Grow the magnitudes of four spectra of a row, end to end.

    basis   (2 num_bins, window), the real parts above the imaginary ones
    """
    num_bins, beyond = len(basis) // 2, window // 4
    row_size, end_size = 2 * window + beyond, window - beyond
    # Behind sample n there is n - 1: the last window reads them as well.
    mirror = np.eye(window, end_size, dtype=np.float32)
    mirror[end_size + np.arange(beyond), end_size - 2 - np.arange(beyond)] = 1
    last = basis @ mirror
    end = assembly.grow(Slice(row_size, row_size - end_size, row_size), [None], name="end")
    squares = []
    for part, rows in (("re", slice(num_bins)), ("im", slice(num_bins, None))):
        layer = FrameConv1d(row_size, 1, num_bins, window, False, stride=window // 2)
        frames = assembly.grow(layer, [None], {"weight": basis[rows, None]}, part)
        matrix = Linear(end_size, num_bins, False)
        at_end = assembly.grow(matrix, [end], {"weight": last[rows]}, f"{part}_end")
        four = assembly.grow(Concat(4 * num_bins), [frames, at_end])
        square = Activation(4 * num_bins, "square")
        squares.append(assembly.grow(square, [four], name=f"{part}_squared"))
    total = assembly.grow(Add(4 * num_bins, inputs=("", "")), squares)
    return assembly.grow(Activation(4 * num_bins, "sqrt"), [total])
