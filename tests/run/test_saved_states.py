"""A saved state is input from outside: what the kernel would take for a place is checked."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import numlstm
from tests.cases import DECODERS, NETWORKS, assert_same_bits, random_input, random_weights
from tests.conftest import model_of

HEADER = struct.Struct("<8s16sqQI")  # what `numlstm.run.saved` documents
IDS = [0.5, -1.0, 19.0, 2.0**24, 1e9, -1e9, 1e30, np.inf, -np.inf, np.nan]
DATA = Path(__file__).parent.parent / "data"
MEMORY = np.random.default_rng(0).normal(0, 1, (4, 7)).astype(np.float32)


def resealed(blob: bytes, body: bytes, num_steps: int | None = None) -> bytes:
    """Return a saved state with another body, and the checksum that goes with it."""
    magic, fingerprint, steps, _, _ = HEADER.unpack_from(blob)
    fields = magic, fingerprint, steps if num_steps is None else num_steps, len(body)
    checksum = zlib.crc32(body, zlib.crc32(HEADER.pack(*fields, 0)))
    return HEADER.pack(*fields, checksum) + body


def body_of(blob: bytes) -> np.ndarray:
    """Return a copy of the numbers of a saved state."""
    return np.frombuffer(blob[HEADER.size :], "<f4").copy()


@pytest.mark.parametrize("token", IDS)
def test_ids_of_a_memory_that_are_no_tokens_are_refused(token):
    model = numlstm.Model(random_weights(DECODERS["copies"]))
    stream = model.stream(memory=MEMORY, memory_ids=[3, 7, 18, 3])
    before = stream.save_state()
    floats = body_of(before)
    places = np.flatnonzero(floats == 18)
    assert len(places) == 1
    floats[places] = token
    with pytest.raises(ValueError, match="the state is damaged"):
        stream.load_state(resealed(before, floats.tobytes()))
    assert stream.save_state() == before
    floats[places] = 17  # another token is one
    stream.load_state(resealed(before, floats.tobytes()))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_no_stream_keeps_are_refused(value):
    stream = model_of("vectors").stream()  # its maximum begins at minus infinity
    first = stream.save_state()
    stream.load_state(first)
    places = np.arange(16, len(body_of(first)))  # behind the count of the steps
    if value == -np.inf:
        places = places[body_of(first)[16:] != -np.inf]
    for at in places:
        floats = body_of(first)
        floats[at] = value
        with pytest.raises(ValueError, match="the state is damaged: it holds a NaN"):
            stream.load_state(resealed(first, floats.tobytes()))
    assert stream.save_state() == first


@pytest.mark.parametrize("count", [-1, -(2**62), 4])
def test_a_number_of_steps_that_does_not_agree_is_refused(count):
    stream = model_of("tokens").stream()
    stream.run([1, 2, 3])
    before = stream.save_state()
    with pytest.raises(ValueError, match="numbers of steps do not agree"):
        stream.load_state(resealed(before, body_of(before).tobytes(), num_steps=count))
    floats = body_of(before)
    floats[:2].view(np.int64)[0] = count
    with pytest.raises(ValueError, match="numbers of steps do not agree"):
        stream.load_state(resealed(before, floats.tobytes()))
    assert stream.save_state() == before


@pytest.mark.parametrize("count", [2**62, 2**63 - 1])
def test_a_number_of_steps_that_nobody_took_is_refused(count):
    stream = model_of("tokens").stream()
    before = stream.save_state()
    floats = body_of(before)
    floats[:2].view(np.int64)[0] = count
    with pytest.raises(ValueError, match="numbers of steps do not agree"):
        stream.load_state(resealed(before, floats.tobytes(), num_steps=count))
    assert stream.save_state() == before


def test_the_header_of_one_state_does_not_go_with_the_body_of_another():
    stream = model_of("tokens").stream()
    blobs = []
    for token in (1, 2, 3):
        stream.step(token)
        blobs.append(stream.save_state())
    for head in blobs:
        for body in blobs:
            spliced = head[: HEADER.size] + body[HEADER.size :]
            if head is not body:
                with pytest.raises(ValueError, match="the state is damaged"):
                    stream.load_state(spliced)


def test_a_state_tells_how_many_steps_made_it():
    model = model_of("tokens")
    stream = model.stream()
    xs = random_input(model.network, 40)
    for t, x in enumerate(xs[:3]):
        assert stream.num_steps == t
        stream.step(x)
    stream.run(xs[3:])
    assert stream.num_steps == 40
    with pytest.raises(ValueError, match="outside"):
        stream.run([1, 99])
    assert stream.num_steps == 40
    assert HEADER.unpack_from(stream.save_state())[2] == 40
    pool = model.pool(2)
    slot = pool.open(stream)
    pool.run([slot], xs[:5, None])
    other = model.stream()
    other.load_state(pool.save_states([slot])[0])
    assert other.num_steps == pool.stream(slot).num_steps == 45
    other.reset()
    assert other.num_steps == 0


@pytest.mark.parametrize("name", ["tokens", "copies"])
def test_a_state_of_before_the_count_of_steps_is_loaded(name):
    # Saved at 2c6c269, after these steps.
    blob = (DATA / f"state_{name}.numlstm1").read_bytes()
    network = (NETWORKS | DECODERS)[name]
    model = numlstm.Model(random_weights(network))
    xs = random_input(network, 20)
    given = {"memory": MEMORY, "memory_ids": [3, 7, 18, 3]} if name == "copies" else {}
    expected, stream = model.stream(**given), model.stream(**given)
    expected.run(xs)
    stream.load_state(blob)
    assert stream.num_steps == 0
    assert_same_bits(stream.run(xs), expected.run(xs))
    for damaged in (blob[:-4], blob[:-1] + bytes([blob[-1] ^ 1]), blob[:31]):
        with pytest.raises(ValueError, match="the state "):
            stream.load_state(damaged)


@pytest.mark.parametrize("num_rows", [1, 3, 5000])
def test_tokens_go_on_after_a_state_with_another_memory_is_loaded(num_rows):
    model = numlstm.Model(random_weights(DECODERS["copies"]))
    rng = np.random.default_rng(0)

    def stream_of(num_rows: int) -> numlstm.Stream:
        memory = rng.normal(0, 1, (num_rows, 7)).astype(np.float32)
        return model.stream(memory=memory, memory_ids=rng.integers(0, 19, num_rows))

    stream, other = stream_of(3), stream_of(num_rows)
    tokens = stream.tokens(1, temperature=0)
    last = [next(tokens) for _ in range(3)][-1]
    stream.load_state(other.save_state())
    found = [next(tokens) for _ in range(20)]
    assert found == other.generate(last, 20, temperature=0).tolist()
    assert stream.save_state() == other.save_state()


def test_keys_of_a_memory_are_made_anew():
    """Those in the bytes, and what fills up their rows, are not believed."""
    model = numlstm.Model(random_weights(DECODERS["copies"]))
    stream = model.stream(memory=MEMORY, memory_ids=[3, 7, 18, 3])
    layout, blob = model._program.memory, stream.save_state()
    expected = stream.run([1, 2, 3])
    floats = body_of(blob)
    rows = floats[-len(MEMORY) * layout.row_size :].reshape(len(MEMORY), -1)
    rows[:, layout.memory_size : layout.keys_end] = np.nan
    rows[:, layout.keys_end + 1 :] = np.inf
    stream.load_state(resealed(blob, floats.tobytes()))
    assert_same_bits(stream.run([1, 2, 3]), expected)
    rows[0, 0] = np.nan
    with pytest.raises(ValueError, match="the state is damaged: memory is empty, or holds a NaN"):
        stream.load_state(resealed(blob, floats.tobytes()))
    (_, weight), *_ = layout.keys
    rows[:, : layout.memory_size] = 3e38 * np.sign(weight[np.abs(weight).sum(1).argmax()])
    with pytest.raises(ValueError, match=r"the state is damaged: .*overflow"):
        stream.load_state(resealed(blob, floats.tobytes()))


def test_counts_that_do_not_agree_are_refused():
    model = numlstm.Model(random_weights(NETWORKS["pooled_input"]))
    stream = model.stream()
    stream.run(random_input(model.network, 5))
    blob = stream.save_state()
    (at,) = model._program.counters[1:]
    for count, fits in ((5, True), (6, True), (4, False), (0, False), (-5, False)):
        floats = body_of(blob)
        floats[at : at + 2].view(np.int64)[0] = count
        forged = resealed(blob, floats.tobytes())
        if fits:  # as of a state that was saved before steps were counted
            stream.load_state(forged)
        else:
            with pytest.raises(ValueError, match="numbers of steps do not agree"):
                stream.load_state(forged)
