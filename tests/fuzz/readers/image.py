"""Files of kernels: machine code, so nothing but what was written may be taken for one."""

import hashlib
import json
from pathlib import Path
from random import Random

from numlstm.machine.image import Image, ImageError
from tests.fuzz import Found
from tests.fuzz._changes import change_bytes, change_json, json_text
from tests.fuzz._promises import refused

_START = 48  # of the body: a name of 16 bytes, a checksum of 32


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    if random.random() < 0.4:
        return change_bytes(data, donor, random)
    body = data[_START:]
    code_at = 4 + int.from_bytes(body[:4], "little")
    if random.random() < 0.2:
        body = change_bytes(body, donor[_START:], random)
    else:
        words = ("", "win64", "level", "target", "entries", "imports", "sources", "code")
        head = json.loads(body[4:code_at])
        text = json_text(change_json(head, head, words, random)).encode()
        body = len(text).to_bytes(4, "little") + text + body[code_at:]
    return data[:16] + hashlib.sha256(body).digest() + body


def read(data: bytes, folder: Path, random: Random) -> str:
    try:
        image = Image.from_bytes(data)
    except ImageError as error:
        return refused(error)
    if hashlib.sha256(data[_START:]).digest() != data[16:_START]:
        raise Found("an image with another checksum was taken")
    if not all(isinstance(text, str) for text in (image.level, image.target, image.sources)):
        raise Found("its level, target or sources are no text")
    size = len(image.code)
    for name, at in image.entries.items():
        if type(name) is not str or type(at) is not int or not 0 <= at < size:
            raise Found(f"entry {name!r} is at {at!r} of {size} bytes of code")
    for name, at in image.imports.items():
        if type(name) is not str or type(at) is not int or not 0 <= at <= size - 8:
            raise Found(f"the address of {name!r} goes to {at!r} of {size} bytes of code")
    if "" not in image.entries:
        raise Found("it has no entry")
    return "read"
