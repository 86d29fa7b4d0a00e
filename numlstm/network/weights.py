"""All that a model file holds: a network, its tensors, and what goes with them."""

import hashlib
import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numlstm.cached import cached_property
from numlstm.errors import WeightsError, listed
from numlstm.network.columns import Columns, problems_of, read_columns, slices
from numlstm.network.network import Network, Tensors

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, eq=False)
class Probe:
    """An input of a network with the output that the framework which trained it gave.

    xs           (T, input_size) float32, or (T,) int32 token ids
    ys           (T, output_size) float32
    memory       (M, memory_size) float32, of a network that attends to one
    memory_ids   (M,) int32, of a network that copies tokens
    """

    xs: NDArray[Any]
    ys: NDArray[np.float32]
    memory: NDArray[np.float32] | None = None
    memory_ids: NDArray[np.int32] | None = None


def explained(
    ys: NDArray[Any], tolerance: float, outputs: Sequence[Columns] = ()
) -> NDArray[np.float64]:
    """Return how far from answers ys (T, output_size) rounding may lead, (T, output_size).

    The numbers of a row are sums of the same terms: of one that is small because they cancel no
    more is exact than of the largest. So it is ``tolerance`` times 1 + the largest of the row, or
    of its part where the source has several outputs.
    """
    sizes = np.abs(np.asarray(ys, np.float64))
    sizes[~np.isfinite(sizes)] = 0
    for part in slices(outputs).values() if outputs else (slice(None),):
        sizes[:, part] = sizes[:, part].max(1, keepdims=True, initial=0)
    return tolerance * (1 + sizes)


@dataclass(frozen=True, eq=False)
class Weights:
    """All that a model file holds: a network, its tensors, and what goes with them.

    tensors     canonical names, float32
    labels      names of the outputs, or empty
    tokenizer   the text of a tokenizer.json, or None
    probes      see `Probe`
    origin      which framework and version the tensors and the probes are from
    inputs      names and sizes of the columns of a row that it reads, `Columns` or pairs; empty
                where its source has one input
    outputs     those of a row that it answers

    Raises
    ------
    WeightsError
        If the parts do not fit each other.
    """

    network: Network
    tensors: Tensors
    labels: tuple[str, ...] = ()
    tokenizer: str | None = None
    probes: tuple[Probe, ...] = field(default=())
    origin: str = ""
    inputs: tuple[Columns, ...] = ()
    outputs: tuple[Columns, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.network, Network):
            raise WeightsError(f"network is {type(self.network).__name__}, expected a Network")
        self.network.check_tensors(self.tensors)
        problems: list[str] = []
        for what, size in (
            ("inputs", self.network.input_size),
            ("outputs", self.network.output_size),
        ):
            columns = read_columns(getattr(self, what))
            object.__setattr__(self, what, columns)
            problems += problems_of(what, columns, size)
        size = self.network.output_size
        if not all(isinstance(label, str) for label in self.labels):
            problems.append(f"labels {self.labels!r}, expected strings")
        if not isinstance(self.tokenizer, str | None):
            kind = type(self.tokenizer).__name__
            problems.append(f"tokenizer is {kind}, expected the text of a tokenizer.json")
        if self.labels and len(self.labels) != size:
            problems.append(f"{len(self.labels)} labels for an output of {size}")
        for n, probe in enumerate(self.probes):
            if not isinstance(probe, Probe):
                problems.append(f"probe {n} is {type(probe).__name__}, expected a Probe")
            elif not self.network.accepts(probe.xs):
                problems.append(f"probe {n}: xs {_kind(probe.xs)} is not an input")
            elif not self.network.accepts_memory(probe.memory, probe.memory_ids):
                problems.append(f"probe {n}: its memory is not one of the network")
            elif getattr(probe.ys, "dtype", None) != np.float32 or not (
                probe.ys.shape == (len(probe.xs), size)
                or (not self.network.is_causal and probe.ys.shape[1:] == (size,))
            ):
                problems.append(
                    f"probe {n}: ys {_kind(probe.ys)}, expected float32{(len(probe.xs), size)}"
                )
        if problems:
            raise WeightsError(f"the parts of the model do not fit:{listed(problems)}")

    def load_tokenizer(self) -> "Tokenizer":
        """Return the tokenizer, which gives no ids but those that the network reads.

        Raises
        ------
        WeightsError
            If there is none, if it cannot be read, if it gives other ids, or could take long or
            much memory for some text: see `numlstm.network.tokenizer`.
        ImportError
            If tokenizers is not installed.
        """
        if self.tokenizer is None:
            raise WeightsError("the model has no tokenizer")
        from numlstm.network.tokenizer import check  # few processes need it

        check(self.tokenizer)
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ImportError(
                f"reading text needs tokenizers: pip install tokenizers ({error})"
            ) from error
        try:
            tokenizer = Tokenizer.from_str(self.tokenizer)
        except BaseException as error:
            # The library raises no narrower type, and a panic of it is no Exception.
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise WeightsError(f"the tokenizer cannot be read: {error}") from error
            raise
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        vocab_size = self.network.vocab_size
        if vocab_size is None or largest >= vocab_size:
            reads = "vectors" if vocab_size is None else f"ids below {vocab_size}"
            raise WeightsError(f"the tokenizer gives ids up to {largest}, the model reads {reads}")
        return tokenizer

    def with_tensors(self, network: Network, tensors: Tensors) -> "Weights":
        """Return the same parts with tensors that are made of these, which are not checked again.

        The network may differ in the dtypes of its matrices.
        """
        twin = copy(self)
        vars(twin).pop("fingerprint", None)
        vars(twin).update(network=network, tensors=tensors)
        return twin

    @cached_property
    def fingerprint(self) -> bytes:
        """16 bytes that differ for any other network or tensors."""
        return fingerprint_of(self.network, self.tensors)


def _kind(array: Any) -> str:
    """Return what something is that should be an array."""
    is_array = isinstance(array, np.ndarray)
    return f"{array.dtype}{array.shape}" if is_array else type(array).__name__


def fingerprint_of(network: Network, tensors: Tensors) -> bytes:
    """Return 16 bytes that differ for any other network or tensors."""
    digest = hashlib.sha256(json.dumps(network.to_json(), sort_keys=True).encode())
    for name in network.tensor_shapes():
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.digest()[:16]
