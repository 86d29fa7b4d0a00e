"""Files of state dicts: their bytes, their pickles, and other tensors under their names."""

import io
import pickle
import pickletools
import warnings
from pathlib import Path
from random import Random
from typing import Any

import torch

import numlstm
import numlstm.convert.torch as convert
from tests.fuzz._changes import archived, change_bytes, change_entries, entries, some
from tests.fuzz._promises import check_model, refused

torch.set_num_threads(1)
torch.set_num_interop_threads(1)

_make_probes = convert.make_probes
_DESCRIPTIONS = {
    "embed.weight": "embed:Embedding lstm:LSTM mean norm:LayerNorm head:Linear softmax",
    "conv.weight": "conv:Conv1d(padding=causal) bn:BatchNorm1d gru:GRU final head:Linear",
    "crf.transitions": "cell:LSTMCell out:Linear tanh crf:CRF",
    "out.parametrizations": "cell:LSTMCell out:Linear",
    "_parameters": "embed:Embedding lstm:LSTM norm:LayerNorm head:Linear",
    "__torch__": ":Linear",
}


def change(data: bytes, donor: bytes, random: Random) -> bytes:
    if random.random() < 0.25:
        return change_bytes(data, donor, random)
    if random.random() < 0.5:
        return _with_other_pickle(data, donor, random)
    with warnings.catch_warnings(action="ignore"):
        try:
            state = torch.load(io.BytesIO(data), weights_only=True)
        except (pickle.UnpicklingError, RuntimeError):  # of a whole module, or of a program
            return _with_other_pickle(data, donor, random)
        for _ in some(4, random):
            _change(state, random)
        file = io.BytesIO()
        torch.save(state, file)
    return file.getvalue()


def read(data: bytes, folder: Path, random: Random) -> str:
    path = folder / "model.pt"
    path.write_bytes(data)
    given: dict[str, Any] = {"key": "state"} if b"epoch" in data else {}
    if random.random() < 0.1:
        given = {"network": numlstm.Network((numlstm.LSTM(3, 4, name="lstm"),))}
    else:
        known = [text for name, text in _DESCRIPTIONS.items() if name.encode() in data]
        given["layers"] = random.choice(known or list(_DESCRIPTIONS.values()))
    return convert_torch(path, given, random)


def convert_torch(path: Path, given: dict[str, Any], random: Random) -> str:
    convert.make_probes = _make_probes if random.random() < 0.02 else lambda *_: ()
    try:
        with warnings.catch_warnings(action="ignore"):
            model = numlstm.from_torch(path, **given)
    except numlstm.WeightsError as error:
        return refused(error)
    return check_model(model, random)


# Changes ------------------------------------------------------------------------------------------


def _with_other_pickle(data: bytes, donor: bytes, random: Random) -> bytes:
    """Change opcodes of the pickle in the archive, or its files."""
    files, others = entries(data), entries(donor)
    name = next(name for name in files if name.endswith("data.pkl"))
    if random.random() < 0.2:
        change_entries(files, random)
        return archived(files or {"x": b""})
    program = bytearray(files[name])
    starts = [at or 0 for _, _, at in pickletools.genops(files[name])]
    for _ in some(6, random):
        at, other = random.choice(starts), random.choice(starts)
        match random.randrange(4):
            case 0 if at < len(program):
                program[at] = ord(random.choice(pickletools.opcodes).code.encode("latin-1"))
            case 1:
                del program[at : at + random.randrange(1, 12)]
            case 2:
                program[at:at] = program[other : other + random.randrange(1, 40)]
            case _:
                swapped = random.choice(
                    (b"torch._utils", b"torch FloatStorage", b"builtins", b"os")
                )
                program = program.replace(b"torch", swapped, 1)
    files[name] = (
        bytes(program)
        if random.random() < 0.8
        else change_bytes(
            files[name], next(d for n, d in others.items() if n.endswith("data.pkl")), random
        )
    )
    return archived(files)


def _change(state: Any, random: Random) -> None:
    inside = state["state"] if "state" in state and random.random() < 0.8 else state
    name = random.choice(list(inside) or [""])
    found = inside.pop(name, None)
    if not isinstance(found, torch.Tensor):
        inside[name] = random.choice((found, None, "x", [1], {"a": torch.zeros(2)}, torch.zeros(3)))
        return
    if found.numel() > 2**20:  # one number that was expanded before: no work is done on it here
        inside[name] = found
        return
    match random.randrange(9):
        case 0:
            return
        case 1:
            name = random.choice(
                (*inside, "", "x.weight", f"{name}.weight", "lstm.weight_hr_l0", 7)
            )
        case 2:
            found = found.T if found.dim() == 2 else found[None]
        case 3:
            kind = random.choice(
                (
                    torch.float64,
                    torch.float16,
                    torch.bfloat16,
                    torch.int64,
                    torch.bool,
                    torch.complex64,
                )
            )
            found = found.to(kind)
        case 4:
            found = found.to_sparse() if random.random() < 0.5 else found.to("meta")
        case 5:
            shape = random.choice(((2**20, 2**20), (0,), (0, 3), (1,) * 30, (2**31,), ()))
            found = torch.zeros(1).expand(shape) if random.random() < 0.7 else torch.zeros(3, 0)
        case 6:
            found = found.flatten()[: random.randrange(found.numel() + 1)]
        case 7:
            found = torch.quantize_per_tensor(found.float(), 0.1, 0, torch.qint8)
        case _:
            found = found * random.choice((float("nan"), float("inf"), 1e30, 0, -1))
    inside[name] = found
