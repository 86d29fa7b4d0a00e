"""What the recipes share: seeds, batches, the training loop, the files written at the end.

A recipe tells `fit` three things: what the batches of an epoch are, the loss of one batch, and how
good the network is on valid data.

    seed_everything(SEED)
    net = Tagger(...)
    result = fit(
        net,
        batches=lambda epoch: batches_by_length(lengths, 32, rng),  # a list of anything
        loss_of=lambda net, batch: ...,  # a scalar
        score_of=lambda net: accuracy(net, valid),
        epochs=10,
        rate=3e-3,
        patience=2,
    )
    write_scores(args.out, net, result, test_accuracy=accuracy(net, test))
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

Batch = TypeVar("Batch")

console = Console()


def seed_everything(seed: int) -> None:
    """Make a run on one thread repeat itself bit for bit."""
    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def parse_arguments(description: str) -> argparse.Namespace:
    """Return `data`, the folder of the data, `out`, the model file to write, and its `dtype`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data files")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "int8"),
        help="of the matrices in the file, instead of those that are shipped",
    )
    return parser.parse_args()


# ------------------------------------------------------------------------------------- batches


def pad(sequences: Sequence[Sequence[int]], value: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids (S, T), filled up with `value` on the right, and lengths (S,)."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    ids = torch.full((len(sequences), int(lengths.max())), value, dtype=torch.long)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    return ids, lengths


def batches_by_length(
    lengths: Sequence[int], batch_size: int, rng: random.Random
) -> list[list[int]]:
    """Return shuffled batches of indices; one batch holds sequences of nearly one length.

    Sorting inside windows of 50 batches keeps the padding small and the batches random.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    window = 50 * batch_size
    batches = []
    for start in range(0, len(order), window):
        chunk = sorted(order[start : start + window], key=lambda index: lengths[index])
        batches += [chunk[at : at + batch_size] for at in range(0, len(chunk), batch_size)]
    rng.shuffle(batches)
    return batches


def batches_of_stream(
    ids: torch.Tensor, num_streams: int, num_steps: int, offset: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return windows (S, T) of one long text (N,), and the same one token later.

    The text is cut into `num_streams` rows that are read side by side; a window goes on where the
    one before it ended, so a recurrent state can be carried over. The rows begin at `offset`.
    """
    ids = ids[offset:]
    length = (len(ids) - 1) // num_streams
    xs = ids[: length * num_streams].view(num_streams, length)
    ys = ids[1 : length * num_streams + 1].view(num_streams, length)
    return [
        (xs[:, at : at + num_steps], ys[:, at : at + num_steps])
        for at in range(0, length, num_steps)
    ]


# ------------------------------------------------------------------------------------ training


class AveragedWeights:
    """An exponential moving average of a network's weights."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval()
        self.decay = decay
        self.num_updates = 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move the average towards `net`; the first updates move it further."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        for mean, current in zip(self.net.parameters(), net.parameters(), strict=True):
            mean.lerp_(current, 1 - decay)
        for mean, current in zip(self.net.buffers(), net.buffers(), strict=True):
            mean.copy_(current)


@dataclass(frozen=True)
class Result:
    """How a training went; the network itself has the weights of `best_epoch`."""

    best_epoch: int
    valid_score: float
    epochs: int  # trained, less than asked for if it stopped early
    duration_s: float


def fit(
    net: nn.Module,
    *,
    batches: Callable[[int], Sequence[Batch]],
    loss_of: Callable[[nn.Module, Batch], torch.Tensor],
    score_of: Callable[[nn.Module], float],
    epochs: int,
    rate: float,
    name: str = "train",
    minimize: bool = False,
    patience: int | None = None,
    weight_decay: float = 1e-2,
    warmup: float = 0.15,
    average_decay: float | None = None,
    max_gradient_norm: float = 1.0,
) -> Result:
    """Train `net` by AdamW under a one-cycle rate; leave the weights best on valid in it.

    Args:
        net: Trained in place; in the end it has the best weights and is in eval mode.
        batches: Gives the batches of an epoch (from 1), as many in each; a batch is anything.
        loss_of: Gives the loss of a batch, a scalar. A carried state is its own affair.
        score_of: Scores a network on valid data, in eval mode and without gradients.
        epochs: How many at most; the rate falls to zero over this many.
        rate: The highest learning rate.
        name: What the progress bar calls it.
        minimize: Whether a lower score is a better one.
        patience: Epochs without a better score after which to stop.
        weight_decay: That of AdamW.
        warmup: The share of all steps in which the rate rises.
        average_decay: Score and keep a moving average of the weights that decays so.
        max_gradient_norm: Longer gradients are cut to it.
    """
    started = time.perf_counter()
    params = [param for param in net.parameters() if param.requires_grad]
    optimizer = torch.optim.AdamW(params, rate, (0.9, 0.99), weight_decay=weight_decay, fused=True)
    average = AveragedWeights(net, average_decay) if average_decay is not None else None
    scored = net if average is None else average.net
    schedule = None
    best, best_epoch, best_score = scored.state_dict(), 0, float("nan")
    for epoch in range(1, epochs + 1):
        todo = batches(epoch)
        if schedule is None:
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, rate, total_steps=len(todo) * epochs + 1, pct_start=warmup
            )
        net.train()
        total = 0.0
        with _progress() as progress:
            task = progress.add_task(f"{name}, epoch {epoch}", total=len(todo), loss="")
            for num_done, batch in enumerate(todo, 1):
                loss = loss_of(net, batch)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(params, max_gradient_norm)
                optimizer.step()
                if schedule.last_epoch < schedule.total_steps - 1:  # some epochs are longer
                    schedule.step()
                if average is not None:
                    average.update(net)
                total += loss.item()
                progress.update(task, advance=1, loss=f"loss {total / num_done:.3f}")
        scored.eval()
        with torch.no_grad():
            score = score_of(scored)
        seconds = time.perf_counter() - started
        better = best_epoch == 0 or (score < best_score if minimize else score > best_score)
        if better:
            best, best_epoch, best_score = copy.deepcopy(scored.state_dict()), epoch, score
        console.print(
            f"{name}, epoch {epoch}: loss {total / len(todo):.4f}, valid {score:.4f}"
            f"{' *' if better else ''}, {seconds:.0f} s"
        )
        if patience is not None and epoch - best_epoch >= patience:
            break
    net.load_state_dict(best)
    net.eval()
    return Result(best_epoch, best_score, epoch, time.perf_counter() - started)


def _progress() -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(
        TextColumn("{task.description}"),
        *columns,
        TextColumn("{task.fields[loss]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


# --------------------------------------------------------------------------------------- result


def write_scores(out: Path, net: nn.Module, result: Result, **scores: Any) -> None:
    """Write `scores`, and what is known of the training, as .json beside the model file."""
    values = scores | {
        "num_parameters": sum(param.numel() for param in net.parameters()),
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "duration_s": result.duration_s,
        "torch": torch.__version__,
    }
    text = json.dumps(_rounded(values), indent=2, ensure_ascii=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    console.print_json(text)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value
