"""Which regular expressions of a file are refused: in how many ways they match."""

import pytest

from numlstm import WeightsError
from numlstm.network.patterns import ways

# What tokenizers that many people use split with.
KNOWN = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k, Llama 3": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "o200k": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "DeepSeek": (
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "Bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",  # noqa: RUF001
    "numbers in threes": r"\d{1,3}(?=(?:\d{3})*\b)",
    "T5": " {2,}",
    "words and marks": r"\w+|[^\w\s]+",
    "an address": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "the same mark again": r"([^\w\s])\1*|\S",
    "a possessive one": r"\s++$|\p{L}++",
}

SLOW = [
    "(a|aa)+$", "(a+)+$", "(a|a)*b", r"^(\w+\s?)*$", "(.*)*x", r"(\w+\d*)+", "((ab)*)*",
    "(a?){30}", "(x+x+)+y", "(?:a{1,3})+", "a{1,3}+", "a**", r"(?:\.\w*\w*)+", r"(?:\.[\w.]+)+",
    "(?:\u0301\\w+)+", "(?i:(?:ss[^a-z]+)+)", "(?:(?=a)a*)+", r"([^\W]\w*)*",
    r"(?:\u9999[\u4e00-\u9fff]+)+", r"(?:[\u4e00-\u9fff]\w+)+", "(?:[[:alpha:]]a+)+",
    r"(?:\p{L}a+)+", r"(?:[^\x00-\u024f]\d+)+", r"(\1a*)+", r"(?<x>a|\g<x>)+", "(?i)(a|aa)+",
    "(?:(?:a)|aa)*", "(?=(a+)+b)", "(?>(a|aa)+)b", "(?<!(a|b)+)c",
]  # fmt: skip

UNKNOWN = ["(", ")", "[a", "[]a]", "*a", "(?x)a b", "(?#c)", "\\", r"\k<x>", "(?a:b)", "(" * 99]


@pytest.mark.parametrize("pattern", KNOWN.values(), ids=KNOWN)
def test_patterns_in_use_match_in_few_ways(pattern: str) -> None:
    assert 1 <= ways(pattern) < 2**24


@pytest.mark.parametrize("pattern", SLOW)
def test_a_group_that_is_found_in_several_ways_may_not_be_repeated(pattern: str) -> None:
    with pytest.raises(WeightsError, match="may be slow on some text"):
        ways(pattern)


@pytest.mark.parametrize("pattern", UNKNOWN)
def test_what_cannot_be_told_is_refused(pattern: str) -> None:
    with pytest.raises(
        WeightsError, match=r"may be slow on some text: what is at \d+ is not known"
    ):
        ways(pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("abc", 1), ("a|b", 2), ("a?", 2), ("a{2,4}", 3), ("a{3}", 1), ("a{3}?", 4), ("a*", 513),
        ("a+", 512), ("a+b", 1), ("a+a", 512), ("a+b?", 512 * 2), (r"\w+(?:\.\w+)*", 512 * 513),
        (r"\w+(?:\.\w+)+", 512), (r"\w+(?:\.|-)", 2), ("(?:a|b)?", 3), ("a*a*", 513**2),
        ("a{600,}", 1), ("(?=a*)a*", 513**2), ("", 1),
    ],
)  # fmt: skip
def test_ways_are_the_sum_of_alternatives_and_the_product_of_a_sequence(
    pattern: str, expected: float
) -> None:
    assert ways(pattern) == expected


def test_a_long_pattern_is_refused_or_counted_without_an_overflow() -> None:
    assert ways("a*" * 2000) == float("inf")
    with pytest.raises(WeightsError, match="it has 5,000 characters"):
        ways("a" * 5000)
