"""What numlstm raises of its own, and how it lists what is wrong."""

from collections.abc import Sequence


class WeightsError(ValueError):
    """A file, a conversion or a set of tensors that cannot become a model."""


_MOST_LISTED = 100  # a small file can be wrong in a million places


def listed(problems: Sequence[str]) -> str:
    """Return problems as lines of an error, indented; of very many the first ones."""
    shown = [*problems[:_MOST_LISTED]]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown):,} more")
    return "".join(f"\n  {problem}" for problem in shown)
