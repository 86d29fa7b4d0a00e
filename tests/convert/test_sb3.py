"""Policies of sb3-contrib: files as `RecurrentPPO.save` and `VecNormalize.save` write them."""

import base64
import io
import json
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from numlstm import WeightsError
from numlstm.model import Model
from tests.cases import TOLERANCES
from tests.convert.payloads import Bomb
from tests.lazy import Lazy, nn, torch

modules = Lazy("tests.convert.modules")
sb3 = Lazy("numlstm.convert.torch.sb3")


def box(size: int, name: str = "gymnasium") -> dict:
    """Return a Box as the JSON has it: a pickle, and beside it what is in it, as text."""
    return {
        ":type:": f"<class '{name}.spaces.box.Box'>",
        ":serialized:": "gASVKAAAAA==",
        "_shape": [size],
        "dtype": "float32",
        "low": str(np.linspace(-2, -1, size, dtype=np.float32)),
        "high": str(np.full(size, np.inf, np.float32)),
    }


def discrete(n: int) -> dict:
    return {":type:": "<class 'gymnasium.spaces.discrete.Discrete'>", "n": str(n), "_shape": []}


def several(*nvec: int) -> dict:
    kind = "<class 'gymnasium.spaces.multi_discrete.MultiDiscrete'>"
    return {":type:": kind, "nvec": str(np.array(nvec)), "_shape": [len(nvec)]}


def of_parts(**sizes: int) -> dict:
    """Return a Dict of vectors; bounds that differ are arrays, of which many are cut short."""
    bounds = ("-1.0, 1.0", "[-2. -1.], [1. 2.]", "[0. 0. ...\n 0.], [inf inf ...\n inf]")
    spaces = ", ".join(
        f"'{name}': Box({bounds[n % 3]}, ({size},), float32)"
        for n, (name, size) in enumerate(sizes.items())
    )
    return {
        ":type:": "<class 'gymnasium.spaces.dict.Dict'>",
        "sort_keys": True,
        "spaces": f"{{{spaces}}}",
        "_shape": None,
    }


def save(path: Path, policy, observations=None, actions=None, packing=zipfile.ZIP_STORED, **data):
    """Write the .zip of a policy; further words are entries of its JSON."""
    tensors = io.BytesIO()
    state = policy if isinstance(policy, dict) else policy.state_dict()
    torch.save(state, tensors)
    entries = {
        "policy_kwargs": {},
        "observation_space": observations or box(3),
        "action_space": actions or discrete(4),
        **data,
    }
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("data", json.dumps(entries))
        archive.writestr("policy.pth", tensors.getvalue())
    return path


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"net": (), "layers": 2},
        {"net": (7, 6, 5), "critic": "linear"},
        {"critic": "shared"},
    ],
    ids=str,
)
def test_actor_and_critic_are_those_of_the_policy(tmp_path, options, packing):
    torch.manual_seed(0)
    policy = modules.Policy(**options)
    saved = sb3.convert(save(tmp_path / "policy.zip", policy, packing=packing))
    xs = torch.randn(20, 3)
    for weights, expected in zip((saved.actor, saved.critic), policy(xs), strict=True):
        TOLERANCES["output"].check(Model(weights).run(xs.numpy()), expected)
    assert (saved.activation, saved.notes, saved.normalizer) == ("Tanh", (), None)


def test_the_activation_is_read_from_its_text(tmp_path):
    torch.manual_seed(0)
    policy = modules.Policy(activation=nn.ELU())
    text = "<class 'torch.nn.modules.activation.ELU'>"
    options = {":type:": "<class 'dict'>", ":serialized:": "", "activation_fn": text}
    saved = sb3.convert(save(tmp_path / "policy.zip", policy, policy_kwargs=options))
    xs = torch.randn(20, 3)
    TOLERANCES["output"].check(Model(saved.actor).run(xs.numpy()), policy(xs)[0])
    assert saved.activation == "ELU"


def test_an_activation_that_is_only_a_pickle_is_assumed_and_said(tmp_path):
    options = {":type:": "<class 'dict'>", ":serialized:": ""}
    saved = sb3.convert(save(tmp_path / "policy.zip", modules.Policy(), policy_kwargs=options))
    assert saved.notes == ("the activation is not said as text; Tanh, the default, is assumed",)


def test_observations_that_are_numbers_go_in_one_hot(tmp_path):
    torch.manual_seed(0)
    policy = modules.Policy()
    saved = sb3.convert(save(tmp_path / "policy.zip", policy, discrete(3)))
    ids = np.array([0, 2, 1, 1, 0], np.int32)
    expected, _ = policy(torch.eye(3)[ids])
    TOLERANCES["output"].check(Model(saved.actor).run(ids), expected)


def test_spaces_are_read_from_their_texts(tmp_path):
    path = tmp_path / "policy.zip"
    saved = sb3.convert(save(path, modules.Policy(), box(3, "gym"), several(1, 3)))
    assert (saved.observations.kind, saved.observations.shape) == ("Box", (3,))
    assert (saved.actions.kind, saved.actions.shape) == ("MultiDiscrete", (2,))
    assert saved.actions.sizes == (1, 3)
    binary = {":type:": "<class 'gymnasium.spaces.multi_binary.MultiBinary'>", "_shape": [4]}
    assert sb3.convert(save(path, modules.Policy(), box(3), binary)).actions.shape == (4,)


def test_vectors_by_name_are_read_in_their_order(tmp_path):
    path, policy = tmp_path / "policy.zip", modules.Policy()
    saved = sb3.convert(save(path, policy, of_parts(goal=1, at=1, far=1)))
    assert [tuple(each) for each in saved.actor.inputs] == [("goal", 1), ("at", 1), ("far", 1)]
    older = {"spaces": "OrderedDict([('goal', Box(-1.0, 1.0, (1,), float32)), "
             "('at', Box(-1.0, 1.0, (2,), float32))])"}  # fmt: skip
    saved = sb3.convert(save(path, policy, of_parts(a=1) | older))
    assert [tuple(each) for each in saved.actor.inputs] == [("goal", 1), ("at", 2)]


def test_bounds_of_many_observations_are_cut_short_and_not_needed(tmp_path):
    space = {**box(3), "low": str(np.zeros(2000, np.float32)), "high": "[1. 1. ... 1.]"}
    saved = sb3.convert(save(tmp_path / "policy.zip", modules.Policy(), space))
    assert saved.observations.shape == (3,)


@pytest.mark.parametrize("squash", [True, False])
def test_continuous_actions_have_a_deviation_and_may_be_squashed(tmp_path, squash):
    state = {**modules.Policy().state_dict(), "log_std": torch.tensor([-1.0, 0.5, 0.0, 2.0])}
    options = {"squash_output": squash}
    saved = sb3.convert(save(tmp_path / "a.zip", state, None, box(4), policy_kwargs=options))
    assert saved.squash is squash
    assert saved.log_std.tolist() == [-1.0, 0.5, 0.0, 2.0]
    noise = {**state, "log_std": torch.zeros(6, 4)}  # depends on the state
    assert sb3.convert(save(tmp_path / "a.zip", noise, None, box(4))).log_std is None


# What is refused ----------------------------------------------------------------------------------


def _policy(name):
    if name == "no LSTM":
        return {"action_net.weight": torch.zeros(4, 3)}
    state = modules.Policy().state_dict()
    return state | ({"features_extractor.cnn.0.weight": torch.ones(1)} if name == "image" else {})


@pytest.mark.parametrize(
    ("policy", "data", "words"),
    [
        ("no LSTM", {}, "is no recurrent policy: it holds no lstm_actor"),
        ("image", {}, "has tensors that an MlpLstmPolicy has not: features_extractor.cnn.0.weight"),
        (
            None,
            {"observation_space": of_parts() | {"spaces": "{'a': Box(0, 255, (3, 8, 8), uint8)}"}},
            "observation_space is a Dict of {'a': Box(0, 255, (3, 8, 8), uint8)}, expected a Box "
            "with one axis for each; run policy.features_extractor beside it, and convert what "
            "reads the features: from_torch(policy.lstm_actor, policy.mlp_extractor.policy_net, "
            "policy.action_net)",
        ),
        (
            None,
            {"observation_space": of_parts(a=3, b=2)},
            "it reads 3 features, its observations are {'a': 3, 'b': 2} numbers",
        ),
        (
            None,
            {"observation_space": {":type:": "<class 'gymnasium.spaces.text.Text'>"}},
            "observation_space is a Text, expected Box, Discrete or MultiBinary",
        ),
        (
            None,
            {"observation_space": {**box(3), "_shape": [3, 36, 36], "dtype": "uint8"}},
            "its observations are images (3, 36, 36), which other layers read first; run policy.",
        ),
        (None, {"action_space": None}, "its action_space is not said"),
        (None, {"action_space": discrete(0)}, "action_space is 0, expected numbers from 1 up"),
        (
            None,
            {"action_space": {**box(4), "low": "[0. ... 1.]"}},
            "low of action_space is [0. ... 1.], expected (4,) numbers",
        ),
        (
            None,
            {"policy_kwargs": {"activation_fn": "<class 'mine.Sine'>"}},
            "activation_fn is <class 'mine.Sine'>, expected one of torch.nn: Tanh",
        ),
    ],
)  # fmt: skip
def test_what_is_refused_and_in_which_words(tmp_path, policy, data, words):
    path = save(tmp_path / "policy.zip", _policy(policy), **data)
    with pytest.raises(WeightsError) as error:
        sb3.convert(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


def test_another_zip_says_what_is_missing(tmp_path):
    path = tmp_path / "policy.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "")
    with pytest.raises(WeightsError, match=r"holds policy.pth and data; here are a\.txt"):
        sb3.convert(path)


def test_a_damaged_policy_is_refused_or_still_one(tmp_path):
    path = save(tmp_path / "policy.zip", modules.Policy())
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 25):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with suppress(WeightsError):
            sb3.convert(path)
        path.write_bytes(whole[:at])
        with pytest.raises(WeightsError):
            sb3.convert(path)


# The normaliser -----------------------------------------------------------------------------------


class RunningMeanStd:
    def __init__(self, mean, var):
        self.mean, self.var, self.count = mean, var, 3.0


class VecNormalize:
    def __init__(self, **attributes):
        vars(self).update(clip_obs=10.0, epsilon=1e-8, norm_obs=True, **attributes)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", ["<f8", ">f4"])
def test_a_normaliser_is_read_as_data(tmp_path, protocol, dtype):
    path = tmp_path / "vec.pkl"
    moments = RunningMeanStd(np.array([1, 2, -3], dtype), np.array([4, 0.25, 1], dtype))
    wrapper = VecNormalize(obs_rms=moments, other=np.float64(3))
    path.write_bytes(pickle.dumps(wrapper, protocol))
    policy = save(tmp_path / "policy.zip", modules.Policy())
    found = sb3.convert(policy, normalizer=path).normalizer
    assert found.mean.tolist() == [1, 2, -3]
    assert found.var.tolist() == [4, 0.25, 1]
    assert (found.epsilon, found.clip) == (1e-8, 10.0)


@pytest.mark.parametrize(
    ("wrapper", "words"),
    [
        ([1], "is not what VecNormalize.save writes"),
        (VecNormalize(), "is not what VecNormalize.save writes"),
        (
            VecNormalize(obs_rms={"a": 1}),
            "normalises observations by their keys, expected one array; join obs_rms[name].mean "
            "and .var in the order of policy.model.inputs, for numlstm.policy.normalized("
            "policy.model, mean, var)",
        ),
        (VecNormalize(obs_rms=RunningMeanStd(None, None)), "has something else where an array"),
        (
            VecNormalize(obs_rms=RunningMeanStd(np.array([object()]), np.ones(1))),
            "has an array of O8, expected numbers",
        ),
        (VecNormalize(obs_rms=RunningMeanStd(np.ones(3), -np.ones(3))), "normalises nothing"),
        (VecNormalize(obs_rms=RunningMeanStd(np.ones(2), np.ones(2))), "observations of (2,)"),
    ],
)
def test_what_normalises_nothing_is_refused(tmp_path, wrapper, words):
    path = tmp_path / "vec.pkl"
    path.write_bytes(pickle.dumps(wrapper))
    with pytest.raises(WeightsError) as error:
        sb3.convert(save(tmp_path / "policy.zip", modules.Policy()), normalizer=path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


# Code ---------------------------------------------------------------------------------------------


def test_the_pickles_of_a_policy_are_not_run(tmp_path):
    bomb = Bomb(tmp_path / "proof")
    blob = base64.b64encode(pickle.dumps(bomb)).decode()
    data = {
        "policy_class": {":type:": "<class 'abc.ABCMeta'>", ":serialized:": blob},
        "policy_kwargs": {":type:": "<class 'dict'>", ":serialized:": blob},
        "observation_space": {**box(3), ":serialized:": blob},
        "action_space": {**discrete(4), ":serialized:": blob},
    }
    policy = save(tmp_path / "policy.zip", modules.Policy(), **data)
    path = tmp_path / "vec.pkl"
    moments = RunningMeanStd(np.zeros(3), np.ones(3))
    path.write_bytes(pickle.dumps(VecNormalize(obs_rms=moments, venv=bomb)))
    assert sb3.convert(policy, normalizer=path).normalizer.mean.tolist() == [0, 0, 0]
    path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(WeightsError, match="is not what VecNormalize"):
        sb3.convert(policy, normalizer=path)
    assert not bomb.target.exists()
