"""A .safetensors file of any framework -> its tensors, read without the library of that name."""

import os
from typing import Any

import torch

from numlstm.budget import spend
from numlstm.container import FOREIGN, Container
from numlstm.convert.assembly import reading
from numlstm.convert.torch.leftover import say
from numlstm.errors import first_of
from numlstm.spec import WeightsError

_INSTEAD = "save the weights as float32, float16 or bfloat16"


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read all tensors of a file, and those that are another's under a name of their own.

    Raises
    ------
    WeightsError
        If the file is damaged, is of numlstm, or has numbers that PyTorch has not.
    """
    with reading("cannot be read as a .safetensors file", os.fspath(path)), Container(path) as file:
        if file.metadata.get("format") == "numlstm":
            raise WeightsError("is a model of numlstm already: numlstm.load reads it")
        strange = file.strange(FOREIGN)
        if strange:
            raise WeightsError(f"expected other dtypes: {first_of(strange)}; {_INSTEAD}")
        file.check(FOREIGN)
        tensors = {name: _tensor(file, name) for name in file}
        # save_model of that library leaves out what is shared: {"head.weight": "embed.weight"}.
        shared = {
            name: kept
            for name, kept in file.metadata.items()
            if kept in tensors and name not in tensors
        }
        if shared:
            say("shared, as the file says: " + ", ".join(f"{n} is {k}" for n, k in shared.items()))
        return tensors | {name: tensors[kept] for name, kept in shared.items()}


def _tensor(file: Container, name: str) -> torch.Tensor:
    spend(f"tensor {name!r}", 2 * file.num_bytes(name), file.num_bytes(name))
    array: Any = file[name]
    if file.dtype(name) == "BF16":
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)
