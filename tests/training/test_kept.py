"""What a run gives: the best evaluated policy, scored on episodes that did not choose it; and the last one to go on
from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from puffer_il.learners.common.learned_reward import load_reward
from puffer_il.learners.experiment import replaced
from puffer_il.rollout.evaluate import CHOICE_SEED, EVAL_SEED, FINAL_SEED, Scores
from puffer_il.training import judge, trainer
from puffer_il.training.kept import COUNT, copy_of, differs
from puffer_il.training.run_dir import prepare_run_dir
from puffer_il.training.saved_run import load_policy
from tests.support.runs import final_state, run, same_state, scripted_cartpole_demos, tiny


def worth(policy):
    """What a policy returns in these tests: a number that changes with every update."""
    return round(1e5 * float(next(iter(policy.parameters())).detach().flatten()[0])) % 1000


@pytest.fixture
def played(monkeypatch):
    """Every evaluation as (seed, worth of the policy, greedy), and no environment is played. `played.luck` is
    added to what an evaluation of that number during the run finds."""

    class Played(list):
        value = staticmethod(worth)
        sampled = 0.0

    seen = Played()
    seen.luck = {}

    def evaluate(vec, actor, episodes, seed, limit=0, stopped=None, *more):
        if not hasattr(actor, "policy"):
            return Scores(np.full(episodes, -1.0), np.ones(episodes, int))  # the random policy
        value = float(seen.value(actor.policy))
        seen.append((seed - 1, value, actor.deterministic))
        during = sum(s == EVAL_SEED for s, *_ in seen)
        value += seen.luck.get(during, 0.0) if seed - 1 == EVAL_SEED else 0.0
        return Scores(np.full(episodes, value + (0.0 if actor.deterministic else seen.sampled)), np.ones(episodes, int))

    monkeypatch.setattr(judge, "evaluate", evaluate)
    return seen


def values(played, seed):
    return [value for s, value, greedy in played if s == seed and greedy]


def test_the_best_evaluated_policy_is_the_result(tmp_path, played):
    recorder = run(tiny("ppo", tmp_path / "run", eval__interval_steps=256, train__total_steps=2048))
    during, (last, *result) = values(played, EVAL_SEED), values(played, FINAL_SEED)
    assert len(during) == 7 and last < max(during), "choose another seed: this run ends with its best"
    assert result == [max(during)]
    summary, policy = recorder.summary, load_policy(tmp_path / "run")[0]
    assert worth(policy) == summary["eval"]["return_mean"] == max(during)
    assert summary["eval_last"]["return_mean"] == last
    assert summary["best"] == {"env_steps": 256 * (1 + during.index(max(during))), "return_mean": max(during)}
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["best"] == summary["best"]
    assert any("not the last one" in message for message in recorder.messages)
    # The last metrics are those of the last weights, as every line's are of the weights of its step.
    assert recorder.metrics[-1]["eval/return_mean"] == last


def test_a_policy_that_was_only_lucky_is_found_out_on_other_episodes(tmp_path, played):
    played.luck = {2: 1e6}
    recorder = run(tiny("ppo", tmp_path / "run", eval__interval_steps=256, train__total_steps=2048))
    again = values(played, CHOICE_SEED)
    assert len(again) == COUNT + 1 and recorder.summary["best"]["return_mean"] == max(again)
    assert recorder.summary["best"]["env_steps"] != 512
    assert values(played, FINAL_SEED)[-1] == max(again)


def test_what_python_gets_acts_like_what_is_on_the_disk(tmp_path, played):
    config = tiny("ppo", tmp_path / "run", eval__interval_steps=256, train__total_steps=2048)
    outcome = trainer.train(config, [], prepare_run_dir(config))
    assert outcome.summary["best"]["env_steps"] < 2048
    assert same_state(dict(outcome.policy.state_dict()), final_state(tmp_path / "run")["policy"])


def test_the_last_policy_is_the_result_if_asked(tmp_path, played):
    recorder = run(tiny("ppo", tmp_path / "run", eval__interval_steps=256, train__result="last"))
    last, *more = values(played, FINAL_SEED)
    assert not more and not values(played, CHOICE_SEED)
    assert recorder.summary["eval"] == recorder.summary["eval_last"] and recorder.summary["best"] is None
    assert worth(load_policy(tmp_path / "run")[0]) == last


def test_without_evaluations_the_last_policy_is_played_alone(tmp_path, played):
    summary = run(tiny("ppo", tmp_path / "run")).summary
    assert not values(played, CHOICE_SEED) and not values(played, EVAL_SEED) and len(values(played, FINAL_SEED)) == 1
    assert summary["best"] is None and summary["eval"] == summary["eval_last"]


def test_where_the_return_tells_nothing_the_last_policy_is_the_result(tmp_path, played):
    played.value = lambda policy: 0.0
    summary = run(tiny("ppo", tmp_path / "run", eval__interval_steps=256)).summary
    assert summary["best"]["env_steps"] == summary["env_steps"] == 1024


def test_an_imitator_of_an_expert_below_chance_is_best_where_it_returns_least(tmp_path, played):
    demos = scripted_cartpole_demos(tmp_path / "d.npz")
    for result, of in ((-1e9, max), (1e9, min)):  # what the random policy returns, and the best of the imitator's
        played.clear()
        inner = judge.evaluate

        def chance(vec, actor, episodes, seed, *rest, inner=inner, result=result):
            scores = inner(vec, actor, episodes, seed, *rest)
            return scores if hasattr(actor, "policy") else Scores(np.full(episodes, result), scores.lengths)

        judge.evaluate = chance
        try:
            run(tiny("gail", tmp_path / of.__name__, demos__source=str(demos), eval__interval_steps=256))
        finally:
            judge.evaluate = inner
        again = values(played, CHOICE_SEED)
        assert len(set(again)) > 1 and worth(load_policy(tmp_path / of.__name__)[0]) == of(again)


def test_a_learner_without_rollouts_chooses_its_result_itself(tmp_path, played):
    demos = scripted_cartpole_demos(tmp_path / "d.npz")
    summary = run(tiny("bc", tmp_path / "run", demos__source=str(demos), eval__interval_steps=100,
                       train__total_steps=2000)).summary
    assert values(played, EVAL_SEED) and not values(played, CHOICE_SEED) and summary["best"] is None


def test_the_learned_reward_is_that_of_the_policys_moment(tmp_path, played):
    demos = scripted_cartpole_demos(tmp_path / "d.npz")
    options = {"demos__source": str(demos), "train__total_steps": 2048}
    best = run(tiny("gail", tmp_path / "run", eval__interval_steps=256, **options)).summary["best"]["env_steps"]
    assert best < 2048, "choose another seed: this run ends with its best"
    kept = next(one for one in final_state(tmp_path / "run")["kept"] if one["env_steps"] == best)
    assert same_state(dict(load_reward(tmp_path / "run").state_dict()), dict(kept["reward"]["state"]))
    run(tiny("gail", tmp_path / "last", **options))
    assert not same_state(load_reward(tmp_path / "last").state_dict(), load_reward(tmp_path / "run").state_dict())


@pytest.mark.parametrize("algo", ["ppo", "gail", "dagger"])
def test_keeping_policies_does_not_change_what_is_learned(algo, tmp_path):
    demos = {"demos__source": str(scripted_cartpole_demos(tmp_path / "d.npz"))} if algo == "gail" else {}
    states = {}
    for result in ("best", "last"):
        run(tiny(algo, tmp_path / result, eval__interval_steps=256, train__result=result, **demos))
        states[result] = final_state(tmp_path / result)
    assert same_state(states["best"]["learner"], states["last"]["learner"])


def test_a_resumed_run_keeps_the_best_and_goes_on_from_the_last_weights(tmp_path, played):
    options = {"eval__interval_steps": 256, "train__total_steps": 2048}
    run(tiny("ppo", tmp_path / "whole", **options))
    run(tiny("ppo", tmp_path / "cut", **options), interrupt_after=5)
    summary = json.loads((tmp_path / "cut" / "summary.json").read_text())
    during = values(played, EVAL_SEED)[-5:]
    assert summary["status"] == "interrupted" and summary["eval"]["return_mean"] == max(during)
    assert worth(load_policy(tmp_path / "cut")[0]) == max(during) and summary["eval_last"]["return_mean"] == during[-1]
    run(tiny("ppo", tmp_path / "cut", **options), resume=True)
    whole, cut = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    for name in ("learner", "policy", "policy_steps", "kept"):
        assert same_state(whole[name], cut[name]), name
    assert len(whole["kept"]) == COUNT


def test_a_run_at_its_end_goes_on_from_its_last_weights_too(tmp_path, played):
    config = tiny("ppo", tmp_path / "run", eval__interval_steps=256, train__total_steps=2048)
    assert run(config).summary["best"]["env_steps"] < 2048
    before = final_state(tmp_path / "run")
    starts = []

    def iterate(self, inner=trainer.Trainer.iterate):
        starts.append(copy_of(self.learner.policy.state_dict()))
        inner(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "iterate", iterate)
        run(replaced(config, {"train.total_steps": 2304}), resume=True)
    assert len(starts) == 1 and same_state(starts[0], dict(before["learner"]["policy"]))


def test_both_ways_to_act_are_scored_at_the_end(tmp_path, played):
    played.sampled = 5.0
    recorder = run(tiny("ppo", tmp_path / "run"))
    greedy, sampled = recorder.summary["eval_greedy"], recorder.summary["eval_sampled"]
    assert greedy == recorder.summary["eval"] and sampled["return_mean"] == greedy["return_mean"] + 5
    notices = [message for message in recorder.messages if "eval.deterministic = false" in message]
    assert len(notices) == 1 and "\n" not in notices[0]
    recorder = run(tiny("ppo", tmp_path / "other", eval__deterministic=False))
    assert recorder.summary["eval"] == recorder.summary["eval_sampled"] != recorder.summary["eval_greedy"]
    assert not any("eval.deterministic" in message for message in recorder.messages)


def scores(values):
    return Scores(np.asarray(values, float), np.ones(len(values), int))


def test_a_greedy_policy_is_called_stuck_only_if_the_intervals_lie_apart():
    rng = np.random.default_rng(0)
    zero, high, near = (scores(x) for x in (np.zeros(100), rng.normal(184, 90, 100), rng.normal(190, 90, 100)))
    assert "184" in differs(zero, scores(np.full(100, 184.0)), True)
    assert "eval.deterministic = false" in differs(zero, high, True) and "stuck" in differs(zero, high, True)
    assert "stuck" in differs(zero, high, False) and "eval." not in differs(zero, high, False)
    assert not differs(high, near, True) and "stuck" in differs(high, zero, True, sign=-1)
    assert not differs(scores([0]), high, True), "of one episode nothing is known"


@pytest.mark.parametrize(("greedy", "sampled"), [(0.8, -2.1), (-2.1, 0.8)])
def test_what_differs_much_is_said_in_both_directions(greedy, sampled):
    rng = np.random.default_rng(0)
    played = [scores(rng.normal(mean, 1, 100)) for mean in (greedy, sampled)]
    for deterministic in (True, False):
        line = differs(*played, deterministic, chance=-5.0)
        assert line and "\n" not in line
    told = differs(*played, True, chance=-5.0)
    assert ("deterministic=True" in told) == (greedy > sampled) == ("stuck" not in told)


def test_that_sampling_costs_a_little_is_no_news():
    rng = np.random.default_rng(0)
    greedy, sampled = scores(rng.normal(100, 1, 100)), scores(rng.normal(94, 1, 100))
    assert not differs(greedy, sampled, True, chance=0.0)
    assert differs(greedy, sampled, True, chance=60.0) and differs(greedy, sampled, True)
    assert differs(sampled, greedy, True, chance=0.0), "but what it gains is"


def test_what_is_kept_has_memory_of_its_own(tmp_path, played):
    run(tiny("ppo", tmp_path / "run", eval__interval_steps=256))
    kept = final_state(tmp_path / "run")["kept"]
    first = [next(iter(one["policy"].values())) for one in kept]
    assert len({float(x.flatten()[0]) for x in first}) == COUNT and all(isinstance(x, torch.Tensor) for x in first)
