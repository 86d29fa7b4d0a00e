"""Random inputs with the answers of the framework a network is from."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm import reference
from numlstm.budget import spend
from numlstm.convert.assembly import Refused
from numlstm.network.functions import LARGEST
from numlstm.spec import (
    TOLERANCE,
    Attention,
    Copy,
    Layer,
    Network,
    Probe,
    Repeat,
    Tensors,
    WeightsError,
    Windowed,
)

_NUM_PROBES = 3
_NUM_STEPS = 24
_NUM_MEMORY_ROWS = 8
_NUM_OUTPUTS = 2**16  # of a probe, or those of a large vocabulary would fill the file
_OF_A_LAYER = 1e5  # operations beyond those on numbers, that a layer takes of Python
_OF_A_STEP = 1e3
_ROUNDING = 2.0**-23  # two roundings of float32: long sums have more than one


def make_probes(
    network: Network,
    tensors: Tensors,
    run: Callable[..., NDArray[Any]],
    num_steps: int = _NUM_STEPS,
    draw: Callable[[int, np.random.Generator], NDArray[Any]] | None = None,
    shape: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    exactly: int | None = None,
) -> tuple[Probe, ...]:
    """Return probes: what ``run`` answers to random input.

    A network with large weights is chaotic: the rounding of the first step may be all of the
    tenth. So a probe is short enough for a change of the weights by roundings not to matter.

    Parameters
    ----------
    run : xs, int32 (T,) or float32 (T, input_size) -> ys (rows, output_size), by the framework;
        of a network that attends to one with ``memory=``, and ``memory_ids=`` if it copies
    num_steps : at most, per probe
    draw : seq_len, generator -> xs, where not every input is one of the source
    shape : makes of any random rows such as the source reads, of which some numbers may be ids
    exactly : the only number of steps that ``run`` takes

    Raises
    ------
    WeightsError
        If ``run`` gives other shapes.
    NoAnswer
        If the network has no answer to any input that is tried.
    """
    generator = np.random.default_rng(0)
    least = _least_steps(network)
    num_steps = min(num_steps, max(_NUM_OUTPUTS // network.output_size, 1))
    if exactly is not None:
        least, num_steps = exactly, 1
    # Each by the framework, which may run a sequence once per step, and twice by `reference`.
    spend_runs(network, least - 1 + num_steps, 3 * _NUM_PROBES)
    probes = []
    for _ in range(_NUM_PROBES):
        seq_len = least - 1 + num_steps
        xs = draw(seq_len, generator) if draw else random_input(network, seq_len, generator)
        given = _random_memory(network, generator)
        tries = [xs] if draw else _tries(xs, shape)
        xs = _within_domains(network, tensors, tries, given)
        while len(xs) > least and _is_chaotic(network, tensors, xs, given, generator):
            xs = xs[: max(len(xs) // 2, least)].copy()
        ys = np.array(run(xs, **given), np.float32)
        if ys.ndim != 2 or ys.shape[1] != network.output_size:
            raise WeightsError(
                f"the source gives {ys.shape} for {len(xs)} steps, "
                f"expected rows of {network.output_size}"
            )
        probes.append(Probe(xs, ys, **given))
    return tuple(probes)


class NoAnswer(Refused):
    """The network has no answer to random input: a layer gives an infinity or a NaN.

    layer   its number
    """

    layer: int = 0

    def by_name(self, name: str) -> "NoAnswer":
        """Return the same, of a layer as its source calls it."""
        return NoAnswer(self.why, self.instead, f'layer "{name}"') if name else self


# Where a function has no answer: its name, of what it has none, and how it is kept from it.
_DOMAINS = {
    "log": ("numbers above 0", "add a small number before the logarithm, or bound what it reads"),
    "sqrt": ("numbers from 0", "bound what the root reads"),
    "reciprocal": ("numbers other than 0", "add a small number to what is divided by"),
    "exp": ("numbers below 88", "scale what it reads"),
}


def _tries(
    xs: NDArray[Any], shape: Callable[[NDArray[Any]], NDArray[Any]] | None
) -> Iterator[NDArray[Any]]:
    """Yield random input, then the same, positive, and smaller; token ids are what they are."""
    shape = shape or (lambda xs: xs)
    yield shape(xs)
    if xs.ndim == 2:
        yield shape(np.abs(xs))
        yield shape(np.abs(xs) * np.float32(0.1))


def _within_domains(
    network: Network,
    tensors: Tensors,
    tries: Iterable[NDArray[Any]],
    given: dict[str, Any],
) -> NDArray[Any]:
    """Return the first input of those to try that the network has an answer to.

    One without a function that has a domain has an answer to all.

    Raises
    ------
    NoAnswer
        If it has none to all of these; the first layer that has none is named.
    """
    if not any(_function_of(layer) in _DOMAINS for layer in network.layers):
        return next(iter(tries))
    problem = None
    for tried in tries:
        found = _first_overflow(network, tensors, tried, given)
        if found is None:
            return tried
        problem = problem or found
    assert problem is not None
    raise problem


def _first_overflow(
    network: Network, tensors: Tensors, xs: NDArray[Any], given: dict[str, Any]
) -> NoAnswer | None:
    """Return which layer first gives a number that is none, and of what; None if there is none."""
    found: list[NoAnswer] = []

    def look(n: int, sources: list[NDArray[Any]], ys: NDArray[Any]) -> None:
        if not found and ys.size and not (ys.min() >= -LARGEST and ys.max() <= LARGEST):
            found.append(_no_answer(network.layers[n], n, sources, ys))

    with np.errstate(all="ignore"):
        reference.run(network, tensors, xs, **given, look=look)
    return found[0] if found else None


def _function_of(layer: Layer) -> str:
    """Return the name of the function that a layer is or ends in, or ""."""
    function = getattr(layer, "function", None) or getattr(layer, "activation", None) or ""
    return str(function).partition("(")[0]


def _no_answer(layer: Layer, n: int, sources: list[NDArray[Any]], ys: NDArray[Any]) -> NoAnswer:
    """Return that a layer has no answer, of what, and what to do about it."""
    domain, instead = _DOMAINS.get(_function_of(layer), ("smaller numbers", ""))
    wrong = ys[~(np.abs(ys) <= LARGEST)]
    of = ""
    if hasattr(layer, "function"):
        x = sources[0][~(np.abs(ys) <= LARGEST)]
        of = f" of {x.flat[0]:.3g}"
    error = NoAnswer(
        f"gives {wrong.flat[0]:.3g}{of} on random input, expected {domain}: neither it nor its "
        "source has an answer that the conversion could be checked by",
        instead or "scale the weights, or convert the network up to this layer",
        f"layer {n}, {layer}",
    )
    error.layer = n
    return error


def spend_runs(network: Network, seq_len: int, count: int) -> None:
    """Spend what some runs of a network over a sequence cost, by `reference` or a framework."""
    rows, memory, operations = float(seq_len), 0.0, 0.0
    for layer in network.layers:
        if isinstance(layer, Repeat):
            rows = float(layer.num_steps)
        rows_read = rows if isinstance(layer, Attention | Copy) else 1.0
        numbers = float(sum(math.prod(shape) for shape in layer.tensors().values()))
        numbers += rows_read * (layer.input_size + layer.output_size)
        memory = max(memory, 8 * rows_read * rows)
        memory += 8 * rows * layer.output_size
        operations += _OF_A_LAYER + rows * (2 * numbers + _OF_A_STEP)
        if isinstance(layer, Windowed):
            rows += sum(layer.pads)
    memory += 8 * seq_len * network.input_size
    spend(f"a run over {seq_len:,} steps", memory)
    spend(f"{count} runs over {seq_len:,} steps", 0, count * operations)


def _least_steps(network: Network) -> int:
    """Return how many steps give at least one answer, whatever the convolutions leave out."""
    least = 1
    for layer in reversed(network.layers):
        if isinstance(layer, Windowed):
            least = max((least - 1) * layer.stride + layer.reach + 1 - sum(layer.pads), 1)
    return least


def reference_run(network: Network, tensors: Tensors) -> Callable[..., NDArray[Any]]:
    """Return a ``run`` for `make_probes` where the source framework is not installed."""
    return lambda xs, **given: reference.run(network, tensors, xs, **given)[0]


def random_input(network: Network, seq_len: int, generator: np.random.Generator) -> NDArray[Any]:
    """Return token ids (T,), or normally distributed numbers (T, I), in any case unmasked."""
    if network.vocab_size is not None:
        first = 1 if network.masked(np.zeros(1, np.int32)) is not None else 0
        return generator.integers(first, network.vocab_size, seq_len).astype(np.int32)
    return generator.standard_normal((seq_len, network.input_size), np.float32)


def _random_memory(network: Network, generator: np.random.Generator) -> dict[str, Any]:
    """Return a memory, and token ids for it, of a network that needs them."""
    given: dict[str, Any] = {}
    if network.memory_size is not None:
        shape = (_NUM_MEMORY_ROWS, network.memory_size)
        given["memory"] = generator.standard_normal(shape, np.float32)
    if network.memory_vocab_size is not None:
        ids = generator.integers(0, network.memory_vocab_size, _NUM_MEMORY_ROWS)
        given["memory_ids"] = ids.astype(np.int32)
    return given


def _is_chaotic(
    network: Network,
    tensors: Tensors,
    xs: NDArray[Any],
    given: dict[str, Any],
    generator: np.random.Generator,
) -> bool:
    nudged = {
        name: tensor * (1 + _ROUNDING * generator.uniform(-1, 1, tensor.shape))
        for name, tensor in tensors.items()
    }
    exact, _ = reference.run(network, tensors, xs, **given)
    moved, _ = reference.run(network, nudged, xs, **given)
    return bool((np.abs(moved - exact) > TOLERANCE / 10 * (1 + np.abs(exact))).any())
