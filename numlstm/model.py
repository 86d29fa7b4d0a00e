"""Model and Stream: check what comes from outside, make one compiled call, return."""

import logging
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm import storage
from numlstm.build import aligned, build
from numlstm.checks import (
    FLOAT32,
    Floats,
    as_floats,
    check_dtype,
    check_out,
    raise_status,
    token_id,
    token_ids,
)
from numlstm.kernels.network import (
    DONE,
    WRONG_ARRAY,
    argument,
    compile_run,
)
from numlstm.spec import TOLERANCE, Network, Weights, WeightsError

_log = logging.getLogger("numlstm")

# A state is saved as this header and the floats that are kept from step to step.
_STATE_HEADER = struct.Struct("<8s16sII")  # magic, fingerprint of the model, size, checksum
_STATE_MAGIC = b"numlstm1"


@dataclass(frozen=True)
class Verification:
    """How far the engine is from the outputs that the source framework gave.

    largest_difference   max |y - expected| over all probes
    ok                   every |y - expected| <= TOLERANCE * (1 + |expected|)
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

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._program = build(weights.network, weights.tensors)
        self._run = compile_run()

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

    def stream(self) -> "Stream":
        """Return a new stream, in the initial state."""
        return Stream(self)

    def run(self, xs: ArrayLike, out: Floats | None = None) -> Floats:
        """Run a whole sequence from the initial state; see `Stream.run`."""
        return self.stream().run(xs, out)

    def save(self, path: str | os.PathLike[str], dtype: str | None = None) -> None:
        """Write the model to one .safetensors file, or leave what is there untouched.

        Parameters
        ----------
        dtype : str, optional
            The type of the stored weights. Only "float32" for now.
        """
        check_dtype("float32" if dtype is None else dtype)
        storage.save(self._weights, path)

    def verify(self) -> Verification:
        """Run the probes of the model: inputs with the outputs that its source framework gave."""
        largest, num_outputs, ok = 0.0, 0, True
        for probe in self._weights.probes:
            try:
                ys = self.run(probe.xs)
            except ValueError:  # it overflows here; it did not in the framework
                ys = np.full_like(probe.ys, np.inf)
            with np.errstate(invalid="ignore"):  # an infinity, or a NaN, is not verified
                difference = np.abs(ys - probe.ys)
                allowed = TOLERANCE * (1 + np.abs(probe.ys))
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
        state = self._program.initial_state.nbytes
        lines.append(f"{numbers:,} weights, {numbers * 4 / 1e6:.1f} MB in float32")
        lines.append(f"{state:,} bytes of state per stream")
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
        return type(self), (self._weights,)

    def __repr__(self) -> str:
        layers = ", ".join(repr(layer) for layer in self.network.layers)
        return f"<numlstm.Model {layers}>"


class Stream:
    """One sequence in progress: owns its state, shares the model's weights.

    A stream belongs to one thread at a time. If a call raises, the stream is as it was before.
    """

    def __init__(self, model: Model) -> None:
        program = model._program
        self.model = model
        self._state = aligned(program.step.state_size)
        self._num_kept = program.initial_state.size
        self._vocab_size = model.vocab_size
        self._x_shape = (model.input_size,)
        self._y_shape = (model.output_size,)
        # A token id reaches the kernel as the bits of a float32.
        self._token = np.zeros(1, np.int32)
        self._token_bits = self._token.view(np.float32)
        # What every step passes to the kernel.
        self._run = model._run
        self._plan_at = argument(program.step.plan)
        self._params_at = argument(program.params)
        self._state_at = argument(self._state)
        self.reset()

    def step(self, x: ArrayLike, out: Floats | None = None) -> Floats:
        """Take one step.

        Parameters
        ----------
        x : int or array of shape (input_size,)
            A token id, or float32 numbers; other real numbers are converted.
        out : float32 array of shape (output_size,), optional
            Written and returned in place of a new array; its contents are lost if this raises.

        Returns
        -------
        float32 array of shape (output_size,)

        Raises
        ------
        TypeError, ValueError
            If x or out is not as above, x holds a NaN or an infinity, or the network overflows.
            The stream is as it was before.
        """
        if self._vocab_size is not None:
            if type(x) is not int:
                x = token_id(x)
            if not 0 <= x < self._vocab_size:
                raise ValueError(f"token id {x} is outside 0 <= id < {self._vocab_size}")
            self._token[0] = x
            x = self._token_bits
        if out is None:
            out = np.empty(self._y_shape, FLOAT32)
        # The kernel looks at the type, shape and numbers of x and out before it begins.
        status = self._run(self._plan_at, self._params_at, self._state_at, x, out)
        if status != DONE:
            self._step_fitted(x, out, status)
        return out

    def _step_fitted(self, x: ArrayLike, out: Floats, status: int) -> None:
        """Take a step that the kernel refused, with arrays made to fit, or raise what is wrong."""
        x = as_floats("x", x, self._x_shape)
        if status == WRONG_ARRAY:
            check_out(out, self._y_shape)
            y = np.empty(self._y_shape, FLOAT32)
            status = self._run(self._plan_at, self._params_at, self._state_at, x, y)
            if status == DONE:
                out[:] = y
        if status != DONE:
            raise_status("x", x, 0, status)

    def run(self, xs: ArrayLike, out: Floats | None = None) -> Floats:
        """Take T steps in one call, without the GIL; the same bits as T calls of `step`.

        Parameters
        ----------
        xs : array of shape (T,) or (T, input_size)
            Token ids, or float32 numbers.
        out : float32 array of shape (T, output_size), optional
            Written and returned in place of a new array; its contents are lost if this raises.

        Returns
        -------
        float32 array of shape (T, output_size)

        Raises
        ------
        TypeError, ValueError
            As `step`. None of the steps is taken then, nor if Ctrl-C interrupts them.
        """
        xs = self._check_xs(xs)
        num_steps = len(xs)
        y_shape = (num_steps, *self._y_shape)
        if out is None:
            out = np.empty(y_shape, FLOAT32)
        else:
            check_out(out, y_shape)
            if np.may_share_memory(xs, out):
                xs = xs.copy()
        # The kernel knows plain arrays, and one of the objects that mean float32.
        known = type(out) is np.ndarray and out.dtype is FLOAT32
        fitted = out if known else np.empty(y_shape, FLOAT32)
        # The steps run on a copy, which replaces the state when all are done.
        program = self.model._program
        state = aligned(program.block.state_size)
        state[: self._num_kept] = self._state[: self._num_kept]
        plan_at, state_at = argument(program.block.plan), argument(state)
        # A call reads about a gigabyte of weights, 10 to 30 ms: that is how long Ctrl-C waits.
        stride = min(max(2**28 // max(program.params.size, 1), 64), 2**16)
        for t in range(0, num_steps, stride):
            part = xs[t : t + stride]
            ys = fitted[t : t + stride]
            x, y = part.reshape(-1), ys.reshape(-1)
            status = self._run(plan_at, self._params_at, state_at, x, y)
            if status != DONE:
                raise_status("xs", part, t, status)
        self._state[: self._num_kept] = state[: self._num_kept]
        if fitted is not out:
            out[:] = fitted
        return out

    def reset(self) -> None:
        """Return to the initial state."""
        self._state[: self._num_kept] = self.model._program.initial_state

    def copy(self) -> Self:
        """Return a new stream that continues from here on its own."""
        twin = type(self)(self.model)
        twin._state[: self._num_kept] = self._state[: self._num_kept]
        return twin

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.model, self.save_state())

    @property
    def state(self) -> dict[str, Floats]:
        """Copies of the h (and c) of each recurrent layer, ``layers.{n}.h``: (hidden_size,)."""
        names = self.model._program.state_names
        return {name: self._state[at : at + size].copy() for name, (at, size) in names.items()}

    def save_state(self) -> bytes:
        """Return the state as bytes; `load_state` continues from them, in any process."""
        kept = self._state[: self._num_kept].astype("<f4").tobytes()
        fingerprint = self.model._weights.fingerprint
        checksum = zlib.crc32(kept)
        return _STATE_HEADER.pack(_STATE_MAGIC, fingerprint, len(kept), checksum) + kept

    def load_state(self, blob: bytes) -> None:
        """Continue from what `save_state` returned.

        Raises
        ------
        TypeError, ValueError
            If it is not a saved state, is damaged, or is another model's.
        """
        if not isinstance(blob, bytes | bytearray | memoryview):
            raise TypeError(f"the state is {type(blob).__name__}, expected bytes of save_state")
        blob = bytes(blob)
        if len(blob) < _STATE_HEADER.size or not blob.startswith(_STATE_MAGIC):
            raise ValueError("the state was not written by save_state of this version")
        _, fingerprint, size, checksum = _STATE_HEADER.unpack_from(blob)
        kept = blob[_STATE_HEADER.size :]
        if fingerprint != self.model._weights.fingerprint:
            raise ValueError("the state is another model's; load it with the model that saved it")
        if len(kept) != size or size != 4 * self._num_kept or zlib.crc32(kept) != checksum:
            raise ValueError("the state is damaged: its length or checksum is wrong")
        floats = np.frombuffer(kept, "<f4")
        if np.isnan(floats).any():
            raise ValueError("the state is damaged: it holds a NaN")
        self._state[: self._num_kept] = floats

    def _check_xs(self, xs: ArrayLike) -> NDArray[Any]:
        """Return xs as the kernel reads it: float32 (T, input_size), or ids in float32 (T,)."""
        if self._vocab_size is None:
            return as_floats("xs", xs, (-1, *self._x_shape))
        return token_ids("xs", xs, self._vocab_size)

    def __repr__(self) -> str:
        return f"<numlstm.Stream of {self.model!r}>"


def _restore(model: Model, blob: bytes) -> Stream:
    stream = model.stream()
    stream.load_state(blob)
    return stream


def load(name: str | os.PathLike[str], dtype: str = "float32") -> Model:
    """Load a bundled model by its name, or a .safetensors file by its path.

    Parameters
    ----------
    name : str or path
        "sentiment", for example, or a path that `Model.save` wrote to.
    dtype : str
        The type of the weights in memory. Only "float32" for now.

    Raises
    ------
    FileNotFoundError
        If there is no such model or file.
    WeightsError
        If the file is truncated, altered, or not of numlstm.
    """
    check_dtype(dtype)
    return Model(storage.load(storage.find(name)))


def from_torch(
    *modules: Any,
    layers: str | Sequence[str] | None = None,
    key: str | None = None,
    labels: Sequence[str] = (),
    tokenizer: str | None = None,
) -> Model:
    """Convert PyTorch modules, or a state dict, to a model, and check it against PyTorch.

    Parameters
    ----------
    *modules : torch.nn.Module or str
        Modules in forward order; "last", "mean" or "max" for pooling over time. Or one state dict,
        or the path of a .pt file with one, which is only read with ``weights_only=True``.
    layers : str or list of str, optional
        Only with a state dict: what its tensors are, in forward order, for example
        ``"embed:Embedding lstm:LSTM mean head:Linear softmax"``. Before the colon is the name in
        the state dict; options stand in brackets: ``rnn:RNN(nonlinearity=relu)``.
    key : str, optional
        Only with a file: where in it the state dict is, ``"model_state_dict"`` for example.
    labels : list of str
        Names of the outputs.
    tokenizer : str, optional
        The text of a tokenizer.json.

    Returns
    -------
    Model
        On random input it differs from PyTorch by no more than `TOLERANCE`; `Model.verify` and the
        log tell how much.

    Raises
    ------
    WeightsError
        If something cannot be converted (everything that cannot is listed), or if the result
        differs from PyTorch.
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> model = numlstm.from_torch(net.embed, net.lstm, "mean", net.head)
    >>> model.save("model.safetensors")
    """
    if isinstance(labels, str):
        raise TypeError("labels is a str, expected a list of str")
    try:
        from numlstm.convert.torch import convert
    except ModuleNotFoundError as error:
        raise ImportError(
            "converting from PyTorch needs PyTorch; install it with: pip install 'numlstm[torch]'"
        ) from error
    return checked(convert(modules, layers=layers, key=key, labels=labels, tokenizer=tokenizer))


def checked(weights: Weights) -> Model:
    """Return the model of a conversion, or raise if it differs from the source framework."""
    model = Model(weights)
    verification = model.verify()
    _log.info(
        "converted from %s; largest difference on %d outputs of random input: %.1e",
        weights.origin,
        verification.num_outputs,
        verification.largest_difference,
    )
    if not verification.ok:
        raise WeightsError(
            f"the converted model differs from {weights.origin} by "
            f"{verification.largest_difference:.1e} on random input, more than rounding explains"
        )
    return model
