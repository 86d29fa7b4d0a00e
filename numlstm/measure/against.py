"""The same steps by others, if they are installed and answer the same."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import WeightsError
from numlstm.measure.inputs import inputs
from numlstm.measure.times import percentiles, timed
from numlstm.model import Model
from numlstm.spec import GRU, LSTM, Embedding, Layer, Linear

_CHECKED = 16  # steps whose answers are compared
_TOLERANCE = 1e-3  # |y - expected| <= tolerance * (1 + |expected|)
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}

Step = Callable[[NDArray[Any]], NDArray[np.float32]]


def against_onnx(model: Model, path: str | os.PathLike[str], seconds: float) -> dict[str, Any]:
    """Return the percentiles of a step of ONNX Runtime, its state fed back, on one thread.

    Parameters
    ----------
    model : Model
        What the graph became.
    path : path
        The graph. Its first input takes the step; each other one is a state, which an output of its
        shape gives, in their order.
    seconds : float
        How long.

    Raises
    ------
    ImportError
        If onnxruntime is not installed.
    WeightsError
        If the graph takes something else, or answers something else than the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"a comparison needs onnxruntime: pip install onnxruntime ({error})"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of many kinds, none of them its own
        raise WeightsError(f"{os.fspath(path)}: ONNX Runtime cannot load it: {error}") from error
    found = _timed(model, _onnx_step(session, os.fspath(path)), "the graph", seconds)
    return found | {"version": onnxruntime.__version__}


def _onnx_step(session: Any, name: str) -> Step:
    """Return what takes a step by a session whose state is fed back."""
    first, *states = session.get_inputs()
    outputs = session.get_outputs()
    if not states:
        raise WeightsError(f"{name} has no inputs for its state: its steps cannot be taken alone")
    shapes = [[n if isinstance(n, int) else 1 for n in each.shape] for each in states]
    free = list(range(1, len(outputs)))
    fed: list[int] = []
    for state in states:
        fits = [n for n in free if len(outputs[n].shape) == len(state.shape)]
        if not fits:
            raise WeightsError(f"{name}: no output continues the input {state.name!r}")
        fed.append(fits[0])
        free.remove(fits[0])
    dtype = _TYPES.get(first.type)
    if dtype is None:
        raise WeightsError(f"{name}: its input is {first.type}, expected numbers or ids")
    one = [n if isinstance(n, int) else 1 for n in first.shape]
    kept = [
        np.zeros(shape, _TYPES.get(state.type, np.float32))
        for shape, state in zip(shapes, states, strict=True)
    ]

    def step(x: NDArray[Any]) -> NDArray[np.float32]:
        row = np.asarray(x, dtype)
        given = row.reshape([*one[:-1], -1] if row.ndim else one)
        feeds = {first.name: given}
        feeds |= {each.name: value for each, value in zip(states, kept, strict=True)}
        answers = session.run(None, feeds)
        kept[:] = [answers[n] for n in fed]
        return np.asarray(answers[0], np.float32).ravel()

    return step


def against_torch(model: Model, seconds: float) -> dict[str, Any]:
    """Return the percentiles of a step of PyTorch's modules with the same weights, on one thread.

    Raises
    ------
    ImportError
        If torch is not installed.
    WeightsError
        If the network is something else than embeddings, LSTM, GRU and linear layers in a row.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"a comparison needs torch: pip install torch ({error})") from error
    tensors = model.weights.tensors
    layers = []
    for name, layer in model.network.named_layers():
        own = {
            key.removeprefix(f"{name}."): torch.from_numpy(np.ascontiguousarray(value))
            for key, value in tensors.items()
            if key.startswith(f"{name}.")
        }
        layers.append(_torch_layer(layer, own))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    states: list[Any] = [None] * len(layers)

    def step(x: NDArray[Any]) -> NDArray[np.float32]:
        value = torch.as_tensor(x)[None]
        for n, module in enumerate(layers):
            if isinstance(module, torch.nn.RNNBase):
                value, states[n] = module(value, states[n])
            else:
                value = module(value)
        answer: NDArray[np.float32] = value[0].numpy()
        return answer

    try:
        with torch.inference_mode():
            found = _timed(model, step, "PyTorch", seconds)
    finally:
        torch.set_num_threads(threads)
    return found | {"version": torch.__version__}


def _torch_layer(layer: Layer, own: dict[str, Any]) -> Any:
    """Return a module with the weights of a layer."""
    import torch

    if isinstance(layer, LSTM | GRU) and layer.direction == "forward":
        kind = torch.nn.LSTM if isinstance(layer, LSTM) else torch.nn.GRU
        module: Any = kind(layer.input_size, layer.hidden_size, bias="bias_ih" in own)
        own = {f"{key}_l0": value for key, value in own.items()}
    elif isinstance(layer, Linear) and layer.activation is None:
        module = torch.nn.Linear(layer.input_size, layer.output_size, bias="bias" in own)
    elif isinstance(layer, Embedding):
        module = torch.nn.Embedding(layer.vocab_size, layer.output_size)
    else:
        raise WeightsError(f"{layer} is nothing that is compared with PyTorch")
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise WeightsError(f"{layer} is nothing that PyTorch has: {error}") from error
    return module.eval()


def _timed(model: Model, step: Step, name: str, seconds: float) -> dict[str, Any]:
    """Return percentiles of steps, of a network that answers what the model does."""
    xs = inputs(model, 64)
    expected = model.stream().run(xs[:_CHECKED])
    for n, y in enumerate(expected):
        try:
            found = step(xs[n])
        except Exception as error:  # whatever a framework raises of what it does not take
            raise WeightsError(f"{name} does not take the model's steps: {error}") from error
        if found.shape != y.shape:
            raise WeightsError(f"{name} answers {found.shape} numbers, the model {y.shape}")
        if not (np.abs(found - y) <= _TOLERANCE * (1 + np.abs(y))).all():
            raise WeightsError(
                f"{name} answers step {n} otherwise, by {np.abs(found - y).max():.1e}: it is "
                "another network"
            )
    return percentiles(timed(lambda n: step(xs[n % 64]), seconds))
