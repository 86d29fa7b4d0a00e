"""Where speech begins and ends: as Silero's own function has it, told as soon as it is certain."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numlstm.tasks.audio.hysteresis import Hysteresis, Segmenter
from tests.conftest import ROOT

# What get_speech_timestamps_from_probs of silero-vad 6.2.3 says of random probabilities.
CASES = (ROOT / "tests" / "data" / "silero_segments.jsonl").read_text(encoding="utf-8").splitlines()
CHUNK = {16000: 512, 8000: 256}


def follow(segmenter, probabilities, num_samples, chunk):
    last = len(probabilities) - 1
    for n, probability in enumerate(probabilities):
        segmenter.feed(probability, num_samples - n * chunk if n == last else None)
        yield list(segmenter.edges)
    segmenter.finish(num_samples)
    yield list(segmenter.edges)


def segments(edges, num_samples):
    places = [min(at, num_samples) for _, at in edges]
    return [list(pair) for pair in zip(places[::2], places[1::2], strict=True)]


@pytest.mark.parametrize("line", CASES, ids=range(len(CASES)))
def test_segments_are_those_of_the_authors(line):
    case = json.loads(line)
    rate = case["rate"]
    segmenter = Segmenter(Hysteresis(**case["options"]), rate, CHUNK[rate])
    probabilities = [percent / 100 for percent in case["percent"]]
    *_, edges = follow(segmenter, probabilities, case["num_samples"], CHUNK[rate])
    assert segments(edges, case["num_samples"]) == case["segments"]


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "threshold": st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        "min_speech_duration": st.sampled_from([0, 0.1, 0.25, 2]),
        "min_silence_duration": st.sampled_from([0, 0.03, 0.1, 1]),
        "speech_pad": st.sampled_from([0, 0.03, 0.2]),
        "max_speech_duration": st.sampled_from([0.5, 1.0]),
    },
)
PROBABILITIES = st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.9, 1.0]), min_size=1, max_size=80)


@settings(max_examples=300, deadline=None)
@given(options=OPTIONS, probabilities=PROBABILITIES, last=st.integers(1, 512))
def test_what_was_told_is_not_taken_back(options, probabilities, last):
    num_samples = 512 * (len(probabilities) - 1) + last
    segmenter = Segmenter(Hysteresis(**options), 16000, 512)
    told = list(follow(segmenter, probabilities, num_samples, 512))
    for before, after in pairwise(told):
        assert after[: len(before)] == before
    assert [begins for begins, _ in told[-1]] == [True, False] * (len(told[-1]) // 2)
    places = [at for _, at in told[-1]]
    assert places == sorted(places)
    assert not places or places[0] >= 0


def test_a_beginning_is_told_when_it_is_long_enough_and_an_end_after_the_silence():
    segmenter = Segmenter(Hysteresis(), 16000, 512)
    told = []
    for probability in [0.1] * 10 + [0.9] * 12 + [0.1] * 8:
        segmenter.feed(probability)
        told.append(len(segmenter.edges))
    # 0.25 s are 7.8 chunks; 0.1 s are 3.1: the fifth chunk of silence begins 4 behind the first.
    assert told == [0] * 17 + [1] * 9 + [2] * 4
    assert segmenter.edges == [(True, 10 * 512 - 480), (False, 22 * 512 + 480)]


def test_speech_is_known_at_once_where_it_is_asked_for():
    segmenter = Segmenter(Hysteresis(min_speech_duration=0), 16000, 512)
    segmenter.feed(0.9)
    assert segmenter.is_speech
    assert segmenter.edges == [(True, 0)]
    assert not Segmenter(Hysteresis(), 16000, 512).is_speech


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5, expected a number, 0 to 1"),
        ({"threshold": "high"}, "threshold is 'high', expected a number, 0 to 1"),
        ({"threshold": True}, "threshold is True"),
        ({"threshold": np.nan}, "threshold is nan"),
        ({"neg_threshold": -0.1}, "neg_threshold is -0.1, expected a number, 0 to 1"),
        ({"neg_threshold": 0.6}, "neg_threshold is 0.6, above the threshold, 0.5"),
        ({"min_speech_duration": -1}, "min_speech_duration is -1, expected a number, of seconds"),
        ({"min_silence_duration": np.inf}, "min_silence_duration is inf"),
        ({"speech_pad": None}, "speech_pad is None"),
        ({"max_speech_duration": 0.05}, "max_speech_duration is 0.05, of which speech_pad, 0.03"),
    ],
)
def test_options_are_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        Hysteresis(**options)


def test_the_lower_threshold():
    assert Hysteresis().lower == pytest.approx(0.35)
    assert Hysteresis(threshold=0.1).lower == 0.01
    assert Hysteresis(threshold=0.001).lower == 0.001
    assert Hysteresis(neg_threshold=0.5).lower == 0.5
