"""``python -m bench cold``: from the start of a process to its first output."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench import report
from bench.engines import PEERS
from bench.engines.cases import Case
from bench.engines.onnx_graph import FILE, INT8_FILE
from bench.measure import level
from bench.measure.compare import (
    Cores,
    Engines,
    Json,
    Quick,
    describe,
    loads,
    settings,
    write_files,
)
from bench.measure.process import NUM_THREADS, ROOT, EngineProcess

_KEYS = ("import_s", "load_s", "first_output_s", "first_output_cpu_s")
_CASE = Case("step", "LSTM", 256)
_LARGE = Case("step", "LSTM", 1024, 2)
_NUM_STARTS = 7

# What a process does, as a user writes it; it imports nothing of bench. At its end it prints its
# memory: the largest that the system tells its parent is that of the parent before the fork.
_BEGIN = """
import atexit

def memory(name):
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))
    except OSError:
        return None

imported = None
atexit.register(lambda: print(f"\\n{{imported}} {{memory('VmRSS')}} {{memory('VmHWM')}}"))
"""
_COMMAND_LINE = """
import sys
sys.argv[0] = "numlstm"
from numlstm.cli import main
main()
"""
_NUMLSTM = """
import numlstm
numlstm.Model  # a name is imported when it is first used
imported = memory("VmRSS")
import numpy as np
stream = numlstm.load({file!r}, dtype={dtype!r}).stream()
for _ in range({steps}):
    stream.step(np.zeros({size}, np.float32))
"""
_ONNXRUNTIME = """
import onnxruntime
imported = memory("VmRSS")
import numpy as np
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession({file!r}, options, providers=["CPUExecutionProvider"])
names = [given.name for given in session.get_inputs()]
state = [np.zeros((1, 1, {size}), np.float32) for _ in names[1:]]
for _ in range({steps}):
    x = np.zeros((1, 1, {size}), np.float32)
    state = session.run(None, dict(zip(names, [x, *state])))
"""
_COMMANDS = {
    "Python alone": ["pass"],
    "import numpy": ["import numpy"],
    "import numlstm": ["import numlstm"],
    "import onnxruntime": ["import onnxruntime"],
    "numlstm --help": [_COMMAND_LINE, "--help"],
    "numlstm classify TEXT": [_COMMAND_LINE, "classify", "The movie was not good."],
}


def cold(
    quick: Quick = False, json_path: Json = None, core: Cores = None, engine: Engines = None
) -> None:
    """Time the import, the loading and the first output, each in fresh processes."""
    how = settings("cold", quick, json_path, core, engine)
    num_starts = 1 if quick else _NUM_STARTS
    results = describe(how) | {"case": str(_CASE), "num_starts": num_starts}
    with tempfile.TemporaryDirectory() as root:
        folders = {}
        for case in (_CASE,) if quick else (_CASE, _LARGE):
            folders[case] = folder = Path(root, str(case))
            folder.mkdir()
            write_files(case, [name for name in how.names if PEERS[name].takes(case)], folder)
        names = [name for name in how.names if PEERS[name].takes(_CASE)]
        results |= _engines(names, folders[_CASE], how.cores, num_starts, results["left_out"])
        results["uncached"] = {} if quick else _uncached(names, folders[_CASE], how.cores)
        results["commands"] = _timed(_commands(folders), how.cores, num_starts)
    report.finish(results, how.path)


def _engines(
    names: list[str], folder: Path, cores: list[int], num_starts: int, left_out: list[str]
) -> dict[str, Any]:
    """Return the times of every engine, in the processes of the other benchmarks."""
    right = []
    for name in names:  # the files of every engine are in the system's cache then
        with EngineProcess(name, cores) as process:
            if loads(process, _CASE, folder, left_out):
                right.append(name)
    starts: dict[str, list[dict[str, float]]] = {name: [] for name in right}
    for _ in range(num_starts):
        for name in right:
            starts[name].append(_start(name, folder, cores))
    engines = {
        name: {key: median(start[key] for start in own) for key in _KEYS}
        | {"slowest_first_output_s": max(start["first_output_s"] for start in own)}
        for name, own in starts.items()
    }
    return {"engines": engines}


def _uncached(names: list[str], folder: Path, cores: list[int]) -> dict[str, dict[str, float]]:
    """Return the times of numlstm where its kernels are compiled, as nothing is found."""
    found = {}
    for name in names:
        if PEERS[name].is_own:
            with tempfile.TemporaryDirectory() as cache:
                anew = {"NUMBA_CACHE_DIR": cache, "NUMLSTM_JIT": "1"}
                found[name] = _start(name, folder, cores, anew)
    return found


def _start(
    name: str, folder: Path, cores: list[int], environment: dict[str, str] | None = None
) -> dict[str, Any]:
    with EngineProcess(name, cores, environment=environment) as process:
        process.load(_CASE, folder)
        return {key: process.facts[key] for key in _KEYS}


# In processes of their own ------------------------------------------------------------------------


def _commands(folders: dict[Case, Path]) -> dict[str, list[str]]:
    """Return code with arguments by what it does, where the packages and files are there."""
    commands = {what: [_BEGIN.format() + code, *rest] for what, (code, *rest) in _COMMANDS.items()}
    for case, folder in folders.items():
        for label, code, file, dtype in (
            ("numlstm", _NUMLSTM, "weights.safetensors", "float32"),
            ("numlstm int8", _NUMLSTM, "weights.safetensors", "int8"),
            ("ONNX Runtime", _ONNXRUNTIME, FILE, ""),
            ("ONNX Runtime int8", _ONNXRUNTIME, INT8_FILE, ""),
        ):
            path = folder / file
            if path.exists():
                steps = 1 if case == _CASE else 64
                values = {"file": str(path), "dtype": dtype, "size": case.hidden_size}
                what = "the first output" if steps == 1 else f"{steps} steps"
                text = (_BEGIN + code).format(**values, steps=steps)
                commands[f"{label}, {case}, {what}"] = [text]
    if PEERS["onnxruntime_binding"].missing():
        commands.pop("import onnxruntime")
    return commands


def _timed(
    commands: dict[str, list[str]], cores: list[int], num_starts: int
) -> dict[str, dict[str, Any]]:
    """Return medians of seconds and bytes of processes; the commands take turns."""
    found: dict[str, list[dict[str, Any]]] = {what: [] for what in commands}
    for n in range(1 + num_starts):
        for what, command in commands.items():
            one = _process(command, cores)
            if n:  # the first time files are read
                found[what].append(one)
    return {
        what: {
            key: None if own[0][key] is None else median(one[key] for one in own) for key in own[0]
        }
        for what, own in found.items()
    }


def _process(command: list[str], cores: list[int]) -> dict[str, Any]:
    """Return what one process takes: seconds, seconds of CPU, bytes."""
    environment = os.environ | dict.fromkeys(NUM_THREADS, "1") | level.environment()
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
    ) as process:
        assert process.stdout
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise RuntimeError(f"a process ended with {process.returncode}; see above")
    imported, at_work, largest = (
        None if number == b"None" else int(number) for number in output.splitlines()[-1].split()
    )
    return {
        "s": seconds,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": largest,
        "imported_bytes": imported,
        "model_bytes": None if imported is None or at_work is None else at_work - imported,
    }
