"""Steps that a network leaves out: they change no state, and the answer before is repeated.

Which steps those are, `Network.masked` tells.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm import spec
from numlstm.quantize import Encoded
from numlstm.run.border import Floats


def resting(network: spec.Network, tensors: Encoded) -> tuple[spec.Network, Encoded, NDArray[Any]]:
    """Return what is run for the steps that are left out before any other.

    The network and the tensors without masks, every recurrent layer that reads the steps giving
    zeros; and such a step, (1,) or (1, input_size), as its input: zeros, as a `Masking` gives.
    """
    layers: list[spec.Layer] = []
    kept = dict(tensors)
    x: NDArray[Any] = np.zeros(1, np.int32)
    steps = network.rows_of(-1)
    for n, (prefix, layer) in enumerate(network.named_layers()):
        reads_steps = any(network.rows_of(source) == steps for source in network.sources(n))
        if isinstance(layer, spec.Recurrent) and reads_steps:
            for name in layer.tensors():
                del kept[f"{prefix}.{name}"]
            shape = (layer.output_size, layer.input_size)
            kept[f"{prefix}.weight"] = np.zeros(shape, np.float32)
            layer = spec.Linear(*shape[::-1], False, name=layer.name, inputs=layer.inputs)
        elif isinstance(layer, spec.Masking):
            x = np.zeros((1, layer.input_size), np.float32)
        layers.append(unmasked(layer))
    return spec.Network(tuple(layers)), kept, x


def unmasked(layer: spec.Layer) -> spec.Layer:
    """Return a layer that leaves out no steps."""
    match layer:
        case spec.Embedding():
            return replace(layer, mask_zero=False)
        case spec.Masking():
            return spec.Concat(layer.input_size, name=layer.name)
    return layer


def run_unmasked(
    network: spec.Network,
    xss: list[NDArray[Any]],
    run: Callable[[list[NDArray[Any]]], list[Floats]],
    at_rest: Callable[[], Floats],
) -> list[Floats]:
    """Return what ``run`` answers to sequences without the steps that are left out.

    at_rest   returns the answer of the `resting` network, (1, O), or as many rows as it gives:
              what the steps before any other repeat, and all that is answered where none is left
    """
    masks = [network.masked(xs) for xs in xss]
    yss = run([xs if m is None else xs[~m] for xs, m in zip(xss, masks, strict=True)])
    if not any(m is not None and m.any() for m in masks):
        return yss
    answer = at_rest()
    pairs = zip(yss, masks, strict=True)
    if network.rows[-1] != network.rows_of(-1):  # there is no answer to each step
        return [answer.copy() if m is not None and m.size and m.all() else ys for ys, m in pairs]
    return [ys if m is None else spread(answer[-1], ys, m, network.rests) for ys, m in pairs]


def answer_or_zeros(answer: Callable[[], Floats], output_size: int) -> Floats:
    """Return the answer of a `resting` network, (1, O); zeros if it overflows, as log(0) does."""
    try:
        return answer()
    except ValueError:
        return np.zeros((1, output_size), np.float32)


def spread(before: Floats, ys: Floats, masked: NDArray[np.bool_], rests: bool = False) -> Floats:
    """Return an answer for every step: those that were left out repeat the one before.

    before   what the steps before the first answer repeat, (O,)
    ys       the answers to the other steps, (T - masked.sum(), O)
    rests    whether all that were left out have the answer of those before the first
    """
    numbers = np.cumsum(~masked)
    return np.concatenate([before[None], ys])[np.where(masked, 0, numbers) if rests else numbers]
