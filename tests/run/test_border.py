"""What comes from outside is checked once, and is the caller's no longer then."""

import numpy as np
import pytest

import numlstm
from numlstm.run.border import token_ids
from tests.conftest import model_of


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_ids_are_a_copy_that_the_caller_cannot_change(dtype):
    ids = np.array([1, 2, 3], dtype)
    read = token_ids("xs", ids, 10)
    ids[:] = 99
    assert read.dtype == np.int32
    assert read.tolist() == [1, 2, 3]
    assert not np.may_share_memory(read, ids)


def test_ids_may_lie_anywhere(token_model: numlstm.Model):
    ids = np.array([3, 1, 10, 0], np.int32)
    spare = np.zeros(4 * len(ids) + 1, np.uint8)
    unaligned = spare[1:].view(np.int32)
    unaligned[:] = ids
    assert not unaligned.flags.aligned
    expected = token_model.run(ids)
    reads = {
        "unaligned": unaligned,
        "backwards": ids[::-1].copy()[::-1],
        "foreign": ids.astype(">i4"),
    }
    for name, given in reads.items():
        assert token_model.run(given).tobytes() == expected.tobytes(), name
        assert token_model.stream().run(given).tobytes() == expected.tobytes(), name
        pool = token_model.pool(1)
        slot = pool.open()
        assert pool.run([slot], given[:, None])[:, 0].tobytes() == expected.tobytes(), name


def test_slots_are_a_copy_that_the_caller_cannot_change():
    pool = model_of("vectors").pool(4)
    slots = np.array([pool.open(), pool.open()])
    checked = pool._check_slots(slots)
    slots[:] = 10**9
    assert checked.max() < 4
