"""One .safetensors file <-> `Weights`.

The file opens with the plain safetensors library. Its tensors are those of the network, under
their canonical names, and ``probes.{n}.xs``, ``probes.{n}.ys``. Its metadata, all strings:

    format           "numlstm"
    version          "1"
    network          JSON, the layers (`Network.to_json`)
    labels           JSON, a list of strings
    tokenizer.json   the text of that file, if the model reads text
    origin           the framework that gave the tensors and the probes
    sha256           of the metadata above and the tensors (`_digest`)
"""

import hashlib
import json
import os
import threading
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from numlstm.spec import Network, Probe, Weights, WeightsError

_FORMAT = "numlstm"
_VERSION = "1"


def bundled() -> dict[str, Path]:
    """Return the paths of the bundled models by name."""
    here = Path(__file__).parent
    # Inside the package where a wheel was installed, beside it in a source tree.
    in_source = (here.parent / "pyproject.toml").is_file()
    folder = here.parent / "weights" if in_source else here / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


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
    """Write a model file. What was at the path stays there until the new file is complete."""
    tensors: dict[str, NDArray[np.generic]] = {
        name: np.ascontiguousarray(tensor) for name, tensor in weights.tensors.items()
    }
    for n, probe in enumerate(weights.probes):
        tensors[f"probes.{n}.xs"] = np.ascontiguousarray(probe.xs)
        tensors[f"probes.{n}.ys"] = np.ascontiguousarray(probe.ys)
    metadata = {
        "format": _FORMAT,
        "version": _VERSION,
        "network": json.dumps(weights.network.to_json()),
        "labels": json.dumps(weights.labels),
        "origin": weights.origin,
    }
    if weights.tokenizer is not None:
        metadata["tokenizer.json"] = weights.tokenizer
    metadata["sha256"] = _digest(metadata, tensors)
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        partial.write_bytes(safetensors.numpy.save(tensors, metadata))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Weights:
    """Read a model file.

    Raises
    ------
    WeightsError
        If the file is truncated, altered, or not of numlstm.
    """
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise WeightsError(f"{path}: not a numlstm model; convert it with numlstm convert")
            if metadata.get("version") != _VERSION:
                raise WeightsError(
                    f"{path}: version {metadata.get('version')!r} of the format, "
                    f"this numlstm reads {_VERSION!r}; upgrade numlstm"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{path}: not a complete .safetensors file: {error}") from error
    found = metadata.pop("sha256", None)
    if found != _digest(metadata, tensors):
        raise WeightsError(f"{path}: the file was altered: its checksum does not match")
    probes: list[Probe] = []
    while (name := f"probes.{len(probes)}.xs") in tensors:
        ys = tensors.pop(f"probes.{len(probes)}.ys", None)
        if ys is None:
            raise WeightsError(f"{path}: {name} has no ys")
        probes.append(Probe(tensors.pop(name), ys))
    try:
        return Weights(
            network=Network.from_json(json.loads(metadata.get("network", "null"))),
            tensors=tensors,
            labels=_read_labels(metadata.get("labels", "[]")),
            tokenizer=metadata.get("tokenizer.json"),
            probes=tuple(probes),
            origin=metadata.get("origin", ""),
        )
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: {error}") from error


def _read_labels(text: str) -> tuple[str, ...]:
    labels = json.loads(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise WeightsError("labels is not a list of strings")
    return tuple(labels)


def _digest(metadata: dict[str, str], tensors: dict[str, NDArray[np.generic]]) -> str:
    """Return the SHA-256 of the metadata and of the tensors in the order of their names."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
