"""A network that is not causal -> stages: causal networks, and what must see more than one step.

Causal layers with the same rows become one network, and so one compiled call.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from numlstm import spec
from numlstm.program.lower import Fold, can_fold
from numlstm.quantize import Encoded, floats_of
from numlstm.run.compiled import Compiled
from numlstm.run.mask import unmasked
from numlstm.spec import Layer, Network, Recurrent, WeightsError
from numlstm.stages.causal import Causal, Pooled
from numlstm.stages.directions import Directions
from numlstm.stages.path import BestPath
from numlstm.stages.rows import Attended, Flattened, Repeated, Reversed
from numlstm.stages.stage import INPUT, Read, Stage
from numlstm.stages.window import Convolution, WindowPooling


@dataclass(frozen=True)
class Part:
    """A causal part of a network: what runs it, and the names of its tensors in the network."""

    compiled: Compiled
    names: Mapping[str, str]  # by those within the part


def split(
    network: Network, tensors: Encoded, fold: Fold, num_threads: int
) -> tuple[list[Stage], list[Part]]:
    """Return the stages of a network, in the order of their work, and their causal parts."""
    splitter = _Splitter(network, tensors, fold, num_threads)
    return splitter.split(), splitter.parts


class _Splitter:
    def __init__(self, network: Network, tensors: Encoded, fold: Fold, num_threads: int) -> None:
        self.network = network
        self.tensors = tensors
        self.prefixes = [prefix for prefix, _ in self.network.named_layers()]
        self.fold = fold
        self.num_threads = num_threads
        self.folded = {n for n in range(len(self.prefixes)) if self._is_folded(n)}
        self.ready: dict[int, int] = {INPUT: 0}  # after how many stages in a row
        self.parts: list[Part] = []

    def split(self) -> list[Stage]:
        # By level: the groups of layers that become one network, by their rows; the other layers.
        groups: dict[int, dict[tuple[Any, ...], list[int]]] = {}
        alone: dict[int, list[int]] = {}
        group_of: list[Any] = []
        for n, layer in enumerate(self.network.layers):
            level = max(self.ready[source] for source in self._sources(n))
            if _is_together(layer):
                self.ready[n] = level
                rows = self.network.rows[n]
                groups.setdefault(level, {}).setdefault(rows, []).append(n)
                group_of.append((level, rows))
            else:
                self.ready[n] = level + 1
                alone.setdefault(level, []).append(n)
                group_of.append(n)
        # Those that a layer outside of their group reads, or that are the output.
        wanted = {len(self.network.layers) - 1}
        for n, group in enumerate(group_of):
            wanted |= {s for s in self._sources(n) if s == INPUT or group_of[s] != group}
        stages: list[Stage] = []
        for level in range(max(self.ready.values()) + 1):
            for layers in groups.get(level, {}).values():
                outs = [n for n in layers if n in wanted]
                if outs:
                    stages.append(self._causal(layers, outs))
            stages += [self._single(n) for n in alone.get(level, [])]
        return stages

    def _is_folded(self, n: int) -> bool:
        """Whether layer n, a stage of its own, reads the tokens: its input half is a table."""
        layer = self.network.layers[n]
        if not isinstance(layer, Recurrent) or _is_together(layer):
            return False
        if not self.network.reads_tokens or self.network.sources(n) != (0,):
            return False
        first = unmasked(self.network.layers[0])
        return can_fold(Network((first, layer.one_direction())), self.fold)

    def _reads(self, n: int) -> tuple[int, ...]:
        """Return the layers whose rows layer n reads."""
        return (INPUT,) if n in self.folded else self.network.sources(n)

    def _sources(self, n: int) -> tuple[int, ...]:
        """Return all layers that layer n needs."""
        layer = self.network.layers[n]
        sources = self._reads(n)
        if isinstance(layer, spec.Attention):
            sources += (self.network.index(layer.memory),)
        return sources

    def _read(self, source: int, n: int) -> Read:
        """Return how layer n reads a source: in full, or its last row to go with a single row."""
        rows = self.network.rows_of(source)
        return Read(source, self.network.reads_last(n) and rows != ("one",))

    def _causal(self, group: list[int], outs: list[int]) -> Stage:
        """Return a stage of several causal layers as one network."""
        inside = set(group)
        reads = dict.fromkeys(
            self._read(source, n)
            for n in group
            for source in self.network.sources(n)
            if source not in inside
        )
        compiled = self._compile(*self._network_of(group, list(reads), outs))
        writes = tuple((n, self.network.size(n)) for n in outs)
        return Causal(tuple(reads), writes, compiled, self.num_threads)

    def _network_of(
        self, group: list[int], reads: list[Read], outs: list[int]
    ) -> tuple[Network, dict[str, str]]:
        """Return the network of a group, and the names of its tensors in the whole network."""
        names = {n: f"layer{n}" for n in group}
        layers: list[Layer] = []
        origins: list[int | None] = []
        if group[0] != 0 or not self.network.reads_tokens:
            sizes = [self.network.size(read.source) for read in reads]
            total = sum(sizes)
            layers.append(spec.Concat(total))
            at = 0
            for read, size in zip(reads, sizes, strict=True):
                names[read.source] = f"read{read.source}"
                layers.append(
                    spec.Slice(total, at, at + size, name=names[read.source], inputs=("input",))
                )
                at += size
            origins += [None] * len(layers)
        for n in group:
            inputs = tuple(names[s] for s in self.network.sources(n) if s in names)
            layer = replace(unmasked(self.network.layers[n]), name=names[n], inputs=inputs)
            layers.append(layer)
            origins.append(n)
        width = sum(self.network.size(n) for n in outs)
        layers.append(spec.Concat(width, inputs=tuple(names[n] for n in outs)))
        origins.append(None)
        network = Network(tuple(layers))
        tensors = {}
        for (prefix, layer), origin in zip(network.named_layers(), origins, strict=True):
            for name in layer.tensors():
                assert origin is not None
                tensors[f"{prefix}.{name}"] = f"{self.prefixes[origin]}.{name}"
        return network, tensors

    def _compile(self, network: Network, names: dict[str, str]) -> Compiled:
        """Compile a part; ``names`` are those of its tensors in the whole network."""
        tensors = {name: self.tensors[in_network] for name, in_network in names.items()}
        compiled = Compiled(network, tensors, self.fold)
        self.parts.append(Part(compiled, names))
        return compiled

    def _single(self, n: int) -> Stage:
        """Return the stage of a layer that is not causal, or pools."""
        layer = self.network.layers[n]
        own = {name: f"{self.prefixes[n]}.{name}" for name in layer.tensors()}
        reads = tuple(self._read(source, n) for source in self._reads(n))
        writes = ((n, layer.output_size),)
        bare = replace(layer, name="", inputs=())
        match bare:
            case Recurrent() if layer.is_causal:
                return Pooled(reads, writes, self._compiled(bare, own, n in self.folded))
            case Recurrent():
                directions = self._directions(bare, own, n in self.folded)
                return Directions(reads, writes, bare, *directions, self.num_threads)
            case spec.Pooling() | spec.AttentionPooling():
                return Pooled(reads, writes, self._compiled(bare, own))
            case spec.Conv1d():
                causal = replace(bare, padding=None, stride=1, activation=None)
                activate = None
                if bare.activation is not None:
                    function = spec.Activation(bare.output_size, bare.activation)
                    activate = self._compiled(function, {})
                return Convolution(reads, writes, bare, self._compiled(causal, own), activate)
            case spec.Pool1d():
                mode = "sum" if bare.mode == "mean" else bare.mode
                gathers = spec.Pool1d(bare.input_size, bare.kernel_size, mode)
                return WindowPooling(reads, writes, bare, self._compiled(gathers, own))
            case spec.Flatten():
                return Flattened(reads, writes, bare.num_steps)
            case spec.Attention():
                reads = (*reads, Read(self.network.index(bare.memory)))
                return Attended(reads, writes, self._compiled(replace(bare, memory=""), own))
            case spec.Repeat():
                return Repeated(reads, writes, bare.num_steps)
            case spec.Reverse():
                return Reversed(reads, writes)
            case spec.CRF():
                tensors = {name: self.tensors[in_network] for name, in_network in own.items()}
                return BestPath(reads, writes, floats_of(deepcopy(tensors)))
        raise WeightsError(f"{n}: {layer} cannot be run")

    def _directions(
        self, layer: Recurrent, own: dict[str, str], is_folded: bool
    ) -> tuple[Compiled | None, Compiled]:
        """Return the forward direction, if there is one, and the other."""
        one = layer.one_direction()
        first = {name: own[name] for name in one.tensors()}
        second = {name: own.get(f"{name}_reverse", first[name]) for name in first}
        reverse = self._compiled(one, second, is_folded)
        both = layer.direction == "bidirectional"
        return (self._compiled(one, first, is_folded) if both else None), reverse

    def _compiled(self, layer: Layer, own: dict[str, str], is_folded: bool = False) -> Compiled:
        """Return a network of one layer; a folded one reads the tokens."""
        names = {f"layers.0.{name}": in_network for name, in_network in own.items()}
        layers: tuple[Layer, ...] = (layer,)
        if is_folded:
            first = unmasked(self.network.layers[0])
            layers = (first, layer)
            names |= {f"embedding.{name}": f"embedding.{name}" for name in first.tensors()}
        return self._compile(Network(layers), names)


def _is_together(layer: Layer) -> bool:
    """Whether a layer goes into one network with others like it."""
    return layer.is_causal and not layer.pools
