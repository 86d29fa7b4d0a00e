"""What the tensors of a state dict are said to be: ``"lstm:LSTM head:Linear"``."""

from pathlib import Path
from random import Random

from tests.fuzz._changes import change_text
from tests.fuzz.readers import seeds
from tests.fuzz.readers.torch import convert_torch

_WORDS = (
    "embed:", "lstm:", "head:", "conv:", "norm:", "crf:", "cell:", "bn:", "gru:", "Embedding",
    "RNN",
    "LSTM", "GRU", "Linear", "Conv1d", "LayerNorm", "BatchNorm1d", "CRF", "LSTMCell", "mean", "max",
    "last", "sum", "final", "softmax", "log_softmax", "tanh", "leaky_relu(0.1)", "(", ")", "=", ",",
    " ", "padding=causal", "padding=same", "stride=2", "dilation=99999999", "groups=0", "eps=nan",
    "nonlinearity=relu", "nonlinearity=x", "padding=2147483648", "stride=0", "dilation=0", "\n",
)  # fmt: skip


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    text = change_text(data.decode(), donor.decode(), _WORDS, random)
    return text.encode("utf-8", "replace")


def read(data: bytes, folder: Path, random: Random) -> str:
    path = folder / "model.pt"
    states = [file for file in seeds("torch") if b"epoch" not in file]
    first = data.partition(b":")[0] + b"."
    path.write_bytes(next((file for file in states if first in file), states[0]))
    text = data.decode("utf-8", "replace")
    layers = text if random.random() < 0.8 else text.split(" ")
    return convert_torch(path, {"layers": layers}, random)
