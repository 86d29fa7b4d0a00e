"""What the pages of all benchmarks share: the machine, the engines, tables and their numbers."""

from collections.abc import Sequence
from typing import Any

from bench.engines import ABSENT, PEERS

# Of a whole run, or of one case of it: `bench/measure` makes them.
Results = dict[str, Any]


def page(title: str, results: Results, *parts: str) -> str:
    """Return a page of Markdown; empty parts are left out."""
    head = f"Generated from the JSON beside it by `python -m bench report`.\n\n{machine(results)}"
    return "\n\n".join([f"# {title}", head, *filter(None, parts)]) + "\n"


def machine(results: Results) -> str:
    """Return how the results were made, as a list."""
    caches = ", ".join(
        f"{level} {size / 2**20:g} MiB" if size >= 2**20 else f"{level} {size // 1024} KiB"
        for level, size in results["cache_bytes"].items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    settings = results["settings"]
    cores = settings.get("cores", [settings.get("core")])
    threads = settings.get("num_threads", 1)
    level = f", level {results['level']}" if "level" in results else ""
    lines = [
        f"- {results['cpu']}{level}, {results['num_cores']} cores, {caches}; {results['system']}",
        f"- {versions}",
        f"- {results['date']}, `{results['command']}`",
        f"- one process per engine, {'one thread' if threads == 1 else f'{threads} threads'}, "
        f"core {', '.join(map(str, cores)) or 'any'}; {settings['rounds']} rounds of "
        f"{settings['seconds']:g} s per engine, in turns",
        f"- every time includes {results['clock_us'] * 1e3:.0f} ns for reading the clock",
        *(f"- {why}" for why in ABSENT),
    ]
    lines += [f"- not measured: {name}, {why}" for name, why in results["skipped"].items()]
    lines += [f"- left out: {why}" for why in results.get("left_out", ())]
    if results.get("unlimited"):
        lines.append(f"- {results['unlimited']} use all that the CPU has, beyond its level")
    return "\n".join(lines)


def engines_of(cases: list[Results], dtypes: tuple[str, ...] = ()) -> list[str]:
    """Return the engines that have a result in any of the cases, those of some dtypes alone."""
    return [
        name
        for name, peer in PEERS.items()
        if any(name in case["engines"] for case in cases) and (not dtypes or peer.dtype in dtypes)
    ]


def value(case: Results, name: str, call: str, key: str = "p50_us") -> float | None:
    """Return a percentile of an engine, or None where it was not measured."""
    engine = case["engines"].get(name)
    return None if engine is None else engine[call][key]


def error(case: Results, name: str) -> float | None:
    """Return the largest difference to float64, or None where it was not measured."""
    engine = case["engines"].get(name)
    return None if engine is None else engine["largest_difference"]


def with_error(text: str, of: float | None) -> str:
    """Return a figure with the error that it was reached at."""
    return text if of is None else f"{text} ({of:.0e})"


def ratio(own: float | None, other: float | None) -> str:
    """Return how many times as fast as another one is: of two times, bold where it loses."""
    if own is None or other is None:
        return "-"
    times = other / own
    return f"{times:.2f}" if times >= 1 else f"**{times:.2f}**"


# Markdown that reads well as plain text ----------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, all columns but the first aligned to the right."""
    widths = [max(len(row[n]) for row in [header, *rows]) for n in range(len(header))]
    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


def number(value: float | None) -> str:
    """Return a number with three significant digits, or a dash."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"
