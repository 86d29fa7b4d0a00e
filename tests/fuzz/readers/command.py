"""The command line: any words, files of any bytes."""

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from typer.testing import CliRunner

import numlstm
from numlstm.cli import terminal
from numlstm.cli.commands import _COMMANDS, make_app
from tests.fuzz import Found
from tests.fuzz._changes import change_bytes
from tests.fuzz._promises import refused
from tests.fuzz.readers import seeds

_SLOW = {"warmup", "doctor"}  # look at the machine, not at what they are given
_WORDS = (
    *sorted(set(_COMMANDS) - _SLOW), "sentiment", "pos", "words", "character", "speech", "chat",
    "--json", "--file", "-f", "--model", "-m", "--whole", "--temperature", "--top-p", "--seed",
    "--max-tokens", "--plot", "--layer", "--part", "--text", "--max-distance", "--layers",
    "--network", "--config", "--key", "--labels", "--tokenizer", "--dtype", "--force", "--times",
    "--rate", "--channels", "--format", "--beam-size", "s16", "f32", "int8", "bfloat16", "-", "--",
    "0", "1", "2", "-1", "1e9", "nan", "inf", "99999999999999999999", "0.5", "", "\0", "é",
    "layers.0",
    "FILE.txt", "FILE.npy", "FILE.wav", "FILE.safetensors", "FILE.pt", "FILE.h5", "FILE.keras",
    "FILE.onnx", "FILE.json", "FILE.png", "NONE.txt", "The film.", "Good morning.", "-h",
    "--version",
)  # fmt: skip
_KINDS = {"wav": "sound", "safetensors": "model", "json": "network"}
_EXPECTED = (ValueError, OSError, ImportError)


@cache
def _loaded(name: Any) -> Any:
    return numlstm.load_parts(name)


_load_parts = terminal.load_parts
terminal.load_parts = lambda name: _loaded(name) if "." not in str(name) else _load_parts(name)


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    """Return a JSON: words of a command line, and the bytes of a file as latin-1."""
    given = json.loads(data)
    words, other = given["words"], json.loads(donor)["words"]
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        at = random.randrange(len(words) + 1)
        match random.randrange(4):
            case 0:
                words[at:at] = [random.choice(_WORDS)]
            case 1:
                del words[at : at + 1]
            case 2:
                words[at : at + 1] = [random.choice(_WORDS)]
            case _:
                words[at:] = other[at:]
    kinds = [word.rpartition(".")[2] for word in words if word.startswith("FILE.")]
    kind = _KINDS.get(kinds[0] if kinds else "", "numbers")
    start = random.choice(seeds(kind))
    file = change_bytes(start, random.choice(seeds(kind)), random)
    return json.dumps({"words": words, "file": file.decode("latin-1")}).encode()


def read(data: bytes, folder: Path, random: Random) -> str:
    try:
        given = json.loads(data)
        words, file = given["words"], given["file"].encode("latin-1")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "no command"
    if _SLOW & set(words):
        return "slow"
    for n, word in enumerate(words):
        if word.startswith(("FILE.", "NONE.")):
            words[n] = str(folder / word)
            if word.startswith("FILE."):
                (folder / word).write_bytes(file)
    result = CliRunner().invoke(make_app(), words, input="The film.\nIt was good.\n")
    error = result.exception
    if error is None or isinstance(error, SystemExit):
        if result.exit_code not in (0, 1, 2):
            raise Found(f"{words} ends with {result.exit_code}: {result.output[-300:]}")
        return f"exit {result.exit_code}"
    if isinstance(error, _EXPECTED):
        return refused(error)
    raise error
