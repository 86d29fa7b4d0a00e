"""Imports point one way, and importing numlstm is cheap and quiet."""

import ast
import json
from importlib import import_module
from pathlib import Path

import numlstm
from numlstm.network import recurrent
from tests.conftest import Python, output_of

PACKAGE = Path(numlstm.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path, only_at_the_top: bool = False) -> set[str]:
    """Return the dotted names of the modules that a file imports."""
    tree = ast.parse(path.read_text())
    submodules = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or p.is_dir()}
    found = set()
    for node in tree.body if only_at_the_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            if node.module == "numlstm":
                found |= {
                    f"numlstm.{a.name}" if a.name in submodules else "numlstm" for a in node.names
                }
            else:
                found.add(node.module)
    return found


def test_imports_run_one_way(python: Python):
    """The layers, in order, are a contract in pyproject.toml."""
    # In a process of its own: it turns off the loggers of this one.
    code = (
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    )
    output_of(python("-c", code))


def test_the_converters_are_imported_where_they_are_used():
    for path in SOURCES:
        if "convert" not in path.relative_to(PACKAGE).parts:
            top = imports_of(path, only_at_the_top=True)
            assert not any(name.startswith(("torch", "numlstm.convert")) for name in top), path


IMPORT = """
import json, sys, threading
from pathlib import Path
import numpy
import logging
def tasks():
    folder = Path("/proc/self/task")
    return len(list(folder.iterdir())) if folder.is_dir() else 0
before, handlers = tasks(), len(logging.root.handlers)
import numlstm
from numlstm import *
print(json.dumps({
    "modules": sorted(sys.modules),
    "threads": threading.active_count(),
    "new_tasks": tasks() - before,
    "new_handlers": len(logging.root.handlers) - handlers,
    "own_handlers": len(logging.getLogger("numlstm").handlers),
    "level": logging.getLogger("numlstm").level,
}))
"""


def test_importing_starts_no_thread_and_loads_no_framework(python: Python):
    found = json.loads(output_of(python("-W", "error", "-c", IMPORT)))
    roots = {name.partition(".")[0] for name in found["modules"]}
    frameworks = {"torch", "onnx", "onnxruntime", "tensorflow", "keras", "tokenizers", "typer"}
    frameworks |= {"matplotlib", "mailbox", "numba", "llvmlite", "rich", "safetensors"}
    assert roots & frameworks == set()
    assert found["threads"] == 1
    assert found["new_tasks"] == 0
    assert found["new_handlers"] == found["own_handlers"] == 0
    assert found["level"] == 0


def test_the_import_alone_loads_nothing(python: Python):
    """Neither NumPy nor what takes long in the standard library."""
    code = "import sys; before = set(sys.modules); import numlstm; print(set(sys.modules) - before)"
    found = ast.literal_eval(output_of(python("-S", "-c", f"import typing; {code}")))
    assert {name for name in found if name.startswith("numlstm")} == {"numlstm", "numlstm.load"}
    assert not found & {"numpy", "dataclasses", "inspect", "pathlib", "json", "logging"}


LOADED = """
import sys, numpy
before = set(sys.modules)
import numlstm
numlstm.load(sys.argv[1]).info()
print(set(sys.modules) - before)
"""


def test_what_loads_a_model_imports_what_it_needs(python: Python, tmp_path, float_model):
    float_model.save(tmp_path / "m.safetensors")
    found = ast.literal_eval(output_of(python("-c", LOADED, str(tmp_path / "m.safetensors"))))
    rooms = {name.split(".")[1] for name in found if name.startswith("numlstm.")}
    assert not rooms & {"tasks", "stages", "convert", "reference", "analysis", "plots", "cli"}
    assert not found & {"numlstm.run.pool", "numlstm.run.batch", "numlstm.run.sampling"}
    others = {name.partition(".")[0] for name in found}
    assert not others & {"safetensors", "tokenizers", "typer", "rich", "logging", "email"}


WHEN_IT_RAN = """
import sys
import numlstm
model = numlstm.load(sys.argv[1])
model.info()
model.stream().step([1.0, 2.0, 3.0])
print({"numba", "llvmlite"} & set(sys.modules))
"""


def test_what_compiles_is_not_imported_by_what_runs(python: Python, tmp_path, float_model):
    float_model.save(tmp_path / "m.safetensors")
    found = output_of(python("-c", WHEN_IT_RAN, str(tmp_path / "m.safetensors")))
    assert found.split() == ["set()"]


def test_the_kernels_alone_import_what_compiles():
    for path in SOURCES:
        if path.parent != PACKAGE / "kernels":
            roots = {name.partition(".")[0] for name in imports_of(path)}
            assert not roots & {"numba", "llvmlite"}, path


def test_the_public_names_exist_once():
    names = numlstm.__all__
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(numlstm, name)] == []
    assert set(names) <= set(dir(numlstm))
    assert not hasattr(numlstm, "DTYPES")  # of `spec`, and not public
    assert numlstm.load.__name__ == "load"  # not the module


def test_names_are_those_that_a_type_checker_reads():
    """The face tells them twice: by imports that only a type checker sees, and when it is asked."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.body[0], ast.ImportFrom)
    ]
    told = {}
    for node in [n for n in [*tree.body, *block.body] if isinstance(n, ast.ImportFrom)]:
        told |= {alias.name: node.module for alias in node.names}
    assert told.pop("*") == "numlstm.network.recurrent"
    cells = set(recurrent.__all__)
    assert told.keys() - {"TYPE_CHECKING", "recurrent"} | cells == set(numlstm.__all__)
    for name in numlstm.__all__:
        if told.get(name, "numlstm") != "numlstm":
            assert getattr(import_module(told[name]), name) is getattr(numlstm, name), name
