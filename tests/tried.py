"""``python -m tests.tried``: files that people have, what they were answered before and are now.

Prints the table of `docs/converting.md`, or writes it there with ``--write``. Each file is
converted as it stands in the table; the differences are those to the framework's own answers to
random input, of a whole run and step by step. ``before`` is what 0.1.0 said at c1784ba.
"""

import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np

import numlstm
from numlstm import Model
from tests.conftest import ROOT

REAL = ROOT.parent / "shared" / "real"
PAGE = ROOT / "docs" / "converting.md"
BEGIN, END = "<!-- tried -->", "<!-- /tried -->"


@dataclass(frozen=True)
class File:
    """A file, how it is converted, and what that was answered before.

    where   its folder among the real networks, or what makes it
    how     Python, with the functions of numlstm by their names
    """

    where: str | Callable[[], None]
    how: str
    before: str


# The table ----------------------------------------------------------------------------------------


def differences(model: Model) -> tuple[str, str]:
    """Return the largest difference to the answers of the framework: of runs, and of steps."""
    of_runs = f"{model.verify().largest_difference:.1e}"
    if not model.network.is_causal:
        return of_runs, "whole sequences"
    largest = 0.0
    for probe in model.weights.probes:
        stream = model.stream()
        ys = np.stack([stream.step(x) for x in probe.xs])
        largest = max(largest, float(np.abs(ys - probe.ys).max()))
    return of_runs, f"{largest:.1e}"


def converted(file: File) -> Model:
    """Return the model of a file, converted in a folder where it lies."""
    known = {name: getattr(numlstm, name) for name in ("from_torch", "from_keras", "from_onnx")}
    known |= {"from_sb3": lambda path: numlstm.policy.from_sb3(path).model}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        if callable(file.where):
            file.where()
        else:
            for path in (REAL / file.where).iterdir():
                Path(path.name).symlink_to(path)
        model: Model = eval(file.how, known)
        return model


def what(file: File) -> str:
    """Return the columns of a file that are known before it is converted."""
    where = file.where.__doc__ if callable(file.where) else f"real: {file.where}"
    return f"| {where} | `{file.how}` | {file.before} |"


def row(file: File) -> str:
    """Return the line of a file."""
    return f"{what(file)} {' | '.join(differences(converted(file)))} |"


def table() -> str:
    head = ("file", "converted by", "before", "run", "step")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|---|"]
    return "\n".join(lines + [row(file) for file in FILES])


# Files of users, made here ------------------------------------------------------------------------


def _net() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm, self.head = nn.Embedding(30, 8), nn.LSTM(8, 8), nn.Linear(8, 30)

    return Net()


def compiled() -> None:
    """state dict of a compiled module"""
    import torch

    torch.save({f"_orig_mod.{n}": t for n, t in _net().state_dict().items()}, "model.pt")


def with_a_loss() -> None:
    """state dict with the weights of a loss"""
    import torch

    torch.save({**_net().state_dict(), "criterion.weight": torch.ones(30)}, "model.pt")


def weight_norm() -> None:
    """state dict with weight norm, as parametrizations"""
    import torch
    from torch.nn.utils import parametrizations

    net = _net()
    parametrizations.weight_norm(net.head)
    torch.save(net.state_dict(), "model.pt")


def weight_norm_old() -> None:
    """state dict with weight norm, as _g and _v"""
    import torch

    tensors = dict(_net().state_dict())
    weight = tensors.pop("head.weight")
    torch.save({**tensors, "head.weight_v": weight, "head.weight_g": torch.ones(30, 1)}, "model.pt")


def safetensors() -> None:
    """safetensors of another framework"""
    from safetensors.torch import save_file

    save_file(_net().state_dict(), "model.safetensors")


def tied() -> None:
    """safetensors, its head shared with the embedding"""
    from safetensors.torch import save_model

    net = _net()
    net.head.weight = net.embed.weight
    save_model(net, "model.safetensors")


def torchscript() -> None:
    """TorchScript"""
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(30, 8), nn.GRU(8, 8))
    torch.jit.script(net).save("model.pt")


def _exported(net: Any, inputs: tuple[Any, ...], names: list[str], axes: dict[str, Any]) -> None:
    import torch

    torch.onnx.export(
        net.eval(), inputs, "model.onnx", input_names=names, output_names=["y"],
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip


def _sequence_net(head_of: Callable[..., Any], head_size: int = 8) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(5, 8, batch_first=True)
            self.head = nn.Linear(head_size, 3)

        def forward(self, x: Any, *others: Any) -> Any:
            return self.head(head_of(self.lstm(x)[0], *others))

    return Net()


_TIME = {"x": {0: "batch", 1: "time"}}


def half() -> None:
    """ONNX in half precision"""
    import torch

    net, x = _sequence_net(lambda ys: ys), torch.randn(1, 6, 5)
    _exported(net.half(), (x.half(),), ["x"], {**_TIME, "y": {0: "batch", 1: "time"}})


def lengths_index() -> None:
    """ONNX with lengths: the output at length - 1"""
    import torch

    net = _sequence_net(lambda ys, n: ys[torch.arange(ys.shape[0]), n - 1])
    axes = {**_TIME, "lengths": {0: "batch"}, "y": {0: "batch"}}
    _exported(net, (torch.randn(2, 6, 5), torch.tensor([6, 4])), ["x", "lengths"], axes)


def lengths_mean() -> None:
    """ONNX with lengths: the mean up to them"""
    import torch

    def mean(ys: Any, lengths: Any) -> Any:
        mask = (torch.arange(ys.shape[1])[None] < lengths[:, None]).float()[..., None]
        return (ys * mask).sum(1) / mask.sum(1)

    axes = {**_TIME, "lengths": {0: "batch"}, "y": {0: "batch"}}
    inputs = (torch.randn(2, 6, 5), torch.tensor([6, 4]))
    _exported(_sequence_net(mean), inputs, ["x", "lengths"], axes)


def static_onnx() -> None:
    """ONNX: a sequence, and numbers of the whole"""
    import torch

    net = _sequence_net(lambda ys, static: torch.cat([ys[:, -1], static], -1), 11)
    axes = {**_TIME, "static": {0: "batch"}, "y": {0: "batch"}}
    _exported(net, (torch.randn(1, 6, 5), torch.randn(1, 3)), ["x", "static"], axes)


def qdq() -> None:
    """ONNX: int8 weights behind DequantizeLinear, opset 17"""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random, tensors, nodes = np.random.default_rng(0), [], []
    for name, shape in {"W": (1, 32, 5), "R": (1, 32, 8)}.items():
        own = {"_q": random.integers(-60, 60, shape, dtype=np.int8)}
        own |= {"_scale": np.float32(0.01), "_zero": np.int8(0)}
        tensors += [numpy_helper.from_array(np.asarray(a), name + end) for end, a in own.items()]
        nodes.append(helper.make_node("DequantizeLinear", [name + end for end in own], [name]))
    tensors.append(numpy_helper.from_array(np.array([1]), "axes"))
    nodes.append(helper.make_node("LSTM", ["x", "W", "R"], ["ys"], hidden_size=8))
    nodes.append(helper.make_node("Squeeze", ["ys", "axes"], ["y"]))
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["time", 1, size])
        for name, size in (("x", 5), ("y", 8))
    )
    graph = helper.make_graph(nodes, "quantized", [x], [y], tensors)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "model.onnx")


def _keras(make: Callable[[Any, Any], Any], static: int = 0) -> None:
    import keras

    keras.utils.set_random_seed(0)
    xs = keras.Input((20, 5), name="xs")
    inputs = [xs, keras.Input((static,), name="static")] if static else [xs]
    y = keras.layers.Dense(2)(make(keras.layers, *inputs))
    keras.Model(inputs, y).save("model.keras")


def keras_max_pooling() -> None:
    """Keras: Conv1D, MaxPooling1D, LSTM"""
    _keras(lambda k, x: k.LSTM(6)(k.MaxPooling1D(2)(k.Conv1D(8, 3, padding="same")(x))))


def keras_average_pooling() -> None:
    """Keras: Conv1D, AveragePooling1D, GRU"""
    _keras(lambda k, x: k.GRU(6)(k.AveragePooling1D(2)(k.Conv1D(8, 3, padding="same")(x))))


def keras_flatten() -> None:
    """Keras: LSTM, Flatten"""
    _keras(lambda k, x: k.Flatten()(k.LSTM(6, return_sequences=True)(x)))


def keras_last() -> None:
    """Keras: LSTM, x[:, -1]"""
    _keras(lambda k, x: k.LSTM(6, return_sequences=True)(x)[:, -1])


def keras_normalization() -> None:
    """Keras: Normalization, LSTM"""
    mean, variance = np.arange(5.0), np.arange(1.0, 6)
    _keras(lambda k, x: k.LSTM(6)(k.Normalization(mean=mean, variance=variance)(x)))


def keras_return_state() -> None:
    """Keras: the h of return_state"""
    _keras(lambda k, x: k.LSTM(6, return_state=True)(x)[1])


def keras_static() -> None:
    """Keras: a sequence, and numbers of the whole"""
    _keras(lambda k, x, static: k.Concatenate()([k.LSTM(8)(x), static]), 3)


_LAYERS = 'layers="embed:Embedding lstm:LSTM head:Linear"'
_PT = f'from_torch("model.pt", {_LAYERS})'
_SAFETENSORS = f'from_torch("model.safetensors", {_LAYERS})'
_ONNX, _KERAS = 'from_onnx("model.onnx")', 'from_keras("model.keras")'
_NO_SEQUENCE = "no input is a sequence of one batch: "
_UNKNOWN = "is not a layer numlstm knows"

FILES = (
    File(
        "silero_vad_6",
        'from_onnx("silero_vad_16k_sequence.onnx")',
        "Pad '/stft/padding/Pad': pads [0, 128, 0, 128]: only steps are padded",
    ),
    File(
        "silero_vad_6",
        'from_onnx("silero_vad_op18_ifless.onnx")',
        "Equal 'node_eq_2': this operator is not known of what depends on the input",
    ),
    File(
        "silero_vad_6",
        'from_onnx("silero_vad_op18_ifless.onnx", constants={"sr": 8000})',
        "Equal 'node_eq_2': this operator is not known of what depends on the input",
    ),
    File(
        "silero_vad",
        'from_onnx("silero_vad_16k_op15.onnx")',
        f"{_NO_SEQUENCE}input (None, None), state (2, None, 128), sr ()",
    ),
    File(
        "silero_vad_6",
        'from_torch("silero_vad_16k.safetensors")',
        "is a .safetensors file; pass safetensors.torch.load_file(path)",
    ),
    File("nsnet2", 'from_onnx("nsnet2-20ms-baseline.onnx")', "converted"),
    File("dtln", 'from_onnx("model_1.onnx")', "converted"),
    File("dtln", 'from_onnx("model_2.onnx")', "converted"),
    File("g2p_id", 'from_onnx("encoder_model.onnx")', "converted"),
    File("g2p_id", 'from_onnx("decoder_model.onnx")', "converted"),
    File("turbofan_lstm", 'from_keras("binary_model.h5")', "converted"),
    File("turbofan_lstm", 'from_keras("regression_model.h5")', "converted"),
    File(
        "rnnmorph_en",
        'from_keras("eval_model.h5", config="eval_model.json", '
        'custom={"ReversedLSTM": "LSTM Reverse"})',
        'layer 14 "LSTM_1_backward": ReversedLSTM: is not a layer numlstm knows',
    ),
    File(
        "resemblyzer",
        'from_torch("pretrained.pt", layers="lstm:LSTM final linear:Linear relu normalize", '
        'ignore="similarity_*")',
        "similarity_weight: belongs to no layer of the description",
    ),
    File(
        "dksplit",
        'from_onnx("dksplit-int8.onnx")',
        "DequantizeLinear '/embedding/Gather_output_0_DequantizeLinear': this operator is not "
        "known of what depends on the input",
    ),
    File(
        "recurrent_ppo",
        'from_sb3("ppo_lstm_cartpole_novel.zip")',
        "is an archive, but not of torch.save: it holds no data.pkl",
    ),
    File(
        "recurrent_ppo",
        'from_onnx("step_actor.onnx")',
        "LSTM '/lstm_actor/LSTM': axis 0 of X (1, 11, 2) is not that of time",
    ),
    File(
        "recurrent_ppo",
        'from_onnx("step_actor_critic.onnx")',
        "LSTM '/lstm_actor/LSTM': axis 0 of X (1, 11, 2) is not that of time",
    ),
    File(
        "noaa_streamflow",
        'from_torch("aorc_hourly_model_epoch009.pt", layers="lstm:LSTM head.net.0:Linear")',
        "converted",
    ),
    File(
        "noaa_streamflow",
        'from_torch("sugar_creek_trained.pt", layers="lstm:LSTM head:Linear")',
        "is a TorchScript program; save its tensors",
    ),
    File(compiled, _PT, "embed:Embedding: no tensor 'weight'; the state dict has nothing"),
    File(with_a_loss, _PT, "criterion.weight: belongs to no layer of the description"),
    File(weight_norm, _PT, "head:Linear: no tensor 'weight'"),
    File(weight_norm_old, _PT, "head:Linear: no tensor 'weight'"),
    File(
        safetensors, _SAFETENSORS, "is a .safetensors file; pass safetensors.torch.load_file(path)"
    ),
    File(tied, _SAFETENSORS, "is a .safetensors file; pass safetensors.torch.load_file(path)"),
    File(
        torchscript,
        'from_torch("model.pt", layers="0:Embedding 1:GRU")',
        "is a TorchScript program; save its tensors",
    ),
    File(
        half,
        _ONNX,
        "axis 0 of 'x' is no batch: two sequences together are not answered as one by one",
    ),
    File(lengths_index, _ONNX, f"{_NO_SEQUENCE}x (None, None, 5), lengths (None,)"),
    File(lengths_mean, _ONNX, f"{_NO_SEQUENCE}x (None, None, 5), lengths (None,)"),
    File(static_onnx, _ONNX, f"{_NO_SEQUENCE}x (None, None, 5), static (None, 3)"),
    File(
        qdq,
        _ONNX,
        "DequantizeLinear 'W': its constants cannot be computed: No implementation for operator "
        "'DequantizeLinear' domain '' and version 17, found 19, 21, 23, 25, None.",
    ),
    File(keras_max_pooling, _KERAS, f"MaxPooling1D: {_UNKNOWN}"),
    File(keras_average_pooling, _KERAS, f"AveragePooling1D: {_UNKNOWN}"),
    File(
        keras_flatten,
        _KERAS,
        "Flatten: changes the shape of a sequence: the steps would become features",
    ),
    File(keras_last, _KERAS, f"GetItem: {_UNKNOWN}"),
    File(keras_normalization, _KERAS, f"Normalization: {_UNKNOWN}"),
    File(keras_return_state, _KERAS, 'reads output 1 of "lstm_4", a state, expected output 0'),
    File(keras_static, _KERAS, "several inputs: expected all sequences or all vectors of numbers"),
)


def main() -> None:
    """Print the table, or write it into its page."""
    warnings.filterwarnings("ignore")
    logging.disable()
    found = table()
    if "--write" not in sys.argv:
        print(found)
        return
    text = PAGE.read_text(encoding="utf-8")
    pattern = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
    PAGE.write_text(re.sub(pattern, lambda _: f"{BEGIN}\n{found}\n{END}", text, flags=re.S))


if __name__ == "__main__":
    main()
