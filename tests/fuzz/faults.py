"""Something fails, once, while kernels are first used: they work, or the error is clear.

Each case is a process that loads a model and runs it on a folder in some state, where one thing
that Python asks of the system fails: opening, removing, renaming, locking, mapping, loading, or a
file that can grow no more. What is raised there is an OSError or a MemoryError. It may come out;
then the second use works, in that process and in the next, with the right bits.
"""

import errno
import os
import random
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.fuzz import Clock, Figures, Found
from tests.fuzz.races import HANGS, STATES, Place, Task, prepared, set_up, start, wait

# What the interpreter tells an audit hook of, before it does it; a hook that raises prevents it.
EVENTS = (
    "open", "os.", "tempfile.", "fcntl.", "mmap.", "ctypes.dl", "shutil.", "subprocess.", "import",
)  # fmt: skip
ERRORS = (
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.EACCES, "Permission denied"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    MemoryError("no memory"),
)
KINDS = sorted(STATES.keys() - {"full", "strange place", "nothing told"})


def _fail_once(at: int, error: BaseException) -> Callable[[], None]:
    """Let the event of a number, from now on, fail; return what calls it off."""
    left = at

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event.startswith(EVENTS):
            left -= 1
            if left == 0:
                raise error

    def call_off() -> None:
        nonlocal left
        left = 0

    sys.addaudithook(hook)
    return call_off


def _case(task: Task, dice: random.Random) -> str:
    """Let one thing fail in a process, then use the folder in another; return how it ended."""
    root = Path(tempfile.mkdtemp(prefix="fault-"))
    reader, counter = os.pipe()
    told = root / "told"
    try:
        root.chmod(0o777)
        place = Place(root, task.data, task.image)
        state = dice.choice(KINDS)
        place.make(state, dice)
        at, error = dice.randint(1, 60), dice.choice(ERRORS)
        is_short = dice.random() < 0.2
        room = dice.randrange(2**18)

        def first() -> bool:
            set_up(place, counter, task.image)
            call_off = _fail_once(0 if is_short else at, error)
            if is_short:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            try:
                is_right = task.answer() == task.right
            except (OSError, MemoryError, RuntimeError, ImportError) as raised:
                os.write(counter, b"r" if str(raised) else b"?")
                is_right = True
            call_off()
            return is_right and task.answer() == task.right

        def next_one() -> bool:
            set_up(place, counter, task.image)
            return task.answer() == task.right

        for job in (first, next_one):
            codes = wait([start(job, told)], HANGS)
            if codes != [0]:
                what = f"{room} bytes of room" if is_short else f"{error!r} at event {at}"
                said = told.read_text(errors="replace")[-3000:]
                raise Found(f"{state!r}, {what}, the {job.__name__} ended with {codes}\n{said}")
        os.close(counter)
        with open(reader, "rb", closefd=False) as file:
            marks = file.read()
        if b"?" in marks:
            raise Found(f"{state!r}, {error!r} at event {at}: an error that says nothing")
        return "refused" if b"r" in marks else "unharmed"
    finally:
        for handle in (reader, counter):
            try:
                os.close(handle)
            except OSError:
                continue
        if place.folder.is_dir():
            place.folder.chmod(0o700)
        shutil.rmtree(root, ignore_errors=True)


def run(clock: Clock, seed: int) -> Figures:
    figures = Figures()
    with prepared() as task:
        while clock.ticks():
            number = figures["faults"]
            try:
                ended = _case(task, random.Random(f"{seed}.{number}"))
            except Found as error:
                raise Found(f"fault {number} of seed {seed}: {error}") from error
            figures.update({"faults": 1, ended: 1})
    return figures
