"""Train the speech model: spoken digits, written down while they are spoken.

Run it with the speech_digits folder of the data (see `speech_data.read` for its files):

    python weights/recipes/speech.py --data DIR --out weights/speech.safetensors

1. Join recordings of single digits to strings, anew in every step: of one speaker or several,
   faster or slower, louder or quieter, with silences and noise.
2. Turn them into log-mel rows by the very code that the pipeline runs, and hide some of it.
3. Train an LSTM from left to right by CTC on the labels blank, "a word begins", and ten words. As
   it is known when a word is spoken, CTC may name its beginning only near that, and the word only
   near its end: the times of a transcript come from this, and how soon a word is known.
4. Keep the averaged weights of the epoch with the fewest errors on strings and recordings of valid.

The recordings of test are scored once, at the end. One thread, no GPU. Beside the model it leaves
its scores, in a .json of the same name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soxr
import torch
from speech_data import (
    WORDS,
    Floats,
    Recordings,
    Utterance,
    WordErrors,
    join,
    pick,
    read,
    seconds,
    singles,
    strings,
    word_errors,
)
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from trainer import Result, fit, parse_arguments, seed_everything, write_scores

from numlstm.tasks.audio.ctc import GreedyDecoder
from numlstm.tasks.audio.features import NUM_BINS, ROW_SECONDS, ROW_SIZE, SAMPLE_RATE, LogMel
from numlstm.tasks.audio.transcribe import BEGIN, BLANK, Word

SEED = 0
LABELS = (BLANK, BEGIN, *WORDS)
FIRST_WORD = LABELS.index(WORDS[0])

HIDDEN_SIZE = 160
NUM_LAYERS = 2
DROPOUT = 0.2

EPOCHS = 32
NUM_BATCHES = 300  # per epoch
BATCH_SIZE = 12
MAX_WORDS = 4  # of a string
RATE = 5e-3
WEIGHT_DECAY = 1e-2
AVERAGE_DECAY = 0.995
NUM_VALID_STRINGS = 150
NUM_TEST_STRINGS = 200

SPEED = (0.85, 1.2)
STRING_GAIN_DB = (-10, 10)
WORD_GAIN_DB = (-4, 4)
TRAIN_SILENCE = (0.06, 0.6)  # seconds
NOISE_LOG10 = (-4.5, -2.6)  # of its standard deviation
DIGITAL_SILENCE = 0.2  # the share of strings that begin in zeros, and that end in them
TAIL = 0.3  # seconds of silence after every string, for its last word to be named in

MASKED_BINS = 8
MASKED_ROWS = 3

BEGIN_STEPS = (-1, 4)  # when a beginning may be named, in steps from it
WORD_STEPS = (-4, 5)  # when a word may be named, in steps from its end
FORBIDDEN = -1e4  # in nats

DTYPE = "float32"  # of the file


# ---------------------------------------------------------------------------------------- data


def random_string(recordings: Recordings, rng: np.random.Generator) -> Utterance:
    """Return a new string of recordings: one speaker or several, distorted, with noise."""
    num_words = int(rng.integers(1, MAX_WORDS + 1))
    words = []
    for n in pick(recordings, rng, num_words):
        samples = soxr.resample(recordings.samples[n], rng.uniform(*SPEED), 1)
        words.append((recordings.digits[n], samples * gain(rng, WORD_GAIN_DB)))
    silences = seconds(rng, TRAIN_SILENCE, num_words + 1)
    silences[0] *= int(rng.random() < 0.8)
    string = join(words, silences)
    samples = string.samples * gain(rng, STRING_GAIN_DB)
    scale = 10 ** rng.uniform(*NOISE_LOG10)
    samples = samples + noise(rng, len(samples)) * scale
    if rng.random() < DIGITAL_SILENCE:
        samples[: silences[0]] = 0
    if silences[-1] and rng.random() < DIGITAL_SILENCE:
        samples[-silences[-1] :] = 0
    return replace(string, samples=np.clip(samples, -1, 1).astype(np.float32))


def gain(rng: np.random.Generator, decibels: tuple[float, float]) -> float:
    """Return a random factor."""
    return float(10 ** (rng.uniform(*decibels) / 20))


def noise(rng: np.random.Generator, size: int) -> Floats:
    """Return noise of standard deviation 1, white or darker."""
    white = rng.standard_normal(size + 8, np.float32)
    length = int(rng.integers(1, 9))
    kernel = np.full(length, length**-0.5, np.float32)
    return np.convolve(white, kernel)[:size]


def rows_of(samples: Floats) -> torch.Tensor:
    """Return the log-mel rows (T, I) of samples and the silence after them."""
    tail = np.zeros(round(TAIL * SAMPLE_RATE), np.float32)
    return torch.from_numpy(LogMel().feed(np.concatenate([samples, tail])))


def allowed_steps(words: tuple[Word, ...], num_steps: int) -> torch.Tensor:
    """Return when each label may be named: 0, else `FORBIDDEN`, (T, num_labels)."""
    allowed = torch.full((num_steps, len(LABELS)), FORBIDDEN)
    allowed[:, 0] = 0
    for word in words:
        start, end = (round(at / ROW_SECONDS) for at in (word.start, word.end))
        first, last = (start + step for step in BEGIN_STEPS)
        allowed[max(first, 0) : last + 1, LABELS.index(BEGIN)] = 0
        first, last = (end + step for step in WORD_STEPS)
        allowed[max(first, start + 1) : last + 1, LABELS.index(word.text)] = 0
    return allowed


def targets_of(words: tuple[Word, ...]) -> list[int]:
    """Return the labels to name."""
    return [LABELS.index(label) for word in words for label in (BEGIN, word.text)]


# ------------------------------------------------------------------------------------- network


class SpeechNet(nn.Module):
    """Normalised rows, LSTM layers from left to right, log-probabilities of the labels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(ROW_SIZE, affine=False)
        self.lstm = nn.LSTM(ROW_SIZE, HIDDEN_SIZE, NUM_LAYERS, dropout=DROPOUT, batch_first=True)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(HIDDEN_SIZE, len(LABELS))
        for n in range(NUM_LAYERS):  # remember at first
            getattr(self.lstm, f"bias_ih_l{n}").data[HIDDEN_SIZE : 2 * HIDDEN_SIZE] = 1

    @torch.no_grad()
    def measure(self, rows: torch.Tensor) -> None:
        """Take mean and variance of the rows (N, I); training leaves them alone."""
        both = rows.view(-1, NUM_BINS)  # of the two frames of a row
        self.norm.running_mean[:] = both.mean(dim=0).repeat(ROW_SIZE // NUM_BINS)
        self.norm.running_var[:] = both.var(dim=0).repeat(ROW_SIZE // NUM_BINS)

    def train(self, mode: bool = True) -> SpeechNet:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities (S, T, num_labels) of rows (S, T, I)."""
        xs = self.norm(xs.flatten(0, 1)).view_as(xs)
        if self.training:
            xs = hide(xs)
        hs, _ = self.lstm(xs)
        return self.head(self.dropout(hs)).log_softmax(dim=-1)


def hide(xs: torch.Tensor) -> torch.Tensor:
    """Replace a band of frequencies and a few moments of each string by their means, zero.

    SpecAugment: Park et al. 2019.
    """
    num_strings, num_rows, _ = xs.shape
    frames = xs.view(num_strings, num_rows, -1, NUM_BINS)
    bins = spans(num_strings, NUM_BINS, MASKED_BINS)[:, None, None, :]
    rows = spans(num_strings, num_rows, MASKED_ROWS) | spans(num_strings, num_rows, MASKED_ROWS)
    return frames.masked_fill(bins | rows[:, :, None, None], 0).view_as(xs)


def spans(num: int, size: int, longest: int) -> torch.Tensor:
    """Return a random span, of 0 to `longest`, in each of `num` rows of `size`: (num, size)."""
    at = torch.arange(size)
    start = torch.randint(0, size, (num, 1))
    return (at >= start) & (at < start + torch.randint(0, longest + 1, (num, 1)))


# ------------------------------------------------------------------------------------ training


def ctc_loss(
    log_probs: torch.Tensor,
    allowed: torch.Tensor,
    lengths: torch.Tensor,
    utterances: list[Utterance],
) -> torch.Tensor:
    """Return minus the log-probability of all allowed paths that say the words, per word.

    The gradient of CTC is how often each label is named at each step among those paths.
    """
    targets = [torch.tensor(targets_of(each.words)) for each in utterances]
    with torch.enable_grad():
        masked = (log_probs.detach() + allowed).requires_grad_()
        loss = F.ctc_loss(
            masked.transpose(0, 1),
            torch.cat(targets),
            lengths,
            torch.tensor([len(target) for target in targets]),
            reduction="sum",
        )
        (gradient,) = torch.autograd.grad(loss, masked)
    inside = torch.arange(log_probs.shape[1]) < lengths[:, None]
    named = (masked.detach().exp() - gradient) * inside[:, :, None]
    expected = -(named * log_probs).sum()
    num_words = sum(len(each.words) for each in utterances)
    return (loss.detach() + expected - expected.detach()) / num_words


def loss_of(net: nn.Module, utterances: list[Utterance]) -> torch.Tensor:
    """Return the loss of strings."""
    rows = [rows_of(each.samples) for each in utterances]
    allowed = [allowed_steps(each.words, len(r)) for each, r in zip(utterances, rows, strict=True)]
    lengths = torch.tensor([len(r) for r in rows])
    log_probs = net(pad_sequence(rows, batch_first=True))
    return ctc_loss(log_probs, pad_sequence(allowed, batch_first=True), lengths, utterances)


@torch.no_grad()
def transcribe(net: nn.Module, samples: Floats) -> str:
    """Return what the best path says."""
    decoder = GreedyDecoder()
    decoder.feed(net(rows_of(samples)[None])[0].numpy())
    labels = [peak.label for peak in decoder.peaks]
    return " ".join(LABELS[label] for label in labels if label >= FIRST_WORD)


def errors_of(net: nn.Module, utterances: list[Utterance]) -> WordErrors:
    """Transcribe all and compare."""
    return word_errors(utterances, [transcribe(net, each.samples) for each in utterances])


def train(recordings: Recordings, valid: Recordings) -> tuple[SpeechNet, Result]:
    """Train a network; the weights best on valid are in it."""
    rng = np.random.default_rng(SEED)
    valid_strings = strings(valid, NUM_VALID_STRINGS, SEED)
    valid_singles = singles(valid)

    def score_of(net: nn.Module) -> float:
        """The word error rates of strings and of single words; among equals the loss decides."""
        rates = [errors_of(net, part).rate for part in (valid_strings, valid_singles)]
        return sum(rates) + 0.01 * loss_of(net, valid_strings).item()

    net = SpeechNet()
    net.measure(torch.cat([rows_of(random_string(recordings, rng).samples) for _ in range(300)]))
    result = fit(
        net,
        batches=lambda epoch: range(NUM_BATCHES),
        loss_of=lambda net, _: loss_of(
            net, [random_string(recordings, rng) for _ in range(BATCH_SIZE)]
        ),
        score_of=score_of,
        epochs=EPOCHS,
        rate=RATE,
        name="speech",
        minimize=True,
        weight_decay=WEIGHT_DECAY,
        average_decay=AVERAGE_DECAY,
    )
    return net, result


# --------------------------------------------------------------------------------------- result


def export(net: SpeechNet, path: Path, dtype: str) -> None:
    """Save the network for numlstm."""
    import numlstm

    path.parent.mkdir(parents=True, exist_ok=True)
    numlstm.from_torch(net.norm, net.lstm, net.head, nn.LogSoftmax(dim=-1), labels=LABELS).save(
        path, dtype
    )


def main() -> None:
    """Train, score, write."""
    args = parse_arguments("Train the speech model.")
    seed_everything(SEED)
    parts = {split: read(args.data, split) for split in ("train", "valid", "test")}
    net, result = train(parts["train"], parts["valid"])
    scores = {}
    for split, num_strings in (("valid", NUM_VALID_STRINGS), ("test", NUM_TEST_STRINGS)):
        scores[f"{split}_singles_right"] = errors_of(net, singles(parts[split])).right
        joined = strings(parts[split], num_strings, SEED)
        scores[f"{split}_strings_word_error_rate"] = errors_of(net, joined).rate
    export(net, args.out, args.dtype or DTYPE)
    write_scores(args.out, net, result, **scores, seed=SEED)


if __name__ == "__main__":
    main()
