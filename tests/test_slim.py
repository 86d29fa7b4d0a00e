"""NumPy and numlstm without its dependencies: what is missing is asked for by name, in one line."""

import os
import subprocess
import sys

import pytest

from tests.conftest import PATIENCE, ROOT


def run_without(*missing: str, code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run code in a Python that has no such packages."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({missing!r}))"
    return subprocess.run(
        [sys.executable, "-c", f"{hide}\n{code}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


ALL = ("numba", "llvmlite", "safetensors", "tokenizers", "typer", "rich")

SLIM = """
import numpy as np
import numlstm
from numlstm import LSTM, Linear, Model, Network, Weights
network = Network((LSTM(3, 5), Linear(5, 2)))
random = np.random.default_rng(0)
tensors = {n: random.random(s, np.float32) for n, s in network.tensor_shapes().items()}
model = Model(Weights(network, tensors))
for dtype in ("float32", "bfloat16", "int8"):
    model.save("m.safetensors", dtype)
    loaded = numlstm.load("m.safetensors")
    print(loaded.info().splitlines()[0])
    assert loaded.weights.network.matrix_dtypes()["layers.0.weight_ih"] == dtype
print(sorted(numlstm.bundled())[0])
"""


def test_files_are_written_and_read_with_numpy_alone(tmp_path):
    done = run_without(*ALL, code=f"import os; os.chdir({str(tmp_path)!r})\n{SLIM}")
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines == ["reads vectors of 3, answers 2 numbers per step"] * 3 + ["character"]


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_the_command_says_what_it_needs(missing):
    done = run_without(missing, code="from numlstm.cli import main; main()")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"numlstm: the command needs {missing}: pip install typer rich\n"


def test_text_says_what_it_needs():
    code = "import numlstm; numlstm.pipeline('sentiment')"
    done = run_without("tokenizers", code=code, NUMBA_DISABLE_JIT="1")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: reading text needs tokenizers: pip install tokenizers")


def test_a_bar_is_left_out_or_says_what_it_needs():
    code = """
from numlstm.tasks.pipelines import Pipeline
class Echo(Pipeline):
    def answer(self, item):
        return item
sys.stderr.isatty = lambda: True
print(list(Echo().each("ab")))
list(Echo().each("ab", progress=True))
"""
    done = run_without("rich", code=code)
    assert done.stdout == "['a', 'b']\n"
    assert "ImportError: a bar needs rich: pip install rich" in done.stderr.splitlines()[-1]


def test_free_threaded_python_is_refused_with_the_reason():
    """Such a Python is not here: one that says that it is one."""
    done = run_without(code="sys.version += ' free-threading build'; import numlstm")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: numlstm relies on the GIL to keep two threads off one")
