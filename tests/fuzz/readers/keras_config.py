"""The JSON of a Keras model, for weights that come without one."""

import json
from pathlib import Path
from random import Random

from tests.fuzz._changes import change_json, json_text
from tests.fuzz.readers import seeds
from tests.fuzz.readers.h5 import WORDS, convert_keras


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    return json_text(change_json(json.loads(data), json.loads(donor), WORDS, random)).encode()


def read(data: bytes, folder: Path, random: Random) -> str:
    every = [file for file in seeds("h5") if b"model_config" not in file]
    weights = next(file for file in every if (b"lstm_2" not in file) == (b"embedding" in data))
    path, config = folder / "weights.h5", folder / "config.json"
    path.write_bytes(weights)
    config.write_bytes(data)
    return convert_keras(path, config, data, random)
