"""The tables of ``python -m bench cold``, ``memory`` and ``long``, from their JSON alone."""

from bench.engines import label_of
from bench.report.page import Results, engines_of, number, page, table


def cold(results: Results) -> str:
    """Return the page of cold starts."""
    header = ["engine", "import, s", "load, ms", "first output, s", "slowest, s"]
    header += ["CPU, s", "compiled, s"]
    rows = []
    for name, start in results["engines"].items():
        uncached = results["uncached"].get(name)
        rows.append(
            [
                label_of(name, "LSTM"),
                number(start["import_s"]),
                number(1e3 * start["load_s"]),
                number(start["first_output_s"]),
                number(start["slowest_first_output_s"]),
                number(start.get("first_output_cpu_s")),
                number(uncached and uncached["first_output_s"]),
            ]
        )
    return page(
        "From the start of the process",
        results,
        _commands(results),
        f"## Every engine\n\n{results['case']}, medians of {results['num_starts']} processes of "
        "each engine, in which NumPy and the benchmark are imported, too. Loading is from the "
        "engine's own file of the weights to being ready; the first output counts from the start "
        "of the Python process. `compiled` is the first output where numlstm compiles its kernels "
        f"for exactly this CPU, with nothing in a cache.\n\n{table(header, rows)}",
    )


def _commands(results: Results) -> str:
    """Return the table of processes that do one thing, as a user writes it."""
    if "commands" not in results:
        return ""
    header = ["process", "CPU, s", "s", "largest, MB", "after the import, MB", "beyond it, MB"]
    rows = [
        [
            what,
            number(found["cpu_s"]),
            number(found["s"]),
            *(
                number(None if found[key] is None else found[key] / 1e6)
                for key in ("peak_bytes", "imported_bytes", "model_bytes")
            ),
        ]
        for what, found in results["commands"].items()
    ]
    return (
        "## A process that does one thing\n\nNothing but what is named, from the start of the "
        f"process to its end; medians of {results['num_starts']}. Memory is resident: the largest "
        f"of the process, what Python holds after the import, and what comes with a network that "
        f"has taken its steps.\n\n{table(header, rows)}"
    )


def memory(results: Results) -> str:
    """Return the page of resident memory."""
    cases = results["cases"]
    names = engines_of(cases)
    header = ["engine", "import, MB"]
    header += [f"{case['cell']} {case['num_layers']} x {case['hidden_size']}, MB" for case in cases]
    rows = []
    for name in names:
        found = [case["engines"].get(name) for case in cases]
        imports = next((_between(one, "bare", "imported") for one in found if one), "-")
        models = (_between(one, "imported", "memory") if one else "-" for one in found)
        rows.append([label_of(name, "LSTM"), imports, *models])
    parts = [
        "## A model\n\nResident memory of a process with one model that has taken 64 steps, beyond "
        "that after the import; and that of the import, beyond Python with NumPy.\n\n"
        + table(header, rows)
    ]
    if results["streams"]:
        kinds = {"stream": "`Stream` objects", "slot": "slots of a `Pool`"}
        rows = [
            [
                f"{found['count']:,} {kinds[found['kind']]}, {label_of(found['engine'], 'LSTM')}",
                number(None if found["bytes"] is None else found["bytes"] / 1e6),
                number(None if found["bytes"] is None else found["bytes"] / found["count"]),
            ]
            for found in results["streams"]
        ]
        parts.append(
            "## Open streams\n\nBeyond the model, each stream with a step taken. The state of a "
            f"stream alone, h and c of 128 units, is 1,024 bytes.\n\n"
            f"{table(['streams', 'MB', 'bytes per stream'], rows)}"
        )
    return page("Resident memory", results, *parts)


def _between(found: Results, before: str, after: str) -> str:
    first, last = found[f"{before}_bytes"], found[f"{after}_bytes"]
    return number(None if first is None or last is None else (last - first) / 1e6)


def long(results: Results) -> str:
    """Return the page of long streams."""
    header = ["us", "steps", "p50", "p90", "p99", "p99.9", "max", "bytes kept", "bytes at most"]
    rows = []
    for name, tail in results["tails"].items():
        found = results["allocations"][name]
        keys = ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")
        rows.append(
            [
                label_of(name, "LSTM"),
                f"{tail['num_calls']:,}",
                *(number(tail[key]) for key in keys),
                f"{found['kept_bytes']:,}",
                f"{found['peak_bytes']:,}",
            ]
        )
    counts = {found["num_steps"] for found in results["allocations"].values()}
    decays = [
        [
            label_of(name, "LSTM"),
            number(found["first_us"]),
            number(found["last_us"]),
            f"{found['last_us'] / found['first_us']:.2f}",
            f"{found['largest_output']:.0e}",
        ]
        for name, found in results["decays"].items()
    ]
    some = next(iter(results["decays"].values()))
    return page(
        "Long streams",
        results,
        f"## The tail\n\n`Stream.step` with `out=`, {results['case']}. The bytes are those that "
        f"Python and NumPy allocated during {max(counts, default=0):,} steps, by `tracemalloc`."
        f"\n\n{table(header, rows)}",
        f"## A state that fades\n\n{some['num_steps']:,} steps with zeros after a few of noise, no "
        "biases but a forget gate of sigmoid(2): c loses an eighth with each step, until it is "
        f"the smallest of the denormal numbers. Medians of the first {some['window']:,} and the "
        "last steps in us; the last column is the largest output in the end.\n\n"
        + table(["engine", "first", "last", "last / first", "output"], decays),
    )
