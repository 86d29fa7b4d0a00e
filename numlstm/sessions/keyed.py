"""Sessions: streams by key, the last used ones in a pool, the others in a store."""

import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.model import Model
from numlstm.run.threads import Turn, in_turn
from numlstm.sessions.record import LARGEST_NOTE, Record
from numlstm.sessions.store import MemoryStore, Store

Floats = NDArray[np.float32]

# What is kept beside the states of sessions: bytes for each, None to leave what there is; or what
# returns them, of the number of a session among the keys and its answers.
Notes = Sequence[bytes | None] | Callable[[int, Floats], bytes | None]


class StepError(ValueError):
    """Steps that a session cannot take now: it is at another one.

    Attributes
    ----------
    key : str
        The session.
    num_steps : int
        How many steps it has taken.
    at : int
        How many it should have taken before those that were asked for.
    """

    def __init__(self, key: str, num_steps: int, at: int, reason: str = "") -> None:
        said = f"session {key!r} has taken {num_steps} steps, not {at}"
        super().__init__(f"{said}: {reason}" if reason else said)
        self.key, self.num_steps, self.at, self.reason = key, num_steps, at, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return StepError, (self.key, self.num_steps, self.at, self.reason)


@dataclass(frozen=True)
class _Held:
    """A session in the pool.

    slot       of the pool
    record     what is known of it beside its state, which is in the pool
    is_stored  whether the store has it as it is
    """

    slot: int
    record: Record
    is_stored: bool


class Sessions:
    """Streams by key, of a causal network: more than fit into a pool, and longer than a process.

    A session begins at the first step of its key. The `capacity` ones that were used last are in a
    pool and step together; the others are in the store, written when they leave the pool, and come
    back to the same bits. If a call raises, every session is as it was before. One thread's at a
    time, as a `Pool` is; a session must be used by one `Sessions` at a time, too.

    Exactly once: who says by ``at`` how many steps a session has taken before those of a call may
    ask again for the same call, after a lost answer or a crash. What was taken already is answered
    again, and not taken again.

    Parameters
    ----------
    model : Model
        A causal one without a memory.
    store : Store, optional
        Where the others lie; a `MemoryStore` if not given.
    capacity : int
        How many are in the pool.

    Examples
    --------
    >>> sessions = Sessions(numlstm.load("sentiment"), SQLiteStore("sessions.db"), capacity=1000)
    >>> sessions.step(["anna", "ben"], [4, 8]).shape
    (2, 2)
    >>> sessions.num_steps("anna")
    1
    """

    def __init__(
        self,
        model: Model,
        store: Store | None = None,
        capacity: int = 1000,
    ) -> None:
        self.model = model
        self.store = MemoryStore() if store is None else store
        self._pool = model.pool(capacity)
        self._first = model.stream().save_state()
        self._turn = Turn()
        self._held: OrderedDict[str, _Held] = OrderedDict()  # the last used one is the last

    @property
    def capacity(self) -> int:
        """How many sessions are in the pool at most."""
        return self._pool.capacity

    def __len__(self) -> int:
        """How many sessions are in the pool."""
        return len(self._held)

    @in_turn
    def __contains__(self, key: object) -> bool:
        """Whether a session has begun, and is in the pool or in the store."""
        if not isinstance(key, str):
            return False
        return key in self._held or self.store.get_many([key])[0] is not None

    # Steps ----------------------------------------------------------------------------------------

    @in_turn
    def step(
        self,
        keys: Sequence[str],
        xs: ArrayLike,
        *,
        at: Sequence[int | None] | None = None,
        notes: Notes | None = None,
        durable: bool = False,
    ) -> Floats:
        """Take one step of some sessions.

        Parameters
        ----------
        keys : sequence of n str
            Each at most once, at most `capacity`.
        xs : array of shape (n,) or (n, input_size)
            A token id, or float32 numbers, for each.
        at : sequence of n int or None, optional
            How many steps each has taken before; None where that is not said.
        notes : sequence of n bytes or None, or callable (n, ys) -> bytes or None, optional
            What is kept beside the state from now on, at most 1 MB; None leaves it. A function is
            called with the number of the session and its answers, of steps that are taken now.
        durable : bool
            Whether the store has them before this returns, see `Store`.

        Returns
        -------
        float32 array of shape (n, output_size)

        Raises
        ------
        StepError
            If a session is at another step than ``at`` says.
        TypeError, ValueError
            As `Pool.step`; or if a record of the store is damaged or another model's.
        """
        rows = np.asarray(xs)
        if rows.ndim < 1 or len(rows) != len(keys):
            raise ValueError(f"xs has shape {rows.shape} for {len(keys)} keys")
        yss = self._run(keys, list(rows[:, None]), at, notes, durable)
        return np.concatenate(yss) if yss else np.zeros((0, self.model.output_size), np.float32)

    @in_turn
    def run(
        self,
        keys: Sequence[str],
        xss: Sequence[ArrayLike],
        *,
        at: Sequence[int | None] | None = None,
        notes: Notes | None = None,
        durable: bool = False,
    ) -> list[Floats]:
        """Take steps of some sessions, of each as many as it is given rows.

        Parameters
        ----------
        keys : sequence of n str
            Each at most once, at most `capacity`.
        xss : sequence of n arrays of shape (T_i,) or (T_i, input_size)
            Token ids, or float32 numbers.
        at, notes, durable
            As of `step`.

        Returns
        -------
        list of n float32 arrays of shape (T_i, output_size)

        Raises
        ------
        StepError, TypeError, ValueError
            As `step`.
        """
        return self._run(keys, list(map(np.asarray, xss)), at, notes, durable)

    def _run(
        self,
        keys: Sequence[str],
        xss: list[NDArray[Any]],
        at: Sequence[int | None] | None,
        notes: Notes | None,
        durable: bool,
    ) -> list[Floats]:
        keys = _checked_keys(keys, self.capacity)
        count = len(keys)
        at = _as_many("at", at, count)
        if len(xss) != count:
            raise ValueError(f"xss has {len(xss)} sequences for {count} keys")
        note_of = notes if callable(notes) else _note_of(_as_many("notes", notes, count))
        row = () if self.model.vocab_size is not None else (self.model.input_size,)
        for key, xs in zip(keys, xss, strict=True):
            if xs.ndim < 1 or (xs.shape[1:] != row and len(xs)):
                expected = ", ".join(["T", *map(str, row)])
                raise ValueError(f"xs of {key!r} has shape {xs.shape}, model expects ({expected})")
        new = self._bring_in(keys)
        is_done = False
        kept = None
        try:
            held = [self._held[key] for key in keys]
            due = [n for n in range(count) if not self._is_replay(keys[n], at[n], xss[n])]
            slots = [held[n].slot for n in due]
            kept = self._pool.kept(slots), slots
            yss = self._steps(slots, [xss[n] for n in due])
            answers = dict(zip(due, yss, strict=True))
            after = dict(zip(keys, held, strict=True))
            for n, ys in answers.items():
                record, note = held[n].record, _checked_note(note_of(n, ys))
                record = replace(
                    record,
                    num_steps=record.num_steps + len(ys),
                    answers=None if at[n] is None else ys,
                    given=0 if at[n] is None else self._digest(xss[n]),
                    note=record.note if note is None else note,
                )
                after[keys[n]] = replace(held[n], record=record, is_stored=False)
            if durable:
                # Should the store raise, nobody knows which of them it has.
                pairs = zip(keys, held, strict=True)
                self._held.update({key: replace(each, is_stored=False) for key, each in pairs})
                after = self._store(after, durable=True)
            given = [self._answer(answers.get(n), held[n]) for n in range(count)]
            # In one go, whatever interrupts this; nothing is called behind it.
            self._held.update(after)
            is_done = True
        finally:
            if not is_done and kept is not None:
                self._pool.restore(kept[1], kept[0])
            if not is_done:
                self._drop(new)
                if durable and new:
                    with suppress(Exception):  # as it did not take them: there is an error already
                        self.store.delete_many(new)
        return given

    def _is_replay(self, key: str, at: int | None, xs: NDArray[Any]) -> bool:
        """Whether steps were taken already and can be answered again; raise if neither can be."""
        record = self._held[key].record
        if at is None or at == record.num_steps:
            return False
        if isinstance(at, bool) or not isinstance(at, int | np.integer):
            raise TypeError(f"at is {at!r} of session {key!r}, expected a number of steps")
        answers = record.answers
        if answers is None or len(answers) != len(xs) or at + len(xs) != record.num_steps:
            raise StepError(key, record.num_steps, int(at))
        if record.given != self._digest(xs):
            raise StepError(key, record.num_steps, int(at), "the call before had other inputs")
        return True

    def _digest(self, xs: NDArray[Any]) -> int:
        """Return a CRC-32 of rows as the model reads them."""
        dtype = np.float32 if self.model.vocab_size is None else np.int64
        return zlib.crc32(np.ascontiguousarray(xs, dtype).tobytes())

    @staticmethod
    def _answer(ys: Floats | None, held: _Held) -> Floats:
        if ys is not None:
            return ys
        assert held.record.answers is not None, "a replay has answers"
        return held.record.answers.copy()

    def _steps(self, slots: list[int], xss: list[NDArray[Any]]) -> list[Floats]:
        """Take the steps of ragged sequences: those that go on together, in one call."""
        lengths = [len(xs) for xs in xss]
        yss = [np.empty((length, self.model.output_size), np.float32) for length in lengths]
        taken = 0
        for length in sorted(set(lengths) - {0}):
            some = [n for n, each in enumerate(lengths) if each >= length]
            xs = np.stack([xss[n][taken:length] for n in some], axis=1)
            ys = self._pool.run([slots[n] for n in some], xs)
            for at, n in enumerate(some):
                yss[n][taken:length] = ys[:, at]
            taken = length
        return yss

    # The pool and the store -----------------------------------------------------------------------

    def _bring_in(self, keys: Sequence[str]) -> list[str]:
        """Have all sessions in the pool; return those that begin now."""
        missing = [key for key in keys if key not in self._held]
        for key in keys:
            if key in self._held:
                self._held.move_to_end(key)
        if not missing:
            return []
        found = self.store.get_many(missing)
        records = [self._record(key, blob) for key, blob in zip(missing, found, strict=True)]
        self._make_room(len(missing))
        try:
            slots = self._pool.open_many(record.state for record in records)
        except ValueError as error:
            raise ValueError(f"of the sessions {', '.join(missing)[:200]}: {error}") from error
        self._held.update(
            {
                key: _Held(slot, record, blob is not None)
                for key, slot, record, blob in zip(missing, slots, records, found, strict=True)
            }
        )
        return [key for key, blob in zip(missing, found, strict=True) if blob is None]

    def _record(self, key: str, blob: bytes | None) -> Record:
        if blob is None:
            return Record(self._first)
        try:
            return Record.from_bytes(blob)
        except ValueError as error:
            raise ValueError(f"session {key!r} in the store: {error}") from error

    def _make_room(self, count: int) -> None:
        """Let as many sessions leave the pool as must for others; the last used ones stay."""
        over = len(self._held) + count - self.capacity
        if over <= 0:
            return
        leaving = list(self._held)[:over]
        self._store({key: self._held[key] for key in leaving}, durable=False)
        self._drop(leaving)

    def _drop(self, keys: Sequence[str]) -> None:
        """Take sessions out of the pool, as they are."""
        for key in keys:
            held = self._held.pop(key, None)
            if held is not None:
                self._pool.close(held.slot)

    def _store(self, sessions: dict[str, _Held], durable: bool) -> dict[str, _Held]:
        """Write those that the store has not as they are; return all as stored ones."""
        newer = {key: held for key, held in sessions.items() if durable or not held.is_stored}
        if newer:
            states = self._pool.save_states([held.slot for held in newer.values()])
            records = {
                key: replace(held.record, state=state).to_bytes()
                for (key, held), state in zip(newer.items(), states, strict=True)
            }
            self.store.set_many(records, durable=durable)
        return sessions | {key: replace(held, is_stored=True) for key, held in newer.items()}

    # One session ----------------------------------------------------------------------------------

    @in_turn
    def num_steps(self, key: str) -> int:
        """Return how many steps a session has taken; 0 for one that has not begun."""
        return self._known(key).num_steps

    @in_turn
    def note(self, key: str) -> bytes:
        """Return what is kept beside the state of a session; empty at first."""
        return self._known(key).note

    def _known(self, key: str) -> Record:
        (key,) = _checked_keys([key], 1)
        if key in self._held:
            return self._held[key].record
        return self._record(key, self.store.get_many([key])[0])

    @in_turn
    def end(self, key: str) -> None:
        """Forget a session, in the pool and in the store; its key begins anew."""
        _checked_keys([key], 1)
        self.store.delete_many([key])
        self._drop([key])

    @in_turn
    def save(self, keys: Sequence[str] | None = None, *, durable: bool = False) -> None:
        """Write sessions to the store that are newer than what it has, all if none are named.

        Those that are not in the pool lie there already.
        """
        some = self._held if keys is None else _checked_keys(keys, None)
        held = {key: self._held[key] for key in some if key in self._held}
        self._held.update(self._store(held, durable))

    def close(self) -> None:
        """Write all sessions to the store, and take them out of the pool. The store stays open."""
        self.save()
        self._close()

    @in_turn
    def _close(self) -> None:
        self._drop(list(self._held))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<numlstm.sessions.Sessions of {self.model!r}, {len(self)} in the pool>"


def _checked_keys(keys: Sequence[str], most: int | None) -> list[str]:
    """Return keys as a list, or raise."""
    if isinstance(keys, str):
        raise TypeError(f"keys is {keys!r:.40}, expected a list of str")
    keys = list(keys)
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"a key is {type(key).__name__}, expected str")
    if len(set(keys)) < len(keys):
        twice = next(key for n, key in enumerate(keys) if key in keys[:n])
        raise ValueError(f"key {twice!r} comes twice; give one call all of its steps")
    if most is not None and len(keys) > most:
        raise ValueError(
            f"{len(keys)} sessions do not fit into a pool of {most}: give fewer in a call, or a "
            "larger capacity"
        )
    return keys


def _note_of(notes: Sequence[bytes | None]) -> Callable[[int, Floats], bytes | None]:
    return lambda n, ys: notes[n]


def _checked_note(note: bytes | None) -> bytes | None:
    if note is not None and not (isinstance(note, bytes) and len(note) <= LARGEST_NOTE):
        raise ValueError(f"a note is bytes, at most {LARGEST_NOTE}, not {note!r:.40}")
    return note


def _as_many(name: str, values: Sequence[Any] | None, count: int) -> Sequence[Any]:
    if values is None:
        return [None] * count
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} values for {count} keys")
    return values
