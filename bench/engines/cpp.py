"""C++ with its sizes known when it is compiled: the floor of small networks, without any call."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines import Call, Engine
from bench.engines.cases import Case, Floats, Inputs

_SOURCE = Path(__file__).with_name("lstm.cpp")
_LIBRARY, _WEIGHTS = "lstm.so", "lstm.npz"
_TOGETHER_US = 200  # of one call: what `ctypes` takes is no part of it
_POINTER = ctypes.POINTER(ctypes.c_float)


def _target() -> list[str]:
    """Return the flags of the CPU that numlstm's kernels are for."""
    from numlstm.kernels.cpu import LEVEL

    if LEVEL.machine != "x86_64":
        return ["-mcpu=native"]
    flags = [f"-march={LEVEL.cpu}"]
    return [*flags, "-mprefer-vector-width=512"] if LEVEL.vectors == "AVX-512" else flags


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Compile the case, and write its weights and biases as the code reads them."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    assert compiler
    size = case.hidden_size
    options = ["-O3", "-ffast-math", *_target(), f"-DI={size}", f"-DH={size}"]
    files = ["-o", str(folder / _LIBRARY), str(_SOURCE)]
    subprocess.run([compiler, *options, "-shared", "-fPIC", *files], check=True)
    lanes = ctypes.CDLL(str(folder / _LIBRARY)).lanes()
    weights = np.hstack([tensors["layers.0.weight_ih"], tensors["layers.0.weight_hh"]])
    bias = tensors["layers.0.bias_ih"] + tensors["layers.0.bias_hh"]
    np.savez(
        folder / _WEIGHTS,
        weights=_in_panels(weights, lanes).transpose(1, 3, 0, 2),
        bias=_in_panels(bias[:, None], lanes).transpose(1, 3, 0, 2),
    )


def _in_panels(rows: Floats, lanes: int) -> Floats:
    """Return rows (4H, K) as (4, panel, lane, K), those of missing units 0."""
    gates = rows.reshape(4, -1, rows.shape[1])
    missing = -gates.shape[1] % lanes
    padded = np.pad(gates, ((0, 0), (0, missing), (0, 0)))
    return padded.reshape(4, -1, lanes, rows.shape[1])


def _aligned(array: Floats) -> Floats:
    """Return a flat copy that begins at 64 bytes: loads that cross a line cost twice."""
    room = np.empty(array.size + 15, np.float32)
    copy = room[-room.ctypes.data // 4 % 16 :][: array.size]
    copy[:] = array.reshape(-1)
    return copy


class Cpp(Engine):
    """Steps in a loop of C++, whose time is that of the loop over their number."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        library = ctypes.CDLL(str(folder / _LIBRARY))
        with np.load(folder / _WEIGHTS) as arrays:
            self.arrays = [_aligned(arrays[name]) for name in ("weights", "bias")]
        units = -(-case.hidden_size // library.lanes()) * library.lanes()
        self.arrays.append(_aligned(np.zeros(2 * units, np.float32)))
        self._run = library.run
        self._run.argtypes = [_POINTER] * 5 + [ctypes.c_int] * 3
        self._run.restype = None
        ends = (*self.arrays, self.input, self.out)
        self._addresses = [array.ctypes.data_as(_POINTER) for array in ends]

    def step(self, x: Any, out: Floats) -> None:
        self._repeat(1)

    def _repeat(self, count: int) -> None:
        self._run(*self._addresses, self.case.num_steps, count, self.case.is_anew)

    def output(self) -> Floats:
        return self.out.copy()

    def calls(self, xs: Inputs) -> dict[str, Call]:
        us = self.case.flops / 1e5  # at 100 GFLOP/s
        count = max(1, int(_TOGETHER_US / us))
        return {self.case.task: Call(lambda x, out: self._repeat(count), self.x, self.out, count)}
