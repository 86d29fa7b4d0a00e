"""Score both summarizers: ROUGE, beside the first sentence of the abstract.

ROUGE is F1 with stemming; of several summaries of a paper the best one counts, for each of the
three.
"""

from collections.abc import Callable, Iterator, Sequence

import numlstm
from numlstm.tasks.text.sentences import split_sentences
from weights.recipes import abstracts
from weights.recipes.abstracts import ROUGES, Paper, mean_rouge, rouge
from weights.scores.card import WEIGHTS, Subject, seconds, table, watch

NUM_TIMED = 10

Summarize = Callable[[str], str]


def measure(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield the tables of the card."""
    extract = numlstm.pipeline("summarize", WEIGHTS / "extract.safetensors")
    write = numlstm.pipeline("summarize", WEIGHTS / "summarize.safetensors")
    folder = subject.data / "summarization"
    papers = {split: abstracts.read(folder, split) for split in ("valid", "test")}

    def write_title(text: str) -> str:
        return write(text, title=True)

    rows = []
    for split, of in papers.items():
        for against, by, summarize in (
            ("summaries", "first sentence", lead),
            ("summaries", "extract", extract),
            ("summaries", "summarize", write),
            ("title", "first sentence", lead),
            ("title", "extract", extract),
            ("title", "summarize, as a title", write_title),
        ):
            found = score(summarize, of, f"{split}, {by}", titles=against == "title")
            rows.append([f"scitldr.{split}", against, by, *(f"{found[n]:.1f}" for n in ROUGES)])
    yield "scores", table(("split", "against", "by", "ROUGE-1", "ROUGE-2", "ROUGE-L"), rows)

    own = next(r for r in rows if r[:3] == ["scitldr.test", "summaries", subject.name])
    yield "summary", f"ROUGE-L {own[-1]} of scitldr.test"

    pipe = subject.pipeline()
    texts = [paper.abstract for paper in papers["valid"][:NUM_TIMED]]
    each = seconds(lambda: pipe(texts)) / len(texts)
    yield "speed", f"{each * 1e3:.1f} ms per abstract on one core, from text to summary."
    if subject.name == "summarize":
        yield "samples", samples(papers["test"], extract, write, write_title)
    rows = []
    for dtype, other in subject.in_each_dtype():
        for split, of in papers.items():
            found = score(other, of, f"{split} in {dtype}")
            rows.append([dtype, split, *(f"{found[name]:.2f}" for name in ROUGES)])
    if rows:
        yield "dtypes", table(("dtype", "split", "ROUGE-1", "ROUGE-2", "ROUGE-L"), rows)


def lead(text: str) -> str:
    """Return the first sentence."""
    return split_sentences(text)[0]


def score(
    summarize: Summarize, papers: Sequence[Paper], name: str, *, titles: bool = False
) -> dict[str, float]:
    """Return mean ROUGE of what is made of the abstracts, against their summaries or titles."""
    return mean_rouge(
        [
            rouge([paper.title] if titles else paper.summaries, summarize(paper.abstract))
            for paper in watch(papers, name)
        ]
    )


def samples(
    papers: Sequence[Paper],
    extract: Summarize,
    write: Summarize,
    write_title: Summarize,
    count: int = 5,
) -> str:
    """Return what both make of the first papers, as Markdown."""
    blocks = []
    for paper in papers[:count]:
        lines = (
            f"**title** {paper.title}",
            f"**a summary** {paper.summaries[0]}",
            f"**extract** {extract(paper.abstract)}",
            f"**summarize** {write(paper.abstract)}",
            f"**summarize, as a title** {write_title(paper.abstract)}",
        )
        blocks.append("\n".join(f"> {line}<br>" for line in lines))
    return "\n\n---\n\n".join(blocks)
