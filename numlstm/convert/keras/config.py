"""The config of a Keras model: its layers, and how many arrays each has where."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from numlstm.spec import WeightsError

Key: TypeAlias = tuple[str, ...]
Config: TypeAlias = dict[str, Any]

MODELS = ("Sequential", "Functional", "Model")
RECURRENT = ("SimpleRNN", "GRU", "LSTM", "CuDNNGRU", "CuDNNLSTM")


@dataclass(frozen=True)
class Leaf:
    """A layer, or part of one, that has arrays of its own.

    key      names from the outermost layer to it: ("bidirectional", "forward")
    path     in a .keras file
    trained  how many of its arrays are trained, which stand first, and how many are `fixed`
    """

    key: Key
    path: str
    trained: int
    fixed: int


def class_of(item: Any) -> str:
    """Return the class of a layer in a config."""
    return str(item.get("class_name", "")) if isinstance(item, dict) else ""


def config_of(item: Config) -> Config:
    """Return the options of a layer in a config; those of Keras 1 models are a list."""
    config = item.get("config", {})
    return {"layers": config} if isinstance(config, list) else config


def name_of(item: Config) -> str:
    """Return the name of a layer in a config."""
    return str(item.get("name") or config_of(item).get("name") or class_of(item))


def layers_of(item: Config) -> list[Config]:
    """Return the layers of a model in a config."""
    layers = config_of(item).get("layers", [])
    if not isinstance(layers, list) or not all(
        isinstance(layer, dict) and isinstance(layer.get("config", {}), dict | list)
        for layer in layers
    ):
        raise WeightsError(f"the config of {class_of(item)} is not a list of layers")
    return layers


def place_of(n: int, layer: Config) -> str:
    return f'layer {n} "{name_of(layer)}"'


def every_layer(item: Any) -> Iterator[Config]:
    """Yield the layers of a model and those within them."""
    config = config_of(item)
    inner = config.get("layers") if class_of(item) in MODELS else None
    parts = [*(inner or []), *(config.get("cells") or [])]
    parts += [config.get(name) for name in ("layer", "backward_layer", "cell")]
    for part in parts:
        if isinstance(part, dict):
            yield part
            yield from every_layer(part)


def leaves_of(item: Config, key: Key, path: str, is_trained: bool = True) -> Iterator[Leaf]:
    """Yield the parts of a layer that have arrays, in the order in which Keras lists them."""
    config, kind = config_of(item), class_of(item)
    is_trained = is_trained and config.get("trainable", True) is not False
    if kind in MODELS:
        inner = layers_of(item)
        for part, segment in zip(inner, _segments(inner), strict=True):
            place = f"{path}/layers/{segment}"
            yield from leaves_of(part, (*key, name_of(part)), place, is_trained)
    elif kind == "Bidirectional":
        forward = config.get("layer") or {}
        for word, layer in (("forward", forward), ("backward", config.get("backward_layer"))):
            yield from leaves_of(layer or forward, (*key, word), f"{path}/{word}_layer", is_trained)
    elif kind == "TimeDistributed":
        yield from leaves_of(
            config.get("layer") or {}, (*key, "layer"), f"{path}/layer", is_trained
        )
    elif kind == "RNN":
        cell = config.get("cell") or {}
        yield from leaves_of(cell, (*key, "cell"), f"{path}/cell", is_trained)
    elif kind == "StackedRNNCells":
        cells = config.get("cells") or []
        for n, (cell, segment) in enumerate(zip(cells, _segments(cells), strict=True)):
            yield from leaves_of(cell, (*key, str(n)), f"{path}/cells/{segment}", is_trained)
    else:
        trained, fixed = _num_arrays(kind, config)
        place = f"{path}/cell" if kind in RECURRENT else path
        yield (
            Leaf(key, place, trained, fixed) if is_trained else Leaf(key, place, 0, trained + fixed)
        )


def _num_arrays(kind: str, config: Config) -> tuple[int, int]:
    """Return how many arrays a layer has that are trained and that are not."""
    bias = int(config.get("use_bias", config.get("bias", True)) is not False)
    match kind.removesuffix("Cell"):
        case "Embedding":
            return 1, 0
        case "Dense" | "TimeDistributedDense" | "Conv1D" | "Convolution1D" | "AtrousConvolution1D":
            return 1 + bias, 0
        case "SimpleRNN" | "CuDNNLSTM" | "CuDNNGRU":
            return 2 + bias, 0
        case "LSTM" | "GRU" as name:
            # Keras 1 has an array per gate, if not told to be fast on a GPU.
            if "inner_activation" in config and config.get("consume_less") != "gpu":
                return 12 if name == "LSTM" else 9, 0
            return 2 + bias, 0
        case "BatchNormalization":
            return sum(config.get(name, True) is not False for name in ("scale", "center")), 2
        case "LayerNormalization" | "GroupNormalization":
            return sum(config.get(name, True) is not False for name in ("scale", "center")), 0
        case "Normalization":
            return 0, 0 if config.get("mean") is not None else 3
        case "PReLU" | "RMSNormalization":
            return 1, 0
        case "Attention":
            return bool(config.get("use_scale")) + (config.get("score_mode") == "concat"), 0
        case "AdditiveAttention":
            return int(config.get("use_scale", True) is not False), 0
    return 0, 0


def _segments(layers: Sequence[Any]) -> list[str]:
    """Return the names of layers in the paths of a .keras file: their classes, numbered."""
    seen: dict[str, int] = {}
    names = []
    for layer in layers:
        kind = str(layer.get("written_as") or class_of(layer))
        parts = re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", kind).lower()
        count = seen.get(parts, 0)
        seen[parts] = count + 1
        names.append(f"{parts}_{count}" if count else parts)
    return names


def paths_of(item: Config) -> list[str]:
    """Return the path in a .keras file of each layer of the outermost model."""
    return [f"layers/{segment}" for segment in _segments(layers_of(item))]
