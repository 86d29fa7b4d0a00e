"""The texts of functions: ``"leaky_relu(0.3)"``."""

import math
from pathlib import Path
from random import Random

from numlstm import WeightsError, spec
from tests.fuzz import Found
from tests.fuzz._changes import change_text
from tests.fuzz._promises import refused

_WORDS = (*spec.FUNCTIONS, "(", ")", ",", " ", "e", "nan", "inf", "_", "\n", "٣", "0x1")


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    text = change_text(data.decode(), donor.decode(), _WORDS, random)
    return text.encode("utf-8", "replace")


def read(data: bytes, folder: Path, random: Random) -> str:
    try:
        name, parameters = spec.parse_function(data.decode("utf-8", "replace"))
    except WeightsError as error:
        return refused(error)
    if len(parameters) != len(spec.FUNCTIONS[name]) or not all(map(math.isfinite, parameters)):
        raise Found(f"{data!r} is {name} with {parameters}")
    again = spec.parse_function(spec.function_text(name, *parameters))
    if again != (name, parameters):
        raise Found(f"{data!r} is {name} {parameters}, its text is {again}")
    return "read"
