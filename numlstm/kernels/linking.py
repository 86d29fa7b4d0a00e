"""Object code made one block that runs wherever it lies: a linker of what LLVM emits here.

Sections that the code needs come one behind the other, and whatever refers to a place does so by
distance. Functions from outside, those of Python's C API, are called through stubs at the end: a
jump to the address behind it, which is filled in when the block is loaded (`image.py`).

System V ABI for x86-64 and ELF for the Arm 64-bit architecture.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

_X86_64, _AARCH64 = 62, 183  # e_machine
_RELA, _SYMTAB, _NOBITS = 4, 2, 8  # sh_type
_ALIGNMENT = 64

# Jumps to the address in the 8 bytes at 8: jmp *2(%rip); ldr x16, #8 and br x16.
_STUBS = {_X86_64: "ff2502000000cccc", _AARCH64: "5000005800021fd6"}
ADDRESS_IN_STUB = 8

# Types of relocations.
_X86_PC32 = (2, 4)  # also R_X86_64_PLT32
_ARM_PREL32, _ARM_PAGE, _ARM_CALL = 261, 275, (282, 283)
_ARM_LOW = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}  # bits that the instruction shifts by


class _Section(NamedTuple):
    kind: int
    at: int
    size: int
    link: int
    info: int
    alignment: int


class _Symbol(NamedTuple):
    name: str
    section: int  # 0 where it is defined elsewhere
    value: int


@dataclass(frozen=True)
class Linked:
    """A block of code.

    symbols   where the functions with an external name begin
    imports   where the 8 bytes for the address of a function from outside are
    """

    code: bytes
    symbols: dict[str, int]
    imports: dict[str, int]


def _name_at(strings: bytes, at: int) -> str:
    return strings[at : strings.index(b"\0", at)].decode()


class _Object:
    """An ELF file of 64 bits, little endian, as LLVM writes it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.machine = struct.unpack_from("<H", data, 18)[0]
        table = struct.unpack_from("<Q", data, 40)[0]
        size, count = struct.unpack_from("<HH", data, 58)
        self.sections = []
        for n in range(count):
            _, kind, _, _, at, length, link, info, alignment, _ = struct.unpack_from(
                "<IIQQQQIIQQ", data, table + n * size
            )
            self.sections.append(_Section(kind, at, length, link, info, alignment))
        symtab = next(section for section in self.sections if section.kind == _SYMTAB)
        strings = self.contents(symtab.link)
        self.symbols = []
        for at in range(symtab.at, symtab.at + symtab.size, 24):
            name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, at)
            self.symbols.append(_Symbol(_name_at(strings, name), section, value))

    def contents(self, section: int) -> bytes:
        kind, at, size, *_ = self.sections[section]
        return bytes(size) if kind == _NOBITS else self.data[at : at + size]

    def relocations(self, section: int) -> list[tuple[int, int, int, int]]:
        """Return (offset, type, symbol, addend) of each place of a section that refers to one."""
        found = []
        for kind, at, size, _, info, _ in self.sections:
            if kind == _RELA and info == section:
                for offset, what, addend in struct.iter_unpack("<QQq", self.data[at : at + size]):
                    found.append((offset, what & 0xFFFFFFFF, what >> 32, addend))
        return found


def link(data: bytes, names: list[str]) -> Linked:
    """Return the functions ``names`` of an object file and all they need, as one block.

    Raises ValueError where the object holds what a block cannot, an absolute address for one.
    """
    elf = _Object(data)
    if elf.machine not in _STUBS:
        raise ValueError(f"machine {elf.machine} is neither x86-64 nor AArch64")
    by_name = {symbol.name: symbol for symbol in elf.symbols if symbol.section}
    code = bytearray()
    places: dict[int, int] = {}  # of sections
    waiting = [by_name[name].section for name in names]
    while waiting:
        section = waiting.pop(0)
        if section in places:
            continue
        code += bytes(-len(code) % _ALIGNMENT)
        if elf.sections[section].alignment > _ALIGNMENT:
            raise ValueError(f"a section is aligned to {elf.sections[section].alignment} bytes")
        places[section] = len(code)
        code += elf.contents(section)
        needed = (elf.symbols[symbol].section for _, _, symbol, _ in elf.relocations(section))
        waiting += [other for other in needed if other]
    imports: dict[str, int] = {}

    def place_of(symbol: _Symbol) -> int:
        if symbol.section:
            return places[symbol.section] + symbol.value
        if symbol.name not in imports:
            code.extend(bytes(-len(code) % 16))
            imports[symbol.name] = len(code) + ADDRESS_IN_STUB
            code.extend(bytes.fromhex(_STUBS[elf.machine]) + bytes(8))
        return imports[symbol.name] - ADDRESS_IN_STUB

    for section, start in list(places.items()):
        for offset, kind, symbol, addend in elf.relocations(section):
            to = place_of(elf.symbols[symbol]) + addend
            _refer(code, elf.machine, kind, start + offset, to)
    starts = {name: place_of(by_name[name]) for name in names}
    return Linked(bytes(code), starts, imports)


def _refer(code: bytearray, machine: int, kind: int, at: int, to: int) -> None:
    """Make the place ``at`` refer to the place ``to``."""
    if machine == _X86_64 and kind in _X86_PC32:
        struct.pack_into("<i", code, at, to - at)
        return
    if machine == _AARCH64 and kind == _ARM_PREL32:
        struct.pack_into("<i", code, at, to - at)
        return
    (word,) = struct.unpack_from("<I", code, at)
    if machine == _AARCH64 and kind == _ARM_PAGE:
        pages = (to >> 12) - (at >> 12)
        word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    elif machine == _AARCH64 and kind in _ARM_LOW:
        word |= ((to & 0xFFF) >> _ARM_LOW[kind]) << 10
    elif machine == _AARCH64 and kind in _ARM_CALL:
        word |= (to - at) >> 2 & 0x3FFFFFF
    else:
        raise ValueError(f"an object refers to a place in a way not known (type {kind})")
    struct.pack_into("<I", code, at, word)
