"""One .safetensors file <-> `Weights`, or several by their names.

The file opens with the plain safetensors library. Its tensors are those of the network, under
their canonical names, and ``probes.{n}.xs``, ``probes.{n}.ys``, of a decoder with ``.memory`` and
``.memory_ids``. A matrix is F32, BF16, or I8 with the scales of its rows in ``NAME.scale``, as the
dtype of its layer says; all else is F32, and token ids are I32. The metadata, all strings:

    format           "numlstm"
    version          "1" if all matrices are F32, "2" if not, "3" if there are several networks
    network          JSON, the layers (`Network.to_json`)
    labels           JSON, a list of strings
    tokenizer.json   the text of that file, if the model reads text
    origin           the framework that gave the tensors and the probes
    sha256           of the metadata above and the tensors (`_digest`)

Several networks (an encoder and a decoder, say) are parts: all of a part's names, of tensors and in
the metadata, begin with ``PART/``; format, version and sha256 are of the whole file, ``parts`` is a
JSON list of their names.
"""

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.container import Container, bytes_of, write
from numlstm.quantize import FLOAT32, FORMATS, Format, Matrix, dtypes_of, encoded
from numlstm.spec import Network, Probe, Tensors, Weights, WeightsError

_FORMAT = "numlstm"
_VERSIONS = ("1", "2", "3")

Stored = dict[str, NDArray[Any]]


def bundled() -> dict[str, Path]:
    """Return the paths of the bundled models by name."""
    here = Path(__file__).parent
    # Inside the package where a wheel was installed, beside it in a source tree.
    in_source = (here.parent / "pyproject.toml").is_file()
    folder = here.parent / "weights" if in_source else here / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"), key=lambda p: p.stem)}


def find(name: str | os.PathLike[str]) -> Path:
    """Return the path of a model: a bundled one by its name, else a file.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    """
    models = bundled()
    if isinstance(name, str) and name in models:
        return models[name]
    path = Path(name)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not a file"
        known = ", ".join(models) or "none"
        raise FileNotFoundError(f"{os.fspath(name)!r} {what}; bundled models: {known}")
    return path


def save(weights: Weights, path: str | os.PathLike[str]) -> None:
    """Write a model file. What was at the path stays there until the new file is complete.

    Raises
    ------
    WeightsError
        If a number is too large for the dtype of its layer.
    """
    fields, tensors = _packed(weights)
    is_float32 = dtypes_of(weights.network) == [FLOAT32.name]
    _write({"version": _VERSIONS[0] if is_float32 else _VERSIONS[1], **fields}, tensors, path)


def save_parts(parts: Mapping[str, Weights], path: str | os.PathLike[str]) -> None:
    """Write several networks to one file, as `save` does.

    Raises
    ------
    ValueError
        If there are none, or a name is empty or has a slash in it.
    """
    wrong = [name for name in parts if not isinstance(name, str) or not name or "/" in name]
    if wrong or not parts:
        raise ValueError(f"parts are named {list(parts)}, expected names without a slash")
    metadata = {"version": _VERSIONS[2], "parts": json.dumps(list(parts))}
    tensors: Stored = {}
    for part, weights in parts.items():
        fields, own = _packed(weights)
        metadata |= {f"{part}/{name}": text for name, text in fields.items()}
        tensors |= {f"{part}/{name}": tensor for name, tensor in own.items()}
    _write(metadata, tensors, path)


def load(path: str | os.PathLike[str]) -> Weights:
    """Read a model file. The tensors are float32, and exactly what the file holds.

    Raises
    ------
    WeightsError
        If the file is truncated, altered, not of numlstm, or holds several networks.
    """
    parts = load_parts(path)
    if "" not in parts:
        names = ", ".join(parts)
        raise WeightsError(f"{path}: holds several networks, {names}: read it with load_parts")
    return parts[""]


def load_parts(path: str | os.PathLike[str]) -> dict[str, Weights]:
    """Read all networks of a file by their names, a single one as "".

    Raises
    ------
    WeightsError
        If the file is truncated, altered, or not of numlstm.
    """
    metadata, tensors = _read(path)
    found = metadata.pop("sha256", None)
    if found != _digest(metadata, tensors):
        raise WeightsError(f"{path}: the file was altered: its checksum does not match")
    try:
        if "parts" not in metadata:
            return {"": _unpacked(metadata, tensors)}
        return {
            part: _unpacked(_under(part, metadata), _under(part, tensors))
            for part in _read_names("parts", metadata["parts"])
        }
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: {error}") from error


def _under(part: str, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return what begins with the name of a part, without it."""
    prefix = f"{part}/"
    return {n.removeprefix(prefix): value for n, value in named.items() if n.startswith(prefix)}


def _packed(weights: Weights) -> tuple[dict[str, str], Stored]:
    """Return the metadata and the tensors of a network."""
    tensors = _encoded(weights)
    for n, probe in enumerate(weights.probes):
        for name, array in vars(probe).items():
            if array is not None:
                tensors[f"probes.{n}.{name}"] = np.ascontiguousarray(array)
    fields = {
        "network": json.dumps(weights.network.to_json()),
        "labels": json.dumps(weights.labels),
        "origin": weights.origin,
    }
    if weights.tokenizer is not None:
        fields["tokenizer.json"] = weights.tokenizer
    return fields, tensors


def _unpacked(fields: Mapping[str, str], tensors: Stored) -> Weights:
    probes: list[Probe] = []
    while (name := f"probes.{len(probes)}.xs") in tensors:
        stem = name.removesuffix(".xs")
        xs = tensors.pop(name)
        ys = tensors.pop(f"{stem}.ys", None)
        if ys is None:
            raise WeightsError(f"{name} has no ys")
        given = (tensors.pop(f"{stem}.{key}", None) for key in ("memory", "memory_ids"))
        probes.append(Probe(xs, ys, *given))
    network = Network.from_json(json.loads(fields.get("network", "null")))
    return Weights(
        network=network,
        tensors=_decoded(network, tensors),
        labels=_read_names("labels", fields.get("labels", "[]")),
        tokenizer=fields.get("tokenizer.json"),
        probes=tuple(probes),
        origin=fields.get("origin", ""),
    )


def _write(metadata: dict[str, str], tensors: Stored, path: str | os.PathLike[str]) -> None:
    metadata = {"format": _FORMAT, **metadata}
    metadata["sha256"] = _digest(metadata, tensors)
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with partial.open("wb") as file:
            write(file, tensors, metadata)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _encoded(weights: Weights) -> Stored:
    """Return the tensors as they are stored: matrices in the dtypes of their layers."""
    stored: Stored = {}
    for name, tensor in encoded(weights).items():
        if not isinstance(tensor, Matrix):
            stored[name] = np.ascontiguousarray(tensor)
            continue
        stored[name] = np.ascontiguousarray(tensor.numbers)
        if tensor.scale is not None:
            stored[f"{name}.scale"] = tensor.scale
    return stored


def _decoded(network: Network, stored: Stored) -> Tensors:
    """Return the tensors in float32; those that do not fit the network stay as they are.

    Raises
    ------
    WeightsError
        If matrices are not of the dtypes of their layers.
    """
    tensors, shapes, problems = dict(stored), network.tensor_shapes(), []
    for name, dtype in network.matrix_dtypes().items():
        form = FORMATS[dtype]
        scale = tensors.pop(f"{name}.scale", None) if form.has_scale else None
        if name in tensors and tensors[name].shape == shapes[name]:
            try:
                tensors[name] = _matrix(form, tensors[name], scale).values()
            except WeightsError as error:
                problems.append(f"{name}  {error}")
        # Else the network says so, with all that does not fit.
    if problems:
        raise WeightsError("matrices are damaged:\n  " + "\n  ".join(problems))
    return tensors


def _matrix(form: Format, numbers: NDArray[Any], scale: NDArray[Any] | None) -> Matrix:
    """Return a matrix, or raise a `WeightsError` if it is not of the format."""
    if numbers.dtype != form.type:
        names = (other.name for other in FORMATS.values() if other.type == numbers.dtype)
        raise WeightsError(f"expected {form.name}, found {next(names, numbers.dtype)}")
    if form.has_scale:
        if scale is None:
            raise WeightsError("its scale is missing")
        if scale.shape != (len(numbers),) or scale.dtype != np.float32:
            found = f"{scale.dtype}{scale.shape}"
            raise WeightsError(f"expected its scale float32{(len(numbers),)}, found {found}")
    form.check(numbers, scale)
    return Matrix(form, numbers, scale)


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, str], Stored]:
    """Return the metadata and the tensors of a file, those of bfloat16 as uint16.

    Raises
    ------
    WeightsError
        If the file is not complete, of another program, or has tensors of other dtypes.
    """
    try:
        with Container(path) as file:
            metadata = file.metadata
            if metadata.get("format") != _FORMAT:
                raise WeightsError("not a numlstm model; convert it with numlstm convert")
            if metadata.get("version") not in _VERSIONS:
                raise WeightsError(
                    f"version {metadata.get('version')!r} of the format, "
                    f"this numlstm reads {', '.join(_VERSIONS)}; upgrade numlstm"
                )
            file.check()
            return metadata, dict(file)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _read_names(what: str, text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WeightsError(f"{what} is not a list of strings")
    return tuple(names)


def _digest(metadata: dict[str, str], tensors: Stored) -> str:
    """Return the SHA-256 of the metadata and of the tensors in the order of their names."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()
