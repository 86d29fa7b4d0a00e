"""A model, and sequences of it in progress: what can be done to them, and what must hold then."""

import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import numlstm
from numlstm import LookaheadStream, Network, spec
from tests.cases import random_weights
from tests.fuzz import Figures, Found
from tests.fuzz._case import NUM_ROWS, Case, Rows, heated, is_excuse

MOST_STEPS = 100  # of a sequence, before it begins again
MOST_LINES = 5
REFUSED = (TypeError, ValueError)

Pick = Callable[[int], int]  # a number below another one


@dataclass
class Line:
    """A sequence in progress, and what happened to it.

    at       a `Stream`, a `LookaheadStream`, or the slot of a pool
    events   rows that it read, and states that were set
    ys       what it answered to the rows; None where nobody saw it
    """

    at: Any
    given: dict[str, Any]
    events: list[Rows | dict[str, Rows]] = field(default_factory=list)
    ys: list[Rows | None] = field(default_factory=list)
    is_finished: bool = False

    def took(self, xs: Rows, ys: Rows | None) -> None:
        self.events.append(xs)
        self.ys.append(ys)

    def twin(self, at: Any) -> "Line":
        return replace(self, at=at, events=list(self.events), ys=list(self.ys))

    @property
    def num_steps(self) -> int:
        return sum(len(event) for event in self.events if isinstance(event, np.ndarray))


def merged(events: list[Any]) -> list[Any]:
    """Return events with the rows between two settings of the state in one piece."""
    result: list[Any] = []
    for event in events:
        if isinstance(event, np.ndarray) and result and isinstance(result[-1], np.ndarray):
            result[-1] = np.concatenate([result[-1], event])
        else:
            result.append(event)
    return result


def same(found: Any, expected: Any, what: str) -> None:
    """Raise a `Found` unless two answers or states are equal in every bit."""
    if _bits(found) != _bits(expected):
        raise Found(f"{what}: {found!r:.500} for {expected!r:.500}")


def _bits(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {name: _bits(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_bits(part) for part in value]
    return value


class World:
    """Some sequences of a model, and the rules of what can be done to them.

    pick   chooses all that is chosen: a number below another one
    """

    def __init__(self, case: Case, pick: Pick) -> None:
        self.case, self.model, self.pick = case, case.model, pick
        self.log: list[str] = []
        self.lines: list[Line] = []
        self.saved: list[tuple[bytes, Line]] = []
        self.iterators: list[tuple[Line, Any, int]] = []
        self.pool = None
        if case.network.is_causal and case.network.memory_size is None:
            self.pool = case.model.pool(4)
        self.figures = Figures()

    # Choices --------------------------------------------------------------------------------------

    def one_of(self, things: Any) -> Any:
        return things[self.pick(len(things))]

    def line(self, kind: type = object) -> Line | None:
        """Return one of the sequences of a kind, if there is any."""
        lines = [line for line in self.lines if isinstance(line.at, kind)]
        return self.one_of(lines) if lines else None

    def rows(self) -> Rows:
        """Return some rows of input."""
        count = self.one_of([0, 1, 1, 2, 3, 7, 15, 16, 17, 33])
        start = self.pick(NUM_ROWS - count)
        return self.case.xs[start : start + count]

    def as_given(self, xs: Rows) -> Any:
        """Return rows as a caller may have them."""
        if self.case.model.vocab_size is not None:
            return self.one_of([xs, xs.tolist(), xs.astype(np.int64), xs.astype(np.uint8)])
        doubles = xs.astype(np.float64)
        spread = np.repeat(xs, 2, axis=-1)[..., ::2]
        return self.one_of([xs, doubles, spread, np.asfortranarray(xs)])

    def out(self, *shape: int) -> Rows | None:
        size = self.model.output_size
        return self.one_of([None, np.full((*shape, size), np.nan, np.float32)])

    def add(self, line: Line) -> None:
        """Take a sequence among the others; of lone ones the oldest goes where there are many."""
        alone = [n for n, other in enumerate(self.lines) if not isinstance(other.at, int)]
        if len(alone) >= MOST_LINES and not isinstance(line.at, int):
            del self.lines[alone[0]]
        self.lines.append(line)

    # What must hold -------------------------------------------------------------------------------

    def kept(self, line: Line) -> Any:
        """Return all that a sequence keeps, as bytes or what is compared as such."""
        if isinstance(line.at, int):
            assert self.pool is not None
            return self.pool.save_states([line.at])[0]
        if isinstance(line.at, LookaheadStream):
            return line.at.kept
        return line.at.save_state()

    def all_kept(self) -> list[Any]:
        return [self.kept(line) for line in self.lines]

    def fresh(self, line: Line) -> tuple[Any, list[Rows]]:
        """Return a stream to which all of it is done in as few calls as possible, its answers."""
        stream: Any
        if isinstance(line.at, LookaheadStream):
            stream = self.model.stream(lookahead=line.at.lookahead)
        else:
            stream = self.model.stream(**line.given)
        ys = []
        for event in merged(line.events):
            if isinstance(event, dict):
                stream.state = event
            else:
                ys.append(stream.run(event))
        if line.is_finished:
            ys.append(stream.finish())
        return stream, ys

    def check(self, line: Line) -> None:
        """Hold a sequence against a fresh one, and against the reference where it can be."""
        stream, ys = self.fresh(line)
        if not isinstance(line.at, LookaheadStream):
            same(self.kept(line), self.kept(replace(line, at=stream)), "what is kept")
        elif not line.is_finished:  # the pieces in which rows came do not matter
            same(self.end(line.at.copy()), self.end(stream.copy()), "an end now")
        if isinstance(line.at, numlstm.Stream):
            same(line.at.state, stream.state, "the state")
            same(line.at.kept, stream.kept, "kept")
            same(line.at.num_steps, stream.num_steps, "the number of steps")
        rows = np.concatenate([np.zeros((0, self.model.output_size), np.float32), *ys])
        at = 0
        for found, event in zip(line.ys, self._read(line), strict=True):
            count = len(event) if found is None else len(found)
            if found is not None:
                same(found, rows[at : at + count], f"the answers {at} to {at + count}")
            at += count
        if at != len(rows):
            raise Found(f"{at} answers for {len(rows)}")
        self._judge(line, rows)

    @staticmethod
    def end(stream: LookaheadStream) -> Any:
        try:
            return stream.finish()
        except ValueError as error:
            if not is_excuse(error):
                raise
            return str(error)

    def _read(self, line: Line) -> list[Any]:
        """Return what was read for each of the answers; the last one is of the end."""
        return [e for e in line.events if isinstance(e, np.ndarray)] + [()] * line.is_finished

    def _judge(self, line: Line, rows: Rows) -> None:
        """Hold what began at the beginning against the reference."""
        states: dict[str, Rows] = {}
        events = merged(line.events)
        while events and isinstance(events[0], dict):
            states |= events.pop(0)
        if len(events) != 1 or self.pick(4):
            return
        xs = events[0]
        masked = self.case.network.masked(xs)
        if isinstance(line.at, LookaheadStream):
            left_out = masked is not None and masked.any()
            if left_out or not line.is_finished or line.at.lookahead < len(xs):
                return
            same(rows, self.model.run(xs), "a lookahead that reaches the end")
        if len(xs) and not self.hot(xs) and (masked is None or not masked.all()):
            given = line.given | ({"states": states} if states else {})
            name = "judged with a state" if states else "judged"
            self.figures[name] += self.case.judge(rows, xs, **given)

    def hot(self, xs: Rows) -> bool:
        return self.model.vocab_size is None and bool((np.abs(xs) > 1e4).any())

    def take(self, line: Line, xs: Rows, call: Callable[[], Any]) -> None:
        """Take steps; where the network overflows, nothing has changed, and so it does at once."""
        before = self.kept(line)
        try:
            ys = call()
        except ValueError as error:
            if not is_excuse(error):
                raise
            same(self.kept(line), before, "after an overflow")
            stream, _ = self.fresh(line)
            self.must_refuse(lambda: stream.run(xs) if len(xs) else stream.finish(), "the same")
            self.figures["overflows"] += 1
        else:
            line.took(xs, ys)

    def must_refuse(self, call: Callable[[], Any], what: str) -> None:
        try:
            call()
        except REFUSED as error:
            if not str(error):
                raise Found(f"{what}: {error!r} says nothing") from error
            if "please report" in str(error):
                raise
            return
        raise Found(f"{what} was not refused")

    # Rules ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.do("open" if self.case.network.is_causal else "open_with_lookahead")

    def check_all(self) -> None:
        for line in self.lines:
            self.check(line)

    def do(self, name: str) -> None:
        """Do one of `RULES`."""
        self.log.append(name)
        getattr(self, name)()
        self.figures["calls"] += 1
        for line in self.lines:
            if line.num_steps > MOST_STEPS and not isinstance(line.at, int):
                line.at.reset()
                line.events, line.ys, line.is_finished = [], [], False

    def open(self) -> None:
        if self.case.network.is_causal:
            given = self.one_of(self.case.memories)
            self.add(Line(self.model.stream(**given), given))

    def open_with_lookahead(self) -> None:
        if self.case.network.memory_size is None:
            lookahead = self.one_of([0, 1, 3, 1000])
            self.add(Line(self.model.stream(lookahead=lookahead), {}))

    def step(self) -> None:
        line = self.line(numlstm.Stream)
        if line:
            xs = self.rows()[:1]
            if len(xs):
                given, out = self.as_given(xs)[0], self.out()
                self.take(line, xs, lambda: self._one(line, given, out)[None])

    def _one(self, line: Line, x: Any, out: Rows | None) -> Rows:
        y: Rows = line.at.step(x, out=out)
        if out is not None and y is not out:
            raise Found("out is not what is returned")
        return y.copy()

    def run(self) -> None:
        line = self.line(numlstm.Stream)
        if line:
            xs = self.rows()
            given, out = self.as_given(xs), self.out(len(xs))
            self.take(line, xs, lambda: line.at.run(given, out=out).copy())

    def run_hot(self) -> None:
        line = self.line(numlstm.Stream)
        if line and self.model.vocab_size is None:
            xs = heated(self.rows(), self.one_of([1e5, 1e20, 1e37]))
            self.take(line, xs, lambda: line.at.run(xs))

    def trace(self) -> None:
        line = self.line(numlstm.Stream)
        if line and line.at.state:
            xs = self.rows()

            def trace() -> Rows:
                trace = line.at.trace(xs)
                for name, value in line.at.state.items() if len(xs) else ():
                    same(trace[name][-1], value, f"the last row of {name}")
                return trace.ys.copy()

            self.take(line, xs, trace)

    def reset(self) -> None:
        line = self.line()
        if line and not isinstance(line.at, int):
            line.at.reset()
            line.events, line.ys, line.is_finished = [], [], False

    def copy(self) -> None:
        line = self.line()
        if line and not isinstance(line.at, int):
            how = self.one_of([lambda s: s.copy(), deepcopy, self._pickled])
            self.add(line.twin(how(line.at)))

    @staticmethod
    def _pickled(stream: Any) -> Any:
        return pickle.loads(pickle.dumps(stream))

    def save(self) -> None:
        line = self.line()
        if line and not isinstance(line.at, LookaheadStream):
            self.saved.append((self.kept(line), line.twin(None)))
            del self.saved[:-4]

    def load(self) -> None:
        line = self.line(numlstm.Stream)
        if line and self.saved:
            blob, of = self.one_of(self.saved)
            line.at.load_state(self.one_of([blob, bytearray(blob), memoryview(blob)]))
            line.events, line.ys, line.given = list(of.events), list(of.ys), of.given

    def go_back(self) -> None:
        """Go to where another stream is, by `kept`."""
        line, other = self.line(), self.line()
        if not line or not other or isinstance(line.at, int) or type(line.at) is not type(other.at):
            return
        if line.given is not other.given or (
            isinstance(line.at, LookaheadStream) and line.at.lookahead != other.at.lookahead
        ):
            return
        line.at.kept = other.at.kept
        line.events, line.ys = list(other.events), list(other.ys)
        line.is_finished = other.is_finished

    def set_state(self) -> None:
        line, other = self.line(numlstm.Stream), self.line(numlstm.Stream)
        if line and other and line.at.state:
            state = other.at.state
            names = sorted(state)[self.pick(len(state)) :]
            scale = np.float32(self.one_of([1, 1, 0.5, 2]))
            values = {name: heated(state[name], scale) for name in names}
            try:
                line.at.state = values
            except ValueError:  # it holds no such numbers, or they are beyond float32
                self.must_refuse(lambda: setattr(self.fresh(line)[0], "state", values), "a state")
            else:
                line.events.append(values)

    def generate(self) -> None:
        line = self.line(numlstm.Stream)
        if not line or not self.can_generate():
            return
        first, n = self.pick(self.model.vocab_size or 1), self.one_of([0, 1, 2, 9])
        options = self.one_of(
            [{"temperature": 0}, {"seed": 3}, {"seed": 1, "top_k": 2, "repetition_penalty": 1.5}]
        )
        twin = line.at.copy()
        try:
            chosen = line.at.generate(first, n, **options).tolist()
        except ValueError as error:
            if not is_excuse(error):
                raise
            return
        tokens = twin.tokens(first, **options)
        same([next(tokens) for _ in range(n)], chosen, "tokens against generate")
        self._generated(line, first, chosen, options)

    def tokens(self) -> None:
        """Begin to yield tokens, or go on, whatever was done in between."""
        line = self.line(numlstm.Stream)
        if not line or not self.can_generate():
            return
        if len(self.iterators) < 3 and self.pick(2):
            first = self.pick(self.model.vocab_size or 1)
            self.iterators.append((line, line.at.tokens(first, temperature=0), first))
            return
        if self.iterators:
            at = self.pick(len(self.iterators))
            line, tokens, last = self.iterators[at]
            try:
                chosen = next(tokens)
            except ValueError as error:
                if not is_excuse(error):
                    raise
                del self.iterators[at]
                return
            self._generated(line, last, [chosen], {"temperature": 0})
            self.iterators[at] = line, tokens, chosen

    def can_generate(self) -> bool:
        size = self.model.vocab_size
        return size is not None and size >= self.model.output_size and not self.model.network.masks

    def _generated(self, line: Line, first: int, chosen: list[int], options: Any) -> None:
        """Note that tokens were chosen, each of them the largest where chance has no say."""
        if not chosen:
            return
        before, _ = self.fresh(line)
        xs = np.array([first, *chosen[:-1]], np.int32)
        line.took(xs, None)
        ys = before.run(xs)
        if options == {"temperature": 0}:
            for token, y in zip(chosen, ys, strict=True):
                if y[token] < y.max():
                    raise Found(f"token {token} was chosen of {y}")

    def run_whole(self) -> None:
        """Whole sequences, together and alone."""
        xss = [self.rows() for _ in range(self.pick(5))]
        masked = [self.case.network.masked(xs) for xs in xss]
        if not self.case.network.is_causal:
            xss = [x for x, m in zip(xss, masked, strict=True) if m is None or not m.all()]
        given = self.one_of(self.case.memories)
        if given:
            for xs in xss:
                self._whole(xs, given)
            return
        try:
            yss = self.model.run_batch(xss)
        except ValueError as error:
            if not is_excuse(error):
                raise
            self.must_refuse(lambda: [self.model.run(xs) for xs in xss], "one by one")
            return
        for xs, ys in zip(xss, yss, strict=True):
            same(self._whole(xs, {}), ys, "run against run_batch")

    def _whole(self, xs: Rows, given: dict[str, Any]) -> Rows | None:
        try:
            ys = self.model.run(self.as_given(xs), **given)
        except ValueError as error:
            if not is_excuse(error):
                raise
            return None
        out = np.empty_like(ys)
        if self.model.run(xs, out=out, **given) is not out:
            raise Found("out is not what is returned")
        same(out, ys, "run, written to out")
        if len(xs) and not self.pick(4):
            self.figures["judged"] += self.case.judge(ys, xs, **given)
        return ys

    # Of a pool ------------------------------------------------------------------------------------

    def slots(self) -> list[Line]:
        """Return some of the sequences in the pool, in some order."""
        lines = [line for line in self.lines if isinstance(line.at, int)]
        chosen = []
        for _ in range(self.pick(len(lines) + 1)):
            chosen.append(lines.pop(self.pick(len(lines))))
        return chosen

    def pool_open(self) -> None:
        if self.pool is None or len(self.pool) == self.pool.capacity:
            return
        line = self.line(numlstm.Stream)
        if line and self.pick(2):
            self.add(line.twin(self.pool.open(line.at)))
        else:
            self.add(Line(self.pool.open(), {}))

    def pool_open_many(self) -> None:
        if self.pool is None or not self.saved:
            return
        chosen = [self.one_of(self.saved) for _ in range(self.pick(3))]
        blobs = [blob for blob, _ in chosen]
        if len(self.pool) + len(blobs) > self.pool.capacity:
            self._refused_by_pool(lambda: self.pool.open_many(blobs), "too many states")
            return
        for slot, (_, of) in zip(self.pool.open_many(blobs), chosen, strict=True):
            self.add(of.twin(slot))

    def pool_step(self) -> None:
        lines = self.slots()
        if self.pool is not None:
            xs = self.case.xs[[self.pick(NUM_ROWS) for _ in lines]]
            out = self.out(len(lines))
            self._take_together(lines, xs[None], lambda slots, xs: self._pool_step(slots, xs, out))

    def _pool_step(self, slots: Any, xs: Rows, out: Rows | None) -> Rows:
        assert self.pool is not None
        ys: Rows = self.pool.step(slots, self.as_given(xs[0]), out=out)[None].copy()
        return ys

    def pool_run(self) -> None:
        lines = self.slots()
        if self.pool is not None:
            starts = [self.pick(NUM_ROWS - 20) for _ in lines]
            length = self.one_of([0, 1, 2, 5, 17])
            xs = np.stack([self.case.xs[at : at + length] for at in [*starts, 0]], 1)[:, :-1]
            if self.model.vocab_size is None:
                xs = heated(xs, self.one_of([1, 1, 1, 1e30]))
            self._take_together(lines, xs, lambda slots, xs: self.pool.run(slots, xs))

    def _take_together(
        self, lines: list[Line], xs: Rows, call: Callable[[Any, Rows], Rows]
    ) -> None:
        """Take steps of several slots: all, or none."""
        slots = [line.at for line in lines]
        given = self.one_of([slots, np.array(slots, np.int64), np.array(slots, np.int16)])
        before = self.all_kept()
        try:
            ys = call(given, xs)
        except ValueError as error:
            if not is_excuse(error):
                raise
            same(self.all_kept(), before, "after an overflow in the pool")
            pairs = [(self.fresh(line)[0], xs[:, n]) for n, line in enumerate(lines)]
            self.must_refuse(lambda: [stream.run(x) for stream, x in pairs], "one by one")
            self.figures["overflows"] += 1
            return
        for n, line in enumerate(lines):
            line.took(np.ascontiguousarray(xs[:, n]), np.ascontiguousarray(ys[:, n]))

    def pool_close(self) -> None:
        line = self.line(int)
        if line and self.pool is not None:
            self.check(line)
            self.pool.close(line.at)
            self.lines = [other for other in self.lines if other is not line]
            self._refused_by_pool(lambda: self.pool.close(line.at), "a slot closed twice")

    def pool_stream(self) -> None:
        line = self.line(int)
        if line and self.pool is not None:
            self.add(line.twin(self.pool.stream(line.at)))

    # Of a lookahead -------------------------------------------------------------------------------

    def look_ahead(self) -> None:
        line = self.line(LookaheadStream)
        if not line:
            return
        xs = self.rows()
        if line.is_finished:
            self.must_refuse(lambda: line.at.run(xs), "rows behind the end")
            self.must_refuse(line.at.finish, "an end behind the end")
            return
        if len(xs) == 1 and self.pick(2):
            size = self.model.output_size

            def step() -> Rows:
                y = line.at.step(self.as_given(xs)[0])
                return np.zeros((0, size), np.float32) if y is None else y[None]

            self.take(line, xs, step)
        else:
            self.take(line, xs, lambda: line.at.run(self.as_given(xs)))

    def finish(self) -> None:
        line = self.line(LookaheadStream)
        if line and not line.is_finished:
            before = self.kept(line)
            try:
                ys = line.at.finish()
            except ValueError as error:
                if not is_excuse(error):
                    raise
                same(self.kept(line), before, "after an end that overflows")
                self.must_refuse(self.fresh(line)[0].finish, "the same end")
            else:
                line.is_finished = True
                line.ys.append(ys)

    # What is refused ------------------------------------------------------------------------------

    def wrong_rows(self) -> list[Any]:
        """Return what is no row of the input."""
        if self.model.vocab_size is not None:
            return [-1, self.model.vocab_size, 2**40, 1.0, "1", None, [1, 2], np.nan]
        size = self.model.input_size
        rows = [np.zeros(size + 1), np.zeros((2, size)), "x", None, np.zeros(size, complex)]
        for value in (np.nan, np.inf, -np.inf, 1e39):
            rows.append(np.zeros(size))
            rows[-1][self.pick(size)] = value
        return rows

    def wrong_out(self, *shape: int) -> Any:
        size = self.model.output_size
        frozen = np.zeros((*shape, size), np.float32)
        frozen.flags.writeable = False
        return self.one_of(
            [
                np.zeros((*shape, size)),
                np.zeros((*shape, size + 1), np.float32),
                np.zeros((*shape, 2 * size + 2), np.float32)[..., : 2 * size : 2],
                frozen,
                [0.0] * size,
            ]
        )

    def refuse(self) -> None:
        """Ask one sequence for what it must refuse; it is as it was before."""
        line = self.line()
        if not line or isinstance(line.at, int):
            self._refuse_in_pool()
            return
        wrong, x, xs = self.one_of(self.wrong_rows()), self.case.xs[0], self.case.xs[:3]
        calls = [lambda: line.at.step(wrong), lambda: line.at.run([*self.as_given(xs), wrong])]
        if isinstance(line.at, numlstm.Stream):
            blob = line.at.save_state()
            at = self.pick(len(blob))
            out = self.wrong_out()
            bad = out if self.model.output_size > 1 or not isinstance(out, np.ndarray) else None
            calls += [
                lambda: line.at.trace([*self.as_given(xs), wrong]),
                lambda: line.at.load_state(blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]),
                lambda: line.at.load_state(blob[:at]),
                lambda: line.at.load_state("no bytes"),
                lambda: setattr(line.at, "state", {"layers.99.h": [0.0]}),
                lambda: setattr(line.at, "state", [1]),
                lambda: setattr(line.at, "kept", np.full_like(line.at.kept, np.nan)),
                lambda: setattr(line.at, "kept", line.at.kept[1:]),
                lambda: setattr(line.at, "kept", 0),
                lambda: line.at.generate(-1, 3),
                lambda: line.at.generate(0, -1),
                lambda: line.at.tokens(0, temperature=-1.0),
            ]
            if bad is not None:
                calls.append(lambda: line.at.step(x, out=bad))
        before = self.all_kept()
        number = self.pick(len(calls))
        self.log.append(f"refuse {number}")
        self.must_refuse(calls[number], f"call {number}")
        same(self.all_kept(), before, f"after call {number} was refused")
        self.figures["refused"] += 1

    def _refused_by_pool(self, call: Callable[[], Any], what: str) -> None:
        assert self.pool is not None
        before, count = self.all_kept(), len(self.pool)
        self.must_refuse(call, what)
        same(self.all_kept(), before, f"after {what}")
        same(len(self.pool), count, f"the open slots after {what}")
        self.figures["refused"] += 1

    def _refuse_in_pool(self) -> None:
        pool = self.pool
        if pool is None:
            return
        slots = [line.at for line in self.lines if isinstance(line.at, int)]
        closed = next(n for n in range(pool.capacity + 1) if n not in slots)
        some, wrong = [*slots, closed], self.one_of(self.wrong_rows())
        xs = self.case.xs[: len(slots)]
        twice = [slots[0], *slots] if slots else [closed]
        calls = [
            lambda: pool.step(some, self.case.xs[: len(some)]),
            lambda: pool.step(twice, self.case.xs[: len(twice)]),
            lambda: pool.step([-1], self.case.xs[:1]),
            lambda: pool.step(slots, [*xs, wrong]),
            lambda: pool.step([*slots[1:], 0.5], xs),
            lambda: pool.close(closed),
            lambda: pool.stream(closed),
            lambda: pool.save_states(some),
            lambda: pool.open_many([b"no state"]),
            lambda: pool.run(slots, [[*xs, wrong]]),
            lambda: pool.open(OTHER.stream()),
            lambda: pool.open_many([OTHER.stream().save_state()]),
        ]
        number = self.pick(len(calls))
        self.log.append(f"refuse in the pool {number}")
        self._refused_by_pool(calls[number], f"call {number} of the pool")


OTHER = numlstm.Model(random_weights(Network((spec.Linear(977, 3),))))

RULES = (
    "open",
    "open_with_lookahead",
    "step",
    "run",
    "run_hot",
    "trace",
    "reset",
    "copy",
    "save",
    "load",
    "go_back",
    "set_state",
    "generate",
    "tokens",
    "run_whole",
    "pool_open",
    "pool_open_many",
    "pool_step",
    "pool_run",
    "pool_close",
    "pool_stream",
    "look_ahead",
    "finish",
    "refuse",
)
