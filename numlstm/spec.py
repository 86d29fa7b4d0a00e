"""The names by which a network is described: its layers, `Network` and `Weights`.

Examples
--------
>>> from numlstm import spec
>>> spec.Network((spec.LSTM(40, 128), spec.Linear(128, 3))).output_size
3
"""

from numlstm.errors import WeightsError
from numlstm.network import recurrent
from numlstm.network.columns import Columns
from numlstm.network.functions import FUNCTIONS, function_text, parse_function
from numlstm.network.layer import (
    DTYPES,
    INPUT,
    LAYERS,
    MAX_SIZE,
    Layer,
    MatrixLayer,
    Shape,
)
from numlstm.network.layers import (
    CRF,
    POOLINGS,
    WINDOW_POOLINGS,
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
    Flatten,
    FrameConv1d,
    LayerNorm,
    Linear,
    LogSoftmax,
    Masking,
    Multiply,
    OneHot,
    Pool1d,
    Pooling,
    Repeat,
    Reverse,
    Slice,
    Softmax,
    Windowed,
)
from numlstm.network.network import MAX_NUMBERS, MAX_WIDTH, TOLERANCE, Network, Tensors
from numlstm.network.recurrent import *  # every cell
from numlstm.network.weights import Probe, Weights

__all__ = [
    "CRF",
    "DTYPES",
    "FUNCTIONS",
    "INPUT",
    "LAYERS",
    "MAX_NUMBERS",
    "MAX_SIZE",
    "MAX_WIDTH",
    "POOLINGS",
    "TOLERANCE",
    "WINDOW_POOLINGS",
    "Activation",
    "Add",
    "Attention",
    "AttentionPooling",
    "BatchNorm",
    "Columns",
    "Concat",
    "Conv1d",
    "Copy",
    "Embedding",
    "Feedback",
    "Flatten",
    "FrameConv1d",
    "Layer",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "Masking",
    "MatrixLayer",
    "Multiply",
    "Network",
    "OneHot",
    "Pool1d",
    "Pooling",
    "Probe",
    "Repeat",
    "Reverse",
    "Shape",
    "Slice",
    "Softmax",
    "Tensors",
    "Weights",
    "WeightsError",
    "Windowed",
    "function_text",
    "parse_function",
]
__all__ += recurrent.__all__
