"""Soft Q-learning and soft actor-critic: numbers worked by hand, a slow reference, finite differences, an exact MDP."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.learners.common.absorbing import absorbing_reward, absorbing_share
from puffer_il.learners.common.off_policy import (
    STATS,
    Critics,
    SACConfig,
    SoftActorCritic,
    SoftQ,
    TransitionBatch,
    backup,
    load,
    make_engine,
    minibatches,
    soft_value,
)
from puffer_il.native import tabular
from puffer_il.nn import fused
from puffer_il.nn.policy import Policy
from puffer_il.rollout.replay import Transitions
from tests.support.rollouts import SPEC

CPU = torch.device("cpu")
BOX = EnvSpec("box", (3,), np.dtype(np.float32),
              ActionSpec(low=np.float32([-2, 0]), high=np.float32([2, 1]), shape=(2,)))


def make_policy(spec: EnvSpec = SPEC, seed: int = 0, **policy: Any) -> Policy:
    torch.manual_seed(seed)
    keys = {"hidden": (8,), "squash": not spec.action.discrete, "state_std": not spec.action.discrete} | policy
    made = Policy(spec, PolicyConfig(**keys))
    with torch.no_grad():  # far enough from zero that every term of a loss matters
        for p in made.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    return made


def make_batch(spec: EnvSpec = SPEC, n: int = 16, seed: int = 1) -> TransitionBatch:
    rng = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn((2, n, 3), generator=rng)
    actions = (torch.randint(2, (n, 1), generator=rng).int() if spec.action.discrete
               else torch.rand((n, 2), generator=rng) * torch.tensor([4.0, 1.0]) - torch.tensor([2.0, 0.0]))
    return TransitionBatch(obs, actions, torch.randn(n, generator=rng), next_obs, torch.rand(n, generator=rng) < 0.3)


def test_the_soft_value_lies_between_mean_and_maximum() -> None:
    q = torch.tensor([[1.0, 3.0], [2.0, 2.0], [-5.0, 5.0]], dtype=torch.float64)
    # α = 2: 2 log ((e^½ + e^3/2) / 2)
    assert float(soft_value(q[:1], 2.0)) == pytest.approx(2 * math.log((math.exp(0.5) + math.exp(1.5)) / 2))
    torch.testing.assert_close(soft_value(q, 1e-3), torch.tensor([3.0, 2.0, 5.0], dtype=torch.float64), atol=1e-3,
                               rtol=0)
    torch.testing.assert_close(soft_value(q, 1e4), torch.tensor([2.0, 2.0, 0.0], dtype=torch.float64), atol=2e-3,
                               rtol=0)


def test_the_soft_value_is_that_of_the_softmax_policy() -> None:
    q = torch.randn((20, 5), dtype=torch.float64)
    pi = (q / 0.3).softmax(1)
    against_uniform = (pi * (pi * 5).log()).sum(1)
    torch.testing.assert_close(soft_value(q, 0.3), (pi * q).sum(1) - 0.3 * against_uniform)


def test_the_gradient_of_the_soft_value_is_the_policy() -> None:
    q = torch.randn((4, 3), dtype=torch.float64, requires_grad=True)
    soft_value(q, 0.5).sum().backward()
    torch.testing.assert_close(q.grad, (q.detach() / 0.5).softmax(1))
    assert torch.autograd.gradcheck(lambda x: soft_value(x, 0.5), (q,))


def test_what_follows_an_end_is_the_end_value() -> None:
    wanted = backup(torch.tensor([1.0, 1.0]), torch.tensor([10.0, 10.0]), torch.tensor([False, True]), 0.5, -4.0)
    assert wanted.tolist() == [6.0, -1.0]


def test_absorbing_steps_worked_by_hand() -> None:
    # One termination in 90 rows, followed by 1 / (1 − 0.9) = 10 absorbing steps.
    assert absorbing_share(1, 90, 0.9) == pytest.approx(0.1)
    assert absorbing_share(0, 90, 0.9) == absorbing_share(0, 0, 0.9) == 0
    assert absorbing_reward(0.3, 0.1, 0.5) == pytest.approx(0.75)
    assert absorbing_reward(0.3, 0.1, 0.25) == pytest.approx(0.5)
    assert absorbing_reward(0.3, 0.0, 0.5) == 1  # the expert falls and the policy never does
    assert absorbing_reward(0.0, 0.1, 0.5) == absorbing_reward(0.0, 0.0, 0.5) == 0


def as_rows(*batches: TransitionBatch) -> Transitions:
    """The same as drawn from a replay."""
    return Transitions(*(np.stack([getattr(batch, name).numpy() for batch in batches])
                         for name in ("obs", "actions", "rewards", "next_obs", "ends")))


def slow_q_loss(q: Policy, target: Policy, batch: TransitionBatch, alpha: float, gamma: float, end: float) -> Tensor:
    """The loss of soft Q-learning, row by row in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(batch.rewards)):
        following = end
        if not batch.ends[i]:
            values = target.actor(batch.next_obs[i:i + 1].double())[0]
            following = alpha * torch.log((values / alpha).exp().mean())
        wanted = batch.rewards[i].double() + gamma * following
        total = total + 0.5 * (q.actor(batch.obs[i:i + 1].double())[0, int(batch.actions[i])] - wanted.detach()) ** 2
    return total / len(batch.rewards)


def test_one_step_of_soft_q_is_the_equation_written_out(route: bool) -> None:
    cfg = SACConfig(alpha=0.7, gamma=0.9, tau=0.25, max_grad_norm=0.0, learning_rate=1e-2)
    engine, batch = SoftQ(make_policy(obs_norm=False), cfg, CPU), make_batch()
    with torch.no_grad():
        for p in engine.target.parameters():  # not the network itself
            p.mul_(1.5)
    q, target = copy.deepcopy(engine.q).double(), copy.deepcopy(engine.target).double()
    loss = slow_q_loss(q, target, batch, 0.7, 0.9, -2.0)
    loss.backward()
    optimizer = torch.optim.Adam(q.actor.parameters(), lr=1e-2)
    optimizer.step()
    stats = dict(zip(STATS, engine.learn(as_rows(batch), -2.0).tolist(), strict=True))
    assert stats["critic"] == pytest.approx(float(loss.detach()), rel=1e-5)
    for ours, expected in zip(engine.q.actor.parameters(), q.actor.parameters(), strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-6)
    for ours, before, online in zip(engine.target.actor.parameters(), target.actor.parameters(),
                                    q.actor.parameters(), strict=True):
        torch.testing.assert_close(ours.double(), 0.75 * before + 0.25 * online, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("n", "actions", "hidden", "activation"), [
    (1, 2, (8,), "tanh"), (48, 2, (64, 64), "relu"), (100, 7, (16, 24), "silu"), (50, 3, (8, 8, 8), "elu")])
def test_the_kernels_learn_what_torch_learns(n: int, actions: int, hidden: tuple[int, ...], activation: str) -> None:
    spec = EnvSpec("made up", (3,), np.dtype(np.float32), ActionSpec(nvec=(actions,)))
    rng = np.random.default_rng(0)
    rows = Transitions(rng.normal(size=(6, n, 3)).astype(np.float32),
                       rng.integers(0, actions, (6, n, 1)).astype(np.int32), rng.normal(size=(6, n)).astype(np.float32),
                       rng.normal(size=(6, n, 3)).astype(np.float32), rng.random((6, n)) < 0.3)
    engines, stats = [], []
    for on in (True, False):
        fused.enable(on)
        policy = make_policy(spec, hidden=hidden, activation=activation)
        engine = SoftQ(policy, SACConfig(alpha=0.2, tau=0.3, max_grad_norm=1.0), CPU)
        if on:
            engine.update = None  # type: ignore[assignment]  # not in torch
        stats.append(engine.learn(rows, -3.0))
        stats[-1] = torch.stack((stats[-1], engine.learn(rows, -3.0)))
        engines.append(engine)
    torch.testing.assert_close(*stats, rtol=1e-4, atol=1e-5)
    for name in ("flat", "mean", "square", "steps"):
        torch.testing.assert_close(*(getattr(engine.optimizer, name) for engine in engines), rtol=2e-3, atol=2e-5)
    torch.testing.assert_close(*(engine.followers for engine in engines), rtol=2e-3, atol=2e-5)
    for ours, expected in zip(*(engine.policy.parameters() for engine in engines), strict=True):
        torch.testing.assert_close(ours, expected, rtol=2e-3, atol=2e-4)


def test_the_policy_acts_by_the_softmax_of_q(route: bool) -> None:
    policy = make_policy(obs_norm=False, shared=False)
    engine, batch = SoftQ(policy, SACConfig(alpha=0.2), CPU), make_batch()
    engine.learn(as_rows(batch), 0.0)
    with torch.no_grad():
        torch.testing.assert_close(policy.action_params(batch.obs), engine.q.action_params(batch.obs) / 0.2, rtol=1e-4,
                                   atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_starting_from_the_policy_leaves_it_as_it_is(shared: bool) -> None:
    policy = make_policy(shared=shared, seed=3)
    engine = SoftQ(make_policy(shared=shared), SACConfig(alpha=0.2), CPU)
    engine.policy.load_state_dict(policy.state_dict())
    engine.start_from_policy()
    engine.publish()
    with torch.no_grad():
        obs = make_batch().obs
        torch.testing.assert_close(engine.policy.action_params(obs), policy.action_params(obs))
        torch.testing.assert_close(engine.target.action_params(obs), 0.2 * policy.action_params(obs))


def slow_sac_losses(engine: SoftActorCritic, batch: TransitionBatch, noise: Tensor, alpha: float, gamma: float,
                    end: float) -> tuple[Tensor, Any]:
    """Losses of the critics and of the policy in float64, with a density from torch.distributions."""
    policy, critics, target = (copy.deepcopy(m).double() for m in (engine.policy, engine.critics, engine.target))
    high, low = torch.tensor([2.0, 1.0]).double(), torch.tensor([-2.0, 0.0]).double()

    def act(obs: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = policy.actor(obs.double()).chunk(2, 1)
        std = (policy.dist.log_std + raw).clamp(-5, 2).exp()
        actions = torch.tanh(mean + std * normal.double())
        dist = torch.distributions.TransformedDistribution(
            torch.distributions.Normal(mean, std), [torch.distributions.TanhTransform(cache_size=0)])
        return actions, (dist.log_prob(actions) - math.log(0.5)).sum(1)  # against the uniform density on (-1, 1)

    def values(nets: Any, obs: Tensor, actions: Tensor) -> list[Tensor]:
        return [net(torch.cat((obs.double(), actions), 1))[:, 0] for net in nets.nets]

    following, negentropy = act(batch.next_obs, noise[0])
    soft = torch.minimum(*values(target, batch.next_obs, following)) - alpha * negentropy
    wanted = torch.where(batch.ends, end, soft) * gamma + batch.rewards.double()
    units = 2 * (batch.actions.double() - low) / (high - low) - 1
    critic_loss = sum(0.5 * (q - wanted.detach()).square().mean() for q in values(critics, batch.obs, units))

    def policy_loss(new_critics: Any) -> tuple[Tensor, Policy]:
        chosen, own = act(batch.obs, noise[1])
        return (alpha * own - torch.minimum(*values(new_critics, batch.obs, chosen))).mean(), policy

    critic_loss.backward()
    return critic_loss, (critics, policy_loss)


def test_one_step_of_soft_actor_critic_is_the_equations_written_out(route: bool) -> None:
    cfg = SACConfig(alpha=0.3, gamma=0.9, tau=0.25, max_grad_norm=0.0, learning_rate=1e-2, critic_hidden=(8,))
    engine = SoftActorCritic(make_policy(BOX, obs_norm=False), cfg, "tanh", CPU, seed=5)
    batch = make_batch(BOX)
    noise = torch.randn((2, 16, 2), generator=torch.Generator().manual_seed(5))
    critic_loss, (critics, policy_loss) = slow_sac_losses(engine, batch, noise, 0.3, 0.9, -2.0)
    torch.optim.Adam(critics.parameters(), lr=1e-2).step()
    actor_loss, policy = policy_loss(critics)
    actor_loss.backward()
    learned = [*policy.actor.parameters(), policy.dist.log_std]
    torch.optim.Adam(learned, lr=1e-2).step()

    stats = dict(zip(STATS, engine.learn(as_rows(batch), -2.0).tolist(), strict=True))
    assert stats["critic"] == pytest.approx(float(critic_loss.detach()), rel=1e-4)
    assert stats["actor"] == pytest.approx(float(actor_loss.detach()), rel=1e-4)
    assert stats["alpha"] == pytest.approx(0.3)
    ours = [*engine.critics.parameters(), *engine.policy.actor.parameters(), engine.policy.dist.log_std]
    for got, expected in zip(ours, [*critics.parameters(), *learned], strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("most", "expected"), [(math.inf, 40.0), (2.0, 2.0)])
def test_no_value_is_learned_above_the_most_that_rewards_allow(most: float, expected: float) -> None:
    """One transition again and again, after which there is 40 to come."""
    cfg = SACConfig(gamma=1.0, tau=0.5, learning_rate=1e-2, critic_hidden=(8,), max_grad_norm=0.0)
    engine, rows = SoftActorCritic(make_policy(BOX), cfg, "tanh", CPU, seed=5), as_rows(*[make_batch(BOX, n=1)] * 1_000)
    rows.rewards[:], rows.terminations[:] = 0, True
    engine.most = most
    engine.learn(rows, 40.0)
    with torch.no_grad():
        batch = next(minibatches(engine.policy, load(engine.policy, rows, CPU)))
        q = engine.critics(batch.obs, engine.dist.features(batch.actions))
    torch.testing.assert_close(q, torch.full((2, 1), expected), rtol=0.02, atol=0)


@pytest.mark.parametrize("norm", [True, False])
def test_normalised_critics_say_little_of_places_far_away(norm: bool) -> None:
    torch.manual_seed(0)
    critics = Critics(make_policy(BOX), (64, 64), "relu", norm)
    obs, actions = torch.randn((100, 3)), torch.rand((100, 2)) * 2 - 1
    with torch.no_grad():
        near, far = (float(critics(scale * obs, actions).abs().mean()) for scale in (1, 1_000))
    assert (far < 3 * near) if norm else (far > 100 * near)


def test_a_policy_that_is_not_to_move_stays() -> None:
    engine = SoftActorCritic(make_policy(BOX), SACConfig(critic_hidden=(8,)), "tanh", CPU, seed=5)
    before = copy.deepcopy(engine.policy.state_dict())
    critics = engine.critic_optimizer.flat.clone()
    engine.learn(as_rows(make_batch(BOX)), 0.0, move=False)
    assert all(torch.equal(before[k], v) for k, v in engine.policy.state_dict().items())
    assert not torch.equal(critics, engine.critic_optimizer.flat)


@pytest.mark.parametrize("spec", [SPEC, BOX], ids=["discrete", "continuous"])
def test_alpha_rises_while_the_policy_is_too_sure_and_falls_while_it_is_not(spec: EnvSpec) -> None:
    for target, rises in ((1e-6, True), (20.0, False)):
        cfg = SACConfig(target_negentropy=target, alpha=0.5, learning_rate=1e-2, critic_hidden=(8,))
        engine = make_engine(make_policy(spec), cfg, "tanh", CPU, 0)
        engine.learn(as_rows(*[make_batch(spec)] * 3), 0.0)
        assert (float(engine.temperature.value) > 0.5) == rises


def test_minibatches_are_normalised_as_the_policy_normalises() -> None:
    policy = make_policy()
    policy.encoder.update_norm(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 9.0, 16.0]), 10)
    rng = np.random.default_rng(0)
    rows = Transitions(rng.normal(size=(2, 5, 3)).astype(np.float32), np.zeros((2, 5, 1), np.int32),
                       np.arange(10, dtype=np.float32).reshape(2, 5), rng.normal(size=(2, 5, 3)).astype(np.float32),
                       np.zeros((2, 5), bool))
    batches = list(minibatches(policy, load(policy, rows, CPU)))
    assert len(batches) == 2 and batches[1].rewards.tolist() == [5, 6, 7, 8, 9]
    scaled = (rows.next_obs[1] - [1, 2, 3]) / [2, 3, 4]
    np.testing.assert_allclose(batches[1].next_obs.numpy(), scaled, rtol=1e-5, atol=1e-6)


def exact_soft_q(mdp: tabular.MDP, gamma: float, alpha: float, end_value: float) -> np.ndarray:
    """(S, A) by iterating the soft Bellman equation, whose contraction is γ."""
    q = np.zeros(mdp.mean_rewards.shape)
    for _ in range(2_000):
        values = alpha * np.log(np.exp((q - q.max(1, keepdims=True)) / alpha).mean(1)) + q.max(1)
        values = np.where(mdp.going, values, end_value)
        q = mdp.mean_rewards + gamma * mdp.transitions @ values
    return q


@pytest.mark.parametrize("end_value", [0.0, -1.0])
def test_soft_q_learning_finds_the_exact_soft_q_of_an_mdp(end_value: float) -> None:
    rng = np.random.default_rng(0)
    states, actions, gamma, alpha = 5, 3, 0.8, 0.3
    mdp = tabular.MDP(rng.dirichlet(np.ones(states), (states, actions)), rng.normal(size=(states, actions)),
                      np.eye(states)[0], np.arange(states) == states - 1)
    spec = EnvSpec("mdp", (3,), np.dtype(np.float32), ActionSpec(nvec=(actions,)))
    codes = torch.randn((states, 3), generator=torch.Generator().manual_seed(0)) * 2
    cfg = SACConfig(alpha=alpha, gamma=gamma, learning_rate=3e-3, tau=0.05)
    engine = SoftQ(make_policy(spec, obs_norm=False, hidden=(32,)), cfg, CPU)
    # Every transition as often as it occurs: the expected update, without noise.
    s, a, following = (x.ravel() for x in np.meshgrid(*(np.arange(n) for n in (states, actions, states)),
                                                      indexing="ij"))
    count = np.round(mdp.transitions[s, a, following] * 60).astype(int) * mdp.going[s]
    s, a, following = (torch.from_numpy(np.repeat(x, count)) for x in (s, a, following))
    shares = np.zeros(mdp.transitions.shape)
    np.add.at(shares, (s, a, following), 1)
    shares[-1, :, -1] = 1
    seen = tabular.MDP(shares / shares.sum(2, keepdims=True), mdp.rewards[:, :, 0], mdp.initial, mdp.terminal)
    batch = TransitionBatch(codes[s], a.unsqueeze(1), torch.from_numpy(mdp.rewards[s, a, 0]).float(), codes[following],
                      following == states - 1)
    rows = as_rows(*[batch] * 100)
    for step in range(30):
        engine.optimizer.learning_rate = 3e-3 * (1 - step / 30)
        engine.learn(rows, end_value)
    expected = exact_soft_q(seen, gamma, alpha, end_value)[:-1]
    with torch.no_grad():
        learned = engine.q.action_params(codes[:-1]).numpy()
        policy = engine.policy.action_params(codes[:-1]).softmax(1).numpy()
    np.testing.assert_allclose(learned, expected, atol=0.02)
    np.testing.assert_allclose(policy, torch.from_numpy(expected / alpha).softmax(1), atol=0.01)


@pytest.mark.parametrize(("spec", "policy", "message"), [
    (SPEC, {"lstm": 4}, "policy.lstm = 4"),
    (EnvSpec("many", (3,), np.dtype(np.float32), ActionSpec(nvec=(2, 3))), {}, r"2 discrete parts \(2, 3\)"),
    (BOX, {"squash": False}, "policy.squash = False"),
])
def test_what_an_engine_cannot_learn_is_refused_in_one_line(spec: EnvSpec, policy: dict[str, Any],
                                                            message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        make_engine(make_policy(spec, **policy), SACConfig(), "tanh", CPU, 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("discrete", "policy"), [(True, {}), (True, {"shared": True}), (False, {}),
                                                  (False, {"shared": True})])
@pytest.mark.parametrize("image", [False, True])
def test_images_and_shared_layers_are_learned_from_too(discrete: bool, policy: dict[str, Any], image: bool) -> None:
    """One state in which one action pays: it becomes the likelier one."""
    action = ActionSpec(nvec=(2,)) if discrete else ActionSpec(low=np.float32([-1]), high=np.float32([1]), shape=(1,))
    shape, dtype = ((8, 8, 3), np.dtype(np.uint8)) if image else ((3,), np.dtype(np.float32))
    spec, rng = EnvSpec("made up", shape, dtype, action), np.random.default_rng(0)
    torch.manual_seed(0)
    made = Policy(spec, PolicyConfig(hidden=(16,), squash=not discrete, **policy))
    engine = make_engine(made, SACConfig(alpha=0.05, learning_rate=3e-3, critic_hidden=(16,)), "tanh", CPU, 0)
    obs = np.broadcast_to(rng.integers(0, 255, shape).astype(dtype), (40, 32, *shape)).copy()
    if discrete:
        actions = rng.integers(0, 2, (40, 32, 1)).astype(np.int32)
    else:
        actions = rng.uniform(-1, 1, (40, 32, 1)).astype(np.float32)
    rows = Transitions(obs, actions, (actions[..., 0] > 0).astype(np.float32), obs, np.ones((40, 32), bool))
    for _ in range(3):
        stats = engine.learn(rows, 0.0)
    assert torch.isfinite(stats).all()
    with torch.no_grad():
        params = made.action_params(torch.from_numpy(obs[0, :1]))
        assert float(made.dist.mode(params)) > 0
