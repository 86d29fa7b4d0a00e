"""ONNX files: their bytes, and every field of the graph, with data beside the file."""

import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx

import numlstm
import numlstm.convert.onnx as convert
import numlstm.convert.onnx.source as source
from tests.fuzz import Found
from tests.fuzz._changes import NUMBERS, change_bytes, some
from tests.fuzz._promises import check_model, refused

_WORDS = (
    "LSTM", "GRU", "RNN", "MatMul", "Gemm", "Add", "Mul", "Tanh", "Sigmoid", "Relu", "Reshape",
    "Transpose", "Squeeze", "Unsqueeze", "Concat", "Slice", "Gather", "Split", "Softmax", "Pad",
    "Range", "Expand", "Tile", "ConstantOfShape", "Shape", "Conv", "Loop", "Scan", "If", "Where",
    "Identity", "Cast", "Resize", "OneHot", "ReduceMean", "Einsum", "hidden_size", "direction",
    "bidirectional", "reverse", "activations", "axis", "axes", "perm", "to", "value", "clip",
    "layout", "linear_before_reset", "x", "y", "", "ai.onnx", "location", "offset", "length",
    "../secret.bin", "/etc/passwd", "data.bin", "input_forget", "shape", "start", "body",
    "DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "com.microsoft",
    "DynamicQuantizeLSTM", "QLinearMatMul", "QLinearConv", "FusedConv", "block_size", "transB",
)  # fmt: skip
SECRET = np.float32(1234.5)

_evaluator, _probe = source._evaluator, convert._probe
_FULL = 50  # one in so many conversions asks ONNX Runtime, too


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    if random.random() < 0.25:
        return change_bytes(data, donor, random)
    model, other = onnx.load_model_from_string(data), onnx.load_model_from_string(donor)
    for _ in some(6, random):
        _change(random.choice(_messages(model)), _messages(other), random)
    return bytes(model.SerializeToString())


def read(data: bytes, folder: Path, random: Random) -> str:
    inside = folder / "models"
    inside.mkdir(exist_ok=True)
    path = inside / "model.onnx"
    path.write_bytes(data)
    (inside / "data.bin").write_bytes(np.linspace(-1, 1, 600, dtype=np.float32).tobytes())
    (folder / "secret.bin").write_bytes(np.full(5000, SECRET).tobytes())
    is_full = zlib.crc32(data) % _FULL == 0
    source._evaluator = _evaluator if is_full else lambda _: ("nobody", None)
    convert._probe = _probe if is_full else lambda _: ()
    try:
        model = numlstm.from_onnx(random.choice((path, path, data)))
    except (numlstm.WeightsError, OSError) as error:
        return refused(error)
    if any((tensor == SECRET).any() for tensor in model.weights.tensors.values()):
        raise Found("data of another folder was read")
    return check_model(model, random)


def _messages(message: Any) -> list[Any]:
    """Return a message and all that are in it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                found += _messages(part)
    return found


def _change(message: Any, donors: list[Any], random: Random) -> None:
    """Change a field of a message: set another value, remove, repeat, or take a donor's."""
    fields = [field for field, _ in message.ListFields()]
    if not fields or random.random() < 0.1:
        fields = list(message.DESCRIPTOR.fields)
    field = random.choice(fields)
    value = getattr(message, field.name)
    if random.random() < 0.1:
        message.ClearField(field.name)
    elif field.message_type is not None:
        same = [m for m in donors if m.DESCRIPTOR.full_name == field.message_type.full_name]
        if not field.is_repeated:
            if same:
                value.CopyFrom(random.choice(same))
            return
        match random.randrange(4):
            case 0 if len(value):
                del value[random.randrange(len(value))]
            case 1 if len(value):
                value.add().CopyFrom(random.choice(list(value)))
            case 2 if len(value) > 1:
                value.append(value.pop(random.randrange(len(value))))
            case _ if same:
                value.add().CopyFrom(random.choice(same))
    elif field.is_repeated:
        new = _scalar(field, value[0] if len(value) else None, random)
        if len(value) and random.random() < 0.7:
            value[random.randrange(len(value))] = new
        else:
            value.append(new)
    else:
        setattr(message, field.name, _scalar(field, value, random))


def _scalar(field: Any, old: Any, random: Random) -> Any:
    """Return a value of the type of a field."""
    match field.cpp_type:
        case field.CPPTYPE_STRING if field.type == field.TYPE_BYTES:
            return change_bytes(old or b"", b"\0" * 64, random)
        case field.CPPTYPE_STRING:
            return random.choice(_WORDS)
        case field.CPPTYPE_FLOAT | field.CPPTYPE_DOUBLE:
            return float(np.clip(float(random.choice(NUMBERS)), -3e38, 3e38))
        case field.CPPTYPE_BOOL:
            return not old
        case field.CPPTYPE_ENUM:
            return random.choice([v.number for v in field.enum_type.values])
    near = [(old or 0) + 1, (old or 0) - 1, -(old or 0)]
    numbers = [n for n in [*NUMBERS, *near, *near] if type(n) is int]
    size = 32 if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 64
    if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        return random.choice([n for n in numbers if 0 <= n < 2**size])
    return random.choice([n for n in numbers if -(2 ** (size - 1)) <= n < 2 ** (size - 1)])
