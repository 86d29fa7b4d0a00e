"""Code that a file of PyTorch or NumPy carries does not run, wherever in it it stands.

Each file holds what writes to a file as it is unpickled, or names a module that does as it is
imported. That it would is tried first. Other frameworks have theirs: `hostile_keras` and
`hostile_onnx`.
"""

import io
import pickle
import sys
import tarfile
import warnings

import numpy as np
import pytest

import numlstm
from numlstm import WeightsError
from tests.convert.payloads import Bomb, importable, read_zip, write_zip
from tests.lazy import Lazy, nn, torch

modules = Lazy("tests.convert.modules")
LAYERS = "a:Linear"


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """What must not run; beside it lies a module that must not be imported, `a_payload`."""
    bomb = Bomb(tmp_path / "proof")
    importable(tmp_path, bomb.target, monkeypatch)
    pickle.loads(pickle.dumps(bomb))
    assert bomb.target.exists()
    bomb.target.unlink()
    return bomb


def _net(**attributes):
    """Return a module with a layer "a", and attributes that are saved with it."""
    net = nn.ModuleDict({"a": nn.Linear(2, 2)})
    vars(net).update(attributes)
    return net


def _saved(folder, data, **options):
    torch.save(data, folder / "model.pt", **options)
    return folder / "model.pt"


def _rewritten(path, **files):
    """Return an archive of which some files are others, by the ends of their names."""
    content = read_zip(path)
    root = next(iter(content)).partition("/")[0]
    return write_zip(path, content | {f"{root}/{name}": data for name, data in files.items()})


def _script(folder, net=None):
    path = folder / "model.pt"
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace((net or _net())["a"], torch.zeros(1, 2)).save(str(path))
    return path


def _of_a_payload(data):
    """Return a pickle whose objects are of a class of the module `a_payload`."""
    return data.replace(b"torch.nn.modules.linear\nLinear", b"a_payload\nMine")


def a_state_dict(folder, bomb):
    return _saved(folder, _net().state_dict() | {"extra": bomb})


def a_name_of_a_state_dict(folder, bomb):
    state = _net().state_dict()
    return _saved(folder, {**state, (bomb,): 1})


def the_optimizer_beside_it(folder, bomb):
    return _saved(folder, {"model": _net().state_dict(), "optimizer": [bomb], "args": bomb})


def an_old_file(folder, bomb):
    data = {"model": _net().state_dict(), "args": bomb}
    return _saved(folder, data, _use_new_zipfile_serialization=False)


def the_head_of_an_old_file(folder, bomb):
    (folder / "model.pt").write_bytes(pickle.dumps(bomb, 2))
    return folder / "model.pt"


def the_first_format(folder, bomb):
    with tarfile.open(folder / "model.pt", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            data = pickle.dumps(bomb, 2)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return folder / "model.pt"


def an_attribute_of_a_module(folder, bomb):
    return _saved(folder, _net(extra=bomb))


def the_class_of_a_module(folder, bomb):
    path = _saved(folder, _net())
    data = read_zip(path)["model/data.pkl"]
    assert _of_a_payload(data) != data
    return _rewritten(path, **{"data.pkl": _of_a_payload(data)})


def a_hook_of_a_module(folder, bomb):
    net = _net()
    net._forward_pre_hooks[0] = bomb
    return _saved(folder, net)


def the_data_of_a_program(folder, bomb):
    return _rewritten(_script(folder), **{"data.pkl": pickle.dumps(bomb, 2)})


def an_attribute_of_a_program(folder, bomb):
    path = _script(folder)
    data = read_zip(path)["model/data.pkl"]
    at = data.rindex(b"ub")  # gives the attributes so far to the outermost module
    own = b"X\x01\0\0\0x" + pickle.dumps({"x": bomb}, 2)[2:-1]
    return _rewritten(path, **{"data.pkl": data[:at] + own + data[at:]})


def the_constants_of_a_program(folder, bomb):
    return _rewritten(_script(folder), **{"constants.pkl": pickle.dumps((bomb,), 2)})


def the_code_of_a_program(folder, bomb):
    code = f"import a_payload\nopen({str(bomb.target)!r}, 'w').write('ran')\n".encode()
    names = ("code/__torch__.py", "code/__torch__/torch/nn/modules/linear.py")
    files = dict.fromkeys(names, code) | {f"{name}.debug_pkl": pickle.dumps(bomb) for name in names}
    return _rewritten(_script(folder), **files, **{"bytecode.pkl": pickle.dumps(bomb)})


def a_packed_weight(folder, bomb):
    with warnings.catch_warnings(action="ignore"):
        net = torch.ao.quantization.quantize_dynamic(_net(), {nn.Linear})
    state = net.state_dict()
    weight, bias = state["a._packed_params._packed_params"]
    state["a._packed_params.dtype"] = bomb
    return _saved(folder, {**state, "b._packed_params._packed_params": (weight, bias, bomb)})


def an_array_of_objects(folder, bomb):
    state = {name: tensor.numpy() for name, tensor in _net().state_dict().items()}
    np.savez(folder / "model.npz", **state, extra=np.array([bomb]))
    return folder / "model.npz"


def a_sample_of_an_export(folder, bomb):
    path = folder / "model.pt2"
    torch.export.save(torch.export.export(_net()["a"], (torch.zeros(1, 2),)), path)
    return _rewritten(path, **{"data/sample_inputs/model.pt": pickle.dumps(bomb)})


FILES = [
    a_state_dict, a_name_of_a_state_dict, the_optimizer_beside_it, an_old_file,
    the_head_of_an_old_file, the_first_format, an_attribute_of_a_module, the_class_of_a_module,
    a_hook_of_a_module, the_data_of_a_program, an_attribute_of_a_program,
    the_constants_of_a_program, the_code_of_a_program, a_packed_weight, an_array_of_objects,
    a_sample_of_an_export,
]  # fmt: skip
# Of these the tensors are read all the same: what else is there is passed over.
READ = {
    the_optimizer_beside_it, an_old_file, an_attribute_of_a_module, the_class_of_a_module,
    a_hook_of_a_module, an_attribute_of_a_program, the_constants_of_a_program,
    the_code_of_a_program, a_sample_of_an_export, a_state_dict,
    a_name_of_a_state_dict,
}  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__)
def test_code_in_a_file_does_not_run(tmp_path, bomb, file):
    path = file(tmp_path, bomb)
    bomb.target.unlink(missing_ok=True)  # PyTorch may have run it as it wrote
    key = {"key": "model"} if file in (the_optimizer_beside_it, an_old_file) else {}
    programs = ("trace", "code", "data", "constants", "attribute_of_a_program", "export")
    layers = ":Linear" if any(word in file.__name__ for word in programs) else LAYERS
    if file in READ:
        assert numlstm.from_torch(path, layers=layers, **key).output_size == 2
    else:
        with pytest.raises(WeightsError):
            numlstm.from_torch(path, layers=layers, **key)
    assert not bomb.target.exists()
    assert "a_payload" not in sys.modules
