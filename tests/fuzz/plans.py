"""Plans with a number changed, rows swapped or left out: refused, or harmless to run.

The checker of plans must refuse each that would touch anything outside its arrays. Those that it
lets pass run, in a child process, on arrays beside pages that cannot be touched, full of garbage;
what no operation may write is compared afterwards.
"""

import mmap
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.kernels import plan as columns
from numlstm.kernels.addresses import argument
from numlstm.kernels.entry import walker
from numlstm.kernels.plan import LANES
from numlstm.program.check import check_layout
from numlstm.program.lower import build
from numlstm.program.program import Layout, Program
from numlstm.spec import Network
from tests.cases import CASES, DECODERS, NETWORKS, random_weights
from tests.fence import Strip, fenced, in_child, read_only
from tests.fuzz import Clock, Figures, Found
from tests.outputs import GENERATING, LONG, ROUNDED

Plan = NDArray[np.int64]

KNOWN: dict[str, Network] = (
    {case.id: case.network for case in CASES if case.num_layers < 3}
    | NETWORKS
    | DECODERS
    | ROUNDED
    | LONG
    | {"generating": GENERATING}
)
LAYOUTS = "step", "block", "pool", "generate"
NUM_MEMORY_ROWS = 3


def layouts(program: Program) -> dict[str, Layout]:
    found = {name: getattr(program, name) for name in LAYOUTS}
    if program.memory is not None:
        del found["pool"]  # which never runs
    return {name: layout for name, layout in found.items() if layout is not None}


def numbers_for(plan: Plan, n: int, column: int) -> set[int]:
    """Return what to put in place of a number."""
    number = int(plan[n, column])
    others = {int(other) for other in plan[:, column]} | {
        int(plan[n, other]) + more for other in range(columns.NUM_COLUMNS) for more in (0, 16)
    }
    near = {number - 16, number - 1, number + 1, number + 16, number * 2, number // 2}
    far = {0, 1, -1, -16, 2**31, 2**62, -(2**62), 2**63 - 1, -(2**63)}
    return {m for m in others | near | far if -(2**63) <= m < 2**63} - {number}


def changed(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Yield each plan that differs in a number, or by rows."""
    for n, column in np.ndindex(*plan.shape):
        for number in sorted(numbers_for(plan, n, column)):
            other = plan.copy()
            other[n, column] = number
            yield f"row {n}, column {column}: {number} for {plan[n, column]}", other
    for n in range(1, len(plan) - 1):
        for m in range(n + 1, len(plan) - 1):
            other = plan.copy()
            other[[n, m]] = plan[[m, n]]
            yield f"rows {n} and {m} swapped", other
        for what, order in (
            ("left out", [m for m in range(len(plan)) if m != n]),
            ("twice", sorted([*range(len(plan)), n])),
        ):
            other = plan[order].copy()
            other[0, columns.NUM_ROWS] = len(other)
            yield f"row {n} {what}", other


class Ground:
    """The arrays of one layout, beside fences, where plans that are let pass run."""

    def __init__(self, program: Program, name: str, rng: np.random.Generator) -> None:
        self.program, self.name, self.rng = program, name, rng
        self.layout: Layout = layouts(program)[name]
        self.at_end = bool(rng.integers(2))
        self.params = read_only(program.params, self.at_end)
        self.capacity = 0
        behind = np.zeros(0, np.float32)
        if name == "pool":
            self.capacity = int(self.layout.plan[0, columns.BLOCK_ROWS]) + 1
            behind = np.tile(program.initial_state, self.capacity)
        elif program.memory is not None:
            rows = rng.normal(0, 1, (NUM_MEMORY_ROWS, program.memory.row_size))
            if program.memory.has_ids:  # at which the kernel looks itself
                rows[:, program.memory.keys_end] = rng.permutation([1e9, -1e9, np.nan])
            behind = rows.astype(np.float32).ravel()
        size = self.layout.state_size
        self.state = fenced(size + behind.size, at_end=self.at_end)
        # Garbage, which as a place would be far away.
        self.first = rng.integers(2**30, 2**31, self.state.size, np.int32).view(np.float32)
        self.first[: program.initial_state.size] = program.initial_state
        self.first[size:] = behind
        if program.memory is not None:
            program.memory.set_count(self.first, NUM_MEMORY_ROWS)
        self.xs, self.ys = Strip(self.at_end), Strip(self.at_end)

    def allows(self, plan: Plan) -> bool:
        layout = replace(self.layout, plan=plan)
        try:
            check_layout(self.program, layout, self.name, self.state.size, self.capacity)
        except RuntimeError:
            return False
        return True

    def run(self, plan: Plan) -> int:
        """Run a plan that is let pass; raise a Found if it writes what it may not."""
        self.state[:] = self.first
        first, last = plan[0], plan[-1]
        rows = int(first[columns.BLOCK_ROWS])
        num_steps = {"step": 1, "generate": 5}.get(self.name, 2 * rows + (self.name == "block"))
        slots = np.arange(1, 1 + rows)
        if self.name == "pool":
            self._slots(plan)[:] = slots
        ys = self.ys.array((num_steps * int(last[columns.Y_SIZE]),), np.float32)
        ys[:] = self.rng.random(ys.size, np.float32)
        if last[columns.KIND] == columns.SAMPLE:
            self._place_settings(plan)
        run = walker()
        status = run(
            argument(plan),
            argument(self.params),
            argument(self.state),
            self._x(plan, num_steps),
            ys,
        )
        if not 0 <= status <= columns.OUTPUT_NOT_FINITE:
            raise Found(f"status {status}")
        self._look(plan, slots)
        return status

    def _x(self, plan: Plan, num_steps: int) -> NDArray[Any]:
        first = plan[0]
        if first[columns.KIND] == columns.INPUT:
            xs = self.xs.array((num_steps * int(first[columns.X_SIZE]),), np.float32)
            xs[:] = self.rng.standard_normal(xs.size, np.float32)
        else:
            xs = self.xs.array((num_steps,), np.int32)
            xs[:] = self.rng.integers(0, min(first[columns.VOCAB_SIZE], 2**31 - 1), num_steps)
            xs[0] = min(first[columns.VOCAB_SIZE], 2**31) - 1
        return xs

    def _slots(self, plan: Plan) -> NDArray[np.int64]:
        at = int(plan[0, columns.SLOTS_AT])
        return self.state[at : at + 2 * int(plan[0, columns.BLOCK_ROWS])].view(np.int64)

    def _place_settings(self, plan: Plan) -> None:
        settings, rows = int(plan[-1, columns.Y_AT]), int(plan[-1, columns.Z_AT])
        size = int(plan[-1, columns.X_SIZE])
        stride = -(-size // LANES) * LANES
        numbers = self.state.view(np.int32)
        floats = self.state[settings : settings + columns.NUM_SETTINGS]
        floats[[columns.TEMPERATURE, columns.REPETITION_PENALTY]] = 1.0, 1.1
        floats[[columns.TOP_P, columns.MIN_P]] = 0.9, 0.01
        numbers[settings + columns.TOP_K] = min(size, 1 + int(self.rng.integers(size)))
        numbers[settings + columns.NUM_SEEN] = 1
        numbers[settings + columns.NUM_CHOSEN] = 0
        flags = rows + 3 * stride
        numbers[flags : flags + stride] = 0
        numbers[flags], numbers[flags + stride] = columns.SEEN, 0

    def _look(self, plan: Plan, slots: NDArray[np.int64]) -> None:
        size, memory = self.layout.state_size, self.program.memory
        if self.name == "pool":
            kept = self.program.initial_state.size
            at = int(plan[0, columns.KEPT_AT])
            if (self._slots(plan) != slots).any():
                raise Found("slots were written")
            if not _same(self.state[at : at + kept], self.first[at : at + kept]):
                raise Found("a stream that took no step was written")
        if memory is not None:
            at = memory.count_at
            if not _same(self.state[at : at + 2], self.first[at : at + 2]):
                raise Found("the number of rows of the memory was written")
            found, given = (
                array[size:].reshape(NUM_MEMORY_ROWS, -1)[:, : memory.score_at]
                for array in (self.state, self.first)
            )
            if not _same(found, given):
                raise Found("the memory was written")


def _same(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return a.tobytes() == b.tobytes()


def try_plans(program: Program, name: str, seed: int, clock: Clock) -> Figures:
    """Change the plan of a layout in each way; raise a Found for one that does harm."""
    ground = Ground(program, name, np.random.default_rng(seed))
    assert ground.allows(ground.layout.plan)
    # What the child is at, for those that ask when it is gone.
    shared = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), np.int64)
    figures = Figures()

    def work() -> None:
        for at, (_, plan) in enumerate(changed(ground.layout.plan)):
            if not clock.ticks():
                break
            shared[0] = at
            signal.alarm(60)
            if ground.allows(plan):
                ground.run(plan)
                shared[2] += 1
            shared[1] += 1

    status = in_child(work)
    for _ in range(shared[1]):
        clock.ticks()
    if status:
        for at, (what, _) in enumerate(changed(ground.layout.plan)):
            if at == shared[0]:
                raise Found(f"{name}: {what}: status {status}")
    figures["plans"] += int(shared[1])
    figures["run"] += int(shared[2])
    return figures


def run(clock: Clock, seed: int) -> Figures:
    """Take networks at random, each of them whole; the clock counts plans."""
    rng = np.random.default_rng(seed)
    names, figures = sorted(KNOWN), Figures()
    while clock.ticks():
        name, own = names[rng.integers(len(names))], int(rng.integers(2**31))
        network = KNOWN[name]
        program = build(network, random_weights(network).tensors, bool(own % 2))
        for layout in layouts(program):
            try:
                figures += try_plans(program, layout, own, clock)
            except Found as found:
                raise Found(f"{name}, seed {own}, {found}") from found
        figures["networks"] += 1
    return figures
