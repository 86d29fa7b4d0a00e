"""The roles that the inputs of an ONNX graph can have, by their shapes, names and uses.

One input says what a step is: its axes of time and of numbers. What any other one can be follows
from that, so there are few ways, and the usual come first.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from numlstm.budget import spend
from numlstm.convert.assembly import Refusals, Refused
from numlstm.convert.onnx.roles.inputs import Data, Given, Input, Roles
from numlstm.convert.onnx.roles.uses import Uses

_MOST_AXES = 16  # of the data
_MOST_WAYS = 24  # that are tried
_OF_A_ROLE = 2e4  # operations that it takes to see what an input can be
# Words of names that a state and its output need not share: h_in and h_out, prev_h and next_h.
_WORDS = "in out input output prev previous old next new cur current init initial final last 0 n t"
_OF_STATES = {f"{s}{end}": s for s in ("h", "c") for end in ("n", "x", "y", "t", "i", "o")}
_RESET = re.compile("episode|start|done|reset|first|begin|term|new|mask|alive|cont", re.IGNORECASE)
_NOT_RESET = re.compile("mask|not|non|cont|alive", re.IGNORECASE)
_STATE = re.compile("state|hidden|cell|^[hc]([0-9_]|$)", re.IGNORECASE)
_MASK = re.compile(r"mask|valid|pad", re.IGNORECASE)

_DOUBT = 4  # guesses: more than it takes to call two inputs states

Role = Data | Given | Input  # columns, or given, or a state


@dataclass(frozen=True)
class _Option:
    """What an input can be, and how much of that is guessed; a state by name has its output."""

    role: Role
    guesses: int = 0
    output: Input | None = None


class Search:
    """All ways in which a graph can be read, the usual first.

    refusals   of the inputs that have no role, in the way that has fewest of them
    """

    def __init__(self, graph: Any) -> None:
        constants = {tensor.name for tensor in graph.initializer}
        every = [Input.of(info) for info in graph.input if info.name not in constants]
        self.uses = Uses(graph)
        self.inputs = [i for i in every if self.uses.is_read(i.name)]
        self._unread = [i for i in every if not self.uses.is_read(i.name)]
        self._outputs = _completed([Input.of(info) for info in graph.output], self.inputs)
        self._by_name = _named_alike(self.inputs, self._outputs)
        self._resets = {i.name for i in self.inputs if self._is_reset(i)}
        self.refusals = Refusals("the graph")
        self._misfits: dict[str, Refused] | None = None

    def ways(self) -> list[Roles]:
        """Return all that the inputs can be."""
        for name, what in self.uses.weights.items():
            if any(i.name == name for i in self.inputs):
                instead = f"fold it into the file, or give constants={{{name!r}: array}}"
                self.refusals.add(
                    f"input {name!r}", f"it is {what}, expected an initializer", instead
                )
        if self.refusals:
            return []
        known = self.uses.initial | self.uses.lengths
        free = [i for i in self.inputs if i.name not in known]
        found: dict[Roles, None] = {}
        named = [i for i in free if i.name not in self._by_name]
        for main in named or free:
            for time, features in _axes(main):
                spend("the roles of inputs", operations=_OF_A_ROLE * len(self.inputs))
                found |= dict.fromkeys(self._ways(Data(main, time, features), free))
        if not found:
            self._refuse()
        return sorted(found, key=lambda roles: roles.rank)[:_MOST_WAYS]

    def _refuse(self) -> None:
        """Say which inputs have no role."""
        if self._misfits:
            for name, refused in self._misfits.items():
                self.refusals.add(f"input {name!r}", refused.why, refused.instead)
            return
        for tensor in self.inputs:
            if any(size is not None and size > 1 for size in tensor.shape[:-1]):
                is_image = sum(size is not None and size > 1 for size in tensor.shape[1:]) > 2
                self.refusals.add(
                    f"input {tensor}",
                    "it is no sequence of one batch: beside the axes of time and of the numbers "
                    "of a step all must be 1, or free",
                    "export the layers that read rows of numbers as a graph of their own"
                    if is_image
                    else "export the model with a batch of 1, or with dynamic axes",
                )
        if not self.refusals:
            inputs = ", ".join(map(str, self.inputs)) or "there is none"
            self.refusals.add("no input is a sequence of one batch", inputs)

    # One way --------------------------------------------------------------------------------------

    def _ways(self, main: Data, free: Sequence[Input]) -> Iterator[Roles]:
        """Yield the ways in which one input is the data."""
        if main.input.kind in "bc" or main.name in self._resets:
            return
        if not main.input.shape and len(free) > 1:
            return  # one number for all steps
        options: list[list[_Option]] = []
        misfits: dict[str, Refused] = {}
        for other in free:
            if other is main.input:
                doubts = (main.name in self._by_name) + bool(_STATE.search(main.name))
                doubts += bool(_MASK.search(main.name))
                doubts += _DOUBT if main.time is None and self._is_continued(main.input) else 0
                options.append([_Option(main, doubts)])
                continue
            try:
                options.append(sorted(self._options(other, main), key=lambda o: o.guesses))
            except Refused as refused:
                misfits[other.name] = refused
        if misfits:
            if self._misfits is None or len(misfits) < len(self._misfits):
                self._misfits = misfits
            return
        is_fixed = main.time is not None and main.input.shape[main.time] is not None
        doubtful = is_fixed and self._is_continued(main.input)
        doubtful = doubtful and not all(map(self._is_continued, free))
        for chosen in islice(_combined(options), 1 if is_fixed else _MOST_WAYS):
            spend("the roles of inputs", operations=_OF_A_ROLE * len(chosen))
            roles = self._roles(chosen, doubtful)
            if roles is not None:
                yield roles

    def _is_reset(self, tensor: Input) -> bool:
        """Tell whether all that an input does is to let states through, or not."""
        states = [i.name for i in self.inputs if i.name in self.uses.initial | set(self._by_name)]
        known = self.uses.scaled if not self._is_continued(tensor) else set()
        states += [i.name for i in self.inputs if i.name in known and self._is_continued(i)]
        if _RESET.search(tensor.name):
            states += [i.name for i in self.inputs if i is not tensor and self._is_continued(i)]
        return self.uses.is_reset(tensor.name, states)

    def _is_continued(self, tensor: Input) -> bool:
        """Tell whether an output is of the shape and type of an input."""
        return any((o.ones, o.type) == (tensor.ones, tensor.type) for o in self._outputs)

    def _roles(self, chosen: Sequence[_Option], doubtful: bool) -> Roles | None:
        """Return the roles that these options are, or None if they do not go with each other."""
        data = tuple(option.role for option in chosen if isinstance(option.role, Data))
        if len(data) > 1 and any(part.input.kind == "i" for part in data):
            return None
        given = [option.role for option in chosen if isinstance(option.role, Given)]
        given += [Given(i, "length") for i in self.inputs if i.name in self.uses.lengths]
        given += [Given(i, 1 if i.kind == "b" else 0) for i in self._unread]
        states = [option.role for option in chosen if isinstance(option.role, Input)]
        pairs = [
            (o.role, o.output) for o in chosen if isinstance(o.role, Input) and o.output is not None
        ]
        continued = {output.name for _, output in pairs}
        outputs = [output for output in self._outputs if output.name not in continued]
        known = {state.name for state, _ in pairs}
        by_shape = _pairs([state for state in states if state.name not in known], outputs)
        if by_shape is None:
            return None
        initial = [i for i in self.inputs if i.name in self.uses.initial]
        guesses = sum(option.guesses for option in chosen)
        return Roles(
            data, (*initial, *states), tuple(given), (*pairs, *by_shape), guesses, doubtful
        )

    # One input ------------------------------------------------------------------------------------

    def _options(self, other: Input, main: Data) -> list[_Option]:
        """Return what another input can be, beside the data.

        Raises
        ------
        Refused
            If it can be nothing.
        """
        if other.name in self._by_name:
            return [_Option(other, 0, self._by_name[other.name])]
        if other.name in self._resets:
            first, second = (1, 0) if _NOT_RESET.search(other.name) else (0, 1)
            time = _time_of_mask(other, main)
            return [_Option(Given(other, first, time)), _Option(Given(other, second, time), 1)]
        found = list(self._of_numbers(other, main) if other.kind == "f" else ())
        found += self._of_whole_numbers(other, main) if other.kind == "i" else ()
        found += self._of_masks(other, main)
        has_batch = main.input.batch(main.time) is not None
        if other.kind == "f" and self._is_continued(other) and other.shape.count(None) <= has_batch:
            # With a time axis it is carried by a loop that is written out, if by anything.
            found.append(_Option(other, 1 if main.time is None else _DOUBT + 1))
        if not found:
            raise _refused(other, main)
        return found

    def _of_numbers(self, other: Input, main: Data) -> Iterator[_Option]:
        """Yield what floats can be: another sequence, or numbers of the whole one."""
        if main.input.kind == "i" or not other.shape:
            return
        sequence = _alike(other, main)
        if sequence is not None:
            yield _Option(sequence, 1 if _MASK.search(other.name) else 0)
        if other.shape in ((), (None,)) or all(size is not None for size in other.shape[1:]):
            twice = 1 if sequence is not None else 0
            of_state = main.time is None and self._is_continued(other)
            yield _Option(Data(other, None, None), _DOUBT * (twice + of_state))

    def _of_whole_numbers(self, other: Input, main: Data) -> Iterator[_Option]:
        """Yield what whole numbers can be: the length of the sequence, of each in the batch."""
        is_named = bool(re.search("len", other.name, re.IGNORECASE))
        if set(other.ones) > {1} or any(size is None for size in other.shape[1:]):
            return
        if not other.shape and not is_named:
            return
        if not self.uses.is_index(other.name) and (main.time is not None or is_named):
            yield _Option(Given(other, "length"))

    def _of_masks(self, other: Input, main: Data) -> Iterator[_Option]:
        """Yield what a mask can be: all ones, where it is none of what is padding."""
        time = _time_of_mask(other, main)
        is_named = bool(_MASK.search(other.name))
        fits = time is not None or (main.time is None and set(other.ones) <= {1} and other.shape)
        if fits and (other.kind == "b" or is_named):
            first = 0 if re.search("pad", other.name, re.IGNORECASE) else 1
            yield _Option(Given(other, first, time))
            yield _Option(Given(other, 1 - first, time), 2)


def _refused(other: Input, main: Data) -> Refused:
    """Return why an input has no role beside the data, and what to do about it."""
    instead = f"say it with constants={{{other.name!r}: ...}}"
    if not other.shape:
        return Refused(f"one number ({other.dtype}) of which nothing says what it is", instead)
    if other.kind == "i":
        return Refused(f"whole numbers {other.sizes} beside {main.input}", instead)
    if other.kind == "f" and main.input.kind == "i":
        return Refused(
            f"numbers {other.sizes} beside the token ids {main.input}: one row cannot hold both",
            instead,
        )
    return Refused(
        f"{other.sizes} is no sequence of the length of {main.input}, and nothing of all of it",
        f"export the model with a batch of 1, or {instead}",
    )


def _alike(other: Input, main: Data) -> Data | None:
    """Return an input as a sequence of the steps that the data has, or None."""
    if main.time is None:
        return None
    ways = [
        Data(other, time, features)
        for time, features in _axes(other)
        if time is not None and other.shape[time] == main.input.shape[main.time]
    ]
    same = [w for w in ways if (w.time, w.features) == (main.time, main.features)]
    if len(other.shape) == len(main.input.shape):
        return same[0] if same else None
    ordered = [w for w in ways if _is_batch_first(w) == _is_batch_first(main)]
    return next(iter(ordered or ways), None)


def _is_batch_first(data: Data) -> bool:
    rest = [n for n in range(len(data.input.shape)) if n not in (data.time, data.features)]
    return bool(rest) and data.time is not None and rest[0] < data.time


def _time_of_mask(other: Input, main: Data) -> int | None:
    """Return the axis of time of a mask, all other axes of which are of one, or None."""
    if main.time is None:
        return None
    length = main.input.shape[main.time]
    fits = [n for n, size in enumerate(other.shape) if size is None or size == length]
    rest = [size for n, size in enumerate(other.shape) if n not in fits]
    if not fits or any(size != 1 for size in rest):
        return None
    exact = [n for n in fits if other.shape[n] is not None]
    if exact:
        return exact[0]
    return fits[-1] if _is_batch_first(main) or len(other.shape) == 1 else fits[0]


def _combined(options: Sequence[Sequence[_Option]]) -> Iterator[tuple[_Option, ...]]:
    """Yield the first options of all; then others for one of them, then for all that have them."""
    first = tuple(own[0] for own in options)
    yield first
    for n, own in enumerate(options):
        for option in own[1:]:
            yield (*first[:n], option, *first[n + 1 :])
    if sum(len(own) > 1 for own in options) > 1:
        yield tuple(own[min(1, len(own) - 1)] for own in options)


def _axes(data: Input) -> Iterator[tuple[int | None, int | None]]:
    """Yield the axes that can be those of time and of the numbers of a step.

    What remains is one axis of a batch, before the numbers, or axes of one.
    """
    axes = range(len(data.shape))
    if len(axes) > _MOST_AXES:
        return
    sizes = [n for n in reversed(axes) if data.shape[n] and data.kind != "i"]
    for time in [*(n for n in axes if data.shape[n] not in (0, 1)), None]:
        for features in [*(n for n in sizes if n != time), None]:
            rest = [n for n in axes if n not in (time, features)]
            free = [n for n in rest if data.shape[n] is None]
            if any(data.shape[n] not in (None, 1) for n in rest):
                continue
            if not free or (len(rest) == 1 and (features is None or free[0] < features)):
                yield time, features


# States -------------------------------------------------------------------------------------------


def _completed(outputs: Iterable[Input], inputs: Sequence[Input]) -> list[Input]:
    """Return outputs; one whose sizes were left open has those of the input that is called so."""
    found = []
    for output in outputs:
        stem = _stem(output.name)
        alike = [i for i in inputs if stem and _stem(i.name) == stem and _may_be(output, i)]
        found.append(replace(output, shape=alike[0].shape) if len(alike) == 1 else output)
    return found


def _may_be(output: Input, tensor: Input) -> bool:
    """Whether an output can have the sizes of an input."""
    sizes = zip(output.shape, tensor.shape, strict=False)
    return (output.type, len(output.shape)) == (tensor.type, len(tensor.shape)) and all(
        own is None or own == given for own, given in sizes
    )


def _named_alike(inputs: Iterable[Input], outputs: Iterable[Input]) -> dict[str, Input]:
    """Return for inputs by name the outputs that are called the same but for "in" and "out"."""
    found: dict[str, Input] = {}
    stems = [(_stem(output.name), output) for output in outputs]
    own = [_stem(tensor.name) for tensor in inputs]
    for tensor in inputs:
        stem = _stem(tensor.name)
        same = [o for s, o in stems if s == stem and (o.ones, o.type) == (tensor.ones, tensor.type)]
        if stem and len(same) == 1 and own.count(stem) == 1 and tensor.kind == "f":
            found[tensor.name] = same[0]
    return found


def _stem(name: str) -> tuple[str, ...]:
    """Return the words of a name that say what it is: of "h_out", "hn" and "prev_h" the h."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)
    kept = [word.lower() for word in words if word.lower() not in _WORDS.split()]
    return tuple(_OF_STATES.get(word, word) for word in kept)


def _pairs(
    states: Sequence[Input], outputs: Sequence[Input]
) -> tuple[tuple[Input, Input], ...] | None:
    """Return each state with the last outputs of its shape, in order, or None without."""
    before, after = _by_shape(states), _by_shape(outputs)
    pairs: list[tuple[Input, Input]] = []
    for shape, own in before.items():
        following = after.get(shape, [])
        if len(following) < len(own):
            return None
        pairs += zip(own, following[len(following) - len(own) :], strict=True)
    return tuple(pairs)


def _by_shape(tensors: Sequence[Input]) -> dict[Any, list[Input]]:
    found: dict[Any, list[Input]] = {}
    for tensor in tensors:
        found.setdefault((tensor.ones, tensor.type), []).append(tensor)
    return found
