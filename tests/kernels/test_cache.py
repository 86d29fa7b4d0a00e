"""Kernels that were compiled on this machine: found again, refused, made by one process of many."""

import logging
import os
import random
import re
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from numlstm.diagnostics import diagnose
from numlstm.kernels import cache as kernel_cache
from numlstm.kernels import compilation, entry
from tests.conftest import PATIENCE, Python, output_of
from tests.fuzz import Missing

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions and no fork")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A folder that holds what was compiled on this machine, and is the one that is looked in."""
    if entry.find().reason:
        pytest.skip("the kernels that came with this installation are not these")
    image = entry.find().image
    monkeypatch.setenv("NUMLSTM_JIT", "1")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    path = tmp_path / kernel_cache.file_name()
    path.write_bytes(image.to_bytes())
    return path


def test_what_was_compiled_before_is_found(cache):
    kernels = entry.find()
    assert kernels.image is not None
    assert (kernels.path, kernels.reason) == (cache, "NUMLSTM_JIT is set")
    assert kernels.origin == f"compiled on this machine for {kernels.image.target.split()[0]}"


def test_a_filled_cache_that_cannot_be_written_is_used(cache, monkeypatch):
    def refused(*args, **options):
        raise PermissionError("read-only")

    monkeypatch.setattr("tempfile.mkstemp", refused)
    monkeypatch.setattr(kernel_cache, "_alone", refused)
    assert entry.find().path == cache


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[:200] + b"?" + data[201:],
        lambda data: b"something else" + data,
        lambda data: data + b"\0",
    ],
    ids=["empty", "half", "last byte", "a byte of the header", "foreign", "longer"],
)
def test_a_damaged_cache_is_not_used(cache, damage, caplog):
    cache.write_bytes(damage(cache.read_bytes()))
    assert entry.find().image is None
    assert f"{cache} is not used" in caplog.text


def test_an_image_of_other_sources_is_not_used(cache, monkeypatch):
    monkeypatch.setattr(kernel_cache, "hash_sources", lambda: "other")
    assert entry.find().image is None


@posix
@pytest.mark.parametrize("mode", [0o666, 0o664, 0o602])
def test_what_others_can_write_is_not_used(cache, mode, caplog):
    cache.chmod(mode)
    assert entry.find().image is None
    assert f"others can write to it (mode {mode:o}): chmod go-w" in caplog.text


@posix
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_folder_that_others_can_write_is_neither_read_nor_filled(
    cache, monkeypatch, mode, caplog
):
    image = entry.find().image
    cache.parent.chmod(mode)
    assert entry.find().image is None
    monkeypatch.setattr(kernel_cache, "compile_image", lambda *args: image)
    before = cache.stat()
    assert kernel_cache.compile_and_keep("a reason") == image
    assert cache.stat() == before
    assert f"{cache.parent}: others can write to it (mode {mode:o}): chmod go-w" in caplog.text


@posix
def test_a_folder_is_made_that_the_group_cannot_write_whatever_the_umask_is(
    cache, monkeypatch, tmp_path
):
    image = entry.find().image
    monkeypatch.setattr(kernel_cache, "compile_image", lambda *args: image)
    before = os.umask(0o002)
    try:
        for name, use in (
            ("first", kernel_cache.state),
            ("second", lambda: kernel_cache.compile_and_keep("a reason")),
        ):
            monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / name))
            use()
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)
    assert entry.find().image == image


@posix
def test_in_a_sticky_folder_only_the_owner_of_a_file_counts(cache):
    cache.parent.chmod(0o1777)
    assert entry.find().path == cache


# What is there in place of a whole file, the processes that meet it, what `doctor` says ----------


def races():
    pytest.importorskip("fcntl")
    if entry.find().reason:
        pytest.skip("the kernels that came with this installation are not these")
    from tests.fuzz import races

    return races


@pytest.mark.long
@pytest.mark.parametrize(
    "state",
    [
        "empty", "missing", "whole", "empty file", "cut short", "damaged", "foreign file",
        "another CPU's", "another level's", "another version's", "link to a whole one",
        "link to nothing", "link to itself", "pipe", "folder in its place", "others can write it",
        "the group can write it", "others can write the folder",
        "others can write the folder, which is sticky", "of another user", "unreadable",
        "folder unreadable", "read-only, whole", "read-only, empty", "no folder", "full",
        "strange place", "nothing told", "no locks", "left by the killed", "lock is a folder",
        "lock is a pipe",
    ],
)  # fmt: skip
def test_eight_processes_at_once_give_the_same_bits_on_a_folder_that_is(state):
    found = races()
    with ExitStack() as stack:
        try:
            task = stack.enter_context(found.prepared())
        except Missing as error:
            pytest.skip(str(error))
        for seed in range(2):
            found.race(task, state, random.Random(seed))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, r"^ready$"),
        (lambda path: path.unlink(), r"^empty: numlstm warmup fills it$"),
        (lambda path: path.write_bytes(b""), r"is not used: it is no file of kernels; empty: "),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"is damaged.*; empty: "),
        (lambda path: path.chmod(0o646), r"others can write to it \(mode 646\).*; empty"),
        (
            lambda path: path.parent.chmod(0o775),
            r"can be kept in .*others can write.*compiles: set",
        ),
        (lambda path: (path.unlink(), path.mkdir()), r"is not used: .*directory"),
        (lambda path: (path.unlink(), os.mkfifo(path)), r"is not used: it is no file of kernels"),
    ],
    ids=["whole", "none", "empty", "cut", "mode", "folder's mode", "folder", "pipe"],
)
@posix
def test_doctor_says_what_the_cache_is(cache, make, said):
    make(cache)
    assert re.search(said, diagnose()["cache state"])


@posix
def test_doctor_says_that_a_disk_is_full(cache, python: Python):
    cache.unlink()
    code = (
        "import resource, numlstm; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0));"
        "print(numlstm.diagnose()['cache state'])"
    )
    said = output_of(python("-c", code))
    assert said.startswith(f"nothing can be kept in {cache.parent}: [Errno 27] File too large")
    assert said.endswith("every process compiles: set NUMBA_CACHE_DIR to a folder\n")


# Compiling ---------------------------------------------------------------------------------------


def test_where_nothing_can_be_written_every_process_compiles_and_says_so(
    cache, monkeypatch, caplog
):
    image = entry.find().image
    cache.unlink()

    def refused(folder):
        raise PermissionError("read-only")

    monkeypatch.setattr(kernel_cache, "_alone", refused)
    monkeypatch.setattr(kernel_cache, "compile_image", lambda *args: image)
    caplog.set_level(logging.INFO)
    assert kernel_cache.compile_and_keep("a reason") == image
    assert "cannot be kept, so every process compiles: set NUMBA_CACHE_DIR" in caplog.text
    assert f"({cache.parent}: read-only)" in caplog.text
    assert "once (10 to 30 seconds): a reason" in caplog.text


def test_room_is_made_before_anything_is_compiled(cache, monkeypatch, tmp_path):
    """A full disk is found at once, and nobody waits while others compile what is not kept."""
    image = entry.find().image
    cache.unlink()
    full, other = cache.parent, tmp_path / "other"
    monkeypatch.setattr(kernel_cache, "folders", lambda: [full, other])

    @contextmanager
    def replacing(path: Path):
        if path.parent == full:
            raise OSError(28, "No space left on device")
        with compilation.replacing(path) as file:
            yield file

    monkeypatch.setattr(kernel_cache, "replacing", replacing)
    monkeypatch.setattr(kernel_cache, "compile_image", lambda *args: image)
    assert kernel_cache.compile_and_keep("a reason") == image
    assert [path.name for path in full.iterdir() if path.is_file()] == ["compiling.lock"]
    assert (other / cache.name).read_bytes() == image.to_bytes()


def test_a_disk_that_is_filled_meanwhile_costs_only_the_file(cache, monkeypatch, caplog):
    image = entry.find().image
    cache.unlink()

    @contextmanager
    def replacing(path: Path):
        with path.open("wb") as file:
            yield file
        raise OSError(28, "No space left on device")

    compiled = []
    monkeypatch.setattr(kernel_cache, "replacing", replacing)
    monkeypatch.setattr(kernel_cache, "compile_image", lambda *args: compiled.append(1) or image)
    assert kernel_cache.compile_and_keep("a reason") == image
    assert compiled == [1]
    assert "could not be kept" in caplog.text


def test_what_could_not_be_written_leaves_nothing(tmp_path):
    def fail():
        with compilation.replacing(tmp_path / "x") as file:
            file.write(b"half")
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_by_the_killed_is_removed(cache, monkeypatch):
    image = entry.find().image
    cache.unlink()
    old, new = cache.parent / ".new-old", cache.parent / ".new-new"
    old.write_bytes(b"half")
    new.write_bytes(b"another process writes it")
    os.utime(old, (0, 0))
    monkeypatch.setattr(kernel_cache, "compile_image", lambda *args: image)
    kernel_cache.compile_and_keep("a reason")
    assert entry.find().path == cache
    assert not old.exists()
    assert new.exists()


def test_a_python_that_is_gone_is_told(cache, monkeypatch):
    cache.unlink()
    monkeypatch.setattr(sys, "executable", str(cache))
    with pytest.raises(RuntimeError, match=r"could not be compiled: .*No such file"):
        kernel_cache.compile_and_keep("a reason")


HOLD = """
import os, pathlib, signal, sys, time
from numlstm.kernels import cache
with cache._alone(pathlib.Path(sys.argv[1])):
    if os.fork() == 0:  # has the file open, too
        print(os.getpid(), flush=True)
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL if sys.argv[2] == "killed" else signal.SIGSTOP)
"""


@posix
def test_who_is_killed_as_it_compiles_is_not_waited_for(cache, monkeypatch, python: Python, caplog):
    """Nor is a process that it had forked, which has its files open."""
    image = entry.find().image
    cache.unlink()
    killed = python("-c", HOLD, str(cache.parent), "killed")
    assert killed.stdout is not None
    child = int(killed.stdout.readline())
    assert killed.wait(PATIENCE) == -signal.SIGKILL
    monkeypatch.setattr(kernel_cache, "compile_image", lambda *args: image)
    try:
        assert kernel_cache.compile_and_keep("a reason") == image
    finally:
        os.kill(child, signal.SIGKILL)
    assert "waited" not in caplog.text
    assert entry.find().path == cache


@posix
def test_who_is_stopped_as_it_compiles_is_not_waited_for_for_ever(
    cache, monkeypatch, python: Python, caplog
):
    image = entry.find().image
    cache.unlink()
    stopped = python("-c", HOLD, str(cache.parent), "stopped")
    assert stopped.stdout is not None
    child = int(stopped.stdout.readline())
    monkeypatch.setattr(kernel_cache, "compile_image", lambda *args: image)
    monkeypatch.setattr(kernel_cache, "_LONGEST_WAIT", 0.1)
    try:
        assert kernel_cache.compile_and_keep("a reason") == image
    finally:
        os.kill(child, signal.SIGKILL)
        stopped.kill()
    assert "waited 0 s for another process to compile" in caplog.text


COMPILE = """
import sys
from numlstm.kernels import compilation, cpu
stay = f"open({sys.argv[1]!r}, 'w').write(str(os.getpid())); import time; time.sleep(600)"
compilation._CHILD = compilation._CHILD.replace("from numlstm", f"{stay}\\nfrom numlstm", 1)
compilation.compile_image(cpu.LEVEL)
"""


@posix
def test_what_compiles_ends_with_who_asked_for_it(python: Python, tmp_path):
    """Killed, not interrupted: it could do nothing about it."""
    told = tmp_path / "pid"
    process = python("-c", COMPILE, str(told))
    until = time.monotonic() + PATIENCE
    while not (told.exists() and told.read_text()):
        assert process.poll() is None
        time.sleep(0.01)
    child = int(told.read_text())
    os.kill(child, 0)
    process.kill()
    process.wait()
    while _is_there(child):
        assert time.monotonic() < until
        time.sleep(0.01)


def _is_there(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


FORK = """
import os, signal
from numlstm.kernels import entry
with entry._once:  # as another thread that compiles
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        entry.walker()
        os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
def test_a_process_forked_while_a_thread_compiles_does_not_wait_for_it(python: Python):
    assert output_of(python("-c", FORK)) == "0\n"


# prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN), of Linux 6.3
NO_EXEC = """
import ctypes, sys
import numlstm
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit(77)
print(numlstm.diagnose()["cache state"])
numlstm.warmup()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to refuse")
def test_a_system_that_makes_no_memory_executable_is_named_at_once(python: Python, tmp_path):
    process = python("-c", NO_EXEC, NUMBA_CACHE_DIR=str(tmp_path))
    out, errors = process.communicate(timeout=PATIENCE)
    if process.returncode == 77:
        pytest.skip("this kernel cannot refuse it")
    assert out.startswith("of no use: this system refuses to make memory executable")
    assert errors.splitlines()[-1].startswith("OSError: this system refuses to make memory exec")
    assert list(tmp_path.iterdir()) == []


def test_without_numba_the_error_says_what_to_install(cache, monkeypatch):
    monkeypatch.setattr(kernel_cache, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"must be compiled \(a reason\).*pip install numba"):
        kernel_cache.compile_and_keep("a reason")
