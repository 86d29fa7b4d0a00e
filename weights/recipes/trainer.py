"""What the recipes share: seeds, batches of similar length, averaged weights."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence

import torch
from torch import nn


def seed_everything(seed: int) -> None:
    """Make a run on one thread repeat itself bit for bit."""
    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def pad(sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids (S, T), filled up with 0 on the right, and lengths (S,)."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    ids = torch.zeros(len(sequences), int(lengths.max()), dtype=torch.long)
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


class AveragedWeights:
    """An exponential moving average of a network's weights, and the best one seen so far."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval()
        self.decay = decay
        self.num_updates = 0
        self.best_score = float("-inf")
        self.best_epoch = 0
        self._best = copy.deepcopy(self.net.state_dict())

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move the average towards `net`; the first updates move it further."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        for mean, current in zip(self.net.parameters(), net.parameters(), strict=True):
            mean.lerp_(current, 1 - decay)

    def keep_if_better(self, score: float, epoch: int) -> None:
        """Remember the average of this epoch if its score is the highest so far."""
        if score > self.best_score:
            self.best_score, self.best_epoch = score, epoch
            self._best = copy.deepcopy(self.net.state_dict())

    def best(self) -> nn.Module:
        """Return the averaged network of the best epoch."""
        self.net.load_state_dict(self._best)
        return self.net
