"""The walker as machine code of any level, on any machine: Numba's IR, LLVM's target machines.

Numba turns each function that it compiles into machine code, to have it ready: it links what the
function calls, and optimises all of it again. Here it types and lowers only. What it made is
linked, optimised and emitted once, by the target machine of the level, and nothing is run.

This takes Numba's CPU target over, so it works in a process of its own (`compilation.py`).
"""

import llvmlite.binding as llvm
from numba import types
from numba.core import codegen
from numba.core.cpu import CPUContext
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.types.functions import BaseFunction

from numlstm.kernels.cpu import Level
from numlstm.kernels.linking import Linked, link

# Object files are ELF whatever the system: only `linking.py` reads them.
_TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}

# A function of Python's C API, (self, args, number of args), in the calling convention of the
# system. The names of conventions are `Image.entries`.
_CONVENTIONS = {"x86_64": {"": "ccc", "win64": "win64cc"}, "aarch64": {"": "ccc"}}
_ENTRY = """
declare i32 @walk(ptr, ptr, i64, i64, i64, ptr, ptr)
declare CC i64 @PyLong_AsLongLong(ptr)
declare CC ptr @PyLong_FromLongLong(i64)
declare CC ptr @PyErr_Occurred()
declare CC i32 @PyErr_BadArgument()
declare CC ptr @PyEval_SaveThread()
declare CC void @PyEval_RestoreThread(ptr)

define CC ptr @NAME(ptr %self, ptr %args, i64 %count) {
  %result = alloca i64
  %exception = alloca ptr
  %is_five = icmp eq i64 %count, 5
  br i1 %is_five, label %read, label %refuse
read:
  %plan_object = load ptr, ptr %args
  %params_at = getelementptr ptr, ptr %args, i64 1
  %params_object = load ptr, ptr %params_at
  %state_at = getelementptr ptr, ptr %args, i64 2
  %state_object = load ptr, ptr %state_at
  %xs_at = getelementptr ptr, ptr %args, i64 3
  %xs = load ptr, ptr %xs_at
  %ys_at = getelementptr ptr, ptr %args, i64 4
  %ys = load ptr, ptr %ys_at
  %plan = call CC i64 @PyLong_AsLongLong(ptr %plan_object)
  %params = call CC i64 @PyLong_AsLongLong(ptr %params_object)
  %state = call CC i64 @PyLong_AsLongLong(ptr %state_object)
  %plan_failed = icmp eq i64 %plan, -1
  %params_failed = icmp eq i64 %params, -1
  %state_failed = icmp eq i64 %state, -1
  %one_failed = or i1 %plan_failed, %params_failed
  %any_failed = or i1 %one_failed, %state_failed
  br i1 %any_failed, label %perhaps, label %run
run:
  %thread = call CC ptr @PyEval_SaveThread()
  %error = call i32 @walk(ptr %result, ptr %exception, i64 %plan, i64 %params, i64 %state,
                          ptr %xs, ptr %ys)
  call CC void @PyEval_RestoreThread(ptr %thread)
  %status = load i64, ptr %result
  %status_object = call CC ptr @PyLong_FromLongLong(i64 %status)
  ret ptr %status_object
perhaps:  ; -1 is a number too
  %raised = call CC ptr @PyErr_Occurred()
  %is_raised = icmp ne ptr %raised, null
  br i1 %is_raised, label %failed, label %run
refuse:
  %bad = call CC i32 @PyErr_BadArgument()
  br label %failed
failed:
  ret ptr null
}
"""


class _Library(codegen.CPUCodeLibrary):
    """What one function became, neither optimised nor linked."""

    def add_llvm_module(self, ll_module):
        self._final_module.link_in(ll_module)

    def finalize(self):
        self._finalized = True

    def libraries(self, found):
        """Add what this calls, and what that calls, to a dict that keeps the order."""
        for library in self._linking_libraries:
            if library not in found:
                found[library] = None
                library.libraries(found)
        return found

    def linked(self, entry):
        """Return a module of all that is called, with the function ``entry`` alone to be seen."""
        module = self._final_module
        for library in self.libraries({}):
            module.link_in(library._final_module)  # noqa: SLF001
        for function in module.functions:
            if function.name == entry:
                function.name = "walk"
            if not function.is_declaration:
                function.linkage = "internal" if function.name != "walk" else "external"
        return module


class _Codegen(codegen.CPUCodegen):
    _library_class = _Library

    def __init__(self, target_machine, triple):
        self._tm, self._triple = target_machine, triple
        super().__init__("numlstm")

    def _init(self, llvm_module):
        self._target_data = self._tm.target_data
        self._data_layout = str(self._target_data)

    def _create_empty_module(self, name):
        module = super()._create_empty_module(name)
        module.triple = self._triple
        return module

    def _add_module(self, module):
        """Nothing is loaded."""

    def magic_tuple(self):
        return (self._triple,)


class _Context(CPUContext):
    def __init__(self, target_machine, triple):
        self._made = target_machine, triple
        super().__init__(cpu_target.typing_context)

    def init(self):
        self.is32bit = False
        self._internal_codegen = _Codegen(*self._made)

    def declare_function(self, module, fndesc):
        function = super().declare_function(module, fndesc)
        # A loop stays a loop: no call of memset() or memcpy(), of which there is none.
        set.add(function.attributes, '"no-builtins"')
        return function

    def post_lowering(self, mod, library):
        """Nothing that needs Numba's run time is linked."""

    def get_executable(self, library, fndesc, env):
        """Return some builtin function, each time another: there is no code to call."""
        return [].append


def _remember_types():
    """Type a call with the same types once: a fifth of the time that lowering takes."""
    look_up, known = BaseFunction.get_call_type, {}

    def get_call_type(self, context, args, kws):
        key = (self, tuple(args), tuple(sorted(kws.items())))
        if key not in known:
            known[key] = look_up(self, context, args, kws)
        return known[key]

    BaseFunction.get_call_type = get_call_type


def _optimise(module, target_machine):
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization, options.slp_vectorization = True, False
    builder = llvm.create_pass_builder(target_machine, options)
    builder.getModulePassManager().run(module, builder)


def target_machine(level: Level, cpu: str, features: str):
    """Return LLVM's target machine for a CPU of a level, and its triple."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple = _TRIPLES[level.machine]
    target = llvm.Target.from_triple(triple)
    made = target.create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small"
    )
    return made, triple


class Compiler:
    """Compiles for one CPU in this process, which can run no other function of Numba's after it."""

    def __init__(self, level: Level, cpu: str, features: str) -> None:
        self.level = level
        self._tm, self._triple = target_machine(level, cpu, features)
        rtsys._init = True  # noqa: SLF001  nothing allocates: Numba's run time stays away
        _remember_types()
        vars(cpu_target)["_toplevel_target_context"] = _Context(self._tm, self._triple)

    def module(self, function, signature: types.Type):
        """Return the LLVM module of a Python function, `walk`, and all it calls, not optimised."""
        from numlstm.kernels.simd import jit  # whose functions are this target's from here on

        compiled = jit(function)
        compiled.compile(signature)
        (overload,) = compiled.overloads.values()
        return overload.library.linked(overload.fndesc.llvm_func_name)

    def assembly(self, function, signature: types.Type) -> str:
        """Return what a Python function becomes, to be read."""
        module = self.module(function, signature)
        _optimise(module, self._tm)
        return self._tm.emit_assembly(module)

    def walker(self, function, signature: types.Type) -> Linked:
        """Return the walker, with an entry for each calling convention of the machine."""
        module = self.module(function, signature)
        names = {}
        for convention, keyword in _CONVENTIONS[self.level.machine].items():
            name = f"run{convention}"
            names[name] = convention
            text = _ENTRY.replace("CC", keyword).replace("NAME", name)
            entry = llvm.parse_assembly(text)
            entry.triple, entry.data_layout = self._triple, str(self._tm.target_data)
            module.link_in(entry)
        module.get_function("walk").linkage = "internal"
        _optimise(module, self._tm)
        linked = link(self._tm.emit_object(module), list(names))
        entries = {names[name]: at for name, at in linked.symbols.items()}
        return Linked(linked.code, entries, linked.imports)
