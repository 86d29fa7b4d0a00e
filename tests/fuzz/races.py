"""Eight processes at once, on a folder of kernels in any state: the same bits from all, and soon.

Each process loads a model and runs it, which is the first use of kernels there. They are forked
from one that has not used any; what they compile with is a stand-in that takes a tenth of a second
and returns an image made before. Run by root they are nobody's, so that permissions bind them.
"""

import errno
import faulthandler
import importlib
import io
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

import numlstm
from numlstm.kernels import cache, cpu, entry
from numlstm.machine.image import Image
from numlstm.machine.instructions import identity
from tests.cases import random_weights
from tests.fuzz import Clock, Figures, Found, Missing

PROCESSES = 8
HANGS = 120.0  # seconds after which a race is a find
NOBODY = 65534
IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0


class Place:
    """A folder for a race.

    folder   what NUMBA_CACHE_DIR says
    path     where the image would be
    data     the image, as a file has it
    """

    def __init__(self, root: Path, data: bytes, image: Image) -> None:
        self.folder = root / "cache"
        self.folder.mkdir()
        self.path = self.folder / cache.file_name()
        self.data, self.image = data, image
        self.environment: dict[str, str | None] = {"NUMBA_CACHE_DIR": str(self.folder)}
        self.limits: dict[int, int] = {}
        self.has_locks = True

    def write(self, data: bytes) -> None:
        self.path.write_bytes(data)

    def make(self, state: str, dice: random.Random) -> None:
        """Bring the folder into a state, nobody's where root does it."""
        (self.folder.parent / "package").mkdir(mode=0o755)
        if IS_ROOT:
            for path in (self.folder.parent, self.folder):
                os.chown(path, NOBODY, NOBODY)
        STATES[state][0](self, dice)
        if IS_ROOT and state != "of another user":
            for path in self.folder.glob("*") if self.folder.is_dir() else ():
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


# The states of a folder: a name, what makes it, and how many of eight processes may compile. ------

NONE, ONCE, EACH = 0, 1, PROCESSES


def _damaged(place: Place, dice: random.Random) -> None:
    data = bytearray(place.data)
    for _ in range(dice.choice((1, 1, 2, 9))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    if data == place.data:
        data[-1] ^= 1
    place.write(data)


def _cut(place: Place, dice: random.Random) -> None:
    place.write(place.data[: dice.randrange(len(place.data))])


def _foreign(place: Place, dice: random.Random) -> None:
    place.write(dice.choice((b"\x7fELF", b"numlstm kernels\0", b"\0" * 4096)) + dice.randbytes(999))


def _linked(to: str) -> Callable[[Place, random.Random], None]:
    def make(place: Place, dice: random.Random) -> None:
        if to == "whole":
            (place.folder / "elsewhere").write_bytes(place.data)
        target = {"whole": "elsewhere", "nothing": "nowhere", "itself": place.path.name}[to]
        place.path.symlink_to(target)

    return make


def _image_of(**other: str) -> Callable[[Place, random.Random], None]:
    return lambda place, dice: place.write(replace(place.image, **other).to_bytes())


def _whole_with(mode: int, folder: int = 0o755) -> Callable[[Place, random.Random], None]:
    def make(place: Place, dice: random.Random) -> None:
        place.write(place.data)
        place.path.chmod(mode)
        place.folder.chmod(folder)

    return make


def _of_another_user(place: Place, dice: random.Random) -> None:
    place.write(place.data)
    if IS_ROOT:
        os.chown(place.path, 12345, 12345)


def _is_a_file(place: Place, dice: random.Random) -> None:
    place.folder.rmdir()
    place.folder.write_text("not a folder")


def _nothing_told(place: Place, dice: random.Random) -> None:
    homes = (None, "", "relative", "/nowhere", "/dev/null", "/proc")
    place.environment = {
        "NUMBA_CACHE_DIR": None,
        "HOME": dice.choice(homes),
        "XDG_CACHE_HOME": dice.choice(homes),
        "TMPDIR": "/nowhere",
    }


def _told_strangely(place: Place, dice: random.Random) -> None:
    places = ("/proc/kernels", "/dev/null", "/dev/full", "x" * 300, "a/" * 3000, "\udcff", "/sys")
    place.environment["NUMBA_CACHE_DIR"] = dice.choice(places)


def _full(place: Place, dice: random.Random) -> None:
    place.limits[resource.RLIMIT_FSIZE] = dice.choice((0, 1, 2**10, 2**16))


def _without_locks(place: Place, dice: random.Random) -> None:
    place.has_locks = False


def _left_by_the_killed(place: Place, dice: random.Random) -> None:
    for name in (".new-1", ".new-2"):
        (place.folder / name).write_bytes(place.data[: dice.randrange(len(place.data))])
    os.utime(place.folder / ".new-1", (0, 0))
    (place.folder / "compiling.lock").touch()


STATES: dict[str, tuple[Callable[[Place, random.Random], None], int]] = {
    "empty": (lambda place, dice: None, ONCE),
    "missing": (lambda place, dice: place.folder.rmdir(), ONCE),
    "whole": (lambda place, dice: place.write(place.data), NONE),
    "empty file": (lambda place, dice: place.write(b""), ONCE),
    "cut short": (_cut, ONCE),
    "damaged": (_damaged, ONCE),
    "foreign file": (_foreign, ONCE),
    "another CPU's": (_image_of(cpu="0123456789ab"), ONCE),
    "another level's": (_image_of(level="x86-64-v9"), ONCE),
    "another version's": (_image_of(sources="0" * 32), ONCE),
    "link to a whole one": (_linked("whole"), NONE),
    "link to nothing": (_linked("nothing"), ONCE),
    "link to itself": (_linked("itself"), ONCE),
    "pipe": (lambda place, dice: os.mkfifo(place.path), ONCE),
    "folder in its place": (lambda place, dice: place.path.mkdir(), EACH),
    "others can write it": (_whole_with(0o666), ONCE),
    "the group can write it": (_whole_with(0o664), ONCE),
    "others can write the folder": (_whole_with(0o644, 0o777), EACH),
    "others can write the folder, which is sticky": (_whole_with(0o644, 0o1777), NONE),
    "of another user": (_of_another_user, ONCE),
    "unreadable": (_whole_with(0o000), ONCE),
    "folder unreadable": (_whole_with(0o644, 0o000), EACH),
    "read-only, whole": (_whole_with(0o444, 0o555), NONE),
    "read-only, empty": (lambda place, dice: place.folder.chmod(0o555), EACH),
    "no folder": (_is_a_file, EACH),
    "full": (_full, EACH),
    "strange place": (_told_strangely, EACH),
    "nothing told": (_nothing_told, EACH),
    "no locks": (_without_locks, EACH),
    "left by the killed": (_left_by_the_killed, ONCE),
    "lock is a folder": (lambda place, dice: (place.folder / "compiling.lock").mkdir(), EACH),
    "lock is a pipe": (lambda place, dice: os.mkfifo(place.folder / "compiling.lock"), EACH),
}


# One of the eight --------------------------------------------------------------------------------


class Task:
    """What each process does: a model's file, its inputs, and the bits of the answer."""

    def __init__(self, root: Path) -> None:
        network = numlstm.Network((numlstm.LSTM(3, 5), numlstm.Linear(5, 2)))
        self.path = root / "model.safetensors"
        model = numlstm.Model(random_weights(network))
        model.save(self.path)
        self.path.chmod(0o644)
        self.xs = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
        image = entry.find().image
        if image is None:
            raise RuntimeError("races take the kernels that came with the package: build them")
        self.image = replace(image, cpu=identity())
        self.data = self.image.to_bytes()
        self.right = b""

    def answer(self) -> bytes:
        return numlstm.load(self.path).stream().run(self.xs).tobytes()


def set_up(place: Place, counter: int, image: Image) -> None:
    """Make a forked process one that has not used kernels, with a stand-in that compiles."""

    def compile_image(level: cpu.Level, exact: bool) -> Image:
        os.write(counter, b"c")
        time.sleep(0.1)
        return image

    entry._function.cache_clear()
    cache.compile_image = compile_image
    cache.IMAGES = place.folder.parent / "package"  # nobody's but root's
    os.environ["NUMLSTM_JIT"] = "1"
    for name, value in place.environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    for limit, size in place.limits.items():
        resource.setrlimit(limit, (size, size))
    if not place.has_locks:
        import fcntl

        def refused(*args: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        fcntl.lockf = refused
    if IS_ROOT:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _use(task: Task, way: str) -> bool:
    """Use the kernels for the first time, alone, in threads, or while a thread of another does."""
    if way == "alone":
        return task.answer() == task.right
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(task.answer())) for _ in range(2)]
    for thread in threads:
        thread.start()
    child = 0
    if way == "fork":
        time.sleep(0.01)
        child = os.fork()
        if child == 0:
            os._exit(task.answer() != task.right)
    for thread in threads:
        thread.join()
    forked = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0
    return answers == [task.right] * 2 and forked == 0


@contextmanager
def forking() -> Iterator[None]:
    """Fork without being told, from Python 3.12 on, that threads and locks are not copied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def start(job: Callable[[], bool], told: Path) -> int:
    """Fork a process that does a job; what it says, or raises, goes to a file."""
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        os.setpgid(0, 0)
        said = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.dup2(said, 2)
        faulthandler.register(signal.SIGUSR1, 2)
        # Without a buffer, whose lock a thread may hold as it is forked: that is Python's.
        raw = io.FileIO(2, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(raw, errors="backslashreplace", write_through=True)
        logging.root.handlers.clear()  # nor those of pytest, which have one
        code = 0 if job() else 1
    except BaseException:
        code = 2
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)


def wait(children: list[int], seconds: float) -> list[int] | None:
    """Return how processes ended; None if they do not, which say where they are and are killed."""
    until = time.monotonic() + seconds
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        for child in children:
            if child not in codes:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    codes[child] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            for child in set(children) - codes.keys():
                os.killpg(child, signal.SIGUSR1)
                time.sleep(1)
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
            return None
        time.sleep(0.002)
    return [codes[child] for child in children]


# A race ------------------------------------------------------------------------------------------


def race(task: Task, state: str, dice: random.Random) -> int:
    """Let eight processes run on a folder in a state; return how many of them compiled."""
    root = Path(tempfile.mkdtemp(prefix="race-"))
    reader, counter = os.pipe()
    ready, go = os.pipe()
    try:
        root.chmod(0o755)
        place = Place(root, task.data, task.image)
        place.make(state, dice)
        most = STATES[state][1]
        ways = [dice.choice(("alone", "alone", "threads", "fork")) for _ in range(PROCESSES)]
        is_killed = dice.random() < 0.2
        told = root / "told"

        def job(way: str) -> Callable[[], bool]:
            def run() -> bool:
                os.close(go)
                os.read(ready, 1)  # until all are there
                set_up(place, counter, task.image)
                return _use(task, way)

            return run

        children = [start(job(way), told) for way in ways]
        os.close(go)
        os.close(counter)
        if is_killed:
            time.sleep(dice.random() * 0.2)
            os.killpg(children[0], signal.SIGKILL)
        codes = wait(children, HANGS)
        with open(reader, "rb", closefd=False) as file:
            compiled = len(file.read())
        said = told.read_text(errors="replace")[-3000:] if told.exists() else ""
        case = f"{state!r}, {ways}, one killed: {is_killed}: ended with {codes}\n{said}"
        if codes is None:
            raise Found(f"a race hangs: {case}")
        if any(codes[is_killed:]) or codes[0] not in (0, -signal.SIGKILL if is_killed else 0):
            raise Found(f"a race is lost: {case}")
        if most != EACH and compiled > most + (is_killed and most):
            raise Found(f"{compiled} processes compiled, not {most}: {case}")
        if (
            most == ONCE
            and not is_killed
            and Image.from_bytes(place.path.read_bytes()) != task.image
        ):
            raise Found(f"the kernels were not kept: {case}")
        return compiled
    finally:
        for handle in (reader, ready, counter, go):
            with suppress(OSError):
                os.close(handle)
        with suppress(OSError):
            (root / "cache").chmod(0o700)
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def prepared() -> Iterator[Task]:
    """Yield the task of all races, with its answer, which another process finds.

    That one also tells what is imported for it. It is imported here, as a process that is nobody's
    may not enter where it lies, and one that is forked while a thread imports a module cannot
    import it: that is Python's.

    Raises
    ------
    Missing
        If root runs them from where nobody else can look for Numba.
    """
    if IS_ROOT:
        _check_that_nobody_enters(Path(np.__file__))
    with forking(), tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        task = Task(root)
        first, names = root / "first", root / "names"

        def use() -> bool:
            first.write_bytes(task.answer())
            names.write_text("\n".join(sys.modules))
            return True

        wait([start(use, root / "told")], HANGS)
        task.right = first.read_bytes()
        for name in names.read_text().split():
            with suppress(ImportError):
                importlib.import_module(name)
        yield task


def _check_that_nobody_enters(path: Path) -> None:
    for folder in path.resolve().parents:
        if not folder.stat().st_mode & 0o001:
            raise Missing(f"a process that is not root's may not enter {folder}")


def run(clock: Clock, seed: int) -> Figures:
    figures = Figures()
    with prepared() as task:
        names = list(STATES)
        number = 0
        while clock.ticks():
            case = f"{seed}.{number}"
            try:
                compiled = race(task, names[number % len(names)], random.Random(case))
            except Found as error:
                raise Found(f"race {number} of seed {seed}: {error}") from error
            figures.update(races=1, processes=PROCESSES, compiled=compiled)
            number += 1
    return figures
