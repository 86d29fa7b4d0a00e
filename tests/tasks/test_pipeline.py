"""What all pipelines have in common: one or many, streams in any pieces, wrong models, threads."""

import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numlstm
from numlstm import Prediction, Score, WeightsError
from numlstm.tasks import TASKS
from numlstm.tasks.text.encoding import MAX_WORD, Encoder, split_segments, split_words
from numlstm.tasks.text.sentences import is_end, split_sentences
from tests.conftest import ROOT

DIGITS = ROOT / "weights" / "digits.wav"
TEXTS = [
    "It was a good film.",
    "I hated it, all of it!",
    "\U0001f600 \u65e5\u672c\u8a9e \u0440\u0443\u0441\u0441\u043a\u0438\u0439 e\u0301",
]
RUBBISH = bytes(range(256)).decode("utf-8", "replace") + "\x1b[31m\x00"

pipe_of = cache(numlstm.pipeline)

OPTIONS = {"generate": {"max_tokens": 5, "seed": 0}, "chat": {"seed": 0}}
PAIRS = [(task, model) for task in TASKS for model in TASKS[task].models]
OF_SOUND = {"speech", "vad"}
OF_TEXTS = [(task, model) for task, model in PAIRS if task not in OF_SOUND]
# What each says of a text without words; a prompt without any is the end of a line.
NOTHING = {
    "sentiment": Prediction("", 0.0),
    "email": Prediction("", 0.0),
    "pos": [],
    "language-model": (0.0, b"", ()),
    "chat": "",
    "summarize": "",
}


def ask(pipe, task, item):
    return plain(pipe(item, **OPTIONS.get(task, {})))


def plain(answer):
    """Return an answer as what can be compared bit by bit."""
    if isinstance(answer, Score):
        return answer.nats, answer.per_token.tobytes(), answer.tokens
    return answer


@pytest.mark.parametrize(("task", "model"), PAIRS)
def test_a_pipeline_can_be_pickled(task, model):
    pipe = pipe_of(task, model)
    item = DIGITS if task in OF_SOUND else TEXTS[0]
    assert ask(pickle.loads(pickle.dumps(pipe)), task, item) == ask(pipe, task, item)


@pytest.mark.parametrize(("task", "model"), OF_TEXTS)
def test_a_list_gives_a_list_and_keeps_all_others_where_one_says_nothing(task, model):
    pipe = pipe_of(task, model)
    options = OPTIONS.get(task, {})
    texts = [TEXTS[0], "", *TEXTS[1:]]
    one_by_one = [ask(pipe, task, text) for text in texts]
    for found in (
        pipe(texts, **options),
        pipe(tuple(texts), **options),
        pipe.each(iter(texts), **options),
    ):
        assert list(map(plain, found)) == one_by_one
    assert pipe([], **options) == []


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("model", ["sentiment", "sentiment-bilstm", "character", "words"])
def test_many_together_get_the_bits_of_each_alone(model, dtype):
    task = "sentiment" if model.startswith("sentiment") else "language-model"
    pipe = pipe_of(task, numlstm.load(model, dtype))
    texts = ["", *(text * n for text in TEXTS for n in range(1, 14)), "  ", TEXTS[0] * 120]
    assert list(map(plain, pipe(texts))) == [plain(pipe(text)) for text in texts]


@pytest.mark.parametrize(
    ("model", "dtype", "count", "pays"),
    [
        ("sentiment", "float32", 32, True),
        ("sentiment", "bfloat16", 32, True),
        ("sentiment", "float32", 31, False),
        ("sentiment", "int8", 32, False),
        ("sentiment-bilstm", "float32", 32, False),
    ],
)
def test_many_are_run_together_where_that_was_measured_to_pay(
    monkeypatch, model, dtype, count, pays
):
    pipe = pipe_of("sentiment", numlstm.load(model, dtype))
    calls = []
    run_batch = numlstm.Model.run_batch
    monkeypatch.setattr(
        numlstm.Model,
        "run_batch",
        lambda self, xss: calls.append(len(xss)) or run_batch(self, xss),
    )
    assert len(pipe(TEXTS[:1] * count)) == count
    assert calls == [count] * pays


def test_each_answers_as_it_goes_and_names_what_it_cannot_answer():
    pipe = pipe_of("sentiment")
    taken = []

    def texts():
        for text in ["good", "", "\ud800", "fine"]:
            taken.append(text)
            yield text

    answers = pipe.each(texts(), progress=False)
    assert next(answers).label == "positive"
    assert taken == ["good"]
    assert next(answers).label == ""
    with pytest.raises(ValueError, match=r"text 2: text\[0\] is half of a surrogate pair"):
        next(answers)
    with pytest.raises(TypeError, match="text 1: text is int, expected str"):
        pipe(["good", 3])


def test_a_bar_is_shown_if_asked_for(capsys):
    pipe = pipe_of("sentiment")
    list(pipe.each(["good"], progress=False))
    assert capsys.readouterr().err == ""
    list(pipe.each(["good", "bad"], progress=True))
    assert "answering" in capsys.readouterr().err


@pytest.mark.parametrize(("task", "model"), OF_TEXTS)
@pytest.mark.parametrize(
    "text", ["", " \n\t ", RUBBISH, *TEXTS, "a" * 3000, "a. " * 2000, "\ufffd"]
)
def test_any_text_has_an_answer(task, model, text):
    pipe = pipe_of(task, model)
    found = ask(pipe, task, text)
    assert found == ask(pipe, task, text)
    # Of a language model the end of a line is a token.
    is_empty = not text if task == "language-model" else not text.strip()
    if task in NOTHING:
        assert (found == NOTHING[task]) == is_empty


@pytest.mark.parametrize(("task", "model"), OF_TEXTS)
def test_what_is_no_text_is_refused(task, model):
    pipe = pipe_of(task, model)
    with pytest.raises(ValueError, match=r"text\[2\] is half of a surrogate pair"):
        pipe("a \ud800 b")
    for item in (b"a", 3, None):
        with pytest.raises(TypeError, match=r"text is \w+, expected str"):
            pipe(item)


@pytest.mark.parametrize("task", ["chat", "summarize", "extract", "email", "subword"])
@pytest.mark.parametrize("mark", ["[END]", "[USER]", "[SENTENCE]", "[UNK]", "<eos>"])
def test_a_mark_that_someone_writes_is_plain_text(task, mark):
    pipes = {
        "chat": lambda: pipe_of("chat").networks.tokenizer,
        "summarize": lambda: pipe_of("summarize").networks.tokenizer,
        "extract": lambda: pipe_of("summarize", "extract")._tokenizer,
        "email": lambda: pipe_of("email").encoder.tokenizer,
        "subword": lambda: pipe_of("generate", "subword").encoder.tokenizer,
    }
    tokenizer = pipes[task]()
    ids = tokenizer.encode(f"a {mark} b", add_special_tokens=False).ids
    special = {n for n, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    # The unknown token stands for what the vocabulary does not have.
    assert not special & set(ids) - {tokenizer.token_to_id("[UNK]")}


# A model of each kind that is of no use for a task.
WRONG = {
    "sentiment": ["words", "pos", "speech", "extract"],
    "email": ["character", "chat"],
    "pos": ["sentiment", "chat"],
    "language-model": ["sentiment", "pos", "speech", "extract"],
    "generate": ["sentiment", "summarize", "speech"],
    "chat": ["pos", "summarize", "sentiment"],
    "speech": ["sentiment", "pos", "vad"],
    "vad": ["sentiment", "pos", "speech"],
    "summarize": ["chat", "pos", "sentiment"],
}


@pytest.mark.parametrize(("task", "model"), [(t, m) for t in TASKS for m in WRONG[t]])
def test_a_model_that_cannot_do_a_task_is_refused(task, model):
    with pytest.raises(WeightsError, match=r"the model (cannot|has several)"):
        numlstm.pipeline(task, model)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match=f"expected one of: {', '.join(TASKS)}"):
        numlstm.pipeline("translation")


def test_a_pipeline_takes_what_was_loaded():
    assert numlstm.pipeline("sentiment", numlstm.load("sentiment"))("good").label == "positive"
    assert numlstm.pipeline("pos", numlstm.load_parts("pos"))("good") == pipe_of("pos")("good")
    assert numlstm.pipeline("speech", beam_size=4)(DIGITS).text == pipe_of("speech")(DIGITS).text


@pytest.mark.parametrize("task", ["sentiment", "pos", "language-model", "chat", "summarize"])
def test_threads_share_a_pipeline(task):
    pipe = pipe_of(task)
    texts = TEXTS[:2] * 6
    expected = [ask(pipe, task, text) for text in texts]
    barrier = threading.Barrier(4)

    def run(_):
        barrier.wait()
        return [ask(pipe, task, text) for text in texts]

    with ThreadPoolExecutor(4) as threads:
        assert all(found == expected for found in threads.map(run, range(4)))


# Text to tokens ----------------------------------------------------------------------------------

ANY_TEXT = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("ab .,\n'\u2019")),
    max_size=60,
)


@pytest.mark.parametrize("model", ["sentiment", "email", "character", "subword", "words"])
@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT, cut=st.integers(0, 60))
def test_a_text_has_the_same_tokens_in_pieces(model, text, cut):
    spaces = model in ("character", "subword", "words")
    encoder = _encoder(model, spaces)
    first, rest = encoder.complete(text[:cut])
    second, last = encoder.complete(rest + text[cut:])
    assert encoder.ids([*first, *second, *([last] if last else [])]) == encoder(text)


@cache
def _encoder(model, spaces):
    return Encoder(numlstm.load(model), spaces=spaces)


@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT)
def test_nothing_is_lost_between_pieces(text):
    assert "".join(split_segments(text)) == text
    assert "".join(split_words(text)) == "".join(text.split())


def test_a_run_without_white_space_is_cut():
    run = "x" * (2 * MAX_WORD + 1)
    assert [len(word) for word in split_words(run)] == [MAX_WORD, MAX_WORD, 1]
    encoder = _encoder("sentiment", False)
    assert encoder.complete(run) == (["x" * MAX_WORD] * 2, "x")
    assert encoder.complete("x" * MAX_WORD) == (["x" * MAX_WORD], "")


SENTENCES = {
    "One. Two! Three?": 3,
    "Mr. Smith met Dr. Jones at St. Mary.": 1,
    'He said "No." Then he left.': 2,
    "J. R. Smith wrote it. It is long.": 2,
    "See Fig. 3 and Eq. 2, e.g. The first.": 1,
    "No capital follows. here it goes on.": 1,
    "Numbers too. 3 of them.": 2,
    "Smith et al. The rest.": 1,
    "(In brackets.) Outside.": 2,
    "": 1,
}


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences(text):
    sentences = split_sentences(text)
    assert len(sentences) == SENTENCES[text]
    assert "".join(sentences).replace(" ", "") == text.replace(" ", "")
    words = text.split()
    ends = sum(is_end(a, b) for a, b in pairwise(words))
    assert ends + 1 == len(sentences)


def test_a_seed_is_the_same_text_and_none_is_not():
    pipe = pipe_of("generate")
    assert pipe("A", max_tokens=50, seed=3) == pipe("A", max_tokens=50, seed=3)
    assert len({pipe("A", max_tokens=50) for _ in range(5)}) > 1


def test_a_text_too_long_for_memory_is_refused_and_the_stream_goes_on(monkeypatch):
    monkeypatch.setattr("numlstm.tasks.text.classify.MAX_TOKENS", 5)
    pipe = pipe_of("sentiment", "sentiment-bilstm")
    with pytest.raises(ValueError, match="more than 5 tokens"):
        pipe("one two three four five six")
    stream = pipe.stream()
    stream.feed("one two th")
    with pytest.raises(ValueError, match="classify parts of it"):
        stream.feed("ree four five six seven")
    stream.feed("ree four five")
    assert stream.finish() == pipe("one two three four five")
    assert pipe_of("sentiment")("one two three four five six").label  # reads on and on


SENTENCE = "It was a good film, and I liked it. "  # 11 words


@pytest.mark.long
def test_a_large_text_is_read_to_its_end():
    text = SENTENCE * 4000  # 144 kB, which takes minutes if it is not read in linear time
    assert 0 < pipe_of("sentiment")(text).score <= 1
    tags = pipe_of("pos")(text)
    assert len(tags) == 4000 * 11
    score = pipe_of("language-model")(text)
    assert score.num_tokens == len(score.tokens) == len(score.per_token) == 4000 * 11
    assert np.isclose(score.nats, score.per_token.sum(dtype=np.float64))


@pytest.mark.long
@pytest.mark.parametrize("task", ["sentiment", "pos", "language-model"])
def test_a_text_four_times_as_long_takes_four_times_the_memory(task):
    pipe, peaks = pipe_of(task), []
    for count in (500, 2000):
        tracemalloc.start()
        pipe(SENTENCE * count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0]
