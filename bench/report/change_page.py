"""The page of ``python -m bench change``, from its JSON."""

from statistics import median

import numpy as np

from bench.report.page import Results, number, table

_EVEN = 0.01  # no one can tell more


def change(results: Results) -> str:
    """Return the page."""
    settings, commits = results["settings"], results["commits"]
    header = ["", "unit", "before", "after", "before / after", "spread"]
    rows = []
    for found in results["found"]:
        before, after = (median(found[side]) for side in ("before", "after"))
        ratio, spread = f"{before / after:.2f}", "-"
        if len(found["before"]) > 1:
            of_median = max(_spread(found[side]) for side in ("before", "after"))
            spread = f"{of_median:.0%}"
            if before / after < 1 - max(of_median, _EVEN):
                ratio = f"**{ratio}**"
        rows.append([found["what"], found["unit"], number(before), number(after), ratio, spread])
    core = "any core" if settings["core"] is None else f"core {settings['core']}"
    return (
        "# Before and after\n\n"
        f"- {results['cpu']}, level {results['level']}; {results['system']}\n"
        f"- {results['date']}, before {commits['before']}, after {commits['after']}\n"
        f"- {core}; processes of each version: {settings['rounds']}, {settings['turns']} turns of "
        f"{settings['seconds']:g} s at each call\n\n"
        "Medians. Above 1 the change is for the better; half of what one version took lies within "
        "`spread`, and a ratio is bold that is worse by more than that. The memory of the import "
        "is what it takes beyond Python with NumPy, that of a model beyond the import.\n\n"
        f"{table(header, rows)}\n"
    )


def _spread(values: list[float]) -> float:
    """Return the range of the half of the values in the middle, as a share of their median."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return float((high - low) / middle)
