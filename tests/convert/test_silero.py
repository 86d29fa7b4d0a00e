"""State dicts with the names of Silero VAD: found, and held to the same network in PyTorch."""

import numpy as np
import pytest

import numlstm
from numlstm.convert import silero
from tests.lazy import functional, nn, numpy_helper, onnx, torch

SPELLINGS = {
    "safetensors": ("stft_conv.weight", "conv{}", "lstm_cell", "final_conv"),
    "TorchScript": (
        "stft.forward_basis_buffer", "encoder.{}.reparam_conv", "decoder.rnn", "decoder.decoder.2",
    ),
}  # fmt: skip


def make_state(window=256, spelling="TorchScript", prefix=""):
    """Return random tensors."""
    torch.manual_seed(window)
    basis, conv, lstm, head = SPELLINGS[spelling]
    num_bins = window // 2 + 1
    state = {basis: torch.randn(2 * num_bins, 1, window)}
    sizes = (num_bins, 128, 64, 64, 128)
    first = int(spelling == "safetensors")
    modules = {conv.format(n + first): nn.Conv1d(sizes[n], sizes[n + 1], 3) for n in range(4)} | {
        lstm: nn.LSTMCell(128, 128),
        head: nn.Conv1d(128, 1, 1),
    }
    for name, module in modules.items():
        state |= {f"{name}.{part}": tensor for part, tensor in module.state_dict().items()}
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def in_torch(state, rows, spelling="TorchScript"):
    """Return the answers to rows (T, 576) or (T, 288) as the authors' graph gives them."""
    basis, conv, lstm, head = SPELLINGS[spelling]
    context = rows.shape[1] // 9
    x = functional.pad(rows[:, None], (0, context), mode="reflect")
    x = functional.conv1d(x, state[basis], stride=2 * context)
    half = x.shape[1] // 2
    x = (x[:, :half] ** 2 + x[:, half:] ** 2).sqrt()
    first = int(spelling == "safetensors")
    for n, stride in enumerate((1, 2, 2, 1)):
        weight, bias = (state[f"{conv.format(n + first)}.{part}"] for part in ("weight", "bias"))
        x = functional.conv1d(x, weight, bias, stride, padding=1).relu()
    cell = nn.LSTMCell(128, 128)
    cell.load_state_dict({n: state[f"{lstm}.{n}"] for n in cell.state_dict()})
    h = c = torch.zeros(1, 128)
    found = []
    for row in x[:, :, 0]:
        h, c = cell(row[None], (h, c))
        y = functional.conv1d(h.relu()[..., None], state[f"{head}.weight"], state[f"{head}.bias"])
        found.append(float(y.sigmoid()))
    return np.array(found)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("window", [256, 128])
@pytest.mark.parametrize("prefix", ["", "_model."])
def test_a_state_dict_is_known_by_its_names(window, spelling, prefix):
    model = numlstm.from_torch(make_state(window, spelling, prefix))
    rows = torch.randn(20, 9 * window // 4)
    with torch.no_grad():
        expected = in_torch(make_state(window, spelling), rows, spelling)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(model.run(rows.numpy())[:, 0], expected, atol=1e-5)
    assert list(numlstm.pipeline("vad", model).models) == [62 * window + window // 2]


def test_of_two_networks_one_is_chosen():
    both = make_state(256, prefix="_model.") | make_state(128, prefix="_model_8k.")
    shapes = {name: tuple(tensor.shape) for name, tensor in both.items()}
    assert silero.rates(shapes) == {"_model.": 16000, "_model_8k.": 8000}
    with pytest.raises(
        numlstm.WeightsError,
        match=r"it holds two networks of Silero VAD, '_model\.' at 16000 Hz and '_model_8k\.' at "
        "8000 Hz; choose one by prefix=",
    ):
        numlstm.from_torch(both)
    assert numlstm.from_torch(both, prefix="_model.").input_size == 576
    assert numlstm.from_torch(both, prefix="_model_8k").input_size == 288


@pytest.mark.parametrize("damage", ["missing", "shape", "window"])
def test_another_network_of_these_names_is_not_guessed(damage):
    state = make_state()
    if damage == "missing":
        del state["decoder.rnn.bias_hh"]
    elif damage == "shape":
        state["encoder.1.reparam_conv.bias"] = torch.ones(65)
    else:
        state["stft.forward_basis_buffer"] = torch.ones(258, 1, 255)
    with pytest.raises(numlstm.WeightsError, match="a state dict does not say what its layers are"):
        numlstm.from_torch(state)


@pytest.mark.parametrize(("options", "size"), [({}, 512), ({"constants": {"sr": 8000}}, 256)])
def test_a_graph_of_version_4_reads_the_chunks_of_its_authors(options, size):
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1, n] input, int64 sr, float[1, 1] h, float[1, 1] c)
        => (float[1, 1] output, float[1, 1] hn, float[1, 1] cn) {
        rows = Unsqueeze (input, axis) padded = Pad <mode = "reflect"> (rows, ends)
        windows = Conv <strides = [64]> (padded, kernel)
        mean = ReduceMean <axes = [2], keepdims = 0> (windows)
        ch = Add (h, mean) hn = Tanh (ch) cc = Sub (c, mean) cn = Tanh (cc)
        rate = Cast <to = 1> (sr) sum = Add (hn, cn) both = Div (sum, rate) output = Sigmoid (both)
    }"""
    graph = onnx.parser.parse_model(text)
    kernel = np.random.default_rng(0).normal(0, 0.1, (1, 1, 256)).astype(np.float32)
    ends = np.array([0, 0, 64, 0, 0, 64])  # which no axis of time can be padded with
    for name, array in (("kernel", kernel), ("axis", np.array([1])), ("ends", ends)):
        graph.graph.initializer.append(numpy_helper.from_array(array, name))
    model = numlstm.from_onnx(graph, **options)
    assert model.input_size == size
    assert model.verify().ok
