"""``numlstm horizon`` and ``numlstm trace``: tables, JSON, pictures, errors."""

import json
import sys

import numpy as np
import pytest

import numlstm
from numlstm import analysis
from numlstm.cli import horizon, trace
from tests.cases import NETWORKS, random_input, random_weights
from tests.cli.test_cli import numlstm_command
from tests.tasks.text.test_classify import make_weights

TEXT = "The movie was not good."


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model that reads text, one that reads vectors, and numbers for it."""
    folder = tmp_path_factory.mktemp("look")
    numlstm.Model(make_weights()).save(folder / "text.safetensors")
    numlstm.Model(random_weights(NETWORKS["gru_7"])).save(folder / "vectors.safetensors")
    np.save(folder / "xs.npy", random_input(NETWORKS["gru_7"], 30))
    (folder / "text.txt").write_text(TEXT * 5)
    (folder / "book.txt").write_text(TEXT * 100)
    return folder


def lines_of(stdout):
    return [json.loads(line) for line in stdout.splitlines()]


@pytest.mark.long
def test_memory_of_numbers(files):
    model, xs = files / "vectors.safetensors", files / "xs.npy"
    stdout, stderr = numlstm_command("horizon", model, "--file", xs, "-k", 12, "--json")
    found = analysis.horizon(numlstm.load(model), np.load(xs)[:24], 12)
    expected = [
        {"layer": name, "half_life": found.half_life[name], "norms": norms.tolist()}
        for name, norms in found.norms.items()
    ]
    assert lines_of(stdout) == expected
    assert len(expected) == 2
    assert stderr == ""
    table, _ = numlstm_command("horizon", model, "--file", xs, "-k", 12)
    for line in expected:
        row = next(row for row in table.splitlines() if line["layer"] in row)
        assert f"{line['norms'][10]:.2g}" in row
        assert row.count("█") >= 1


@pytest.mark.long
def test_memory_of_a_text_of_a_file_and_of_random_input(files, capsys):
    path = str(files / "text.safetensors")

    def written(**options):
        horizon.horizon(path, as_json=True, **options)
        return capsys.readouterr().out

    text, file = written(text=TEXT * 5), written(file=files / "text.txt")
    stdin, _ = numlstm_command("horizon", path, "--json", "-f", "-", stdin=(TEXT * 5).encode())
    assert text == file == stdin
    once, again = written(), written()
    assert once == again != text
    assert len(lines_of(once)[0]["norms"]) == 101

    book = written(file=files / "book.txt", max_distance=10)
    model = numlstm.load(path)
    norms = analysis.horizon(model, model.load_tokenizer().encode(TEXT * 100).ids[:20], 10).norms
    assert [line["norms"] for line in lines_of(book)] == [n.tolist() for n in norms.values()]


@pytest.mark.long
def test_trace_is_that_of_the_stream(files):
    path = files / "text.safetensors"
    model = numlstm.load(path)
    rows = lines_of(numlstm_command("trace", path, TEXT, "--json")[0])
    encoding = model.load_tokenizer().encode(TEXT, add_special_tokens=False)
    gates = model.stream().trace(encoding.ids).of_layer()
    assert [row["token"] for row in rows] == [TEXT[a:b] for a, b in encoding.offsets]
    for t, row in enumerate(rows):
        assert list(row) == ["token", *gates]
        for name, values in gates.items():
            kept = values[t] if name in "iforz" else np.abs(values[t])
            assert row[name] == pytest.approx(float(kept.mean()), abs=1e-6)
    table, stderr = numlstm_command("trace", path, TEXT)
    shown = table.splitlines()
    assert shown[0].split() == list(gates)
    assert len(shown) == 1 + len(rows)
    for line, row in zip(shown[1:], rows, strict=True):
        assert line.startswith(row["token"])
        assert line.split()[-len(gates) :] == [f"{row[name]:.2f}" for name in gates]
    assert stderr == ""


def test_a_part_of_several_networks(files, tmp_path, capsys):
    text, other = (numlstm.load(files / f"{name}.safetensors") for name in ("text", "vectors"))
    path = str(tmp_path / "parts.safetensors")
    numlstm.save_parts({"first": text, "second": other}, path)
    trace.trace(path, TEXT, part="first", as_json=True)
    trace.trace(str(files / "text.safetensors"), TEXT, as_json=True)
    rows = lines_of(capsys.readouterr().out)
    assert rows[: len(rows) // 2] == rows[len(rows) // 2 :]
    xs = files / "xs.npy"
    horizon.horizon(path, file=xs, part="second", as_json=True, max_distance=3)
    horizon.horizon(str(files / "vectors.safetensors"), file=xs, as_json=True, max_distance=3)
    rows = lines_of(capsys.readouterr().out)
    assert rows[: len(rows) // 2] == rows[len(rows) // 2 :]
    for of, part, message in (
        (path, None, "several networks: choose one by --part, first, second"),
        (path, "third", "no network 'third': choose one by --part, first, second"),
        (str(files / "text.safetensors"), "first", "one network, without a name"),
    ):
        with pytest.raises(ValueError, match=message):
            trace.trace(of, TEXT, part=part)


@pytest.mark.long
def test_a_text_cannot_command_the_terminal(files):
    stdout, _ = numlstm_command("trace", files / "text.safetensors", "was \x1b[31m good\n movie")
    assert "\x1b" not in stdout


@pytest.mark.long
def test_pictures(files, tmp_path):
    path = files / "text.safetensors"
    numlstm_command("horizon", path, "--plot", tmp_path / "horizon.png")
    stdout, _ = numlstm_command("trace", path, TEXT, "--plot", tmp_path / "trace.png")
    assert stdout == ""
    for name in ("horizon.png", "trace.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    model = numlstm.Model(random_weights(NETWORKS["gru_7"]))
    xs = random_input(model.network, 5)
    for plot in (analysis.horizon(model, xs).plot, model.stream().trace(xs).plot):
        with pytest.raises(ImportError, match=r"pip install 'numlstm\[plot\]'"):
            plot(tmp_path / "picture.png")


@pytest.mark.long
def test_what_is_wrong_is_told(files, tmp_path):
    text, vectors = (str(files / f"{name}.safetensors") for name in ("text", "vectors"))
    for call, message in (
        (lambda: trace.trace(vectors, "words"), "no tokenizer, so it reads no text"),
        (lambda: horizon.horizon(vectors, text="words"), "the model has no tokenizer"),
        (lambda: horizon.horizon(vectors, file=files / "text.txt"), "the model has no tokenizer"),
        (lambda: trace.trace(text, "  "), "the text is empty"),
        (lambda: trace.trace(text, TEXT, "layers.9"), "'layers.9' is no recurrent layer"),
        (lambda: trace.trace(text, TEXT, plot=tmp_path / "a.txt"), r"does not end in \.png"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for code, message, *arguments in (
        (1, "none.txt", "horizon", text, "--file", tmp_path / "none.txt"),
        (2, "not both", "horizon", text, "--text", TEXT, "--file", "x"),
        (2, "max-distance", "horizon", text, "-k", 0),
    ):
        _, stderr = numlstm_command(*arguments, code=code)
        assert message in stderr
        assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("shape", "kind"),
    [("(3,", "<f4"), ("(9, 2)", "<f4"), ("(1073741824, 7)", "<f4"), ("(2,)", "O"), ("(2,)", "")],
)
def test_a_damaged_array_is_refused(files, tmp_path, shape, kind):
    path = tmp_path / "xs.npy"
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head.encode())
    with pytest.raises(numlstm.WeightsError, match=r"xs\.npy: is not an array of numbers"):
        horizon.horizon(str(files / "vectors.safetensors"), file=path)


def test_a_trace_of_too_few_tokens_is_not_drawn(tmp_path):
    model = numlstm.Model(random_weights(NETWORKS["lstm_7"]))
    traced = model.stream().trace(random_input(model.network, 3))
    with pytest.raises(ValueError, match="2 tokens were given for 3 steps"):
        traced.plot(tmp_path / "a.png", ["a", "b"])
    with pytest.raises(ValueError, match="no steps to draw"):
        model.stream().trace(np.zeros((0, 7))).plot(tmp_path / "a.png")
