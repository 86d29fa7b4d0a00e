"""Model: a network with its weights, ready to run."""

import os
from dataclasses import dataclass, replace
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm import spec, storage
from numlstm.build import Fold, build
from numlstm.checks import Floats, as_floats, check_out, token_ids
from numlstm.kernels.network import compile_run
from numlstm.lookahead import LookaheadStream
from numlstm.program import Program
from numlstm.quantize import as_dtype, dtypes_of, num_bytes, rounded, tolerance
from numlstm.spec import Network, Weights
from numlstm.split import split
from numlstm.stages import Stage
from numlstm.stream import MaskedStream, Stream


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
    """

    def __init__(self, weights: Weights, fold: Fold = "auto") -> None:
        if fold not in (True, False, "auto"):
            raise ValueError(f'fold is {fold!r}, expected True, False or "auto"')
        weights = rounded(weights)
        network = weights.network
        self._weights = weights
        self._fold = fold
        self._run = compile_run()
        self._program: Program | None = None
        self._stages: list[Stage] = []
        if not network.is_causal:
            self._stages = split(weights, fold, Model)
            return
        self._program = build(network, weights.tensors, fold)
        if self._program.answer is not None:
            # What is answered to masked steps before any other.
            initial_state = self._program.initial_state.copy()
            at, size = self._program.answer
            initial_state[at : at + size] = _idle_answer(weights)
            self._program = replace(self._program, initial_state=initial_state)

    @property
    def network(self) -> Network:
        return self._weights.network

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
    def stream(self, lookahead: None = None, memory: ArrayLike | None = None) -> Stream: ...
    @overload
    def stream(self, lookahead: int, memory: None = None) -> LookaheadStream: ...

    def stream(
        self, lookahead: int | None = None, memory: ArrayLike | None = None
    ) -> Stream | LookaheadStream:
        """Return a new stream, in the initial state.

        Parameters
        ----------
        lookahead : int, optional
            How many steps late answers may be. Only with it, a network that reads later steps
            (bidirectional layers, for example) can be a stream; see `LookaheadStream`.
        memory : array of shape (M, memory_size), optional
            What the attention of a decoder reads, the answers of an encoder for example.

        Raises
        ------
        TypeError, ValueError
            If the network needs a lookahead or a memory, or takes none.
        """
        if lookahead is not None:
            if memory is not None:
                raise ValueError("a stream with a lookahead takes no memory")
            return LookaheadStream(self, lookahead)
        if self._program is None:
            later = next(str(la) for la in self.network.layers if not la.is_causal)
            raise ValueError(
                f"{later} reads later steps: use model.run(xs) for whole sequences, or "
                "model.stream(lookahead=k) for answers k steps late"
            )
        return (MaskedStream if self.network.masks else Stream)(self, memory)

    def run(
        self, xs: ArrayLike, out: Floats | None = None, memory: ArrayLike | None = None
    ) -> Floats:
        """Run a whole sequence from the initial state; see `Stream.run`.

        A network that is not causal gives a row per step, or one where it pools.
        """
        if self._program is not None:
            return self.stream(memory=memory).run(xs, out)
        if memory is not None:
            raise ValueError("the network takes no memory")
        ys = self._run_stages(self.check_xs(xs))
        if out is None:
            return ys
        check_out(out, ys.shape)
        out[:] = ys
        return out

    def _run_stages(self, xs: NDArray[Any]) -> Floats:
        masked = self.network.masked(xs)
        rows = xs if masked is None else xs[~masked]
        if not len(rows):
            if len(xs):
                raise ValueError("every step of xs is masked")
            return np.empty((0, self.output_size), np.float32)
        values: dict[int, NDArray[Any]] = {-1: rows}
        for stage in self._stages:
            inputs = [values[read.source] for read in stage.reads]
            inputs = [x[-1:] if r.last else x for x, r in zip(inputs, stage.reads, strict=True)]
            together = stage.run(inputs)
            at = 0
            for n, size in stage.writes:
                values[n] = together[:, at : at + size]
                at += size
        ys = np.ascontiguousarray(values[len(self.network.layers) - 1])
        if masked is None or self.network.rows[-1] != self.network.rows_of(-1):
            return ys
        answers = np.empty((1 + len(ys), self.output_size), np.float32)
        answers[0], answers[1:] = _idle_answer(self._weights), ys
        return answers[np.cumsum(~masked)]

    def check_xs(self, xs: ArrayLike) -> NDArray[Any]:
        """Return xs as int32 ids (T,) or finite float32 (T, input_size), or raise."""
        if self.vocab_size is not None:
            return token_ids("xs", xs, self.vocab_size).view(np.int32)
        floats = as_floats("xs", xs, (-1, self.input_size))
        if not np.isfinite(floats).all():
            t, at = np.argwhere(~np.isfinite(floats))[0]
            raise ValueError(f"xs[{t}, {at}] is {floats[t, at]}, expected finite numbers")
        return floats

    def _memory_rows(self, memory: ArrayLike | None) -> Floats:
        """Return the rows that attention reads: what was given, the keys made of it, a score."""
        layout = None if self._program is None else self._program.memory
        if layout is None:
            if memory is not None:
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

    def astype(self, dtype: str) -> "Model":
        """Return the model with all matrices of a dtype: "float32", "bfloat16" or "int8".

        They are rounded from what they are: int8 to float32 brings nothing back.

        Raises
        ------
        ValueError
            If the dtype is none of these.
        WeightsError
            If a number is too large for it.
        """
        return Model(as_dtype(self._weights, dtype), self._fold)

    def verify(self) -> Verification:
        """Run the probes of the model: inputs with the outputs that its source framework gave."""
        largest, num_outputs, ok = 0.0, 0, True
        relative = tolerance(self.network)
        for probe in self._weights.probes:
            try:
                ys = self.run(probe.xs)
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

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._weights, self._fold)

    def __repr__(self) -> str:
        layers = ", ".join(str(layer) for layer in self.network.layers)
        return f"<numlstm.Model {layers}>"


def _idle_answer(weights: Weights) -> Floats:
    """Return the answer of a network whose recurrent layers all give zeros; if none, zeros."""
    layers: list[spec.Layer] = []
    tensors = dict(weights.tensors)
    for prefix, layer in weights.network.named_layers():
        if isinstance(layer, spec.RNN | spec.GRU | spec.LSTM):
            tensors = {n: t for n, t in tensors.items() if not n.startswith(f"{prefix}.")}
            shape = (layer.output_size, layer.input_size)
            tensors[f"{prefix}.weight"] = np.zeros(shape, np.float32)
            layer = spec.Linear(*shape[::-1], False, name=layer.name, inputs=layer.inputs)
        elif isinstance(layer, spec.Embedding):
            layer = replace(layer, mask_zero=False)
        elif isinstance(layer, spec.Masking):
            layer = spec.Concat(layer.input_size, name=layer.name)
        layers.append(layer)
    network = Network(tuple(layers))
    xs = np.zeros(1 if network.reads_tokens else (1, network.input_size), np.int32)
    try:
        answer: Floats = Model(Weights(network, tensors)).run(xs)[-1]
    except ValueError:  # it overflows, as the logarithm of zero does
        answer = np.zeros(network.output_size, np.float32)
    return answer
