"""``python -m bench accuracy``: what bfloat16 and int8 change in the answers of trained networks.

Each network answers the inputs of its tests in every dtype, and is held against its float32. The h
of some trained LSTMs is held against float64, beside ONNX Runtime's dynamic int8.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from bench import report
from bench.engines import PEERS, Engine
from bench.engines.cases import Floats
from bench.engines.numlstm import network
from bench.measure import machine
from bench.measure.compare import Json, Quick
from bench.report.accuracy_page import DTYPES, ENGINES
from bench.report.page import Results
from numlstm import reference
from numlstm.quantize import as_dtype

if TYPE_CHECKING:
    from bench.measure.accuracy_networks import Cells, Trial

_SHARED = Path(__file__).parents[3] / "shared"


def accuracy(
    real: Annotated[
        Path, typer.Option(help="The real networks.", show_default="shared/real, beside this")
    ] = _SHARED / "real",
    data: Annotated[
        Path, typer.Option(help="The data sets.", show_default="shared/data, beside this")
    ] = _SHARED / "data",
    quick: Quick = False,
    json_path: Json = None,
) -> None:
    """Hold bfloat16 and int8 against float32 on networks that others have trained."""
    for what, folder in (("real networks", real), ("data sets", data)):
        if not folder.is_dir():
            raise typer.BadParameter(f"there is no folder {folder} of {what}")
    try:
        from bench.measure import accuracy_networks  # what it reads, it reads by the tests
    except ImportError as error:
        raise typer.BadParameter(f"{error}: pip install -e '.[bench,test]'") from error
    results: Results = {"benchmark": "accuracy", **machine.describe(), "skipped": {}}

    def collect(functions: Sequence[Callable[[Path, Path], list[Any]]]) -> Iterator[Any]:
        for function in functions:
            try:
                yield from function(real, data)
            except FileNotFoundError:
                results["skipped"][function.__name__] = "its files are not there"

    engines = [name for name in ENGINES if not PEERS[name].missing()]
    results["skipped"] |= {name: PEERS[name].missing() for name in {*ENGINES} - {*engines}}
    networks, cells = accuracy_networks.NETWORKS, accuracy_networks.CELLS
    results["networks"] = [compare(trial) for trial in collect(networks[:2] if quick else networks)]
    results["cells"] = [beside(stack, engines) for stack in collect(cells[:1] if quick else cells)]
    report.finish(
        results,
        json_path or (None if quick else report.RESULTS / machine.folder() / "accuracy.json"),
    )


def compare(trial: "Trial") -> dict[str, Any]:
    """Return what each dtype changes in a network's answers.

    label_changes      outputs whose label is not that of float32
    right              outputs with the label that is right
    largest_error      of all outputs, to float32
    nats               per character
    """
    exact = trial.answer(*trial.weights)
    found: dict[str, Any] = {
        "network": trial.network,
        "inputs": trial.inputs,
        "outputs": trial.outputs,
        "num_outputs": len(exact),
        "largest_output": float(np.abs(exact).max()),
        "classifies": trial.label is not None,
        "dtypes": {},
    }
    for name, options in DTYPES.items():
        ys = trial.answer(*(as_dtype(weights, *options) for weights in trial.weights))
        own: dict[str, Any] = {"largest_error": float(np.abs(ys - exact).max())}
        if trial.label:
            labels = trial.label(ys)
            own["label_changes"] = int((labels != trial.label(exact)).sum())
            if trial.truth is not None:
                own["right"] = int((labels == trial.truth).sum())
        if trial.log_p and trial.truth is not None:
            log_p = trial.log_p(ys.astype(np.float64))
            own["nats"] = float(-log_p[np.arange(len(ys)), trial.truth].mean())
        found["dtypes"][name] = own
    return found


# Beside ONNX Runtime ------------------------------------------------------------------------------


def beside(cells: "Cells", engines: list[str]) -> dict[str, Any]:
    """Return the largest error of h, after the last step and after any, of each engine."""
    case, tensors = cells.case, cells.tensors
    layers = network(case)
    exact = [reference.run(layers, tensors, xs)[0] for xs in cells.sequences]
    errors = {}
    for name in engines:
        with tempfile.TemporaryDirectory() as folder:
            PEERS[name].save(case, tensors, Path(folder))
            found = [_run(PEERS[name].load(case, Path(folder)), xs) for xs in cells.sequences]
        off = [np.abs(hs - wanted).max(1) for hs, wanted in zip(found, exact, strict=True)]
        errors[name] = {"last": float(max(one[-1] for one in off)), "any": float(np.max(off))}
    return {
        "network": cells.network,
        "inputs": cells.inputs,
        "case": str(case),
        "num_sequences": len(exact),
        "num_steps": len(exact[0]),
        "engines": errors,
    }


def _run(engine: Engine, xs: Floats) -> Floats:
    """Return the h after each step, (T, H)."""
    hs = []
    for x in xs:
        engine.input[...] = x
        engine.step(engine.x, engine.out)
        hs.append(engine.output().reshape(-1))
    return np.stack(hs)
