"""The table of ``python -m bench lookahead``, from its JSON."""

from typing import Any

from bench.report.page import number, table

LOOKAHEADS = (0, 1, 2, 4, 8, 16, 32)

Results = dict[str, Any]


def summary(results: Results) -> str:
    """Return the table of the docs."""
    tagger = results["tagger"]
    head = ["lookahead", *(f"{size} units, us per step" for size in results["cost"])]
    if tagger:
        head += ["tags as of the whole text", "tags that are true"]
    rows = []
    for steps in [*map(str, LOOKAHEADS), "whole"]:
        row = [steps, *(number(costs[steps]) for costs in results["cost"].values())]
        if tagger:
            row += [f"{tagger[key][steps]:.1%}" for key in ("as_whole", "true")]
        rows.append(row)
    of_tagger = (
        f" Tags: {tagger['num_characters']:,} Thai characters, one layer of "
        f"{tagger['hidden_size']} units in each direction."
        if tagger
        else ""
    )
    return (
        f"{table(head, rows)}\n\n{results['cpu']}, {results['date']}, `{results['command']}`."
        f"{of_tagger}"
    )
