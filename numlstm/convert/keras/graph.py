"""The config of a Keras model -> the layers of a network and their tensors."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from numlstm import spec
from numlstm.budget import spend
from numlstm.cached import cached_property
from numlstm.convert.assembly import Assembly, Misfit, Refusals, Refused, reading
from numlstm.convert.keras.call import SEQUENCE, TOKENS, VECTOR, Call, Value
from numlstm.convert.keras.config import (
    MODELS,
    RECURRENT,
    Config,
    Key,
    class_of,
    config_of,
    layers_of,
    leaves_of,
    name_of,
    paths_of,
)
from numlstm.convert.keras.files import Source
from numlstm.convert.keras.hdf5 import Array
from numlstm.convert.keras.layers import LAYERS
from numlstm.convert.keras.nodes import (
    OF_MASKS,
    Node,
    Ref,
    is_own_mask,
    numbered,
    order_of,
    refs_of,
)
from numlstm.spec import Network, WeightsError

Values: TypeAlias = list[Value | None]  # None for what a refused layer would have given

# Of keras.ops, what joins values as the layers of the same names do.
_JOINING = {"Add", "Multiply", "Subtract", "Concatenate"}
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "training": (None, False),
    "mask": (None,),
    "initial_state": (None, []),
}
_MOST_PLACE = 100  # characters of where a layer is
_OF_ONE_STEP = {
    "Dense", "Activation", "Dropout", "TimeDistributed", "LayerNormalization", "InputLayer",
    "Embedding", "Masking", "LeakyReLU", "ELU", "ReLU", "Concatenate", "Add", "Multiply",
}  # fmt: skip


@dataclass(frozen=True)
class Translation:
    """A model as a network, and what its inputs and outputs are.

    inputs   sizes of the inputs, which the network reads joined
    """

    network: Network
    tensors: dict[str, NDArray[np.float32]]
    inputs: tuple[int, ...]
    input_kind: str
    output_kind: str
    time_major: bool


def translate(source: Source) -> Translation:
    """Translate the config of a source.

    Raises
    ------
    WeightsError
        If there is anything in it that numlstm does not have; all of it is listed.
    """
    with reading("the config cannot be read"):
        return _Translator(source).run()


class _Translator:
    def __init__(self, source: Source) -> None:
        assert source.config is not None
        self.source = source
        self.config: Config = source.config
        self.assembly = Assembly()
        self.refusals = Refusals("the Keras model")
        self.arrays: dict[Key, list[Array]] = {}
        self.unbound: set[str] = set()  # layers whose weights were not found

    def run(self) -> Translation:
        self.refusals.found += _strangers(self.config, "")
        self._bind()
        every = list(_every_layer(self.config))
        time_major = self._check_time_major(every)
        inputs = self._inputs(any(class_of(layer) == "Embedding" for layer in every), time_major)
        found = self.model(self.config, (), inputs, "")
        kinds = {value.kind for value in found if value is not None}
        if len(kinds) > 1 and not self.refusals:
            self.refusals.add("the outputs", f"{' and '.join(sorted(kinds))}, expected one kind")
        self.refusals.check()
        outputs = [value for value in found if value is not None]
        size = sum(value.size for value in outputs)
        answer = self.assembly.joined([value.draft for value in outputs], size)
        sizes = tuple(value.size for value in inputs)
        network, tensors = self.assembly.network(answer, sum(sizes))
        return Translation(network, tensors, sizes, inputs[0].kind, outputs[0].kind, time_major)

    def _bind(self) -> None:
        """Find the arrays of every layer."""
        layers = layers_of(self.config)
        for n, (layer, path) in enumerate(zip(layers, paths_of(self.config), strict=True)):
            leaves = list(leaves_of(layer, (name_of(layer),), path))
            known = not _strangers({"class_name": "Model", "config": {"layers": [layer]}}, "")
            before = len(self.refusals)
            with self.refusals.of(f"{_place(n, layer)}: {class_of(layer)}"):
                self.arrays |= self.source.arrays_of(leaves) if leaves and known else {}
            if len(self.refusals) > before:
                self.unbound.add(name_of(layer))
        for key, arrays in self.arrays.items():
            if self.source.backend == "theano" and any(a.ndim in (3, 4) for a in arrays):
                # Theano turned kernels round before it slid them.
                self.arrays[key] = [
                    a[::-1] if a.ndim == 3 or (a.ndim == 4 and a.shape[1] == 1) else a
                    for a in arrays
                ]

    def _check_time_major(self, every: list[Config]) -> bool:
        recurrent = [x for x in every if class_of(x) in (*RECURRENT, "RNN")]
        flags = {bool(config_of(layer).get("time_major")) for layer in recurrent}
        if True not in flags:
            return False
        known = (*_OF_ONE_STEP, *RECURRENT, "RNN", "Bidirectional", *MODELS)
        others = {class_of(x) for x in every if not class_of(x).endswith(("Cell", "Cells"))}
        if flags != {True} or others - set(known):
            with_ = ", ".join(sorted(others - set(known))) or "layers that are not"
            self.refusals.add("the layers", f"time_major=True together with {with_}")
        return True

    # Inputs ---------------------------------------------------------------------------------------

    def _inputs(self, has_tokens: bool, time_major: bool) -> list[Value]:
        shapes = self.input_shapes(has_tokens)
        values, before = [], len(self.refusals)
        for name, shape in shapes:
            steps = shape[0 if time_major else 1] if len(shape) > 1 else None
            steps = steps if isinstance(steps, int) else None
            if len(shape) == 2 and has_tokens:
                values.append(Value(None, 1, TOKENS, steps))
            elif len(shape) in (2, 3) and isinstance(shape[-1], int):
                kind = SEQUENCE if len(shape) == 3 else VECTOR
                values.append(Value(None, shape[-1], kind, steps if kind == SEQUENCE else None))
            else:
                self.refusals.add(
                    f'input "{name}"',
                    f"has shape {tuple(shape)}, expected (batch, steps) token ids, "
                    "(batch, steps, features) or (batch, features)",
                )
        if len({(value.kind, value.steps) for value in values}) > 1 or (
            len(values) > 1 and has_tokens
        ):
            self.refusals.add("several inputs", "expected all sequences or all vectors of numbers")
        if len(self.refusals) > before:
            self.refusals.check()
        if len(values) == 1:
            return values
        total = sum(value.size for value in values)
        stops = np.cumsum([value.size for value in values]).tolist()
        named = []
        for value, stop, (name, _) in zip(values, stops, shapes, strict=True):
            draft = self.assembly.part(None, total, stop - value.size, stop, name)
            named.append(replace(value, draft=draft))
        return named

    def input_shapes(self, has_tokens: bool) -> list[tuple[str, list[Any]]]:
        """Return the shape of each input of the model."""
        layers = layers_of(self.config)
        if class_of(self.config) != "Sequential":
            by_name = {name_of(layer): layer for layer in layers}
            names = [name for name, _, _ in refs_of(config_of(self.config).get("input_layers"))]
            return [(name, _shape_of(by_name.get(name, {})) or []) for name in names]
        if not layers:
            raise WeightsError("the Keras model has no layers")
        first = layers[0]
        while class_of(first) in MODELS and layers_of(first):
            if class_of(first) != "Sequential":
                return _Translator(replace(self.source, config=first)).input_shapes(has_tokens)
            first = layers_of(first)[0]
        shape = _shape_of(first) or config_of(self.config).get("build_input_shape")
        if not isinstance(shape, list):
            shape = (self.config.get("build_config") or {}).get("input_shape")
        if not isinstance(shape, list) and class_of(first) == "Embedding":
            shape = [None, None]
        if not isinstance(shape, list) and class_of(first) in (*RECURRENT, "Bidirectional", "RNN"):
            kernels = [a for key, a in self.arrays.items() if key[0] == name_of(first) and a]
            shape = [None, None, kernels[0][0].shape[0]] if kernels else None
        if not isinstance(shape, list):
            raise WeightsError("the config names no shape of the input; build the model, then save")
        return [(name_of(first), shape)]

    # Models ---------------------------------------------------------------------------------------

    def model(self, item: Config, key: Key, inputs: Values | list[Value], place: str) -> Values:
        """Call a model: every layer of it that its outputs need."""
        if class_of(item) != "Sequential":
            return self._functional(item, key, list(inputs), place)
        values: Values = list(inputs)
        for n, layer in enumerate(layers_of(item)):
            if class_of(layer) != "InputLayer":
                where = place + _place(n, layer)
                values = self.layer(layer, (*key, name_of(layer)), values, where)
        return values

    def _functional(self, item: Config, key: Key, inputs: Values, place: str) -> Values:
        layers = {name_of(layer): layer for layer in layers_of(item)}
        places = {name: place + _place(n, x) for n, (name, x) in enumerate(layers.items())}
        config = config_of(item)
        given = [name for name, _, _ in refs_of(config.get("input_layers"))]
        outputs = refs_of(config.get("output_layers"))
        nodes = numbered(layers, outputs)
        if len(given) != len(inputs) or not outputs:
            raise WeightsError(f"{place or 'the model'}: {len(inputs)} inputs for {len(given)}")
        values: dict[tuple[str, int], Values] = {
            (name, 0): [value] for name, value in zip(given, inputs, strict=True)
        }
        order = order_of(nodes, outputs, set(values))
        calls = Counter(name for name, _ in order)
        for name, n in order:
            node, layer = nodes[name, n], layers[name]
            reads = [self._output(values, ref, places[name]) for ref in node.refs]
            wrong = self._wrong_options(node, layer, nodes, layers)
            if calls[name] > 1 and any(
                config_of(part).get("stateful") for part in (layer, *_every_layer(layer))
            ):
                wrong.append("stateful=True and called more than once")
            for why in wrong:
                self.refusals.add(f"{places[name]}: {class_of(layer)}", why)
            values[name, n] = self.layer(layer, (*key, name), reads, places[name])
        return [self._output(values, ref, "the output") for ref in outputs]

    def _output(self, values: dict[tuple[str, int], Values], ref: Ref, place: str) -> Value | None:
        name, n, index = ref
        found = values[name, n]
        if index < len(found):
            return found[index]
        if None not in found:
            self.refusals.add(
                place, f'reads output {index} of "{name}", a state, expected output 0'
            )
        return None

    def _wrong_options(
        self, node: Node, layer: Config, nodes: dict[tuple[str, int], Node], layers: Any
    ) -> list[str]:
        """Return what of the arguments of a call cannot be had."""
        wrong = [f"called with the constant {constant!r}" for constant in node.constants]
        for name, value in node.options.items():
            mask = refs_of(value) if name == "mask" else []
            if mask and all(is_own_mask(ref, nodes, layers, self._mask_values) for ref in mask):
                continue
            if value not in _HARMLESS.get(name, (None, False)):
                what = "a tensor" if refs_of(value) else repr(value)
                wrong.append(f"called with {name}={what}")
        return wrong

    @cached_property
    def _mask_values(self) -> set[float]:
        """Return which numbers of the input Keras's own masks are made from."""
        return {
            0.0 if class_of(x) == "Embedding" else config_of(x).get("mask_value", 0.0)
            for x in _every_layer(self.config)
            if class_of(x) == "Masking" or config_of(x).get("mask_zero")
        }

    # Layers ---------------------------------------------------------------------------------------

    def layer(self, item: Config, key: Key, inputs: Values, place: str) -> Values:
        """Call a layer, or a model that stands as one."""
        # A model that is called twice, within one that is: layers without end, of a small file.
        spend(f"the call of {place[-_MOST_PLACE:]}", 5000 + len(place), 2e5)
        kind = class_of(item)
        if kind in MODELS:
            return self.model(item, key, inputs, f"{place} > ")
        subject = f"{place}: {kind}"
        refused = _stranger(item)
        if refused is None and kind not in LAYERS:
            refused = Refused("an operation for masks, read as numbers")
        if refused is not None:
            self.refusals.add(subject, refused.why, refused.instead)
            return [None]
        known = [value or Value(None, 1) for value in inputs]
        call = Call(
            item, key[-1], key, known, self.arrays, self.assembly,
            self.source.major, self.source.version, self._inner(place),
        )  # fmt: skip
        with self.refusals.of(subject, None not in inputs and key[0] not in self.unbound):
            reads_input = any(v is not None and v.draft is None for v in inputs)
            if reads_input and _masks_input(self.assembly):
                raise Misfit("reads the input beside the layer that masks it")
            return [LAYERS[kind](call)]
        return [None]

    def _inner(self, place: str) -> Any:
        def call(item: Config, key: Key, inputs: list[Value]) -> list[Value]:
            count = len(self.refusals)
            found = self.layer(item, key, list(inputs), place)
            values = [value for value in found if value is not None]
            if len(values) != 1:
                raise Misfit("of a layer that cannot be had" if count else "of this layer")
            return values

        return call


def _masks_input(assembly: Assembly) -> bool:
    """Tell whether the first layer masks steps of the input."""
    first = assembly.drafts[0].layer if assembly.drafts else None
    is_mask = isinstance(first, spec.Masking)
    return is_mask or (isinstance(first, spec.Embedding) and first.mask_zero)


def _strangers(item: Config, place: str) -> list[Refused]:
    """Return which layers of a model, and within it, numlstm does not have."""
    found = []
    for n, layer in enumerate(layers_of(item)):
        kind, where = class_of(layer), place + _place(n, layer)
        for inner in [layer, *_every_layer(layer)] if kind not in MODELS else []:
            refused = _stranger(inner)
            if refused is not None:
                refused.subject = f"{where}: {class_of(inner) or 'nothing'}"
                found.append(refused)
        if kind in MODELS:
            found += _strangers(layer, f"{where} > ")
    return found


def _stranger(item: Config) -> Refused | None:
    """Return why a layer cannot be had, or None."""
    kind, module = class_of(item), str(item.get("module") or "")
    if kind == "Lambda":
        return Refused("code in a file is not run", "write it as layers")
    if kind in MODELS or kind.endswith(("Cell", "Cells")):
        return None
    if kind in LAYERS:
        is_operation = ".ops" in module and kind not in _JOINING
        return Refused("is an operation, not the layer of that name") if is_operation else None
    if kind in OF_MASKS:
        return None  # of a mask; refused where it is read as numbers
    return Refused("is not a layer numlstm knows")


def _place(n: int, layer: Config) -> str:
    return f'layer {n} "{name_of(layer)}"'


def _every_layer(item: Any) -> Iterator[Config]:
    """Yield the layers of a model and those within them."""
    config = config_of(item)
    inner = config.get("layers") if class_of(item) in MODELS else None
    parts = [*(inner or []), *(config.get("cells") or [])]
    parts += [config.get(name) for name in ("layer", "backward_layer", "cell")]
    for part in parts:
        if isinstance(part, dict):
            yield part
            yield from _every_layer(part)


def _shape_of(layer: Config) -> list[Any] | None:
    """Return the shape of a batch of inputs, if the layer has one in its config."""
    config = config_of(layer)
    for name in ("batch_shape", "batch_input_shape"):
        if isinstance(config.get(name), list):
            return list(config[name])
    if isinstance(config.get("input_shape"), list):
        return [None, *config["input_shape"]]
    if isinstance(config.get("layer"), dict):
        return _shape_of(config["layer"])
    return None
