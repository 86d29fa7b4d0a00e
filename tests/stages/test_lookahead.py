"""Networks that read later steps, as streams."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numlstm
from numlstm import spec
from numlstm.spec import Network
from tests.cases import NETWORKS, NOT_CAUSAL, assert_same_bits, random_input, random_weights

SEQ_LEN = 23
LOOKAHEADS = (0, 1, 3, SEQ_LEN, 2 * SEQ_LEN)


def streamed(stream: numlstm.LookaheadStream, xs: np.ndarray) -> np.ndarray:
    """Return all answers, one step at a time."""
    ys = [stream.step(x) for x in xs]
    return np.concatenate([np.stack([y for y in ys if y is not None]), stream.finish()])


def all_of(stream: numlstm.LookaheadStream, xs: np.ndarray) -> np.ndarray:
    return np.concatenate([stream.run(xs), stream.finish()])


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_a_lookahead_to_the_end_is_exact_bit_for_bit(name):
    model = numlstm.Model(random_weights(NOT_CAUSAL[name]))
    for seq_len in (1, 2, SEQ_LEN):
        xs = random_input(model.network, seq_len)
        if name == "conv_valid" and seq_len < 4:
            continue
        for lookahead in (seq_len, 3 * seq_len):
            assert_same_bits(all_of(model.stream(lookahead=lookahead), xs), model.run(xs), name)


@pytest.mark.parametrize("name", NOT_CAUSAL)
@given(cuts=st.lists(st.integers(0, 9), max_size=6), lookahead=st.sampled_from((0, 1, 3)))
def test_any_chunks_give_the_same_bits(name, cuts, lookahead):
    model = numlstm.Model(random_weights(NOT_CAUSAL[name]))
    xs = random_input(model.network, SEQ_LEN)
    stream, parts, at = model.stream(lookahead=lookahead), [], 0
    for size in [*cuts, SEQ_LEN]:
        parts.append(stream.run(xs[at : at + size]))
        at += size
    parts.append(stream.finish())
    assert_same_bits(np.concatenate(parts), all_of(model.stream(lookahead=lookahead), xs))


@pytest.mark.parametrize("lookahead", LOOKAHEADS)
def test_an_answer_is_the_run_of_what_its_window_shows(lookahead):
    network = NOT_CAUSAL["lstm"]
    model = numlstm.Model(random_weights(network))
    xs = random_input(network, SEQ_LEN)
    ys = all_of(model.stream(lookahead=lookahead), xs)
    for t in range(SEQ_LEN):
        assert_same_bits(ys[t], model.run(xs[: t + lookahead + 1])[t], f"step {t}")


@pytest.mark.parametrize("lookahead", LOOKAHEADS)
@pytest.mark.parametrize(
    ("name", "latency"), [("lstm", 1), ("stacked", 2), ("skip", 2), ("crf", 2)]
)
def test_latency_is_how_late_the_answers_come(name, latency, lookahead):
    model = numlstm.Model(random_weights(NOT_CAUSAL[name]))
    stream = model.stream(lookahead=lookahead)
    assert stream.latency == latency * lookahead
    for t, x in enumerate(random_input(model.network, SEQ_LEN)):
        assert (stream.step(x) is not None) == (t >= stream.latency)
    assert len(stream.finish()) == min(stream.latency, SEQ_LEN)


@pytest.mark.parametrize(
    ("name", "latency"),
    [("last", None), ("pooled", None), ("repeat", None), ("attention", None), ("reverse", None),
     ("conv_same", 1), ("conv_valid", 3), ("pool_padded", 3), ("pool_valid", 3), ("flat", None)],
)  # fmt: skip
def test_latency_of_layers_with_their_own(name, latency):
    model = numlstm.Model(random_weights(NOT_CAUSAL[name]))
    stream = model.stream(lookahead=5)
    assert stream.latency == latency
    late = [stream.step(x) is None for x in random_input(model.network, SEQ_LEN)]
    assert late == [t < (SEQ_LEN if latency is None else latency) for t in range(SEQ_LEN)]


def test_a_convolution_needs_no_lookahead():
    for name in ("conv_same", "conv_valid", "pool_halves", "pool_padded", "pool_valid"):
        model = numlstm.Model(random_weights(NOT_CAUSAL[name]))
        xs = random_input(model.network, SEQ_LEN)
        assert_same_bits(streamed(model.stream(lookahead=0), xs), model.run(xs))


WINDOWS: dict[str, tuple[tuple[spec.Layer, ...], int, int]] = {
    "valid": ((spec.Conv1d(3, 4, 5, padding=(0, 0)), spec.GRU(4, 2)), 4, 1),
    "valid, dilated": ((spec.GRU(3, 4), spec.Conv1d(4, 2, 3, dilation=3, padding=(2, 0))), 4, 1),
    "valid twice": (
        (spec.Conv1d(3, 4, 3, padding=(0, 0)), spec.Pool1d(4, 4, "mean", padding=(0, 0))), 5, 1,
    ),
    "halves": ((spec.Pool1d(3, 2, stride=2, padding=(0, 0)), spec.LSTM(3, 4)), 1, 2),
    "strides": (
        (
            spec.Conv1d(3, 4, 3, stride=2, padding=(1, 0)),
            spec.GRU(4, 3),
            spec.Conv1d(3, 4, 3, stride=3, padding=(0, 0), activation="relu"),
            spec.Conv1d(4, 2, 2, stride=1),
        ), 1 + 2 * 2, 6,
    ),
    "longer strides": ((spec.Conv1d(3, 4, 2, stride=5, padding=(0, 0)),), 1, 5),
    "to the end": ((spec.Pool1d(3, 2, stride=2, padding=(0, 0), ceil_mode=True),), 1, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", WINDOWS)
def test_what_reads_no_later_step_is_a_stream_without_a_lookahead(name):
    layers, latency, stride = WINDOWS[name]
    model = numlstm.Model(random_weights(Network(layers)))
    xs = random_input(model.network, SEQ_LEN)
    stream = model.stream()
    assert isinstance(stream, numlstm.LookaheadStream)
    assert stream.latency == latency
    ys = [stream.step(x) for x in xs]
    answered = [t >= latency and (t - latency) % stride == 0 for t in range(SEQ_LEN)]
    assert [y is not None for y in ys] == answered
    assert_same_bits(streamed(model.stream(), xs), model.run(xs))
    with pytest.raises(ValueError, match=r"does not answer every step: use model\.run_batch"):
        model.pool(2)
    assert "streams that do not answer every step" in model.info()


def test_a_stride_before_two_directions_delays_by_its_steps():
    layers = (
        spec.Conv1d(3, 4, 3, stride=2, padding=(1, 1)),
        spec.GRU(4, 3, direction="bidirectional"),
    )
    model = numlstm.Model(random_weights(Network(layers)))
    stream = model.stream(lookahead=2)
    assert stream.latency == 1 + 2 * 2
    late = [stream.step(x) is None for x in random_input(model.network, SEQ_LEN)]
    assert late == [t < 5 or t % 2 == 0 for t in range(SEQ_LEN)]
    with pytest.raises(ValueError, match=r"reads later steps: use model\.run"):
        model.stream()


@pytest.mark.parametrize("name", ["tokens", "graph", "masked"])
def test_a_causal_network_answers_at_once(name):
    model = numlstm.Model(random_weights(NETWORKS[name]))
    xs = random_input(model.network, SEQ_LEN)
    xs = xs[xs != 0] if name == "masked" else xs
    stream = model.stream(lookahead=4)
    assert stream.latency == 0
    assert_same_bits(np.stack([stream.step(x) for x in xs]), model.run(xs))
    assert stream.finish().shape == (0, model.output_size)


def test_masked_steps_are_left_out():
    network = Network(
        (spec.Embedding(9, 5, mask_zero=True), spec.LSTM(5, 7, direction="bidirectional"))
    )
    model = numlstm.Model(random_weights(network))
    xs = np.array([0, 4, 0, 2, 8, 0, 1], np.int32)
    found = streamed(model.stream(lookahead=2), xs)
    assert_same_bits(found, all_of(model.stream(lookahead=2), xs[xs > 0]))


# Ends, copies, refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_an_empty_sequence_has_no_answers(name):
    model = numlstm.Model(random_weights(NOT_CAUSAL[name]))
    stream = model.stream(lookahead=2)
    assert stream.finish().shape == (0, model.output_size)
    stream.reset()
    assert_same_bits(all_of(stream, random_input(model.network, 9)), all_of(
        model.stream(lookahead=2), random_input(model.network, 9)))  # fmt: skip


def test_a_finished_stream_says_so_until_it_is_reset():
    model = numlstm.Model(random_weights(NOT_CAUSAL["lstm"]))
    xs = random_input(model.network, 9)
    stream = model.stream(lookahead=2)
    expected = all_of(stream, xs)
    for call in (lambda: stream.step(xs[0]), lambda: stream.run(xs), stream.finish):
        with pytest.raises(ValueError, match=r"finished; reset\(\) begins a new"):
            call()
    stream.reset()
    assert_same_bits(all_of(stream, xs), expected)


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_copies_go_on_alone(name):
    model = numlstm.Model(random_weights(NOT_CAUSAL[name]))
    xs, others = random_input(model.network, SEQ_LEN), random_input(model.network, 9, 1)
    stream = model.stream(lookahead=2)
    stream.run(xs[:11])
    makers = (copy.copy, copy.deepcopy, numlstm.LookaheadStream.copy)
    for make in (*makers, lambda stream: pickle.loads(pickle.dumps(stream))):
        twin = make(stream)
        twin.run(others)
        twin.finish()
        assert_same_bits(all_of(make(stream), xs[11:]), all_of(make(stream), xs[11:]))
    expected = all_of(model.stream(lookahead=2), xs)
    rest = all_of(stream, xs[11:])
    assert_same_bits(rest, expected[len(expected) - len(rest) :])


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_a_stream_that_refused_an_input_is_as_it_was(name):
    model = numlstm.Model(random_weights(NOT_CAUSAL[name]))
    xs = random_input(model.network, SEQ_LEN)
    stream = model.stream(lookahead=2)
    before = stream.run(xs[:11])
    bad = xs[:4].copy()
    bad[2] = 9 if model.vocab_size else np.nan
    with pytest.raises(ValueError, match=r"xs\[2"):
        stream.run(bad)
    with pytest.raises((TypeError, ValueError), match=r"has shape .*99|expected integer token ids"):
        stream.step(np.zeros(99))
    found = np.concatenate([before, all_of(stream, xs[11:])])
    assert_same_bits(found, all_of(model.stream(lookahead=2), xs))


def test_an_overflow_in_a_late_layer_leaves_the_stream_as_it_was():
    network = Network(
        (
            spec.GRU(2, 3, direction="bidirectional"),
            spec.Linear(6, 2, activation="exp"),
            spec.Linear(2, 2, activation="exp"),
        )
    )
    weights = random_weights(network, scale=3.0)
    model = numlstm.Model(weights)
    tensors = dict(weights.tensors)
    tensors["layers.1.weight"] = tensors["layers.1.weight"] * np.float32(40)
    model = numlstm.Model(numlstm.Weights(network, tensors))
    xs = random_input(network, 40) * np.float32(0.01)
    stream = model.stream(lookahead=1)
    first = stream.run(xs[:10])
    with pytest.raises(ValueError, match="overflow"):
        stream.run(random_input(network, 40) * np.float32(50))
    found = np.concatenate([first, all_of(stream, xs[10:])])
    assert_same_bits(found, all_of(model.stream(lookahead=1), xs))


def test_lookaheads_that_are_none_are_refused():
    model = numlstm.Model(random_weights(NOT_CAUSAL["lstm"]))
    for bad in (-1, True):
        with pytest.raises(ValueError, match=r"lookahead is .*, expected 0 steps or more"):
            model.stream(lookahead=bad)
    with pytest.raises(TypeError, match="'float' object cannot be interpreted"):
        model.stream(lookahead=1.5)
    with pytest.raises(ValueError, match=r"reads later steps: use model.run\(xs\)"):
        model.stream()


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_a_pickled_stream_goes_on_with_the_rows_that_wait(name):
    model = numlstm.Model(random_weights(NOT_CAUSAL[name]))
    xs = random_input(model.network, SEQ_LEN)
    stream = model.stream(lookahead=2)
    stream.run(xs[:3])
    twin = pickle.loads(pickle.dumps(stream))
    for part in (xs[3:4], xs[4:]):
        assert_same_bits(twin.run(part), stream.run(part))
    assert_same_bits(twin.finish(), stream.finish())


def test_what_is_no_state_of_it_is_refused_and_nothing_is_set():
    stream = numlstm.Model(random_weights(NOT_CAUSAL["lstm"])).stream(lookahead=2)
    xs = random_input(stream.model.network, SEQ_LEN)
    stream.run(xs[:5])
    flows, waiting, finished = stream.kept
    (forward, *others), *rest = flows[0], *flows[1:]
    for wrong in (
        None,
        (),
        (flows, waiting),
        ([], waiting, finished),
        ([(np.full_like(forward, np.nan), *others), *rest], waiting, finished),
        ([(forward[1:], *others), *rest], waiting, finished),
    ):
        with pytest.raises(ValueError, match="kept is not of a stream of this model"):
            stream.kept = wrong
    expected = all_of(stream.model.stream(lookahead=2), xs)
    assert_same_bits(all_of(stream, xs[5:]), expected[3:])


def parts_of(value: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Yield all that is within lists and tuples, and where it is."""
    yield path, value
    if isinstance(value, list | tuple):
        for n, part in enumerate(value):
            yield from parts_of(part, (*path, n))


def with_part(value: Any, path: tuple[int, ...], new: Any) -> Any:
    if not path:
        return new
    parts = list(value)
    parts[path[0]] = with_part(parts[path[0]], path[1:], new)
    return type(value)(parts)


def others_than(part: Any) -> list[Any]:
    """Return what may be found in its place."""
    others = [None, -7, 10**9, "x", [], np.zeros(3), np.zeros((2, 2), np.float32)]
    if isinstance(part, np.ndarray):
        others += [part[:-1], part[None], -part - 1, part + np.array(10**6, part.dtype)]
        others += [np.full(part.shape, np.nan, np.float32), np.concatenate([part, part])]
    return others


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_whatever_is_set_as_kept_is_refused_or_goes_on(name):
    model = numlstm.Model(random_weights(NOT_CAUSAL[name]))
    xs = random_input(model.network, SEQ_LEN)
    stream = model.stream(lookahead=2)
    stream.run(xs[:6])
    kept = stream.kept
    expected = all_of(stream.copy(), xs[6:])
    for path, part in parts_of(kept):
        for other in others_than(part):
            try:
                stream.kept = with_part(kept, path, other)
            except ValueError:
                assert_same_bits(all_of(stream.copy(), xs[6:]), expected)
                continue
            assert np.isfinite(all_of(stream, xs[6:])).all()
            stream.kept = kept


@pytest.mark.parametrize("name", [*NOT_CAUSAL, "padded"])
def test_a_stream_that_has_read_nothing_ends_with_nothing(name):
    padded = Network((spec.Conv1d(3, 4, 3, dilation=4, padding=(3, 8)), spec.Pooling(4, "last")))
    model = numlstm.Model(random_weights((NOT_CAUSAL | {"padded": padded})[name]))
    xs = random_input(model.network, 0)
    for lookahead in (0, 9):
        assert_same_bits(all_of(model.stream(lookahead=lookahead), xs), model.run(xs))
