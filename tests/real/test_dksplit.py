"""Joined words taken apart, ABTdomain/DKSplit: int8 weights of ONNX Runtime, 3 BiLSTMs and a CRF.

Its own operator rounds what enters each product to 8 bits, over the whole word, and sums those with
saturation on some CPUs. The reference here are the weights of the file in float64.
"""

import json
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm.spec import CRF, Weights
from tests.cases import Tolerance
from tests.lazy import from_onnx
from tests.real.conftest import Runner

EMISSIONS = Tolerance(1e-4, 0.0, "emissions of up to 14 after three BiLSTMs of 384 in float32")
DYNAMIC = Tolerance(0.2, 0.0, "activations rounded to 8 bits by the source, and not here")


@cache
def read(folder: Path) -> Weights:
    return from_onnx.convert(folder / "dksplit-int8.onnx")


def with_tags(weights: Weights, folder: Path) -> Weights:
    """Return the network with the best path of its emissions as its answer."""
    network = numlstm.Network((*weights.network.layers, CRF(2)))
    *_, (prefix, _) = network.named_layers()
    with np.load(folder / "dksplit.npz") as file:
        own = {f"{prefix}.{name}": file[name] for name in file}
    return Weights(network, {**weights.tensors, **own})


@pytest.fixture
def words(real: Path) -> list[dict[str, np.ndarray]]:
    with np.load(real / "ref_20_words.npz") as file:
        names = {re.sub(r"\d+$", "", name) for name in file if name[-2:].isdigit()}
        return [{name: file[f"{name}{n:02}"] for name in names} for n in range(20)]


def test_emissions_are_those_of_the_weights(runner: Runner, real, words):
    weights = read(real)
    for word in words[:: 10 if runner.name == "reference" else 1]:
        found, _ = runner.run(weights, word["ids"].astype(np.int32).ravel())
        expected = word["emissions_weights_only"].reshape(found.shape)
        runner.hold("DKSplit", "emissions, of the weights", found, expected, EMISSIONS)
        expected = word["emissions"].reshape(found.shape)
        runner.hold("DKSplit", "emissions, of ONNX Runtime", found, expected, DYNAMIC)


def test_the_tags_of_20_words_are_those_of_the_authors(real, words):
    model = numlstm.Model(with_tags(read(real), real))
    for word in words:
        tags = model.run(word["ids"].astype(np.int32).ravel()).argmax(1)
        assert tags.tolist() == word["tags"].ravel().tolist()


def test_words_are_taken_apart(real):
    model = numlstm.Model(with_tags(read(real), real))
    alphabet = {c: n for n, c in enumerate("abcdefghijklmnopqrstuvwxyz0123456789", 2)}
    for case in json.loads((real / "segmentations.json").read_text()):
        text = case["text"]
        starts = model.run(np.array([alphabet.get(c, 1) for c in text], np.int32)).argmax(1)
        starts[0] = 1
        cuts = [*np.flatnonzero(starts).tolist(), len(text)]
        pieces = [text[a:b] for a, b in pairwise(cuts)]
        assert pieces == case["words"]


def test_what_was_rounded_is_said(real):
    origin = read(real).origin
    assert "in float32; the file's own answers" in origin
    assert "int8 weights" in origin
