"""Train the extractive summarizer: which sentence of an abstract is its summary.

Run it with the summarization folder of the data:

    python weights/recipes/extract.py --data DIR --out weights/extract.safetensors

1. Train a lower-case byte-pair tokenizer on the abstracts and summaries.
2. Score every sentence of the training abstracts by ROUGE against the summary. The best one is
   the oracle's choice; the targets are a softmax of the scores, sharp enough to be near it.
3. Train a BiLSTM over the whole abstract, a number per token: the score of a sentence is the mean
   of its tokens'.

The epoch is chosen by ROUGE-L of the chosen sentences on the valid part; the test part is scored
once, at the end.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import abstracts
import numpy as np
import torch
from abstracts import ROUGES, mean_rouge
from byte_pairs import build_tokenizer
from rich.progress import track
from seq2seq import Bidirectional, as_weights
from tokenizers import Tokenizer
from torch import nn
from trainer import batches_by_length, fit, pad, parse_arguments, seed_everything, write_scores

import numlstm
from numlstm import LSTM, Embedding, Linear, Network, Weights
from numlstm.tasks.text.sentences import split_sentences
from numlstm.tasks.text.summarize import MARKS, MAX_TOKENS_EXTRACT

SEED = 0
VOCAB_SIZE = 4000
EMBEDDING_SIZE = 64
HIDDEN_SIZE = 64  # of each direction
DROPOUT = 0.4
TEMPERATURE = 0.05  # of the targets, in ROUGE

EPOCHS = 10
BATCH_SIZE = 16
RATE = 3e-3
WEIGHT_DECAY = 3e-2
DTYPE = "float32"  # of the file

NUM_COMPARED = 200  # test abstracts whose outputs are held against the engine's


@dataclass(frozen=True)
class Abstract:
    """Ids, where its sentences begin, and ROUGE of each against the summaries."""

    ids: list[int]
    starts: list[int]
    rouge: list[dict[str, float]]

    def targets(self) -> torch.Tensor:
        """Return how much of the choice each sentence should get."""
        means = [sum(score.values()) / len(ROUGES) for score in self.rouge]
        return (torch.tensor(means) / TEMPERATURE).softmax(0)


def read(data: Path, split: str, tokenizer: Tokenizer) -> list[Abstract]:
    """Read papers and let the oracle score their sentences."""
    found = []
    for paper in track(abstracts.read(data, split), f"oracle, {split}", transient=True):
        sentences = split_sentences(paper.abstract)
        ids, starts = abstracts.encode_sentences(tokenizer, sentences, MAX_TOKENS_EXTRACT)
        scores = [abstracts.rouge(paper.summaries, s) for s in sentences[: len(starts)]]
        found.append(Abstract(ids, starts, scores))
    return found


class Extractor(nn.Module):
    """Embedding, BiLSTM, a number per token."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, EMBEDDING_SIZE)
        self.lstm = Bidirectional(EMBEDDING_SIZE, HIDDEN_SIZE)
        self.head = nn.Linear(2 * HIDDEN_SIZE, 1)
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return numbers (S, T) of ids (S, T)."""
        xs = self.dropout(self.embedding(ids))
        return self.head(self.dropout(self.lstm(xs, lengths)))[:, :, 0]


def sentence_scores(net: nn.Module, batch: list[Abstract]) -> list[torch.Tensor]:
    """Return the score of each sentence of each abstract."""
    numbers = net(*pad([abstract.ids for abstract in batch]))
    scores = []
    for row, abstract in zip(numbers, batch, strict=True):
        ends = [*abstract.starts[1:], len(abstract.ids)]
        parts = [row[a:b].mean() for a, b in zip(abstract.starts, ends, strict=True)]
        scores.append(torch.stack(parts))
    return scores


def loss_of(net: nn.Module, batch: list[Abstract]) -> torch.Tensor:
    """Return the cross-entropy of the choice among the sentences."""
    losses = [
        -(abstract.targets() * scores.log_softmax(0)).sum()
        for abstract, scores in zip(batch, sentence_scores(net, batch), strict=True)
    ]
    return torch.stack(losses).mean()


@torch.no_grad()
def chosen_rouge(net: nn.Module, papers: list[Abstract]) -> dict[str, float]:
    """Return mean ROUGE, in percent, of the sentences with the highest scores."""
    net.eval()
    chosen = []
    for at in range(0, len(papers), 32):
        batch = papers[at : at + 32]
        for abstract, scores in zip(batch, sentence_scores(net, batch), strict=True):
            chosen.append(abstract.rouge[int(scores.argmax())])
    return mean_rouge(chosen)


def as_model(net: Extractor) -> Weights:
    """Return the network for numlstm."""
    vocab_size = net.embedding.num_embeddings
    network = Network(
        (
            Embedding(vocab_size, EMBEDDING_SIZE),
            LSTM(EMBEDDING_SIZE, HIDDEN_SIZE, direction="bidirectional"),
            Linear(2 * HIDDEN_SIZE, 1),
        )
    )
    tensors = {"embedding.weight": net.embedding.weight} | net.lstm.tensors("layers.0.")
    tensors |= {f"layers.1.{name}": param for name, param in net.head.named_parameters()}
    return as_weights(network, tensors)


@torch.no_grad()
def probe(net: Extractor, ids: list[int]) -> numlstm.spec.Probe:
    """Return ids with PyTorch's numbers."""
    return numlstm.spec.Probe(np.array(ids, np.int32), net(*pad([ids]))[0][:, None].numpy())


def main() -> None:
    """Train, score, write."""
    args = parse_arguments("Train the extractive summarizer.")
    seed_everything(SEED)
    rng = random.Random(SEED)
    papers = abstracts.read(args.data, "train")
    texts = [text for paper in papers for text in (paper.abstract, *paper.summaries)]
    tokenizer = build_tokenizer(texts, VOCAB_SIZE, MARKS, lowercase=True)
    train, valid, test = (read(args.data, split, tokenizer) for split in SPLITS)
    lengths = [len(abstract.ids) for abstract in train]

    net = Extractor(tokenizer.get_vocab_size())
    result = fit(
        net,
        batches=lambda epoch: [
            [train[index] for index in batch]
            for batch in batches_by_length(lengths, BATCH_SIZE, rng)
        ],
        loss_of=loss_of,
        score_of=lambda net: chosen_rouge(net, valid)["rougeL"],
        epochs=EPOCHS,
        rate=RATE,
        name="extract",
        patience=3,
        weight_decay=WEIGHT_DECAY,
        average_decay=0.99,
    )

    probes = tuple(probe(net, abstract.ids) for abstract in test[:NUM_COMPARED])
    model = numlstm.Model(replace(as_model(net), tokenizer=tokenizer.to_str(), probes=probes[:3]))
    model.save(args.out, dtype=args.dtype or DTYPE)
    largest = max(float(np.abs(model.run(probe.xs) - probe.ys).max()) for probe in probes)
    write_scores(
        args.out,
        net,
        result,
        valid=chosen_rouge(net, valid),
        test=chosen_rouge(net, test),
        test_lead=mean_rouge([abstract.rouge[0] for abstract in test]),
        largest_difference_to_engine=f"{largest:.1e}",
        num_compared=len(probes),
        num_papers=len(train),
        vocab_size=tokenizer.get_vocab_size(),
        seed=SEED,
    )


SPLITS = ("train", "valid", "test")

if __name__ == "__main__":
    main()
