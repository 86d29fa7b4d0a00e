"""The wheel carries the bundled models, and works from an empty environment and another folder."""

import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions
from types import SimpleNamespace

import numpy as np
import pytest

import numlstm
from tests.cases import random_weights
from tests.conftest import PATIENCE, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check"]
    command = [*build, "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_the_models_with_their_cards_and_no_recipes(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "numlstm/py.typed" in names
    for name, path in numlstm.bundled().items():
        assert f"numlstm/weights/{path.name}" in names
        assert f"numlstm/weights/{name}.md" in names
    assert not [name for name in names if "recipes" in name or name.startswith(("tests", "bench"))]


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment_and_another_folder(wheel, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")
    run = {"check": True, "capture_output": True, "cwd": tmp_path, "env": environment}
    subprocess.run([sys.executable, "-m", "venv", "venv"], **run)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], **run)
    command = [tmp_path / "venv" / "bin" / "numlstm", "classify", "--json"]
    done = subprocess.run([*command, "The movie was not good."], **run)
    assert json.loads(done.stdout)["label"] == "negative"
    listed = subprocess.run([tmp_path / "venv" / "bin" / "numlstm", "list"], **run).stdout.decode()
    assert "sentiment" in listed
    where = subprocess.run([python, "-c", "import numlstm; print(numlstm.__file__)"], **run)
    assert str(tmp_path) in where.stdout.decode()


def test_only_the_images_that_were_made_go_into_the_wheel(monkeypatch):
    """Others lie beside them: stale ones, and what this machine compiled for itself."""
    pytest.importorskip("hatchling")
    hook = runpy.run_path(str(ROOT / "hatch_build.py"))["KernelsHook"]
    warnings: list[str] = []
    app = SimpleNamespace(display_warning=warnings.append, abort=sys.exit)
    made = SimpleNamespace(returncode=1, stdout="x.image: 80 KB\n", stderr="much\ny: a reason\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: made)
    monkeypatch.delenv("NUMLSTM_BUILD_LEVELS", raising=False)
    build_data: dict[str, list[str]] = {"artifacts": []}
    hook(str(ROOT), {}, None, None, "", "wheel", app).initialize("standard", build_data)
    assert build_data["artifacts"] == ["/numlstm/kernels/images/x.image"]
    assert warnings == ["the kernels will be compiled at first use: y: a reason"]
    # Whoever names levels, to release a wheel, gets them all or none.
    monkeypatch.setenv("NUMLSTM_BUILD_LEVELS", "x y")
    with pytest.raises(SystemExit, match=r"^NUMLSTM_BUILD_LEVELS=x y: y: a reason$"):
        hook(str(ROOT), {}, None, None, "", "wheel", app).initialize("standard", build_data)


SLIM = """
import sys
import numpy as np
import numlstm
model = numlstm.load(sys.argv[1])
y = model.stream().step(np.load(sys.argv[2]))
np.save(sys.argv[3], y)
print({name.partition(".")[0] for name in sys.modules} & {"numba", "llvmlite", "pip"} or "nothing")
"""


@pytest.mark.slow
def test_numpy_and_the_wheel_are_enough_to_load_a_file_and_step_it(wheel, tmp_path):
    names = zipfile.ZipFile(wheel).namelist()
    if not any(name.endswith(".image") for name in names):
        pytest.skip("no kernels could be compiled ahead here, so the wheel needs Numba")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    run = {"check": True, "capture_output": True, "cwd": tmp_path, "env": environment}
    subprocess.run([sys.executable, "-m", "venv", "venv"], **run)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], **run)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "numpy"], **run)
    network = numlstm.Network((numlstm.LSTM(3, 20), numlstm.Linear(20, 2)))
    model = numlstm.Model(random_weights(network))
    x = np.array([1.0, -2.0, 0.5], np.float32)
    np.save(tmp_path / "x.npy", x)
    for dtype in ("float32", "bfloat16", "int8"):
        model.save(tmp_path / "model.safetensors", dtype)
        done = subprocess.run([python, "-c", SLIM, "model.safetensors", "x.npy", "y.npy"], **run)
        assert done.stdout.decode().split() == ["nothing"]
        expected = numlstm.load(tmp_path / "model.safetensors").stream().step(x)
        assert np.load(tmp_path / "y.npy").tobytes() == expected.tobytes()
    asked = {**run, "check": False}
    command = subprocess.run([tmp_path / "venv" / "bin" / "numlstm", "list"], **asked)
    assert command.returncode == 1
    assert command.stderr == b"numlstm: the command needs typer: pip install typer rich\n"


def test_what_builds_and_what_judges_is_of_one_version():
    pytest.importorskip("hatchling")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    builds = project["build-system"]["requires"]
    extras = project["project"]["optional-dependencies"]
    pinned = builds + runpy.run_path(str(ROOT / "hatch_build.py"))["COMPILER"]
    pinned += [line for line in extras["dev"] if line.startswith(("ruff", "mypy"))]
    assert len(pinned) >= 6
    assert [line for line in pinned if "==" not in line] == []
    # What the tests build with is what a release is built with.
    assert set(builds) <= set(extras["test"])
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert "repo: local" in hooks
    assert hooks.count("repo:") == 1
    assert not (ROOT / ".github").exists(), "actions must be pinned by commit: test it here"


def test_every_requirement_of_users_has_a_lower_bound_that_is_tried():
    """`.ci/versions` reads them; what has another form would not be tried."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [
        line for extra in ("keras", "onnx") for line in project["optional-dependencies"][extra]
    ]
    assert [line for line in lines if not re.fullmatch(r"[\w-]+>=[\d.]+", line)] == []


def test_all_that_the_tests_ask_for_is_installed():
    """Tests of a framework that is missing are skipped, which nobody would see here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [line for name in ("test", "audio", "plot") for line in extras[name]]
    names = {re.split(r"[>=\[]", line)[0] for line in lines} - {"numlstm"}
    assert {"torch", "keras", "onnx", "soundfile"} < names
    installed = {found.name.lower().replace("_", "-") for found in distributions()}
    assert not names - installed
