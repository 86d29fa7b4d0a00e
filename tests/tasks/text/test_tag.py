"""Tags of words: split or not, whole sentences or as they arrive."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numlstm
from numlstm import Tag
from numlstm.tasks.text.tag import MAX_SENTENCE

TEXT = "She didn't like it. The old man sailed the boat to St. Ives, and I watched! Why? Because."


@cache
def load():
    return numlstm.pipeline("pos")


@pytest.fixture
def pipe():
    return load()


def test_words_are_split_as_in_the_treebank(pipe):
    tags = pipe("I can't go to the U.S., it's $3.50 (or e-mail me@x.org).")
    words = [tag.word for tag in tags]
    assert words[:5] == ["I", "ca", "n't", "go", "to"]
    assert words[6:10] == ["U.S.", ",", "it", "'s"]
    assert "3.50" in words
    assert "me@x.org" in words
    assert all(isinstance(tag, Tag) and 0 < tag.score <= 1 for tag in tags)


def test_words_that_are_split_already_give_the_same(pipe):
    assert pipe.tag(["She", "did", "n't", "like", "it", "."]) == pipe("She didn't like it.")
    assert pipe.tag([]) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [("one", "words is str"), ([""], "word 0: it is empty"), (["a", 3], "word 1: text is int")],
)
def test_words_that_are_none_are_refused(pipe, words, message):
    with pytest.raises((TypeError, ValueError), match=message):
        pipe.tag(words)


def test_the_probabilities_are_those_of_the_network(pipe):
    words = ["The", "cat", "sat"]
    p = pipe.probabilities(words)
    assert p.shape == (3, 17)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    best = [pipe.parts["tagger"].labels[n] for n in p.argmax(axis=1)]
    assert [tag.tag for tag in pipe.tag(words)] == best


def test_a_sentence_does_not_know_of_the_one_before(pipe):
    first, second = "She didn't like it.", "The old man sailed."
    assert pipe(f"{first} {second}") == pipe(first) + pipe(second)


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, len(TEXT)), max_size=8), lookahead=st.integers(0, 6))
def test_a_stream_does_not_mind_how_it_is_cut(cuts, lookahead):
    pipe = load()
    at = [0, *sorted(cuts), len(TEXT)]
    stream = pipe.stream(lookahead)
    found = [tag for a, b in pairwise(at) for tag in stream.feed(TEXT[a:b])]
    found += stream.finish()
    whole = pipe.stream(lookahead)
    assert found == whole.feed(TEXT) + whole.finish()
    assert [tag.word for tag in found] == [tag.word for tag in pipe(TEXT)]


def test_a_stream_that_sees_the_whole_sentence_gives_its_tags(pipe):
    stream = pipe.stream(lookahead=30)
    assert stream.feed(TEXT) + stream.finish() == pipe(TEXT)


def test_a_tag_is_so_many_words_late(pipe):
    stream = pipe.stream(lookahead=2)
    known = [len(stream.feed_words([word])) for word in ["the", "cat", "sat", "on"]]
    assert known == [0, 0, 1, 1]
    assert len(stream.finish()) == 2


def test_a_stream_that_refused_something_is_as_it_was(pipe):
    stream = pipe.stream(1)
    stream.feed("She didn't ")
    with pytest.raises(TypeError, match="text is int"):
        stream.feed(3)
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        stream.feed("\ud800")
    with pytest.raises(TypeError, match="words is str"):
        stream.feed_words("like")
    other = pipe.stream(1)
    assert stream.feed("like it.") == other.feed("She didn't like it.")[2:]
    assert stream.finish() == other.finish()
    with pytest.raises(ValueError, match="begin a new one with reset"):
        stream.feed("more")
    stream.reset()
    assert stream.feed("") == stream.finish() == []


def test_a_sentence_without_an_end_is_cut(pipe):
    words = ["word"] * (2 * MAX_SENTENCE + 3)
    tags = pipe.tag(words)
    assert tags == pipe(" ".join(words))
    assert tags[MAX_SENTENCE : 2 * MAX_SENTENCE] == tags[:MAX_SENTENCE]
    stream = pipe.stream(2)
    assert len(stream.feed(" ".join(words)) + stream.finish()) == len(words)
