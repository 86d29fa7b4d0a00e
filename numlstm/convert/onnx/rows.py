"""Which weights in int8 are rows of ours: integers up to 127 and a scale for each row.

Their integers stay as they are, their scales to 16 bits. What shares a scale between rows, or has a
zero point, would be rounded once more: it stays in float32, exactly.
"""

from dataclasses import replace

import numpy as np

from numlstm.budget import spend
from numlstm.network.layer import MatrixLayer
from numlstm.quantize import Floats, blocks, quantize_rows
from numlstm.spec import Layer, Network, Tensors

_OFF = 2.0**-8  # 127 times how much larger a scale of 16 bits may be, in steps


def with_int8_rows(network: Network, tensors: Tensors) -> tuple[Network, str]:
    """Return the network with the layers in int8 that are, and what to say of that."""
    kept: list[str] = []
    others: list[str] = []
    layers: list[Layer] = []
    for prefix, layer in network.named_layers():
        if isinstance(layer, MatrixLayer):
            names = [f"{prefix}.{name}" for name in layer.matrices()]
            is_kept = all(_is_in_rows(tensors[name]) for name in names)
            (kept if is_kept else others).append(prefix)
            layer = replace(layer, dtype="int8") if is_kept else layer
        layers.append(layer)
    said = f"integers and scales of rows as they are in {', '.join(kept)}" if kept else ""
    if others:
        said += f"{'; ' if kept else ''}float32 in {', '.join(others)}"
    return Network(tuple(layers)), said


def _is_in_rows(weight: Floats) -> bool:
    """Tell whether each row is integers times its scale, the largest of which is 127."""
    spend("its rows in int8", 10 * weight.size, 10 * weight.size)
    q, scale = quantize_rows(weight)
    rows, integers = weight.reshape(len(weight), -1), q.reshape(len(q), -1)
    for block in blocks(*rows.shape):
        own = scale[block, None].astype(np.float64)
        if (np.abs(rows[block] - integers[block] * own) > _OFF * own).any():
            return False
    return True
