"""How surprised the engine is by a text: nats per token, by a model that ends in logits."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import numlstm


def read(data: Path, name: str) -> str:
    """Read the whole of `{name}.txt.gz`."""
    return gzip.decompress((data / f"{name}.txt.gz").read_bytes()).decode("utf-8")


def nats_of(model: numlstm.Model, ids: Sequence[int], num_steps: int = 500) -> float:
    """Return -log p of all tokens but the first, added up; the state is never reset."""
    tokens = np.array(ids, np.int32)
    stream = model.stream()
    total = 0.0
    for at in range(0, len(tokens) - 1, num_steps):
        targets = tokens[at + 1 : at + 1 + num_steps]
        logits = stream.run(tokens[at : at + len(targets)]).astype(np.float64)  # (T, V)
        highest = logits.max(axis=1)
        log_sum = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
        total += float((log_sum - logits[np.arange(len(targets)), targets]).sum())
    return total
