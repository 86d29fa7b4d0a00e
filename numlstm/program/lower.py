"""(network, tensors) -> Program: a causal network becomes operations, its tensors flat arrays.

The fast layouts are derived here, once, and nothing else knows them: the walk over the layers, the
input, and the folding of what is made of a token into a table.
"""

from contextlib import nullcontext
from dataclasses import replace
from functools import reduce
from typing import Literal

import numpy as np

from numlstm import spec
from numlstm.budget import spend
from numlstm.kernels import plan as columns
from numlstm.kernels.addresses import COMPILED, aligned, argument
from numlstm.kernels.packing import padded
from numlstm.kernels.plan import DONE
from numlstm.program.builder import Builder, Operation, Own, Place
from numlstm.program.cells import CELLS
from numlstm.program.layers import LAYERS
from numlstm.program.program import Floats, Layout, Program, Stored
from numlstm.quantize import FLOAT32, FORMATS, Encoded, Matrix
from numlstm.work import PRODUCTS

# Steps that `run` takes through a layer before the next layer. More rows read the input weights
# less often; the buffers (16 rows of a 512-unit LSTM's gates are 128 KB) must stay in the L2 cache.
BLOCK_ROWS = 16

# Streams that a pool takes through a step together: whole tiles of 4 rows and of 6. Beside 32 it is
# 1.0 to 1.1 times as fast for 128 streams of 128 to 512 units, on AVX2 and on AVX-512; 24 are 0.95.
POOL_ROWS = 48

# A table of what the first recurrent layer makes of every token is made if it fits in this.
FOLD_BUDGET = 64 * 2**20  # bytes

Fold = bool | Literal["auto"]


def build(network: spec.Network, tensors: Encoded, fold: Fold = False) -> Program:
    """Return the program of a causal network.

    tensors   canonical names and shapes, as `Network.check_tensors` demands; matrices may be
              encoded already: `quantize.encoded`
    fold      whether to tabulate the input half of the layer that reads the tokens: `can_fold`
    """
    with np.errstate(over="ignore", invalid="ignore"):  # `Builder.made` refuses that
        return _Lowering(network, tensors, fold).program()


def can_fold(network: spec.Network, fold: Fold) -> bool:
    """Whether the input half of the layer that reads the tokens is to be a table.

    fold   "auto": if it takes no more than FOLD_BUDGET bytes, and the kernels are compiled
    """
    n = _folding_layer(network)
    if n is None or not fold:
        return False
    layer = network.layers[n]
    assert isinstance(layer, spec.Recurrent)
    num_bytes = 4 * (network.vocab_size or 0) * layer.num_gates * padded(layer.hidden_size)
    return fold is True or (num_bytes <= FOLD_BUDGET and COMPILED)


def _folding_layer(network: spec.Network) -> int | None:
    """Return the number of the recurrent layer that alone reads the tokens, if there is one."""
    readers = [n for n in range(1, len(network.layers)) if 0 in network.sources(n)]
    fits = (
        network.reads_tokens
        and len(readers) == 1
        and network.sources(readers[0]) == (0,)
        and isinstance(network.layers[readers[0]], spec.Recurrent)
        and not any(isinstance(layer, spec.Feedback) for layer in network.layers)
    )
    return readers[0] if fits else None


class _Lowering:
    """A network on its way to a program."""

    def __init__(self, network: spec.Network, tensors: Encoded, fold: Fold) -> None:
        self.network, self.tensors = network, tensors
        self.folded = _folding_layer(network) if can_fold(network, fold) else None
        self.builder = Builder()

    def program(self) -> Program:
        builder, network = self.builder, self.network
        # The operation that reads the input is the first: of a folded layer, it reads the table.
        places = {} if self.folded is not None else {-1: self._input(builder)}
        has_feedback = any(isinstance(layer, spec.Feedback) for layer in network.layers)
        with builder.rows() if has_feedback else nullcontext():
            self._add_layers(places)
        last = places[len(network.layers) - 1]
        answer = None
        if network.masks:
            answer = builder.keep(network.output_size)
            builder.keep_copy(last, answer)
        generate = self._layout_to_generate(builder.twin(), last)
        builder.append(Operation(columns.OUTPUT, last, last))
        return builder.program(BLOCK_ROWS, POOL_ROWS, generate, answer)

    def _add_layers(self, places: dict[int, Place]) -> None:
        """Add every layer.

        places   where the input is, as -1, unless it is folded; written: each layer's output
        """
        builder, network = self.builder, self.network
        fed: list[tuple[Place, int]] = []  # where a feedback keeps what it gives, of which layer
        for n, (prefix, layer) in enumerate(network.named_layers()):
            own = self._own(prefix, layer)
            inputs = [places[source] for source in network.sources(n) if source in places]
            builder.prefix = prefix
            # What it reads, what it gives, and as much of its own.
            spend(prefix, memory=2 * 4 * (layer.input_size + layer.output_size))
            match layer:
                case spec.Embedding() | spec.OneHot():
                    if -1 in places:
                        places[n] = places[-1]
                case spec.Feedback():
                    kept = builder.keep(layer.output_size)
                    fed.append((kept, network.index(layer.source)))
                    # A copy, as the output of this step is read after the next one is kept.
                    places[n] = builder.copy(kept, builder.buffer(layer.output_size))
                case spec.Add():
                    places[n] = reduce(builder.add, inputs)
                case spec.Multiply():
                    places[n] = reduce(builder.multiply, inputs)
                case spec.Recurrent():
                    places[n] = self._add_cell(layer, own, inputs)
                case _:
                    places[n] = LAYERS[type(layer)](builder, layer, own, builder.join(inputs))
        for kept, source in fed:
            builder.keep_copy(places[source], kept)

    def _own(self, prefix: str, layer: spec.Layer) -> Own:
        form = FORMATS[layer.dtype] if isinstance(layer, spec.MatrixLayer) else FLOAT32
        return Own(self.tensors, prefix, form)

    def _add_cell(self, layer: spec.Recurrent, own: Own, inputs: list[Place]) -> Place:
        """Add a cell; the one without inputs is that which reads the tokens, and is folded."""
        builder = self.builder

        def read(weight: Matrix, bias: Floats, with_x: bool = False) -> Place:
            if inputs:
                x = builder.join(inputs)
            else:
                table = self._table(weight, bias, with_x)
                if table is not None:
                    return _embedding(builder, table)
                x = self._input(builder)
            return _product(builder, x, weight, bias, with_x, layer.activations)

        return CELLS[type(layer)](builder, layer, own, read)

    def _input(self, builder: Builder) -> Place:
        """Add the operation that reads the input: numbers, or the row of a token."""
        match self.network.layers[0]:
            case spec.OneHot() as layer:
                y = builder.buffer(layer.output_size)
                return builder.append(
                    Operation(columns.ONE_HOT, None, y, x_size=1, vocab_size=layer.vocab_size)
                )
            case spec.Embedding() as layer:
                shape, stride = (
                    (layer.vocab_size, layer.embedding_size),
                    padded(layer.embedding_size),
                )
                spend("the table of its embedding", memory=4 * layer.vocab_size * stride)
                table = np.zeros((layer.vocab_size, stride), np.float32)
                table[:, : layer.embedding_size] = self._own("embedding", layer)["weight"]
                rows = replace(
                    FLOAT32.encode(table).named("weight"), numbers=np.empty(0, np.float32)
                )
                y = _embedding(builder, table)
                w_at = builder.operations[-1].w_at
                builder.stored.append(Stored("embedding.weight", w_at, 0, rows, shape, stride))
                return y.part(0, layer.embedding_size)
        y = builder.buffer(self.network.input_size)
        return builder.append(Operation(columns.INPUT, None, y))

    def _table(self, weight: Matrix, bias: Floats, with_x: bool) -> Floats | None:
        """Return what ``bias + weight @ x`` is for each token, (V, N), with x behind it if asked.

        The kernels make it, so it has the bits they would give at every step, in float32. None if
        some numbers overflow: the steps may never meet those.
        """
        from numlstm.kernels.entry import walker

        builder = Builder()
        exact = FLOAT32.encode(weight.values())
        y = _product(builder, self._input(builder), exact, bias, with_x, "int16")
        builder.append(Operation(columns.OUTPUT, y, y))
        spend(
            "the table of what is made of each token",
            memory=2 * 4 * len(weight.numbers) * (self.network.vocab_size or 0),
            operations=weight.numbers.size * (self.network.vocab_size or 0) / PRODUCTS,
        )
        ids = np.arange(self.network.vocab_size or 0, dtype=np.int32)
        table = np.empty((len(ids), y.size), np.float32)
        program = builder.program(BLOCK_ROWS, 1, None, None)
        state = aligned(program.block.state_size)
        state[: program.initial_state.size] = program.initial_state
        arrays = (program.block.plan_at, program.params_at, argument(state))
        status = walker()(*arrays, ids, table)
        if status != DONE:
            return None
        return np.pad(table, ((0, 0), (0, padded(y.size) - y.size)))

    def _layout_to_generate(self, builder: Builder, scores: Place) -> Layout | None:
        """Return a layout that chooses a token in place of giving the scores, if it is read.

        A softmax at the end is left out: the scores are the logits that go into it.
        """
        network = self.network
        if network.masks or (network.vocab_size or 0) < network.output_size:
            return None
        are_probabilities = isinstance(network.layers[-1], spec.Softmax)
        last = builder.operations[-1]
        if last.kind in (columns.SOFTMAX, columns.LOG_SOFTMAX) and last.y == scores:
            builder.operations.pop()
            assert last.x is not None
            scores, are_probabilities = last.x, False
        settings = builder.buffer(columns.NUM_SETTINGS)
        rows = builder.buffer(columns.NUM_SAMPLE_ROWS * padded(scores.size))
        builder.append(
            Operation(
                columns.SAMPLE, scores, settings, rows,
                y_size=1, are_probabilities=are_probabilities,
            )
        )  # fmt: skip
        return builder.layout(1, max_steps=2**31)


def _product(
    builder: Builder, x: Place, weight: Matrix, bias: Floats, with_x: bool, activations: str
) -> Place:
    """Add ``bias + weight @ x``, and x behind it if asked."""
    y = builder.linear(x, weight, bias, activations)
    return builder.join([y, x]) if with_x else y


def _embedding(builder: Builder, table: Floats) -> Place:
    """Add the operation that reads the row of a token. table (V, N), N a multiple of 16."""
    y = builder.buffer(table.shape[1])
    w_at = builder.param(table)
    return builder.append(
        Operation(columns.EMBEDDING, None, y, x_size=1, w_at=w_at, vocab_size=len(table))
    )
