"""The commands from end to end, each as small as it gets: that they run, not how fast."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from bench import report
from bench.engines import PEERS, policies
from bench.measure import (
    change,
    cold,
    compare,
    long,
    machine,
    memory,
    paced,
    policy,
    process,
    speed,
    tasks,
    vad,
)
from bench.report import change_page


# Not PyTorch, whose import takes a second in each process.
@pytest.mark.parametrize(
    ("command", "peer"),
    [
        (speed.step, "numpy"),
        (speed.sequence, "onnxruntime_int8"),
        (speed.generate, "onnxruntime_binding"),
        (speed.pool, "openvino"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_beside_a_peer(
    command: Callable[..., None], peer: str, tmp_path: Path, monkeypatch: Any
) -> None:
    _need(peer)
    pytest.importorskip("matplotlib")
    all_cases = compare.compare
    monkeypatch.setattr(speed, "compare", lambda cases, how: all_cases(cases[-2:], how))
    path = tmp_path / f"{command.__name__}.json"
    command(quick=True, json_path=path, engine=["numlstm", peer])
    page = path.with_suffix(".md").read_text()
    assert all(f" {PEERS[name].label} |" in page for name in ("numlstm", peer))
    written = {file.name for file in tmp_path.iterdir()}
    report.report([path])
    assert {file.name for file in tmp_path.iterdir()} == written


@pytest.mark.parametrize(
    ("command", "heading"),
    [
        (cold.cold, "# From the start of the process"),
        (memory.memory, "## Open streams"),
        (long.long, "## A state that fades"),
        (paced.paced, "## LSTM 1 x 128: us"),
    ],
    ids=["cold", "memory", "long", "paced"],
)
def test_one_process_each(
    command: Callable[..., None], heading: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command(quick=True, engine=["numlstm"])
    assert heading in capsys.readouterr().out


def test_tasks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "ENGINES", dict(list(tasks.ENGINES.items())[:2]))
    tasks.tasks(quick=True)
    page = capsys.readouterr().out
    assert "| sentiment " in page
    assert "numlstm float32" in page


def test_policy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _need("onnxruntime_binding")
    peers = {name: policies.ENGINES[name] for name in ("numlstm", "ONNX Runtime")}
    monkeypatch.setattr(policy, "ENGINES", peers)
    policy.policy(quick=True)
    page = capsys.readouterr().out
    assert "| ONNX Runtime |" in page
    assert "LSTM 64" in page


def test_vad(capsys: pytest.CaptureFixture[str]) -> None:
    _need("onnxruntime_binding")
    if not vad._REAL.is_dir():
        pytest.skip("the authors' files are not beside the repository")
    vad.vad(quick=True)
    page = capsys.readouterr().out
    assert "| 100 calls, 20 ms at a time " in page
    assert "ONNX Runtime, together / numlstm" in page


def test_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change.change(process.ROOT, quick=True, before_env=["NUMLSTM_JIT=1"])
    page = capsys.readouterr().out
    assert ", NUMLSTM_JIT=1, after " in page
    for what in ("Stream.step, LSTM 16 float32", "memory of LSTM 2 x 1024 int8", "import numlstm"):
        assert f"| {what} " in page
    with pytest.raises(typer.BadParameter, match="--before: there is no numlstm in"):
        change.change(tmp_path)
    with pytest.raises(typer.BadParameter, match="--after-env: NUMLSTM_JIT is not NAME=VALUE"):
        change.change(process.ROOT, after_env=["NUMLSTM_JIT"])


def test_a_change_for_the_worse_is_bold() -> None:
    found = [
        {"what": what, "unit": "us", "before": before, "after": after}
        for what, before, after in (
            ("slower", [1.0, 1.02, 1.0], [1.1, 1.1, 1.1]),
            ("noisy", [1.0, 1.4, 1.0], [1.1, 1.1, 1.1]),
            ("faster", [1.1, 1.1, 1.1], [1.0, 1.0, 1.0]),
        )
    ]
    results = machine.describe() | {
        "settings": {"core": None, "rounds": 3, "turns": 1, "seconds": 0.1},
        "commits": {"before": "one", "after": "other"},
        "found": found,
    }
    lines = change_page.change(results).splitlines()
    ratios = {
        cells[1].strip(): cells[5].strip()
        for cells in (line.split("|") for line in lines)
        if len(cells) > 5
    }
    assert ratios["slower"] == "**0.91**"
    assert ratios["noisy"] == "0.91"
    assert ratios["faster"] == "1.10"


def test_an_answer_that_differs_is_an_error() -> None:
    tasks.check("a peer", [["VERB", 0.50001]], [["VERB", 0.5]])
    with pytest.raises(ValueError, match=r"a peer answers 0\.51, expected 0\.5"):
        tasks.check("a peer", [["VERB", 0.51]], [["VERB", 0.5]])
    with pytest.raises(ValueError, match="expected 'VERB'"):
        tasks.check("a peer", [["NOUN", 0.5]], [["VERB", 0.5]])


def test_unknown_engine() -> None:
    with pytest.raises(typer.BadParameter, match="nonsense: expected some of numlstm"):
        speed.step(quick=True, engine=["nonsense"])


def _need(name: str) -> None:
    reason = PEERS[name].missing()
    if reason:
        pytest.skip(reason)
