"""The average of the last policies is what evaluations and the user see; training goes on from the latest one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from puffer_il.training.averaged import BEGIN, ShownPolicy
from puffer_il.training.saved_run import load_policy
from tests.support.runs import final_state, run, same_state, scripted_cartpole_demos, tiny


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return str(scripted_cartpole_demos(tmp_path_factory.mktemp("demos") / "demos.npz"))


def weights(policy):
    return [float(p.detach()) for p in policy.parameters()]


def player(memory: int, plays_game: bool = True) -> tuple[nn.Module, ShownPolicy]:
    policy = nn.Linear(1, 1, bias=False)
    return policy, ShownPolicy(SimpleNamespace(policy=policy, plays_game=plays_game), memory)


def walk(policy: nn.Module, shown: ShownPolicy, *, good: bool, progress: float = 0.0, to: int = 5) -> None:
    for value in range(1, to + 1):
        with torch.no_grad():
            policy.weight.fill_(value)
        shown.follow(good, progress)


def test_the_shown_policy_is_the_average_of_the_last_and_its_own_comes_back():
    policy, shown = player(2)
    walk(policy, shown, good=True)
    expected = 1.0
    for value in range(2, 6):
        expected += (value - expected) / 2
    with shown.in_place():
        assert weights(policy) == [pytest.approx(expected)]
    assert weights(policy) == [5.0]


@pytest.mark.parametrize(("good", "progress", "averaged"), [(False, 0.9 * BEGIN, False), (False, BEGIN, True),
                                                            (True, 0.0, True)])
def test_averages_begin_at_the_experts_level_or_half_of_the_run(good, progress, averaged):
    policy, shown = player(3)
    walk(policy, shown, good=good, progress=progress)
    assert shown.averaged == averaged
    with shown.in_place():
        assert (weights(policy) == [5.0]) != averaged


def test_averages_go_on_once_begun():
    policy, shown = player(10)
    walk(policy, shown, good=True, to=1)
    walk(policy, shown, good=False)
    assert shown.average.count == 6


@pytest.mark.parametrize(("memory", "plays_game"), [(1, True), (10, False)])
def test_the_latest_policy_is_shown_where_no_average_is_wanted(memory, plays_game):
    policy, shown = player(memory, plays_game)
    walk(policy, shown, good=True)
    with shown.in_place():
        assert not shown.averaged and weights(policy) == [5.0]


@pytest.mark.parametrize("result", ["best", "last"])
def test_the_users_policy_is_the_average_and_training_does_not_notice(result, tmp_path, demos):
    states, policies, scores = {}, {}, {}
    for memory in (1, 10):
        folder = tmp_path / str(memory)
        recorder = run(tiny("gail", folder, demos__source=demos, train__policy_memory=memory, train__result=result))
        states[memory] = final_state(folder)
        policies[memory], scores[memory] = load_policy(folder)[0].state_dict(), recorder.summary["eval"]
    assert same_state(states[1]["learner"], states[10]["learner"])
    assert same_state(dict(policies[1]), states[1]["learner"]["ppo"]["policy"])
    assert not same_state(dict(policies[10]), dict(policies[1]))
    assert same_state({k: v.float() for k, v in states[10]["shown"]["average"]["mean"].items()},
                      {k: v.float() for k, v in policies[10].items()})
    assert same_state(dict(policies[10]), states[10]["policy"])


def test_a_resumed_run_goes_on_with_its_average(tmp_path, demos):
    run(tiny("gail", tmp_path / "whole", demos__source=demos))
    run(tiny("gail", tmp_path / "cut", demos__source=demos), interrupt_after=3)
    assert final_state(tmp_path / "cut")["shown"]["average"]["count"] > 0
    run(tiny("gail", tmp_path / "cut", demos__source=demos), resume=True)
    whole, cut = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    assert same_state(whole["shown"], cut["shown"]) and same_state(whole["policy"], cut["policy"])


def test_a_learner_with_a_fixed_reward_is_shown_as_it_is(tmp_path):
    policies = []
    for memory in (1, 10):
        run(tiny("ppo", tmp_path / str(memory), train__policy_memory=memory))
        policies.append(final_state(tmp_path / str(memory))["policy"])
    assert same_state(*policies)
