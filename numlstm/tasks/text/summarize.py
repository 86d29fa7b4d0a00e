"""Summarization: the sentences that say most, or a new one."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.run.threads import in_turn
from numlstm.tasks.checks import check_count, check_marks, check_text
from numlstm.tasks.pipelines import Pipeline, PipelineStream
from numlstm.tasks.text.encoding import encode
from numlstm.tasks.text.sentences import split_sentences
from numlstm.tasks.text.seq2seq import EncoderDecoder, beam_search

MARKS = ("[END]", "[SUMMARY]", "[TITLE]", "[SENTENCE]")  # the first ids of the tokenizers
END, SUMMARY, TITLE, SENTENCE = range(len(MARKS))

MAX_TOKENS_EXTRACT = 512  # read at once
MAX_TOKENS_SUMMARIZE = 256  # read at all
_LENGTHS = {SUMMARY: (12, 50), TITLE: (3, 24)}  # tokens, at least and at most
_MAX_CHARACTERS = 2**14  # of a sentence


class Summarizer(Pipeline[str, str]):
    """Makes a sentence of a text. Threads may share it."""

    does: ClassVar[str]
    options: ClassVar[tuple[str, ...]]

    def answer(self, text: str, **options: Any) -> str:
        """Summarize a text; where there is nothing but white space in it, as nothing.

        Raises
        ------
        TypeError, ValueError
            If the text is not a string of characters, or an option is not one of `summarize`.
        """
        for name in options:
            if name not in self.options:
                raise ValueError(
                    f"{name} is no option of this model, which {self.does}; it has: "
                    f"{', '.join(self.options)}"
                )
        text = check_text(text).strip()
        return self.summarize(split_sentences(text), **options) if text else ""

    def summarize(self, sentences: Sequence[str]) -> str:
        """Return a summary of sentences."""
        raise NotImplementedError

    def stream(self, **options: Any) -> "SummaryStream":
        """Return a stream that takes a text as it arrives; when it is complete it is summarized."""
        return SummaryStream(self, options)


class Extractor(Summarizer):
    """Picks sentences, by the mean of what a network answers to their tokens.

    Attributes
    ----------
    model : Model
        The model: reads tokens, a mark before each sentence, and answers one number for each.
    """

    does = "picks sentences"
    options = ("num_sentences",)

    def __init__(self, model: Model) -> None:
        if model.tokenizer is None or model.output_size != 1:
            raise WeightsError(
                "the model cannot summarize: expected a tokenizer and one number per token"
            )
        self.model = model
        self._tokenizer = model.load_tokenizer()
        self._tokenizer.encode_special_tokens = True
        check_marks(self._tokenizer, MARKS, "summarize")

    def summarize(self, sentences: Sequence[str], num_sentences: int = 1) -> str:
        """Return the best sentences, in the order of the text."""
        check_count("num_sentences", num_sentences)
        scores = self.scores(sentences)
        best = sorted(np.argsort(-scores, kind="stable")[:num_sentences])
        return " ".join(sentences[n] for n in best)

    def scores(self, sentences: Sequence[str]) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Return a number for each sentence, (S,); a long text is read in parts."""
        means = []
        ids: list[int] = []
        lengths: list[int] = []
        for sentence in [*sentences, None]:
            if ids and (sentence is None or len(ids) >= MAX_TOKENS_EXTRACT):
                numbers = self.model.run(np.array(ids, np.int32))[:, 0]
                ends = np.cumsum(lengths)
                means += [numbers[b - n : b].mean() for n, b in zip(lengths, ends, strict=True)]
                ids, lengths = [], []
            if sentence is not None:
                room = MAX_TOKENS_EXTRACT - len(ids)
                own = encode_sentence(self._tokenizer, sentence)[:room]
                ids += own
                lengths.append(len(own))
        return np.array(means, np.float32)


class Abstractor(Summarizer):
    """Writes a sentence, by beam search; words may be copied from the text.

    Attributes
    ----------
    networks : EncoderDecoder
        The encoder reads the beginning of the text, the decoder writes.
    """

    does = "writes a sentence"
    options = ("title", "beam_size")

    def __init__(self, parts: Mapping[str, Model]) -> None:
        self.networks = EncoderDecoder(parts, MARKS, "summarize")

    def summarize(self, sentences: Sequence[str], title: bool = False, beam_size: int = 4) -> str:
        """Return a summary of the first 256 tokens, or a title."""
        check_count("beam_size", beam_size)
        ids: list[int] = []
        for sentence in sentences:
            if len(ids) >= MAX_TOKENS_SUMMARIZE:
                break
            ids += encode_sentence(self.networks.tokenizer, sentence)
        mark = TITLE if title else SUMMARY
        least, most = _LENGTHS[mark]
        stream = self.networks.read(ids[:MAX_TOKENS_SUMMARIZE])
        tokens = beam_search(
            stream,
            mark,
            END,
            width=beam_size,
            min_tokens=least,
            max_tokens=most,
            forbidden=range(END + 1, len(MARKS)),
        )
        return self.networks.decode(tokens)


class SummaryStream(PipelineStream[str]):
    """A text in progress. Belongs to one thread at a time."""

    def __init__(self, pipe: Summarizer, options: dict[str, Any]) -> None:
        super().__init__()
        self._pipe = pipe
        self._options = options
        self.reset()

    @in_turn
    def reset(self) -> None:
        """Begin a new text."""
        self._texts: list[str] = []
        self._finished = False

    @in_turn
    def feed(self, text: str) -> None:
        """Take more of the text, cut anywhere.

        Raises
        ------
        TypeError, ValueError
            If text is not a string of characters, or the text was finished before.
        """
        self._check_open()
        self._texts.append(check_text(text))

    def _end(self) -> str:
        return self._pipe.answer("".join(self._texts), **self._options)


def encode_sentence(tokenizer: Any, sentence: str) -> list[int]:
    """Return the ids of a sentence behind its mark."""
    return [SENTENCE, *encode(tokenizer, sentence[:_MAX_CHARACTERS])]


def summarizer(parts: Mapping[str, Model]) -> Summarizer:
    """Return what summarizes: a network alone picks sentences, two write one."""
    return Extractor(parts[""]) if set(parts) == {""} else Abstractor(parts)
