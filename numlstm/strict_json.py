"""JSON of files, which may be hostile, read strictly."""

import json
from typing import Any


def read_json(text: str | bytes) -> Any:
    """Return what a JSON text says; no object has a name twice, so that all who read it agree.

    Raises
    ------
    ValueError
        If it is none, or nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except RecursionError as error:
        raise ValueError(f"its JSON is nested too deeply: {error}") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found
