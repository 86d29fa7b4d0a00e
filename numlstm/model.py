"""Model: a network with its weights, ready to run."""

import math
import operator
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm import spec, storage
from numlstm.batch import run_sequences
from numlstm.checks import Floats, as_floats, check_out, filled, for_kernel, token_ids
from numlstm.lookahead import LookaheadStream
from numlstm.pool import Pool
from numlstm.program.lower import Fold, build
from numlstm.program.program import Program
from numlstm.quantize import FORMATS, as_dtype, dtypes_of, num_bytes, rounded, tolerance
from numlstm.spec import MatrixLayer, Network, Weights
from numlstm.split import split
from numlstm.stages import Stage
from numlstm.stream import MaskedStream, Stream, run_whole


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
    num_threads : int
        How many threads `Pool` and `run_batch` share their streams among, and `run` the directions
        of a bidirectional layer, where that is faster. A lone stream has one.
    """

    def __init__(self, weights: Weights, fold: Fold = "auto", num_threads: int = 1) -> None:
        if fold not in (True, False, "auto"):
            raise ValueError(f'fold is {fold!r}, expected True, False or "auto"')
        if isinstance(num_threads, bool) or operator.index(num_threads) < 1:
            raise ValueError(f"num_threads is {num_threads!r}, expected 1 or more")
        weights = rounded(weights)
        network = weights.network
        self._weights = weights
        self._fold = fold
        self.num_threads = operator.index(num_threads)
        self._program: Program | None = None
        self._stages: list[Stage] = []
        if not network.is_causal:
            self._stages = split(weights, fold, self.num_threads, Model)
            return
        self._program = build(network, weights.tensors, fold)

    @property
    def network(self) -> Network:
        return self._weights.network

    @cached_property
    def _run(self) -> Callable[..., int]:
        """The kernels, which are compiled when something is about to run."""
        from numlstm.kernels.compilation import compile_run

        return compile_run()

    @property
    def weights(self) -> Weights:
        """What it is made of, as a file holds it."""
        return self._weights

    @property
    def labels(self) -> tuple[str, ...]:
        return self._weights.labels

    @property
    def tokenizer(self) -> str | None:
        return self._weights.tokenizer

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

    def load_tokenizer(self) -> Any:
        """Return the tokenizer as a `tokenizers.Tokenizer`, or raise a WeightsError."""
        return self._weights.load_tokenizer()

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
    ) -> LookaheadStream: ...

    def stream(
        self,
        lookahead: int | None = None,
        memory: ArrayLike | None = None,
        memory_ids: ArrayLike | None = None,
    ) -> Stream | LookaheadStream:
        """Return a new stream, in the initial state.

        Parameters
        ----------
        lookahead : int, optional
            How many steps late answers may be. Only with it, a network that reads later steps
            (bidirectional layers, for example) can be a stream; see `LookaheadStream`.
        memory : array of shape (M, memory_size), optional
            What the attention of a decoder reads, the answers of an encoder for example.
        memory_ids : array of shape (M,), optional
            The tokens that the rows of the memory stand for, of a network that copies them.

        Raises
        ------
        TypeError, ValueError
            If the network needs a lookahead, a memory or its ids, or takes none.
        """
        if lookahead is not None:
            if memory is not None or memory_ids is not None:
                raise ValueError("a stream with a lookahead takes no memory")
            return LookaheadStream(self, lookahead)
        if self._program is None:
            raise ValueError(
                f"{self._reads_later()}: use model.run(xs) for whole sequences, or "
                "model.stream(lookahead=k) for answers k steps late"
            )
        return (MaskedStream if self.network.masks else Stream)(self, memory, memory_ids)

    def pool(self, capacity: int) -> Pool:
        """Return a pool with room for ``capacity`` streams, none of them open.

        Raises
        ------
        TypeError, ValueError
            If capacity is no positive integer, or the network reads later steps or a memory.
        """
        if self._program is None:
            raise ValueError(f"{self._reads_later()}: use model.run_batch(xss) for many sequences")
        if self._program.memory is not None:
            raise ValueError("the network attends to a memory, which only lone streams have")
        return Pool(self, capacity, self.num_threads)

    def run(
        self,
        xs: ArrayLike,
        out: Floats | None = None,
        memory: ArrayLike | None = None,
        memory_ids: ArrayLike | None = None,
    ) -> Floats:
        """Run a whole sequence from the initial state; see `Stream.run` and `stream`.

        A network that is not causal gives a row per step, or one where it pools.
        """
        if self._program is not None:
            given = memory is not None or memory_ids is not None
            if given or self.network.memory_size is not None or self.network.masks:
                return self.stream(memory=memory, memory_ids=memory_ids).run(xs, out)
            rows = self.rows_for_kernel(xs)
            rows, ys = for_kernel(rows, out, (len(rows), self.output_size))
            run_whole(self, rows, ys)
            return filled(out, ys)
        if memory is not None or memory_ids is not None:
            raise ValueError("the network takes no memory")
        ys = self._run_checked([self._check_sequence(xs, "xs")])[0]
        if out is not None:
            check_out(out, ys.shape)
        return filled(out, ys)

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
        """Run sequences, leaving masked steps out, which repeat the answer before."""
        if not self.network.masks:
            return self._run_unmasked(xss)
        goes_on = [~self._masked(xs) for xs in xss]
        yss = self._run_unmasked([xs[wanted] for xs, wanted in zip(xss, goes_on, strict=True)])
        if self._program is None and self.network.rows[-1] != self.network.rows_of(-1):
            return yss
        idle = self._answer_before_any()
        pairs = zip(yss, goes_on, strict=True)
        return [np.concatenate([idle, ys])[np.cumsum(on)] for ys, on in pairs]

    def _masked(self, xs: NDArray[Any]) -> NDArray[np.bool_]:
        masked = self.network.masked(xs)
        return np.zeros(len(xs), np.bool_) if masked is None else masked

    def _run_unmasked(self, xss: list[NDArray[Any]]) -> list[Floats]:
        if self._program is not None:
            return run_sequences(self, xss)
        # Without a row there is nothing that a stage could join or pool.
        empty = [n for n, xs in enumerate(xss) if not len(xs)]
        values: dict[int, list[NDArray[Any]]] = {-1: [xs for xs in xss if len(xs)]}
        for stage in self._stages if values[-1] else []:
            inputs = [
                [x[-1:] if read.last else x for x in values[read.source]] for read in stage.reads
            ]
            yss = stage.run([list(parts) for parts in zip(*inputs, strict=True)])
            at = 0
            for n, size in stage.writes:
                values[n] = [ys[:, at : at + size] for ys in yss]
                at += size
        last = values.get(len(self.network.layers) - 1, [])
        yss = [np.ascontiguousarray(ys) for ys in last]
        for n in empty:
            yss.insert(n, np.empty((0, self.output_size), np.float32))
        return yss

    def rows_for_kernel(self, xs: ArrayLike, name: str = "xs") -> Floats:
        """Return xs as the kernel reads it: float32 (T, input_size), or ids in float32 (T,)."""
        if self.vocab_size is None:
            return as_floats(name, xs, (-1, self.input_size))
        return token_ids(name, xs, self.vocab_size)

    def check_xs(self, xs: ArrayLike, name: str = "xs") -> NDArray[Any]:
        """Return xs as int32 ids (T,) or finite float32 (T, input_size), or raise."""
        floats = self.rows_for_kernel(xs, name)
        if self.vocab_size is not None:
            return floats.view(np.int32)
        if not np.isfinite(floats).all():
            t, at = np.argwhere(~np.isfinite(floats))[0]
            raise ValueError(f"{name}[{t}, {at}] is {floats[t, at]}, expected finite numbers")
        return floats

    def _reads_later(self) -> str:
        later = next(str(layer) for layer in self.network.layers if not layer.is_causal)
        return f"{later} reads later steps"

    @cached_property
    def work(self) -> int:
        """What a step of a causal network costs in many rows: products, in the time of float32."""
        products = 0
        for layer in self.network.layers:
            if isinstance(layer, MatrixLayer) and not isinstance(layer, spec.Embedding):
                shapes = layer.tensors()
                own = sum(math.prod(shapes[name]) for name in layer.matrices())
                products += own // FORMATS[layer.dtype].speed[layer.activations]
        return products

    @cached_property
    def steps_per_call(self) -> int:
        """Steps of a stream in one compiled call, which Ctrl-C waits for: 10 to 30 ms."""
        return min(max(2**28 // max(self.work, 1), 64), 2**16)

    def _check_sequence(self, xs: ArrayLike, name: str) -> NDArray[Any]:
        checked = self.check_xs(xs, name)
        if self._program is None and len(checked) and self._masked(checked).all():
            raise ValueError(f"every step of {name} is masked")
        return checked

    def _memory_rows(self, memory: ArrayLike | None, ids: ArrayLike | None) -> Floats:
        """Return the rows that attention reads: what was given, keys made of it, id, score."""
        layout = None if self._program is None else self._program.memory
        if layout is None:
            if memory is not None or ids is not None:
                raise ValueError("the network takes no memory")
            return np.zeros((0, 0), np.float32)
        if memory is None:
            raise ValueError(
                f"the network attends to a memory: pass memory=, (M, {layout.memory_size})"
            )
        given = as_floats("memory", memory, (-1, layout.memory_size))
        if not len(given) or not np.isfinite(given).all():
            raise ValueError("memory is empty, or holds a NaN or an infinity")
        rows = np.zeros((len(given), layout.row_size), np.float32)
        rows[:, : layout.memory_size] = given
        vocab_size = self.network.memory_vocab_size
        if vocab_size is None:
            if ids is not None:
                raise ValueError("the network copies no tokens: it takes no memory_ids")
        elif ids is None:
            raise ValueError("the network copies tokens: pass memory_ids=, (M,), those of memory")
        else:
            tokens = token_ids("memory_ids", ids, vocab_size).view(np.int32)
            if len(tokens) != len(rows):
                raise ValueError(f"memory has {len(rows)} rows, memory_ids {len(tokens)}")
            rows[:, layout.keys_end] = tokens
        for at, weight in layout.keys:
            layer = spec.Linear(layout.memory_size, len(weight), False)
            keys = Model(Weights(Network((layer,)), {"layers.0.weight": weight}))
            rows[:, at : at + len(weight)] = keys.run(given)
        return rows

    def save(self, path: str | os.PathLike[str], dtype: str | None = None) -> None:
        """Write the model to one .safetensors file, or leave what is there untouched.

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
        """
        weights = self._weights if dtype is None else as_dtype(self._weights, dtype)
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
        return Model(as_dtype(self._weights, dtype, activations), self._fold, self.num_threads)

    def verify(self) -> Verification:
        """Run the probes of the model: inputs with the outputs that its source framework gave."""
        largest, num_outputs, ok = 0.0, 0, True
        relative = tolerance(self.network)
        for probe in self._weights.probes:
            try:
                ys = self.run(probe.xs, memory=probe.memory, memory_ids=probe.memory_ids)
            except ValueError:  # it overflows here; it did not in the framework
                ys = np.full_like(probe.ys, np.inf)
            with np.errstate(invalid="ignore"):  # an infinity, or a NaN, is not verified
                difference = np.abs(ys - probe.ys)
                allowed = relative * (1 + np.abs(probe.ys))
            largest = float(np.maximum(largest, difference.max()))  # a NaN stays one
            num_outputs += ys.size
            ok = ok and bool((difference <= allowed).all())
        return Verification(len(self._weights.probes), num_outputs, largest, ok)

    def info(self) -> str:
        """Return a description for people, several lines."""
        network = self.network
        reads = f"token ids below {self.vocab_size}" if network.reads_tokens else "vectors"
        shape = "" if network.reads_tokens else f" of {self.input_size}"
        lines = [f"reads {reads}{shape}, answers {self.output_size} numbers per step"]
        for prefix, layer in network.named_layers():
            numbers = sum(int(np.prod(shape)) for shape in layer.tensors().values())
            lines.append(f"  {prefix:<12}{layer}  {numbers:,} weights")
        numbers = sum(tensor.size for tensor in self._weights.tensors.values())
        megabytes, dtypes = num_bytes(network) / 1e6, " and ".join(dtypes_of(network))
        lines.append(f"{numbers:,} weights, {megabytes:.1f} MB in {dtypes}")
        if self._program is None:
            lines.append("reads whole sequences, or streams with a lookahead")
        else:
            lines.append(f"{self._program.initial_state.nbytes:,} bytes of state per stream")
        if self.labels:
            lines.append(f"labels: {', '.join(self.labels)}")
        lines.append(f"tokenizer: {'yes' if self.tokenizer else 'no'}")
        if self._weights.probes:
            lines.append(
                f"{len(self._weights.probes)} probes from {self._weights.origin}, "
                f"largest difference {self.verify().largest_difference:.1e}"
            )
        return "\n".join(lines)

    def _initial_state(self, memory_rows: Floats) -> Floats:
        """Return what a stream with these rows of a memory begins with."""
        assert self._program is not None
        initial_state = self._program.initial_state
        if self._program.answer is None:
            return initial_state
        memory, memory_ids = None, None
        layout = self._program.memory
        if layout is not None:
            memory = memory_rows[:, : layout.memory_size]
            if layout.has_ids:
                memory_ids = memory_rows[:, layout.keys_end].astype(np.int32)
        initial_state = initial_state.copy()
        at, size = self._program.answer
        initial_state[at : at + size] = self._answer_before_any(memory, memory_ids)[0]
        return initial_state

    def _answer_before_any(
        self, memory: Floats | None = None, memory_ids: NDArray[np.int32] | None = None
    ) -> Floats:
        """Return what is answered to masked steps before any other, (1, O).

        The answer to such a step of a network whose recurrent layers all give zeros; zeros where
        that overflows, as the logarithm of zero does.
        """
        model, xs = self._idle_model
        try:
            return model.run(xs, memory=memory, memory_ids=memory_ids)[-1:]
        except ValueError:
            return np.zeros((1, self.output_size), np.float32)

    @cached_property
    def _idle_model(self) -> tuple["Model", NDArray[Any]]:
        """The network without its recurrences and its mask, and a step that the mask leaves out."""
        layers: list[spec.Layer] = []
        tensors = dict(self._weights.tensors)
        xs: NDArray[Any] = np.zeros(1, np.int32)
        for prefix, layer in self.network.named_layers():
            if isinstance(layer, spec.Recurrent):
                tensors = {n: t for n, t in tensors.items() if not n.startswith(f"{prefix}.")}
                shape = (layer.output_size, layer.input_size)
                tensors[f"{prefix}.weight"] = np.zeros(shape, np.float32)
                layer = spec.Linear(*shape[::-1], False, name=layer.name, inputs=layer.inputs)
            elif isinstance(layer, spec.Embedding):
                layer = replace(layer, mask_zero=False)
            elif isinstance(layer, spec.Masking):
                xs = np.full((1, layer.input_size), layer.value, np.float32)
                layer = spec.Concat(layer.input_size, name=layer.name)
            layers.append(layer)
        return Model(Weights(Network(tuple(layers)), tensors)), xs

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._weights, self._fold, self.num_threads)

    def __repr__(self) -> str:
        layers = ", ".join(str(layer) for layer in self.network.layers)
        return f"<numlstm.Model {layers}>"
