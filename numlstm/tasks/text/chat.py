"""Chat: answers to the last turns of a dialogue, at once or as they are written."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Unpack

from numlstm.model import Model
from numlstm.run import threads
from numlstm.run.loop import Pieces
from numlstm.run.sampling import Sampling, SamplingOptions
from numlstm.tasks import DEFAULTS
from numlstm.tasks.checks import check_count, check_text
from numlstm.tasks.pipelines import Pipeline
from numlstm.tasks.text.encoding import decode_each, encode
from numlstm.tasks.text.seq2seq import EncoderDecoder, beam_search, until

MARKS = ("[END]", "[USER]", "[BOT]")  # the first ids of the tokenizer
END, USER, BOT = range(len(MARKS))
HISTORY_TURNS = 3
HISTORY_TOKENS = 64  # the newest, marks included
MAX_TOKENS = 60

_MAX_CHARACTERS = 2**12  # of a turn, more than HISTORY_TOKENS can have


@dataclass(frozen=True)
class Turn:
    """What was said, by "user" or "bot"."""

    speaker: str
    text: str


class Chat(Pipeline[str, str]):
    """Answers what is said to it. Threads may share it; a dialogue is a `session`.

    Attributes
    ----------
    networks : EncoderDecoder
        The encoder reads the last turns, the decoder writes the answer.
    """

    def __init__(self, parts: Mapping[str, Model]) -> None:
        self.networks = EncoderDecoder(parts, MARKS, "chat")

    def answer(
        self,
        text: str,
        *,
        beam_size: int | None = None,
        max_tokens: int = MAX_TOKENS,
        **options: Unpack[SamplingOptions],
    ) -> str:
        """Answer a text as the first turn of a dialogue; where nothing is said, with nothing.

        Options and errors are those of `Session.say`.
        """
        if not check_text(text).strip():
            return ""
        return self.session().say(text, beam_size=beam_size, max_tokens=max_tokens, **options)

    def session(self, history: Sequence[str] = ()) -> "Session":
        """Return a dialogue; what was said before in turns, the bot last, may be given."""
        return Session(self, history)


class Session:
    """A dialogue. Belongs to one thread at a time: `say` of a second one raises a RuntimeError.

    If a call raises, the dialogue is as it was before.

    Attributes
    ----------
    history : tuple of Turn
        What was said so far.
    """

    def __init__(self, chat: Chat, history: Sequence[str] = ()) -> None:
        self._chat = chat
        self._turn = threads.Turn()
        self._turns = [check_text(turn) for turn in history]
        if len(self._turns) % 2:
            raise ValueError("the history ends with the user: say that instead")

    @property
    def history(self) -> tuple[Turn, ...]:
        """What was said so far, by turns."""
        return tuple(Turn(("user", "bot")[n % 2], text) for n, text in enumerate(self._turns))

    @threads.in_turn
    def reset(self) -> None:
        """Begin a new dialogue."""
        self._turns = []

    @threads.in_turn
    def say(
        self,
        text: str,
        *,
        beam_size: int | None = None,
        max_tokens: int = MAX_TOKENS,
        **options: Unpack[SamplingOptions],
    ) -> str:
        """Say something and return the answer.

        Parameters
        ----------
        text : str
            What the user says.
        beam_size : int, optional
            Search for the likeliest answer among as many beginnings; without it tokens are drawn.
        max_tokens : int
            Of the answer, at most.
        temperature, top_k, top_p, min_p, repetition_penalty, seed
            How tokens are drawn: see `SamplingOptions`; the temperature is 0.7 and top_p 0.8 if not
            given. The same seed gives the same answer.

        Raises
        ------
        TypeError, ValueError
            If text is not a string of characters, has no words, or an option is not as above.
        """
        return "".join(self._answer(text, beam_size, max_tokens, options))

    def stream(
        self,
        text: str,
        *,
        max_tokens: int = MAX_TOKENS,
        **options: Unpack[SamplingOptions],
    ) -> Pieces[str]:
        """Say something and return an iterator of pieces of the answer as it is written.

        It is one of ``for`` and of ``async for``.

        Both are part of the history when the answer is complete; if the iterator is closed before,
        with what was written of it. Parameters and errors are those of `say`.
        """
        return Pieces(self._answer(text, None, max_tokens, options))

    def _answer(
        self, text: str, beam_size: int | None, max_tokens: int, options: SamplingOptions
    ) -> Generator[str, None, None]:
        if not check_text(text).strip():
            raise ValueError("the text is empty: say something")
        for name, value in (("max_tokens", max_tokens), ("beam_size", beam_size)):
            if value is not None:
                check_count(name, value)
        how = Sampling(**(DEFAULTS["chat"] | options))
        networks = self._chat.networks
        stream = networks.read(encode_history(networks.tokenizer, [*self._turns, text]))
        tokens: Iterator[int]
        if beam_size:
            found = beam_search(
                stream,
                BOT,
                END,
                width=beam_size,
                max_tokens=max_tokens,
                min_tokens=1,
                forbidden=(USER, BOT),
            )
            tokens = iter(found)
        else:
            tokens = stream.tokens(BOT, **vars(how), stop=[END])
            tokens = islice(until(tokens, END), max_tokens)
        return self._write(text, tokens)

    def _write(self, text: str, tokens: Iterator[int]) -> Generator[str, None, None]:
        written: list[str] = []
        is_whole = False
        try:
            for piece in decode_each(self._chat.networks.tokenizer, tokens, True):
                # The first token of a text begins with a space.
                piece = piece if written else piece.lstrip()
                if piece:
                    written.append(piece)
                    yield piece
            is_whole = True
        except GeneratorExit:
            is_whole = bool(written)
            raise
        finally:
            if is_whole:
                self._turns += [text, "".join(written)]


def encode_history(tokenizer: Any, turns: Sequence[str]) -> list[int]:
    """Return the ids of the newest turns, each behind its speaker's mark, the user last."""
    turns = turns[-HISTORY_TURNS:]
    ids: list[int] = []
    for back, turn in zip(range(len(turns) - 1, -1, -1), turns, strict=True):
        ids += [BOT if back % 2 else USER, *encode(tokenizer, turn[-_MAX_CHARACTERS:])]
    return ids[-HISTORY_TOKENS:]
