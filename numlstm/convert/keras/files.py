"""Keras files, models and mappings -> a config and arrays by layer, with h5py and json alone.

Arrays are kept in two ways. Up to Keras 2, and in ``.h5`` files of Keras 3, a group named as the
layer lists them in order, the trained ones first. A ``.keras`` file has a path for each:
``layers/bidirectional/forward_layer/cell/vars/0``, by class and not by name.
"""

import json
import mmap
import os
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from numlstm.budget import spend
from numlstm.cached import cached_property
from numlstm.convert.assembly import Array, reading
from numlstm.convert.keras.config import MODELS, Config, Key, Leaf, class_of
from numlstm.convert.keras.hdf5 import (
    array_of,
    arrays_in,
    arrays_of_layers,
    attribute_of,
    check_heaps,
    names_in,
    text_of,
)
from numlstm.convert.zips import unpacked
from numlstm.errors import first_of
from numlstm.spec import WeightsError
from numlstm.strict_json import read_json

Named: TypeAlias = list[tuple[str, Array]]

_BYTES_OF_JSON = 48  # that Python takes for a character, as of "[]," and "[[["


@dataclass
class Source:
    """What is known of a Keras model.

    config    ``{"class_name": "Sequential", "config": ...}``, or None
    version   of Keras, or ""
    groups    arrays by the layer that lists them
    paths     arrays by their path, if the source has paths
    model     the live model, or None
    file      whence Keras itself can load it, or None
    is_custom   whether the config stands for classes of a user
    """

    config: Config | None
    version: str = ""
    backend: str = ""
    groups: dict[str, Named] = field(default_factory=dict)
    paths: dict[str, Array] | None = None
    is_mapping: bool = False
    model: Any = None
    file: Path | None = None
    is_custom: bool = False

    @property
    def major(self) -> int | None:
        """The first number of the version, or None."""
        match = re.match(r"\d+", self.version)
        return int(match[0]) if match else None

    def arrays_of(self, leaves: Sequence[Leaf]) -> dict[Key, list[Array]]:
        """Return the arrays of the leaves of one outermost layer.

        Raises
        ------
        WeightsError
            If there are others than they need.
        """
        if self.paths is not None:
            return {leaf.key: self._by_path(leaf) for leaf in leaves}
        name = leaves[0].key[0]
        named = self.groups.get(name)
        expected = sum(leaf.trained + leaf.fixed for leaf in leaves)
        if named is None:
            if expected == 0:
                return {leaf.key: [] for leaf in leaves}
            raise WeightsError(f"no weights; there are those of {first_of(self.groups) or 'none'}")
        if len(named) != expected:
            found = first_of(f"{name} {array.shape}" for name, array in named) or "none"
            raise WeightsError(f"expected {expected} weights, found {found}")
        rest = iter([array for _, array in (_in_order(named) if self.is_mapping else named)])
        trained = {leaf.key: [next(rest) for _ in range(leaf.trained)] for leaf in leaves}
        return {
            leaf.key: trained[leaf.key] + [next(rest) for _ in range(leaf.fixed)] for leaf in leaves
        }

    def _by_path(self, leaf: Leaf) -> list[Array]:
        assert self.paths is not None
        names = [f"{leaf.path}/vars/{n}" for n in range(leaf.trained + leaf.fixed)]
        missing = [name for name in names if name not in self.paths]
        if missing:
            raise WeightsError(f"no weights {', '.join(missing)}")
        more = self._folders.get(leaf.path, [])
        if len(more) != len(names):
            raise WeightsError(f"expected {len(names)} weights, found {first_of(more)}")
        return [self.paths[name] for name in names]

    @cached_property
    def _folders(self) -> dict[str, list[str]]:
        """The paths of arrays by the layer that has them."""
        folders: dict[str, list[str]] = {}
        for name in self.paths or ():
            folders.setdefault(name.partition("/vars/")[0], []).append(name)
        return folders

    def groups_of_layers(self) -> dict[str, Named]:
        """Return the arrays of each outermost layer, for a source whose layers are not known."""
        if self.paths is None:
            return {
                name: _in_order(named) if self.is_mapping else named
                for name, named in self.groups.items()
            }
        found: dict[str, Named] = {}
        for path, array in self.paths.items():
            parts = path.removeprefix("layers/").split("/")
            found.setdefault(parts[0], []).append(("/".join(parts[1:]), array))
        return {name: sorted(named, key=_place) for name, named in found.items()}


def _place(named: tuple[str, Array]) -> tuple[bool, list[tuple[int, str]]]:
    """Sort the forward layer before the backward one, and vars/10 after vars/9."""
    parts = named[0].split("/")
    numbered = [(int(p), "") if re.fullmatch("[0-9]{1,9}", p) else (-1, p) for p in parts]
    return "backward_layer" in parts, numbered


_ORDER = (
    "embeddings", "kernel", "recurrent_kernel", "gamma", "beta", "bias", "scale",
    "moving_mean", "moving_variance", "mean", "variance", "count",
)  # fmt: skip


def _in_order(named: Named) -> Named:
    """Return arrays that are known by name in the order in which Keras lists them."""

    def place(item: tuple[str, Array]) -> tuple[bool, int]:
        last = re.split(r"/|__", item[0].partition(":")[0])[-1]
        for n, name in enumerate(_ORDER):
            if last == name or (
                last.endswith(f"_{name}") and not last.endswith(f"recurrent_{name}")
            ):
                return "backward" in item[0], n
        return "backward" in item[0], len(_ORDER)

    return sorted(named, key=place)


# Reading ------------------------------------------------------------------------------------------


def read(source: Any, config: Any = None) -> Source:
    """Read a path, a live model, or a mapping of arrays; `config` where it has none of its own.

    Raises
    ------
    WeightsError
        If it is none of them, or damaged.
    """
    given = None if config is None else read_config(config)
    if isinstance(source, Mapping):
        found = _read_mapping(source)
    elif isinstance(source, str | os.PathLike):
        found = _read_file(Path(source))
    elif hasattr(source, "get_config") and hasattr(source, "layers"):
        found = _read_model(source)
    else:
        raise WeightsError(
            f"{type(source).__name__} is neither a path, a Keras model nor a mapping of arrays"
        )
    if given is not None:
        if found.config is not None:
            raise WeightsError("config is for weights without one; this source has its own")
        found.config = given
    if found.config is None:
        return found
    with reading("the config cannot be read"):
        # Weights may have been written by another Keras than the config, whose word counts.
        found.version = str(found.config.get("keras_version") or found.version or "")
        found.backend = str(found.config.get("backend") or found.backend)
        found.version = found.version or _version_of(found.config)
    return found


def read_config(config: Any) -> Config:
    """Return the config of a model: a dict, the text of a JSON, or the path of one."""
    if isinstance(config, os.PathLike) or (isinstance(config, str) and "{" not in config):
        config = _json(os.fspath(config), Path(config).read_bytes())
    elif isinstance(config, str):
        config = _json("the config", config)
    with reading("the config cannot be read"):
        return _of_a_model(_plain(config))


def _of_a_model(config: Any) -> Config:
    """Return what JSON holds if it is the config of a model."""
    if isinstance(config, dict) and "class_name" not in config and "layers" in config:
        kind = "Functional" if "output_layers" in config else "Sequential"
        config = {"class_name": kind, "config": config}  # what model.get_config() gives
    if not isinstance(config, dict) or class_of(config) not in MODELS:
        what = class_of(config) or type(config).__name__
        raise WeightsError(f"the config is of {what}, expected one of {', '.join(MODELS)}")
    return config


def _plain(data: Any) -> Any:
    """Return data as JSON would bring it back: a tuple as a list."""
    return json.loads(json.dumps(data, default=str))


def _version_of(config: Config) -> str:
    """Return the version that a config shows without naming it, or ""."""
    text = json.dumps(config)
    if '"DTypePolicy"' in text or '"batch_shape"' in text or '"__keras_tensor__"' in text:
        return "3"
    if '"inner_activation"' in text or '"border_mode"' in text:
        return "1"
    return "2" if '"batch_input_shape"' in text else ""


def _read_mapping(source: Mapping[Any, Any]) -> Source:
    groups: dict[str, Named] = {}
    for name, value in source.items():
        array = np.asarray(value)
        parts = re.split(r"/|__", str(name), maxsplit=1)
        if len(parts) < 2 or array.dtype.kind not in "fiu":
            raise WeightsError(f"{name!r} {array.dtype}: expected layer/weight and numbers")
        groups.setdefault(parts[0], []).append((parts[1], array))
    return Source(None, groups=groups, is_mapping=True)


def _read_model(model: Any) -> Source:
    root = type(model).__module__.partition(".")[0]
    version = getattr(sys.modules.get(root), "__version__", "")
    kind = type(model).__name__
    config = _plain(model.get_config())
    if isinstance(config, list):
        config = {"layers": config}
    groups: dict[str, Named] = {}
    for layer in model.layers:
        listed = [*layer.trainable_weights, *layer.non_trainable_weights]
        values = layer.get_weights()
        if len(listed) == len(values):
            own = {id(weight): value for weight, value in zip(layer.weights, values, strict=True)}
            values = [own[id(weight)] for weight in listed]
        groups[layer.name] = [(f"{layer.name}/{n}", np.asarray(v)) for n, v in enumerate(values)]
    described = read_config({"class_name": kind, "config": config})
    return Source(described, str(version), groups=groups, model=model)


def _read_file(path: Path) -> Source:
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder; save the model as .keras or .h5")
    with path.open("rb") as file:  # what cannot be opened is an OSError
        head = file.read(8)
    with reading("cannot be read as a Keras .keras or .h5 file", str(path)):
        found = _read_zip(path) if head[:4] == b"PK\x03\x04" else _read_h5(path)
    found.file = path
    return found


def _json(subject: str, text: str | bytes) -> Any:
    spend(subject, _BYTES_OF_JSON * len(text), 100 * len(text))
    try:
        return read_json(text)
    except ValueError as error:
        raise WeightsError(f"{subject} is not JSON: {error}") from error


def _read_zip(path: Path) -> Source:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        missing = {"config.json", "model.weights.h5"} - names
        if missing:
            raise WeightsError(f"holds no {', '.join(sorted(missing))}")
        config = _json("config.json", unpacked(archive, "config.json").getvalue())
        metadata: Any = {}
        if "metadata.json" in names:
            metadata = _json("metadata.json", unpacked(archive, "metadata.json").getvalue())
        weights = unpacked(archive, "model.weights.h5")
        check_heaps(weights.getbuffer())
        with h5py.File(weights, "r") as file:
            arrays = arrays_of_layers(arrays_in(file))
    version = str(metadata.get("keras_version", ""))
    return Source(_of_a_model(config), version, paths=arrays)


def _read_h5(path: Path) -> Source:
    with path.open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        check_heaps(data)
    with h5py.File(path, "r") as file:
        arrays = arrays_in(file)
        root = "model_weights/" if "model_weights" in file else ""
        top = file["model_weights"] if root else file
        config, version, backend = (
            next(
                (text_of(v) for at in (file, top) if (v := attribute_of(at, name)) is not None),
                None,
            )
            for name in ("model_config", "keras_version", "backend")
        )
        names = names_in(top, "layer_names")
        groups: dict[str, Named] = {}
        for layer in dict.fromkeys(names or []):
            weights = names_in(top[layer], "weight_names") or []
            missing = [w for w in weights if f"{root}{layer}/{w}" not in arrays]
            if missing:
                raise WeightsError(f"lists {first_of(missing)} of {layer}, which are missing")
            of_layer = [f"{root}{layer}/{w}" for w in weights]
            groups[layer] = [
                (w, array_of(name, arrays[name])) for w, name in zip(weights, of_layer, strict=True)
            ]
        paths = arrays_of_layers(arrays) if names is None else None
    if paths is not None and not any("/vars/" in name for name in paths):
        raise WeightsError("is an HDF5 file, but not of Keras: it lists no layers")
    given = None if config is None else _of_a_model(_json("model_config", config))
    return Source(given, version or "", backend or "", groups, paths)
