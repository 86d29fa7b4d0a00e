"""Text generation, as a string or as it is written."""

from collections.abc import Generator, Iterator
from itertools import islice
from typing import Unpack

import numpy as np

from numlstm.model import Model
from numlstm.run.loop import Pieces
from numlstm.run.sampling import SamplingOptions
from numlstm.run.stream import Stream
from numlstm.tasks import DEFAULTS
from numlstm.tasks.checks import check_count, check_scores_tokens, check_text
from numlstm.tasks.pipelines import Pipeline
from numlstm.tasks.text.encoding import START, Encoder, decode_each

_BLOCK = 2**10  # tokens of a prompt that are read in a call, which answers all of them


class Writer(Pipeline[str, str]):
    """Continues texts. Threads may share it.

    Attributes
    ----------
    model : Model
        The model: reads tokens, has their tokenizer, and answers a score for each.
    """

    _item = "prompt"

    def __init__(self, model: Model) -> None:
        check_scores_tokens(model, "generate text")
        self.model = model
        self.encoder = Encoder(model, spaces=True)

    def answer(self, prompt: str, max_tokens: int = 200, **options: Unpack[SamplingOptions]) -> str:
        """Return what follows a prompt, without the prompt.

        Parameters
        ----------
        prompt : str
            The text before; an empty one is the end of a line.
        max_tokens : int
            How many tokens to write.
        temperature, top_k, top_p, min_p, repetition_penalty, seed
            How they are chosen: see `SamplingOptions`; the temperature is 0.8 if not given.
            The same seed gives the same text.

        Raises
        ------
        TypeError, ValueError
            If the prompt is not a string of characters, or an option not as above.
        """
        return "".join(self.stream(prompt, max_tokens, **options))

    def stream(
        self, prompt: str, max_tokens: int = 200, **options: Unpack[SamplingOptions]
    ) -> Pieces[str]:
        """Return an iterator of pieces of the text as it is written, whole characters only.

        It is one of ``for`` and of ``async for``.

        Parameters and errors are those of `answer`.
        """
        check_count("max_tokens", max_tokens, least=0)
        ids = self.encoder(check_text(prompt)) or self.encoder(START)
        stream = self.model.stream()
        tokens = stream.tokens(ids[-1], history=ids[:-1], **(DEFAULTS["generate"] | options))
        return Pieces(self._write(stream, ids[:-1], islice(tokens, max_tokens)))

    def _write(
        self, stream: Stream, before: list[int], tokens: Iterator[int]
    ) -> Generator[str, None, None]:
        for at in range(0, len(before), _BLOCK):
            stream.run(np.array(before[at : at + _BLOCK], np.int32))
        yield from decode_each(self.encoder.tokenizer, tokens)
