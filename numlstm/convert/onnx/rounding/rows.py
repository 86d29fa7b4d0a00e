"""Which weights in int8 are rows of ours: integers up to 127 and a scale for each row.

Their integers stay as they are, their scales to 16 bits, and what they are multiplied with is
rounded to 16 bits. What shares a scale between rows, or has a zero point, would be rounded once
more: it stays in float32, exactly.
"""

from dataclasses import replace

import numpy as np

from numlstm.budget import spend
from numlstm.network.layer import MatrixLayer
from numlstm.quantize import Floats, blocks, quantize_rows
from numlstm.spec import Layer, Network, Tensors

_OFF = 2.0**-8  # 127 times how much larger a scale of 16 bits may be, in steps


def with_int8_rows(network: Network, tensors: Tensors, is_rounded: bool) -> tuple[Network, str]:
    """Return the network with the layers in int8 that are, and what to say of that.

    Parameters
    ----------
    is_rounded : whether the file rounds what enters its products, too; if it multiplies float32,
        so does the network, and `Model.astype` makes int8 of it.
    """
    kept: list[str] = []
    others: list[str] = []
    layers: list[Layer] = []
    for prefix, layer in network.named_layers():
        if isinstance(layer, MatrixLayer):
            names = [f"{prefix}.{name}" for name in layer.matrices()]
            is_kept = all(_is_in_rows(tensors[name]) for name in names)
            (kept if is_kept else others).append(prefix)
            layer = replace(layer, dtype="int8") if is_kept and is_rounded else layer
        layers.append(layer)
    how = "rows in int8 as they are" if is_rounded else "float32 until astype('int8') keeps rows"
    said = [f"{how}: {', '.join(kept)}"] if kept else []
    said += [f"float32: {', '.join(others)}"] if others else []
    return Network(tuple(layers)), "; ".join(said)


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
