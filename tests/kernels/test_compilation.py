"""Compiled anew, by two processes at once, for a smaller CPU, or not at all: the same answers."""

import shutil
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

import numlstm.kernels
from numlstm.kernels import compilation
from tests.cases import TOLERANCES, assert_same_bits, random_input
from tests.conftest import ROOT, Python, model_of, output_of
from tests.outputs import outputs

AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+sse4.2",
}
# Other instructions for the products of int8 weights, and none of them.
AVX_VNNI = AVX2 | {"NUMBA_CPU_FEATURES": AVX2["NUMBA_CPU_FEATURES"] + ",+avxvnni"}
PLAIN = {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "+sse4.2"}
KERNELS = Path(numlstm.kernels.__file__).parent


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file}


def assert_same_outputs(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        if name != "how":
            assert_same_bits(found[name], expected[name], name)


@pytest.mark.slow
def test_two_processes_compile_at_once_into_an_empty_cache(python: Python, tmp_path):
    cache = str(tmp_path / "cache")
    files = [tmp_path / "one.npz", tmp_path / "two.npz"]
    both = [
        python("-m", "tests.outputs", str(file), "all", NUMBA_CACHE_DIR=cache) for file in files
    ]
    expected = outputs("all")
    for process, file in zip(both, files, strict=True):
        assert "numlstm: compiled the kernels in" in output_of(process)
        assert_same_outputs(read(file), expected)

    warm = python("-m", "tests.outputs", str(files[0]), "all", NUMBA_CACHE_DIR=cache)
    assert output_of(warm) == ""
    assert_same_outputs(read(files[0]), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cpu", "feature"),
    [(AVX2, "avx2"), (AVX_VNNI, "avxvnni"), (PLAIN, "sse4.2")],
    ids=["avx2", "avxvnni", "plain"],
)
def test_kernels_for_another_cpu_give_the_same_bits(python: Python, tmp_path, cpu, feature):
    if not llvm.get_host_cpu_features().get(feature):
        pytest.skip(f"this CPU cannot run code for {feature}")
    file = tmp_path / "other.npz"
    cache = str(tmp_path / "cache")
    output_of(python("-m", "tests.outputs", str(file), "all", NUMBA_CACHE_DIR=cache, **cpu))
    found = read(file)
    np.testing.assert_array_equal(found["how"], [True, 2, 2])  # it is not the AVX-512 code that ran
    assert_same_outputs(found, outputs("all"))


@pytest.mark.slow
def test_the_engine_runs_as_plain_python(python: Python, tmp_path):
    file = tmp_path / "python.npz"
    output_of(python("-m", "tests.outputs", str(file), "small", NUMBA_DISABLE_JIT="1"))
    found, expected = read(file), outputs("small")
    assert not found["how"][0]
    assert found.keys() == expected.keys()
    same = []
    for name in found.keys() - {"how"}:
        TOLERANCES["python"].check(found[name], expected[name], name)
        same.append((found[name] == expected[name]).mean())
        if name.endswith(" run"):
            assert_same_bits(found[name], found[name.removesuffix("run") + "steps"], name)
    assert np.mean(same) > 0.999  # the rest: an fma that was rounded twice


def test_numba_must_not_be_told_otherwise_than_the_environment(python: Python):
    code = "import numba, numlstm; numba.config.DISABLE_JIT = 1; numlstm.warmup()"
    process = python("-c", code)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "ImportError: Numba and numlstm disagree on whether to compile" in errors


ANSWER = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
import numpy as np
import numlstm
from numlstm import spec
network = spec.Network((spec.Activation(1, "relu"),))
print(numlstm.Model(spec.Weights(network, {})).run(np.array([[2.0]]))[0, 0])
"""


@pytest.mark.slow
def test_an_edited_kernel_is_compiled_anew(python: Python, tmp_path):
    shutil.copytree(
        ROOT / "numlstm", tmp_path / "numlstm", ignore=shutil.ignore_patterns("__pycache__")
    )
    cache = str(tmp_path / "cache")

    def answer() -> str:
        return output_of(python("-c", ANSWER, path=tmp_path, NUMBA_CACHE_DIR=cache)).strip()

    assert answer() == "2.0"
    source = tmp_path / "numlstm" / "kernels" / "activations.py"
    text = source.read_text()
    relu = "return at_least(x, splat(_ZERO))"
    edited = text.replace(relu, f"{relu} + x")
    assert edited != text
    source.write_text(edited)
    assert answer() == "4.0"
    source.write_text(text)
    assert answer() == "2.0"


def test_any_edit_of_any_kernel_changes_the_hash(monkeypatch, tmp_path):
    folder = tmp_path / "kernels"
    shutil.copytree(KERNELS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(compilation, "__file__", str(folder / "compilation.py"))
    original = compilation._hash_sources()
    hashes = {original}
    sources = sorted(path for path in folder.glob("*.py") if path.stat().st_size)
    assert {path.name for path in sources} >= {"simd.py", "cells.py", "plan.py", "walker.py"}
    for path in sources:
        text = path.read_bytes()
        path.write_bytes(text + b" ")
        hashes.add(compilation._hash_sources())
        path.write_bytes(text)
        assert compilation._hash_sources() == original
    assert len(hashes) == 1 + len(sources)
    (folder / "new.py").write_text("# a new file\n")
    assert compilation._hash_sources() != original


def test_a_warm_cache_says_nothing(python: Python, tmp_path, float_model):
    """By the time that `float_model` exists, the cache is warm."""
    process = python("-m", "tests.outputs", str(tmp_path / "out.npz"), "small")
    assert output_of(process) == ""
    assert_same_outputs(read(tmp_path / "out.npz"), outputs("small"))


NO_FOLDER = """
import numba.core.caching
numba.core.caching.CacheImpl._locator_classes = []
import numpy as np
import numlstm
from tests.cases import NETWORKS, random_input, random_weights
model = numlstm.Model(random_weights(NETWORKS["vectors"]))
print(model.run(random_input(model.network, 20)).tobytes().hex())
print(numlstm.diagnose()["cache state"])
"""


@pytest.mark.slow
def test_where_no_folder_can_be_written_every_process_compiles(python: Python):
    answer, state = output_of(python("-c", NO_FOLDER)).splitlines()
    model = model_of("vectors")
    assert answer == model.run(random_input(model.network, 20)).tobytes().hex()
    assert state.startswith("none: no folder can be written")
