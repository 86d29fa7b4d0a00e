"""The floor under the converters: how a network grows out of drafts, and how one says no.

A converter walks its source and grows a draft for each layer that it finds. `Assembly.network`
makes a network of those that the answer needs. What cannot be converted is `Refused`, by what its
user calls it, and raised with all the rest.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from numlstm.budget import OverBudget
from numlstm.errors import listed
from numlstm.spec import (
    INPUT,
    Activation,
    Concat,
    Conv1d,
    Embedding,
    FrameConv1d,
    Layer,
    Linear,
    Network,
    OneHot,
    Slice,
    WeightsError,
)

Array: TypeAlias = NDArray[Any]
Read: TypeAlias = "Draft | None"  # None is the input of the network

# What is refused ----------------------------------------------------------------------------------


class Refused(WeightsError):  # noqa: N818  # it says no, and mostly to a converter
    """Why a part of a source cannot be converted.

    why       "padding_mode='reflect', expected 'zeros'"
    instead   what to do about it, or ""
    subject   the part as its user knows it, "2: Conv1d"; who calls the part says it
    """

    def __init__(self, why: str, instead: str = "", subject: str = "") -> None:
        super().__init__(why, instead, subject)
        self.why, self.instead, self.subject = why, instead, subject

    def __str__(self) -> str:
        text = f"{self.subject}: {self.why}" if self.subject else self.why
        return f"{text}; {self.instead}" if self.instead else text


class Misfit(Refused):
    """Why a part does not go with what it reads. Not said where that was refused itself."""


@contextmanager
def reading(what: str, path: str = "", instead: str = "") -> Iterator[None]:
    """Raise what a damaged source makes its reader raise, almost anything, as a `WeightsError`.

    What cannot be imported stays an ImportError. Files are opened before: an OSError within is of
    what they hold.

    Parameters
    ----------
    what : str
        "cannot be read as an .h5 file of Keras", for example.
    path : str, optional
        Of the file, which all that is raised begins with.
    instead : str, optional
        What to do about it.
    """
    subject = f"{path}: " if path else ""
    try:
        yield
    except (ImportError, OverBudget):
        raise
    except WeightsError as error:
        if not path:
            raise
        raise WeightsError(f"{subject}{error}") from error
    except Exception as error:
        lines = str(error).strip().splitlines()
        said = lines[0][:200] if lines else ""
        if isinstance(error, LookupError) or not said:
            said = f"{type(error).__name__} {said}".strip()
        if isinstance(error, RecursionError):
            said = "its parts are within each other beyond any use"
        then = f"; {instead}" if instead else ""
        raise WeightsError(f"{subject}{what} ({said}){then}") from error


class Refusals:
    """All that is refused of a source, raised together.

    source   "the graph"
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: list[Refused] = []

    def __len__(self) -> int:
        return len(self.found)

    def add(self, subject: str, why: str, instead: str = "") -> None:
        self.found.append(Refused(why, instead, subject))

    @contextmanager
    def of(self, subject: str, knows_what_it_reads: bool = True) -> Iterator[None]:
        """Keep what is refused within, as said of a subject.

        Where a part does not know what it reads, its sizes are not known either: then only what it
        refuses for its own sake is kept.
        """
        try:
            yield
        except OverBudget:
            raise
        except Refused as error:
            if knows_what_it_reads or not isinstance(error, Misfit):
                self.add(subject, error.why, error.instead)
        except WeightsError as error:
            if knows_what_it_reads:
                self.add(subject, str(error))

    def check(self) -> None:
        """Raise all that was refused, if anything was."""
        if self.found:
            lines = dict.fromkeys(str(refused) for refused in self.found)
            raise Refused(f"{self.source} cannot be converted:{listed(lines)}")


# Drafts -------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Draft:
    """A layer before it has its name and those of what it reads.

    reads     other drafts, or None for the input of the network; end to end
    tensors   by their names within the layer
    name      what its source calls it, or ""
    memory    all of whose rows an `Attention` attends to
    source    what a `Feedback` gives one step later
    fuses     an `Activation` that the layer before it may take over
    """

    layer: Layer
    reads: list[Read]
    tensors: Mapping[str, Array] = field(default_factory=dict)
    name: str = ""
    memory: Read = None
    source: Read = None
    fuses: bool = False


class Assembly:
    """The drafts of a network, in the order in which they grow: each after what it reads.

    names   of the layers of the `network` that was made, by which its source calls them
    """

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.names: list[str] = []

    def grow(
        self,
        layer: Layer,
        reads: Sequence[Read],
        tensors: Mapping[str, Array] | None = None,
        name: str = "",
        **options: Any,
    ) -> Draft:
        """Add a layer that reads drafts; the names by which it does are given by `network`."""
        draft = Draft(layer, list(reads), tensors or {}, name, **options)
        self.drafts.append(draft)
        return draft

    def part(self, read: Read, size: int, start: int, stop: int, name: str = "") -> Read:
        """Return features start to stop of what has a size; all of them are what it is."""
        if (start, stop) == (0, size):
            return read
        return self.grow(Slice(size, start, stop), [read], name=name)

    def joined(self, reads: Sequence[Read], size: int, name: str = "") -> Read:
        """Return drafts end to end, with their size together; a single one is what it is."""
        return reads[0] if len(reads) == 1 else self.grow(Concat(size), reads, name=name)

    def network(self, answer: Read, input_size: int) -> tuple[Network, dict[str, Array]]:
        """Return the network whose answer a draft gives, and its tensors by their names in it.

        Raises
        ------
        WeightsError
            If the layers do not form a network.
        """
        order = _fused(self._needed(answer), answer)
        if not order or order[-1] is not answer:
            size = input_size if answer is None else answer.layer.output_size
            order.append(Draft(Concat(size), [answer]))
        order = _begun(order, input_size)
        network = Network(_named(order))
        self.names = [draft.name for draft in order]
        return network, named_tensors(network, (draft.tensors for draft in order))

    def _needed(self, answer: Read) -> list[Draft]:
        """Return the drafts behind an answer as they grew, but what feeds back before the rest."""
        sources: dict[Draft, None] = {}
        waiting = [answer]
        while waiting:
            found = [draft.source for draft in self._behind(waiting.pop(0))]
            new = [source for source in found if source is not None and source not in sources]
            sources |= dict.fromkeys(new)
            waiting += new
        order: dict[Draft, None] = {}
        for root in (*sources, answer):
            order |= dict.fromkeys(self._behind(root))
        return list(order)

    def _behind(self, root: Read) -> list[Draft]:
        found: set[Draft] = set()
        waiting = [root]
        while waiting:
            draft = waiting.pop()
            if draft is not None and draft not in found:
                found.add(draft)
                waiting += [*draft.reads, draft.memory]
        return [draft for draft in self.drafts if draft in found]


def named_tensors(
    network: Network, contents: Iterable[Mapping[str, Array]]
) -> dict[str, NDArray[np.float32]]:
    """Return tensors, by their names within each layer, under their names in a network."""
    return {
        f"{prefix}.{name}": np.asarray(tensor, np.float32)
        for (prefix, _), own in zip(network.named_layers(), contents, strict=True)
        for name, tensor in own.items()
    }


# Drafts -> layers ---------------------------------------------------------------------------------


def _fused(order: list[Draft], answer: Read) -> list[Draft]:
    """Return the drafts without the functions that the layer before them takes over.

    Only where nothing else reads that layer.
    """
    readers: dict[Read, int] = {answer: 1}
    for draft in order:
        for read in (*draft.reads, draft.memory, draft.source):
            readers[read] = readers.get(read, 0) + 1
    gone: set[Draft] = set()
    for draft in order:
        before = draft.reads[0] if draft.fuses and len(draft.reads) == 1 else None
        if before is None or readers[before] > 1:
            continue
        match before.layer, draft.layer:
            case (
                (Linear() | Conv1d() | FrameConv1d()) as layer,
                Activation() as own,
            ) if layer.activation is None:
                draft.layer = replace(layer, activation=own.function)
                draft.reads, draft.tensors, draft.name = before.reads, before.tensors, before.name
                gone.add(before)
    return [draft for draft in order if draft not in gone]


def _begun(order: list[Draft], input_size: int) -> list[Draft]:
    """Return the drafts, of which the first reads the whole input."""
    first = order[0]
    for draft in order:
        if isinstance(draft.layer, Embedding | OneHot) and draft.reads == [None]:
            return [draft, *(other for other in order if other is not draft)]
    if first.reads == [None] and first.layer.input_size == input_size:
        return order
    return [Draft(Concat(input_size), [None]), *order]


def _named(order: Sequence[Draft]) -> tuple[Layer, ...]:
    """Return the layers, with names where one is read from afar."""
    afar: set[Read] = set()
    for draft, before in zip(order, (None, *order), strict=False):
        afar |= {draft.memory, draft.source}
        afar |= set() if draft.reads == [before] else set(draft.reads)
    names: dict[Read, str] = {None: INPUT}
    taken = {INPUT}
    for n, draft in enumerate(order):
        name = _unique(draft.name or f"{type(draft.layer).__name__.lower()}_{n}", taken)
        taken.add(name)
        names[draft] = name if draft in afar else ""
    layers = []
    for draft, before in zip(order, (None, *order), strict=False):
        inputs = () if draft.reads == [before] else tuple(names[read] for read in draft.reads)
        options: dict[str, Any] = {"name": names[draft], "inputs": inputs}
        if draft.memory is not None:
            options["memory"] = names[draft.memory]
        if draft.source is not None:
            options["source"] = names[draft.source]
        layers.append(replace(draft.layer, **options))
    return tuple(layers)


def _unique(name: str, taken: set[str]) -> str:
    unique, n = name, 0
    while unique in taken:
        n += 1
        unique = f"{name}_{n}"
    return unique
