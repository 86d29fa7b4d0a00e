"""Hostile .pt files; see `hostile`."""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.convert.payloads import read_zip, write_zip

Given = tuple[Any, dict[str, Any]]
_LAYERS = {"layers": "a:Linear"}


def _state() -> dict[str, torch.Tensor]:
    return nn.ModuleDict({"a": nn.Linear(4, 3)}).state_dict()


def _saved(folder: Path, data: Any, layers: str = "a:Linear", zipped: bool = True) -> Given:
    path = folder / "model.pt"
    torch.save(data, path, _use_new_zipfile_serialization=zipped)
    return path, {"layers": layers}


def _with(folder: Path, method: int = zipfile.ZIP_STORED, **changed: bytes) -> Given:
    """Write a state dict with other files in the archive."""
    data = io.BytesIO()
    torch.save(_state(), data)
    path = folder / "model.pt"
    with zipfile.ZipFile(data) as before, zipfile.ZipFile(path, "w", method) as archive:
        files = {
            entry.filename.partition("/")[2]: before.read(entry) for entry in before.infolist()
        }
        for name, content in {**files, **changed}.items():
            archive.writestr(f"archive/{name}", content)
    return path, _LAYERS


def _pickle(folder: Path, program: bytes) -> Given:
    return _with(folder, **{"data.pkl": b"\x80\x02" + program})


def _shaped(folder: Path, shape: tuple[int, ...], strides: tuple[int, ...]) -> Given:
    """Write tensors that say that they have a shape."""
    own = io.BytesIO()
    torch.save(_state(), own)
    with zipfile.ZipFile(own) as archive:
        program = archive.read("archive/data.pkl")
    replaced = b"K\x04K\x01\x86"
    assert replaced in program
    shapes = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in shape) + b"t"
    steps = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in strides) + b"t"
    at = program.index(b"K\x03K\x04\x86")
    end = program.index(replaced) + len(replaced)
    return _with(folder, **{"data.pkl": program[:at] + shapes + steps + program[end:]})


# The archive --------------------------------------------------------------------------------------


def bomb_in_the_numbers(folder: Path) -> Given:
    return _with(folder, zipfile.ZIP_DEFLATED, **{"data/0": bytes(200 << 20)})


def bomb_in_the_pickle(folder: Path) -> Given:
    return _with(folder, zipfile.ZIP_DEFLATED, **{"data.pkl": b"\x80\x02" + b"N" * (100 << 20)})


def bomb_in_the_byte_order(folder: Path) -> Given:
    return _with(folder, byteorder=b"\0" * (4 << 20))


def later_version(folder: Path) -> Given:
    return _with(folder, version=b"11\n")


def version_of_5000_digits(folder: Path) -> Given:
    return _with(folder, version=b"9" * 5000)


def other_order_of_bytes(folder: Path) -> Given:
    return _with(folder, byteorder=b"big")


def numbers_that_are_missing(folder: Path) -> Given:
    return _with(folder, **{"data/0": b""})


def archive_of_an_export(folder: Path) -> Given:
    return _with(folder, archive_format=b"pt2")


def program_of_torchscript(folder: Path) -> Given:
    path = folder / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", b"")
        archive.writestr("m/constants.pkl", b"")
    return path, _LAYERS


def safetensors(folder: Path) -> Given:
    path = folder / "model.pt"
    path.write_bytes(struct.pack("<Q", 2**62) + b'{"a":{}}')
    return path, _LAYERS


def bomb_in_the_header_of_safetensors(folder: Path) -> Given:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**40) + b'{"' + b"a" * 2**20)
    return path, _LAYERS


def tar_of_the_first_format(folder: Path) -> Given:
    import tarfile

    path = folder / "model.pt"
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))
    return path, _LAYERS


# The pickle ---------------------------------------------------------------------------------------


def code_that_runs(folder: Path) -> Given:
    return _pickle(folder, b"cos\n_exit\nK\x03\x85R.")


def code_that_is_built(folder: Path) -> Given:
    return _pickle(folder, b"}X\x01\x00\x00\x00acbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x08\x85Rs.")


def code_of_an_old_file(folder: Path) -> Given:
    path = folder / "model.pt"
    path.write_bytes(b"cos\n_exit\nK\x03\x85R.")
    return path, _LAYERS


def names_within_names(folder: Path) -> Given:
    """The hash of a tuple of tuples, each twice the one before: 2^60 steps, of 300 bytes."""
    double = b"".join(b"q\x00h\x00\x86" for _ in range(60))
    return _pickle(folder, b"})" + double + b"Ns.")


def text_of_names_within_names(folder: Path) -> Given:
    double = b"".join(b"q\x00h\x00\x86" for _ in range(60))
    return _pickle(folder, b"}X\x01\x00\x00\x00a)" + double + b"s.")


def list_in_itself(folder: Path) -> Given:
    return _pickle(folder, b"}q\x01X\x01\x00\x00\x00ah\x01s.")


def list_in_lists(folder: Path) -> Given:
    return _pickle(folder, b"]" * 10**5 + b"a" * (10**5 - 1) + b".")


def stack_that_is_empty(folder: Path) -> Given:
    return _pickle(folder, b"RRR.")


def marks_without_end(folder: Path) -> Given:
    return _pickle(folder, b"(" * (4 << 20) + b".")


def number_of_a_million_digits(folder: Path) -> Given:
    return _pickle(folder, b"L" + b"9" * 10**6 + b"L\n.")


def text_longer_than_the_file(folder: Path) -> Given:
    return _pickle(folder, b"\x8d" + struct.pack("<Q", 2**40) + b"a.")


def program_of_protocol_5(folder: Path) -> Given:
    path = folder / "model.pt"
    torch.save(_state(), path, pickle_protocol=5)
    return path, _LAYERS


def memo_of_gigabytes(folder: Path) -> Given:
    return _pickle(folder, b"Nr" + struct.pack("<I", 2**32 - 1) + b".")


def many_names(folder: Path) -> Given:
    return _pickle(folder, b"}(" + b"".join(
        b"X\x07\x00\x00\x00" + f"{n:07d}".encode() + b"N" for n in range(100_000)
    ) + b"u.")  # fmt: skip


# Tensors ------------------------------------------------------------------------------------------


def one_number_repeated(folder: Path) -> Given:
    return _shaped(folder, (2**20, 2**18), (0, 0))


def tensor_beyond_its_storage(folder: Path) -> Given:
    return _shaped(folder, (2**31, 4), (2**31, 1))


def tensor_of_negative_size(folder: Path) -> Given:
    return _shaped(folder, (-3, 4), (4, 1))


def tensor_before_its_storage(folder: Path) -> Given:
    return _shaped(folder, (3, 4), (-4, 1))


def tensor_of_no_numbers(folder: Path) -> Given:
    return _shaped(folder, (0, 2**61), (2**61, 1))


def many_tensors_of_one_storage(folder: Path) -> Given:
    """Each is a row of the same numbers, as those of a flattened module are."""
    rows = torch.zeros(1000, 2**11)
    return _saved(folder, {f"{n}.weight": row for n, row in enumerate(rows)})


def many_sizes_of_one_storage(folder: Path) -> Given:
    """Each says that what it is of is one number larger."""
    with zipfile.ZipFile(_saved(folder, {"a": torch.zeros(2**20)})[0]) as archive:
        numbers = archive.read("model/data/0")
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(("
        b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu"
        b"\x8a\x04%stQK\0(K\x01t(K\x01t\x89ccollections\nOrderedDict\n)RtR"
    )
    program = b"}(" + b"".join(
        b"X\x07\0\0\0%07d" % n + tensor % struct.pack("<I", 2**20 - n) for n in range(1000)
    ) + b"u."  # fmt: skip
    return _with(folder, **{"data.pkl": b"\x80\x02" + program, "data/0": numbers})


def many_layers_of_one_shape(folder: Path) -> Given:
    """Each name is a layer of the size of the first."""
    state = {f"a.weight_ih_l{n}": torch.zeros(0) for n in range(2000)}
    state["a.weight_ih_l0"] = torch.zeros(4 * 512, 1)
    return _saved(folder, state, "a:LSTM")


def sizes_of_another_tensor(folder: Path) -> Given:
    return _saved(folder, {"a.weight": torch.zeros(2**30, 0)})


def groups_without_end(folder: Path) -> Given:
    state = {"a.weight": torch.zeros(1, 1, 1)}
    return _saved(folder, state, "a:Conv1d(groups=1073741824, dilation=1073741824)")


def _strange(folder: Path, tensor: torch.Tensor) -> Given:
    return _saved(folder, {"a.weight": tensor, "a.bias": torch.zeros(3)})


def sparse(folder: Path) -> Given:
    return _strange(folder, torch.ones(3, 4).to_sparse())


def quantised(folder: Path) -> Given:
    return _strange(folder, torch.quantize_per_tensor(torch.ones(3, 4), 0.1, 0, torch.qint8))


def meta(folder: Path) -> Given:
    return _strange(folder, torch.ones(3, 4, device="meta"))


def complex_numbers(folder: Path) -> Given:
    return _strange(folder, torch.ones(3, 4, dtype=torch.complex64))


def float8(folder: Path) -> Given:
    return _strange(folder, torch.ones(3, 4).to(torch.float8_e4m3fn))


def live_sparse(folder: Path) -> Given:
    return {"a.weight": torch.ones(3, 4).to_sparse()}, _LAYERS


def live_meta(folder: Path) -> Given:
    return {"a.weight": torch.ones(3, 4, device="meta")}, _LAYERS


# Old files ----------------------------------------------------------------------------------------


def old_file(folder: Path) -> Given:
    return _saved(folder, _state(), zipped=False)


def old_file_of_many_numbers(folder: Path) -> Given:
    path, options = _saved(folder, _state(), zipped=False)
    data = path.read_bytes()
    old, new = struct.pack("<q", 12), struct.pack("<q", 2**40)
    path.write_bytes(data.replace(old, new))
    return path, options


def old_file_without_numbers(folder: Path) -> Given:
    path, options = _saved(folder, _state(), zipped=False)
    path.write_bytes(path.read_bytes()[:-40])
    return path, options


# Names --------------------------------------------------------------------------------------------


def _named(folder: Path, names: list[str], layers: str = "a:Linear") -> Given:
    return _saved(folder, _state() | dict.fromkeys(names, torch.zeros(1)), layers)


def name_of_dots(folder: Path) -> Given:
    return _named(folder, ["." * 10**6, "a" + "." * 10**6 + "weight"])


def name_of_wrappers(folder: Path) -> Given:
    return _named(folder, ["module." * 10**5 + "weight"])


def many_modules_that_no_layer_takes(folder: Path) -> Given:
    return _named(folder, [f"b.{n}.c.weight" for n in range(30_000)])


def many_places_of_one_layer(folder: Path) -> Given:
    return _saved(folder, {f"b.{n}.a.weight": torch.zeros(1) for n in range(30_000)})


def names_like_the_one_that_is_not_there(folder: Path) -> Given:
    return _named(folder, [f"{'a' * 1000}{n}.weight" for n in range(3000)], "a" * 1000 + ":Linear")


def dicts_within_dicts(folder: Path) -> Given:
    """Each holds the one before it 30 times."""
    inner: Any = {"b.weight": torch.zeros(1)}
    for _ in range(9):
        inner = dict.fromkeys((f"{n}" for n in range(30)), inner)
    return _saved(folder, inner)


def long_key_of_many_names(folder: Path) -> Given:
    names = {f"{n}.weight": torch.zeros(1) for n in range(10_000)}
    return _saved(folder, {"b" * 10**6: {"c" * 10**6: names}, "d": {"x.weight": torch.zeros(1)}})


# Files of safetensors, folders --------------------------------------------------------------------


def _safetensors(folder: Path, header: dict[str, Any], numbers: bytes = b"") -> Given:
    text = json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    return path, _LAYERS


def _f32(start: int, stop: int, *shape: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, stop]}


def safetensors_that_end_early(folder: Path) -> Given:
    return _safetensors(folder, {"a.weight": _f32(0, 2**40, 2**38, 1)}, bytes(100))


def safetensors_of_one_place(folder: Path) -> Given:
    return _safetensors(folder, {f"a.{n}": _f32(0, 48, 3, 4) for n in range(1000)}, bytes(48))


def safetensors_with_a_gap(folder: Path) -> Given:
    return _safetensors(folder, {"a.weight": _f32(8, 56, 3, 4)}, bytes(56))


def safetensors_of_other_sizes(folder: Path) -> Given:
    return _safetensors(folder, {"a.weight": _f32(0, 48, 2**62, 4)}, bytes(48))


def safetensors_of_unknown_numbers(folder: Path) -> Given:
    one = _f32(0, 48, 3, 4) | {"dtype": "F4"}
    return _safetensors(folder, {"a.weight": one}, bytes(48))


def safetensors_without_a_shape(folder: Path) -> Given:
    return _safetensors(folder, {"a.weight": {"dtype": "F32", "data_offsets": [0, 48]}}, bytes(48))


def safetensors_that_share_themselves(folder: Path) -> Given:
    shared = {"__metadata__": {"a.weight": "a.weight", "a.bias": "a.bias"}}
    return _safetensors(folder, shared)


def _index(folder: Path, weight_map: Any) -> Given:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    return folder, _LAYERS


def index_of_itself(folder: Path) -> Given:
    return _index(folder, {"a.weight": "model.safetensors.index.json"})


def index_of_another_place(folder: Path) -> Given:
    return _index(folder, {"a.weight": "/etc/passwd"})


def index_of_a_link(folder: Path) -> Given:
    (folder / "link.safetensors").symlink_to("/dev/zero")
    return _index(folder, {"a.weight": "link.safetensors"})


def index_of_a_hole(folder: Path) -> Given:
    size = 2**36
    header = json.dumps({"a.weight": _f32(0, size, size // 4, 1)}).encode()
    with (folder / "a.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    return _index(folder, {"a.weight": "a.safetensors"})


def index_of_many_names(folder: Path) -> Given:
    _safetensors(folder, {"a.weight": _f32(0, 48, 3, 4)}, bytes(48))
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    return _index(folder, {f"a.{n}": "a.safetensors" for n in range(100_000)})


# Modules, programs, packed tensors and arrays -----------------------------------------------------

_MODULE = b"cm\nM\n)\x81}(X\x0b\0\0\0_parameters}X\x08\0\0\0_modules}("


def modules_within_modules(folder: Path) -> Given:
    """Each has the one before it twice: 2^60 names."""
    end = b"uub"
    level = _MODULE + b"X\x01\0\0\0ah\x00X\x01\0\0\0bh\x00" + end + b"q\x00"
    return _pickle(folder, _MODULE + end + b"q\x00" + level * 60 + b".")


def module_in_itself(folder: Path) -> Given:
    program = _MODULE.replace(b"\x81", b"\x81q\x00") + b"X\x01\0\0\0ah\x00uub."
    return _pickle(folder, program)


def program_in_itself(folder: Path) -> Given:
    return _pickle(folder, b"c__torch__\nM\n)\x81q\x00}X\x01\0\0\0ah\x00sb.")


def list_that_is_asked_for_again(folder: Path) -> Given:
    """A set of a list of 10^5 items, 10^5 times: each is a new list."""
    items = b"](" + b"N" * 10**5 + b"eq\x00"
    made = b"c__builtin__\nset\nq\x01h\x00\x85R0" + b"h\x01h\x00\x85R0" * 10**5
    return _pickle(folder, items + made + b".")


def scales_of_another_size(folder: Path) -> Given:
    """One column with 2^20 scales would be 2^20 columns."""
    tensor = torch.quantize_per_channel(
        torch.ones(2**16, 1), torch.ones(1).double(), torch.zeros(1).long(), 1, torch.qint8
    )
    path, options = _saved(folder, {"a.weight": tensor})
    files = read_zip(path)
    program = files["model/data.pkl"]
    at = program.index(b"DoubleStorage")
    shape, strides = b"K\x01\x85", b"K\x01\x85"
    place = program.index(shape, at)
    changed = b"J" + struct.pack("<i", 2**20) + b"\x85"
    program = program[:place] + changed + program[place + len(shape) :]
    place = program.index(strides, place + len(changed))
    program = program[:place] + b"K\x00\x85" + program[place + len(strides) :]
    write_zip(path, files | {"model/data.pkl": program})
    return path, options


def _npz(folder: Path, content: bytes) -> Given:
    path = folder / "model.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.weight.npy", content)
    return path, _LAYERS


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + data


def bomb_in_an_array(folder: Path) -> Given:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (49152, 8192)}"
    path = folder / "model.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.weight.npy", "w", force_zip64=True) as file,
    ):
        file.write(_npy(header))
        for _ in range(96):
            file.write(bytes(2**24))
    return path, _LAYERS


def array_larger_than_its_file(folder: Path) -> Given:
    return _npz(folder, _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}"))


def array_of_a_negative_shape(folder: Path) -> Given:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4)}"
    return _npz(folder, _npy(header, bytes(16)))


def header_of_an_array_within_itself(folder: Path) -> Given:
    return _npz(folder, _npy("(" * 9000))


def weights_of_an_export(folder: Path) -> Given:
    size = {"as_int": 2**40}
    meta = {"dtype": 7, "sizes": [size, size], "strides": [size, size], "storage_offset": size}
    entry = {"path_name": "w", "use_pickle": False, "tensor_meta": meta}
    config = json.dumps({"config": {"a.weight": entry}}).encode()
    path = folder / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/weights/model_weights_config.json", config)
        archive.writestr("m/data/weights/w", bytes(16))
    return path, _LAYERS


# Descriptions -------------------------------------------------------------------------------------


def description_of_spaces(folder: Path) -> Given:
    return _saved(folder, _state(), " " * 10**5 + "a:Linear")


def description_of_brackets(folder: Path) -> Given:
    return _saved(folder, _state(), "a:Linear(" + "( " * 10**5)


def description_of_words(folder: Path) -> Given:
    return _saved(folder, _state(), "a:Linear " + "mean " * 50_000 + "(")


def description_of_colons(folder: Path) -> Given:
    return _saved(folder, _state(), "a" * 10**5 + ":" * 10**5)
