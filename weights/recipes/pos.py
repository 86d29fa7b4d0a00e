"""Train the part-of-speech tagger: the universal tag of every word of a sentence.

Run it with the folder of all data sets (see `read` and `read_unlabelled` for its files):

    python weights/recipes/pos.py --data DIR --out weights/pos.safetensors

1. Build two tokenizers: of words (lower case, digits alike) and of characters.
2. Pretrain on text without tags: from left to right predict the next word, from right to left the
   one before. A word is its embedding beside the last states of a BiLSTM over its characters.
3. Train words, characters and a BiLSTM over the sentence on the tags. In half of the batches the
   right-to-left direction begins anew every few words, as it does in a stream with a lookahead.

The epoch is chosen on UD English EWT's valid part; its test part is scored once, at the end. One
thread, no GPU, about 20 minutes. The file holds three networks: embedding, spelling, and the tagger
that reads both. Beside it the recipe leaves its scores, in a .json of the same name.
"""

from __future__ import annotations

import gzip
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import nn
from torch.nn import functional as F
from trainer import batches_by_length, fit, parse_arguments, seed_everything, write_scores

SEED = 0
LABELS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
SPLITS = ("train", "valid", "test")
UNLABELLED = (  # file, column of its text
    ("chatbot/topical_chat.train.tsv.gz", 2),
    ("sentiment/movie_reviews.train.tsv.gz", 2),
    ("summarization/scitldr.train.tsv.gz", 2),
    ("language_model/wikitext2_small.train.txt.gz", 0),
)
UNLABELLED_WORDS = 300_000  # of each file at most
UNLABELLED_PIECE = 40  # words at most

# What a word of running text is, the first that fits: addresses, abbreviations, numbers, words cut
# before their clitics as in the treebank, runs of one sign, any other sign.
WORD_PATTERNS = (
    r"(?:https?://|www\.)\S*\w/?",
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    r"(?:[A-Za-z]\.){2,}",
    r"\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|vs|etc|Inc|Corp)\.",
    r"[0-9]+(?:[.,:/][0-9]+)*",
    r"(?i:\w+(?=n['\u2019]t\b)|n['\u2019]t\b|can(?=not\b)|['\u2019](?:s|m|d|re|ve|ll)\b)",
    r"\w+",
    r"([^\w\s])\1+",
    r"\S",
)

VOCAB_SIZE = 16_000
UNKNOWN = 0  # of words and of characters
MAX_CHARACTERS = 40  # of a word; the rest is not read
EMBEDDING_SIZE = 64
CHARACTER_SIZE = 32
CHARACTER_HIDDEN_SIZE = 64  # of each direction
HIDDEN_SIZE = 160  # of each direction

PRETRAIN_EPOCHS = 1
PRETRAIN_RATE = 3e-3
PRETRAIN_NEGATIVES = 1500  # sampled words of the softmax, shared by a batch

EPOCHS = 8
PATIENCE = 3
BATCH_SIZE = 32  # sentences
RATE = 3e-3
WEIGHT_DECAY = 1e-2
AVERAGE_DECAY = 0.998
INPUT_DROPOUT = 0.35
HEAD_DROPOUT = 0.4
WORD_DROPOUT = 0.1  # of any word; rare ones are dropped more often
LABEL_SMOOTHING = 0.05
LONGEST_PIECE = 8  # words, where right-to-left begins anew

DTYPES = {"words": "int8", "characters": "float32", "tagger": "int8"}  # of the file

Piece = Sequence[int]  # positions, in the order in which they are read


# ---------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Sentence:
    """Words and the indices of their tags, none if it is not tagged."""

    words: list[str]
    tags: list[int]


def read(data: Path, split: str) -> list[Sentence]:
    """Read the tagged sentences of `train`, `valid` or `test`: form, tag and more per line."""
    path = data / "pos_tagging" / f"ud_english_ewt.{split}.conll.gz"
    sentences = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for block in file.read().split("\n\n"):
            rows = [line.split("\t") for line in block.split("\n") if "\t" in line]
            if rows:
                tags = [LABELS.index(row[1]) for row in rows]
                sentences.append(Sentence([row[0] for row in rows], tags))
    return sentences


def read_unlabelled(data: Path, tokenizer: Tokenizer) -> list[Sentence]:
    """Read other text, split into words, in short pieces."""
    sentences = []
    for name, column in UNLABELLED:
        num_words = 0
        with gzip.open(data / name, "rt", encoding="utf-8") as file:
            for line in file:
                words = split_words(tokenizer, line.rstrip("\n").split("\t")[column])
                num_words += len(words)
                if num_words > UNLABELLED_WORDS:
                    break
                for at in range(0, len(words) - 3, UNLABELLED_PIECE):
                    sentences.append(Sentence(words[at : at + UNLABELLED_PIECE], []))
    return sentences


# ---------------------------------------------------------------------------------- tokenizers


def build_word_tokenizer() -> Tokenizer:
    """Build a tokenizer that splits text as the treebank does, its vocabulary still empty."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": UNKNOWN}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex("[\u2018\u2019]"), "'"),
            normalizers.Replace(Regex("[0-9]"), "0"),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex("|".join(WORD_PATTERNS)), "isolated"),
        ]
    )
    return tokenizer


def split_words(tokenizer: Tokenizer, text: str) -> list[str]:
    """Split text into words, as they are written."""
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def set_vocabulary(tokenizer: Tokenizer, words: Iterable[str], forced: Iterable[str]) -> Counter:
    """Give the tokenizer the most frequent words, all `forced` among them; return the counts."""
    counts = Counter(tokenizer.normalizer.normalize_str(word) for word in words)
    kept = Counter(tokenizer.normalizer.normalize_str(word) for word in forced)
    chosen = [word for word, count in kept.most_common() if count > 1]
    others = (word for word, count in counts.most_common() if count > 2 and word not in kept)
    chosen += itertools.islice(others, VOCAB_SIZE - 1 - len(chosen))
    vocab = {word: token for token, word in enumerate(["[UNK]", *chosen])}
    tokenizer.model = models.WordLevel(vocab, unk_token="[UNK]")
    return kept


def build_character_tokenizer(words: Iterable[str]) -> Tokenizer:
    """Build a tokenizer of the characters that occur more than twice."""
    counts = Counter(itertools.chain.from_iterable(words))
    kept = [character for character, count in counts.most_common() if count > 2]
    vocab = {character: token for token, character in enumerate(["[UNK]", *kept])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return tokenizer


# ------------------------------------------------------------------------------------- network


def over_pieces(lstm: nn.LSTM, xs: torch.Tensor, pieces: list[Piece]) -> torch.Tensor:
    """Run an LSTM from its zero state over each piece of rows (N, I); return hs (N, H)."""
    longest = max(map(len, pieces))
    at = torch.tensor([[*piece, *[0] * (longest - len(piece))] for piece in pieces])
    inside = torch.arange(longest) < torch.tensor([len(piece) for piece in pieces])[:, None]
    hs, _ = lstm(xs[at])
    return torch.empty(len(xs), lstm.hidden_size).index_put((at[inside],), hs[inside])


def ranges(lengths: Iterable[int]) -> list[range]:
    """Return the positions of sequences that lie one after another."""
    ends = list(itertools.accumulate(lengths))
    return [range(a, b) for a, b in zip([0, *ends], ends, strict=False)]


class Vocabulary:
    """Ids of words and of their characters, each word looked up once."""

    def __init__(self, words: Tokenizer, characters: Tokenizer) -> None:
        self.words = words
        self.characters = characters
        self._known: dict[str, tuple[int, list[int]]] = {}

    def __call__(self, word: str) -> tuple[int, list[int]]:
        """Return the id of a word, and the ids of its characters."""
        if word not in self._known:
            token = self.words.token_to_id(self.words.normalizer.normalize_str(word))
            self._known[word] = (
                UNKNOWN if token is None else token,
                self.characters.encode(word[:MAX_CHARACTERS]).ids,
            )
        return self._known[word]


class Directions(nn.Module):
    """An LSTM in each direction."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.left_to_right = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.right_to_left = nn.LSTM(input_size, hidden_size, batch_first=True)
        for lstm in (self.left_to_right, self.right_to_left):
            for gate in lstm.weight_hh_l0.data.chunk(4):
                nn.init.orthogonal_(gate)
            nn.init.ones_(lstm.bias_ih_l0.data.chunk(4)[1])  # remember at first

    def forward(
        self, xs: torch.Tensor, sequences: list[Piece], pieces: list[Piece]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return hs (N, H) of both directions; the second one begins anew in each piece."""
        backwards = [piece[::-1] for piece in pieces]
        return (
            over_pieces(self.left_to_right, xs, sequences),
            over_pieces(self.right_to_left, xs, backwards),
        )

    def joined(self) -> nn.LSTM:
        """Return both as one module."""
        one = self.left_to_right
        lstm = nn.LSTM(one.input_size, one.hidden_size, batch_first=True, bidirectional=True)
        reverse = self.right_to_left.state_dict()
        lstm.load_state_dict(
            one.state_dict() | {f"{name}_reverse": tensor for name, tensor in reverse.items()}
        )
        return lstm


class Tagger(nn.Module):
    """A word is its embedding beside the states of a BiLSTM at the ends of its characters."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        num_words = vocabulary.words.get_vocab_size()
        num_characters = vocabulary.characters.get_vocab_size()
        input_size = EMBEDDING_SIZE + 2 * CHARACTER_HIDDEN_SIZE
        self.vocabulary = vocabulary
        self.words = nn.Embedding(num_words, EMBEDDING_SIZE)
        self.characters = nn.Embedding(num_characters, CHARACTER_SIZE)
        self.spelling = Directions(CHARACTER_SIZE, CHARACTER_HIDDEN_SIZE)
        self.sentence = Directions(input_size, HIDDEN_SIZE)
        self.head = nn.Linear(2 * HIDDEN_SIZE, len(LABELS))
        self.drop_rates: torch.Tensor | None = None  # (V,), set for training
        nn.init.normal_(self.words.weight, std=0.1)

    def vectors(self, sentences: list[Sentence]) -> torch.Tensor:
        """Return what the sentence's LSTM reads, (N, I), of all words one after another."""
        words = [word for sentence in sentences for word in sentence.words]
        kinds = {word: n for n, word in enumerate(dict.fromkeys(words))}
        entries = [self.vocabulary(word) for word in kinds]
        places = ranges(len(characters) for _, characters in entries)
        characters = torch.tensor([c for _, characters in entries for c in characters])
        right, left = self.spelling(self.characters(characters), places, places)
        ends = torch.tensor([place[-1] for place in places])
        starts = torch.tensor([place[0] for place in places])
        spellings = torch.cat([right[ends], left[starts]], 1)
        ids = torch.tensor([token for token, _ in entries])
        which = torch.tensor([kinds[word] for word in words])
        ids = ids[which]
        if self.training and self.drop_rates is not None:
            ids = ids.masked_fill(torch.rand(len(ids)) < self.drop_rates[ids], UNKNOWN)
        xs = torch.cat([self.words(ids), spellings[which]], 1)
        return F.dropout(xs, INPUT_DROPOUT, self.training)

    def forward(self, sentences: list[Sentence], piece_size: int | None = None) -> torch.Tensor:
        """Return logits (N, 17) of all words one after another.

        Args:
            sentences: To be tagged.
            piece_size: After so many words the right-to-left direction begins anew.
        """
        places = ranges(len(sentence.words) for sentence in sentences)
        pieces: list[Piece] = list(places)
        if piece_size is not None:
            pieces = [
                place[max(at, 0) : at + piece_size]
                for place in places
                for at in range(-random.randrange(piece_size), len(place), piece_size)
            ]
        hs = torch.cat(self.sentence(self.vectors(sentences), places, pieces), 1)
        return self.head(F.dropout(hs, HEAD_DROPOUT, self.training))


@torch.no_grad()
def tag(net: nn.Module, sentences: list[Sentence], batch_size: int = 64) -> list[list[int]]:
    """Return the tags of sentences."""
    tags: list[list[int]] = [[]] * len(sentences)
    order = sorted(range(len(sentences)), key=lambda n: len(sentences[n].words))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        best = net([sentences[n] for n in batch]).argmax(dim=1).tolist()
        for n, place in zip(batch, ranges(len(sentences[n].words) for n in batch), strict=True):
            tags[n] = best[place.start : place.stop]
    return tags


def accuracy(net: nn.Module, sentences: list[Sentence]) -> float:
    """Return the share of words whose tag is right."""
    found = itertools.chain.from_iterable(tag(net, sentences))
    right = [tag for sentence in sentences for tag in sentence.tags]
    return sum(a == b for a, b in zip(found, right, strict=True)) / len(right)


# ------------------------------------------------------------------------------------ training


class NextWords(nn.Module):
    """The words beside each word, predicted from the states of the tagger.

    The softmax runs over the right word and a sample of others; its weights are the embedding.
    """

    def __init__(self, tagger: Tagger, sentences: list[Sentence]) -> None:
        super().__init__()
        self.tagger = tagger
        self.projects = nn.ModuleList(nn.Linear(HIDDEN_SIZE, EMBEDDING_SIZE) for _ in range(2))
        vocab_size = tagger.words.num_embeddings
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        ids = [tagger.vocabulary(word)[0] for sentence in sentences for word in sentence.words]
        share = (torch.bincount(torch.tensor(ids), minlength=vocab_size) + 1.0).pow(0.75)
        self.share = share / share.sum()
        self.correction = (self.share * PRETRAIN_NEGATIVES).log().clamp(max=0)

    def forward(self, sentences: list[Sentence]) -> torch.Tensor:
        """Return -log p of a word, on the average of both directions."""
        places = ranges(len(sentence.words) for sentence in sentences)
        both = self.tagger.sentence(self.tagger.vectors(sentences), places, places)
        vocabulary = self.tagger.vocabulary
        ids = torch.tensor([vocabulary(w)[0] for each in sentences for w in each.words])
        first = torch.tensor([at for place in places for at in place[:-1]])
        losses = [
            self._loss(project(F.dropout(hs[here], HEAD_DROPOUT, self.training)), ids[there])
            for project, hs, here, there in zip(
                self.projects, both, (first, first + 1), (first + 1, first), strict=True
            )
        ]
        return torch.stack(losses).mean()

    def _loss(self, queries: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        others = torch.multinomial(self.share, PRETRAIN_NEGATIVES, replacement=True)
        weight, offset = self.tagger.words.weight, self.bias - self.correction
        right = (queries * weight[targets]).sum(dim=1) + offset[targets]
        wrong = queries @ weight[others].T + offset[others]
        wrong = wrong.masked_fill(others == targets[:, None], -torch.inf)
        losses = torch.logsumexp(torch.cat([right[:, None], wrong], 1), 1) - right
        return losses[targets != UNKNOWN].mean()


def pretrain(net: Tagger, sentences: list[Sentence]) -> None:
    """Train all but the head to predict the neighbours of words."""
    rng = random.Random(SEED)
    lengths = [len(sentence.words) for sentence in sentences]
    held_out = sentences[:: len(sentences) // 300]
    fit(
        NextWords(net, sentences),
        batches=lambda epoch: batches_by_length(lengths, BATCH_SIZE, rng),
        loss_of=lambda model, batch: model([sentences[n] for n in batch]),
        score_of=lambda model: model(held_out).item(),
        epochs=PRETRAIN_EPOCHS,
        rate=PRETRAIN_RATE,
        name="neighbours",
        minimize=True,
        weight_decay=1e-3,
        warmup=0.1,
    )


# --------------------------------------------------------------------------------------- result


def export(net: Tagger, out: Path, dtype: str | None) -> None:
    """Save the network for numlstm: embedding, spelling, and the tagger that reads both."""
    import numlstm

    vocabulary = net.vocabulary
    parts = {
        "words": numlstm.from_torch(net.words, tokenizer=vocabulary.words.to_str()),
        "characters": numlstm.from_torch(
            net.characters,
            net.spelling.joined(),
            "final",
            tokenizer=vocabulary.characters.to_str(),
        ),
        "tagger": numlstm.from_torch(
            net.sentence.joined(), net.head, nn.Softmax(dim=-1), labels=LABELS
        ),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    dtypes = DTYPES | dict.fromkeys(DTYPES, dtype) if dtype else DTYPES
    numlstm.save_parts({part: model.astype(dtypes[part]) for part, model in parts.items()}, out)


def main() -> None:
    """Train, score, write."""
    args = parse_arguments("Train the part-of-speech tagger.")
    seed_everything(SEED)
    train, valid, test = (read(args.data, split) for split in SPLITS)
    words = build_word_tokenizer()
    unlabelled = read_unlabelled(args.data, words)
    own = [word for sentence in train for word in sentence.words]
    counts = set_vocabulary(words, (w for each in unlabelled for w in each.words), own)
    characters = build_character_tokenizer(own)

    net = Tagger(Vocabulary(words, characters))
    pretrain(net, train + unlabelled)

    own_counts = torch.zeros(words.get_vocab_size())
    for word, count in counts.items():
        own_counts[words.token_to_id(word) or UNKNOWN] = count
    net.drop_rates = (0.25 / (0.25 + own_counts)).clamp(min=WORD_DROPOUT)
    rng = random.Random(SEED)
    lengths = [len(sentence.words) for sentence in train]

    def loss_of(net: nn.Module, batch: list[int]) -> torch.Tensor:
        sentences = [train[n] for n in batch]
        piece_size = random.randint(1, LONGEST_PIECE) if random.random() < 0.5 else None
        tags = torch.tensor([tag for sentence in sentences for tag in sentence.tags])
        return F.cross_entropy(net(sentences, piece_size), tags, label_smoothing=LABEL_SMOOTHING)

    result = fit(
        net,
        batches=lambda epoch: batches_by_length(lengths, BATCH_SIZE, rng),
        loss_of=loss_of,
        score_of=lambda net: accuracy(net, valid),
        epochs=EPOCHS,
        rate=RATE,
        name="tags",
        patience=PATIENCE,
        weight_decay=WEIGHT_DECAY,
        average_decay=AVERAGE_DECAY,
    )
    export(net, args.out, args.dtype)
    write_scores(
        args.out,
        net,
        result,
        valid_accuracy=result.valid_score,
        test_accuracy=accuracy(net, test),
        num_train_words=len(own),
        num_unlabelled_words=sum(len(sentence.words) for sentence in unlabelled),
        vocab_size=words.get_vocab_size(),
        num_characters=characters.get_vocab_size(),
        seed=SEED,
    )


if __name__ == "__main__":
    main()
