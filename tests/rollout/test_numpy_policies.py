"""Learners whose policies are no torch module: NumPy alone, with rollouts and without."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import puffer_il
from puffer_il.cli import main
from puffer_il.core import checkpoint
from puffer_il.core.config import setting
from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from puffer_il.learners import registry
from puffer_il.learners.base import About, Learner
from puffer_il.learners.registry import register
from puffer_il.nn.distributions import Noise
from puffer_il.rollout.actors import TensorActorCritic, policy_actor
from puffer_il.rollout.evaluate import FINAL_SEED, evaluate, make_eval_vec
from puffer_il.training.saved_run import load_policy
from tests.support.runs import final_state, run, same_state, scripted_cartpole_demos, tiny


class Linear:
    """A softmax of linear logits, with a linear critic: a NumpyActorCritic."""

    def __init__(self, spec, seed=0):
        rng, size = np.random.default_rng(seed), math.prod(spec.obs_shape)
        self.weights, self.critic = rng.normal(size=(size, spec.action.nvec[0])), rng.normal(size=size)
        self.num_parameters = self.weights.size + self.critic.size
        self.starts = []

    def logprobs(self, obs):
        logits = obs @ self.weights
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def act(self, obs, rng):
        logprobs = self.logprobs(obs)
        actions = (logprobs + rng.gumbel(size=logprobs.shape)).argmax(1)
        return actions, logprobs[np.arange(len(obs)), actions], self.value(obs)

    def value(self, obs):
        return obs @ self.critic

    def predict(self, obs, state, episode_start, deterministic):
        """The state counts the steps of each episode."""
        state = np.where(episode_start, 0, 0 if state is None else state) + 1
        self.starts.append(state)
        logprobs = self.logprobs(obs)
        return (logprobs if deterministic else logprobs + self.rng.gumbel(size=logprobs.shape)).argmax(1), state

    def set_random_seed(self, seed):
        self.rng = np.random.default_rng(seed)

    def state_dict(self):
        return {"weights": self.weights, "critic": self.critic}

    def load_state_dict(self, state):
        self.weights, self.critic = state["weights"], state["critic"]


@dataclass(frozen=True)
class NumpyConfig:
    learning_rate: float = setting(0.1, "step size", low=0)


class NumpyLearner(Learner):
    """What both have in common."""

    section = NumpyConfig
    saved = ("policy", "rng")
    steps_per_update = 64

    def __init__(self, spec, demos, config, device, seed):
        super().__init__(spec, demos, config, device, seed)
        self.demos, self.policy, self.rng = demos, Linear(spec, seed), np.random.default_rng(seed)

    def ascend(self, obs, actions, weights):
        """A step up the weighted log-likelihood."""
        residual = np.eye(self.policy.weights.shape[1])[actions] - np.exp(self.policy.logprobs(obs))
        self.policy.weights = self.policy.weights + self.config.learning_rate * obs.T @ (residual * weights[:, None])

    def state_dict(self):
        return super().state_dict() | {"kept": [np.float32(0.5)]}

    @classmethod
    def make_policy(cls, spec, config):
        return Linear(spec)


@pytest.fixture(autouse=True)
def learners(monkeypatch):
    registry.usable_learners()
    monkeypatch.setattr(registry, "_learners", dict(registry._learners))

    @register("numpy_bc")
    class Clone(NumpyLearner):
        needs_rollouts, promised_metrics = False, ("nll",)

        def update(self, buffer, progress):
            rows = self.rng.integers(len(self.demos), size=self.steps_per_update)
            obs, actions = self.demos.obs[rows], self.demos.actions[rows, 0]
            self.ascend(obs, actions, np.ones(len(rows)))
            return {"nll": -float(self.policy.logprobs(obs)[np.arange(len(rows)), actions].mean())}

    @register("numpy_pg")
    class Gradient(NumpyLearner):
        needs_demos, promised_metrics = False, ("gap",)

        def advantages(self, buffer):
            buffer.compute_advantages(0.99, 0.95)

        def update(self, buffer, progress):
            flat = buffer.flat()
            logprobs = self.policy.logprobs(flat.obs)[np.arange(len(flat.obs)), flat.actions[:, 0]]
            gap = np.abs(logprobs - flat.logprobs).max() + np.abs(self.policy.value(flat.obs) - flat.values).max()
            last = np.abs(self.policy.value(buffer.last_obs) - buffer.last_values).max()
            advantages = flat.advantages - flat.advantages.mean()
            self.ascend(flat.obs, flat.actions[:, 0], advantages / len(advantages) / (advantages.std() + 1e-6))
            return {"gap": float(gap + last)}


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return scripted_cartpole_demos(tmp_path_factory.mktemp("demos") / "scripted.npz")


def config(algo, run_dir, demos, **overrides):
    return tiny(algo, run_dir, demos__source=str(demos) if algo == "numpy_bc" else "", **overrides)


@pytest.mark.parametrize("algo", ["numpy_bc", "numpy_pg"])
def test_it_trains_repeats_itself_and_resumes_exactly(algo, tmp_path, demos):
    whole = run(config(algo, tmp_path / "whole", demos))
    again = run(config(algo, tmp_path / "again", demos))
    other = run(config(algo, tmp_path / "other", demos, train__seed=2))
    run(config(algo, tmp_path / "cut", demos), interrupt_after=2)
    run(config(algo, tmp_path / "cut", demos), resume=True)
    states = {name: final_state(tmp_path / name) for name in ("whole", "again", "other", "cut")}
    for part in ("learner", "policy", "collector", "last_eval"):
        assert same_state(states["whole"][part], states["again"][part])
        assert same_state(states["whole"][part], states["cut"][part])
    assert not same_state(states["whole"]["policy"], states["other"]["policy"])
    assert whole.info.parameters == 12 and whole.summary["status"] == "finished"
    assert len(again.metrics) == len(whole.metrics) == len(other.metrics)


def test_the_rollout_holds_what_the_policy_said(tmp_path, demos):
    updates = [m for m in run(config("numpy_pg", tmp_path / "run", demos)).metrics if "SPS" in m]
    assert len(updates) == 4 and all(m["gap"] < 1e-5 for m in updates)


def test_both_learn(tmp_path, demos):
    clone = run(config("numpy_bc", tmp_path / "bc", "shipped", train__total_steps=64_000))
    assert clone.summary["eval"]["normalized"] > 0.5
    gradient = run(config("numpy_pg", tmp_path / "pg", demos, train__total_steps=20_000, env__num_envs=16,
                          eval__final_episodes=20))
    assert gradient.summary["eval"]["return_mean"] > 1.5 * gradient.summary["random_return"]


def test_a_checkpoint_of_arrays_needs_no_pickle_and_gives_them_back(tmp_path, demos):
    run(config("numpy_bc", tmp_path / "run", demos))
    raw = torch.load(checkpoint.latest(tmp_path / "run"), weights_only=True)
    assert isinstance(raw["policy"]["weights"][checkpoint.ARRAY], torch.Tensor)
    state = final_state(tmp_path / "run")
    assert isinstance(state["policy"]["weights"], np.ndarray) and state["policy"]["weights"].dtype == np.float64
    assert state["learner"]["kept"] == [0.5]
    policy, _, _ = load_policy(tmp_path / "run")
    assert isinstance(policy, Linear) and np.array_equal(policy.weights, state["policy"]["weights"])


def test_commands_take_its_runs(tmp_path, demos, capsys):
    folder = str(tmp_path / "run")
    run(config("numpy_bc", folder, demos, train__total_steps=64_000))
    assert main(["eval", folder, "--episodes", "3"]) == 0
    out = [str(tmp_path / name) for name in ("a.npz", "b.npz", "c.npz")]
    for path, seed in zip(out, ("1", "1", "2"), strict=True):
        assert main(["demos", "collect", "cartpole", "--policy", folder, "--episodes", "2", "--out", path,
                     "--stochastic", "--seed", seed]) == 0
    collected = [read_demos(path) for path in out]
    assert np.array_equal(collected[0].obs, collected[1].obs)
    assert not np.array_equal(collected[0].obs[:9], collected[2].obs[:9])
    assert main(["env", "play", "--policy", folder, "--episodes", "1", "--out", str(tmp_path / "x.gif")]) == 0
    assert main(["eval", folder, "--episodes", "1", "--demos", str(demos)]) == 2
    assert "this policy does not give the likelihood of actions" in capsys.readouterr().err


def test_python_shows_it_as_any_other_policy(tmp_path, demos):
    made = puffer_il.train("numpy_bc", "cartpole", demos=demos, total_steps=256, run_dir=tmp_path / "run",
                           eval={"final_episodes": 2}, progress=False)
    for policy in (made.policy, puffer_il.load(tmp_path / "run")):
        one, state = policy.predict(np.zeros(4), deterministic=True)
        many, state = policy.predict(np.zeros((3, 4)), state, [False], deterministic=True)
        assert one == 0 and one.dtype == np.int64 and many.tolist() == [0, 0, 0] and state.tolist() == [2]
        assert puffer_il.evaluate(policy, "cartpole", episodes=5)["return_mean"] == puffer_il.evaluate(
            made, episodes=5)["return_mean"]


def test_its_recurrent_state_comes_back_and_is_told_of_new_episodes(tmp_path, demos):
    cfg = config("numpy_bc", tmp_path / "run", demos)
    with make_eval_vec(cfg.env, 4) as vec:
        policy = Linear(vec.spec)
        lengths = evaluate(vec, policy_actor(policy, vec), 8, FINAL_SEED).lengths
    assert policy.starts[0].tolist() == [1, 1, 1, 1]
    assert max(counts.max() for counts in policy.starts) >= max(lengths) > 1
    assert all(((now == 1) | (now == before + 1)).all()
               for before, now in zip(policy.starts[:-1], policy.starts[1:], strict=True))
    assert sum(int((counts == 1).sum()) for counts in policy.starts) >= 8


def test_noise_depends_on_seed_step_and_row():
    spec = SimpleNamespace(obs_shape=(3,), action=SimpleNamespace(nvec=(5,), dim=1, dtype=np.dtype(np.int32)))
    face, obs = TensorActorCritic(Linear(spec), spec.action), torch.zeros(64, 3)

    def actions(seed, step, row):
        noise = Noise.on(torch.device("cpu"), seed)
        noise.step = step
        drawn = face.act(obs, None, noise, row)
        assert [tensor.dtype for tensor in drawn[:3]] == [torch.int32, torch.float32, torch.float32]
        assert drawn[0].shape == (64, 1)
        return drawn[0].flatten().tolist()

    first = actions(1, 0, 0)
    assert first == actions(1, 0, 0)
    assert all(first != actions(*other) for other in ((2, 0, 0), (1, 1, 0), (1, 0, 64)))


def test_actions_it_does_not_cover_are_refused_before_anything_is_built(tmp_path, demos):
    registry._learners["numpy_pg"].about = About("x", "y", ("discrete",))
    with pytest.raises(InputError, match="numpy_pg is for discrete actions but pendulum has continuous ones"):
        run(config("numpy_pg", tmp_path / "run", demos, env__name="pendulum"))
