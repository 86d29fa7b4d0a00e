"""The tables of ``python -m bench accuracy``, from its JSON alone."""

from collections.abc import Callable

from bench.engines import PEERS
from bench.report.page import Results, number, table

# By their labels: what `Model.astype` is given. All are held against the first.
DTYPES = {
    "float32": ("float32",),
    "bfloat16": ("bfloat16",),
    "int8": ("int8",),
    "int8, activations int8": ("int8", "int8"),
}
# What is held against float64, by the names of `PEERS`; the last one is the peer.
ENGINES = (
    "numlstm", "numlstm_bfloat16", "numlstm_int8", "numlstm_int8_int8", "onnxruntime_int8",
)  # fmt: skip
_PEER = ENGINES[-1]
_EXACT, *_ROUNDED = DTYPES


def accuracy(results: Results) -> str:
    """Return the page of what dtypes change in the answers of trained networks."""
    skipped = [f"- skipped: {name}, {why}" for name, why in results["skipped"].items()]
    networks = results["networks"]
    classifiers = [one for one in networks if one["classifies"]]
    texts = [one for one in networks if "nats" in _of(one, _EXACT)]
    parts = [
        "# Accuracy",
        "Generated from the JSON beside it by `python -m bench report`.",
        "\n".join(
            [
                f"- {results['cpu']}; {results['system']}",
                "- " + ", ".join(f"{name} {of}" for name, of in results["versions"].items()),
                f"- {results['date']}, `{results['command']}`",
                *skipped,
            ]
        ),
        "The bundled network, and those that others have trained, on the inputs of their tests. "
        "All matrices are of the dtype, embeddings and heads too, and nothing was tuned on data. "
        "int8 has activations of 16 bits, or of 8 where that is said.",
        "## Labels\n\nOutputs whose label is not that of float32; in brackets the share of labels "
        "that are right, where that is known. For a language model it is the next character.",
        _by_dtype(
            classifiers, "labels", lambda one: _share(one, _EXACT, one["num_outputs"]), _labels
        ),
        "## Largest error\n\nOf any output, to float32; in brackets as a share of the largest "
        "output, where that is above 1.",
        _by_dtype(networks, "largest output", lambda one: number(one["largest_output"]), _error),
        "## Nats per character\n\nAnd how much more than in float32.",
        _by_dtype(texts, "float32", lambda one: f"{_of(one, _EXACT)['nats']:.4f}", _nats),
        "## Beside ONNX Runtime\n\nThe largest error of h to float64, of the recurrent layers "
        f"alone; in brackets how many times as large that of {PEERS[_PEER].label} is "
        "(`quantize_dynamic`).",
        _cells(results["cells"]),
    ]
    return "\n\n".join(parts) + "\n"


def _of(network: Results, dtype: str) -> Results:
    found: Results = network["dtypes"][dtype]
    return found


def _by_dtype(
    networks: list[Results],
    head: str,
    first: Callable[[Results], str],
    cell: Callable[[Results, str], str],
) -> str:
    """Return a table with a row for each network and a column for each dtype."""
    header = ["network", "inputs", "outputs", head, *_ROUNDED]
    rows = [
        [
            *(one[key] for key in ("network", "inputs", "outputs")),
            first(one),
            *(cell(one, dtype) for dtype in _ROUNDED),
        ]
        for one in networks
    ]
    return table(header, rows)


def _labels(network: Results, dtype: str) -> str:
    return _share(network, dtype, _of(network, dtype)["label_changes"])


def _share(network: Results, dtype: str, count: int) -> str:
    right = _of(network, dtype).get("right")
    return f"{count:,}" + ("" if right is None else f" ({right / network['num_outputs']:.1%})")


def _error(network: Results, dtype: str) -> str:
    error, largest = _of(network, dtype)["largest_error"], network["largest_output"]
    return f"{error:.1e}" + (f" ({error / largest:.2%})" if largest > 1 else "")


def _nats(network: Results, dtype: str) -> str:
    nats = _of(network, dtype)["nats"]
    more = round(nats - _of(network, _EXACT)["nats"], 4) + 0.0  # 0 has no sign
    return f"{nats:.4f} ({more:+.4f})"


def _cells(cells: list[Results]) -> str:
    header = ["network", "LSTM", "inputs", "error of h"]
    header += [PEERS[name].label for name in ENGINES]
    rows = []
    for one in cells:
        of = f"{one['num_sequences']} x {one['num_steps']} steps, {one['inputs']}"
        for key, what in (("last", f"after {one['num_steps']} steps"), ("any", "after any step")):
            errors = {name: engine[key] for name, engine in one["engines"].items()}
            rows.append([one["network"], one["case"], of, what])
            rows[-1] += [_h_error(errors, name) for name in ENGINES]
    return table(header, rows)


def _h_error(errors: dict[str, float], name: str) -> str:
    if name not in errors:
        return "-"
    text = f"{errors[name]:.1e}"
    if PEERS[name].dtype == "float32" or name == _PEER or _PEER not in errors:
        return text
    return f"{text} ({errors[_PEER] / errors[name]:.1f})"
