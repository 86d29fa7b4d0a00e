"""`Stream.trace` records what the cells did, and takes the very steps of `run`."""

import numpy as np
import pytest

import numlstm
from numlstm import reference, spec
from numlstm.spec import Network
from tests.cases import NETWORKS, Tolerance, assert_same_bits, random_input, random_weights

SEQ_LEN = 30
RECURRENT = [
    name
    for name, network in NETWORKS.items()
    if any(isinstance(layer, spec.Recurrent) for layer in network.layers)
]
GATES = {
    spec.LSTM: "ifgoch",
    spec.GRU: "rznh",
    spec.RNN: "h",
    spec.MinGRU: "znh",
    spec.MinLSTM: "finh",
    spec.IndRNN: "h",
    spec.SRU: "frhc",
}
ROUNDING = Tolerance(2e-6, 2e-6, "float32 gates, put together again in float64")


def model_of(name, dtype="float32"):
    model = numlstm.Model(random_weights(NETWORKS[name], seed=3), fold=False)
    return model if dtype == "float32" else model.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", RECURRENT)
def test_the_steps_are_those_of_run(name, dtype):
    model = model_of(name, dtype)
    xs = random_input(model.network, SEQ_LEN)
    stream, twin, single = (model.stream() for _ in range(3))
    trace = stream.trace(xs)
    assert len(trace) == SEQ_LEN
    assert_same_bits(trace.ys, twin.run(xs), name)
    assert stream.save_state() == twin.save_state()
    for t, x in enumerate(xs):
        single.step(x)
        for state, values in single.state.items():
            assert_same_bits(trace[state][t], values, f"{state}, step {t}")


def test_the_names_are_those_of_the_gates():
    for name in RECURRENT:
        network = NETWORKS[name]
        trace = model_of(name).stream().trace(random_input(network, 2))
        expected = {
            f"{prefix}.{gate}": (2, layer.h_size if gate == "h" else layer.hidden_size)
            for prefix, layer in network.named_layers()
            if type(layer) in GATES
            for gate in GATES[type(layer)]
        }
        assert {key: rows.shape for key, rows in trace.rows.items()} == expected
        assert list(trace.rows) == list(expected)


def before(layer, own, rows, name):
    """Return the state before every step."""
    first = own.get(f"initial_{name}", np.zeros(rows[name].shape[1]))
    return np.vstack([first, rows[name][:-1]]).astype(np.float64)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", [name for name in RECURRENT if name != "masked"])
def test_the_gates_give_the_states(name, dtype):
    """c' = clip(f c + i g), h' = o b(c'), h' = (1 - z) n + z h: the equations of the layers."""
    model = model_of(name, dtype)
    trace = model.stream().trace(random_input(model.network, SEQ_LEN))
    tensors = model.weights.tensors
    for prefix, layer in model.network.named_layers():
        own = {key: tensors[f"{prefix}.{key}"] for key in layer.tensors()}
        if isinstance(layer, spec.LSTM):
            rows = {key: r.astype(np.float64) for key, r in trace.of_layer(prefix).items()}
            c = rows["f"] * before(layer, own, rows, "c") + rows["i"] * rows["g"]
            ROUNDING.check(rows["c"], reference.clip(c, layer.cell_clip), f"{prefix}.c")
            if layer.coupled:
                ROUNDING.check(rows["f"], 1 - rows["i"], f"{prefix}.f")
            h = rows["o"] * reference.apply(layer.output_activation, rows["c"])
            if layer.proj_size and dtype != "int8":  # which rounds what it multiplies
                h = reference.clip(h @ own["weight_hr"].T, layer.proj_clip)
            if not layer.proj_size or dtype != "int8":
                ROUNDING.check(rows["h"], h, f"{prefix}.h")
        elif isinstance(layer, spec.GRU):
            rows = {key: r.astype(np.float64) for key, r in trace.of_layer(prefix).items()}
            h = (1 - rows["z"]) * rows["n"] + rows["z"] * before(layer, own, rows, "h")
            ROUNDING.check(rows["h"], h, f"{prefix}.h")


@pytest.mark.parametrize("cell", [spec.LSTM, spec.GRU])
def test_the_gates_are_those_of_the_equations(cell):
    """Each gate, not only what they give together."""
    network = Network((cell(5, 17),))
    weights = random_weights(network, seed=4)
    xs = random_input(network, SEQ_LEN)
    rows = numlstm.Model(weights).stream().trace(xs).of_layer()
    own = {
        key.removeprefix("layers.0."): t.astype(np.float64) for key, t in weights.tensors.items()
    }
    from_x = xs @ own["weight_ih"].T + own["bias_ih"]
    from_h = before(network.layers[0], own, rows, "h") @ own["weight_hh"].T + own["bias_hh"]
    gates = network.layers[0].num_gates
    parts, of_h = np.split(from_x, gates, 1), np.split(from_h, gates, 1)
    close = Tolerance(1e-5, 0.0, "sums of float32")
    if cell is spec.LSTM:
        for gate, x, h in zip("ifgo", parts, of_h, strict=True):
            function = np.tanh if gate == "g" else reference.sigmoid
            close.check(rows[gate], function(x + h), gate)
    else:
        r, z = (reference.sigmoid(parts[n] + of_h[n]) for n in range(2))
        close.check(rows["r"], r, "r")
        close.check(rows["z"], z, "z")
        close.check(rows["n"], np.tanh(parts[2] + r * of_h[2]), "n")


def test_it_goes_on_from_the_state_and_folded_tables_change_nothing():
    weights = random_weights(NETWORKS["tokens"], seed=3)
    xs = random_input(NETWORKS["tokens"], 20)
    whole = numlstm.Model(weights, fold=False).stream().trace(xs)
    stream = numlstm.Model(weights, fold=True).stream()
    parts = [stream.trace(xs[:7]), stream.trace(xs[7:7]), stream.trace(xs[7:])]
    for name, rows in whole.rows.items():
        assert_same_bits(np.concatenate([part[name] for part in parts]), rows, name)


def test_a_masked_step_opens_no_gate():
    model = model_of("masked")
    xs = np.array([0, 3, 0, 2], np.int32)
    stream = model.stream()
    trace = stream.trace(xs)
    assert_same_bits(trace.ys, model.run(xs))
    assert np.isnan(trace["layers.0.i"]).all(1).tolist() == [True, False, True, False]
    assert_same_bits(trace["layers.0.c"][2], trace["layers.0.c"][1])
    assert not trace["layers.0.h"][0].any()


def test_an_error_leaves_the_stream_as_it_was():
    tensors = {"layers.0.weight_ih": [[1.0]], "layers.0.weight_hh": [[2.0]]}
    tensors = {name: np.array(tensor, np.float32) for name, tensor in tensors.items()}
    network = Network((spec.RNN(1, 1, False, "relu"),))  # h doubles
    stream = numlstm.Model(spec.Weights(network, tensors)).stream()
    stream.step([1.0])
    blob = stream.save_state()
    with pytest.raises(ValueError, match="overflow"):
        stream.trace(np.full((200, 1), 1e20))
    assert stream.save_state() == blob
    with pytest.raises(ValueError, match=r"xs\[1, 0\] is nan"):
        stream.trace([[1.0], [np.nan]])


def test_what_cannot_be_traced_is_told():
    stream = numlstm.Model(random_weights(NETWORKS["pooled_input"])).stream()
    with pytest.raises(ValueError, match="no recurrent layer"):
        stream.trace(np.zeros((2, 7)))
    trace = model_of("lstm_7").stream().trace(np.zeros((2, 7)))
    with pytest.raises(KeyError, match=r"layers.0.z is not among layers.0.i"):
        trace["layers.0.z"]
    with pytest.raises(ValueError, match="is no recurrent layer"):
        trace.of_layer("layers.9")
    with pytest.raises(ValueError, match="read-only"):
        trace["layers.0.i"][0] = 1.0
