"""The adding problem with an RNN, a GRU and an LSTM: how far back each of them learns to look.

A sequence of pairs: a number in [0, 1], and a mark, which is 1 at two steps and 0 elsewhere, one in
each half of the sequence. The answer after the last step is the sum of the two marked numbers. Who
always answers 1 has a mean squared error of 1/6. Hochreiter, Schmidhuber 1997, section 5.4, with
the marks of Le, Jaitly, Hinton 2015.

    python -m weights.recipes.adding --docs docs

trains the three cells, all with as many units, at every length, in about ten minutes on one thread.
It writes ``horizon.json``, the table between the markers of ``horizon.md``, and the pictures, which
``--draw`` makes anew of the figures there are. What is measured is measured on the engine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import numlstm
from numlstm import analysis, plots
from weights.recipes.trainer import console, fit, seed_everything
from weights.scores import card

SEED = 0
CELLS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}
SEQ_LENS = (10, 25, 50, 100, 200)
HIDDEN_SIZE = 32
BATCH_SIZE = 64
BATCHES = 100  # of an epoch
EPOCHS = 30
RATES = (3e-2, 1e-2)  # the better on valid counts
NUM_TEST = 1000
RIGHT = 0.04  # an answer this close is right, as in the paper
SHOWN = 100  # the length whose networks the picture shows the Jacobians of
NUM_SHOWN = 20  # sequences that their norms are the mean of
TEXT = "The film begins slowly and badly, but then it becomes a moving, beautiful story."


class Adder(nn.Module):
    """One recurrent layer, and the sum read off its last h."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.rnn = CELLS[cell](2, HIDDEN_SIZE, batch_first=True)
        self.head = nn.Linear(HIDDEN_SIZE, 1)
        if cell == "LSTM":  # begin by remembering: Gers, Schmidhuber, Cummins 2000
            with torch.no_grad():
                self.rnn.bias_ih_l0[HIDDEN_SIZE : 2 * HIDDEN_SIZE] = 1.0

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        """Return the sums (S,) of sequences (S, T, 2)."""
        return self.head(self.rnn(xs)[0][:, -1]).squeeze(-1)


def draw(rng: np.random.Generator, num: int, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sequences (num, seq_len, 2) and their sums (num,)."""
    xs = np.zeros((num, seq_len, 2), np.float32)
    xs[:, :, 0] = rng.random((num, seq_len))
    rows, half = np.arange(num), seq_len // 2
    for first, last in ((0, half), (half, seq_len)):
        xs[rows, rng.integers(first, last, num), 1] = 1.0
    return xs, (xs[:, :, 0] * xs[:, :, 1]).sum(1)


def train(cell: str, seq_len: int, rate: float) -> tuple[Adder, float]:
    """Train a cell on sequences of a length, new ones at every step; return its valid score too."""
    seed_everything(SEED)
    rng = np.random.default_rng([SEED, seq_len])
    valid_xs, valid_sums = map(torch.from_numpy, draw(rng, 200, seq_len))
    net = Adder(cell)

    def batches(epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        drawn = (draw(rng, BATCH_SIZE, seq_len) for _ in range(BATCHES))
        return [(torch.from_numpy(xs), torch.from_numpy(sums)) for xs, sums in drawn]

    result = fit(
        net,
        batches=batches,
        loss_of=lambda net, batch: F.mse_loss(net(batch[0]), batch[1]),
        score_of=lambda net: float(F.mse_loss(net(valid_xs), valid_sums)),
        epochs=EPOCHS,
        rate=rate,
        name=f"{cell}, {seq_len} steps, rate {rate}",
        minimize=True,
        weight_decay=0.0,
    )
    return net, result.valid_score


def converted(net: Adder) -> numlstm.Model:
    return numlstm.from_torch(net.rnn, net.head)


def measure(model: numlstm.Model, seq_len: int) -> dict[str, float]:
    """Return how well the engine adds sequences of a length."""
    xs, sums = draw(np.random.default_rng([SEED + 1, seq_len]), NUM_TEST, seq_len)
    answers = np.array([ys[-1, 0] for ys in model.run_batch(list(xs))])
    errors = np.abs(answers.astype(np.float64) - sums)
    return {
        "mean_squared_error": significant((errors**2).mean()),
        "right": float((errors <= RIGHT).mean()),
    }


def norms(model: numlstm.Model) -> list[float]:
    """Return the mean norms of the Jacobians over 0 to SHOWN steps."""
    xss, _ = draw(np.random.default_rng(SEED + 2), NUM_SHOWN, SHOWN)
    each = [analysis.horizon(model, xs, SHOWN).norms["layers.0"] for xs in xss]
    return [significant(norm) for norm in np.mean(each, 0)]


def significant(number: float) -> float:
    """Return a number with three digits that count."""
    return float(f"{number:.3g}")


def train_all() -> dict[str, Any]:
    """Return all figures of the page."""
    rows, jacobians = [], {}
    for seq_len in SEQ_LENS:
        for cell in CELLS:
            trained = [(rate, *train(cell, seq_len, rate)) for rate in RATES]
            rate, net, _ = min(trained, key=lambda one: one[2])
            model = converted(net)
            rows.append({"cell": cell, "steps": seq_len, "rate": rate} | measure(model, seq_len))
            console.print(rows[-1])
            if seq_len == SHOWN:
                seed_everything(SEED)
                untrained = converted(Adder(cell))
                jacobians[cell] = {"trained": norms(model), "untrained": norms(untrained)}
    sizes = {cell: sum(p.numel() for p in Adder(cell).parameters()) for cell in CELLS}
    return {
        "hidden_size": HIDDEN_SIZE,
        "num_parameters": sizes,
        "sequences_trained_on": EPOCHS * BATCHES * BATCH_SIZE,
        "sequences_tested_on": NUM_TEST,
        "torch": torch.__version__,
        "rows": rows,
        "jacobians_of_steps": SHOWN,
        "jacobians": jacobians,
    }


# ------------------------------------------------------------------------------------- the page


def table(figures: dict[str, Any]) -> str:
    """Return the error, and the share that is right, of each cell at each length."""
    headers = [f"{cell}, {num:,} weights" for cell, num in figures["num_parameters"].items()]
    rows = []
    for seq_len in dict.fromkeys(row["steps"] for row in figures["rows"]):
        own = {row["cell"]: row for row in figures["rows"] if row["steps"] == seq_len}
        cells = (
            f"{own[cell]['mean_squared_error']:.2g} ({own[cell]['right']:.1%})" for cell in CELLS
        )
        rows.append([f"{seq_len}", *cells])
    return card.table(("steps", *headers), rows)


def draw_errors(figures: dict[str, Any], path: Path) -> None:
    """Draw the error against the length, a curve per cell."""
    drawn, axes = plots.figure(6.4, 3.9)
    for cell, color in zip(CELLS, plots.COLORS, strict=False):
        own = [row for row in figures["rows"] if row["cell"] == cell]
        steps, errors = ([row[key] for row in own] for key in ("steps", "mean_squared_error"))
        axes.plot(steps, errors, "o-", color=color, label=cell, linewidth=1.8)
    axes.axhline(1 / 6, color="0.4", linewidth=1.0, linestyle=(0, (3, 2)), label="always 1")
    axes.set(xscale="log", yscale="log", xlabel="steps of a sequence", ylabel="mean squared error")
    axes.set_xticks(steps, [str(step) for step in steps])
    axes.minorticks_off()
    axes.legend(frameon=False)
    plots.plain(axes)
    plots.save(drawn, path)


def draw_sentiment(path: Path) -> None:
    """Draw the gates of the bundled sentiment model along a sentence."""
    model = numlstm.load("sentiment")
    encoding = model.load_tokenizer().encode(TEXT, add_special_tokens=False)
    tokens = [TEXT[start:end] for start, end in encoding.offsets]
    model.stream().trace(encoding.ids).plot(path, tokens)


def write_page(figures: dict[str, Any], docs: Path) -> None:
    """Draw the pictures, and put the table between the markers of horizon.md."""
    draw_errors(figures, docs / "horizon-task.png")
    jacobians = figures["jacobians"]
    trained, untrained = (
        {cell: jacobians[cell][key] for cell in CELLS} for key in ("trained", "untrained")
    )
    plots.draw_horizons(trained, docs / "horizon-jacobian.png", untrained)
    draw_sentiment(docs / "trace.png")
    card.fill(docs / "horizon.md", "table", table(figures))


def main() -> None:
    """Train, measure, draw."""
    parser = argparse.ArgumentParser(description="The adding problem with three cells.")
    parser.add_argument("--docs", type=Path, required=True, help="the folder to write into")
    parser.add_argument("--draw", action="store_true", help="only draw the figures that are there")
    args = parser.parse_args()
    path = args.docs / "horizon.json"
    if not args.draw:
        path.write_text(json.dumps(train_all()) + "\n", encoding="utf-8")
    write_page(json.loads(path.read_text(encoding="utf-8")), args.docs)


if __name__ == "__main__":
    main()
