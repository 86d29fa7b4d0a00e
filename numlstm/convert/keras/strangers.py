"""What in the config of a Keras model numlstm does not have, and why."""

from difflib import get_close_matches

from numlstm.convert.assembly import Refused
from numlstm.convert.keras.config import (
    MODELS,
    Config,
    class_of,
    every_layer,
    layers_of,
    name_of,
    place_of,
)
from numlstm.convert.keras.layers import LAYERS
from numlstm.convert.keras.nodes import OF_MASKS
from numlstm.convert.keras.operations import OPERATIONS, operation_of

_TEXT = ("reads text or looks numbers up", "start the model behind it; a tokenizer makes token ids")
_IMAGE = ("reads images", "a network reads one row of numbers per step")
_MANY_HEADS = ("attends with several heads", "Attention and AdditiveAttention have one")
_MORE_STEPS = ("gives more steps than it reads", "a step has one row of answers")
_WHY = {
    **dict.fromkeys(
        ("TextVectorization", "StringLookup", "IntegerLookup", "Hashing", "Discretization",
         "CategoryEncoding", "HashedCrossing"),
        _TEXT,
    ),
    **dict.fromkeys(
        ("Conv2D", "Conv3D", "MaxPooling2D", "AveragePooling2D", "ConvLSTM2D", "ConvLSTM1D",
         "DepthwiseConv2D", "SeparableConv2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D"),
        _IMAGE,
    ),
    **dict.fromkeys(("MultiHeadAttention", "GroupedQueryAttention"), _MANY_HEADS),
    **dict.fromkeys(("UpSampling1D", "Conv1DTranspose"), _MORE_STEPS),
}  # fmt: skip


def strangers_of(item: Config, place: str) -> list[Refused]:
    """Return which layers of a model, and within it, numlstm does not have."""
    found = []
    for n, layer in enumerate(layers_of(item)):
        kind, where = class_of(layer), place + place_of(n, layer)
        for inner in [layer, *every_layer(layer)] if kind not in MODELS else []:
            refused = stranger(inner)
            if refused is not None:
                kind_said = operation_of(inner) or class_of(inner) or "nothing"
                refused.subject = f"{where}: {kind_said}"
                found.append(refused)
        if kind in MODELS:
            found += strangers_of(layer, f"{where} > ")
    return found


def stranger(item: Config) -> Refused | None:
    """Return why a layer cannot be had, or None."""
    kind, operation = class_of(item), operation_of(item)
    if kind == "Lambda":
        name = name_of(item)
        return Refused(
            "code in a file is not run",
            f'write it as layers, or say which it is: custom={{"{name}": "last"}}',
        )
    if operation is not None:
        known = operation in OPERATIONS or operation in OF_MASKS  # a mask is not read as numbers
        return None if known else Refused("is not an operation numlstm knows")
    if kind in MODELS or kind in LAYERS or kind.endswith(("Cell", "Cells")):
        return None
    if kind in _WHY:
        return Refused(*_WHY[kind])
    kind = kind.rpartition(">")[2]  # .h5 files have "package>Class"
    known_kinds = get_close_matches(kind, LAYERS, 1)
    near = known_kinds[0] if known_kinds else "LSTM"
    return Refused(
        "is not a layer numlstm knows",
        f'if it is one by another name: custom={{"{kind}": "{near}"}}',
    )
