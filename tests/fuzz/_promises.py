"""What is promised of whatever a file holds: it is refused in words, or it runs, and rightly."""

from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

import numlstm
from numlstm import reference, spec
from numlstm.quantize import dtypes_of
from tests.fuzz import Found

_LONGEST = 100_000  # letters of an error, which lists all that is wrong
_BUG = ("please report", "Traceback")

_STEPS = 4
_WIDEST = 2**20  # numbers of an input that is tried
_MOST = 2**15  # numbers of a network that the reference is asked about
_MOST_ROWS = 1000  # that it answers
_CALM = 1e3  # beyond it, of weights and answers, float32 explains any difference


def refused(error: Exception) -> str:
    """Return "refused" of an error that says why."""
    text = str(error)
    if not text.strip() or len(text) > _LONGEST or any(words in text for words in _BUG):
        raise Found(f"an error that does not say what is wrong: {text[:300]!r}") from error
    return "refused"


def check_model(model: numlstm.Model, random: Random) -> str:
    """Run a model: its answers are finite, the same in every way, and those of the reference.

    Returns
    -------
    str
        "compared" if the reference was asked, "ran", "overflows" if it refused to answer, or
        "wide" if the input is too large to try.
    """
    network = model.network
    memory_size = network.memory_size or 0
    if max(network.input_size, network.output_size, memory_size) > _WIDEST:
        return "wide"
    xs, given = _input(network, random)
    try:
        ys = model.run(xs, **given)
        _check_finite(ys)
        if network.is_causal:
            _check_stream(model, xs, given, ys)
        elif random.random() < 0.3:
            tail = model.stream(lookahead=random.choice((0, 2, len(xs))))
            for x in xs:
                tail.step(x)
            _check_finite(tail.finish())
    except ValueError as error:
        refused(error)
        return "overflows"
    return "compared" if _is_right(model, xs, given, ys, random) else "ran"


def _input(network: numlstm.Network, random: Random) -> tuple[NDArray[Any], dict[str, Any]]:
    generator = np.random.default_rng(random.getrandbits(32))
    given: dict[str, Any] = {}
    if network.memory_size is not None:
        given["memory"] = generator.standard_normal((3, network.memory_size), np.float32)
        if network.memory_vocab_size is not None:
            given["memory_ids"] = generator.integers(0, network.memory_vocab_size, 3)
    if network.vocab_size is not None:
        return generator.integers(0, network.vocab_size, _STEPS).astype(np.int32), given
    xs = generator.standard_normal((_STEPS, network.input_size), np.float32)
    xs[0] *= random.choice((0, 1, 1))
    return xs, given


def _check_finite(ys: NDArray[Any]) -> None:
    if not np.isfinite(ys).all():
        raise Found(f"answers that are not finite: {ys.ravel()[:8]}")


def _check_stream(model: numlstm.Model, xs: Any, given: dict[str, Any], ys: Any) -> None:
    """Step a stream, save it and go on with another: the bits are those of run."""
    stream = model.stream(**given)
    rows = [stream.step(x) for x in xs[:2]]
    other = model.stream(**given)
    other.load_state(stream.save_state())
    rows += list(other.run(xs[2:]))
    if np.array(rows, np.float32).tobytes() != ys.tobytes():
        raise Found(f"steps give {np.array(rows).ravel()[:8]}, run gives {ys.ravel()[:8]}")


def _is_right(
    model: numlstm.Model, xs: Any, given: dict[str, Any], ys: Any, random: Random
) -> bool:
    """Hold answers to the reference where that is cheap, and rounding explains no difference."""
    network = model.network
    kernels = [n for n in network.layers if isinstance(n, spec.Windowed | spec.Flatten)]
    numbers = sum(int(np.prod(shape)) for shape in network.tensor_shapes().values())
    numbers += sum(layer.input_size + layer.output_size for layer in network.layers)
    numbers += sum(layer.reach * layer.input_size for layer in kernels)
    if numbers > _MOST or len(ys) > _MOST_ROWS:
        return False
    if any(isinstance(layer, spec.CRF) for layer in network.layers):
        return False  # of two paths that are equally good either may be taken
    tensors = {n: np.asarray(t, np.float64) for n, t in model.weights.tensors.items()}
    if any((np.abs(t) > _CALM).any() for t in tensors.values()):
        return False
    is_exact = not set(dtypes_of(network)) - {"float32"}
    allowed, nudge = (1e-3, 1e-6) if is_exact else (0.05, 1e-3)
    with np.errstate(all="ignore"):
        try:
            expected, _ = reference.run(network, tensors, xs, **given)
        except ValueError as error:
            raise Found(f"the engine answers, the reference refuses: {error}") from error
        if (np.abs(expected) > _CALM).any() and np.isfinite(expected).all():
            return False
        if expected.shape != ys.shape:
            raise Found(f"answers of shape {ys.shape}, the reference gives {expected.shape}")
        excess = np.abs(ys - expected) / (allowed * (1 + np.abs(expected)))
        if (excess <= 1).all():
            return True
        generator = np.random.default_rng(random.getrandbits(32))
        for _ in range(8):  # does a change of the weights by roundings move the reference, too?
            nudged = {
                name: tensor * (1 + nudge * generator.uniform(-1, 1, tensor.shape))
                for name, tensor in tensors.items()
            }
            moved, _ = reference.run(network, nudged, xs, **given)
            near = np.abs(moved - expected) <= allowed / 10 * (1 + np.abs(expected))
            if not (near | ~np.isfinite(expected) & ~np.isfinite(moved)).all():
                return False
    at = np.unravel_index(np.nan_to_num(excess, nan=np.inf).argmax(), excess.shape)
    raise Found(f"answers {ys[at]:.9g}, the reference {expected[at]:.9g}, at {list(map(int, at))}")
