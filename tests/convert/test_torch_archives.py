"""Files of PyTorch and NumPy: whole modules, programs, packed weights, numbers of every size."""

import io
import warnings
import zipfile

import numpy as np
import pytest

import numlstm
from numlstm import WeightsError
from tests.cases import TOLERANCES, Tolerance
from tests.lazy import Lazy, from_torch, nn, torch

modules = Lazy("tests.convert.modules")
LAYERS = "embed:Embedding lstm:LSTM gru:GRU head:Linear"
# What PyTorch multiplies with int8 weights it rounds to 8 bits, by the largest of each product.
ROUNDED = Tolerance(0.05, 0.0, "activations of 8 bits, which are float32 here")
HALVES = Tolerance(2e-3, 0.0, "weights of 11 bits")


@pytest.fixture
def net() -> "nn.Module":
    torch.manual_seed(0)
    return modules.Tagger().eval()


def _read(path):
    return from_torch.read_state_dict(path)


def _save(path, what, net):
    """Write a network in one of the ways that PyTorch has."""
    xs = torch.arange(5)
    with warnings.catch_warnings(action="ignore"):  # of what is deprecated
        match what:
            case "module":
                torch.save(net, path)
            case "old module":
                torch.save(net, path, _use_new_zipfile_serialization=False)
            case "module in a dict":
                torch.save({"epoch": 1, "net": net}, path)
            case "script":
                torch.jit.script(net).save(str(path))
            case "trace":
                torch.jit.trace(net, xs).save(str(path))
            case "mobile":
                torch.jit.script(net)._save_for_lite_interpreter(str(path))
            case "export":
                torch.export.save(torch.export.export(net, (xs,)), path)
            case "state dict":
                torch.save(net.state_dict(), path)
            case "old state dict":
                torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)


def _equal(found, expected):
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# Modules and programs -----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["module", "old module", "script", "trace", "mobile"])
def test_a_whole_module_is_its_state_dict(tmp_path, net, what):
    path = tmp_path / "model.pt"
    _save(path, what, net)
    found = _read(path)
    _equal({name: found[name] for name in net.state_dict()}, net.state_dict())
    assert found.keys() - net.state_dict().keys() <= {"scratch"}  # a program does not tell


@pytest.mark.parametrize("what", ["module", "script", "trace", "export"])
def test_a_whole_module_is_converted_by_its_layers(tmp_path, net, what):
    path = tmp_path / "model.pt"
    del net.cells, net.scratch
    _save(path, what, net)
    model = numlstm.from_torch(path, layers=LAYERS)
    xs = torch.randint(0, 9, (30,))
    with torch.no_grad():
        TOLERANCES["output"].check(model.run(xs.int().numpy()), net(xs).numpy())


def test_a_module_in_a_checkpoint_is_found_by_its_key(tmp_path, net):
    path = tmp_path / "model.pt"
    _save(path, "module in a dict", net)
    _equal(from_torch.read_state_dict(path, "net"), net.state_dict())


# Packed weights -----------------------------------------------------------------------------------


def _quantised(net, dtype):
    kinds = {nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell, nn.Linear}
    with warnings.catch_warnings(action="ignore"):
        return torch.ao.quantization.quantize_dynamic(net, kinds, dtype=dtype)


def _expected(net, bits):
    """Return what weights are after they were rounded, by the formulas of PyTorch."""

    def rounded(name, tensor):
        if tensor.dim() < 2 or name.startswith("embed"):
            return tensor
        if bits == 16:
            return tensor.half().float()
        low, high = tensor.min().clamp(max=0), tensor.max().clamp(min=0)
        scale = torch.maximum(-low, high) / 127.5
        return (tensor / scale).round().clamp(-128, 127) * scale

    return {name: rounded(name, tensor) for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("what", ["state dict", "old state dict", "module", "script"])
def test_packed_weights_are_those_that_pytorch_rounded_to(tmp_path, net, what, bits):
    path = tmp_path / "model.pt"
    _save(path, what, _quantised(net, torch.qint8 if bits == 8 else torch.float16))
    found = _read(path)
    expected = _expected(net, bits)
    assert found.keys() - {"scratch"} == expected.keys()
    for name in ("lstm.weight_ih_l1_reverse", "gru.weight_hh_l0", "head.weight", "head.bias"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("what", ["state dict", "script"])
def test_a_quantised_network_answers_as_pytorch_but_for_its_rounding(tmp_path, net, what):
    path = tmp_path / "model.pt"
    del net.cells
    del net.scratch
    quantised = _quantised(net, torch.qint8)
    _save(path, what, quantised)
    xs = torch.randint(0, 9, (30,))
    model = numlstm.from_torch(path, layers=LAYERS)
    with torch.no_grad():
        ROUNDED.check(model.run(xs.int().numpy()), quantised(xs[:, None])[:, 0].numpy())


def test_a_live_state_dict_of_packed_weights_is_unpacked(net):
    del net.cells
    quantised = _quantised(net, torch.qint8)
    model = numlstm.from_torch(quantised.state_dict(), layers=LAYERS)
    xs = torch.randint(0, 9, (30,))
    with torch.no_grad():
        ROUNDED.check(model.run(xs.int().numpy()), quantised(xs[:, None])[:, 0].numpy())


@pytest.mark.parametrize("name", ["RNNCell", "GRUCell", "LSTMCell", "LSTM", "GRU", "Linear"])
def test_live_modules_of_packed_weights_are_those_of_torch_nn(name):
    torch.manual_seed(0)
    module = getattr(nn, name)(6, 5, *([False] if name == "Linear" else []))
    (quantised,) = _quantised(nn.Sequential(module), torch.float16)
    xs = torch.randn(9, 6)
    expected = numlstm.from_torch(module).run(xs.numpy())
    found = numlstm.from_torch(quantised).run(xs.numpy())
    HALVES.check(found, expected)


@pytest.mark.parametrize(("bidirectional", "num_layers"), [(False, 1), (False, 3), (True, 1)])
def test_directions_are_told_by_what_the_cells_read(tmp_path, bidirectional, num_layers):
    path = tmp_path / "model.pt"
    net = nn.ModuleDict({"a": nn.LSTM(4, 6, num_layers, bidirectional=bidirectional)})
    _save(path, "state dict", _quantised(net, torch.qint8))
    assert list(_read(path)) == [
        f"a.{kind}_l{layer}{end}"
        for layer in range(num_layers)
        for end in (("", "_reverse") if bidirectional else ("",))
        for kind in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
    ]


@pytest.mark.parametrize("bidirectional", [True, False])
def test_two_cells_of_one_size_are_told_apart_by_the_whole_module_only(tmp_path, bidirectional):
    path = tmp_path / "model.pt"
    lstm = nn.LSTM(6, 6, 1 if bidirectional else 2, bidirectional=bidirectional)
    quantised = _quantised(nn.ModuleDict({"a": lstm}), torch.qint8)
    _save(path, "module", quantised)
    assert set(_read(path)) == {f"a.{name}" for name in lstm.state_dict()}
    _save(path, "state dict", quantised)
    with pytest.raises(WeightsError, match=r"a: two packed cells .* may be two layers, or the two"):
        _read(path)


def test_outputs_that_are_rounded_too_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    net = nn.Sequential(torch.ao.quantization.QuantStub(), nn.Linear(3, 3))
    net.eval().qconfig = torch.ao.quantization.default_qconfig
    with warnings.catch_warnings(action="ignore"):
        torch.ao.quantization.prepare(net, inplace=True)(torch.randn(9, 3))
        torch.ao.quantization.convert(net, inplace=True)
    torch.save(net.state_dict(), path)
    with pytest.raises(WeightsError, match=r"1: its outputs are rounded too \(static"):
        _read(path)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantised_tensors_are_read_in_float32(tmp_path, axis):
    path = tmp_path / "model.pt"
    tensor = torch.randn(3, 4)
    if axis is None:
        tensor = torch.quantize_per_tensor(tensor, 0.05, 3, torch.quint8)
    else:
        n = tensor.shape[axis]
        scales, zeros = torch.rand(n).double() + 0.1, torch.arange(n)
        tensor = torch.quantize_per_channel(tensor, scales, zeros, axis, torch.qint8)
    torch.save({"a": tensor}, path)
    torch.testing.assert_close(_read(path)["a"], tensor.dequantize())


# Numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("how", ["file", "state dict", "module"])
def test_numbers_of_every_size_are_converted(tmp_path, dtype, how):
    torch.manual_seed(0)
    rnn = nn.GRU(4, 5).to(getattr(torch, dtype))
    options = {} if how == "module" else {"layers": "rnn:GRU"}
    source = rnn if how == "module" else nn.ModuleDict({"rnn": rnn}).state_dict()
    if how == "file":
        torch.save(source, tmp_path / "model.pt")
        source = tmp_path / "model.pt"
    model = numlstm.from_torch(source, **options)
    xs = torch.randn(20, 4)
    with torch.no_grad():
        TOLERANCES["output"].check(model.run(xs.numpy()), rnn.float()(xs)[0].numpy())


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, None])
def test_arrays_of_numpy_are_a_state_dict(tmp_path, dtype, save):
    torch.manual_seed(0)
    rnn = nn.GRU(4, 5)
    arrays = {f"rnn.{n}": t.numpy().astype(dtype) for n, t in rnn.state_dict().items()}
    source = arrays
    if save is not None:
        source = tmp_path / "weights.npz"
        save(source, **arrays)
    model = numlstm.from_torch(source, layers="rnn:GRU")
    with torch.no_grad():
        for name, tensor in rnn.named_parameters():
            tensor.copy_(torch.from_numpy(arrays[f"rnn.{name}"].astype(np.float32)))
        xs = torch.randn(20, 4)
        TOLERANCES["output"].check(model.run(xs.numpy()), rnn(xs)[0].numpy())


def _npz(path, name="a", content=b"", **arrays):
    np.savez(path, **arrays)
    if content:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{name}.npy", content)
    return path


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: _npy(np.array([{}])), "a: it is an array of objects, which are pickles, and not"),
        (lambda: _npy(np.array(["x"])), "a: it is an array of <U1, expected floating point"),
        (lambda: _npy(np.ones(3))[:-8], "a: it says (3,) of float64, which is not in its file"),
        (lambda: _npy(np.ones(3)).replace(b"(3,)", b"(9" + b"9" * 40 + b",)"), "a"),
        (lambda: b"hello", "cannot be read as tensors only"),
    ],
)
def test_arrays_of_something_else_are_refused(tmp_path, content, words):
    path = _npz(tmp_path / "weights.npz", content=content())
    with pytest.raises(WeightsError) as error:
        _read(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


def test_a_single_array_is_no_state_dict(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(WeightsError, match=r"is one array; save all under their names: numpy"):
        _read(tmp_path / "a.npy")
