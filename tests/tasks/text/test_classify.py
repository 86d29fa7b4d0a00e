"""The text pipeline: the same bits however a text arrives, and clear refusals."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

import numlstm
from numlstm.spec import Weights
from numlstm.tasks.text.classify import Classifier, Prediction
from numlstm.tasks.text.encoding import MAX_WORD

WORDS = ["[UNK]", "the", "movie", "was", "not", "good", ".", ",", "don", "'", "t", "é", "😀"]
TEXT = "The movie was not good,  and I don't\tlike it.\nÉtait-il 😀 bon ?  "


def make_tokenizer(words=WORDS):
    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def make_weights(tokenizer=None, labels=("negative", "positive"), softmax=True, vocab_size=20):
    layers = (
        numlstm.Embedding(vocab_size, 12),
        numlstm.LSTM(12, 20),
        numlstm.Pooling(20, "max"),
        numlstm.Linear(20, 2),
    )
    network = numlstm.Network(layers + ((numlstm.Softmax(2),) if softmax else ()))
    rng = np.random.default_rng(3)
    tensors = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in network.tensor_shapes().items()
    }
    text = tokenizer if isinstance(tokenizer, str) else (tokenizer or make_tokenizer()).to_str()
    return Weights(network, tensors, labels=labels, tokenizer=text)


@pytest.fixture(scope="module")
def pipe():
    return Classifier(numlstm.Model(make_weights()))


def feed_all(pipe, pieces):
    stream = pipe.stream()
    for piece in pieces:
        stream.feed(piece)
    return stream, stream.finish()


def test_one_text_gives_a_prediction_and_a_list_gives_a_list(pipe):
    one = pipe("The movie was good.")
    assert one.label in ("negative", "positive")
    assert 0.5 <= one.score <= 1.0
    assert pipe(["The movie was good.", "not"]) == [one, pipe("not")]
    assert pipe([]) == []


def test_the_prediction_is_that_of_the_model_on_the_tokens(pipe):
    ids = [1, 2, 3, 4, 5, 6]  # the movie was not good .
    scores = pipe.model.run(ids)[-1]
    found = pipe("The movie was not good.")
    assert found.label == ("negative", "positive")[scores.argmax()]
    assert found.score == float(scores.max())


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, len(TEXT)), max_size=12))
def test_any_pieces_end_in_the_same_bits(pipe, cuts):
    whole_stream, whole = feed_all(pipe, [TEXT])
    edges = [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[a:b] for a, b in pairwise(edges)]
    stream, found = feed_all(pipe, pieces)
    assert found == whole == pipe(TEXT)
    assert stream._stream.save_state() == whole_stream._stream.save_state()


def test_characters_words_and_the_whole_end_in_the_same_bits(pipe):
    whole, _ = feed_all(pipe, [TEXT])
    characters, _ = feed_all(pipe, list(TEXT))
    words, _ = feed_all(pipe, [word + " " for word in TEXT.split()])
    saved = whole._stream.save_state()
    assert characters._stream.save_state() == saved
    assert words._stream.save_state() == saved


def test_half_a_word_is_held_back_until_it_is_whole(pipe):
    stream = pipe.stream()
    assert stream.feed("The mov") == pipe("The")
    assert stream.feed("ie was") == pipe("The movie")
    assert stream.feed(" ") == pipe("The movie was")
    assert stream.finish() == pipe("The movie was")


def test_there_is_no_prediction_before_the_first_word(pipe):
    stream = pipe.stream()
    assert stream.feed("") is None
    assert stream.feed(" \n\t") is None
    assert stream.feed("The") is None
    assert stream.feed(" ") == pipe("The")


def test_a_long_run_without_white_space_is_cut_at_the_same_places(pipe):
    long = "a" * (MAX_WORD - 1) + "the movie" + "b" * (2 * MAX_WORD + 5) + " good"
    whole, _ = feed_all(pipe, [long])
    characters, _ = feed_all(pipe, list(long))
    assert characters._stream.save_state() == whole._stream.save_state()


def test_a_megabyte_without_white_space_is_read(pipe):
    text = "é" * 1_000_000
    stream = pipe.stream()
    for at in range(0, len(text), 1000):
        stream.feed(text[at : at + 1000])
    assert stream.finish() == pipe(text)


@pytest.mark.parametrize("text", ["😀😀", "电影不好", "\x00\x01\x7f", "🏳️‍🌈 é", "a\u200bb", "٣"])
def test_other_scripts_and_odd_characters_are_texts(pipe, text):
    assert feed_all(pipe, list(text))[1] == pipe(text)


@pytest.mark.parametrize("text", ["", " ", "\n\t \u3000"])
def test_a_text_without_words_has_no_label(pipe, text):
    nothing = Prediction("", 0.0)
    assert pipe(text) == nothing
    assert pipe(["good", text, "not"]) == [pipe("good"), nothing, pipe("not")]
    assert feed_all(pipe, [text])[1] == nothing
    assert list(pipe.steps(text)) == []


def test_of_many_texts_the_one_that_overflows_is_named():
    network = numlstm.Network((numlstm.Embedding(20, 1), numlstm.Linear(1, 2), numlstm.Softmax(2)))
    tensors = {"embedding.weight": np.ones((20, 1), np.float32)}
    tensors["embedding.weight"][WORDS.index("good")] = 3e38
    tensors["layers.0.weight"] = np.full((2, 1), 2, np.float32)
    tensors["layers.0.bias"] = np.zeros(2, np.float32)
    texts = Weights(network, tensors, labels=("a", "b"), tokenizer=make_tokenizer().to_str())
    pipe = Classifier(numlstm.Model(texts))
    with pytest.raises(ValueError, match="text 40: xs made the network overflow"):
        pipe([*["the movie"] * 40, "not good", "the movie"])


@pytest.mark.parametrize("text", [None, 3, b"good", ["a", None], ["a", b"b"], {"a": 1}])
def test_what_is_not_text_is_refused(pipe, text):
    with pytest.raises(TypeError, match="expected str"):
        pipe(text)


def test_a_refused_piece_leaves_the_stream_as_it_was(pipe):
    stream = pipe.stream()
    stream.feed("The mov")
    before = stream._stream.save_state()
    for bad, error in (("ie \ud800 was", ValueError), (b"ie ", TypeError), (None, TypeError)):
        with pytest.raises(error, match="text"):
            stream.feed(bad)
        assert stream._stream.save_state() == before
    stream.feed("ie")
    assert stream.finish() == pipe("The movie")


def test_a_finished_text_takes_no_more_until_reset(pipe):
    stream = pipe.stream()
    stream.feed("good")
    stream.finish()
    with pytest.raises(ValueError, match="reset"):
        stream.feed("more")
    with pytest.raises(ValueError, match="reset"):
        stream.finish()
    stream.reset()
    stream.feed("The movie")
    assert stream.finish() == pipe("The movie")


def test_steps_give_every_token_with_its_prediction(pipe):
    steps = list(pipe.steps("The movie was not good."))
    assert [token for token, _ in steps] == ["the", "movie", "was", "not", "good", "."]
    assert steps[-1][1] == pipe("The movie was not good.")
    assert steps[1][1] == pipe("The movie")


def test_a_pipeline_takes_a_name_a_path_or_a_model(tmp_path, pipe):
    path = tmp_path / "model.safetensors"
    pipe.model.save(path)
    for model in (pipe.model, path, str(path)):
        assert numlstm.pipeline("sentiment", model)(TEXT) == pipe(TEXT)
    with pytest.raises(ValueError, match="task is 'poetry', expected one of: sentiment"):
        numlstm.pipeline("poetry")


def test_a_model_that_cannot_classify_text_is_refused():
    bare = numlstm.Network((numlstm.LSTM(3, 4),))
    tensors = {name: np.zeros(shape, np.float32) for name, shape in bare.tensor_shapes().items()}
    with pytest.raises(numlstm.WeightsError, match="no tokenizer, it has no labels, it does not"):
        Classifier(numlstm.Model(Weights(bare, tensors)))
    with pytest.raises(numlstm.WeightsError, match="does not end in a softmax"):
        Classifier(numlstm.Model(make_weights(softmax=False)))
    with pytest.raises(numlstm.WeightsError, match="tokenizer cannot be read"):
        Classifier(numlstm.Model(make_weights(tokenizer="{}")))
    with pytest.raises(numlstm.WeightsError, match="ids up to 12, the model reads ids below 5"):
        Classifier(numlstm.Model(make_weights(vocab_size=5)))


def test_a_tokenizer_that_fails_is_refused():
    without_unknown = Tokenizer(WordLevel({"the": 0}, unk_token="[UNK]"))
    without_unknown.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    with pytest.raises(numlstm.WeightsError, match="the tokenizer fails on 'Half'"):
        Classifier(numlstm.Model(make_weights(without_unknown)))
    sparse = Tokenizer(WordLevel({"[UNK]": 0, "the": 50}, unk_token="[UNK]"))
    with pytest.raises(numlstm.WeightsError, match="ids up to 50, the model reads ids below 20"):
        Classifier(numlstm.Model(make_weights(sparse)))


def test_a_tokenizer_that_joins_words_is_refused():
    tokenizer = make_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(",", "isolated")
    with pytest.raises(numlstm.WeightsError, match="does not split at white space"):
        Classifier(numlstm.Model(make_weights(tokenizer)))
