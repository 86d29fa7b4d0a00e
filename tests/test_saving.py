"""A file is saved as a whole, or what was there stays; and it is the file that was asked for."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from numlstm.saving import saving

OLD, NEW = b"old" * 1000, b"new" * 2000


def save(path: Path | str, data: bytes = NEW) -> None:
    with saving(path) as file:
        file.write(data)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(OLD)
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_the_mode_of_the_old_file_stays(old, mode):
    old.chmod(mode)
    save(old)
    assert old.read_bytes() == NEW
    assert mode_of(old) == mode


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        save(tmp_path / "new")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "new") == 0o666 & ~umask


def test_a_partial_file_is_never_open_to_more_than_the_old_one(old):
    old.chmod(0o600)
    with saving(old):
        (partial,) = old.parent.glob(".*")
        assert mode_of(partial) == 0o600


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="only root gives files away")
def test_the_owner_of_the_old_file_stays(old):
    os.chown(old, 12345, 54321)
    old.chmod(0o640)
    save(old)
    assert (old.stat().st_uid, old.stat().st_gid, mode_of(old)) == (12345, 54321, 0o640)


def test_what_a_link_names_is_replaced(old):
    folder = old.parent / "links"
    folder.mkdir()
    relative, absolute = folder / "relative", folder / "absolute"
    relative.symlink_to("../model.safetensors")
    absolute.symlink_to(relative)
    save(absolute)
    assert old.read_bytes() == NEW
    assert absolute.is_symlink()
    assert relative.is_symlink()
    dangling = folder / "dangling"
    dangling.symlink_to("new")
    save(dangling)
    assert (folder / "new").read_bytes() == NEW
    assert dangling.is_symlink()


def test_a_link_to_itself_is_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        save(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


def test_another_hard_link_keeps_the_old_file(old):
    os.link(old, old.parent / "other")
    save(old)
    assert (old.parent / "other").read_bytes() == OLD


def test_a_name_may_be_as_long_as_any(tmp_path):
    longest = tmp_path / ("n" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    save(longest)
    save(longest)
    assert longest.read_bytes() == NEW
    with pytest.raises(OSError, match="name too long") as raised:
        save(tmp_path / (longest.name + "n"))
    assert raised.value.errno == errno.ENAMETOOLONG
    assert list(tmp_path.iterdir()) == [longest]


def test_a_pipe_is_written_as_it_comes(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    save(pipe)
    reader.join()
    assert found == [NEW]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    save(os.devnull)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_a_file_that_must_not_be_written_is_not_replaced(old, monkeypatch):
    old.chmod(0o400)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write it
    with pytest.raises(PermissionError, match=re_of(old)):
        save(old)
    assert old.read_bytes() == OLD
    assert list(old.parent.iterdir()) == [old]


def re_of(path: Path) -> str:
    return f"'{path}'$"


# Failures -----------------------------------------------------------------------------------------

FAILING = {
    "open": (os, "open"),
    "write": (os, "fsync"),  # in the middle, where there is much
    "fsync": (os, "fsync"),
    "chmod": (Path, "chmod"),
    "replace": (Path, "replace"),
}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("where", FAILING)
def test_whatever_fails_the_old_file_is_whole_and_the_error_names_it(old, monkeypatch, where, code):
    def fail(*arguments: object) -> None:
        raise OSError(code, os.strerror(code), "a partial file")

    monkeypatch.setattr(*FAILING[where], fail)
    with pytest.raises(OSError, match=re_of(old)) as raised:
        save(old, b"n" * (2**25 if where == "write" else 100))
    assert raised.value.errno == code
    monkeypatch.undo()
    assert old.read_bytes() == OLD
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_what_is_not_written_to_its_end_is_removed(old, error):
    def begin() -> None:
        with saving(old) as file:
            file.write(b"the beginning")
            raise error

    with pytest.raises(error):
        begin()
    assert old.read_bytes() == OLD
    assert list(old.parent.iterdir()) == [old]


LIMITED = """
import resource, signal, sys
from numlstm.saving import saving
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    with saving(sys.argv[1]) as file:
        file.write(bytes(100_000))
except OSError as error:
    print(error)
"""


def test_a_disk_that_is_full_leaves_the_old_file(old):
    """A limit of the process stands for it."""
    arguments = [sys.executable, "-c", LIMITED, str(old)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert str(old) in done.stdout
    assert old.read_bytes() == OLD
    assert list(old.parent.iterdir()) == [old]


# Partial files ------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from numlstm.saving import saving
with saving(sys.argv[1]) as file:
    file.write(bytes(100_000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_is_removed_by_the_next_save(old):
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED, str(old)], check=False)
    partial = list(old.parent.glob(".*"))
    assert len(partial) == 1  # the second one has removed that of the first
    assert old.read_bytes() == OLD
    save(old.parent / "other")
    assert sorted(old.parent.iterdir()) == [old, old.parent / "other"]


def test_what_another_one_writes_is_left_alone(old):
    with saving(old) as file:
        file.write(NEW)
        save(old, b"shorter")
        save(old.parent / "other")
        assert len(list(old.parent.glob(".*"))) == 1
    assert old.read_bytes() == NEW


def test_a_partial_file_that_is_removed_before_it_is_locked_is_made_again(old, monkeypatch):
    flock, taken = fcntl.flock, []

    def remove(file: object, how: int) -> None:
        if not taken:
            taken.extend(old.parent.glob(".*"))
            taken[0].unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", remove)
    save(old)
    assert taken
    assert old.read_bytes() == NEW


def test_a_file_system_without_locks_will_do(old, monkeypatch):
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    abandoned = old.parent / ".numlstm-01234567.partial"
    abandoned.touch()
    save(old)
    assert old.read_bytes() == NEW
    assert abandoned.exists()  # who knows
