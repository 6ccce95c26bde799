"""A run whose losses, gradients or weights become NaN goes back to its last checkpoint with smaller steps, or ends."""

from __future__ import annotations

import json
from contextlib import ExitStack

import numpy as np
import pytest
import torch

import puffer_il
from puffer_il.core.errors import Diverged
from puffer_il.learners.base import Learner
from puffer_il.learners.ppo import PPO
from puffer_il.learners.registry import get_learner
from puffer_il.nn import FlatAdam
from puffer_il.training import trainer
from puffer_il.training.divergence import _parts, diverged, slow_down
from puffer_il.training.loggers import JsonlLogger
from puffer_il.training.run_dir import prepare_run_dir
from puffer_il.training.trainer import train
from tests.support.runs import Recorder, final_state, run, same_state, scripted_cartpole_demos, tiny

STEPS = {"train__checkpoint_steps": 256, "train__checkpoint_minutes": 0}


def weights(learner):
    """What its first optimiser changes."""
    return next(part.flat for _, part in _parts(learner) if isinstance(part, FlatAdam))


@pytest.fixture
def poisoned(monkeypatch):
    """Lets a learner's weights become NaN in its n-th update, `times` times."""

    def poison(cls, update=3, times=1):
        inner, calls = cls.update, []

        def update_(self, buffer, progress):
            metrics = inner(self, buffer, progress)
            calls.append(1)
            if update <= len(calls) < update + times:
                weights(self)[0] = np.nan
            return metrics

        monkeypatch.setattr(cls, "update", update_)

    return poison


def test_a_run_goes_back_with_half_the_step_and_comes_to_its_end(tmp_path, poisoned):
    poisoned(PPO)
    recorder = run(tiny("ppo", tmp_path / "run", **STEPS, train__total_steps=1280, ppo__anneal_lr=False))
    assert recorder.summary["status"] == "finished" and recorder.summary["rollbacks"] == 1
    (told,) = [line for line in recorder.messages if "goes back" in line]
    assert "the weights of policy." in told and "to step 512 with half the learning rates, time 1 of 3" in told
    rates = [m["losses/learning_rate"] for m in recorder.metrics if "losses/learning_rate" in m]
    assert rates == [1e-3] * 2 + [5e-4] * 3
    assert all_is_finite(tmp_path / "run") and final_state(tmp_path / "run")["env_steps"] == 1280


def all_is_finite(folder):
    return all(bool(x.isfinite().all()) for x in final_state(folder)["policy"].values())


def test_after_so_many_times_it_stops_with_the_last_good_policy(tmp_path, poisoned):
    poisoned(PPO, times=100)
    for most in (1, 2):
        config = tiny("ppo", tmp_path / str(most), **STEPS, train__max_rollbacks=most)
        recorder = Recorder()
        outcome = train(config, [recorder], prepare_run_dir(config))
        assert outcome.summary["status"] == "diverged" and outcome.summary["rollbacks"] == most
        assert len([line for line in recorder.messages if "goes back" in line]) == most
        assert "the weights of policy." in outcome.summary["cause"]
        state = final_state(tmp_path / str(most))
        assert same_state(dict(outcome.policy.state_dict()), state["policy"]) and all_is_finite(tmp_path /
                                                                                                         str(most))
        poisoned(PPO, update=1, times=100)


def test_it_stops_at_once_if_asked(tmp_path, poisoned):
    poisoned(PPO)
    recorder = run(tiny("ppo", tmp_path / "run", **STEPS, train__on_divergence="stop"))
    assert recorder.summary["status"] == "diverged" and recorder.summary["rollbacks"] == 0
    assert recorder.summary["env_steps"] == 768 and final_state(tmp_path / "run")["env_steps"] == 512
    assert not any("goes back" in line for line in recorder.messages) and all_is_finite(tmp_path / "run")


@pytest.mark.parametrize("algo", ["bc", "gail", "sac", "sqil", "csil", "dagger", "airl", "red"])
def test_every_learner_goes_back(algo, tmp_path, poisoned):
    poisoned(get_learner(algo), update=2)
    options = {"train__total_steps": 1024} if algo != "bc" else {"train__total_steps": 2000}
    if get_learner(algo).needs_demos:
        options["demos__source"] = str(scripted_cartpole_demos(tmp_path / "d.npz"))
    if algo == "dagger":
        options["dagger__expert"] = "script"
    if algo == "sac":
        options["env__name"] = "pendulum"
    recorder = run(tiny(algo, tmp_path / "run", **options))
    assert recorder.summary["status"] == "finished" and recorder.summary["rollbacks"] == 1
    assert all_is_finite(tmp_path / "run")


def test_without_an_optimiser_there_is_no_smaller_step(tmp_path, monkeypatch):
    cls = get_learner("maxent_irl")
    inner = cls.update
    monkeypatch.setattr(cls, "update", lambda self, buffer, progress: inner(self, buffer, progress) | {"x": np.inf})
    demos = puffer_il.collect("random", "frozenlake", episodes=4)
    demos.save(tmp_path / "d.npz")
    recorder = run(tiny("maxent_irl", tmp_path / "run", env__name="frozenlake", policy__hidden=[],
                        demos__source=str(tmp_path / "d.npz")))
    assert recorder.summary["status"] == "diverged" and recorder.summary["cause"].startswith("x is inf")


def test_a_learned_reward_that_is_not_finite_never_reaches_the_policy(tmp_path, monkeypatch):
    cls = get_learner("gail")
    inner, seen = cls.relabel, []

    def relabel(self, buffer):
        metrics = inner(self, buffer)
        if not seen:
            buffer.rewards[0, 0] = np.nan
        seen.append(1)
        return metrics

    monkeypatch.setattr(cls, "relabel", relabel)
    recorder = run(tiny("gail", tmp_path / "run", demos__source=str(scripted_cartpole_demos(tmp_path / "d.npz"))))
    (told,) = [line for line in recorder.messages if "goes back" in line]
    assert told.startswith("the reward that gail has learned is NaN or infinite") and "step 0" in told
    assert recorder.summary["status"] == "finished"


def test_what_was_logged_after_the_checkpoint_is_replaced(tmp_path, poisoned):
    poisoned(PPO, update=4)
    config = tiny("ppo", tmp_path / "run", train__checkpoint_steps=512, train__checkpoint_minutes=0,
                  train__total_steps=1536)
    recorder, folder = Recorder(), prepare_run_dir(config)
    train(config, [JsonlLogger(), recorder], folder)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps.pop() == 1536  # the last evaluation's
    assert steps == [256, 512, 768, 1024, 1280, 1536], "768 was logged twice, and is there once"
    assert [m["env_steps"] for m in recorder.metrics][:4] == [256, 512, 768, 768]
    walls = [m["wall_s"] for m in recorder.metrics]
    assert walls == sorted(walls), "the clock does not go back"


def test_a_resumed_run_keeps_its_smaller_steps(tmp_path, poisoned):
    poisoned(PPO, update=2)
    options = {**STEPS, "train__total_steps": 2048, "ppo__anneal_lr": False}
    run(tiny("ppo", tmp_path / "run", **options), interrupt_after=3)
    assert final_state(tmp_path / "run")["rollbacks"] == 1
    recorder = run(tiny("ppo", tmp_path / "run", **options), resume=True)
    assert {m["losses/learning_rate"] for m in recorder.metrics if "losses/learning_rate" in m} == {5e-4}
    assert recorder.summary["rollbacks"] == 1


def test_a_run_that_went_on_with_other_parameters_and_goes_back_keeps_them(tmp_path, poisoned):
    def go_on(g, **more):
        return run(tiny("ppo", tmp_path / "run", env__name="pendulum", env__kwargs={"g": g}), **more)

    earlier = go_on(10.0, interrupt_after=1).summary["random_return"]
    poisoned(PPO, update=1)
    summary = go_on(0.0, resume=True).summary
    assert summary["rollbacks"] == 1 and summary["random_return"] not in (None, earlier)


def test_a_policy_whose_actions_are_not_finite_goes_back(tmp_path, monkeypatch):
    inner, seen = trainer.Trainer.learn, []

    def learn(self):
        seen.append(1)
        if len(seen) == 2:
            raise Diverged("the policy's action of row 0 in step 0 of the rollout is nan")
        return inner(self)

    monkeypatch.setattr(trainer.Trainer, "learn", learn)
    recorder = run(tiny("ppo", tmp_path / "run"))
    assert recorder.summary["status"] == "finished" and recorder.summary["rollbacks"] == 1


# What is named

class Plain(torch.optim.Optimizer):
    """As far as it is looked at: torch's own take seconds to import their compiler."""

    def __init__(self, parameters, lr):
        self.param_groups = [{"params": list(parameters), "lr": lr}]


class Two(Learner):
    """Two networks with an optimiser each."""

    def __init__(self):
        self.policy = torch.nn.ModuleDict({"actor": torch.nn.Linear(2, 1), "critic": torch.nn.Linear(2, 1)})
        self.optimizer = FlatAdam(self.policy.parameters(), learning_rate=0.1)
        self.judge = torch.nn.Sequential(torch.nn.Linear(2, 1))
        self.other = Plain(self.judge.parameters(), lr=0.2)


def test_the_parameters_whose_gradient_or_weight_is_not_finite_are_named():
    learner = Two()
    assert diverged({"losses/value": 1.0}, learner) == ""
    assert diverged({"losses/value": np.nan, "b": 1.0}, learner) == "losses/value is nan"
    learner.policy["critic"].weight.grad[0, 1] = np.inf
    assert diverged({"losses/value": np.inf}, learner) == (
        "losses/value is inf; the gradients of policy.critic are not finite")
    assert diverged({}, learner) == "", "a gradient alone has done nothing yet"
    with torch.no_grad():
        learner.judge[0].bias[0] = np.nan
    assert "the weights of judge.0 are not finite" in diverged({}, learner)


def test_the_statistics_of_observations_are_looked_at(tmp_path):
    config = tiny("ppo", tmp_path / "run")
    with ExitStack() as stack:
        learner = trainer.assemble(config, stack).learner
        assert diverged({}, learner) == ""
        learner.policy.encoder.norm.mean[0] = np.nan
        assert "statistics of policy" in diverged({}, learner)


def test_all_kinds_of_optimisers_take_smaller_steps():
    learner = Two()
    slow_down(learner, 2, 1)  # a state of torch's optimisers holds the first time's
    assert learner.optimizer.learning_rate == 0.025 and learner.other.param_groups[0]["lr"] == 0.1
    learner.optimizer.learning_rate = 0.4
    assert learner.optimizer.learning_rate == 0.1
    grad, before = learner.optimizer.grad, learner.optimizer.flat.clone()
    grad.fill_(1)
    learner.optimizer.prepare()
    learner.optimizer.step()
    assert torch.allclose(before - learner.optimizer.flat, torch.tensor(0.1), rtol=1e-4)
