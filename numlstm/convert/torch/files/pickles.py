"""A pickle, followed as data: nothing that it names is imported, called, or looked up.

A pickle is a program for a machine with a stack. `follow` goes through the instructions that make
plain data, and knows the few functions that its caller hands in; what a file names besides is a
`Stranger`, that keeps what it would have been made of.
"""

import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

from numlstm.budget import spend
from numlstm.spec import WeightsError


@dataclass(eq=False, repr=False)
class Stranger:
    """What a file names, or would have made with it: an object of a class, what a function gives.

    text    its name, "collections.deque"
    args    what it would have been called with, or None of a name alone
    state   what its attributes would have become, in most files a dict
    """

    text: str
    args: tuple[Any, ...] | None = None
    state: Any = None


Functions: TypeAlias = Mapping[str, Callable[..., Any]]


def _unknown(persistent: Any) -> Any:
    raise WeightsError("its pickle refers to what is outside of it")


def follow(
    file: BinaryIO, functions: Functions, persistent: Callable[[Any], Any] = _unknown
) -> Any:
    """Return what the pickle at the place of a file makes; the file is then behind it.

    Parameters
    ----------
    functions : dict
        What is called, by the names that a file has for it; they must take any arguments.
    persistent : callable
        Gives what a persistent id stands for.

    Raises
    ------
    WeightsError
        If it has instructions that no framework writes. Of damaged ones almost anything is raised:
        see `numlstm.convert.assembly.reading`.
    """
    return _Machine({**PLAIN, **functions}, persistent).run(file)


def _dict(*args: Any) -> dict[Any, Any]:
    pairs = args[0] if args and isinstance(args[0], list) else ()
    return {_key(pair[0]): pair[1] for pair in pairs}


def _key(key: Any) -> Any:
    """Return a key; the hash of tuples within tuples may take for ever, and nobody asks for one."""
    plain = isinstance(key, str | int | float | bytes | None)
    return key if plain else _Unnamed()


class _Unnamed:
    """A key that is not asked for."""


PLAIN: Functions = {
    "collections.OrderedDict": _dict,
    "collections.defaultdict": lambda *args: {},
    "builtins.dict": _dict,
    "__builtin__.dict": _dict,
    "builtins.set": lambda items=(): list(items),
    "__builtin__.set": lambda items=(): list(items),
}


class _Machine:
    """What runs a pickle, but for what it would call."""

    def __init__(self, functions: Functions, persistent: Callable[[Any], Any]) -> None:
        self.functions, self.persistent = functions, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: BinaryIO) -> Any:
        """Return what a pickle makes; the file is then behind it."""
        for opcode, arg, _ in pickletools.genops(file):
            spend("the pickle of the file", 150, 5000)
            self.step(opcode.name, arg)
        return self.stack.pop()

    def step(self, name: str, arg: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(self.taken(int(name[-1])))
            case "TUPLE":
                stack.append(self.marked())
            case "LIST" | "FROZENSET":
                stack.append(list(self.marked()))
            case "DICT":
                items = self.marked()
                stack.append({})
                self.put(items)
            case "APPEND" | "APPENDS" | "ADDITEMS":
                items = self.taken(1) if name == "APPEND" else self.marked()
                if isinstance(stack[-1], list):
                    stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                self.put(self.taken(2) if name == "SETITEM" else self.marked())
            case "POP":
                stack.pop()
            case "POP_MARK":
                self.marked()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[arg] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[arg])
            case "GLOBAL":
                stack.append(Stranger(arg.replace(" ", ".")))
            case "STACK_GLOBAL":
                stack.append(Stranger(".".join(map(str, self.taken(2)))))
            case "REDUCE" | "NEWOBJ":
                stack.append(self.made(*self.taken(2)))
            case "NEWOBJ_EX":
                stack.append(self.made(self.taken(3)[0], None))
            case "OBJ":
                stack.append(self.made(self.marked()[0], None))
            case "INST":
                stack.append(Stranger(arg.replace(" ", "."), self.marked()))
            case "BUILD":
                state = stack.pop()  # of a dict it is beside the items, such as _metadata
                if isinstance(stack[-1], Stranger):
                    stack[-1].state = state
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case _ if isinstance(arg, str | bytes | bytearray | int | float):
                if name in ("PERSID", "EXT1", "EXT2", "EXT4"):
                    raise WeightsError(f"its pickle has {name}, which no framework writes")
                stack.append(arg)
            case _:
                raise WeightsError(f"its pickle has {name}, which no framework writes")

    def made(self, function: Any, args: Any) -> Any:
        """Return what one of the known functions gives; nothing else is called."""
        name = function.text if isinstance(function, Stranger) else "what nothing known gives"
        args = tuple(args) if isinstance(args, tuple | list) else None
        known = self.functions.get(name)
        if known is None or args is None:
            return Stranger(name, args)
        size = sum(len(arg) for arg in args if isinstance(arg, tuple | list | dict))
        spend("the pickle of the file", 100 * size, 100 * size)  # it may be asked again and again
        return known(*args)

    def taken(self, count: int) -> tuple[Any, ...]:
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return items

    def marked(self) -> tuple[Any, ...]:
        return self.taken(len(self.stack) - self.marks.pop())

    def put(self, items: Sequence[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                self.stack[-1][_key(key)] = value
