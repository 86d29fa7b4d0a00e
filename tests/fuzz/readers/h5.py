"""Keras ``.h5`` files of every version: their bytes, the JSON in them, groups and arrays."""

import io
import json
import warnings
import zlib
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

import numlstm
import numlstm.convert.keras as convert
from tests.fuzz._changes import change_bytes, change_json, json_text, some
from tests.fuzz._promises import check_model, refused
from tests.fuzz.readers import seeds

WORDS = (
    "class_name", "config", "layers", "name", "units", "activation", "recurrent_activation", "LSTM",
    "GRU", "SimpleRNN", "Bidirectional", "Dense", "Embedding", "TimeDistributed", "Sequential",
    "Functional", "Model", "InputLayer", "Conv1D", "BatchNormalization", "Masking", "Activation",
    "Dropout", "Concatenate", "Add", "GlobalMaxPooling1D", "RepeatVector", "Softmax", "tanh",
    "relu",
    "hard_sigmoid", "sigmoid", "return_sequences", "go_backwards", "stateful", "unroll",
    "reset_after", "implementation", "merge_mode", "concat", "mul", "use_bias", "batch_input_shape",
    "batch_shape", "input_dim", "output_dim", "mask_zero", "kernel_size", "filters", "strides",
    "padding", "causal", "dilation_rate", "axis", "epsilon", "inbound_nodes", "input_layers",
    "output_layers", "n", "value", "alpha", "rate", "groups", "__keras_tensor__", "keras_history",
    "cell", "layer", "backward_layer", "StackedRNNCells", "RNN", "Lambda", "registered_name",
)  # fmt: skip

_ask_keras = convert.probes_of
_FULL = 500  # one in so many conversions asks Keras, too, which takes a second


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    if random.random() < 0.3:
        return change_bytes(data, donor, random)
    return changed_h5(data, donor, random)


def read(data: bytes, folder: Path, random: Random) -> str:
    path, config = folder / "model.h5", None
    path.write_bytes(data)
    if not data.startswith(b"PK") and b"model_config" not in data:
        config = folder / "config.json"
        config.write_text(_config_for(data, random))
    return convert_keras(path, config, data, random)


def convert_keras(path: Path, config: Any, data: bytes, random: Random) -> str:
    is_full = zlib.crc32(data) % _FULL == 0
    convert.probes_of = _ask_keras if is_full else lambda *_: ((), "nobody")
    try:
        with warnings.catch_warnings(action="ignore"):
            model = numlstm.from_keras(path, config=config)
    except numlstm.WeightsError as error:
        return refused(error)
    return check_model(model, random)


def _config_for(data: bytes, random: Random) -> str:
    """Return the config of weights that have none, half of the time a changed one."""
    configs = seeds("keras_config")
    described = json.loads(
        next(c for c in configs if (b"embedding" in c) == (b"lstm_2" not in data))
    )
    if random.random() < 0.5:
        described = change_json(described, described, WORDS, random)
    return json_text(described)


# Changes ------------------------------------------------------------------------------------------


def changed_h5(data: bytes, donor: bytes, random: Random) -> bytes:
    """Return an HDF5 file with other attributes, arrays, groups, links."""
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as tree:
        for _ in some(4, random):
            random.choice(_CHANGES)(tree, random)
    return file.getvalue()


def _items(tree: Any, kind: type) -> list[Any]:
    found: list[Any] = []
    tree.visititems(lambda name, item: found.append(item) if isinstance(item, kind) else None)
    return found


def _change_config(tree: Any, random: Random) -> None:
    if "model_config" not in tree.attrs:
        return _change_attribute(tree, random)
    text = tree.attrs["model_config"]
    described = json.loads(text)
    tree.attrs["model_config"] = json_text(change_json(described, described, WORDS, random))
    return None


def _change_attribute(tree: Any, random: Random) -> None:
    holder = random.choice([tree, *_items(tree, h5py.Group)])
    names = [*holder.attrs, "layer_names", "weight_names", "weight_names0", "keras_version"]
    name = random.choice(names)
    match random.randrange(5):
        case 0 if name in holder.attrs:
            del holder.attrs[name]
        case 1:
            holder.attrs[name] = random.choice(("1.2", "2.0.0", "3", "x", "", 7, b"\xff", 1e300))
        case 2:
            holder.attrs[name] = random.choice(
                (np.zeros(3), np.array([b"a", b"a"]), h5py.Empty("f"))
            )
        case _ if name in holder.attrs and np.ndim(holder.attrs[name]) == 1:
            values = list(holder.attrs[name])
            random.shuffle(values)
            holder.attrs[name] = (values * 2)[: random.randrange(1, 2 * len(values) + 2)] or [b""]


def _change_array(tree: Any, random: Random) -> None:
    arrays = _items(tree, h5py.Dataset)
    if not arrays:
        return
    old = random.choice(arrays)
    name, holder, values = old.name, old.parent, np.asarray(old[()])
    del holder[name]
    match random.randrange(8):
        case 0:
            return
        case 1:
            holder[name] = values.reshape(values.shape[::-1])
        case 2:
            with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
                holder[name] = values.astype(
                    random.choice(("f2", "f8", "i4", "u1", "?", "c8", "S4"))
                )
        case 3:
            shape = random.choice(((2**24,), (2**16, 2**12), (0, 5), (2**40,), (1,) * 12))
            holder.create_dataset(name, shape, "f4", chunks=True, compression="gzip")
        case 4:
            external = [("/dev/zero", 0, h5py.h5f.UNLIMITED)]
            holder.create_dataset(name, values.shape, "f4", external=external)
        case 5:
            holder[name] = random.choice(
                (
                    h5py.SoftLink("/"),
                    h5py.SoftLink("/none"),
                    h5py.ExternalLink("../secret.h5", "/x"),
                )
            )
        case 6:
            holder[name] = values.ravel()[: random.randrange(values.size + 1)]
        case _:
            with np.errstate(all="ignore"):
                holder[name] = values * random.choice((np.nan, np.inf, 1e30, 0, -1))


def _change_group(tree: Any, random: Random) -> None:
    groups = _items(tree, h5py.Group)
    if not groups:
        return
    group = random.choice(groups)
    match random.randrange(3):
        case 0:
            del group.parent[group.name]
        case 1:
            tree.move(group.name, random.choice(("/x", f"{group.name}2", "/layers", "/a/b/c")))
        case _:
            tree.copy(group, f"/copy{random.randrange(3)}")


_CHANGES = (_change_config, _change_config, _change_config, _change_attribute, _change_array,
            _change_group)  # fmt: skip
