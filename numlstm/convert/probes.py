"""Random inputs with the answers of the framework a network is from."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm import reference
from numlstm.spec import TOLERANCE, Conv1d, Network, Probe, Tensors, WeightsError

_NUM_PROBES = 3
_NUM_STEPS = 24
_NUM_MEMORY_ROWS = 8
_NUM_OUTPUTS = 2**16  # of a probe, or those of a large vocabulary would fill the file
_ROUNDING = 2.0**-23  # two roundings of float32: long sums have more than one


def make_probes(
    network: Network,
    tensors: Tensors,
    run: Callable[..., NDArray[Any]],
    num_steps: int = _NUM_STEPS,
) -> tuple[Probe, ...]:
    """Return probes: what ``run`` answers to random input.

    A network with large weights is chaotic: the rounding of the first step may be all of the
    tenth. So a probe is short enough for a change of the weights by roundings not to matter.

    Parameters
    ----------
    run : xs, int32 (T,) or float32 (T, input_size) -> ys (rows, output_size), by the framework;
        of a network that attends to one with ``memory=``, and ``memory_ids=`` if it copies
    num_steps : at most, per probe

    Raises
    ------
    WeightsError
        If ``run`` gives other shapes.
    """
    generator = np.random.default_rng(0)
    least = _least_steps(network)
    num_steps = min(num_steps, max(_NUM_OUTPUTS // network.output_size, 1))
    probes = []
    for _ in range(_NUM_PROBES):
        xs = random_input(network, least - 1 + num_steps, generator)
        given = _random_memory(network, generator)
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


def _least_steps(network: Network) -> int:
    """Return how many steps give at least one answer, whatever the convolutions leave out."""
    least = 1
    for layer in reversed(network.layers):
        if isinstance(layer, Conv1d):
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
