"""Run recurrent networks on a plain CPU, one token at a time."""

from numlstm.diagnostics import diagnose, warmup
from numlstm.model import Model, Stream, Verification, from_torch, load
from numlstm.spec import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Embedding,
    LayerNorm,
    Linear,
    Network,
    Pooling,
    Softmax,
    WeightsError,
)
from numlstm.storage import bundled
from numlstm.text.pipelines import Prediction, pipeline

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "Embedding",
    "LayerNorm",
    "Linear",
    "Model",
    "Network",
    "Pooling",
    "Prediction",
    "Softmax",
    "Stream",
    "Verification",
    "WeightsError",
    "bundled",
    "diagnose",
    "from_torch",
    "load",
    "pipeline",
    "warmup",
]
