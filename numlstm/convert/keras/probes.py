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
from numlstm.convert.keras.operations import OPERATIONS
from numlstm.convert.keras.options import IGNORED_ENDINGS
from numlstm.convert.probes import NoAnswer, make_probes, reference_run
from numlstm.spec import Probe

Run = Callable[[NDArray[Any]], NDArray[Any]]


def probes_of(source: Source, found: Translation) -> tuple[tuple[Probe, ...], str]:
    """Return probes, and who answered them: Keras, or `reference` where it cannot be had."""
    try:
        with warnings.catch_warnings(action="ignore"):
            model, framework = _original(source, found)
            run = _run_of(model, found)
            return _probes(found, run), f"probes from {framework}"
    except OverBudget:
        raise
    except NoAnswer as error:
        raise error.by_name(found.names[error.layer]) from None
    except Exception as error:  # Keras raises almost anything
        why = str(error).strip().split("\n")[0] or type(error).__name__
    probes = _probes(found, reference_run(found.network, found.tensors))
    return probes, f"probes from numlstm's reference ({why[:100]})"


def _probes(found: Translation, run: Run) -> tuple[Probe, ...]:
    def shape(xs: NDArray[Any]) -> NDArray[Any]:
        return shaped(xs, found)

    return make_probes(found.network, found.tensors, run, shape=shape, exactly=found.num_steps)


def _original(source: Source, found: Translation) -> tuple[Any, str]:
    """Return the model as Keras itself runs it, for any number of steps, and Keras's name."""
    text = json.dumps(source.config, default=str)
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
    opened = _opened(config, found)
    if json.dumps(opened, default=str) != json.dumps(config, default=str):
        weights = model.get_weights()
        model = type(model).from_config(opened)
        model.set_weights(weights)
    return model, f"{root} {version}"


def _from_file(source: Source, found: Translation) -> tuple[Any, str]:
    """Return the model of a file, made of what this package knows of its config."""
    if source.is_custom:
        raise NotImplementedError("the file names classes of a user")
    if source.file is None:
        raise NotImplementedError("the source is arrays")
    # Keras 3 reads files of Keras 2, but its hard_sigmoid is another function.
    root = "keras" if (source.major or 0) >= 3 else "tf_keras"
    config = _cleaned(_opened(_of_the_network(source.config, source.major or 2), found))
    spend("the model in Keras", 1e4 * len(found.network.layers), 1e7 * len(found.network.layers))
    keras = importlib.import_module(root)
    if int(keras.__version__.partition(".")[0]) != (source.major or 2):
        raise NotImplementedError(f"{root} {keras.__version__} is not of the same Keras")
    model = keras.models.model_from_json(json.dumps(config))
    model.load_weights(str(source.file))
    return model, f"{root} {keras.__version__}"


# What Keras 3 writes beside the class of a model, but in an .h5 file.
_MODULES = {"Sequential": "keras", "Functional": "keras.src.models.functional"}
_OF_TRAINING = ("compile_config", "build_config")


def _of_the_network(config: Any, major: int) -> Any:
    """Return the config of a model, of any kind of file, without that of its training."""
    if not isinstance(config, dict):
        return config
    own = {name: value for name, value in config.items() if name not in _OF_TRAINING}
    if major >= 3 and own.get("class_name") in _MODULES:
        own = {"module": _MODULES[own["class_name"]], "registered_name": None, **own}
    return own


# Classes that Keras makes from a config, beside layers and cells.
_KNOWN = {"function", "DTypePolicy", "Policy", "__keras_tensor__", "__tuple__", "__slice__",
          "__ellipsis__", "__numpy__"}  # fmt: skip
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
        is_known = kind in (*LAYERS, *OPERATIONS, *MODELS, *_KNOWN, *OF_MASKS) or kind.endswith(
            _CELLS
        )
        if not is_known or str(module).partition(".")[0] not in ("keras", "builtins"):
            raise NotImplementedError(f"{kind} of {module} is not of Keras alone")
    return {
        name: _cleaned(value)
        for name, value in config.items()
        if not name.endswith(IGNORED_ENDINGS)
    }


def _opened(config: Any, found: Translation, name: str = "") -> Any:
    """Return a config whose layers take any number of steps and begin from zero states.

    name   of the layer that the config is of
    """
    if isinstance(config, list | tuple):
        return [_opened(value, found, name) for value in config]
    if not isinstance(config, dict):
        return config
    opened = {}
    name = str(config.get("name") or name)
    for option, value in config.items():
        if option in ("batch_shape", "batch_input_shape") and isinstance(value, list | tuple):
            free = _num_free(found, name, len(value))
            value = tuple(None if n < free else size for n, size in enumerate(value))
        elif option in ("stateful", "unroll"):
            value = False
        elif option == "input_length":
            value = None if found.num_steps is None else value
        else:
            value = _opened(value, found, name)
        opened[option] = value
    return opened


def _num_free(found: Translation, name: str, rank: int) -> int:
    """Return how many axes of an input are free: that of the batch, and that of the steps."""
    if found.num_steps is not None:
        return 1
    values = {c.name: v for c, v in zip(found.inputs, found.reads, strict=False)}
    value = values.get(name)
    if value is not None:
        return 1 if value.kind == VECTOR else 2
    if rank != 2:
        return 2
    return 2 if any(v.kind == TOKENS or v.flat or v.ids for v in found.reads) else 1


# Rows of a network <-> arrays of Keras ------------------------------------------------------------


def shaped(xs: NDArray[Any], found: Translation) -> NDArray[Any]:
    """Return random rows as the inputs are: ones at ids, the same numbers in every row."""
    if not any(value.ids or value.fixed for value in found.reads):
        return xs
    xs, start = xs.copy(), 0
    for value in found.reads:
        part = xs[:, start : start + value.size]
        if value.ids:
            ids = part.reshape(len(xs), -1, value.ids).argmax(-1)
            part[:] = np.eye(value.ids, dtype=np.float32)[ids].reshape(part.shape)
        if value.fixed:
            part[:] = part[:1]
        start += value.size
    return xs


def _arrays(xs: NDArray[Any], found: Translation) -> list[NDArray[Any]]:
    """Return the inputs of Keras, a batch of one, that rows are."""
    if found.reads[0].kind == TOKENS:
        return [xs[None]]
    arrays, start = [], 0
    for value in found.reads:
        part = xs[:, start : start + value.size]
        start += value.size
        if value.ids:
            part = part.reshape(len(xs), -1, value.ids).argmax(-1).astype(np.float32)
        squeezed = value.flat or (value.ids and not value.table)
        part = part[:, 0] if squeezed else part
        if value.kind == VECTOR:
            arrays.append(part[-1:] if value.fixed else part)
        else:
            arrays.append(part[None])
    return arrays


def _run_of(model: Any, found: Translation) -> Run:
    """Return what runs a model as a network of numlstm runs: a row per step."""
    has_steps = any(value.kind != VECTOR for value in found.reads)
    only_sequences = all(value.kind == SEQUENCE for value in found.gives)
    is_causal = found.network.is_causal

    def call(xs: NDArray[Any]) -> list[NDArray[Any]]:
        arrays = _arrays(xs, found)
        ys = model(arrays if len(arrays) > 1 else arrays[0], training=False)
        every = list(ys.values()) if isinstance(ys, dict) else ys
        every = every if isinstance(every, list | tuple) else [every]
        return [
            y.reshape(*y.shape[: 2 if value.kind == SEQUENCE else 1], -1)
            for y, value in zip(map(_array, every), found.gives, strict=True)
        ]

    def last(xs: NDArray[Any]) -> NDArray[Any]:
        """Return the answer to the last step, (1, O)."""
        pairs = zip(call(xs), found.gives, strict=True)
        return np.concatenate([y[:, -1] if v.kind == SEQUENCE else y for y, v in pairs], -1)

    def run(xs: NDArray[Any]) -> NDArray[Any]:
        if not has_steps:
            ys = np.concatenate(call(xs if is_causal else xs[-1:]), -1)
            return np.asarray(ys[0] if only_sequences and not is_causal else ys)
        if only_sequences:
            return np.asarray(np.concatenate(call(xs), -1)[0])
        if not is_causal:
            return last(xs)
        if found.num_steps is None:
            return np.concatenate([last(xs[: t + 1]) for t in range(len(xs))])
        ys = reference_run(found.network, found.tensors)(xs)
        return np.concatenate([ys[:-1], last(xs)])

    return run


def _array(tensor: Any) -> NDArray[Any]:
    return np.asarray(tensor.detach().cpu() if hasattr(tensor, "detach") else tensor)
