"""A saved state is input from outside: what the kernel would take for a place is checked."""

import zlib

import numpy as np
import pytest

import numlstm
from numlstm.stream import _STATE_HEADER
from tests.cases import DECODERS, random_weights

IDS = [0.5, -1.0, 19.0, 2.0**24, 1e9, -1e9, 1e30, np.inf, -np.inf, np.nan]


def resealed(blob: bytes, body: bytes) -> bytes:
    """Return a saved state with another body, and the checksum that goes with it."""
    magic, fingerprint, _, _ = _STATE_HEADER.unpack_from(blob)
    return _STATE_HEADER.pack(magic, fingerprint, len(body), zlib.crc32(body)) + body


@pytest.mark.parametrize("token", IDS)
def test_ids_of_a_memory_that_are_no_tokens_are_refused(token):
    model = numlstm.Model(random_weights(DECODERS["copies"]))
    memory = np.random.default_rng(0).normal(0, 1, (4, 7)).astype(np.float32)
    stream = model.stream(memory=memory, memory_ids=[3, 7, 18, 3])
    before = stream.save_state()
    floats = np.frombuffer(before[_STATE_HEADER.size :], "<f4").copy()
    places = np.flatnonzero(floats == 18)
    assert len(places) == 1
    floats[places] = token
    with pytest.raises(ValueError, match="the state is damaged"):
        stream.load_state(resealed(before, floats.tobytes()))
    assert stream.save_state() == before
    floats[places] = 17  # another token is one
    stream.load_state(resealed(before, floats.tobytes()))


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
