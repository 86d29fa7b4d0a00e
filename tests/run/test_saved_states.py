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
