"""Scores of texts, and texts that are written."""

import math
from functools import cache
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

import numlstm
from numlstm.tasks.text.encoding import decode_each

TEXT = "The war ended in the spring, and he didn't come home.\n\nIt was 1 945."
MODELS = ("words", "character", "subword")

load = cache(numlstm.pipeline)


@pytest.mark.parametrize("model", MODELS)
def test_a_score_is_what_the_network_answers(model):
    pipe = load("language-model", model)
    score = pipe.score(TEXT)
    ids = pipe.encoder(TEXT)
    logits = pipe.model.run(np.array([*pipe.encoder("\n"), *ids], np.int32)).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    nats = -log_p[np.arange(len(ids)), ids]
    np.testing.assert_allclose(score.per_token, nats, rtol=1e-5)
    assert score.num_tokens == len(ids) == len(score.tokens)
    assert math.isclose(score.nats, nats.sum(), rel_tol=1e-6)
    assert math.isclose(score.perplexity, math.exp(nats.mean()), rel_tol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_probabilities_sum_to_one(model):
    pipe = load("language-model", model)
    log_p = pipe.log_p(pipe.model.run(np.array(pipe.encoder(TEXT), np.int32)))
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, rtol=1e-9)


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, len(TEXT)), max_size=6))
def test_a_text_in_pieces_has_the_same_score(model, cuts):
    pipe = load("language-model", model)
    stream = pipe.stream()
    parts = [stream.feed(TEXT[a:b]) for a, b in pairwise([0, *sorted(cuts), len(TEXT)])]
    found, whole = stream.finish(), pipe.score(TEXT)
    assert found.tokens == whole.tokens
    assert (found.per_token == whole.per_token).all()
    assert found.nats == whole.nats
    assert sum(part.num_tokens for part in parts) <= whole.num_tokens


def test_plain_text_is_split_as_the_training_text_is():
    score = load("language-model").score("It isn't well-known (yet), at 3.5 in the U.S. today.")
    assert score.tokens == (
        *("It", "isn", "'t", "well", "@-@", "known", "(", "yet", ")", ",", "at"),
        *("3", "@.@", "5", "in", "the", "U.S.", "today", "."),
    )


def test_sense_surprises_less_than_nonsense():
    pipe = load("language-model")
    sense, nonsense = pipe(["The war ended in the spring .", "Spring the in ended war the ."])
    assert sense.perplexity < nonsense.perplexity / 2


def test_a_stream_that_refused_something_is_as_it_was():
    pipe = load("language-model", "character")
    stream = pipe.stream()
    stream.feed("To be, ")
    with pytest.raises(ValueError, match="surrogate"):
        stream.feed("\udfff")
    stream.feed("or not")
    assert stream.finish().nats == pipe.score("To be, or not").nats
    with pytest.raises(ValueError, match="begin a new one with reset"):
        stream.feed("more")
    stream.reset()
    nothing = stream.finish()
    assert (nothing.nats, nothing.num_tokens, nothing.perplexity) == (0, 0, 1)
    assert len(nothing.per_token) == len(nothing.tokens) == 0


# Text that is written ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_pieces_are_the_text(model):
    pipe = load("generate", model)
    options = {"max_tokens": 80, "seed": 5, "top_k": 30, "top_p": 0.95, "repetition_penalty": 1.1}
    pieces = list(pipe.stream("The", **options))
    assert "".join(pieces) == pipe("The", **options)
    assert len(pieces) > 10


def test_the_likeliest_tokens_are_those_of_the_engine():
    pipe = load("generate")
    ids = pipe.encoder("ROMEO:")
    stream = pipe.model.stream()
    stream.run(np.array(ids[:-1], np.int32))
    expected = stream.generate(ids[-1], 60, temperature=0)
    written = pipe("ROMEO:", max_tokens=60, temperature=0)
    assert written == pipe.encoder.tokenizer.decode(expected.tolist())


def test_no_prompt_is_the_end_of_a_line():
    pipe = load("generate")
    assert pipe("", max_tokens=30, seed=1) == pipe("\n", max_tokens=30, seed=1)
    assert pipe("A", max_tokens=0) == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(options, message):
    with pytest.raises(ValueError, match=message):
        load("generate").stream("A", **options)


def test_a_character_is_never_cut():
    tokenizer = load("generate", "subword").encoder.tokenizer
    text = "a \u00fc \U0001f600 \u65e5\u672c."
    ids = tokenizer.encode(text).ids
    assert len(ids) > len(text)  # characters of several tokens
    pieces = list(decode_each(tokenizer, ids))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    # The first half of a character is held back.
    emoji = tokenizer.encode("\U0001f600").ids
    assert list(decode_each(tokenizer, emoji[:-1])) == []
    # What never becomes one is left out.
    word = tokenizer.encode(" so").ids
    for broken in (emoji[:-1] + word, emoji[1:] + word, emoji[-1:] * 5 + word):
        assert "".join(decode_each(tokenizer, [*word, *broken])) == " so so"


def test_a_text_that_is_not_read_on_costs_nothing_more():
    stream = load("generate").stream("A", max_tokens=10**9, seed=0)
    assert len(list(islice(stream, 5))) == 5
    stream.close()


def test_a_decoder_that_panics_is_an_error_that_names_the_token() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, "a"))
    tokenizer.decoder = decoders.Strip("a", 0, 10)
    with pytest.raises(ValueError, match=r"^the tokenizer fails on token 0: "):
        list(decode_each(tokenizer, [0]))
