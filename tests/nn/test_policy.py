"""The actor-critic: acting, evaluating and predicting agree, with and without an LSTM, on every kind of space."""

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy

from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec, ObsField
from puffer_il.nn import Noise, Policy, obs_moments

CPU, FLOAT = torch.device("cpu"), np.dtype(np.float32)
BOX = ActionSpec(low=np.float32([-2, -1]), high=np.float32([2, 1]), shape=(2,))
SPACES = {"discrete": ActionSpec(nvec=(3,)), "multidiscrete": ActionSpec(nvec=(3, 2), shape=(2,)), "box": BOX}


def make_policy(action: ActionSpec, **changes) -> Policy:
    torch.manual_seed(0)
    return Policy(EnvSpec("test", (4,), FLOAT, action), PolicyConfig(hidden=(16, 16), **changes))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("space", "state_std"), [*((space, False) for space in SPACES), ("box", True)])
def test_evaluate_repeats_what_act_said(space, state_std, shared, route):
    policy = make_policy(SPACES[space], shared=shared, squash=space == "box", state_std=state_std)
    obs = torch.randn(32, 4)
    actions, logprobs, values, state = policy.act(obs, noise=Noise.on(CPU, 1))
    assert state is None and actions.shape == (32, SPACES[space].dim)
    again, entropy, values_again = policy.evaluate(obs, actions)
    torch.testing.assert_close(again, logprobs)
    torch.testing.assert_close(values_again, values)
    torch.testing.assert_close(policy.value(obs), values)
    (again.sum() + values_again.sum() + entropy.sum()).backward()
    assert all(p.grad is not None for p in policy.parameters())


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("space", SPACES)
def test_same_seed_gives_the_same_actions(space, squash):
    policy, obs = make_policy(SPACES[space], squash=squash and space == "box"), torch.randn(64, 4)
    first, second, other = (policy.act(obs, noise=Noise.on(CPU, s))[0] for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize("space", SPACES)
def test_every_step_has_noise_of_its_own_and_rows_theirs_whoever_asks(space):
    policy, obs = make_policy(SPACES[space]), torch.randn(64, 4)
    noise = Noise.on(CPU, 1)
    first, *_ = policy.act(obs, noise=noise)
    pieces = [policy.act(obs[i:i + 20], noise=noise, first_row=i)[0] for i in (40, 0, 20, 60)]  # in any order
    assert torch.equal(torch.cat([pieces[k] for k in (1, 2, 0, 3)]), first)
    noise.step += 1
    assert not torch.equal(policy.act(obs, noise=noise)[0], first)


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_evaluation_equals_step_by_step_acting_across_episode_starts(memory, route):
    policy = make_policy(SPACES["discrete"], **{memory: 8})
    steps, n = 12, 5
    obs, starts = torch.randn(steps, n, 4), torch.rand(steps, n) < 0.3
    first = torch.randn(n, policy.state_dim)
    state, actions, logprobs, values = first, [], [], []
    for t in range(steps):
        state = state * (1 - starts[t].float()).unsqueeze(1)
        a, lp, v, state = policy.act(obs[t], state, Noise(0, torch.Generator(), t))
        actions.append(a), logprobs.append(lp), values.append(v)
    again, _, values_again = policy.evaluate(obs, torch.stack(actions), first, starts)
    torch.testing.assert_close(again, torch.cat(logprobs))
    torch.testing.assert_close(values_again, torch.cat(values))


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_a_memory_remembers_and_forgets_at_episode_starts(memory, route):
    policy = make_policy(SPACES["box"], **{memory: 8})
    obs = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    first, state = policy.predict(obs, deterministic=True)
    later, _ = policy.predict(obs, state, np.array([False, True]), deterministic=True)
    assert not np.allclose(first[0], later[0]) and np.allclose(first[1], later[1])


@pytest.mark.parametrize("space", SPACES)
def test_predict_takes_one_observation_or_a_batch(space):
    policy = make_policy(SPACES[space])
    obs = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    batch, state = policy.predict(obs, deterministic=True)
    one, _ = policy.predict(obs[2], deterministic=True)
    assert state is None and batch.shape == (6, *SPACES[space].shape)
    np.testing.assert_allclose(one, batch[2], rtol=1e-5)
    assert batch.dtype == (np.int64 if SPACES[space].discrete else np.float32)


@pytest.mark.parametrize("space", SPACES)
def test_predict_samples_unless_it_is_told_to_be_deterministic(space):
    policy, obs = make_policy(SPACES[space]), np.zeros((64, 4), np.float32)
    assert len(np.unique(policy.predict(obs)[0], axis=0)) > 1
    assert len(np.unique(policy.predict(obs, deterministic=True)[0], axis=0)) == 1


@pytest.mark.parametrize("shape", [(3,), (8,), (2, 3, 4), ()])
def test_predict_refuses_observations_of_another_shape(shape):
    with pytest.raises(InputError, match=r"test: .* the environment has \(4,\); give one, or a batch \(n, 4\)"):
        make_policy(BOX).predict(np.zeros(shape, np.float32))


def test_predict_clips_continuous_actions_to_their_range():
    policy = make_policy(BOX)
    with torch.no_grad():
        policy.actor[-1].bias.fill_(7.0)
    assert policy.predict(np.zeros(4, np.float32), deterministic=True)[0].tolist() == [2.0, 1.0]


def test_dict_observations_are_packed_as_the_environment_lays_them_out():
    struct = np.dtype([("near", np.float32, (3,)), ("mode", np.int32)], align=True)
    fields = (ObsField("near", FLOAT, (3,), 0, path=("near",)),
              ObsField("mode", np.dtype(np.int32), (), struct.fields["mode"][1], 5, ("mode",)))
    policy = Policy(EnvSpec("dict", (struct.itemsize,), np.dtype(np.uint8), SPACES["box"], fields),
                    PolicyConfig(hidden=(16,)))
    rows = np.zeros(4, struct)
    rows["near"], rows["mode"] = np.random.default_rng(0).normal(size=(4, 3)), [0, 4, 2, 2]
    raw = rows.view(np.uint8).reshape(4, -1)
    from_rows, _ = policy.predict(raw, deterministic=True)
    from_dict, _ = policy.predict({"near": rows["near"], "mode": rows["mode"]}, deterministic=True)
    one, _ = policy.predict({"near": rows["near"][1], "mode": int(rows["mode"][1])}, deterministic=True)
    np.testing.assert_allclose(from_dict, from_rows)
    np.testing.assert_allclose(one, from_rows[1], rtol=1e-5)


def test_images_are_seen():
    policy = Policy(EnvSpec("image", (16, 16, 3), np.dtype(np.uint8), SPACES["discrete"]), PolicyConfig(hidden=(16,)))
    obs = torch.randint(0, 256, (8, 16, 16, 3), dtype=torch.uint8)
    actions, logprobs, *_ = policy.act(obs)
    torch.testing.assert_close(policy.evaluate(obs, actions)[0], logprobs)
    assert policy.value(obs).std() > 0


def test_normalisation_moves_only_when_told():
    policy, obs = make_policy(SPACES["discrete"]), torch.randn(100, 4) * 30 + 5
    before = policy.value(obs)
    torch.testing.assert_close(policy.value(obs), before)
    policy.encoder.update_norm(*obs_moments(policy.flatten, obs))
    assert not torch.allclose(policy.value(obs), before)


@pytest.mark.parametrize("changes", [{}, {"lstm": 8}, {"gru": 8}])
def test_stable_baselines3_evaluates_our_policy(changes):
    policy = make_policy(ActionSpec(nvec=(2,)), **changes)
    mean, std = evaluate_policy(policy, gymnasium.make("CartPole-v1"), n_eval_episodes=3, warn=False)
    assert 8 <= mean <= 500 and std >= 0


@pytest.mark.parametrize("name", ["Pendulum-v1", "FrozenLake-v1"])
def test_stable_baselines3_evaluates_continuous_and_categorical(name):
    env = gymnasium.make(name)
    if name == "Pendulum-v1":
        spec = EnvSpec(name, (3,), FLOAT, ActionSpec(low=np.float32([-2]), high=np.float32([2]), shape=(1,)))
    else:
        spec = EnvSpec(name, (1,), np.dtype(np.int32), ActionSpec(nvec=(4,)),
                       (ObsField("obs", np.dtype(np.int32), (), 0, categories=16),))
    mean, _ = evaluate_policy(Policy(spec, PolicyConfig(hidden=(8,))), env, n_eval_episodes=2, warn=False)
    assert np.isfinite(mean)


def test_a_policy_has_one_memory():
    with pytest.raises(InputError, match=r"policy\.gru = 4: there is an LSTM already \(policy\.lstm = 8\)"):
        make_policy(SPACES["box"], lstm=8, gru=4)
