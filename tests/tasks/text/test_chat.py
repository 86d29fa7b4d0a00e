"""Dialogues: what is read of them, what is written, how it is searched for."""

from functools import cache
from itertools import product

import numpy as np
import pytest

import numlstm
from numlstm import LSTM, Embedding, LogSoftmax, Model, Network, Turn, Weights
from numlstm.tasks.text.chat import BOT, HISTORY_TOKENS, USER, encode_history
from numlstm.tasks.text.seq2seq import beam_search

HELLO = "Hi, I want to book a hotel in London."

load = cache(numlstm.pipeline)


@pytest.fixture
def session():
    return load("chat").session()


def test_a_dialogue_has_a_history(session):
    answers = [session.say(HELLO, seed=0), session.say("For three people.", seed=0)]
    turns = [HELLO, answers[0], "For three people.", answers[1]]
    speakers = ["user", "bot"] * 2
    assert session.history == tuple(map(Turn, speakers, turns))
    again = load("chat").session(turns[:2])
    assert again.say("For three people.", seed=0) == answers[1]
    session.reset()
    assert session.history == ()
    assert session.say(HELLO, seed=0) == answers[0] == load("chat")(HELLO, seed=0)


def test_the_history_matters():
    chat = load("chat")
    first = ["Hi, I want to book a hotel in London.", "I want to find a song by Adele."]
    after = [chat.session([text, "Sure."]).say("Please do.", beam_size=2) for text in first]
    assert after[0] != after[1]


def test_a_stream_writes_the_same_answer(session):
    pieces = list(session.stream(HELLO, seed=4))
    assert len(pieces) > 3
    assert "".join(pieces) == load("chat")(HELLO, seed=4)
    assert session.history[1].text == "".join(pieces)


def test_what_was_written_of_an_answer_is_kept(session):
    stream = session.stream(HELLO, seed=4)
    first = next(stream)
    stream.close()
    assert [turn.text for turn in session.history] == [HELLO, first]
    unread = session.stream("More?", seed=4)
    unread.close()
    assert len(session.history) == 2


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "the text is empty"),
        ("\ud800", {}, "surrogate"),
        (3, {}, "text is int"),
        ("Hi", {"beam_size": 0}, "beam_size is 0"),
        ("Hi", {"max_tokens": 0}, "max_tokens is 0"),
        ("Hi", {"temperature": -1.0}, "temperature is -1"),
    ],
)
def test_what_is_refused_is_not_said(session, text, options, message):
    session.say(HELLO, seed=0)
    before = session.history
    with pytest.raises((TypeError, ValueError), match=message):
        session.say(text, **options)
    if "beam_size" not in options:
        with pytest.raises((TypeError, ValueError), match=message):
            session.stream(text, **options)
    assert session.history == before


def test_a_history_ends_with_the_bot():
    with pytest.raises(ValueError, match="say that instead"):
        load("chat").session(["Hi"])


def test_what_is_read_of_a_history():
    tokenizer = load("chat").networks.tokenizer
    turns = ["one", "two", "three", "four"]
    ids = encode_history(tokenizer, turns)
    assert [n for n in ids if n in (USER, BOT)] == [USER, BOT, USER]
    assert tokenizer.decode(ids).split() == ["two", "three", "four"]
    long = encode_history(tokenizer, ["word " * 500])
    assert len(long) == HISTORY_TOKENS
    assert encode_history(tokenizer, ["[END] [BOT]"]).count(BOT) == 0


def tiny_model(vocab_size):
    random = np.random.default_rng(0)
    network = Network((Embedding(vocab_size, 4), LSTM(4, vocab_size), LogSoftmax(vocab_size)))
    shapes = network.tensor_shapes().items()
    return Model(Weights(network, {n: random.normal(0, 2, s).astype("f4") for n, s in shapes}))


def test_a_beam_that_is_wide_enough_finds_the_best_text():
    model = tiny_model(4)
    found = beam_search(model.stream(), 1, 0, width=64, max_tokens=4)
    means = {}
    for length in range(4):
        for tokens in product(range(1, 4), repeat=length):
            ys = model.run(np.array([1, *tokens], np.int32))
            targets = [*tokens, 0]
            means[tokens] = ys[np.arange(len(targets)), targets].mean()
    assert tuple(found) == max(means, key=means.get)


def test_a_beam_of_one_takes_the_likeliest_token_and_repeats_no_trigram():
    model = tiny_model(9)
    found = beam_search(model.stream(), 1, 0, width=1, max_tokens=40, min_tokens=39)
    greedy, stream = [1], model.stream()
    for _ in range(len(found)):
        log_p = stream.step(greedy[-1]).copy()
        log_p[0] = -np.inf
        pairs = list(zip(greedy, greedy[1:], greedy[2:], strict=False))
        for a, b, c in pairs:
            if [a, b] == greedy[-2:]:
                log_p[c] = -np.inf
        greedy.append(int(log_p.argmax()))
    assert found[:39] == greedy[1:40]
    trigrams = list(zip(found, found[1:], found[2:], strict=False))
    assert len(set(trigrams)) == len(trigrams)
