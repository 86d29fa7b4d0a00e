"""What `from_torch` says when it says no, word for word: the name, the reason, and what to do."""

import json
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import WeightsError, spec
from numlstm.spec import Network
from tests.lazy import nn, torch

LISTED = "the state dict cannot be converted:\n  "
LAYERS = "lstm:LSTM head:Linear"
OF_LSTM = "weight_ih_l0 (32, 8), weight_hh_l0 (32, 8), bias_ih_l0 (32,), bias_hh_l0 (32,)"


def _state(**more: Any) -> dict[str, Any]:
    net = nn.ModuleDict({"lstm": nn.LSTM(8, 8), "head": nn.Linear(8, 3), **more})
    return dict(net.state_dict())


def _prefixed(prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": tensor for name, tensor in _state().items()}


def _safetensors(folder: Path, state: dict[str, Any], **metadata: str) -> Path:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(state, folder / "model.safetensors", metadata or None)
    return folder / "model.safetensors"


def _index(folder: Path, text: str) -> Path:
    (folder / "model.safetensors.index.json").write_text(text)
    return folder / "model.safetensors.index.json"


def _shards(folder: Path) -> Path:
    _safetensors(folder, {"a.weight": torch.ones(2, 2)})
    places = {"a.weight": "model.safetensors", "a.bias": "model.safetensors"}
    return _index(folder, json.dumps({"weight_map": places}))


def _saved(folder: Path, data: Any) -> Path:
    torch.save(data, folder / "net.pt")
    return folder / "net.pt"


def _archive(folder: Path, root: str = "net/", **files: str) -> Path:
    with zipfile.ZipFile(folder / "net.pt", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{root}{name.replace('__', '.')}", content)
    return folder / "net.pt"


def _hooked(folder: Path) -> Any:
    module = nn.Linear(3, 4)
    module.register_forward_hook(lambda module, args, answer: answer)
    return module


def _first_format(folder: Path) -> Path:
    with tarfile.open(folder / "net.pt", "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return folder / "net.pt"


def _frozen(folder: Path) -> Path:
    with warnings.catch_warnings(action="ignore"):
        program = torch.jit.trace(nn.Linear(2, 2).eval(), torch.zeros(1, 2))
        torch.jit.freeze(program).save(str(folder / "net.pt"))
    return folder / "net.pt"


def _packed(folder: Path, *args: Any, **options: Any) -> Path:
    net = nn.ModuleDict({"lstm": nn.LSTM(*args, **options)})
    with warnings.catch_warnings(action="ignore"):
        quantised = torch.ao.quantization.quantize_dynamic(net, {nn.LSTM})
    return _saved(folder, quantised.state_dict())


def _arrays(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "net.npz", **arrays)
    return folder / "net.npz"


NAMED = Network((spec.LSTM(8, 8, name="lstm"), spec.Linear(8, 3, name="head")))

# What is converted, how, and what is said; {folder} is that of the files.
Case = tuple[Callable[[Path], Any], dict[str, Any], str]
WORDS: dict[str, Case] = {
    "nothing is said of the layers": (
        lambda folder: _state(),
        {},
        "a state dict does not say what its layers are; describe them in forward order, with the "
        "functions and poolings between them, as its tensors look like "
        'layers="lstm:LSTM head:Linear". It holds: lstm.weight_ih_l0, lstm.weight_hh_l0, '
        "lstm.bias_ih_l0, lstm.bias_hh_l0, head.weight, head.bias",
    ),
    "directions are said": (
        lambda folder: _state(),
        {"layers": "lstm:LSTM(bidirectional=True) head:Linear"},
        f"{LISTED}lstm:LSTM(bidirectional=True): LSTM has no option bidirectional, it has none; "
        "layers, directions, bias and projection are read from its tensors; the state dict has "
        f"{OF_LSTM}",
    ),
    "an option of another kind": (
        lambda folder: _state(conv=nn.Conv1d(3, 4, 2)),
        {"layers": f"{LAYERS} conv:Conv1d(kernel_size=2)"},
        f"{LISTED}conv:Conv1d(kernel_size=2): Conv1d has no option kernel_size, it has stride, "
        "dilation, groups, padding; sizes and bias are read from its tensors; the state dict has "
        "weight (4, 3, 2), bias (4,)",
    ),
    "a name that is not there": (
        lambda folder: _state(),
        {"layers": "lstm:LSTM fc:Linear", "ignore": "head"},
        f"{LISTED}fc:Linear: no tensor 'weight'; the state dict has no fc; it has lstm.weight_ih_l0"
        " (32, 8), lstm.weight_hh_l0 (32, 8), lstm.bias_ih_l0 (32,), lstm.bias_hh_l0 (32,), "
        "head.weight (3, 8), head.bias (3,)",
    ),
    "names that are nearly there": (
        lambda folder: _prefixed("policy."),
        {"layers": "net.lstm:LSTM haed:Linear"},
        f"{LISTED}net.lstm:LSTM: no tensor 'weight_ih_l0'; the state dict has no net.lstm; "
        "like it: policy.lstm\n  haed:Linear: no tensor 'weight'; the state dict has no haed; "
        f"like it: policy.head\n  policy.lstm: {OF_LSTM} belongs to no layer of the description"
        "\n  policy.head: weight (3, 8), bias (3,) belongs to no layer of the description",
    ),
    "a layer twice": (
        lambda folder: _state(),
        {"layers": f"{LAYERS} head:Linear"},
        f"{LISTED}head:Linear: no tensor 'weight'; head is there twice, and its tensors are those "
        "of the first",
    ),
    "a layer that was forgotten": (
        lambda folder: _state(fc2=nn.Linear(3, 5)),
        {"layers": LAYERS},
        f"{LISTED}fc2: weight (5, 3), bias (5,) belongs to no layer of the description; describe "
        'it, as fc2:Linear, or leave it out: ignore="fc2.*" (--ignore "fc2.*")',
    ),
    "two networks in one file": (
        lambda folder: {
            **_state(critic=nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1))),
            "std": torch.ones(3),
        },
        {"layers": LAYERS},
        f"{LISTED}critic.0: weight (4, 8), bias (4,) belongs to no layer of the description; "
        'describe it, as critic.0:Linear, or leave it out: ignore="critic.0.*" '
        '(--ignore "critic.0.*")'
        "\n  critic.2: weight (1, 4), bias (1,) belongs to no layer of the description; "
        'describe it, as critic.2:Linear, or leave it out: ignore="critic.2.*" '
        '(--ignore "critic.2.*")'
        "\n  std: (3,) belongs to no layer of the description; leave it out: "
        'ignore="std" (--ignore "std")'
        '\n  to leave out all of that: ignore="critic.*,std" (--ignore "critic.*,std")',
    ),
    "a pattern that would take from a layer": (
        lambda folder: _state(),
        {"layers": LAYERS, "ignore": "head.bias"},
        f'{LISTED}ignore="head.bias": is of head.bias, which a layer of the description takes',
    ),
    "two places that fit": (
        lambda folder: {**_prefixed("actor."), **_prefixed("critic.")},
        {"layers": LAYERS},
        'several parts of the state dict have head, lstm: "actor.", "critic."; choose one, as '
        'prefix="actor."',
    ),
    "a prefix that is not there": (
        lambda folder: _prefixed("actor."),
        {"layers": LAYERS, "prefix": "agent"},
        "no name begins with prefix='agent'; the names begin with \"actor\"",
    ),
    "two state dicts that fit": (
        lambda folder: {"model": _state(), "ema": _state()},
        {"layers": "lstm:LSTM"},
        "holds several state dicts: 'model' (lstm.weight_ih_l0, lstm.weight_hh_l0, "
        "lstm.bias_ih_l0, ...), 'ema' (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, ...);"
        " choose one, as key='model'",
    ),
    "a key that is not there": (
        lambda folder: _saved(folder, {"model": {"weights": _state()}, "epoch": 3}),
        {"layers": LAYERS, "key": "model.state"},
        "{folder}/net.pt: holds no 'model.state'; it holds model, epoch",
    ),
    "a key that is a prefix": (
        lambda folder: _saved(folder, _prefixed("model.")),
        {"layers": LAYERS, "key": "model"},
        "{folder}/net.pt: holds no 'model'; its names begin with it: say prefix='model'",
    ),
    "a key of a file without dicts": (
        lambda folder: _safetensors(folder, _state()),
        {"layers": LAYERS, "key": "model"},
        "{folder}/model.safetensors: has no 'model': a .safetensors file has no dicts in it",
    ),
    "a head that is not the embedding": (
        lambda folder: {"e.weight": torch.ones(9, 4), "head.bias": torch.ones(8)},
        {"layers": "e:Embedding head:Linear"},
        f"{LISTED}head:Linear: no tensor 'weight'; the state dict has bias (8,)",
    ),
    "a head that is tied to nothing": (
        lambda folder: {"e.weight": torch.ones(9, 4), "head.bias": torch.ones(9)},
        {"layers": "e:Embedding head:Linear(tied=emb)"},
        f"{LISTED}head:Linear(tied=emb): tied=emb, of which there is no emb.weight; the state dict "
        "has bias (9,)",
    ),
    "numbers of 8 bits": (
        lambda folder: _safetensors(
            folder, {n: t.to(torch.float8_e5m2) for n, t in _state().items() if "bias" in n}
        ),
        {"layers": LAYERS},
        "{folder}/model.safetensors: expected other dtypes: head.bias is F8_E5M2, lstm.bias_hh_l0 "
        "is F8_E5M2, lstm.bias_ih_l0 is F8_E5M2; save the weights as float32, float16 or bfloat16",
    ),
    "what is a model already": (
        lambda folder: _safetensors(folder, _state(), format="numlstm"),
        {"layers": LAYERS},
        "{folder}/model.safetensors: is a model of numlstm already: numlstm.load reads it",
    ),
    "a folder of something else": (
        lambda folder: folder,
        {"layers": LAYERS},
        "{folder}: expected one file of weights (model.safetensors, model.safetensors.index.json "
        "or the like), found only nothing; give the path of the file that is meant",
    ),
    "an index that leads out": (
        lambda folder: _index(folder, '{"weight_map": {"a": "../b.safetensors"}}'),
        {"layers": LAYERS},
        "{folder}/model.safetensors.index.json: '../b.safetensors' leads out of the folder; copy "
        "that file into it, and name it there",
    ),
    "an index of nothing": (
        lambda folder: _index(folder, "[]"),
        {"layers": LAYERS},
        "{folder}/model.safetensors.index.json: has no weight_map",
    ),
    "an index of more than there is": (
        _shards,
        {"layers": "a:Linear"},
        "{folder}/model.safetensors.index.json: a.bias is not in model.safetensors, as it says",
    ),
    "a network without a module of that name": (
        lambda folder: _prefixed("net."),
        {"network": Network((spec.Linear(8, 3, False, name="heads"),))},
        f"{LISTED}heads.weight: missing, expected (3, 8); like it: net.head",
    ),
    "tensors that are of no network": (
        lambda folder: _state(),
        {"layers": LAYERS, "tensors": {"layers.0.weight": np.ones((3, 8))}},
        "tensors are those of a network; pass network= too",
    ),
    "tensors that do not fit": (
        lambda folder: _state(),
        {
            "network": NAMED,
            "tensors": {
                "layers.1.weight": np.ones((3, 7)),
                "layers.1.bias": np.ones(3, np.int32),
                "head.weight": np.ones(3),
            },
        },
        f"{LISTED}tensors['layers.1.weight']: expected (3, 8), found (3, 7)"
        "\n  tensors['layers.1.bias']: expected floating point, found int32"
        "\n  tensors['head.weight']: is none of the network; it has layers.0.weight_ih, "
        "layers.0.weight_hh, layers.0.bias_ih, layers.0.bias_hh, layers.1.weight, layers.1.bias",
    ),
    "what is no tensor": (
        lambda folder: {**_state(), "head.weight": [1.0, 2.0]},
        {"layers": LAYERS},
        "a state dict has names and tensors; here 'head.weight' is list",
    ),
    "parameters of FSDP": (
        lambda folder: {"_fsdp_wrapped_module._flat_param": torch.ones(99)},
        {"layers": LAYERS},
        "the state dict holds parameters that FSDP has flattened; save the state dict as "
        "StateDictType.FULL_STATE_DICT gives it, and convert that",
    ),
    "no numbers": (
        lambda folder: {n: t.to("meta") for n, t in _state().items() if n == "head.weight"},
        {"layers": "head:Linear"},
        "a state dict has names and tensors; here 'head.weight' is a tensor of no data",
    ),
    "a file without tensors": (
        lambda folder: _saved(folder, {"epoch": 3}),
        {"layers": LAYERS},
        "{folder}/net.pt: holds no state dict; save model.state_dict() with torch.save and convert "
        "that",
    ),
    "what only code makes": (
        lambda folder: _saved(folder, {"lstm.weight_ih_l0": re.compile("a")}),
        {"layers": LAYERS},
        "{folder}/net.pt: cannot be read as tensors only: holds re._compile; save "
        "model.state_dict() with torch.save and convert that",
    ),
    "a program that was frozen": (
        _frozen,
        {"layers": ":Linear"},
        "{folder}/net.pt: is a TorchScript program whose tensors have no names: it was frozen, "
        "which makes them constants of its code; save it before torch.jit.freeze or "
        "optimize_for_mobile",
    ),
    "a program of long ago": (
        lambda folder: _archive(folder, model__json="{}"),
        {"layers": LAYERS},
        "{folder}/net.pt: is a TorchScript program of PyTorch before 1.4; load it with PyTorch, "
        "and save model.state_dict() with torch.save and convert that",
    ),
    "a file of the first format": (
        _first_format,
        {"layers": LAYERS},
        "{folder}/net.pt: is of the first format of PyTorch, before 0.4; load it with PyTorch, and "
        "save model.state_dict() with torch.save and convert that",
    ),
    "an export of another version": (
        lambda folder: _archive(folder, archive_format="pt2"),
        {"layers": LAYERS},
        "{folder}/net.pt: is a program of torch.export with 0 lists of weights, expected 1, as "
        "PyTorch 2.8 writes it; save torch.export.load(path).state_dict with torch.save, and "
        "convert that",
    ),
    "a package": (
        lambda folder: _archive(folder, **{".data/extern_modules": "torch"}),
        {"layers": LAYERS},
        "{folder}/net.pt: is a package of torch.package, a module as code, which is not run; open "
        "it with torch.package.PackageImporter, load the module, and save model.state_dict() with "
        "torch.save and convert that",
    ),
    "an export of long ago": (
        lambda folder: _archive(folder, "", serialized_exported_program__json="{}"),
        {"layers": LAYERS},
        "{folder}/net.pt: is a program of torch.export with 0 lists of weights, expected 1, as "
        "PyTorch 2.8 writes it; save torch.export.load(path).state_dict with torch.save, and "
        "convert that",
    ),
    "a module with hooks": (
        _hooked,
        {},
        "the modules cannot be converted:\n  Linear: has hooks, which cannot be converted; remove "
        "them: handle.remove()",
    ),
    "a table that changes as it is read": (
        lambda folder: nn.Embedding(9, 4, max_norm=1.0),
        {},
        "the modules cannot be converted:\n  0: Embedding: max_norm, which changes the weights at "
        "run time, is not supported; renormalise the weights once, and set max_norm to None",
    ),
    "a norm of each batch": (
        lambda folder: nn.BatchNorm1d(4, track_running_stats=False),
        {},
        "the modules cannot be converted:\n  0: BatchNorm1d: track_running_stats=False: what it "
        "answers depends on the batch; train it with track_running_stats=True",
    ),
    "padding that is reflected": (
        lambda folder: nn.Conv1d(3, 4, 3, padding=1, padding_mode="reflect"),
        {},
        "the modules cannot be converted:\n  0: Conv1d: padding_mode='reflect': only 'zeros'; pad "
        "the sequence before the network",
    ),
    "indices of a pooling": (
        lambda folder: nn.Sequential(nn.Linear(3, 4), nn.MaxPool1d(2, return_indices=True)),
        {},
        "the modules cannot be converted:\n  1: MaxPool1d: return_indices=True: only the values; "
        "make it with return_indices=False",
    ),
    "h_n of no recurrent layer": (
        lambda folder: {"a.weight": torch.ones(3, 4)},
        {"layers": "a:Linear final"},
        "the modules cannot be converted:\n  1: final: is of a recurrent layer, before it is "
        "Linear; put it right behind one; last is the last row of any layer",
    ),
    "a zip of something else": (
        lambda folder: _archive(folder, readme__txt="hello"),
        {"layers": LAYERS},
        "{folder}/net.pt: is an archive, but not of torch.save: it holds no data.pkl; save "
        "model.state_dict() with torch.save and convert that",
    ),
    "a policy": (
        lambda folder: _archive(folder, "", policy__pth="", data="{}"),
        {"layers": LAYERS},
        "{folder}/net.pt: is a policy of Stable-Baselines3; numlstm.policy.from_sb3(path) reads "
        "one of RecurrentPPO",
    ),
    "two layers or two directions": (
        lambda folder: _packed(folder, 4, 4, 2),
        {"layers": "lstm:LSTM"},
        "{folder}/net.pt: the state dict cannot be converted:\n  lstm: two packed cells that read "
        "4 numbers and have 4 units may be two layers, or the two directions of one; save the "
        "whole module with torch.save(model, path) in place of its state dict",
    ),
    "arrays of objects": (
        lambda folder: _arrays(folder, a=np.array([None])),
        {"layers": "a:Linear"},
        "{folder}/net.npz: the file cannot be converted:\n  a: it is an array of objects, which "
        "are pickles, and not read; save an array of numbers",
    ),
    "arrays of texts": (
        lambda folder: {"a.weight": np.array(["b"])},
        {"layers": "a:Linear"},
        "a state dict has names and tensors; here 'a.weight' is an array of <U1",
    ),
    "complex numbers": (
        lambda folder: {"a.weight": np.ones((2, 2), np.complex64)},
        {"layers": "a:Linear"},
        "a state dict has names and tensors; here 'a.weight' is a tensor of torch.complex64",
    ),
    "whole numbers": (
        lambda folder: {"a.weight": torch.ones(2, 2, dtype=torch.int8)},
        {"layers": "a:Linear"},
        f"{LISTED}a:Linear: weight is torch.int8, expected floating point: whole numbers are "
        "weights only with the scale that they are to be multiplied with; the state dict has "
        "weight (2, 2)",
    ),
    "a weight that code makes of others": (
        lambda folder: {"a.parametrizations.weight.original": torch.ones(2, 2)},
        {"layers": "a:Linear"},
        f"{LISTED}a.weight: it is made of original by a parametrization, which is code; "
        "save the state dict after torch.nn.utils.parametrize.remove_parametrizations(module, "
        "tensor_name)",
    ),
    "parts of a weight that do not go together": (
        lambda folder: {"a.weight_g": torch.ones(3, 1), "a.weight_v": torch.ones(2, 2)},
        {"layers": "a:Linear"},
        f"{LISTED}a.weight: g (3, 1) of weight norm does not go with v (2, 2); save the state dict "
        "after torch.nn.utils.remove_weight_norm(module, tensor_name)",
    ),
}


@pytest.mark.parametrize("name", WORDS)
def test_what_is_said(name, tmp_path):
    make, options, expected = WORDS[name]
    source = make(tmp_path)
    with pytest.raises(WeightsError) as caught:
        numlstm.from_torch(source, **options)
    assert str(caught.value) == expected.replace("{folder}", str(tmp_path))
