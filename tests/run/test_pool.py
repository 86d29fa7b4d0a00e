"""Pools and batches: the bits of a lone stream, whatever steps together; nothing lost by errors."""

import copy
import multiprocessing
import os
import pickle
import time
from _thread import start_new_thread

import numpy as np
import pytest

import numlstm
from numlstm.model import Model
from numlstm.program.lower import POOL_ROWS
from numlstm.run import pool as pool_module
from numlstm.run import threads
from numlstm.spec import GRU, LSTM, Embedding, Linear, Network, Weights
from tests.cases import NETWORKS, assert_same_bits, random_input, random_weights
from tests.conftest import PATIENCE
from tests.outputs import ROUNDED

POOLED = {
    name: network
    for name, network in (NETWORKS | ROUNDED).items()
    if network.is_causal and network.memory_size is None
}
TOKENS = Network((Embedding(11, 5), LSTM(5, 17), Linear(17, 3)))
VECTORS = Network((GRU(6, 20), Linear(20, 4)))


def model_of(network, **options):
    return Model(random_weights(network), **options)


@pytest.fixture
def pool():
    return model_of(VECTORS).pool(5)


@pytest.mark.parametrize("network", POOLED.values(), ids=POOLED)
def test_each_stream_gets_the_bits_of_a_lone_one(network):
    model = model_of(network)
    rng = np.random.default_rng(0)
    num_streams, num_steps = POOL_ROWS + 7, 9
    pool = model.pool(num_streams + 2)
    slots = np.array([pool.open() for _ in range(num_streams)])
    xs = [random_input(network, num_steps, seed) for seed in range(num_streams)]
    ys = [[] for _ in xs]
    for _ in range(14):
        some = rng.permutation(num_streams)[: rng.integers(1, num_streams + 1)]
        some = [n for n in some if len(ys[n]) < num_steps]
        found = pool.step(slots[some], np.array([xs[n][len(ys[n])] for n in some]))
        for n, y in zip(some, found, strict=True):
            ys[n].append(y)
    assert sum(len(rows) for rows in ys) > num_streams
    for x, rows in zip(xs, ys, strict=True):
        if rows:
            assert_same_bits(np.array(rows), model.run(x)[: len(rows)])


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("network", [TOKENS, VECTORS], ids=["tokens", "vectors"])
def test_steps_in_one_call_are_steps(network, num_threads, monkeypatch):
    monkeypatch.setattr(pool_module, "THREAD_WORK", 1)
    model = model_of(network, num_threads=num_threads)
    num_streams = 2 * POOL_ROWS + 5
    pools = [model.pool(num_streams) for _ in range(2)]
    slots = [pool.open() for _ in range(num_streams) for pool in pools][::2]
    xs = np.stack([random_input(network, 8, seed) for seed in range(num_streams)], 1)
    together = pools[0].run(slots, xs)
    assert_same_bits(together, np.stack([pools[1].step(slots, x) for x in xs]))
    assert_same_bits(together[:, 3], model.run(xs[:, 3]))


def test_a_call_longer_than_a_compiled_one(monkeypatch):
    model = model_of(VECTORS)
    monkeypatch.setitem(vars(model._compiled), "rows_per_call", 4)
    pool = model.pool(3)
    slots = [pool.open() for _ in range(3)]
    xs = np.stack([random_input(VECTORS, 50, seed) for seed in range(3)], 1)
    assert_same_bits(pool.run(slots, xs)[:, 2], model.run(xs[:, 2]))


def test_slots_are_opened_and_closed_at_any_time(pool):
    slots = [pool.open() for _ in range(5)]
    assert sorted(slots) == list(range(5))
    assert len(pool) == 5
    with pytest.raises(ValueError, match="all 5 slots of the pool are open; close one first"):
        pool.open()
    xs = random_input(VECTORS, 5)
    first = pool.step(slots, xs)
    pool.close(slots[2])
    with pytest.raises(ValueError, match=f"slot {slots[2]} is not open"):
        pool.step(slots, xs)
    assert pool.open() == slots[2]
    assert_same_bits(pool.step([slots[2]], xs[2:3])[0], first[2])  # it began anew
    assert repr(pool).endswith("5 of 5 streams open>")


def test_streams_move_in_and_out(pool):
    xs = random_input(VECTORS, 9)
    stream = pool.model.stream()
    ys = [stream.run(xs[:3])]
    slot = pool.open(stream)
    ys += [pool.step([slot], x[None]) for x in xs[3:6]]
    ys.append(pool.stream(slot).run(xs[6:]))
    assert_same_bits(np.concatenate(ys), pool.model.run(xs))
    assert_same_bits(pool.step([slot], xs[6:7]), ys[-1][:1])  # and was not moved by its twin
    other = Model(random_weights(VECTORS, seed=1))
    with pytest.raises(ValueError, match="the stream is another model's"):
        pool.open(other.stream())
    unpickled = pickle.loads(pickle.dumps(pool.stream(slot)))  # it brings its model with it
    assert unpickled.model is not pool.model
    assert_same_bits(pool.step([pool.open(unpickled)], xs[7:8]), ys[-1][1:2])


@pytest.mark.parametrize(
    ("slots", "xs", "error", "message"),
    [
        ([0, 0], np.zeros((2, 6)), ValueError, "slot 0 comes twice"),
        ([0, 5], np.zeros((2, 6)), ValueError, "slot 5 is not open"),
        ([-1], np.zeros((1, 6)), ValueError, "slot -1 is not open"),
        ([4], np.zeros((1, 6)), ValueError, "slot 4 is not open"),
        ([2**62], np.zeros((1, 6)), ValueError, "slot 4611686018427387904 is not open"),
        ([0.0], np.zeros((1, 6)), TypeError, "slots are float64 of shape"),
        ([True], np.zeros((1, 6)), TypeError, "slots are bool of shape"),
        (0, np.zeros((1, 6)), TypeError, "slots are int64 of shape"),
        ([[0]], np.zeros((1, 6)), TypeError, "slots are int64 of shape"),
        (["a"], np.zeros((1, 6)), TypeError, "slots are <U1 of shape"),
        ([0], np.zeros((2, 6)), ValueError, r"xs has shape \(2, 6\), model expects \(1, 6\)"),
        ([0], np.zeros(6), ValueError, "xs has shape"),
        ([0], np.zeros((1, 7)), ValueError, "xs has shape"),
        ([0], [["a"] * 6], TypeError, "xs is of <U1, expected float32"),
        ([0, 1], np.full((2, 6), np.nan), ValueError, r"xs\[0, 0\] is nan, expected finite"),
    ],
)
def test_a_refused_step_changes_nothing(pool, slots, xs, error, message):
    own = [pool.open() for _ in range(4)]
    warm = random_input(VECTORS, 4)
    pool.step(own, warm)
    before = pool._kept[own].copy()
    with pytest.raises(error, match=message):
        pool.step(slots, xs)
    assert_same_bits(pool._kept[own], before)
    again = pool.step(own, warm)
    assert_same_bits(again[1], pool.model.run(np.stack([warm[1], warm[1]]))[1])


def test_a_number_that_is_not_finite_is_named_in_later_steps():
    pool = model_of(VECTORS).pool(2)
    slots = [pool.open(), pool.open()]
    xs = np.zeros((5, 2, 6), np.float32)
    xs[3, 1, 4] = np.nan
    with pytest.raises(ValueError, match=r"xs\[3, 1, 4\] is nan, expected finite numbers"):
        pool.run(slots, xs)


@pytest.mark.parametrize("bad", [3, POOL_ROWS + 3])
def test_an_error_in_one_stream_stops_all(bad):
    pool = model_of(VECTORS).pool(2 * POOL_ROWS)
    slots = [pool.open() for _ in range(2 * POOL_ROWS)]
    xs = random_input(VECTORS, 2 * POOL_ROWS)
    pool.step(slots, xs)
    before = pool._kept[slots].copy()
    xs[bad, 1] = np.inf
    with pytest.raises(ValueError, match=rf"xs\[{bad}, 1\] is inf, expected finite numbers"):
        pool.step(slots, xs)
    assert_same_bits(pool._kept[slots], before)


def test_an_overflow_names_its_slot():
    weights = random_weights(Network((Linear(2, 2),)))
    doubled = {name: 4 * np.sign(tensor) for name, tensor in weights.tensors.items()}
    pool = Model(Weights(weights.network, doubled)).pool(4)
    slots = [pool.open() for _ in range(4)]
    xs = np.ones((4, 2), np.float32)
    xs[2] = 3e38 * np.sign(doubled["layers.0.weight"][0])
    with pytest.raises(ValueError, match=f"xs made the network overflow in slot {slots[2]}"):
        pool.step(slots, xs)


def test_tokens_are_checked():
    pool = model_of(TOKENS).pool(2)
    slots = [pool.open(), pool.open()]
    for ids, error, message in [
        ([1, 11], ValueError, r"token id 11 at xs\[1\] is outside 0 <= id < 11"),
        ([[1, 2]], ValueError, r"xs has shape \(1, 2\), model expects \(2,\) token ids"),
        ([1.0, 2.0], TypeError, "xs is of float64, expected integer token ids"),
    ]:
        with pytest.raises(error, match=message):
            pool.step(slots, ids)
    assert pool.step(slots, [1, 2]).shape == (2, 3)


def test_out_is_written_or_refused(pool):
    slots = [pool.open(), pool.open()]
    xs = random_input(VECTORS, 2)
    out = np.empty((2, 4), np.float32)
    assert pool.step(slots, xs, out) is out
    assert_same_bits(out[0], pool.model.run(xs[:1])[0])
    for wrong in (np.empty((2, 3), np.float32), np.empty((2, 4)), [0]):
        with pytest.raises((TypeError, ValueError), match="out"):
            pool.step(slots, xs, wrong)
    special = np.empty((2, 4), np.float32).view(np.memmap)
    assert pool.step(slots, xs, special) is special


def test_no_streams_and_no_steps(pool):
    assert pool.step([], np.zeros((0, 6))).shape == (0, 4)
    assert pool.run([], np.zeros((3, 0, 6))).shape == (3, 0, 4)
    slot = pool.open()
    assert pool.run([slot], np.zeros((0, 1, 6))).shape == (0, 1, 4)


@pytest.mark.parametrize("capacity", [0, -1, True])
def test_a_capacity_is_a_positive_number(capacity):
    with pytest.raises(ValueError, match=f"capacity is {capacity}, expected 1 stream or more"):
        model_of(VECTORS).pool(capacity)


@pytest.mark.parametrize("capacity", [1.5, "1", None])
def test_a_capacity_is_an_integer(capacity):
    with pytest.raises(TypeError, match=f"'{type(capacity).__name__}' object cannot be"):
        model_of(VECTORS).pool(capacity)


def test_networks_without_pools_say_what_to_do():
    both = model_of(Network((LSTM(3, 4, direction="bidirectional"),)))
    with pytest.raises(ValueError, match=r"reads later steps: use model\.run_batch"):
        both.pool(3)
    attends = model_of(Network((numlstm.Attention(4, 4),)))
    with pytest.raises(ValueError, match="attends to a memory, which only lone streams have"):
        attends.pool(3)
    with pytest.raises(ValueError, match="attends to a memory, which only lone streams have"):
        attends.run_batch([np.zeros((2, 4))])


def test_a_pool_takes_memory_for_the_streams_it_has():
    model = model_of(Network((LSTM(8, 128),)))
    pool = model.pool(1_000_000)  # a gigabyte, if it were touched
    slot = pool.open()
    xs = random_input(model.network, 1)
    assert_same_bits(pool.step([slot], xs), model.run(xs))
    assert pool._kept.nbytes > 1e9


# Batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_batch_gives_what_each_sequence_gives(network, num_threads, monkeypatch):
    for module in ("run.batch", "run.pool", "stages.directions"):
        monkeypatch.setattr(f"numlstm.{module}.THREAD_WORK", 1)
    model = model_of(network, num_threads=num_threads)
    lengths = np.random.default_rng(1).integers(1, 40, POOL_ROWS + 9)
    xss = [random_input(network, length, seed) for seed, length in enumerate(lengths)]
    xss[4] = xss[4][:0]
    yss = model.run_batch(xss)
    assert len(yss) == len(xss)
    for xs, ys in zip(xss, yss, strict=True):
        assert_same_bits(ys, model.run(xs))


def test_batches_of_none_and_of_one():
    model = model_of(VECTORS)
    assert model.run_batch([]) == []
    xs = random_input(VECTORS, 5)
    (ys,) = model.run_batch([xs])
    assert_same_bits(ys, model.run(xs))
    assert [ys.shape for ys in model.run_batch([xs[:0], xs[:0]])] == [(0, 4), (0, 4)]


def test_a_batch_names_the_sequence_that_is_wrong():
    xs = random_input(VECTORS, 5)
    with pytest.raises(ValueError, match=r"xss\[1\] has shape \(5, 5\)"):
        model_of(VECTORS).run_batch([xs, xs[:, :5]])
    with pytest.raises(ValueError, match=r"xss\[1\]\[3, 2\] is nan, expected finite numbers"):
        model_of(VECTORS).run_batch([xs, np.where(np.arange(30).reshape(5, 6) == 20, np.nan, xs)])
    with pytest.raises(ValueError, match=r"token id 11 at xss\[1\]\[0\] is outside"):
        model_of(TOKENS).run_batch([[1], [11]])


# Threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_threads", [0, -2, True])
def test_a_number_of_threads_is_a_positive_number(num_threads):
    with pytest.raises(ValueError, match=f"num_threads is {num_threads}, expected 1 or more"):
        model_of(VECTORS, num_threads=num_threads)


@pytest.mark.parametrize("num_threads", [1.5, "2"])
def test_a_number_of_threads_is_an_integer(num_threads):
    with pytest.raises(TypeError, match=f"'{type(num_threads).__name__}' object cannot be"):
        model_of(VECTORS, num_threads=num_threads)


def test_threads_end_with_their_work(monkeypatch):
    monkeypatch.setattr(pool_module, "THREAD_WORK", 1)
    model = model_of(VECTORS, num_threads=2)
    pool = model.pool(64)
    slots = [pool.open() for _ in range(64)]
    began, ended = [], []

    def start(function, arguments):
        began.append(arguments)
        start_new_thread(lambda: ended.append(function(*arguments)), ())

    monkeypatch.setattr(threads, "start_new_thread", start)
    pool.step(slots, random_input(VECTORS, 64))
    assert len(began) == 1
    until = time.monotonic() + PATIENCE
    while not ended and time.monotonic() < until:  # its last instructions
        time.sleep(0.001)
    assert ended


def test_small_work_stays_in_one_thread(monkeypatch):
    pool = model_of(VECTORS, num_threads=2).pool(64)
    slots = [pool.open() for _ in range(64)]
    monkeypatch.setattr(threads, "start_new_thread", lambda *_: pytest.fail("a thread began"))
    pool.step(slots, random_input(VECTORS, 64))


def test_an_error_in_another_thread_is_raised(monkeypatch):
    monkeypatch.setattr(pool_module, "THREAD_WORK", 1)
    pool = model_of(VECTORS, num_threads=2).pool(64)
    slots = [pool.open() for _ in range(64)]
    xs = random_input(VECTORS, 64)
    xs[60] = np.nan
    before = pool._kept.copy()
    with pytest.raises(ValueError, match="is nan, expected finite numbers"):
        pool.step(slots, xs)
    assert_same_bits(pool._kept[slots], before[slots])


def _step_in_child(pool, slots, xs, queue):
    queue.put(pool.step(slots, xs))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_keeps_its_pool(monkeypatch):
    monkeypatch.setattr(pool_module, "THREAD_WORK", 1)
    pool = model_of(VECTORS, num_threads=2).pool(64)
    slots = [pool.open() for _ in range(64)]
    xs = random_input(VECTORS, 64)
    twin = pool.model.pool(64)
    expected = twin.step([twin.open() for _ in range(64)], xs)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_step_in_child, args=(pool, slots, xs, queue))
    child.start()
    assert_same_bits(queue.get(timeout=PATIENCE), expected)
    child.join()
    assert_same_bits(pool.step(slots, xs), expected)


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_pool_is_not_copied(make):
    pool = model_of(NETWORKS["lstm_7"]).pool(2)
    with pytest.raises(TypeError, match=r"open_many\(states\) of another pool continues them"):
        make(pool)


def test_many_states_are_saved_and_continued_at_once():
    model = model_of(NETWORKS["tokens"])
    pool, xs = model.pool(5), random_input(NETWORKS["tokens"], 12)
    lone = [model.stream() for _ in range(3)]
    slots = [pool.open() for _ in lone]
    for n, stream in enumerate(lone):
        stream.run(xs[: 3 * n + 1])
        pool.run(slots[n : n + 1], xs[: 3 * n + 1, None])
    states = pool.save_states(slots)
    assert states == [stream.save_state() for stream in lone]  # the bytes are interchangeable
    assert pool.save_states([]) == []
    other = model.pool(4)
    first = other.open()
    opened = other.open_many(states)
    assert len({first, *opened}) == len(other) == 4
    assert other.save_states(opened) == states
    expected = np.stack([stream.run(xs) for stream in lone], axis=1)
    assert_same_bits(other.run(opened, np.repeat(xs[:, None], 3, 1)), expected)


def test_states_that_do_not_fit_open_nothing():
    model = model_of(NETWORKS["tokens"])
    pool = model.pool(2)
    good = model.stream().save_state()
    strange = model_of(NETWORKS["lstm_7"]).stream().save_state()
    refused = {
        "2 slots": [good] * 3,
        "state 1: the state is damaged": [good, good[:-4]],
        "state 0: the state is another model's": [strange, good],
    }
    for message, states in refused.items():
        with pytest.raises(ValueError, match=message):
            pool.open_many(states)
        assert len(pool) == 0
    with pytest.raises(TypeError, match="state 0: the state is str"):
        pool.open_many(["text"])
    with pytest.raises(ValueError, match="slot 0 is not open"):
        pool.save_states([0])
    assert pool.open_many([]) == []
    assert pool.open_many([good, good]) == [0, 1]


def test_what_is_kept_goes_where_it_came_from_or_to_a_stream(pool):
    slots = [pool.open(), pool.open(), pool.open()]
    xs = random_input(VECTORS, 3 * 4).reshape(4, 3, -1)
    pool.step(slots, xs[0])
    kept = pool.kept(slots)
    expected = pool.run(slots, xs[1:])
    pool.restore(slots, kept)
    assert_same_bits(pool.run(slots, xs[1:]), expected)
    stream = pool.model.stream()
    stream.kept = kept[1]
    assert_same_bits(stream.run(xs[1:, 1]), expected[:, 1])
    pool.restore(slots[:1], stream.kept[None])
    assert_same_bits(pool.kept(slots[:1])[0], stream.kept)


def test_a_reset_goes_back_to_the_initial_state_of_some(pool):
    slots = [pool.open(), pool.open()]
    xs = random_input(VECTORS, 2 * 3).reshape(3, 2, -1)
    pool.run(slots, xs[:2])
    before = pool.kept(slots)
    pool.reset(slots[1:])
    assert_same_bits(pool.kept(slots)[0], before[0])
    assert_same_bits(pool.step(slots, xs[2])[1], pool.model.run(xs[2:, 1])[0])


WRONG_KEPT = {
    "of fewer streams": lambda kept: kept[:1],
    "of one stream": lambda kept: kept[0],
    "of another network": lambda kept: kept[:, 1:],
    "with a NaN in the second": lambda kept: np.stack([kept[0], kept[1] * np.float32(np.nan)]),
    "in float64": lambda kept: kept.astype(np.float64),
}


@pytest.mark.parametrize("what", WRONG_KEPT)
def test_what_no_streams_kept_is_refused_and_nothing_moves(pool, what):
    slots = [pool.open(), pool.open()]
    pool.step(slots, random_input(VECTORS, 2))
    before = pool.kept(slots)
    with pytest.raises((TypeError, ValueError), match="kept"):
        pool.restore(slots, WRONG_KEPT[what](before))
    assert_same_bits(pool.kept(slots), before)


def test_slots_that_are_closed_keep_nothing(pool):
    slot = pool.open()
    kept = pool.kept([slot])
    pool.close(slot)
    for call in (pool.reset, pool.kept, lambda slots: pool.restore(slots, kept)):
        with pytest.raises(ValueError, match="not open"):
            call([slot])
