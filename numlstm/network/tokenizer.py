"""What a tokenizer.json may be: looked at before the tokenizers library is given it.

The library trusts it. It takes the memory that a file claims, in a table of a few bytes or in a
padding, and ends the process where there is not so much; it replaces one letter by two, forty
times; and it matches any pattern, however long that takes.
"""

import base64
from collections.abc import Callable, Iterator
from typing import Any

from numlstm.errors import WeightsError
from numlstm.network.patterns import LONGEST, atoms, may_be_empty, parsed, ways
from numlstm.strict_json import read_json

_MAX_WAYS = 2**24  # of all patterns, in which Oniguruma may look at a text: it gives up after 10^7
_MAX_GROWTH = 2**12  # characters that one may become
_MAX_COMPONENTS = 256
_MAX_PADDING = 2**16  # tokens

# What normalizers without a pattern make of one character, at most.
_GROWTH = {
    "ByteLevel": 4, "NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "Lowercase": 3,
    "BertNormalizer": 12, "Nmt": 2,
}  # fmt: skip


def check(text: str) -> None:
    """Raise a `WeightsError` if a tokenizer.json could take the machine.

    Text that is no tokenizer at all is left to the library, which says why.
    """
    try:
        described = read_json(text)
    except ValueError as error:
        raise WeightsError(f"the tokenizer cannot be read: {error}") from error
    if not isinstance(described, dict):
        return
    try:
        _check(described)
    except WeightsError as error:
        raise WeightsError(
            f"the tokenizer is refused: {error}; if you trust it, use it yourself: "
            "tokenizers.Tokenizer.from_str(model.tokenizer)"
        ) from error


def _check(described: dict[str, Any]) -> None:
    before = [*_components(described, "normalizer"), *_components(described, "pre_tokenizer")]
    after = list(_components(described, "decoder"))
    around = list(_components(described, "post_processor"))
    components = [*before, *after, *around]
    if len(components) > _MAX_COMPONENTS:
        raise WeightsError(f"it has {len(components):,} components, at most {_MAX_COMPONENTS}")
    total = sum(ways(pattern) for pattern in filter(None, map(_pattern, components)))
    if total > _MAX_WAYS:
        raise WeightsError(
            f"its patterns match a word in up to {total:.1e} ways, at most {_MAX_WAYS:.1e} are "
            "tried: let what follows a repetition be something that cannot be a part of it"
        )
    for chain in (before, after):
        growth = _growth(chain)
        if growth > _MAX_GROWTH:
            raise WeightsError(f"it makes {growth:.1e} characters of one, at most {_MAX_GROWTH}")
    _check_templates(around)
    _check_padding(described.get("padding"))
    _check_pieces(described.get("model"))


def _components(described: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Yield the components of a kind, one after another: those of a Sequence are within it."""
    waiting = [described[name]] if described.get(name) is not None else []
    while waiting:
        component = waiting.pop()
        if not isinstance(component, dict) or not isinstance(component.get("type"), str):
            raise WeightsError(f"a {name} is not an object with a type")
        yield component
        if component["type"] == "Sequence":
            for parts in component.values():
                waiting += reversed(parts) if isinstance(parts, list) else []


def _pattern(component: dict[str, Any]) -> str:
    """Return the regular expression of a component, or ""."""
    pattern = component.get("pattern")
    found = pattern.get("Regex", "") if isinstance(pattern, dict) else ""
    return found if isinstance(found, str) else ""


# Growth -------------------------------------------------------------------------------------------


def _growth(chain: list[dict[str, Any]]) -> float:
    """Return how many characters a chain of components makes of one, at most.

    From the last to the first, as what a component makes goes through those behind it.
    """
    base = most = 1.0  # of any character, but of those that a pattern takes; of all
    found: list[tuple[Callable[[str], bool], float]] = []  # what patterns take, and make of it
    for component in reversed(chain):
        kind = component["type"]
        content = component.get({"Replace": "content", "Prepend": "prepend"}.get(kind, ""))
        if isinstance(content, str):
            if len(content) > _MAX_GROWTH:
                return len(content)
            number = sum(
                max([base, *(made for takes, made in found if takes(character))])
                for character in content
            )
            if kind == "Replace" and not _may_be_empty(component):
                found.append((_takes(component), number))
                most = max(most, number)
            else:  # it is put between characters
                base = most = most + number
                found = []
        else:
            times = _longest(component) if kind == "Precompiled" else _GROWTH.get(kind, 1)
            if times > 1:
                base = most = most * times
                found = []
    return most


def _may_be_empty(component: dict[str, Any]) -> bool:
    pattern = _pattern(component)
    return may_be_empty(parsed(pattern)) if pattern else not _string(component)


def _takes(component: dict[str, Any]) -> Callable[[str], bool]:
    """Return what tells whether a match may have a character in it."""
    pattern, string = _pattern(component), _string(component)
    if not pattern:
        return string.__contains__
    taken = list(atoms(parsed(pattern)))
    return lambda character: any(item.may_take(character) for item in taken)


def _string(component: dict[str, Any]) -> str:
    """Return the text that a component looks for, or ""."""
    pattern = component.get("pattern")
    found = pattern.get("String", "") if isinstance(pattern, dict) else ""
    return found if isinstance(found, str) else ""


def _longest(component: dict[str, Any]) -> int:
    """Return the length of the longest text in a table of characters, whose sizes are checked.

    It is the size of an array, the array, and texts that end in a zero.
    """
    try:
        table = base64.b64decode(component["precompiled_charsmap"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"a table of characters cannot be read: {error}") from error
    end = 4 + int.from_bytes(table[:4], "little")
    if end > len(table):
        raise WeightsError(f"a table of characters claims {end:,} bytes of {len(table):,}")
    return max(len(text.decode(errors="replace")) for text in table[end:].split(b"\0")) or 1


def _check_pieces(model: Any) -> None:
    """Raise a `WeightsError` for a piece of Unigram that is too long: it is a tree as deep.

    To forget a tree of a million letters takes more stack than there is.
    """
    pieces = model.get("vocab") if isinstance(model, dict) else None
    for piece in pieces if isinstance(pieces, list) else []:
        if isinstance(piece, list) and piece and len(str(piece[0])) > LONGEST:
            raise WeightsError(f"a piece has {len(str(piece[0])):,} letters, at most {LONGEST}")


def _check_templates(components: list[dict[str, Any]]) -> None:
    """Raise a `WeightsError` if templates make too many tokens of one: one after another do."""
    growth = 1
    for component in components:
        pieces = [*_list(component.get("single")), *_list(component.get("pair"))]
        names = [piece["SpecialToken"].get("id") for piece in pieces if _has(piece, "SpecialToken")]
        growth *= max(sum(_has(piece, "Sequence") for piece in pieces), 1)
        growth += sum(_num_ids(component.get("special_tokens"), name) for name in names)
        if growth > _MAX_GROWTH:
            raise WeightsError(f"templates make {growth:,} tokens of one, at most {_MAX_GROWTH}")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _has(piece: Any, kind: str) -> bool:
    return isinstance(piece, dict) and isinstance(piece.get(kind), dict)


def _num_ids(tokens: Any, name: Any) -> int:
    """Return how many ids stand for a special token, of a table of them."""
    token = tokens.get(name) if isinstance(tokens, dict) and isinstance(name, str) else None
    return len(_list(token.get("ids"))) if isinstance(token, dict) else 0


def _check_padding(padding: Any) -> None:
    if isinstance(padding, dict):
        strategy = padding.get("strategy")
        sizes = [padding.get("pad_to_multiple_of")]
        sizes += [strategy.get("Fixed")] if isinstance(strategy, dict) else []
        if any(isinstance(size, int) and size > _MAX_PADDING for size in sizes):
            raise WeightsError(f"it pads to {sizes} tokens, at most {_MAX_PADDING}")
