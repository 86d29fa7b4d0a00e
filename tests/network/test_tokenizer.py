"""What a tokenizer.json may be: what would take the machine is refused."""

import base64
import json
from typing import Any

import pytest

import numlstm
from numlstm import WeightsError
from numlstm.network.tokenizer import check
from tests.lazy import Lazy

tokenizers = Lazy("tokenizers")


def text_of(**parts: Any) -> str:
    empty = dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder", "padding"))
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model} | empty | parts)


def split(pattern: str) -> dict[str, Any]:
    pattern = {"Regex": pattern}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def in_order(*normalizers: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(normalizers)}


def table(claimed: int, *texts: str) -> dict[str, Any]:
    data = claimed.to_bytes(4, "little") + bytes(8) + b"\0".join(t.encode() for t in texts)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
@pytest.mark.parametrize(
    "component",
    [
        in_order(*[replace("a", "aa")] * 13),
        in_order(*[replace("a", "bb"), replace("b", "aa")] * 7),
        in_order(*[replace("[a-c]", "ab", "Regex")] * 13),
        in_order(*[replace("(?i:b)", "ab", "Regex")] * 13),
        in_order(*[replace(r"\\b", "a", "Regex"), replace("a", "aaaa")] * 7),
        in_order(*[{"type": "ByteLevel"}] * 7),
        in_order(
            in_order(*[{"type": "NFKD"}] * 2), in_order({"type": "ByteLevel"}, {"type": "NFKD"})
        ),
        in_order(*[{"type": "Prepend", "prepend": "ab"}, replace("a", "aa")] * 8),
        replace("a", "b" * 10**5),
        in_order(table(8, "x" * 100), table(8, "y" * 100)),
    ],
)
def test_what_makes_thousands_of_characters_of_one_is_refused(part: str, component: Any) -> None:
    with pytest.raises(WeightsError, match=r"refused: it makes .* characters of one, at most 4096"):
        check(text_of(**{part: component}))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"normalizer": table(2**32 - 1)}, "claims 4,294,967,299 bytes of 12"),
        ({"normalizer": table(9)}, "claims 13 bytes of 12"),
        ({"normalizer": table(8) | {"precompiled_charsmap": None}}, "cannot be read"),
        ({"normalizer": table(8) | {"precompiled_charsmap": "a"}}, "cannot be read"),
        ({"padding": {"strategy": {"Fixed": 2**40}}}, "pads to"),
        ({"padding": {"strategy": "BatchLongest", "pad_to_multiple_of": 2**40}}, "pads to"),
        ({"pre_tokenizer": split("(a|aa)+$")}, "may be slow"),
        ({"normalizer": replace("(a|aa)+$", "", "Regex")}, "may be slow"),
        ({"decoder": {"type": "Sequence", "decoders": [split("(a|aa)+$")]}}, "may be slow"),
        ({"pre_tokenizer": split("a*a*a*$")}, "match a word in up to 1.4e\\+08 ways"),
        ({"pre_tokenizer": in_order(*[split("a*a*$")] * 100)}, "match a word in up to"),
        ({"pre_tokenizer": in_order(*[{"type": "Whitespace"}] * 10**5)}, "has 100,001 components"),
        ({"model": {"vocab": [["a" * 513, 0.0]]}}, "a piece has 513 letters, at most 512"),
        ({"normalizer": {"pattern": {"String": "a"}, "content": "aa"}}, "object with a type"),
        ({"normalizer": in_order("Lowercase")}, "object with a type"),
        ({"pre_tokenizer": [split("a")]}, "object with a type"),
    ],
)
def test_what_takes_memory_or_time_is_refused(parts: dict[str, Any], says: str) -> None:
    with pytest.raises(
        WeightsError, match=rf"^the tokenizer is refused: .*{says}.*use it yourself"
    ):
        check(text_of(**parts))


@pytest.mark.parametrize("text", ['{"model": 1, "model": 2}', "[" * 10**5, "{", "\ud800"])
def test_what_is_no_json_or_says_a_thing_twice_cannot_be_read(text: str) -> None:
    with pytest.raises(WeightsError, match="the tokenizer cannot be read"):
        check(text)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"normalizer": in_order({"type": "Prepend", "prepend": "_"}, replace(" ", "_"))},
        {"normalizer": in_order(*[replace(c, f"^{c}") for c in "abcdefghijklmnopqrstuvwxyz"])},
        {"normalizer": in_order(table(8, "x" * 18), replace(" {2,}", "_", "Regex"))},
        {
            "normalizer": in_order(
                replace("``", "\""), {"type": "NFKD"}, {"type": "StripAccents"},
                {"type": "Lowercase"}, table(8, "x" * 18),
            )
        },
        {"decoder": in_order(replace("_", " "), {"type": "ByteFallback"}, {"type": "Fuse"})},
        {"padding": {"strategy": {"Fixed": 512}, "pad_to_multiple_of": 8}},
    ],
)  # fmt: skip
def test_what_tokenizers_do_is_not_refused(parts: dict[str, Any]) -> None:
    check(text_of(**parts))


@pytest.mark.parametrize("text", ["1", '"a"', "[]", "null"])
def test_what_is_no_tokenizer_is_left_to_the_library(text: str) -> None:
    check(text)


@pytest.mark.parametrize("name", numlstm.bundled())
def test_bundled_tokenizers_are_not_refused(name: str) -> None:
    for model in numlstm.load_parts(name).values():
        if model.tokenizer is not None:
            check(model.tokenizer)
