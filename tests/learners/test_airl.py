"""AIRL's own rules: what f is made of, when D is a half, and that at the optimum f is the expert's advantage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec, ObsField
from puffer_il.learners.airl import AIRL, AIRLConfig, Shaped, Steps
from puffer_il.learners.experiment import build
from puffer_il.nn.losses import bce_discriminator_loss, gradient_penalty
from tests.support.mdps import discounted_occupancy, ring, soft_optimal
from tests.support.rollouts import SPEC, expert_rows, make_buffer, policy_rows, sign_demos

CPU, GAMMA = torch.device("cpu"), 0.9


def of_steps(shaped: Shaped, obs: torch.Tensor, steps: Steps) -> torch.Tensor:
    """f (n,) of rows by themselves: h(s′) is computed for each."""
    return shaped.of_rollout(obs, steps, len(obs), torch.zeros(0, dtype=torch.int64))


def make(demos=None, policy=None, **airl) -> AIRL:
    torch.manual_seed(0)
    tables = {"airl": {"disc_updates": 3, "disc_batch_size": 64, "disc_hidden": [8], "shaping_hidden": [4],
                       "replay_size": 64} | airl,
              "ppo": {"gamma": GAMMA}, "policy": {"hidden": [8]} | (policy or {})}
    return AIRL(SPEC, demos or sign_demos(), build("airl", [("test", tables)]), CPU, 0)


def some_steps(n: int = 12, seed: int = 3) -> tuple[torch.Tensor, Steps]:
    rng = np.random.default_rng(seed)
    obs, next_obs = (torch.tensor(rng.normal(size=(n, 3)).astype(np.float32)) for _ in range(2))
    return obs, Steps(torch.tensor(rng.integers(0, 2, (n, 1)).astype(np.int32)), next_obs,
                      torch.tensor(rng.random(n) < 0.3), torch.tensor(np.float32(-rng.random(n))))


@pytest.mark.parametrize("inputs", ["state", "next_state", "state_action"])
def test_f_is_the_reward_and_the_shaping_and_ends_in_the_absorbing_state(inputs):
    shaped, (obs, steps) = make(inputs=inputs).discriminator, some_steps()
    shaped.update_norm(torch.tensor([0.1, -0.2, 0.0]), torch.tensor([2.0, 1.0, 0.5]), 8)
    flat = (obs - torch.tensor([0.1, -0.2, 0.0])) / torch.tensor([2.0, 1.0, 0.5]).sqrt()
    later = (steps.next_obs - torch.tensor([0.1, -0.2, 0.0])) / torch.tensor([2.0, 1.0, 0.5]).sqrt()
    zero, one = torch.zeros(len(obs), 1), torch.ones(1, 1)
    taken = torch.nn.functional.one_hot(steps.actions[:, 0].long(), 2).float()
    read = {"state": (flat,), "next_state": (later,), "state_action": (flat, taken)}[inputs]  # s′ also where it ends
    g = shaped.reward.net(torch.cat((*read, zero), 1))[:, 0]
    h, next_h = (shaped.shaping.net(torch.cat((x, zero), 1))[:, 0] for x in (flat, later))
    h_end = shaped.shaping.net(torch.cat((torch.zeros(1, 3), one), 1))[0, 0]
    f = g + GAMMA * torch.where(steps.ended, h_end, next_h) - h
    torch.testing.assert_close(shaped(shaped.rows(obs, steps)), f - steps.logprobs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(of_steps(shaped, obs, steps), f, rtol=1e-4, atol=1e-5)
    # In the absorbing state there is one thing to do, log π = 0, and it comes next again.
    width = 3 + 2 * (inputs == "state_action")
    g_end = shaped.reward.net(torch.cat((torch.zeros(1, width), one), 1))[0, 0]
    torch.testing.assert_close(shaped(shaped.absorbing_rows(1))[0], g_end + (GAMMA - 1) * h_end, rtol=1e-4, atol=1e-5)


def test_golden_numbers():
    """f = 0.5 + 0.9 · 2 − 1 = 1.3, log π = log ¼: logit 1.3 + log 4, D = 4 e^1.3 / (4 e^1.3 + 1)."""
    shaped = make().discriminator
    for network, number in ((shaped.reward, 0.5), (shaped.shaping, 0.0)):
        for parameter in network.parameters():
            parameter.data.zero_()
        network.net[-1].bias.data.fill_(number)
    # h reads the absorbing flag alone: 1 before, 2 in the absorbing state.
    shaped.shaping.net[0].weight.data[0, -1] = 20.0  # its tanh is 1 there and 0 elsewhere
    shaped.shaping.net[-1].weight.data[0, 0] = 1.0
    shaped.shaping.net[-1].bias.data.fill_(1.0)
    steps = Steps(torch.zeros(1, 1, dtype=torch.int32), torch.zeros(1, 3), torch.tensor([True]),
                  torch.tensor([math.log(0.25)]))
    logit = shaped(shaped.rows(torch.zeros(1, 3), steps))
    assert float(logit.detach()) == pytest.approx(2.686294, abs=1e-5)
    assert float(torch.sigmoid(logit.detach())) == pytest.approx(0.936205, abs=1e-5)


def test_d_is_a_half_where_f_is_log_pi_and_then_the_policy_is_paid_nothing():
    shaped, (obs, steps) = make().discriminator, some_steps()
    with torch.no_grad():
        even = steps._replace(logprobs=of_steps(shaped, obs, steps))
        logits = shaped(shaped.rows(obs, even))
    torch.testing.assert_close(logits, torch.zeros(len(obs)), atol=1e-5, rtol=0)
    assert float(bce_discriminator_loss(logits, logits)) == pytest.approx(math.log(2), abs=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    shaped = Shaped(SPEC, AIRLConfig(inputs="state_action", disc_hidden=(5,), shaping_hidden=(4,)), GAMMA)
    expert, policy = (shaped.rows(*some_steps(seed=seed)).double() for seed in (1, 2))
    in_single = shaped(expert.float())
    shaped.double()
    parameters = [p for p in shaped.parameters() if p.requires_grad]
    mix = torch.linspace(0.1, 0.9, len(expert), dtype=torch.float64)

    def loss() -> torch.Tensor:
        penalty, _ = gradient_penalty(shaped_f64, expert, policy, target=0.1, mix=mix)
        return bce_discriminator_loss(shaped_f64(expert), shaped_f64(policy)) + penalty

    def shaped_f64(rows):  # `Discriminator` gives float32 whatever it is made of
        own, later, _, logprobs = rows.split(shaped.widths, 1)
        now = torch.cat((own[:, :3], own[:, -1:]), 1)
        net = lambda network, x: torch.nn.Sequential.forward(network.net, x).squeeze(-1)  # noqa: E731
        return (net(shaped.reward, own) + GAMMA * net(shaped.shaping, later) - net(shaped.shaping, now)
                - logprobs.squeeze(1).detach())

    torch.testing.assert_close(shaped_f64(expert).float(), in_single, rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(loss(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        for place in (0, parameter.numel() - 1):
            values = []
            for step in (1e-6, -1e-6):
                parameter.data.view(-1)[place] += step
                values.append(float(loss().detach()))
                parameter.data.view(-1)[place] -= step
            slope = (values[0] - values[1]) / 2e-6
            assert float(gradient.reshape(-1)[place]) == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_the_penalty_is_one_of_f_alone():
    shaped, (obs, steps) = make(disc_activation="elu").discriminator, some_steps()
    rows = shaped.rows(obs, steps)
    far = shaped.rows(obs, steps._replace(logprobs=steps.logprobs - 50))
    mix = torch.full((len(rows),), 0.5)
    assert float(gradient_penalty(shaped, rows, rows, mix=mix)[1].detach()) == pytest.approx(
        float(gradient_penalty(shaped, far, rows, mix=mix)[1].detach()), rel=1e-5)


def test_at_the_optimum_f_is_the_advantage_which_is_log_pi_and_g_is_the_true_reward():
    """Fu et al. 2018, section 4 and theorem 5.1, with exact occupancies in a small MDP whose reward is of states.

    The two in turn: f a little further to the best discriminator of π_E from π, π to the soft-optimal policy for f.
    """
    transitions, true = ring(), np.array([0.0, 1.5, -0.5, 0.3, 0.8])
    expert = soft_optimal(transitions, np.broadcast_to(true[:, None, None], transitions.shape), GAMMA)
    spec = EnvSpec("ring", (1,), np.dtype(np.int32), ActionSpec(nvec=(3,)),
                   (ObsField("obs", np.dtype(np.int32), (), 0, 5),))
    torch.manual_seed(0)
    shaped = Shaped(spec, AIRLConfig(disc_hidden=(), shaping_hidden=()), GAMMA)  # g and h a number for each state
    states, actions = (torch.tensor(x.reshape(-1, 1).astype(np.int32)) for x in np.indices((5, 3)))
    successors = torch.tensor(transitions.argmax(2).reshape(-1, 1).astype(np.int32))
    steps = Steps(actions, successors, torch.zeros(15, dtype=torch.bool), torch.zeros(15))
    seen = torch.tensor(discounted_occupancy(transitions, np.exp(expert), GAMMA).reshape(-1), dtype=torch.float32)
    log_policy, optimizer = np.full((5, 3), -math.log(3)), torch.optim.Adam(shaped.parameters(), lr=0.05)
    for _ in range(100):
        rows = shaped.rows(states, steps._replace(logprobs=torch.tensor(log_policy.reshape(-1), dtype=torch.float32)))
        visits = discounted_occupancy(transitions, np.exp(log_policy), GAMMA)
        own = torch.tensor(visits.reshape(-1), dtype=torch.float32)
        for _ in range(5):
            optimizer.zero_grad()
            logits = shaped(rows)
            bce_discriminator_loss(logits, logits, expert_weight=seen, policy_weight=own).backward()
            optimizer.step()
        f = of_steps(shaped, states, steps).double().numpy().reshape(5, 3)
        best = soft_optimal(transitions, np.broadcast_to(f[:, :, None], transitions.shape), GAMMA)
        log_policy = 0.9 * log_policy + 0.1 * best  # all the way at once, and the two would chase each other
        log_policy -= np.log(np.exp(log_policy).sum(1, keepdims=True))
    np.testing.assert_allclose(log_policy, expert, atol=1e-3)
    np.testing.assert_allclose(f, expert, atol=1e-3)
    with torch.no_grad():
        g = shaped.reward(shaped.reward.rows(torch.arange(5, dtype=torch.int32)[:, None])).numpy()
    np.testing.assert_allclose(g - g.mean(), true - true.mean(), atol=1e-2)
    logits = shaped(shaped.rows(states, steps._replace(logprobs=torch.tensor(np.float32(log_policy.reshape(-1))))))
    assert float(logits.abs().max().detach()) < 1e-3  # D = ½ everywhere


@pytest.mark.parametrize(("reward", "form"), [("auto", torch.nn.functional.softplus), ("logit", lambda x: x)])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_policy_is_paid_the_form_of_the_logit_or_f_alone(reward, form, temperature):
    for minus in (True, False):
        learner = make(reward=reward, temperature=temperature, minus_log_policy=minus, reward_scale=False,
                       reward_clip=0)
        buffer = make_buffer()
        learner.relabel(buffer)
        flat = buffer.flat()
        obs, paired = torch.from_numpy(flat.obs), Steps(*(torch.from_numpy(x) for x in (
            flat.actions, buffer.next_obs(), flat.terminations, flat.logprobs)))
        f = of_steps(learner.discriminator, obs, paired)
        log_policy = torch.from_numpy(flat.logprobs).clamp_min(-math.log(2))
        expected = form(f - temperature * log_policy) if minus else f
        np.testing.assert_allclose(buffer.rewards.reshape(-1), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_what_chance_would_do_more_often_counts_as_chance():
    learner = make(temperature=0.5)
    made = learner._weighed(torch.tensor([-0.1, -math.log(2), -40.0]))
    torch.testing.assert_close(made, torch.tensor([-0.05, -0.5 * math.log(2), -0.5 * math.log(2)]))


def test_a_rollout_knows_its_successors_without_looking_at_each():
    learner, buffer = make(), make_buffer()
    flat, shaped = buffer.flat(), learner.discriminator
    arrays = (flat.actions, buffer.next_obs(), np.zeros(len(flat.obs), bool), flat.logprobs)  # cut, not over
    obs, steps = torch.from_numpy(flat.obs), Steps(*map(torch.from_numpy, arrays))
    ends = torch.tensor(buffer.final_index)
    assert len(ends)
    torch.testing.assert_close(shaped.of_rollout(obs, steps, buffer.num_envs, ends), of_steps(shaped, obs, steps),
                               rtol=1e-4, atol=1e-5)
    assert not torch.allclose(shaped.of_rollout(obs, steps, buffer.num_envs, ends[:0]), of_steps(shaped, obs, steps))


def test_terminations_are_worth_the_absorbing_reward_for_ever():
    learner, buffer = make(), make_buffer()
    metrics = learner.relabel(buffer)
    ended = buffer.terminations & buffer.valid
    np.testing.assert_allclose(buffer.final_values[ended], metrics["disc/absorbing_reward"] / (1 - GAMMA), rtol=1e-4)


def test_invalid_rows_teach_nothing():
    states = []
    for spoil in (False, True):
        learner, buffer = make(), make_buffer(invalid=True)
        buffer.terminations[:-1] |= ~buffer.valid[1:]  # a row is ignored only where the one before ended an episode
        if spoil:
            buffer.obs[~buffer.valid] = 1e3
        learner.relabel(buffer)
        states.append(learner.discriminator.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_old_rows_keep_their_own_log_pi():
    learner = make(replay_size=16, replay_share=1.0)
    learner.relabel(make_buffer())
    assert len(learner.replay) > 0
    learner.replay.paired.logprobs[:] = -77.0
    flat = make_buffer(seed=2).flat()
    steps = Steps(*(torch.from_numpy(x) for x in (flat.actions, flat.obs, flat.terminations, flat.logprobs)))
    learner.policy_absorbing = 0.0
    rows = policy_rows(learner, torch.from_numpy(flat.obs), steps)
    assert (rows[:, -1] == -77).all()


def test_old_rows_stand_before_and_behind_the_new_ones():
    learner = make(replay_size=16, replay_share=0.36)
    learner.relabel(make_buffer())
    learner.replay.paired.logprobs[:] = -77.0
    flat = make_buffer(seed=2).flat()
    steps = Steps(*(torch.from_numpy(x) for x in (flat.actions, flat.obs, flat.terminations, flat.logprobs)))
    learner.policy_absorbing = 0.0
    old = policy_rows(learner, torch.from_numpy(flat.obs), steps)[:, -1] == -77
    assert old.tolist() == [True] * 11 + [False] * 41 + [True] * 12  # 23 of 64


@pytest.mark.parametrize("batch", [40, 20])
def test_demonstrated_rows_carry_the_present_policys_log_pi(batch):
    """Of all 40 rows at once or, where an update draws fewer, of those that it draws."""
    learner = make(disc_updates=1, disc_batch_size=batch)
    assert learner.asks_all == (batch == 40)
    for seed in (1, 2):  # the second time, of a policy that has moved
        learner.relabel(make_buffer(seed=seed))
        learner.generator.manual_seed(3)
        index = learner.draw_expert(batch)
        learner.generator.manual_seed(3)
        rows = expert_rows(learner)
        with torch.no_grad():
            expected = learner.policy.dist.log_prob_executed(learner.policy.action_params(learner.demo_obs[index]),
                                                             learner.demo_paired.actions[index])
            expected = learner.config.temperature * expected.clamp_min(-math.log(2))
            for parameter in learner.policy.parameters():
                parameter.add_(torch.sin(torch.arange(parameter.numel())).view_as(parameter))
        absorbing = round(learner.demo_absorbing * batch)
        assert 0 < absorbing < batch and (rows[:absorbing, -1] == 0).all()
        torch.testing.assert_close(rows[absorbing:, -1], expected[absorbing:], rtol=1e-5, atol=1e-6)
        assert seed == 1 or expected.std() > 0.01


def test_the_reward_that_is_kept_is_g_without_the_shaping():
    learner = make(inputs="state")
    learner.relabel(make_buffer())
    reward, (obs, _) = learner.learned_reward(), some_steps()
    assert reward.reads == ("obs",) and reward.algo == "airl"
    with torch.no_grad():
        torch.testing.assert_close(reward.of_rows(obs, None, None), learner.discriminator.reward(
            learner.discriminator.reward.rows(obs)))
    before = reward.of_rows(obs, None, None)
    learner.relabel(make_buffer(seed=5))
    assert torch.equal(before, reward.of_rows(obs, None, None))  # a copy


@pytest.mark.parametrize("memory", [1, 50])
def test_the_reward_that_is_kept_is_the_average_of_the_last_iterations(memory):
    learner, found = make(inputs="state", reward_memory=memory), []
    for seed in (1, 2):
        learner.relabel(make_buffer(seed=seed))
        found.append({name: value.clone() for name, value in learner.discriminator.reward.state_dict().items()})
    kept = learner.learned_reward().network.state_dict()
    for name, (first, last) in ((name, [state[name] for state in found]) for name in found[0]):
        expected = last if memory == 1 else (first.double() + last.double()).div(2).to(last.dtype)
        torch.testing.assert_close(kept[name], expected)
        assert torch.equal(learner.discriminator.reward.state_dict()[name], last)


def test_the_potential_comes_with_the_reward():
    learner = make(inputs="state", reward_memory=1)
    learner.relabel(make_buffer())
    reward, (obs, steps) = learner.learned_reward(), some_steps()
    f = reward.of_rows(obs, None, None) - reward.potential.logits(obs, None)
    later = torch.where(steps.ended, reward.absorbing_potential(), reward.potential.logits(steps.next_obs, None))
    torch.testing.assert_close(f + GAMMA * later, of_steps(learner.discriminator, obs, steps), rtol=1e-4, atol=1e-5)


def test_the_replay_holds_all_policies_alike():
    learner = make(replay_size=16)
    for seed in range(40):
        learner.relabel(make_buffer(seed=seed))
        learner.replay.paired.logprobs[learner.replay.paired.logprobs > -50] = -100.0 - seed
    ages = -100 - learner.replay.paired.logprobs
    assert ages.min() < 20 <= ages.max()


def test_memory_is_refused():
    with pytest.raises(InputError, match=r"policy\.lstm = 4: airl needs"):
        make(policy={"lstm": 4})
