"""The Python code of docs/*.md runs as written, each block on its own, where its files are."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from numlstm.spec import FUNCTIONS, LAYERS
from tests.conftest import ROOT

REAL = ROOT.parent / "shared" / "real"
BLOCK = re.compile(r"```python\n(.*?)```", re.S)

# What a block opens -> where it is among the real models.
FILES = {
    "aorc_hourly_model_epoch009.pt": "noaa_streamflow/aorc_hourly_model_epoch009.pt",
    "regression_model.h5": "turbofan_lstm/regression_model.h5",
    "eval_model.h5": "rnnmorph_en/eval_model.h5",
    "eval_model.json": "rnnmorph_en/eval_model.json",
    "char_set.txt": "rnnmorph_en/char_set.txt",
    "gram_input.json": "rnnmorph_en/gram_input.json",
    "gram_output.json": "rnnmorph_en/gram_output.json",
    "textgenrnn_weights.hdf5": "textgenrnn/textgenrnn_weights.hdf5",
    "textgenrnn_vocab.json": "textgenrnn/textgenrnn_vocab.json",
    "ppo_lstm_cartpole_novel.zip": "recurrent_ppo/ppo_lstm_cartpole_novel.zip",
    "pretrained.pt": "resemblyzer/pretrained.pt",
    "ref_5.npz": "resemblyzer/ref_5.npz",
    "silero_vad_16k_op15.onnx": "silero_vad/silero_vad_16k_op15.onnx",
    "silero_vad_16k_sequence.onnx": "silero_vad_6/silero_vad_16k_sequence.onnx",
    "nsnet2-20ms-baseline.onnx": "nsnet2/nsnet2-20ms-baseline.onnx",
    "noisy_16k.wav": "nsnet2/noisy_16k.wav",
    "test.wav": "silero_vad/test.wav",
    "model.h5": "dtln/model.h5",
    "model_1.onnx": "dtln/model_1.onnx",
    "noisy_8s_16k.wav": "dtln/noisy_8s_16k.wav",
    "step_actor_critic.onnx": "recurrent_ppo/step_actor_critic.onnx",
    "dksplit-int8.onnx": "dksplit/dksplit-int8.onnx",
    "dksplit.npz": "dksplit/dksplit.npz",
    "shakespeare": "ml5_charrnn/shakespeare",
}


def rnn_data(path: Path) -> None:
    """Write the weights of RNNoise as its C file has them."""
    source = REAL / "rnnoise_gru" / "weights_int8.npz"
    if not source.exists():
        pytest.skip("no rnnoise_gru of real models beside the repository")
    lines = []
    with np.load(source) as file:
        for name in file:
            name_in_c = name.replace("__", "_").replace("kernel", "weights")
            numbers = ", ".join(map(str, file[name].reshape(-1)))
            lines.append(f"static const rnn_weight {name_in_c}[{file[name].size}] = {{{numbers}}};")
    path.write_text("\n".join(lines))


def digits(path: Path) -> None:
    path.symlink_to(ROOT / "weights" / "digits.wav")


MADE: dict[str, Callable[[Path], None]] = {"rnn_data.c": rnn_data, "digits.wav": digits}


def blocks() -> list[object]:
    return [
        pytest.param(block, id=f"{path.stem}-{text[: match.start()].count(chr(10)) + 2}")
        for path in sorted((ROOT / "docs").glob("*.md"))
        for text in [path.read_text(encoding="utf-8")]
        for match in BLOCK.finditer(text)
        for block in [match[1]]
    ]


@pytest.mark.long
@pytest.mark.parametrize("block", blocks())
def test_the_code_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, source in FILES.items():
        if f'"{name}"' in block:
            if not (REAL / source).exists():
                pytest.skip(f"no {source} of real models beside the repository")
            Path(name).symlink_to(REAL / source)
    for name, make in MADE.items():
        if f'"{name}"' in block:
            make(Path(name))
    exec(compile(block, "block", "exec"), {"__name__": "block"})
    # What a block prints is shown behind its print: ``print(x)  # text``.
    printed = capsys.readouterr().out
    for text in re.findall(r"print\(.*\)\s+# (.*)", block):
        assert text in printed


def test_every_layer_option_and_function_is_documented():
    text = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", text))
    options = {option.name for layer in LAYERS.values() for option in fields(layer)}
    expected = options | set(LAYERS) | set(FUNCTIONS)
    assert sorted(expected - words - {"name", "_"}) == []


def test_the_table_of_rooms_is_the_listing():
    """What CONTRIBUTING names is there, and what is there it names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    inside, beside = text.split("And beside the package:")
    rooms = [*re.findall(r"^\| `([\w/.]+)` \|", inside, re.M), "__main__.py"]
    listing = [
        path.name + "/" * path.is_dir()
        for path in (ROOT / "numlstm").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    ]
    assert sorted(rooms) == sorted(listing)
    for room in re.findall(r"^\| `([\w/.]+)`", beside, re.M):
        assert (ROOT / room).exists(), room
    # The modules that a room is said to have.
    for room, what in re.findall(r"^\| `(\w+/)` \| (.*) \|$", inside, re.M):
        for name in re.findall(r"`([a-z]+)`", what):
            assert name in {path.stem for path in (ROOT / "numlstm" / room).iterdir()}, room + name
