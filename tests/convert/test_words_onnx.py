"""What is said of ONNX graphs that cannot be converted: which input or node, why, what to do."""

from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm.spec import WeightsError
from tests.lazy import numpy_helper, onnx

FLOAT, INT32, INT64 = 1, 6, 7
GRU_SHAPES = {"W": (1, 12, 4), "R": (1, 12, 4)}


def graph(
    nodes: str,
    *inputs: str,
    outputs: str = "float[1, t, 4] y",
    opset: int = 17,
) -> Any:
    """Return a graph of nodes in onnx's own words, with W and R of a GRU 4 -> 4, and numbers."""
    generator = np.random.default_rng(3)
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({", ".join(inputs)}) => ({outputs})'
    model = onnx.parser.parse_model(f"{text} {{ {nodes} }}")
    arrays = {n: generator.uniform(-0.8, 0.8, s).astype("f4") for n, s in GRU_SHAPES.items()}
    arrays |= {n: np.array([k], np.int64) for k, n in enumerate(("zero", "one", "two"))}
    arrays |= {"table": generator.normal(size=(7, 4)).astype("f4")}
    known = {info.name for info in model.graph.input}
    read = {name for node in model.graph.node for name in node.input} - known
    for name in sorted(read & arrays.keys()):
        model.graph.initializer.append(numpy_helper.from_array(arrays[name], name))
    return model


def two_ways() -> Any:
    return graph("y = ReduceMean <axes = [1]> (x)", "float[a, b, 4] x", outputs="float[a, 1, 4] y")


GRU = (
    "t = Transpose <perm = [1, 0, 2]> (x) d = GRU <hidden_size = 4> (t, W, R) y = Squeeze (d, one)"
)
ALL = "the graph cannot be converted:\n  "

WORDS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a number that nothing says": (
        lambda: graph("r = Cast <to = 1> (sr) y = Mul (x, r)", "float[1, t, 4] x", "int64 sr"),
        {},
        ALL + "input 'sr': one number (int64) of which nothing says what it is; say it with "
        "constants={'sr': ...}",
    ),
    "a float that nothing says": (
        lambda: graph("y = Mul (x, gain)", "float[1, t, 4] x", "float gain"),
        {},
        ALL + "input 'gain': one number (float32) of which nothing says what it is; say it with "
        "constants={'gain': ...}",
    ),
    "a sum of each step with each": (
        lambda: graph(
            "a = Unsqueeze (x, two) b = Unsqueeze (x, one) c = Add (a, b) "
            "y = ReduceMean <axes = [2], keepdims = 0> (c)",
            "float[1, t, 4] x",
        ),
        {},
        ALL + "Add 'c': each step of one tensor meets each of the other, as where every step "
        "attends to all; export what stands in front of it as a graph of its own, and compute the "
        "rest from its rows",
    ),
    "W and R that are inputs": (
        lambda: graph(GRU, "float[1, t, 4] x", "float[1, 12, 4] W", "float[1, 12, 4] R"),
        {},
        ALL + "input 'W': it is W of GRU 'd', expected an initializer; fold it into the file, or "
        "give constants={'W': array}\n  input 'R': it is R of GRU 'd', expected an initializer; "
        "fold it into the file, or give constants={'R': array}",
    ),
    "a batch of two": (
        lambda: graph(GRU, "float[2, t, 4] x"),
        {},
        ALL + "GRU 'd': axis 1 of X (1, 2, 4) is that of the batch, which is 2; expected 1, or any "
        "size; export the model with a batch of 1, or with dynamic axes",
    ),
    "images": (
        lambda: graph("y = Relu (x)", "float[n, 3, 60, 160] x", outputs="float[n, 3, 60, 160] y"),
        {},
        ALL + "input 'x' (any, 3, 60, 160): it is no sequence of one batch: beside the axes of "
        "time and of the numbers of a step all must be 1, or free; export the layers that read "
        "rows of numbers as a graph of their own",
    ),
    "a batch of two, of fixed length": (
        lambda: graph(GRU, "float[2, 7, 4] x", outputs="float[7, 2, 4] y"),
        {},
        ALL + "input 'x' (2, 7, 4): it is no sequence of one batch: beside the axes of time and of "
        "the numbers of a step all must be 1, or free; export the model with a batch of 1, or with "
        "dynamic axes",
    ),
    "an input that chooses rows of a table": (
        lambda: graph(
            "e = Gather (table, speaker) u = Unsqueeze (e, one) y = Add (x, u)",
            "float[1, t, 4] x", "int64[1] speaker",
        ),
        {},
        ALL + "input 'speaker': whole numbers (1,) beside 'x' (1, any, 4); say it with "
        "constants={'speaker': ...}",
    ),
    "numbers beside token ids": (
        lambda: graph(
            "e = Gather (table, ids) y = Add (e, x)", "int64[1, t] ids", "float[1, t, 4] x"
        ),
        {},
        ALL + "input 'x': numbers (1, any, 4) beside the token ids 'ids' (1, any): one row cannot "
        "hold both; say it with constants={'x': ...}",
    ),
    "a sequence of another length": (
        lambda: graph("y = Add (x, z)", "float[1, t, 4] x", "float[1, 9, 2, u] z"),
        {},
        ALL + "input 'z': (1, 9, 2, any) is no sequence of the length of 'x' (1, any, 4), and "
        "nothing of all of it; export the model with a batch of 1, or say it with "
        "constants={'z': ...}",
    ),
    "two ways": (
        two_ways,
        {},
        "the graph can be read in 2 ways: the data is x (time is axis 0), x (time is axis 1); say "
        "which axis is that of time with shapes={'x': (1, None, ...)}, or export the model with "
        "states and their outputs named alike (h, h_out)",
    ),
    "no input at all": (
        lambda: graph("y = Tanh (table)", outputs="float[7, 4] y"),
        {},
        ALL + "no input is a sequence of one batch: there is none",
    ),
    "what depends on the length": (
        lambda: graph(
            "r = Cast <to = 1> (n) y = Mul (x, r)", "float[1, t, 4] x", "int64[1] n"
        ),
        {},
        ALL + "input 'x': the network that is found depends on the length of the sequence; "
        "export it with a sequence of one length",
    ),
    "an answer that depends on no input": (
        lambda: graph(
            "y = Tanh (x) z = Tanh (table)", "float[1, t, 4] x",
            outputs="float[1, t, 4] y, float[7, 4] z",
        ),
        {"outputs": ["z"]},
        ALL + "output 'z': it does not depend on the input of the network",
    ),
    "a constant of another shape": (
        lambda: graph(GRU, "float[1, t, 4] x", "float[1, 12, 4] W", "float[1, 12, 4] R"),
        {"constants": {"W": np.zeros((12, 5)), "R": np.zeros((1, 12, 4))}},
        "constants: 'W' has shape (12, 5), expected (1, 12, 4)",
    ),
    "a constant that is no input": (
        lambda: graph("y = Tanh (x)", "float[1, t, 4] x"),
        {"constants": {"sr": 16000}},
        "constants: 'sr' is no input of the graph; it has x",
    ),
    "an output that is none": (
        lambda: graph("y = Tanh (x)", "float[1, t, 4] x"),
        {"outputs": ["z"]},
        "outputs: 'z' is no output of the graph; it has y",
    ),
    "a size that is another": (
        lambda: graph("y = Tanh (x)", "float[1, t, 4] x"),
        {"shapes": {"x": (2, None, 4)}},
        "shapes: 'x' is (2, None, 4), expected (1, any, 4)",
    ),
    "an opset that is too old": (
        lambda: graph("y = Tanh (x)", "float[1, t, 4] x", opset=6),
        {},
        "opset 6, expected 7 to {newest}",
    ),
    "rows and a row": (
        lambda: graph(
            "d, h = GRU <hidden_size = 4, direction = \"reverse\"> (x, W, R) y = Squeeze (d, one) "
            "m = ReduceMean <axes = [0]> (y)", "float[t, 1, 4] x",
            outputs="float[t, 1, 4] y, float[1, 1, 4] m",
        ),
        {},
        ALL + "outputs: one row for all steps and one for each cannot be joined: 'y' (rows), "
        "'m' (row); choose some with outputs=[...]",
    ),
    "an output that is refused": (
        lambda: graph(
            "y = Tanh (x) z = Sin (x)", "float[1, t, 4] x",
            outputs="float[1, t, 4] y, float[1, t, 4] z",
        ),
        {},
        ALL + "Sin 'z': no layer has this function; compute it before the network, or of the answer"
        "\n  output 'z': what it is made of is refused; outputs=['y'] leaves it out",
    ),
    "no file": (lambda: 3, {}, "source is int, expected a path, bytes or an onnx.ModelProto"),
}  # fmt: skip


@pytest.mark.parametrize("what", WORDS)
def test_words(what):
    make, options, message = WORDS[what]
    with pytest.raises(WeightsError) as caught:
        numlstm.from_onnx(make(), **options)
    newest = str(onnx.defs.onnx_opset_version())
    assert str(caught.value) == message.replace("{newest}", newest)


def test_a_size_that_is_fixed_and_was_called_free():
    model = graph("p = Flatten (x) y = CumSum (p, one)", "float[n, s] x", outputs="float[n, s] y")
    with pytest.raises(WeightsError) as caught:
        numlstm.from_onnx(model)
    assert str(caught.value).endswith(
        "\n  input 'x' (any, any): two of its sizes may differ, of which one was taken for time; "
        "if it is not, say which are fixed: shapes={'x': (1, None, ...)}"
    )
