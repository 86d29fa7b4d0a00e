"""Observations that are normalised within the network."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from numlstm.model import Model
from numlstm.run.border import finite_floats
from numlstm.spec import INPUT, Activation, Attention, BatchNorm, Layer, Network


def normalized(
    model: Model, mean: ArrayLike, var: ArrayLike, clip: float = 10.0, eps: float = 1e-8
) -> Model:
    """Return a model that normalises what it reads first: clip((x - mean) / sqrt(var + eps)).

    It is what `VecNormalize` of Stable-Baselines3 does with observations, as two layers of the
    network: saved with it, and run by the same compiled call.

    Parameters
    ----------
    model : Model
        A network that reads numbers.
    mean, var : array of shape (input_size,)
        Of the observations of training, ``obs_rms.mean`` and ``obs_rms.var``.
    clip : float
        ``clip_obs``: what the result is bounded by.
    eps : float
        ``epsilon``.

    Raises
    ------
    TypeError, ValueError
        If these are not of that shape, not finite, or negative.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model is {type(model).__name__}, expected a Model")
    if model.vocab_size is not None:
        raise ValueError("the model reads token ids, which are not normalised")
    size = model.input_size
    variance = finite_floats("var", var, (size,))
    if (variance < 0).any() or not clip > 0 or not np.isfinite(clip):
        raise ValueError("var is negative, or clip is not a finite number above 0")
    own = {"running_mean": finite_floats("mean", mean, (size,)), "running_var": variance}
    before: tuple[Layer, ...] = (
        BatchNorm(size, eps, weight=False, bias=False),
        Activation(size, f"clip({-float(clip)!r}, {float(clip)!r})", name=_NORMALIZED),
    )
    weights = model.weights
    network = Network((*before, *(_reading_it(layer) for layer in weights.network.layers)))
    names = [prefix for prefix, _ in network.named_layers()]
    moved = zip(weights.network.named_layers(), names[len(before) :], strict=True)
    tensors = {
        f"{new}.{name}": weights.tensors[f"{old}.{name}"]
        for (old, layer), new in moved
        for name in layer.tensors()
    }
    tensors |= {f"{names[0]}.{name}": tensor for name, tensor in own.items()}
    return Model(replace(weights, network=network, tensors=tensors, probes=()))


_NORMALIZED = "normalized observation"


def _reading_it(layer: Layer) -> Layer:
    """Return a layer that reads the normalised observation where it read the input."""
    if isinstance(layer, Attention) and layer.memory == INPUT:
        layer = replace(layer, memory=_NORMALIZED)
    inputs = tuple(_NORMALIZED if name == INPUT else name for name in layer.inputs)
    return replace(layer, inputs=inputs)
