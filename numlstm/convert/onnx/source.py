"""The model in ONNX itself, asked for its answers one sequence at a time."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from numlstm import reference
from numlstm.convert.onnx.inputs import Input, Roles
from numlstm.convert.onnx.trace import Array
from numlstm.convert.probes import random_input
from numlstm.spec import GRU, LSTM, RNN, TOLERANCE, Feedback, Network, WeightsError

try:
    import onnxruntime
except ImportError:  # the evaluator of onnx itself is slower, and knows fewer options
    onnxruntime = None

_NUM_STEPS = 24
# Options of RNN, GRU and LSTM that the evaluator of onnx reads without applying them.
_NOT_EVALUATED = {"activations", "activation_alpha", "activation_beta", "clip", "input_forget"}


@dataclass(frozen=True)
class Found:
    """A network, and what is needed to ask the graph it is from for its answers.

    answer   the output of the graph
    time     its axis of time; None for one row
    shape    that of one step of it
    length   how many steps the graph reads, None for any number
    moves    states, and where in the rows their next values are, or -1
    rows     the outputs without an axis of time, joined end to end
    size     numbers of a step in all of the graph
    work     operations of a step in all of the graph
    folded   operations on what does not depend on the input
    spare    of windows within a step, as `sizes.spare` has it
    """

    roles: Roles
    network: Network
    tensors: dict[str, NDArray[np.float32]]
    answer: str
    time: int | None
    shape: tuple[int, ...]
    length: int | None
    moves: tuple[tuple[Input, Array], ...]
    rows: tuple[str, ...]
    size: int = 0
    work: float = 0.0
    folded: float = 0.0
    spare: tuple[int, int, int] = (0, 0, 0)

    def same(self, other: "Found") -> bool:
        """Tell whether both are one network."""
        mine, others = self.tensors, other.tensors
        return self.network == other.network and all(
            np.array_equal(mine[name], others[name]) for name in mine
        )


class Source:
    """What the graph answers, by ONNX Runtime where it is installed.

    name        who answers
    num_steps   how many steps it is asked for; `length` if it answers no fewer
    """

    def __init__(self, model: onnx.ModelProto, found: Found) -> None:
        self.found = found
        self.outputs = [output.name for output in model.graph.output]
        self.name, self._evaluate = _evaluator(model)
        network, length = found.network, found.length
        self.num_steps = _NUM_STEPS
        if length == 1 and not self._is_streamed():
            self.num_steps = 1
        elif length is not None and length > 1:
            shorter = network.is_causal and found.time is not None and length > _NUM_STEPS
            self.num_steps = _NUM_STEPS if shorter else length

    @property
    def answers(self) -> bool:
        """Tell whether the graph is asked, and not the reference in its place."""
        return self._evaluate is not None

    def _is_streamed(self) -> bool:
        """Tell whether what one call leaves behind can be given to the next."""
        layers = self.found.network.layers
        if not any(isinstance(layer, RNN | GRU | LSTM | Feedback) for layer in layers):
            return True
        return bool(self.found.moves) and all((at >= 0).all() for _, at in self.found.moves)

    def run(self, xs: NDArray[Any]) -> NDArray[np.float32]:
        """Return ys (rows, output_size) for xs (T,) or (T, input_size)."""
        found = self.found
        if self._evaluate is None:
            ys, _ = reference.run(found.network, found.tensors, xs)
            return np.asarray(ys, np.float32)
        if found.length == 1:
            return self._steps(xs)
        if found.time is not None or not found.network.is_causal:
            return self._once(xs)
        if found.length is None:
            return np.concatenate([self._once(xs[: t + 1]) for t in range(len(xs))])
        # It answers the last step only; the reference, which is held to that, the others.
        ys, _ = reference.run(found.network, found.tensors, xs)
        ys[-1:] = self._once(xs)
        return np.asarray(ys, np.float32)

    def check_batch(self) -> None:
        """Raise unless two sequences together are answered as one by one.

        Or what was taken for the axis of the batch is another one.
        """
        found, axis = self.found, self.found.roles.batch
        if axis is None or self._evaluate is None:
            return
        generator = np.random.default_rng(1)
        length = found.length or _NUM_STEPS
        xs = [random_input(found.network, length, generator) for _ in range(2)]
        alone = [self._feeds(x, self._zeros()) for x in xs]
        first, second = (self._outputs(x, self._zeros())[found.answer] for x in xs)
        together = {
            name: np.concatenate([feeds[name] for feeds in alone], self._batch_axis(name))
            for name in alone[0]
        }
        try:
            both = self._evaluate(together)[self.outputs.index(found.answer)]
        except Exception:  # a size that the exporter called free, and yet fixed
            return
        joined = [n for n, size in enumerate(both.shape) if size != first.shape[n]]
        close = len(joined) == 1 and both.shape[joined[0]] == 2 * first.shape[joined[0]]
        if close:
            expected = np.concatenate([first, second], joined[0])
            close = bool((np.abs(both - expected) <= TOLERANCE * (1 + np.abs(expected))).all())
        if not close:
            name = found.roles.data.name
            raise WeightsError(
                f"axis {axis} of {name!r} is no batch: two sequences together are not answered as "
                "one by one"
            )

    def _batch_axis(self, name: str) -> int:
        """Return the axis of an input that is that of the batch."""
        roles = self.found.roles
        if name == roles.data.name:
            return roles.batch or 0
        shapes = {other.name: other.shape for other in (*roles.states, *roles.lengths)}
        free = [n for n, size in enumerate(shapes[name]) if size is None]
        return free[0] if free else 0

    def _zeros(self) -> dict[str, Array]:
        return {s.name: np.zeros(s.ones, s.dtype) for s in self.found.roles.states}

    def _steps(self, xs: NDArray[Any]) -> NDArray[np.float32]:
        """Answer one step per call, each with the states of the one before."""
        states = self._zeros()
        rows = []
        for n in range(len(xs)):
            outputs = self._outputs(xs[n : n + 1], states)
            rows.append(np.ravel(outputs[self.found.answer]))
            kept = [np.ravel(outputs[name]) for name in self.found.rows]
            every = np.concatenate(kept) if kept else np.zeros(0)
            for state, at in self.found.moves:
                if len(xs) > 1:
                    states[state.name] = every[at].reshape(state.ones).astype(state.dtype)
        return np.asarray(rows, np.float32)

    def _once(self, xs: NDArray[Any]) -> NDArray[np.float32]:
        length, count = self.found.length, len(xs)
        if length is not None and count < length:
            xs = np.concatenate([xs, np.zeros((length - count, *xs.shape[1:]), xs.dtype)])
        y = self._outputs(xs, self._zeros())[self.found.answer]
        time = self.found.time
        rows = np.reshape(y, (1, -1)) if time is None else _rows(y, time)
        return np.asarray(rows[:count] if self.found.network.is_causal else rows, np.float32)

    def _feeds(self, xs: NDArray[Any], states: dict[str, Array]) -> dict[str, Array]:
        """Return the inputs of the graph for a batch of one."""
        roles = self.found.roles
        shape = list(roles.data.ones)
        if roles.time is not None:
            shape[roles.time] = len(xs)
        x = xs if xs.ndim == 2 else xs[:, None]
        before = roles.time is None or roles.features is None or roles.time < roles.features
        x = x if before else x.T
        feeds = {roles.data.name: x.reshape(shape).astype(roles.data.dtype), **states}
        for lengths in roles.lengths:
            feeds[lengths.name] = np.full(lengths.ones, len(xs), lengths.dtype)
        return feeds

    def _outputs(self, xs: NDArray[Any], states: dict[str, Array]) -> dict[str, Array]:
        assert self._evaluate is not None
        try:
            found = self._evaluate(self._feeds(xs, states))
            return dict(zip(self.outputs, found, strict=True))
        except Exception as error:  # both raise almost anything
            first_line = str(error).strip().split("\n")[0]
            raise WeightsError(
                f"{self.name} cannot run the model for {len(xs)} steps: {first_line}"
            ) from error


def _rows(y: Array, time: int) -> Array:
    return np.moveaxis(y, time, 0).reshape(y.shape[time], -1)


def _evaluator(model: onnx.ModelProto) -> tuple[str, Any]:
    """Return who can answer, and a function of inputs by name, or None."""
    if onnxruntime is not None and not _has_doubles(model):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # Some exporters write shapes that do not hold, which an optimized graph would rely on.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception:  # it does not know layout 1, for example, and says so in its own types
            pass
        else:
            name = f"onnxruntime {onnxruntime.__version__}"
            return name, lambda feeds: session.run(None, _typed(model, feeds))
    options_read = {a.name for node in model.graph.node for a in node.attribute}
    evaluator = None
    with suppress(Exception):  # it raises almost anything
        evaluator = ReferenceEvaluator(model)
    if evaluator is None or options_read & _NOT_EVALUATED:
        return "reference.py, as nothing installed can run the model", None
    name = f"the evaluator of onnx {onnx.__version__}"
    return name, lambda feeds: evaluator.run(None, _typed(model, feeds))


def _has_doubles(model: onnx.ModelProto) -> bool:
    """Tell whether a layer may be of float64, which ONNX Runtime loads and does not run."""
    layers = any(node.op_type in ("RNN", "GRU", "LSTM") for node in model.graph.node)
    types = [tensor.data_type for tensor in model.graph.initializer]
    types += [Input.of(info).type for info in model.graph.input]
    return layers and onnx.TensorProto.DOUBLE in types


def _typed(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """Return the inputs in the types of the graph: it may be one of halves, fed in float32."""
    dtypes = {info.name: Input.of(info).dtype for info in model.graph.input}
    return {name: array.astype(dtypes[name], copy=False) for name, array in feeds.items()}
