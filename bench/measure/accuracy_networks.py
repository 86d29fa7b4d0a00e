"""The networks of ``python -m bench accuracy``: the bundled one, and those of ../shared/real.

They are read as the tests of the real networks read them, so this imports what those need.
"""

import csv
import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import numlstm
from bench.engines.cases import Case, Floats
from numlstm import LSTM, Network, Weights, reference
from numlstm.convert.keras import convert
from tests.real import (
    test_arm_kws,
    test_chars2vec,
    test_dtln_h5,
    test_g2p_en,
    test_imdb,
    test_langid,
    test_ml5,
    test_nam,
    test_noaa,
    test_rnnoise,
    test_silero,
    test_speechcmd,
    test_textgenrnn,
    test_thai,
)
from tests.real.conftest import read_chunks
from weights.scores.classification import read_texts

Outputs = NDArray[Any]
Function = Callable[[Outputs], Outputs]

_NUM_HEADLINES = 20
_NUM_REVIEWS = 10  # read as one long text each
NUM_STEPS = 200  # of `Cells`
_TENSORS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class Trial:
    """A trained network, and what it is asked.

    inputs    what it reads, in words
    outputs   what it answers, in words
    weights   of its parts, in float32
    answer    the outputs (N, O) of such weights, rounded or not
    label     the labels (N,) of outputs, if it classifies
    truth     the labels that are right, if they are known
    log_p     the log-probabilities of outputs, if it is a language model: truth comes next
    """

    network: str
    inputs: str
    outputs: str
    weights: tuple[Weights, ...]
    answer: Callable[..., Outputs]
    label: Function | None = None
    truth: Outputs | None = None
    log_p: Function | None = None


def _last(sequences: Iterable[Any]) -> Callable[[Weights], Outputs]:
    """Answer with the last output of each sequence."""

    def answer(weights: Weights) -> Outputs:
        model = numlstm.Model(weights)
        return np.stack([model.run(xs)[-1] for xs in sequences])

    return answer


def _all(sequences: Iterable[Any]) -> Callable[[Weights], Outputs]:
    """Answer with all outputs of all sequences."""

    def answer(weights: Weights) -> Outputs:
        model = numlstm.Model(weights)
        return np.concatenate([model.run(xs) for xs in sequences])

    return answer


def _best(ys: Outputs) -> Outputs:
    return np.asarray(ys.argmax(1))


def _over_half(ys: Outputs) -> Outputs:
    return np.asarray(ys[:, 0] > 0.5)


def _log(p: Outputs) -> Outputs:
    """Return logarithms as textgenrnn takes them: of 1e-7 at least."""
    return np.asarray(np.log(p + 1e-7))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as file:
        return {name: file[name] for name in file}


def _only_lstm(weights: Weights) -> Weights:
    """Return the first layer alone, whose outputs are its h."""
    network = Network(weights.network.layers[:1])
    return Weights(network, {name: weights.tensors[name] for name in network.tensor_shapes()})


# The networks: of the folders real and data, one function each ------------------------------------


def _token_ids(model: numlstm.Model, texts: Iterable[str]) -> list[list[int]]:
    pipe = numlstm.pipeline("sentiment", model)
    return [list(pipe.encoder(text)) for text in texts]


def sentiment(_: Path, data: Path) -> list[Trial]:
    model = numlstm.load("sentiment")
    texts, labels = read_texts(data / "sentiment" / "sentence_polarity.test.tsv.gz")
    truth = np.array([model.labels.index(label) for label in labels])
    answer, inputs = _last(_token_ids(model, texts)), f"{len(texts):,} sentences"
    weights = (model.weights,)
    return [Trial("sentiment (bundled)", inputs, "probabilities", weights, answer, _best, truth)]


def ml5(real: Path, _: Path) -> list[Trial]:
    folder = real / "ml5_charrnn"
    texts = {
        "shakespeare": _arrays(folder / "ref_shakespeare.npz")["input_ids"],
        "darwin": test_ml5.ids_of_darwin(folder / "darwin"),
    }
    return [
        Trial(
            f"ml5 {name}", f"{len(ids):,} characters", "logits", (test_ml5.read(folder / name),),
            _all([ids[:-1]]), _best, ids[1:], reference.log_softmax,
        )
        for name, ids in texts.items()
    ]  # fmt: skip


def textgenrnn(real: Path, data: Path) -> list[Trial]:
    folder = real / "textgenrnn"
    vocabulary = json.loads((folder / "textgenrnn_vocab.json").read_text())
    path = data / "summarization" / "ag_news_headlines_nc.test.tsv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        titles = [row[1] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    known = [title for title in titles if set(title) <= set(vocabulary)][:_NUM_HEADLINES]
    ends = vocabulary["<s>"]
    texts = [[ends, *(vocabulary[character] for character in title), ends] for title in known]
    # It sees a window anew for every character, no state is kept.
    windows = [test_textgenrnn.window(ids[:n]) for ids in texts for n in range(1, len(ids))]
    inputs = f"{len(texts)} headlines, {len(windows):,} characters"
    weights = (test_textgenrnn.read(folder / "textgenrnn_weights.hdf5"),)
    truth = np.concatenate([ids[1:] for ids in texts])
    answer = _last(windows)
    return [Trial("textgenrnn", inputs, "probabilities", weights, answer, _best, truth, _log)]


def imdb(real: Path, _: Path) -> list[Trial]:
    folder = real / "kerasjs_imdb_bilstm"
    reviews = _arrays(folder / "ref_first500.npz")
    answer, truth = _last(reviews["input_ids"]), reviews["label"]
    weights = (test_imdb.read(folder),)
    return [Trial("imdb", "500 reviews", "P(positive)", weights, answer, _over_half, truth)]


def langid(real: Path, _: Path) -> list[Trial]:
    folder = real / "langid_bilstm"
    path = folder / "LID_mixed_model.pkl"
    model, checkpoint = test_langid.read(path), test_langid.read_checkpoint(path)
    expected = json.loads((folder / "ref_labels_first5.json").read_text())
    answer = _last([test_langid.ids_of(text, checkpoint) for text in expected])
    truth = np.array([model.labels.index(language) for language in expected.values()])
    weights = (model.weights,)
    return [Trial("langid", "5 texts", "sums of logits", weights, answer, _best, truth)]


def thai(real: Path, _: Path) -> list[Trial]:
    folder = real / test_thai.FOLDER
    path = folder / "Thai_codepoints_exclusive_model4_heavy.weights.json"
    weights, dictionary = test_thai.read(path)
    cases = json.loads((folder / "test_text_codepoints.json").read_text())["testcases"]
    truth = np.array(["bies".index(tag) for case in cases for tag in case["true_bies"]])
    answer = _all([test_thai.ids_of(case["unseg"], dictionary) for case in cases])
    inputs = f"{len(cases)} texts, {len(truth):,} characters"
    return [Trial("Thai codepoints", inputs, "probabilities", (weights,), answer, _best, truth)]


def silero(real: Path, _: Path) -> list[Trial]:
    folder = real / "silero_vad"
    chunks = read_chunks(folder / "test.wav", test_silero.CHUNK, test_silero.CONTEXT)
    weights = (test_silero.read(folder / "silero_vad_16k_op15.onnx"),)
    inputs = f"{len(chunks):,} chunks of 32 ms"
    return [Trial("silero VAD", inputs, "P(speech)", weights, _all([chunks]), _over_half)]


def speech_commands(real: Path, _: Path) -> list[Trial]:
    folder = real / "speechcmd_attrnn"
    digits = _arrays(folder / "ref_fsdd.npz")
    clips = [
        test_speechcmd.front_end(folder, test_speechcmd.log_mel(folder, samples))
        for samples in digits["audio16k_int16"]
    ]
    answer = _last([clip.astype(np.float32) for clip in clips])
    weights = (convert(folder / "model-attRNN.h5", network=test_speechcmd.NETWORK),)
    truth, inputs = digits["true"], f"{len(clips)} spoken digits"
    return [Trial("speech commands", inputs, "probabilities", weights, answer, _best, truth)]


def arm_kws(real: Path, _: Path) -> list[Trial]:
    folder = real / "arm_kws"
    clips = _arrays(folder / "ref_Basic_LSTM_S.npz")["mfcc"]
    return [
        Trial(
            f"ARM {name}", f"{len(clips)} clips, {every.size // 10:,} frames", "probabilities",
            (test_arm_kws.read(folder, name),), _all(every), _best,
        )
        for name, every in (("Basic_LSTM_S", clips), ("GRU_S", clips[:, ::2]))
    ]  # fmt: skip


def g2p_en(real: Path, _: Path) -> list[Trial]:
    """Both networks of words; the decoder reads what float32 says, and one more each step."""
    folder = real / "g2p_en"
    vocab = json.loads((folder / "vocab.json").read_text())
    expected = json.loads((folder / "expected_pronunciations.json").read_text())
    start, end = test_g2p_en.START, test_g2p_en.END
    letters = [test_g2p_en.letters_of(word, vocab) for word in expected]
    said = [[vocab["phonemes"].index(sound) for sound in sounds] for sounds in expected.values()]

    def answer(encoder: Weights, decoder: Weights) -> Outputs:
        models, logits = (numlstm.Model(encoder), numlstm.Model(decoder)), []
        for ids, phonemes in zip(letters, said, strict=True):
            reads, says = (model.stream() for model in models)
            reads.run(ids)
            says.state = {"layers.0.h": reads.state["layers.0.h"]}
            logits.append(says.run([start, *phonemes]))
        return np.concatenate(logits)

    truth = np.concatenate([[*phonemes, end] for phonemes in said])
    weights, inputs = test_g2p_en.read(folder / "checkpoint20.npz"), f"{len(said)} words"
    return [Trial("g2p_en", inputs, "logits of phonemes", weights, answer, _best, truth)]


def turbofan(real: Path, _: Path) -> list[Trial]:
    folder = real / "turbofan_lstm"
    windows = _arrays(folder / "windows.npz")
    answer, inputs = _last(windows["x"]), f"{len(windows['x'])} engines"
    cycles, failure = (convert(folder / f"{kind}_model.h5") for kind in ("regression", "binary"))
    return [
        Trial("turbofan", inputs, "cycles left", (cycles,), answer),
        Trial(
            "turbofan", inputs, "P(failure)", (failure,), answer, _over_half,
            windows["failure_within_30"],
        ),
    ]  # fmt: skip


def noaa(real: Path, _: Path) -> list[Trial]:
    folder = real / "noaa_streamflow"
    weights = test_noaa.read(folder / "aorc_hourly_model_epoch009.pt").weights
    answer = _all([_arrays(folder / "ref_aorc_cat67.npz")["x"]])
    return [
        Trial("NOAA cat67", "720 hours", "streamflow, scaled", (weights,), answer),
        Trial("NOAA cat67", "720 hours", "h", (_only_lstm(weights),), answer),
    ]


def nam(real: Path, _: Path) -> list[Trial]:
    weights = test_nam.read(real / "nam_lstm" / "lstm.nam")
    xs = _arrays(real / "nam_lstm" / "ref.npz")["x"]
    answer, inputs = _all([xs[:, None]]), f"{len(xs):,} samples"
    return [
        Trial("NAM", inputs, "samples", (weights,), answer),
        Trial("NAM", inputs, "h", (_only_lstm(weights),), answer),
    ]


def rnnoise(real: Path, _: Path) -> list[Trial]:
    folder = real / "rnnoise_gru"
    weights = (test_rnnoise.read(folder / "weights_int8.npz"),)
    answer = _all([_arrays(folder / "ref_first300.npz")["features"].reshape(300, -1)])
    num_gains = test_rnnoise.PARTS["gains"] + test_rnnoise.PARTS["vad"]  # they come first
    return [
        Trial(
            "RNNoise", "300 frames", "gains and P(speech)", weights,
            lambda rounded: answer(rounded)[:, :num_gains],
        ),
        Trial(
            "RNNoise", "300 frames", "h of three GRUs", weights,
            lambda rounded: answer(rounded)[:, num_gains:],
        ),
    ]  # fmt: skip


def dtln(real: Path, _: Path) -> list[Trial]:
    blocks = test_dtln_h5.read_blocks(real / "dtln" / "noisy_8s_16k.wav")
    weights = test_dtln_h5.read(real / "dtln" / "model.h5")

    def answer(*stages: Weights) -> Outputs:
        _, _, samples = test_dtln_h5.denoise(stages, blocks)
        return np.asarray(samples[:, None])

    return [Trial("DTLN", "8 s of noisy speech", "samples", weights, answer)]


def chars2vec(real: Path, _: Path) -> list[Trial]:
    folder = real / "chars2vec" / "eng_50"
    words = _arrays(folder.parent / "ref_eng_50_first10.npz")["words"]
    answer = _last([test_chars2vec.one_hot(folder, word) for word in words])
    weights = (test_chars2vec.read(folder, "hard_sigmoid"),)
    return [Trial("chars2vec", f"{len(words)} words", "vectors", weights, answer)]


NETWORKS = (
    sentiment, ml5, textgenrnn, imdb, langid, thai, silero, speech_commands, arm_kws, g2p_en,
    turbofan, noaa, nam, rnnoise, dtln, chars2vec,
)  # fmt: skip


# Recurrent layers alone, as any engine has them ---------------------------------------------------


@dataclass(frozen=True)
class Cells:
    """The first, recurrent layers of a trained network, and sequences (T, I) of what they read.

    A case has as many inputs as units: zeros behind the others' change no sum and no scale.
    """

    network: str
    inputs: str
    case: Case
    tensors: dict[str, Floats]
    sequences: list[Floats]


def _cells(network: str, inputs: str, weights: Weights, rows: Iterable[Floats]) -> list[Cells]:
    """Return the LSTMs of a network, with their sequences cut at 200 steps."""
    layers = {prefix: la for prefix, la in weights.network.named_layers() if isinstance(la, LSTM)}
    size = layers["layers.0"].hidden_size
    tensors: dict[str, Floats] = {}
    for prefix, layer in layers.items():
        tensors |= {f"{prefix}.{name}": weights.tensors[f"{prefix}.{name}"] for name in _TENSORS}
        forget_bias = np.repeat(np.array([0, layer.forget_bias, 0, 0], np.float32), size)
        tensors[f"{prefix}.bias_ih"] = tensors[f"{prefix}.bias_ih"] + forget_bias
    tensors["layers.0.weight_ih"] = _padded(tensors["layers.0.weight_ih"], size)
    case = Case("step", "LSTM", size, len(layers))
    return [Cells(network, inputs, case, tensors, [_padded(xs, size) for xs in rows])]


def _padded(rows: Floats, size: int) -> Floats:
    return np.pad(rows, ((0, 0), (0, size - rows.shape[1])))


def _embedded(weights: Weights, ids: Any) -> Floats:
    return np.asarray(weights.tensors["embedding.weight"][ids])


def _windows(xs: Floats) -> Floats:
    """Return all whole windows, one behind the other: (N, T, I)."""
    return xs[: len(xs) // NUM_STEPS * NUM_STEPS].reshape(-1, NUM_STEPS, xs.shape[1])


def sentiment_cells(_: Path, data: Path) -> list[Cells]:
    model = numlstm.load("sentiment")
    reviews, _labels = read_texts(data / "sentiment" / "movie_reviews.test.tsv.gz")
    texts = _token_ids(model, reviews[:_NUM_REVIEWS])
    rows = [_embedded(model.weights, ids[:NUM_STEPS]) for ids in texts]
    return _cells("sentiment (bundled)", f"words of {len(rows)} reviews", model.weights, rows)


def noaa_cells(real: Path, data: Path) -> list[Cells]:
    trial = noaa(real, data)[0]
    xs = _arrays(real / "noaa_streamflow" / "ref_aorc_cat67.npz")["x"]
    return _cells(trial.network, trial.inputs, trial.weights[0], _windows(xs))


def ml5_cells(real: Path, _: Path) -> list[Cells]:
    folder = real / "ml5_charrnn"
    weights = test_ml5.read(folder / "shakespeare")
    ids = _arrays(folder / "ref_shakespeare.npz")["input_ids"]
    rows = _windows(_embedded(weights, ids))
    return _cells("ml5 shakespeare", f"{len(ids):,} characters", weights, rows)


CELLS = (sentiment_cells, noaa_cells, ml5_cells)
