"""Gate orders and layouts of other frameworks: their tensors of a recurrent layer <-> ours.

Ours are PyTorch's: of one layer in one direction, G gates with H rows each, one after the other in
the order of `OURS`. G is 1 for an RNN, 3 for a GRU and 4 for an LSTM.

    weight_ih (G*H, I), weight_hh (G*H, H), bias_ih (G*H,), bias_hh (G*H,)

A layer without bias has neither of the biases. A framework that has one gives ours as `bias_ih`,
and zeros as `bias_hh`; on the way back ours are added, as the layers themselves do. Numbers and
dtypes stay as they are, so there and back is the identity.

Every gate goes by our letter: the g of an LSTM is called c by Keras and ONNX, j by TensorFlow 1,
the n of a GRU is called h, the z of a GRU u by TensorFlow 1.

Arrays whose shapes do not go together raise a `WeightsError`.

Examples
--------
>>> own = gates.from_keras(kernel, recurrent_kernel, bias)
>>> network = Network((GRU(4, 8, reset_after=bias.ndim == 2),))
>>> weights = Weights(network, {f"layers.0.{name}": tensor for name, tensor in own.items()})
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from numlstm.spec import WeightsError

Array: TypeAlias = NDArray[Any]
Tensors: TypeAlias = dict[str, Array]

# The order of the gates by their number.
OURS = {1: "h", 3: "rzn", 4: "ifgo"}
KERAS = {1: "h", 3: "zrn", 4: "ifgo"}
KERAS_1 = {3: "zrn", 4: "igfo"}
TENSORFLOW = {3: "rzn", 4: "igfo"}
ONNX = {1: "h", 3: "zrn", 4: "iofg"}
CUDNN = OURS


def reordered(blocks: Array, source: str, target: str, axis: int = 0) -> Array:
    """Return the blocks of gates along an axis in another order: ``reordered(W, "iofg", "ifgo")``.

    Raises
    ------
    WeightsError
        If the axis is not as many blocks of one size as there are gates.
    """
    if blocks.shape[axis] % len(source):
        raise WeightsError(f"axis {axis} of {blocks.shape} is not {len(source)} blocks of one size")
    if source == target:
        return blocks
    parts = dict(zip(source, np.split(blocks, len(source), axis), strict=True))
    return np.concatenate([parts[gate] for gate in target], axis)


# PyTorch ------------------------------------------------------------------------------------------


def from_torch(state: Mapping[str, Any], n: int = 0) -> Tensors:
    """Return layer n of a state dict of torch.nn.RNN, GRU or LSTM, with both directions if there.

    ``weight_ih_l0``, ``weight_ih_l0_reverse`` become ``weight_ih``, ``weight_ih_reverse``; values
    stay what they are. The names of nn.RNNCell, GRUCell and LSTMCell are ours.
    """
    endings = {f"_l{n}": "", f"_l{n}_reverse": "_reverse"}
    return {
        name.removesuffix(ending) + ours: tensor
        for ending, ours in endings.items()
        for name, tensor in state.items()
        if name.endswith(ending)
    }


def to_torch(tensors: Mapping[str, Any], n: int = 0) -> dict[str, Any]:
    """Return our tensors under the names of layer n in such a state dict; see `from_torch`."""
    return {torch_name(name, n): tensor for name, tensor in tensors.items()}


def torch_name(name: str, n: int = 0) -> str:
    """Return what PyTorch calls a tensor of layer n: ``weight_ih_l0_reverse``."""
    base = name.removesuffix("_reverse")
    return f"{base}_l{n}{name.removeprefix(base)}"


# Keras --------------------------------------------------------------------------------------------


def from_keras(kernel: Array, recurrent_kernel: Array, bias: Array | None = None) -> Tensors:
    """Return a SimpleRNN, GRU or LSTM of Keras 2 or 3, or a cell of it.

    Parameters
    ----------
    kernel : array, (I, G*H)
    recurrent_kernel : array, (H, G*H)
    bias : array, optional
        (G*H,), or (2, 3*H) of a GRU with ``reset_after=True``: of the input, then of h. With one,
        our GRU has ``reset_after=False``.
    """
    num_gates = _num_gates("recurrent_kernel", recurrent_kernel.T)
    _expect("kernel", kernel, (-1, recurrent_kernel.shape[1]))
    found = {"weight_ih": kernel.T, "weight_hh": recurrent_kernel.T}
    if bias is not None:
        gates = recurrent_kernel.shape[1]
        _expect("bias", bias, (2, gates) if bias.ndim == 2 else (gates,))
        found |= _biases(*bias) if bias.ndim == 2 else _biases(bias)
    return _all_reordered(found, KERAS[num_gates], OURS[num_gates])


def to_keras(tensors: Mapping[str, Array], reset_after: bool = True) -> tuple[Array, ...]:
    """Return kernel, recurrent_kernel and bias, if there is one; see `from_keras`.

    Parameters
    ----------
    reset_after : bool
        Of a GRU: whether the bias is (2, 3*H).
    """
    num_gates = _num_gates_of(tensors)
    theirs = _all_reordered(tensors, OURS[num_gates], KERAS[num_gates])
    kernels = theirs["weight_ih"].T, theirs["weight_hh"].T
    if "bias_ih" not in theirs:
        return kernels
    both = theirs["bias_ih"], theirs["bias_hh"]
    return *kernels, np.stack(both) if num_gates == 3 and reset_after else both[0] + both[1]


def from_keras_1(*arrays: Array) -> Tensors:
    """Return a GRU or LSTM of Keras 1, which kept W (I, H), U (H, H), b (H,) of each gate."""
    num_gates, rest = divmod(len(arrays), 3)
    if rest or num_gates not in KERAS_1:
        raise WeightsError(f"{len(arrays)} arrays, expected W, U and b of 3 or 4 gates")
    size = len(arrays[2])
    for name, array in zip(num_gates * "WUb", arrays, strict=True):
        shape = {"W": (len(arrays[0]), size), "U": (size, size), "b": (size,)}[name]
        _expect(name, array, shape)
    kernel, recurrent_kernel, bias = (np.concatenate(arrays[k::3], -1) for k in range(3))
    found = {"weight_ih": kernel.T, "weight_hh": recurrent_kernel.T, **_biases(bias)}
    return _all_reordered(found, KERAS_1[num_gates], OURS[num_gates])


def to_keras_1(tensors: Mapping[str, Array]) -> tuple[Array, ...]:
    """Return W, U, b of each gate; see `from_keras_1`."""
    num_gates = _num_gates_of(tensors)
    theirs = _all_reordered(tensors, OURS[num_gates], KERAS_1[num_gates])
    joined = theirs["weight_ih"].T, theirs["weight_hh"].T, theirs["bias_ih"] + theirs["bias_hh"]
    blocks = [np.split(part, num_gates, -1) for part in joined]
    return tuple(block for gate in zip(*blocks, strict=True) for block in gate)


def from_keras_cudnn(kernel: Array, recurrent_kernel: Array, bias: Array) -> Tensors:
    """Return a CuDNNGRU or CuDNNLSTM of Keras 2.

    They keep the matrices of cuDNN, (H, I) and (H, H), side by side, those of the input in memory
    of the shape (I, H). Keras, preprocess_weights_for_loading.

    Parameters
    ----------
    kernel : array, (I, G*H)
    recurrent_kernel : array, (H, G*H)
    bias : array, (2*G*H,)
        Of the input, then of h. Our GRU has ``reset_after=True``.
    """
    num_gates = _num_gates("recurrent_kernel", recurrent_kernel.T)
    size, gates = recurrent_kernel.shape
    _expect("kernel", kernel, (-1, gates))
    _expect("bias", bias, (2 * gates,))
    blocks = [block.reshape(size, -1) for block in np.split(kernel, num_gates, 1)]
    squares = np.split(recurrent_kernel, num_gates, 1)
    found = {"weight_ih": np.concatenate(blocks), "weight_hh": np.concatenate(squares)}
    return _all_reordered(found | _biases(*np.split(bias, 2)), KERAS[num_gates], OURS[num_gates])


def to_keras_cudnn(tensors: Mapping[str, Array]) -> tuple[Array, Array, Array]:
    """Return kernel, recurrent_kernel and bias; see `from_keras_cudnn`."""
    num_gates = _num_gates_of(tensors)
    theirs = _all_reordered(tensors, OURS[num_gates], KERAS[num_gates])
    input_size = theirs["weight_ih"].shape[1]
    blocks = [b.reshape(input_size, -1) for b in np.split(theirs["weight_ih"], num_gates)]
    squares = np.split(theirs["weight_hh"], num_gates)
    bias = np.concatenate([theirs["bias_ih"], theirs["bias_hh"]])
    return np.hstack(blocks), np.hstack(squares), bias


# TensorFlow 1 -------------------------------------------------------------------------------------


def from_tensorflow_lstm(kernel: Array, bias: Array, proj_size: int = 0) -> Tensors:
    """Return a BasicLSTMCell or LSTMCell of TensorFlow 1.

    They add 1 to f when they run, which the bias does not hold: `LSTM` has ``forget_bias=1.0``.

    Parameters
    ----------
    kernel : array, (I + H, 4*H)
        Of x and h end to end; with a projection h has `proj_size` numbers.
    bias : array, (4*H,)
    """
    _expect("bias", bias, (-1,))
    size = proj_size or len(bias) // 4
    _expect("kernel", kernel, (-1, len(bias)))
    found = {"weight_ih": kernel[:-size].T, "weight_hh": kernel[-size:].T, **_biases(bias)}
    return _all_reordered(found, TENSORFLOW[4], OURS[4])


def to_tensorflow_lstm(tensors: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return kernel and bias; see `from_tensorflow_lstm`."""
    theirs = _all_reordered(tensors, OURS[4], TENSORFLOW[4])
    kernel = np.hstack([theirs["weight_ih"], theirs["weight_hh"]]).T
    return kernel, theirs["bias_ih"] + theirs["bias_hh"]


def from_tensorflow_gru(
    gates_kernel: Array, gates_bias: Array, candidate_kernel: Array, candidate_bias: Array
) -> Tensors:
    """Return a GRUCell of TensorFlow 1, which is a `GRU` with ``reset_after=False``.

    Parameters
    ----------
    gates_kernel : array, (I + H, 2*H)
        Of x and h end to end, r and then z.
    gates_bias : array, (2*H,)
    candidate_kernel : array, (I + H, H)
    candidate_bias : array, (H,)
    """
    _expect("candidate_bias", candidate_bias, (-1,))
    size = len(candidate_bias)
    _expect("gates_kernel", gates_kernel, (-1, 2 * size))
    _expect("gates_bias", gates_bias, (2 * size,))
    _expect("candidate_kernel", candidate_kernel, (len(gates_kernel), size))
    kernel = np.hstack([gates_kernel, candidate_kernel])
    bias = np.concatenate([gates_bias, candidate_bias])
    found = {"weight_ih": kernel[:-size].T, "weight_hh": kernel[-size:].T, **_biases(bias)}
    return _all_reordered(found, TENSORFLOW[3], OURS[3])


def to_tensorflow_gru(tensors: Mapping[str, Array]) -> tuple[Array, Array, Array, Array]:
    """Return kernel and bias of the gates, then of the candidate; see `from_tensorflow_gru`."""
    theirs = _all_reordered(tensors, OURS[3], TENSORFLOW[3])
    kernel = np.hstack([theirs["weight_ih"], theirs["weight_hh"]]).T
    bias = theirs["bias_ih"] + theirs["bias_hh"]
    at = 2 * len(bias) // 3
    return kernel[:, :at], bias[:at], kernel[:, at:], bias[at:]


# ONNX ---------------------------------------------------------------------------------------------


def from_onnx(w: Array, r: Array, b: Array | None = None, p: Array | None = None) -> Tensors:
    """Return one direction of RNN, GRU or LSTM in ONNX: ``W[0]``, ``R[0]``, ``B[0]``, ``P[0]``.

    Of a GRU ``linear_before_reset=1`` is our ``reset_after=True``; the tensors are the same.

    Parameters
    ----------
    w : array, (G*H, I)
    r : array, (G*H, H)
    b : array, (2*G*H,), optional
        Of the input, then of h.
    p : array, (3*H,), optional
        Peepholes of an LSTM, i o f.
    """
    num_gates = _num_gates("R", r)
    _expect("W", w, (len(r), -1))
    found = {"weight_ih": w, "weight_hh": r}
    if b is not None:
        _expect("B", b, (2 * len(r),))
        found |= _biases(*np.split(b, 2))
    found = _all_reordered(found, ONNX[num_gates], OURS[num_gates])
    if p is not None:
        _expect("P", p, (3 * r.shape[1],))
        found |= {
            f"peephole_{gate}": part for gate, part in zip("iof", np.split(p, 3), strict=True)
        }
    return found


def to_onnx(tensors: Mapping[str, Array]) -> tuple[Array | None, ...]:
    """Return W, R, B and P of one direction, None for what there is not; see `from_onnx`."""
    num_gates = _num_gates_of(tensors)
    peepholes = [tensors[f"peephole_{gate}"] for gate in "iof" if f"peephole_{gate}" in tensors]
    theirs = _all_reordered(tensors, OURS[num_gates], ONNX[num_gates])
    biases = [theirs[name] for name in ("bias_ih", "bias_hh") if name in theirs]
    return (
        theirs["weight_ih"],
        theirs["weight_hh"],
        np.concatenate(biases) if biases else None,
        np.concatenate(peepholes) if peepholes else None,
    )


# cuDNN --------------------------------------------------------------------------------------------


def from_cudnn(params: Array, num_gates: int, input_size: int, hidden_size: int) -> Tensors:
    """Return the weight space of cuDNN of one layer in one direction.

    All matrices of the input (H, I), those of h (H, H), the biases of the input, those of h; each
    in the order of `CUDNN`, nothing padded. cudnnGetRNNWeightParams, CUDNN_RNN_DOUBLE_BIAS or
    CUDNN_RNN_NO_BIAS. Our GRU has ``reset_after=True``.

    Parameters
    ----------
    params : array, (G*H*I + G*H*H + 2*G*H,), or without the biases
    num_gates : int
        1 for an RNN, 3 for a GRU, 4 for an LSTM.
    """
    if num_gates not in CUDNN:
        raise WeightsError(f"num_gates is {num_gates}, expected 1, 3 or 4")
    gates = num_gates * hidden_size
    sizes = [gates * input_size, gates * hidden_size, gates, gates]
    if params.shape == (sum(sizes[:2]),):
        sizes = sizes[:2]
    _expect("params", params, (sum(sizes),))
    w, r, *biases = np.split(params, np.cumsum(sizes)[:-1])
    found = {"weight_ih": w.reshape(gates, input_size), "weight_hh": r.reshape(gates, hidden_size)}
    found |= _biases(*biases) if biases else {}
    return _all_reordered(found, CUDNN[num_gates], OURS[num_gates])


def to_cudnn(tensors: Mapping[str, Array]) -> Array:
    """Return the weight space of one layer in one direction; see `from_cudnn`."""
    num_gates = _num_gates_of(tensors)
    theirs = _all_reordered(tensors, OURS[num_gates], CUDNN[num_gates])
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return np.concatenate([theirs[name].ravel() for name in names if name in theirs])


# Parts --------------------------------------------------------------------------------------------


def _num_gates(name: str, weight_hh: Array) -> int:
    """Return how many gates a matrix (G*H, H) is of."""
    rows, size = weight_hh.shape if weight_hh.ndim == 2 else (0, 0)
    num_gates, rest = divmod(rows, size) if size else (0, 0)
    if rest or num_gates not in OURS:
        raise WeightsError(f"{name} has shape {weight_hh.shape}, expected 1, 3 or 4 square blocks")
    return num_gates


def _num_gates_of(tensors: Mapping[str, Array]) -> int:
    """Return how many gates our tensors are of, or raise if they are not those of one direction."""
    missing = [name for name in ("weight_ih", "weight_hh") if name not in tensors]
    if missing:
        raise WeightsError(f"{' and '.join(missing)} missing, found {', '.join(tensors) or 'none'}")
    num_gates = _num_gates("weight_hh", tensors["weight_hh"])
    _expect("weight_ih", tensors["weight_ih"], (len(tensors["weight_hh"]), -1))
    return num_gates


def _expect(name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raise a `WeightsError` unless an array has a shape, -1 for any length."""
    fits = array.ndim == len(shape) and all(
        size in (-1, found) for size, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        found = array.shape if array.ndim == len(shape) else ("I",) * len(shape)
        sizes = [str(f if size == -1 else size) for size, f in zip(shape, found, strict=True)]
        expected = f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
        raise WeightsError(f"{name} has shape {array.shape}, expected {expected}")


def _biases(of_input: Array, of_h: Array | None = None) -> Tensors:
    return {"bias_ih": of_input, "bias_hh": np.zeros_like(of_input) if of_h is None else of_h}


def _all_reordered(tensors: Mapping[str, Array], source: str, target: str) -> Tensors:
    """Return the tensors that have rows for each gate in another order."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {name: reordered(tensors[name], source, target) for name in names if name in tensors}
