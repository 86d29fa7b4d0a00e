"""The wheel carries the bundled models, and works from an empty environment and another folder."""

import json
import os
import subprocess
import sys
import zipfile

import pytest

import numlstm
from tests.conftest import PATIENCE, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, timeout=PATIENCE)
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
