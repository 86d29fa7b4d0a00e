"""What goes into the cards of the models, and the files that it is measured on."""

import gzip
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

import numlstm
from numlstm.quantize import dtypes_of

WEIGHTS = Path(__file__).parents[1]
DTYPES = ("float32", "bfloat16", "int8")
NOTES = {"valid": "the epoch was chosen on it", "test": "never seen"}

console = Console(stderr=True)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Subject:
    """A model whose card is written.

    name      of the bundled model
    task      of its pipeline
    data      the folder of the data sets
    float32   its file before it was rounded, if that was kept: `--dtype float32` of its recipe
    """

    name: str
    task: str
    data: Path
    float32: Path | None

    @property
    def path(self) -> Path:
        """The file that is shipped."""
        return WEIGHTS / f"{self.name}.safetensors"

    def pipeline(self) -> Any:
        """Return the pipeline as it is shipped."""
        return numlstm.pipeline(self.task, self.path)

    def in_each_dtype(self) -> Iterator[tuple[str, Any]]:
        """Yield dtypes with the pipeline of the unrounded model in each, if that was kept."""
        if self.float32 is not None:
            for dtype in DTYPES:
                yield dtype, numlstm.pipeline(self.task, numlstm.load_parts(self.float32, dtype))


def fill(card: Path, name: str, text: str) -> None:
    """Put text between ``<!-- name -->`` and ``<!-- /name -->``."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    old = card.read_text(encoding="utf-8")
    new, count = re.subn(pattern, lambda match: f"{match[1]}{text}\n{match[2]}", old, flags=re.S)
    if count != 1:
        raise ValueError(f"{card} has no place for {name}")
    card.write_text(new, encoding="utf-8")


def describe(path: Path) -> str:
    """Return layers, weights and size of the networks of a file as a Markdown table."""
    rows = []
    for part, model in numlstm.load_parts(path).items():
        network = model.network
        layers = ", ".join(f"{type(la).__name__} {la.output_size:,}" for la in network.layers)
        count = sum(math.prod(shape) for shape in network.tensor_shapes().values())
        dtypes = " and ".join(dtypes_of(network))
        rows.append([part or path.stem, layers, f"{count:,}", dtypes])
    networks = table(("network", "layers", "weights", "dtype"), rows)
    return f"{networks}\n\nThe file has {path.stat().st_size / 1e6:.1f} MB."


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; columns of numbers stand to the right."""
    found = [list(row) for row in rows]
    columns = zip(*found, strict=True)
    align = ["---:" if all(c[:1].isdigit() for c in column) else "---" for column in columns]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(head), align, *found])


def watch(items: Iterable[Item], name: str) -> Iterator[Item]:
    """Yield items, with a progress bar."""
    yield from track(items, name, console=console, transient=True)


def seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Return the median duration of a call."""
    durations = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        durations.append(time.perf_counter() - started)
    return sorted(durations)[repeats // 2]


def accuracy(
    found: Sequence[str], right: Sequence[str], among: Sequence[bool] | None = None
) -> float:
    """Return the share of labels that are right, of all or of those `among` which to count."""
    hits = [a == b for a, b in zip(found, right, strict=True)]
    return float(np.mean(hits if among is None else list(compress(hits, among))))


def read_rows(path: Path) -> list[list[str]]:
    """Return the columns of the lines of a .tsv.gz file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in file]
