"""Maximum causal entropy IRL from the command's side: what is deployed, kept and refused; `imitation` beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec, ObsField
from puffer_il.demos import read_demos
from puffer_il.learners.common.lbfgs import LBFGS
from puffer_il.learners.common.learned_reward import load_reward
from puffer_il.learners.common.maxent import (
    InverseProblem,
    SoftMDP,
    likelihood_evidence,
    matching_evidence,
)
from puffer_il.learners.common.policy_tables import log_likelihood, tabulate, total_variation
from puffer_il.learners.experiment import build, config_folder, experiment_layers
from puffer_il.learners.maxent_irl import MaxEntIRL
from puffer_il.native import tabular
from puffer_il.vector.make import find_creator
from puffer_il.vector.model import model_of
from tests.support.imitation import beside_imitation
from tests.support.mdps import episodes_of, exact_evidence, on_one_thread, policy_value, uniform
from tests.support.runs import final_state, gridworld_demos, run, tiny

one_thread = pytest.fixture(autouse=True)(on_one_thread)
@pytest.fixture(scope="module")
def demos(tmp_path_factory) -> Path:
    return gridworld_demos(tmp_path_factory.mktemp("mdp") / "expert.npz")


def spec_of(states: int, actions: int) -> EnvSpec:
    field = ObsField("obs", np.dtype(np.int32), (), 0, states)
    return EnvSpec("mdp", (1,), np.dtype(np.int32), ActionSpec((actions,)), (field,))


def made(demos: Any, env: str = "mdp", policy: dict | None = None, kwargs: dict | None = None,
         **settings: Any) -> MaxEntIRL:
    config = build("maxent_irl", [("test", {"env": {"name": env, "kwargs": kwargs or {}},
                                            "policy": {"hidden": []} | (policy or {}), "maxent_irl": settings})])
    mdp = model_of(find_creator(config.env.name, config.env.kwargs))
    demos = read_demos(demos) if isinstance(demos, Path) else demos
    return MaxEntIRL(spec_of(mdp.num_states, mdp.num_actions), demos, config, torch.device("cpu"), 1, mdp)


def trained(*args: Any, **kwargs: Any) -> MaxEntIRL:
    learner = made(*args, **kwargs)
    for _ in range(200):
        if learner.done:
            break
        learner.update(None, 0.0)
    return learner


@pytest.mark.parametrize("reward", ["state", "state_action"])
def test_the_policy_is_the_soft_optimal_table_of_the_learned_reward(demos, reward):
    learner = trained(demos, reward=reward)
    assert learner.done and not learner.notices
    problem = learner.problem
    fresh = InverseProblem(SoftMDP(problem.soft.mdp, 0.99), problem.seen, reward)
    table = fresh.solve(learner.optimizer.x).policy
    going = problem.soft.mdp.going
    assert abs(tabulate(learner.policy) - table)[going].max() < 1e-6
    assert policy_value(problem.soft.mdp, table) > 0.4  # 0.534 is best, -1.1 chance


def test_metrics_tell_the_truth(demos):
    learner = trained(demos)
    metrics, mdp = learner.update(None, 0.0), learner.problem.soft.mdp
    policy = tabulate(learner.policy)
    nll = -log_likelihood(policy, read_demos(demos))
    own, shown = tabular.occupancy(mdp, policy, 0.99), learner.counted.visits
    assert metrics["maxent/nll"] == pytest.approx(nll, abs=1e-5)
    assert metrics["maxent/occupancy_l1"] == pytest.approx(abs(own / own.sum() - shown / shown.sum()).sum(), abs=1e-4)
    assert metrics["losses/grad_norm"] <= 1e-6
    assert metrics["maxent/evaluations"] > metrics["maxent/iterations"] > 10


def test_with_a_horizon_the_mean_policy_is_deployed(demos):
    learner = trained(demos, horizon=30, tolerance=1e-4)
    soft, found = learner.problem.soft, learner.problem.solve(learner.optimizer.x)
    assert found.policy.shape == (30, 45, 4)
    visits, _ = soft.visits(found.policy, soft.starts())
    seen = visits.sum(1) > 1e-9
    deployed = tabulate(learner.policy)
    assert np.allclose(deployed[seen], (visits / visits.sum(1, keepdims=True).clip(1e-300))[seen], atol=1e-6)
    assert abs(found.policy[0] - found.policy[-1])[seen].max() > 0.05  # or the test would say nothing


def test_matching_says_what_cut_episodes_do_to_it():
    mdp = model_of(find_creator("mdp"))
    cut = episodes_of(mdp, uniform(mdp), 5, 0, limit=3)
    assert not made(cut).notices
    notice, = made(cut, objective="matching").notices
    assert re.match(r"\d of 5 demonstrations are cut by a time limit, which maxent_irl.objective = 'matching'", notice)


def test_gamma_1_is_for_episodes_that_end(demos):
    learner = trained(demos, gamma=1.0)
    assert learner.done
    assert policy_value(learner.problem.soft.mdp, tabulate(learner.policy)) > 0.4


@pytest.mark.parametrize("reward", ["state", "state_action"])
def test_the_saved_reward_pays_what_was_learned(demos, tmp_path, reward):
    """Summed along episodes it is θ's own sum, terminal states included."""
    run(tiny("maxent_irl", tmp_path / "run", env__name="mdp", policy__hidden=[], train__total_steps=8,
             demos__source=str(demos), maxent_irl__reward=reward))
    saved, shown = load_reward(tmp_path / "run"), read_demos(demos)
    table = final_state(tmp_path / "run")["learner"]["reward"]
    assert abs(table).max() > 0.1
    paid = saved(*(torch.from_numpy(np.array(x)) for x in (shown.obs, shown.actions, shown.next_obs))).numpy()
    if reward == "state_action":
        assert paid == pytest.approx(table[shown.obs[:, 0], shown.actions[:, 0]], abs=1e-5)
    else:
        wanted = table[shown.obs[:, 0]] + 0.99 * np.where(shown.terminations, table[shown.next_obs[:, 0]], 0)
        assert paid == pytest.approx(wanted, abs=1e-5)
        assert abs(table[shown.next_obs[shown.terminations, 0]]).max() > 0.1


@pytest.mark.parametrize("env", ["frozenlake", "FrozenLake-v1"])
def test_other_environments_with_tables(env, tmp_path):
    path = tmp_path / "demos.npz"
    mdp = model_of(find_creator(env))
    best, _ = tabular.optimal_policy(mdp, 0.99)
    episodes_of(mdp, best, 20, 0).save(path)
    recorder = run(tiny("maxent_irl", tmp_path / "run", env__name=env, policy__hidden=[], train__total_steps=200,
                        demos__source=str(path), eval__final_episodes=50, eval__deterministic=False))
    assert recorder.summary["eval"]["return_mean"] > 0.5  # chance: 0.01


def test_experiments_without_hidden_layers_are_shipped():
    assert (config_folder() / "maxent_irl.toml").is_file()
    assert build("maxent_irl", experiment_layers("maxent_irl", "mdp")).policy.hidden == ()


@pytest.mark.parametrize(("change", "message"), [
    ({"policy": {"hidden": [64]}}, r"policy.hidden = \(64,\): the policy of maxent_irl is a table"),
    ({"policy": {"lstm": 4}}, "neither lstm, gru nor shared"),
    ({"features": "nowhere.npy"}, "maxent_irl.features = 'nowhere.npy': cannot be read"),
    ({"features": "{folder}/features.npy", "reward": "state_action"}, r"float64 \(45, 3\).*must be \(45, 4, 'K'\)"),
    ({"env": "cartpole"}, "cartpole has no table of transitions"),
    ({"env": "frozenlake"}, "there is a state 4., but environment frozenlake has 16 states"),
    ({"horizon": 2}, "maxent_irl.horizon = 2; set it to at least that"),
])
def test_what_does_not_fit_is_refused_in_one_line(demos, change, message):
    changes = {key: value.format(folder=demos.parent) if isinstance(value, str) else value
               for key, value in change.items()}
    with pytest.raises(InputError, match=message) as error:
        made(demos, **changes)
    assert "\n" not in str(error.value)


def test_an_observation_that_is_no_state_is_refused(demos):
    config = build("maxent_irl", [("test", {"env": {"name": "mdp"}, "policy": {"hidden": []}})])
    with pytest.raises(InputError, match="are not the 45 states and 4 actions of its table"):
        MaxEntIRL(spec_of(44, 4), read_demos(demos), config, torch.device("cpu"), 1,
                  model_of(find_creator(config.env.name, config.env.kwargs)))


def test_the_same_occupancy_as_imitation_at_ten_times_the_speed(tmp_path):
    row = beside_imitation(tmp_path, ["random16"])["random16"]
    assert row["ours"] < 1e-4 and row["theirs"] < 1e-4 and row["apart"] < 1e-4
    assert row["faster"] > 10


@pytest.mark.parametrize("kind", ["state", "state_action"])
def test_the_best_policy_of_icu_sepsis_from_its_occupancy(test_data, kind):
    """713 states that act, 25 actions, 1.5 million successors; `make quality` does it for the clinicians too."""
    mdp = model_of(find_creator("icusepsis", {"file": str(test_data / "icu_sepsis" / "dynamics.npz")}))
    best, soft = tabular.optimal_policy(mdp)[0], SoftMDP(mdp)
    problem = InverseProblem(soft, exact_evidence(soft, best), kind)
    optimizer = LBFGS(problem, np.zeros(problem.size))
    while abs(optimizer.gradient).max() > 5e-5:
        assert optimizer.iterate() and optimizer.evaluations < 60
    policy = SoftMDP(mdp).solve(*problem.rewards(optimizer.x)).policy
    wanted, own = tabular.occupancy(mdp, best), tabular.occupancy(mdp, policy)
    assert abs(own.sum(1) - wanted.sum(1)).max() < 1e-4
    assert kind == "state" or abs(own - wanted).max() < 1e-4
    assert policy_value(mdp, policy) == pytest.approx(0.8751, abs=3e-4)


@pytest.mark.parametrize("reward", ["state", "state_action"])
def test_more_episodes_bring_the_learned_occupancy_closer(reward):
    """Of a gridworld's expert who is soft-optimal; error falls with the root of their number, and is below that of the
    frequencies of what was seen."""
    mdp = model_of(find_creator("mdp"))
    soft = SoftMDP(mdp, 0.9)
    expert = soft.solve(5 * mdp.mean_rewards).policy
    wanted, away = tabular.occupancy(mdp, expert, 0.9), []
    for episodes in (100, 10_000):
        demos = episodes_of(mdp, expert, episodes, seed=1)
        problem = InverseProblem(soft, likelihood_evidence(soft, demos), reward, l2=0.01)
        optimizer = LBFGS(problem, np.zeros(problem.size))
        for _ in range(100):
            optimizer.iterate()
        own = tabular.occupancy(mdp, problem.solve(optimizer.x).policy, 0.9)
        seen = matching_evidence(soft, demos).visits
        away.append(total_variation(own, wanted))
        assert away[-1] < total_variation(seen, wanted)
    assert away[0] < 0.1 and away[1] < 0.01 and away[1] < away[0] / 4
