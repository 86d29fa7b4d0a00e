"""Voice activity: the same bits in any pieces, alone or in a pool; clear refusals."""

import pickle
import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numlstm
from numlstm import SpeechEvent, WeightsError
from numlstm.spec import Concat, Linear, Network, Pooling
from numlstm.tasks.audio.sound import open_sound
from tests.cases import random_weights
from tests.conftest import ROOT
from tests.lazy import soundfile

DIGITS = ROOT / "weights" / "digits.wav"  # 8 kHz


@pytest.fixture(scope="module")
def pipe():
    return numlstm.pipeline("vad")


@pytest.fixture(scope="module")
def digits():
    """Return digits with quiet noise behind them."""
    with open_sound(DIGITS) as (rate, blocks):
        assert rate == 8000
        noise = np.random.default_rng(0).standard_normal(2700) * 1e-3
        return np.concatenate([np.concatenate(list(blocks))[:, 0], noise]).astype(np.float32)


def test_speech_is_found_where_digits_are_spoken(pipe):
    found = pipe(DIGITS)
    words = numlstm.pipeline("speech")(DIGITS).words
    assert len(words) == 6
    for word in words:
        middle = (word.start + word.end) / 2
        assert any(each.start < middle < each.end for each in found.segments), word
    assert sum(each.end - each.start for each in found.segments) < 4.0
    for each in found.segments:
        assert (each.start_sample, each.end_sample) == (each.start * 8000, each.end * 8000)
    assert len(found.probabilities) == -(-len(soundfile.read(DIGITS)[0]) // 256)
    assert found.chunk_seconds == 0.032


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 40000), max_size=12))
def test_any_pieces_give_the_same_bits(pipe, digits, rate, cuts):
    samples = digits[:20000]
    stream = pipe.stream(rate)
    events = []
    for a, b in pairwise([0, *sorted(min(cut, len(samples)) for cut in cuts), len(samples)]):
        events += stream.feed(samples[a:b])
    found = stream.finish()
    assert found == pipe((samples, rate))
    assert stream.events[: len(events)] == events
    expected = [
        event
        for each in found.segments
        for event in (
            SpeechEvent("start", each.start, each.start_sample),
            SpeechEvent("end", each.end, each.end_sample),
        )
    ]
    assert stream.events == expected
    assert stream.probabilities.tobytes() == found.probabilities.tobytes()
    assert all(event.sample <= len(samples) for event in expected)


def test_a_stream_tells_as_it_hears(pipe, digits):
    stream = pipe.stream(8000)
    told = [stream.feed(part) for part in np.array_split(digits, 300)]
    assert stream.is_speech is False
    arrived = np.cumsum([len(part) for part in np.array_split(digits, 300)])
    events = [(event, at) for events, at in zip(told, arrived, strict=True) for event in events]
    assert [event.kind for event, _ in events] == ["start", "end"] * (len(events) // 2)
    for event, at in events:
        late = (at - event.sample) / 8000
        assert 0 <= late < 0.4
    assert len(stream.finish().segments) == len(events) // 2
    with pytest.raises(ValueError, match="the sound was finished; begin a new one with reset"):
        stream.feed(digits)
    stream.reset()
    assert stream.probabilities.shape == (0,)
    assert stream.events == []
    stream.feed(digits)
    assert stream.finish() == pipe((digits, 8000))


def test_types_and_channels(pipe, digits):
    pcm = (digits * 32767).astype(np.int16)
    exact = pcm / np.float32(32768)
    expected = pipe((exact, 8000))
    assert pipe((pcm, 8000)) == expected
    assert pipe((np.stack([pcm, pcm], 1), 8000)) == expected
    assert pipe((exact.tolist(), 8000)) == expected


def test_sound_of_another_rate_is_heard_alike(pipe, digits, tmp_path):
    soxr = pytest.importorskip("soxr")
    expected = pipe((digits, 8000)).segments
    for rate in (16000, 22050, 48000):
        path = tmp_path / f"{rate}.wav"
        soundfile.write(path, soxr.resample(digits, 8000, rate), rate, subtype="FLOAT")
        found = pipe(path).segments
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert abs(a.start - b.start) < 0.1
            assert abs(a.end - b.end) < 0.2
            assert a.start_sample == round(a.start * rate)


def test_silence_has_no_speech(pipe):
    for sound in (([], 8000), (np.zeros(0, np.int16), 16000), (np.zeros(20000), 16000)):
        assert pipe(sound).segments == ()
    assert pipe(([], 8000)).probabilities.shape == (0,)
    assert pipe(([0.0], 8000)).probabilities.shape == (1,)
    assert pipe.stream().feed([]) == []


def test_options_are_those_of_the_segments(digits):
    def count(**options):
        return len(numlstm.pipeline("vad", **options)((digits, 8000)).segments)

    assert count(min_silence_duration=1) == 1
    assert count(min_speech_duration=1) == 0
    assert count(threshold=1) == 0
    assert count(max_speech_duration=0.3) > count()
    padded = numlstm.pipeline("vad", speech_pad=0)((digits, 8000)).segments
    assert padded[0].start > numlstm.pipeline("vad")((digits, 8000)).segments[0].start
    with pytest.raises(TypeError, match="unexpected keyword argument 'treshold'"):
        numlstm.pipeline("vad", treshold=1)
    with pytest.raises(ValueError, match="threshold is 2"):
        numlstm.pipeline("vad", threshold=2)


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([0.0, np.nan], ValueError, r"samples\[1\] is not finite"),
        ([0.0, 3000.0], ValueError, "reach 3000, expected -1 to 1; pass 16-bit samples as int16"),
        (["zero"], TypeError, "of str"),
        (np.zeros(3, np.int64), TypeError, "of int64"),
        (np.zeros((2, 8000), np.float32), ValueError, "shape"),
    ],
)
def test_a_refusal_leaves_the_stream_as_it_was(pipe, digits, samples, error, message):
    stream, pool = pipe.stream(8000), pipe.pool(2, 8000)
    slots = [pool.open(), pool.open()]
    stream.feed(digits[:7000])
    pool.feed(slots, [digits[:7000]] * 2)
    with pytest.raises(error, match=message):
        stream.feed(samples)
    with pytest.raises(error, match=rf"slot {slots[1]}: .*{message}"):
        pool.feed(slots, [digits[7000:], samples])
    stream.feed(digits[7000:])
    pool.feed(slots, [digits[7000:]] * 2)
    expected = pipe((digits, 8000))
    assert stream.finish() == expected
    assert [pool.close(slot) for slot in slots] == [expected] * 2


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_calls_in_a_pool_have_the_bits_of_each_alone(pipe, digits, rate):
    rng = np.random.default_rng(1)
    calls = [np.roll(digits, n * 1000)[: 9000 + 700 * n] for n in range(7)]
    pool = pipe.pool(5, rate)
    taken, slots, found, events = [0] * 7, {}, {}, {n: [] for n in range(7)}
    waiting = list(range(7))
    while waiting or slots:
        while waiting and len(pool) < 5:
            n = waiting.pop()
            slots[n] = pool.open()
        chosen = [n for n in slots if rng.random() < 0.8]
        parts = [
            calls[n][taken[n] : taken[n] + size]
            for n, size in zip(chosen, rng.integers(0, 2000, len(chosen)), strict=True)
        ]
        for n, new in zip(chosen, pool.feed([slots[n] for n in chosen], parts), strict=True):
            events[n] += new
        for n, part in zip(chosen, parts, strict=True):
            taken[n] += len(part)
            if taken[n] == len(calls[n]):
                seen = pool.probabilities(slots[n])
                found[n] = pool.close(slots.pop(n))
                assert seen.tobytes() == found[n].probabilities[: len(seen)].tobytes()
    for n, call in enumerate(calls):
        stream = pipe.stream(rate)
        assert events[n] == stream.feed(call)
        assert found[n] == stream.finish()
    assert len(pool) == 0


def test_a_pool_takes_an_array_of_calls(pipe, digits):
    pool = pipe.pool(3, 8000)
    slots = np.array([pool.open() for _ in range(3)])
    pcm = (digits * 32767).astype(np.int16)
    frames = np.stack([pcm, pcm, np.zeros_like(pcm)])[:, : len(pcm) // 160 * 160]
    told = [pool.feed(slots, part) for part in np.split(frames, frames.shape[1] // 160, axis=1)]
    assert pool.is_speech(slots[0]) is False
    counts = [sum(len(events[n]) for events in told) for n in range(3)]
    assert counts[0] == counts[1] > 4
    assert counts[2] == 0
    assert pool.close(slots[0]) == pipe((frames[0], 8000))
    with pytest.raises(ValueError, match=f"slot {slots[0]} is not open"):
        pool.feed(slots, frames)
    with pytest.raises(ValueError, match=f"slot {slots[1]} comes twice"):
        pool.feed([slots[1]] * 2, frames[:2])
    with pytest.raises(ValueError, match="samples are those of 3 sounds, slots are 2"):
        pool.feed(slots[1:], frames)
    with pytest.raises(ValueError, match="is not finite"):
        pool.feed(slots[1:], np.full((2, 9), np.nan))
    with pytest.raises(ValueError, match="is not open"):
        pool.close(slots[0])
    assert [pool.open()] == [slots[0]]
    assert pool.probabilities(slots[0]).shape == (0,)
    with pytest.raises(ValueError, match="all 3 slots of the pool are open; close one first"):
        pool.open()
    with pytest.raises(ValueError, match="capacity is 0"):
        pipe.pool(0)


@pytest.mark.parametrize(
    ("rate", "error"),
    [("8000", TypeError), (None, TypeError), (True, TypeError), (0, ValueError),
     (float("nan"), ValueError), (1e9, ValueError)],
)  # fmt: skip
def test_a_rate_is_a_number_of_hertz(pipe, rate, error):
    for begin in (pipe.stream, lambda rate: pipe.pool(1, rate)):
        with pytest.raises(error, match="the sample rate is"):
            begin(rate)


def test_what_is_no_sound_is_refused(pipe, digits, tmp_path):
    with pytest.raises(TypeError, match=r"ndarray, expected a path or \(samples, rate\)"):
        pipe(digits)
    with pytest.raises(FileNotFoundError):
        pipe(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="sound 1: the samples reach 99"):
        pipe([(digits, 8000), ([99.0], 8000)])


def make(input_size, *last, output_size=1, activation="sigmoid", direction="forward"):
    size = 8 * (1 + (direction == "bidirectional"))
    layers = (
        numlstm.LSTM(input_size, 8, direction=direction),
        Linear(size, output_size, activation=activation),
        *last,
    )
    return numlstm.Model(random_weights(Network(layers)))


def test_a_file_of_one_network_reads_any_rate(digits, tmp_path):
    """What `numlstm convert` writes has one network, without a name."""
    for size, rate in ((576, 16000), (288, 8000), (512, 16000), (256, 8000)):
        make(size).save(tmp_path / "own.safetensors")
        own = numlstm.pipeline("vad", tmp_path / "own.safetensors")
        assert list(own.models) == [rate]
        for given_rate in (8000, 16000, 44100):
            found = own((digits, given_rate))
            assert len(found.probabilities) == -(
                -round(len(digits) * rate / given_rate) // (512 * rate // 16000)
            )
    for last in ((Pooling(1, "last"),), (Concat(1),), (numlstm.Slice(1, 0, 1),)):
        numlstm.pipeline("vad", make(576, *last))
    numlstm.pipeline("vad", make(576, numlstm.Activation(1, "sigmoid"), activation=None))


@pytest.mark.parametrize("rate", [16000, 8000])
def test_chunks_without_what_was_before_are_rows(digits, rate):
    """As of Silero VAD 4, whose rows have no end of the chunk before."""
    model = make(rate * 32 // 1000)
    pipe = numlstm.pipeline("vad", model)
    rows = digits[: 40 * model.input_size].reshape(40, -1).astype(np.float32) / 32768
    expected = model.run(rows)[:, 0]
    pool = pipe.pool(1, rate)
    slot = pool.open()
    stream = pipe.stream(rate)
    for part in np.split(rows.ravel(), 64):
        stream.feed(part)
        pool.feed([slot], [part])
    for found in (pipe((rows.ravel(), rate)), stream.finish(), pool.close(slot)):
        np.testing.assert_array_equal(found.probabilities, expected)


def test_the_network_for_8_khz_hears_what_has_no_more(pipe):
    assert list(pipe.models) == [16000, 8000]
    for rate, expected in ((4000, 8000), (8000, 8000), (11025, 16000), (48000, 16000)):
        assert pipe.model_for(rate) is pipe.models[expected]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: make(320),
            r"it reads 320 numbers a step, expected 576 \(at 16000 Hz, 512 behind 64 of before\) "
            r"or 288 \(at 8000 Hz, 256 behind 32 of before\) or 512 \(at 16000 Hz\) or 256 \(at",
        ),
        (lambda: make(576, output_size=2), "it answers 2 numbers, expected one"),
        (lambda: make(576, activation="relu"), "it does not end in a sigmoid"),
        (lambda: make(576, activation=None), "it does not end in a sigmoid"),
        (lambda: make(576, direction="bidirectional"), "it reads later steps"),
        (lambda: {"a": make(576), "b": make(576)}, "speech, b: another one reads 16000 Hz as well"),
        (lambda: numlstm.load("words"), "it reads tokens a step"),
        (lambda: {}, "the model cannot find speech: it has no networks"),
    ],
)
def test_a_model_for_something_else_is_refused(model, message):
    with pytest.raises(WeightsError, match=message):
        numlstm.pipeline("vad", model())


def test_a_pool_and_a_stream_belong_to_one_thread_at_a_time(pipe, digits):
    stream, pool = pipe.stream(8000), pipe.pool(1, 8000)
    slot = pool.open()
    refused = []

    def use(call):
        try:
            call()
        except RuntimeError as error:
            refused.append(str(error))

    for turn, call in (
        (stream._turn, lambda: stream.feed(digits)),
        (stream._turn, stream.finish),
        (stream._turn, stream.reset),
        (pool._turn, lambda: pool.feed([slot], [digits])),
        (pool._turn, pool.open),
        (pool._turn, lambda: pool.close(slot)),
    ):
        turn.taken = True
        thread = threading.Thread(target=use, args=(call,))
        thread.start()
        thread.join()
        turn.taken = False
    assert len(refused) == 6
    assert "in use by another thread" in refused[0]
    assert stream.feed(digits) == pool.feed([slot], [digits])[0]


def test_answers_can_be_compared_and_pickled(pipe, digits):
    found = pipe((digits, 8000))
    assert pickle.loads(pickle.dumps(found)) == found
    assert found != pipe((digits[:20000], 8000))
    assert found != 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(found)
