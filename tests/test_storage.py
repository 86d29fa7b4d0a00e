"""Model files: what was saved is loaded, and what was damaged is refused."""

import json
import re
import struct
import threading
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import numlstm
from numlstm import WeightsError, spec, storage
from numlstm.container import Container
from numlstm.convert.probes import make_probes, reference_run
from numlstm.quantize import as_dtype, bfloat16_bits, num_bytes
from numlstm.spec import DTYPES, Network, Probe, Weights
from tests.cases import (
    DECODERS,
    NETWORKS,
    NOT_CAUSAL,
    assert_same_bits,
    random_input,
    random_weights,
    with_tensor,
)
from tests.conftest import output_of
from tests.lazy import Lazy, torch
from tests.strategies import networks


def full_weights() -> Weights:
    """Return weights with everything a file can hold."""
    network = Network((spec.Embedding(3, 2), spec.RNN(2, 2)))
    xs, ys = np.array([0, 2, 1], np.int32), np.ones((3, 2), np.float32)
    return replace(
        random_weights(network),
        labels=("no", "ja \N{SNOWMAN}"),
        tokenizer='{"version": "1.0"}',
        probes=(Probe(xs, ys), Probe(xs[:1], 2 * ys[:1])),
        origin="torch 2.13.0",
        inputs=(("ids", 1),),
        outputs=(("a", 1), ("b", 1)),
    )


def weights_in(dtype: str) -> Weights:
    return as_dtype(full_weights(), dtype)


def assert_same(found: Weights, expected: Weights) -> None:
    assert found.network == expected.network
    assert list(found.network.to_json()) == list(expected.network.to_json())
    assert set(found.tensors) == set(expected.tensors)
    for name, tensor in expected.tensors.items():
        assert_same_bits(found.tensors[name], tensor, name)
    assert len(found.probes) == len(expected.probes)
    for probe, other in zip(found.probes, expected.probes, strict=True):
        assert vars(probe).keys() == vars(other).keys()
        for name, array in vars(other).items():
            if array is None:
                assert getattr(probe, name) is None
            else:
                assert_same_bits(getattr(probe, name), array, name)
    known = {"network", "tensors", "probes"}
    for field in fields(Weights):
        if field.name not in known:
            assert getattr(found, field.name) == getattr(expected, field.name), field.name


# Save, then load ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_model_gives_the_same_bits(name, tmp_path):
    model = numlstm.Model(random_weights(NETWORKS[name]))
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = numlstm.load(path)
    xs = random_input(model.network, 50)
    assert_same_bits(loaded.run(xs), model.run(xs))
    assert_same_bits(numlstm.load(str(path)).run(xs), model.run(xs))
    assert loaded.network == model.network


def test_everything_in_a_file_comes_back(tmp_path):
    path = tmp_path / "model.safetensors"
    storage.save(full_weights(), path)
    assert_same(storage.load(path), full_weights())
    model = numlstm.load(path)
    assert model.labels == ("no", "ja \N{SNOWMAN}")
    assert (model.inputs, model.outputs) == ((("ids", 1),), (("a", 1), ("b", 1)))
    assert model.tokenizer == '{"version": "1.0"}'


@given(
    network=networks(),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(DTYPES),
    data=st.data(),
)
def test_save_then_load_is_the_identity(network, seed, dtype, data, tmp_path_factory):
    labels = data.draw(
        st.just([])
        | st.lists(st.text(), min_size=network.output_size, max_size=network.output_size)
    )
    weights = replace(
        random_weights(network, seed, scale=data.draw(st.sampled_from([1e-45, 1, 1e38]))),
        labels=tuple(labels),
        tokenizer=data.draw(st.none() | st.text()),
        origin=data.draw(st.text()),
    )
    weights = as_dtype(weights, dtype)
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    storage.save(weights, path)
    loaded = storage.load(path)
    assert_same(loaded, weights)
    assert loaded.fingerprint == weights.fingerprint


@pytest.mark.parametrize("name", [*NOT_CAUSAL, *DECODERS])
def test_other_networks_come_back(name, tmp_path):
    """Those with names and inputs, directions, a memory, feedback."""
    weights = random_weights((NOT_CAUSAL | DECODERS)[name])
    storage.save(weights, tmp_path / "model")
    assert_same(storage.load(tmp_path / "model"), weights)


@pytest.mark.parametrize("name", DECODERS)
def test_probes_of_decoders_have_their_memory(name, tmp_path):
    weights = random_weights(DECODERS[name])
    run = reference_run(weights.network, weights.tensors)
    weights = replace(weights, probes=make_probes(weights.network, weights.tensors, run))
    storage.save(weights, tmp_path / "model")
    loaded = storage.load(tmp_path / "model")
    assert_same(loaded, weights)
    assert numlstm.Model(loaded).verify().ok
    other = replace(weights.probes[0], memory=weights.probes[1].memory)
    assert not numlstm.Model(replace(weights, probes=(other,))).verify().ok


@pytest.mark.parametrize("num_rows", [0, 1, 4])
def test_a_probe_of_other_rows_than_the_network_gives_is_not_verified(num_rows, tmp_path):
    """How many a network that is not causal gives, only running it tells."""
    weights = random_weights(NOT_CAUSAL["conv_stride"])
    xs, ys = random_input(weights.network, 12), np.zeros((num_rows, 4 * 2), np.float32)
    storage.save(replace(weights, probes=(Probe(xs, ys),)), tmp_path / "model")
    model = numlstm.load(tmp_path / "model")
    found = model.verify()
    assert not found.ok
    assert found.largest_difference == np.inf
    assert "1 probes" in model.info()


def test_the_plain_library_opens_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    storage.save(full_weights(), path)
    tensors = safetensors.numpy.load_file(path)
    assert set(tensors) == {
        "embedding.weight", "layers.0.weight_ih", "layers.0.weight_hh", "layers.0.bias_ih",
        "layers.0.bias_hh", "probes.0.xs", "probes.0.ys", "probes.1.xs", "probes.1.ys",
    }  # fmt: skip
    assert_same_bits(tensors["embedding.weight"], full_weights().tensors["embedding.weight"])
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert metadata["format"] == "numlstm"
    assert metadata["version"] == "1"
    assert json.loads(metadata["labels"]) == ["no", "ja \N{SNOWMAN}"]
    assert Network.from_json(json.loads(metadata["network"])) == full_weights().network


def test_tensors_of_any_layout_are_saved(tmp_path):
    weights = full_weights()
    turned = {name: np.asfortranarray(tensor) for name, tensor in weights.tensors.items()}
    storage.save(replace(weights, tensors=turned), tmp_path / "model")
    assert_same(storage.load(tmp_path / "model"), weights)


# A failing save -----------------------------------------------------------------------------------


def test_a_save_into_no_folder_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        storage.save(full_weights(), tmp_path / "none" / "model.safetensors")
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        storage.save(full_weights(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["write", "replace"])
def test_a_failing_save_leaves_the_old_file(tmp_path, monkeypatch, where):
    path = tmp_path / "model.safetensors"
    storage.save(full_weights(), path)
    before = path.read_bytes()

    def fail(to, *arguments):
        if where == "write":
            to.write(b"the beginning")
        raise OSError("no space left on device")

    monkeypatch.setattr(*((storage, "write") if where == "write" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="no space left"):
        storage.save(replace(full_weights(), labels=()), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_threads_may_save_to_one_path(tmp_path):
    path = tmp_path / "model.safetensors"
    weights = random_weights(Network((spec.Linear(256, 256),)))
    errors: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(20):
                storage.save(weights, path)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert_same(storage.load(path), weights)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("dtype", ["float64", "", 3])
def test_other_dtypes_are_refused(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    model = numlstm.Model(full_weights())
    message = f"dtype is {dtype!r}, expected one of: float32, bfloat16, int8"
    with pytest.raises(ValueError, match=message):
        model.save(path, dtype=dtype)
    assert list(tmp_path.iterdir()) == []
    model.save(path, dtype="float32")
    with pytest.raises(ValueError, match=message):
        numlstm.load(path, dtype=dtype)


# dtypes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tokens", "vectors", "lstm_options", "graph"])
def test_a_dtype_gives_the_same_bits_wherever_it_is_asked_for(name, dtype, tmp_path):
    model = numlstm.Model(random_weights(NETWORKS[name]))
    xs = random_input(model.network, 30)
    model.save(tmp_path / "float32")
    model.save(tmp_path / "low", dtype=dtype)
    expected = model.astype(dtype)
    expected.save(tmp_path / "again")
    for loaded in (
        numlstm.load(tmp_path / "low"),
        numlstm.load(tmp_path / "low", dtype=dtype),
        numlstm.load(tmp_path / "float32", dtype=dtype),
        numlstm.load(tmp_path / "again"),
    ):
        assert loaded.network == expected.network
        assert_same_bits(loaded.run(xs), expected.run(xs))
    in_float32 = numlstm.load(tmp_path / "low", dtype="float32")
    assert_same_bits(in_float32.run(xs), expected.astype("float32").run(xs))


def test_weights_that_are_not_rounded_yet_are_saved_rounded(tmp_path):
    weights = full_weights()
    for dtype in DTYPES:
        low = replace(weights, network=weights.network.with_dtype(dtype))
        storage.save(low, tmp_path / dtype)
        assert_same(storage.load(tmp_path / dtype), as_dtype(weights, dtype))


def test_a_number_too_large_for_bfloat16_is_not_saved(tmp_path):
    weights = full_weights()
    weight = np.full((2, 2), np.finfo(np.float32).max)
    model = numlstm.Model(with_tensor(weights, "layers.0.weight_ih", weight))
    with pytest.raises(WeightsError, match="too large for bfloat16"):
        model.save(tmp_path / "model", dtype="bfloat16")
    assert list(tmp_path.iterdir()) == []
    model.save(tmp_path / "model", dtype="int8")


def header_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    header: dict[str, Any] = json.loads(data[8 : 8 + struct.unpack_from("<Q", data)[0]])
    return header


@pytest.mark.parametrize(("dtype", "stored"), [("float32", "F32"), ("bfloat16", "BF16")])
def test_matrices_are_stored_in_the_dtype(tmp_path, dtype, stored):
    path = tmp_path / "model.safetensors"
    storage.save(weights_in(dtype), path)
    header = header_of(path)
    assert header["__metadata__"]["version"] == ("1" if dtype == "float32" else "2")
    for name, shape in full_weights().network.tensor_shapes().items():
        assert header[name]["dtype"] == (stored if len(shape) > 1 else "F32"), name
        assert header[name]["shape"] == list(shape)


def test_int8_is_stored_with_a_scale_per_row(tmp_path):
    path = tmp_path / "model.safetensors"
    weights = weights_in("int8")
    storage.save(weights, path)
    tensors = safetensors.numpy.load_file(path)
    for name, shape in weights.network.tensor_shapes().items():
        if len(shape) > 1:
            assert tensors[name].dtype == np.int8
            product = tensors[name] * tensors[f"{name}.scale"][:, None]
            assert_same_bits(product, weights.tensors[name], name)
        else:
            assert_same_bits(tensors[name], weights.tensors[name], name)
    assert header_of(path)["__metadata__"]["version"] == "2"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_plain_library_opens_every_dtype_in_torch(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    weights = weights_in(dtype)
    storage.save(weights, path)
    tensors = Lazy("safetensors.torch").load_file(path)
    for name in weights.network.matrix_dtypes():
        tensor = tensors[name]
        assert tensor.dtype == getattr(torch, dtype)
        scale = tensors[f"{name}.scale"][:, None] if dtype == "int8" else 1
        assert_same_bits((tensor.float() * scale).numpy(), weights.tensors[name], name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_is_as_large_as_its_numbers(tmp_path, dtype):
    weights = as_dtype(random_weights(Network((spec.LSTM(64, 256), spec.Linear(256, 9)))), dtype)
    storage.save(weights, tmp_path / "model")
    size = (tmp_path / "model").stat().st_size
    assert 0 < size - num_bytes(weights.network) < 3000


# Damaged files ------------------------------------------------------------------------------------


@pytest.fixture(params=DTYPES)
def file(tmp_path, request) -> Path:
    path = tmp_path / f"{request.param}.safetensors"
    storage.save(weights_in(request.param), path)
    return path


def test_a_truncated_file_is_refused_wherever_it_ends(file):
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=re.escape(str(file))):
            storage.load(file)


def test_a_longer_file_is_refused(file):
    whole = file.read_bytes()
    for end in (b"\0", b"\0" * 64, whole):
        file.write_bytes(whole + end)
        with pytest.raises(WeightsError, match=re.escape(str(file))):
            storage.load(file)


@pytest.mark.parametrize("bit", [0x01, 0x20, 0x80])
def test_every_flipped_byte_is_refused(file, bit):
    whole = file.read_bytes()
    accepted = []
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= bit
        file.write_bytes(damaged)
        try:
            found = storage.load(file)
        except WeightsError:
            continue
        else:
            # Nothing else may be read from it: only padding, which means nothing, may differ.
            assert_same(found, weights_in(file.stem))
            accepted.append(at)
    header_size = struct.unpack_from("<Q", whole)[0] + 8
    assert [at for at in accepted if at >= header_size] == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"{}", b"\0" * 8, b"\xff" * 8, struct.pack("<Q", 2) + b"{}", b"PK\x03\x04" * 20],
    ids=repr,
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        numlstm.load(path)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"format": "numlstm2"}], ids=repr)
def test_a_safetensors_file_of_something_else_is_refused(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"weight": np.zeros((2, 2), np.float32)}, path, metadata)
    with pytest.raises(WeightsError, match="not a numlstm model"):
        numlstm.load(path)


# Crafted files: the checksum is right, the content is not ----------------------------------------


def to_bytes(tensors: dict[str, Any], metadata: dict[str, str]) -> bytes:
    """Return a file as the safetensors library writes it, to which bfloat16 is uint16."""
    data: bytes = safetensors.numpy.save(tensors, metadata)
    size = 8 + struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:size])
    for name, tensor in tensors.items():
        if tensor.dtype == np.uint16:
            header[name]["dtype"] = "BF16"
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[size:]


def read(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the metadata and the tensors of a file, those of bfloat16 as uint16."""
    with Container(path) as file:
        file.check()
        return file.metadata, dict(file)


def craft(
    path: Path,
    changes: dict[str, str | None],
    tensors: dict[str, Any] | None = None,
    dtype: str = "float32",
) -> None:
    """Write the file of `weights_in` with other metadata and tensors, and a valid checksum."""
    storage.save(weights_in(dtype), path)
    metadata, stored = read(path)
    del metadata["sha256"]
    metadata = {name: text for name, text in (metadata | changes).items() if text is not None}
    stored = {name: t for name, t in (stored | (tensors or {})).items() if t is not None}
    metadata["sha256"] = storage._digest(metadata, stored)
    path.write_bytes(to_bytes(stored, metadata))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_crafted_file_without_changes_loads(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    craft(path, {}, dtype=dtype)
    assert_same(storage.load(path), weights_in(dtype))


def _json_of(*layers: dict[str, Any]) -> str:
    return json.dumps(list(layers))


HUGE = 2**31 - 1
EMBEDDING = {"layer": "Embedding", "vocab_size": 3, "embedding_size": 2}

CRAFTED: dict[str, tuple[dict[str, str | None], dict[str, Any], str]] = {
    "version": ({"version": "4"}, {}, "version '4' of the format.*upgrade"),
    "no version": ({"version": None}, {}, "version None of the format"),
    "no network": ({"network": None}, {}, "not a list of layers"),
    "network is no json": ({"network": "[{"}, {}, "model.safetensors"),
    "network is nested deep": ({"network": "[" * 100_000}, {}, "model.safetensors"),
    "network is an endless number": ({"network": "[" + "9" * 5000 + "]"}, {}, "model.safetensors"),
    "unknown layer": ({"network": _json_of({"layer": "Mamba"})}, {}, "'Mamba' is not known"),
    "too few labels": ({"labels": '["a"]'}, {}, "1 labels for an output of 2"),
    "too many labels": ({"labels": '["a", "b", "c"]'}, {}, "3 labels for an output of 2"),
    "labels are numbers": ({"labels": "[1, 2]"}, {}, "labels is not a list of strings"),
    "labels are text": ({"labels": '"ab"'}, {}, "labels is not a list of strings"),
    "labels are no json": ({"labels": "a, b"}, {}, "model.safetensors"),
    "labels are an endless number": ({"labels": "[" + "9" * 5000 + "]"}, {}, "model.safetensors"),
    "columns are text": ({"inputs": '"ab"'}, {}, "inputs 'ab', expected a name and a size"),
    "columns are a number": ({"outputs": "3"}, {}, "outputs 3, expected a name and a size"),
    "columns of no name": ({"outputs": "[[1, 2]]"}, {}, "expected a name and a size"),
    "columns of an endless size": ({"inputs": '[["a", ' + "9" * 5000 + "]]"}, {}, "safetensors"),
    "too many columns": (
        {"outputs": '[["a", 2], ["b", 1]]'}, {}, "outputs has 3 numbers together, expected 2",
    ),
    "columns of one name": (
        {"outputs": '[["a", 1], ["a", 1]]'}, {}, "outputs has 'a' 2 times",
    ),
    "tensor missing": ({}, {"layers.0.bias_ih": None}, "layers.0.bias_ih  missing"),
    "tensor left over": ({}, {"x": np.zeros(2, np.float32)}, "x  not in the spec"),
    "tensor of float64": ({}, {"layers.0.bias_ih": np.zeros(2)}, "layers.0.bias_ih is F64"),
    "tensor with a nan": (
        {}, {"layers.0.bias_ih": np.array([1, np.nan], np.float32)}, "1 of 2 numbers are not",
    ),
    "probe without ys": ({}, {"probes.1.ys": None}, r"probes.1.xs has no ys"),
    "probe without xs": ({}, {"probes.0.xs": None}, "probes.0.ys  not in the spec"),
    "probe with strange ids": ({}, {"probes.0.xs": np.full(3, 3, np.int32)}, "probe 0"),
    **{
        what: (
            {"network": _json_of({"layer": "Linear", "input_size": x, "output_size": y})},
            {},
            "size is|numbers, at most",
        )
        for what, (x, y) in {
            "huge matrix": (HUGE, HUGE),
            "2**63 numbers": (2**32, 2**31),
            "sizes whose product wraps to 0": (2**32, 2**32),
        }.items()
    },
    "huge embedding": (
        {"network": _json_of({**EMBEDDING, "vocab_size": HUGE, "embedding_size": HUGE})},
        {},
        "numbers, at most",
    ),
    "huge lstm": (
        {"network": _json_of({"layer": "LSTM", "input_size": HUGE, "hidden_size": HUGE})},
        {},
        "numbers, at most",
    ),
    "large size": (
        {"network": _json_of({"layer": "Softmax", "input_size": 2**70})}, {}, "input_size is",
    ),
    "eps no float holds": (
        {"network": _json_of(EMBEDDING, {"layer": "LayerNorm", "input_size": 2, "eps": 10**400})},
        {},
        "eps is",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_is_refused(tmp_path, name):
    changes, tensors, message = CRAFTED[name]
    path = tmp_path / "model.safetensors"
    craft(path, changes, tensors)
    with pytest.raises(WeightsError, match=message or "model.safetensors") as caught:
        numlstm.load(path)
    assert str(path) in str(caught.value)


WEIGHT = "layers.0.weight_ih"
SCALE = f"{WEIGHT}.scale"
Q = np.array([[127, 1], [-127, 127]], np.int8)

# By the dtype that the spec says.
CRAFTED_MATRICES: dict[str, tuple[str, dict[str, Any], str]] = {
    "float32 for int8": (
        "int8", {WEIGHT: np.ones((2, 2), np.float32)}, f"{WEIGHT}  expected int8, found float32",
    ),
    "bfloat16 for int8": (
        "int8", {WEIGHT: np.ones((2, 2), np.uint16)}, "expected int8, found bfloat16",
    ),
    "int8 for bfloat16": ("bfloat16", {WEIGHT: Q}, "expected bfloat16, found int8"),
    "int8 for float32": ("float32", {WEIGHT: Q}, "expected float32, found int8"),
    "a bias of int8": (
        "int8", {"layers.0.bias_ih": np.ones(2, np.int8)}, "expected float32, found int8",
    ),
    "int8 missing": ("int8", {WEIGHT: None}, f"{WEIGHT}  missing"),
    "no scale": ("int8", {SCALE: None}, f"{WEIGHT}  its scale is missing"),
    "a scale too many": (
        "float32", {SCALE: np.ones(2, np.float32)}, f"{SCALE}  not in the spec",
    ),
    "a longer scale": (
        "int8", {SCALE: np.ones(3, np.float32)}, r"its scale float32\(2,\), found float32\(3,\)",
    ),
    "a scale in two axes": ("int8", {SCALE: np.ones((2, 1), np.float32)}, "expected its scale"),
    "a scale of int8": ("int8", {SCALE: np.ones(2, np.int8)}, "found int8"),
    "a scale of nan": ("int8", {SCALE: np.array([1, np.nan], np.float32)}, "not finite"),
    "an infinite scale": ("int8", {SCALE: np.array([1, np.inf], np.float32)}, "not finite"),
    "a negative scale": ("int8", {SCALE: np.array([1, -1], np.float32)}, "negative"),
    "a long scale": ("int8", {SCALE: np.full(2, 0.1, np.float32)}, "16 significant bits"),
    "a scale of 0": ("int8", {SCALE: np.zeros(2, np.float32)}, "largest of a row"),
    "-128": ("int8", {WEIGHT: Q - (Q == -127)}, "largest of a row"),
    "turned": ("int8", {WEIGHT: np.ones((1, 2), np.int8)}, r"expected \(2, 2\), found \(1, 2\)"),
    "a number": ("int8", {WEIGHT: np.array(1, np.int8)}, r"expected \(2, 2\), found \(\)"),
    "nan in bfloat16": (
        "bfloat16", {WEIGHT: np.full((2, 2), 0x7FC0, np.uint16)}, "4 of 4 numbers are not finite",
    ),
    "infinity in bfloat16": (
        "bfloat16", {WEIGHT: bfloat16_bits(np.full((2, 2), np.inf, np.float32))}, "not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CRAFTED_MATRICES)
def test_a_crafted_matrix_is_refused(tmp_path, name):
    dtype, tensors, message = CRAFTED_MATRICES[name]
    path = tmp_path / "model.safetensors"
    craft(path, {}, tensors, dtype)
    with pytest.raises(WeightsError, match=message) as caught:
        numlstm.load(path)
    assert str(path) in str(caught.value)


def test_16_bits_of_another_kind_are_no_bfloat16(tmp_path):
    path = tmp_path / "model.safetensors"
    craft(path, {}, dtype="bfloat16")
    for kind in (b"U16", b"I16", b"F16"):
        data = path.read_bytes().replace(b'"BF16"', b'"' + kind + b'" ')
        (tmp_path / "other").write_bytes(data)
        with pytest.raises(WeightsError, match=f"layers.0.weight_ih is {kind.decode()}"):
            storage.load(tmp_path / "other")


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_changed_matrix_without_its_checksum_is_refused(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    storage.save(weights_in(dtype), path)
    metadata, stored = read(path)
    for name, tensor in stored.items():
        changed = {**stored, name: (tensor + 1).astype(tensor.dtype)}
        path.write_bytes(to_bytes(changed, metadata))
        with pytest.raises(WeightsError, match="altered"):
            storage.load(path)


def test_a_changed_text_without_its_checksum_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    storage.save(full_weights(), path)
    tensors = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    for name in metadata:
        changed = metadata | {name: metadata[name] + " "}
        safetensors.numpy.save_file(tensors, path, changed)
        with pytest.raises(WeightsError, match=r"altered|not a numlstm model|version"):
            numlstm.load(path)
    for name in tensors:
        safetensors.numpy.save_file({**tensors, name: tensors[name] + 1}, path, metadata)
        with pytest.raises(WeightsError, match="altered"):
            numlstm.load(path)


def raw_file(path: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2**31, 2**31], "data_offsets": [0, 2**64]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 2**40]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]},
        {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]},
        {"dtype": "F8_E4M3", "shape": [16], "data_offsets": [0, 16]},
        {"dtype": "BOOL", "shape": [16], "data_offsets": [0, 16]},
        {"dtype": "C64", "shape": [2], "data_offsets": [0, 16]},
        {"dtype": "what", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4]},
    ],
    ids=str,
)
def test_a_strange_header_is_refused(tmp_path, tensor):
    path = tmp_path / "model.safetensors"
    metadata = {"format": "numlstm", "version": "1", "network": "[]", "sha256": "0"}
    raw_file(path, {"__metadata__": metadata, "x": tensor}, bytes(16))
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        numlstm.load(path)


# Names --------------------------------------------------------------------------------------------


def test_an_unknown_name_lists_the_bundled_models(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="'sentimant' is not a file; bundled models: "):
        numlstm.load("sentimant")
    models = {"one": tmp_path / "one.safetensors", "two": tmp_path / "two.safetensors"}
    monkeypatch.setattr(storage, "bundled", lambda: models)
    with pytest.raises(FileNotFoundError, match=r"bundled models: one, two$"):
        numlstm.load("three")
    with pytest.raises(FileNotFoundError, match=r"is a folder, of .*; bundled models: one, two$"):
        numlstm.load(tmp_path)
    storage.save(full_weights(), models["two"])
    assert numlstm.load("two").labels == full_weights().labels


def test_bundled_models_load_and_pass_their_probes():
    for name, path in numlstm.bundled().items():
        assert path.stem == name
        for part, model in numlstm.load_parts(name).items():
            verification = model.verify()
            assert verification.ok, (name, part)
            # A probe has no memory for a decoder to attend to.
            assert verification.num_probes >= 1 or part == "decoder", (name, part)


# Memory -------------------------------------------------------------------------------------------

PEAK = """
import sys
from pathlib import Path
import numpy
import numlstm
numlstm.Model
def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
model = numlstm.load(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells of peaks")
@pytest.mark.long
@pytest.mark.parametrize(
    ("stored", "asked"), [("float32", None), ("int8", None), ("float32", "int8")]
)
def test_to_load_takes_little_more_than_what_is_kept(tmp_path, python, stored, asked):
    """The weights once, as the kernels read them, and one matrix at a time.

    One that was given back malloc keeps, or does not: it depends on what was imported how.
    """
    network = Network((spec.LSTM(640, 640), spec.LSTM(640, 640)))
    numlstm.Model(random_weights(network)).save(tmp_path / "model", stored)
    given = () if asked is None else (asked,)
    peak = int(output_of(python("-c", PEAK, str(tmp_path / "model"), *given)))
    matrix = 4 * 4 * 640 * 640
    kept = num_bytes(network.with_dtype(asked or stored))
    # Of int8 a matrix in float32 and its copy in bytes; on top, what the import left for later.
    assert peak < kept + 2.25 * matrix + 4e6
