"""Expert slices: who drives which environments, what is written of it, and what learns from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from puffer_il.core.config import MixConfig, PolicyConfig
from puffer_il.core.errors import InputError, NotFinite
from puffer_il.learners.common.mixins import ExpertRows
from puffer_il.nn import FlatAdam, Policy
from puffer_il.rollout.actors import ScriptActor
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.rollout.slices import ExpertSlice
from puffer_il.vector.vec import make_vec
from tests.support.runs import final_state, run, same_state, scripted_cartpole_demos, tiny

STEPS, ENVS = 20, 32


@pytest.fixture
def rollout():
    """A rollout of CartPole in whose first two environments the script drives, with the policy and the slice.
    """
    with make_vec("cartpole", num_envs=ENVS) as vec:
        torch.manual_seed(0)
        policy = Policy(vec.spec, PolicyConfig(hidden=(8,)))
        buffer = RolloutBuffer(vec.spec, STEPS, ENVS, shown=True)
        share = ExpertSlice(ScriptActor(vec), 2 / ENVS, 0.0, ENVS)
        collector = Collector(vec, policy, buffer, torch.device("cpu"), 1, share=share)
        yield collector.collect(), policy, collector


def test_the_share_falls_linearly_and_never_parts_the_agents_of_an_environment():
    falling = ExpertSlice(None, 0.5, 0.1, 20)
    counts = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        falling.start(progress)
        counts.append(falling.count)
    assert counts == [10, 8, 6, 2]
    teams = ExpertSlice(None, 0.3, 0.0, 20, num_agents=4)
    teams.start(0.0)
    assert teams.count == 8


def test_an_expert_whose_action_is_nan_is_named_and_not_the_policy():
    share = ExpertSlice(lambda obs, starts, rows: np.full((len(obs), 1), np.nan, np.float32), 0.5, 0.5, 4)
    share.start(0.0)
    with pytest.raises(NotFinite, match=r"mix\.expert: an action of the expert that drives is NaN"):
        share.act(slice(0, 4), np.zeros((4, 2)), np.zeros(4, bool), np.zeros((4, 1), np.float32))


def test_the_expert_drives_its_environments_and_the_policy_the_others(rollout):
    buffer, policy, _ = rollout
    with make_vec("cartpole", num_envs=ENVS) as vec:
        assert np.array_equal(vec.reset(1), buffer.obs[0])  # the same environments again, driven by hand
        for t in range(STEPS):
            np.testing.assert_array_equal(buffer.actions[t, :2], vec.expert_actions()[:2])
            vec.step(buffer.actions[t])
    obs, actions = (torch.from_numpy(x[:, 2:].reshape(-1, x.shape[-1])) for x in (buffer.obs, buffer.actions))
    expected = policy.dist.log_prob(policy.action_params(obs), actions).detach().numpy()
    np.testing.assert_allclose(buffer.logprobs[:, 2:].reshape(-1), expected, atol=1e-5)


def test_what_the_expert_did_is_shown_and_no_sample_of_the_policy(rollout):
    buffer, _, collector = rollout
    assert buffer.shown[:, :2].all() and not buffer.shown[:, 2:].any()
    assert not buffer.valid[:, :2].any() and buffer.valid[:, 2:].all()
    assert collector.metrics()["rollout/expert_envs"] == 2 / ENVS
    collector.progress = 1.0
    collector.collect()
    assert not buffer.shown.any() and buffer.valid.all() and "time/env" not in collector.metrics()  # in C again


@pytest.mark.parametrize("lstm", [0, 4])
def test_it_is_cloned_with_the_weight_of_its_share(rollout, lstm):
    buffer, _, collector = rollout
    torch.manual_seed(1)
    policy = Policy(collector.vec.spec, PolicyConfig(hidden=(8,), lstm=lstm))
    optimizer = FlatAdam(policy.parameters(), learning_rate=1e-3)
    optimizer.prepare()
    rows = ExpertRows(MixConfig(expert_envs=0.25, batch_size=20_000), None, policy, optimizer, torch.device("cpu"))
    rows.start(0.0, buffer)
    assert rows.own == 1 - 2 / ENVS
    found, loss = rows.gradients(np.random.default_rng(0))
    if lstm:
        return assert_learns(rows, policy, optimizer, loss)
    obs, actions = (torch.from_numpy(x[:, :2].reshape(-1, x.shape[-1])) for x in (buffer.obs, buffer.actions))
    nll = -policy.dist.log_prob(policy.action_params(obs), actions).mean()
    optimizer.zero_grad()
    (2 / ENVS * nll).backward()
    assert float(loss) == pytest.approx(float(nll.detach()), abs=0.02)
    assert float(found.norm()) == pytest.approx(float(rows.gradient.norm()), rel=0.1)
    assert float(found @ rows.gradient / found.norm() / rows.gradient.norm()) > 0.99


def assert_learns(rows, policy, optimizer, before):
    rng = np.random.default_rng(0)
    for _ in range(30):
        gradient, loss = rows.gradients(rng)
        optimizer.zero_grad()
        rows.gradient.copy_(gradient)
        optimizer.step()
    assert float(loss) < float(before)


def test_where_nobody_drives_nothing_is_added(rollout):
    buffer, policy, collector = rollout
    collector.progress = 1.0
    collector.collect()
    optimizer = FlatAdam(policy.parameters(), learning_rate=1e-3)
    rows = ExpertRows(MixConfig(expert_envs=0.25), None, policy, optimizer, torch.device("cpu"))
    rows.start(1.0, buffer)
    assert rows.own == 1 and not rows.gradients(np.random.default_rng(0))[0].any()


@pytest.mark.parametrize("algo", ["ppo", "gail"])
def test_a_run_with_a_slice_resumes_exactly(algo, tmp_path):
    options = {"mix__expert_envs": 0.5, "eval__interval_steps": 0}
    if algo == "gail":
        options["demos__source"] = str(scripted_cartpole_demos(tmp_path / "d.npz"))
    recorder = run(tiny(algo, tmp_path / "whole", **options))
    assert [m["rollout/expert_envs"] for m in recorder.metrics[:4]] == [0.5, 0.375, 0.25, 0.125]
    assert all(np.isfinite(m["losses/expert_nll"]) for m in recorder.metrics[:4])
    run(tiny(algo, tmp_path / "cut", **options), interrupt_after=2)
    run(tiny(algo, tmp_path / "cut", **options), resume=True)
    assert same_state(final_state(tmp_path / "whole")["learner"], final_state(tmp_path / "cut")["learner"])


def test_an_environment_without_a_script_asks_for_a_policy(tmp_path):
    with pytest.raises(InputError, match=r"mix\.expert = 'script': .* has no scripted expert"):
        run(tiny("ppo", tmp_path / "run", env__name="gymnasium:CartPole-v1", mix__expert_envs=0.25))
