"""Classes of a user that Keras does not have, said in layers that it has.

    custom={"ReversedLSTM": "LSTM Reverse", "lambda_2": "last"}

A name is that of a class, or of one layer. The first word takes its weights and the options in the
file; options in brackets stand above those: ``"LSTM(recurrent_activation=hard_sigmoid)"``. The
others read what the one before them gives.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numlstm.convert.keras.call import Call, Value
from numlstm.convert.keras.config import Config, class_of, config_of, name_of
from numlstm.convert.keras.layers import LAYERS, Translate
from numlstm.convert.keras.recurrent import turned_round
from numlstm.convert.keras.windows import pooled
from numlstm.errors import first_of
from numlstm.spec import WeightsError
from numlstm.strict_json import read_json

_WORD = re.compile(r"(\w+)(?:\(([^()]*)\))?")


def _pooled(mode: str) -> Translate:
    return lambda call: pooled(call, mode)


def _reverse(call: Call) -> Value:
    return turned_round(call, call.any_one())


# What is said beside the names of layers.
WORDS: Mapping[str, Translate] = {
    "Reverse": _reverse,
    **{mode: _pooled(mode) for mode in ("last", "mean", "max", "sum")},
}


@dataclass(frozen=True)
class Word:
    """A layer that reads what a custom one gave: its kind in `LAYERS` or `WORDS`, its options."""

    kind: str
    options: Config

    @property
    def translate(self) -> Translate:
        return WORDS.get(self.kind) or LAYERS[self.kind]


def read_custom(custom: Mapping[str, str] | None) -> dict[str, tuple[Word, ...]]:
    """Return what names stand for.

    Raises
    ------
    WeightsError
        If something is no layer of Keras that is known, or cannot be read.
    """
    if custom is None:
        return {}
    if not isinstance(custom, Mapping):
        raise WeightsError(f"custom is {type(custom).__name__}, expected a dict of str")
    return {str(name): _words(str(name), text) for name, text in custom.items()}


def _words(name: str, text: Any) -> tuple[Word, ...]:
    subject = f"custom[{name!r}]"
    if not isinstance(text, str) or not text.strip():
        raise WeightsError(f'{subject} is {text!r}, expected layers, as in "LSTM Reverse"')
    pieces = re.findall(r"[^\s()]+(?:\([^()]*\))?", text)
    matches = [_WORD.fullmatch(piece) for piece in pieces]
    if "".join(pieces).replace(" ", "") != "".join(text.split()):
        matches.append(None)
    found = []
    for match in matches:
        if match is None or (match[1] not in LAYERS and match[1] not in WORDS):
            what = repr(match[1]) if match else repr(text)
            raise WeightsError(
                f"{subject}: {what} is no layer of Keras that is known; beside those there are "
                f"{first_of(WORDS)}"
            )
        found.append(Word(match[1], _options(subject, match[2] or "")))
    return tuple(found)


def _options(subject: str, text: str) -> Config:
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign:
            raise WeightsError(f"{subject}: {part!r}, expected option=value")
        try:
            found[name] = read_json(value)
        except ValueError:
            found[name] = value
    return found


def renamed(config: Any, custom: Mapping[str, tuple[Word, ...]]) -> Any:
    """Return a config whose classes are those that names stand for.

    The class that the file has stays as ``written_as``, by which its weights are found.
    """
    if isinstance(config, list):
        return [renamed(value, custom) for value in config]
    if not isinstance(config, dict):
        return config
    found = {name: renamed(value, custom) for name, value in config.items()}
    kind = class_of(config)
    words = custom.get(kind, custom.get(_own_name(kind)))
    if kind and isinstance(config.get("config", {}), dict):
        words = custom.get(name_of(config), words)
    return found if words is None or not isinstance(config_of(found), dict) else _as(found, words)


def _own_name(kind: str) -> str:
    """Return the name of a class without that of its package: .h5 files have ``"me>Mine"``."""
    return kind.rpartition(">")[2]


def _as(item: Config, words: tuple[Word, ...]) -> Config:
    first, *others = words
    own = config_of(item)
    if class_of(item) == "Lambda" or first.kind in WORDS:
        own = {name: own[name] for name in ("name", "trainable") if name in own}
    if first.kind in WORDS:
        first, others = Word("Identity", {}), [first, *others]
    more = {
        "class_name": first.kind,
        "module": "keras.layers",
        "registered_name": None,
        "config": own | first.options,
        "written_as": class_of(item),
        "then": tuple(others),
    }
    return item | more


def missing(custom: Mapping[str, Any], config: Any) -> list[str]:
    """Return the names that are neither a class nor a layer of a config."""
    names: set[str] = set()
    pending = [config]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            found = [v for v in (item.get("class_name"), item.get("name")) if isinstance(v, str)]
            names |= {*found, *map(_own_name, found)}
            pending += item.values()
        elif isinstance(item, list):
            pending += item
    return [name for name in custom if name not in names]
