"""Collecting the tests is cheap, and the quick ones are of every room."""

import json

from tests.conftest import ROOT, Python, output_of

COLLECT = """
import contextlib, json, pytest, sys

class Collected:
    def pytest_collection_finish(self, session):
        paths = {item.path.relative_to(sys.argv[1]) for item in session.items}
        self.files = sorted(path.as_posix() for path in paths)

collected = Collected()
with contextlib.redirect_stdout(sys.stderr):
    pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "-m", "quick", sys.argv[1]],
                plugins=[collected])
print(json.dumps({"files": collected.files, "modules": sorted(sys.modules)}))
"""
FRAMEWORKS = {"torch", "keras", "onnx", "onnxruntime", "h5py", "soundfile", "matplotlib"}


def test_collecting_imports_no_framework_and_quick_tests_are_of_every_room(python: Python):
    tests = ROOT / "tests"
    found = json.loads(output_of(python("-c", COLLECT, str(tests))))
    assert FRAMEWORKS & set(found["modules"]) == set()
    rooms = {path.parent.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}
    assert len(rooms) > 10
    assert {file.rpartition("/")[0] or "." for file in found["files"]} == rooms - {"real"}
