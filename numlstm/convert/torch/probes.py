"""What the modules of PyTorch themselves answer."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from numlstm.convert.torch.composed import Flat, resolved
from numlstm.convert.torch.modules import Step, is_crf


def runner(steps: Iterable[Step], is_causal: bool) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return a ``run`` for `make_probes`: what the modules answer, in their dtype.

    Parameters
    ----------
    is_causal : bool
        Whether poolings give the value of every step, or one for the sequence.
    """
    steps = resolved(list(steps))

    def run(xs: NDArray[Any]) -> NDArray[Any]:
        values = torch.from_numpy(xs.copy())  # some modules write to what they read
        h_n = values
        # PyTorch warns where another of its paths would be faster.
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            for step in steps:
                if isinstance(step, str):
                    values = _pooled(step, values, h_n, is_causal)
                elif isinstance(step, nn.RNNBase):
                    # Without a batch axis, so that batch_first does not matter.
                    values, last = step(values)
                    last = last[0] if isinstance(last, tuple) else last  # (layers x directions, H)
                    h_n = last[-2:].reshape(1, -1) if step.bidirectional else last[-1:]
                elif isinstance(step, Flat):
                    values = step(values) if is_causal else step(values)[-1:]
                elif isinstance(step, nn.RNNCellBase):
                    values = _run_cell(step, values)
                    h_n = values[-1:]
                else:
                    values = _run_module(step, values)
        return np.asarray(values.numpy())

    return run


def _pooled(word: str, xs: torch.Tensor, h_n: torch.Tensor, is_causal: bool) -> torch.Tensor:
    """Return what a pooling makes of (T, F): the value so far, or the last of them alone."""
    match word:
        case "final":
            ys = xs if is_causal else h_n
        case "mean":
            ys = xs.cumsum(0) / torch.arange(1, len(xs) + 1)[:, None]
        case "sum":
            ys = xs.cumsum(0)
        case "max":
            ys = xs.cummax(0).values
        case _:
            ys = xs
    return ys if is_causal else ys[-1:]


def _run_cell(cell: nn.RNNCellBase, xs: torch.Tensor) -> torch.Tensor:
    rows = []
    state: Any = None
    for x in xs:
        state = cell(x, state)
        rows.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(rows)


def _run_module(module: nn.Module, xs: torch.Tensor) -> torch.Tensor:
    match module:
        case (
            nn.Conv1d() | nn.ConstantPad1d() | nn.MaxPool1d() | nn.AvgPool1d() | nn.InstanceNorm1d()
        ):
            return torch.as_tensor(module(xs.T)).T
        case nn.Embedding():
            return torch.as_tensor(module(xs.long()))
        case _ if is_crf(module):
            batch_axis = 0 if getattr(module, "batch_first", False) else 1
            (tags,) = module.decode(xs.unsqueeze(batch_axis))
            return torch.eye(xs.shape[1], dtype=xs.dtype)[torch.tensor(tags)]
    return torch.as_tensor(module(xs))
