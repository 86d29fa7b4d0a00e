"""The command line as a user meets it: answers on stdout, the rest on stderr, exit codes."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import normalizers

import numlstm
from tests.conftest import PATIENCE
from tests.lazy import nn, onnx, torch
from tests.tasks.text.test_classify import make_tokenizer, make_weights

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "tiny.safetensors"
    numlstm.Model(make_weights()).save(path)
    return path


def numlstm_command(*arguments, stdin=None, code=0, **environment):
    """Run the command in a process of its own, 200 columns wide; return (stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", "numlstm", *map(str, arguments)],
        input=stdin if stdin is not None else b"",
        capture_output=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        timeout=PATIENCE,
        check=False,
    )
    stdout, stderr = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, (done.returncode, stdout, stderr)
    return stdout, stderr


def test_classify_a_text(model_file):
    stdout, stderr = numlstm_command("classify", "-m", model_file, "The movie was good.")
    expected = numlstm.pipeline("sentiment", model_file)("The movie was good.")
    label, score = stdout.split()[:2]
    assert label == expected.label
    assert score == f"{expected.score:.1%}"
    assert stderr == ""


def test_classify_as_json_keeps_the_text(model_file):
    text = 'He said "Été 😀"'
    stdout, _ = numlstm_command("classify", "-m", model_file, "--json", text)
    expected = numlstm.pipeline("sentiment", model_file)(text)
    answer = {"text": text, "label": expected.label, "score": round(expected.score, 6)}
    assert json.loads(stdout) == answer


def test_classify_lines_of_stdin_and_of_a_file(model_file, tmp_path):
    texts = ["The movie was good.", "not good", "\ufffd bytes"]
    raw = b"The movie was good.\r\n\n   \nnot good\n\xff bytes"
    file = tmp_path / "lines.txt"
    file.write_bytes(raw)
    pipe = numlstm.pipeline("sentiment", model_file)
    expected = [
        {"text": text, "label": pipe(text).label, "score": round(pipe(text).score, 6)}
        for text in texts
    ]
    for arguments, stdin in (
        ([], raw),
        (["--file", "-"], raw),
        (["--file", file], None),
    ):
        stdout, stderr = numlstm_command(
            "classify", "-m", model_file, "--json", *arguments, stdin=stdin
        )
        assert stderr == ""
        assert [json.loads(line) for line in stdout.splitlines()] == expected


def test_classify_stream_shows_every_token(model_file):
    stdout, _ = numlstm_command("classify", "-m", model_file, "--json", "--stream", "The movie.")
    steps = [json.loads(line) for line in stdout.splitlines()]
    assert [step["token"] for step in steps] == ["the", "movie", "."]
    last = numlstm.pipeline("sentiment", model_file)("The movie.")
    assert steps[-1]["score"] == round(last.score, 6)


def test_a_line_without_words_has_no_label_and_the_rest_is_answered(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    path = tmp_path / "model.safetensors"
    numlstm.Model(make_weights(tokenizer)).save(path)
    stdin = "good\n\u0301\n\nnot good".encode()
    stdout, stderr = numlstm_command("classify", "-m", path, "--json", stdin=stdin)
    found = [json.loads(line) for line in stdout.splitlines()]
    assert [each["text"] for each in found] == ["good", "\u0301", "not good"]
    assert (found[1]["label"], found[1]["score"]) == ("", 0)
    assert stderr == ""
    lines, _ = numlstm_command("classify", "-m", path, stdin=stdin)
    assert lines.splitlines()[1].startswith("(no words)")


def test_a_terminal_of_another_encoding_gets_what_it_can_show(model_file):
    arguments = ("classify", "-m", model_file, "電影 good")
    plain, _ = numlstm_command(*arguments, PYTHONIOENCODING="latin-1")
    assert plain.endswith("?? good\n")
    as_json, _ = numlstm_command(*arguments, "--json", PYTHONIOENCODING="latin-1")
    assert json.loads(as_json)["text"] == "電影 good"


def test_a_text_cannot_command_the_terminal(model_file):
    stdout, _ = numlstm_command("classify", "-m", model_file, "good \x1b[31m film")
    assert "\x1b" not in stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no bash")
def test_no_stdin_is_wrong_usage(model_file):
    command = f"{sys.executable} -m numlstm classify -m {model_file} <&-"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2
    assert b"give a text" in done.stderr


def test_wrong_usage_exits_with_2(model_file, tmp_path):
    _, stderr = numlstm_command("classify", "text", "--file", "x", code=2)
    assert "not both" in stderr
    _, stderr = numlstm_command("nonsense", code=2)
    assert "nonsense" in stderr
    target = tmp_path / "there.safetensors"
    target.write_bytes(b"precious")
    _, stderr = numlstm_command("convert", "x.pt", target, "--layers", "mean", code=2)
    assert "--force" in stderr
    assert target.read_bytes() == b"precious"
    _, stderr = numlstm_command("convert", "x.pt", "x.safetensors", "--dtype", "int4", code=2)
    assert "'float32', 'bfloat16', 'int8'" in stderr
    nowhere = tmp_path / "no" / "x.safetensors"
    _, stderr = numlstm_command("convert", "x.pt", nowhere, "--layers", "mean", code=2)
    assert "is not a folder" in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "-m", "nowhere.safetensors", "text"], "'nowhere.safetensors' is not a file"),
        (["info", "[/x].safetensors"], "'[/x].safetensors' is not a file"),
        (["classify", "-m", "{broken}", "text"], "not a complete .safetensors file"),
        (["info", "{folder}"], "is a folder"),
        (["classify", "-m", "{model}", "--file", "nowhere.txt"], "nowhere.txt"),
        (["convert", "nowhere.pt", "out.safetensors", "--layers", "mean"], "is not a file"),
    ],
)
def test_failures_exit_with_1_and_one_message(model_file, tmp_path, arguments, message):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(model_file.read_bytes()[:1000])
    filled = [a.format(model=model_file, broken=broken, folder=tmp_path) for a in arguments]
    stdout, stderr = numlstm_command(*filled, code=1)
    assert stdout == ""
    assert stderr.startswith("numlstm: ")
    assert message in stderr
    assert "Traceback" not in stderr


def test_help_has_examples():
    for command in ("classify", "list", "info", "convert", "verify", "warmup", "doctor"):
        stdout, _ = numlstm_command(command, "--help")
        assert f"numlstm {command}" in stdout.split("Example")[1]


def test_version():
    stdout, _ = numlstm_command("--version")
    assert stdout == f"numlstm {numlstm.__version__}\n"


def test_doctor_tells_what_matters():
    stdout, _ = numlstm_command("doctor")
    for name in ("numba", "CPU", "registers", "kernel cache", "cache state", "threads"):
        assert name in stdout


def test_convert_info_and_verify(tmp_path):
    torch.manual_seed(1)
    net = nn.ModuleDict(
        {
            "embed": nn.Embedding(13, 6),
            "rnn": nn.LSTM(6, 7, num_layers=2),
            "head": nn.Linear(7, 2),
        }
    )
    source, target = tmp_path / "net.pt", tmp_path / "net.safetensors"
    torch.save({"epoch": 3, "model": net.state_dict()}, source)
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(make_tokenizer().to_str(), encoding="utf-8")
    stdout, _ = numlstm_command(
        "convert", source, target, "--key", "model", "--labels", "bad,good", "--tokenizer",
        tokenizer, "--layers", "embed:Embedding rnn:LSTM max head:Linear softmax",
    )  # fmt: skip
    assert "largest difference" in stdout
    assert "labels: bad, good" in numlstm_command("info", target)[0]
    assert numlstm_command("verify", target)[0].startswith("ok: 3 probes")
    classified = json.loads(numlstm_command("classify", "-m", target, "--json", "The movie")[0])
    assert classified["label"] in ("bad", "good")

    xs = torch.tensor([1, 2])
    with torch.no_grad():
        scores = net["head"](net["rnn"](net["embed"](xs))[0].max(0).values).softmax(-1).numpy()
    assert abs(classified["score"] - scores.max()) < 1e-5


def test_convert_leaves_out_what_it_is_told_and_says_so(tmp_path):
    torch.manual_seed(1)
    net = nn.ModuleDict({"rnn": nn.LSTM(6, 7), "head": nn.Linear(7, 2), "critic": nn.Linear(7, 1)})
    state = {f"agent.{name}": tensor for name, tensor in net.state_dict().items()}
    source, target = tmp_path / "net.pth.tar", tmp_path / "net.safetensors"
    torch.save({"model": state | {"agent.std": torch.ones(2)}, "iter": 3}, source)
    arguments = ("convert", source, target, "--layers", "rnn:LSTM head:Linear")
    _, stderr = numlstm_command(*arguments, code=1)
    assert '(--ignore "agent.critic.*,agent.std")' in stderr
    for ignore in (
        ["--ignore", "agent.critic.*,agent.std"],
        ["--ignore", "critic", "--ignore", "std", "--prefix", "agent", "--key", "model"],
    ):
        _, stderr = numlstm_command(*arguments, *ignore, "--force")
        assert "left out, by ignore: agent.critic.weight, agent.critic.bias, agent.std" in stderr
        assert numlstm_command("verify", target)[0].startswith("ok: 3 probes")


def test_convert_reads_a_folder_and_load_says_the_command(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    net = nn.ModuleDict({"rnn": nn.GRU(6, 7), "head": nn.Linear(7, 2)})
    source, target = tmp_path / "model.safetensors", tmp_path / "net.safetensors"
    safetensors.save_file(net.state_dict(), source)
    _, stderr = numlstm_command("info", source, code=1)
    command = f'numlstm convert {source} model.numlstm.safetensors --layers "rnn:GRU head:Linear"'
    assert command in stderr
    for path in (source, tmp_path):
        numlstm_command("convert", path, target, "--layers", "rnn:GRU head:Linear", "--force")
        assert numlstm_command("verify", target)[0].startswith("ok: 3 probes")
        target.unlink()
    _, stderr = numlstm_command("convert", tmp_path, target, "--config", "x.json", code=2)
    assert "--config is not for folders" in stderr


@pytest.mark.parametrize(("dtype", "megabytes"), [("bfloat16", "0.2"), ("int8", "0.1")])
def test_convert_to_a_dtype(tmp_path, dtype, megabytes):
    torch.manual_seed(1)
    net = nn.ModuleDict({"rnn": nn.LSTM(64, 128), "head": nn.Linear(128, 2)})
    source, target = tmp_path / "net.pt", tmp_path / "net.safetensors"
    torch.save(net.state_dict(), source)
    stdout, _ = numlstm_command(
        "convert", source, target, "--layers", "rnn:LSTM head:Linear", "--dtype", dtype
    )
    assert f"99,586 weights, {megabytes} MB in {dtype}\n" in stdout
    assert numlstm_command("info", target)[0] == stdout
    assert numlstm_command("verify", target)[0].startswith("ok: 3 probes")
    model = numlstm.from_torch(net["rnn"], net["head"]).astype(dtype)
    xs = np.ones((5, 64), np.float32)
    assert np.array_equal(numlstm.load(target).run(xs), model.run(xs))


def test_convert_says_of_an_onnx_file_what_it_does_not(tmp_path):
    source, target = tmp_path / "net.onnx", tmp_path / "net.safetensors"
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[a, b] x, int64 sr) => '
        "(float[a, b] y, float[a, b] z) { r = Cast <to = 1> (sr) y = Mul (x, r) z = Tanh (x) }"
    )
    onnx.save(model, source)
    _, stderr = numlstm_command("convert", source, target, code=1)
    assert "say it with constants={'sr': ...}" in " ".join(stderr.split())
    options = ("--constant", "sr=2", "--shape", "x=?,3")
    stdout, _ = numlstm_command("convert", source, target, *options)
    assert stdout.startswith("reads vectors of 3, answers 6 numbers (y 3, z 3) per step")
    numlstm_command("convert", source, target, *options, "--output", "y", "--force")
    assert np.array_equal(numlstm.load(target).run(np.ones((1, 3))), 2 * np.ones((1, 3)))
    for wrong in (("--constant", "sr"), ("--constant", "sr=a"), ("--shape", "x=1,b")):
        _, stderr = numlstm_command("convert", source, target, *wrong, "--force", code=2)
        assert "expected a name and" in " ".join(stderr.split())


def test_verify_fails_where_the_answers_differ(tmp_path):
    weights = make_weights()
    xs = np.array([1, 2, 3], np.int32)
    ys = numlstm.Model(weights).run(xs)
    for probe_ys, code, word in ((ys, 0, "ok"), (ys[::-1].copy(), 1, "FAILED")):
        path = tmp_path / f"{word}.safetensors"
        probe = numlstm.spec.Probe(xs, probe_ys)
        numlstm.Model(
            numlstm.spec.Weights(
                weights.network, weights.tensors, weights.labels, weights.tokenizer, (probe,), "me"
            )
        ).save(path)
        assert numlstm_command("verify", path, code=code)[0].startswith(f"{word}: 1 probes, 6")
    no_probes = tmp_path / "none.safetensors"
    numlstm.Model(weights).save(no_probes)
    assert "holds no probes" in numlstm_command("verify", no_probes, code=1)[1]


@pytest.mark.slow
def test_a_compilation_is_announced_and_the_second_run_is_silent(model_file, tmp_path):
    arguments = ("classify", "-m", model_file, "good")
    told = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMLSTM_JIT": "1"}
    _, first = numlstm_command(*arguments, **told)
    assert "compiling the kernels for this CPU, once" in first
    assert "compiled the kernels in" in first
    _, second = numlstm_command(*arguments, **told)
    assert second == ""


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="Windows has no SIGPIPE")
def test_a_reader_that_goes_away_is_no_error(model_file):
    command = f"{sys.executable} -m numlstm classify -m {model_file} --json"
    lines = b"good\n" * 20000
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"],
        input=lines,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert json.loads(done.stdout)["text"] == "good"
    assert done.returncode == 128 + signal.SIGPIPE
    assert done.stderr == b""
