"""Every layer in plain NumPy float64, from the equations: the definition of correct.

Frameworks are held against it, kernels are held against it. It is slow and knows no layouts. Where
a number within a network is beyond float32 the kernels refuse: there is no answer to be held.
"""

import math
from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm import spec

Doubles = NDArray[np.float64]
Own = dict[str, Doubles]
States = dict[str, Doubles]  # what a layer keeps between calls
Tensors = Mapping[str, NDArray[Any]]


# Functions ----------------------------------------------------------------------------------------


def sigmoid(x: Doubles) -> Doubles:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def relu(x: Doubles) -> Doubles:
    """max(x, 0), a NaN staying one."""
    return np.where(x < 0, 0.0, x)


def softmax(x: Doubles) -> Doubles:
    """exp(x) / sum(exp(x)) over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def log_softmax(x: Doubles) -> Doubles:
    """x - log(sum(exp(x))) over the last axis."""
    x = x - x.max(-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(-1, keepdims=True)))


def elu(x: Doubles, alpha: float) -> Doubles:
    """x where it is positive, else alpha (exp(x) - 1)."""
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def normal_below(x: Doubles) -> Doubles:
    """Return the share of a normal distribution below x, (1 + erf(x / sqrt(2))) / 2."""
    halves = np.reshape([0.5 * math.erfc(-n / math.sqrt(2)) for n in np.ravel(x)], np.shape(x))
    return np.where(np.isnan(x), x, halves)


def gelu_tanh(x: Doubles) -> Doubles:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2: Hendrycks, Gimpel 2016."""
    return np.asarray(x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


# What `spec.FUNCTIONS` names, of x and its parameters.
FUNCTIONS: dict[str, Callable[..., Doubles]] = {
    "linear": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "leaky_relu": lambda x, alpha: np.where(x >= 0, x, alpha * x),
    "thresholded_relu": lambda x, alpha: np.where(x > alpha, x, 0.0 * x),
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0.0, 1.0),
    "elu": elu,
    "selu": lambda x, alpha, beta: beta * elu(x, alpha),
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "softplus": lambda x: np.logaddexp(0.0, x),
    "silu": lambda x: x * sigmoid(x),
    "clip": np.clip,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "square": np.square,
    "linear_sigmoid": lambda x: np.where(x >= 0, x + 0.5, sigmoid(x)),
    "abs": np.abs,
    "reciprocal": np.reciprocal,
    "gelu": lambda x: x * normal_below(x),
    "gelu_tanh": gelu_tanh,
    "erf": lambda x: np.reshape([math.erf(n) for n in np.ravel(x)], np.shape(x)),
}


def apply(function: str | None, x: Doubles) -> Doubles:
    """Apply a function as layers spell it: ``"leaky_relu(0.3)"``."""
    if function is None:
        return x
    y: Doubles = evaluate(x, *spec.parse_function(function))
    return y


@singledispatch
def evaluate(x: Any, name: str, parameters: tuple[float, ...]) -> Any:
    """Return one of `FUNCTIONS` of x. What is no array registers how it goes through one."""
    return FUNCTIONS[name](x, *parameters)


def clip(x: Doubles, bound: float | None) -> Doubles:
    """Bound x to [-bound, bound]."""
    return x if bound is None else apply(spec.function_text("clip", -bound, bound), x)


Look = Callable[[int, list[NDArray[Any]], Doubles], None]

# The network --------------------------------------------------------------------------------------


def run(
    network: spec.Network,
    tensors: Tensors,
    xs: ArrayLike,
    memory: ArrayLike | None = None,
    states: Mapping[str, ArrayLike] | None = None,
    memory_ids: ArrayLike | None = None,
    look: Look | None = None,
) -> tuple[Doubles, dict[str, Doubles]]:
    """Run a sequence from the initial state.

    Parameters
    ----------
    tensors : canonical names, any float type
    xs : token ids (T,), or numbers (T, input_size)
    memory : what `Attention` and `Copy` read, (M, memory_size)
    states : first states that replace the initial ones, ``layers.{n}.h``
    memory_ids : the tokens that `Copy` copies, (M,)
    look : called with the number of each layer that was run, the rows that it read, and its answers

    Returns
    -------
    ys : (rows, output_size); of a causal network one row per step
    states : the last h (and c) of each recurrent layer, ``layers.{n}.h``: (hidden_size,)

    Raises
    ------
    TypeError, ValueError
        If something is not as above.
    """
    values: Any = _rows("xs", xs, network.input_size, network.vocab_size)
    walk = _Walk(network, tensors, memory, memory_ids, dict(states or {}), look)
    masked = network.masked(values)
    if masked is not None and masked.any():
        return walk.run_unmasked(values, masked), walk.kept()
    return walk.run(values), walk.kept()


def _rows(name: str, values: ArrayLike, size: int, vocab_size: int | None = None) -> NDArray[Any]:
    """Return numbers (rows, size), or token ids (rows,), as they are; or raise."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # a ragged list
        raise TypeError(f"{name} cannot be read as an array: {error}") from error
    if vocab_size is None:
        if array.dtype.kind not in "fiu":
            raise TypeError(f"{name} is of {array.dtype}, expected numbers")
        if array.ndim != 2 or array.shape[1] != size:
            raise ValueError(f"{name} has shape {array.shape}, expected (T, {size})")
        return array
    if array.shape == (0,):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} is of {array.dtype}, expected integer token ids")
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected (T,)")
    if ((array < 0) | (array >= vocab_size)).any():
        raise ValueError(f"{name} has a token id outside 0 <= id < {vocab_size}")
    return array


class _Walk:
    """One pass through a network; its states are kept from call to call."""

    def __init__(
        self,
        network: spec.Network,
        tensors: Tensors,
        memory: ArrayLike | None,
        memory_ids: ArrayLike | None,
        states: dict[str, ArrayLike],
        look: Look | None = None,
    ) -> None:
        self.network = network
        self.look = look
        if (memory is None) != (network.memory_size is None):
            raise ValueError("memory must be given to a network that attends to one, and only then")
        self.memory, self.memory_ids = np.zeros((0, 0)), np.zeros(0, np.int64)
        if memory is not None and network.memory_size is not None:
            self.memory = _rows("memory", memory, network.memory_size).astype(np.float64)
        if (memory_ids is None) != (network.memory_vocab_size is None):
            raise ValueError("memory_ids go with a network that copies tokens, and only with it")
        if memory_ids is not None:
            ids = _rows("memory_ids", memory_ids, 1, network.memory_vocab_size)
            if len(ids) != len(self.memory):
                raise ValueError(f"memory has {len(self.memory)} rows, memory_ids {len(ids)}")
            self.memory_ids = ids.astype(np.int64)
        self.own: list[Own] = []
        self.states: list[States] = []
        for prefix, layer in network.named_layers():
            own = {name: tensors[f"{prefix}.{name}"].astype(np.float64) for name in layer.tensors()}
            self.own.append(own)
            given = {
                name.removeprefix(f"{prefix}."): np.asarray(value, np.float64)
                for name, value in states.items()
                if name.startswith(f"{prefix}.")
            }
            self.states.append(given)

    def kept(self) -> dict[str, Doubles]:
        """Return the states of the recurrent layers, which are those of a stream."""
        named = self.network.named_layers()
        return {
            f"{prefix}.{name}": value
            for (prefix, layer), state in zip(named, self.states, strict=True)
            for name, value in state.items()
            if isinstance(layer, spec.Recurrent)
        }

    def run(self, xs: Any) -> Doubles:
        """Run all rows layer by layer, or each through all layers where there is feedback."""
        if any(isinstance(layer, spec.Feedback) for layer in self.network.layers):
            none = np.zeros((0, self.network.output_size))
            return np.concatenate([none, *(self.rows(xs[t : t + 1]) for t in range(len(xs)))])
        return self.rows(xs)

    def run_unmasked(self, xs: Any, masked: NDArray[np.bool_]) -> Doubles:
        """Run the steps that are not masked; a masked one has the answer of the one before.

        Before the first of them, and at each where the network `rests`, the layer that masks and
        every recurrent layer give zeros.
        """
        if self.network.rows[-1] != self.network.rows_of(-1):
            return self.rows(xs[:1] * 0, idle=True) if masked.all() else self.run(xs[~masked])
        rows, numbers = self.run(xs[~masked]), np.cumsum(~masked)
        idle = self.rows(xs[:1] * 0, idle=True)[-1:]
        numbers = np.where(masked, 0, numbers) if self.network.rests else numbers
        return np.concatenate([idle, rows])[numbers]

    def _reads_steps(self, n: int) -> bool:
        """Whether a layer reads a row for each step, of which some may be left out."""
        network = self.network
        return any(network.rows_of(s) == network.rows_of(-1) for s in network.sources(n))

    def rows(self, xs: Any, idle: bool = False) -> Doubles:
        values: list[Doubles] = []
        for n, layer in enumerate(self.network.layers):
            own, state = self.own[n], self.states[n]
            sources = [xs if s < 0 else values[s] for s in self.network.sources(n)]
            if self.network.reads_last(n):
                sources = [rows[-1:] for rows in sources]
            sources = [np.asarray(s, np.float64) for s in sources] if n else sources
            match layer:
                case spec.Embedding():
                    ys = own["weight"][xs]
                case spec.OneHot():
                    ys = (np.asarray(xs)[:, None] == np.arange(layer.output_size)) * 1.0
                case spec.Feedback():
                    ys = np.zeros((1, layer.output_size))
                    ys = ys if idle else state.get("value", ys)
                case spec.Attention():
                    memory = self.memory
                    if layer.memory:
                        source = self.network.index(layer.memory)
                        memory = xs if source < 0 else values[source]
                    ys = attention(layer, own, np.hstack(sources), memory)
                case spec.Copy():
                    ys = copied(layer, np.hstack(sources), self.memory, self.memory_ids)
                case spec.Recurrent():
                    if idle and self._reads_steps(n):
                        ys = np.zeros((1, layer.output_size))
                    else:
                        ys = recurrent(layer, own, np.hstack(sources), {} if idle else state)
                case spec.Add():
                    ys = np.sum(sources, 0)
                case spec.Multiply():
                    ys = np.prod(sources, 0)
                case _:
                    x = np.hstack(sources).astype(np.float64)
                    ys = feed_forward(layer, own, x, {} if idle else state)
            if layer.pools and not self.network.is_causal:
                ys = ys[-1:]
            if self.look is not None and not idle:
                self.look(n, [np.asarray(source) for source in sources], ys)
            values.append(ys)
        for n, layer in enumerate(self.network.layers):
            if isinstance(layer, spec.Feedback) and not idle:
                self.states[n]["value"] = values[self.network.index(layer.source)][-1:]
        return values[-1]


# Layers without a recurrence ----------------------------------------------------------------------


def feed_forward(layer: spec.Layer, own: Own, xs: Doubles, state: States) -> Doubles:
    """Return (rows, output_size); `state` keeps what the next call continues from."""
    match layer:
        case spec.Linear():
            return apply(layer.activation, xs @ own["weight"].T + own.get("bias", 0.0))
        case spec.Conv1d():
            return convolution(layer, own, xs, state)
        case spec.FrameConv1d():
            return frame_convolution(layer, own, xs)
        case spec.Pool1d():
            return window_pooling(layer, xs, state)
        case spec.Flatten():
            return flattened(layer, xs, state)
        case spec.BatchNorm():
            scale = own.get("weight", 1.0) / np.sqrt(own["running_var"] + layer.eps)
            return np.asarray((xs - own["running_mean"]) * scale + own.get("bias", 0.0))
        case spec.LayerNorm():
            centred = xs - xs.mean(-1, keepdims=True)
            normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
            return np.asarray(normed * own.get("weight", 1.0) + own.get("bias", 0.0))
        case spec.Activation():
            return apply(layer.function, xs)
        case spec.Softmax():
            return softmax(xs)
        case spec.LogSoftmax():
            return log_softmax(xs)
        case spec.Pooling():
            return pooling(layer, xs, state)
        case spec.AttentionPooling():
            return attention_pooling(layer, own, xs, state)
        case spec.Concat() | spec.Masking():
            return xs
        case spec.Slice():
            return xs[:, layer.start : layer.stop]
        case spec.Repeat():
            return np.repeat(xs[-1:], layer.num_steps, 0)
        case spec.Reverse():
            return xs[::-1]
        case spec.CRF():
            return np.eye(layer.input_size)[viterbi(own, xs)]
    raise TypeError(f"no reference for {layer}")


def convolution(layer: spec.Conv1d, own: Own, xs: Doubles, state: States) -> Doubles:
    """torch.nn.Conv1d: y_t = b + sum_k W[:, :, k] x[stride t + dilation k], x padded with zeros."""
    before, after = layer.pads
    if layer.is_causal:
        start = state.get("x", np.zeros((before, layer.input_size)))
        xs = np.concatenate([start, xs])
        state["x"] = xs[len(xs) - before :]
    else:
        xs = np.pad(xs, ((before, after), (0, 0)))
    each, of_each = layer.output_size // layer.groups, layer.input_size // layer.groups
    rows = []
    for t in range(0, len(xs) - layer.reach, layer.stride):
        window = xs[t : t + layer.reach + 1 : layer.dilation]  # (K, I)
        y = np.zeros(layer.output_size)
        for g in range(layer.groups):
            outs = slice(g * each, (g + 1) * each)
            ins = window[:, g * of_each : (g + 1) * of_each]
            y[outs] = np.einsum("oik,ki->o", own["weight"][outs], ins)
        rows.append(y + own.get("bias", 0.0))
    return apply(layer.activation, np.reshape(rows, (-1, layer.output_size)))


def frame_convolution(layer: spec.FrameConv1d, own: Own, xs: Doubles) -> Doubles:
    """torch.nn.Conv1d in each row: y_f = b + sum_k W[:, :, k] x_{stride f + k}, x frames of it."""
    frames = xs.reshape(len(xs), -1, layer.in_channels)
    frames = np.pad(frames, ((0, 0), layer.padding, (0, 0)))
    ys = [
        np.einsum("oik,tki->to", own["weight"], frames[:, f : f + layer.kernel_size])
        + own.get("bias", 0.0)
        for f in range(0, frames.shape[1] - layer.kernel_size + 1, layer.stride)
    ]
    return apply(layer.activation, np.concatenate(ys, 1))


def window_pooling(layer: spec.Pool1d, xs: Doubles, state: States) -> Doubles:
    """torch.nn.MaxPool1d; AvgPool1d with count_include_pad=False: windows of the rows there are."""
    size, (before, after) = layer.kernel_size, layer.pads
    if layer.is_causal:
        kept = state.get("x", xs[:0])
        ends = [len(kept) + t + 1 for t in range(len(xs))]
        xs = np.concatenate([kept, xs])
        state["x"] = xs[max(len(xs) - before, 0) :]
    else:
        more = layer.stride - 1 if layer.ceil_mode else 0
        last = before + len(xs) + after - size + more  # where a window begins at the latest
        starts = range(0, min(last + 1, before + len(xs)) if len(xs) else 0, layer.stride)
        ends = [start + size - before for start in starts]
    reduce: Any = {"max": np.max, "mean": np.mean, "sum": np.sum}[layer.mode]
    rows = [reduce(xs[max(end - size, 0) : end], axis=0) for end in ends]
    return np.reshape(rows, (-1, layer.input_size))


def flattened(layer: spec.Flatten, xs: Doubles, state: States) -> Doubles:
    """Return the last rows end to end, of each step."""
    start = state.get("x", np.zeros((layer.reach, layer.input_size)))
    seen = np.concatenate([start, xs])
    state["x"] = seen[len(xs) :]
    rows = [seen[t : t + layer.num_steps].ravel() for t in range(len(xs))]
    return np.reshape(rows, (-1, layer.output_size))


def pooling(layer: spec.Pooling, xs: Doubles, state: States) -> Doubles:
    """Return the last, mean, largest value or the sum over the steps so far."""
    if layer.mode == "last":
        return xs
    if layer.mode == "max":
        ys = np.maximum.accumulate(np.vstack([state.get("max", xs[:1]), xs]), 0)[1:]
        state["max"] = ys[-1:]
        return ys
    sums = np.cumsum(np.vstack([state.get("sum", 0.0 * xs[:1]), xs]), 0)[1:]
    counts = state.get("count", np.zeros(1)) + np.arange(1, len(xs) + 1)
    state["sum"], state["count"] = sums[-1:], counts[-1:]
    return sums if layer.mode == "sum" else sums / counts[:, None]


def attention_pooling(
    layer: spec.AttentionPooling, own: Own, xs: Doubles, state: States
) -> Doubles:
    """Return the mean of the steps so far, weighted by exp(weight . x)."""
    seen = np.vstack([state.get("seen", xs[:0]), xs])
    rows = []
    for t in range(len(seen) - len(xs), len(seen)):
        scores = seen[: t + 1] @ own["weight"]
        e = np.exp(scores - scores.max())
        rows.append(e @ seen[: t + 1] / (e.sum() + layer.eps))
    state["seen"] = seen
    return np.array(rows).reshape(xs.shape)


def attention(layer: spec.Attention, own: Own, queries: Doubles, memory: Doubles) -> Doubles:
    """Luong et al. 2015 (dot, general), Bahdanau et al. 2015 (additive)."""
    if not len(queries):
        return np.zeros((0, layer.memory_size))
    match layer.score:
        case "dot":
            scores = queries @ memory.T
        case "general":
            scores = queries @ own["weight_query"].T @ memory.T
        case _:
            from_query = queries @ own["weight_query"].T + own["bias"]
            from_memory = memory @ own["weight_memory"].T
            together = np.tanh(from_query[:, None] + from_memory[None])
            scores = together @ own["weight_score"]
    return np.asarray(softmax(layer.scale * scores) @ memory)


def copied(layer: spec.Copy, xs: Doubles, memory: Doubles, ids: NDArray[np.int64]) -> Doubles:
    """See, Liu, Manning 2017, equation 9; without words that are not in the vocabulary."""
    written, gate, query = np.split(xs, [layer.vocab_size, layer.vocab_size + 1], axis=1)
    shares = softmax(query @ memory.T) @ (ids[:, None] == np.arange(layer.vocab_size))
    return np.asarray(gate * written + (1 - gate) * shares)


def viterbi(own: Own, scores: Doubles) -> NDArray[np.int64]:
    """Return the tags (T,) of the best path; of equals, the first."""
    if not len(scores):
        return np.zeros(0, np.int64)
    best = own["start_transitions"] + scores[0]
    back = []
    for row in scores[1:]:
        paths = best[:, None] + own["transitions"]
        back.append(paths.argmax(0))
        best = paths.max(0) + row
    tags = [int((best + own["end_transitions"]).argmax())]
    for row in reversed(back):
        tags.append(int(row[tags[-1]]))
    return np.array(tags[::-1])


# Recurrent layers ---------------------------------------------------------------------------------


def recurrent(layer: spec.Recurrent, own: Own, xs: Doubles, state: States) -> Doubles:
    """Run one recurrent layer in its directions; return (T, output_size), or one row."""
    first = {name: t for name, t in own.items() if not name.endswith("_reverse")}
    if layer.direction == "forward":
        hs = one_direction(layer, first, xs, state)
    elif layer.direction == "reverse":
        hs = one_direction(layer, first, xs[::-1], {})[::-1]
    else:
        second = {name: own.get(f"{name}_reverse", tensor) for name, tensor in first.items()}
        forward = one_direction(layer, first, xs, {})
        reverse = one_direction(layer, second, xs[::-1], {})[::-1]
        if layer.outputs == "last":
            forward, reverse = forward[-1:], reverse[:1]
        match layer.merge:
            case "concat":
                return np.hstack([forward, reverse])
            case "sum":
                return forward + reverse
            case "mul":
                return forward * reverse
            case _:
                return (forward + reverse) / 2
    if layer.outputs == "last" and layer.direction == "reverse":
        return hs[:1]
    return hs


def one_direction(layer: spec.Recurrent, own: Own, xs: Doubles, state: States) -> Doubles:
    """Run the cell over the rows; return (T, h_size), the last state in `state`."""
    kept = first_states(layer, own) | state
    hs = np.zeros((len(xs), layer.h_size))
    for t, x in enumerate(xs):
        made = CELLS[type(layer)](layer, own, x, **kept)
        kept = {name: made[name] for name in layer.states}
        hs[t] = made["h"]
    state |= kept
    return hs


def first_states(layer: spec.Recurrent, own: Own) -> States:
    """Return the states before the first step."""
    return {name: own.get(f"initial_{name}", np.zeros(n)) for name, n in layer.states.items()}


def parts(x: Doubles, number: int) -> list[Doubles]:
    """Return the equal parts of x, those of the gates."""
    size = len(x) // number
    return [x[n * size : (n + 1) * size] for n in range(number)]


# Cells --------------------------------------------------------------------------------------------
# Of x (I,) and the states before, all that a step makes, by its letters: gates, then states; h is
# the answer. Nothing but sums, products, quotients, `parts`, `apply` and `clip` is used, so that
# `analysis.py` can differentiate them.


def rnn(layer: spec.RNN, own: Own, x: Doubles, h: Doubles) -> States:
    """Elman 1990, with any function."""
    a = own["weight_ih"] @ x + own.get("bias_ih", 0.0)
    a = a + own["weight_hh"] @ h + own.get("bias_hh", 0.0)
    return {"h": apply(layer.nonlinearity, clip(a, layer.clip))}


def gru(layer: spec.GRU, own: Own, x: Doubles, h: Doubles) -> States:
    """Cho et al. 2014, or with the reset gate after the product."""
    r, z, n = parts(own["weight_ih"] @ x + own.get("bias_ih", 0.0), 3)
    w_r, w_z, w_n = parts(own["weight_hh"], 3)
    b_r, b_z, b_n = parts(own.get("bias_hh", np.zeros(3 * layer.hidden_size)), 3)
    r = apply(layer.recurrent_activation, clip(r + w_r @ h + b_r, layer.clip))
    z = apply(layer.recurrent_activation, clip(z + w_z @ h + b_z, layer.clip))
    from_h = r * (w_n @ h + b_n) if layer.reset_after else w_n @ (r * h) + b_n
    n = apply(layer.activation, clip(n + from_h, layer.clip))
    h = (1 - z) * n + z * h
    return {"r": r, "z": z, "n": n, "h": h}


def lstm(layer: spec.LSTM, own: Own, x: Doubles, h: Doubles, c: Doubles) -> States:
    """Hochreiter, Schmidhuber 1997; Gers et al. 2000; the equations are those of `LSTM`."""
    a = own["weight_ih"] @ x + own.get("bias_ih", 0.0)
    i, f, g, o = parts(a + own["weight_hh"] @ h + own.get("bias_hh", 0.0), 4)
    p_i, p_f, p_o = (own.get(f"peephole_{gate}", 0.0) for gate in "ifo")
    i = apply(layer.recurrent_activation, clip(i + p_i * c, layer.clip))
    f = apply(layer.recurrent_activation, clip(f + layer.forget_bias + p_f * c, layer.clip))
    g = apply(layer.activation, clip(g, layer.clip))
    if layer.coupled:
        f = 1 - i
    c = clip(f * c + i * g, layer.cell_clip)
    o = apply(layer.recurrent_activation, clip(o + p_o * c, layer.clip))
    h = o * apply(layer.output_activation, c)
    if layer.proj_size:
        h = clip(own["weight_hr"] @ h, layer.proj_clip)
    return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}


def min_gru(layer: spec.MinGRU, own: Own, x: Doubles, h: Doubles) -> States:
    """Feng et al. 2024, section 3.1."""
    z, n = parts(own["weight_ih"] @ x + own.get("bias_ih", 0.0), 2)
    z = apply("sigmoid", z)
    n = apply(layer.activation, n)
    h = (1 - z) * h + z * n
    return {"z": z, "n": n, "h": h}


def min_lstm(layer: spec.MinLSTM, own: Own, x: Doubles, h: Doubles) -> States:
    """Feng et al. 2024, section 3.2."""
    f, i, n = parts(own["weight_ih"] @ x + own.get("bias_ih", 0.0), 3)
    # f / (f + i) of sigmoids, which may both be 0: log sigmoid(a) = -softplus(-a).
    difference = apply("softplus", -1.0 * i) - apply("softplus", -1.0 * f)
    f, i = apply("sigmoid", difference), apply("sigmoid", -1.0 * difference)
    n = apply(layer.activation, n)
    h = f * h + i * n
    return {"f": f, "i": i, "n": n, "h": h}


def ind_rnn(layer: spec.IndRNN, own: Own, x: Doubles, h: Doubles) -> States:
    """Li et al. 2018, equation 2."""
    a = own["weight_ih"] @ x + own.get("bias_ih", 0.0) + own["weight_hh"] * h
    return {"h": apply(layer.nonlinearity, a)}


def sru(layer: spec.SRU, own: Own, x: Doubles, c: Doubles) -> States:
    """Lei et al. 2018, equations 1 to 4."""
    n, f, r, *projected = parts(own["weight_ih"] @ x, layer.num_gates)
    b_f, b_r = parts(own.get("bias_ih", np.zeros(2 * layer.hidden_size)), 2)
    v_f, v_r = own.get("peephole_f", 0.0), own.get("peephole_r", 0.0)
    f = apply("sigmoid", f + v_f * c + b_f)
    r = apply("sigmoid", r + v_r * c + b_r)
    c = f * c + (1 - f) * n
    highway = projected[0] if projected else layer.highway_scale * x
    h = r * apply(layer.activation, c) + (1 - r) * highway
    return {"f": f, "r": r, "h": h, "c": c}


CELLS: dict[type[spec.Layer], Callable[..., States]] = {
    spec.RNN: rnn,
    spec.GRU: gru,
    spec.LSTM: lstm,
    spec.MinGRU: min_gru,
    spec.MinLSTM: min_lstm,
    spec.IndRNN: ind_rnn,
    spec.SRU: sru,
}
