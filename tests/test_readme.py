"""The README's Python code runs, in order, as written."""

import re
import subprocess
import sys

import pytest

from tests.conftest import PATIENCE, ROOT

README = ROOT / "README.md"


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no bash")
def test_the_code_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    for name in ("weights", "README.md"):  # what it reads
        (tmp_path / name).symlink_to(ROOT / name)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    # The commands that stand alone work on the files that the Python blocks have written.
    commands = re.findall(r"```sh\n(numlstm .*?)```", README.read_text(encoding="utf-8"), re.S)
    assert commands
    python = f'numlstm() {{ "{sys.executable}" -m numlstm "$@"; }}\n'
    for command in commands:
        subprocess.run(["bash", "-ec", python + command], check=True, timeout=PATIENCE)
    printed = capsys.readouterr().out
    # What a block prints is shown behind its print: ``print(x)   # text``.
    shown = re.findall(r"print\(.*\)\s+# (.*)", "".join(blocks))
    assert shown
    for text in shown:
        assert text in printed
