"""Run recurrent networks on a plain CPU, one token at a time."""

from numlstm import analysis
from numlstm.diagnostics import diagnose, warmup
from numlstm.load import from_keras, from_onnx, from_torch, load, load_parts, save_parts
from numlstm.model import Model, Verification
from numlstm.network import recurrent
from numlstm.network.recurrent import *  # every cell
from numlstm.run.pool import Pool
from numlstm.run.sampling import SamplingOptions
from numlstm.run.stream import Stream
from numlstm.run.trace import Trace
from numlstm.spec import (
    CRF,
    Activation,
    Add,
    Attention,
    AttentionPooling,
    BatchNorm,
    Concat,
    Conv1d,
    Copy,
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
from numlstm.stages.lookahead import LookaheadStream
from numlstm.storage import bundled
from numlstm.tasks import pipeline
from numlstm.tasks.audio.transcribe import Transcript, Word
from numlstm.tasks.text.chat import Turn
from numlstm.tasks.text.classify import Prediction
from numlstm.tasks.text.language import Score
from numlstm.tasks.text.tag import Tag

__version__ = "0.1.0"

__all__ = [
    "CRF",
    "Activation",
    "Add",
    "Attention",
    "AttentionPooling",
    "BatchNorm",
    "Concat",
    "Conv1d",
    "Copy",
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
    "SamplingOptions",
    "Score",
    "Slice",
    "Softmax",
    "Stream",
    "Tag",
    "Trace",
    "Transcript",
    "Turn",
    "Verification",
    "Weights",
    "WeightsError",
    "Word",
    "analysis",
    "bundled",
    "diagnose",
    "from_keras",
    "from_onnx",
    "from_torch",
    "load",
    "load_parts",
    "pipeline",
    "save_parts",
    "warmup",
]
__all__ += recurrent.__all__
