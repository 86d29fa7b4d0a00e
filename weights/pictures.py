"""Draw the pictures of docs/tasks.md, by the bundled models.

python -m weights.pictures
"""

import re
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import numlstm
from numlstm.tasks.audio.features import NUM_BINS, ROW_SECONDS, SAMPLE_RATE, LogMel
from numlstm.tasks.audio.sound import open_sound
from numlstm.tasks.text.summarize import encode_sentence
from weights.scores.card import WEIGHTS

FOLDER = WEIGHTS.parent / "docs"
REVIEW = "The plot is thin and the first hour drags, but the actors are wonderful."
SENTENCE = "The battle began on 6 June 1944 and the first soldiers landed on the album."
BLUE, RED, GREY = "#2a6fb0", "#c8553d", "#9aa0a6"


def sentiment() -> plt.Figure:
    """The probability of "positive" after every token of a review."""
    pipe = numlstm.pipeline("sentiment")
    steps = list(pipe.steps(REVIEW))
    shares = [p.score if p.label == "positive" else 1 - p.score for _, p in steps]
    figure, axes = plt.subplots(figsize=(8, 2.6))
    axes.axhline(0.5, color=GREY, linewidth=0.8)
    axes.bar(
        range(len(shares)),
        np.array(shares) - 0.5,
        bottom=0.5,
        width=0.8,
        color=[BLUE if share > 0.5 else RED for share in shares],
    )
    axes.set_xticks(range(len(shares)), [token for token, _ in steps], rotation=45, ha="right")
    axes.set_ylim(0, 1)
    axes.set_ylabel('p("positive")')
    return figure


def surprise() -> plt.Figure:
    """The nats of every word of a sentence."""
    score = numlstm.pipeline("language-model").score(SENTENCE)
    figure, axes = plt.subplots(figsize=(8, 2.6))
    axes.bar(range(score.num_tokens), score.per_token, width=0.8, color=BLUE)
    axes.set_xticks(range(score.num_tokens), score.tokens, rotation=45, ha="right")
    axes.set_ylabel("nats")
    axes.set_title(f"perplexity {score.perplexity:.0f}", loc="right", fontsize=9)
    return figure


def lookahead() -> plt.Figure:
    """The accuracy of the tagger by how many words late its tags are, from its card."""
    card = (WEIGHTS / "pos.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+|whole sentence) \| ([\d.]+)% \|$", card, re.M)
    figure, axes = plt.subplots(figsize=(5, 2.6))
    axes.plot(range(len(rows)), [float(share) for _, share in rows], "o-", color=BLUE)
    axes.set_xticks(range(len(rows)), [name for name, _ in rows])
    axes.set_xlabel("words that a tag is late")
    axes.set_ylabel("accuracy, %")
    axes.grid(axis="y", alpha=0.3)
    return figure


def speech() -> plt.Figure:
    """A sound, what the network says to every 20 ms of it, and the words with their times."""
    path = WEIGHTS / "digits.wav"
    pipe = numlstm.pipeline("speech")
    with open_sound(path) as (rate, blocks):
        assert rate == SAMPLE_RATE
        samples = np.concatenate(list(blocks)).mean(axis=1, dtype=np.float32)
    rows = LogMel().feed(samples)
    p = np.exp(pipe.model.run(rows))
    duration = len(rows) * ROW_SECONDS
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 4.2), sharex=True, height_ratios=(3, 2))
    top.imshow(
        rows.reshape(-1, NUM_BINS).T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0, duration, 0, NUM_BINS),
    )
    top.set_ylabel("mel bins")
    for word in pipe(path).words:
        top.axvspan(word.start, word.end, fill=False, edgecolor="white", linewidth=1.2)
        top.text(word.start + 0.03, NUM_BINS - 5, word.text, color="white")
    times = (np.arange(len(p)) + 0.5) * ROW_SECONDS
    for label, share in zip(pipe.model.labels[2:], p.T[2:], strict=True):
        if share.max() > 0.5:
            bottom.plot(times, share, label=label)
    bottom.plot(times, p[:, 1], color=GREY, linewidth=0.8, label="a word begins")
    bottom.set_xlabel("seconds")
    bottom.set_ylabel("probability")
    bottom.set_ylim(0, 1.05)
    bottom.legend(ncols=6, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    return figure


def vad() -> plt.Figure:
    """A sound, the probability of speech in every 32 ms of it, and the segments."""
    path = WEIGHTS / "digits.wav"
    with open_sound(path) as (rate, blocks):
        samples = np.concatenate(list(blocks)).mean(axis=1, dtype=np.float32)
    pipe = numlstm.pipeline("vad")
    found = pipe(path)
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 3), sharex=True)
    top.plot(np.arange(len(samples)) / rate, samples, color=GREY, linewidth=0.4)
    top.set_yticks([])
    times = (np.arange(len(found.probabilities)) + 0.5) * found.chunk_seconds
    bottom.step(times, found.probabilities, where="mid", color=BLUE)
    for height in (pipe.hysteresis.threshold, pipe.hysteresis.lower):
        bottom.axhline(height, color=GREY, linewidth=0.8, linestyle="--")
    for axes in (top, bottom):
        for each in found.segments:
            axes.axvspan(each.start, each.end, color=BLUE, alpha=0.12, linewidth=0)
    bottom.set_xlabel("seconds")
    bottom.set_ylabel("p(speech)")
    bottom.set_ylim(0, 1.05)
    bottom.set_xlim(0, len(samples) / rate)
    return figure


def attention() -> plt.Figure:
    """Which words of an abstract the summarizer looks at, and when it copies."""
    text = (
        "Recurrent networks read one token at a time. We present a library that runs them on a "
        "plain CPU with compiled kernels. It reads a token in a few microseconds."
    )
    pipe = numlstm.pipeline("summarize")
    networks = pipe.networks
    sentences = [f"{part}." for part in text.rstrip(".").split(". ")]
    ids = [token for part in sentences for token in encode_sentence(networks.tokenizer, part)]
    written = networks.encode(pipe(text))
    memory = networks.encoder.run(ids)
    weights, first = networks.decoder.weights, networks.read(ids).state
    joined = numlstm.Concat(1 + memory.shape[1], inputs=("gate", "query"))
    inside = numlstm.Network((*weights.network.layers[:-3], joined))  # without its copies
    stream = numlstm.Model(replace(weights, network=inside)).stream(memory=memory)
    stream.state = first
    ys = stream.run(np.array([1, *written[:-1]], np.int32))
    gate, query = ys[:, 0], ys[:, 1:]
    scores = query @ memory.T
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    names = [networks.tokenizer.decode([token], skip_special_tokens=False) for token in ids]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8.6, 4.6), width_ratios=(14, 1), sharey=True
    )
    left.imshow(weights, aspect="auto", cmap="Blues", vmin=0, vmax=1)
    left.set_xticks(range(len(ids)), names, rotation=90, fontsize=7)
    left.set_yticks(
        range(len(written)), [networks.tokenizer.decode([t]) for t in written], fontsize=7
    )
    right.imshow(1 - gate[:, None], aspect="auto", cmap="Oranges", vmin=0, vmax=1)
    right.set_xticks([0], ["copies"], rotation=90, fontsize=7)
    return figure


PICTURES = {
    "sentiment": sentiment,
    "surprise": surprise,
    "lookahead": lookahead,
    "speech": speech,
    "vad": vad,
    "attention": attention,
}


def main() -> None:
    """Draw all."""
    mpl.use("Agg")
    mpl.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    for name, draw in PICTURES.items():
        figure = draw()
        path = FOLDER / f"{name}.png"
        figure.savefig(path, dpi=130, bbox_inches="tight")
        plt.close(figure)
        print(Path(path).relative_to(FOLDER.parent))


if __name__ == "__main__":
    main()
