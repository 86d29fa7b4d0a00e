"""Small files that would take the machine: what each says, and a process that dares to load them.

python -m tests.bombs [NAME ...]    in 4 GB of memory; a line of JSON for each
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import numlstm
from numlstm import storage

MEMORY = 4 * 2**30  # bytes that a process may take
SECONDS = 20  # of CPU, for a file; it takes a hundredth of that on a machine that does nothing else

Tensors = Mapping[str, np.ndarray]


def layer(kind: str, **options: Any) -> dict[str, Any]:
    return {"layer": kind, **options}


def tanh(size: int = 1, **options: Any) -> dict[str, Any]:
    return layer("Activation", input_size=size, function="tanh", **options)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def file_of(network: Any, tensors: Tensors | None = None, **fields: str) -> bytes:
    """Return a file with a valid checksum, whatever it says."""
    text = network if isinstance(network, str) else json.dumps(network)
    metadata = {"format": "numlstm", "version": "1", "network": text, "labels": "[]", "origin": ""}
    metadata |= fields
    metadata["sha256"] = storage._digest(metadata, tensors or {})
    return storage._to_bytes(tensors or {}, metadata)


def raw(header: str, data: bytes = b"") -> bytes:
    """Return a file with any header."""
    return len(header).to_bytes(8, "little") + header.encode() + data


def header_of(header: Any, data: bytes = b"") -> bytes:
    return raw(json.dumps(header), data)


PLACE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def with_place(shape: list[Any], offsets: list[int]) -> bytes:
    """Return a file of one tensor that says so of itself, and 4 bytes."""
    metadata = {"format": "numlstm", "version": "1"}
    place = PLACE | {"shape": shape, "data_offsets": offsets}
    return header_of({"__metadata__": metadata, "t": place}, bytes(4 if offsets[1] else 0))


def parts_of(names: list[str], fields: dict[str, str], tensors: Tensors) -> bytes:
    """Return a file of several networks."""
    metadata = {"format": "numlstm", "version": "3", "parts": json.dumps(names)} | fields
    metadata["sha256"] = storage._digest(metadata, tensors)
    return storage._to_bytes(tensors, metadata)


def conv(size: int, **options: Any) -> dict[str, Any]:
    sizes = {"input_size": size, "output_size": size, "kernel_size": 2, "bias": False}
    return layer("Conv1d", **sizes | options)


def wide(size: int, output_size: int) -> dict[str, Any]:
    return layer("Linear", input_size=size, output_size=output_size, bias=False)


def repeat(num_steps: int, size: int = 1) -> dict[str, Any]:
    return layer("Repeat", input_size=size, num_steps=num_steps)


REVERSE = layer("Reverse", input_size=1)
ONE_HOT = layer("OneHot", vocab_size=2**20, output_size=1)
ONE_UNIT = layer("RNN", input_size=1, hidden_size=1, bias=False)
CRF = layer("CRF", input_size=1)
PATHS = {
    "layers.1.start_transitions": ones(1),
    "layers.1.end_transitions": ones(1),
    "layers.1.transitions": ones(1, 1),
}


def with_tokenizer(**parts: Any) -> bytes:
    model = {"type": "WordLevel", "vocab": {"a": 0, "<unk>": 2}, "unk_token": "<unk>"}
    text = {"version": "1.0", "added_tokens": [], "model": model} | parts
    embedding = [layer("Embedding", vocab_size=3, embedding_size=1)]
    fields = {"tokenizer.json": json.dumps(text)}
    return file_of(embedding, {"embedding.weight": ones(3, 1)}, **fields)


def split(pattern: str) -> dict[str, Any]:
    found = {"type": "Split", "pattern": {"Regex": pattern}}
    return found | {"behavior": "Isolated", "invert": False}


def in_order(*components: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": components, "pretokenizers": components}


def added(content: str, number: int = 2) -> dict[str, Any]:
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": number, "content": content} | dict.fromkeys(flags, False)


TEXT = {"Sequence": {"id": "A", "type_id": 0}}
SPECIAL = {"SpecialToken": {"id": "a", "type_id": 0}}


def template(single: list[dict[str, Any]], num_ids: int = 1) -> dict[str, Any]:
    token = {"id": "a", "ids": [0] * num_ids, "tokens": ["a"] * num_ids}
    parts = {"single": single, "pair": [], "special_tokens": {"a": token}}
    return {"type": "TemplateProcessing"} | parts


TWICE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
PADDED = {
    "strategy": {"Fixed": 2**40}, "direction": "Right", "pad_to_multiple_of": None,
    "pad_id": 0, "pad_type_id": 0, "pad_token": "a",
}  # fmt: skip
TOKENIZERS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "a table that claims 8 GB": (
        lambda: with_tokenizer(
            normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="}
        ),
        "claims 4,294,967,299 bytes of 4",
    ),
    "a slow pattern": (lambda: with_tokenizer(pre_tokenizer=split("(a|aa)+$")), "may be slow"),
    "one letter becomes 2^40": (
        lambda: with_tokenizer(normalizer=in_order(*[TWICE] * 40)),
        "characters of one",
    ),
    "one byte becomes 2^40": (
        lambda: with_tokenizer(normalizer=in_order(*[{"type": "ByteLevel"}] * 40)),
        "characters of one",
    ),
    "padded to 2^40": (lambda: with_tokenizer(padding=PADDED), "it pads to"),
    "a template of 2^30 tokens": (
        lambda: with_tokenizer(post_processor=template([SPECIAL] * 2**15, num_ids=2**15)),
        "tokens of one",
    ),
    "a text 2^40 times": (
        lambda: with_tokenizer(
            post_processor={"type": "Sequence", "processors": [template([TEXT] * 2)] * 40}
        ),
        "tokens of one",
    ),
    "normalizers 100 deep": (
        lambda: with_tokenizer(
            normalizer=json.loads('{"type":"Sequence","normalizers":[' * 100 + "]}" * 100)
        ),
        "the tokenizer cannot be read",
    ),
    "normalizers 100,000 deep": (
        lambda: file_of(
            [layer("Embedding", vocab_size=3, embedding_size=1)],
            {"embedding.weight": ones(3, 1)},
            **{"tokenizer.json": '{"normalizer":' * 10**5 + "1" + "}" * 10**5},
        ),
        "the tokenizer cannot be read",
    ),
    "a word of four million letters": (
        lambda: with_tokenizer(added_tokens=[added("a" * 4 * 10**6)]),
        None,
    ),
    "30,000 added words": (
        lambda: with_tokenizer(added_tokens=[added(f"t{n}", 3 + n) for n in range(30000)]),
        "the tokenizer gives ids up to",
    ),
    "a vocabulary of 300,000": (
        lambda: with_tokenizer(
            model={
                "type": "WordLevel",
                "vocab": {f"w{n}": n for n in range(300000)},
                "unk_token": "w0",
            }
        ),
        "the tokenizer gives ids up to",
    ),
    "a piece of a million letters": (
        lambda: with_tokenizer(
            model={"type": "Unigram", "unk_id": 0, "vocab": [["u", 0.0], ["a" * 10**6, -1.0]]}
        ),
        "a piece has 1,000,000 letters",
    ),
    "an id of 2^32": (
        lambda: with_tokenizer(
            model={"type": "WordLevel", "vocab": {"a": 2**32 - 1}, "unk_token": "a"}
        ),
        "the tokenizer gives ids up to",
    ),
}

# By what is too much: the file, or a part of what its refusal says; None if it loads and runs.
BOMBS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "5,000 layers": (lambda: file_of([tanh()] * 5000), None),
    "5,000 layers with names": (
        lambda: file_of([tanh(name=f"n{n}") for n in range(5000)]),
        None,
    ),
    "3,000 layers, every second a Reverse": (lambda: file_of([tanh(), REVERSE] * 1500), None),
    "1,500 layers, then as many Reverses": (
        lambda: file_of([tanh()] * 1500 + [REVERSE] * 1500),
        None,
    ),
    "5,000 layers that read a memory": (
        lambda: file_of([layer("Attention", input_size=1, memory_size=1)] * 5000),
        None,
    ),
    "100,000 layers": (lambda: file_of([tanh()] * 10**5), "its plan takes"),
    "a join of a million inputs": (
        lambda: file_of([tanh(name="a"), layer("Concat", input_size=10**6, inputs=["a"] * 10**6)]),
        "its plan takes",
    ),
    "1,000 additions of 1,000 inputs": (
        lambda: file_of(
            [tanh(name="a")] + [layer("Add", input_size=1, inputs=["a"] * 1000)] * 1000
        ),
        "its plan takes",
    ),
    "a million wrong layers": (lambda: file_of("[" + "{}," * 10**6 + "{}]"), "and 999,901 more"),
    "300 parts of 300 tensors": (
        lambda: parts_of(
            [f"p{n}" for n in range(300)],
            {f"p{n}/network": json.dumps([tanh()]) for n in range(300)},
            {f"p{n}/t{m}": ones(0) for n in range(300) for m in range(100)},
        ),
        "not in the spec",
    ),
    "100,000 parts of one name": (
        lambda: parts_of(["a"] * 10**5, {"a/network": json.dumps([tanh()])}, {}),
        "parts are named",
    ),
    "10,000 parts": (
        lambda: parts_of(
            [f"p{n}" for n in range(10**4)],
            {f"p{n}/network": json.dumps([tanh()]) for n in range(10**4)},
            {},
        ),
        "takes",
    ),
    "100 parts with a table each": (
        lambda: parts_of(
            [f"p{n}" for n in range(100)],
            {f"p{n}/network": json.dumps([ONE_HOT, ONE_UNIT]) for n in range(100)},
            {f"p{n}/layers.0.weight_{g}h": ones(1, 1) for n in range(100) for g in "ih"},
        ),
        "the table of what is made of each token takes",
    ),
    "10,000 parts that are not there": (
        lambda: parts_of([f"p{n}" for n in range(10**4)], {}, {}),
        "is not a list of layers",
    ),
    "an activation of 2^26": (lambda: file_of([tanh(2**26)]), "takes"),
    "10,000 activations of 6,000": (lambda: file_of([tanh(6000)] * 10**4), "takes"),
    "an input of 2^31": (
        lambda: file_of([layer("Slice", input_size=2**31 - 1, start=0, stop=1)]),
        "takes",
    ),
    "normed without a weight": (
        lambda: file_of([layer("LayerNorm", input_size=2**26, weight=False, bias=False)]),
        "takes",
    ),
    "a softmax of 2^25": (lambda: file_of([layer("Softmax", input_size=2**25)]), "takes"),
    "a masked input of 2^25": (lambda: file_of([layer("Masking", input_size=2**25)]), "takes"),
    "a feedback of 2^24": (
        lambda: file_of(
            [
                tanh(1),
                layer("Feedback", output_size=2**24, source="a"),
                tanh(2**24, name="a"),
                layer("Slice", input_size=2**24, start=0, stop=1),
            ]
        ),
        "takes",
    ),
    "a pooling of 2^25": (lambda: file_of([layer("Pooling", input_size=2**25)]), "takes"),
    "a memory of 2^26": (
        lambda: file_of([layer("Attention", input_size=2**26, memory_size=2**26)]),
        "takes",
    ),
    "a copy of 2^24 tokens": (
        lambda: file_of([tanh(2**24 + 2), layer("Copy", vocab_size=2**24, memory_size=1)]),
        "takes",
    ),
    "joins that double": (
        lambda: file_of(
            [tanh(name="0")]
            + [
                layer("Concat", input_size=2**n, name=str(n), inputs=[str(n - 1)] * 2)
                for n in range(1, 26)
            ]
        ),
        "takes",
    ),
    "a join of 1,000 inputs of 65,536": (
        lambda: file_of(
            [
                tanh(65536, name="a"),
                layer("Concat", input_size=65536000, inputs=["a"] * 1000),
                layer("Slice", input_size=65536000, start=0, stop=1),
            ]
        ),
        "takes",
    ),
    "2^31 tokens, one-hot": (
        lambda: file_of(
            [ONE_HOT | {"vocab_size": 2**31 - 1}, ONE_UNIT],
            {"layers.0.weight_ih": ones(1, 1), "layers.0.weight_hh": ones(1, 1)},
        ),
        None,
    ),
    "a convolution of 32,768 groups": (
        lambda: file_of(
            [conv(32768, groups=32768, kernel_size=1)], {"layers.0.weight": ones(32768, 1, 1)}
        ),
        "with zeros between its groups takes",
    ),
    "a convolution of 64 groups and 10,000 taps": (
        lambda: file_of(
            [conv(64, groups=64, kernel_size=10**4)], {"layers.0.weight": ones(64, 1, 10**4)}
        ),
        None,
    ),
    "two taps 2^26 apart": (
        lambda: file_of([conv(1, dilation=2**26)], {"layers.0.weight": ones(1, 1, 2)}),
        "the state of a stream takes",
    ),
    "100 convolutions that keep 2^18 numbers": (
        lambda: file_of(
            [conv(1, dilation=2**18)] * 100,
            {f"layers.{n}.weight": ones(1, 1, 2) for n in range(100)},
        ),
        "takes",
    ),
    "convolutions that read ahead, padded": (
        lambda: file_of(
            [conv(1, dilation=2**15, padding=[0, 2**15])] * 5
            + [wide(1, 512), *[wide(512, 512)] * 4],
            {f"layers.{n}.weight": ones(1, 1, 2) for n in range(5)}
            | {"layers.5.weight": ones(512, 1)}
            | {f"layers.{n}.weight": ones(512, 512) for n in range(6, 10)},
        ),
        None,
    ),
    "repeated 2^26 times": (lambda: file_of([repeat(2**26), tanh()]), "a run of one row takes"),
    "1,000 numbers, repeated 2^31 times": (
        lambda: file_of([repeat(2**31 - 1, 1000), tanh(1000)]),
        "a run of one row takes",
    ),
    "repeated again and again": (
        lambda: file_of([repeat(2**20), tanh()] * 100),
        "a run of one row takes",
    ),
    "repeated rows that attend to each other": (
        lambda: file_of(
            [
                repeat(10**5) | {"name": "a"},
                layer("Attention", input_size=1, memory_size=1, memory="a"),
            ]
        ),
        "a run of one row takes",
    ),
    "10,000 probes of a long repetition": (
        lambda: file_of(
            [repeat(2**16), tanh(), layer("Pooling", input_size=1)],
            {f"probes.{n}.{name}": ones(1, 1) for n in range(10**4) for name in ("xs", "ys")},
        ),
        "verifying its probes takes",
    ),
    "a probe of a million steps": (
        lambda: file_of(
            [wide(1, 500), wide(500, 500), wide(500, 1)],
            {
                "layers.0.weight": ones(500, 1),
                "layers.1.weight": ones(500, 500),
                "layers.2.weight": ones(1, 500),
                "probes.0.xs": ones(10**6, 1),
                "probes.0.ys": ones(10**6, 1),
            },
        ),
        "verifying its probes takes",
    ),
    # What is just let pass.
    "an activation of 1,500,000": (lambda: file_of([tanh(1500000)]), None),
    "repeated six million times": (lambda: file_of([repeat(6 * 10**6), tanh()]), None),
    "8,000 rows that attend to each other": (
        lambda: file_of(
            [
                repeat(8000) | {"name": "a"},
                layer("Attention", input_size=1, memory_size=1, memory="a"),
            ]
        ),
        None,
    ),
    "the best path of 100,000 rows": (lambda: file_of([repeat(10**5), CRF], PATHS), None),
    "the best path of a million rows": (
        lambda: file_of([repeat(10**6), CRF], PATHS),
        "a run of one row takes",
    ),
    "1,000 masked recurrent layers": (
        lambda: file_of(
            [layer("Masking", input_size=1), *[ONE_UNIT] * 1000],
            {f"layers.{n}.weight_{g}h": ones(1, 1) for n in range(1, 1001) for g in "ih"},
        ),
        None,
    ),
    "3,000 embeddings of nothing but padding": (
        lambda: parts_of(
            [f"p{n}" for n in range(3)],
            {
                f"p{n}/network": json.dumps(
                    [layer("Embedding", vocab_size=400000, embedding_size=1)]
                )
                for n in range(3)
            },
            {f"p{n}/embedding.weight": ones(400000, 1) for n in range(3)},
        ),
        None,
    ),
    # What is no network.
    **{
        f"a size of {size}": (
            lambda size=size: file_of(f'[{{"layer":"Activation","input_size":{size}}}]'),
            "the spec cannot be read",
        )
        for size in ("-1", "0", "1.0", "1e3", "true", "null", '"1"', "[1]", "NaN", "-Infinity")
    },
    "a size of 4,000 digits": (
        lambda: file_of('[{"layer":"Activation","input_size":' + "9" * 4000 + "}]"),
        "the spec cannot be read",
    ),
    "a size of five million digits": (
        lambda: file_of('[{"layer":"Activation","input_size":' + "9" * 5 * 10**6 + "}]"),
        "Exceeds the limit",
    ),
    "a size that is there twice": (
        lambda: file_of('[{"layer":"Softmax","input_size":1,"input_size":2}]'),
        "a name is there twice",
    ),
    "lists 100,000 deep": (lambda: file_of("[" * 10**5 + "]" * 10**5), "nested too deeply"),
    "a name of five million letters": (
        lambda: file_of([tanh(name="\N{SNOWMAN}" * 10**6), tanh(inputs=["a" * 10**6])]),
        "no layer before it is named",
    ),
    "a function of a million brackets": (
        lambda: file_of([tanh() | {"function": "tanh" + "(" * 10**6}]),
        "is not known",
    ),
    "a function of a million numbers": (
        lambda: file_of([tanh() | {"function": "clip(" + "1," * 10**6 + "1)"}]),
        "finite numbers",
    ),
    "a million labels": (
        lambda: file_of([tanh()], labels=json.dumps(["a"] * 10**6)),
        "1000000 labels for an output of 1",
    ),
    "labels 100,000 deep": (
        lambda: file_of([tanh()], labels="[" * 10**5 + "]" * 10**5),
        "nested too deeply",
    ),
    "another version": (lambda: file_of([tanh()], version="9" * 10**6), "upgrade numlstm"),
    "20,000 tensors of nothing": (
        lambda: file_of([tanh()], {f"t{n}": ones(0) for n in range(20000)}),
        "and 19,900 more",
    ),
    "10,000 probes": (
        lambda: file_of(
            [tanh()] * 1000,
            {f"probes.{n}.{name}": ones(1, 1) for n in range(10**4) for name in ("xs", "ys")},
        ),
        None,
    ),
    "a header of 99 MB of spaces": (
        lambda: (99 * 10**6).to_bytes(8, "little") + b"{}" + b" " * (99 * 10**6 - 2),
        "not a numlstm model",
    ),
    "a header of 200,000 names": (
        lambda: header_of({f"t{n}": {} for n in range(200000)}),
        "not a numlstm model",
    ),
    "a header 100,000 deep": (lambda: raw('{"a":' * 10**5 + "1" + "}" * 10**5), "too deeply"),
    "a header that is longer than the file": (
        lambda: (2**63).to_bytes(8, "little") + b"{}",
        "a header of 9223372036854775808 bytes",
    ),
    "a tensor of 2^62 numbers": (lambda: with_place([2**62], [0, 2**64]), "not a complete"),
    "a tensor of 2^62 nothings": (
        lambda: with_place([0, 2**62], [0, 0]),
        "beyond those of an array",
    ),
    "a tensor with 33 axes": (lambda: with_place([1] * 33, [0, 4]), "at most 32 sizes"),
    "a tensor of a negative size": (lambda: with_place([-1, -1], [0, 4]), "not whole numbers"),
    "a tensor of NaN numbers": (
        lambda: with_place([float("nan")], [0, 4]),
        "not whole numbers",
    ),
    "tensors that share their numbers": (
        lambda: header_of(
            {
                "__metadata__": {"format": "numlstm", "version": "1"},
                **{f"t{n}": PLACE for n in range(10**4)},
            },
            bytes(4),
        ),
        "begins at 0, expected 4",
    ),
    **TOKENIZERS,
}


def dare(path: Path) -> str | None:
    """Load a file and run each of its networks; return what it was refused with, or None."""
    try:
        for model in numlstm.load_parts(path).values():
            if model.tokenizer is not None:
                model.load_tokenizer().encode("a" * 45 + "b " + "a" * 500)
            reads = None
            if model.network.memory_size is not None:
                reads = np.zeros((2, model.network.memory_size), np.float32)
            xs = np.zeros(2 if model.vocab_size else (2, model.input_size), np.int32)
            model.run(xs, memory=reads)
            model.verify()
            if model.network.is_causal:
                model.stream(memory=reads).step(xs[0])
    except ValueError as error:
        return str(error)
    return None


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        for name in sys.argv[1:] or BOMBS:
            path.write_bytes(BOMBS[name][0]())
            print(json.dumps({"name": name, "size": path.stat().st_size}), flush=True)
            start = time.process_time()
            said = dare(path)
            seconds = time.process_time() - start
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({"said": said, "seconds": seconds, "memory": memory}), flush=True)


if __name__ == "__main__":
    main()
