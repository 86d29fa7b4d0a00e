"""Score both summarizers by the engine: ROUGE, beside the first sentence of the abstract.

    python -m weights.scores.summarize --data DIR

DIR holds the folder ``summarization``. What it finds goes into the cards, ``weights/extract.md``
and ``weights/summarize.md``. ROUGE is F1 with stemming; of several summaries of a paper the best
one counts, for each of the three.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

import numlstm
from weights.recipes import abstracts
from weights.recipes.abstracts import (
    END,
    MARKS,
    ROUGES,
    SUMMARY,
    TITLE,
    Paper,
    encode_sentences,
    mean_rouge,
    rouge,
    split_sentences,
)
from weights.scores.card import describe, fill
from weights.scores.decoding import EncoderDecoder, beam_search, files

EXTRACT = Path(__file__).parents[1] / "extract.safetensors"
SUMMARIZE = EXTRACT.with_name("summarize.safetensors")
MAX_TOKENS_EXTRACT = 512
MAX_TOKENS_SUMMARIZE = 256
BEAM_WIDTH = 4
LENGTHS = {SUMMARY: (12, 50), TITLE: (3, 24)}  # tokens, at least and at most

Summarizer = Callable[[str], str]

console = Console()


def lead(text: str) -> str:
    """Return the first sentence."""
    return split_sentences(text)[0]


def extractive(model: numlstm.Model) -> Summarizer:
    """Return what picks the sentence whose tokens have the highest mean."""
    tokenizer: Any = model.load_tokenizer()

    def summarize(text: str) -> str:
        sentences = split_sentences(text)
        ids, starts = encode_sentences(tokenizer, sentences, MAX_TOKENS_EXTRACT)
        numbers = model.run(np.array(ids, np.int32))[:, 0]
        ends = [*starts[1:], len(ids)]
        scores = [numbers[a:b].mean() for a, b in zip(starts, ends, strict=True)]
        return sentences[int(np.argmax(scores))]

    return summarize


def abstractive(model: EncoderDecoder, mark: int = SUMMARY) -> Summarizer:
    """Return what writes a summary, or a title, by beam search."""

    def summarize(text: str) -> str:
        ids, _ = encode_sentences(model.tokenizer, split_sentences(text), MAX_TOKENS_SUMMARIZE)
        stream, log_p = model.read(ids)
        least, most = LENGTHS[mark]
        tokens = beam_search(
            stream,
            mark,
            END,
            log_p,
            width=BEAM_WIDTH,
            min_tokens=least,
            max_tokens=most,
            forbidden=range(END + 1, len(MARKS)),
        )
        return model.decode(tokens)

    return summarize


def score(
    summarize: Summarizer, papers: Sequence[Paper], name: str, *, titles: bool = False
) -> dict[str, float]:
    """Return mean ROUGE of what is made of the abstracts, against their summaries or titles."""
    scores = [
        rouge([paper.title] if titles else paper.summaries, summarize(paper.abstract))
        for paper in track(papers, name, console=console, transient=True)
    ]
    return mean_rouge(scores)


def score_table(data: Path) -> str:
    """Return ROUGE of all summarizers on the valid and test parts as a Markdown table."""
    pick = extractive(numlstm.load(EXTRACT))
    model = EncoderDecoder(SUMMARIZE)
    write, write_title = abstractive(model), abstractive(model, TITLE)
    lines = [
        "| split | against | by | ROUGE-1 | ROUGE-2 | ROUGE-L |",
        "|---|---|---|---:|---:|---:|",
    ]
    for split in ("valid", "test"):
        papers = abstracts.read(data, split)
        for against, by, summarize in (
            ("summaries", "first sentence", lead),
            ("summaries", "extract", pick),
            ("summaries", "summarize", write),
            ("title", "first sentence", lead),
            ("title", "extract", pick),
            ("title", "summarize, as a title", write_title),
        ):
            found = score(summarize, papers, f"{split}, {by}", titles=against == "title")
            cells = " | ".join(f"{found[name]:.1f}" for name in ROUGES)
            lines.append(f"| scitldr.{split} | {against} | {by} | {cells} |")
    return "\n".join(lines)


def samples(data: Path, count: int = 5) -> str:
    """Return what both make of the first papers of the test part, as Markdown."""
    pick = extractive(numlstm.load(EXTRACT))
    model = EncoderDecoder(SUMMARIZE)
    blocks = []
    for paper in abstracts.read(data, "test")[:count]:
        lines = (
            f"**title** {paper.title}",
            f"**a summary** {paper.summaries[0]}",
            f"**extract** {pick(paper.abstract)}",
            f"**summarize** {abstractive(model)(paper.abstract)}",
            f"**summarize, as a title** {abstractive(model, TITLE)(paper.abstract)}",
        )
        blocks.append("\n".join(f"> {line}<br>" for line in lines))
    return "\n\n---\n\n".join(blocks)


def main() -> None:
    """Score, print, write the cards."""
    parser = argparse.ArgumentParser(description="Score the summarizers.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    data = parser.parse_args().data / "summarization"
    table = score_table(data)
    console.print(table)
    for path in (EXTRACT, SUMMARIZE):
        fill(path.with_suffix(".md"), "scores", table)
    fill(EXTRACT.with_suffix(".md"), "model", describe(extract=EXTRACT))
    fill(SUMMARIZE.with_suffix(".md"), "model", describe(**files(SUMMARIZE)))
    fill(SUMMARIZE.with_suffix(".md"), "samples", samples(data))


if __name__ == "__main__":
    main()
