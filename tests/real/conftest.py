"""Where the real models are: beside the repository, not in it."""

from pathlib import Path

import pytest

from tests.conftest import ROOT

REAL = ROOT.parent / "shared" / "real"


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Path:
    """The folder of a model, named as the test file: test_nam.py -> the folder nam_*."""
    name = Path(request.node.path).stem.removeprefix("test_")
    folders = sorted(REAL.glob(f"{name}_*"))
    if not folders:
        pytest.skip(f"no folder {name}_* of real models beside the repository")
    return folders[0]
