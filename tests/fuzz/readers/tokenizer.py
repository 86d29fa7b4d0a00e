"""The text of a tokenizer.json, in a model file with the checksum of it."""

import json
from pathlib import Path
from random import Random

import numpy as np

import numlstm
from numlstm import spec, storage
from numlstm.tasks.text.encoding import Encoder
from tests.fuzz import Found
from tests.fuzz._changes import change_bytes, change_json, json_text
from tests.fuzz._promises import refused

_VOCAB_SIZE = 40
_WORDS = (
    "type", "model", "vocab", "merges", "normalizer", "pre_tokenizer", "post_processor", "decoder",
    "WordLevel", "BPE", "WordPiece", "Unigram", "Whitespace", "WhitespaceSplit", "ByteLevel",
    "Split", "Sequence", "pattern", "Regex", "String", "Lowercase", "Replace", "Prepend", "Strip",
    "Precompiled", "precompiled_charsmap", "BertNormalizer", "NFD", "unk_token", "<unk>", "special",
    "TemplateProcessing", "Digits", "Metaspace", "replacement", "truncation", "padding", "(a|aa)+$",
    "max_length", "stride", "byte_fallback", "dropout", "continuing_subword_prefix",
)  # fmt: skip
_TEXTS = ("", " ", "the film", "The Ünïcode \U0001f600 film, 1234!", "a" * 300, "\0\n\t", "\ud800")


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    if random.random() < 0.2:
        return change_bytes(data, donor, random)
    return json_text(change_json(json.loads(data), json.loads(donor), _WORDS, random)).encode()


def read(data: bytes, folder: Path, random: Random) -> str:
    path = folder / "model.safetensors"
    network = spec.Network((spec.Embedding(_VOCAB_SIZE, 1),))
    weights = {"embedding.weight": np.ones((_VOCAB_SIZE, 1), np.float32)}
    text = data.decode("utf-8", "replace")
    storage.save(spec.Weights(network, weights, tokenizer=text), path)
    try:
        encoder = Encoder(numlstm.load(path))
    except numlstm.WeightsError as error:
        return refused(error)
    for words in _TEXTS:
        try:
            ids = encoder(words)
        except ValueError as error:
            refused(error)
            continue
        if not all(0 <= n < _VOCAB_SIZE for n in np.ravel(ids)):
            raise Found(f"{words!r} becomes {ids}, the network reads ids below {_VOCAB_SIZE}")
    return "read"
