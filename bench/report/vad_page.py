"""The page of ``python -m bench vad``, from its JSON; its table in the documents."""

from bench.report.page import Results, number, page, table

_TEXT = """Silero VAD, from 16-bit samples at 16 kHz to the probability of speech in every 32 ms:
milliseconds of CPU for a second of sound of one call, medians. numlstm is `pipeline("vad")`, which
finds the segments as well; 100 calls are in one pool. ONNX Runtime is the authors' file with one
thread, its state and samples carried by NumPy as their user must; 100 calls are 100 sessions.
Together is the authors' other file, which reads a whole sound in one call; of 100 calls it is one
batch, which only calls can be that keep step with each other. All probabilities agree within 1e-4
before anything is timed."""


def vad(results: Results) -> str:
    """Return the page."""
    return page("Voice activity", results, _TEXT, rows_of(results))


def rows_of(results: Results) -> str:
    """Return the table."""
    labels = list(next(iter(results["sounds"].values())))
    peers = labels[1:]
    head = ["ms of CPU per second of sound", *labels, *(f"{peer} / numlstm" for peer in peers)]
    rows = [
        [
            name,
            *(number(each[label]) for label in labels),
            *(f"{each[peer] / each[labels[0]]:.1f}x" for peer in peers),
        ]
        for name, each in results["sounds"].items()
    ]
    return table(head, rows)


def summary(results: Results) -> str:
    """Return the table of the docs."""
    return (
        f"{rows_of(results)}\n\n{results['cpu']}, {results['date'][:10]}, `{results['command']}`."
    )
