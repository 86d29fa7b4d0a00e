"""Interpolated modified Kneser-Ney, the n-gram model that a language model is held against.

Chen, Goodman 1998, equations 26 and 27. With c the count of an n-gram at the highest order, and at
the lower ones the number of different tokens seen before it:

    p(w | u) = max(c(u w) - D(c(u w)), 0) / c(u) + gamma(u) p(w | shorter u)
    gamma(u) = (D1 N1(u) + D2 N2(u) + D3 N3+(u)) / c(u)

N1(u) is how many different tokens followed u once. With n_k the number of n-grams of count k and
Y = n1 / (n1 + 2 n2), the discounts of an order are D_k = k - (k + 1) Y n_{k+1} / n_k. Below the
single tokens stands the uniform distribution over the vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

Gram = tuple[int, ...]


class KneserNey:
    """An n-gram model of a text; its first tokens have no more context than there is."""

    def __init__(self, ids: Sequence[int], vocab_size: int, order: int = 5) -> None:
        self.vocab_size = vocab_size
        self.order = order
        self.counts: list[Counter[Gram]] = []  # of n-grams, n from 1
        self.discounts: list[tuple[float, ...]] = []
        self.totals: list[dict[Gram, int]] = []  # c(u)
        self.discounted: list[dict[Gram, float]] = []  # gamma(u) c(u)
        counts = Counter(zip(*(ids[at:] for at in range(order)), strict=False))
        for size in range(order, 0, -1):
            self._add(counts)
            shorter = Counter(gram[1:] for gram in counts)
            if size > 2:  # an n-gram that begins the text has nothing before it
                shorter[tuple(ids[: size - 1])] += 1
            counts = shorter

    def _add(self, counts: Counter[Gram]) -> None:
        """Add the next lower order."""
        n1, n2, n3, n4 = (sum(c == k for c in counts.values()) for k in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        discounts = (0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        totals: dict[Gram, int] = defaultdict(int)
        discounted: dict[Gram, float] = defaultdict(float)
        for gram, count in counts.items():
            totals[gram[:-1]] += count
            discounted[gram[:-1]] += discounts[min(count, 3)]
        self.counts.insert(0, counts)
        self.discounts.insert(0, discounts)
        self.totals.insert(0, totals)
        self.discounted.insert(0, discounted)

    def probability(self, token: int, context: Gram) -> float:
        """Return the probability of a token after a context of any length."""
        p = 1 / self.vocab_size
        for size in range(min(self.order, len(context) + 1)):
            before = context[len(context) - size :]
            total = self.totals[size].get(before, 0)
            if total == 0:
                break
            count = self.counts[size].get((*before, token), 0)
            kept = count - self.discounts[size][min(count, 3)]
            p = (kept + self.discounted[size][before] * p) / total
        return p

    def nats_per_token(self, ids: Sequence[int]) -> float:
        """Return -log p of every token but the first, on the average."""
        total = 0.0
        for at in range(1, len(ids)):
            context = tuple(ids[max(0, at - self.order + 1) : at])
            total -= math.log(self.probability(ids[at], context))
        return total / (len(ids) - 1)
