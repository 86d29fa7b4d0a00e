"""Score the chat model: perplexity of the replies, and dialogues to look at."""

import json
import math
import random
from collections.abc import Iterator, Sequence

import numpy as np

from numlstm.tasks.text.chat import BOT, END, Chat, encode_history
from numlstm.tasks.text.encoding import encode
from weights.recipes import dialogues
from weights.recipes.dialogues import SETS, Exchange
from weights.scores.card import Subject, seconds, table, watch

SEED = 0
NUM_DIALOGUES = 10  # half of each set
NUM_TURNS = 3  # of the user
NUM_TIMED = 20

Dialogue = list[tuple[str, str]]


def measure(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield the tables of the card; perplexities without an input are the recipe's."""
    pipe = subject.pipeline()
    scores = json.loads(subject.path.with_suffix(".json").read_text(encoding="utf-8"))
    alone = scores["no_input"]
    found = {split: perplexities(pipe, subject, split) for split in ("valid", "test")}
    said = " and ".join(f"{value:.1f} of {name}.test" for name, value in found["test"].items())
    yield "summary", f"perplexity {said}"
    rows = []
    for split, values in found.items():
        for name, value in values.items():
            without = alone[f"{split}_perplexity"][name]
            rows.append([f"{name}.{split}", f"{value:.1f}", f"{without:.1f}"])
    yield "scores", table(("split", "perplexity", "without its input"), rows)
    yield "speed", speed(pipe, subject)
    yield "samples", as_markdown(sample_dialogues(pipe, subject))
    rows = []
    for dtype, other in subject.in_each_dtype():
        for split in ("valid", "test"):
            values = perplexities(other, subject, split)
            rows.append([dtype, split, *(f"{values[name]:.2f}" for name in SETS)])
    if rows:
        yield "dtypes", table(("dtype", "split", *SETS), rows)


def perplexity(pipe: Chat, exchanges: Sequence[Exchange], name: str) -> float:
    """Return exp of the mean -log p of the true replies' tokens, their ends included."""
    networks = pipe.networks
    nats, count = 0.0, 0
    for exchange in watch(exchanges, name):
        reply = [*encode(networks.tokenizer, exchange.reply), END]
        stream = networks.read(encode_history(networks.tokenizer, exchange.history))
        ys = stream.run(np.array([BOT, *reply[:-1]], np.int32))
        nats -= float(ys[np.arange(len(reply)), reply].sum(dtype=np.float64))
        count += len(reply)
    return math.exp(nats / count)


def perplexities(pipe: Chat, subject: Subject, split: str) -> dict[str, float]:
    """Return the perplexity of one split of each set."""
    folder = subject.data / "chatbot"
    names = {name: f"{name}.{split}" for name in SETS}
    return {n: perplexity(pipe, dialogues.read(folder, of), of) for n, of in names.items()}


def turns_of(exchanges: Sequence[Exchange]) -> list[list[str]]:
    """Return what is said in each conversation, by the user or, in topical_chat, by either."""
    said: dict[str, list[str]] = {}
    for exchange in exchanges:
        said.setdefault(exchange.conversation, []).append(exchange.history[-1])
    return list(said.values())


def sample_dialogues(pipe: Chat, subject: Subject) -> list[Dialogue]:
    """Return dialogues with users of the test parts, chosen by `SEED`: turns and its answers.

    The users say what they said to someone else; the history holds the model's own answers.
    """
    found = []
    for name in SETS:
        stride = 2 if name == "topical_chat" else 1
        conversations = turns_of(dialogues.read(subject.data / "chatbot", f"{name}.test"))
        for turns in random.Random(SEED).sample(conversations, NUM_DIALOGUES // len(SETS)):
            session = pipe.session()
            said = turns[::stride][:NUM_TURNS]
            found.append([(turn, session.say(turn, seed=SEED)) for turn in said])
    return found


def speed(pipe: Chat, subject: Subject) -> str:
    """Return how many tokens of answers are written per second, and how long an answer takes."""
    exchanges = dialogues.read(subject.data / "chatbot", "topical_chat.valid")[:NUM_TIMED]
    texts = [exchange.history[-1] for exchange in exchanges]
    replies = pipe(texts, seed=SEED)
    duration = seconds(lambda: pipe(texts, seed=SEED))
    count = sum(1 + len(encode(pipe.networks.tokenizer, reply)) for reply in replies)
    return (
        f"{count / duration:,.0f} tokens written per second on one core, "
        f"{duration / len(texts) * 1e3:.1f} ms per answer, its reading included."
    )


def as_markdown(found: list[Dialogue]) -> str:
    """Return dialogues as quotes."""
    blocks = []
    for answers in found:
        lines = [f"> **user** {turn}<br>\n> **chat** {answer}<br>" for turn, answer in answers]
        blocks.append("\n".join(lines))
    return "\n\n---\n\n".join(blocks)
