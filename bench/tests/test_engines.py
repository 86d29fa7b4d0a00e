"""Engines answer as the reference does, the roofs read everything, a level hides the rest."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.engines import PEERS
from bench.engines.cases import Case
from bench.measure import level
from bench.measure.compare import write_files
from bench.measure.probes import paced
from bench.measure.process import ROOT
from bench.measure.worker import TOLERANCES, WrongAnswerError, difference
from numlstm.kernels import bandwidth
from numlstm.machine.instructions import found, machine

_CASES = [
    Case("step", "LSTM", 20),
    Case("step", "LSTM", 16, num_layers=2),
    Case("step", "GRU", 16),
    Case("step", "GRU", 16, num_layers=2),
    Case("paced", "LSTM", 128),
    Case("step", "GRU", 128),
    Case("sequence", "LSTM", 20, num_steps=5),
    Case("sequence", "LSTM", 128, num_steps=5, num_directions=2),
    Case("pool", "LSTM", 16, num_streams=3),
    Case("pool", "LSTM", 128, num_streams=3),
]
# Those that the commands are not tested with; not PyTorch, whose import takes a second.
_NAMES = [name for name in PEERS if name.startswith(("litert", "mnn", "ncnn", "cpp"))]


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_answers(name: str, tmp_path: Path) -> None:
    peer = PEERS[name]
    if reason := peer.missing():
        pytest.skip(reason)
    taken = [case for case in _CASES if peer.takes(case)]
    assert taken
    for case in taken:
        write_files(case, [name], tmp_path)
        engine = peer.load(case, tmp_path)
        with np.load(tmp_path / "check.npz") as check:
            xs, expected = check["xs"], check["ys"]
        for x, y in zip(xs, expected, strict=True):
            engine.input[...] = x
            engine.step(engine.x, engine.out)
            difference(f"{name} on {case}", peer.dtype, engine.output(), y)
        for call in engine.calls(xs).values():
            call.function(call.x, call.out)


def test_wrong_answers() -> None:
    ys = np.zeros(3, np.float32)
    assert difference("one", "int8", ys, ys + TOLERANCES["int8"] / 2) > 0
    with pytest.raises(WrongAnswerError, match=r"one differs from the reference by 3\.0e-01"):
        difference("one", "int8", ys, ys + 0.3)
    with pytest.raises(WrongAnswerError):
        difference("one", "float32", ys, ys + np.nan)


@pytest.mark.parametrize("size", [128, 128 * 5 + 48])
@pytest.mark.parametrize("read", bandwidth.ALL_READS, ids=lambda read: read.__name__)
def test_a_roof_reads_everything(read: Any, size: int) -> None:
    params = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    sums = np.zeros(16, np.float32)
    read(params, sums, 3)
    factor = 0.5 if "fma" in read.__name__ else 1
    np.testing.assert_allclose(sums.sum(), 3 * factor * params.sum(), rtol=1e-4)


@pytest.mark.skipif(machine() != "x86_64", reason="reads x86's assembler")
@pytest.mark.parametrize("name", bandwidth.READS)
def test_a_roof_keeps_its_sums_in_registers(name: str) -> None:
    read = bandwidth.READS[name]
    read(np.zeros(128, np.float32), np.zeros(16, np.float32), 1)
    (code,) = read.inspect_asm().values()
    loops = [
        block[: block.index(f"\t{label}\n")]
        for label, block in re.findall(r"^(\.LBB\d+_\d+):\n(.*?)(?=^\.L)", code, re.M | re.S)
        if f"\t{label}\n" in block
    ]
    hot = max(loops, key=lambda loop: len(re.findall(r"\tv(?:add|fmadd\d+)ps\t", loop)))
    assert len(re.findall(r"\tv(?:add|fmadd\d+)ps\t", hot)) >= 8
    assert "(%rsp)" not in hot


def test_a_level_hides_the_rest_of_the_cpu() -> None:
    library = level._library()
    if not library:
        pytest.skip("no C compiler, or a system that cannot hide a part of the CPU")
    code = (
        "from bench.measure import level; import sys; level.hide((sys.argv[1], True, True));"
        "from numlstm.machine.instructions import found; print(*found())"
    )
    command = [sys.executable, "-c", code, library]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    left = set(shown.stdout.split())
    assert left == {name for name in found() if not name.startswith("avx512") and name != "avxvnni"}


@pytest.mark.parametrize("interval_ms", [0, 1])
def test_paced_steps(interval_ms: int, tmp_path: Path) -> None:
    case = Case("paced", "LSTM", 16)
    write_files(case, ["numpy"], tmp_path)
    engine = PEERS["numpy"].load(case, tmp_path)
    times = paced(engine, interval_ms, 5)["times_us"]
    assert len(times) == 5
    assert min(times) > 0
