"""What Keras itself answers, where it is installed."""

import importlib
import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.budget import OverBudget, spend
from numlstm.convert.keras.call import SEQUENCE, TOKENS, VECTOR
from numlstm.convert.keras.config import MODELS
from numlstm.convert.keras.files import Source
from numlstm.convert.keras.graph import Translation
from numlstm.convert.keras.layers import LAYERS
from numlstm.convert.keras.nodes import OF_MASKS
from numlstm.convert.keras.options import IGNORED_ENDINGS
from numlstm.convert.probes import make_probes, reference_run
from numlstm.spec import Probe

Run = Callable[[NDArray[Any]], NDArray[Any]]


def probes_of(source: Source, found: Translation) -> tuple[tuple[Probe, ...], str]:
    """Return probes, and who answered them: Keras, or `reference` where it cannot be had."""
    try:
        with warnings.catch_warnings(action="ignore"):
            model, framework = _original(source, found)
            run = _run_of(model, found)
            return make_probes(found.network, found.tensors, run), f"probes from {framework}"
    except OverBudget:
        raise
    except Exception as error:  # Keras raises almost anything
        why = str(error).strip().split("\n")[0] or type(error).__name__
    run = reference_run(found.network, found.tensors)
    probes = make_probes(found.network, found.tensors, run)
    return probes, f"probes from numlstm's reference ({why[:100]})"


def _original(source: Source, found: Translation) -> tuple[Any, str]:
    """Return the model as Keras itself runs it, for any number of steps, and Keras's name."""
    text = json.dumps(source.config)
    if "float16" in text:
        raise NotImplementedError("the model computes in half precision")
    if found.time_major:
        raise NotImplementedError("the model has time_major layers")
    model = source.model
    if model is None:
        return _from_file(source, found)
    root = type(model).__module__.partition(".")[0]
    version = getattr(importlib.import_module(root), "__version__", "")
    config = model.get_config()
    opened = _opened(config, found.input_kind)
    if json.dumps(opened, default=str) != json.dumps(config, default=str):
        weights = model.get_weights()
        model = type(model).from_config(opened)
        model.set_weights(weights)
    return model, f"{root} {version}"


def _from_file(source: Source, found: Translation) -> tuple[Any, str]:
    """Return the model of a file, made of what this package knows of its config."""
    if source.file is None:
        raise NotImplementedError("the source is arrays")
    # Keras 3 reads files of Keras 2, but its hard_sigmoid is another function.
    root = "keras" if (source.major or 0) >= 3 else "tf_keras"
    config = _cleaned(_opened(source.config, found.input_kind))
    spend("the model in Keras", 1e4 * len(found.network.layers), 1e7 * len(found.network.layers))
    keras = importlib.import_module(root)
    if int(keras.__version__.partition(".")[0]) != (source.major or 2):
        raise NotImplementedError(f"{root} {keras.__version__} is not of the same Keras")
    model = keras.models.model_from_json(json.dumps(config))
    model.load_weights(str(source.file))
    return model, f"{root} {keras.__version__}"


# Classes that Keras makes from a config, beside layers and cells.
_KNOWN = {"function", "DTypePolicy", "Policy", "__keras_tensor__", "__tuple__"}
_CELLS = ("Cell", "Cells")


def _cleaned(config: Any) -> Any:
    """Return a config without what changes no answer, such as initial values.

    Of what is left Keras makes only layers that are its own and known: it would import any module
    that a file names.
    """
    if isinstance(config, list | tuple):
        return [_cleaned(value) for value in config]
    if not isinstance(config, dict):
        return config
    if "class_name" in config:
        kind, module = str(config["class_name"]), config.get("module") or "keras"
        is_known = kind in (*LAYERS, *MODELS, *_KNOWN, *OF_MASKS) or kind.endswith(_CELLS)
        if not is_known or str(module).partition(".")[0] not in ("keras", "builtins"):
            raise NotImplementedError(f"{kind} of {module} is not of Keras alone")
    return {
        name: _cleaned(value)
        for name, value in config.items()
        if not name.endswith(IGNORED_ENDINGS)
    }


def _opened(config: Any, kind: str) -> Any:
    """Return a config whose layers take any number of steps and begin from zero states."""
    if isinstance(config, list | tuple):
        return [_opened(value, kind) for value in config]
    if not isinstance(config, dict):
        return config
    found = {}
    for name, value in config.items():
        if name in ("batch_shape", "batch_input_shape") and isinstance(value, list | tuple):
            fixed = 1 if kind == VECTOR else 2
            value = tuple(None if n < fixed else size for n, size in enumerate(value))
        elif name in ("stateful", "unroll"):
            value = False
        elif name == "input_length":
            value = None
        else:
            value = _opened(value, kind)
        found[name] = value
    return found


def _run_of(model: Any, found: Translation) -> Run:
    """Return what runs a model as a network of numlstm runs: a row per step."""

    def call(xs: NDArray[Any]) -> NDArray[Any]:
        """xs with an axis of the batch -> the outputs, joined."""
        if len(found.inputs) > 1:
            parts: Any = np.split(xs, np.cumsum(found.inputs)[:-1], -1)
        else:
            parts = xs
        ys = model(parts, training=False)
        every = ys if isinstance(ys, list | tuple) else [ys]
        if isinstance(ys, dict):
            every = list(ys.values())
        return np.concatenate([_array(y) for y in every], -1)

    def run(xs: NDArray[Any]) -> NDArray[Any]:
        is_causal = found.network.is_causal
        if found.input_kind == VECTOR:
            ys = call(xs if is_causal else xs[-1:])
            return ys if is_causal or found.output_kind == VECTOR else ys[0]
        if found.output_kind == SEQUENCE:
            return np.asarray(call(xs[None])[0])
        if not is_causal:
            return call(xs[None])
        return np.concatenate([call(xs[None, : t + 1]) for t in range(len(xs))])

    assert found.input_kind in (TOKENS, SEQUENCE, VECTOR)
    return run


def _array(tensor: Any) -> NDArray[Any]:
    return np.asarray(tensor.detach().cpu() if hasattr(tensor, "detach") else tensor)
