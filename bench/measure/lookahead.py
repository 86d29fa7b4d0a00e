"""``python -m bench lookahead``: what a bidirectional network costs as a stream, how right it is.

Cost is that of `step` of an LSTM read in both directions; accuracy that of a tagger trained by
others, Thai word segmentation of the Unicode Consortium, where it lies beside the repository.
"""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

import numlstm
from bench import report
from bench.measure import machine
from bench.measure.process import last_core
from bench.report.lookahead_table import LOOKAHEADS, Results
from numlstm import LSTM, Network, Weights
from tests.cases import random_weights
from tests.real.conftest import REAL
from tests.real.test_thai import FOLDER, ids_of, read, tags_of

_SIZES = (64, 128, 256)
_TAGGER = "Thai_codepoints_exclusive_model4_heavy.weights.json"


def lookahead(
    json_path: Annotated[
        Path | None,
        typer.Option("--json", help="Where to write.", show_default="results/CPU/LEVEL/"),
    ] = None,
    core: Annotated[
        int | None, typer.Option(help="The core to pin to [default: the last].")
    ] = None,
) -> None:
    """Measure streams of bidirectional networks against how many steps they look ahead."""
    core = last_core() if core is None else core
    if core is not None:
        os.sched_setaffinity(0, {core})
    results: Results = {"benchmark": "lookahead", **machine.describe(), "settings": {"core": core}}
    results["cost"] = {str(size): _cost(size) for size in _SIZES}
    tagger = REAL / FOLDER
    results["tagger"] = _accuracy(tagger) if tagger.is_dir() else None
    if results["tagger"] is None:
        Console(stderr=True).print(f"skipped the tagger: no {FOLDER} beside the repository")
    report.finish(results, json_path or report.RESULTS / machine.folder() / "lookahead.json")


def _cost(size: int) -> dict[str, float]:
    """Return microseconds per step: the median of a step, and of a whole run."""
    network = Network((LSTM(size, size, direction="bidirectional"),))
    model = numlstm.Model(random_weights(network))
    xs = np.random.default_rng(0).standard_normal((300, size), np.float32)
    costs = {}
    for steps in LOOKAHEADS:
        stream = model.stream(lookahead=steps)
        stream.run(xs[: steps + 50])
        costs[str(steps)] = _median_us(lambda x, stream=stream: stream.step(x), list(xs))
    costs["whole"] = _median_us(model.run, [xs] * 50) / len(xs)
    return costs


def _median_us(call: Any, inputs: list[NDArray[np.float32]]) -> float:
    times = []
    for x in inputs:
        began = time.perf_counter_ns()
        call(x)
        times.append(time.perf_counter_ns() - began)
    return float(np.median(times)) / 1e3


def _accuracy(folder: Path) -> dict[str, Any]:
    """Return the share of tags that are those of the whole text, and of those that are true."""
    weights, dictionary = read(folder / _TAGGER)
    model = numlstm.Model(weights)
    cases = json.loads((folder / "test_text_codepoints.json").read_text())["testcases"]
    texts = [ids_of(case["unseg"], dictionary) for case in cases]
    truth = "".join(case["true_bies"] for case in cases)
    whole = "".join(tags_of(model.run(ids)) for ids in texts)
    found = {str(steps): _tags(model, texts, steps) for steps in LOOKAHEADS} | {"whole": whole}
    return {
        "num_characters": len(truth),
        "hidden_size": _hidden_size(weights),
        "as_whole": {steps: _share(tags, whole) for steps, tags in found.items()},
        "true": {steps: _share(tags, truth) for steps, tags in found.items()},
    }


def _hidden_size(weights: Weights) -> int:
    return next(la.hidden_size for la in weights.network.layers if isinstance(la, LSTM))


def _tags(model: numlstm.Model, texts: list[NDArray[np.int32]], steps: int) -> str:
    tags = []
    for ids in texts:
        stream = model.stream(lookahead=steps)
        tags.append(tags_of(np.concatenate([stream.run(ids), stream.finish()])))
    return "".join(tags)


def _share(tags: str, expected: str) -> float:
    return sum(a == b for a, b in zip(tags, expected, strict=True)) / len(expected)
