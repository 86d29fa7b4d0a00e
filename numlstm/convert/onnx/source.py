"""The model in ONNX itself, asked for its answers one sequence at a time."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from numlstm import reference
from numlstm.convert.assembly import Array
from numlstm.convert.onnx.roles.inputs import Input, Roles
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
class Answer:
    """An output of the graph that is an answer, or a part of it.

    time    its axis of time; None for one row
    shape   that of one step of it
    """

    name: str
    time: int | None
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def rows(self, y: Array) -> Array:
        """Return the rows of what the graph gives, (T, size) or (1, size)."""
        y = y if self.time is None else np.moveaxis(y, self.time, 0)
        return y.reshape(1 if self.time is None else len(y), -1)


@dataclass(frozen=True)
class Found:
    """A network, and what is needed to ask the graph it is from for its answers.

    answers  outputs of the graph, end to end
    length   how many steps the graph reads, None for any number
    moves    states, and where in the rows their next values are, or -1
    rows     the outputs without an axis of time, joined end to end
    size     numbers of a step in all of the graph
    work     operations of a step in all of the graph
    folded   operations on what does not depend on the input
    spare    of windows within a step, as `sizes.spare` has it
    left_out   outputs of whole numbers that are no answer
    """

    roles: Roles
    network: Network
    tensors: dict[str, NDArray[np.float32]]
    answers: tuple[Answer, ...]
    length: int | None
    moves: tuple[tuple[Input, Array], ...]
    rows: tuple[str, ...]
    size: int = 0
    work: float = 0.0
    folded: float = 0.0
    spare: tuple[int, int, int] = (0, 0, 0)
    left_out: tuple[str, ...] = ()

    @property
    def gives_rows(self) -> bool:
        """Tell whether all answers have a row per step."""
        return all(answer.time is not None for answer in self.answers)

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
            shorter = network.is_causal and found.gives_rows and length > _NUM_STEPS
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

    def draw(self, seq_len: int, generator: np.random.Generator) -> NDArray[Any]:
        """Return random xs, of which those of the whole sequence are repeated."""
        xs = random_input(self.found.network, seq_len, generator)
        roles = self.found.roles
        for part, columns in roles.columns():
            if roles.is_whole(part):
                xs[:, columns] = xs[:1, columns]
        return xs

    def run(self, xs: NDArray[Any]) -> NDArray[np.float32]:
        """Return ys (rows, output_size) for xs (T,) or (T, input_size)."""
        found = self.found
        if self._evaluate is None:
            ys, _ = reference.run(found.network, found.tensors, xs)
            return np.asarray(ys, np.float32)
        if found.length == 1:
            return self._steps(xs)
        if found.gives_rows or not found.network.is_causal:
            return np.concatenate(self._once(xs), 1)
        if found.length is None:
            last = [[part[-1:] for part in self._once(xs[: t + 1])] for t in range(len(xs))]
            return np.concatenate([np.concatenate(parts, 1) for parts in last])
        # Some answer the last step only; the reference, which is held to that, the others.
        ys, _ = reference.run(found.network, found.tensors, xs)
        at = 0
        for part in self._once(xs):
            ys[-len(part) :, at : at + part.shape[1]] = part
            at += part.shape[1]
        return np.asarray(ys, np.float32)

    def check_batch(self) -> None:
        """Raise unless two sequences together are answered as one by one.

        Or what was taken for the axis of the batch is another one.
        """
        found, roles = self.found, self.found.roles
        if roles.batch is None or self._evaluate is None:
            return
        generator = np.random.default_rng(1)
        length = found.length or _NUM_STEPS
        xs = [self.draw(length, generator) for _ in range(2)]
        alone = [roles.feeds(x, roles.zeros()) for x in xs]
        each = [self._outputs(x, roles.zeros()) for x in xs]
        together = {
            name: self._together(name, [feeds[name] for feeds in alone]) for name in alone[0]
        }
        try:
            both = dict(zip(self.outputs, self._evaluate(together), strict=True))
        except Exception:  # a size that the exporter called free, and yet fixed
            return
        for answer in found.answers:
            if not _are_joined(both[answer.name], [outputs[answer.name] for outputs in each]):
                raise WeightsError(
                    f"axis {roles.batch} of {roles.main.name!r} is no batch: two sequences "
                    "together are not answered as one by one"
                )

    def _together(self, name: str, feeds: list[Array]) -> Array:
        axis = self.found.roles.batch_axis(name)
        return np.concatenate(feeds, axis) if feeds[0].ndim else feeds[0]

    def _steps(self, xs: NDArray[Any]) -> NDArray[np.float32]:
        """Answer one step per call, each with the states of the one before."""
        found = self.found
        states = found.roles.zeros()
        rows = []
        for n in range(len(xs)):
            outputs = self._outputs(xs[n : n + 1], states)
            rows.append(np.concatenate([np.ravel(outputs[a.name]) for a in found.answers]))
            kept = [np.ravel(outputs[name]) for name in found.rows]
            every = np.concatenate(kept) if kept else np.zeros(0)
            for state, at in found.moves:
                if len(xs) > 1:
                    states[state.name] = every[at].reshape(state.ones).astype(state.dtype)
        return np.asarray(rows, np.float32)

    def _once(self, xs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the rows of each answer to a sequence."""
        found, count = self.found, len(xs)
        length = found.length
        if length is not None and count < length:
            xs = np.concatenate([xs, np.zeros((length - count, *xs.shape[1:]), xs.dtype)])
        outputs = self._outputs(xs, found.roles.zeros())
        most = count if found.network.is_causal else None
        parts = [answer.rows(outputs[answer.name])[:most] for answer in found.answers]
        return [np.asarray(part, np.float32) for part in parts]

    def _outputs(self, xs: NDArray[Any], states: dict[str, Array]) -> dict[str, Array]:
        assert self._evaluate is not None
        try:
            found = self._evaluate(self.found.roles.feeds(xs, states))
            return dict(zip(self.outputs, found, strict=True))
        except Exception as error:  # both raise almost anything
            first_line = str(error).strip().split("\n")[0]
            raise WeightsError(
                f"{self.name} cannot run the model for {len(xs)} steps: {first_line}"
            ) from error


def _are_joined(both: Array, each: list[Array]) -> bool:
    """Tell whether an array is two others, one after the other along some axis."""
    first = each[0]
    axes = [n for n, size in enumerate(both.shape) if size != first.shape[n]]
    if len(axes) != 1 or both.shape[axes[0]] != 2 * first.shape[axes[0]]:
        return False
    expected = np.concatenate(each, axes[0])
    return bool((np.abs(both - expected) <= TOLERANCE * (1 + np.abs(expected))).all())


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
