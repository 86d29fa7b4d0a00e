"""`reference.py` against the equations of those who defined its layers, and small loops."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from numlstm import reference, spec
from numlstm.spec import Network
from tests.cases import TOLERANCES, random_weights
from tests.test_reference import own_tensors

FLOAT64 = TOLERANCES["float64"]


# Cells, from the equations of those who defined them ----------------------------------------------


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


SCALAR = {
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
    "relu": lambda x: max(x, 0.0),
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: min(max(0.2 * x + 0.5, 0.0), 1.0),
    "softsign": lambda x: x / (1 + abs(x)),
}


def _bound(x: float, bound: float | None) -> float:
    return x if bound is None else min(max(x, -bound), bound)


def _dot(row: Any, x: Any) -> float:
    return sum(float(w) * float(v) for w, v in zip(row, x, strict=True))


def gru_of_onnx(layer: spec.GRU, own: dict[str, Any], xs: Any) -> np.ndarray:
    """The GRU of the ONNX operators, in their gates z, r, h; number by number."""
    size = layer.hidden_size
    f, g = SCALAR[layer.recurrent_activation], SCALAR[layer.activation]
    h = list(own.get("initial_h", np.zeros(size)))
    rows = []

    def gate(x: Any, n: int, unit: int, state: Any) -> tuple[float, float]:
        at = n * size + unit
        from_x = _dot(own["weight_ih"][at], x) + own["bias_ih"][at]
        return from_x, _dot(own["weight_hh"][at], state) + own["bias_hh"][at]

    for x in xs:
        r = [f(_bound(sum(gate(x, 0, u, h)), layer.clip)) for u in range(size)]
        z = [f(_bound(sum(gate(x, 1, u, h)), layer.clip)) for u in range(size)]
        n = []
        for u in range(size):
            if layer.reset_after:  # linear_before_reset != 0
                from_x, from_h = gate(x, 2, u, h)
                n.append(g(_bound(from_x + r[u] * from_h, layer.clip)))
            else:
                reset = [r[k] * h[k] for k in range(size)]
                n.append(g(_bound(sum(gate(x, 2, u, reset)), layer.clip)))
        h = [(1 - z[u]) * n[u] + z[u] * h[u] for u in range(size)]
        rows.append(h)
    return np.array(rows)


def lstm_of_onnx_and_tf1(layer: spec.LSTM, own: dict[str, Any], xs: Any) -> np.ndarray:
    """The LSTM of the ONNX operators (P, clip, input_forget) with the clips of tf.LSTMCell."""
    size = layer.hidden_size
    f, g, last = (
        SCALAR[name]
        for name in (layer.recurrent_activation, layer.activation, layer.output_activation)
    )
    peephole = {
        k: own.get(f"peephole_{k}", np.zeros(size)) if layer.peepholes else np.zeros(size)
        for k in "ifo"
    }
    h = list(own.get("initial_h", np.zeros(layer.h_size)))
    c = list(own.get("initial_c", np.zeros(size)))
    rows = []
    for x in xs:
        new_c, m = [], []
        for u in range(size):
            i, forget, candidate, o = (
                _dot(own["weight_ih"][gate * size + u], x)
                + own["bias_ih"][gate * size + u]
                + _dot(own["weight_hh"][gate * size + u], h)
                + own["bias_hh"][gate * size + u]
                for gate in range(4)
            )
            i = f(_bound(i + peephole["i"][u] * c[u], layer.clip))
            forget = f(_bound(forget + layer.forget_bias + peephole["f"][u] * c[u], layer.clip))
            forget = 1 - i if layer.coupled else forget
            new = _bound(forget * c[u] + i * g(_bound(candidate, layer.clip)), layer.cell_clip)
            new_c.append(new)
            m.append(f(_bound(o + peephole["o"][u] * new, layer.clip)) * last(new))
        c = new_c
        h = m
        if layer.proj_size:
            h = [_bound(_dot(row, m), layer.proj_clip) for row in own["weight_hr"]]
        rows.append(h)
    return np.array(rows)


OPTIONS: dict[str, spec.GRU | spec.LSTM] = {
    "gru_before": spec.GRU(3, 4, reset_after=False),
    "gru_before_relu": spec.GRU(3, 4, reset_after=False, activation="relu"),
    "gru_before_clip": spec.GRU(3, 4, reset_after=False, clip=0.3),
    "gru_after_clip": spec.GRU(3, 4, clip=0.3),
    "gru_hard": spec.GRU(3, 4, recurrent_activation="hard_sigmoid", activation="linear"),
    "gru_initial": spec.GRU(3, 4, reset_after=False, initial_state=True),
    "lstm_peepholes": spec.LSTM(3, 4, peepholes=True),
    "lstm_coupled": spec.LSTM(3, 4, coupled=True),
    "lstm_coupled_peepholes": spec.LSTM(3, 4, coupled=True, peepholes=True),
    "lstm_clip": spec.LSTM(3, 4, clip=0.3),
    "lstm_cell_clip": spec.LSTM(3, 4, cell_clip=0.1),
    "lstm_projection": spec.LSTM(3, 4, proj_size=2),
    "lstm_proj_clip": spec.LSTM(3, 4, proj_size=2, proj_clip=0.05),
    "lstm_forget_bias": spec.LSTM(3, 4, forget_bias=1.0),
    "lstm_functions": spec.LSTM(
        3, 4,
        recurrent_activation="hard_sigmoid", activation="softsign", output_activation="relu",
    ),
    "lstm_initial": spec.LSTM(3, 4, initial_state=True),
    "lstm_all": spec.LSTM(
        3, 4,
        recurrent_activation="hard_sigmoid", activation="softsign", output_activation="linear",
        peepholes=True, proj_size=3, proj_clip=0.1, cell_clip=0.2, clip=0.5, forget_bias=-0.5,
        initial_state=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_cells_are_those_of_onnx_and_tf1(name):
    layer = OPTIONS[name]
    weights = random_weights(Network((layer,)), scale=2.0)
    xs = np.random.default_rng(1).standard_normal((12, 3))
    define = gru_of_onnx if isinstance(layer, spec.GRU) else lstm_of_onnx_and_tf1
    expected = define(layer, own_tensors(weights), xs)
    ys, _ = reference.run(weights.network, weights.tensors, xs)
    FLOAT64.check(ys, expected)
    plain = type(layer)(3, 4)
    if layer.output_size == 4 and not layer.initial_state:  # the option does something
        other, _ = reference.run(
            Network((plain,)),
            {n: weights.tensors[n] for n in Network((plain,)).tensor_shapes()},
            xs,
        )
        assert np.abs(other - ys).max() > 1e-3


# Attention, CRF -----------------------------------------------------------------------------------


def _softmax(scores: list[float]) -> list[float]:
    largest = max(scores)
    weights = [math.exp(s - largest) for s in scores]
    return [w / sum(weights) for w in weights]


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_attention_pooling_is_a_weighted_mean_of_the_steps_so_far(eps):
    weights = random_weights(Network((spec.AttentionPooling(3, eps=eps),)), scale=3.0)
    w = own_tensors(weights)["weight"]
    xs = np.random.default_rng(1).standard_normal((6, 3))
    expected = []
    for t in range(1, 7):
        scores = [_dot(w, x) for x in xs[:t]]
        powers = [math.exp(s - max(scores)) for s in scores]
        expected.append(sum(p * x for p, x in zip(powers, xs, strict=False)) / (sum(powers) + eps))
    FLOAT64.check(reference.run(weights.network, weights.tensors, xs)[0], expected)


ATTENTIONS = {
    "dot": spec.Attention(3, 3, scale=0.5),
    "general": spec.Attention(3, 5, "general"),
    "additive": spec.Attention(3, 5, "additive", size=4, scale=2.0),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_is_that_of_luong_and_bahdanau(name):
    layer = ATTENTIONS[name]
    weights = random_weights(Network((layer,)), scale=2.0)
    own = own_tensors(weights)
    generator = np.random.default_rng(1)
    queries, memory = generator.standard_normal((6, 3)), generator.standard_normal((7, 5))
    memory = memory[:, : layer.memory_size]

    def score(q, m):
        match name:
            case "dot":
                return _dot(q, m)
            case "general":
                return _dot([_dot(row, q) for row in own["weight_query"]], m)
        inner = [
            math.tanh(_dot(own["weight_query"][k], q) + _dot(own["weight_memory"][k], m) + b)
            for k, b in enumerate(own["bias"])
        ]
        return _dot(own["weight_score"], inner)

    expected = []
    for q in queries:
        a = _softmax([layer.scale * score(q, m) for m in memory])
        expected.append(sum(w * m for w, m in zip(a, memory, strict=True)))
    FLOAT64.check(
        reference.run(weights.network, weights.tensors, queries, memory=memory)[0], expected
    )
    # The same with a layer as the memory: a network that reads all of it first.
    inner = spec.Linear(3, layer.memory_size, False, name="memory")
    attends = {"memory": "memory", "inputs": ("input",)} | {
        k: v for k, v in layer.options().items() if k not in ("input_size", "memory_size")
    }
    network = Network((inner, spec.Attention(3, layer.memory_size, **attends)))
    tensors = {"layers.0.weight": generator.standard_normal((layer.memory_size, 3))}
    tensors |= {f"layers.1.{n}": tensor for n, tensor in own.items()}
    rows = queries @ tensors["layers.0.weight"].T
    ys, _ = reference.run(network, tensors, queries)
    FLOAT64.check(ys, reference.run(weights.network, weights.tensors, queries, memory=rows)[0])


def test_copy_is_that_of_see_liu_and_manning():
    layer = spec.Copy(5, 3)
    generator = np.random.default_rng(2)
    xs = generator.uniform(0, 1, (6, 9))
    memory, ids = generator.standard_normal((4, 3)), [4, 0, 4, 2]
    expected = []
    for x in xs:
        written, g, query = x[:5], x[5], x[6:]
        p = [g * w for w in written]
        for a, token in zip(_softmax([_dot(query, m) for m in memory]), ids, strict=True):
            p[token] += (1 - g) * a
        expected.append(p)
    ys, _ = reference.run(Network((layer,)), {}, xs, memory=memory, memory_ids=ids)
    FLOAT64.check(ys, expected)


def best_path(own: dict[str, Any], scores: np.ndarray) -> list[int]:
    """Return the best of all paths of a CRF, found by trying each."""

    def total(path: tuple[int, ...]) -> float:
        value = float(own["start_transitions"][path[0]] + own["end_transitions"][path[-1]])
        value += sum(float(scores[t, tag]) for t, tag in enumerate(path))
        return value + sum(float(own["transitions"][a, b]) for a, b in itertools.pairwise(path))

    return list(max(itertools.product(range(scores.shape[1]), repeat=len(scores)), key=total))


@pytest.mark.parametrize("seq_len", [1, 2, 3, 6])
def test_a_crf_takes_the_best_of_all_paths(seq_len):
    for seed in range(5):
        weights = random_weights(Network((spec.CRF(4),)), seed, scale=4.0)
        xs = np.random.default_rng(seed).standard_normal((seq_len, 4))
        ys, _ = reference.run(weights.network, weights.tensors, xs)
        np.testing.assert_array_equal(ys, np.eye(4)[best_path(own_tensors(weights), xs)])


def test_of_equal_paths_a_crf_takes_the_first_tag():
    tensors = {
        n: np.zeros(s, np.float32) for n, s in Network((spec.CRF(3),)).tensor_shapes().items()
    }
    ys, _ = reference.run(Network((spec.CRF(3),)), tensors, np.zeros((4, 3)))
    np.testing.assert_array_equal(ys, np.eye(3)[[0, 0, 0, 0]])


# Networks that are no chain -----------------------------------------------------------------------


def test_layers_are_joined_added_and_multiplied():
    network = Network(
        (
            spec.Linear(3, 4, name="a"),
            spec.Linear(3, 4, inputs=("input",), name="b"),
            spec.Add(4, inputs=("a", "b", "a"), name="sum"),
            spec.Multiply(4, inputs=("sum", "b"), name="product"),
            spec.Concat(11, inputs=("product", "input", "a")),
            spec.Linear(11, 2),
        )
    )
    weights = random_weights(network)
    t = {name: tensor.astype(np.float64) for name, tensor in weights.tensors.items()}
    xs = np.random.default_rng(1).standard_normal((6, 3))
    a, b = (xs @ t[f"layers.{n}.weight"].T + t[f"layers.{n}.bias"] for n in (0, 1))
    joined = np.hstack([(2 * a + b) * b, xs, a])
    expected = joined @ t["layers.5.weight"].T + t["layers.5.bias"]
    FLOAT64.check(reference.run(network, weights.tensors, xs)[0], expected)


def test_feedback_is_the_answer_of_one_step_before():
    network = Network(
        (
            spec.Linear(3, 2, name="x"),
            spec.Feedback(4, "h", name="fed"),
            spec.Linear(6, 4, activation="tanh", inputs=("x", "fed"), name="h"),
            spec.Linear(4, 2),
            spec.Pooling(2, "sum"),
        )
    )
    weights = random_weights(network, scale=2.0)
    t = {name: tensor.astype(np.float64) for name, tensor in weights.tensors.items()}
    xs = np.random.default_rng(1).standard_normal((9, 3))
    h, total, expected = np.zeros(4), np.zeros(2), []
    for x in xs:
        read = np.hstack([t["layers.0.weight"] @ x + t["layers.0.bias"], h])
        h = np.tanh(t["layers.2.weight"] @ read + t["layers.2.bias"])
        total = total + t["layers.3.weight"] @ h + t["layers.3.bias"]
        expected.append(total)
    FLOAT64.check(reference.run(network, weights.tensors, xs)[0], expected)


# Masks --------------------------------------------------------------------------------------------


def _unmasked(network: Network) -> Network:
    first, *rest = network.layers
    plain = spec.Embedding(5, 3) if isinstance(first, spec.Embedding) else spec.Concat(3)
    return Network((plain, *rest))


MASKED = {
    "tokens": (spec.Embedding(5, 3, mask_zero=True), np.array([0, 0, 2, 4, 0, 1, 3, 0])),
    "vectors": (
        spec.Masking(3, value=-1.0),
        np.where(
            np.isin(np.arange(8), [0, 1, 4, 7])[:, None],
            -1.0,
            np.random.default_rng(1).standard_normal((8, 3)).astype(np.float32),
        ),
    ),
}
TOP = (spec.GRU(3, 4), spec.Linear(4, 2))


@pytest.mark.parametrize("name", MASKED)
def test_masked_steps_change_nothing_and_repeat_the_answer(name):
    first, xs = MASKED[name]
    network = Network((first, *TOP))
    weights = random_weights(network)
    ys, states = reference.run(network, weights.tensors, xs)
    kept = [2, 3, 5, 6]
    plain, expected = reference.run(_unmasked(network), weights.tensors, xs[kept])
    FLOAT64.check(ys[[2, 3, 4, 5, 6, 7]], plain[[0, 1, 1, 2, 3, 3]])
    FLOAT64.check(states[next(iter(states))], expected[next(iter(expected))])
    # Before the first step that is not masked, h is 0.
    (bias,) = [tensor for n, tensor in weights.tensors.items() if n.endswith(".bias")]
    FLOAT64.check(ys[:2], np.stack([bias, bias]))


def test_masked_steps_are_not_pooled():
    first, xs = MASKED["tokens"]
    layers = (spec.LSTM(3, 4, direction="bidirectional"), spec.Pooling(8, "mean"))
    network = Network((first, *layers))
    weights = random_weights(network)
    ys, _ = reference.run(network, weights.tensors, xs)
    expected, _ = reference.run(_unmasked(network), weights.tensors, xs[xs != 0])
    assert ys.shape == (1, 8)
    FLOAT64.check(ys, expected)


# Rows ---------------------------------------------------------------------------------------------

BOTH = spec.GRU(3, 4, direction="bidirectional", name="both")
ROWS: dict[str, tuple[tuple[spec.Layer, ...], int]] = {
    "sequence": ((BOTH,), 6),
    "mean": ((BOTH, spec.Pooling(8)), 1),
    "attention": ((BOTH, spec.AttentionPooling(8)), 1),
    "last": ((spec.GRU(3, 4, direction="bidirectional", outputs="last"),), 1),
    "forward last": ((spec.GRU(3, 4, outputs="last"), spec.Reverse(4)), 1),
    "causal last": ((spec.GRU(3, 4, outputs="last"),), 6),
    "causal mean": ((spec.GRU(3, 4), spec.Pooling(4)), 6),
    "layers behind a pooling": ((BOTH, spec.Pooling(8), spec.LSTM(8, 2), spec.Linear(2, 2)), 1),
    "joined with a sequence": (
        (BOTH, spec.Pooling(8), spec.Linear(16, 2, inputs=("both", "both"))), 6,
    ),
    "joined with a pooling": (
        (BOTH, spec.Pooling(8, name="p"), spec.Linear(19, 2, inputs=("p", "both", "input"))), 1,
    ),
    "repeat": ((BOTH, spec.Pooling(8), spec.Repeat(8, 4), spec.GRU(8, 2)), 4),
    "stride": ((spec.Conv1d(3, 2, 2, stride=2), spec.GRU(2, 2)), 3),
    "pool": ((spec.Pool1d(3, 4, padding=(0, 0)), spec.GRU(3, 2)), 3),
    "pool ceil": ((spec.Pool1d(3, 4, stride=4, padding=(0, 0), ceil_mode=True),), 2),
    "causal pool": ((spec.Pool1d(3, 4, "mean"), spec.GRU(3, 2)), 6),
    "flatten": ((BOTH, spec.Flatten(8, 6), spec.Linear(48, 2)), 1),
    "causal flatten": ((spec.GRU(3, 4), spec.Flatten(4, 6)), 6),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_how_many_rows_a_network_gives(name):
    layers, rows = ROWS[name]
    network = Network(layers)
    xs = np.random.default_rng(1).standard_normal((6, 3))
    ys, _ = reference.run(network, random_weights(network).tensors, xs)
    assert ys.shape == (rows, network.output_size)


def test_a_pooling_joined_with_a_sequence_reads_its_last_row():
    network = Network(ROWS["joined with a pooling"][0])
    weights = random_weights(network)
    xs = np.random.default_rng(1).standard_normal((6, 3))
    hs, _ = reference.run(
        Network((BOTH,)),
        {n: tensor for n, tensor in weights.tensors.items() if n.startswith("layers.0.")},
        xs,
    )
    joined = np.hstack([hs.mean(0), hs[-1], xs[-1]])
    expected = weights.tensors["layers.2.weight"] @ joined + weights.tensors["layers.2.bias"]
    FLOAT64.check(reference.run(network, weights.tensors, xs)[0], expected[None])
