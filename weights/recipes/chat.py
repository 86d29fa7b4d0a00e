"""Train the chat model: an answer to the last turns of a dialogue.

Run it with the chatbot folder of the data:

    python weights/recipes/chat.py --data DIR --out weights/chat.safetensors

1. Train a byte-pair tokenizer on the training dialogues of schema_guided and topical_chat.
2. Train an LSTM encoder-decoder with attention (`seq2seq.py`) on both sets together: the last
   three turns, each behind the mark of who spoke, to the reply.
3. Train the same network without its input, to see what the input is worth: it is told
   nothing but which of the two sets the reply is from.

The epoch is chosen on the valid parts; the test parts are scored once, at the end. It writes
encoder and decoder to one file, and the scores beside it as `chat.json`.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import dialogues
import seq2seq
import torch
from byte_pairs import build_tokenizer
from dialogues import SETS
from seq2seq import Pair, Seq2Seq, mean_nats
from tokenizers import Tokenizer
from trainer import Result, batches_by_length, fit, parse_arguments, seed_everything, write_scores

from numlstm.tasks.text.chat import BOT, END, MARKS, USER, encode_history
from numlstm.tasks.text.encoding import encode

SEED = 0
VOCAB_SIZE = 4000
EMBEDDING_SIZE = 192
HIDDEN_SIZE = 256
DROPOUT = 0.2
MAX_REPLY = 60  # tokens, in training

EPOCHS = 6
BATCH_SIZE = 64
RATE = 4e-3
WEIGHT_DECAY = 1e-2

NUM_COMPARED = 100  # test exchanges of each set whose outputs are held against the engine's
NO_INPUT = {"schema_guided": [USER], "topical_chat": [BOT]}

Pairs = dict[str, list[Pair]]


def read_pairs(data: Path, split: str, tokenizer: Tokenizer) -> Pairs:
    """Return histories and replies as ids, by set."""
    return {
        name: [
            (encode_history(tokenizer, e.history), [BOT, *encode(tokenizer, e.reply), END])
            for e in dialogues.read(data, f"{name}.{split}")
        ]
        for name in SETS
    }


def without_input(pairs: Pairs) -> Pairs:
    """Return the pairs with all sources gone but for one token, the same for all of a set."""
    return {name: [(list(NO_INPUT[name]), reply) for _, reply in of] for name, of in pairs.items()}


def train(name: str, vocab_size: int, pairs: Pairs, valid: Pairs) -> tuple[Seq2Seq, Result]:
    """Train on both sets together."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    net = Seq2Seq(vocab_size, EMBEDDING_SIZE, HIDDEN_SIZE, dropout=DROPOUT)
    todo = [(source, reply[: MAX_REPLY + 1]) for of in pairs.values() for source, reply in of]
    todo_valid = [pair for of in valid.values() for pair in of]
    lengths = [len(reply) for _, reply in todo]

    def loss_of(net: torch.nn.Module, batch: list[int]) -> torch.Tensor:
        nats, counts = net.nats([todo[index] for index in batch])
        return nats.sum() / counts.sum()

    result = fit(
        net,
        batches=lambda epoch: batches_by_length(lengths, BATCH_SIZE, rng),
        loss_of=loss_of,
        score_of=lambda net: mean_nats(net, todo_valid),
        epochs=EPOCHS,
        rate=RATE,
        name=name,
        minimize=True,
        patience=2,
        weight_decay=WEIGHT_DECAY,
        average_decay=0.998,
    )
    return net, result


def perplexity(net: Seq2Seq, pairs: Pairs) -> dict[str, float]:
    """Return the perplexity per token of each set."""
    return {name: math.exp(mean_nats(net, of)) for name, of in pairs.items()}


def main() -> None:
    """Train, score, write."""
    args = parse_arguments("Train the chat model.")
    seed_everything(SEED)
    exchanges = [e for name in SETS for e in dialogues.read(args.data, f"{name}.train")]
    texts = [e.reply for e in exchanges] + [e.history[-1] for e in exchanges]
    tokenizer = build_tokenizer(texts, VOCAB_SIZE, MARKS)
    pairs, valid, test = (read_pairs(args.data, split, tokenizer) for split in SPLITS)
    vocab_size = tokenizer.get_vocab_size()

    net, result = train("chat", vocab_size, pairs, valid)
    probes = [pair for of in test.values() for pair in of[:2]]
    seq2seq.save(net, tokenizer, probes, args.out, args.dtype or DTYPE)
    alone, result_alone = train("no input", vocab_size, without_input(pairs), without_input(valid))
    compared = [pair for of in test.values() for pair in of[:NUM_COMPARED]]
    write_scores(
        args.out,
        net,
        result,
        valid_perplexity=perplexity(net, valid),
        test_perplexity=perplexity(net, test),
        no_input={
            "valid_perplexity": perplexity(alone, without_input(valid)),
            "test_perplexity": perplexity(alone, without_input(test)),
            "best_epoch": result_alone.best_epoch,
            "duration_s": result_alone.duration_s,
        },
        largest_difference_to_engine=f"{seq2seq.largest_difference(net, compared):.1e}",
        num_compared=len(compared),
        num_exchanges={name: len(of) for name, of in pairs.items()},
        vocab_size=vocab_size,
        seed=SEED,
    )


SPLITS = ("train", "valid", "test")
DTYPE = "int8"  # of the file

if __name__ == "__main__":
    main()
