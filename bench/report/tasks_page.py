"""The page of ``python -m bench tasks``, from its JSON."""

from bench.report.page import Results, number, page, table

_TEXT = """The bundled models under their pipelines, batch 1: milliseconds per item, medians.
`numlstm` is the file as it is shipped (bfloat16 or int8 where it is over 2 MB), `numlstm float32`
the same weights in float32, as PyTorch and ONNX Runtime have them. All engines run under the same
Python code: tokenizers, features, beam search. PyTorch is `torch.nn` modules in inference mode,
ONNX Runtime `session.run`; their state is carried from call to call, as their users must. Before
anything is timed their answers are held against those of numlstm in float32: the same texts,
numbers within 1e-4."""


def tasks(results: Results) -> str:
    """Return the page."""
    found = results["tasks"]
    labels = list(next(iter(found.values()))["ms"])
    peers = [label for label in labels if not label.startswith("numlstm")]
    head = ["task, ms per item", *labels, *(f"{peer} / numlstm" for peer in peers)]
    rows = []
    for name, each in found.items():
        ratios = [f"{each['ms'][peer] / each['ms']['numlstm']:.1f}x" for peer in peers]
        rows.append([name, *(number(each["ms"][label]) for label in labels), *ratios])
    parts = [_TEXT, table(head, rows)]
    written = {name: each for name, each in found.items() if "num_characters" in each}
    if written:
        rows = [
            [
                name,
                *(
                    f"{each['num_characters'][label] / each['ms'][label] * 1e3:,.0f}"
                    for label in labels
                ),
            ]
            for name, each in written.items()
        ]
        parts += [
            f"## Characters per second\n\nOf {results['num_tokens']} tokens, always the likeliest "
            "one, from the prompt to the text.",
            table(["task", *labels], rows),
        ]
    return page("From text to answer", results, *parts)
