"""What results depend on: the CPU, versions, the command."""

import os
import platform
import re
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

import numlstm

_PACKAGES = ("numba", "llvmlite", "numpy", "torch", "onnxruntime", "onnx", "openvino")


def describe() -> dict[str, Any]:
    """Return the CPU with its caches, the system, versions, the date and the command."""
    versions = {"python": platform.python_version(), "numlstm": numlstm.__version__}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
        "cpu": f"{_cpu_name()} ({llvm.get_host_cpu_name()})",
        "num_cores": os.cpu_count(),
        "cache_bytes": _caches(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _caches() -> dict[str, int]:
    """Return the sizes of the first core's data caches, as Linux tells them."""
    sizes = {}
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (cache / "type").read_text().strip() != "Instruction":
            level = (cache / "level").read_text().strip()
            sizes[f"L{level}"] = int((cache / "size").read_text().strip().removesuffix("K")) * 1024
    return sizes
