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
    inputs, outputs  JSON, a list of [name, size] of the columns of a row, where there are several
    sha256           of the metadata above and the tensors (`_digest`)

Several networks (an encoder and a decoder, say) are parts: all of a part's names, of tensors and in
the metadata, begin with ``PART/``; format, version and sha256 are of the whole file, ``parts`` is a
JSON list of their names.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.budget import Budget, spending
from numlstm.container import Container, Tensors, by_part, pieces, write
from numlstm.errors import first_of, listed, shortened
from numlstm.network.columns import read_columns
from numlstm.quantize import (
    FLOAT32,
    FORMATS,
    FileTensors,
    Format,
    Matrix,
    dtypes_of,
    encoded,
)
from numlstm.saving import saving
from numlstm.spec import Network, Probe, Weights, WeightsError
from numlstm.strict_json import read_json

_FORMAT = "numlstm"
_VERSIONS = ("1", "2", "3")
# What weights of frameworks are in.
_FOREIGN = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".keras", ".h5", ".hdf5", ".onnx")

Stored = dict[str, NDArray[Any]]


class ForeignFile(WeightsError):  # noqa: N818  # it is one, and says what is in it
    """A file that others wrote.

    shapes   of its tensors by their names, as far as it tells them
    """

    def __init__(self, text: str, shapes: Mapping[str, tuple[int, ...]] | None = None) -> None:
        super().__init__(text)
        self.shapes = dict(shapes or {})


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
        what = (
            "is a folder, of whose weights numlstm convert makes a file"
            if path.is_dir()
            else "is not a file"
        )
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
    _check_parts(parts)
    metadata = {"version": _VERSIONS[2], "parts": json.dumps(list(parts))}
    tensors: Stored = {}
    for part, weights in parts.items():
        fields, own = _packed(weights)
        metadata |= {f"{part}/{name}": text for name, text in fields.items()}
        tensors |= {f"{part}/{name}": tensor for name, tensor in own.items()}
    _write(metadata, tensors, path)


@contextmanager
def opened(
    path: str | os.PathLike[str], budget: Budget | None = None
) -> Iterator[dict[str, Weights]]:
    """Open a model file: its networks by their names, a single one as "".

    All of it was read once and checked. A tensor is read again when it is asked for, so that they
    need not be there all at once, next to what is made of them; nothing may be kept of them.

    Raises
    ------
    WeightsError
        If the file is truncated, altered, or not of numlstm, is written to before it is closed, or
        costs more than its budget.
    """
    with spending(Path(path).stat().st_size, budget), _container(path) as file:
        metadata = dict(file.metadata)
        found = metadata.pop("sha256", None)
        try:
            if found != _digest(metadata, file):
                raise WeightsError("the file was altered: its checksum does not match")
            if "parts" not in metadata:
                parts = {"": _unpacked(metadata, file)}
            else:
                names = _read_names("parts", metadata["parts"])
                _check_parts(names)
                fields, stored = by_part(metadata), file.by_part(names)
                parts = {part: _unpacked(fields.get(part, {}), stored[part]) for part in names}
        except ValueError as error:
            raise WeightsError(f"{path}: {error}") from error
        yield parts
        try:
            file.check_unchanged()
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error


def only(parts: Mapping[str, Weights], path: str | os.PathLike[str]) -> Weights:
    """Return the network of a file that has one, or raise a `WeightsError`."""
    if "" not in parts:
        names = ", ".join(parts)
        raise WeightsError(f"{path}: holds several networks, {names}: read it with load_parts")
    return parts[""]


def load(path: str | os.PathLike[str]) -> Weights:
    """Read a model file. The tensors are float32, and exactly what the file holds.

    Raises
    ------
    WeightsError
        If the file is truncated, altered, not of numlstm, or holds several networks.
    """
    return only(load_parts(path), path)


def load_parts(path: str | os.PathLike[str]) -> dict[str, Weights]:
    """Read all networks of a file by their names, a single one as "".

    Raises
    ------
    WeightsError
        If the file is truncated, altered, or not of numlstm.
    """
    with opened(path) as parts:
        return {n: w.with_tensors(w.network, dict(w.tensors)) for n, w in parts.items()}


def _check_parts(names: Collection[Any]) -> None:
    """Raise a ValueError unless these are names of parts, each there once."""
    wrong = [name for name in names if not isinstance(name, str) or not name or "/" in name]
    if wrong or not names or len(set(names)) != len(names):
        found = first_of(map(repr, names)) or "nothing"
        raise ValueError(f"parts are named {found}; expected names without a slash, each once")


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
    for what in ("inputs", "outputs"):
        if getattr(weights, what):
            fields[what] = json.dumps(getattr(weights, what))
    if weights.tokenizer is not None:
        fields["tokenizer.json"] = weights.tokenizer
    return fields, tensors


def _unpacked(fields: Mapping[str, str], stored: Tensors) -> Weights:
    probes: list[Probe] = []
    names: set[str] = set()
    while f"probes.{len(probes)}.xs" in stored:
        stem = f"probes.{len(probes)}"
        own = {key: f"{stem}.{key}" for key in ("xs", "ys", "memory", "memory_ids")}
        if own["ys"] not in stored:
            raise WeightsError(f"{own['xs']} has no ys")
        probes.append(Probe(**{key: stored[n] for key, n in own.items() if n in stored}))
        names |= set(own.values())
    network = Network.from_json(read_json(fields.get("network", "null")))
    return Weights(
        network=network,
        tensors=_FileTensors(network, stored.without(names)),
        labels=_read_names("labels", fields.get("labels", "[]")),
        tokenizer=fields.get("tokenizer.json"),
        probes=tuple(probes),
        origin=fields.get("origin", ""),
        inputs=read_columns(read_json(fields.get("inputs", "[]"))),
        outputs=read_columns(read_json(fields.get("outputs", "[]"))),
    )


def _write(metadata: dict[str, str], tensors: Stored, path: str | os.PathLike[str]) -> None:
    metadata = {"format": _FORMAT, **metadata}
    metadata["sha256"] = _digest(metadata, tensors)
    with saving(path) as file:
        write(file, tensors, metadata)


def _to_bytes(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a file, whatever it says: tests and fuzzers make hostile ones of it."""
    file = BytesIO()
    write(file, tensors, metadata)
    return file.getvalue()


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


class _FileTensors(FileTensors):
    """Tensors in float32, read when they are asked for; those that do not fit stay as they are.

    Raises
    ------
    WeightsError
        If matrices are not of the dtypes of their layers.
    """

    def __init__(self, network: Network, stored: Tensors) -> None:
        shapes = network.tensor_shapes()
        formats = {name: FORMATS[dtype] for name, dtype in network.matrix_dtypes().items()}
        scales = {f"{name}.scale" for name, form in formats.items() if form.has_scale}
        self._stored, self._tensors = stored, stored.without(scales)
        # Of those that do not fit the network says what is wrong, with all that does not.
        self._formats = {
            name: form
            for name, form in formats.items()
            if name in stored and stored.shape(name) == shapes[name]
        }
        problems = []
        for name, form in self._formats.items():
            try:
                _check_matrix(form, *self._read(name))
            except WeightsError as error:
                problems.append(f"{name}  {error}")
        if problems:
            raise WeightsError(f"matrices are damaged:{listed(problems)}")

    def _read(self, name: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return the numbers of a matrix, and its scale if there is one and may be."""
        scale = f"{name}.scale"
        has_scale = self._formats[name].has_scale and scale in self._stored
        return self._stored[name], self._stored[scale] if has_scale else None

    def matrix(self, name: str) -> Matrix:
        return Matrix(self._formats[name], *self._read(name))

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.matrix(name).values() if name in self._formats else self._tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _check_matrix(form: Format, numbers: NDArray[Any], scale: NDArray[Any] | None) -> None:
    """Raise a `WeightsError` if a matrix is not of the format."""
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


@contextmanager
def _container(path: str | os.PathLike[str]) -> Iterator[Container]:
    """Open a file, whole and of this program, as far as its header tells.

    Raises
    ------
    WeightsError
        If the file is not complete, of another program, or has tensors of other dtypes.
    """
    try:
        file = Container(path)
    except WeightsError as error:
        kind = ForeignFile if Path(path).suffix.lower() in _FOREIGN else WeightsError
        raise kind(f"{path}: {error}") from error
    with file:
        try:
            if file.metadata.get("format") != _FORMAT:
                raise ForeignFile("not a numlstm model", file.described_shapes())
            if file.metadata.get("version") not in _VERSIONS:
                version = shortened(repr(file.metadata.get("version")))
                raise WeightsError(
                    f"version {version} of the format, this numlstm reads "
                    f"{', '.join(_VERSIONS)}; upgrade numlstm"
                )
            file.check()
        except ForeignFile:
            raise
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
        yield file


def _read_names(what: str, text: str) -> tuple[str, ...]:
    names = read_json(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WeightsError(f"{what} is not a list of strings")
    return tuple(names)


def _digest(metadata: dict[str, str], tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of the metadata and of the tensors in the order of their names."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        for piece in pieces(tensor):
            digest.update(piece)
    return digest.hexdigest()
