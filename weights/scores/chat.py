"""Score the chat model by the engine: perplexity of the replies, and dialogues to look at.

    python -m weights.scores.chat --data DIR

DIR holds the folder ``chatbot``. What it finds goes into the card, ``weights/chat.md``.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

import numlstm
from weights.recipes import dialogues
from weights.recipes.dialogues import BOT, END, SETS, Exchange, encode_history, encode_text
from weights.scores.card import describe, fill
from weights.scores.decoding import EncoderDecoder, files, sample

CHAT = Path(__file__).parents[1] / "chat.safetensors"
SEED = 0
NUM_DIALOGUES = 10  # half of each set
NUM_TURNS = 3  # of the user
TEMPERATURE = 0.7
TOP_P = 0.8
MAX_TOKENS = 60

console = Console()


def perplexity(model: EncoderDecoder, exchanges: Sequence[Exchange], name: str = "") -> float:
    """Return exp of the mean -log p of the true replies' tokens, their ends included."""
    nats, count = 0.0, 0
    for exchange in track(exchanges, name, console=console, transient=True):
        reply = [*encode_text(model.tokenizer, exchange.reply), END]
        stream, log_p = model.read(encode_history(model.tokenizer, exchange.history))
        ys = log_p(stream.run(np.array([BOT, *reply[:-1]], np.int32)))
        nats -= float(ys[np.arange(len(reply)), reply].sum(dtype=np.float64))
        count += len(reply)
    return math.exp(nats / count)


def perplexities(model: EncoderDecoder, data: Path, split: str) -> dict[str, float]:
    """Return the perplexity of one split of each set."""
    names = {name: f"{name}.{split}" for name in SETS}
    return {n: perplexity(model, dialogues.read(data, of), of) for n, of in names.items()}


def reply(model: EncoderDecoder, history: Sequence[str], generator: np.random.Generator) -> str:
    """Return an answer to the last of the turns."""
    stream, _ = model.read(encode_history(model.tokenizer, history))
    tokens = sample(
        stream,
        BOT,
        END,
        generator,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        max_tokens=MAX_TOKENS,
    )
    return model.decode(tokens)


def turns_of(exchanges: Sequence[Exchange]) -> list[list[str]]:
    """Return what is said in each conversation, by the user or, in topical_chat, by either."""
    said: dict[str, list[str]] = {}
    for exchange in exchanges:
        said.setdefault(exchange.conversation, []).append(exchange.history[-1])
    return list(said.values())


def sample_dialogues(model: EncoderDecoder, data: Path) -> list[list[tuple[str, str]]]:
    """Return dialogues with users of the test parts, chosen by `SEED`: turns and its answers.

    The users say what they said to someone else; the history holds the model's own answers.
    """
    generator = np.random.default_rng(SEED)
    found = []
    for name in SETS:
        stride = 2 if name == "topical_chat" else 1
        conversations = turns_of(dialogues.read(data, f"{name}.test"))
        for turns in random.Random(SEED).sample(conversations, NUM_DIALOGUES // len(SETS)):
            history: list[str] = []
            answers = []
            for turn in turns[::stride][:NUM_TURNS]:
                history.append(turn)
                history.append(reply(model, history, generator))
                answers.append((turn, history[-1]))
            found.append(answers)
    return found


def speed(model: EncoderDecoder, data: Path) -> float:
    """Return tokens written per second, one at a time, the reading of the history included."""
    exchanges = dialogues.read(data, "topical_chat.valid")[:100]
    generator = np.random.default_rng(SEED)
    started, count = time.process_time(), 0  # other work on the core does not count
    for exchange in exchanges:
        text = reply(model, exchange.history, generator)
        count += 1 + len(encode_text(model.tokenizer, text))
    return count / (time.process_time() - started)


def score_table(model: EncoderDecoder, data: Path, no_input: dict[str, dict[str, float]]) -> str:
    """Return the perplexities as a Markdown table; those without an input are the recipe's."""
    lines = ["| split | perplexity | without its input |", "|---|---:|---:|"]
    for split in ("valid", "test"):
        for name, value in perplexities(model, data, split).items():
            alone = no_input[f"{split}_perplexity"][name]
            lines.append(f"| {name}.{split} | {value:.1f} | {alone:.1f} |")
    return "\n".join(lines)


def dtype_table(path: Path, data: Path) -> str:
    """Return the perplexities of a float32 model in every type of weights."""
    lines = [f"| weights | {' | '.join(f'{name}.test' for name in SETS)} |", "|---|---:|---:|"]
    for dtype in numlstm.layers.DTYPES:
        found = perplexities(EncoderDecoder(path, dtype), data, "test")
        lines.append(f"| {dtype} | {' | '.join(f'{found[name]:.2f}' for name in SETS)} |")
    return "\n".join(lines)


def as_markdown(found: list[list[tuple[str, str]]]) -> str:
    """Return dialogues as quotes."""
    blocks = []
    for answers in found:
        lines = [f"> **user** {turn}<br>\n> **chat** {answer}<br>" for turn, answer in answers]
        blocks.append("\n".join(lines))
    return "\n\n---\n\n".join(blocks)


def main() -> None:
    """Score, print, write the card."""
    parser = argparse.ArgumentParser(description="Score the chat model.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--float32", type=Path, help="the model before it was rounded, if kept")
    args = parser.parse_args()
    data, card = args.data / "chatbot", CHAT.with_suffix(".md")
    scores = json.loads(CHAT.with_suffix(".json").read_text(encoding="utf-8"))
    model = EncoderDecoder(CHAT)
    table = score_table(model, data, scores["no_input"])
    table += f"\n\n{speed(model, data):,.0f} tokens written per second, one at a time, on one core."
    console.print(table)
    fill(card, "model", describe(**files(CHAT)))
    fill(card, "scores", table)
    fill(card, "samples", as_markdown(sample_dialogues(model, data)))
    if args.float32:
        fill(card, "dtypes", dtype_table(args.float32, data))


if __name__ == "__main__":
    main()
