"""Train the word model: which word comes next in Wikipedia, and how much better than 5-grams.

Run it with the language_model folder of the data:

    python weights/recipes/words.py --data DIR --out weights/words.safetensors

1. Build a tokenizer of the words that the training text has twice; others are `<unk>`, the end of a
   line is `<eos>`. Plain text it splits as that of the data is.
2. Train one LSTM whose head shares the weights of the embedding, with dropout on embedding,
   answers and recurrent weights, on the text in windows; keep the averaged weights best on valid.
3. Score the test text once, from its first word to its last, the state never reset; and on the same
   tokens the modified Kneser-Ney model of 5-grams, counted in the training text.

One thread, no GPU, about 15 minutes. Beside the model it leaves its scores, in a .json of the same
name.
"""

from __future__ import annotations

import math
from collections import Counter

from kneser_ney import KneserNey
from language import LanguageNet, Text, export, nats_per_token, train
from surprise import read
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from trainer import parse_arguments, seed_everything, write_scores

SEED = 0
UNKNOWN, END_OF_LINE = "<unk>", "<eos>"
MIN_WORD_COUNT = 2
ORDER = 5  # of Kneser-Ney

# Plain text as Wikipedia's is tokenised in this set: what is replaced, and what is split off.
REPLACEMENTS = (
    (r"(?<=\w)[\u2018\u2019](?=\w)", "'"),
    (r"[\u201c\u201d](?=\w)", '" '),
    (r"(?<=\S)[\u201c\u201d]", ' "'),
    (r"(?<=\d),(?=\d\d\d\b)", " @,@ "),
    (r"(?<=\d)\.(?=\d)", " @.@ "),
    (r"(?<=\w)-(?=\w)", " @-@ "),
)
ABBREVIATIONS = (
    *("Mr", "Mrs", "Ms", "Dr", "St", "No", "Nos", "Jr", "Sr", "vs", "Co", "Bros", "Inc", "var"),
    *("pp", "Gen", "Lt", "Col", "Sgt", "Capt", "al", "v", "etc", "Prof"),
    *("i[.]e", "e[.]g", "a[.]m", "p[.]m"),
)
CLOSING = r"[.,;:!?)\]\x22']"
MARKS = (
    r"(?<![^(\[\x22])[(\[\x22](?=[(\[\x22]*\w)",
    rf"(?<=\S)[,;:!?)\]\x22](?={CLOSING}*$)",
    rf"(?<!{'|'.join(f'^{word}' for word in ABBREVIATIONS)}|[A-Z]|[.])(?<=.)\.(?={CLOSING}*$)",
    rf"'(?:s|t|re|ve|ll|d|m)(?={CLOSING}*$)",
)

EMBEDDING_SIZE = 192
HIDDEN_SIZE = EMBEDDING_SIZE
INPUT_DROPOUT = 0.3
OUTPUT_DROPOUT = 0.4
WEIGHT_DROPOUT = 0.3

EPOCHS = 10
PATIENCE = 3
NUM_STREAMS = 16
NUM_STEPS = 35  # words per truncated back-propagation
RATE = 5e-3
WEIGHT_DECAY = 0.05
AVERAGE_DECAY = 0.995

DTYPE = "int8"  # of the file


def build_tokenizer(text: str) -> Tokenizer:
    """Build a tokenizer of words; a line ends in a word of its own.

    The training text is tokenised already, and white space is all that splits it. Plain text is
    brought to its ways: marks stand alone, and so do clitics; `-` within a word is ` @-@ `.
    """
    words = Counter(split(text))
    known = [word for word, count in words.most_common() if count >= MIN_WORD_COUNT]
    vocab = {word: token for token, word in enumerate(dict.fromkeys([UNKNOWN, *known]))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("\n", f" {END_OF_LINE} ")]
        + [normalizers.Replace(Regex(before), after) for before, after in REPLACEMENTS]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex("|".join(MARKS)), "isolated"),
        ]
    )
    if tokenizer.encode(text).tokens != [w if w in vocab else UNKNOWN for w in split(text)]:
        raise ValueError("the tokenizer changes the training text")
    return tokenizer


def split(text: str) -> list[str]:
    """Return the words of a text that is tokenised."""
    return text.replace("\n", f" {END_OF_LINE} ").split()


def main() -> None:
    """Train, score, write."""
    args = parse_arguments("Train the word model.")
    seed_everything(SEED)
    texts = (read(args.data, f"wikitext2_small.{part}") for part in ("train", "valid", "test"))
    train_text, valid_text, test_text = texts
    tokenizer = build_tokenizer(train_text)
    train_ids, valid, test = (
        tokenizer.encode(text).ids for text in (train_text, valid_text, test_text)
    )
    vocab_size = tokenizer.get_vocab_size()

    net = LanguageNet(
        vocab_size,
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
        "words",
        Text(train_ids, NUM_STREAMS, NUM_STEPS, SEED),
        valid,
        epochs=EPOCHS,
        rate=RATE,
        weight_decay=WEIGHT_DECAY,
        average_decay=AVERAGE_DECAY,
        patience=PATIENCE,
    )
    by_engine = export(net, tokenizer, args.out, args.dtype or DTYPE, test)
    ngrams = KneserNey(train_ids, vocab_size, ORDER)
    write_scores(
        args.out,
        net,
        result,
        valid_perplexity=math.exp(result.valid_score),
        test_perplexity=math.exp(nats_per_token(net, test)),
        test_perplexity_by_engine={dtype: math.exp(nats) for dtype, nats in by_engine.items()},
        kneser_ney_order=ORDER,
        kneser_ney_valid_perplexity=math.exp(ngrams.nats_per_token(valid)),
        kneser_ney_test_perplexity=math.exp(ngrams.nats_per_token(test)),
        num_train_words=len(train_ids),
        vocab_size=vocab_size,
        seed=SEED,
    )


if __name__ == "__main__":
    main()
