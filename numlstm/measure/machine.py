"""What figures depend on: the CPU and its level, the system, versions."""

import os
import platform
import re
from pathlib import Path
from typing import Any

from numlstm.diagnostics import diagnose

_SHOWN = ("CPU level", "kernels", "python", "numpy", "numba")


def cpu_name() -> str:
    """Return what the CPU calls itself."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """Return the CPU and its level, the system, versions."""
    found = diagnose()
    return {
        "CPU": f"{cpu_name()}, {os.cpu_count()} cores",
        "system": platform.platform(),
        **{name: found[name] for name in _SHOWN},
    }
