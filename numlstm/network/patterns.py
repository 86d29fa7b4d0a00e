r"""Regular expressions that a file brings: refused where some text would make them slow.

Oniguruma, which the tokenizers library asks, goes back and tries every way in which a text can be
matched: ``(a|aa)+$`` has one for each way to write 45 as a sum of ones and twos. Here those ways
are counted, from above: a repetition has as many as a word has letters, or one if what follows
cannot be a part of it; a sequence has the product, alternatives have the sum. A group may be
repeated if a text is that in one way only: ``(?:\.\w+)*``, but not ``(?:\.?\w+)*``.
"""

import re
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf, prod

from numlstm.errors import WeightsError

LONGEST = 512  # letters of a word: what reads text cuts it there
_MAX_PATTERN = 4096  # characters
_MAX_DEPTH = 32

_SAMPLE = "".join(map(chr, [*range(0x250), *range(0x250, 0x3100, 16), 0x10FFFF]))

_OPENS = re.compile(r"\((?:\?(?:([im]*)(?:-[im]+)?:|(<?[=!])|>|<[A-Za-z]\w*>))?")
_BOUNDS = re.compile(r"\{(\d+)?(,?)(\d+)?\}")
_ESCAPE = re.compile(r"\\(?:[pP]\{\^?\w+\}|x[\da-fA-F]{2}|u[\da-fA-F]{4}|[1-9wWsSdDnrtfv]|[^\w])")
_SHORT = re.compile(r"\\[wWsSdD]")
_ANCHOR = re.compile(r"\^|\$|\\[bBAzZG]")


@dataclass
class Item:
    """An atom, which takes a character; or a group, or a place, which takes none.

    text           of an atom, "" of a group
    alternatives   of a group
    folds          whether capitals are small letters, and "ss" is a letter too
    """

    text: str = ""
    alternatives: "list[list[Item]]" = field(default_factory=list)
    takes: bool = True
    folds: bool = False
    least: int = 1
    most: float = 1

    @property
    def varies(self) -> bool:
        return self.least != self.most

    def may_take(self, character: str) -> bool:
        """Whether it may take a character: an atom."""
        return self.folds or _compiled(self.text) is None or _takes(self.text, character)

    def characters(self) -> frozenset[str] | None:
        """Return which of a sample it may take, with those it names; None where that is unknown."""
        return None if self.folds else _characters(self.text)


def ways(pattern: str) -> float:
    """Return in how many ways, at most, a text can be matched from one place on.

    Raises
    ------
    WeightsError
        If that cannot be told, or grows with every letter.
    """
    return _of_alternatives(pattern, parsed(pattern))


def parsed(pattern: str) -> list[list[Item]]:
    """Return the alternatives of a pattern, or raise a `WeightsError`."""
    return _Parser(pattern).whole()


def atoms(alternatives: list[list[Item]]) -> Iterator[Item]:
    """Yield what takes the characters of a match."""
    for item in (item for items in alternatives for item in items if item.takes):
        if item.text:
            yield item
        yield from atoms(item.alternatives)


def may_be_empty(alternatives: list[list[Item]]) -> bool:
    """Whether a match may take nothing."""
    return any(
        all(
            not item.takes
            or not item.least
            or (item.text == "" and may_be_empty(item.alternatives))
            for item in items
        )
        for items in alternatives
    )


def _refused(pattern: str, why: str) -> WeightsError:
    return WeightsError(f"the pattern {pattern[:80]!r} may be slow on some text: {why}")


# Counting -----------------------------------------------------------------------------------------


def _of_alternatives(pattern: str, alternatives: list[list[Item]]) -> float:
    return sum((_of_sequence(pattern, items) for items in alternatives), 0.0)


def _of_sequence(pattern: str, items: list[Item]) -> float:
    each = (_of_item(pattern, item, items[n + 1 :]) for n, item in enumerate(items))
    return prod(each, start=1.0)


def _of_item(pattern: str, item: Item, rest: list[Item]) -> float:
    if item.alternatives and item.most <= 1:
        return (1 - item.least) + _of_alternatives(pattern, item.alternatives)
    if item.alternatives and not _is_definite(item):
        raise _refused(
            pattern,
            "it repeats a group that can be found in several ways; let that begin with a character "
            "that nothing else in it may be, and repeat one thing at most",
        )
    if not item.varies or (item.text and _ends_before(item, rest)):
        return 1
    return min(item.most, LONGEST) - item.least + 1 if item.least < LONGEST else 1


def _is_definite(group: Item) -> bool:
    """Whether a text is a repetition of the group in one way only."""
    items = [item for item in group.alternatives[0] if item.takes]
    if len(group.alternatives) > 1 or not items or not all(item.text for item in items):
        return False
    begins, *others = items
    num_varying = sum(item.varies for item in items)
    return num_varying == 0 or (
        num_varying == 1
        and not begins.varies
        and all(_are_disjoint(begins, other) for other in others)
    )


def _ends_before(item: Item, rest: list[Item]) -> bool:
    """Whether what follows an atom must be there, and cannot be a part of it."""
    follows = next((other for other in rest if other.takes), None)
    if follows is not None and follows.least and follows.alternatives:
        heads = [next((i for i in items if i.takes), None) for items in follows.alternatives]
    else:
        heads = [follows]
    return all(
        head is not None and head.text != "" and head.least > 0 and _are_disjoint(item, head)
        for head in heads
    )


def _are_disjoint(one: Item, other: Item) -> bool:
    """Whether no character can be both; False where that is not known."""
    sets = one.characters(), other.characters()
    if sets[0] is None or sets[1] is None:
        return False
    named = {c for item in (one, other) for c in _named(item.text)}
    both = sets[0] & sets[1]
    return not both and not any(one.may_take(c) and other.may_take(c) for c in named)


# Which characters an atom takes -------------------------------------------------------------------


@lru_cache(1024)
def _characters(atom: str) -> frozenset[str] | None:
    """Return those of the sample that an atom takes; None if that is not known."""
    compiled = _compiled(atom)
    if compiled is None:
        return None
    found = {c for c in _SAMPLE if _takes(atom, c)}
    return frozenset(found) if found or _named(atom) else None


@lru_cache(1024)
def _compiled(atom: str) -> "re.Pattern[str] | None":
    """Return an atom as Python has it, or None where that has no such thing."""
    nested = atom.startswith("[") and ("[" in atom[1:].replace("\\[", "") or "&&" in atom)
    if nested or re.match(r"\\[1-9]", atom) or re.search(r"\\[pP]", atom):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return re.compile(atom, re.DOTALL)
        except (re.error, FutureWarning):
            return None


def _takes(atom: str, character: str) -> bool:
    """Whether an atom takes a character, or two opinions of what a letter is may differ."""
    compiled = _compiled(atom)
    assert compiled is not None
    differs = _SHORT.search(atom) is not None and (
        "\x1c" <= character <= "\x1f"
        or (not character.isascii() and unicodedata.category(character)[0] not in "LS")
    )
    return differs or compiled.fullmatch(character) is not None


def _named(atom: str) -> set[str]:
    """Return the characters beyond the sample that an atom names."""
    escaped = (chr(int(code, 16)) for code in re.findall(r"\\u([\da-fA-F]{4})", atom))
    return {c for c in (*atom, *escaped) if ord(c) >= 0x250}


# Reading ------------------------------------------------------------------------------------------


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0
        self._depth, self._folds = 0, False
        if len(pattern) > _MAX_PATTERN:
            raise _refused(pattern, f"it has {len(pattern):,} characters, above {_MAX_PATTERN:,}")

    def whole(self) -> list[list[Item]]:
        found = self._alternatives()
        if self.at < len(self.pattern):
            raise self._unknown()
        return found

    def _unknown(self) -> WeightsError:
        return _refused(self.pattern, f"what is at {self.at} is not known, or is out of place")

    def _take(self, what: "re.Pattern[str]") -> "re.Match[str] | None":
        found = what.match(self.pattern, self.at)
        self.at = self.at if found is None else found.end()
        return found

    def _next(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _alternatives(self) -> list[list[Item]]:
        found: list[list[Item]] = [[]]
        while self._next() not in ("", ")"):
            if self._next() == "|":
                self.at += 1
                found.append([])
                continue
            item = self._item()
            self._repeat(item)
            found[-1].append(item)
        return found

    def _item(self) -> Item:
        character = self._next()
        if character == "(":
            return self._group()
        if self._take(_ANCHOR):
            return Item(takes=False)
        start = self.at
        if character == "[":
            self._class()
        elif character == "\\":
            if not self._take(_ESCAPE):
                raise self._unknown()
        elif character in "*+?":
            raise self._unknown()
        else:
            self.at += 1
        text = self.pattern[start : self.at]
        is_literal = len(text) == 1 and text != "."
        return Item(re.escape(text) if is_literal else text, folds=self._folds)

    def _group(self) -> Item:
        opens = self._take(_OPENS)
        if opens is None or self._depth == _MAX_DEPTH or self._next() == "?":
            raise self._unknown()
        outside = self._folds
        self._folds = outside or "i" in (opens[1] or "")
        self._depth += 1
        alternatives = self._alternatives()
        self._depth -= 1
        self._folds = outside
        if self._next() != ")":
            raise self._unknown()
        self.at += 1
        return Item(alternatives=alternatives, takes=opens[2] is None)

    def _class(self) -> None:
        """Move behind a class, and those within it."""
        depth = 0
        while True:
            character = self._next()
            if character == "\\":
                self.at += 1
            elif character == "[":
                depth += 1
                self.at += self.pattern.startswith("^", self.at + 1)
                if self.pattern.startswith("]", self.at + 1):
                    raise self._unknown()
            elif character == "]":
                depth -= 1
            elif not character:
                raise self._unknown()
            self.at += 1
            if not depth:
                return

    def _repeat(self, item: Item) -> None:
        """Read how often an item is there, if that is said."""
        sign = self._next()
        if sign and sign in "*+?":
            self.at += 1
            item.least, item.most = int(sign == "+"), 1 if sign == "?" else inf
            self.at += self._next() in ("?", "+")  # lazy, possessive
        elif (bounds := self._take(_BOUNDS)) and (bounds[1] or bounds[3]):
            item.least = int(bounds[1] or 0)
            item.most = float(bounds[3] or inf) if bounds[2] else item.least
            if self._next() == "?":  # lazy; of {n}, it may be left out
                self.at += 1
                item.least = item.least if bounds[2] else 0
        else:
            return
        again = self._next() in ("*", "+", "?") or _BOUNDS.match(self.pattern, self.at)
        if again or not item.takes or item.most < item.least:
            raise self._unknown()
