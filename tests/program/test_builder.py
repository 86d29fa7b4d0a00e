"""Operations and their places become rows of a plan."""

import numpy as np
import pytest

import numlstm
from numlstm import Weights, WeightsError, spec
from numlstm.kernels import plan
from numlstm.network.layer import LAYERS
from numlstm.network.recurrent import Recurrent
from numlstm.program import layers
from numlstm.program.builder import Builder, Operation
from numlstm.program.cells import CELLS
from numlstm.program.lower import build
from numlstm.spec import (
    GRU,
    Add,
    AttentionPooling,
    Embedding,
    Feedback,
    Multiply,
    Network,
    OneHot,
    Pooling,
)
from tests.cases import random_weights

NAMES = list(vars(plan))
COLUMNS = NAMES[NAMES.index("KIND") : NAMES.index("NUM_COLUMNS")]
# The walk itself adds these.
IN_THE_WALK = {Embedding, OneHot, Feedback, Add, Multiply}


def test_every_causal_layer_has_its_operations():
    cells = {kind for kind in LAYERS.values() if issubclass(kind, Recurrent)}
    assert set(CELLS) == cells
    others = {kind for kind in LAYERS.values() if kind not in cells | IN_THE_WALK}
    later = {kind.__name__ for kind in others - set(layers.LAYERS)}
    assert later == {"Repeat", "Reverse", "CRF"}


def columns_of(operation, builder):
    """Return the columns of an operation that are not 0, but for those that every row has."""
    builder.operations = [Operation(plan.INPUT, None, builder.buffer(3)), operation]
    row = builder.layout(4, max_steps=9).plan[1]
    columns = zip(COLUMNS, row.tolist(), strict=True)
    return {name: n for name, n in columns if n and name not in ("KIND", "CHECK_AT", "KEPT_STRIDE")}


def test_columns_are_numbered_once():
    numbers = [getattr(plan, name) for name in COLUMNS]
    assert numbers == list(range(plan.NUM_COLUMNS))


def test_places_are_an_offset_and_a_stride():
    builder = Builder()
    kept = builder.keep(20)
    x, y = builder.buffer(17), builder.buffer(5)
    found = columns_of(Operation(plan.KEEP, x.part(16, 1), kept, y, decays=True), builder)
    counter = 16  # that of the steps comes first
    state, block = counter + 32, 4  # what is kept of one stream; rows
    x_at = 2 * state  # behind a copy of it
    assert found == {
        "X_SIZE": 1, "X_AT": x_at + 16, "X_STRIDE": 32,
        "Y_SIZE": 20, "Y_AT": counter,  # each row where the row before was
        "Z_AT": x_at + block * 32, "Z_STRIDE": 16,
        "DECAYS": 1,
    }  # fmt: skip


@pytest.mark.parametrize("of_streams", [False, True])
def test_operations_run_row_by_row_for_one_stream_alone(of_streams):
    builder = Builder()
    x = builder.append(Operation(plan.INPUT, None, builder.buffer(3)))
    with builder.rows():
        builder.add(x, x)
        with builder.rows():
            builder.multiply(x, x)
    builder.append(Operation(plan.OUTPUT, x, x))
    rows = builder.layout(2, max_steps=9, of_streams=of_streams).plan
    kinds = [plan.INPUT, plan.ROWS, plan.ADD, plan.MULTIPLY, plan.OUTPUT]
    if of_streams:
        kinds.remove(plan.ROWS)
    else:
        assert rows[1, plan.REPEATS] == 2
    np.testing.assert_array_equal(rows[:, plan.KIND], kinds)


@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_what_counts_is_named_where_it_is_kept(mode):
    """Every number of a state that is no float is one of its counters."""
    program = build(Network((Pooling(3, mode), Pooling(3, mode))), {})
    plan_rows = program.step.plan
    of_pools = plan_rows[np.isin(plan_rows[:, plan.KIND], (plan.MEAN, plan.SUM)), plan.COUNT_AT]
    assert program.counters == (0, *of_pools)


def test_a_program_tells_what_a_stream_could_keep():
    network = Network((GRU(3, 5), AttentionPooling(5), Pooling(5, "max"), Pooling(5, "sum")))
    program = build(network, random_weights(network).tensors)
    first = program.initial_state
    assert program.could_keep(first).all()
    at, _ = program.state_names["layers.0.h"]
    assert program.could_keep(np.float32([-3.0, 3.0, 0.0, 1.0, -1.0]), at).all()
    for value in (np.nan, np.inf, -np.inf):
        for place in range(first.size):
            if place not in (*program.counters, *(counter + 1 for counter in program.counters)):
                kept = first.copy()
                kept[place] = value
                refused = np.arange(first.size) == place
                refused &= value != first  # a maximum begins with minus infinity
                np.testing.assert_array_equal(~program.could_keep(kept), refused)
    assert program.could_keep(np.float32([np.nan]), at).tolist() == [False]


@pytest.mark.parametrize("count", [-1, -(2**63), 2**62, 2**63 - 1])
def test_a_counter_counts_up(count):
    network = Network((Pooling(3, "mean"),))
    program = build(network, {})
    for at in program.counters:
        kept = program.initial_state.copy()
        kept[at : at + 2].view(np.int64)[0] = 7
        assert program.could_keep(kept).all()
        kept[at : at + 2].view(np.int64)[0] = count
        assert np.flatnonzero(~program.could_keep(kept)).tolist() == [at, at + 1]


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (spec.BatchNorm(3), "weight"),
        (spec.BatchNorm(3, 1e-12), "running_mean"),
        (spec.LSTM(3, 4), "bias_ih"),
        (spec.LSTM(3, 4, coupled=True), "bias_hh"),
        (spec.GRU(3, 4), "bias_ih"),
        (spec.RNN(3, 4), "bias_hh"),
    ],
)
def test_tensors_that_overflow_together_are_no_weights(layer, name):
    """Each is within float32; what is made of them would answer nothing but overflows."""
    network = Network((layer,))
    tensors = random_weights(network).tensors
    tensors |= {n: np.full_like(t, 3e38) for n, t in tensors.items() if "bias_" in n or name in n}
    if isinstance(layer, spec.BatchNorm):
        tensors["layers.0.running_var"] = np.zeros(3, np.float32)
    with pytest.raises(WeightsError, match=r"layers\.0: its tensors together are beyond float32"):
        numlstm.Model(Weights(network, tensors))
