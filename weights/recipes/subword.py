"""Train the byte-pair model: which piece of text comes next in Shakespeare.

Run it with the language_model folder of the data:

    python weights/recipes/subword.py --data DIR --out weights/subword.safetensors

1. Build a byte-level byte-pair tokenizer on the training text: it has a code for any text there is.
2. Train one LSTM whose head shares the weights of the embedding, with dropout on embedding, answers
   and recurrent weights, on the text in windows; keep the averaged weights best on valid.
3. Score the test text once, from its first token to its last, the state never reset.

One thread, no GPU, about 6 minutes. Beside the model it leaves its scores, in a .json of the same
name. Nats are per character of text, comparable with those of the character model.
"""

from __future__ import annotations

from language import LanguageNet, Text, export, nats_per_token, train
from surprise import read
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from trainer import parse_arguments, seed_everything, write_scores

SEED = 0
VOCAB_SIZE = 2000

EMBEDDING_SIZE = 256
HIDDEN_SIZE = EMBEDDING_SIZE
INPUT_DROPOUT = 0.2
OUTPUT_DROPOUT = 0.25
WEIGHT_DROPOUT = 0.25

EPOCHS = 8
PATIENCE = 3
NUM_STREAMS = 20
NUM_STEPS = 50  # tokens per truncated back-propagation
RATE = 4e-3
WEIGHT_DECAY = 0.05
AVERAGE_DECAY = 0.995

DTYPE = "int8"  # of the file


def build_tokenizer(text: str) -> Tokenizer:
    """Train a byte-level byte-pair tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def tokens_per_character(tokenizer: Tokenizer, text: str) -> float:
    """Return how many scored tokens there are to a character: the first one of all is not."""
    ids = tokenizer.encode(text).ids
    return (len(ids) - 1) / (len(text) - len(tokenizer.decode(ids[:1])))


def main() -> None:
    """Train, score, write."""
    args = parse_arguments("Train the byte-pair model.")
    seed_everything(SEED)
    texts = (read(args.data, f"tinyshakespeare.{part}") for part in ("train", "valid", "test"))
    train_text, valid_text, test_text = texts
    tokenizer = build_tokenizer(train_text)
    train_ids, valid, test = (
        tokenizer.encode(text).ids for text in (train_text, valid_text, test_text)
    )

    net = LanguageNet(
        tokenizer.get_vocab_size(),
        EMBEDDING_SIZE,
        (HIDDEN_SIZE,),
        input_dropout=INPUT_DROPOUT,
        output_dropout=OUTPUT_DROPOUT,
        weight_dropout=WEIGHT_DROPOUT,
        tied=True,
    )
    net.expect_frequencies(train_ids)
    result = train(
        net,
        "subword",
        Text(train_ids, NUM_STREAMS, NUM_STEPS, SEED),
        valid,
        epochs=EPOCHS,
        rate=RATE,
        weight_decay=WEIGHT_DECAY,
        average_decay=AVERAGE_DECAY,
        patience=PATIENCE,
    )
    by_engine = export(net, tokenizer, args.out, args.dtype or DTYPE, test)
    per_character = tokens_per_character(tokenizer, test_text)
    write_scores(
        args.out,
        net,
        result,
        valid_nats_per_character=result.valid_score * tokens_per_character(tokenizer, valid_text),
        test_nats_per_character=nats_per_token(net, test) * per_character,
        test_nats_per_character_by_engine={
            dtype: nats * per_character for dtype, nats in by_engine.items()
        },
        characters_per_token=1 / per_character,
        num_train_tokens=len(train_ids),
        vocab_size=tokenizer.get_vocab_size(),
        seed=SEED,
    )


if __name__ == "__main__":
    main()
