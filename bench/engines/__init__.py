"""The engines: each loads its own file of the same weights, and takes steps.

A module here imports its library at the top. The parent imports it to write the file, and the
process of the engine to load it; no process of an engine imports another engine.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import Case, Floats
from bench.clock import Call


class Engine(ABC):
    """A network that takes steps, its state carried from step to step as a user has to.

    Attributes
    ----------
    input : float32 (I,)
        The next input; the caller fills it.
    x : Any
        The same memory in the engine's own form.
    out : float32 (O,)
        Where the engine writes its output, if it can be told where.
    """

    def __init__(self, case: Case) -> None:
        self.input = np.zeros(case.input_size, np.float32)
        self.out = np.zeros(case.hidden_size, np.float32)
        self.x: Any = self.input

    @abstractmethod
    def step(self, x: Any, out: Floats) -> Any:
        """Take one step, as fast as the engine's interface allows."""

    @abstractmethod
    def output(self) -> Floats:
        """Return the output of the last step (O,)."""

    def calls(self, xs: Floats) -> dict[str, Call]:
        """Return what is timed. xs (T, I): the inputs of calls with many steps."""
        return {"step": Call(self.step, self.x, self.out)}

    def facts(self) -> dict[str, int]:
        """Return numbers that go with the results."""
        return {}


@dataclass(frozen=True)
class Peer:
    """An engine by name, without importing it.

    label      what tables and plots call it; {cell} is LSTM or GRU
    packages   what must be installed
    """

    label: str
    module: str
    engine: str
    packages: tuple[str, ...]

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
        return ""


# In the order of the tables.
PEERS = {
    "numlstm": Peer("numlstm", "bench.engines.numlstm", "NumLSTM", ("numlstm",)),
    "onnxruntime_binding": Peer(
        "ONNX Runtime, I/O binding",
        "bench.engines.onnxruntime",
        "Binding",
        ("onnxruntime", "onnx"),
    ),
    "onnxruntime_run": Peer(
        "ONNX Runtime, run", "bench.engines.onnxruntime", "Run", ("onnxruntime", "onnx")
    ),
    "torch_module": Peer("PyTorch nn.{cell}", "bench.engines.torch", "Module", ("torch",)),
    "torch_cell": Peer("PyTorch {cell}Cell", "bench.engines.torch", "Cells", ("torch",)),
    "numpy": Peer("NumPy", "bench.engines.numpy", "NumPy", ("numpy",)),
}
