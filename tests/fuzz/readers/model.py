"""Files of numlstm: bytes changed under the old checksum, contents changed under a new one."""

import hashlib
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

import numlstm
from numlstm import spec
from numlstm.container import TYPES, write
from tests.fuzz import Found
from tests.fuzz._changes import NUMBERS, VALUES, change_bytes, change_json, json_text, some
from tests.fuzz._promises import check_model, refused

WORDS = (
    *spec.LAYERS, *spec.FUNCTIONS, *spec.POOLINGS, *spec.DTYPES, "leaky_relu(0.3)", "layer",
    "input_size", "hidden_size", "output_size", "kernel_size", "name", "inputs", "input", "a", "b",
    "activation", "direction", "bidirectional", "reverse", "outputs", "last", "merge", "sum", "mul",
    "padding", "stride", "dilation", "groups", "source", "memory", "memory_size", "num_steps",
    "vocab_size", "embedding_size", "mask_zero", "activations", "int16", "eps", "clip", "proj_size",
    "initial_state", "shared", "score", "general", "additive", "dot", "bias", "size",
    "nonlinearity",
)  # fmt: skip

Fields = dict[str, str]
Stored = dict[str, NDArray[Any]]

_MAX_FITTED = 2**16  # numbers of the tensors that are made for a network


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    if random.random() < 0.3:
        return change_bytes(data, donor, random)
    fields, tensors = apart(data)
    others, other_tensors = apart(donor)
    for _ in some(3, random):
        random.choice(_CHANGES)(fields, tensors, others, other_tensors, random)
    return together(fields, tensors)


def read(data: bytes, folder: Path, random: Random) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(data)
    dtype = random.choice((None, None, None, *spec.DTYPES))
    try:
        models = numlstm.load_parts(path, dtype=dtype)
    except numlstm.WeightsError as error:
        return refused(error)
    fields, tensors = apart(data)
    if digest(fields, tensors) != fields["sha256"]:
        raise Found("a file was read whose checksum is not that of what it holds")
    outcome = "empty"
    for model in models.values():
        outcome = check_model(model, random)
        model.info()
        if random.random() < 0.1:
            model.save(path)
            saved = numlstm.load(path)
            if saved.fingerprint != model.fingerprint:
                raise Found("what was read, saved and read again is another model")
    return outcome


# The format, written anew from its description ----------------------------------------------------


def apart(data: bytes) -> tuple[Fields, Stored]:
    """Return the metadata and the tensors of a file that can be read."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    fields = header.pop("__metadata__", {})
    tensors = {}
    for name, described in header.items():
        start, stop = (8 + size + at for at in described["data_offsets"])
        numbers = np.frombuffer(data[start:stop], TYPES[described["dtype"]])
        tensors[name] = numbers.reshape(described["shape"])
    return fields, tensors


def digest(fields: Fields, tensors: Stored) -> str:
    found = hashlib.sha256(
        json.dumps({n: t for n, t in fields.items() if n != "sha256"}, sort_keys=True).encode()
    )
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tensor.shape}".encode() + tensor.tobytes())
    return found.hexdigest()


def together(fields: Fields, tensors: Stored) -> bytes:
    """Return the file of metadata and tensors, with their checksum."""
    try:
        fields = fields | {"sha256": digest(fields, tensors)}
        file = io.BytesIO()
        write(file, tensors, fields)
    except UnicodeEncodeError:  # half of a surrogate pair in a name
        return json.dumps([fields, list(tensors)]).encode()
    return file.getvalue()


# Changes ------------------------------------------------------------------------------------------


def _network_keys(fields: Fields) -> list[str]:
    return [name for name in fields if name.rpartition("/")[2] == "network"]


def _change_network(
    fields: Fields, tensors: Stored, others: Fields, _: Stored, random: Random
) -> None:
    """Change the layers; half of the time give them the tensors that they ask for."""
    key = random.choice(_network_keys(fields) or ["network"])
    donor = json.loads(others[random.choice(_network_keys(others))])
    text = changed_network(json.loads(fields.get(key, "[]")), donor, random)
    fields[key] = text
    if random.random() < 0.5:
        _fit(text, key.removesuffix("network"), tensors, random)


def changed_network(layers: Any, donor: Any, random: Random) -> str:
    """Return the JSON of other layers, which half of the time read what is before them."""
    changed = change_json(layers, donor, WORDS, random)
    if isinstance(changed, list) and random.random() < 0.5:
        _join(changed)
    return json_text(changed)


def _join(layers: list[Any]) -> None:
    """Give each layer the input size that follows from those it reads, as far as that is known."""
    sizes: dict[Any, int] = {}
    before = None
    for layer in layers:
        try:
            options = {name: value for name, value in layer.items() if name != "layer"}
            read = [sizes[name] for name in options.get("inputs", ())] or [before]
            if None not in read and "input_size" in options:
                adds = layer["layer"] in ("Add", "Multiply")
                layer["input_size"] = options["input_size"] = read[0] if adds else sum(read)
            made = spec.LAYERS[layer["layer"]](**options)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            before = None
            continue
        before = sizes[made.name] = made.output_size
        sizes.setdefault("input", made.input_size)


def _fit(text: str, prefix: str, tensors: Stored, random: Random) -> None:
    try:
        network = spec.Network.from_json(json.loads(text))
    except (ValueError, RecursionError):
        return
    shapes, dtypes = network.tensor_shapes(), network.matrix_dtypes()
    if sum(float(np.prod(shape, dtype=float)) for shape in shapes.values()) > _MAX_FITTED:
        return
    generator = np.random.default_rng(random.getrandbits(32))
    for name in [n for n in tensors if n.startswith((f"{prefix}layers.", f"{prefix}embedding."))]:
        del tensors[name]
    for name, shape in shapes.items():
        drawn = generator.normal(0, 0.5, shape).astype(np.float32)
        drawn = np.abs(drawn) if name.endswith("running_var") else drawn
        match dtypes.get(name, "float32"):
            case "int8":
                tensors[prefix + name] = (drawn * 50).clip(-127, 127).astype(np.int8)
                tensors[f"{prefix}{name}.scale"] = np.full(shape[0], 0.01, np.float32)
            case "bfloat16":
                tensors[prefix + name] = (drawn.view(np.uint32) >> 16).astype(np.uint16)
            case _:
                tensors[prefix + name] = drawn


def _change_numbers(_: Fields, tensors: Stored, __: Fields, ___: Stored, random: Random) -> None:
    name = random.choice(list(tensors) or [""])
    if name and tensors[name].size:
        changed = tensors[name].copy()
        numbers = changed.reshape(-1)
        special = random.choice((0, 1, -1, 127, -128, 1e-45, 1e30, -1e38, np.inf, np.nan))
        at = random.randrange(numbers.size)
        with np.errstate(all="ignore"):
            if changed.dtype == np.float32 or np.isfinite(special):
                numbers[at : at + random.choice((1, numbers.size))] = np.array(special).astype(
                    changed.dtype
                )
        tensors[name] = changed


def _change_tensor(_: Fields, tensors: Stored, __: Fields, donors: Stored, random: Random) -> None:
    name = random.choice(list(tensors) or [""])
    found = tensors.pop(name, np.zeros((), np.float32))
    match random.randrange(6):
        case 0:
            return
        case 1:
            name = random.choice((*donors, *tensors, "", "x/y", f"{name}.scale", "\0", "é" * 99))
        case 2:
            found = random.choice(list(donors.values()) or [found])
        case 3:
            shape = found.shape[::-1] if random.random() < 0.5 else (found.size,)
            found = found.reshape(random.choice((shape, (*found.shape, 1), (1, *found.shape))))
        case 4:
            found = found[: random.randrange(len(found) + 1)] if found.ndim else found
        case _:
            kind = random.choice(list(TYPES.values()))
            with np.errstate(all="ignore"):
                found = found.astype(kind)
    tensors[name] = found


def _change_fields(fields: Fields, _: Stored, others: Fields, __: Stored, random: Random) -> None:
    name = random.choice(list(fields) or ["format"])
    match random.randrange(5):
        case 0:
            fields.pop(name, None)
        case 1:
            fields[name] = random.choice(list(others.values()))
        case 2:
            fields[name] = str(random.choice(VALUES))
        case 3:
            fields[random.choice((*others, "parts", "a/network", "version", ""))] = random.choice(
                ('["a"]', '["a", "a"]', "[]", '[""]', "1", "2", "3", str(random.choice(NUMBERS)))
            )
        case _:
            old = fields.get(name, "")
            text = change_bytes(old.encode("utf-8", "replace"), b"[1, {}]", random)
            fields[name] = text.decode("utf-8", "replace")


_CHANGES = (
    _change_network, _change_network, _change_network, _change_numbers, _change_tensor,
    _change_fields,
)  # fmt: skip
