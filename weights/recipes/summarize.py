"""Train the abstractive summarizer: an abstract to one sentence, or to a title.

Run it with the summarization folder of the data:

    python weights/recipes/summarize.py --data DIR --out weights/summarize.safetensors

1. Train a byte-pair tokenizer on abstracts, summaries and titles.
2. Train an LSTM encoder-decoder with attention and copying (`seq2seq.py`) on three tasks at once,
   told apart by the token that the decoder begins with: write the summary, write the title, and
   write the sentence of the abstract with the best ROUGE, which teaches it to copy.

The epoch is chosen by the probability of the summaries of the valid part; the test part is scored
once, by the engine (`weights/scores/summarize.py`). It writes encoder and decoder to
one file, and what is known of the training beside it as `summarize.json`.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import abstracts
import seq2seq
import torch
from byte_pairs import build_tokenizer
from rich.progress import track
from seq2seq import Pair, Seq2Seq, mean_nats
from tokenizers import Tokenizer
from trainer import batches_by_length, fit, parse_arguments, seed_everything, write_scores

from numlstm.tasks.text.sentences import split_sentences
from numlstm.tasks.text.summarize import END, MARKS, MAX_TOKENS_SUMMARIZE, SENTENCE, SUMMARY, TITLE

SEED = 0
VOCAB_SIZE = 4000
EMBEDDING_SIZE = 128
HIDDEN_SIZE = 256  # of the decoder; half of it in each direction of the encoder
DROPOUT = 0.3
MAX_TARGET = 60

EPOCHS = 10
BATCH_SIZE = 8  # abstracts, three targets each
RATE = 3e-3
WEIGHT_DECAY = 1e-2
DTYPE = "bfloat16"  # of the file

NUM_COMPARED = 200  # test summaries whose outputs are held against the engine's

Pairs = dict[int, list[Pair]]  # by the token that the targets begin with


def read_pairs(data: Path, split: str, tokenizer: Tokenizer) -> Pairs:
    """Return abstracts with their first summary, their title and their best sentence, as ids."""
    pairs: Pairs = {SUMMARY: [], TITLE: [], SENTENCE: []}
    for paper in track(abstracts.read(data, split), f"oracle, {split}", transient=True):
        sentences = split_sentences(paper.abstract)
        source, _ = abstracts.encode_sentences(tokenizer, sentences, MAX_TOKENS_SUMMARIZE)
        best = max(sentences, key=lambda s: sum(abstracts.rouge(paper.summaries, s).values()))
        for mark, text in zip(pairs, (paper.summaries[0], paper.title, best), strict=True):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            pairs[mark].append((source, [mark, *ids, END]))
    return pairs


def main() -> None:
    """Train, score, write."""
    args = parse_arguments("Train the abstractive summarizer.")
    seed_everything(SEED)
    rng = random.Random(SEED)
    papers = abstracts.read(args.data, "train")
    texts = [text for p in papers for text in (p.title, p.abstract, *p.summaries)]
    tokenizer = build_tokenizer(texts, VOCAB_SIZE, MARKS)
    train, valid, test = (read_pairs(args.data, split, tokenizer) for split in SPLITS)
    lengths = [len(source) for source, _ in train[SUMMARY]]

    def batches(epoch: int) -> list[list[Pair]]:
        return [
            [(of[n][0], of[n][1][: MAX_TARGET + 1]) for n in batch for of in train.values()]
            for batch in batches_by_length(lengths, BATCH_SIZE, rng)
        ]

    def loss_of(net: torch.nn.Module, batch: list[Pair]) -> torch.Tensor:
        nats, counts = net.nats(batch)
        return nats.sum() / counts.sum()

    net = Seq2Seq(
        tokenizer.get_vocab_size(),
        EMBEDDING_SIZE,
        HIDDEN_SIZE,
        dropout=DROPOUT,
        bidirectional=True,
        copies=True,
    )
    result = fit(
        net,
        batches=batches,
        loss_of=loss_of,
        score_of=lambda net: mean_nats(net, valid[SUMMARY]),
        epochs=EPOCHS,
        rate=RATE,
        name="summarize",
        minimize=True,
        patience=3,
        weight_decay=WEIGHT_DECAY,
        average_decay=0.995,
    )
    seq2seq.save(net, tokenizer, test[SUMMARY][:3], args.out, args.dtype or DTYPE)
    compared = test[SUMMARY][:NUM_COMPARED]
    write_scores(
        args.out,
        net,
        result,
        valid_perplexity=perplexity(net, valid),
        test_perplexity=perplexity(net, test),
        largest_difference_to_engine=f"{seq2seq.largest_difference(net, compared):.1e}",
        num_compared=len(compared),
        num_papers=len(papers),
        vocab_size=tokenizer.get_vocab_size(),
        seed=SEED,
    )


def perplexity(net: Seq2Seq, pairs: Pairs) -> dict[str, float]:
    """Return the perplexity per token of each task."""
    return {
        MARKS[mark].strip("[]").lower(): math.exp(mean_nats(net, of)) for mark, of in pairs.items()
    }


SPLITS = ("train", "valid", "test")

if __name__ == "__main__":
    main()
