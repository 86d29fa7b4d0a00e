"""Imports point one way, and importing numlstm is cheap and quiet."""

import ast
import json
from pathlib import Path

import pytest

import numlstm
from tests.conftest import Python, output_of

PACKAGE = Path(numlstm.__file__).parent
STANDARD = {"numpy", "numba", "llvmlite", "safetensors", "torch", "tokenizers", "typer", "rich"}

# What of numlstm, and which other packages, each part may import; the longest prefix counts.
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "": (
        {
            "model",
            "sources",
            "stream",
            "pool",
            "lookahead",
            "network",
            "split",
            "spec",
            "storage",
            "text",
            "audio",
            "tasks",
            "diagnostics",
            "cli",
            "analysis",
            "trace",
        },
        set(),
    ),
    "errors": (set(), set()),
    "network": ({"errors", "network"}, {"numpy", "tokenizers"}),
    "spec": ({"errors", "network"}, set()),
    "quantize": ({"errors", "spec"}, {"numpy"}),
    "storage": ({"quantize", "spec"}, {"numpy", "safetensors"}),
    "reference": ({"spec"}, {"numpy"}),
    "program": ({"errors", "kernels", "network", "program", "quantize", "spec"}, {"numpy"}),
    "kernels": ({"kernels"}, {"numpy", "numba", "llvmlite"}),
    "checks": ({"kernels"}, {"numpy"}),
    "sampling": ({"checks", "kernels", "stream"}, {"numpy"}),
    "stream": (
        {"checks", "program", "kernels", "model", "sampling", "threads", "trace"},
        {"numpy"},
    ),
    "trace": ({"checks", "plots", "stream"}, {"numpy"}),
    "analysis": ({"model", "plots", "reference", "spec"}, {"numpy"}),
    "plots": ({"trace"}, {"numpy"}),
    "threads": (set(), set()),
    "pool": ({"checks", "kernels", "program", "stream", "threads", "model"}, {"numpy"}),
    "batch": ({"program", "checks", "pool", "stream", "threads", "model"}, {"numpy"}),
    "stages": ({"batch", "pool", "spec", "stream", "threads", "model"}, {"numpy"}),
    "split": ({"program", "spec", "stages", "model"}, set()),
    "lookahead": ({"checks", "stages", "threads", "model"}, {"numpy"}),
    "model": (
        {
            "batch",
            "checks",
            "program",
            "pool",
            "stream",
            "stages",
            "lookahead",
            "split",
            "storage",
            "quantize",
            "kernels",
            "spec",
            "convert",
        },
        {"numpy"},
    ),
    "sources": ({"program", "model", "spec", "storage", "checks", "convert", "quantize"}, set()),
    "backend": ({"", "convert"}, {"numpy", "onnx"}),
    "convert": ({"spec", "reference", "convert"}, {"numpy", "torch", "h5py", "onnx"}),
    "diagnostics": ({"kernels"}, set()),
    # The public names only, and what lies in their own folder.
    "pipelines": (set(), {"rich"}),
    "text": ({"", "text", "pipelines", "sampling"}, {"numpy", "tokenizers"}),
    "audio": ({"", "audio", "pipelines"}, {"numpy"}),
    "tasks": ({"model", "sources", "spec", "pipelines", "text", "audio"}, set()),
    "cli": (
        {"", "analysis", "cli", "plots"},
        {"numpy", "typer", "rich"},
    ),
}
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


def part_of(path: Path) -> str:
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if name in ("__init__", "__main__") else name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    parts, packages = MAY_IMPORT[part_of(path)]
    for name in imports_of(path):
        root, _, rest = name.partition(".")
        if root == "numlstm":
            assert rest.partition(".")[0] in parts, f"{name} in {path.name}"
        elif root in STANDARD:
            assert root in packages, f"{name} in {path.name}"


def test_every_part_has_its_rule_and_every_rule_its_part():
    assert {part_of(path) for path in SOURCES} == set(MAY_IMPORT)


def test_the_converters_are_imported_where_they_are_used():
    for path in SOURCES:
        if part_of(path) != "convert":
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
    frameworks |= {"matplotlib", "mailbox", "numba", "llvmlite"}
    assert roots & frameworks == set()
    assert found["threads"] == 1
    assert found["new_tasks"] == 0
    assert found["new_handlers"] == found["own_handlers"] == 0
    assert found["level"] == 0


UNTIL_IT_RUNS = """
import sys
import numlstm
model = numlstm.load(sys.argv[1])
model.info()
before = {"numba", "llvmlite"} & set(sys.modules)
model.stream().step([1.0, 2.0, 3.0])
print(before, {"numba", "llvmlite"} & set(sys.modules) == {"numba", "llvmlite"})
"""


def test_nothing_is_compiled_until_something_runs(python: Python, tmp_path, float_model):
    float_model.save(tmp_path / "m.safetensors")
    found = output_of(python("-c", UNTIL_IT_RUNS, str(tmp_path / "m.safetensors")))
    assert found.split() == ["set()", "True"]


def test_the_kernels_alone_import_what_compiles():
    for path in SOURCES:
        if part_of(path) != "kernels":
            roots = {name.partition(".")[0] for name in imports_of(path)}
            assert not roots & {"numba", "llvmlite"}, path


def test_the_public_names_exist_once():
    names = numlstm.__all__
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(numlstm, name)] == []
