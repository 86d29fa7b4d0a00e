"""Files of archives are unpacked piece by piece, by deflate alone, and within the budget."""

import zipfile

import pytest

from numlstm.budget import Budget, OverBudget, spending
from numlstm.convert.assembly import Refused
from numlstm.convert.zips import unpacked


def archive_of(path, data, packing=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("a", data)
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_was_packed_comes_out(tmp_path, packing):
    data = bytes(range(256)) * 10_000
    with archive_of(tmp_path / "a.zip", data, packing) as archive:
        assert unpacked(archive, "a").read() == data


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_all_at_once_is_refused(tmp_path, packing):
    with archive_of(tmp_path / "a.zip", b"a", packing) as archive, pytest.raises(Refused) as caught:
        unpacked(archive, "a")
    assert str(caught.value) == (
        f"a is packed by method {packing}, expected deflate or none; pack the files of the archive "
        "anew"
    )


def test_a_bomb_is_left_where_the_budget_ends(tmp_path):
    budget = Budget(memory=2**23, seconds=1)
    with (
        archive_of(tmp_path / "a.zip", bytes(2**25)) as archive,
        spending(100, budget),
        pytest.raises(OverBudget, match="what a unpacks to takes"),
    ):
        unpacked(archive, "a")
