"""The engines: each loads its own file of the same weights, and takes steps.

A module here imports its library at the top. The parent imports it to write the file, and the
process of the engine to load it; no process of an engine imports another engine.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.engines.cases import Case, Floats, Inputs

TASKS = ("step", "paced", "sequence", "pool", "generate")
_NUM_TOKENS = 64  # of one call of `generate`
_FROM = 128  # units, where peers of fewer bits begin: below, no one would round for speed

# How tokens are sampled: of the TOP_K likeliest, by their probabilities.
TEMPERATURE = 0.8
TOP_K = 40


@dataclass(frozen=True)
class Call:
    """Something to time: ``function(x, out)``.

    count     how often one call does what it is named after; times are divided by it
    answers   whether ``out`` then holds the outputs of the whole input, to be checked
    """

    function: Callable[[Any, Any], Any]
    x: Any
    out: Any
    count: int = 1
    answers: bool = False


class Engine(ABC):
    """A network that takes steps, its state carried from call to call as a user has to.

    Attributes
    ----------
    input : float32 (T, S, I), or int64 (T, S)
        The next input; the caller fills it.
    x : Any
        The same memory in the engine's own form.
    out : float32 (T, S, O)
        Where the engine writes its output, if it can be told where.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.input: Inputs = np.zeros(case.input_shape, np.int64 if case.vocab_size else np.float32)
        self.out: Floats = np.zeros(case.output_shape, np.float32)
        self.x: Any = self.input
        self._rng = np.random.default_rng(0)

    @abstractmethod
    def step(self, x: Any, out: Floats) -> Any:
        """Do what the task asks for once, as fast as the engine's interface allows."""

    @abstractmethod
    def output(self) -> Floats:
        """Return the output of the last step, of as many numbers as `out`."""

    def calls(self, xs: Inputs) -> dict[str, Call]:
        """Return what is timed; the task is among it. xs (N, T, S, I): inputs of N calls."""
        if self.case.task == "generate":
            ids = np.zeros(_NUM_TOKENS, np.int32)
            return {"generate": Call(self.generate, self.x, ids, _NUM_TOKENS)}
        return {self.case.task: Call(self.step, self.x, self.out)}

    def generate(self, x: Any, ids: Any) -> None:
        """Fill ids (N,) with samples, each the next input."""
        for n in range(len(ids)):
            self.step(x, self.out)
            ids[n] = self.input[...] = _sample(self.output().reshape(-1), self._rng)

    def facts(self) -> dict[str, int]:
        """Return numbers that go with the results."""
        return {}


def _sample(logits: Floats, rng: np.random.Generator) -> Any:
    """Return a token id as one draws it with NumPy. logits (V,)."""
    top = np.argpartition(logits, -TOP_K)[-TOP_K:]
    chosen = logits[top]
    weights = np.exp((chosen - chosen.max()) / TEMPERATURE)
    sums = np.cumsum(weights)
    return top[np.searchsorted(sums, rng.random() * sums[-1])]


@dataclass(frozen=True)
class Peer:
    """An engine by name, without importing it.

    label      what tables and plots call it; {cell} is LSTM or GRU
    packages   what must be installed, the engine's own first
    programs   of which one must be found
    cells      what it has in this dtype
    tokens     True if it is measured with networks of tokens too, "only" if with no others
    is_single  whether it is measured with one layer in one direction alone
    """

    label: str
    module: str
    engine: str
    packages: tuple[str, ...]
    dtype: str = "float32"
    tasks: tuple[str, ...] = TASKS
    cells: tuple[str, ...] = ("LSTM", "GRU")
    tokens: bool | Literal["only"] = True
    is_single: bool = False
    programs: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        return self.packages[0] == "numlstm"

    def save(self, case: Case, tensors: dict[str, Floats], folder: Path) -> None:
        """Write the engine's own file of the weights."""
        import_module(self.module).save(case, tensors, folder)

    def load(self, case: Case, folder: Path) -> Engine:
        """Return the engine, ready to take its first step."""
        engine: Engine = getattr(import_module(self.module), self.engine)(case, folder)
        return engine

    def missing(self) -> str:
        """Return why the engine cannot be measured here, or nothing."""
        for package in self.packages:
            try:
                import_module(package)
            except ImportError as error:
                return f"{package} is not installed ({error})"
        if self.programs and not any(map(shutil.which, self.programs)):
            return f"there is no {' and no '.join(self.programs)}"
        return ""

    def takes(self, case: Case) -> bool:
        """Return whether a case is measured with this engine."""
        if not case.vocab_size:
            rounded = self.dtype != "float32" and not self.is_own
            fits = self.tokens != "only" and (case.hidden_size >= _FROM or not rounded)
        else:
            fits = bool(self.tokens)
        if self.is_single and (case.num_layers > 1 or case.num_directions > 1):
            return False
        return fits and case.task in self.tasks and case.cell in self.cells


_NUMLSTM = partial(Peer, module="bench.engines.numlstm", packages=("numlstm",))
_ONNXRUNTIME = partial(Peer, module="bench.engines.onnxruntime", packages=("onnxruntime", "onnx"))
_OPENVINO = partial(Peer, module="bench.engines.openvino", packages=("openvino", "onnx"))
_TORCH = partial(Peer, module="bench.engines.torch", packages=("torch",))
# Those of devices: measured with vectors alone.
_LITERT = partial(
    Peer,
    module="bench.engines.litert",
    packages=("ai_edge_litert.interpreter", "flatbuffers"),
    tasks=("step", "paced", "sequence", "pool"),
    tokens=False,
)
_MNN = partial(
    Peer,
    module="bench.engines.mnn",
    packages=("MNN", "onnx"),
    tasks=("step", "paced", "sequence", "pool"),
    tokens=False,
)
_NCNN = partial(
    Peer,
    module="bench.engines.ncnn",
    packages=("ncnn",),
    tasks=("step", "paced", "sequence"),
    tokens=False,
)

# In the order of the tables.
PEERS = {
    "numlstm": _NUMLSTM("numlstm", engine="NumLSTM"),
    "numlstm_unfolded": _NUMLSTM(
        "numlstm, unfolded", engine="Unfolded", tasks=("step",), tokens="only"
    ),
    "numlstm_bfloat16": _NUMLSTM("numlstm bfloat16", engine="Bfloat16", dtype="bfloat16"),
    "numlstm_int8": _NUMLSTM("numlstm int8", engine="Int8", dtype="int8"),
    "numlstm_int8_int8": _NUMLSTM(
        "numlstm int8, activations int8",
        engine="Int8Activations",
        dtype="int8",
        tasks=("step", "sequence", "pool"),
        tokens=False,
    ),
    "onnxruntime_binding": _ONNXRUNTIME("ONNX Runtime, I/O binding", engine="Binding"),
    "onnxruntime_run": _ONNXRUNTIME(
        "ONNX Runtime, run", engine="Run", tasks=("step",), tokens=False
    ),
    "onnxruntime_int8": _ONNXRUNTIME(
        "ONNX Runtime int8",
        module="bench.engines.onnxruntime_int8",
        engine="Int8",
        dtype="int8",
        cells=("LSTM",),
    ),
    "openvino": _OPENVINO("OpenVINO", engine="OpenVINO"),
    "openvino_bfloat16": _OPENVINO("OpenVINO bfloat16", engine="Bfloat16", dtype="bfloat16"),
    "litert": _LITERT("LiteRT", engine="LiteRT"),
    "litert_int8": _LITERT("LiteRT int8", engine="Int8", dtype="int8"),
    "mnn": _MNN("MNN", engine="MNN"),
    "mnn_int8": _MNN("MNN int8", engine="Int8", dtype="int8", tasks=("step", "paced", "pool")),
    "ncnn": _NCNN("ncnn", engine="NCNN"),
    "ncnn_int8": _NCNN("ncnn int8", engine="Int8", dtype="int8"),
    "torch_module": _TORCH("PyTorch nn.{cell}", engine="Module"),
    "torch_cell": _TORCH("PyTorch {cell}Cell", engine="Cells", tasks=("step",), tokens=False),
    "torch_int8": _TORCH("PyTorch nn.{cell} int8", engine="Int8", dtype="int8"),
    "numpy": Peer(
        "NumPy", "bench.engines.numpy", "NumPy", ("numpy",), tasks=("step", "paced"), tokens=False
    ),
    "cpp": Peer(
        "C++, sizes known",
        "bench.engines.cpp",
        "Cpp",
        ("numpy",),
        programs=("g++", "clang++"),
        tasks=("step", "sequence"),
        cells=("LSTM",),
        tokens=False,
        is_single=True,
    ),
}

# What no engine of the table has, told below it.
ABSENT = (
    "ONNX Runtime has no int8 GRU: its dynamic quantisation knows the operator LSTM alone",
    "OpenVINO has no int8 LSTM or GRU without calibration on data: dynamic quantisation is for "
    "its fully connected layers, and its recurrent operators read float32 or bfloat16 weights",
    "MNN has no int8 over a sequence: of its two ways the one that is right there rounds nothing; "
    "ncnn has no batch of streams",
)


def label_of(name: str, cell: str) -> str:
    """Return what tables and plots call an engine."""
    return PEERS[name].label.format(cell=cell)
