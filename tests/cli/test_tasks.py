"""The commands of the tasks: texts, lines, files, JSON, pipes; what they say of bad input."""

import json
import re
import wave
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import numlstm
from numlstm.cli import app, terminal, vad
from numlstm.tasks import TASKS
from tests.conftest import ROOT

DIGITS = ROOT / "weights" / "digits.wav"
SAID = "nine three two nine eight six"
TEXT_COMMANDS = sorted(
    {task.command for task in TASKS.values()} - {"generate", "transcribe", "vad"}
)


@pytest.fixture
def run():
    runner = CliRunner()

    def call(*arguments, stdin=None, code=0):
        result = runner.invoke(app, [str(each) for each in arguments], input=stdin)
        assert result.exit_code == code, result.output + repr(result.exception)
        return result.stdout

    return call


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def test_classify_email(run, tmp_path):
    assert "spam" in run("classify", "-m", "email", "WINNER! Call 09061701461 now to claim")
    path = tmp_path / "x.mbox"
    path.write_bytes(
        b"From a\nSubject: Prize\n\nCall 09061701461 now to claim your FREE prize\n\n"
        b"From b\nSubject: Tonight\n\nSee you at home, I'll be late\n"
    )
    found = objects(run("classify", "-m", "email", "-f", path, "--json"))
    assert [each["label"] for each in found] == ["spam", "ham"]
    assert found[0]["text"] == "Prize"


def test_classify_whole_texts(run):
    out = run("classify", "-m", "sentiment-bilstm", "--json", stdin="a good film\n\na bad film\n")
    assert [each["label"] for each in objects(out)] == ["positive", "negative"]


def test_tag(run):
    assert run("tag", "She didn't.").strip() == "She/PRON did/AUX n't/PART ./PUNCT"
    [found] = objects(run("tag", "It works.", "--json"))
    assert [tag["word"] for tag in found["tags"]] == ["It", "works", "."]
    assert set(found["tags"][0]) == {"word", "tag", "score"}
    assert run("tag", "It works.", "--lookahead", "9") == run("tag", "It works.")


def test_score(run):
    [found] = objects(run("score", "The war ended.", "--json"))
    assert found["tokens"] == ["The", "war", "ended", "."]
    assert found["num_tokens"] == len(found["per_token"]) == 4
    assert found["perplexity"] == pytest.approx(np.exp(found["nats"] / 4))
    line = run("score", "The war ended.")
    assert f"{found['perplexity']:.2f}" in line
    assert "The war ended ." in line


def test_score_of_a_whole_file(run, tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("To be,\nor not to be.\n")
    assert len(objects(run("score", "-m", "character", "-f", path, "--json"))) == 2
    [found] = objects(run("score", "-m", "character", "-f", path, "--json", "--whole"))
    assert found["num_tokens"] == len(path.read_text())


def test_generate(run):
    options = ("--seed", "1", "--max-tokens", "40")
    written = run("generate", "ROMEO:", *options)
    assert written.startswith("ROMEO:")
    assert (
        written
        == run("generate", "ROMEO:", *options)
        == run("generate", "-", *options, stdin="ROMEO:")
    )
    [found] = objects(run("generate", "ROMEO:", *options, "--json"))
    assert f"ROMEO:{found['text']}\n" == written


def test_chat_is_one_dialogue(run):
    turns = "Hi, I want to book a hotel.\nIn London.\n"
    found = objects(run("chat", "--json", "--seed", "0", stdin=turns))
    assert [each["text"] for each in found] == turns.splitlines()
    again = objects(run("chat", "--json", "--seed", "0", stdin="Hello.\n/reset\n" + turns))
    assert again[1:] == found
    lines = run("chat", "--seed", "0", stdin=turns).splitlines()
    assert lines == [each["answer"] for each in found]
    assert run("chat", "--beam-size", "2", "Hi.").strip()


def test_summarize(run, tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("It is late.\nWe present a new method\nfor networks. It rains.\n")
    assert (
        run("summarize", "-m", "extract", "-f", path) == "We present a new method for networks.\n"
    )
    two = run("summarize", "-m", "extract", "-f", path, "--sentences", "2", "--json")
    assert objects(two)[0]["summary"].count(".") == 2
    assert run("summarize", "-f", path, "--title") != run("summarize", "-f", path)
    lines = run("summarize", "-m", "extract", "--lines", stdin="One is here.\nTwo is there.\n")
    assert lines.splitlines() == ["One is here.", "Two is there."]


def test_transcribe_files(run, tmp_path):
    assert run("transcribe", DIGITS).strip() == SAID
    times = run("transcribe", DIGITS, "--times").splitlines()
    assert [line.split()[-1] for line in times[1:]] == SAID.split()
    assert re.fullmatch(r" +\d+\.\d\d +\d+\.\d\d  nine", times[1])
    [found] = objects(run("transcribe", DIGITS, "--json"))
    assert found["text"] == SAID
    assert set(found["words"][0]) == {"text", "start", "end"}
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    out = run("transcribe", bad, DIGITS, tmp_path / "none.wav", code=1)
    assert SAID in out


def test_vad_files(run, tmp_path):
    lines = run("vad", DIGITS).splitlines()
    found = numlstm.pipeline("vad")(DIGITS)
    assert lines == [f"{each.start:9.3f} {each.end:9.3f}" for each in found.segments]
    assert len(run("vad", DIGITS, "--min-silence-duration", 2, "--threshold", 0.4).split()) == 2
    [plain] = objects(run("vad", DIGITS, "--json"))
    [more] = objects(run("vad", DIGITS, "--json", "--probabilities"))
    assert plain["segments"][0] == {
        "start": 0.482, "end": 1.022, "start_sample": 3856, "end_sample": 8176
    }  # fmt: skip
    assert more["probabilities"] == found.probabilities.tolist()
    out = run("vad", DIGITS, "--probabilities").splitlines()
    assert len(out) == len(found.probabilities) + len(found.segments)
    assert out[1] == f"    0.032  {found.probabilities[1]:.3f}"
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    out = run("vad", bad, DIGITS, tmp_path / "none.wav", code=1)
    assert out.splitlines()[1:] == lines
    run("vad", DIGITS, "--speech-pad", -1, code=2)


def test_vad_on_a_terminal(run, monkeypatch):
    monkeypatch.setattr(
        vad,
        "terminal",
        SimpleNamespace(
            console=Console(force_terminal=True, legacy_windows=False), pipeline=terminal.pipeline
        ),
    )
    picture = run("vad", DIGITS).splitlines()[0]
    assert sum(picture.count(level) for level in vad._LEVELS) == 72
    assert picture.count("█") > 20


def test_vad_of_a_pipe(run):
    expected = run("vad", DIGITS)
    assert run("vad", "-", stdin=DIGITS.read_bytes()) == expected
    raw = samples().tobytes()
    assert run("vad", "-", "--rate", 8000, stdin=raw).split() == expected.split()
    found = objects(run("vad", "-", "--rate", 8000, "--json", stdin=raw))
    assert [f"{each['time']:.3f}" for each in found] == expected.split()
    assert [each["event"] for each in found[:2]] == ["start", "end"]
    assert run("vad", "-", stdin=b"") == ""


@pytest.mark.parametrize("command", [*TEXT_COMMANDS, "transcribe", "vad"])
def test_where_there_is_nothing_to_answer_it_says_so(run, tmp_path, command):
    silence = tmp_path / "silence.wav"
    with wave.open(str(silence), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
    item = silence if command in {"transcribe", "vad"} else " "
    if command == "chat":  # a dialogue waits for a turn
        run("chat", item, code=1)
        return
    expected = {"score": "perplexity 1.00  0.0 nats, 0 tokens", "vad": "(no speech)"}
    assert expected.get(command, "(no words)") in run(command, item)


def samples():
    with wave.open(str(DIGITS)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def test_transcribe_a_pipe(run):
    assert run("transcribe", "-", stdin=DIGITS.read_bytes()).strip() == SAID
    raw = samples()
    assert run("transcribe", "-", stdin=raw.tobytes()).strip() == SAID
    found = objects(run("transcribe", "-", "--json", stdin=raw.tobytes()))
    assert [each["text"] for each in found[:3]] == ["nine", "nine three", "nine three two"]
    assert [each["final"] for each in found] == [False] * (len(found) - 1) + [True]
    assert found[-1]["text"] == SAID
    stereo = np.stack([raw, raw], axis=1).astype("<f4") / 32768
    options = ("--channels", "2", "--format", "f32")
    assert run("transcribe", "-", *options, stdin=stereo.tobytes()).strip() == SAID
    assert run("transcribe", "-", stdin=raw.tobytes() + b"\0").strip() == SAID  # half of a sample
    assert run("transcribe", "-", stdin=b"") == "\n"


@pytest.mark.parametrize("command", TEXT_COMMANDS)
def test_a_line_that_cannot_be_answered_is_named(command, tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"a good film\n\n   \n\xff\xfe\x00\n")
    lines = ["--lines"] if command == "summarize" else []
    result = CliRunner().invoke(app, [command, "--file", str(path), "--json", *lines])
    assert len(objects(result.stdout)) == 2
    assert result.exit_code == 0
    result = CliRunner().invoke(app, [command, "a text", "--file", str(path)])
    assert result.exit_code == 2
    assert "not both" in result.stderr


@pytest.mark.parametrize("command", [*TEXT_COMMANDS, "generate"])
def test_no_command_of_a_text_reaches_the_terminal(command):
    arguments = ["--max-tokens", "1"] if command == "generate" else []
    if command != "generate":  # what is piped is written as it is
        result = CliRunner().invoke(app, [command, "a \x1b[31m film", *arguments])
        assert "\x1b[31m" not in result.stdout
    help_text = CliRunner().invoke(app, [command, "--help"]).stdout
    assert f"numlstm {command}" in help_text


def test_list_names_every_model_with_its_score(run):
    table = run("list")
    names = [path.stem for path in (ROOT / "weights").glob("*.safetensors")]
    assert len(names) == 12
    assert all(name in table for name in names)
    assert re.search(r"words .*\n *score, generate ", table)


@pytest.mark.parametrize("task", TASKS)
def test_the_command_of_a_task_offers_its_models(run, task):
    shown = run(TASKS[task].command, "--help")
    assert all(model in shown for model in TASKS[task].models)


@pytest.mark.parametrize("model", ["chat", "pos", "summarize"])
def test_files_of_several_networks(run, model):
    shown, proven = run("info", model), run("verify", model)
    for part in numlstm.load_parts(model):
        assert part in shown
        assert f"{part}: ok: " in proven
