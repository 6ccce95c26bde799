"""A learned reward is the same one after it was saved, without the learner, and says what it cannot read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec, ObsField
from puffer_il.demos import read_demos
from puffer_il.learners.common.absorbing import UNSEEN, absorbing_share
from puffer_il.learners.common.learned_reward import (
    FILE,
    KINDS,
    NetworkReward,
    TableReward,
    check_spaces,
    load_reward,
    save_reward,
)
from puffer_il.learners.experiment import build
from puffer_il.learners.registry import get_learner, learner_names
from puffer_il.nn.distributions import Gaussian
from tests.support.rollouts import SPEC as ROLLOUT
from tests.support.rollouts import sign_demos
from tests.support.runs import CONTRACT, final_state, run, scripted_cartpole_demos, tiny

DISCRETE = EnvSpec("one", (3,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
CONTINUOUS = EnvSpec("two", (3,), np.dtype(np.float32),
                     ActionSpec(low=np.float32([-2]), high=np.float32([2]), shape=(1,)))
STATES = EnvSpec("table", (1,), np.dtype(np.int32), ActionSpec(nvec=(2,)),
                 (ObsField("obs", np.dtype(np.int32), (), 0, 4),))


def rows(spec: EnvSpec, n: int = 20):
    rng = np.random.default_rng(0)
    obs, next_obs = (rng.normal(size=(n, *spec.obs_shape)).astype(spec.obs_dtype) for _ in range(2))
    if spec is STATES:
        obs, next_obs = (rng.integers(0, 4, (n, 1)).astype(np.int32) for _ in range(2))
    actions = rng.integers(0, 2, (n, 1)).astype(np.int32) if spec.action.discrete else rng.normal(size=(n, 1))
    return tuple(torch.tensor(x) for x in (obs, actions.astype(spec.action.dtype), next_obs))


@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS, STATES], ids=lambda spec: spec.name)
@pytest.mark.parametrize("inputs", ["state", "next_state", "state_action", "state_next_state"])
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_a_network_comes_back_from_its_file(spec, inputs, spectral_norm, tmp_path):
    reward = NetworkReward(spec, "gail", 0.25, inputs=inputs, hidden=(8, 8), activation="relu", form="softplus",
                           clip=0.9, spectral_norm=spectral_norm).eval()
    if reward.network.flatten.num_numeric:
        reward.network.update_norm(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 0.5]), 10)
    save_reward(reward, tmp_path / FILE)
    again = load_reward(tmp_path)
    assert torch.equal(reward.of_rows(*rows(spec)), again.of_rows(*rows(spec)))
    assert again.of_rows(*rows(spec)).std() > 0 and (again.absorbing, again.algo) == (0.25, "gail")
    assert again.spec == spec and again.reads == reward.reads and not list(tmp_path.glob("*.tmp"))


def test_it_reads_what_it_says_and_nothing_else():
    for inputs, named in (("state", ("obs",)), ("next_state", ("next_obs",)), ("state_action", ("obs", "actions")),
                          ("state_next_state", ("obs", "next_obs"))):
        reward = NetworkReward(CONTINUOUS, "gail", inputs=inputs, hidden=(8,)).eval()
        assert reward.reads == named
        given = dict(zip(("obs", "actions", "next_obs"), rows(CONTINUOUS), strict=True))
        before = reward.of_rows(**given)
        for name in given:
            after = reward.of_rows(**given | {name: given[name].flip(0)})
            assert torch.equal(before, after) == (name not in reward.reads)


@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS, STATES], ids=lambda spec: spec.name)
def test_arrays_are_paid_as_tensors_are(spec):
    reward = NetworkReward(spec, "gail", inputs="state_action", hidden=(8,)).eval()
    tensors = rows(spec)
    obs, actions, _ = (x.numpy() for x in tensors)
    paid = reward.predict(obs, actions)
    assert paid.dtype == np.float32 and np.array_equal(paid, reward.of_rows(*tensors).numpy())
    assert np.array_equal(paid, reward.predict(obs[:, 0] if spec is STATES else obs.tolist(), actions[:, 0].tolist()))
    with pytest.raises(InputError, match="the reward of gail reads actions, which is missing; give an array of it"):
        reward.predict(obs)


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 2, 4)])
def test_a_table_of_states_of_actions_or_of_transitions(shape, tmp_path):
    table = np.random.default_rng(1).normal(size=shape)
    save_reward(TableReward.of(STATES, "maxent_irl", table), tmp_path / "reward.pt")
    reward, given = load_reward(tmp_path / "reward.pt"), rows(STATES)
    expected = table[tuple(x[:, 0].numpy() for x in given[:len(shape)])]
    np.testing.assert_allclose(reward.of_rows(*given), expected, rtol=1e-6)
    assert reward.absorbing is None


def test_a_run_writes_what_its_learner_pays_and_is_not_moved_by_it(tmp_path):
    demos = scripted_cartpole_demos(tmp_path / "demos.npz")
    recorder = run(tiny("gail", tmp_path / "run", demos__source=str(demos)))
    often = run(tiny("gail", tmp_path / "often", demos__source=str(demos), train__checkpoint_steps=1))
    assert [m["disc/loss"] for m in recorder.metrics if "disc/loss" in m] == \
        [m["disc/loss"] for m in often.metrics if "disc/loss" in m]
    reward, learner = load_reward(tmp_path / "run"), final_state(tmp_path / "run")["learner"]
    for name, tensor in reward.network.state_dict().items():
        assert torch.equal(tensor, learner["discriminator"][name])
    shown = read_demos(demos)
    demo_share = absorbing_share(shown.terminated.sum() + UNSEEN, shown.whole_lengths.sum(), 0.99)
    score = math.log(demo_share / learner["policy_absorbing"])
    assert reward.absorbing == pytest.approx(math.log1p(math.exp(score)), rel=1e-5) and reward.clip == 10


LEARN_A_REWARD = [name for name in learner_names() if hasattr(get_learner(name), "learned_reward")]


@pytest.mark.parametrize("algo", LEARN_A_REWARD)
def test_every_learner_that_has_a_reward_leaves_one_that_pays(algo, tmp_path):
    settings, make = CONTRACT.get(algo, ({}, scripted_cartpole_demos))
    demos = make(tmp_path / "demos.npz")
    settings = {k: v.format(folder=tmp_path) if isinstance(v, str) else v for k, v in settings.items()}
    run(tiny(algo, tmp_path / "run", **{"demos__source": str(demos)} | settings))
    reward, shown = load_reward(tmp_path / "run"), read_demos(demos)
    paid = reward.of_rows(*(torch.tensor(x) for x in (shown.obs, shown.actions, shown.next_obs)))
    assert paid.shape == (len(shown),) and paid.isfinite().all() and paid.std() > 0
    assert algo == "transfer" or reward.algo == algo
    assert reward.absorbing is None or np.isfinite(reward.absorbing)


def test_red_pays_what_it_keeps(tmp_path):
    from puffer_il.learners.red import RED

    demos = sign_demos()
    learner = RED(ROLLOUT, demos, build("red", [("test", {"red": {"fit_updates": 20, "hidden": [8]}})]),
                  torch.device("cpu"), 0)
    save_reward(learner.learned_reward(), tmp_path / FILE)
    given = torch.tensor(demos.obs), torch.tensor(demos.actions)
    expected = learner.reward.of_rows(*given, None)
    torch.testing.assert_close(load_reward(tmp_path).of_rows(*given, None), expected, rtol=1e-5, atol=1e-6)


def test_learners_without_a_reward_write_none(tmp_path):
    run(tiny("ppo", tmp_path / "run"))
    with pytest.raises(InputError, match=r"run: holds no learned reward \(reward\.pt\)"):
        load_reward(tmp_path / "run")


def test_what_cannot_be_read_is_refused_in_a_line(tmp_path):
    path = tmp_path / FILE
    for content, match in ((b"nothing", "cannot be read"), ({"format": 99}, "not of format 2"),
                           ({"format": 2, "kind": "dream", "algo": "sleep"}, "kind 'dream' is unknown")):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(InputError, match=match) as error:
            load_reward(tmp_path)
        assert "\n" not in str(error.value)


def test_every_kind_can_be_saved_under_a_name_of_its_own():
    get_learner("gail")
    assert KINDS["network"] is NetworkReward and KINDS["table"] is TableReward


def test_only_spaces_that_it_reads_have_to_agree():
    check_spaces(NetworkReward(DISCRETE, "airl", inputs="state"), CONTINUOUS, "here")
    with pytest.raises(InputError, match=r"here: this reward reads actions, .* \(airl\.inputs = 'state'\)"):
        check_spaces(NetworkReward(DISCRETE, "airl", inputs="state_action"), CONTINUOUS, "here")
    with pytest.raises(InputError, match=r"reads observations float32 \(3,\) of one, but those of table are int32"):
        check_spaces(NetworkReward(DISCRETE, "airl", inputs="state"), STATES, "here")


def test_the_probability_of_an_executed_action_counts_all_that_is_clipped_to_it():
    dist = Gaussian(CONTINUOUS.action, squash=False, init_log_std=0.3)
    params = torch.linspace(-1.5, 1.5, 7)[:, None]
    std = float(dist.log_std.detach().exp())
    normal = torch.distributions.Normal(params[:, 0].double(), std)
    low, high, inside = (dist.log_prob_executed(params, torch.full((7, 1), x)).double() for x in (-2.0, 5.0, 1.0))
    below, above, at = (torch.tensor(x, dtype=torch.float64) for x in (-1.0, 1.0, 0.5))
    torch.testing.assert_close(low.exp(), normal.cdf(below), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(high.exp(), 1 - normal.cdf(above), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(inside, normal.log_prob(at), atol=1e-5, rtol=1e-5)
    grid = torch.linspace(-1.999, 1.999, 2001)
    mass = torch.stack([dist.log_prob_executed(params, torch.full((7, 1), float(x))) for x in grid]).exp().mean(0) * 2
    torch.testing.assert_close(mass.double() + low.exp() + high.exp(), torch.ones(7).double(), atol=2e-3, rtol=0)
    assert dist.clipped(torch.tensor([[-2.0], [0.0], [3.0]])).tolist() == [True, False, True]
