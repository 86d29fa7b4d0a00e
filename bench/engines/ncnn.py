"""ncnn: its recurrent layers, a file of text and one of weights, an extractor for each call."""

from pathlib import Path
from typing import Any

import ncnn
import numpy as np
from numpy.typing import NDArray

from bench.engines import Engine
from bench.engines.cases import Case, Floats

_FILES = {"float32": "model", "int8": "model.int8"}
_FLOAT32, _INT8 = b"\0\0\0\0", bytes.fromhex("384b0d00")  # what begins an array
_ORDERS = {"LSTM": (0, 1, 3, 2), "GRU": (0, 1, 2)}  # its gates i f o g, and r z n
_PARTS = {"LSTM": ("h", "c"), "GRU": ("h",)}


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Write the two files, in float32 and with int8 weights."""
    for dtype, name in _FILES.items():
        lines, weights = _network(case, tensors, is_int8=dtype == "int8")
        (folder / f"{name}.param").write_text("\n".join(lines) + "\n")
        (folder / f"{name}.bin").write_bytes(weights)


def _network(case: Case, tensors: dict[str, Floats], is_int8: bool) -> tuple[list[str], bytes]:
    """Return the text and the weights: x (T, I), the state (D, H) of each layer -> ys, theirs."""
    parts = () if case.is_anew else _PARTS[case.cell]
    lines, blobs = ["Input x 0 1 x0"], 1
    arrays: list[bytes] = []
    for n in range(case.num_layers):
        state = [f"{part}{n}" for part in parts]
        lines += [f"Input {name} 0 1 {name}" for name in state]
        ends = [f"x{n}", *state, f"x{n + 1}", *(f"next_{name}" for name in state)]
        blobs += 1 + 2 * len(state)
        size = tensors[f"layers.{n}.weight_ih"].size * case.num_directions
        options = f"0={case.hidden_size} 1={size} 2={2 * (case.num_directions - 1)}"
        if is_int8:
            options += " 8=2"
        count = 1 + len(state)
        lines.append(f"{case.cell} layer{n} {count} {count} {' '.join(ends)} {options}")
        arrays += _arrays(case, tensors, n, is_int8)
    return ["7767517", f"{len(lines)} {blobs}", *lines], b"".join(arrays)


def _arrays(case: Case, tensors: dict[str, Floats], n: int, is_int8: bool) -> list[bytes]:
    """Return the arrays of a layer as they follow each other."""

    def gates(name: str, suffix: str) -> list[Floats]:
        own = tensors[f"layers.{n}.{name}{suffix}"]
        found = np.split(own, len(_ORDERS[case.cell]))
        return [found[gate] for gate in _ORDERS[case.cell]]

    suffixes = ("", "_reverse")[: case.num_directions]
    w_ih, w_hh = (
        np.concatenate([np.concatenate(gates(name, suffix)) for suffix in suffixes])
        for name in ("weight_ih", "weight_hh")
    )
    bias = []
    for suffix in suffixes:
        of_x, of_h = gates("bias_ih", suffix), gates("bias_hh", suffix)
        bias += [a + b for a, b in zip(of_x, of_h, strict=True)]
        if case.cell == "GRU":
            bias[-1:] = [of_x[-1], of_h[-1]]  # r z, and the two of n
    of_int8 = [_rounded(matrix) for matrix in (w_ih, w_hh)] if is_int8 else []
    matrices: list[NDArray[Any]] = [matrix for matrix, _ in of_int8] or [w_ih, w_hh]
    scales = [one.tobytes() for _, one in of_int8]
    return [
        *(_array(one) for one in (matrices[0], np.concatenate(bias), matrices[1])),
        *scales,
    ]


def _rounded(rows: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Return rows in int8, and what each was multiplied with."""
    scales = (127 / np.abs(rows).max(axis=1)).astype(np.float32)
    return np.rint(rows * scales[:, None]).astype(np.int8), scales


def _array(array: NDArray[Any]) -> bytes:
    begin = _INT8 if array.dtype == np.int8 else _FLOAT32
    return begin + array.tobytes() + b"\0" * (-array.nbytes % 4)


class NCNN(Engine):
    """An extractor for each call; its matrices of the state are given to the next one."""

    dtype = "float32"

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        self.net = ncnn.Net()
        self.net.opt.num_threads = case.num_threads
        path = folder / _FILES[self.dtype]
        self.net.load_param(f"{path}.param")
        self.net.load_model(f"{path}.bin")
        self.last = f"x{case.num_layers}"
        parts = () if case.is_anew else _PARTS[case.cell]
        self.names = [f"{part}{n}" for n in range(case.num_layers) for part in parts]
        self.zeros = np.zeros((1, case.hidden_size), np.float32)
        self.state = [ncnn.Mat(self.zeros) for _ in self.names]
        self.matrix = ncnn.Mat(self.input.reshape(case.num_steps, -1))  # the same memory
        self.y: Any = None

    def step(self, x: Any, out: Floats) -> None:
        extractor = self.net.create_extractor()
        extractor.input("x0", self.matrix)
        for name, each in zip(self.names, self.state, strict=True):
            extractor.input(name, each)
        self.y = extractor.extract(self.last)[1]
        self.state = [extractor.extract(f"next_{name}")[1] for name in self.names]

    def output(self) -> Floats:
        y: Floats = np.array(self.y).reshape(self.case.output_shape)
        return y


class Int8(NCNN):
    """Weights of int8, inputs rounded to 8 bits at each step."""

    dtype = "int8"
