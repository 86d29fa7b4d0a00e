"""The process of one engine on the eight tasks: ``python -m bench.measure.task_worker JSON``.

It answers each line on its standard input, the JSON of a request, with one on its standard output:
``{"task": NAME}`` with the answers to the items, ``{"task": NAME, "seconds": S}`` with the
milliseconds per item of a round.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from bench.measure import level

# Before NumPy and the engine count the cores and ask for their instructions.
if __name__ == "__main__":
    _request = json.loads(sys.argv[1])
    if _request["cores"]:
        os.sched_setaffinity(0, _request["cores"])
    level.hide(_request["hidden"])

import numlstm
from bench.engines.task_networks import ENGINES, PeerModel
from bench.measure.clock import times_us
from numlstm import tasks
from weights.scores.card import WEIGHTS

SENTENCES = [
    "The movie was not good, but the actors are wonderful.",
    "An absolute masterpiece: I have not seen anything like it for years!",
    "Two hours of my life that I will never get back.",
    "It is a charming and often affecting journey through the streets of an old town.",
    "She didn't like the ending, and neither did I.",
    "The plot is thin, the dialogue is worse, and the music never stops.",
]
MESSAGES = [
    "WINNER! You have won a 1000 prize. Call 09061701461 now to claim it.",
    "Are you coming to the party tonight? We will be there at 8.",
    "Free entry in a weekly competition: text WIN to 80086.",
    "Sorry, I'll call you later, I'm in a meeting.",
]
TURNS = ["Hi, I want to book a hotel in London.", "Do you like music?", "I need a bus ticket."]
ABSTRACT = (
    "Recurrent neural networks read a sequence one token at a time, which makes them slow on "
    "hardware that is built for throughput. We present a library that runs them on a plain CPU. "
    "Its kernels are compiled for the processor at hand and read every weight once per token. "
    "Experiments on eight tasks show that it answers several times faster than two well known "
    "frameworks, with the same accuracy. The code and all models are available."
)
NUM_TOKENS = 200


@dataclass(frozen=True)
class Task:
    """A pipeline and what it is given.

    answer      answers an item, in what JSON has types for
    model       that of the task if none is named
    last_only   whether only the last row of what the network answers is read
    """

    task: str
    items: list[Any]
    answer: Callable[[Any, Any], Any]
    model: str | None = None
    last_only: bool = False


def _label(pipe: Any, text: str) -> Any:
    found = pipe(text)
    return [found.label, found.score]


def _tags(pipe: Any, text: str) -> Any:
    pipe._known.clear()  # or a word that came before would not be spelt again
    return [[each.word, each.tag, each.score] for each in pipe(text)]


def _nats(pipe: Any, text: str) -> Any:
    return pipe.score(text).nats / 100


def _written(pipe: Any, prompt: str) -> Any:
    return pipe(prompt, max_tokens=NUM_TOKENS, temperature=0)


TASKS = {
    "sentiment": Task("sentiment", SENTENCES, _label, last_only=True),
    "sentiment, BiLSTM": Task("sentiment", SENTENCES, _label, "sentiment-bilstm", last_only=True),
    "email": Task("email", MESSAGES, _label, last_only=True),
    "pos": Task("pos", SENTENCES, _tags),
    "language-model, words": Task("language-model", SENTENCES, _nats),
    "language-model, characters": Task("language-model", SENTENCES, _nats, "character"),
    "generate, characters": Task("generate", ["ROMEO:"], _written),
    "generate, byte pairs": Task("generate", ["ROMEO:"], _written, "subword"),
    "chat": Task("chat", TURNS, lambda pipe, text: pipe(text, temperature=0)),
    "speech": Task("speech", [str(WEIGHTS / "digits.wav")], lambda pipe, path: pipe(path).text),
    "summarize": Task("summarize", [ABSTRACT], lambda pipe, text: pipe(text)),
    "summarize, extract": Task("summarize", [ABSTRACT], lambda pipe, text: pipe(text), "extract"),
}


def load(task: Task, engine: str) -> Any:
    """Return the pipeline of a task, its networks run by an engine."""
    dtype = None if engine == "numlstm" else "float32"
    model = task.model or tasks.TASKS[task.task].model
    parts: dict[str, Any] = dict(numlstm.load_parts(WEIGHTS / f"{model}.safetensors", dtype))
    if engine in ENGINES:
        make = ENGINES[engine]
        parts = {part: PeerModel(model, make, task.last_only) for part, model in parts.items()}
    return numlstm.pipeline(task.task, parts)


def main() -> None:
    """Answer requests until there are no more."""
    engine = json.loads(sys.argv[1])["name"]
    if engine == "torch":
        import torch

        torch.set_num_threads(1)
    pipe_of = cache(lambda name: load(TASKS[name], engine))
    for line in sys.stdin:
        request = json.loads(line)
        name = request["task"]
        task, pipe = TASKS[name], pipe_of(name)

        def answer(task: Task = task, pipe: Any = pipe) -> list[Any]:
            return [task.answer(pipe, item) for item in task.items]

        if "seconds" in request:
            found: Any = [us / 1e3 / len(task.items) for us in times_us(answer, request["seconds"])]
        else:
            found = answer()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
