"""``numlstm convert``: a trained network, made a numlstm file."""

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

import numlstm
from numlstm.cli import terminal


class Dtype(StrEnum):
    """What `--dtype` may be."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A .pt or .safetensors file or a folder of them (PyTorch), a .keras or .h5 file "
            "(Keras), or an .onnx file."
        ),
    ],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            "-l",
            help="What the tensors of a .pt or .safetensors file are, in forward order: "
            '"embed:Embedding lstm:LSTM mean head:Linear softmax". Before the colon is the name '
            "in the state dict.",
        ),
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(
            "--network",
            help="A JSON file with the layers of a .pt or .h5 file, for networks that are no "
            "chain; their names are those in the file.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The model's JSON, of an .h5 file with weights only."),
    ] = None,
    custom: Annotated[
        list[str] | None,
        typer.Option(
            "--custom",
            help="A class or a layer of a Keras model that Keras does not have, as layers of it: "
            '"ReversedLSTM=LSTM Reverse". May be given several times.',
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="Where in a .pt file the state dict is: model.state."),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix", help="What the names of the network begin with; others are left out."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore",
            help='Patterns of names of tensors to leave out: "critic.*,std". May be repeated.',
        ),
    ] = None,
    constant: Annotated[
        list[str] | None,
        typer.Option(
            "--constant",
            help="A value of an input of an .onnx file that is the same for every run, as JSON: "
            "sr=16000. May be given several times.",
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            help="Sizes of an input of an .onnx file that the file calls free, ? for one that is: "
            "x=1,?,40. May be given several times.",
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            help="An output of an .onnx file that is the answer, or a part of it. May be given "
            "several times; without it all that are no states.",
        ),
    ] = None,
    labels: Annotated[
        str, typer.Option("--labels", help="Names of the outputs, separated by commas.")
    ] = "",
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="A tokenizer.json to put into the file.")
    ] = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(
            "--dtype",
            help="Of the matrices in the file; bfloat16 halves its size, int8 quarters it.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the target.")] = False,
) -> None:
    """Convert a trained network to a numlstm file, and check it against its framework.

    [bold]Examples[/bold]

        numlstm convert model.pt model.safetensors --layers "lstm:LSTM head:Linear"

        numlstm convert model.pt model.safetensors --layers "embed:Embedding lstm:LSTM max
        head:Linear softmax" --labels negative,positive --tokenizer tokenizer.json

        numlstm convert hugging_face_folder out.safetensors --layers "lstm:LSTM head:Linear"

        numlstm convert policy.pt out.safetensors --layers "memory_a.rnn:LSTM actor.0:Linear elu
        actor.2:Linear" --ignore "memory_c.*,critic.*,std"

        numlstm convert model.keras model.safetensors

        numlstm convert weights.h5 model.safetensors --config model.json

        numlstm convert model.onnx model.safetensors --dtype int8

        numlstm convert vad.onnx model.safetensors --constant sr=16000 --output output
    """
    if target.exists() and not force:
        raise typer.BadParameter(f"{target} exists; --force replaces it")
    if not target.parent.is_dir():
        raise typer.BadParameter(f"{target.parent} is not a folder")
    if not source.exists():
        raise FileNotFoundError(f"{source} is not a file")
    given: dict[str, Any] = {"layers": layers, "network": network, "config": config, "key": key}
    given |= {"prefix": prefix, "ignore": ignore or None}
    number, sizes = "a name and a number: sr=16000", "a name and sizes: x=1,?,40"
    given |= {"constants": _by_name("constant", constant, json.loads, number)}
    given |= {"shapes": _by_name("shape", shape, _sizes, sizes), "outputs": output or None}
    given |= {"custom": _by_name("custom", custom, str, "a name and layers: Mine=LSTM Reverse")}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    kind = "folder" if source.is_dir() else _kind_of(source)
    if kind not in _SOURCES:
        raise typer.BadParameter(f"{source.name} is none of {', '.join(_SOURCES)}")
    from_source, known = _SOURCES[kind]
    what = f"{kind} files" if source.is_file() else "folders"
    for name in options.keys() - known:
        option = name.removesuffix("s") if name in _ONNX[1] else name
        raise typer.BadParameter(f"--{option} is not for {what}")
    if network is not None:
        options["network"] = numlstm.Network.from_json(_read_json(network))
    if config is not None:
        options["config"] = _read_json(config)
    with terminal.waiting(f"converting {source}"):
        model = from_source(
            source,
            labels=[label.strip() for label in labels.split(",")] if labels else [],
            tokenizer=None if tokenizer is None else _read_text(tokenizer),
            **options,
        )
        if dtype is not None:
            model = model.astype(dtype.value)
        model.save(target)
    terminal.console.print(model.info(), markup=False)


_Source: TypeAlias = "tuple[Callable[..., numlstm.Model], set[str]]"
_TORCH: _Source = (numlstm.from_torch, {"layers", "network", "key", "prefix", "ignore"})
_KERAS: _Source = (numlstm.from_keras, {"network", "config", "custom"})
_ONNX: _Source = (numlstm.from_onnx, {"constants", "shapes", "outputs"})
_SOURCES: dict[str, _Source] = {
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt", ".pkl"), _TORCH),
    **dict.fromkeys((".pt2", ".ptl", ".jit", ".ts", ".npz"), _TORCH),
    **dict.fromkeys((".safetensors", ".json", "folder"), _TORCH),
    **dict.fromkeys((".keras", ".h5", ".hdf5"), _KERAS),
    ".onnx": _ONNX,
}


def _by_name(
    option: str, texts: list[str] | None, read: Callable[[str], Any], example: str
) -> dict[str, Any] | None:
    """Return what is read of each "name=value"."""
    found: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        try:
            found[name.strip()] = read(value)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise typer.BadParameter(f"--{option} {text}, expected {example}")
    return found or None


def _sizes(text: str) -> tuple[int | None, ...]:
    return tuple(None if size.strip() == "?" else int(size) for size in text.split(","))


def _kind_of(source: Path) -> str:
    """Return the suffix of a file, or that of what it begins as: "net.pth.tar" is of torch.save."""
    suffix = source.suffix.lower()
    with source.open("rb") as file:
        head = file.read(8)
    known = {b"PK\x03\x04": ".pt", b"\x80\x02": ".pt", b"\x89HDF": ".h5"}
    found = (kind for start, kind in known.items() if head.startswith(start))
    return suffix if suffix in _SOURCES else next(found, suffix)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise numlstm.WeightsError(f"{path}: is not JSON: {error}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise numlstm.WeightsError(f"{path}: is not UTF-8 text: {error}") from error
