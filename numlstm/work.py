"""What a step of a network costs, counted from its layers before anything is made of them.

Rough, to a factor of two or three: it says when to look for Ctrl-C, whether another thread pays,
and what a file asks for.
"""

from math import prod

from numlstm import spec
from numlstm.quantize import FORMATS

PRODUCTS = 4  # that a slow core does, at least, in the time of an operation of a `budget`

# In products of float32 weights that are in the cache, 0.05 to 0.1 ns each for a single row.
_OPERATION = 500  # that reads and writes nothing
_NUMBER = 8  # read, moved or written
_FUNCTION = 32  # of a number: tanh, exp
_CHOICE = 100  # of a token, for each score
_ROW = 100_000  # that Python walks over
_MEMORY = 8  # a product with a row of a memory, which is read across


def work(network: spec.Network, memory_rows: int = 0) -> int:
    """Return what a step costs: products, in the time of float32.

    memory_rows   of the memory that it attends to
    """
    return sum(layer_work(layer, memory_rows) for layer in network.layers)


def choice_work(num_scores: int) -> int:
    """Return what it costs to choose a token by its score."""
    return _OPERATION + _CHOICE * num_scores


def layer_work(layer: spec.Layer, memory_rows: int = 0) -> int:
    """Return what a step of one layer costs, as `work` does."""
    moved = layer.input_size + layer.output_size
    return _OPERATION + _NUMBER * moved + _products(layer) + _own(layer, memory_rows)


def _products(layer: spec.Layer) -> int:
    if not isinstance(layer, spec.MatrixLayer) or isinstance(layer, spec.Embedding):
        return 0
    shapes = layer.tensors()
    products = sum(_padded(*shapes[name]) for name in layer.matrices())
    if isinstance(layer, spec.Conv1d):
        products *= layer.groups  # those between groups are zeros
    if isinstance(layer, spec.FrameConv1d):
        products *= len(layer.starts)
    if isinstance(layer, spec.Recurrent) and layer.shared:
        products *= 2
    return products // FORMATS[layer.dtype].speed[layer.activations]


def _padded(outputs: int, *inputs: int) -> int:
    """Return the numbers of a matrix as the kernels read it: for 16 outputs at a time."""
    return (outputs + -outputs % 16) * prod(inputs)


def _own(layer: spec.Layer, memory_rows: int) -> int:
    """Return what a layer costs beside its matrices, and beside what it reads and writes."""
    match layer:
        case spec.Recurrent():
            num_directions = 2 if layer.direction == "bidirectional" else 1
            units = _FUNCTION * layer.num_gates * layer.hidden_size
            return num_directions * (units + 10 * _OPERATION)  # those of a cell with options
        case spec.Conv1d():
            window = layer.kernel_size * layer.input_size
            # What it reads of earlier steps moves on once for up to 16 of them, from afar.
            kept = layer.reach * layer.input_size // 4
            return _NUMBER * (window + kept) + _FUNCTION * layer.output_size
        case spec.FrameConv1d():
            return _OPERATION * len(layer.starts) + _FUNCTION * layer.output_size
        case spec.Pool1d():
            return 2 * _NUMBER * (layer.kernel_size * layer.input_size)
        case spec.Flatten():
            return _NUMBER * layer.output_size
        case spec.Attention():
            each = _MEMORY * (layer.size or layer.memory_size) + _MEMORY * layer.memory_size
            each += _FUNCTION * layer.size  # of an additive score
            return memory_rows * (each + _FUNCTION)
        case spec.Copy():
            return memory_rows * (_MEMORY * layer.memory_size + 2 * _FUNCTION)
        case spec.CRF():
            return _ROW + _FUNCTION * layer.input_size**2
        case spec.LayerNorm() | spec.Pooling():
            return 2 * _NUMBER * layer.input_size
        case spec.Linear() | spec.Activation() | spec.Softmax() | spec.LogSoftmax():
            return _FUNCTION * layer.output_size
        case spec.AttentionPooling():
            return _FUNCTION + 2 * _NUMBER * layer.input_size
        case spec.Add() | spec.Multiply():
            return _NUMBER * layer.input_size * len(layer.inputs)
    return 0


def run_work(network: spec.Network, num_rows: int = 1, memory_rows: int = 0) -> tuple[float, float]:
    """Return what a run of so many rows costs: its `work`, and the bytes of all rows in between.

    Rows are repeated, or come of the padding of a convolution: one may become a million.
    """
    total, num_bytes = 0.0, 0.0
    rows: list[int] = []
    for n, layer in enumerate(network.layers):
        given = max((rows[s] if s >= 0 else num_rows for s in network.sources(n)), default=num_rows)
        gives = given
        if isinstance(layer, spec.Repeat):
            gives = layer.num_steps
        elif isinstance(layer, spec.Windowed) and not layer.is_causal:
            given += sum(layer.pads)
            gives = max(given - layer.reach, 0) // layer.stride + 1
        elif layer.pools and not network.is_causal:
            gives = 1
        rows.append(gives)
        attended = memory_rows
        if isinstance(layer, spec.Attention) and layer.memory:
            source = network.index(layer.memory)
            attended = rows[source] if source >= 0 else num_rows
            num_bytes += 4 * attended * (layer.memory_size + layer.size)
        total += max(given, gives) * layer_work(layer, attended)
        num_bytes += 2 * 4 * gives * layer.output_size
    return total, num_bytes
