"""Train the sentiment model: is a sentence positive or negative, told after every word.

Run it with the sentiment folder of the data (see `read` for its files):

    python weights/recipes/sentiment.py --data DIR --out weights/sentiment.safetensors

1. Build a word tokenizer on the training texts and on movie reviews.
2. Pretrain embedding and LSTM to predict the next word of the same texts.
3. Train teachers on the labelled sentences (sentence_polarity) and phrases (sst2_phrases).
4. Let the teachers label the sentences of the movie reviews, whose own labels are never read.
   Train students on labelled and teacher-labelled sentences together and keep the best one.

Epoch and student are chosen on sentence_polarity.valid; sentence_polarity.test is scored once, at
the end. One thread, no GPU, about 11 minutes. Beside the model it leaves its scores, in a .json
of the same name.
"""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import math
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from trainer import Result, batches_by_length, fit, pad, parse_arguments, seed_everything

SEED = 0
LABELS = ("negative", "positive")

VOCAB_SIZE = 16_000
MIN_WORD_COUNT = 2
EMBEDDING_SIZE = 96
HIDDEN_SIZE = 160
UNKNOWN = 0  # its id, also that of padding, dropped words and the gap between texts

PRETRAIN_EPOCHS = 4
PRETRAIN_RATE = 3e-3
PRETRAIN_DROPOUT = 0.2
PRETRAIN_STREAMS = 32
PRETRAIN_STEPS = 35  # words per truncated back-propagation
PRETRAIN_NEGATIVES = 1500  # sampled words of the softmax, shared by a batch

EPOCHS = 3
BATCH_SIZE = 64
RATE = 3e-3
WEIGHT_DECAY = 1e-2
MAX_GRADIENT_NORM = 1.0
LABEL_SMOOTHING = 0.05
WORD_DROPOUT = 0.1
EMBEDDING_DROPOUT = 0.4
HEAD_DROPOUT = 0.5
AVERAGE_DECAY = 0.998
MAX_WORDS = 60
SENTENCE_REPEATS = 2  # a whole sentence counts as often as this many phrases

TEACHER_SEEDS = (1, 2, 3)
STUDENT_SEEDS = (4, 5, 6)  # the best on the valid part is the final network

DTYPE = "int8"  # of the file

CHECKS = (
    "The movie was good.",
    "The movie was not good.",
    "The movie wasn't good.",
    "Not bad at all.",
    "I loved it!",
    "It was terrible.",
    "I did not like this film.",
    "I didn't enjoy it.",
    "An absolute masterpiece.",
    "What a waste of time.",
    "Great acting and a wonderful story.",
    "The plot is boring and predictable.",
)

console = Console()


# ---------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Texts:
    """Texts and their labels, 0 negative and 1 positive."""

    texts: list[str]
    labels: list[int]


def read(data: Path, name: str) -> Texts:
    """Read lines of label, tab, text from `{name}.tsv.gz`."""
    with gzip.open(data / f"{name}.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return Texts([text for _, text in rows], [int(label) for label, _ in rows])


def read_reviews(data: Path) -> list[str]:
    """Read the texts, and only the texts, of whole movie reviews."""
    with gzip.open(data / "movie_reviews.train.tsv.gz", "rt", encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t")[2] for line in file]


def split_sentences(review: str, min_words: int = 8) -> list[str]:
    """Split a review into sentences; a short one is joined to the next."""
    sentences: list[str] = []
    words: list[str] = []
    for sentence in re.split(r"(?<=[.!?]) ", review):
        words += sentence.split()
        if len(words) >= min_words:
            sentences.append(" ".join(words))
            words = []
    return sentences


# ----------------------------------------------------------------------------------- tokenizer


def build_tokenizer(texts: list[str]) -> Tokenizer:
    """Train a lower-case word tokenizer that never looks across white space.

    "don't", "do n't" and "dont" become `do not`; "it's" and "it 's" both become `it ' s`.
    """
    verbs = "do|does|did|is|was|are|were|has|have|had|would|could|should"
    before_nt = "|".join(rf"\b{verb}" for verb in verbs.split("|"))
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex("[\u2018\u2019`]"), "'"),
            normalizers.Replace(Regex(r"n't\b"), " not"),
            normalizers.Replace(Regex(rf"(?<={before_nt})nt\b"), " not"),
            normalizers.Replace(Regex(r"\bcannot\b"), "can not"),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=MIN_WORD_COUNT,
        special_tokens=["[UNK]"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Encode texts; one without any word becomes a single unknown word."""
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [encoding.ids or [UNKNOWN] for encoding in encodings]


def check_pieces(tokenizer: Tokenizer, texts: list[str]) -> None:
    """Raise unless words encoded one by one give the ids of the whole text."""
    pieces = sorted({piece for text in texts for piece in text.split()})
    ids = {
        piece: encoding.ids
        for piece, encoding in zip(
            pieces, tokenizer.encode_batch(pieces, add_special_tokens=False), strict=True
        )
    }
    vocab_size = tokenizer.get_vocab_size()
    for text, encoding in zip(
        texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True
    ):
        joined = list(itertools.chain.from_iterable(ids[piece] for piece in text.split()))
        if joined != encoding.ids:
            raise ValueError(f"words of {text!r} encode to {joined}, the text to {encoding.ids}")
        if any(token >= vocab_size for token in joined):
            raise ValueError(f"{text!r} has a token id outside 0 <= id < {vocab_size}")


# ------------------------------------------------------------------------------------- network


class SentimentNet(nn.Module):
    """Embedding, one LSTM from left to right, the maximum over time, a linear head."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, EMBEDDING_SIZE)
        self.lstm = nn.LSTM(EMBEDDING_SIZE, HIDDEN_SIZE, batch_first=True)
        self.head = nn.Linear(HIDDEN_SIZE, len(LABELS))
        self.embedding_dropout = nn.Dropout(EMBEDDING_DROPOUT)
        self.head_dropout = nn.Dropout(HEAD_DROPOUT)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        nn.init.normal_(self.embedding.weight, std=0.1)
        for gate in self.lstm.weight_hh_l0.chunk(4):
            nn.init.orthogonal_(gate)
        self.lstm.bias_ih_l0.zero_()
        self.lstm.bias_hh_l0.zero_()
        self.lstm.bias_ih_l0[HIDDEN_SIZE : 2 * HIDDEN_SIZE] = 1  # remember at first

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return logits (S, 2) of ids (S, T).

        Padding is on the right: it comes after every real step of the LSTM, and the maximum
        leaves it out, so a sentence gives what it gives alone.
        """
        hs, _ = self.lstm(self.embedding_dropout(self.embedding(ids)))  # (S, T, H)
        padding = torch.arange(ids.shape[1]) >= lengths[:, None]
        pooled = hs.masked_fill(padding[:, :, None], -torch.inf).amax(dim=1)
        return self.head(self.head_dropout(pooled))


@torch.no_grad()
def logits_of(net: nn.Module, sequences: list[list[int]], batch_size: int = 128) -> torch.Tensor:
    """Return logits (N, 2), dropout off."""
    net.eval()
    logits = torch.empty(len(sequences), len(LABELS))
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        logits[batch] = net(*pad([sequences[index] for index in batch]))
    return logits


def accuracy(net: nn.Module, sequences: list[list[int]], labels: list[int]) -> float:
    """Return the share of right answers."""
    answers = logits_of(net, sequences).argmax(dim=1)
    return (answers == torch.tensor(labels)).float().mean().item()


# ------------------------------------------------------------------------------------ training


def pretrain(net: SentimentNet, sequences: list[list[int]]) -> None:
    """Train embedding and LSTM to predict the next word.

    The softmax runs over the right word and a sample of others; its weights are the embedding.
    """
    vocab_size = net.embedding.num_embeddings
    project = nn.Linear(HIDDEN_SIZE, EMBEDDING_SIZE)
    bias = nn.Parameter(torch.zeros(vocab_size))
    words = torch.tensor(list(itertools.chain.from_iterable(sequences)))
    counts = torch.bincount(words, minlength=vocab_size)
    share = (counts + 1).float().pow(0.75)
    share /= share.sum()
    correction = (share * PRETRAIN_NEGATIVES).log().clamp(max=0)  # (V,), log of the expected count

    def loss_of(queries: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        others = torch.multinomial(share, PRETRAIN_NEGATIVES, replacement=True)
        weight = net.embedding.weight
        right = (queries * weight[targets]).sum(dim=1) + bias[targets] - correction[targets]
        wrong = queries @ weight[others].T + bias[others] - correction[others]
        wrong = wrong.masked_fill(others == targets[:, None], -torch.inf)
        return (torch.logsumexp(torch.cat([right[:, None], wrong], 1), 1) - right).mean()

    params = [*net.embedding.parameters(), *net.lstm.parameters(), *project.parameters(), bias]
    num_words = sum(len(sequence) + 1 for sequence in sequences)
    num_steps = math.ceil((num_words // PRETRAIN_STREAMS - 1) / PRETRAIN_STEPS)
    optimizer = torch.optim.AdamW(params, PRETRAIN_RATE, (0.9, 0.99), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PRETRAIN_RATE, total_steps=num_steps * PRETRAIN_EPOCHS + 1, pct_start=0.1
    )
    rng = random.Random(SEED)
    net.train()
    for epoch in range(1, PRETRAIN_EPOCHS + 1):
        rng.shuffle(sequences)
        words = torch.tensor([token for text in sequences for token in (UNKNOWN, *text)])
        length = len(words) // PRETRAIN_STREAMS
        words = words[: length * PRETRAIN_STREAMS].view(PRETRAIN_STREAMS, length)
        state = None
        total = 0.0
        starts = range(0, length - 1, PRETRAIN_STEPS)
        for start in track(starts, f"language model, epoch {epoch}", console=console):
            ids = words[:, start : start + PRETRAIN_STEPS + 1]
            xs = F.dropout(net.embedding(ids[:, :-1]), PRETRAIN_DROPOUT)
            hs, state = net.lstm(xs, state)
            state = tuple(part.detach() for part in state)
            queries = project(F.dropout(hs, PRETRAIN_DROPOUT)).flatten(0, 1)
            loss = loss_of(queries, ids[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(params, MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            total += loss.item()
        console.print(f"language model, epoch {epoch}: loss {total / len(starts):.3f}")


def train(
    start: SentimentNet,
    sequences: list[list[int]],
    targets: torch.Tensor,
    valid: tuple[list[list[int]], list[int]],
    name: str,
    seed: int,
) -> tuple[SentimentNet, Result]:
    """Train a copy of `start` towards targets (N, 2)."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    net = copy.deepcopy(start)
    net.head.reset_parameters()
    sequences = [sequence[:MAX_WORDS] for sequence in sequences]
    lengths = [len(sequence) for sequence in sequences]
    targets = targets * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / len(LABELS)

    def loss_of(net: nn.Module, batch: list[int]) -> torch.Tensor:
        ids, batch_lengths = pad([sequences[index] for index in batch])
        ids = ids.masked_fill(torch.rand(ids.shape) < WORD_DROPOUT, UNKNOWN)
        return F.cross_entropy(net(ids, batch_lengths), targets[batch])

    result = fit(
        net,
        batches=lambda epoch: batches_by_length(lengths, BATCH_SIZE, rng),
        loss_of=loss_of,
        score_of=lambda net: accuracy(net, *valid),
        epochs=EPOCHS,
        rate=RATE,
        name=name,
        weight_decay=WEIGHT_DECAY,
        average_decay=AVERAGE_DECAY,
        max_gradient_norm=MAX_GRADIENT_NORM,
    )
    return net, result


def soft_labels(teachers: list[nn.Module], sequences: list[list[int]]) -> torch.Tensor:
    """Return the teachers' mean opinion (N, 2) of unlabelled sentences.

    Whole reviews retell the plot, which looks negative to the teachers: half of the mean logit is
    taken off, so that the labels do not lean to one side.
    """
    logits = torch.stack([logits_of(teacher, sequences) for teacher in teachers]).mean(dim=0)
    margin = logits[:, 1] - logits[:, 0]
    positive = (margin - margin.mean() / 2).sigmoid()
    return torch.stack([1 - positive, positive], dim=1)


# --------------------------------------------------------------------------------------- result


def check_sentences(net: nn.Module, tokenizer: Tokenizer) -> dict[str, float]:
    """Return the probability that each of `CHECKS` is positive."""
    positive = logits_of(net, encode(tokenizer, list(CHECKS))).softmax(dim=1)[:, 1]
    return {text: round(p, 4) for text, p in zip(CHECKS, positive.tolist(), strict=True)}


def export(
    net: SentimentNet,
    lstm: nn.LSTM,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    path: Path,
    dtype: str,
) -> None:
    """Save a network and its LSTM with its tokenizer for numlstm."""
    import numlstm

    softmax = nn.Softmax(dim=-1)
    model = numlstm.from_torch(
        *(net.embedding, lstm, "max", net.head, softmax),
        tokenizer=tokenizer.to_str(),
        labels=labels,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path, dtype)


def one_hot(labels: list[int]) -> torch.Tensor:
    """Return labels as targets (N, 2)."""
    return F.one_hot(torch.tensor(labels), len(LABELS)).float()


def main() -> None:
    """Train, score, write."""
    args = parse_arguments("Train the sentiment model.")
    started = time.perf_counter()
    seed_everything(SEED)

    sentences = read(args.data, "sentence_polarity.train")
    phrases = read(args.data, "sst2_phrases.train")
    valid = read(args.data, "sentence_polarity.valid")
    test = read(args.data, "sentence_polarity.test")
    reviews = read_reviews(args.data)

    tokenizer = build_tokenizer(sentences.texts + phrases.texts + reviews)
    check_pieces(
        tokenizer,
        [*sentences.texts, *phrases.texts, *valid.texts, *test.texts, *reviews, *CHECKS],
    )
    sentence_ids = encode(tokenizer, sentences.texts)
    phrase_ids = encode(tokenizer, phrases.texts)
    review_ids = encode(tokenizer, reviews)
    unlabelled_ids = encode(tokenizer, [s for review in reviews for s in split_sentences(review)])
    valid_set = encode(tokenizer, valid.texts), valid.labels
    test_set = encode(tokenizer, test.texts), test.labels

    base = SentimentNet(tokenizer.get_vocab_size())
    long_phrases = [ids for ids in phrase_ids if len(ids) > 15]  # short ones are parts of these
    pretrain(base, sentence_ids + long_phrases + review_ids)

    labelled_ids = sentence_ids * SENTENCE_REPEATS + phrase_ids
    targets = one_hot(sentences.labels * SENTENCE_REPEATS + phrases.labels)
    teachers = [
        train(base, labelled_ids, targets, valid_set, f"teacher {seed}", seed)
        for seed in TEACHER_SEEDS
    ]
    guesses = soft_labels([teacher for teacher, _ in teachers], unlabelled_ids)
    all_ids, all_targets = labelled_ids + unlabelled_ids, torch.cat([targets, guesses])
    students = {
        seed: train(base, all_ids, all_targets, valid_set, f"student {seed}", seed)
        for seed in STUDENT_SEEDS
    }
    best_seed = max(students, key=lambda seed: students[seed][1].valid_score)
    net, result = students[best_seed]

    scores = {
        "valid_accuracy": round(accuracy(net, *valid_set), 4),
        "test_accuracy": round(accuracy(net, *test_set), 4),
        "teacher_valid_accuracy": [round(result.valid_score, 4) for _, result in teachers],
        "student_valid_accuracy": [round(r.valid_score, 4) for _, r in students.values()],
        "num_sentences": len(sentences.texts),
        "num_phrases": len(phrases.texts),
        "num_unlabelled_sentences": len(unlabelled_ids),
        "vocab_size": tokenizer.get_vocab_size(),
        "num_parameters": sum(p.numel() for p in net.parameters()),
        "pretrain_epochs": PRETRAIN_EPOCHS,
        "epochs": EPOCHS,
        "best_epoch": result.best_epoch,
        "seed": SEED,
        "student_seed": best_seed,
        "positive": check_sentences(net, tokenizer),
        "duration_s": round(time.perf_counter() - started),
        "torch": torch.__version__,
    }
    export(net, net.lstm, tokenizer, LABELS, args.out, args.dtype or DTYPE)
    args.out.with_suffix(".json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    console.print_json(data=scores)


if __name__ == "__main__":
    main()
