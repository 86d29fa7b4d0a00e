"""The valid files that hostile ones are made of, a folder per reader.

    python -m tests.fuzz.corpus.make

Small ones: a case is read in a millisecond, and a change hits what matters.
"""

import io
import json
import os
import shutil
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from numlstm import spec, storage
from numlstm.convert.probes import make_probes, reference_run
from numlstm.machine.image import Image
from numlstm.quantize import as_dtype
from numlstm.spec import Network, Probe, Weights
from tests.cases import DECODERS, NETWORKS, NOT_CAUSAL, random_weights

os.environ["KERAS_BACKEND"] = "torch"
HERE = Path(__file__).parent

TOKENIZER: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
    "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
    "model": {"type": "WordLevel", "unk_token": "<unk>",
              "vocab": {"the": 0, "film": 1, "<unk>": 2}},
}  # fmt: skip


def write(reader: str, name: str, data: bytes) -> None:
    folder = HERE / reader
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)


def file_of(save: Any, suffix: str = "") -> bytes:
    """Return what a function writes to a path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        save(path)
        return path.read_bytes()


def models() -> None:
    names = ("vectors", "tokens", "graph", "feedback_of_feedback", "one_hot", "masked", "min_gru",
             "min_lstm", "ind_rnn", "sru_options", "gru_options", "lstm_7", "pooled_input",
             "stacked", "shared", "repeat", "conv_stride", "crf", "attention", "reverse",
             "copies", "dot", "input_feeding")  # fmt: skip
    every = NETWORKS | NOT_CAUSAL | DECODERS
    for name in names:
        weights = random_weights(every[name])
        if name in ("tokens", "one_hot"):
            labels = tuple(f"l{n}" for n in range(weights.network.output_size))
            weights = replace(weights, labels=labels, tokenizer=json.dumps(TOKENIZER))
        if name in ("masked", "copies", "reverse"):
            run = reference_run(weights.network, weights.tensors)
            probes = make_probes(weights.network, weights.tensors, run, num_steps=3)
            weights = replace(weights, probes=probes, origin="made for tests")
        write("model", name, file_of(lambda path, w=weights: storage.save(w, path)))
    for dtype in ("bfloat16", "int8"):
        weights = as_dtype(random_weights(NETWORKS["masked"]), dtype)
        write("model", f"masked_{dtype}", file_of(lambda path, w=weights: storage.save(w, path)))
    small = Network((spec.GRU(2, 3, dtype="int8", activations="int8"), spec.Linear(3, 2)))
    xs, ys = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)
    parts = {
        "encoder": replace(random_weights(NETWORKS["min_gru"]), labels=("a", "b", "c")),
        "decoder": as_dtype(
            Weights(small, random_weights(small).tensors, probes=(Probe(xs, ys),)), "int8"
        ),
    }
    write("model", "parts", file_of(lambda path: storage.save_parts(parts, path)))
    for name in (*names, "lstm_options", "functions"):
        write("network", f"{name}.json", json.dumps(every[name].to_json()).encode())


def texts() -> None:
    for name, text in {
        "leaky": "leaky_relu(0.3)", "tanh": "tanh", "clip": "clip(-1.0, 1.0)", "scaled":
        "scaled_tanh(1.7159,0.6667)", "selu": "selu", "hard": "hard_sigmoid(0.1666, 5e-1)",
    }.items():  # fmt: skip
        write("function", name, text.encode())
    for name, text in {
        "tokens": "embed:Embedding lstm:LSTM mean norm:LayerNorm(eps=1e-6) head:Linear softmax",
        "vectors": "conv:Conv1d(padding=causal,stride=1) bn:BatchNorm1d gru:GRU final head:Linear",
        "cells": "cell:LSTMCell out:Linear leaky_relu(0.1) crf:CRF",
    }.items():
        write("description", name, text.encode())
    for name, words in {
        "classify": ["classify", "The film.", "--json"],
        "file": ["tag", "--file", "FILE.txt"],
        "score": ["score", "Good morning.", "--model", "words"],
        "generate": ["generate", "The", "--max-tokens", "5", "--seed", "1", "--temperature", "0.5"],
        "info": ["info", "FILE.safetensors"],
        "verify": ["verify", "FILE.safetensors"],
        "convert": ["convert", "FILE.h5", "NONE.txt", "--config", "FILE.json"],
        "horizon": ["horizon", "FILE.safetensors", "--file", "FILE.npy", "--max-distance", "5"],
        "trace": ["trace", "sentiment", "Not bad.", "--layer", "layers.0", "--json"],
        "transcribe": ["transcribe", "FILE.wav", "--times"],
        "raw": ["transcribe", "-", "--rate", "8000", "--channels", "1", "--format", "s16"],
        "vad": ["vad", "FILE.wav", "--json", "--min-silence-duration", "0.2"],
        "list": ["list"],
    }.items():
        write("command", f"{name}.json", json.dumps({"words": words, "file": ""}).encode())


def tokenizers() -> None:
    write("tokenizer", "words.json", json.dumps(TOKENIZER).encode())
    letters = {c: n for n, c in enumerate("thefilmas ")}
    bpe = TOKENIZER | {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\s*\\S+|\\s+"}, "behavior": "Isolated",
             "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False,
             "trim_offsets": True}]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "vocab": {**letters, "th": 20, "the": 21, "fi": 22},
                  "merges": [["t", "h"], ["th", "e"], ["f", "i"]], "unk_token": None,
                  "dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False},
    }  # fmt: skip
    write("tokenizer", "bpe.json", json.dumps(bpe).encode())
    pieces = TOKENIZER | {
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "the": 1, "##m": 2, "fil": 3},
                  "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100},
        "added_tokens": [{"id": 5, "content": "<s>", "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}],
    }  # fmt: skip
    write("tokenizer", "pieces.json", json.dumps(pieces).encode())
    unigram = TOKENIZER | {
        "pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always",
                          "split": True},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": False,
                  "vocab": [["<unk>", 0.0], ["_the", -1.0], ["_film", -2.0], ["m", -3.0]]},
    }  # fmt: skip
    write("tokenizer", "unigram.json", json.dumps(unigram).encode())


def images() -> None:
    image = Image("x86-64-v3", "znver4", "0" * 64, {"": 0, "win64": 32}, {"PyErr_Occurred": 40},
                  bytes(range(64)))  # fmt: skip
    write("image", "small", image.to_bytes())


def sounds() -> None:
    import soundfile

    generator = np.random.default_rng(0)
    samples = generator.uniform(-0.5, 0.5, 600).astype(np.float32)
    for name, kind, subtype in (
        ("wav", "WAV", "PCM_16"), ("float", "WAV", "FLOAT"), ("flac", "FLAC", "PCM_16"),
        ("ogg", "OGG", "VORBIS"), ("mp3", "MP3", "MPEG_LAYER_III"), ("aiff", "AIFF", "PCM_16"),
        ("ulaw", "WAV", "ULAW"), ("gsm", "WAV", "GSM610"), ("w64", "W64", "PCM_24"),
    ):  # fmt: skip
        written = io.BytesIO()
        two = np.stack([samples, samples[::-1]], 1) if name in ("wav", "ogg") else samples
        soundfile.write(written, two, 16000 if name != "gsm" else 8000, subtype, format=kind)
        write("sound", name, written.getvalue())
    for name, array in {
        "rows": samples.reshape(-1, 3)[:8], "doubles": np.ones((4, 3)), "turned": np.ones((3, 4)).T,
    }.items():  # fmt: skip
        written = io.BytesIO()
        np.save(written, array)
        write("numbers", name, written.getvalue())


def kerases() -> None:
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, 3), name="x")
    both = layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode="sum")(inputs)
    joined = layers.Concatenate()([both, inputs])
    functional = keras.Model(inputs, layers.Dense(2, "softmax")(joined))
    chain = keras.Sequential([
        keras.Input((None,)), layers.Embedding(7, 3, mask_zero=True), layers.LSTM(4),
        layers.Dense(2, "sigmoid"),
    ])  # fmt: skip
    convolved = keras.Sequential([
        keras.Input((None, 2)), layers.Conv1D(3, 2, padding="causal", activation="relu"),
        layers.BatchNormalization(), layers.SimpleRNN(3, return_sequences=True),
        layers.TimeDistributed(layers.Dense(2)), layers.GlobalMaxPooling1D(),
    ])  # fmt: skip
    for name, model in {"both": functional, "chain": chain, "convolved": convolved}.items():
        write("keras", f"{name}.keras", file_of(model.save, ".keras"))
        if name == "chain":
            write("h5", "chain.h5", file_of(model.save, ".h5"))
            write("h5", "chain_weights.h5", file_of(model.save_weights, ".weights.h5"))
            write("keras_config", "chain.json", model.to_json().encode())
    data = HERE.parents[1] / "data" / "keras2_time_major.json"
    shutil.copy(data, HERE / "keras_config" / data.name)


def onnxes() -> None:
    import onnx
    import onnx.external_data_helper
    import torch
    from onnx import TensorProto, helper, numpy_helper
    from torch import nn

    torch.manual_seed(0)
    float32 = TensorProto.FLOAT
    generator = np.random.default_rng(0)

    def made(name: str, nodes: Any, inputs: Any, outputs: Any, **tensors: Any) -> Any:
        values = [
            numpy_helper.from_array(
                generator.normal(0, 0.5, t).astype(np.float32) if isinstance(t, tuple) else t, n
            )
            for n, t in tensors.items()
        ]
        graph = helper.make_graph(
            nodes, name,
            [helper.make_tensor_value_info(n, k, s) for n, k, s in inputs],
            [helper.make_tensor_value_info(n, k, s) for n, k, s in outputs], values,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        write("onnx", f"{name}.onnx", model.SerializeToString())
        return model

    node = helper.make_node
    rows = ("x", float32, ["T", 1, 3])
    made("lstm", [node("LSTM", ["x", "w", "r", "b"], ["y", "h"], hidden_size=4),
                  node("Squeeze", ["y", "one"], ["s"]), node("MatMul", ["s", "m"], ["z"])],
         [rows], [("z", float32, ["T", 1, 2])],
         w=(1, 16, 3), r=(1, 16, 4), b=(1, 32), one=np.array([1]), m=(4, 2))  # fmt: skip
    made("gru_both", [node("GRU", ["x", "w", "r", "b"], ["y"], hidden_size=2, linear_before_reset=1,
                           direction="bidirectional"),
                      node("Transpose", ["y"], ["t"], perm=[0, 2, 1, 3]),
                      node("Reshape", ["t", "shape"], ["z"])],
         [rows], [("z", float32, ["T", 1, 4])],
         w=(2, 6, 3), r=(2, 6, 2), b=(2, 12), shape=np.array([0, 0, -1]))  # fmt: skip
    made("step", [node("Gather", ["e", "i"], ["g"]), node("Add", ["g", "h0"], ["a"]),
                  node("Tanh", ["a"], ["h1"]), node("Gemm", ["h1", "m", "c"], ["y"])],
         [("i", TensorProto.INT64, [1]), ("h0", float32, [1, 4])],
         [("y", float32, [1, 3]), ("h1", float32, [1, 4])], e=(5, 4), m=(4, 3), c=(3,))  # fmt: skip
    made("elements", [node("Conv", ["x", "k"], ["c"], kernel_shape=[2], pads=[1, 0]),
                      node("Relu", ["c"], ["r"]), node("Transpose", ["r"], ["t"], perm=[2, 0, 1]),
                      node("RNN", ["t", "w", "rr"], ["y", "h"], hidden_size=2),
                      node("Squeeze", ["y", "one"], ["s"]), node("Softmax", ["s"], ["z"], axis=2)],
         [("x", float32, [1, 3, "T"])], [("z", float32, ["T", 1, 2])],
         k=(2, 3, 2), w=(1, 2, 2), rr=(1, 2, 2), one=np.array([1]))  # fmt: skip
    external = made("external", [node("MatMul", ["x", "m"], ["a"]), node("Add", ["a", "c"], ["z"])],
                    [rows], [("z", float32, ["T", 1, 5])], m=(3, 5), c=(5,))  # fmt: skip
    for tensor, at in zip(external.graph.initializer, (0, 60), strict=True):
        size = len(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, "data.bin", at, size)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    write("onnx", "external.onnx", external.SerializeToString())
    exported = io.BytesIO()
    lstm = nn.LSTM(2, 3)
    torch.onnx.export(lstm, (torch.zeros(5, 1, 2),), exported, dynamo=False, opset_version=17,
                      input_names=["x"], dynamic_axes={"x": {0: "T"}})  # fmt: skip
    write("onnx", "torch.onnx", exported.getvalue())


def torches() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)

    def state(**modules: Any) -> dict[str, Any]:
        return {
            f"{name}.{key}": value.detach().clone()
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }

    tokens = state(embed=nn.Embedding(7, 3), lstm=nn.LSTM(3, 4, bidirectional=True),
                   norm=nn.LayerNorm(8), head=nn.Linear(8, 2))  # fmt: skip
    vectors = state(conv=nn.Conv1d(2, 3, 2), bn=nn.BatchNorm1d(3), gru=nn.GRU(3, 4, 2),
                    head=nn.Linear(4, 2))  # fmt: skip
    cells = state(cell=nn.LSTMCell(3, 4), out=nn.Linear(4, 3)) | {
        "crf.start_transitions": torch.zeros(3), "crf.end_transitions": torch.ones(3),
        "crf.transitions": torch.eye(3),
    }  # fmt: skip
    net = nn.ModuleDict({"embed": nn.Embedding(7, 3), "lstm": nn.LSTM(3, 4, bidirectional=True),
                         "norm": nn.LayerNorm(8), "head": nn.Linear(8, 2)})  # fmt: skip
    normed = nn.ModuleDict({"cell": nn.LSTMCell(3, 4), "out": nn.Linear(4, 3)})
    nn.utils.parametrizations.weight_norm(normed["cell"], "weight_hh")
    nn.utils.parametrizations.spectral_norm(normed["out"])
    with warnings.catch_warnings(action="ignore"):
        packed = torch.ao.quantization.quantize_dynamic(net, {nn.LSTM, nn.Linear}).state_dict()
        program = torch.jit.script(net["head"])
    write("torch", "program.pt", file_of(lambda path: program.save(str(path))))
    state_dicts = {"normed": normed.state_dict(), "packed": packed, "module": net}
    for name, data in state_dicts.items():
        write("torch", f"{name}.pt", file_of(lambda path, d=data: torch.save(d, path)))
    for name, data in {"tokens": tokens, "vectors": vectors, "cells": cells,
                       "checkpoint": {"epoch": 3, "state": tokens}}.items():  # fmt: skip
        write("torch", f"{name}.pt", file_of(lambda path, d=data: torch.save(d, path)))


def main() -> None:
    for make in (models, texts, tokenizers, images, sounds, kerases, onnxes, torches):
        make()
    for folder in sorted(path for path in HERE.iterdir() if path.is_dir()):
        sizes = [path.stat().st_size for path in folder.iterdir()]
        print(f"{folder.name}: {len(sizes)} files, {sum(sizes):,} bytes")


if __name__ == "__main__":
    main()
