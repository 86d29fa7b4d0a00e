"""Small changes of bytes, and of what JSON holds: what a hostile file is made by."""

import copy
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Change = Callable[[bytearray, bytes, Random], None]

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 16, 17, 64, 65, 127, 255, 256, 1000, 65535, 65536, 2**24, 2**26,
    2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**63 - 1, 2**63, 2**64, 10**30, -0.0, 0.5, 1.5,
    1e-45, 1e-30, 3.4e38, 1e39, 1e308, float("nan"), float("inf"), -float("inf"),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    None,
    True,
    False,
    "",
    "input",
    "\0",
    "\ud800",
    "é" * 300,
    [],
    {},
)
_DEEP = "@deep"  # stands for lists in lists, deeper than Python goes


def some(n: int, random: Random) -> range:
    """Return how often to change something: mostly once."""
    return range(random.choice((1,) * 6 + (2, 2, 4, n)))


# Bytes --------------------------------------------------------------------------------------------


def change_bytes(data: bytes, donor: bytes, random: Random) -> bytes:
    """Return bytes with some changed, cut off, put in, or taken from another file."""
    changed = bytearray(data)
    for _ in some(16, random):
        random.choice(_CHANGES)(changed, donor, random)
    return bytes(changed)


def _at(data: Sequence[Any], random: Random) -> int:
    """Return a place: often near the start, where most formats say what follows."""
    end = min(len(data), 256) if random.random() < 0.4 else len(data)
    return random.randrange(end + 1)


def _span(data: Sequence[Any], random: Random) -> slice:
    start = _at(data, random)
    return slice(start, start + random.choice((1, 2, 4, 8, 64, 512)))


def _flip(data: bytearray, donor: bytes, random: Random) -> None:
    if data:
        data[_at(data, random) % len(data)] ^= 1 << random.randrange(8)


def _set(data: bytearray, donor: bytes, random: Random) -> None:
    if data:
        data[_at(data, random) % len(data)] = random.choice((0, 1, 127, 128, 255, 34, 123, 48))


def _write_number(data: bytearray, donor: bytes, random: Random) -> None:
    size = random.choice((2, 4, 8))
    number = random.choice([n for n in NUMBERS if type(n) is int]) % 2 ** (8 * size)
    at = _at(data, random)
    data[at : at + size] = number.to_bytes(size, random.choice(("little", "big")))


def _cut(data: bytearray, donor: bytes, random: Random) -> None:
    del data[_at(data, random) :]


def _remove(data: bytearray, donor: bytes, random: Random) -> None:
    del data[_span(data, random)]


def _repeat(data: bytearray, donor: bytes, random: Random) -> None:
    part = data[_span(data, random)] * random.choice((1, 1, 2, 50))
    at = _at(data, random)
    data[at:at] = part


def _swap(data: bytearray, donor: bytes, random: Random) -> None:
    first, second = _span(data, random), _span(data, random)
    data[first], data[second] = data[second], data[first]


def _splice(data: bytearray, donor: bytes, random: Random) -> None:
    data[_span(data, random)] = donor[_span(donor, random)]


def _graft(data: bytearray, donor: bytes, random: Random) -> None:
    at = _at(data, random)
    data[at:] = donor[at:]


def _insert(data: bytearray, donor: bytes, random: Random) -> None:
    at = _at(data, random)
    data[at:at] = random.randbytes(random.choice((1, 1, 2, 8, 100)))


_CHANGES: tuple[Change, ...] = (
    _flip, _flip, _flip, _set, _write_number, _cut, _remove, _repeat, _swap, _splice, _graft,
    _insert,
)  # fmt: skip


def change_text(text: str, donor: str, words: Sequence[str], random: Random) -> str:
    """Return a text with words of a language, or bytes, changed."""
    if random.random() < 0.3:
        data = change_bytes(
            text.encode("utf-8", "replace"), donor.encode("utf-8", "replace"), random
        )
        return data.decode("utf-8", "replace")
    changed = list(text)
    for _ in some(8, random):
        new = random.choice((random.choice(words), str(random.choice(NUMBERS)), donor))
        changed[_span(changed, random)] = new
    return "".join(changed)


# What JSON holds ----------------------------------------------------------------------------------


def change_json(value: Any, donor: Any, words: Sequence[str], random: Random) -> Any:
    """Return data with numbers, names, lists changed, or parts of another file in it."""
    root = [copy.deepcopy(value)]
    for _ in some(12, random):
        places = list(_places(root))
        holder, key = random.choice(places)
        _change_place(holder, key, places, donor, words, random)
        root = root or [None]  # what was taken away was all of it
    return root[0]


def _places(value: Any) -> Any:
    """Yield every place that a value is at: a list or dict, and an index or key."""
    stack = [value]
    while stack:
        holder = stack.pop()
        keys = range(len(holder)) if isinstance(holder, list) else list(holder)
        for key in keys:
            yield holder, key
            if isinstance(holder[key], list | dict):
                stack.append(holder[key])


def _change_place(
    holder: Any, key: Any, places: Any, donor: Any, words: Sequence[str], random: Random
) -> None:
    found = holder[key]
    match random.randrange(10):
        case 0:
            holder[key] = random.choice(VALUES)
        case 1 | 2 if isinstance(found, int | float) and found == found and abs(found) < 1e300:
            holder[key] = random.choice((found + 1, found - 1, 2 * found, -found, float(found)))
        case 1 | 2:
            holder[key] = random.choice(words)
        case 3:
            del holder[key]
        case 4 if isinstance(holder, list):
            holder[key:key] = [copy.deepcopy(found)] * random.choice((1, 1, 1, 2, 300))
        case 4:
            holder[random.choice((*words, "", "\0"))] = holder.pop(key)
        case 5:
            other, at = random.choice(places)
            holder[key], other[at] = copy.deepcopy(other[at]), copy.deepcopy(found)
        case 6:
            other, at = random.choice(list(_places([donor])))
            holder[key] = copy.deepcopy(other[at])
        case 7 if isinstance(holder, dict):
            holder[random.choice(words)] = random.choice((*VALUES, *words))
        case 8 if random.random() < 0.2:
            holder[key] = _DEEP
        case _:
            same = [(h, k) for h, k in places if type(h[k] if _has(h, k) else None) is type(found)]
            other, at = random.choice(same or [(holder, key)])
            holder[key] = copy.deepcopy(other[at] if _has(other, at) else None)


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def json_text(value: Any) -> str:
    """Return what `change_json` gives as the text of a file."""
    return json.dumps(value).replace(f'"{_DEEP}"', "[" * 3000 + "]" * 3000)


# Archives -----------------------------------------------------------------------------------------


def entries(data: bytes) -> dict[str, bytes]:
    """Return the files of a zip by their names."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archived(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip of files."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, data in files.items():
            # A date of its own, or the same files would give other bytes tomorrow.
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return written.getvalue()


def change_entries(files: dict[str, bytes], random: Random) -> None:
    """Remove or rename a file of an archive, or make it large."""
    name = random.choice(list(files))
    match random.randrange(4):
        case 0:
            del files[name]
        case 1:
            files[random.choice(("", "../../x", "/x", "a/" * 100, name.upper()))] = files.pop(name)
        case 2:
            files[name] = b"\0" * random.choice((0, 1000, 30_000_000))
        case _:
            files[name] = files[random.choice(list(files))]
