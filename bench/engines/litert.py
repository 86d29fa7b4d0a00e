"""LiteRT: one step as products, sums and activations, which XNNPACK runs; a sequence as its LSTM.

That operator is one and a half to three times slower for one step (128 to 512 units).
"""

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from bench.engines import Engine
from bench.engines.cases import Case, Floats

_FILES = {"float32": "model.tflite", "int8": "model.int8.tflite"}
_OPERATORS, _TYPES = schema.BuiltinOperator, schema.TensorType


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Write the graphs of float32 and of int8 weights, as a converter would."""
    for dtype, name in _FILES.items():
        graph = _Graph(is_int8=dtype == "int8")
        if case.is_anew:
            _sequence(graph, case, tensors)
        else:
            _step(graph, case, tensors)
        (folder / name).write_bytes(graph.pack())


class _Graph:
    """A graph in the making; values are numbers of its tensors."""

    def __init__(self, is_int8: bool) -> None:
        self.is_int8 = is_int8
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._kinds: dict[tuple[int, int], int] = {}
        self._buffers = [schema.BufferT()]  # the first one is that of no data

    def value(self, *shape: int, is_variable: bool = False) -> int:
        """Return a new float32 tensor."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape = f"t{len(self._tensors)}", list(shape)
        tensor.type, tensor.isVariable = _TYPES.FLOAT32, is_variable
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def constant(self, array: Any) -> int:
        """Return a tensor of an array, float32 or int32."""
        made = self.value(*array.shape)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self._buffers.append(buffer)
        tensor = self._tensors[made]
        tensor.buffer = len(self._buffers) - 1
        types = {"float32": _TYPES.FLOAT32, "int32": _TYPES.INT32, "int8": _TYPES.INT8}
        tensor.type = types[str(array.dtype)]
        return made

    def weight(self, rows: Floats, by_row: bool) -> int:
        """Return a matrix, in int8 with a scale for each row or one for all."""
        if not self.is_int8:
            return self.constant(rows)
        largest = np.abs(rows).max(axis=1 if by_row else None, keepdims=True)
        scales = (largest / 127).astype(np.float32)
        made = self.constant(np.rint(rows / scales).astype(np.int8))
        quantization = schema.QuantizationParametersT()
        quantization.scale = scales.reshape(-1)
        quantization.zeroPoint = np.zeros(scales.size, np.int64)
        self._tensors[made].quantization = quantization
        return made

    def add(
        self,
        kind: str,
        inputs: list[int],
        outputs: list[int],
        version: int = 1,
        **options: Any,
    ) -> int:
        """Add an operator; return its first output."""
        code = getattr(_OPERATORS, kind)
        if (code, version) not in self._kinds:
            self._kinds[code, version] = len(self._kinds)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._kinds[code, version]
        operator.inputs, operator.outputs = inputs, outputs
        name = "".join(word if word == "LSTM" else word.title() for word in kind.split("_"))
        made = getattr(schema, f"{name}OptionsT", None)
        if made:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{name}Options")
            operator.builtinOptions = made()
            for key, value in options.items():
                setattr(operator.builtinOptions, key, value)
        self._operators.append(operator)
        return outputs[0]

    def pack(self) -> bytes:
        """Return the file."""
        import flatbuffers

        model, graph = schema.ModelT(), schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = self.inputs, self.outputs
        model.version, model.subgraphs, model.buffers = 3, [graph], self._buffers
        model.operatorCodes = []
        for code, version in self._kinds:
            kind = schema.OperatorCodeT()
            kind.builtinCode, kind.version = code, version
            kind.deprecatedBuiltinCode = min(code, 127)
            model.operatorCodes.append(kind)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _step(graph: _Graph, case: Case, tensors: dict[str, Floats]) -> None:
    """x (S, I), then the state of each layer (S, H) -> the next state of each layer."""
    rows, size = case.num_streams, case.hidden_size
    gates = 4 if case.cell == "LSTM" else 3

    def apply(kind: str, *inputs: int) -> int:
        return graph.add(kind, list(inputs), [graph.value(rows, size)])

    def product(weight: Floats, bias: Floats, x: int) -> int:
        made = graph.value(rows, len(weight))
        inputs = [x, graph.weight(weight, by_row=True), graph.constant(bias)]
        return graph.add("FULLY_CONNECTED", inputs, [made], version=9 if graph.is_int8 else 1)

    def split(value: int) -> list[int]:
        parts = [graph.value(rows, size) for _ in range(gates)]
        graph.add("SPLIT", [axis, value], parts, numSplits=gates)
        return parts

    axis = graph.constant(np.array(1, np.int32))
    x = graph.value(rows, size)
    graph.inputs.append(x)
    for n in range(case.num_layers):
        w_ih, w_hh, b_ih, b_hh = (
            tensors[f"layers.{n}.{name}"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h = graph.value(rows, size)
        graph.inputs.append(h)
        if case.cell == "LSTM":
            c = graph.value(rows, size)
            graph.inputs.append(c)
            both = graph.add("CONCATENATION", [x, h], [graph.value(rows, 2 * size)], axis=1)
            i, f, g, o = split(product(np.hstack([w_ih, w_hh]), b_ih + b_hh, both))
            i, f, o = (apply("LOGISTIC", gate) for gate in (i, f, o))
            c = apply("ADD", apply("MUL", f, c), apply("MUL", i, apply("TANH", g)))
            h = apply("MUL", o, apply("TANH", c))
            graph.outputs += [h, c]
        else:
            from_x, from_h = split(product(w_ih, b_ih, x)), split(product(w_hh, b_hh, h))
            r, z = (
                apply("LOGISTIC", apply("ADD", *both))
                for both in zip(from_x[:2], from_h[:2], strict=True)
            )
            new = apply("TANH", apply("ADD", from_x[2], apply("MUL", r, from_h[2])))
            h = apply("ADD", new, apply("MUL", z, apply("SUB", h, new)))
            graph.outputs.append(h)
        x = h


def _sequence(graph: _Graph, case: Case, tensors: dict[str, Floats]) -> None:
    """Xs (T, S, I) -> ys (T, S, D * H), an operator for each direction."""
    size, times, rows = case.hidden_size, case.num_steps, case.num_streams
    xs = graph.value(times, rows, size)
    graph.inputs.append(xs)
    first = graph.constant(np.array([0], np.int32))

    def reversed_(value: int) -> int:
        return graph.add("REVERSE_V2", [value, first], [graph.value(times, rows, size)])

    both = []
    for suffix in ("", "_reverse")[: case.num_directions]:
        w_ih, w_hh, b_ih, b_hh = (
            tensors[f"layers.0.{name}{suffix}"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        inputs = [reversed_(xs) if suffix else xs]
        for matrix in (w_ih, w_hh):  # of the gates i, f, g, o
            inputs += [graph.weight(part, by_row=False) for part in np.split(matrix, 4)]
        inputs += [-1] * 3  # no peepholes
        inputs += [graph.constant(part) for part in np.split(b_ih + b_hh, 4)]
        inputs += [-1] * 2  # no projection
        inputs += [graph.value(rows, size, is_variable=True) for _ in ("h", "c")]
        ys = graph.add(
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            [*inputs, *[-1] * 4],  # no layer norm
            [graph.value(times, rows, size)],
            fusedActivationFunction=schema.ActivationFunctionType.TANH,
            timeMajor=True,
        )
        both.append(reversed_(ys) if suffix else ys)
    if len(both) == 2:
        ys = graph.add("CONCATENATION", both, [graph.value(times, rows, 2 * size)], axis=2)
    graph.outputs.append(ys)


class LiteRT(Engine):
    """The interpreter: inputs are written into its memory, the next state copied to where it reads.

    Its newer interface, `CompiledModel`, whose buffers could swap roles, takes 4 to 30 us longer.
    """

    dtype = "float32"

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        path = str(folder / _FILES[self.dtype])
        interpreter = Interpreter(model_path=path, num_threads=case.num_threads)
        interpreter.allocate_tensors()
        self.invoke, self.reset = interpreter.invoke, interpreter.reset_all_variables
        # Views of its memory must not live while it runs: these make them.
        first, *before = (interpreter.tensor(d["index"]) for d in interpreter.get_input_details())
        after = [interpreter.tensor(d["index"]) for d in interpreter.get_output_details()]
        self.first, self.states = first, list(zip(before, after, strict=False))
        for view in before:
            view()[...] = 0
        self.last = after[-2] if case.cell == "LSTM" and not case.is_anew else after[-1]

    def step(self, x: Any, out: Floats) -> None:
        self.first()[...] = x.reshape(self.first().shape)
        if not self.states:
            self.reset()
        self.invoke()
        out[...] = self.last().reshape(out.shape)
        for before, after in self.states:
            before()[...] = after()

    def output(self) -> Floats:
        return self.out.copy()


class Int8(LiteRT):
    """Weights of int8 with float32 inputs, which are rounded to 8 bits on the way."""

    dtype = "int8"
