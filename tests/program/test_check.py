"""The checker of plans: each changed plan is refused, or harmless where it runs."""

import os
import re
from dataclasses import replace

import numpy as np
import pytest

from numlstm.kernels import plan as columns
from numlstm.kernels.addresses import COMPILED
from numlstm.kernels.plan import LANES
from numlstm.program import check
from numlstm.program.check import check_layout
from numlstm.program.lower import build
from numlstm.spec import LSTM, Embedding, Linear, Network
from tests.cases import DECODERS, NETWORKS, random_weights
from tests.fence import in_child
from tests.fuzz import Clock
from tests.fuzz.plans import KNOWN, Ground, layouts, try_plans

SMALL = Network((Embedding(5, 3), LSTM(3, 4), Linear(4, 5)))


def program_of(network: Network):
    return build(network, random_weights(network).tensors)


@pytest.mark.skipif(not COMPILED, reason="plain Python touches no pages")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
@pytest.mark.parametrize(
    "name",
    [
        "lstm_7",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("generating", "copies_alone", "GRU int8 int8")
        ),
    ],
)
def test_a_changed_plan_is_refused_or_harmless(name):
    program = program_of(KNOWN[name])
    for layout in layouts(program):
        figures = try_plans(program, layout, 0, Clock())
        assert figures["plans"] > figures["run"] > 1000


@pytest.mark.skipif(not COMPILED, reason="plain Python touches no pages")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
@pytest.mark.parametrize(
    ("n", "column"), [(0, columns.Y_AT), (1, columns.B_AT), (3, columns.X_AT), (-1, columns.X_AT)]
)
def test_what_is_refused_would_end_the_process(n, column):
    program = program_of(NETWORKS["lstm_17"])
    ground = Ground(program, "block", np.random.default_rng(0))
    plan = ground.layout.plan.copy()
    plan[n, column] = 2**40
    assert not ground.allows(plan)
    assert in_child(lambda: ground.run(plan)) < 0


def test_every_number_that_is_a_place_is_held_against_its_array():
    """Of a row, the columns that its kind reads as places are refused one vector behind the end."""
    program = program_of(SMALL)
    layout = program.block
    ends = {"params": program.params.size, "state": layout.state_size}
    places = {
        0: {columns.W_AT: "params", columns.Y_AT: "state"},
        1: {columns.W_AT: "params", columns.B_AT: "params", columns.X_AT: "state"},
        3: {columns.W_AT: "params", columns.Z_AT: "state", columns.Y_AT: "state"},
        4: {columns.H_AT: "state", columns.C_AT: "state", columns.X_AT: "state"},
        6: {columns.X_AT: "state", columns.CHECK_AT: "state"},
    }
    for n, by_column in places.items():
        for column, array in by_column.items():
            for number in (-1, -LANES, ends[array] - 1, ends[array], 2**31, 2**62, -(2**63)):
                plan = layout.plan.copy()
                plan[n, column] = number
                with pytest.raises(RuntimeError, match=f"its arrays: row {n} "):
                    check_layout(program, replace(layout, plan=plan), "block")


def test_the_error_says_where_and_what():
    program = program_of(SMALL)
    plan = program.block.plan.copy()
    plan[1, columns.X_AT] += 2**31
    with pytest.raises(RuntimeError) as caught:
        check_layout(program, replace(program.block, plan=plan), "block")
    assert re.fullmatch(
        r"the plan of block does not fit its arrays: row 1 \(LINEAR\), X_AT is \d+, expected \d+ "
        r"numbers from there on within the state, 0 to \d+; please report this",
        str(caught.value),
    )


def test_a_pool_that_is_larger_than_its_array_is_refused():
    program = program_of(SMALL)
    size = program.pool.state_size + 3 * program.initial_state.size
    check_layout(program, program.pool, "pool", size, 3)
    with pytest.raises(RuntimeError, match="KEPT_AT"):
        check_layout(program, program.pool, "pool", size, 4)
    program = program_of(DECODERS["dot"])
    size = program.pool.state_size + program.initial_state.size
    with pytest.raises(RuntimeError, match="no memory"):
        check_layout(program, program.pool, "pool", size, 1)


def test_params_that_are_not_aligned_are_refused():
    program = program_of(SMALL)
    spare = np.zeros(program.params.size + LANES, np.float32)
    start = next(n for n in range(LANES) if spare[n:].ctypes.data % 64)
    for params in (spare[start : start + program.params.size], spare.astype(np.float64)):
        with pytest.raises(RuntimeError, match="no aligned float32"):
            replace(program, params=params)


def test_every_kind_of_operation_is_known():
    known = check._FIRST_KINDS.keys() | check._KINDS_BETWEEN.keys() | check._LAST_KINDS.keys()
    assert known | {columns.ROWS} == set(range(columns.INPUT, columns.SAMPLE + 1))
