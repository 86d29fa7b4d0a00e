"""Run recurrent networks on a plain CPU, one token at a time.

A name is imported when it is first used: ``import numlstm`` alone imports not even NumPy, and a
process that loads a model and steps it nothing that it does not need.
"""

import sys
from typing import TYPE_CHECKING

if "free-threading" in sys.version:
    raise ImportError(
        "numlstm relies on the GIL to keep two threads off one stream, and on where objects lie in "
        "a Python that has one: this Python is free-threaded, use one that is not"
    )

# At once: the module has the name of a function, which it would replace if it came later.
from numlstm.load import from_keras, from_onnx, from_torch, load, load_parts, save_parts

if TYPE_CHECKING:
    from numlstm import analysis, policy
    from numlstm.budget import Budget
    from numlstm.diagnostics import diagnose, warmup
    from numlstm.model import Model, Verification
    from numlstm.network import recurrent
    from numlstm.network.recurrent import *  # every cell
    from numlstm.run.loop import off_loop
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
        Flatten,
        FrameConv1d,
        LayerNorm,
        Linear,
        LogSoftmax,
        Masking,
        Multiply,
        Network,
        OneHot,
        Pool1d,
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
    from numlstm.tasks.audio.voice import SpeechEvent, SpeechSegment, VoiceActivity
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
    "Budget",
    "Concat",
    "Conv1d",
    "Copy",
    "Embedding",
    "Feedback",
    "Flatten",
    "FrameConv1d",
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
    "Pool1d",
    "Pooling",
    "Prediction",
    "Repeat",
    "Reverse",
    "SamplingOptions",
    "Score",
    "Slice",
    "Softmax",
    "SpeechEvent",
    "SpeechSegment",
    "Stream",
    "Tag",
    "Trace",
    "Transcript",
    "Turn",
    "Verification",
    "VoiceActivity",
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
    "off_loop",
    "pipeline",
    "policy",
    "save_parts",
    "warmup",
]
if TYPE_CHECKING:
    __all__ += recurrent.__all__
else:
    _NAMES = __all__
    del __all__  # `__getattr__` makes it, with every cell

    # The modules of names; those of layers are in `spec`.
    _HOMES = {
        "Budget": "budget",
        "LookaheadStream": "stages.lookahead",
        "Model": "model",
        "Pool": "run.pool",
        "Prediction": "tasks.text.classify",
        "SamplingOptions": "run.sampling",
        "Score": "tasks.text.language",
        "SpeechEvent": "tasks.audio.voice",
        "SpeechSegment": "tasks.audio.voice",
        "Stream": "run.stream",
        "Tag": "tasks.text.tag",
        "Trace": "run.trace",
        "Transcript": "tasks.audio.transcribe",
        "Turn": "tasks.text.chat",
        "Verification": "model",
        "VoiceActivity": "tasks.audio.voice",
        "Word": "tasks.audio.transcribe",
        "bundled": "storage",
        "diagnose": "diagnostics",
        "off_loop": "run.loop",
        "pipeline": "tasks",
        "warmup": "diagnostics",
    }

    def __getattr__(name):
        from importlib import import_module
        from importlib.util import find_spec

        if name == "__all__":
            return _NAMES + import_module("numlstm.network.recurrent").__all__
        if name in _HOMES:
            found = getattr(import_module(f"numlstm.{_HOMES[name]}"), name)
        elif name[0].isupper() and name in __getattr__("__all__"):
            found = getattr(import_module("numlstm.spec"), name)
        elif name[0].islower() and find_spec(f"numlstm.{name}"):
            found = import_module(f"numlstm.{name}")
        else:
            raise AttributeError(f"module 'numlstm' has no attribute {name!r}")
        globals()[name] = found
        return found

    def __dir__():
        return sorted({*globals(), *__getattr__("__all__")})
