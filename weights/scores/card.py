"""Write what was measured into a model's card."""

import math
import re
from pathlib import Path

import numlstm
from numlstm.quantize import dtypes_of


def fill(card: Path, name: str, text: str) -> None:
    """Put text between ``<!-- name -->`` and ``<!-- /name -->``."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    old = card.read_text(encoding="utf-8")
    new, count = re.subn(pattern, lambda match: f"{match[1]}{text}\n{match[2]}", old, flags=re.S)
    if count != 1:
        raise ValueError(f"{card} has no place for {name}")
    card.write_text(new, encoding="utf-8")


def describe(**paths: Path) -> str:
    """Return layers, weights and size of each model file as a Markdown table."""
    lines = ["| network | layers | weights | file |", "|---|---|---:|---:|"]
    for name, path in paths.items():
        network = numlstm.load(path).network
        layers = ", ".join(f"{type(la).__name__} {la.output_size:,}" for la in network.layers)
        shapes = network.tensor_shapes().values()
        count = sum(math.prod(shape) for shape in shapes)
        size = f"{path.stat().st_size / 1e6:.1f} MB, {' and '.join(dtypes_of(network))}"
        lines.append(f"| {name} | {layers} | {count:,} | {size} |")
    return "\n".join(lines)
