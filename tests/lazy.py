"""Modules that take long to import: each is imported when a test first asks it for something.

``from tests.lazy import nn, torch`` binds what ``import`` would, and collecting all tests imports
no framework; a test that asks for one that is not installed is skipped. So what a test module does
as it is imported may name them only where it is read later: in functions (tables hold functions
that build), and in annotations that are quoted.
Classes that derive from theirs are in modules of their own, which are lazy in turn.
"""

import importlib
import os
import warnings
from functools import cache
from types import ModuleType
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")


@cache
def _imported(name: str) -> ModuleType:
    with warnings.catch_warnings(action="ignore"):  # of what a framework imports in turn
        if name.startswith(("numlstm.", "tests.")):
            return importlib.import_module(name)
        return pytest.importorskip(name)


class Lazy:
    """The module of a name; a test patches the module itself, by its name."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        # pytest looks for names such as __test__ in all that a test module holds.
        if attribute.startswith("_") and attribute != "__version__":
            raise AttributeError(attribute)
        return getattr(_imported(self._name), attribute)


torch, nn, functional = Lazy("torch"), Lazy("torch.nn"), Lazy("torch.nn.functional")
keras, layers, h5py = Lazy("keras"), Lazy("keras.layers"), Lazy("h5py")
onnx, helper, numpy_helper = Lazy("onnx"), Lazy("onnx.helper"), Lazy("onnx.numpy_helper")
onnxruntime = Lazy("onnxruntime")
soundfile = Lazy("soundfile")
# What of numlstm imports them.
backend = Lazy("numlstm.backend")
from_torch = Lazy("numlstm.convert.torch")
from_keras = Lazy("numlstm.convert.keras")
pickles = Lazy("numlstm.convert.torch.files.pickles")
from_onnx = Lazy("numlstm.convert.onnx")
# Classes that derive from theirs.
torch_cells = Lazy("tests.torch_cells")
