"""numlstm and the state dicts of PyTorch: descriptions, networks with names, files."""

import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import WeightsError, reference, spec
from numlstm.spec import Network
from tests.cases import CELL_OPTIONS, TOLERANCES
from tests.convert.payloads import Bomb
from tests.convert.test_torch import own, torch_run
from tests.lazy import from_torch, nn, pickles, torch, torch_cells
from tests.test_reference_equations import best_path

# State dicts --------------------------------------------------------------------------------------


DESCRIPTION = (
    "embed:Embedding rnn:LSTM norm:LayerNorm mean head.0:Linear relu head.2:Linear softmax"
)


@pytest.mark.parametrize("layers", [DESCRIPTION, DESCRIPTION.split()], ids=["string", "list"])
def test_a_state_dict_with_a_description_gives_what_the_modules_give(layers):
    torch.manual_seed(0)
    net = own.Sentiment()
    model = numlstm.from_torch(net.state_dict(), layers=layers)
    xs = torch.randint(9, (30,))
    modules = [net.embed, net.rnn, net.norm, "mean", net.head, nn.Softmax(dim=-1)]
    TOLERANCES["output"].check(model.run(xs.numpy()), torch_run(modules, xs))


KINDS: list[tuple[str, Callable[[], Any]]] = [
    ("net:RNN(nonlinearity=relu)", lambda: nn.RNN(4, 5, 3, nonlinearity="relu")),
    ("net:RNN", lambda: nn.RNN(4, 5, bias=False)),
    ("net:GRU", lambda: nn.GRU(4, 5, 3)),
    ("net:LSTM", lambda: nn.LSTM(4, 5, 12, bias=False)),
    (
        "net:RNN(nonlinearity=relu)",
        lambda: nn.RNN(4, 5, 2, nonlinearity="relu", bidirectional=True),
    ),
    ("net:GRU", lambda: nn.GRU(4, 5, 3, bidirectional=True, bias=False)),
    ("net:LSTM", lambda: nn.LSTM(4, 5, 2, proj_size=3)),
    ("net:LSTM", lambda: nn.LSTM(4, 17, 2, proj_size=3, bidirectional=True)),
    ("net:RNNCell(nonlinearity=relu)", lambda: nn.RNNCell(4, 5, nonlinearity="relu")),
    ("net:GRUCell", lambda: nn.GRUCell(4, 5, bias=False)),
    ("net:LSTMCell", lambda: nn.LSTMCell(4, 17)),
    ("net:LayerNorm(eps=0.25)", lambda: nn.LayerNorm(4, eps=0.25)),
    ("net:LayerNorm", lambda: nn.LayerNorm(4, bias=False)),
    ("net:BatchNorm1d", lambda: nn.BatchNorm1d(4)),
    ("net:BatchNorm1d(eps=0.25)", lambda: nn.BatchNorm1d(4, eps=0.25, affine=False)),
    ("net:Linear", lambda: nn.Linear(4, 5, bias=False)),
    ("net:Conv1d", lambda: nn.Conv1d(4, 6, 3)),
    ("net:Conv1d(padding=same)", lambda: nn.Conv1d(4, 6, 5, padding="same", bias=False)),
    ("net:Conv1d(padding=valid)", lambda: nn.Conv1d(4, 6, 2, padding="valid")),
    (
        "net:Conv1d( stride=2,dilation=3, groups=2 , padding=1 )",
        lambda: nn.Conv1d(4, 6, 3, stride=2, dilation=3, groups=2, padding=1),
    ),
]


@pytest.mark.parametrize(("word", "make"), KINDS, ids=[word for word, _ in KINDS])
def test_every_kind_of_word_describes_its_module(word, make):
    module = make()
    xs = torch.randn(30, 4)
    model = numlstm.from_torch(_state(net=module), layers=word)
    expected = torch_run([module], xs, model.network.is_causal)
    TOLERANCES["output"].check(model.run(xs.numpy()), expected)


def test_a_causal_convolution_is_described():
    module = nn.Conv1d(4, 6, 3, dilation=2)
    xs = torch.randn(30, 4)
    model = numlstm.from_torch(
        _state(net=module), layers="net:Conv1d(padding=causal, dilation=2) relu"
    )
    expected = torch_run([nn.ZeroPad1d((4, 0)), module, nn.ReLU()], xs)
    TOLERANCES["output"].check(model.run(xs.numpy()), expected)
    assert model.network.is_causal


@pytest.mark.parametrize(
    ("words", "modules"),
    [
        ("leaky_relu(0.1)", ["leaky_relu(0.1)"]),
        ("hard_sigmoid(0.25, 0.5) log_softmax", []),
        ("mean", ["mean"]),
        ("sum", ["sum"]),
        ("max", ["max"]),
        ("last", ["last"]),
        ("final", ["final"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_words_without_tensors(words, modules, bidirectional):
    cell = nn.LSTM(4, 5, 2, bidirectional=bidirectional)
    if "hard_sigmoid" in words:
        identity = nn.Linear(cell.bidirectional * 5 + 5, cell.bidirectional * 5 + 5)
        with torch.no_grad():
            identity.weight.copy_(torch.eye(len(identity.weight)) / 4)
            identity.bias.fill_(0.5)
        modules = [nn.Hardtanh(-2, 2), identity, nn.LogSoftmax(-1)]
    xs = torch.randn(30, 4)
    model = numlstm.from_torch(_state(net=cell), layers=f"net:LSTM {words}")
    expected = torch_run([cell, *modules], xs, model.network.is_causal)
    TOLERANCES["output"].check(model.run(xs.numpy()), expected)


NOT_OF_ALL = ("log", "sqrt", "reciprocal")  # 1 / x of what is close to 0 is nothing but rounding


@pytest.mark.parametrize("word", [w for w in spec.FUNCTIONS if w not in NOT_OF_ALL])
def test_every_function_is_a_word(word):
    model = numlstm.from_torch(_state(net=nn.Linear(3, 4)), layers=f"net:Linear {word}")
    assert model.network.layers[0].activation == word
    assert model.verify().ok


def test_batch_norm_of_an_old_file_has_no_count():
    state = _state(net=nn.BatchNorm1d(4))
    del state["net.num_batches_tracked"]
    assert numlstm.from_torch(state, layers="net:BatchNorm1d").verify().ok


def arrays_of(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_crf_is_that_of_pytorch_crf(batch_first):
    torch.manual_seed(0)
    tagger, crf = nn.Linear(4, 3), own.CRF(3, batch_first)
    described = numlstm.from_torch(_state(tagger=tagger, crf=crf), layers="tagger:Linear crf:CRF")
    for model in (described, numlstm.from_torch(tagger, crf)):
        for seq_len in (1, 2, 6):
            xs = torch.randn(seq_len, 4)
            tags = best_path(arrays_of(crf), torch_run([tagger], xs))
            np.testing.assert_array_equal(model.run(xs.numpy()), np.eye(3)[tags])


# Networks with names ------------------------------------------------------------------------------


SKIP = Network(
    (
        spec.Embedding(9, 5, name="embed"),
        spec.LSTM(5, 6, direction="bidirectional", name="encoder"),
        spec.LSTM(12, 6, direction="bidirectional", name="encoder.l1"),
        spec.GRU(5, 12, inputs=("embed",), name="cell"),
        spec.Add(12, inputs=("encoder.l1", "cell")),
        spec.BatchNorm(12, name="norm"),
        spec.Linear(17, 2, inputs=("norm", "embed"), name="head"),
    )
)


def test_a_network_that_is_no_chain_reads_its_tensors_by_the_names_of_its_layers(tmp_path):
    torch.manual_seed(0)
    net = own.Skip().eval()
    xs = torch.randint(9, (30,))
    with torch.no_grad():
        expected = net(xs).numpy()
    path = tmp_path / "skip.pt"
    torch.save({"model": net.state_dict()}, path)
    for model in (
        numlstm.from_torch(net.state_dict(), network=SKIP, labels=("a", "b")),
        numlstm.from_torch(path, network=SKIP, key="model"),
    ):
        TOLERANCES["output"].check(model.run(xs.numpy()), expected)
        assert model.network == SKIP
        assert len(model.weights.probes) == 3


@pytest.mark.parametrize("name", CELL_OPTIONS)
def test_cells_that_torch_has_not_are_read_by_the_names_of_their_tensors(name):
    torch.manual_seed(0)
    layer = CELL_OPTIONS[name]
    cell, head = torch_cells.MODULES[type(layer)](layer), nn.Linear(7, 3)
    for parameter in cell.parameters():
        nn.init.normal_(parameter, std=0.5)
    network = Network((replace(layer, name="cell"), spec.Linear(7, 3, name="head")))
    model = numlstm.from_torch(_state(cell=cell, head=head), network=network)
    xs = torch.randn(30, layer.input_size)
    with torch.no_grad():
        expected = head(cell(xs)[0]).numpy()
    TOLERANCES["output"].check(model.run(xs.numpy()), expected)


def test_a_decoder_that_attends_to_a_memory_is_converted():
    network = Network((spec.GRU(4, 5, name="rnn"), spec.Attention(5, 6, "general", name="score")))
    state = _state(rnn=nn.GRU(4, 5)) | {"score.weight_query": torch.randn(6, 5)}
    model = numlstm.from_torch(state, network=network)
    memory = np.random.default_rng(0).standard_normal((7, 6), np.float32)
    xs = np.ones((3, 4), np.float32)
    expected, _ = reference.run(network, model.weights.tensors, xs, memory)
    TOLERANCES["output"].check(model.run(xs, memory=memory), expected)
    assert model.verify().num_probes == 3
    assert model.verify().ok


def test_every_problem_of_a_network_is_listed():
    network = Network(
        (
            spec.LSTM(4, 5, name="rnn"),
            spec.LSTM(5, 6, bias=False, name="cell"),
            spec.Linear(6, 2),
            spec.Linear(2, 3, name="head"),
            spec.Linear(3, 3, False, name="int"),
        )
    )
    state = _state(rnn=nn.LSTM(4, 6, 2), other=nn.Linear(2, 2)) | {
        "head.weight": torch.zeros(2, 3),
        "int.weight": torch.ones(3, 3, dtype=torch.int8),
    }
    with pytest.raises(WeightsError) as caught:
        numlstm.from_torch(state, network=network)
    assert str(caught.value).split("\n  ")[1:] == [
        "rnn.weight_ih_l0: expected (20, 4), found (24, 4)",
        "rnn.weight_hh_l0: expected (20, 5), found (24, 6)",
        "rnn.bias_ih_l0: expected (20,), found (24,)",
        "rnn.bias_hh_l0: expected (20,), found (24,)",
        "cell.weight_ih_l0 or cell.weight_ih: missing, expected (24, 5)",
        "cell.weight_hh_l0 or cell.weight_hh: missing, expected (24, 6)",
        "layers.2: Linear(input_size=6, output_size=2, bias=True, activation=None): "
        "its name is that of its module, expected one",
        "head.weight: expected (3, 2), found (2, 3)",
        "head.bias: missing, expected (3,)",
        "int.weight: expected floating point, found torch.int8",
        "rnn: weight_ih_l1 (24, 6), weight_hh_l1 (24, 6), bias_ih_l1 (24,), bias_hh_l1 (24,) "
        "belongs to no layer of the network",
    ]


def test_layers_and_networks_are_for_state_dicts_only():
    network = Network((spec.Linear(2, 2, name="a"),))
    with pytest.raises(WeightsError, match="layers is for a state dict"):
        numlstm.from_torch(nn.Linear(2, 2), layers="a:Linear")
    with pytest.raises(WeightsError, match="network is for a state dict"):
        numlstm.from_torch(nn.Linear(2, 2), network=network)
    with pytest.raises(WeightsError, match="pass one"):
        numlstm.from_torch(_state(a=nn.Linear(2, 2)), network=network, layers="a:Linear")


# Refusals -----------------------------------------------------------------------------------------


def _state(**modules: "nn.Module") -> "dict[str, torch.Tensor]":
    return nn.ModuleDict(modules).state_dict()


STATE_REFUSALS = {
    "no description": (lambda: _state(a=nn.Linear(2, 2)), None, "It holds: a.weight, a.bias"),
    "wrong prefix": (
        lambda: _state(a=nn.Linear(2, 2)),
        "b:Linear",
        "b:Linear: no tensor 'weight'; the state dict has no b; .*\n.*a: weight .* belongs",
    ),
    "no prefix": (lambda: _state(a=nn.Linear(2, 2)), "Linear", "Linear needs the prefix"),
    "left over": (
        lambda: _state(a=nn.Linear(2, 2), b=nn.Linear(2, 2)),
        "a:Linear",
        r"b: weight \(2, 2\), bias \(2,\) belongs to no layer",
    ),
    "left over inside": (
        lambda: _state(a=nn.Sequential(nn.Linear(2, 2))) | {"a.weight": torch.zeros(2, 2)},
        "a:Linear",
        r"a\.0: .* belongs to no layer of the description",
    ),
    "unknown kind": (lambda: _state(a=nn.Linear(2, 2)), "a:Conv", "Conv is not known"),
    "unknown option": (
        lambda: _state(a=nn.Linear(2, 2)),
        "a:Linear(eps=1)",
        "Linear has no option eps",
    ),
    "bad option": (lambda: _state(a=nn.LayerNorm(2)), "a:LayerNorm(eps=x)", "eps is 'x', expected"),
    "bad nonlinearity": (lambda: _state(a=nn.RNN(2, 2)), "a:RNN(nonlinearity=sin)", "a:RNN"),
    "not a word": (lambda: _state(a=nn.Linear(2, 2)), "a::Linear", "'a::Linear': is not"),
    "number": (lambda: _state(a=nn.Linear(2, 2)), [3], "3: is not"),
    "other rows": (
        lambda: _state(a=nn.GRU(2, 3)),
        "a:LSTM",
        "weight_ih has 9 rows, not 4 per unit",
    ),
    "projection of a gru": (
        lambda: _state(a=nn.GRU(2, 3)) | {"a.weight_hr_l0": torch.zeros(2, 3)},
        "a:GRU",
        "a:GRU",
    ),
    "half a direction": (
        lambda: _state(a=nn.GRU(2, 3)) | {"a.weight_ih_l0_reverse": torch.zeros(9, 2)},
        "a:GRU",
        "no tensor 'weight_hh_l0_reverse', 'bias_ih_l0_reverse', 'bias_hh_l0_reverse'",
    ),
    "bad padding": (
        lambda: _state(a=nn.Conv1d(2, 3, 2)),
        "a:Conv1d(padding=full)",
        "padding is 'full', expected a whole number",
    ),
    "long padding": (
        lambda: _state(a=nn.Conv1d(2, 3, 2)),
        "a:Conv1d(padding=2)",
        "more than the kernel reaches",
    ),
    "bad stride": (lambda: _state(a=nn.Conv1d(2, 3, 2)), "a:Conv1d(stride=0)", "stride"),
    "option twice": (
        lambda: _state(a=nn.Conv1d(2, 3, 2)),
        "a:Conv1d(stride=1, stride=2)",
        "there twice",
    ),
    "option without value": (
        lambda: _state(a=nn.Conv1d(2, 3, 2)),
        "a:Conv1d(stride)",
        "'stride' is not",
    ),
    "empty options": (lambda: _state(a=nn.Conv1d(2, 3, 2)), "a:Conv1d()", "'' is not option=value"),
    "function": (
        lambda: _state(a=nn.Linear(2, 2)),
        "a:Linear leaky_relu(1,2)",
        "expected 1 numbers",
    ),
    "final": (
        lambda: _state(a=nn.Linear(2, 2)),
        "a:Linear final",
        "final: is of a recurrent layer",
    ),
    "other cell": (
        lambda: _state(a=nn.LSTM(2, 3)),
        "a:GRU",
        r"weight_hh_l0 expected \(12, 4\), found",
    ),
    "no vector": (lambda: _state(a=nn.LayerNorm(2)), "a:Linear", "a:Linear"),
    "no matrix": (lambda: _state(a=nn.LayerNorm(2)), "a:Embedding", "a:Embedding"),
    "convolution": (lambda: _state(a=nn.Conv1d(2, 3, 4)), "a:Embedding", "a:Embedding"),
    "not a tensor": (lambda: {"a.weight": 3}, "a:Linear", "'a.weight' is int"),
    "array of texts": (lambda: {"a.weight": np.array(["a"])}, "a:Linear", "is an array of <U1"),
    "empty": (lambda: {}, "a:Linear", "here is nothing"),
    "names that are no text": (lambda: {0: torch.zeros(2, 2)}, "a:Linear", "0 is Tensor"),
    "pooling first": (
        lambda: _state(a=nn.Linear(2, 2)),
        "mean a:Linear",
        "mean: has nothing before it",
    ),
}


@pytest.mark.parametrize("name", STATE_REFUSALS)
def test_a_description_that_does_not_fit_is_refused(name):
    state, layers, message = STATE_REFUSALS[name]
    with pytest.raises(WeightsError, match=message):
        numlstm.from_torch(state(), layers=layers)


def test_every_problem_of_a_description_is_listed():
    with pytest.raises(WeightsError) as caught:
        numlstm.from_torch(
            _state(a=nn.Linear(2, 2), b=nn.GRU(2, 2), c=nn.Linear(2, 2)),
            layers="a:Conv x:Linear b:GRU(eps=1)",
        )
    lines = str(caught.value).split("\n  ")
    starts = ("a:Conv: Conv is not known", "x:Linear: no tensor", "b:GRU: GRU has no option eps")
    for start in (*starts[:2], "b:GRU(eps=1)", "c: weight (2, 2), bias (2,) belongs to"):
        assert any(line.startswith(start) for line in lines), start


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
    found = from_torch.read_state_dict(path, key)
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_file_with_more_than_a_state_dict_asks_for_the_key(tmp_path):
    path = tmp_path / "checkpoint.pt"
    one, other = _state(a=nn.Linear(2, 2)), _state(b=nn.Linear(2, 2))
    torch.save({"epoch": 3, "ema": one, "model": other}, path)
    with pytest.raises(WeightsError, match=r"holds several state dicts: 'ema' .*; choose one, as"):
        from_torch.read_state_dict(path)
    with pytest.raises(WeightsError, match="holds no 'net'; it holds epoch, ema, model"):
        from_torch.read_state_dict(path, "net")
    with pytest.raises(WeightsError, match="holds no state dict"):
        from_torch.read_state_dict(path, "epoch")


@pytest.mark.parametrize("how", ["pickle", "torch", "legacy"])
def test_code_in_a_file_never_runs(tmp_path, how):
    target, path = tmp_path / "proof", tmp_path / "model.pt"
    content = {"a.weight": torch.zeros(2, 2), "b": Bomb(target)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))  # torch warns of others
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    if how == "pickle":  # what makes its tensors is not known either
        with pytest.raises(WeightsError, match="cannot be read as tensors only"):
            from_torch.read_state_dict(path)
    else:
        model = numlstm.from_torch(path, layers="a:Linear")
        assert model.output_size == 2
    assert not target.exists()


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
@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file that looks like a Torch")
def test_a_zip_of_something_else_is_refused(tmp_path, names):
    path = tmp_path / "model.pt"
    _archive(path, *names)
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        from_torch.read_state_dict(path)


@pytest.mark.parametrize("content", [b"", b"\x80", b"hello", b"\0" * 100, bytes(range(256))])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        from_torch.read_state_dict(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_truncated_file_is_refused(tmp_path, zipped):
    path = tmp_path / "model.pt"
    torch.save(_state(a=nn.Linear(2, 3)), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for size in range(0, len(whole) - 1, max(len(whole) // 100, 1)):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=re.escape(str(path))):
            from_torch.read_state_dict(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch, of a flipped bit
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_damaged_file_is_refused_or_still_a_state_dict(tmp_path, zipped):
    path = tmp_path / "model.pt"
    torch.save(_state(a=nn.Linear(2, 3)), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    outcomes = set()
    for at in range(0, len(whole), max(len(whole) // 400, 1)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        try:
            found = from_torch.read_state_dict(path)
        except Exception as error:
            outcomes.add(type(error))
        else:
            outcomes |= {type(found), *map(type, found.values())}
    assert outcomes - {pickles.Stranger} == {WeightsError, dict, torch.Tensor}


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_path_is_converted_as_the_state_dict_in_it(tmp_path, as_type):
    torch.manual_seed(0)
    net = nn.ModuleDict({"rnn": nn.GRU(4, 5)})
    path = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 3, "model": net.state_dict()}, path)
    model = numlstm.from_torch(as_type(path), layers="rnn:GRU", key="model")
    xs = torch.randn(30, 4)
    TOLERANCES["output"].check(model.run(xs.numpy()), torch_run([net["rnn"]], xs))


@pytest.mark.parametrize(
    "options", [{"key": "model"}, {"prefix": ""}, {"ignore": "a"}, {"tensors": {}}], ids=str
)
def test_what_chooses_tensors_is_for_state_dicts_only(options):
    with pytest.raises(WeightsError, match=rf"{next(iter(options))} is for a state dict"):
        numlstm.from_torch(nn.Linear(2, 2), **options)


def test_a_missing_file_is_a_file_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        from_torch.read_state_dict(tmp_path / "none.pt")


def test_integer_tensors_are_no_weights():
    state = {"a.weight": torch.ones(2, 2, dtype=torch.int8)}
    with pytest.raises(WeightsError, match=r"weight is torch.int8, expected floating point: whole"):
        numlstm.from_torch(state, layers="a:Linear")


def test_a_conversion_leaves_the_random_numbers_of_torch_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    numlstm.from_torch({"a.weight": torch.ones(2, 2)}, layers="a:Linear")
    assert torch.equal(torch.rand(4), expected)
