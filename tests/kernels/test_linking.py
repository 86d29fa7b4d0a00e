"""Object code of small functions, linked and, where this machine can, run."""

import ctypes

import llvmlite.binding as llvm
import pytest

from numlstm.kernels.linking import link
from numlstm.machine.executable import executable
from numlstm.machine.instructions import machine

TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}

# A constant, a table to jump by, a call within and two to the outside.
SOURCE = """
@numbers = internal constant [4 x double] [double 1.5, double 2.5, double 3.5, double 4.5]

declare i64 @outside(i64)

define internal i64 @helper(i64 %n) noinline {
  %half = sdiv i64 %n, 2
  ret i64 %half
}

define double @constant(i64 %n) {
  %at = getelementptr [4 x double], ptr @numbers, i64 0, i64 %n
  %x = load double, ptr %at
  %y = fadd double %x, 0.1
  ret double %y
}

define i64 @jumps(i64 %n) {
  switch i64 %n, label %other [ i64 0, label %a i64 1, label %b i64 2, label %c i64 3, label %d
                                i64 4, label %e i64 5, label %f ]
a: ret i64 10
b: %x = call i64 @outside(i64 7)
   ret i64 %x
c: ret i64 999
d: %y = call i64 @helper(i64 86)
   ret i64 %y
e: %z = call i64 @outside(i64 %n)
   %w = mul i64 %z, 3
   ret i64 %w
f: ret i64 -5
other: ret i64 0
}
"""


def compiled(source: str, name: str) -> bytes:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(source)
    module.triple = TRIPLES[name]
    target = llvm.Target.from_triple(TRIPLES[name])
    made = target.create_target_machine(opt=2, reloc="pic", codemodel="small")
    return made.emit_object(module)


@pytest.mark.parametrize("name", TRIPLES)
def test_functions_and_what_they_call_are_found(name):
    linked = link(compiled(SOURCE, name), ["constant", "jumps"])
    assert set(linked.symbols) == {"constant", "jumps"}
    assert set(linked.imports) == {"outside"}
    assert linked.imports["outside"] % 8 == 0
    assert len(linked.code) >= linked.imports["outside"] + 8


@pytest.mark.skipif(machine() not in TRIPLES, reason="a machine that no kernels are linked for")
def test_what_is_linked_runs():
    linked = link(compiled(SOURCE, machine()), ["constant", "jumps"])
    outside = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda n: 100 + n)
    code = bytearray(linked.code)
    at = linked.imports["outside"]
    code[at : at + 8] = ctypes.cast(outside, ctypes.c_void_p).value.to_bytes(8, "little")
    start = executable(bytes(code))
    constant = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64)(start + linked.symbols["constant"])
    assert [constant(n) for n in range(4)] == [1.6, 2.6, 3.6, 4.6]
    jumps = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(start + linked.symbols["jumps"])
    assert [jumps(n) for n in range(-1, 7)] == [0, 10, 107, 999, 43, 312, -5, 0]


@pytest.mark.parametrize("name", TRIPLES)
def test_an_absolute_address_is_refused(name):
    source = """
        @number = constant i64 3
        @where = constant ptr @number
        define ptr @f() { ret ptr @where }
    """
    with pytest.raises(ValueError, match="a way not known"):
        link(compiled(source, name), ["f"])


def test_another_machine_is_refused():
    data = bytearray(compiled(SOURCE, "x86_64"))
    data[18:20] = (243).to_bytes(2, "little")  # RISC-V
    with pytest.raises(ValueError, match="machine 243"):
        link(bytes(data), ["jumps"])
