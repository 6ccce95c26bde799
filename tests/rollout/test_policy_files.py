"""Policies in other people's files act as their authors' code does, and reach the returns their authors report."""

import itertools
import json
import zipfile

import gymnasium
import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.rollout.policy_files import read_policy

CARTPOLE = EnvSpec("CartPole-v1", (4,), np.dtype(np.float32), ActionSpec(nvec=(2,)))


def spec_of(env):
    space, obs = env.action_space, env.observation_space
    action = (ActionSpec(nvec=(int(space.n),)) if isinstance(space, gymnasium.spaces.Discrete)
              else ActionSpec(low=space.low.ravel(), high=space.high.ravel(), shape=space.shape))
    return EnvSpec(env.spec.id, obs.shape, obs.dtype, action)


def acting(path, spec, deterministic=True, seed=0):
    """obs → actions of the policy in a file."""
    policy = read_policy(path, spec)
    policy.set_random_seed(seed)
    return lambda obs: policy.predict(obs, deterministic=deterministic)[0]


def mean_return(name, path, episodes, **kwargs):
    env = gymnasium.make(name)
    act, returns = acting(path, spec_of(env), **kwargs), []
    for seed in range(episodes):
        (obs, _), total, over = env.reset(seed=seed), 0.0, False
        while not over:
            action = act(obs[None])[0]
            executed = np.clip(action, -1, 1) if env.action_space.shape else action[0]
            obs, reward, terminated, truncated, _ = env.step(executed)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return np.mean(returns)


@pytest.mark.parametrize(("name", "file", "episodes", "wanted", "error"), [
    ("CartPole-v1", "gail_paper_experts/classic_CartPole.npz", 3, 498, 6),
    ("MountainCar-v0", "gail_paper_experts/classic_MountainCar.npz", 10, -98.3, 8),
    ("CartPole-v1", "imitation_testdata/cartpole_0_model_sb3.zip", 3, 500, 0),
])
def test_reported_returns(test_data, name, file, episodes, wanted, error):
    assert mean_return(name, test_data / file, episodes) == pytest.approx(wanted, abs=error)


@pytest.mark.parametrize("deterministic", [True, False])
def test_reported_return_of_a_continuous_expert(test_data, deterministic):
    pytest.importorskip("mujoco")
    path = test_data / "gail_paper_experts" / "halfcheetah.npz"
    wanted = 5072 if deterministic else 4427
    reached = mean_return("HalfCheetah-v5", path, 1, deterministic=deterministic, seed=1)
    assert reached == pytest.approx(wanted, rel=0.15)


def write_paper_expert(path, *, inputs=2, hidden=(5,), outputs=3, act=0, logstd=None, **changes):
    rng, sizes = np.random.default_rng(0), [inputs, *hidden, outputs]
    arrays = {"obs_mean": rng.normal(size=inputs), "obs_std": rng.uniform(1, 2, inputs), "act": np.float32(act)}
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        name = "out" if i == len(hidden) else str(i)
        arrays |= {f"W{name}": rng.normal(size=(a, b)), f"b{name}": rng.normal(size=b)}
    arrays |= {} if logstd is None else {"logstd": np.full(outputs, logstd)}
    np.savez(path, **{key: array for key, array in (arrays | changes).items() if array is not None})
    return path


def toy(*, discrete, outputs=3, obs=2):
    bound = np.ones(outputs, np.float32)
    action = ActionSpec(nvec=(outputs,)) if discrete else ActionSpec(low=-bound, high=bound, shape=(outputs,))
    return EnvSpec("toy", (obs,), np.dtype(np.float32), action)


@pytest.mark.parametrize(("act", "activation"), [(0, np.tanh), (1, lambda x: np.where(x > 0, x, 0.01 * x))])
def test_the_papers_network(tmp_path, act, activation):
    path = write_paper_expert(tmp_path / "x.npz", hidden=(5, 4), act=act, logstd=-1.0)
    obs = np.random.default_rng(1).normal(size=(6, 2))
    with np.load(path) as f:
        x = (obs - f["obs_mean"]) / f["obs_std"]
        for i in "01":
            x = activation(x @ f[f"W{i}"] + f[f"b{i}"])
        wanted = x @ f["Wout"] + f["bout"]
    np.testing.assert_allclose(acting(path, toy(discrete=False))(obs), wanted, rtol=1e-4)
    np.testing.assert_array_equal(acting(path, toy(discrete=True))(obs)[:, 0], wanted.argmax(1))


def test_sampling_follows_the_softmax_and_the_seed(tmp_path):
    path = write_paper_expert(tmp_path / "x.npz", Wout=np.zeros((5, 3)), bout=np.log([0.2, 0.5, 0.3]))
    obs = np.zeros((20_000, 2))
    actions = acting(path, toy(discrete=True), deterministic=False, seed=3)(obs)
    np.testing.assert_allclose(np.bincount(actions[:, 0]) / len(obs), [0.2, 0.5, 0.3], atol=0.015)
    again = [acting(path, toy(discrete=True), deterministic=False, seed=seed)(obs) for seed in (3, 4)]
    np.testing.assert_array_equal(actions, again[0])
    assert not np.array_equal(actions, again[1])
    blocks = EnvSpec("toy", (2,), np.dtype(np.float32), ActionSpec(nvec=(1, 2)))
    assert acting(path, blocks)(obs[:1]).tolist() == [[0, 0]]


def test_sampling_uses_the_standard_deviation(tmp_path):
    path = write_paper_expert(tmp_path / "x.npz", logstd=np.log(0.5))
    obs = np.zeros((20_000, 2))
    spread = acting(path, toy(discrete=False), deterministic=False)(obs)
    assert spread.dtype == np.float32
    np.testing.assert_allclose(spread.std(0), 0.5, rtol=0.03)
    np.testing.assert_allclose(spread.mean(0), acting(path, toy(discrete=False))(obs[:1])[0], atol=0.02)


@pytest.mark.parametrize(("changes", "kwargs", "message"), [
    ({"W0": np.zeros((3, 5))}, {}, r"layer of shape \(3, 5\) for 2 inputs"),
    ({"b0": np.zeros(4)}, {}, r"layer of shape \(2, 5\)"),
    ({"W0": None}, {}, r"layer of shape \(5, 3\) for 2 inputs"),
    ({"outputs": 4}, {}, "has 4 outputs but toy needs 3"),
    ({"act": 7}, {}, r"act is 7\.0; known are 0 \(tanh\)"),
    ({"obs_mean": None}, {}, "no array 'obs_mean'"),
    ({"obs_std": np.ones(3)}, {}, r"obs_std has shape \(3,\), not \(2,\)"),
    ({"logstd": 0.0, "outputs": 3}, {}, None),
    ({}, {"deterministic": False}, "no standard deviation"),
    ({"Wout": None}, {}, "no policy we know"),
])
def test_experts_that_do_not_fit_are_refused(tmp_path, changes, kwargs, message):
    path = write_paper_expert(tmp_path / "x.npz", **changes)
    if message is None:
        acting(path, toy(discrete=False), deterministic=False)(np.zeros((1, 2)))
        return
    with pytest.raises(InputError, match=message) as error:
        acting(path, toy(discrete=False), **kwargs)(np.zeros((1, 2)))
    assert str(error.value).startswith(f"policy {path}: ")


@pytest.fixture(scope="module")
def saved_ppo(tmp_path_factory):
    """A model as Stable-Baselines3 itself saves it."""
    sb3 = pytest.importorskip("stable_baselines3")
    from torch import nn

    def save(env, activation=nn.Tanh, **kwargs):
        options = {"activation_fn": activation, "net_arch": [8, 7, 6]} if activation is not nn.Tanh else {}
        model = sb3.PPO("MlpPolicy", env, policy_kwargs=options, device="cpu", n_steps=8, batch_size=8, **kwargs)
        path = tmp_path_factory.mktemp("sb3") / "model.zip"
        model.save(path)
        return model, path

    return save


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("activation", ["Tanh", "ReLU", "LeakyReLU"])
def test_stable_baselines3_predicts_the_same(saved_ppo, env, activation):
    from torch import nn

    model, path = saved_ppo(env, getattr(nn, activation))
    spec = spec_of(gymnasium.make(env))
    obs = np.random.default_rng(0).normal(size=(50, *spec.obs_shape)).astype(np.float32)
    wanted, _ = model.predict(obs, deterministic=True)
    actions = acting(path, spec)(obs)
    if not spec.action.discrete:
        actions = np.clip(actions, spec.action.low, spec.action.high)
    np.testing.assert_allclose(actions.reshape(wanted.shape), wanted, atol=1e-6)


def test_stable_baselines3_samples_with_its_standard_deviation(saved_ppo):
    _, path = saved_ppo("Pendulum-v1")
    spec = spec_of(gymnasium.make("Pendulum-v1"))
    obs = np.zeros((5000, 3), np.float32)
    assert acting(path, spec, deterministic=False)(obs).std() == pytest.approx(1, rel=0.05)  # log_std is 0


def test_a_network_we_cannot_run_is_refused(saved_ppo, tmp_path):
    from torch import nn

    _, path = saved_ppo("CartPole-v1", nn.PReLU)
    with pytest.raises(InputError, match="has activation PReLU; known are Tanh"):
        read_policy(path, CARTPOLE)
    _, path = saved_ppo("Pendulum-v1", use_sde=True)
    pendulum = spec_of(gymnasium.make("Pendulum-v1"))
    read_policy(path, pendulum)
    with pytest.raises(InputError, match="no standard deviation per action"):
        acting(path, pendulum, deterministic=False)(np.zeros((1, 3)))
    with pytest.raises(InputError, match=r"acts in Box\(1\), but the actions of CartPole-v1 are Discrete\(2\)"):
        read_policy(path, CARTPOLE)


def test_other_zips_are_refused(saved_ppo, tmp_path):
    _, path = saved_ppo("CartPole-v1")
    for name, replaced, message in (("policy.pth", b"junk", "not a complete Stable-Baselines3 model"),
                                    ("data", b"{}", "not a complete Stable-Baselines3 model"),
                                    ("data", None, "not a complete Stable-Baselines3 model|member 'data' is missing")):
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "x.zip", "w") as new:
            for member in old.namelist():
                data = replaced if member == name else old.read(member)
                if data is not None:
                    new.writestr(member, data)
        with pytest.raises(InputError, match=message):
            read_policy(tmp_path / "x.zip", CARTPOLE)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as new:
        new.writestr("data", json.dumps({}))
    with pytest.raises(InputError, match="no policy we know"):
        read_policy(tmp_path / "x.zip", CARTPOLE)
