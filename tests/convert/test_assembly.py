"""The floor of the converters: drafts become networks, refusals are told alike by all three."""

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numlstm import spec
from numlstm.convert.assembly import Assembly, Draft, Misfit, Refusals, Refused, named_tensors
from numlstm.spec import Network, WeightsError


def grow(assembly: Assembly, kind: str, *reads: Draft | None, **options: Any) -> Draft:
    """Grow a layer of 4 numbers."""
    layers: dict[str, Callable[[], spec.Layer]] = {
        "linear": lambda: spec.Linear(4 * len(reads), 4),
        "gru": lambda: spec.GRU(4 * len(reads), 4),
        "tanh": lambda: spec.Activation(4, "tanh"),
        "add": lambda: spec.Add(4, inputs=("", "")),
        "feedback": lambda: spec.Feedback(4, "?"),
        "attention": lambda: spec.Attention(4, 4, memory="?"),
        "embedding": lambda: spec.Embedding(9, 4),
    }
    return assembly.grow(layers[kind](), reads, **options)


def layers_of(assembly: Assembly, answer: Draft | None, input_size: int = 4) -> list[str]:
    """Return kind, name and inputs of every layer: ``GRU a <- input``."""
    found = []
    for layer in assembly.network(answer, input_size)[0].layers:
        reads = f" <- {' '.join(layer.inputs)}" if layer.inputs else ""
        found.append(f"{type(layer).__name__} {layer.name}{reads}".replace("  ", " ").strip())
    return found


# Drafts -------------------------------------------------------------------------------------------


def test_a_chain_has_no_names():
    assembly = Assembly()
    answer = grow(assembly, "linear", grow(assembly, "gru", None, name="rnn"), name="head")
    assert layers_of(assembly, answer) == ["GRU", "Linear"]


def test_what_is_read_from_afar_has_the_name_of_its_source_or_of_its_place():
    assembly = Assembly()
    first = grow(assembly, "gru", None, name="rnn")
    second = grow(assembly, "gru", first)
    third = grow(assembly, "gru", second)
    answer = grow(assembly, "linear", first, second, third, None)
    assert layers_of(assembly, answer, 4) == [
        "GRU rnn",
        "GRU gru_1",
        "GRU gru_2",
        "Linear <- rnn gru_1 gru_2 input",
    ]


def test_names_that_are_taken_are_numbered():
    assembly = Assembly()
    drafts = [grow(assembly, "gru", None, name="input") for _ in range(3)]
    answer = grow(assembly, "linear", *drafts)
    assert layers_of(assembly, answer)[-1] == "Linear <- input_1 input_2 input_3"


def test_what_the_answer_does_not_need_is_dropped():
    assembly = Assembly()
    first = grow(assembly, "gru", None)
    grow(assembly, "linear", first)
    assert layers_of(assembly, grow(assembly, "linear", first)) == ["GRU", "Linear"]


def test_an_answer_that_is_not_the_last_layer_is_read_by_one():
    assembly = Assembly()
    before = grow(assembly, "feedback")
    answer = grow(assembly, "linear", None, before)
    before.source = grow(assembly, "gru", answer)
    assert layers_of(assembly, answer) == [
        "Concat",  # the first layer reads the whole input
        "Feedback feedback_1",
        "Linear linear_2 <- input feedback_1",
        "GRU gru_3",
        "Concat <- linear_2",
    ]


def test_what_feeds_back_comes_before_an_answer_that_does_not_read_it():
    assembly = Assembly()
    before = grow(assembly, "feedback")
    answer = grow(assembly, "linear", None, before)
    before.source = grow(assembly, "gru", None)
    layers = assembly.network(answer, 4)[0].layers
    assert [type(layer).__name__ for layer in layers] == ["GRU", "Feedback", "Linear"]
    assert layers[1].source == layers[0].name == "gru_0"


def test_a_memory_is_named_and_comes_first():
    assembly = Assembly()
    memory = grow(assembly, "gru", None, name="rows")
    query = grow(assembly, "gru", None)
    network, _ = assembly.network(grow(assembly, "attention", query, memory=memory), 4)
    assert network.layers[-1] == spec.Attention(4, 4, memory="rows")


def test_a_function_is_part_of_the_layer_before_it_where_that_can_hold_one():
    def functions(before: str, fuses: bool = True, reads_before: bool = False) -> list[str]:
        assembly = Assembly()
        first = grow(assembly, before, None)
        answer = grow(assembly, "tanh", first, fuses=fuses)
        answer = grow(assembly, "add", answer, first) if reads_before else answer
        return layers_of(assembly, answer)

    assert functions("linear") == ["Linear"]
    assert functions("linear", fuses=False) == ["Linear", "Activation"]
    assert functions("gru") == ["GRU", "Activation"]
    named = ["Linear linear_0", "Activation activation_1", "Add <- activation_1 linear_0"]
    assert functions("linear", reads_before=True) == named


def test_a_layer_holds_one_function():
    assembly = Assembly()
    first = grow(assembly, "linear", None, tensors={"weight": np.eye(4), "bias": np.ones(4)})
    answer = grow(assembly, "tanh", grow(assembly, "tanh", first, fuses=True), fuses=True)
    network, tensors = assembly.network(answer, 4)
    assert network == Network((spec.Linear(4, 4, activation="tanh"), spec.Activation(4, "tanh")))
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "layers.0.weight": np.float32,
        "layers.0.bias": np.float32,
    }


def test_what_would_change_nothing_does_not_grow():
    assembly = Assembly()
    draft = grow(assembly, "gru", None)
    assert assembly.joined([draft], 4) is draft
    assert assembly.part(draft, 4, 0, 4) is draft
    assert layers_of(assembly, assembly.part(draft, 4, 1, 3)) == ["GRU", "Slice"]
    assert layers_of(assembly, assembly.joined([draft, draft], 8))[-1] == "Concat <- gru_0 gru_0"


def test_the_input_itself_can_be_the_answer():
    assert layers_of(Assembly(), None) == ["Concat"]


def test_the_first_layer_reads_the_whole_input():
    assembly = Assembly()
    answer = grow(assembly, "linear", assembly.part(None, 6, 2, 6))
    assert layers_of(assembly, answer, 6) == ["Slice", "Linear"]
    assembly = Assembly()
    answer = grow(
        assembly, "linear", grow(assembly, "gru", None), grow(assembly, "embedding", None)
    )
    with pytest.raises(WeightsError, match="the input is a token id, which only the first layer"):
        assembly.network(answer, 1)


def test_tensors_are_named_by_their_layer():
    network = Network((spec.Embedding(9, 4), spec.Linear(4, 2, False)))
    contents = ({"weight": np.ones((9, 4))}, {"weight": np.ones((2, 4))})
    tensors = named_tensors(network, contents)
    network.check_tensors(tensors)
    with pytest.raises(ValueError, match="shorter"):
        named_tensors(network, contents[:1])


# Refusals -----------------------------------------------------------------------------------------


def told(refusals: Refusals) -> list[str]:
    with pytest.raises(Refused) as caught:
        refusals.check()
    return str(caught.value).split("\n  ")


def test_refusals_are_told_together_each_once():
    refusals = Refusals("the graph")
    refusals.check()
    for _ in range(2):
        refusals.add("Erf 'a'", "is not known", "leave it out")
    with refusals.of("Tanh 'b'"):
        raise Refused("is not known")
    with refusals.of("Tanh 'c'"):
        spec.Linear(0, 1)
    assert len(refusals) == 4
    assert told(refusals) == [
        "the graph cannot be converted:",
        "Erf 'a': is not known; leave it out",
        "Tanh 'b': is not known",
        "Tanh 'c': Linear: input_size is 0, expected 1 to 2147483647",
    ]


def test_what_may_follow_from_another_refusal_is_not_told():
    refusals = Refusals("the model")
    for error in (Refused("activation 'gelu'"), Misfit("reads a vector"), WeightsError("sizes")):
        with refusals.of("known"):
            raise error
        with refusals.of("unknown", knows_what_it_reads=False):
            raise error
    assert told(refusals)[1:] == [
        "known: activation 'gelu'",
        "unknown: activation 'gelu'",
        "known: reads a vector",
        "known: sizes",
    ]


def test_other_errors_pass():
    refusals = Refusals("the model")
    with pytest.raises(KeyError), refusals.of("a"):
        raise KeyError("a")
    assert len(refusals) == 0


# All three converters -----------------------------------------------------------------------------


def refused_by_torch() -> Any:
    torch = pytest.importorskip("torch")
    from numlstm.convert.torch import convert

    return convert([torch.nn.GRU(2, 2), torch.nn.Bilinear(2, 2, 2), torch.nn.Fold(2, 2)])


def refused_by_keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings(action="ignore"):
        keras = pytest.importorskip("keras")
    pytest.importorskip("h5py")
    from numlstm.convert.keras import convert

    more, flat = keras.layers.UpSampling1D(name="more"), keras.layers.Flatten(name="flat")
    return convert(keras.Sequential([keras.Input((4, 2)), more, flat, keras.layers.Dense(2)]))


def refused_by_onnx() -> Any:
    onnx = pytest.importorskip("onnx")
    from numlstm.convert.onnx import convert

    header = '<ir_version: 8, opset_import: ["" : 20]>'
    nodes = "c = Sin (x) d = Det (x) y = Add (c, d)"
    text = f"{header} g (float[1, t, 4] x) => (float[?, ?, ?] y) {{ {nodes} }}"
    return convert(onnx.parser.parse_model(text))


@pytest.mark.filterwarnings("ignore:::keras", "ignore:::torch", "ignore:::numpy")
@pytest.mark.parametrize(
    ("convert", "lines"),
    [
        (
            refused_by_torch,
            [
                "the modules cannot be converted:",
                "1: Bilinear: is not a layer numlstm knows; "
                "pass the layers it is made of, in forward order",
                "2: Fold: is not a layer numlstm knows; "
                "pass the layers it is made of, in forward order",
            ],
        ),
        (
            refused_by_keras,
            [
                "the Keras model cannot be converted:",
                'layer 1 "more": UpSampling1D: gives more steps than it reads; '
                "a step has one row of answers",
            ],
        ),
        (
            refused_by_onnx,
            [
                "the graph cannot be converted:",
                "Sin 'c': no layer has this function; "
                "compute it before the network, or of the answer",
                "Det 'd': this operator is not known of what depends on the input; "
                "export the part of the network before it, or after it",
            ],
        ),
    ],
)
def test_every_converter_says_no_alike(convert, lines):
    with pytest.raises(Refused) as caught:
        convert()
    assert str(caught.value).split("\n  ") == lines
