"""numlstm against PyTorch: every cell of the table, every convertible module, every refusal."""

import pickle
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import numlstm
import numlstm.convert.torch
from numlstm import WeightsError
from numlstm.convert.torch import read_state_dict
from tests.cases import CASES, SEQ_LEN, TOLERANCES, Case, with_tensor

MODULES: dict[str, Any] = {
    "rnn_tanh": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="tanh", **options),
    "rnn_relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}


def torch_of(case: Case) -> nn.RNNBase:
    torch.manual_seed(case.size)
    return MODULES[case.cell](case.size, case.size, case.num_layers, bias=case.bias)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_step_and_the_last_state_are_those_of_torch(case):
    module = torch_of(case)
    xs = torch.randn(SEQ_LEN, case.size)
    with torch.no_grad():
        expected, last = module(xs)
    h, c = last if case.cell == "lstm" else (last, None)

    model = numlstm.from_torch(module)
    stream = model.stream()
    ys = stream.run(xs.numpy())

    TOLERANCES["h"].check(ys, expected.numpy(), "h of every step")
    names = {"h": h} if c is None else {"h": h, "c": c}
    assert set(stream.state) == {
        f"layers.{n}.{name}" for n in range(case.num_layers) for name in names
    }
    for name, values in names.items():
        for n in range(case.num_layers):
            found = stream.state[f"layers.{n}.{name}"]
            assert found.dtype == np.float32
            TOLERANCES[name].check(found, values[n].numpy(), f"last {name} of layer {n}")


def test_state_is_a_copy():
    stream = numlstm.from_torch(nn.LSTM(3, 4)).stream()
    stream.run(np.ones((5, 3)))
    before = stream.save_state()
    for values in stream.state.values():
        values[:] = 9.0
    assert stream.save_state() == before


# Stacks -------------------------------------------------------------------------------------------


def _mean(ys: torch.Tensor) -> torch.Tensor:
    return torch.stack([ys[: t + 1].mean(0) for t in range(len(ys))])


def _max(ys: torch.Tensor) -> torch.Tensor:
    return torch.stack([ys[: t + 1].max(0).values for t in range(len(ys))])


POOLINGS = {"last": lambda ys: ys, "mean": _mean, "max": _max}

STACKS: dict[str, list[Any]] = {
    "embedding": [nn.Embedding(9, 5), nn.GRU(5, 6)],
    "padding_idx": [nn.Embedding(9, 5, padding_idx=0), nn.Linear(5, 2)],
    "dropout": [nn.Linear(4, 8), nn.Dropout(0.9), nn.LSTM(8, 3, 2, dropout=0.9), nn.Identity()],
    "layer_norm": [nn.LSTM(4, 7), nn.LayerNorm(7), nn.Linear(7, 2)],
    "layer_norm_eps": [nn.Linear(4, 7), nn.LayerNorm(7, eps=0.5)],
    "layer_norm_without_weight": [nn.LayerNorm(4, elementwise_affine=False), nn.RNN(4, 3)],
    "layer_norm_without_bias": [nn.LayerNorm(4, bias=False), nn.RNN(4, 3)],
    "linear_without_bias": [nn.Linear(4, 33, bias=False)],
    "linear_tanh": [nn.Linear(4, 5), nn.Tanh()],
    "linear_relu": [nn.Linear(4, 5), nn.ReLU()],
    "linear_sigmoid": [nn.Linear(4, 5), nn.Sigmoid()],
    "two_activations": [nn.Linear(4, 5), nn.ReLU(), nn.Tanh()],
    "activation_of_a_cell": [nn.GRU(4, 17), nn.ReLU(), nn.Linear(17, 2)],
    "softmax": [nn.LSTM(4, 5), nn.Linear(5, 17), nn.Softmax(dim=-1)],
    "last": [nn.LSTM(4, 5), "last", nn.Linear(5, 2)],
    "mean": [nn.LSTM(4, 17), "mean", nn.Linear(17, 2)],
    "max": [nn.LSTM(4, 17), "max", nn.Linear(17, 2)],
    "sequential": [nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.ReLU(), nn.Linear(5, 3)))],
    "batch_first": [nn.LSTM(4, 5, batch_first=True), nn.GRU(5, 2, batch_first=True)],
    "many": [
        nn.Sequential(nn.Embedding(20, 8), nn.Dropout(0.5)),
        nn.GRU(8, 16, 2, dropout=0.3),
        nn.LayerNorm(16),
        nn.LSTM(16, 30),
        "mean",
        nn.Sequential(nn.Linear(30, 12), nn.Tanh(), nn.Linear(12, 4), nn.Softmax(dim=-1)),
    ],
}  # fmt: skip


def flatten(modules: list[Any]) -> list[Any]:
    flat = []
    for module in modules:
        flat += flatten(list(module)) if isinstance(module, nn.Sequential) else [module]
    return flat


def torch_run(modules: list[Any], xs: torch.Tensor) -> np.ndarray:
    """Run modules in eval mode on a sequence (T, ...), and leave them in train mode."""
    for module in flatten(modules):
        if isinstance(module, str):
            xs = POOLINGS[module](xs)
            continue
        module.eval()
        with torch.no_grad():
            xs = module(xs)
        xs = xs[0] if isinstance(xs, tuple) else xs
        module.train()
    return xs.numpy()


def torch_input(modules: list[Any], seq_len: int = 40) -> torch.Tensor:
    first = flatten(modules)[0]
    if isinstance(first, nn.Embedding):
        return torch.randint(first.num_embeddings, (seq_len,))
    return torch.randn(seq_len, 4)


@pytest.mark.parametrize("name", STACKS)
def test_stacks_of_modules_in_train_mode_give_what_torch_gives(name):
    modules = STACKS[name]
    torch.manual_seed(0)
    xs = torch_input(modules)
    expected = torch_run(modules, xs)
    model = numlstm.from_torch(*modules)
    TOLERANCES["output"].check(model.run(xs.numpy()), expected)
    assert all(module.training for module in flatten(modules) if isinstance(module, nn.Module))


def test_what_the_conversion_keeps_is_its_own():
    module = nn.Linear(4, 2)
    xs = np.ones((1, 4), np.float32)
    model = numlstm.from_torch(module, labels=("no", "yes"))
    before = model.run(xs)
    with torch.no_grad():
        module.weight.zero_()
    np.testing.assert_array_equal(model.run(xs), before)
    assert model.labels == ("no", "yes")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_modules_of_other_dtypes_are_converted_to_float32(dtype):
    torch.manual_seed(0)
    module = nn.LSTM(4, 5).to(dtype)
    expected = nn.LSTM(4, 5)
    expected.load_state_dict(module.state_dict())
    xs = torch.randn(9, 4)
    TOLERANCES["output"].check(
        numlstm.from_torch(module).run(xs.numpy()), torch_run([expected], xs)
    )


# Refusals -----------------------------------------------------------------------------------------


def test_everything_that_cannot_be_converted_is_listed_at_once():
    with pytest.raises(WeightsError) as caught:
        numlstm.from_torch(
            nn.Embedding(9, 4, max_norm=1.0),
            nn.LSTM(4, 4, bidirectional=True),
            nn.LSTM(4, 4, proj_size=2),
            nn.Conv1d(4, 4, 3),
            nn.LayerNorm((2, 2)),
            nn.Linear(4, 4),
            nn.Softmax(dim=0),
        )
    message = str(caught.value)
    expected = [
        r"0: Embedding: max_norm",
        r"1: LSTM: bidirectional=True",
        r"2: LSTM: proj_size=2",
        r"3: Conv1d: is not a layer numlstm knows",
        r"4: LayerNorm: normalized_shape=\(2, 2\)",
        r"6: Softmax\(dim=0\)",
    ]
    assert [line for line in expected if not re.search(line, message)] == []


class _Net(nn.Module):
    def forward(self, x):
        return x


class _MyLSTM(nn.LSTM):
    pass


REFUSALS = {
    "nothing": ((), "no layers"),
    "own module": ((_Net(),), "_Net: is not a layer numlstm knows"),
    "subclass of a cell": ((_MyLSTM(2, 2),), "_MyLSTM: is not a layer numlstm knows"),
    "cell": ((nn.LSTMCell(2, 2),), "LSTMCell: is not a layer numlstm knows"),
    "unknown pooling": ((nn.Linear(2, 2), "median"), "'median' is neither"),
    "no module": ((nn.Linear(2, 2), 3), "int is neither"),
    "pooling first": (("mean", nn.Linear(2, 2)), "0: mean has nothing before it"),
    "activation first": ((nn.Tanh(), nn.Linear(2, 2)), "0: Tanh has nothing before it"),
    "softmax over time": ((nn.Linear(2, 2), nn.Softmax(dim=1)), r"Softmax\(dim=1\)"),
    "softmax without dim": ((nn.Linear(2, 2), nn.Softmax()), r"Softmax\(dim=None\)"),
    "embedding inside": ((nn.Linear(2, 2), nn.Embedding(2, 2)), "Embedding must be the first"),
    "sizes": ((nn.LSTM(3, 4), nn.Linear(5, 2)), "input_size is 5, the layer before gives 4"),
    "not finite": ((nn.Linear(2, 2).requires_grad_(False),), "not finite"),
}
REFUSALS["not finite"][0][0].weight[0, 0] = float("nan")


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_which_module_and_why(name):
    modules, message = REFUSALS[name]
    with pytest.raises(WeightsError, match=message):
        numlstm.from_torch(*modules)


def test_labels_must_fit_the_output():
    with pytest.raises(WeightsError, match="3 labels for an output of 2"):
        numlstm.from_torch(nn.Linear(4, 2), labels=("a", "b", "c"))


# The conversion is checked ------------------------------------------------------------------------


def _swap_gates(name, a, b):
    def swap(weights):
        tensor = weights.tensors[name].copy()
        size = len(tensor) // weights.network.layers[0].num_gates
        rows = {gate: slice(gate * size, (gate + 1) * size) for gate in (a, b)}
        tensor[rows[a]], tensor[rows[b]] = tensor[rows[b]].copy(), tensor[rows[a]].copy()
        return with_tensor(weights, name, tensor)

    return swap


def _change(name, change):
    def mistake(weights):
        changed = np.ascontiguousarray(change(weights.tensors[name]), np.float32)
        return with_tensor(weights, name, changed)

    return mistake


MISTAKES = {
    "lstm: i and f swapped": (nn.LSTM, _swap_gates("layers.0.weight_hh", 0, 1)),
    "lstm: g and o swapped": (nn.LSTM, _swap_gates("layers.0.weight_ih", 2, 3)),
    "gru: r and z swapped": (nn.GRU, _swap_gates("layers.0.weight_hh", 0, 1)),
    "gru: a bias lost": (nn.GRU, _change("layers.0.bias_hh", lambda b: b * 0)),
    "rnn: transposed": (nn.RNN, _change("layers.0.weight_hh", np.transpose)),
    "head: a bias wrong by 1e-3": (nn.RNN, _change("layers.1.bias", lambda b: b + 1e-3)),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_conversion_is_caught(name, monkeypatch):
    cell, mistake = MISTAKES[name]
    convert = numlstm.convert.torch.convert
    monkeypatch.setattr(
        numlstm.convert.torch,
        "convert",
        lambda *args, **options: mistake(convert(*args, **options)),
    )
    torch.manual_seed(0)
    with pytest.raises(WeightsError, match="differs from torch"):
        numlstm.from_torch(cell(5, 5), nn.Linear(5, 2))


def test_the_largest_difference_is_logged_and_verify_repeats_it(messages):
    torch.manual_seed(0)
    model = numlstm.from_torch(nn.LSTM(4, 16), nn.Linear(16, 2))
    verification = model.verify()
    assert verification.ok
    assert verification.num_probes >= 1
    assert 0 < verification.largest_difference < 1e-5
    assert f"{verification.largest_difference:.1e}" in messages[-1]
    assert f"torch {torch.__version__}" in messages[-1]


def test_verify_fails_for_other_tensors():
    weights = numlstm.convert.torch.convert([nn.Linear(4, 2)])
    other = _change("layers.0.bias", lambda b: b + 1)(weights)
    verification = numlstm.Model(other).verify()
    assert not verification.ok
    assert verification.largest_difference == pytest.approx(1, abs=1e-5)


def test_a_module_that_overflows_is_refused_without_a_warning():
    modules = [nn.Linear(4, 4), nn.Linear(4, 2)]
    for module in modules:
        nn.init.constant_(module.weight, 1e30)
    with pytest.raises(WeightsError, match=r"nan|inf|not finite|overflow"):
        numlstm.from_torch(*modules)


def test_verify_fails_for_a_probe_that_is_nan():
    weights = numlstm.convert.torch.convert([nn.Linear(4, 2)])
    probe = replace(weights.probes[0], ys=np.full_like(weights.probes[0].ys, np.nan))
    try:
        verification = numlstm.Model(replace(weights, probes=(probe,))).verify()
    except WeightsError:
        return
    assert not verification.ok
    assert not verification.largest_difference < np.inf  # it is not 0: nan or inf


# State dicts --------------------------------------------------------------------------------------


class _Sentiment(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 5)
        self.rnn = nn.LSTM(5, 6, 2)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


DESCRIPTION = (
    "embed:Embedding rnn:LSTM norm:LayerNorm mean head.0:Linear relu head.2:Linear softmax"
)


@pytest.mark.parametrize("layers", [DESCRIPTION, DESCRIPTION.split()], ids=["string", "list"])
def test_a_state_dict_with_a_description_gives_what_the_modules_give(layers):
    torch.manual_seed(0)
    net = _Sentiment()
    model = numlstm.from_torch(net.state_dict(), layers=layers)
    xs = torch.randint(9, (30,))
    modules = [net.embed, net.rnn, net.norm, "mean", net.head, nn.Softmax(dim=-1)]
    TOLERANCES["output"].check(model.run(xs.numpy()), torch_run(modules, xs))


@pytest.mark.parametrize(
    ("module", "word"),
    [
        (nn.RNN(4, 5, 3, nonlinearity="relu"), "net:RNN(nonlinearity=relu)"),
        (nn.RNN(4, 5, bias=False), "net:RNN"),
        (nn.GRU(4, 5, 3), "net:GRU"),
        (nn.LSTM(4, 5, 3, bias=False), "net:LSTM"),
        (nn.LayerNorm(4, eps=0.25), "net:LayerNorm(eps=0.25)"),
        (nn.LayerNorm(4, bias=False), "net:LayerNorm"),
        (nn.Linear(4, 5, bias=False), "net:Linear"),
    ],
    ids=str,
)
def test_every_kind_of_word_describes_its_module(module, word):
    state = nn.ModuleDict({"net": module}).state_dict()
    xs = torch.randn(30, 4)
    model = numlstm.from_torch(state, layers=word)
    TOLERANCES["output"].check(model.run(xs.numpy()), torch_run([module], xs))


def _state(**modules: nn.Module) -> dict[str, torch.Tensor]:
    return nn.ModuleDict(modules).state_dict()


STATE_REFUSALS = {
    "no description": (_state(a=nn.Linear(2, 2)), None, "It holds: a.weight, a.bias"),
    "wrong prefix": (
        _state(a=nn.Linear(2, 2)), "b:Linear", "b:Linear: no tensor 'weight'.*\n.*a.weight belongs",
    ),
    "no prefix": (_state(a=nn.Linear(2, 2)), "Linear", "Linear needs the prefix"),
    "left over": (
        _state(a=nn.Linear(2, 2), b=nn.Linear(2, 2)), "a:Linear", "b.weight belongs to no layer",
    ),
    "left over inside": (
        _state(a=nn.Sequential(nn.Linear(2, 2))) | {"a.weight": torch.zeros(2, 2)},
        "a:Linear",
        "a:Linear",
    ),
    "unknown kind": (_state(a=nn.Linear(2, 2)), "a:Conv", "Conv is not known"),
    "unknown option": (_state(a=nn.Linear(2, 2)), "a:Linear(eps=1)", "Linear has no option eps"),
    "bad option": (_state(a=nn.LayerNorm(2)), "a:LayerNorm(eps=x)", "a:LayerNorm"),
    "bad nonlinearity": (_state(a=nn.RNN(2, 2)), "a:RNN(nonlinearity=sin)", "a:RNN"),
    "not a word": (_state(a=nn.Linear(2, 2)), "a::Linear", "'a::Linear' is not"),
    "number": (_state(a=nn.Linear(2, 2)), [3], "3 is not"),
    "bidirectional": (_state(a=nn.GRU(2, 2, bidirectional=True)), "a:GRU", "bidirectional"),
    "proj_size": (_state(a=nn.LSTM(2, 3, proj_size=2)), "a:LSTM", "proj_size"),
    "other cell": (_state(a=nn.LSTM(2, 3)), "a:GRU", "size mismatch"),
    "no vector": (_state(a=nn.LayerNorm(2)), "a:Linear", "a:Linear"),
    "no matrix": (_state(a=nn.LayerNorm(2)), "a:Embedding", "a:Embedding"),
    "convolution": (_state(a=nn.Conv1d(2, 3, 4)), "a:Embedding", "a:Embedding"),
    "not a tensor": ({"a.weight": 3}, "a:Linear", "'a.weight' is int"),
    "array": ({"a.weight": np.zeros((2, 2))}, "a:Linear", "'a.weight' is ndarray"),
    "empty": ({}, "a:Linear", "here is nothing"),
    "names that are no text": ({0: torch.zeros(2, 2)}, "a:Linear", "0 is Tensor"),
    "pooling first": (_state(a=nn.Linear(2, 2)), "mean a:Linear", "mean has nothing before it"),
}  # fmt: skip


@pytest.mark.parametrize("name", STATE_REFUSALS)
def test_a_description_that_does_not_fit_is_refused(name):
    state, layers, message = STATE_REFUSALS[name]
    with pytest.raises(WeightsError, match=message):
        numlstm.from_torch(state, layers=layers)


def test_every_problem_of_a_description_is_listed():
    with pytest.raises(WeightsError) as caught:
        numlstm.from_torch(
            _state(a=nn.Linear(2, 2), b=nn.GRU(2, 2), c=nn.Linear(2, 2)),
            layers="a:Conv x:Linear b:GRU(eps=1)",
        )
    lines = str(caught.value).split("\n  ")
    starts = ("a:Conv: Conv is not known", "x:Linear: no tensor", "b:GRU: GRU has no option eps")
    for start in (*starts[:2], "b:GRU(eps=1)", "c.weight belongs to no", "c.bias belongs to no"):
        assert any(line.startswith(start) for line in lines), start


def test_layers_are_for_state_dicts_only():
    with pytest.raises(WeightsError, match="layers is for a state dict"):
        numlstm.from_torch(nn.Linear(2, 2), layers="a:Linear")


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("key", [None, "model"])
def test_a_pt_file_is_read_as_tensors(tmp_path, zipped, key):
    state = _state(a=nn.Linear(2, 3))
    path = tmp_path / "model.pt"
    torch.save(
        state if key is None else {"epoch": 3, key: state},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    found = read_state_dict(path, key)
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_file_with_more_than_a_state_dict_asks_for_the_key(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 3, "ema": _state(a=nn.Linear(2, 2)), "model": _state()}, path)
    with pytest.raises(WeightsError, match=r"name one of its parts as key: ema$"):
        read_state_dict(path)
    with pytest.raises(WeightsError, match="holds no 'net'"):
        read_state_dict(path, "net")
    with pytest.raises(WeightsError, match="is not a state dict"):
        read_state_dict(path, "epoch")


class _Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.write_text, (self.target, "the code ran"))


@pytest.mark.parametrize("how", ["pickle", "torch", "legacy"])
def test_code_in_a_file_never_runs(tmp_path, how):
    target, path = tmp_path / "proof", tmp_path / "model.pt"
    content = {"a.weight": torch.zeros(2, 2), "b": _Bomb(target)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))  # torch warns of others
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(WeightsError, match="cannot be read as tensors only"):
        read_state_dict(path)
    assert not target.exists()


def test_a_whole_module_in_a_file_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(WeightsError, match=r"save model.state_dict\(\)"):
        read_state_dict(path)


def _archive(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("model/data.pkl", "model/constants.pkl", "model/version"), id="torchscript"),
        pytest.param(("readme.txt",), id="zip"),
        pytest.param((), id="empty zip"),
    ],
)
@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file that looks like a TorchScript")
def test_a_zip_of_something_else_is_refused(tmp_path, names):
    path = tmp_path / "model.pt"
    _archive(path, *names)
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        read_state_dict(path)


@pytest.mark.parametrize("content", [b"", b"\x80", b"hello", b"\0" * 100, bytes(range(256))])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        read_state_dict(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_truncated_file_is_refused(tmp_path, zipped):
    path = tmp_path / "model.pt"
    torch.save(_state(a=nn.Linear(2, 3)), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for size in range(0, len(whole) - 1, max(len(whole) // 100, 1)):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=re.escape(str(path))):
            read_state_dict(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch, of a flipped bit
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_damaged_file_is_refused_or_still_a_state_dict(tmp_path, zipped):
    path = tmp_path / "model.pt"
    torch.save(_state(a=nn.Linear(2, 3)), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    escaped = set()
    for at in range(0, len(whole), max(len(whole) // 400, 1)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        try:
            found = read_state_dict(path)
        except WeightsError:
            continue
        except Exception as error:
            escaped.add(type(error).__name__)
        else:
            assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())
    assert escaped == set()


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_path_is_converted_as_the_state_dict_in_it(tmp_path, as_type):
    torch.manual_seed(0)
    net = nn.ModuleDict({"rnn": nn.GRU(4, 5)})
    path = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 3, "model": net.state_dict()}, path)
    model = numlstm.from_torch(as_type(path), layers="rnn:GRU", key="model")
    xs = torch.randn(30, 4)
    TOLERANCES["output"].check(model.run(xs.numpy()), torch_run([net["rnn"]], xs))


def test_key_is_for_files_only():
    with pytest.raises(WeightsError, match=r"key is for a \.pt file"):
        numlstm.from_torch(nn.Linear(2, 2), key="model")


def test_a_missing_file_is_a_file_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "none.pt")


def test_a_chaotic_network_is_converted_with_a_probe_that_ends_before_the_chaos():
    torch.manual_seed(0)
    net = nn.LSTM(64, 128)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(10)
    model = numlstm.from_torch(net)
    lengths = [len(probe.xs) for probe in model._weights.probes]
    assert all(1 <= length < 24 for length in lengths)
    assert model.verify().ok
    calm = numlstm.from_torch(nn.LSTM(64, 128))
    assert [len(probe.xs) for probe in calm._weights.probes] == [24, 24, 24]


class _Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def _hooked() -> nn.Sequential:
    module = nn.Sequential(nn.Linear(2, 2))
    module.register_forward_hook(lambda module, args, output: 2 * output)
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (_Residual(nn.Linear(2, 2)), "_Residual"),
        (_hooked(), "Sequential has hooks"),
        (nn.Linear(2, 2, dtype=torch.complex64), "Linear has weights of torch.complex64"),
        (nn.Linear(2, 2, device="meta"), "Linear has weights of no data"),
    ],
)
def test_what_the_check_could_not_see_is_refused(module, message):
    with pytest.raises(WeightsError, match=message):
        numlstm.from_torch(module)


def test_integer_tensors_are_no_weights():
    state = {"a.weight": torch.ones(2, 2, dtype=torch.int8)}
    with pytest.raises(WeightsError, match=r"weights of torch.int8, expected floating point"):
        numlstm.from_torch(state, layers="a:Linear")


def test_a_conversion_leaves_the_random_numbers_of_torch_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    numlstm.from_torch({"a.weight": torch.ones(2, 2)}, layers="a:Linear")
    assert torch.equal(torch.rand(4), expected)


def test_labels_and_tokenizers_that_are_none_are_refused():
    module = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="labels is a str"):
        numlstm.from_torch(module, labels="ab")
    with pytest.raises(WeightsError, match="expected strings"):
        numlstm.from_torch(module, labels=[0, 1])
    with pytest.raises(WeightsError, match="tokenizer cannot be read"):
        numlstm.from_torch(nn.Embedding(3, 2), tokenizer="{}")
