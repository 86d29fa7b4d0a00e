"""Several networks in one file."""

import json

import numpy as np
import pytest
import safetensors

import numlstm
from numlstm import LSTM, Embedding, Linear, Model, Network, Weights, WeightsError


def model_of(*layers, **options):
    network = Network(layers)
    random = np.random.default_rng(0)
    shapes = network.tensor_shapes().items()
    tensors = {name: random.normal(0, 0.3, shape).astype("f4") for name, shape in shapes}
    return Model(Weights(network, tensors, **options))


@pytest.fixture
def parts():
    return {
        "encoder": model_of(Embedding(7, 3), LSTM(3, 5)),
        "decoder": model_of(LSTM(4, 5), Linear(5, 2), labels=("no", "yes")),
    }


def test_networks_come_back_as_they_were(tmp_path, parts):
    path = tmp_path / "both.safetensors"
    numlstm.save_parts(parts, path)
    loaded = numlstm.load_parts(path)
    assert list(loaded) == ["encoder", "decoder"]
    assert loaded["decoder"].labels == ("no", "yes")
    ids, xs = np.array([1, 6, 0], np.int32), np.ones((3, 4), np.float32)
    assert (loaded["encoder"].run(ids) == parts["encoder"].run(ids)).all()
    assert (loaded["decoder"].run(xs) == parts["decoder"].run(xs)).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_each_dtype_is_stored_and_read(tmp_path, parts, dtype):
    path = tmp_path / "both.safetensors"
    numlstm.save_parts(parts, path, dtype)
    found = numlstm.load_parts(path)["encoder"]
    ids = np.array([1, 6, 0], np.int32)
    assert (found.run(ids) == parts["encoder"].astype(dtype).run(ids)).all()
    again = numlstm.load_parts(path, dtype="float32")["encoder"]
    assert again.network.layers[1].dtype == "float32"


def test_a_file_of_one_network_is_a_part_without_a_name(tmp_path, parts):
    path = tmp_path / "one.safetensors"
    parts["encoder"].save(path)
    assert list(numlstm.load_parts(path)) == [""]


def test_load_says_what_to_do_with_a_file_of_several(tmp_path, parts):
    path = tmp_path / "both.safetensors"
    numlstm.save_parts(parts, path)
    with pytest.raises(WeightsError, match=r"several networks, encoder, decoder: .*load_parts"):
        numlstm.load(path)


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_that_cannot_be_stored_is_refused(tmp_path, parts, name):
    with pytest.raises(ValueError, match="expected names without a slash"):
        numlstm.save_parts({name: parts["encoder"]}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="expected names"):
        numlstm.save_parts({}, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_altered_or_truncated_file_is_refused(tmp_path, parts):
    path = tmp_path / "both.safetensors"
    numlstm.save_parts(parts, path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="was altered"):
        numlstm.load_parts(path)
    path.write_bytes(data[:-40])
    with pytest.raises(WeightsError, match="not a complete"):
        numlstm.load_parts(path)


def test_the_file_opens_with_the_plain_library(tmp_path, parts):
    path = tmp_path / "both.safetensors"
    numlstm.save_parts(parts, path)
    with safetensors.safe_open(path, "numpy") as file:
        assert json.loads(file.metadata()["parts"]) == ["encoder", "decoder"]
        stored = file.get_tensor("encoder/layers.0.weight_hh")
    assert (stored == parts["encoder"].weights.tensors["layers.0.weight_hh"]).all()
