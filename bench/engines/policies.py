"""Recurrent policies of the same weights, run by each engine as its user runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import numlstm
from numlstm import LSTM, Linear, Network, policy
from tests.cases import random_weights

Floats = NDArray[np.float32]
# Observations (N, I) and which environments begin (N,) -> actions.
Predict = Callable[[Floats, NDArray[np.bool_]], NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """A policy: an LSTM, a linear layer with ReLU, the numbers of an action.

    squashes   continuous actions between -1 and 1, else the largest of logits
    """

    observation_size: int
    hidden_size: int
    linear_size: int
    action_size: int
    is_discrete: bool

    def __str__(self) -> str:
        kind = "actions" if self.is_discrete else "numbers between bounds"
        return (
            f"{self.observation_size} numbers, LSTM {self.hidden_size}, "
            f"Linear {self.linear_size}, {self.action_size} {kind}"
        )

    def weights(self) -> numlstm.Weights:
        hidden = Linear(self.hidden_size, self.linear_size, activation="relu")
        cell = LSTM(self.observation_size, self.hidden_size)
        return random_weights(Network((cell, hidden, Linear(self.linear_size, self.action_size))))

    def actions(self, ys: Floats) -> NDArray[Any]:
        """Return the actions of ys (N, action_size), as a user of another engine writes it."""
        return np.asarray(ys.argmax(1)) if self.is_discrete else ys.clip(-1, 1)


CASES = {
    "game": Case(8, 64, 64, 4, is_discrete=True),
    "robot": Case(48, 256, 128, 12, is_discrete=False),
}


def of_numlstm(case: Case) -> Predict:
    """Return `RecurrentPolicy.predict`."""
    bounds = np.ones(case.action_size, np.float32)
    space = policy.Discrete(case.action_size) if case.is_discrete else policy.Box(-bounds, bounds)
    actor = policy.RecurrentPolicy(numlstm.Model(case.weights()), space)
    state = None

    def predict(observations: Floats, starts: NDArray[np.bool_]) -> NDArray[Any]:
        nonlocal state
        actions, state = actor.predict(observations, state, starts)
        return actions

    return predict


def of_torch(case: Case) -> Predict:
    """Return modules in inference mode, their state as tensors."""
    import torch

    torch.set_num_threads(1)
    tensors = {name: torch.from_numpy(t) for name, t in case.weights().tensors.items()}
    cell = torch.nn.LSTM(case.observation_size, case.hidden_size)
    hidden = torch.nn.Linear(case.hidden_size, case.linear_size)
    head = torch.nn.Linear(case.linear_size, case.action_size)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict({f"{name}_l0": tensors[f"layers.0.{name}"] for name in names})
    for n, module in ((1, hidden), (2, head)):
        module.load_state_dict({name: tensors[f"layers.{n}.{name}"] for name in ("weight", "bias")})
    state: Any = None

    def predict(observations: Floats, starts: NDArray[np.bool_]) -> NDArray[Any]:
        nonlocal state
        if state is None:
            zeros = torch.zeros(1, len(observations), case.hidden_size)
            state = zeros, zeros
        goes_on = 1 - torch.from_numpy(starts.astype(np.float32))[None, :, None]
        with torch.inference_mode():
            before = tuple(goes_on * each for each in state)
            ys, state = cell(torch.from_numpy(observations)[None], before)
            numbers: Floats = head(hidden(ys[0]).relu()).numpy()
        return case.actions(numbers)

    return predict


def of_onnxruntime(case: Case) -> Predict:
    """Return a session with the state in and out, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _graph(case), options, providers=["CPUExecutionProvider"]
    )
    state: list[Floats] | None = None

    def predict(observations: Floats, starts: NDArray[np.bool_]) -> NDArray[Any]:
        nonlocal state
        if state is None:
            state = [np.zeros((1, len(observations), case.hidden_size), np.float32)] * 2
        goes_on = (~starts).astype(np.float32)[None, :, None]
        h, c = (goes_on * each for each in state)
        ys, *state = session.run(None, {"x": observations[None], "h": h, "c": c})
        return case.actions(ys[0])

    return predict


def _graph(case: Case) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    tensors = case.weights().tensors
    initial = {
        f"{kind}{n}": tensors[f"layers.{n}.{name}"]
        for n in (1, 2)
        for kind, name in (("w", "weight"), ("b", "bias"))
    }
    initial = {name: t.T if name.startswith("w") else t for name, t in initial.items()}

    def in_order(name: str) -> Floats:
        i, f, g, o = np.split(tensors[f"layers.0.{name}"], 4)
        return np.concatenate([i, o, f, g])[None]

    initial |= {"W": in_order("weight_ih"), "R": in_order("weight_hh")}
    initial["B"] = np.concatenate([in_order("bias_ih"), in_order("bias_hh")], 1)
    nodes = [
        helper.make_node(
            "LSTM", ["x", "W", "R", "B", "", "h", "c"], ["", "next_h", "next_c"],
            hidden_size=case.hidden_size,
        ),
        helper.make_node("MatMul", ["next_h", "w1"], ["p1"]),
        helper.make_node("Add", ["p1", "b1"], ["s1"]),
        helper.make_node("Relu", ["s1"], ["r1"]),
        helper.make_node("MatMul", ["r1", "w2"], ["p2"]),
        helper.make_node("Add", ["p2", "b2"], ["y"]),
    ]  # fmt: skip
    sizes = {"x": case.observation_size, "y": case.action_size}
    values = {
        name: helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [1, "envs", sizes.get(name, case.hidden_size)]
        )
        for name in ("x", "h", "c", "y", "next_h", "next_c")
    }
    graph = helper.make_graph(
        nodes,
        str(case),
        [values[name] for name in ("x", "h", "c")],
        [values[name] for name in ("y", "next_h", "next_c")],
        [numpy_helper.from_array(np.ascontiguousarray(t), name) for name, t in initial.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


ENGINES: dict[str, Callable[[Case], Predict]] = {
    "numlstm": of_numlstm,
    "ONNX Runtime": of_onnxruntime,
    "PyTorch": of_torch,
}
