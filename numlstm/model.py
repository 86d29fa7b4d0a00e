"""Model: a network with its weights, ready to run."""

import math
import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.budget import spend
from numlstm.errors import shortened
from numlstm.network.columns import Columns, joined, slices
from numlstm.network.weights import explained
from numlstm.program.lower import Fold
from numlstm.program.program import Program
from numlstm.quantize import Encoded, dtypes_of, encoded, num_bytes, tolerance, with_dtype
from numlstm.run.border import NO_MEMORY, Floats, check_out, checked_rows, filled
from numlstm.run.compiled import Compiled
from numlstm.run.mask import run_unmasked
from numlstm.run.stream import Stream, stream_of
from numlstm.spec import Network, Weights
from numlstm.work import PRODUCTS, run_work

if TYPE_CHECKING:  # and where they are used: a stream that is stepped needs none of them
    from numlstm.run.pool import Pool
    from numlstm.stages.lookahead import LookaheadStream
    from numlstm.stages.staged import Staged


@dataclass(frozen=True)
class Verification:
    """How far the engine is from the outputs that the source framework gave.

    largest_difference   max |y - expected| over all probes
    ok                   every |y - expected| <= tolerance * (1 + |expected|): 1e-5, or 0.05 where
                         weights are bfloat16 or int8, as what is expected is of a float32 network
    """

    num_probes: int
    num_outputs: int
    largest_difference: float
    ok: bool


def _spend(weights: Weights) -> None:
    """Say what a run of one row costs, and one of each probe."""
    total, num_bytes = run_work(weights.network)
    spend("a run of one row", num_bytes, total / PRODUCTS)
    if weights.probes:
        memories = (probe.memory for probe in weights.probes if probe.memory is not None)
        longest = max(len(probe.xs) for probe in weights.probes)
        total, num_bytes = run_work(weights.network, longest, max(map(len, memories), default=0))
        operations = total / PRODUCTS * len(weights.probes)
        spend("verifying its probes", num_bytes, operations)


def _names(columns: tuple[Columns, ...]) -> str:
    return f" ({', '.join(f'{name} {size}' for name, size in columns)})" if columns else ""


class Model:
    """A network with its weights, ready to run. Immutable; threads may share it.

    Get one from `load` or `from_torch`.

    Attributes
    ----------
    network : Network
        The layers.
    labels : tuple of str
        Names of the outputs, or empty.
    tokenizer : str or None
        The text of a tokenizer.json.
    inputs, outputs : tuple of Columns
        Names and sizes of the columns of a row, where its source has several inputs, or outputs.
    num_threads : int
        How many threads `Pool` and `run_batch` share their streams among, and `run` the directions
        of a bidirectional layer, where that is faster. A lone stream has one.
    """

    def __init__(self, weights: Weights, fold: Fold = "auto", num_threads: int = 1) -> None:
        if fold not in (True, False, "auto"):
            raise ValueError(f'fold is {fold!r}, expected True, False or "auto"')
        if isinstance(num_threads, bool) or operator.index(num_threads) < 1:
            raise ValueError(f"num_threads is {num_threads!r}, expected 1 or more")
        if not isinstance(weights, Weights):
            raise TypeError(f"weights is {type(weights).__name__}, expected Weights")
        _spend(weights)
        network, tensors = weights.network, encoded(weights)
        # All but the tensors, which are those of the program: see `weights`.
        self._about = weights.with_tensors(network, {})
        self._fold = fold
        self.num_threads = operator.index(num_threads)
        self._compiled = Compiled(network, tensors, fold) if network.is_causal else None
        self._staged = None if network.is_causal else self._split(tensors)

    @property
    def network(self) -> Network:
        return self._about.network

    @property
    def weights(self) -> Weights:
        """What it is made of, as a file holds it.

        A model keeps one copy of its weights, as the kernels read them: the tensors are made of it
        anew each time, with the same bits.
        """
        tensors = (self._compiled or self._stages()).tensors
        names = self.network.tensor_shapes()
        return self._about.with_tensors(self.network, {name: tensors[name] for name in names})

    @property
    def labels(self) -> tuple[str, ...]:
        return self._about.labels

    @property
    def tokenizer(self) -> str | None:
        return self._about.tokenizer

    @property
    def inputs(self) -> tuple[Columns, ...]:
        return self._about.inputs

    @property
    def outputs(self) -> tuple[Columns, ...]:
        return self._about.outputs

    def joined(self, **arrays: ArrayLike) -> Floats:
        """Return rows of arrays by the names in `inputs`, end to end.

        Each is (T, size), or (size,) where it belongs to the whole sequence.

        Raises
        ------
        ValueError
            If they are not those of `inputs`, or of other shapes.

        Examples
        --------
        >>> ys = model.run(model.joined(x=xs, static=age_and_sex))
        """
        return joined(self.inputs, arrays)

    def by_name(self, ys: Floats) -> dict[str, Floats]:
        """Return views of answers (T, output_size), or of one, by the names in `outputs`."""
        return {name: ys[..., columns] for name, columns in slices(self.outputs).items()}

    @property
    def input_size(self) -> int:
        return self.network.input_size

    @property
    def output_size(self) -> int:
        return self.network.output_size

    @property
    def vocab_size(self) -> int | None:
        """The number of token ids, or None if the model reads vectors."""
        return self.network.vocab_size

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that differ for any other network or tensors; saved states carry them.

        Another dtype is another network, as it gives other bits. What is folded, and how many
        threads there are, changes nothing.
        """
        return (self._compiled or self._stages()).fingerprint

    def load_tokenizer(self) -> Any:
        """Return the tokenizer as a `tokenizers.Tokenizer`, or raise a WeightsError."""
        return self._about.load_tokenizer()

    @overload
    def stream(
        self,
        lookahead: None = None,
        memory: ArrayLike | None = None,
        memory_ids: ArrayLike | None = None,
    ) -> Stream: ...
    @overload
    def stream(
        self, lookahead: int, memory: None = None, memory_ids: None = None
    ) -> "LookaheadStream": ...

    def stream(
        self,
        lookahead: int | None = None,
        memory: ArrayLike | None = None,
        memory_ids: ArrayLike | None = None,
    ) -> "Stream | LookaheadStream":
        """Return a new stream, in the initial state.

        Parameters
        ----------
        lookahead : int, optional
            How many steps late answers may be. Only with it, a network that reads later steps
            (bidirectional layers, for example) can be a stream; see `LookaheadStream`. One that
            reads none but does not answer every step (`Conv1d` without padding or with a stride)
            is such a stream without it: `step` returns None where there is no answer.
        memory : array of shape (M, memory_size), optional
            What the attention of a decoder reads, the answers of an encoder for example.
        memory_ids : array of shape (M,), optional
            The tokens that the rows of the memory stand for, of a network that copies them.

        Raises
        ------
        TypeError, ValueError
            If the network needs a lookahead, a memory or its ids, or takes none.
        """
        if lookahead is None and self._compiled is not None:
            return stream_of(self, self._compiled, memory, memory_ids)
        if lookahead is None and self.network.reads_later:
            raise ValueError(
                f"{self._reads_later()}: use model.run(xs) for whole sequences, or "
                "model.stream(lookahead=k) for answers k steps late"
            )
        if memory is not None or memory_ids is not None:
            raise ValueError("a stream whose answers may be late takes no memory")
        from numlstm.stages.lookahead import LookaheadStream

        return LookaheadStream(
            self, self._compiled or self._stages(), 0 if lookahead is None else lookahead
        )

    def pool(self, capacity: int) -> "Pool":
        """Return a pool with room for ``capacity`` streams, none of them open.

        Raises
        ------
        TypeError, ValueError
            If capacity is no positive integer, or the network reads later steps or a memory.
        """
        if self._compiled is None:
            raise ValueError(f"{self._reads_later()}: use model.run_batch(xss) for many sequences")
        if self.network.memory_size is not None:
            raise ValueError("the network attends to a memory, which only lone streams have")
        from numlstm.run.pool import Pool

        return Pool(self, self._compiled, capacity, self.num_threads)

    def run(
        self,
        xs: ArrayLike,
        out: Floats | None = None,
        memory: ArrayLike | None = None,
        memory_ids: ArrayLike | None = None,
    ) -> Floats:
        """Run a whole sequence from the initial state. Threads may do so at the same time.

        Parameters
        ----------
        xs : array of shape (T,) or (T, input_size)
            Token ids, or float32 numbers.
        out : float32 array of the shape of the answer, optional
            Written and returned in place of a new array; its contents are lost if this raises.
        memory, memory_ids
            Of a decoder: see `stream`.

        Returns
        -------
        float32 array of shape (T, output_size)
            A network that is not causal gives a row per step, or one where it pools.

        Raises
        ------
        TypeError, ValueError
            If something is not as above, xs holds a NaN or an infinity, or the network overflows.
        """
        compiled = self._compiled
        if compiled is None:
            if memory is not None or memory_ids is not None:
                raise ValueError("the network takes no memory")
            ys = self._run_checked([self._check_sequence(xs, "xs")])[0]
            if out is not None:
                check_out(out, ys.shape)
            return filled(out, ys)
        if self.network.masks:
            return stream_of(self, compiled, memory, memory_ids).run(xs, out)
        memory_rows = compiled.memory_rows(memory, memory_ids)
        return compiled.run_rows(compiled.initial_state(memory_rows), memory_rows, xs, out)

    def run_batch(self, xss: Iterable[ArrayLike]) -> list[Floats]:
        """Run many whole sequences, of any lengths, each from the initial state.

        Several streams share every read of the weights; each gets the bits of `run`.

        Parameters
        ----------
        xss : list of arrays of shape (T,) or (T, input_size)
            Token ids, or float32 numbers; T may differ.

        Returns
        -------
        list of float32 arrays of shape (T, output_size)

        Raises
        ------
        TypeError, ValueError
            As `run`, naming the sequence; or if the network attends to a memory.
        """
        if self.network.memory_size is not None:
            raise ValueError("the network attends to a memory, which only lone streams have")
        return self._run_checked(
            [self._check_sequence(xs, f"xss[{n}]") for n, xs in enumerate(xss)]
        )

    def _run_checked(self, xss: list[NDArray[Any]]) -> list[Floats]:
        compiled = self._compiled
        if compiled is None:
            return self._stages().run(xss)
        from numlstm.run.batch import run_sequences

        return run_unmasked(
            self.network,
            xss,
            lambda xss: run_sequences(compiled, xss, self.num_threads),
            lambda: compiled.answer_before_any(NO_MEMORY)[None],
        )

    @property
    def _program(self) -> Program | None:
        """The arrays of a causal network."""
        return None if self._compiled is None else self._compiled.program

    def _split(self, tensors: Encoded) -> "Staged":
        from numlstm.stages.staged import Staged

        return Staged(self.network, dict(tensors), self._fold, self.num_threads)

    def _stages(self) -> "Staged":
        assert self._staged is not None, "the network is causal"
        return self._staged

    def check_xs(self, xs: ArrayLike, name: str = "xs") -> NDArray[Any]:
        """Return xs as int32 ids (T,) or finite float32 (T, input_size), or raise."""
        return checked_rows(self.network, xs, name)

    def _reads_later(self) -> str:
        later = [str(layer) for layer in self.network.layers if layer.reads_later]
        if later:
            return f"{later[0]} reads later steps"
        fewer = next(str(layer) for layer in self.network.layers if not layer.is_causal)
        return f"{fewer} does not answer every step"

    @property
    def steps_per_call(self) -> int:
        """Steps of a stream in one compiled call, which Ctrl-C waits for: 10 to 30 ms."""
        return 1 if self._compiled is None else self._compiled.steps_per_call

    def _check_sequence(self, xs: ArrayLike, name: str) -> NDArray[Any]:
        return checked_rows(self.network, xs, name)

    def save(self, path: str | os.PathLike[str], dtype: str | None = None) -> None:
        """Write the model to one .safetensors file, or leave what is there untouched.

        Whatever happens meanwhile, a kill or a full disk: at the path is the old file or the new
        one. It keeps the mode of the file that it replaces, and what a symbolic link names is
        replaced. Of several that save to one path at once, one wins.

        Parameters
        ----------
        dtype : str, optional
            Of the stored matrices: "float32", "bfloat16" or "int8", at a half or a quarter of the
            size. Without it they are stored as they are.

        Raises
        ------
        ValueError
            If the dtype is none of these.
        WeightsError
            If a number is too large for it.
        OSError
            If the file cannot be written.
        """
        from numlstm import storage

        weights = self.weights if dtype is None else with_dtype(self.weights, dtype)
        storage.save(weights, path)

    def astype(self, dtype: str, activations: str = "int16") -> "Model":
        """Return the model with all matrices of a dtype: "float32", "bfloat16" or "int8".

        What int8 matrices are multiplied with is rounded to 16 bits; to 8, with half the work and
        about twice the error, where activations is "int8".

        They are rounded from what they are: int8 to float32 brings nothing back.

        Raises
        ------
        ValueError
            If dtype or activations is none of these.
        WeightsError
            If a number is too large for it.
        """
        return Model(with_dtype(self.weights, dtype, activations), self._fold, self.num_threads)

    def verify(self) -> Verification:
        """Run the probes of the model: inputs with the outputs that its source framework gave."""
        largest, num_outputs, ok = 0.0, 0, True
        relative = tolerance(self.network)
        for probe in self._about.probes:
            try:
                ys = self.run(probe.xs, memory=probe.memory, memory_ids=probe.memory_ids)
            except ValueError:  # it overflows here; it did not in the framework
                ys = np.full_like(probe.ys, np.inf)
            num_outputs += ys.size
            if not ys.size or ys.shape != probe.ys.shape:  # the framework gave other rows
                largest, ok = np.inf, False
                continue
            with np.errstate(invalid="ignore"):  # an infinity, or a NaN, is not verified
                difference = np.abs(ys - probe.ys)
                allowed = explained(probe.ys, relative, self.outputs)
            largest = float(np.maximum(largest, difference.max()))  # a NaN stays one
            ok = ok and bool((difference <= allowed).all())
        return Verification(len(self._about.probes), num_outputs, largest, ok)

    def info(self) -> str:
        """Return a description for people, several lines."""
        network = self.network
        reads = f"token ids below {self.vocab_size}" if network.reads_tokens else "vectors"
        shape = "" if network.reads_tokens else f" of {self.input_size}"
        lines = [
            f"reads {reads}{shape}{_names(self.inputs)}, "
            f"answers {self.output_size} numbers{_names(self.outputs)} per step"
        ]
        for prefix, layer in network.named_layers():
            numbers = sum(int(np.prod(shape)) for shape in layer.tensors().values())
            lines.append(f"  {prefix:<12}{shortened(str(layer), 300)}  {numbers:,} weights")
        numbers = sum(math.prod(shape) for shape in network.tensor_shapes().values())
        megabytes, dtypes = num_bytes(network) / 1e6, " and ".join(dtypes_of(network))
        lines.append(f"{numbers:,} weights, {megabytes:.1f} MB in {dtypes}")
        if self._program is None:
            later = self.network.reads_later
            kind = "streams with a lookahead" if later else "streams that do not answer every step"
            lines.append(f"reads whole sequences, or {kind}")
        else:
            lines.append(f"{self._program.initial_state.nbytes:,} bytes of state per stream")
        if self.labels:
            lines.append(f"labels: {', '.join(self.labels)}")
        lines.append(f"tokenizer: {'yes' if self.tokenizer else 'no'}")
        if self._about.probes:
            lines.append(
                f"{len(self._about.probes)} probes from {self._about.origin}, "
                f"largest difference {self.verify().largest_difference:.1e}"
            )
        return "\n".join(lines)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.weights, self._fold, self.num_threads)

    def __repr__(self) -> str:
        layers = ", ".join(str(layer) for layer in self.network.layers)
        return f"<numlstm.Model {layers}>"
