"""Where the kernels come from: compiled ahead, from a cache, compiled now, or not compiled."""

import dataclasses
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import numlstm
import numlstm.kernels
from numlstm.kernels import addresses, compilation, cpu, entry, sources
from numlstm.kernels.compilation import SHIPPED, compile_image
from tests.cases import TOLERANCES, assert_same_bits
from tests.conftest import ROOT, Python, output_of
from tests.outputs import assert_same_outputs, outputs, read

KERNELS = Path(numlstm.kernels.__file__).parent
RUNNING = [level for level in cpu.LEVELS if cpu.fits(level)]


def test_kernels_that_came_with_the_package_run_and_nothing_is_imported_for_them(python: Python):
    code = """
import sys, numpy as np, numlstm
network = numlstm.Network((numlstm.LSTM(3, 2),))
weights = {name: np.zeros(shape, "f4") for name, shape in network.tensor_shapes().items()}
numlstm.Model(numlstm.Weights(network, weights)).stream().step(np.ones(3, "f4"))
print(numlstm.diagnose()["kernels"], {"numba", "llvmlite"} & set(sys.modules))
"""
    if entry.find().reason:
        pytest.skip("the kernels that came with this installation are not these")
    said = output_of(python("-c", code, NUMLSTM_LEVEL="", NUMLSTM_JIT="")).strip()
    assert said == f"compiled ahead for {cpu.LEVEL.name} set()"


@pytest.mark.slow
def test_processes_that_start_at_once_compile_once_for_exactly_this_cpu(python: Python, tmp_path):
    cache = str(tmp_path / "cache")
    files = [tmp_path / "one.npz", tmp_path / "two.npz", tmp_path / "three.npz"]
    told = {"NUMBA_CACHE_DIR": cache, "NUMLSTM_JIT": "1"}
    processes = [python("-m", "tests.outputs", str(file), "all", **told) for file in files]
    said = "".join(output_of(process) for process in processes)
    assert said.count("compiling the kernels for this CPU, once") == 1
    assert "NUMLSTM_JIT is set" in said
    expected = outputs("all")
    for file in files:
        assert_same_outputs(read(file), expected)

    warm = python("-m", "tests.outputs", str(files[0]), "all", **told)
    assert output_of(warm) == ""
    assert_same_outputs(read(files[0]), expected)


@pytest.mark.slow
@pytest.mark.parametrize("level", RUNNING, ids=lambda level: level.name)
def test_kernels_of_every_level_give_the_same_bits(python: Python, tmp_path, level):
    file = tmp_path / "other.npz"
    output_of(python("-m", "tests.outputs", str(file), "all", NUMLSTM_LEVEL=level.name))
    found = read(file)
    # It is not this CPU's own code that ran.
    np.testing.assert_array_equal(found["how"], [True, *level.floats.tile])
    assert_same_outputs(found, outputs("all"))


def test_a_level_that_the_cpu_lacks_is_refused(python: Python):
    other = next(level for level in cpu.LEVELS if not cpu.fits(level))
    process = python("-c", "import numlstm; numlstm.warmup()", NUMLSTM_LEVEL=other.name)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert f"NUMLSTM_LEVEL={other.name}: this CPU" in errors
    process = python("-m", "numlstm", "doctor", NUMLSTM_LEVEL=other.name)
    assert process.communicate(timeout=300)[1].startswith("numlstm: NUMLSTM_LEVEL=")
    assert process.returncode == 1
    process = python("-c", "import numlstm; numlstm.warmup()", NUMLSTM_LEVEL="pentium")
    assert "no such level; those of this machine" in process.communicate(timeout=300)[1]


@pytest.mark.parametrize(
    ("said", "compiled"), [("1", False), ("2", False), ("0", True), ("", True), ("false", True)]
)
def test_whether_kernels_are_compiled_is_read_as_numba_does(monkeypatch, said, compiled):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", said)
    assert addresses._is_compiled() is compiled


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
    shutil.copytree(KERNELS, folder, ignore=shutil.ignore_patterns("__pycache__", "images"))
    monkeypatch.setattr(sources, "__file__", str(folder / "sources.py"))
    hash_now = sources.hash_sources.__wrapped__
    original = hash_now()
    hashes = {original}
    files = sorted(path for path in folder.glob("*.py") if path.stat().st_size)
    assert {path.name for path in files} >= {"simd.py", "cells.py", "plan.py", "walker.py"}
    for path in files:
        text = path.read_bytes()
        path.write_bytes(text + b" ")
        hashes.add(hash_now())
        path.write_bytes(text)
        assert hash_now() == original
    assert len(hashes) == 1 + len(files)
    (folder / "new.py").write_text("# a new file\n")
    assert hash_now() != original


# Ahead --------------------------------------------------------------------------------------------


def test_a_level_that_cannot_be_compiled_keeps_no_other_from_it(
    shipped, monkeypatch, tmp_path, capsys
):
    image, (bad, *good) = entry.find().image, SHIPPED

    def compile_all_but_one(level):
        if level == bad:
            raise compilation.CompilationError("a reason")
        return dataclasses.replace(image, level=level.name)

    monkeypatch.setattr(compilation, "compile_image", compile_all_but_one)
    monkeypatch.setattr(sys, "argv", ["compilation", str(tmp_path / "made"), "all"])
    with pytest.raises(SystemExit, match=f"^{bad.name}: a reason$"):
        compilation.main()
    names = sorted(f"{level.name}.image" for level in good)
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == names
    assert sorted(re.findall("^(.*): [0-9]+ KB$", capsys.readouterr().out, re.M)) == names


# What came with the package, but is not as it was made ------------------------------------------


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """The image of this level, in a folder of its own; nothing else is found."""
    if entry.find().reason:
        pytest.skip("the kernels that came with this installation are not these")
    data = entry.find().path.read_bytes()
    monkeypatch.setattr(entry, "IMAGES", tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / f"{cpu.LEVEL.name}.image"
    path.write_bytes(data)
    return path


def test_a_damaged_image_of_the_package_is_compiled_anew_and_the_reason_said(shipped):
    assert entry.find().reason == ""
    data = shipped.read_bytes()
    shipped.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    kernels = entry.find()
    assert kernels.image is None
    assert kernels.reason == f"{shipped} is not used: it is damaged: its checksum differs"


def test_an_image_of_another_level_is_not_run(shipped):
    image = dataclasses.replace(entry.find().image, level="other")
    shipped.write_bytes(image.to_bytes())
    kernels = entry.find()
    assert kernels.image is None
    assert kernels.reason == f"{shipped} is not used: it is for other"


# Everywhere ---------------------------------------------------------------------------------------


def test_the_package_runs_from_a_zip(tmp_path):
    if entry.find().reason:
        pytest.skip("the kernels that came with this installation are not these")
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (ROOT / "numlstm").rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                file.write(path, path.relative_to(ROOT))
    code = ANSWER + "print(numlstm.__file__, numlstm.diagnose()['kernels'])"
    environment = os.environ | {"PYTHONPATH": str(archive), "NUMLSTM_LEVEL": "", "NUMLSTM_JIT": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    answer, where = done.stdout.splitlines()
    assert answer == "2.0"
    assert where.startswith(str(archive))
    assert where.endswith(f"compiled ahead for {cpu.LEVEL.name}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "level", [level for level in SHIPPED if level not in RUNNING], ids=lambda level: level.name
)
def test_kernels_of_levels_that_this_machine_lacks_compile(level):
    image = compile_image(level)
    assert image.level == level.name
    assert len(image.code) > 2**14
    assert set(image.imports) == {
        "PyErr_BadArgument", "PyErr_Occurred", "PyEval_RestoreThread", "PyEval_SaveThread",
        "PyLong_AsLongLong", "PyLong_FromLongLong",
    }  # fmt: skip


WORKERS = """
import multiprocessing, sys, threading, warnings
import numlstm

def answer(token):
    return numlstm.load("character", num_threads=2).stream().step(token).tobytes()

def main(method, when):
    if when == "after":
        answer(0)
    expected = None if when == "before" else answer(7)
    done = threading.Event()
    threading.Thread(target=done.wait).start()  # one is there when the others are forked
    warnings.simplefilter("ignore", DeprecationWarning)
    with multiprocessing.get_context(method).Pool(4) as pool:
        answers = set(pool.map(answer, [7] * 12))
    done.set()
    print(answers == {expected or answer(7)})

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_started_before_or_after_the_first_use_give_the_same_bits(
    python: Python, tmp_path, method, when
):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    assert output_of(python(str(script), method, when)) == "True\n"


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        (("-OO",), {}),
        (("-I",), {}),
        (("-X", "dev", "-W", "error"), {}),
        ((), {"LC_ALL": "C", "PYTHONUTF8": "0"}),
        ((), {"PYTHONMALLOC": "debug", "PYTHONHASHSEED": "7"}),
        ((), {"HOME": "", "TMPDIR": "/nowhere", "XDG_CACHE_HOME": "relative"}),
    ],
    ids=["optimised", "isolated", "strict", "C locale", "malloc", "no home"],
)
def test_the_first_use_depends_on_no_setting_of_python(python: Python, flags, environment):
    code = f"""
import os, sys, tempfile
sys.path.insert(0, {str(ROOT)!r})
os.chdir(folder := tempfile.mkdtemp(dir="/tmp" if os.name == "posix" else None))
if os.name == "posix":
    os.rmdir(folder)  # a folder that is gone
import numlstm
print(numlstm.load("character").stream().step(1).tobytes().hex())
"""
    expected = numlstm.load("character").stream().step(1).tobytes().hex()
    assert output_of(python(*flags, "-c", code, **environment)).strip() == expected
