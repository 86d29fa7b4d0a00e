"""Every recurrent layer is known wherever one must be known: by the table, or by its attributes."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import numlstm
from numlstm import analysis, reference, spec
from numlstm.program import cells
from numlstm.spec import Network, Recurrent
from tests.cases import TOLERANCES, Tolerance, assert_same_bits, random_input, random_weights

CELLS = [cell for cell in spec.LAYERS.values() if issubclass(cell, Recurrent)]
SIZES = 5, 7
GATES = Tolerance(1e-5, 1e-5, "sums of float32, through functions that are not steep")


def check(network: Network, xs: np.ndarray) -> numlstm.Model:
    """Hold a network against the reference; return its model."""
    weights = random_weights(network)
    model = numlstm.Model(weights)
    expected, _ = reference.run(network, weights.tensors, xs)
    TOLERANCES["output"].check(model.run(xs), expected)
    return model


def is_built(cell: type[Recurrent]) -> None:
    network = Network((cell(*SIZES), spec.Linear(7, 3)))
    for dtype in spec.DTYPES:
        numlstm.Model(random_weights(network)).astype(dtype).run(random_input(network, 9))


def has_equations(cell: type[Recurrent]) -> None:
    network = Network((cell(*SIZES),))
    ys, states = reference.run(network, random_weights(network).tensors, random_input(network, 9))
    assert ys.shape == (9, 7)
    assert [*states] == [f"layers.0.{name}" for name in network.layers[0].states]


def is_that_of_the_equations(cell: type[Recurrent]) -> None:
    network = Network((cell(*SIZES, initial_state=True), cell(7, 7, False)))
    check(network, random_input(network, 40))


def has_stages(cell: type[Recurrent]) -> None:
    layer = cell(*SIZES, direction="bidirectional")
    network = Network((layer, spec.Pooling(14, "mean"), spec.Linear(14, 2)))
    check(network, random_input(network, 40))
    model = check(Network((layer,)), random_input(network, 40))
    stream, xs = model.stream(lookahead=40), random_input(network, 40)
    ys = np.concatenate([stream.run(xs), stream.finish()])
    assert_same_bits(ys, model.run(xs))


def is_folded(cell: type[Recurrent]) -> None:
    network = Network((spec.Embedding(9, 7), cell(7, 7)))
    weights, xs = random_weights(network), random_input(network, 40)
    runs = [numlstm.Model(weights, fold=fold).run(xs) for fold in (True, False)]
    assert_same_bits(*runs)
    check(network, xs)


def is_pooled(cell: type[Recurrent]) -> None:
    network = Network((cell(*SIZES),))
    model, xs = numlstm.Model(random_weights(network)), random_input(network, 80).reshape(40, 2, 5)
    pool = model.pool(2)
    ys = pool.run([pool.open(), pool.open()], xs)
    for n in range(2):
        assert_same_bits(ys[:, n].copy(), model.run(xs[:, n].copy()))


def is_masked(cell: type[Recurrent]) -> None:
    for direction, size in (("forward", 7), ("bidirectional", 14)):
        layer = cell(*SIZES, direction=direction)
        network = Network((spec.Masking(5, 1.0), layer, spec.Linear(size, 3)))
        xs = random_input(network, 9)
        xs[[0, 1, 4, 8]] = 1.0
        model = check(network, xs)
        if direction == "forward":
            stream = model.stream()
            assert_same_bits(np.stack([stream.step(x) for x in xs]), model.run(xs))


def is_differentiated(cell: type[Recurrent]) -> None:
    network = Network((cell(*SIZES),))
    model, xs = numlstm.Model(random_weights(network)), random_input(network, 9)
    (norms,) = analysis.horizon(model, xs, 4).norms.values()
    assert norms.shape == (5,)
    assert (norms > 0).all()


def is_traced(cell: type[Recurrent]) -> None:
    """All that the equations make, by the same letters."""
    network = Network((cell(*SIZES),))
    (layer,), weights = network.layers, random_weights(network)
    xs = random_input(network, 9)
    own = {name: weights.tensors[f"layers.0.{name}"].astype(float) for name in layer.tensors()}
    kept, made = reference.first_states(layer, own), []
    for x in xs.astype(float):
        made.append(reference.CELLS[cell](layer, own, x, **kept))
        kept = {name: made[-1][name] for name in layer.states}
    trace = numlstm.Model(weights).stream().trace(xs).of_layer()
    assert {*trace} == {*made[0]}
    for name, rows in trace.items():
        GATES.check(rows, [values[name] for values in made], name)


PLACES: dict[str, Callable[[type[Recurrent]], None]] = {
    "program/cells.py": is_built,
    "reference.py": has_equations,
    "the engine and the reference are one": is_that_of_the_equations,
    "stages": has_stages,
    "folding": is_folded,
    "pools": is_pooled,
    "the mask": is_masked,
    "the Jacobian": is_differentiated,
    "the trace": is_traced,
}


def missing(cell: type[Recurrent]) -> dict[str, str]:
    """Return the places where a cell is not known, and what they say."""
    found = {}
    for name, knows in PLACES.items():
        try:
            knows(cell)
        except Exception as error:
            found[name] = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")
    return found


@pytest.mark.parametrize("cell", CELLS)
def test_every_recurrent_layer_is_known_everywhere(cell):
    assert missing(cell) == {}


# A cell with a piece that is missing is found -----------------------------------------------------


@dataclass(frozen=True, repr=False)
class Half(Recurrent, is_abstract=True):
    """h' = (h + W x + b) / 2"""


def half(layer, own, x, h):
    return {"h": 0.5 * (h + own["weight_ih"] @ x + own.get("bias_ih", 0.0))}


def other(layer, own, x, h):
    return {"h": 0.25 * (h + own["weight_ih"] @ x + own.get("bias_ih", 0.0))}


def with_a_gate(layer, own, x, h):
    made = half(layer, own, x, h)
    return {"a": own["weight_ih"] @ x} | made


def not_differentiable(layer, own, x, h):
    return {"h": np.asarray(half(layer, own, x, h)["h"], np.float64)}


def add_half(builder, layer, own, read):
    bias = own.get("bias_ih", np.zeros(layer.hidden_size, np.float32))
    a = read(cells.matrix(layer, own, "weight_ih"), cells.by_gate(bias, 1))
    a = a.part(0, layer.hidden_size)
    (h,) = cells.states(builder, layer, own)
    y = builder.buffer(layer.hidden_size)
    with builder.rows():
        builder.activation(builder.add(a, h), "affine(0.5, 0.0)", y)
        builder.keep_new(y, h)
    return y


def forgets(builder, layer, own, read):
    """Does not keep its new state."""
    bias = own.get("bias_ih", np.zeros(layer.hidden_size, np.float32))
    a = read(cells.matrix(layer, own, "weight_ih"), cells.by_gate(bias, 1))
    (h,) = cells.states(builder, layer, own)
    return builder.activation(builder.add(a.part(0, 7), h), "affine(0.5, 0.0)")


ALL = set(PLACES)
OF_NUMBERS = {
    "the engine and the reference are one", "stages", "folding", "the mask", "the trace",
}  # fmt: skip
INCOMPLETE = {
    "nothing": ({}, {}, ALL),
    "only equations": ({Half: half}, {}, ALL - {"reference.py"}),
    "only operations": ({}, {Half: add_half}, ALL - {"program/cells.py", "pools"}),
    "everything": ({Half: half}, {Half: add_half}, set()),
    "other equations": ({Half: other}, {Half: add_half}, OF_NUMBERS),
    "a state that is not kept": ({Half: half}, {Half: forgets}, OF_NUMBERS),
    "a gate that is not left": ({Half: with_a_gate}, {Half: add_half}, {"the trace"}),
    "no derivative": ({Half: not_differentiable}, {Half: add_half}, {"the Jacobian"}),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_what_is_missing_is_named(name, monkeypatch):
    equations, operations, expected = INCOMPLETE[name]
    for table, rows in ((reference.CELLS, equations), (cells.CELLS, operations)):
        for cell, row in rows.items():
            monkeypatch.setitem(table, cell, row)
    assert {*missing(Half)} == expected, missing(Half)
