"""How far a graph that rounds is from the float32 of its own weights, which judges the network."""

import logging
from collections.abc import Sequence

import numpy as np

from numlstm.convert.assembly import Array
from numlstm.convert.onnx.source import Source
from numlstm.spec import Probe, WeightsError

# What rounding may be of what the answers vary, in the mean: eight bits are far below. A graph that
# was not understood is as far off as the answers are from each other.
_MOST = 0.5
_SLACK = 0.05


def compared(own: Source, kinds: Sequence[str], probes: Sequence[Probe]) -> str:
    """Return what to say of a graph that rounds: how far its own answers are.

    Parameters
    ----------
    own : the graph as the file has it
    kinds : of numbers that it holds: "float16", "int8 weights", ...
    probes : answers in float32 of the same weights

    Raises
    ------
    WeightsError
        If that is more than rounding is.
    """
    what = ", ".join(kinds)
    try:
        if not own.answers:
            raise WeightsError("nothing installed can run it")
        answers = [own.run(probe.xs) for probe in probes]
    except WeightsError as error:
        said = f"the file's own answers ({what}) are not known: {error}"
    else:
        largest, excess = _difference([probe.ys for probe in probes], answers)
        said = f"the file's own answers ({what}) by {own.name} differ from that by {largest:.1e}"
        if not excess <= 1:
            raise WeightsError(
                f"the graph in float32 does not answer as the file does, which has {what}: the "
                f"largest difference is {largest:.1g}, more than rounding explains"
            )
    logging.getLogger("numlstm").info("judged in float32 of the weights in the file; %s", said)
    return said


def _difference(expected: Sequence[Array], answers: Sequence[Array]) -> tuple[float, float]:
    """Return the largest difference, and the mean one in units of what rounding may be."""
    ours, theirs = (np.concatenate(list(ys)).astype(np.float64) for ys in (expected, answers))
    difference = np.abs(ours - theirs)
    varies = np.sqrt(((ours - ours.mean(0)) ** 2).mean())
    mean = np.sqrt((difference**2).mean())
    return float(difference.max()), float(mean / (_MOST * varies + _SLACK))
