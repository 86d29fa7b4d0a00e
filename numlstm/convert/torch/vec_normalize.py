"""What `VecNormalize.save` of Stable-Baselines3 wrote -> how observations are normalised.

The file is a pickle of the wrapper itself, which is followed as data.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.budget import spending
from numlstm.convert.assembly import Refused, reading
from numlstm.convert.torch.files.pickles import Stranger, follow
from numlstm.spec import WeightsError

_RECONSTRUCT = tuple(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))
_SCALAR = tuple(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core"))
_BUFFER = tuple(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core"))


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Normalises an observation x: clip((x - mean) / sqrt(var + epsilon), -clip, clip).

    mean, var   float64, of the shape of an observation
    """

    mean: NDArray[np.float64]
    var: NDArray[np.float64]
    epsilon: float
    clip: float


def read_normalizer(path: str | os.PathLike[str]) -> Normalizer:
    """Read what normalises observations in the file of a `VecNormalize`, as data.

    Raises
    ------
    WeightsError
        If it is damaged, holds something else, or does not normalise observations that are arrays.
    """
    with (
        spending(Path(path).stat().st_size),
        Path(path).open("rb") as file,
        reading("cannot be read as what VecNormalize.save writes", os.fspath(path)),
    ):
        wrapper = follow(file, {"_codecs.encode": _bytes})
        state = wrapper.state if isinstance(wrapper, Stranger) else None
        if not isinstance(state, Mapping) or "obs_rms" not in state:
            raise WeightsError("is not what VecNormalize.save writes: it holds no obs_rms")
        if state.get("norm_obs") is False:
            raise WeightsError("does not normalise observations: norm_obs is False")
        moments = state["obs_rms"]
        if not isinstance(moments, Stranger) or not isinstance(moments.state, Mapping):
            raise Refused(
                "normalises observations by their keys, expected one array",
                "join obs_rms[name].mean and .var in the order of policy.model.inputs, for "
                "numlstm.policy.normalized(policy.model, mean, var)",
            )
        mean, var = (_array(moments.state.get(name)) for name in ("mean", "var"))
        epsilon, clip = (float(_array(state.get(name))) for name in ("epsilon", "clip_obs"))
        if mean.shape != var.shape or not (np.isfinite(mean).all() and (var + epsilon > 0).all()):
            raise WeightsError("has a mean or a variance that normalises nothing")
        if not clip > 0:
            raise WeightsError(f"clips observations to {clip}")
        return Normalizer(mean, var, epsilon, clip)


def _bytes(text: Any, encoding: Any = None) -> Any:
    """Return bytes as the older protocols of pickles have them, as a text of their numbers."""
    return text.encode("latin1") if isinstance(text, str) else None


def _array(value: Any) -> NDArray[np.float64]:
    """Return an array of NumPy, or a number, as a pickle has it."""
    if isinstance(value, int | float):
        return np.array(value, np.float64)
    if isinstance(value, Stranger) and value.args is not None:
        if value.text in _RECONSTRUCT and isinstance(value.state, tuple):
            _, shape, dtype, by_columns, data = value.state
            return _numbers(data, dtype, shape, "F" if by_columns else "C")
        if value.text in _BUFFER:
            data, dtype, shape, order = value.args
            return _numbers(data, dtype, shape, order)
        if value.text in _SCALAR:
            dtype, data = value.args
            return _numbers(data, dtype, (), "C")
    raise WeightsError("has something else where an array of numbers is expected")


def _numbers(data: Any, dtype: Any, shape: Any, order: str) -> NDArray[np.float64]:
    code = dtype.args[0] if isinstance(dtype, Stranger) and dtype.args else ""
    byte_order = dtype.state[1] if code and isinstance(dtype.state, tuple) else "<"
    if code not in ("f2", "f4", "f8", "i4", "i8") or byte_order not in ("<", ">", "="):
        raise WeightsError(f"has an array of {code or 'something else'!s:.20}, expected numbers")
    numbers = np.frombuffer(data, byte_order + code)
    return numbers.reshape(shape, order="F" if order == "F" else "C").astype(np.float64)
