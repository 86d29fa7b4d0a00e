"""CTC decoders against every path there is, and in whatever pieces the steps arrive."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numlstm.tasks.audio.ctc import BLANK, BeamDecoder, GreedyDecoder, Peak

DECODERS = {
    "greedy": GreedyDecoder,
    "beam": BeamDecoder,
    "narrow": lambda: BeamDecoder(2, 3.0),
}


def random_log_probs(num_steps, num_labels, seed, peakedness=1.0):
    logits = np.random.default_rng(seed).normal(0, peakedness, (num_steps, num_labels))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def said(path):
    return tuple(label for label, _ in itertools.groupby(path) if label != BLANK)


def brute_force(log_probs):
    """Return the probability of everything that can be said, over all paths."""
    num_steps, num_labels = log_probs.shape
    probabilities = {}
    for path in itertools.product(range(num_labels), repeat=num_steps):
        log_prob = sum(float(log_probs[t, label]) for t, label in enumerate(path))
        probabilities[said(path)] = probabilities.get(said(path), 0.0) + math.exp(log_prob)
    return probabilities


def labels_of(decoder):
    return tuple(peak.label for peak in decoder.peaks)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(("num_steps", "num_labels"), [(1, 2), (4, 2), (5, 3), (6, 3), (5, 4)])
def test_a_wide_beam_finds_the_most_probable_of_all(num_steps, num_labels, seed):
    log_probs = random_log_probs(num_steps, num_labels, seed)
    probabilities = brute_force(log_probs)
    decoder = BeamDecoder(10**6, math.inf)
    decoder.feed(log_probs)
    best = max(probabilities, key=probabilities.__getitem__)
    assert probabilities[labels_of(decoder)] == pytest.approx(probabilities[best], rel=1e-9)
    assert decoder.log_prob == pytest.approx(math.log(probabilities[best]), abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_greedy_says_what_the_best_path_says(seed):
    log_probs = random_log_probs(30, 4, seed)
    path = log_probs.argmax(axis=1).tolist()
    decoder = GreedyDecoder()
    decoder.feed(log_probs)
    assert labels_of(decoder) == said(path)
    for label, step in decoder.peaks:
        assert path[step] == label
        assert step == 0 or path[step - 1] != label


def test_a_beam_counts_all_paths_together_where_greedy_counts_one():
    log_probs = np.log(np.array([[0.4, 0.35, 0.25], [0.4, 0.35, 0.25]], np.float32))
    greedy, beam = GreedyDecoder(), BeamDecoder()
    greedy.feed(log_probs)
    beam.feed(log_probs)
    assert greedy.peaks == []
    assert labels_of(beam) == (1,)  # blank 1, 1 blank, 1 1


@pytest.mark.parametrize("name", DECODERS)
def test_a_repetition_needs_a_blank_between(name):
    steps = np.full((7, 3), -20.0, np.float32)
    for t, label in enumerate([1, 1, 0, 1, 2, 2, 0]):
        steps[t, label] = 0
    decoder = DECODERS[name]()
    decoder.feed(steps)
    assert decoder.peaks == [Peak(1, 0), Peak(1, 3), Peak(2, 4)]


@pytest.mark.parametrize("name", DECODERS)
@given(cuts=st.lists(st.integers(0, 60), max_size=8), seed=st.integers(0, 20))
def test_any_pieces_say_the_same(name, cuts, seed):
    log_probs = random_log_probs(60, 5, seed, 3.0)
    whole = DECODERS[name]()
    whole.feed(log_probs)
    decoder = DECODERS[name]()
    for a, b in itertools.pairwise([0, *sorted(cuts), 60]):
        decoder.feed(log_probs[a:b])
    assert decoder.peaks == whole.peaks


def test_settling_changes_nothing_but_memory(monkeypatch):
    log_probs = random_log_probs(400, 5, 1, 3.0)
    certain = np.arange(400) % 20 < 15  # blank, as between words
    log_probs[certain] = [0, -30, -30, -30, -30]
    settling = BeamDecoder(4, 3.0)
    settling.feed(log_probs)
    monkeypatch.setattr(BeamDecoder, "_settle", lambda self: None)
    plain = BeamDecoder(4, 3.0)
    plain.feed(log_probs)
    assert settling.peaks == plain.peaks
    assert settling.log_prob == plain.log_prob
    assert max(map(len, settling._beams)) < max(map(len, plain._beams)) / 2


def test_a_beam_size_below_one_is_refused():
    with pytest.raises(ValueError, match="beam_size is 0, expected at least 1"):
        BeamDecoder(0)
