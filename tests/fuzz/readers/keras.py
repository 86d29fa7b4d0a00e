"""Keras 3 ``.keras`` files: an archive of JSON and of HDF5."""

import json
import zipfile
from pathlib import Path
from random import Random

from tests.fuzz._changes import (
    archived,
    change_bytes,
    change_entries,
    change_json,
    entries,
    json_text,
)
from tests.fuzz.readers.h5 import WORDS, changed_h5, convert_keras

_ARRAYS = "model.weights.h5"


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    if random.random() < 0.15:
        return change_bytes(data, donor, random)
    files, others = entries(data), entries(donor)
    match random.randrange(8):
        case 0:
            change_entries(files, random)
        case 1:
            files[_ARRAYS] = change_bytes(files[_ARRAYS], others[_ARRAYS], random)
        case 2 | 3:
            files[_ARRAYS] = changed_h5(files[_ARRAYS], others[_ARRAYS], random)
        case 4:
            name = random.choice(list(others))
            files[name] = others[name]
        case _:
            name = random.choice(("config.json", "config.json", "config.json", "metadata.json"))
            described, other = json.loads(files[name]), json.loads(others[name])
            files[name] = json_text(change_json(described, other, WORDS, random)).encode()
    is_packed = random.random() < 0.2
    return archived(files, zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED)


def read(data: bytes, folder: Path, random: Random) -> str:
    path = folder / "model.keras"
    path.write_bytes(data)
    return convert_keras(path, None, data, random)
