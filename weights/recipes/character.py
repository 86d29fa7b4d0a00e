"""Train the character model: which character comes next in Shakespeare.

Run it with the language_model folder of the data:

    python weights/recipes/character.py --data DIR --out weights/character.safetensors

1. Build a tokenizer of one token per character of the training text.
2. Train one LSTM on the text in windows, the state carried from each to the next, with dropout on
   its recurrent weights, its input and its output; keep the averaged weights best on valid.
3. Score the test text once, from its first character to its last, the state never reset.

One thread, no GPU, about 15 minutes. Beside the model it leaves its scores, in a .json of the same
name.
"""

from __future__ import annotations

from language import LanguageNet, Text, export, nats_per_token, train
from surprise import read
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from trainer import parse_arguments, seed_everything, write_scores

SEED = 0
UNKNOWN = "\N{REPLACEMENT CHARACTER}"

EMBEDDING_SIZE = 64
HIDDEN_SIZE = 512
INPUT_DROPOUT = 0.1
OUTPUT_DROPOUT = 0.25
WEIGHT_DROPOUT = 0.2

EPOCHS = 16
PATIENCE = 3
NUM_STREAMS = 32
NUM_STEPS = 100  # characters per truncated back-propagation
RATE = 4e-3
WARMUP = 0.08
WEIGHT_DECAY = 1e-2
AVERAGE_DECAY = 0.995

DTYPE = "bfloat16"  # of the file


def build_tokenizer(text: str) -> Tokenizer:
    """Build a tokenizer of the characters of a text; any other is one unknown character."""
    vocab = {character: token for token, character in enumerate([UNKNOWN, *sorted(set(text))])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def main() -> None:
    """Train, score, write."""
    args = parse_arguments("Train the character model.")
    seed_everything(SEED)
    texts = {
        part: read(args.data, f"tinyshakespeare.{part}") for part in ("train", "valid", "test")
    }
    tokenizer = build_tokenizer(texts["train"])
    train_ids, valid, test = (tokenizer.encode(text).ids for text in texts.values())

    net = LanguageNet(
        tokenizer.get_vocab_size(),
        EMBEDDING_SIZE,
        (HIDDEN_SIZE,),
        input_dropout=INPUT_DROPOUT,
        output_dropout=OUTPUT_DROPOUT,
        weight_dropout=WEIGHT_DROPOUT,
    )
    result = train(
        net,
        "character",
        Text(train_ids, NUM_STREAMS, NUM_STEPS, SEED),
        valid,
        epochs=EPOCHS,
        rate=RATE,
        warmup=WARMUP,
        weight_decay=WEIGHT_DECAY,
        average_decay=AVERAGE_DECAY,
        patience=PATIENCE,
    )
    by_engine = export(net, tokenizer, args.out, args.dtype or DTYPE, test)
    write_scores(
        args.out,
        net,
        result,
        valid_nats_per_character=result.valid_score,
        test_nats_per_character=nats_per_token(net, test),
        test_nats_per_character_by_engine=by_engine,
        num_train_characters=len(train_ids),
        vocab_size=tokenizer.get_vocab_size(),
        seed=SEED,
    )


if __name__ == "__main__":
    main()
