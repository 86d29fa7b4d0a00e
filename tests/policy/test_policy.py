"""Policies: the words of Stable-Baselines3, held to a reference that knows no pool."""

import copy
import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import numlstm
from numlstm import policy, reference
from numlstm.policy import Box, Discrete, MultiBinary, MultiDiscrete, RecurrentPolicy
from numlstm.spec import GRU, LSTM, BatchNorm, Embedding, Linear, Network
from tests.cases import assert_same_bits, random_weights
from tests.convert import test_sb3
from tests.lazy import Lazy, torch

modules = Lazy("tests.convert.modules")

NUM_STEPS, NUM_ENVS, INPUT_SIZE = 30, 3, 4
NETWORK = Network((LSTM(INPUT_SIZE, 8), Linear(8, 6, activation="relu"), Linear(6, 5)))


def model_of(network=NETWORK, **about):
    return numlstm.Model(replace(random_weights(network), **about))


def observations(seed=0):
    generator = np.random.default_rng(seed)
    obs = generator.standard_normal((NUM_STEPS, NUM_ENVS, INPUT_SIZE)).astype(np.float32)
    starts = generator.random((NUM_STEPS, NUM_ENVS)) < 0.2
    starts[0] = False
    return obs, starts


def answers(model, obs, starts):
    """The numbers of each environment by `reference`: an episode is a sequence of its own."""
    ys = np.zeros((*obs.shape[:2], model.output_size))
    weights = model.weights
    for env in range(obs.shape[1]):
        begins = [0, *np.flatnonzero(starts[:, env]).tolist(), len(obs)]
        for start, stop in pairwise(begins):
            if start < stop:
                found, _ = reference.run(weights.network, weights.tensors, obs[start:stop, env])
                ys[start:stop, env] = found
    return ys


SPACES = {
    "discrete": (Discrete(5), lambda ys: ys.argmax(-1)),
    "multi-discrete": (
        MultiDiscrete([2, 3]),
        lambda ys: np.stack([ys[..., :2].argmax(-1), ys[..., 2:].argmax(-1)], -1),
    ),
    "multi-binary": (MultiBinary(5), lambda ys: (ys > 0).astype(int)),
    "box": (Box([-0.1] * 5, [0.2] * 5), lambda ys: ys.clip(-0.1, 0.2)),
    "unbounded": (Box([-np.inf] * 5, [np.inf] * 5), lambda ys: ys),
    "squashed": (Box([0] * 5, [4] * 5, squash=True), lambda ys: 2 + 2 * np.tanh(ys)),
}


@pytest.mark.parametrize("name", SPACES)
def test_actions_are_those_of_the_equations_with_resets(name):
    space, expected_of = SPACES[name]
    model, (obs, starts) = model_of(), observations()
    expected = expected_of(answers(model, obs, starts))
    actor, state, found = RecurrentPolicy(model, space), None, []
    for x, start in zip(obs, starts, strict=True):
        action, state = actor.predict(x, state, start)
        found.append(action)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_one_environment_has_no_axis():
    model, (obs, _) = model_of(), observations()
    actor, other = RecurrentPolicy(model, Discrete(5)), RecurrentPolicy(model, Discrete(5))
    state = state_of_many = None
    for x in obs[:, 0]:
        action, state = actor.predict(x, state)
        actions, state_of_many = other.predict(x[None], state_of_many)
        assert action.shape == ()
        assert actions.shape == (1,)
        assert action == actions[0]
    assert_same_bits(state, state_of_many)


def test_a_state_is_a_value():
    """It is not changed, goes on from where it was as often as asked, and cannot be written."""
    actor, (obs, _) = RecurrentPolicy(model_of(), Box([-9] * 5, [9] * 5)), observations()
    _, first = actor.predict(obs[0])
    before = first.copy()
    action, second = actor.predict(obs[1], first)
    actor.predict(obs[2], second)
    again, other = actor.predict(obs[1], first)
    assert_same_bits(action, again)
    assert_same_bits(second, other)
    assert_same_bits(first, before)
    for state in (first, second):
        with pytest.raises(ValueError, match="WRITEABLE"):
            state.flags.writeable = True
    of_elsewhere, _ = RecurrentPolicy(actor.model, actor.actions).predict(obs[1], before)
    assert_same_bits(of_elsewhere, action)


def test_without_a_state_it_begins_anew():
    actor, (obs, _) = RecurrentPolicy(model_of(), Box([-9] * 5, [9] * 5)), observations()
    action, state = actor.predict(obs[0])
    actor.predict(obs[1], state)
    assert_same_bits(actor.predict(obs[0])[0], action)
    assert_same_bits(actor.predict(obs[0], state, np.ones(NUM_ENVS))[0], action)
    assert_same_bits(actor.predict(obs[0], state, [True, True, True])[0], action)


def test_the_number_of_environments_may_change():
    actor, (obs, _) = RecurrentPolicy(model_of(), Discrete(5)), observations()
    _, three = actor.predict(obs[0])
    _, one = actor.predict(obs[0, 1], three[1:2])
    _, again = actor.predict(obs[0], three)
    assert_same_bits(one, again[1:2])
    actions, none = actor.predict(obs[0, :0])
    assert actions.shape == (0,)
    assert len(none) == 0


REFUSED = {
    "NaN": ({"observation": [[np.nan] * 4] * 3}, ValueError, r"observation\[0, 0\] is nan"),
    "too wide": ({"observation": np.zeros((3, 5))}, ValueError, "observation has shape"),
    "a dict": ({"observation": {"image": 0}}, TypeError, "join its arrays"),
    "words": ({"observation": [["a"] * 4] * 3}, TypeError, "expected float32"),
    "starts of others": ({"episode_start": [True]}, ValueError, r"expected \(3,\)"),
    "starts of half": ({"episode_start": [0.5, 0, 0]}, TypeError, "True or False"),
    "starts of NaN": ({"episode_start": [np.nan, 0, 0]}, TypeError, "True or False"),
    "a state of another": ({"state": np.zeros((3, 2), np.float32)}, ValueError, "a stream keeps"),
    "a state of two": ({"state": np.zeros((2, 16), np.float32)}, ValueError, "for 3 slots"),
    "a state of NaN": (
        {"state": np.full((3, model_of().stream().kept.size), np.nan, np.float32)},
        ValueError,
        "no stream of this model",
    ),
    "h and c": (
        {"state": (np.zeros((1, 3, 8)), np.zeros((1, 3, 8)))},
        ValueError,
        "kept has shape",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_changes_nothing(what):
    options, error, words = REFUSED[what]
    actor, (obs, starts) = RecurrentPolicy(model_of(), Discrete(5)), observations()
    _, state = actor.predict(obs[0])
    twin = RecurrentPolicy(actor.model, actor.actions)
    given = {"observation": obs[1], "state": state, "episode_start": starts[1]} | options
    with pytest.raises(error, match=words):
        actor.predict(**given)
    action, after = actor.predict(obs[1], state, starts[1])
    expected, expected_after = twin.predict(obs[1], state, starts[1])
    assert_same_bits(after, expected_after)
    np.testing.assert_array_equal(action, expected)


def test_an_overflow_leaves_the_state_where_it_was():
    network = Network(
        (
            LSTM(INPUT_SIZE, 8, name="lstm"),
            Linear(INPUT_SIZE + 8, 5, inputs=("input", "lstm"), activation="exp"),
        )
    )
    actor, (obs, _) = RecurrentPolicy(model_of(network), Discrete(5)), observations()
    _, state = actor.predict(obs[0])
    with pytest.raises(ValueError, match="overflow"):
        actor.predict(1e6 * obs[1], state, np.ones(NUM_ENVS))
    _, after = actor.predict(obs[1], state)
    assert_same_bits(after, RecurrentPolicy(actor.model, Discrete(5)).predict(obs[1], state)[1])


DRAWN = {
    "discrete": (Discrete(3), [1.0, 0.0, -1.0], lambda p: p / p.sum()),
    "multi-binary": (MultiBinary(3), [1.0, 0.0, -1.0], lambda p: p / (1 + p)),
}


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_actions_have_the_probabilities_of_the_logits(name):
    space, logits, shares_of = DRAWN[name]
    found = space.drawn(np.tile(np.float32(logits), (40_000, 1)), np.random.default_rng(0))
    shares = np.bincount(found) / len(found) if found.ndim == 1 else found.mean(0)
    np.testing.assert_allclose(shares, shares_of(np.exp(logits)), atol=0.01)


def test_drawn_numbers_have_the_mean_and_the_deviation():
    space = Box([-np.inf] * 2, [np.inf] * 2, log_std=[np.log(0.5), np.log(2)])
    found = space.drawn(np.tile(np.float32([3, -1]), (40_000, 1)), np.random.default_rng(0))
    np.testing.assert_allclose(found.mean(0), [3, -1], atol=0.05)
    np.testing.assert_allclose(found.std(0), [0.5, 2], atol=0.05)


def test_actions_have_the_shape_of_their_bounds():
    space = Box(-np.ones((2, 2)), np.ones((2, 2)), log_std=np.zeros((2, 2)))
    ys = np.float32([[0.1, -3, 0.2, 3]])
    np.testing.assert_array_equal(space.likeliest(ys), np.float32([[[0.1, -1], [0.2, 1]]]))
    assert space.drawn(ys, np.random.default_rng(0)).shape == (1, 2, 2)


def test_a_seed_says_what_is_drawn():
    obs, _ = observations()
    first, second = (
        RecurrentPolicy(model_of(), Discrete(5), seed=3).predict(x, deterministic=False)[0]
        for x in (obs[0], obs[0])
    )
    np.testing.assert_array_equal(first, second)


SPACES_REFUSED = {
    "no action": (lambda: Discrete(0), "expected 1 action"),
    "no choice": (lambda: MultiDiscrete([]), "nvec is empty"),
    "low above high": (lambda: Box([1], [0]), "must be below"),
    "bounds of other shapes": (lambda: Box([0, 0], [1]), "must be below"),
    "squashed without bounds": (lambda: Box([-np.inf], [np.inf], squash=True), "finite bounds"),
    "NaN": (lambda: Box([np.nan], [1]), "none of them NaN"),
    "other numbers": (lambda: RecurrentPolicy(model_of(), Discrete(4)), "needs 4 numbers"),
    "nothing to draw by": (
        lambda: RecurrentPolicy(model_of(), Box([-1] * 5, [1] * 5)).predict(
            [0, 0, 0, 0], deterministic=False
        ),
        "log_std",
    ),
}


@pytest.mark.parametrize("what", SPACES_REFUSED)
def test_what_no_policy_is_made_of(what):
    make, words = SPACES_REFUSED[what]
    with pytest.raises(ValueError, match=words):
        make()


def test_the_action_is_an_output_by_its_name():
    parts = {"outputs": (("value", 2), ("logits", 3))}
    model = model_of(**parts)
    chosen = RecurrentPolicy(model, Discrete(3))
    ys = model_of().run(np.zeros((1, 4)))
    action, _ = chosen.predict(np.zeros(4))
    assert action == ys[0, 2:].argmax()
    twice = model_of(outputs=(("logits", 2), ("value", 2), ("rest", 1)))
    with pytest.raises(ValueError, match="choose one by output="):
        RecurrentPolicy(twice, Discrete(2))
    action, _ = RecurrentPolicy(twice, Discrete(2), output="value").predict(np.zeros(4))
    assert action == ys[0, 2:4].argmax()
    with pytest.raises(ValueError, match="output 'values'"):
        RecurrentPolicy(twice, Discrete(2), output="values")


def test_tokens_are_observations_too():
    model = model_of(Network((Embedding(7, 4), GRU(4, 6), Linear(6, 3))))
    actor = RecurrentPolicy(model, Discrete(3))
    action, state = actor.predict(2)
    actions, _ = actor.predict([2, 5])
    assert action == actions[0] == model.run([2])[0].argmax()
    with pytest.raises(ValueError, match="outside"):
        actor.predict(7, state)


def test_observations_of_several_axes_are_read_in_their_order():
    model, xs = model_of(), observations()[0][0]
    action, _ = RecurrentPolicy(model, Box([-9] * 5, [9] * 5), shape=(2, 2)).predict(
        xs.reshape(-1, 2, 2)
    )
    expected, _ = RecurrentPolicy(model, Box([-9] * 5, [9] * 5)).predict(xs)
    assert_same_bits(action, expected)
    with pytest.raises(ValueError, match="the model reads 4 numbers"):
        RecurrentPolicy(model, Discrete(5), shape=(2, 3))


def test_a_normalized_model_is_what_vecnormalize_gives():
    model, (obs, _) = model_of(), observations()
    mean, var = np.float32([1, -2, 0, 3]), np.float32([4, 0.25, 1e-6, 9])
    xs = obs[:, 0] * 3 + 1
    expected = model.run(np.clip((xs - mean) / np.sqrt(var + 1e-8), -2, 2))
    found = policy.normalized(model, mean, var, clip=2)
    assert isinstance(found.network.layers[0], BatchNorm)
    np.testing.assert_allclose(found.run(xs), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="var has shape"):
        policy.normalized(model, mean, var[:2])
    with pytest.raises(ValueError, match="negative"):
        policy.normalized(model, mean, -var)


def test_a_copy_is_refused_as_a_pool_is():
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        copy.deepcopy(RecurrentPolicy(model_of(), Discrete(5)))


# From Stable-Baselines3 ---------------------------------------------------------------------------


def outputs_of(saved, xs):
    """What the modules make of a sequence (T, 3), by PyTorch."""
    return saved(torch.from_numpy(xs))[0]


@pytest.mark.parametrize("squash", [True, False])
def test_a_saved_policy_acts_within_its_bounds_on_what_it_normalizes(tmp_path, squash):
    torch.manual_seed(0)
    saved = modules.Policy()
    state = saved.state_dict() | {"log_std": torch.zeros(4)}
    space = test_sb3.box(4) | {"high": "[1. 1. 1. 1.]"}
    moments = test_sb3.RunningMeanStd(np.array([1.0, 2, -3]), np.array([4, 0.25, 1]))
    (tmp_path / "vec.pkl").write_bytes(pickle.dumps(test_sb3.VecNormalize(obs_rms=moments)))
    path = test_sb3.save(
        tmp_path / "a.zip", state, None, space, policy_kwargs={"squash_output": squash}
    )
    actor = policy.from_sb3(path, normalizer=tmp_path / "vec.pkl")
    xs = np.random.default_rng(0).normal(0, 8, (20, 3)).astype(np.float32)
    seen = np.clip((xs - moments.mean) / np.sqrt(moments.var + 1e-8), -10, 10)
    means = outputs_of(saved, seen.astype(np.float32))
    low = np.linspace(-2, -1, 4)
    expected = low + (np.tanh(means) + 1) / 2 * (1 - low) if squash else means.clip(low, 1)
    hidden, found = None, []
    for x in xs:
        action, hidden = actor.predict(x, hidden)
        found.append(action)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    actions, _ = actor.predict(xs, deterministic=False)
    assert ((actions >= np.float32(low)) & (actions <= 1)).all()


def test_a_saved_policy_of_actions_with_several_axes(tmp_path):
    torch.manual_seed(0)
    state = modules.Policy().state_dict() | {"log_std": torch.tensor([0.0, -1, -2, -20])}
    space = test_sb3.box(4) | {"_shape": [2, 2], "high": "[[1. 1.]\n [1. 1.]]"}
    actor = policy.from_sb3(test_sb3.save(tmp_path / "a.zip", state, None, space), seed=0)
    assert actor.actions.log_std.tolist() == [[0, -1], [-2, -20]]
    likeliest, _ = actor.predict(np.zeros(3))
    drawn, _ = actor.predict(np.zeros(3), deterministic=False)
    assert abs(drawn - likeliest)[1, 1] < 1e-6 < abs(drawn - likeliest)[0, 0]


def test_a_saved_policy_of_vectors_by_name(tmp_path):
    torch.manual_seed(0)
    path = test_sb3.save(tmp_path / "a.zip", modules.Policy(), test_sb3.of_parts(goal=2, at=1))
    actor = policy.from_sb3(path)
    xs = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    for rows in (xs, xs[0]):
        expected, after = actor.predict(rows)
        action, state = actor.predict({"at": rows[..., 2:], "goal": rows[..., :2]})
        np.testing.assert_array_equal(action, expected)
        np.testing.assert_array_equal(state, after)
    with pytest.raises(ValueError, match="the observation has at, the model reads goal, at"):
        actor.predict({"at": [1.0]})
    with pytest.raises(ValueError, match=r"goal has shape \(3,\)"):
        actor.predict({"at": [1.0], "goal": [1.0, 2, 3]})


def test_a_saved_policy_of_choices(tmp_path):
    saved = modules.Policy()
    path = test_sb3.save(tmp_path / "a.zip", saved, None, test_sb3.several(1, 3))
    actor = policy.from_sb3(path)
    assert actor.actions == MultiDiscrete([1, 3])
    xs = np.random.default_rng(0).standard_normal((1, 3)).astype(np.float32)
    assert actor.predict(xs)[0].tolist() == [[0, int(outputs_of(saved, xs)[0, 1:].argmax())]]
    binary = {":type:": "<class 'gymnasium.spaces.multi_binary.MultiBinary'>", "_shape": [4]}
    path = test_sb3.save(tmp_path / "b.zip", saved, None, binary)
    expected = (outputs_of(saved, xs) > 0).astype(np.int8)
    np.testing.assert_array_equal(policy.from_sb3(path).predict(xs)[0], expected)


def test_what_is_assumed_of_a_policy_is_said(tmp_path, caplog):
    options = {":type:": "<class 'dict'>", ":serialized:": ""}
    policy.from_sb3(test_sb3.save(tmp_path / "a.zip", modules.Policy(), policy_kwargs=options))
    assert "Tanh, the default, is assumed" in caplog.text
