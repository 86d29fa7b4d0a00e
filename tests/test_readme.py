"""The README's Python code runs, in order, as written."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_python_blocks_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    # What a block prints is shown behind its print: ``print(x)   # text``.
    shown = re.findall(r"print\(.*\)\s+# (.*)", "".join(blocks))
    assert shown
    for text in shown:
        assert text in printed
