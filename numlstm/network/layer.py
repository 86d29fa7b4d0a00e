"""What every layer has: sizes and options that are checked, tensors, its place in a network."""

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, FrozenInstanceError, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from numlstm.errors import WeightsError
from numlstm.network.functions import LARGEST, parse_function

Shape = tuple[int, ...]

MAX_SIZE = 2**31 - 1  # token ids and sizes are int32

SMALLEST = float(np.finfo(np.float32).tiny)

INPUT = "input"  # what layers call the input of the network
DTYPES = ("float32", "bfloat16", "int8")
ACTIVATIONS = ("int16", "int8")

# Every kind of layer by its name; a class below `Layer` enters itself.
LAYERS: dict[str, type["Layer"]] = {}


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen, repr):
        """``dataclasses.dataclass``, but what all layers have is written once, in `Layer`.

        It compiles five functions for a class that is frozen and compared, and there are 33: 28 ms
        of every process that loads a model, where their `__init__` alone takes 11.
        """

        def decorate(cls):
            above = [vars(c)["__dataclass_params__"] for c in cls.__mro__[1:-1]]
            for params in above:
                params.frozen = False  # what is not frozen may not be below what is
            dataclasses.dataclass(eq=False, repr=False)(cls)
            for params in (*above, cls.__dataclass_params__):
                params.frozen = True
            return cls

        return decorate


def _check(value: Any, option: Any) -> str | None:
    """Return what is wrong with the value of an option, by its type, or None."""
    kind = option.type
    if kind is int:
        least = option.metadata.get("least", 1)
        if type(value) is not int or not least <= value <= MAX_SIZE:
            return f"expected {least} to {MAX_SIZE}"
    elif kind is bool:
        if type(value) is not bool:
            return "expected true or false"
    elif kind is float or kind == float | None:
        if value is None and kind is not float:
            return None
        least = option.metadata.get("least", SMALLEST)
        if type(value) not in (int, float) or not least <= value <= LARGEST:
            return "expected a positive float32" if least > 0 else "expected a float32"
    elif kind is str and type(value) is not str:
        return "expected a string"
    return None


@dataclass(frozen=True, repr=False)
class Layer:
    """What every layer has: `input_size`, `output_size`, tensors, and its place in the network.

    name     by which other layers call its output, or ""
    inputs   names of the layers it reads, joined end to end; () for the layer before it
    """

    _: KW_ONLY
    name: str = ""
    inputs: tuple[str, ...] = ()

    choices: ClassVar[Mapping[str, tuple[str | None, ...]]] = {}
    functions: ClassVar[tuple[str, ...]] = ()  # options that are functions

    def __init_subclass__(cls, *, is_abstract: bool = False) -> None:
        if not is_abstract:
            LAYERS[cls.__name__] = cls

    if TYPE_CHECKING:  # a field in some layers, a property in others

        @property
        def input_size(self) -> int: ...
        @property
        def output_size(self) -> int: ...
    else:  # what a frozen dataclass has

        def __setattr__(self, name, value):
            own = vars(self)
            if name in own or name not in self.__dataclass_fields__:  # `__init__` sets each once
                raise FrozenInstanceError(f"cannot assign to field {name!r}")
            own[name] = value

        def __delattr__(self, name):
            raise FrozenInstanceError(f"cannot delete field {name!r}")

        def __eq__(self, other):
            return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

        def __hash__(self):
            return hash(tuple(vars(self).values()))

    def tensors(self) -> dict[str, Shape]:
        """Return the shape of each tensor by its name within the layer."""
        return {}

    def options(self) -> dict[str, Any]:
        """Return the sizes and options, of the keywords only those that are not the defaults."""
        last = {"dtype": 1, "activations": 2, "name": 3, "inputs": 4}
        return {
            option.name: getattr(self, option.name)
            for option in sorted(fields(self), key=lambda option: last.get(option.name, 0))
            if not option.kw_only or getattr(self, option.name) != option.default
        }

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        return f"{type(self).__name__}({options})"

    @property
    def is_causal(self) -> bool:
        """Whether each of its answers needs nothing but the steps up to it."""
        return True

    @property
    def reads_later(self) -> bool:
        """Whether some of its answers need steps behind theirs; or else it leaves some out."""
        return not self.is_causal

    @property
    def pools(self) -> bool:
        """Whether it gives one row for all in a network that is not causal."""
        return False

    def problems(self) -> list[str]:
        """Return what is wrong with the options together, each being right on its own."""
        return []

    def __post_init__(self) -> None:
        problems = []
        object.__setattr__(self, "inputs", as_tuple(self.inputs))
        if not isinstance(self.inputs, tuple) or not all(type(i) is str for i in self.inputs):
            problems.append(f"inputs is {self.inputs!r}, expected names of layers")
        for option in fields(self):
            value = getattr(self, option.name)
            wrong = _check(value, option)
            if wrong is not None:
                problems.append(f"{option.name} is {value!r}, {wrong}")
            elif option.name in self.choices and value not in self.choices[option.name]:
                known = ", ".join(str(choice) for choice in self.choices[option.name])
                problems.append(f"{option.name} is {value!r}, expected one of: {known}")
            elif option.name in self.functions and value is not None:
                try:
                    parse_function(value)
                except WeightsError as error:
                    problems.append(f"{option.name}: {error}")
        if not problems:
            problems = self.problems()
        if problems:
            raise WeightsError(f"{type(self).__name__}: " + "; ".join(problems))


def as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, repr=False)
class MatrixLayer(Layer, is_abstract=True):
    """A layer with matrices: its tensors of two or more axes.

    dtype         of the matrices, "float32", "bfloat16" or "int8"; all else is float32
    activations   what int8 matrices are multiplied with: "int16", or faster and less exact "int8"
    """

    _: KW_ONLY
    dtype: str = "float32"
    activations: str = "int16"

    choices: ClassVar = {"dtype": DTYPES, "activations": ACTIVATIONS}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activations != "int16" and self.dtype != "int8":
            raise WeightsError(f"{type(self).__name__}: activations are those of int8 matrices")

    def matrices(self) -> list[str]:
        """Return the names of the tensors that `dtype` is of."""
        return [name for name, shape in self.tensors().items() if len(shape) > 1]
