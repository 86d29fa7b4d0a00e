"""``numlstm list``, ``info``, ``convert``, ``verify``: model files."""

import json
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

import numlstm
from numlstm.cli import terminal

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A bundled model, or a .safetensors file.")
]


class Dtype(StrEnum):
    """What `--dtype` may be."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


def list_models() -> None:
    """List the bundled models.

    [bold]Example[/bold]

        numlstm list
    """
    table = Table(box=SIMPLE)
    for column in ("model", "what it does", "score", "size", "dtype"):
        table.add_column(column, no_wrap=column in ("model", "size"))
    for name, path in numlstm.bundled().items():
        what, score, dtypes = _card(path.with_suffix(".md"))
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        table.add_row(name, escape(what), escape(score), size, escape(dtypes))
    terminal.console.print(table)


def _card(path: Path) -> tuple[str, str, str]:
    """Return what the card of a model says it does, its score, and its dtypes, "" if nothing.

    The file itself would have to be loaded, and the kernels compiled, to be asked.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    what = re.search(r"^# .*\n\n((?:.+\n)+)", text)
    score = re.search(r"<!-- summary -->\n(.*)\n<!-- /summary -->", text)
    networks = re.search(r"<!-- model -->\n((?:\|.*\|\n)+)", text)
    rows = networks[1].splitlines()[2:] if networks else []
    dtypes = {dtype for row in rows for dtype in row.split("|")[-2].strip().split(" and ")}
    summary = " ".join(what[1].split()) if what else ""
    return summary, score[1] if score else "", ", ".join(sorted(dtypes))


def info(model: ModelArgument) -> None:
    """Describe a model: its layers, sizes, labels, and how exact it is.

    [bold]Examples[/bold]

        numlstm info sentiment

        numlstm info model.safetensors
    """
    for part, loaded in terminal.load_parts(model).items():
        if part:
            terminal.console.print(f"[bold]{escape(part)}[/bold]")
        terminal.console.print(loaded.info(), markup=False)


def convert(
    source: Annotated[
        Path, typer.Argument(help="A .pt (PyTorch), .keras or .h5 (Keras), or .onnx file.")
    ],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            "-l",
            help='What the tensors of a .pt file are, in forward order: "embed:Embedding '
            'lstm:LSTM mean head:Linear softmax". Before the colon is the name in the state dict.',
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
    key: Annotated[
        str | None, typer.Option("--key", help="Where in a .pt file the state dict is.")
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

        numlstm convert model.keras model.safetensors

        numlstm convert weights.h5 model.safetensors --config model.json

        numlstm convert model.onnx model.safetensors --dtype int8
    """
    if target.exists() and not force:
        raise typer.BadParameter(f"{target} exists; --force replaces it")
    if not target.parent.is_dir():
        raise typer.BadParameter(f"{target.parent} is not a folder")
    if not source.is_file():
        raise FileNotFoundError(f"{source} is not a file")
    given = {"layers": layers, "network": network, "config": config, "key": key}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if source.suffix.lower() not in _SOURCES:
        raise typer.BadParameter(f"{source.name} is none of {', '.join(_SOURCES)}")
    from_source, known = _SOURCES[source.suffix.lower()]
    for name in options.keys() - known:
        raise typer.BadParameter(f"--{name} is not for {source.suffix} files")
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


_Source = tuple[Callable[..., numlstm.Model], set[str]]
_TORCH: _Source = (numlstm.from_torch, {"layers", "network", "key"})
_KERAS: _Source = (numlstm.from_keras, {"network", "config"})
_ONNX: _Source = (numlstm.from_onnx, set())
_SOURCES: dict[str, _Source] = {
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt", ".pkl"), _TORCH),
    **dict.fromkeys((".keras", ".h5", ".hdf5"), _KERAS),
    ".onnx": _ONNX,
}


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


def verify(model: ModelArgument) -> None:
    """Run a model's probes: inputs with the outputs that its source framework gave.

    Exits with 1 if this engine on this CPU answers anything else.

    [bold]Example[/bold]

        numlstm verify sentiment
    """
    parts = terminal.load_parts(model)
    results = {part: loaded.verify() for part, loaded in parts.items()}
    if not any(result.num_probes for result in results.values()):
        raise numlstm.WeightsError(f"{model} holds no probes, so nothing can be verified")
    for part, result in results.items():
        if result.num_probes:
            terminal.console.print(
                f"{part}{': ' if part else ''}"
                f"{'ok' if result.ok else 'FAILED'}: {result.num_probes} probes, "
                f"{result.num_outputs} outputs, "
                f"largest difference {result.largest_difference:.1e}",
                markup=False,
            )
        else:
            terminal.console.print(f"{part}: holds no probes", markup=False)
    if not all(result.ok for result in results.values()):
        raise typer.Exit(1)
