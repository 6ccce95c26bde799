"""Models as Stable-Baselines3 and sb3_contrib save them act here as their own `predict` does, or are refused."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.core.errors import InputError
from puffer_il.rollout.policy_files import read_policy
from puffer_il.vector.make import find_creator

sb3 = pytest.importorskip("stable_baselines3")
contrib: Any = pytest.importorskip("sb3_contrib", reason="pip install sb3-contrib")
torch = pytest.importorskip("torch")

BOX = spaces.Box(-1, 1, (4,), np.float32)
ACTION = spaces.Box(np.float32([-2, -0.5]), np.float32([3, 0.5]))
THREE = spaces.Discrete(3)
DICT = spaces.Dict({"b": spaces.Box(-1, 1, (2, 2), np.float32), "a": spaces.Discrete(4),
                    "c": spaces.MultiDiscrete([2, 3])})
SCENE = spaces.Dict({"state": spaces.Box(-1, 1, (3,), np.float32), "eye": spaces.Box(0, 255, (36, 36, 3), np.uint8)})
SMALL = {"net_arch": [12, 7]}


class Toy(gymnasium.Env):
    """Random observations of any space."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


class Masked(Toy):
    def action_masks(self):
        return np.ones(self.action_space.n, bool)


def save(path, algo, policy, obs, action, seed=1, learn=0, wrap=lambda env: env, **options):
    """A model of random weights, and what it does with n observations."""
    family = {"n_steps": 8} if algo in ("PPO", "A2C", "TRPO", "MaskablePPO", "RecurrentPPO") else (
        {} if algo == "ARS" else {"buffer_size": 64, "learning_starts": 1000})
    if "policy_kwargs" in options:
        options["policy_kwargs"] = dict(options["policy_kwargs"])  # the library changes it
    made = getattr(sb3, algo, None) or getattr(contrib, algo)
    env = (Masked if algo == "MaskablePPO" else Toy)(obs, action)
    model = made(policy, wrap(env), device="cpu", seed=seed, **family, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, array in model.policy.state_dict().items():  # many are constants, or tiny, when they are new
            if array.is_floating_point() and "log_std" not in name:
                noise = torch.randn(array.shape, generator=generator)
                array.copy_(noise.abs() + 0.5 if "ra_var" in name else noise / array[0].numel() ** 0.5
                            if array.ndim > 1 else noise * 0.1 + ("scale" in name))
    if learn:
        model.learn(learn)
    if algo == "DQN":
        model.exploration_rate = 1.0
    model.save(path)
    return model


def read(path, obs, action):
    spec = find_creator(functools.partial(Toy, obs, action)).facts().spec
    return read_policy(path, spec), spec


def observations(space, count=1000):
    space.seed(3)
    many = [space.sample() for _ in range(count)]
    return {key: np.stack([one[key] for one in many]) for key in space} if isinstance(space, spaces.Dict) else (
        np.stack(many))


def check_same(path, model, obs, action, count=1000, normalise=lambda obs: obs, atol=2e-5):
    policy, spec = read(path, obs, action)
    seen = observations(obs, count)
    wanted, _ = model.predict(normalise(seen), deterministic=True)
    rows, _ = spec.pack(seen)
    actions, _ = policy.predict(rows, deterministic=True)
    np.testing.assert_allclose(spec.action.to_env(actions).reshape(wanted.shape), wanted, atol=atol)
    assert len(np.unique(wanted)) > 1  # the comparison could fail


@pytest.mark.parametrize(("algo", "policy", "obs", "action", "options"), [
    ("PPO", "MlpPolicy", BOX, ACTION, {"policy_kwargs": {"net_arch": {"pi": [9], "vf": [5, 5]}}}),
    ("PPO", "MlpPolicy", BOX, ACTION, {"use_sde": True, "policy_kwargs": {"squash_output": True}}),
    ("PPO", "MlpPolicy", BOX, ACTION, {"use_sde": True}),
    ("A2C", "MlpPolicy", spaces.Discrete(5), THREE, {"policy_kwargs": {"net_arch": []}}),
    ("TRPO", "MlpPolicy", spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([3, 2]), {}),
    ("PPO", "MlpPolicy", spaces.MultiBinary(6), spaces.MultiBinary(3), {}),
    ("PPO", "MultiInputPolicy", DICT, ACTION, {"policy_kwargs": SMALL}),
    ("SAC", "MlpPolicy", BOX, ACTION, {"policy_kwargs": SMALL | {"activation_fn": torch.nn.ELU}}),
    ("SAC", "MlpPolicy", BOX, ACTION, {"use_sde": True, "policy_kwargs": SMALL | {"clip_mean": 0.1}}),
    ("TD3", "MlpPolicy", BOX, ACTION, {"policy_kwargs": SMALL}),
    ("DDPG", "MlpPolicy", BOX, ACTION, {"policy_kwargs": SMALL}),
    ("DQN", "MlpPolicy", BOX, THREE, {"policy_kwargs": SMALL}),
    ("QRDQN", "MlpPolicy", BOX, THREE, {"policy_kwargs": SMALL | {"n_quantiles": 11}}),
    ("TQC", "MlpPolicy", BOX, ACTION, {"policy_kwargs": SMALL}),
    ("CrossQ", "MlpPolicy", BOX, ACTION, {"policy_kwargs": SMALL | {"batch_norm_eps": 0.1}}),
    ("ARS", "MlpPolicy", BOX, ACTION, {"policy_kwargs": SMALL}),
    ("ARS", "MlpPolicy", BOX, ACTION, {"policy_kwargs": SMALL | {"squash_output": False}}),
    ("ARS", "LinearPolicy", BOX, THREE, {}),
    ("ARS", "LinearPolicy", BOX, ACTION, {}),
])
def test_actions_are_those_of_the_librarys_predict_on_1000_observations(tmp_path, algo, policy, obs, action, options):
    model = save(tmp_path / "m.zip", algo, policy, obs, action, **options)
    check_same(tmp_path / "m.zip", model, obs, action)


@pytest.mark.parametrize(("policy", "obs", "options"), [
    ("CnnPolicy", spaces.Box(0, 255, (36, 36, 3), np.uint8), {}),
    ("CnnPolicy", spaces.Box(0, 255, (3, 36, 40), np.uint8), {}),
    ("CnnPolicy", spaces.Box(0, 255, (40, 36, 3), np.uint8), {"normalize_images": False}),
    ("MlpPolicy", spaces.Box(0, 255, (6, 5, 3), np.uint8), {}),
    ("MlpPolicy", spaces.Box(0, 1, (6, 5, 3), np.uint8), {}),
    ("MultiInputPolicy", SCENE, {}),
    ("CnnPolicy", spaces.Box(0, 255, (36, 36, 1), np.uint8), {"share_features_extractor": False}),
])
def test_images_are_turned_and_divided_as_in_training(tmp_path, policy, obs, options):
    model = save(tmp_path / "m.zip", "PPO", policy, obs, ACTION, policy_kwargs=options)
    check_same(tmp_path / "m.zip", model, obs, ACTION, count=100, atol=2e-4)  # those of 0 to 255 are large


def test_a_recurrent_policy_remembers_within_an_episode(tmp_path):
    model = save(tmp_path / "m.zip", "RecurrentPPO", "MlpLstmPolicy", BOX, ACTION,
                 policy_kwargs={"lstm_hidden_size": 9, "n_lstm_layers": 2})
    policy, spec = read(tmp_path / "m.zip", BOX, ACTION)
    assert not policy.memoryless
    rng = np.random.default_rng(0)
    own = theirs = None
    for step in range(200):
        obs, starts = rng.normal(size=(5, 4)).astype(np.float32), rng.random(5) < (1 if step == 0 else 0.1)
        wanted, theirs = model.predict(obs, theirs, starts, deterministic=True)
        actions, own = policy.predict(obs, own, starts, deterministic=True)
        np.testing.assert_allclose(spec.action.to_env(actions), wanted, atol=2e-5)


def test_samples_follow_the_librarys_distribution(tmp_path):
    for algo, action in (("SAC", ACTION), ("PPO", spaces.MultiBinary(3)), ("DQN", THREE)):
        model = save(tmp_path / "m.zip", algo, "MlpPolicy", BOX, action, policy_kwargs=SMALL)
        policy, spec = read(tmp_path / "m.zip", BOX, action)
        obs = np.repeat(observations(BOX, 1), 20_000, 0)
        if algo == "DQN":  # the library draws one number for the whole batch
            wanted = np.array([action.sample() for _ in obs])
        else:
            wanted, _ = model.predict(obs, deterministic=False)
        actions = spec.action.to_env(policy.predict(obs, deterministic=False)[0]).reshape(wanted.shape)
        np.testing.assert_allclose(actions.mean(0), wanted.mean(0), atol=0.03)
        np.testing.assert_allclose(actions.std(0), wanted.std(0), atol=0.03)


@pytest.mark.parametrize("keyed", [False, True])
def test_vecnormalize_statistics_are_read_beside_the_model(tmp_path, keyed):
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    obs = spaces.Dict({"far": spaces.Box(400, 600, (3,), np.float32), "near": BOX}) if keyed else spaces.Box(
        400, 600, (3,), np.float32)
    venv = VecNormalize(DummyVecEnv([functools.partial(Toy, obs, ACTION)] * 2), clip_obs=1.0, epsilon=0.1,
                        norm_obs_keys=["far"] if keyed else None)
    model = save(tmp_path / "m.zip", "PPO", "MultiInputPolicy" if keyed else "MlpPolicy", obs, ACTION, learn=100,
                 wrap=lambda env: venv)
    with pytest.raises(InputError, match=r"VecNormalize normalised.*env\.save\('vecnormalize\.pkl'\)"):
        read(tmp_path / "m.zip", obs, ACTION)
    venv.save(tmp_path / "vecnormalize.pkl")
    check_same(tmp_path / "m.zip", model, obs, ACTION, normalise=venv.normalize_obs)
    assert "vecnormalize.pkl" in read(tmp_path / "m.zip", obs, ACTION)[0].notices[0]
    (tmp_path / "vecnormalize.pkl").write_bytes(b"cos\nsystem\n(S'touch x'\ntR.")
    with pytest.raises(InputError, match=r"holds no statistics of VecNormalize"):
        read(tmp_path / "m.zip", obs, ACTION)


def test_rewards_alone_may_be_normalised(tmp_path):
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    venv = VecNormalize(DummyVecEnv([functools.partial(Toy, BOX, ACTION)]), norm_obs=False)
    model = save(tmp_path / "m.zip", "PPO", "MlpPolicy", BOX, ACTION, learn=100, wrap=lambda env: venv)
    venv.save(tmp_path / "m_vecnormalize.pkl")
    check_same(tmp_path / "m.zip", model, BOX, ACTION)


def test_statistics_that_are_not_used_are_named(tmp_path):
    save(tmp_path / "m.zip", "PPO", "MlpPolicy", BOX, ACTION)
    (tmp_path / "vecnormalize.pkl").write_bytes(b"")
    assert "is not used" in read(tmp_path / "m.zip", BOX, ACTION)[0].notices[0]


@pytest.mark.parametrize("action", [THREE, spaces.MultiDiscrete([2, 3])])
def test_a_maskable_policy_acts_by_the_environments_masks(tmp_path, action):
    count = int(np.sum(getattr(action, "nvec", action.n if hasattr(action, "n") else 0)))

    class Allowed(Toy):
        def action_masks(self):
            return np.ones(count, bool)

    save(tmp_path / "m.zip", "MaskablePPO", "MlpPolicy", BOX, action)
    model = contrib.MaskablePPO.load(tmp_path / "m.zip")
    spec = find_creator(lambda: Allowed(BOX, action)).facts().spec
    policy, obs = read_policy(tmp_path / "m.zip", spec), observations(BOX)
    rng = np.random.default_rng(0)
    masks = rng.random((len(obs), count)) < 0.5
    masks[:, 0] = masks[:, -1] = True
    if count == 5:
        masks[:, 1] |= ~masks[:, 0]
    wanted, _ = model.predict(obs, action_masks=masks, deterministic=True)
    rows, _ = spec.pack(obs, masks)
    actions, _ = policy.predict(rows, deterministic=True)
    np.testing.assert_array_equal(spec.action.to_env(actions).reshape(wanted.shape), wanted)
    free, _ = model.predict(obs, deterministic=True)
    assert (free != wanted).any()
    sampled, _ = policy.predict(rows, deterministic=False)
    starts = np.concatenate([[0], np.cumsum(spec.action.nvec)[:-1]])
    assert masks[np.arange(len(obs))[:, None], sampled + starts].all()


def test_a_locked_dimension_has_no_column(tmp_path):
    locked = spaces.Box(np.float32([-2, 0.3, -1]), np.float32([3, 0.3, 1]))
    for algo in ("PPO", "SAC"):
        model = save(tmp_path / "m.zip", algo, "MlpPolicy", BOX, locked, policy_kwargs=SMALL)
        check_same(tmp_path / "m.zip", model, BOX, locked)
        policy, spec = read(tmp_path / "m.zip", BOX, locked)
        assert policy.predict(observations(BOX, 3), deterministic=False)[0].shape == (3, 2) == (3, spec.action.dim)


class OwnExtractor(sb3.common.torch_layers.BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 4)

    def forward(self, obs):
        return obs * 2


class OwnPolicy(sb3.common.policies.ActorCriticPolicy):
    pass


@pytest.mark.parametrize(("algo", "policy", "options", "obs", "action", "message"), [
    ("MaskablePPO", "MlpPolicy", {}, BOX, THREE, r"has no masks; give it a method action_masks"),
    ("PPO", "MlpPolicy", {"features_extractor_class": OwnExtractor}, BOX, THREE, "features extractor of its own"),
    ("PPO", OwnPolicy, {}, BOX, THREE, "has a policy of its own"),
    ("PPO", "MlpPolicy", {}, spaces.Box(-1, 1, (5,), np.float32), THREE, r"was trained on Box\(5\)"),
    ("PPO", "MlpPolicy", {}, spaces.Discrete(4), THREE, r"was trained on Discrete\(4\)"),
    ("PPO", "MultiInputPolicy", {}, DICT, THREE, r"was trained on Dict\(a: Discrete\(4\)"),
    ("PPO", "MlpPolicy", {}, BOX, spaces.Discrete(3, start=2), "begins at 2"),
    ("PPO", "MlpPolicy", {}, BOX, spaces.Discrete(4), r"acts in Discrete\(4\)"),
    ("PPO", "MlpPolicy", {}, BOX, ACTION, r"acts in Box\(2\)"),
])
def test_what_cannot_act_the_same_is_refused(tmp_path, algo, policy, options, obs, action, message):
    save(tmp_path / "m.zip", algo, policy, obs, action, policy_kwargs=options)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "m.zip", BOX, THREE)


def test_another_range_of_actions_is_refused(tmp_path):
    save(tmp_path / "m.zip", "SAC", "MlpPolicy", BOX, spaces.Box(-1, 1, (2,), np.float32), policy_kwargs=SMALL)
    with pytest.raises(InputError, match=r"acts from -1 to 1, but .* from \[-2, -0\.5 …\]"):
        read(tmp_path / "m.zip", BOX, ACTION)


def test_a_policy_without_a_distribution_is_not_sampled(tmp_path):
    save(tmp_path / "m.zip", "TD3", "MlpPolicy", BOX, ACTION, policy_kwargs=SMALL)
    with pytest.raises(InputError, match="use its deterministic actions"):
        read(tmp_path / "m.zip", BOX, ACTION)[0].predict(np.zeros((1, 4)), deterministic=False)
