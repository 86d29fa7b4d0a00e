"""Steps of many sessions of a model, taken together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from numlstm.serve.messages import Message, bad, write_bytes
from numlstm.serve.metrics import Metrics
from numlstm.serve.refusals import RefusalError
from numlstm.serve.settings import Settings
from numlstm.serve.talks import Floats, Pooled
from numlstm.serve.talks.notes import AgainError
from numlstm.sessions import Sessions
from numlstm.work import work

_MOST = 64  # sessions that step together: more cost no less each, and the loop waits for them
_LOOP_WORK = 2**23  # products, 0.5 ms: what takes longer runs in a thread

Answer = dict[str, Any] | bytes
Asked = ParamSpec("Asked")
Found = TypeVar("Found")


class _Waiting(NamedTuple):
    key: str
    message: Message
    answer: "asyncio.Future[Answer]"
    since: float


class Gatherer:
    """Takes the steps of sessions of one model, those that wait together in one call.

    A message waits for others at most `Settings.gather`, and not at all when every session that is
    open waits already. What takes long, or writes to the disk, runs in a thread meanwhile others
    arrive, and gather by themselves.

    Attributes
    ----------
    sessions : Sessions
        The streams.
    num_open : int
        How many sessions are connected.
    """

    def __init__(
        self,
        name: str,
        talk: Pooled,
        sessions: Sessions,
        settings: Settings,
        metrics: Metrics,
        thread: Executor,
    ) -> None:
        self.sessions = sessions
        self.num_open = 0
        self._talk, self._settings, self._thread = talk, settings, thread
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.Handle | None = None
        self._task: asyncio.Task[None] | None = None
        self._work = work(talk.model.network)
        self._delay = settings.gather / 1000
        self._messages = metrics.messages.labels(name)
        self._steps = metrics.steps.labels(name)
        self._seconds = metrics.seconds.labels(name)
        self._together = metrics.together.labels(name)

    async def take(self, key: str, message: Message) -> Answer:
        """Return the answer to a message of a session.

        Raises
        ------
        RefusalError, TypeError, ValueError
            If it is refused; the session is as it was.
        """
        if len(self._waiting) >= self._settings.max_queue:
            raise RefusalError("busy", "too many messages wait: send this one again later")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append(_Waiting(key, message, answer, time.perf_counter()))
        self._go()
        return await answer

    async def ask(
        self, method: Callable[Asked, Found], *args: Asked.args, **options: Asked.kwargs
    ) -> Found:
        """Return what a method of the sessions does, when no thread is in them."""
        while self._task is not None:
            await asyncio.wait({self._task})
        return method(*args, **options)

    def _go(self) -> None:
        """See to it that what waits is taken."""
        if self._task is not None or not self._waiting:
            return  # it goes on by itself
        loop = asyncio.get_running_loop()
        are_all = len(self._waiting) >= min(self.num_open, _MOST)
        if self._timer is None:
            if self._delay and not are_all:
                self._timer = loop.call_later(self._delay, self._flush)
            else:
                self._timer = loop.call_soon(self._flush)
        elif are_all and isinstance(self._timer, asyncio.TimerHandle):
            self._timer.cancel()
            self._timer = loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._timer = None
        some = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST))]
        some = [each for each in some if not each.answer.done()]  # who left wants no answer
        num_rows = sum(_rough_length(each.message) for each in some)
        if self._settings.durable or num_rows * self._work > _LOOP_WORK:
            self._task = asyncio.ensure_future(self._in_thread(some))
            return
        self._give(some, self.batch([(each.key, each.message) for each in some]))
        self._go()

    async def _in_thread(self, some: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        asked = [(each.key, each.message) for each in some]
        try:
            self._give(some, await loop.run_in_executor(self._thread, self.batch, asked))
        except Exception as error:  # the thread is gone, say
            self._give(some, [error] * len(some))
        finally:
            self._task = None
            self._go()

    def _give(self, some: list[_Waiting], answers: "list[Answer | Exception]") -> None:
        now = time.perf_counter()
        self._together.observe(len(some))
        for (_, _, future, since), answer in zip(some, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                self._messages.inc()
                self._seconds.observe(now - since)
                future.set_result(answer)

    # Steps ----------------------------------------------------------------------------------------

    def batch(self, asked: list[tuple[str, Message]]) -> "list[Answer | Exception]":
        """Return the answer to each, or why there is none; one at a time calls it."""
        try:
            return self._answers(asked)
        except Exception as error:
            if len(asked) == 1:
                return [error]
            return [self.batch([one])[0] for one in asked]  # which of them it is about

    def _answers(self, asked: list[tuple[str, Message]]) -> "list[Answer | Exception]":
        answers: dict[int, Answer | Exception] = {}
        due: list[tuple[int, NDArray[Any], Any]] = []
        for n, (key, message) in enumerate(asked):
            try:
                if message.reset and message.at not in (None, 0):
                    raise bad(f"at is {message.at}, and a session that begins anew is at 0")
                before = b"" if message.reset else self.sessions.note(key)
                rows, read = self._talk.read(before, message)
                self._check(rows)
                if message.reset:
                    self.sessions.end(key)
                due.append((n, rows, read))
            except AgainError as again:
                answers[n] = self._numbered(key, again.answer)
            except (RefusalError, TypeError, ValueError) as error:
                answers[n] = error
        given: dict[int, dict[str, Any]] = {}

        def note_of(at: int, ys: Floats) -> bytes:
            n, rows, read = due[at]
            given[n], note = self._talk.answer(read, asked[n][1], rows, ys)
            return note

        yss = self.sessions.run(
            [asked[n][0] for n, _, _ in due],
            [rows for _, rows, _ in due],
            at=[self._at(asked[n][1]) for n, _, _ in due],
            notes=note_of,
            durable=self._settings.durable,
        )
        for (n, rows, read), ys in zip(due, yss, strict=True):
            key, message = asked[n]
            self._steps.inc(len(ys))
            if message.is_binary:
                num_steps = None if message.at is None else self.sessions.num_steps(key)
                answers[n] = write_bytes(ys, num_steps)
                continue
            if n not in given:  # rows that were taken before
                given[n], _ = self._talk.answer(read, message, rows, ys)
            answers[n] = self._numbered(key, given[n])
        return [answers[n] for n in range(len(asked))]

    def _at(self, message: Message) -> int | None:
        """How many steps were taken before, where a session counts them; text has its own count."""
        return None if self._talk.input == "text" else message.at

    def _numbered(self, key: str, answer: dict[str, Any]) -> dict[str, Any]:
        return {"num_steps": self.sessions.num_steps(key), **answer}

    def _check(self, rows: NDArray[Any]) -> None:
        if len(rows) > self._settings.max_steps:
            raise bad(f"the message has {len(rows)} steps, at most {self._settings.max_steps}")
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            raise bad("xs holds a number that is not finite")
        vocab_size = self._talk.model.vocab_size
        if vocab_size is None:
            if rows.ndim != 2 or (rows.size and rows.shape[1] != self._talk.model.input_size):
                raise bad(
                    f"xs has shape {rows.shape}, expected rows of {self._talk.model.input_size}"
                )
        elif rows.ndim != 1 or (rows.size and not 0 <= rows.min() <= rows.max() < vocab_size):
            raise bad(f"ids has a number that is no token id, 0 <= id < {vocab_size}")


def _rough_length(message: Message) -> int:
    """Return about how many steps a message has, before it is read."""
    if message.text is not None:
        return 1 + len(message.text) // 4
    rows = message.ids if message.xs is None else message.xs
    return 1 if rows is None else len(rows)
