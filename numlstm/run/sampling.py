"""How a stream generates: the settings of the choice, checked, and the arrays of the loop."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from numlstm.kernels import plan as columns
from numlstm.kernels.packing import padded
from numlstm.kernels.plan import STOPPED, X_SIZE, Y_AT, Z_AT
from numlstm.network.functions import LARGEST
from numlstm.run.border import FLOAT32, Floats, raise_status, token_id, token_ids
from numlstm.run.compiled import array_for
from numlstm.run.loop import Both
from numlstm.run.state import State
from numlstm.run.threads import in_turn


class SamplingOptions(TypedDict, total=False):
    """How the next token is chosen: the options of all that writes tokens.

    The choice follows the order of Hugging Face's generation: repetition penalty, temperature,
    top-k, top-p, min-p. The same seed gives the same tokens on every machine.

    temperature          the scores are divided by it; 0: the token of the largest score, always
    top_k                only that many tokens of the largest scores; None: all
    top_p                only the fewest tokens that have this probability together, the nucleus
                         (Holtzman et al. 2020)
    min_p                only tokens with this share of the probability of the likeliest one
    repetition_penalty   scores of tokens that came before are divided by it, or multiplied by it if
                         they are negative (Keskar et al. 2019)
    seed                 decides the choices; None: another one each time
    """

    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int | None


@dataclass(frozen=True)
class Sampling:
    """`SamplingOptions`, all of them and checked."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("temperature", 0.0, math.inf),
            ("top_p", 0.0, 1.0),
            ("min_p", 0.0, 1.0),
            ("repetition_penalty", 0.0, math.inf),
        ):
            value = getattr(self, name)
            is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if not is_number or not low <= value <= high or value > LARGEST:
                bounds = f"{low:g} to {high:g}" if high == 1 else f"{low:g} or more"
                raise ValueError(f"{name} is {value!r}, expected a number, {bounds}")
        for name in ("top_p", "repetition_penalty"):
            if np.float32(getattr(self, name)) == 0:
                raise ValueError(f"{name} is 0, which leaves no token")
        for name, low in (("top_k", 1), ("seed", 0)):
            value = getattr(self, name)
            is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if value is not None and not (is_whole and value >= low):
                raise ValueError(f"{name} is {value!r}, expected {low} or more, or None")


class Reached(NamedTuple):
    """Where a generator is.

    token      the last one, which the next step reads
    num_seen   how many tokens the repetition penalty is for
    stops      whether the last token was one of ``stop``
    """

    token: int
    num_seen: int
    stops: bool


class Generator:
    """The compiled loop of a stream: from a token to the next ones.

    Attributes
    ----------
    reached : Reached
        Where it is; assigning what it was goes back there.
    """

    def __init__(
        self,
        state: State,
        first_id: int,
        how: Sampling,
        stop: Iterable[int],
        history: Iterable[int],
    ) -> None:
        compiled = state.compiled
        layout, vocab_size = compiled.program.generate, compiled.vocab_size
        if layout is None or vocab_size is None:
            raise ValueError(
                f"the model cannot generate: it reads "
                f"{'vectors' if vocab_size is None else f'{vocab_size} token ids'}, "
                f"gives {compiled.output_size} scores"
                f"{' and skips masked steps' if compiled.network.masks else ''}"
            )
        token = token_id(first_id)
        if not 0 <= token < vocab_size:
            raise ValueError(f"token id {first_id} is outside 0 <= id < {vocab_size}")
        self._state = state
        self._layout = layout
        self._num_scores = int(layout.plan[-1, X_SIZE])
        self._array = np.zeros(0, FLOAT32)
        self._place()
        floats = self._numbers.view(FLOAT32)
        floats[columns.TEMPERATURE] = how.temperature
        floats[columns.TOP_P], floats[columns.MIN_P] = how.top_p, how.min_p
        floats[columns.REPETITION_PENALTY] = how.repetition_penalty
        self._numbers[columns.TOP_K] = min(how.top_k or self._num_scores, self._num_scores)
        self._flags[:] = 0
        self._flags[_ids("stop", stop, self._num_scores)] = columns.STOP
        num_seen = self._see(np.append(_ids("history", history, vocab_size), np.int32(token)))
        self._is_random = how.temperature > 0
        self._chance = np.random.Philox(how.seed)
        self.reached = Reached(token, num_seen, False)
        self._drawn: tuple[Reached | None, Any] = None, None  # from where on, and what

    def _place(self) -> None:
        """Make room for the stream's state and its memory, and for what the choice needs."""
        layout, memory_rows = self._layout, self._state.memory_rows
        array = array_for(layout, memory_rows)
        before = self._array[: layout.state_size]
        array[: len(before)] = before
        settings, rows = int(layout.plan[-1, Y_AT]), int(layout.plan[-1, Z_AT])
        numbers = array.view(np.int32)
        flags = numbers[rows : rows + columns.NUM_SAMPLE_ROWS * padded(self._num_scores)]
        flags, seen = flags.reshape(columns.NUM_SAMPLE_ROWS, -1)[-2:]
        self._numbers = numbers[settings : settings + columns.NUM_SETTINGS]
        self._flags, self._seen = flags, seen
        self._array, self._memory_rows = array, memory_rows

    @property
    def steps_per_call(self) -> int:
        """Tokens in one compiled call, which Ctrl-C waits for."""
        return self._state.compiled.steps_with(len(self._state.memory_rows), self._num_scores)

    @property
    def stopped(self) -> bool:
        return self.reached.stops

    def _see(self, ids: NDArray[np.int32]) -> int:
        """Take tokens for seen, which the repetition penalty is for; some may have no score."""
        ids = np.unique(ids[ids < self._num_scores])
        self._flags[ids] |= columns.SEEN
        self._seen[: len(ids)] = ids
        self._numbers[columns.NUM_SEEN] = len(ids)
        return len(ids)

    def _forget(self, num_seen: int) -> None:
        """Take for seen what was seen first, and no more: a call that raised has seen others."""
        self._flags[self._seen[num_seen : self._numbers[columns.NUM_SEEN]]] &= ~columns.SEEN
        self._numbers[columns.NUM_SEEN] = num_seen

    def next(self, count: int, kept: Floats) -> NDArray[np.int32]:
        """Return up to ``count`` tokens, fewer if one stops.

        kept   what the stream keeps, (num_kept,), read; written, when it has read all but the last

        Raises
        ------
        ValueError
            If the network overflows.
        """
        state, reached = self._state, self.reached
        if state.memory_rows is not self._memory_rows:  # a state with another memory was loaded
            self._place()
        numbers = np.empty(count + 1, FLOAT32)
        ids = numbers.view(np.int32)
        if self._is_random:
            if self._drawn[0] is not reached:
                self._drawn = reached, self._chance.random_raw(count)
            # 24 bits each: the numbers are those of the generator, not of a version of NumPy.
            numbers[1:] = (self._drawn[1] >> np.uint64(40)) * np.float32(2.0**-24)
        ids[0] = reached.token
        if self._numbers[columns.NUM_SEEN] != reached.num_seen:
            self._forget(reached.num_seen)
        self._numbers[columns.NUM_CHOSEN] = 0
        status = state.compiled.take_in(self._layout, self._array, kept, ids[:-1], numbers[1:])
        if status > STOPPED:
            raise_status("the tokens", ids, 0, status, state.compiled.vocab_size)
        chosen = ids[1 : 1 + self._numbers[columns.NUM_CHOSEN]]
        num_seen = int(self._numbers[columns.NUM_SEEN])
        self.reached = Reached(int(chosen[-1]), num_seen, status == STOPPED)
        return chosen


class Tokens(Both[int]):
    """The tokens of a generator, each chosen in the turn of its stream; also for ``async for``.

    One that could not be chosen, as another thread was in the stream or Ctrl-C came, may be asked
    for again.
    """

    def __init__(self, state: State, generator: Generator) -> None:
        self._turn = self._state = state
        self._generator = generator

    @in_turn
    def __next__(self) -> int:
        generator, reached = self._generator, self._generator.reached
        if reached.stops:
            raise StopIteration
        kept = self._state.kept
        try:
            token = int(generator.next(1, kept)[0])
            self._state.go_back(kept)
        except BaseException:
            generator.reached = reached  # nothing is called here, so nothing comes between
            raise
        return token


def _ids(name: str, ids: Iterable[int], vocab_size: int) -> NDArray[np.int32]:
    given: Any = ids if isinstance(ids, np.ndarray) else list(ids)
    return token_ids(name, given, vocab_size)
