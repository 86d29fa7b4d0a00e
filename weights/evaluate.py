"""Score the bundled models, as shipped and by the engine, on data they were not trained on.

    python -m weights.evaluate --data DIR [NAME ...]

DIR is the folder of the data sets. The tables go to the terminal and into the cards, ``NAME.md``.
With ``--float32 DIR``, the folder of the files that the recipes write with ``--dtype float32``, the
scores of each dtype are measured too.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from numlstm.tasks import TASKS
from weights.scores import chat, classification, language, speech, summarize, tagging, vad
from weights.scores.card import WEIGHTS, Subject, describe, fill
from weights.scores.pytorch import agreement

Measure = Callable[[Subject], Iterator[tuple[str, str]]]

# What measures the models of a task; those of "generate" are measured as language models.
MEASURES: dict[str, Measure] = {
    "sentiment": classification.measure,
    "email": classification.measure,
    "pos": tagging.measure,
    "language-model": language.measure,
    "chat": chat.measure,
    "speech": speech.measure,
    "vad": vad.measure,
    "summarize": summarize.measure,
}
# The models, and the tasks that they are measured at.
MODELS = {model: task for task in MEASURES for model in TASKS[task].models}


def main() -> None:
    """Score, print, write the cards."""
    parser = argparse.ArgumentParser(description="Score the bundled models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="all models if none is named")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--float32", type=Path, help="folder of the models before rounding")
    args = parser.parse_args()
    unknown = set(args.names) - set(MODELS)
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}; known: {', '.join(MODELS)}")
    console = Console()
    for name in args.names or MODELS:
        unrounded = args.float32 and args.float32 / f"{name}.safetensors"
        subject = Subject(name, MODELS[name], args.data, unrounded)
        card = WEIGHTS / f"{name}.md"
        console.rule(name)
        fill(card, "model", describe(subject.path))
        for place, text in MEASURES[subject.task](subject):
            console.print(Markdown(text))
            fill(card, place, text)
        text = agreement(subject)
        console.print(text)
        fill(card, "agreement", text)


if __name__ == "__main__":
    main()
