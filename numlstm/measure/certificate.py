"""Whether a model answers the same bits, whichever way it is asked, and on every machine."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.diagnostics import version
from numlstm.measure.inputs import inputs, single
from numlstm.measure.machine import describe
from numlstm.measure.process import allocations, num_threads
from numlstm.measure.times import percentiles, timed
from numlstm.model import Model

Floats = NDArray[np.float32]

_NUM_STEPS = 256
_NUM_STREAMS = 5
_CHUNKS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 114)  # steps, all of them together
_ALLOCATING = 5000  # steps


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it is as it must be, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Certificate:
    """What was found of a model on a machine.

    Attributes
    ----------
    model, version, date : str
        Its name, the version of numlstm, and when.
    fingerprint : str
        Of the network and its weights, in hex.
    digest : str
        SHA-256 of the answers to 256 steps, in hex: the same on every CPU.
    machine : dict
        CPU, level, system, versions.
    checks : tuple of Check
        What must hold.
    step : dict
        Percentiles of a step in microseconds; empty where a network reads later steps.
    """

    model: str
    version: str
    date: str
    fingerprint: str
    digest: str
    machine: dict[str, Any]
    checks: tuple[Check, ...]
    step: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> str:
        """Return it as a JSON text."""
        return json.dumps(asdict(self) | {"passed": self.passed}, indent=2)

    def to_markdown(self) -> str:
        """Return a page that a person can read, or attach to a release."""
        lines = [
            f"# {self.model}: {'passed' if self.passed else 'FAILED'}",
            "",
            f"numlstm {self.version}, {self.date}",
            "",
            "| | |",
            "|---|---|",
            f"| network and weights | `{self.fingerprint}` |",
            f"| digest of the answers | `{self.digest}` |",
            *(f"| {name} | {found} |" for name, found in self.machine.items()),
            "",
            "| check | | found |",
            "|---|---|---|",
        ]
        for check in self.checks:
            lines.append(f"| {check.name} | {'ok' if check.passed else 'FAILED'} | {check.found} |")
        if self.step:
            lines += ["", "| a step, us | |", "|---|---|"]
            shown = {"p50": "p50_us", "p90": "p90_us", "p99": "p99_us", "p99.9": "p999_us"}
            lines += [f"| {name} | {self.step[key]:.2f} |" for name, key in shown.items()]
        lines += [
            "",
            "Another machine must find the same digest: the inputs are made by integers "
            "(`numlstm.measure.inputs`), the answers are the same bits on every CPU.",
            "",
        ]
        return "\n".join(lines)


def certify(
    model: Model, name: str = "", *, digest: str | None = None, seconds: float = 1.0
) -> Certificate:
    """Hold the ways in which a model can be asked against each other, bit by bit.

    Parameters
    ----------
    model : Model
        The model.
    name : str
        What the page calls it.
    digest : str, optional
        What another machine found, or the beginning of it.
    seconds : float
        How long steps are timed.

    Returns
    -------
    Certificate
        Checks that did not pass are in it; nothing is raised for them.

    Raises
    ------
    ValueError
        If the network attends to a memory, which it would have to be given.
    """
    if model.network.memory_size is not None:
        raise ValueError("the network attends to a memory: certify what it attends to")
    threads = num_threads()
    xs = inputs(model, _NUM_STEPS)
    ys = model.run(xs)
    checks = list(_causal(model, xs, ys) if model.network.is_causal else _both_ends(model, xs, ys))
    answered = hashlib.sha256(ys.astype("<f4", copy=False).tobytes()).hexdigest()
    if digest is not None:
        is_same = len(digest) >= 8 and answered.startswith(digest.lower())
        checks.append(Check("the digest of another machine", is_same, digest))
    probes = model.verify()
    if probes.num_probes:
        what = f"{probes.num_outputs} outputs, largest difference {probes.largest_difference:.1e}"
        checks.append(Check("answers of the framework it comes from", probes.ok, what))
    step: dict[str, Any] = {}
    if model.network.is_causal:
        stream, out = model.stream(), np.empty(model.output_size, np.float32)
        rows = single(xs)
        found = allocations(lambda: stream.step(rows[0], out=out), _ALLOCATING)
        what = (
            f"{_ALLOCATING} steps: at most {found['peak_bytes']} bytes at a time, "
            f"{found['kept_bytes']} and {found['kept_blocks']} blocks of Python's afterwards"
        )
        is_none = not (found["peak_bytes"] or found["kept_bytes"] or found["kept_blocks"])
        checks.append(Check("steps allocate nothing", is_none, what))
        step = percentiles(timed(lambda n: stream.step(rows[n % 64], out=out), seconds))
    more = num_threads() - threads
    checks.append(Check("threads started", more == 0, str(more)))
    return Certificate(
        name,
        version("numlstm"),
        datetime.now(UTC).isoformat(timespec="minutes"),
        model.fingerprint.hex(),
        answered,
        describe(),
        tuple(checks),
        step,
    )


def _causal(model: Model, xs: NDArray[Any], ys: Floats) -> Iterator[Check]:
    """Yield what must hold of a network that reads no later step."""
    yield _same("steps one by one", lambda: _steps(model, xs), ys)
    yield _same("steps in chunks of 1 to 114", lambda: _chunks(model, xs), ys)
    yield _same("a copy half way", lambda: _continued(model, xs, lambda s: s.copy()), ys)
    yield _same("a saved state half way", lambda: _continued(model, xs, _reloaded), ys)
    yield _same("a batch", lambda: model.run_batch([xs[:7], xs])[1], ys)
    yield from _pools(model)


def _both_ends(model: Model, xs: NDArray[Any], ys: Floats) -> Iterator[Check]:
    """Yield what must hold of a network that reads later steps."""
    yield _same("the sequence again", lambda: model.run(xs), ys)
    yield _same("a batch", lambda: model.run_batch([xs[:7], xs])[1], ys)

    def stream() -> Floats:
        late = model.stream(lookahead=len(xs))
        return np.concatenate([late.run(xs[:100]), late.run(xs[100:]), late.finish()])

    yield _same("a stream that waits for the end", stream, ys)


def _same(name: str, answers: Callable[[], Floats], expected: Floats) -> Check:
    """Return whether answers are the bits that were expected."""
    found = answers()
    if found.shape != expected.shape:
        return Check(name, False, f"shape {found.shape}, expected {expected.shape}")
    differ = (found.view(np.uint32) != expected.view(np.uint32)).any(axis=-1)
    if not differ.any():
        return Check(name, True, f"the same bits, {len(expected)} rows")
    return Check(name, False, f"{differ.sum()} of {len(differ)} rows differ")


def _steps(model: Model, xs: NDArray[Any]) -> Floats:
    stream = model.stream()
    return np.stack([stream.step(x) for x in xs])


def _chunks(model: Model, xs: NDArray[Any]) -> Floats:
    stream, parts, at = model.stream(), [], 0
    for size in _CHUNKS:
        parts.append(stream.run(xs[at : at + size]))
        at += size
    return np.concatenate(parts)


def _continued(model: Model, xs: NDArray[Any], other: Callable[[Any], Any]) -> Floats:
    half = len(xs) // 2
    stream = model.stream()
    before = stream.run(xs[:half])
    return np.concatenate([before, other(stream).run(xs[half:])])


def _reloaded(stream: Any) -> Any:
    other = stream.model.stream()
    other.load_state(stream.save_state())
    return other


def _pools(model: Model) -> Iterator[Check]:
    """Yield whether streams of a pool, some resting at each step, are lone ones."""
    count = _NUM_STREAMS
    all_xs = [inputs(model, _NUM_STEPS // 2, 1000 * n) for n in range(count)]
    ys = np.concatenate([model.run(xs) for xs in all_xs])

    def stepped() -> Floats:
        pool = model.pool(count)
        slots = [pool.open() for _ in range(count)]
        taken = [0] * count
        answers: list[list[Floats]] = [[] for _ in range(count)]
        turn = 0
        while any(n < len(all_xs[0]) for n in taken):
            some = [n for n in range(count) if taken[n] < len(all_xs[0]) and (turn + n) % 3]
            turn += 1
            if not some:
                continue
            xs = np.stack([all_xs[n][taken[n]] for n in some])
            for n, y in zip(some, pool.step([slots[n] for n in some], xs), strict=True):
                answers[n].append(y)
                taken[n] += 1
            if turn == 50:  # all of them go on in another one
                states = pool.save_states(slots)
                pool = model.pool(count)
                slots = pool.open_many(states)
        return np.concatenate([np.stack(each) for each in answers])

    yield _same(f"a pool of {count}, its states saved on the way", stepped, ys)
