"""The page of ``python -m bench policy``, from its JSON; its table in the documents."""

from bench.report.page import Results, number, page, table

_TEXT = """A recurrent policy in a loop: every {interval_ms} ms an observation goes in and an action
comes out. Before each step the process has read and written 4 MiB of other memory, and has slept.
The clock runs from the observation, an array of NumPy, to the action, another one; environments
that begin an episode are reset within it. PyTorch is `nn.LSTM` and `nn.Linear` in inference mode,
ONNX Runtime `session.run`; their state is carried from call to call. Their actions are held against
those of numlstm before anything is timed."""


def policy(results: Results) -> str:
    """Return the page."""
    return page("Recurrent policies", results, _TEXT.format(**results), rows_of(results))


def rows_of(results: Results) -> str:
    """Return the table."""
    head = [
        "policy, us per step",
        "environments",
        "engine",
        "p50",
        "p99",
        "p99.9",
        "p50 / numlstm's",
    ]
    rows = []
    for case in results["cases"]:
        own = case["engines"]["numlstm"]["p50_us"]
        for label, times in case["engines"].items():
            numbers = (number(times[key]) for key in ("p50_us", "p99_us", "p999_us"))
            rows.append(
                [
                    case["what"],
                    str(case["num_envs"]),
                    label,
                    *numbers,
                    f"{times['p50_us'] / own:.1f}",
                ]
            )
    return table(head, rows)


def summary(results: Results) -> str:
    """Return the table of the docs."""
    return (
        f"{rows_of(results)}\n\n{results['cpu']}, {results['date'][:10]}, `{results['command']}`."
    )
