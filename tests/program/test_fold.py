"""A folded embedding: the table has the bits of the multiplication, in every direction."""

import pickle

import numpy as np
import pytest

import numlstm
from numlstm import spec
from numlstm.kernels.addresses import COMPILED
from numlstm.model import Model
from numlstm.program import lower
from numlstm.spec import DTYPES, GRU, LSTM, RNN, Embedding, Linear, Network, OneHot, Weights
from tests.cases import assert_same_bits, random_weights

VOCAB = 50
FIRST = {"embedding": Embedding(VOCAB, 20), "one-hot": OneHot(VOCAB, 45)}
CELLS = {
    "rnn": RNN,
    "gru": GRU,
    "gru before": lambda *a, **k: GRU(*a, reset_after=False, **k),
    "lstm": LSTM,
    "peepholes": lambda *a, **k: LSTM(*a, peepholes=True, **k),
    **{
        name: cell
        for name, cell in spec.LAYERS.items()
        if issubclass(cell, spec.Recurrent) and cell not in (RNN, GRU, LSTM)
    },
}
OPTIONS = {
    "forward": {},
    "last": {"outputs": "last"},
    "reverse": {"direction": "reverse"},
    "both": {"direction": "bidirectional"},
    "both last": {"direction": "bidirectional", "outputs": "last"},
}


def weights_of(*layers):
    return random_weights(Network(layers))


def token_model(first, cell, dtype="float32", **options):
    layer = cell(first.output_size, 24, dtype=dtype, **options)
    return weights_of(first, layer, Linear(layer.output_size, 7))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_folding_keeps_the_bits(first, cell, options, dtype):
    weights = token_model(first, cell, dtype, **options)
    unfolded, folded = Model(weights, fold=False), Model(weights, fold=True)
    xs = np.arange(60) * 7 % VOCAB
    ys = folded.run(xs)
    assert np.isfinite(ys).all()
    if dtype == "int8":  # the input half is exact when folded
        np.testing.assert_allclose(ys, unfolded.run(xs), atol=0.05)
    else:
        assert_same_bits(ys, unfolded.run(xs))
    streams = folded.stream(lookahead=3), unfolded.stream(lookahead=3)
    pieces = [np.concatenate([s.run(xs[:20]), s.run(xs[20:]), s.finish()]) for s in streams]
    np.testing.assert_allclose(*pieces, atol=0.05 if dtype == "int8" else 0)


def test_a_folded_model_reads_a_table_in_place_of_the_weights():
    weights = token_model(FIRST["embedding"], LSTM)
    table = 4 * VOCAB * 4 * 32  # floats of 4 gates of 24 units, padded to 32
    sizes = [Model(weights, fold)._program.params.nbytes for fold in (False, True)]
    input_half = 4 * 4 * 32 * (20 + 1)
    embedding = 4 * VOCAB * 32
    assert sizes[1] - sizes[0] == table - input_half - embedding


@pytest.mark.skipif(not COMPILED, reason="plain Python folds nothing by itself")
def test_auto_folds_what_fits_in_the_budget():
    small = Network((Embedding(1000, 8), LSTM(8, 64)))
    large = Network((Embedding(70_000, 8), LSTM(8, 64)))
    assert lower.can_fold(small, "auto")
    assert lower.can_fold(large, True)
    assert not lower.can_fold(large, "auto")
    assert not lower.can_fold(small, False)


@pytest.mark.parametrize(
    "layers",
    [
        (LSTM(8, 16),),
        (Embedding(9, 8), Linear(8, 3)),
        (Embedding(9, 8, name="e"), LSTM(8, 16), Linear(24, 3, inputs=("e", "l"))),
    ],
    ids=["vectors", "no recurrent layer", "two readers"],
)
def test_other_networks_are_not_folded(layers):
    if len(layers) == 3:
        layers = (layers[0], LSTM(8, 16, name="l"), layers[2])
    weights = weights_of(*layers)
    assert not lower.can_fold(weights.network, True)
    Model(weights, fold=True)


def test_a_table_that_overflows_is_not_made():
    weights = token_model(FIRST["embedding"], LSTM)
    tensors = {name: tensor.copy() for name, tensor in weights.tensors.items()}
    tensors["embedding.weight"][3] = tensors["layers.0.weight_ih"][:] = 1e20
    model = Model(Weights(weights.network, tensors), fold=True)
    unfolded = Model(Weights(weights.network, tensors), fold=False)
    assert_same_bits(model.run([1, 2]), unfolded.run([1, 2]))
    for either in (model, unfolded):
        with pytest.raises(ValueError, match="overflow"):
            either.run([3])


def test_the_choice_stays_with_the_model():
    model = Model(token_model(FIRST["embedding"], LSTM), fold=False)
    for other in (pickle.loads(pickle.dumps(model)), model.astype("float32")):
        assert other._program.params.nbytes == model._program.params.nbytes


@pytest.mark.skipif(not COMPILED, reason="plain Python folds nothing by itself")
def test_load_takes_it(tmp_path):
    Model(token_model(FIRST["embedding"], LSTM)).save(tmp_path / "m.safetensors")
    sizes = {
        fold: numlstm.load(tmp_path / "m.safetensors", fold=fold)._program.params.nbytes
        for fold in (True, False, "auto")
    }
    assert sizes[False] != sizes[True] == sizes["auto"]
    with pytest.raises(ValueError, match=r'fold is 1\.5, expected True, False or "auto"'):
        numlstm.load(tmp_path / "m.safetensors", fold=1.5)
