"""Deep maximum entropy IRL: a gradient of occupancies, the exact solution as the limit, and actions as an option."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec, ObsField
from puffer_il.learners.deep_maxent_irl import DeepMaxEntIRL
from puffer_il.learners.experiment import build
from puffer_il.nn.losses import discriminator_loss
from tests.support.mdps import discounted_occupancy, ring, soft_optimal
from tests.support.rollouts import SPEC, make_buffer, sign_demos

CPU, GAMMA = torch.device("cpu"), 0.9


def make(demos=None, spec=SPEC, **own) -> DeepMaxEntIRL:
    torch.manual_seed(0)
    tables = {"deep_maxent_irl": {"disc_updates": 3, "disc_batch_size": 64, "disc_hidden": [8],
                                  "inputs": "state"} | own,
              "ppo": {"gamma": GAMMA}, "policy": {"hidden": [8]}}
    return DeepMaxEntIRL(spec, demos or sign_demos(), build("deep_maxent_irl", [("test", tables)]), CPU, 0)


def test_the_gradient_is_the_policys_visits_less_the_experts():
    spec = EnvSpec("ring", (1,), np.dtype(np.int32), ActionSpec(nvec=(3,)),
                   (ObsField("obs", np.dtype(np.int32), (), 0, 5),))
    demos = dataclasses.replace(sign_demos(), obs=np.zeros((40, 1), np.int32), next_obs=np.zeros((40, 1), np.int32))
    learner = make(demos, spec, disc_hidden=())
    reward = learner.discriminator  # r(s) is a number for each state
    visits = [np.array([3, 1, 0, 0, 4]), np.array([0, 2, 2, 2, 2])]
    expert, policy = (reward.rows(torch.tensor(np.repeat(np.arange(5), v).astype(np.int32))[:, None]) for v in visits)
    weights = reward.net[0].weight
    gradient, = torch.autograd.grad(discriminator_loss("wasserstein", reward(expert), reward(policy), 0.0), weights)
    expected = 0.5 * (visits[1] - visits[0]) / 8  # not of the absorbing flag, the last column
    np.testing.assert_allclose(gradient[0].numpy(), [*expected, 0], atol=1e-6)


def test_with_exact_occupancies_it_finds_the_experts_policy():
    """Tabular maximum entropy IRL (Ziebart 2010): visits match, and with them the soft-optimal policy."""
    transitions, true = ring(), np.array([0.0, 1.5, -0.5, 0.3, 0.8])
    expert = np.exp(soft_optimal(transitions, np.broadcast_to(true[:, None, None], transitions.shape), GAMMA))
    seen = discounted_occupancy(transitions, expert, GAMMA).sum(1)
    spec = EnvSpec("ring", (1,), np.dtype(np.int32), ActionSpec(nvec=(3,)),
                   (ObsField("obs", np.dtype(np.int32), (), 0, 5),))
    demos = dataclasses.replace(sign_demos(), obs=np.zeros((40, 1), np.int32), next_obs=np.zeros((40, 1), np.int32))
    reward = make(demos, spec, disc_hidden=(16,)).discriminator
    rows = reward.rows(torch.arange(5, dtype=torch.int32)[:, None])
    optimizer = torch.optim.Adam(reward.net.parameters(), lr=0.02)
    for _ in range(200):
        r = reward(rows)
        numbers = r.detach().double().numpy()
        policy = np.exp(soft_optimal(transitions, np.broadcast_to(numbers[:, None, None], transitions.shape), GAMMA))
        own = discounted_occupancy(transitions, policy, GAMMA).sum(1)
        optimizer.zero_grad()
        # Rows in the shares of exact occupancies: what the sampled loss is in the limit.
        (0.5 * (r * torch.tensor(own - seen, dtype=torch.float32)).sum()).backward()
        optimizer.step()
    np.testing.assert_allclose(own, seen, atol=1e-3)
    np.testing.assert_allclose(policy, expert, atol=1e-2)
    np.testing.assert_allclose(numbers - numbers.mean(), true - true.mean(), atol=5e-2)


def test_the_reward_tells_expert_from_policy_and_stays_bounded():
    learner = make(inputs="state_action", disc_updates=200, disc_learning_rate=1e-2, prox_coef=0, decay_coef=0)
    metrics = learner.relabel(make_buffer())
    assert metrics["disc/logit_expert"] > metrics["disc/logit_policy"]
    assert metrics["disc/grad_norm_input"] < 1.5  # the penalty holds it near gp_target
    free = make(inputs="state_action", disc_updates=200, disc_learning_rate=1e-2, gp_coef=0, weight_decay=0,
                prox_coef=0, decay_coef=0)
    assert free.relabel(make_buffer())["disc/loss"] < 2 * metrics["disc/loss"]  # which is below zero


def reward_of(learner, obs) -> torch.Tensor:
    return learner.discriminator.logits(torch.from_numpy(obs), None)


@pytest.mark.parametrize("coef", [10.0, 1.0])
def test_a_proximal_step_moves_the_reward_by_a_bounded_amount(coef):
    """By at most 1/prox_coef where all the rows there are one side's, and by less elsewhere."""
    buffer = make_buffer()
    options = {"disc_updates": 300, "disc_learning_rate": 3e-3, "gp_coef": 0, "weight_decay": 0}
    learner = make(prox_coef=coef, decay_coef=0, **options)
    learner._update_norm(torch.from_numpy(buffer.flat().obs), None)
    before = reward_of(learner, buffer.flat().obs)
    learner.relabel(buffer)
    moved = (reward_of(learner, buffer.flat().obs) - before).square().mean().sqrt()
    free = make(prox_coef=0, decay_coef=0, **options)
    free.relabel(buffer)
    unbound = (reward_of(free, buffer.flat().obs) - before).square().mean().sqrt()
    assert 0.1 / coef < moved < 1.1 / coef < unbound


def test_the_decay_bounds_the_reward_however_long_it_learns():
    buffer, found = make_buffer(), []
    for coef in (0.5, 0.0):
        learner = make(prox_coef=1, decay_coef=coef, gp_coef=0, weight_decay=0, disc_updates=40,
                       disc_learning_rate=1e-2)
        for _ in range(12):
            learner.relabel(buffer)
        found.append(float(reward_of(learner, buffer.flat().obs).abs().max()))
    assert found[0] < 1.2 / 0.5 < found[1]


def test_the_policy_is_paid_its_entropy_too():
    paid = []
    for temperature in (0.0, 2.0):
        learner, buffer = make(temperature=temperature, reward_scale=False, reward_clip=0), make_buffer()
        buffer.logprobs[:] = np.random.default_rng(0).normal(size=buffer.logprobs.shape)
        learner.relabel(buffer)
        paid.append(buffer.rewards.copy())
    np.testing.assert_allclose(paid[1], paid[0] - 2 * buffer.logprobs, rtol=1e-4, atol=1e-5)


def test_terminations_are_worth_the_absorbing_reward_for_ever():
    learner, buffer = make(), make_buffer()
    metrics = learner.relabel(buffer)
    ended = buffer.terminations & buffer.valid
    np.testing.assert_allclose(buffer.final_values[ended], metrics["disc/absorbing_reward"] / (1 - GAMMA), rtol=1e-4)
    assert learner.learned_reward().reads == ("obs",)


@pytest.mark.parametrize(("absorbing", "decay_coef"), [(True, 0.0), (False, 0.0), (True, 0.1)])
def test_r_is_centred_where_the_likelihood_says_nothing_of_its_mean(absorbing, decay_coef):
    """Where a constant tells nothing, r is 0 between the sides and its differences are those of before."""
    buffer = make_buffer()
    learner = make(disc_updates=1, disc_learning_rate=0, absorbing=absorbing, decay_coef=decay_coef)
    with torch.no_grad():
        learner.discriminator.net[-1].bias.fill_(30)  # far outside of reward_clip
    learner._update_norm(torch.from_numpy(buffer.flat().obs), None)
    before, end = reward_of(learner, buffer.flat().obs), learner.discriminator.absorbing_rows(1)
    ended = learner.discriminator(end).detach()
    metrics = learner.relabel(buffer)
    middle = (metrics["disc/logit_expert"] + metrics["disc/logit_policy"]) / 2
    moved = before - reward_of(learner, buffer.flat().obs)
    expected = middle if absorbing and not decay_coef else 0.0
    np.testing.assert_allclose(moved.numpy(), expected, atol=0.05)
    np.testing.assert_allclose((ended - learner.discriminator(end)).detach().numpy(), expected, atol=1e-4)


def test_the_reward_that_is_kept_is_the_average_of_the_last_iterations():
    kept, last = make(reward_memory=8), make(reward_memory=1)
    buffer, seen = make_buffer(), []
    for _ in range(3):
        for learner in (kept, last):
            learner.relabel(buffer)
        seen.append(last.learned_reward().network.net[0].weight)
    torch.testing.assert_close(seen[-1], last.discriminator.net[0].weight)
    torch.testing.assert_close(kept.learned_reward().network.net[0].weight, torch.stack(seen).mean(0))


def test_by_itself_the_reward_reads_actions_where_they_are_stored():
    stored = sign_demos()
    assert make(stored, inputs="auto").learned_reward().reads == ("obs", "actions")
    assert make(dataclasses.replace(stored, actions=None), inputs="auto").learned_reward().reads == ("obs",)


def test_demonstrations_need_actions_only_where_the_reward_reads_them():
    alone = dataclasses.replace(sign_demos(), actions=None)
    make(alone).relabel(make_buffer())
    with pytest.raises(InputError, match=r"no actions are stored and deep_maxent_irl\.inputs = 'state_action'"):
        make(alone, inputs="state_action")
