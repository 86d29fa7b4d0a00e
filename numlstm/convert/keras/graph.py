"""The config of a Keras model -> the layers of a network and their tensors."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from numlstm import spec
from numlstm.budget import spend
from numlstm.cached import cached_property
from numlstm.convert.assembly import Array, Assembly, Misfit, Read, Refusals, Refused, reading
from numlstm.convert.keras.call import SEQUENCE, STATE, TOKENS, Call, Value
from numlstm.convert.keras.config import (
    MODELS,
    RECURRENT,
    Config,
    Key,
    class_of,
    config_of,
    every_layer,
    layers_of,
    leaves_of,
    name_of,
    paths_of,
    place_of,
)
from numlstm.convert.keras.entrances import entrances_of, values_of
from numlstm.convert.keras.files import Source
from numlstm.convert.keras.layers import LAYERS
from numlstm.convert.keras.nodes import (
    Node,
    Ref,
    is_own_mask,
    numbered,
    order_of,
    refs_of,
)
from numlstm.convert.keras.operations import OPERATIONS, operation_of
from numlstm.convert.keras.recurrent import APART
from numlstm.convert.keras.strangers import stranger, strangers_of
from numlstm.spec import Columns, Network, WeightsError

Values: TypeAlias = list[Value | None]  # None for what a refused layer would have given

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

# What a model of any length is made of, though its input may have a length.
_OF_ANY_LENGTH = _OF_ONE_STEP | {
    *RECURRENT, *MODELS, "RNN", "Bidirectional", "Conv1D", "BatchNormalization", "Normalization",
    "GlobalMaxPooling1D", "GlobalAveragePooling1D", "Rescaling", "SpatialDropout1D",
    "GaussianNoise", "Attention", "AdditiveAttention", "LSTMCell", "GRUCell", "SimpleRNNCell",
    "StackedRNNCells", "Identity", "Softmax", "PReLU", "Subtract", "Average",
}  # fmt: skip


@dataclass(frozen=True)
class Translation:
    """A model as a network, and what its inputs and outputs are.

    inputs, outputs   names and sizes of the columns of a row, where there are several
    reads, gives      what each input and output is
    num_steps         the only length that the model itself can run, or None
    names             of the layers, by which the model calls them
    """

    network: Network
    tensors: dict[str, NDArray[np.float32]]
    inputs: tuple[Columns, ...]
    outputs: tuple[Columns, ...]
    reads: tuple[Value, ...]
    gives: tuple[Value, ...]
    time_major: bool
    num_steps: int | None
    names: list[str]


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
        self.refusals.found += strangers_of(self.config, "")
        self._bind()
        every = list(every_layer(self.config))
        time_major = self._check_time_major(every)
        entrances = entrances_of(self.config, self._kernel_of)
        inputs = values_of(entrances, self.assembly, self.refusals, time_major)
        found = self.model(self.config, (), inputs, "")
        outputs = [value for value in found if value is not None]
        self._check_outputs(outputs)
        self.refusals.check()
        size = sum(value.size for value in outputs)
        answer = self.assembly.joined([value.draft for value in outputs], size)
        network, tensors = self._network(answer, sum(value.size for value in inputs))
        if len({value.kind for value in outputs}) > 1 and not network.is_causal:
            raise Refused(
                "the outputs are a sequence and one vector, which a row for each step has only "
                "where no step reads later ones",
                "convert a model of one of them",
            )
        names = [entrance.name for entrance in entrances]
        return Translation(
            network, tensors, _columns(names, inputs), _columns(self._output_names(), outputs),
            tuple(inputs), tuple(outputs), time_major, self._length(inputs), self.assembly.names,
        )  # fmt: skip

    def _network(self, answer: Read, input_size: int) -> tuple[Network, dict[str, Any]]:
        try:
            return self.assembly.network(answer, input_size)
        except WeightsError as error:
            if "a network with feedback must be causal" not in str(error):
                raise
            raise Refused(
                "the c of an LSTM is read beside a layer that reads later steps",
                "read its h, or convert the part up to the c as a model of its own",
            ) from error

    def _kernel_of(self, name: str) -> Array | None:
        """Return the first array of a layer."""
        found = [arrays for key, arrays in self.arrays.items() if key[0] == name and arrays]
        return found[0][0] if found else None

    def _check_outputs(self, outputs: list[Value]) -> None:
        for value in outputs:
            if value.kind in (TOKENS, STATE) or value.ids or value.flat:
                what = "a sequence of numbers without features" if value.flat else value.described
                self.refusals.add("an output", f"is {what}, expected a sequence or one vector")
            if value.mixed and value.kind == SEQUENCE:
                logging.getLogger("numlstm").warning(
                    "at masked steps Keras repeats a part of the answer and not the rest: "
                    "the answers to masked steps differ from its own, those to others do not"
                )

    def _output_names(self) -> list[str]:
        if class_of(self.config) == "Sequential":
            return ["output"]
        return [name for name, _, _ in refs_of(config_of(self.config).get("output_layers"))]

    def _length(self, inputs: list[Value]) -> int | None:
        """Return how many steps the model needs, if it is made for so many."""
        lengths = [v.steps for v in inputs if v.kind == SEQUENCE and v.steps is not None]
        is_free = all(map(_is_of_any_length, every_layer(self.config)))
        return max(lengths) if lengths and not is_free else None

    def _bind(self) -> None:
        """Find the arrays of every layer."""
        layers = layers_of(self.config)
        for n, (layer, path) in enumerate(zip(layers, paths_of(self.config), strict=True)):
            leaves = list(leaves_of(layer, (name_of(layer),), path))
            known = not strangers_of({"class_name": "Model", "config": {"layers": [layer]}}, "")
            before = len(self.refusals)
            with self.refusals.of(f"{place_of(n, layer)}: {class_of(layer)}"):
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

    # Models ---------------------------------------------------------------------------------------

    def model(self, item: Config, key: Key, inputs: Values | list[Value], place: str) -> Values:
        """Call a model: every layer of it that its outputs need."""
        if class_of(item) != "Sequential":
            return self._functional(item, key, list(inputs), place)
        values: Values = list(inputs)
        for n, layer in enumerate(layers_of(item)):
            if class_of(layer) != "InputLayer":
                where = place + place_of(n, layer)
                values = self.layer(layer, (*key, name_of(layer)), values, where)
        return values

    def _functional(self, item: Config, key: Key, inputs: Values, place: str) -> Values:
        layers = {name_of(layer): layer for layer in layers_of(item)}
        places = {name: place + place_of(n, x) for n, (name, x) in enumerate(layers.items())}
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
            is_operation = operation_of(layer) is not None
            wrong = [] if is_operation else self._wrong_options(node, nodes, layers)
            if calls[name] > 1 and any(
                config_of(part).get("stateful") for part in (layer, *every_layer(layer))
            ):
                wrong.append("stateful=True and called more than once")
            for why in wrong:
                instead = APART if "initial_state" in why else ""
                self.refusals.add(f"{places[name]}: {class_of(layer)}", why, instead)
            if is_operation:
                layer = layer | {"config": config_of(layer) | node.options}
            args = _resolved(node.args, iter(reads))
            values[name, n] = self.layer(layer, (*key, name), reads, places[name], args)
        return [self._output(values, ref, "the output") for ref in outputs]

    def _output(self, values: dict[tuple[str, int], Values], ref: Ref, place: str) -> Value | None:
        name, n, index = ref
        found = values[name, n]
        if index < len(found):
            return found[index]
        if None not in found:
            self.refusals.add(place, f'reads output {index} of "{name}", which has {len(found)}')
        return None

    def _wrong_options(
        self, node: Node, nodes: dict[tuple[str, int], Node], layers: Any
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
            for x in every_layer(self.config)
            if class_of(x) == "Masking" or config_of(x).get("mask_zero") or "written_as" in x
        }

    # Layers ---------------------------------------------------------------------------------------

    def layer(
        self, item: Config, key: Key, inputs: Values, place: str, args: tuple[Any, ...] = ()
    ) -> Values:
        """Call a layer, or a model that stands as one."""
        # A model that is called twice, within one that is: layers without end, of a small file.
        spend(f"the call of {place[-_MOST_PLACE:]}", 5000 + len(place), 2e5)
        kind = class_of(item)
        if kind in MODELS:
            return self.model(item, key, inputs, f"{place} > ")
        subject = f"{place}: {operation_of(item) or item.get('written_as') or kind}"
        refused = stranger(item)
        if refused is not None:
            self.refusals.add(subject, refused.why, refused.instead)
            return [None]
        known = [value or Value(None, 1) for value in inputs]
        call = Call(
            item, key[-1], key, known, self.arrays, self.assembly,
            self.source.major, self.source.version, self._inner(place), args,
        )  # fmt: skip
        with self.refusals.of(subject, None not in inputs and key[0] not in self.unbound):
            reads_input = any(v is not None and v.draft is None for v in inputs)
            if reads_input and _masks_input(self.assembly):
                raise Misfit("reads the input beside the layer that masks it")
            found = _called(call)
            return found if None not in inputs else [None] * len(found)
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


def _called(call: Call) -> Values:
    """Return what a call gives, behind it the layers that say what a user's class does."""
    operation = operation_of(call.item)
    translate = LAYERS[class_of(call.item)] if operation is None else OPERATIONS[operation]
    found = translate(call)
    then = call.item.get("then")
    for word in then if isinstance(then, tuple) else ():  # never of a file
        value = found[0] if isinstance(found, list) else found
        call = replace(call, item={"class_name": word.kind, "config": word.options}, inputs=[value])
        found = word.translate(call)
    return list(found) if isinstance(found, list) else [found]


def _resolved(args: Any, reads: Iterator[Value | None]) -> tuple[Any, ...]:
    """Return the arguments of an operation with values in place of what names them."""
    found: list[Any] = []
    for arg in args:
        refs = refs_of(arg)
        values = [next(reads) or Value(None, 1) for _ in refs]
        found += [values[0] if len(values) == 1 else values] if refs else [arg]
    return tuple(found)


def _columns(names: list[str], values: list[Value]) -> tuple[Columns, ...]:
    """Return the names of columns, each another, where there are several."""
    if len(values) < 2:
        return ()
    counts = Counter(names)
    seen: Counter[str] = Counter()
    found = []
    for name, value in zip(names, values, strict=True):
        seen[name] += 1
        unique = f"{name}_{seen[name] - 1}" if counts[name] > 1 and seen[name] > 1 else name
        found.append(Columns(unique, value.size))
    return tuple(found)


def _is_of_any_length(layer: Config) -> bool:
    config = config_of(layer)
    pads_by_length = config.get("padding") == "same" and config.get("strides", 1) not in (1, [1])
    return class_of(layer) in _OF_ANY_LENGTH and not pads_by_length


def _masks_input(assembly: Assembly) -> bool:
    """Tell whether the first layer masks steps of the input."""
    first = assembly.drafts[0].layer if assembly.drafts else None
    is_mask = isinstance(first, spec.Masking)
    return is_mask or (isinstance(first, spec.Embedding) and first.mask_zero)
