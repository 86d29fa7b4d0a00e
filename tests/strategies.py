"""Networks of every kind of layer and option, for Hypothesis."""

from dataclasses import fields
from typing import Any

from hypothesis import strategies as st

from numlstm import spec
from numlstm.spec import Network

SIZE = st.integers(1, 5)
POSITIVE = st.floats(1e-12, 1e3)


def functions() -> st.SearchStrategy[str]:
    return st.sampled_from(sorted(spec.FUNCTIONS)).flatmap(
        lambda name: st.tuples(
            st.just(name), *[st.floats(-9, 9, width=32) for _ in spec.FUNCTIONS[name]]
        ).map(lambda drawn: spec.function_text(*drawn))
    )


def _some(draw: Any, **options: st.SearchStrategy[Any]) -> dict[str, Any]:
    """Draw which of the options are given, and their values."""
    return {name: draw(values) for name, values in options.items() if draw(st.booleans())}


def _values(kind: str, option: Any) -> st.SearchStrategy[Any]:
    """Return the values of an option that a cell has of its own."""
    if option.name in spec.LAYERS[kind].functions:
        return functions()
    if option.type is bool:
        return st.booleans()
    return POSITIVE if option.metadata.get("least", 1) > 0 else st.floats(-9, 9)


def _recurrent(draw: Any, kind: str, size: int) -> spec.Layer:
    hidden_size = draw(SIZE)
    options = _some(
        draw,
        bias=st.booleans(),
        direction=st.sampled_from(["forward", "reverse"]),
        outputs=st.sampled_from(["sequence", "last"]),
        initial_state=st.booleans(),
    )
    if draw(st.booleans()):
        options["direction"] = "bidirectional"
        options |= _some(
            draw, merge=st.sampled_from(["concat", "sum", "mul", "ave"]), shared=st.booleans()
        )
    own = {option.name: option for option in fields(spec.LAYERS[kind])}
    for option in fields(spec.Recurrent):
        del own[option.name]
    if hidden_size != size:
        own.pop("highway_scale", None)
    options |= _some(
        draw, **{name: _values(kind, option) for name, option in own.items() if "proj" not in name}
    )
    if "proj_size" in own and hidden_size > 1 and draw(st.booleans()):
        options |= {"proj_size": draw(st.integers(1, hidden_size - 1))}
        options |= _some(draw, proj_clip=POSITIVE)
    return spec.LAYERS[kind](size, hidden_size, **options)


def _convolution(draw: Any, size: int) -> spec.Layer:
    kernel_size, dilation = draw(SIZE), draw(SIZE)
    reach = st.integers(0, (kernel_size - 1) * dilation)
    options = _some(draw, padding=st.tuples(reach, reach), stride=SIZE, activation=functions())
    groups = draw(st.sampled_from([1, size]))
    return spec.Conv1d(
        size, groups * draw(SIZE), kernel_size, dilation=dilation, groups=groups, **options
    )


def _frame_convolution(draw: Any, size: int) -> spec.Layer:
    channels = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
    kernel_size = draw(st.integers(1, size // channels))
    pad = st.integers(0, kernel_size - 1)
    options = _some(draw, padding=st.tuples(pad, pad), stride=SIZE, activation=functions())
    return spec.FrameConv1d(size, channels, draw(SIZE), kernel_size, draw(st.booleans()), **options)


def _window_pooling(draw: Any, size: int) -> spec.Layer:
    kernel_size = draw(SIZE)
    reach = st.integers(0, kernel_size - 1)
    options = _some(draw, padding=st.tuples(reach, reach), stride=SIZE, ceil_mode=st.booleans())
    return spec.Pool1d(size, kernel_size, draw(st.sampled_from(spec.WINDOW_POOLINGS)), **options)


def _layer(draw: Any, kind: str, size: int) -> spec.Layer:
    """Draw a layer of a kind that reads `size` numbers of the layer before it."""
    flag = draw(st.booleans())
    if issubclass(spec.LAYERS[kind], spec.Recurrent):
        return _recurrent(draw, kind, size)
    match kind:
        case "Conv1d":
            return _convolution(draw, size)
        case "FrameConv1d":
            return _frame_convolution(draw, size)
        case "Linear":
            return spec.Linear(size, draw(SIZE), flag, draw(st.none() | functions()))
        case "LayerNorm" | "BatchNorm":
            return spec.LAYERS[kind](size, draw(st.floats(1e-12, 1)), flag, draw(st.booleans()))
        case "Activation":
            return spec.Activation(size, draw(functions()))
        case "Pooling":
            return spec.Pooling(size, draw(st.sampled_from(spec.POOLINGS)))
        case "AttentionPooling":
            return spec.AttentionPooling(size, eps=draw(st.floats(0, 1)))
        case "Slice":
            start = draw(st.integers(0, size - 1))
            return spec.Slice(size, start, draw(st.integers(start + 1, size)))
        case "Pool1d":
            return _window_pooling(draw, size)
        case "Flatten":
            return spec.Flatten(size, draw(SIZE))
        case "Repeat":
            return spec.Repeat(size, draw(SIZE))
    return spec.LAYERS[kind](size)


# Layers that a chain can have anywhere; those that join others follow at its end.
CHAINED = sorted(
    set(spec.LAYERS)
    - {"Embedding", "OneHot", "Masking", "Add", "Multiply", "Feedback", "Attention", "Copy"}
)


@st.composite
def networks(draw: Any) -> Network:
    size = draw(SIZE)
    first = draw(st.sampled_from([None, "Embedding", "OneHot", "Masking"]))
    layers: list[spec.Layer] = []
    if first == "Embedding":
        layers.append(spec.Embedding(draw(SIZE), size, mask_zero=draw(st.booleans())))
    elif first == "OneHot":
        layers.append(spec.OneHot(draw(SIZE), size))
    elif first == "Masking":
        layers.append(spec.Masking(size, value=draw(st.floats(-9, 9))))
    for kind in draw(st.lists(st.sampled_from(CHAINED), min_size=1, max_size=4)):
        layers.append(_layer(draw, kind, size))
        size = layers[-1].output_size
    layers.append(spec.Linear(size, size, name="a"))
    # Feedback goes with what is causal, attention to all rows does not.
    is_causal = all(layer.is_causal for layer in layers)
    others = ["Feedback"] if is_causal and draw(st.booleans()) else ["Attention"]
    for kind in draw(st.lists(st.sampled_from(["Add", "Multiply", "Concat", *others]))):
        name = layers[-1].name
        if kind == "Concat":
            layers.append(spec.Concat(2 * size, inputs=(name, "a")))
            layers.append(spec.Linear(2 * size, size, name=f"{name}a"))
        elif kind == "Feedback":
            source = draw(st.sampled_from(["a", name]))
            layers.append(spec.Feedback(size, source, name=f"{name}a"))
        elif kind == "Attention":
            options = draw(
                st.sampled_from([{}, {"score": "general"}, {"score": "additive", "size": 3}])
            )
            layers.append(spec.Attention(size, size, memory="a", name=f"{name}a", **options))
        else:
            layers.append(spec.LAYERS[kind](size, inputs=(name, "a"), name=f"{name}a"))
    for kind in draw(st.lists(st.sampled_from(["Slice", "Pooling", "Concat"]), max_size=2)):
        layers.append(_tail(draw, kind, layers))
    return Network(tuple(layers))


def _tail(draw: Any, kind: str, layers: list[spec.Layer]) -> spec.Layer:
    """Draw a layer that computes nothing of the last one, with which a network may end."""
    size = layers[-1].output_size
    match kind:
        case "Slice":
            start = draw(st.integers(0, size - 1))
            return spec.Slice(size, start, draw(st.integers(start + 1, size)))
        case "Pooling":
            return spec.Pooling(size, "last")
    return spec.Concat(size)


@st.composite
def decoders(draw: Any) -> Network:
    """Draw a network that reads a memory; it may read its own answer, copy, and leave out steps."""
    size, memory_size = draw(SIZE), draw(SIZE)
    vocab_size = draw(st.integers(1, 9))
    first: list[spec.Layer] = draw(
        st.sampled_from(
            [
                [],
                [spec.Embedding(vocab_size, size, name="x")],
                [spec.Embedding(vocab_size, size, mask_zero=True, name="x")],
                [spec.OneHot(vocab_size, size, name="x")],
                [spec.Masking(size, 0.5, name="x")],
            ]
        )
    )
    layers = first or [spec.Linear(size, size, name="x")]
    if draw(st.booleans()):
        layers.append(spec.Feedback(memory_size, "context", name="fed"))
        layers.append(spec.Concat(size + memory_size, inputs=("x", "fed")))
    cell = draw(st.sampled_from([spec.RNN, spec.GRU, spec.LSTM, spec.MinGRU, spec.SRU]))
    hidden_size = draw(SIZE)
    layers.append(cell(layers[-1].output_size, hidden_size, name="query"))
    score = draw(st.sampled_from(["dot", "general", "additive"]))
    query = "query"
    if score == "dot":
        layers.append(spec.Linear(hidden_size, memory_size, name="fitted"))
        query = "fitted"
    read_size = layers[-1].output_size
    options = {"size": draw(SIZE)} if score == "additive" else {}
    layers.append(
        spec.Attention(
            read_size, memory_size, score, scale=draw(st.sampled_from([1.0, 0.5])),
            inputs=(query,), name="context", **options,
        )
    )  # fmt: skip
    both = hidden_size + memory_size
    layers.append(spec.Linear(both, vocab_size, inputs=("query", "context"), name="scores"))
    if draw(st.booleans()):
        layers.append(spec.Softmax(vocab_size, name="written"))
        layers.append(
            spec.Linear(both, 1, activation="sigmoid", inputs=("query", "context"), name="gate")
        )
        copied = ("written", "gate", "context")
        layers.append(spec.Copy(vocab_size, memory_size, inputs=copied))
    return Network(tuple(layers))
