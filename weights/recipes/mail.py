"""Train the email model: is a message spam or not, told after every word.

Run it with the spam folder of the data:

    python weights/recipes/mail.py --data DIR --out weights/email.safetensors

1. Build a tokenizer of word pieces and shapes: words in capitals get a mark, digits become 0.
2. Cut the training messages (sms_spam) into folds; teachers that learn all folds but one tell how
   sure one can be of that one's labels.
3. Train students towards the labels and what the teachers say, half and half; keep the one whose
   averaged weights have the lowest loss on valid.
4. Train a network of the same kind on emails (spamassassin_email) and score it. It is not written:
   the licence of those messages does not let it be shipped.

The test parts are scored once, at the end. One thread, no GPU, about 8 minutes. Beside the model
it leaves its scores, in a .json of the same name.
"""

from __future__ import annotations

import gzip
import random
import string
from dataclasses import dataclass
from pathlib import Path

import torch
from sentiment import UNKNOWN, SentimentNet, check_pieces, encode, export, logits_of, one_hot
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from trainer import (
    Result,
    batches_by_length,
    fit,
    pad,
    parse_arguments,
    seed_everything,
    write_scores,
)

SEED = 0
LABELS = ("ham", "spam")

VOCAB_SIZE = 5000
MIN_PIECE_COUNT = 2
CAPITALS = "\u21e7"  # before a word in capitals

EPOCHS = 8
EMAIL_EPOCHS = 8
BATCH_SIZE = 32
RATE = 3e-3
WEIGHT_DECAY = 3e-2
AVERAGE_DECAY = 0.995
WORD_DROPOUT = 0.25
MAX_TOKENS = 200  # of a message, in training
NUM_FOLDS = 5
STUDENT_SEEDS = (1, 2, 3)
DTYPE = "bfloat16"  # of the file

IdLists = list[list[int]]


# ---------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Messages:
    """Messages and their labels, 0 ham and 1 spam."""

    texts: list[str]
    labels: list[int]


def read(data: Path, name: str) -> Messages:
    """Read lines of label, more, text; an email has a folder, a subject and a body."""
    with gzip.open(data / f"{name}.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    texts = [" ".join(row[2:]) if len(row) > 2 else row[1] for row in rows]
    return Messages(texts, [LABELS.index(row[0]) for row in rows])


def build_tokenizer(texts: list[str]) -> Tokenizer:
    """Train a tokenizer of word pieces and shapes that never looks across white space.

    "Call 08712 NOW" becomes `call 00000 ⇧ now`.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex("[\u2018\u2019`]"), "'"),
            *(
                normalizers.Replace(Regex(rf"(?<![A-Za-z]){first}(?=[A-Z])"), CAPITALS + first)
                for first in string.ascii_uppercase
            ),
            normalizers.Replace(Regex("[0-9]"), "0"),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"0+|\p{L}+|([^\w\s])\1*|\S"), "isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=MIN_PIECE_COUNT,
        limit_alphabet=100,
        special_tokens=["[UNK]"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


# ------------------------------------------------------------------------------------ training


@dataclass(frozen=True)
class Part:
    """A split as token ids, with its labels as targets (N, 2)."""

    ids: IdLists
    targets: torch.Tensor

    def of(self, indices: list[int]) -> Part:
        """Return some of it."""
        return Part([self.ids[n] for n in indices], self.targets[indices])


def loss(net: nn.Module, part: Part) -> float:
    """Return -log p of the targets, on the average."""
    return F.cross_entropy(logits_of(net, part.ids), part.targets).item()


def train(
    vocab_size: int, part: Part, valid: Part, name: str, seed: int, epochs: int = EPOCHS
) -> tuple[SentimentNet, Result]:
    """Train a network; its averaged weights are those of the epoch best on valid."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    net = SentimentNet(vocab_size)
    sequences = [ids[:MAX_TOKENS] for ids in part.ids]
    lengths = [len(sequence) for sequence in sequences]

    def loss_of(net: nn.Module, batch: list[int]) -> torch.Tensor:
        ids, batch_lengths = pad([sequences[n] for n in batch])
        ids = ids.masked_fill(torch.rand(ids.shape) < WORD_DROPOUT, UNKNOWN)
        return F.cross_entropy(net(ids, batch_lengths), part.targets[batch])

    result = fit(
        net,
        batches=lambda epoch: batches_by_length(lengths, BATCH_SIZE, rng),
        loss_of=loss_of,
        score_of=lambda net: loss(net, valid),
        epochs=epochs,
        rate=RATE,
        name=name,
        minimize=True,
        weight_decay=WEIGHT_DECAY,
        average_decay=AVERAGE_DECAY,
    )
    return net, result


def teach(vocab_size: int, part: Part, valid: Part) -> Part:
    """Return the part with targets halfway between its labels and what teachers say of them."""
    order = list(range(len(part.ids)))
    random.Random(SEED).shuffle(order)
    targets = part.targets.clone()
    for fold in range(NUM_FOLDS):
        inside = order[fold::NUM_FOLDS]
        outside = sorted(set(order) - set(inside))
        net, _ = train(vocab_size, part.of(outside), valid, f"teacher {fold}", fold)
        opinion = logits_of(net, [part.ids[n] for n in inside]).softmax(dim=1)
        targets[inside] = (part.targets[inside] + opinion) / 2
    return Part(part.ids, targets)


# --------------------------------------------------------------------------------------- result


def score(net: nn.Module, part: Part) -> dict[str, float]:
    """Return the accuracy, and precision, recall and F1 of spam."""
    found = logits_of(net, part.ids).argmax(dim=1) == 1
    spam = part.targets[:, 1] == 1
    hits = (found & spam).sum().item()
    return {
        "accuracy": (found == spam).float().mean().item(),
        "spam_precision": hits / max(found.sum().item(), 1),
        "spam_recall": hits / spam.sum().item(),
        "spam_f1": 2 * hits / max((found.sum() + spam.sum()).item(), 1),
    }


def prepare(data: Path, name: str) -> tuple[Tokenizer, dict[str, Part]]:
    """Read the splits of a set and encode them with a tokenizer of its train split."""
    messages = {split: read(data, f"{name}.{split}") for split in ("train", "valid", "test")}
    tokenizer = build_tokenizer(messages["train"].texts)
    for each in messages.values():
        check_pieces(tokenizer, each.texts)
    return tokenizer, {
        split: Part(encode(tokenizer, each.texts), one_hot(each.labels))
        for split, each in messages.items()
    }


def score_on_emails(data: Path) -> dict[str, dict[str, float]]:
    """Train a network on emails and return its scores."""
    tokenizer, parts = prepare(data, "spamassassin_email")
    vocab_size = tokenizer.get_vocab_size()
    net, _ = train(vocab_size, parts["train"], parts["valid"], "emails", SEED, EMAIL_EPOCHS)
    return {split: score(net, parts[split]) for split in ("valid", "test")}


def main() -> None:
    """Train, score, write."""
    args = parse_arguments("Train the email model.")
    seed_everything(SEED)
    tokenizer, parts = prepare(args.data, "sms_spam")
    vocab_size = tokenizer.get_vocab_size()
    taught = teach(vocab_size, parts["train"], parts["valid"])
    students = {
        seed: train(vocab_size, taught, parts["valid"], f"student {seed}", seed)
        for seed in STUDENT_SEEDS
    }
    best_seed = min(students, key=lambda seed: students[seed][1].valid_score)
    net, result = students[best_seed]
    export(net, net.lstm, tokenizer, LABELS, args.out, args.dtype or DTYPE)
    write_scores(
        args.out,
        net,
        result,
        valid=score(net, parts["valid"]),
        test=score(net, parts["test"]),
        student_valid_loss=[each.valid_score for _, each in students.values()],
        student_seed=best_seed,
        vocab_size=vocab_size,
        seed=SEED,
        spamassassin_not_shipped=score_on_emails(args.data),
    )


if __name__ == "__main__":
    main()
