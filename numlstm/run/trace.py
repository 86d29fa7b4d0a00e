"""Trace: what the gates of every recurrent layer did at every step of a stream.

The plan of a step writes every buffer at most where a later operation of the same layer wants it,
so what a cell made of its gates still lies in the state after the step. A trace reads it there.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.plots import draw_trace
from numlstm.quantize import blocks
from numlstm.run.border import Floats
from numlstm.run.state import State


@dataclass(frozen=True)
class Trace:
    """What the recurrent layers of a stream did in T steps.

    ys     what the steps answered, (T, output_size): the bits of `Stream.run`
    rows   a layer's numbers after every step, float32 (T, hidden_size) by name:
           ``layers.0.i``, ``.f``, ``.g``, ``.o``, ``.c``, ``.h`` of an LSTM,
           ``layers.0.r``, ``.z``, ``.n``, ``.h`` of a GRU, ``layers.0.h`` of an RNN;
           the letters of other cells are those of their equations

    h and c are the engine's own bits, as `Stream.state` gives them, and so are the gates of a cell
    with any option. The cells of torch.nn keep their gates in registers: of those, a gate is the
    exact function of the engine's own pre-activation, rounded once. Names are those of Hochreiter,
    Schmidhuber 1997 and Gers et al. 2000 (LSTM), Cho et al. 2014 (GRU), with PyTorch's letters.
    Gates of a masked step, which opens none, are NaN.
    """

    ys: Floats
    rows: Mapping[str, Floats]

    def __getitem__(self, name: str) -> Floats:
        """Return the rows of a name, (T, hidden_size)."""
        if name not in self.rows:
            raise KeyError(f"{name} is not among {', '.join(self.rows)}")
        return self.rows[name]

    def __len__(self) -> int:
        return len(self.ys)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the recurrent layers: ``layers.0``."""
        return tuple(dict.fromkeys(name.rpartition(".")[0] for name in self.rows))

    def of_layer(self, layer: str | None = None) -> dict[str, Floats]:
        """Return the rows of one layer, the last if none is named: "i", "f", "g", "o", "c", "h".

        Raises
        ------
        ValueError
            If there is no such recurrent layer.
        """
        if layer is None:
            layer = self.layers[-1]
        if layer not in self.layers:
            raise ValueError(f"{layer!r} is no recurrent layer, expected {', '.join(self.layers)}")
        split = ((name.rpartition("."), rows) for name, rows in self.rows.items())
        return {name: rows for (prefix, _, name), rows in split if prefix == layer}

    def plot(
        self,
        path: str | os.PathLike[str],
        tokens: Sequence[str] | None = None,
        layer: str | None = None,
    ) -> None:
        """Draw a layer as heat maps of units by steps, one for each gate and state.

        Parameters
        ----------
        path : str or path
            The picture to write: .png, .svg or .pdf.
        tokens : sequence of T str, optional
            What the steps read, written below them.
        layer : str, optional
            ``layers.0``; the last recurrent one if not given.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are not T tokens, or there is no such layer.
        """
        draw_trace(self.of_layer(layer), path, tokens)


def record(state: State, xs: NDArray[Any]) -> Trace:
    """Take the steps of checked rows and record them; all of them, or none if this raises."""
    compiled = state.compiled
    program = compiled.program
    if not program.state_names:
        raise ValueError("the network has no recurrent layer, so there is nothing to trace")
    masked = compiled.network.masked(xs)
    gates, states = program.step.gates, program.state_names
    # What the cells leave after a step: the arguments of the gates' formulas, and the states.
    left = {(name, n): at for name, gate in gates.items() for n, at in enumerate(gate.places)}
    recorded: dict[Any, Floats] = {
        key: np.full((len(xs), size), np.nan, np.float32)
        for key, (_, size) in [*left.items(), *states.items()]
    }
    ys = np.empty((len(xs), compiled.output_size), np.float32)
    twin = state.twin()
    for t in range(len(xs)):
        if masked is not None and masked[t]:
            ys[t] = twin.answer
        else:
            twin.run(xs[t : t + 1], ys[t : t + 1])
            for key, place in left.items():
                recorded[key][t] = twin.numbers(place)
        for name, place in states.items():
            recorded[name][t] = twin.numbers(place)
    rows = {}
    for layer in dict.fromkeys(name.rpartition(".")[0] for name in states):
        for name, gate in gates.items():
            if name.rpartition(".")[0] == layer:
                parts = [recorded[name, n] for n in range(len(gate.places))]
                rows[name] = np.empty_like(parts[0])
                for some in blocks(*parts[0].shape):
                    doubles = [part[some].astype(np.float64) for part in parts]
                    rows[name][some] = gate.formula(*doubles)
        own = sorted(name for name in states if name.rpartition(".")[0] == layer)
        rows |= {name: recorded[name] for name in own}
    for values in rows.values():
        values.flags.writeable = False
    state.go_back(twin.kept)
    return Trace(ys, MappingProxyType(rows))
