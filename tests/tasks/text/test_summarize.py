"""Summaries: sentences that are picked, sentences that are written."""

from functools import cache

import numpy as np
import pytest

import numlstm
from numlstm.tasks.text.sentences import split_sentences
from numlstm.tasks.text.summarize import MAX_TOKENS_EXTRACT, encode_sentence

TEXT = (
    "Recurrent networks read one token at a time. We present a library that runs them on a plain "
    "CPU. It is fast. Experiments show that it answers in microseconds."
)

load = cache(numlstm.pipeline)


def test_sentences_are_picked_in_the_order_of_the_text():
    pipe = load("summarize", "extract")
    sentences = split_sentences(TEXT)
    one, two = pipe(TEXT), pipe(TEXT, num_sentences=2)
    assert one in sentences
    picked = [sentence for sentence in sentences if sentence in two]
    assert two == " ".join(picked)
    assert len(picked) == 2
    assert pipe(TEXT, num_sentences=99) == TEXT


def test_a_score_is_the_mean_of_the_tokens():
    pipe = load("summarize", "extract")
    sentences = split_sentences(TEXT)
    ids = [encode_sentence(pipe._tokenizer, sentence) for sentence in sentences]
    numbers = pipe.model.run(np.concatenate(ids).astype(np.int32))[:, 0]
    ends = np.cumsum([len(part) for part in ids])
    expected = [numbers[b - len(part) : b].mean() for part, b in zip(ids, ends, strict=True)]
    np.testing.assert_allclose(pipe.scores(sentences), expected, rtol=1e-6)


def test_a_long_text_is_read_to_its_end():
    pipe = load("summarize", "extract")
    filler = ["It rained and rained, and nobody knew why or for how long."] * 200
    best = "We propose a new method for training neural networks."
    sentences = [*filler, best]
    assert sum(len(encode_sentence(pipe._tokenizer, s)) for s in sentences) > MAX_TOKENS_EXTRACT
    assert pipe(" ".join(sentences)) == best
    assert len(pipe.scores(sentences)) == 201


def test_a_summary_and_a_title_are_written():
    pipe = load("summarize")
    summary, title = pipe(TEXT), pipe(TEXT, title=True)
    assert summary != title
    assert 3 <= len(title.split()) < len(summary.split())
    assert pipe(TEXT, beam_size=1)
    assert pipe(f"{TEXT} " * 50) == pipe(f"{TEXT} " * 60)  # the beginning is read


@pytest.mark.parametrize(
    ("model", "option"), [("extract", "title"), ("summarize", "num_sentences"), ("extract", "x")]
)
def test_an_option_of_another_model_is_refused(model, option):
    with pytest.raises(ValueError, match=f"{option} is no option of this model"):
        load("summarize", model)(TEXT, **{option: 1})


@pytest.mark.parametrize(
    ("model", "option"), [("extract", "num_sentences"), ("summarize", "beam_size")]
)
def test_numbers_are_checked(model, option):
    with pytest.raises(ValueError, match=f"{option} is 0, expected 1 or more"):
        load("summarize", model)(TEXT, **{option: 0})


@pytest.mark.parametrize("model", ["extract", "summarize"])
def test_a_text_in_pieces_has_the_same_summary(model):
    pipe = load("summarize", model)
    stream = pipe.stream()
    for at in range(0, len(TEXT), 7):
        assert stream.feed(TEXT[at : at + 7]) is None
    with pytest.raises(ValueError, match="surrogate"):
        stream.feed("\ud800")
    assert stream.finish() == pipe(TEXT)
    with pytest.raises(ValueError, match="begin a new one with reset"):
        stream.finish()
    stream.reset()
    assert stream.finish() == pipe(" ") == ""
