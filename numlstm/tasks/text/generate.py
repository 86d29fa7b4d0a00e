"""Text generation, as a string or as it is written."""

import operator
from collections.abc import Iterator
from itertools import islice
from typing import overload

import numpy as np

from numlstm.model import Model
from numlstm.stream import Stream
from numlstm.tasks.checks import check_scores_tokens, check_text
from numlstm.tasks.pipelines import Pipeline, answers
from numlstm.tasks.text.encoding import Encoder, decode_each

_START = "\n"  # what a text follows that is written after nothing
_BLOCK = 2**10  # tokens of a prompt that are read in a call, which answers all of them


class Writer(Pipeline):
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

    @overload
    def __call__(
        self,
        prompt: str,
        max_tokens: int = ...,
        temperature: float = ...,
        top_k: int | None = ...,
        top_p: float = ...,
        min_p: float = ...,
        repetition_penalty: float = ...,
        seed: int | None = ...,
    ) -> str: ...
    @overload
    def __call__(
        self,
        prompt: list[str] | tuple[str, ...],
        max_tokens: int = ...,
        temperature: float = ...,
        top_k: int | None = ...,
        top_p: float = ...,
        min_p: float = ...,
        repetition_penalty: float = ...,
        seed: int | None = ...,
    ) -> list[str]: ...
    def __call__(
        self,
        prompt: str | list[str] | tuple[str, ...],
        max_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
    ) -> str | list[str]:
        """Return what follows a prompt, or each of a list, without the prompt.

        Parameters
        ----------
        prompt : str or list of str
            The text before; an empty one is the end of a line.
        max_tokens : int
            How many tokens to write.
        temperature, top_k, top_p, min_p, repetition_penalty, seed
            How they are chosen: see `Stream.generate`. The same seed gives the same text.

        Raises
        ------
        TypeError, ValueError
            If a prompt is not a string of characters, or an option not as above.
        """
        options = (max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed)
        found: str | list[str] = answers(
            prompt, lambda text: "".join(self.stream(text, *options)), (list, tuple), self._item
        )
        return found

    def stream(
        self,
        prompt: str,
        max_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Return an iterator of pieces of the text as it is written, whole characters only.

        Parameters and errors are those of a call.
        """
        if isinstance(max_tokens, bool) or operator.index(max_tokens) < 0:
            raise ValueError(f"max_tokens is {max_tokens!r}, expected a number of tokens")
        ids = self.encoder(check_text(prompt)) or self.encoder(_START)
        stream = self.model.stream()
        tokens = stream.tokens(
            ids[-1],
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            history=ids[:-1],
        )
        return self._write(stream, ids[:-1], islice(tokens, max_tokens))

    def _write(self, stream: Stream, before: list[int], tokens: Iterator[int]) -> Iterator[str]:
        for at in range(0, len(before), _BLOCK):
            stream.run(np.array(before[at : at + _BLOCK], np.int32))
        yield from decode_each(self.encoder.tokenizer, tokens)
