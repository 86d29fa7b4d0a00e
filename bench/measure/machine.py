"""What results depend on: the CPU and its level, versions, the command."""

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
from bench.measure import level
from numlstm.kernels.cpu import LEVEL
from numlstm.measure.machine import cpu_name

_PACKAGES = (
    "numba",
    "llvmlite",
    "numpy",
    "torch",
    "onnxruntime",
    "onnx",
    "openvino",
    "ai-edge-litert",
    "mnn",
    "ncnn",
)
# What the names of CPUs say beside the model.
_NOISE = r"\((r|tm)\)|\b(intel|amd|cpu|processor|\d+-core)\b|@.*"


def describe() -> dict[str, Any]:
    """Return the CPU, its level and caches, the system, versions, the date and the command."""
    versions = {"python": platform.python_version(), "numlstm": numlstm.__version__}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
        "cpu": f"{cpu_name()} ({llvm.get_host_cpu_name()})",
        "level": LEVEL.name,
        "unlimited": "" if level.is_shared() else level.UNLIMITED,
        "num_cores": os.cpu_count(),
        "cache_bytes": _caches(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def folder() -> Path:
    """Return the folder of this CPU's results, and in it that of the level."""
    words = re.sub(_NOISE, " ", f"{cpu_name()} {llvm.get_host_cpu_name()}".lower())
    return Path("-".join(re.findall(r"[a-z0-9.]+", words)), LEVEL.name)


def _caches() -> dict[str, int]:
    """Return the sizes of the first core's data caches, as Linux tells them."""
    sizes = {}
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (cache / "type").read_text().strip() != "Instruction":
            level = (cache / "level").read_text().strip()
            sizes[f"L{level}"] = int((cache / "size").read_text().strip().removesuffix("K")) * 1024
    return sizes
