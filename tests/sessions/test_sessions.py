"""Sessions are streams by key, wherever they lie meanwhile."""

import threading

import numpy as np
import pytest

import numlstm
from numlstm import LSTM, Embedding, Linear, Network
from numlstm.sessions import (
    FolderStore,
    MemoryStore,
    RedisStore,
    Sessions,
    SQLiteStore,
    StepError,
    open_store,
)
from tests.cases import assert_same_bits, random_weights
from tests.services import redis_server

TOKENS = numlstm.Model(random_weights(Network((Embedding(30, 6), LSTM(6, 17), Linear(17, 5)))))
FRAMES = numlstm.Model(random_weights(Network((LSTM(3, 17), Linear(17, 5)))))


def redis_store(path, **options):
    return RedisStore(redis_server(), prefix=f"{path}:", **options)


STORES = {
    "memory": lambda path, **options: MemoryStore(**options),
    "folder": lambda path, **options: FolderStore(path / "folder", **options),
    "sqlite": lambda path, **options: SQLiteStore(path / "sessions.db", **options),
    "redis": redis_store,
}


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    store = STORES[request.param](tmp_path)
    yield store
    store.close()


def rows(model, random, count):
    if model.vocab_size is not None:
        return random.integers(0, model.vocab_size, count)
    return random.standard_normal((count, model.input_size), np.float32)


@pytest.mark.parametrize("model", [TOKENS, FRAMES], ids=["tokens", "frames"])
def test_sessions_that_leave_the_pool_come_back_to_the_bits_of_a_stream(model, store):
    random = np.random.default_rng(0)
    sessions, streams = Sessions(model, store, capacity=7), {}
    for turn in range(60):
        keys = [f"key {n}" for n in random.choice(25, 5, replace=False)]
        xss = [rows(model, random, random.integers(0, 4)) for _ in keys]
        yss = sessions.run(keys, xss, durable=turn % 2 == 0)
        for key, xs, ys in zip(keys, xss, yss, strict=True):
            assert_same_bits(ys, streams.setdefault(key, model.stream()).run(xs))
        assert len(sessions) <= 7
    assert all(sessions.num_steps(key) == stream.num_steps for key, stream in streams.items())
    sessions.close()
    again = Sessions(model, store, capacity=25)
    xs = rows(model, random, len(streams))
    expected = [stream.step(x) for stream, x in zip(streams.values(), xs, strict=True)]
    assert_same_bits(again.step(list(streams), xs), np.stack(expected))


def test_a_call_that_is_repeated_is_answered_again_and_not_taken_again(store):
    sessions, stream = Sessions(FRAMES, store, capacity=2), FRAMES.stream()
    xs = rows(FRAMES, np.random.default_rng(1), 5)
    first = sessions.run(["a"], [xs[:3]], at=[0])[0]
    sessions.step(["b", "c"], xs[:2])  # "a" leaves the pool
    assert "a" in sessions
    assert_same_bits(sessions.run(["a"], [xs[:3]], at=[0])[0], first)
    assert sessions.num_steps("a") == 3
    assert_same_bits(
        np.concatenate([first, sessions.run(["a"], [xs[3:]], at=[3])[0]]), stream.run(xs)
    )
    assert sessions.run(["a"], [xs[3:]], at=[3])[0].shape == (2, 5)  # again
    with pytest.raises(StepError, match="not 3: the call before had other inputs"):
        sessions.run(["a"], [xs[:2]], at=[3])
    for at, num_rows in ((0, 1), (2, 1), (2, 2), (6, 1)):
        with pytest.raises(StepError, match=f"session 'a' has taken 5 steps, not {at}"):
            sessions.run(["a"], [xs[:num_rows]], at=[at])
    assert sessions.num_steps("a") == 5


def test_an_error_leaves_every_session_as_it_was(store):
    sessions, stream = Sessions(FRAMES, store, capacity=3), FRAMES.stream()
    xs = rows(FRAMES, np.random.default_rng(2), 4)
    sessions.step(["a"], xs[:1], notes=[b"one"])
    stream.step(xs[0])
    bad = xs[1:3].copy()
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match="is nan, expected finite numbers"):
        sessions.run(["a", "new"], [xs[1:2], bad], notes=[b"two", b"two"])
    assert "new" not in sessions
    assert (sessions.num_steps("a"), sessions.note("a"), len(sessions)) == (1, b"one", 1)
    assert_same_bits(sessions.step(["a"], xs[1:2])[0], stream.step(xs[1]))


def test_a_store_that_refuses_leaves_every_session_as_it_was():
    class Full(MemoryStore):
        def set_many(self, records, *, durable=False):
            raise OSError("no space left")

    sessions, stream = Sessions(FRAMES, Full(), capacity=2), FRAMES.stream()
    xs = rows(FRAMES, np.random.default_rng(3), 3)
    sessions.step(["a"], xs[:1])
    with pytest.raises(OSError, match="no space left"):
        sessions.step(["a", "b"], xs[1:], durable=True)
    with pytest.raises(OSError, match="no space left"):
        sessions.step(["b", "c"], xs[1:])
    assert (sessions.num_steps("a"), "b" in sessions, len(sessions)) == (1, False, 1)
    stream.step(xs[0])
    assert_same_bits(sessions.step(["a"], xs[2:])[0], stream.step(xs[2]))


def test_a_store_that_fails_half_way_does_not_run_ahead():
    class Half(MemoryStore):
        fails = True

        def set_many(self, records, *, durable=False):
            super().set_many(records, durable=durable)
            if self.fails and durable:
                raise OSError("the disk is full")

    store = Half()
    sessions, stream = Sessions(FRAMES, store, capacity=2), FRAMES.stream()
    xs = rows(FRAMES, np.random.default_rng(4), 4)
    sessions.step(["a"], xs[:1])
    stream.step(xs[0])
    with pytest.raises(OSError, match="the disk is full"):
        sessions.step(["a", "new"], xs[1:3], durable=True)
    sessions.run(["b", "c"], [xs[:1], xs[:1]])  # "a" leaves the pool as it is
    assert (sessions.num_steps("a"), sessions.num_steps("new")) == (1, 0)
    assert_same_bits(sessions.step(["a"], xs[3:])[0], stream.step(xs[3]))


def test_a_note_is_kept_with_its_steps(store):
    sessions = Sessions(TOKENS, store, capacity=1)
    sessions.step(["a"], [1], notes=[b"after one"])
    sessions.step(["b"], [1])
    assert (sessions.note("a"), sessions.note("b"), sessions.note("c")) == (b"after one", b"", b"")
    sessions.end("a")
    assert "a" not in sessions
    assert sessions.num_steps("a") == 0


def test_a_session_of_another_model_or_damaged_is_refused(store):
    with Sessions(TOKENS, store) as sessions:
        sessions.step(["a"], [1])
    other = numlstm.Model(random_weights(TOKENS.network, 1))
    with pytest.raises(ValueError, match=r"of the sessions a: .* another model's"):
        Sessions(other, store).step(["a"], [1])
    (blob,) = store.get_many(["a"])
    for damaged in (blob[:-1], blob[:60] + b"?" + blob[61:], b"", b"x" * 100):
        store.set_many({"a": damaged})
        with pytest.raises(ValueError, match="session 'a' in the store: the record is"):
            Sessions(TOKENS, store).step(["a"], [1])


@pytest.mark.parametrize(
    ("keys", "xss", "message"),
    [
        ("a", [[1]], "keys is 'a', expected a list of str"),
        ([1], [[1]], "a key is int, expected str"),
        (["a", "a"], [[1], [1]], "key 'a' comes twice"),
        (["a", "b", "c", "d"], 4 * [[1]], "4 sessions do not fit into a pool of 3"),
        (["a"], [[1], [2]], "xss has 2 sequences for 1 keys"),
        (["a"], [[[1.0]]], "xs of 'a' has shape"),
        (["a"], [[99]], "token id 99 at xs"),
    ],
)
def test_calls_that_make_no_sense_are_refused(keys, xss, message):
    sessions = Sessions(TOKENS, capacity=3)
    with pytest.raises((TypeError, ValueError), match=message):
        sessions.run(keys, xss)
    assert len(sessions) == 0


def test_a_server_that_does_not_answer_is_named():
    with pytest.raises(ConnectionError, match=r"unix:///nowhere\.sock: no server of Redis answers"):
        RedisStore("unix:///nowhere.sock")
    assert isinstance(open_store(redis_server()), RedisStore)


@pytest.mark.parametrize("name", STORES)
def test_what_is_not_written_again_is_gone_after_its_time(name, tmp_path):
    store = STORES[name](tmp_path, time_to_live=0.2)
    store.set_many({"a": b"1"})
    assert store.get_many(["a", "b"]) == [b"1", None]
    threading.Event().wait(0.3)
    store.set_many({"b": b"2"})
    assert store.get_many(["a", "b"]) == [None, b"2"]
    with pytest.raises(ValueError, match="time_to_live is 0"):
        STORES[name](tmp_path, time_to_live=0)


def test_keys_are_no_paths(store, tmp_path):
    keys = ["../../up", "/etc/passwd", "", "a\0b", "\ud800", "x" * 5000]
    store.set_many({key: key.encode("utf-8", "surrogatepass") for key in keys}, durable=True)
    assert store.get_many(keys) == [key.encode("utf-8", "surrogatepass") for key in keys]
    store.delete_many(keys)
    assert store.get_many(keys) == len(keys) * [None]
    assert {path.name for path in tmp_path.parent.iterdir()} >= {tmp_path.name}
    assert not (tmp_path.parent.parent / "up").exists()


def test_stores_by_their_addresses(tmp_path):
    assert isinstance(open_store("memory"), MemoryStore)
    assert isinstance(open_store(f"folder:{tmp_path}/f", 5.0), FolderStore)
    sqlite = open_store(f"sqlite:{tmp_path}/s.db")
    assert isinstance(sqlite, SQLiteStore)
    sqlite.close()
    with pytest.raises(ValueError, match="the store is 'mysql:x', expected memory, folder:PATH"):
        open_store("mysql:x")
    (tmp_path / "text").write_text("no database " * 500)
    with pytest.raises(ValueError, match="give a new file for sessions"):
        SQLiteStore(tmp_path / "text")


def test_a_second_thread_is_refused_and_neither_is_harmed():
    inside, go_on = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def get_many(self, keys):
            inside.set()
            go_on.wait(60)
            return super().get_many(keys)

    sessions = Sessions(TOKENS, Slow())
    thread = threading.Thread(target=sessions.step, args=(["a"], [1]))
    thread.start()
    assert inside.wait(60)
    with pytest.raises(RuntimeError, match="in use by another thread"):
        sessions.step(["b"], [1])
    go_on.set()
    thread.join()
    assert sessions.num_steps("a") == 1
