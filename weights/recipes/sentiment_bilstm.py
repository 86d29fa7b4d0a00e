"""Train the sentiment model that reads whole texts: a BiLSTM, begun from the one that streams.

Run it with the sentiment folder of the data, after `sentiment.py`:

    python weights/recipes/sentiment_bilstm.py --data DIR --out weights/sentiment-bilstm.safetensors

1. Take tokenizer, embedding and the left-to-right LSTM from `weights/sentiment.safetensors`; the
   right-to-left LSTM begins as a copy of the other one.
2. Let the model that streams label the sentences of the movie reviews, whose own labels are never
   read.
3. Train students on these and on the labelled sentences and phrases; keep the one best on valid.

Epoch and student are chosen on sentence_polarity.valid; the test parts are scored once, at the end.
One thread, no GPU, about 8 minutes. Beside the model it leaves its scores, in a .json of the same
name.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import torch
from sentiment import (
    HEAD_DROPOUT,
    HIDDEN_SIZE,
    LABELS,
    SENTENCE_REPEATS,
    SentimentNet,
    Texts,
    accuracy,
    check_sentences,
    encode,
    export,
    one_hot,
    read,
    read_reviews,
    soft_labels,
    split_sentences,
    train,
)
from tokenizers import Tokenizer
from torch import nn
from trainer import parse_arguments, seed_everything, write_scores

import numlstm

SEED = 0
STREAMING = Path(__file__).parents[1] / "sentiment.safetensors"
STUDENT_SEEDS = (1, 2)
DTYPE = "int8"  # of the file


def read_labelled_reviews(data: Path, split: str) -> Texts:
    """Read whole movie reviews with their labels, to score them."""
    with gzip.open(data / f"movie_reviews.{split}.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return Texts([row[2] for row in rows], [int(row[0]) for row in rows])


def load_streaming(path: Path) -> tuple[SentimentNet, Tokenizer]:
    """Load what `sentiment.py` wrote."""
    weights = numlstm.load(path).weights
    tokenizer = weights.load_tokenizer()
    tensors = {name: torch.from_numpy(tensor) for name, tensor in weights.tensors.items()}
    net = SentimentNet(tokenizer.get_vocab_size())
    net.embedding.weight.data = tensors["embedding.weight"]
    net.lstm.load_state_dict(
        {name: tensors[f"layers.0.{name.removesuffix('_l0')}"] for name in net.lstm.state_dict()}
    )
    net.head.load_state_dict({name: tensors[f"layers.2.{name}"] for name in ("weight", "bias")})
    return net, tokenizer


class BiSentimentNet(SentimentNet):
    """`SentimentNet` with a second LSTM, from right to left."""

    def __init__(self, streaming: SentimentNet) -> None:
        super().__init__(streaming.embedding.num_embeddings)
        self.embedding.load_state_dict(streaming.embedding.state_dict())
        self.lstm.load_state_dict(streaming.lstm.state_dict())
        self.reverse = nn.LSTM(self.lstm.input_size, HIDDEN_SIZE, batch_first=True)
        self.reverse.load_state_dict(streaming.lstm.state_dict())
        self.head = nn.Linear(2 * HIDDEN_SIZE, len(LABELS))
        self.head_dropout = nn.Dropout(HEAD_DROPOUT)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return logits (S, 2) of ids (S, T); every text is reversed within its own length.

        The states of the second LSTM stay in its own order: the maximum does not ask for it.
        """
        steps = torch.arange(ids.shape[1])
        padding = steps >= lengths[:, None]
        mirrored = torch.where(padding, steps, lengths[:, None] - 1 - steps)
        xs = self.embedding_dropout(self.embedding(ids))
        backwards = xs.gather(1, mirrored[:, :, None].expand_as(xs))
        hs = torch.cat([self.lstm(xs)[0], self.reverse(backwards)[0]], 2)
        pooled = hs.masked_fill(padding[:, :, None], -torch.inf).amax(dim=1)
        return self.head(self.head_dropout(pooled))

    def joined(self) -> nn.LSTM:
        """Return both directions as one module."""
        lstm = nn.LSTM(self.lstm.input_size, HIDDEN_SIZE, batch_first=True, bidirectional=True)
        reverse = self.reverse.state_dict()
        lstm.load_state_dict(
            self.lstm.state_dict() | {f"{name}_reverse": reverse[name] for name in reverse}
        )
        return lstm


def main() -> None:
    """Train, score, write."""
    args = parse_arguments("Train the sentiment model that reads whole texts.")
    seed_everything(SEED)
    sentences = read(args.data, "sentence_polarity.train")
    phrases = read(args.data, "sst2_phrases.train")
    streaming, tokenizer = load_streaming(STREAMING)
    valid, test = (
        (encode(tokenizer, part.texts), part.labels)
        for part in (read(args.data, f"sentence_polarity.{split}") for split in ("valid", "test"))
    )
    reviews = read_reviews(args.data)
    unlabelled = encode(tokenizer, [s for review in reviews for s in split_sentences(review)])
    labelled = encode(tokenizer, sentences.texts * SENTENCE_REPEATS + phrases.texts)
    targets = one_hot(sentences.labels * SENTENCE_REPEATS + phrases.labels)

    base = BiSentimentNet(streaming)
    guesses = soft_labels([streaming], unlabelled)
    targets = torch.cat([targets, guesses])
    students = {
        seed: train(base, labelled + unlabelled, targets, valid, f"student {seed}", seed)
        for seed in STUDENT_SEEDS
    }
    best_seed = max(students, key=lambda seed: students[seed][1].valid_score)
    net, result = students[best_seed]

    export(net, net.joined(), tokenizer, LABELS, args.out, args.dtype or DTYPE)
    whole = read_labelled_reviews(args.data, "test")
    write_scores(
        args.out,
        net,
        result,
        valid_accuracy=accuracy(net, *valid),
        test_accuracy=accuracy(net, *test),
        movie_reviews_test_accuracy=accuracy(net, encode(tokenizer, whole.texts), whole.labels),
        teacher_valid_accuracy=accuracy(streaming, *valid),
        student_valid_accuracy=[each.valid_score for _, each in students.values()],
        student_seed=best_seed,
        vocab_size=tokenizer.get_vocab_size(),
        seed=SEED,
        positive=check_sentences(net, tokenizer),
    )


if __name__ == "__main__":
    main()
