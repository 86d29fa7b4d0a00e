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

    The network and the tensors without masks, every recurrent layer giving zeros; and such a step,
    (1,) or (1, input_size), as its input.
    """
    layers: list[spec.Layer] = []
    kept = dict(tensors)
    x: NDArray[Any] = np.zeros(1, np.int32)
    for prefix, layer in network.named_layers():
        if isinstance(layer, spec.Recurrent):
            for name in layer.tensors():
                del kept[f"{prefix}.{name}"]
            shape = (layer.output_size, layer.input_size)
            kept[f"{prefix}.weight"] = np.zeros(shape, np.float32)
            layer = spec.Linear(*shape[::-1], False, name=layer.name, inputs=layer.inputs)
        elif isinstance(layer, spec.Masking):
            x = np.full((1, layer.input_size), layer.value, np.float32)
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
    before: Callable[[], Floats] | None,
) -> list[Floats]:
    """Return what ``run`` answers to sequences without the steps that are left out.

    before   returns what those before any other repeat, (O,); None where answers are not to steps,
             and so none is repeated
    """
    masks = [network.masked(xs) for xs in xss]
    yss = run([xs if m is None else xs[~m] for xs, m in zip(xss, masks, strict=True)])
    if before is None or not network.masks:
        return yss
    first = before()
    pairs = zip(yss, masks, strict=True)
    return [ys if m is None else spread(first, ys, m) for ys, m in pairs]


def answer_or_zeros(answer: Callable[[], Floats], output_size: int) -> Floats:
    """Return the answer of a `resting` network; zeros if it overflows, as log(0) does."""
    try:
        return answer()
    except ValueError:
        return np.zeros(output_size, np.float32)


def spread(before: Floats, ys: Floats, masked: NDArray[np.bool_]) -> Floats:
    """Return an answer for every step: those that were left out repeat the one before.

    before   what the steps before the first answer repeat, (O,)
    ys       the answers to the other steps, (T - masked.sum(), O)
    """
    return np.concatenate([before[None], ys])[np.cumsum(~masked)]
