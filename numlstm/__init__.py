"""Run recurrent networks on a plain CPU, one token at a time."""

from numlstm import analysis
from numlstm.diagnostics import diagnose, warmup
from numlstm.lookahead import LookaheadStream
from numlstm.model import Model, Verification
from numlstm.pool import Pool
from numlstm.sources import from_keras, from_onnx, from_torch, load
from numlstm.spec import (
    CRF,
    GRU,
    LSTM,
    RNN,
    Activation,
    Add,
    Attention,
    AttentionPooling,
    BatchNorm,
    Concat,
    Conv1d,
    Embedding,
    Feedback,
    LayerNorm,
    Linear,
    LogSoftmax,
    Masking,
    Multiply,
    Network,
    OneHot,
    Pooling,
    Repeat,
    Reverse,
    Slice,
    Softmax,
    Weights,
    WeightsError,
)
from numlstm.storage import bundled
from numlstm.stream import Stream
from numlstm.text.pipelines import Prediction, pipeline
from numlstm.trace import Trace

__version__ = "0.1.0"

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "Add",
    "Attention",
    "AttentionPooling",
    "BatchNorm",
    "Concat",
    "Conv1d",
    "Embedding",
    "Feedback",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "LookaheadStream",
    "Masking",
    "Model",
    "Multiply",
    "Network",
    "OneHot",
    "Pool",
    "Pooling",
    "Prediction",
    "Repeat",
    "Reverse",
    "Slice",
    "Softmax",
    "Stream",
    "Trace",
    "Verification",
    "Weights",
    "WeightsError",
    "analysis",
    "bundled",
    "diagnose",
    "from_keras",
    "from_onnx",
    "from_torch",
    "load",
    "pipeline",
    "warmup",
]
