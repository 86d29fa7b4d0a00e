"""Small files that would take the machine: what each says, and a process that dares to load them.

python -m tests.bombs [NAME ...]    in 4 GB of memory; a line of JSON for each
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import numlstm
from numlstm import storage

MEMORY = 4 * 2**30  # bytes that a process may take
SECONDS = 20  # of CPU, for a file; it takes a hundredth of that on a machine that does nothing else

Tensors = Mapping[str, np.ndarray]


def layer(kind: str, **options: Any) -> dict[str, Any]:
    return {"layer": kind, **options}


def tanh(size: int = 1, **options: Any) -> dict[str, Any]:
    return layer("Activation", input_size=size, function="tanh", **options)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def file_of(network: Any, tensors: Tensors | None = None, **fields: str) -> bytes:
    """Return a file with a valid checksum, whatever it says."""
    text = network if isinstance(network, str) else json.dumps(network)
    metadata = {"format": "numlstm", "version": "1", "network": text, "labels": "[]", "origin": ""}
    metadata |= fields
    metadata["sha256"] = storage._digest(metadata, tensors or {})
    return storage._to_bytes(tensors or {}, metadata)


def parts_of(names: list[str], fields: dict[str, str], tensors: Tensors) -> bytes:
    """Return a file of several networks."""
    metadata = {"format": "numlstm", "version": "3", "parts": json.dumps(names)} | fields
    metadata["sha256"] = storage._digest(metadata, tensors)
    return storage._to_bytes(tensors, metadata)


REVERSE = layer("Reverse", input_size=1)

# By what is too much: the file, or a part of what its refusal says; None if it loads and runs.
BOMBS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "5,000 layers": (lambda: file_of([tanh()] * 5000), None),
    "5,000 layers with names": (
        lambda: file_of([tanh(name=f"n{n}") for n in range(5000)]),
        None,
    ),
    "3,000 layers, every second a Reverse": (lambda: file_of([tanh(), REVERSE] * 1500), None),
    "1,500 layers, then as many Reverses": (
        lambda: file_of([tanh()] * 1500 + [REVERSE] * 1500),
        None,
    ),
    "5,000 layers that read a memory": (
        lambda: file_of([layer("Attention", input_size=1, memory_size=1)] * 5000),
        None,
    ),
    "a million wrong layers": (lambda: file_of("[" + "{}," * 10**6 + "{}]"), "and 999,901 more"),
    "300 parts of 300 tensors": (
        lambda: parts_of(
            [f"p{n}" for n in range(300)],
            {f"p{n}/network": json.dumps([tanh()]) for n in range(300)},
            {f"p{n}/t{m}": ones(0) for n in range(300) for m in range(100)},
        ),
        "not in the spec",
    ),
    "100,000 parts of one name": (
        lambda: parts_of(["a"] * 10**5, {"a/network": json.dumps([tanh()])}, {}),
        "parts are named",
    ),
    "10,000 parts that are not there": (
        lambda: parts_of([f"p{n}" for n in range(10**4)], {}, {}),
        "is not a list of layers",
    ),
}


def dare(path: Path) -> str | None:
    """Load a file and run each of its networks; return what it was refused with, or None."""
    try:
        for model in numlstm.load_parts(path).values():
            if model.tokenizer is not None:
                model.load_tokenizer().encode("a" * 45 + "b " + "a" * 500)
            reads = None
            if model.network.memory_size is not None:
                reads = np.zeros((2, model.network.memory_size), np.float32)
            xs = np.zeros(2 if model.vocab_size else (2, model.input_size), np.int32)
            model.run(xs, memory=reads)
            model.verify()
            if model.network.is_causal:
                model.stream(memory=reads).step(xs[0])
    except ValueError as error:
        return str(error)
    return None


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        for name in sys.argv[1:] or BOMBS:
            path.write_bytes(BOMBS[name][0]())
            print(json.dumps({"name": name, "size": path.stat().st_size}), flush=True)
            start = time.process_time()
            said = dare(path)
            seconds = time.process_time() - start
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({"said": said, "seconds": seconds, "memory": memory}), flush=True)


if __name__ == "__main__":
    main()
