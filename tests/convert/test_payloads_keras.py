"""Code that a Keras file carries, or names, does not run: functions, classes, modules of others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import numlstm
from numlstm.spec import WeightsError
from tests.convert.in_keras import QUIET
from tests.convert.payloads import importable, read_zip, write_zip
from tests.lazy import keras, layers

pytestmark = [pytest.mark.long, QUIET]


@pytest.fixture
def proof(tmp_path, monkeypatch) -> Path:
    """What code that runs would write; beside it a module that writes it as it is imported."""
    path = tmp_path / "proof"
    importable(tmp_path, path, monkeypatch)
    return path


def _saved(folder: Path, suffix: str, *parts: Any) -> Path:
    path = folder / f"model{suffix}"
    keras.Sequential([keras.Input((None, 3)), *parts]).save(path)
    return path


def _rewritten(path: Path, change: Callable[[Any], None]) -> Path:
    """Return a .keras file whose config is another."""
    content = read_zip(path)
    config = json.loads(content["config.json"])
    change(config["config"]["layers"][1])
    return write_zip(path, content | {"config.json": json.dumps(config).encode()})


def _code(proof: Path) -> Any:
    target = str(proof)
    return layers.Lambda(lambda x: x * Path(target).write_text("r"), name="code")


def a_lambda(folder: Path, proof: Path) -> Path:
    return _saved(folder, ".keras", _code(proof), layers.GRU(2))


def a_lambda_in_h5(folder: Path, proof: Path) -> Path:
    return _saved(folder, ".h5", _code(proof), layers.GRU(2))


def the_module_of_a_class(folder: Path, proof: Path) -> Path:
    def change(layer: Any) -> None:
        layer |= {"class_name": "Mine", "module": "a_payload", "registered_name": "a_payload>Mine"}

    return _rewritten(_saved(folder, ".keras", layers.GRU(2, name="code")), change)


def the_module_of_a_known_class(folder: Path, proof: Path) -> Path:
    return _rewritten(
        _saved(folder, ".keras", layers.GRU(2, name="code")),
        lambda layer: layer.update(module="a_payload"),
    )


def the_module_of_an_operation(folder: Path, proof: Path) -> Path:
    def change(layer: Any) -> None:
        layer |= {"class_name": "Sin", "module": "a_payload.ops", "config": {"name": "code"}}

    return _rewritten(_saved(folder, ".keras", layers.GRU(2, name="code")), change)


def an_activation(folder: Path, proof: Path) -> Path:
    code = {"module": "a_payload", "class_name": "Mine", "config": {}, "registered_name": None}
    return _rewritten(
        _saved(folder, ".keras", layers.GRU(2, name="code")),
        lambda layer: layer["config"].update(activation=code),
    )


def words_of_custom_in_the_file(folder: Path, proof: Path) -> Path:
    """What the converter itself puts beside a class of a user counts for nothing in a file."""
    return _rewritten(
        _saved(folder, ".keras", layers.GRU(2, name="code")),
        lambda layer: layer.update(then=[{"kind": "Lambda"}], written_as="GRU"),
    )


# What is converted all the same, as the class that it says it is.
READ = {the_module_of_a_known_class, words_of_custom_in_the_file}
FILES = [
    a_lambda, a_lambda_in_h5, the_module_of_a_class, the_module_of_a_known_class,
    the_module_of_an_operation, an_activation, words_of_custom_in_the_file,
]  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__)
@pytest.mark.parametrize("custom", [None, {"code": "GRU"}], ids=["", "custom"])
def test_code_in_a_file_does_not_run(file, custom, tmp_path, proof):
    path = file(tmp_path, proof)
    proof.unlink(missing_ok=True)  # Keras ran it, as it built the model
    if file in READ:
        assert numlstm.from_keras(path).output_size == 2
    elif custom is None:
        with pytest.raises(WeightsError, match="code"):
            numlstm.from_keras(path)
    else:
        with pytest.raises(WeightsError):  # no weights, or an option that is none
            numlstm.from_keras(path, custom={"code": "GRU(activation=[1])"})
        if file in (a_lambda, a_lambda_in_h5):
            assert numlstm.from_keras(path, custom={"code": "Identity"}).output_size == 2
    assert not proof.exists()
