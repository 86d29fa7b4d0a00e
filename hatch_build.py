"""The build step: compiles the kernels ahead, so that whoever installs the wheel never waits.

The images of this machine's architecture are made, or those that NUMLSTM_BUILD_LEVELS names
("all" for a wheel that goes everywhere: none of it depends on the system or on Python's version).
Where they cannot be made, the wheel lacks them, and the kernels are compiled at first use; of those
that were named none may be missing.
"""

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

IMAGES = "numlstm/kernels/images"
# Of one version each: the machine code is theirs.
COMPILER = ["numba==0.68.1", "llvmlite==0.50.0", "numpy==2.4.6"]


def has_compiler() -> bool:
    """Whether LLVM comes as a wheel for this system: not for musl, Intel Macs or 32 bits."""
    if sys.maxsize < 2**32 or "musl" in (sysconfig.get_config_var("SOABI") or ""):
        return False
    machine = platform.machine().lower()
    return machine in {"arm64", "aarch64"} or (
        machine in {"x86_64", "amd64"} and sys.platform != "darwin"
    )


class KernelsHook(BuildHookInterface):
    """Puts images of the kernels into the source tree, and with it into the wheel."""

    def dependencies(self) -> list[str]:
        """Return what the environment of the build needs."""
        return COMPILER if self.target_name == "wheel" and has_compiler() else []

    def initialize(self, version: str, build_data: dict) -> None:
        """Compile, before the files of the wheel are collected."""
        if self.target_name != "wheel":
            return
        levels = os.environ.get("NUMLSTM_BUILD_LEVELS", "").split()
        module = "numlstm.kernels.compilation"
        command = [sys.executable, "-m", module, str(Path(self.root, IMAGES)), *levels]
        path = os.pathsep.join(filter(None, (self.root, os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PYTHONPATH": path}
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            if levels:
                self.app.abort(f"NUMLSTM_BUILD_LEVELS={' '.join(levels)}: {reason}")
            self.app.display_warning(f"the kernels will be compiled at first use: {reason}")
        # No stale ones, nor what this machine compiled for itself, which is there too.
        made = [line.partition(":")[0] for line in done.stdout.splitlines()]
        build_data["artifacts"] += [f"/{IMAGES}/{name}" for name in made]
