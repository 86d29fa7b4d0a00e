"""Part-of-speech tagging: of whole sentences, or of words as they arrive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.run.threads import in_turn
from numlstm.tasks.checks import check_parts, check_text, check_words
from numlstm.tasks.pipelines import Pipeline, PipelineStream
from numlstm.tasks.text.encoding import encode, split_words
from numlstm.tasks.text.sentences import is_end

PARTS = ("words", "characters", "tagger")

MAX_CHARACTERS = 40  # of a word; the rest is not read
MAX_SENTENCE = 512  # words; a longer sentence is cut
_MAX_KNOWN = 2**14  # words whose vectors are kept
_UNKNOWN = 0  # the id of words that have no embedding

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Tag:
    """A word as it is written, its tag, and the probability of that."""

    word: str
    tag: str
    score: float


class Tagger(Pipeline[str, list[Tag]]):
    """Gives each word of a text a tag. Threads may share it.

    A word is its embedding beside what a network makes of its characters; a third network reads
    these vectors.

    Attributes
    ----------
    parts : dict of Model
        "words", an embedding with a tokenizer that also splits text into words; "characters", with
        a tokenizer of them; "tagger", with the tags as labels.
    """

    def __init__(self, parts: Mapping[str, Model]) -> None:
        check_parts(parts, PARTS, "tag")
        words, characters, tagger = (parts[name] for name in PARTS)
        if words.output_size + characters.output_size != tagger.input_size or not tagger.labels:
            raise WeightsError(
                f"the model cannot tag: vectors of {words.output_size} and "
                f"{characters.output_size} numbers are not the {tagger.input_size} that its tagger "
                "reads, or that has no labels"
            )
        self.parts = dict(parts)
        self._words, self._characters, self._tagger = words, characters, tagger
        self._word_tokenizer = words.load_tokenizer()
        self._character_tokenizer = characters.load_tokenizer()
        self._known: dict[str, Floats] = {}  # the vectors of words that came before
        self.split = lru_cache(2**14)(self._split)

    def __reduce__(self) -> tuple[Any, ...]:
        return Tagger, (self.parts,)

    def answer(self, text: str) -> list[Tag]:
        """Tag the words of a text; one without words has no tags.

        Raises
        ------
        TypeError, ValueError
            If the text is not a string of characters.
        """
        tags: list[Tag] = []
        sentence: list[str] = []
        last = ""
        for chunk in split_words(check_text(text)):
            if last and is_end(last, chunk):
                tags += self.tag(sentence)
                sentence = []
            sentence += self.split(chunk)
            last = chunk
        return tags + self.tag(sentence)

    def tag(self, words: Sequence[str]) -> list[Tag]:
        """Tag the words of one sentence, which are split already.

        Raises
        ------
        TypeError, ValueError
            If words is not a list of strings that are not empty.
        """
        words = check_words(words)
        sentences = (words[at : at + MAX_SENTENCE] for at in range(0, len(words), MAX_SENTENCE))
        return [tag for part in sentences for tag in self.tags(part, self.probabilities(part))]

    def stream(self, lookahead: int = 2) -> "TagStream":
        """Return a stream that takes a text as it arrives; a tag is ``lookahead`` words late."""
        return TagStream(self, lookahead)

    def probabilities(self, words: Sequence[str]) -> Floats:
        """Return those of all tags for the words of a sentence, at least one: (N, num_tags)."""
        return self._tagger.run(self.vectors(words))

    def ids(self, word: str) -> tuple[int, list[int]]:
        """Return the id of a word, and those of its characters."""
        tokenizer = self._word_tokenizer
        token = tokenizer.token_to_id(tokenizer.normalizer.normalize_str(word))
        characters = encode(self._character_tokenizer, word[:MAX_CHARACTERS])
        return _UNKNOWN if token is None else token, list(characters)

    def tags(self, words: Sequence[str], scores: Floats) -> list[Tag]:
        """Return words (N,) with the best of their scores, (N, num_tags)."""
        labels = self._tagger.labels
        return [
            Tag(word, labels[best], float(row[best]))
            for word, row, best in zip(words, scores, scores.argmax(axis=1), strict=True)
        ]

    def _split(self, chunk: str) -> tuple[str, ...]:
        """Return the words of a run without white space."""
        return tuple(w for w, _ in self._word_tokenizer.pre_tokenizer.pre_tokenize_str(chunk))

    def vectors(self, words: Sequence[str]) -> Floats:
        """Return what the tagger reads of words, (N, I), each different one made once."""
        if len(self._known) > _MAX_KNOWN:
            self._known = {}  # threads that are reading the old one go on with it
        known = self._known
        new = [word for word in dict.fromkeys(words) if word not in known]
        if new:
            tokens, spellings = zip(*map(self.ids, new), strict=True)
            embeddings = self._words.run(np.array(tokens, np.int32))
            for word, embedding, ids in zip(new, embeddings, spellings, strict=True):
                spelling = self._characters.run(np.array(ids, np.int32))[-1]
                known[word] = np.concatenate([embedding, spelling])
        return np.stack([known[word] for word in words])


class TagStream(PipelineStream[list[Tag]]):
    """A text in progress. Belongs to one thread at a time.

    A word is read when white space follows it. At the end of a sentence nothing is late; `finish`
    returns the tags that still are. If a call raises, the stream is as it was before.

    Attributes
    ----------
    lookahead : int
        How many words after a word its tag is known.
    """

    def __init__(self, tagger: Tagger, lookahead: int = 2) -> None:
        super().__init__()
        self._tagger = tagger
        self._stream = tagger.parts["tagger"].stream(lookahead=lookahead)
        self.lookahead = lookahead
        self.reset()

    @in_turn
    def reset(self) -> None:
        """Begin a new text."""
        self._stream.reset()
        self._late: list[str] = []  # words of this sentence whose tags are not known yet
        self._count = 0  # of the words of this sentence
        self._last = ""  # the run without white space that was read last
        self._rest = ""  # one that is not complete yet
        self._finished = False

    @in_turn
    def feed(self, text: str) -> list[Tag]:
        """Take more of the text, cut anywhere, and return the tags that are known now.

        Raises
        ------
        TypeError, ValueError
            If text is not a string of characters, or the text was finished before.
        """
        self._check_open()
        text = self._rest + check_text(text)
        chunks = list(split_words(text))
        is_open = bool(chunks) and not text[-1].isspace()
        self._rest = chunks.pop() if is_open else ""
        return [tag for chunk in chunks for tag in self._read(chunk)]

    @in_turn
    def feed_words(self, words: Sequence[str]) -> list[Tag]:
        """Take more words of this sentence, which are split already.

        Raises
        ------
        TypeError, ValueError
            If words is not a list of strings that are not empty, or the text was finished before.
        """
        self._check_open()
        return self._read_words(check_words(words))

    def _end(self) -> list[Tag]:
        tags = self._read(self._rest) if self._rest else []
        self._rest = ""
        return tags + self._end_sentence()

    def _read(self, chunk: str) -> list[Tag]:
        tags: list[Tag] = []
        if self._last and is_end(self._last, chunk):
            tags += self._end_sentence()
        self._last = chunk
        return tags + self._read_words(self._tagger.split(chunk))

    def _read_words(self, words: Sequence[str]) -> list[Tag]:
        tags: list[Tag] = []
        for word in words:
            if self._count == MAX_SENTENCE:
                tags += self._end_sentence()
            self._late.append(word)
            self._count += 1
            tags += self._known(self._stream.run(self._tagger.vectors([word])))
        return tags

    def _end_sentence(self) -> list[Tag]:
        tags = self._known(self._stream.finish()) if self._count else []
        self._stream.reset()
        self._count = 0
        return tags

    def _known(self, scores: Floats) -> list[Tag]:
        words, self._late = self._late[: len(scores)], self._late[len(scores) :]
        return self._tagger.tags(words, scores)
