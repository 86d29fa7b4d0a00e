"""Hostile .keras and .h5 files; see `hostile`."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")
import h5py
import keras  # so that it is there before a limit is
import numpy as np

Config = dict[str, Any]


def _layer(kind: str, name: str = "", **options: Any) -> Config:
    name = name or kind.lower()
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name, **options}}


def _input(*shape: int | None) -> Config:
    return _layer("InputLayer", "input", batch_shape=[None, *shape])


def _sequential(*layers: Config) -> Config:
    return _layer("Sequential", "model", layers=list(layers))


def _functional(layers: list[Config], output: str, name: str = "model", call: int = 0) -> Config:
    return _layer(
        "Functional",
        name,
        layers=layers,
        input_layers=[["input", 0, 0]],
        output_layers=[[output, call, 0]],
    )


def _reads(layer: Config, *calls: list[tuple[str, int]]) -> Config:
    """Return a layer that is called on what others give."""
    tensor = "__keras_tensor__"
    nodes = [
        {
            "args": [
                [
                    {"class_name": tensor, "config": {"keras_history": [name, n, 0]}}
                    for name, n in refs
                ]
                if len(refs) > 1
                else {"class_name": tensor, "config": {"keras_history": [*refs[0], 0]}}
            ],
            "kwargs": {},
        }
        for refs in calls
    ]
    return layer | {"inbound_nodes": nodes, "name": layer["config"]["name"]}


def _h5(arrays: dict[str, Any] | None = None) -> bytes:
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        for name, array in (arrays or {}).items():
            file[name] = np.asarray(array, np.float32)
    return data.getvalue()


def _zip(folder: Path, config: Any, weights: bytes | None = None) -> Path:
    path = folder / "model.keras"
    text = config if isinstance(config, str | bytes) else json.dumps(config)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        archive.writestr("config.json", text)
        archive.writestr("model.weights.h5", _h5() if weights is None else weights)
    return path


def _bomb(folder: Path, name: str, start: bytes, piece: bytes, end: bytes = b"",
          method: int = zipfile.ZIP_DEFLATED, size: int = 640 << 20) -> Path:  # fmt: skip
    """Write an archive of which one file is a piece again and again, 640 MB in all."""
    files = {
        "metadata.json": b'{"keras_version": "3.15.1"}',
        "config.json": json.dumps(_DENSE).encode(),
        "model.weights.h5": _h5(_ARRAYS),
    }
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w", method) as archive:
        for other, data in files.items():
            if other != name:
                archive.writestr(other, data)
        with archive.open(name, "w", force_zip64=True) as file:
            file.write(start)
            for _ in range(size // (len(piece) << 14)):
                file.write(piece * (1 << 14))
            file.write(end)
    return path


_DENSE = _sequential(_input(None, 4), _layer("Dense", units=3, use_bias=True))
_ARRAYS = {"layers/dense/vars/0": np.ones((4, 3)), "layers/dense/vars/1": np.ones(3)}


def _dense_file(folder: Path, **attributes: Any) -> Path:
    """Write an .h5 file of Keras 2 of one Dense."""
    path = folder / "model.h5"
    with h5py.File(path, "w") as file:
        config = {"class_name": "Sequential", "config": {"name": "m", "layers": [
            {"class_name": "InputLayer",
             "config": {"name": "input", "batch_input_shape": [None, None, 4]}},
            {"class_name": "Dense", "config": {"name": "dense", "units": 3}},
        ]}}  # fmt: skip
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"
        top = file.create_group("model_weights")
        top.attrs["layer_names"] = np.array([b"input", b"dense"])
        for name in ("input", "dense"):
            top.create_group(name).attrs["weight_names"] = np.array([], "S1")
        top["dense"].attrs["weight_names"] = np.array([b"dense/kernel:0", b"dense/bias:0"])
        top["dense/dense/kernel:0"] = np.ones((4, 3), np.float32)
        top["dense/dense/bias:0"] = np.ones(3, np.float32)
        for name, value in attributes.items():
            file.attrs[name] = value
    return path


# The archive --------------------------------------------------------------------------------------


def bomb_in_the_config(folder: Path) -> Path:
    return _bomb(folder, "config.json", b"{}", b" " * 64)


def bomb_of_lists_in_the_config(folder: Path) -> Path:
    return _bomb(folder, "config.json", b"[", b"[],", b"1]", size=40 << 20)


def bomb_in_the_metadata(folder: Path) -> Path:
    return _bomb(folder, "metadata.json", b"[", b"{},", b"1]", size=40 << 20)


def bomb_in_the_weights(folder: Path) -> Path:
    return _bomb(folder, "model.weights.h5", _h5(_ARRAYS), b"\0" * 64)


def bomb_of_bzip2(folder: Path) -> Path:
    return _bomb(folder, "config.json", b"{}", b" " * 64, method=zipfile.ZIP_BZIP2, size=40 << 20)


def bomb_of_lzma(folder: Path) -> Path:
    return _bomb(folder, "config.json", b"{}", b" " * 64, method=zipfile.ZIP_LZMA, size=40 << 20)


def archive_in_an_archive(folder: Path) -> Path:
    inner = _bomb(folder, "model.weights.h5", b"", b"\0" * 64, size=64 << 20).read_bytes()
    return _zip(folder, _DENSE, inner)


def _patched(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    return path


def sizes_that_lie(folder: Path) -> Path:
    path = _zip(folder, _DENSE, _h5(_ARRAYS))
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("config.json").file_size
    return _patched(path, size.to_bytes(4, "little"), (2**32 - 2).to_bytes(4, "little"))


def encrypted(folder: Path) -> Path:
    path = _zip(folder, _DENSE, _h5(_ARRAYS))
    _patched(path, b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01")
    return _patched(path, b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")


def many_entries(folder: Path) -> Path:
    path = _zip(folder, _DENSE, _h5(_ARRAYS))
    with zipfile.ZipFile(path, "a") as archive:
        for n in range(10_000):
            archive.writestr(f"assets/{n}", b"")
    return path


def names_outside(folder: Path) -> Path:
    path = _zip(folder, _DENSE, _h5(_ARRAYS))
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("../out", "/tmp/numlstm-out", "assets/../../../out"):
            archive.writestr(name, b"out")
    return path


# HDF5 ---------------------------------------------------------------------------------------------


def _weights_of(folder: Path, write: Any) -> Path:
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        file["layers/dense/vars/1"] = np.ones(3, np.float32)
        write(file.require_group("layers/dense/vars"))
    return _zip(folder, _DENSE, data.getvalue())


def array_of_zeros_in_chunks(folder: Path) -> Path:
    def write(group: Any) -> None:
        group.create_dataset("0", (2**13, 2**14), np.float32, chunks=(256, 2**14),
                             compression="gzip", compression_opts=9, data=_Zeros())  # fmt: skip

    class _Zeros:
        shape, dtype = (2**13, 2**14), np.dtype(np.float32)

        def __array__(self, *args: Any, **kwargs: Any) -> Any:
            return np.zeros(self.shape, self.dtype)

    return _weights_of(folder, write)


def array_that_was_never_written(folder: Path) -> Path:
    return _weights_of(
        folder, lambda g: g.create_dataset("0", (2**20, 2**14), np.float32, chunks=(64, 64))
    )


def array_of_one_written_chunk(folder: Path) -> Path:
    def write(group: Any) -> None:
        array = group.create_dataset("0", (2**17, 2**12), np.float32, chunks=(64, 2**12))
        array[:64] = np.random.default_rng(0).random((64, 2**12), np.float32)

    path = folder / "model.weights.h5"
    with h5py.File(path, "w") as file:
        write(file.create_group("layers/dense/vars"))
    return path, {"config": _DENSE}  # type: ignore[return-value]


def chunk_of_gigabytes(folder: Path) -> Path:
    def write(group: Any) -> None:
        array = group.create_dataset("0", (4, 3), np.float32, maxshape=(None, None),
                                     chunks=(2**14, 2**14), compression="gzip")  # fmt: skip
        array[...] = 1

    return _weights_of(folder, write)


def filter_upon_filter(folder: Path) -> Path:
    def write(group: Any) -> None:
        space = h5py.h5s.create_simple((2**28,))
        options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        options.set_chunk((2**28,))
        options.set_deflate(9)
        options.set_deflate(9)
        array = h5py.h5d.create(group.id, b"0", h5py.h5t.NATIVE_INT8, space, options)
        array.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(2**28, np.int8))

    return _weights_of(folder, write)


def many_arrays_of_zeros(folder: Path) -> Path:
    def write(group: Any) -> None:
        for n in range(40):
            group.create_dataset(f"{n + 2}", data=np.zeros((2**12, 2**12), np.int8),
                                 compression="gzip", chunks=(2**12, 2**12))  # fmt: skip

    return _weights_of(folder, write)


def link_to_another_file(folder: Path) -> Path:
    with h5py.File(folder / "secret.h5", "w") as file:
        file["kernel"] = np.ones((4, 3), np.float32)
    path = _dense_file(folder)
    with h5py.File(path, "a") as file:
        group = file["model_weights/dense/dense"]
        del group["kernel:0"]
        group["kernel:0"] = h5py.ExternalLink("secret.h5", "kernel")
    return path


def group_in_a_pipe(folder: Path) -> Path:
    """A reader that follows it waits for ever."""
    os.mkfifo(folder / "pipe")
    path = _dense_file(folder)
    with h5py.File(path, "a") as file:
        del file["model_weights"]
        file["model_weights"] = h5py.ExternalLink("pipe", "/")
    return path


def array_in_another_file(folder: Path) -> Path:
    (folder / "secret").write_bytes(np.ones(12, np.float32).tobytes())
    path = _dense_file(folder)
    with h5py.File(path, "a") as file:
        group = file["model_weights/dense/dense"]
        del group["kernel:0"]
        group.create_dataset("kernel:0", (4, 3), np.float32, external=[(folder / "secret", 0, 48)])
    return path


def array_of_other_files(folder: Path) -> Path:
    with h5py.File(folder / "secret.h5", "w") as file:
        file["kernel"] = np.ones((4, 3), np.float32)
    path = _dense_file(folder)
    with h5py.File(path, "a") as file:
        group = file["model_weights/dense/dense"]
        del group["kernel:0"]
        layout = h5py.VirtualLayout((4, 3), np.float32)
        layout[:] = h5py.VirtualSource(folder / "secret.h5", "kernel", (4, 3))
        group.create_virtual_dataset("kernel:0", layout)
    return path


def links_in_a_circle(folder: Path) -> Path:
    path = _dense_file(folder)
    with h5py.File(path, "a") as file:
        del file["model_weights/dense"]
        file["model_weights/dense"] = h5py.SoftLink("/a")
        file["a"] = h5py.SoftLink("/model_weights/dense")
    return path


def group_within_itself(folder: Path) -> Path:
    path = _dense_file(folder)
    with h5py.File(path, "a") as file:
        file["model_weights/again"] = file["model_weights"]
    return path


def groups_in_groups(folder: Path) -> Path:
    path = folder / "model.h5"
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("layers")
        for _ in range(10_000):
            group = group.create_group("a")
        group["vars/0"] = np.ones(3, np.float32)
    return path, {"config": _DENSE}  # type: ignore[return-value]


def many_groups(folder: Path) -> Path:
    path = folder / "model.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for n in range(10_000):
            file.create_group(f"layers/{n}")
        file["layers/a/vars/0"] = np.ones(3, np.float32)
    return path, {"config": _DENSE}  # type: ignore[return-value]


def attribute_of_one_text_4000_times(folder: Path) -> Path:
    """A list of 4000 texts, all of which are where the first is: 1 MB."""
    path = _dense_file(folder)
    with h5py.File(path, "a") as file:
        group = file["model_weights"]
        del group.attrs["layer_names"]
        names = np.array(["x" * 2**20, *["y" * 7] * 3999], object)
        group.attrs.create("layer_names", names, dtype=h5py.string_dtype())
    data = path.read_bytes()
    at = data.index((7).to_bytes(4, "little"), data.index((2**20).to_bytes(4, "little"))) - 16
    path.write_bytes(data[:at] + data[at : at + 16] * 4000 + data[at + 16 * 4000 :])
    return path


def attributes_that_fit_nothing(folder: Path) -> Path:
    return _dense_file(folder, model_config=np.zeros((3, 3)), keras_version=np.float32(3))


def config_that_is_a_path(folder: Path) -> Path:
    return _dense_file(folder, model_config="/dev/zero")


def config_that_is_a_path_in_json(folder: Path) -> Path:
    return _zip(folder, '"/dev/zero"')


def config_of_references(folder: Path) -> Path:
    path = _dense_file(folder)
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = file["model_weights"].ref
        file["model_weights"].attrs["layer_names"] = 3
    return path


def arrays_of_strange_types(folder: Path) -> Path:
    def write(group: Any) -> None:
        group["0"] = np.zeros((4, 3), [("a", "f4"), ("b", "f8")])
        group["2"] = h5py.Empty("f4")
        group.create_dataset("3", (2,), h5py.vlen_dtype(np.float32))
        group.create_dataset("4", (2,), h5py.ref_dtype)
        group.create_dataset("5", (2, 3), np.complex64)

    return _weights_of(folder, write)


# Configs ------------------------------------------------------------------------------------------


def config_of_brackets(folder: Path) -> Path:
    return _zip(folder, "[" * 10**6)


def models_in_models(folder: Path) -> Path:
    config = _DENSE
    for _ in range(200):
        config = _sequential(config)
    return _zip(folder, config, _h5(_ARRAYS))


def models_in_models_as_deep_as_json(folder: Path) -> Path:
    text = '{"class_name":"Sequential","config":{"layers":['
    return _zip(folder, text * 320 + "]}}" * 320)


def wrappers_in_wrappers(folder: Path) -> Path:
    config = _layer("Activation", activation="tanh")
    for _ in range(150):
        config = _layer("TimeDistributed", layer=config)
    return _zip(folder, _sequential(_input(None, 4), config))


def models_that_call_models_twice(folder: Path) -> Path:
    """Two calls in each of 40 models: 2^40 layers."""
    inner = _layer("Activation", "leaf", activation="tanh")
    for n in range(40):
        name = inner["config"]["name"]
        first = _reads(inner, [("input", 0)], [(name, 0)])
        inner = _functional([_input(None, 4), first], name, f"m{n}", 1)
    return _zip(folder, inner)


def sums_that_double(folder: Path) -> Path:
    layers, before = [_input(None, 4)], "input"
    for n in range(60):
        layers.append(_reads(_layer("Concatenate", f"c{n}"), [(before, 0), (before, 0)]))
        before = f"c{n}"
    return _zip(folder, _functional(layers, before))


def many_calls_of_one_layer(folder: Path) -> Path:
    calls = [[("a", n)] for n in range(20_000)]
    layer = _reads(_layer("Activation", "a", activation="tanh"), [("input", 0)], *calls)
    return _zip(folder, _functional([_input(None, 4), layer], "a", call=20_000))


def many_layers(folder: Path) -> Path:
    layers = [_layer("Activation", f"a{n}", activation="tanh") for n in range(20_000)]
    return _zip(folder, _sequential(_input(None, 4), *layers))


def many_layers_that_normalise(folder: Path) -> Path:
    """Each has weights: the arrays are looked up by their paths."""
    count = 3_000
    layers = [_layer("LayerNormalization", f"a{n}") for n in range(count)]
    names = ["layer_normalization", *(f"layer_normalization_{n}" for n in range(1, count))]
    arrays = {f"layers/{name}/vars/{k}": np.ones(1) for name in names for k in (0, 1)}
    return _zip(folder, _sequential(_input(None, 1), *layers), _h5(arrays))


def many_inputs_that_are_added(folder: Path) -> Path:
    layers = [_input(None, 4), _reads(_layer("Add", "sum"), [("input", 0)] * 100_000)]
    return _zip(folder, _functional(layers, "sum"))


def repeat_without_end(folder: Path) -> Path:
    layers = [_layer("RepeatVector", n=2**31 - 1), _layer("Activation", activation="tanh")]
    return _zip(folder, _sequential(_input(4), *layers))


def input_of_2_to_the_40(folder: Path) -> Path:
    return _zip(folder, _sequential(_input(None, 2**40), _layer("Activation", activation="tanh")))


def input_of_2_to_the_25(folder: Path) -> Path:
    return _zip(folder, _sequential(_input(None, 2**25), _layer("Activation", activation="tanh")))


def units_of_2_to_the_31(folder: Path) -> Path:
    return _zip(folder, _sequential(_input(None, 4), _layer("Dense", units=2**31)), _h5(_ARRAYS))


def attention_of_65536(folder: Path) -> Path:
    """Its scale is the diagonal of a matrix."""
    layers = [_input(None, 2**16), _layer("Activation", "a", activation="tanh")]
    layers[1] = _reads(layers[1], [("input", 0)])
    own = _layer("AdditiveAttention", "att", use_scale=False)
    layers.append(_reads(own, [("a", 0), ("a", 0)]))
    return _zip(folder, _functional(layers, "att"))


def kernel_over_2_to_the_30_steps(folder: Path) -> Path:
    conv = _layer("Conv1D", "conv", filters=1, kernel_size=2, dilation_rate=2**30,
                  use_bias=False, padding="valid")  # fmt: skip
    arrays = {"layers/conv1d/vars/0": np.ones((2, 1, 1))}
    return _zip(folder, _sequential(_input(None, 1), conv), _h5(arrays))


def numbers_beyond_any(folder: Path) -> Path:
    text = json.dumps(_sequential(_input(None, 4), _layer("LeakyReLU", negative_slope=-77)))
    return _zip(folder, text.replace("-77", "1" + "0" * 400))


def number_of_5000_digits(folder: Path) -> Path:
    text = json.dumps(_sequential(_input(None, 4), _layer("LeakyReLU", negative_slope=-77)))
    return _zip(folder, text.replace("-77", "1" * 5000))


def version_of_5000_digits(folder: Path) -> Path:
    path = _dense_file(folder)
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = "9" * 5000 + ".0"
    return path


def fields_of_other_types(folder: Path) -> Path:
    layers = [_input(None, 4), _layer("Dense", units=[[3]], activation={"a": [1]})]
    layers[1] |= {"class_name": "Dense", "name": {"a": 1}, "module": 3, "inbound_nodes": 7}
    return _zip(folder, _functional(layers, "dense"), _h5(_ARRAYS))


# Code ---------------------------------------------------------------------------------------------


def _with_code(folder: Path, option: str, class_name: str) -> Path:
    """Return a file with an option that names a class of the tests, which must not be imported."""
    code = {
        "module": "tests.convert.hostile_import", "class_name": class_name, "config": {},
        "registered_name": None,
    }  # fmt: skip
    layer = _layer("Dense", units=3, **{option: code})
    return _zip(folder, _sequential(_input(None, 4), layer), _h5(_ARRAYS))


def code_in_an_initializer(folder: Path) -> Path:
    """Options that change nothing here are read by Keras: they must not reach it."""
    return _with_code(folder, "kernel_initializer", "Executed")


def code_in_an_activation(folder: Path) -> Path:
    return _with_code(folder, "activation", "relu")


def module_of_a_layer(folder: Path) -> Path:
    layer = _layer("Dense", units=3) | {"module": "tests.convert.hostile_import"}
    return _zip(folder, _sequential(_input(None, 4), layer), _h5(_ARRAYS))


def lambda_layer(folder: Path) -> Path:
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAA", "defaults": None}}
    return _zip(folder, _sequential(_input(None, 4), _layer("Lambda", function=code)))


assert keras.__version__
