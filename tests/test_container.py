"""The container of files: what is read is what the safetensors library reads, or it is refused."""

import json
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from numlstm import WeightsError
from numlstm.container import Container, write

TENSORS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bytes": np.array([1, -2, 3], np.int8),
    "ids": np.array([7, 8], np.int32),
    "number": np.array(1.5, np.float32),
    "none": np.zeros((0, 4), np.float32),
}
METADATA = {"format": "numlstm", "text": "ja \N{SNOWMAN}"}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file.safetensors"
    with path.open("wb") as target:
        write(target, TENSORS, METADATA)
    return path


def read(path):
    """Return the metadata and the tensors of a file."""
    with Container(path) as container:
        container.check()
        return container.metadata, dict(container)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes()


def test_what_is_written_is_read_here_and_there(file):
    metadata, tensors = read(file)
    assert metadata == METADATA
    assert_same(tensors, TENSORS)
    assert_same(safetensors.numpy.load_file(file), TENSORS)
    with safetensors.safe_open(file, "numpy") as other:
        assert other.metadata() == METADATA


def test_what_the_library_writes_is_read(tmp_path):
    path = tmp_path / "file.safetensors"
    safetensors.numpy.save_file(TENSORS, path, METADATA)
    metadata, tensors = read(path)
    assert metadata == METADATA
    assert_same(tensors, TENSORS)


def test_numbers_are_aligned(file):
    size = struct.unpack_from("<Q", file.read_bytes())[0]
    header = json.loads(file.read_bytes()[8 : 8 + size])
    assert (8 + size) % 8 == 0
    for name, tensor in TENSORS.items():
        assert header[name]["data_offsets"][0] % tensor.itemsize == 0


def test_a_tensor_is_read_when_it_is_asked_for(tmp_path):
    path = tmp_path / "file.safetensors"
    with path.open("wb") as target:
        write(target, {name: np.ones(100_000, np.float32) for name in "ab"}, {})
    with Container(path) as container:
        container.check()
        with path.open("r+b") as other:
            other.truncate(path.stat().st_size - 4)
        assert container["a"].sum() == 100_000
        with pytest.raises(WeightsError, match="became shorter while it was read"):
            container["b"]


NUMBERS = st.integers(-1, 40) | st.sampled_from([2**31, 2**62, 2**63, 2**64, True, None, 1.0])


@given(data=st.data())
def test_whatever_the_header_says_no_more_is_read_than_the_library_reads(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "crafted.safetensors"
    with path.open("wb") as target:
        write(target, TENSORS, METADATA)
    whole = path.read_bytes()
    size = 8 + struct.unpack_from("<Q", whole)[0]
    header = json.loads(whole[8:size])
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from([*TENSORS]))
        key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        header[name][key] = data.draw(
            st.sampled_from(["F32", "I32", "F64", "I8", 3, None])
            if key == "dtype"
            else st.lists(NUMBERS, max_size=3) | st.sampled_from(["23", None, {}])
        )
    text = data.draw(st.sampled_from([json.dumps(header), json.dumps(header, indent=1)])).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[size:])
    try:
        _, found = read(path)
    except WeightsError:
        return
    assert_same(found, safetensors.numpy.load_file(path))


def with_header(text: bytes, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + rest


F32 = '{"dtype": "F32", "shape": [1], "data_offsets": [%d, %d]}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x02\0", "a header of 2 bytes in a file of 2"),
        (struct.pack("<Q", 2**63) + b"{}", "a header of"),
        (with_header(b"[]"), "no JSON object"),
        (with_header(b" {}"), "no JSON object"),
        (with_header("{}".encode("utf-16")), "no JSON object"),
        (with_header(b'{"a": '), "cannot be read"),
        (with_header(b'{"\xff": 1}'), "cannot be read"),
        (with_header(b'{"a": ' + b"[" * 100_000), "cannot be read"),
        (with_header(b'{"a": 1, "a": 1}'), "twice"),
        (with_header(b'{"__metadata__": 1}'), "not texts"),
        (with_header(b'{"__metadata__": {"a": 1}}'), "not texts"),
        (with_header(rb'{"__metadata__": {"a": "\ud800"}}'), "not texts"),
        (with_header(b'{"a": 1}'), "a: TypeError"),
        (with_header(b'{"a": {"dtype": "F64"}}'), "expected F32, BF16, I8, I32; a is F64"),
        (with_header(b'{"a": {"dtype": ["F32"]}}'), r"a is \['F32'\]"),
        (with_header(b'{"a": {"dtype": "F32"}}'), "a: KeyError"),
        (with_header((f'{{"a": {F32}}}' % (0, 8)).encode(), bytes(8)), "8 bytes, expected 4"),
        (with_header((f'{{"a": {F32}}}' % (4, 8)).encode(), bytes(8)), "begins at 4"),
        (with_header((f'{{"a": {F32}}}' % (0, 4)).encode(), bytes(8)), "bytes, expected"),
        (with_header((f'{{"a": {F32}}}' % (0, 4)).encode(), bytes(3)), "bytes, expected"),
        (
            with_header((f'{{"a": {F32}, "b": {F32}}}' % (0, 4, 0, 4)).encode(), bytes(8)),
            "b begins at 0, expected 4",
        ),
        (
            with_header(
                b'{"a": {"dtype": "F32", "shape": [' + b"1," * 40 + b'1], "data_offsets": [0, 4]}}',
                bytes(4),
            ),
            "at most 32",
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_container_is_refused(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read(path)
