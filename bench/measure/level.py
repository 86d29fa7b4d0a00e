"""NUMLSTM_LEVEL for all: a forced level is that of the peers too, where the system can do it.

Peers choose their kernels by asking the CPU. Where Linux can make that question fault and there is
a C compiler, their processes are answered as on a CPU of the level (`level.c`). Elsewhere some of
them listen to an environment variable, and the others use all that the CPU has.
"""

import atexit
import ctypes
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

# A library, and what of the CPU is hidden: AVX-512, VNNI. Part of the request to a process.
Hidden = tuple[str, bool, bool]

_SWITCHES = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # OpenVINO, PyTorch
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",  # PyTorch
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy
}
UNLIMITED = "ONNX Runtime, LiteRT, MNN and ncnn"  # have no such variable


def hide(hidden: Hidden | None) -> None:
    """Hide a part of the CPU from this process; called before the libraries are imported."""
    if hidden:
        library, without_avx512, without_vnni = hidden
        if ctypes.CDLL(library).hide(int(without_avx512), int(without_vnni)):
            raise OSError("this system cannot hide a part of the CPU")


@cache
def hidden() -> Hidden | None:
    """Return what the processes of this level have to hide, or None: nothing, or it cannot be."""
    without_avx512, without_vnni = _without()
    library = _library() if without_avx512 or without_vnni else ""
    return (library, without_avx512, without_vnni) if library else None


def environment() -> dict[str, str]:
    """Return what else tells a forced level to libraries: Numba, of what is compiled here."""
    from numlstm.kernels.cpu import LEVEL

    if not any(_without()):
        return {}
    # Its features are those of the CPU's name and these; none would be all that the CPU has.
    of_numba = {"NUMBA_CPU_NAME": LEVEL.cpu, "NUMBA_CPU_FEATURES": LEVEL.features or "+fma"}
    return of_numba if is_shared() else of_numba | _SWITCHES


def is_shared() -> bool:
    """Whether the level is that of the peers, too."""
    return bool(hidden()) or not any(_without())


def _without() -> tuple[bool, bool]:
    """Return whether the CPU has AVX-512, and VNNI, that the level does not."""
    from numlstm.kernels.cpu import LEVEL
    from numlstm.machine.instructions import found

    more = found() - LEVEL.needs
    return "avx512f" in more, bool(more & {"avx512vnni", "avxvnni"}) and "vnni" not in LEVEL.name


def _library() -> str:
    """Return the compiled level.c if it works here, or nothing."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        return ""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = f"{folder}/level.so"
    source = Path(__file__).with_name("level.c")
    compiled = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", library, source],
        capture_output=True,
        check=False,
    )
    tried = "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).hide(1, 1) != 0)"
    works = (
        compiled.returncode == 0
        and not subprocess.run(
            [sys.executable, "-c", tried, library], capture_output=True, check=False
        ).returncode
    )
    return library if works else ""
