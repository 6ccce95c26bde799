"""NaN and infinity from an environment: named, never learned from, and left out where the user says so."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import puffer_il
from puffer_il.cli import main
from puffer_il.core.config import EnvConfig, PolicyConfig
from puffer_il.core.errors import Diverged, InputError, NotFinite
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.nn.policy import Policy
from puffer_il.rollout.actors import policy_actor
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.rollout.evaluate import evaluate, make_eval_vec
from puffer_il.rollout.finite import Faults, all_finite, check_actions
from puffer_il.vector.vec import make_vec
from tests.support.field import NotANumber, Steps
from tests.support.runs import final_state, run, scripted_cartpole_demos, tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_sum_tells_whether_all_is_finite_and_large_numbers_are_no_infinity(dtype):
    largest = np.finfo(dtype).max
    good = np.full((4, 5), largest, dtype)
    assert all_finite(good) and all_finite(good[:0])
    for value in (np.nan, np.inf, -np.inf):
        bad = good.copy()
        bad[2, 3] = value
        assert not all_finite(bad)
    assert not all_finite(np.array([np.inf, -np.inf], dtype))


def collect(make, rollouts=2, recurrent=False, rows=2, steps=16, **how):
    with make_vec(make, num_envs=rows, seed=3, backend="serial", **how) as vec:
        torch.manual_seed(0)
        policy = Policy(vec.spec, PolicyConfig(hidden=(8,), lstm=4 * recurrent))
        buffer = RolloutBuffer(vec.spec, steps, rows, state_dim=policy.state_dim)
        collector = Collector(vec, policy, buffer, CPU, 3)
        for _ in range(rollouts):
            collector.collect()
        return collector, buffer


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("where", "said"), [
    ("reward", "the reward of row 0 in step 4 of the rollout is {}"),
    ("observation", "an observation is {} in column 1, after step 4 of the rollout in row 0")])
def test_the_environment_is_named_with_the_row_the_step_and_the_seed(where, said, value):
    with pytest.raises(NotFinite) as error:
        collect(NotANumber, kwargs={"where": where, "what": value})
    text = str(error.value)
    assert "\n" not in text and said.format(value) in text and "NotANumber" in text
    assert "step 21 of environment number 0, whose first reset had the seed " in text and "env.on_nan = 'mask'" in text
    seed = int(text.split("the seed ")[1].split(";")[0])
    with make_vec(Steps, num_envs=1, seed=3, backend="serial") as vec:
        assert vec.reset(3)[0, 1] == np.float32(np.random.default_rng(seed).random())


class Named(NotANumber):
    """Its observation has parts, and the number is in one that is no plain row."""

    observation_space = spaces.Dict({"kind": spaces.Discrete(3), "speed": Steps.observation_space})

    def show(self):
        return {"kind": 1, "speed": super().show()}


def test_the_part_of_an_observation_is_named():
    with pytest.raises(NotFinite, match="an observation is nan in column 1 of 'speed'"):
        collect(Named, kwargs={"where": "observation"})


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("where", ["reward", "observation"])
@pytest.mark.parametrize("at", [20, 13])
def test_masked_rows_are_left_out_and_all_else_stays(where, at, recurrent):
    """Step 20 ends an episode, step 13 is in the midst of one."""
    options = {"where": where, "at": at}
    rollouts, first = (2, 4) if at == 20 else (1, 13)  # one step was the reset's
    collector, buffer = collect(NotANumber, rollouts, recurrent, on_nan="mask", kwargs=options)
    _, whole = collect(NotANumber, rollouts, recurrent, kwargs={**options, "at": 10**9})
    rows = [first]
    if where == "observation":  # its own observation, too, or that of the next episode's start
        rows.append(first + 1 if at == 13 else first + 2)
    if recurrent:
        rows = list(range(first, 16))
    left = whole.valid.copy()
    left[rows] = False
    assert np.array_equal(buffer.valid, left)
    for name in ("obs", "actions", "rewards", "env_rewards", "logprobs", "values", "final_values", "last_obs",
                 "last_values", "initial_state"):
        assert np.isfinite(getattr(buffer, name)).all(), name
    assert np.isfinite(buffer.final_obs).all() and not np.isin(buffer.final_index, np.array(rows) * 2).any()
    before = slice(0, first)
    for name in ("obs", "actions", "rewards", "logprobs", "values"):
        assert np.array_equal(getattr(buffer, name)[before], getattr(whole, name)[before]), name
    assert not (buffer.terminations | buffer.truncations)[rows].any()
    assert collector.guard.left_out == (~left & whole.valid).sum() and len(collector.guard.notices) == 1
    buffer.compute_advantages(0.9, 0.9)
    assert np.isfinite(buffer.advantages).all() and np.isfinite(buffer.next_obs()).all()


def test_a_rollout_of_which_no_row_is_left_ends_the_run():
    class Always(Steps):
        def show(self):
            return super().show() * np.float32(np.nan)

    with pytest.raises(NotFinite, match="no row of the rollout is left"):
        collect(Always, on_nan="mask")


def test_what_is_not_finite_in_rows_that_do_not_count_disturbs_nothing():
    spec = EnvSpec("e", (2,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
    buffer = RolloutBuffer(spec, 3, 2)
    buffer.start()
    buffer.valid[:] = True
    buffer.valid[1, 0] = False
    buffer.terminations[0, 0] = True
    buffer.obs[1, 0] = np.nan
    faults = Faults.of(buffer, spec)
    assert faults is not None and faults.first is None
    assert faults.leave_out(False) == 0 and np.isfinite(buffer.obs).all() and buffer.terminations[0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_wherever_it_is_nothing_of_it_is_left_and_nothing_else_is_taken(seed):
    """Against a search row by row, in rollouts whose ends, resets and numbers are drawn."""
    rng, (steps, envs) = np.random.default_rng(seed), (6, 5)
    spec = EnvSpec("e", (2,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
    buffer = RolloutBuffer(spec, steps, envs)
    buffer.start()
    for t in range(steps):
        obs, rewards = rng.normal(size=(envs, 2)).astype(np.float32), rng.normal(size=envs).astype(np.float32)
        obs[rng.random(envs) < 0.1, 1], rewards[rng.random(envs) < 0.1] = np.nan, -np.inf
        buffer.write_actions(t, slice(0, envs), obs, np.zeros((envs, 1), np.int32), *np.zeros((2, envs), np.float32))
        valid, ends, final = rng.random(envs) < 0.9, rng.random(envs) < 0.3, obs.copy()
        final[rng.random(envs) < 0.2] = np.inf
        buffer.write_outcome(t, slice(0, envs), rewards, ends & valid, np.zeros(envs, bool), valid, final)
    buffer.last_obs[rng.random(envs) < 0.2] = np.nan
    finals = dict(zip(buffer.final_index.tolist(), buffer.final_obs.copy(), strict=True))
    wrong = np.zeros((steps, envs), bool)
    for t in range(steps):
        for i in range(envs):
            after = buffer.obs[t + 1, i] if t + 1 < steps else buffer.last_obs[i]
            after = finals.get(t * envs + i, after)
            wrong[t, i] = not np.isfinite([*buffer.obs[t, i], *after, buffer.env_rewards[t, i]]).all()
    before, obs = buffer.valid.copy(), buffer.obs.copy()
    faults = Faults.of(buffer, spec)
    assert faults is not None and faults.leave_out(False) == (wrong & before).sum()
    assert np.array_equal(buffer.valid, before & ~wrong) and Faults.of(buffer, spec) is None
    good = np.isfinite(obs).all(-1)
    assert np.array_equal(buffer.obs[good], obs[good]) and not buffer.obs[~good].any()
    assert set(buffer.final_index) == {row for row in finals if not wrong.reshape(-1)[row]}
    assert not (buffer.terminations & wrong).any() and buffer.episode_starts[1:][wrong[:-1]].all()


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_policy_that_fails_first_is_not_blamed_on_the_environment(recurrent):
    spec = EnvSpec("e", (2,), np.dtype(np.float32), ActionSpec(low=np.float32([-1]), high=np.float32([1]), shape=(1,)))
    for first, guilty in (("policy", Diverged), ("environment", None)):
        buffer = RolloutBuffer(spec, 4, 2)
        buffer.start()
        buffer.valid[:] = True
        buffer.actions[1 if first == "policy" else 2, 1] = np.nan
        buffer.obs[2, 1] = np.nan
        faults = Faults.of(buffer, spec)
        if guilty:
            with pytest.raises(guilty, match="the policy's action of row 1 in step 1"):
                check_actions(buffer, faults, recurrent)
        else:
            check_actions(buffer, faults, recurrent)
            assert faults.first == (1, 1)


def test_a_whole_rollout_in_c_is_looked_at(monkeypatch):
    """Pendulum whose rewards become NaN: the kernels' rollout is changed as C would have it."""
    from puffer_il.rollout import collector as module

    inner = module.native_rollout

    def broken(policy, batch, buffer, *rest, **more):
        found = inner(policy, batch, buffer, *rest, **more)
        buffer.env_rewards[3, 5] = np.nan
        return found

    monkeypatch.setattr(module, "native_rollout", broken)
    with make_vec("pendulum", num_envs=32, seed=3) as vec:
        policy = Policy(vec.spec, PolicyConfig(hidden=(8,)))
        collector = Collector(vec, policy, RolloutBuffer(vec.spec, 8, 32), CPU, 3)
        with pytest.raises(NotFinite, match=r"environment 'pendulum': the reward of row 5 in step 3 of the rollout is "
                           r"nan .* that is step 4 of environment number 5 of seed 3"):
            collector.collect()


# Evaluations

def still(vec):
    return lambda obs, starts: np.zeros((vec.num_envs, 1), np.int32)


@pytest.mark.parametrize(("where", "said"), [("reward", "the reward of row 0 is nan"),
                                             ("observation", "an observation is nan in column 1, in row 0")])
def test_an_evaluation_names_it_too(where, said):
    with make_vec(NotANumber, num_envs=2, backend="serial", kwargs={"where": where, "at": 15}) as vec, (
            pytest.raises(NotFinite, match=f"in an evaluation, {said}; that is step 16 of environment number 0")):
        evaluate(vec, still(vec), 4, 0)


@pytest.mark.parametrize("where", ["reward", "observation"])
def test_a_masked_episode_of_an_evaluation_counts_as_it_stood_and_is_told(where):
    with make_vec(NotANumber, num_envs=2, backend="serial", on_nan="mask", kwargs={"where": where, "at": 15}) as vec:
        scores = evaluate(vec, still(vec), 6, 0)
    stood = 4 if where == "reward" else 5
    assert scores.returns.tolist() == [10, stood] * 2 and scores.broken == 2
    assert "in 2 of 4 evaluated episodes the environment gives NaN" in scores.notices[0]
    assert scores.summary(None, None)["broken"] == 2


def test_an_evaluation_in_c_is_looked_at(monkeypatch):
    from puffer_il.rollout import evaluate as module

    inner = module.native_rollout

    def broken(policy, batch, buffer, *rest, **more):
        found = inner(policy, batch, buffer, *rest, **more)
        buffer.obs[3, 1, 0] = np.nan
        return found

    monkeypatch.setattr(module, "native_rollout", broken)
    for on_nan in ("stop", "mask"):
        with make_eval_vec(EnvConfig(name="pendulum", num_envs=8, on_nan=on_nan), 8) as vec:
            actor = policy_actor(Policy(vec.spec, PolicyConfig(hidden=(8,))), vec)
            if on_nan == "stop":
                with pytest.raises(NotFinite, match="environment 'pendulum': in an evaluation, an observation is nan"):
                    evaluate(vec, actor, 8, 0)
            else:  # by single steps, in which nothing is wrong here
                assert len(evaluate(vec, actor, 8, 0).returns) == 8


def test_a_policy_whose_actions_are_not_finite_is_refused_in_evaluations():
    with make_eval_vec(EnvConfig(name="pendulum", num_envs=4), 4) as vec:
        policy = Policy(vec.spec, PolicyConfig(hidden=(8,)))
        with torch.no_grad():
            policy.actor[0].weight.fill_(np.nan)
        actor = policy_actor(policy, vec)
        for plays in (actor, lambda obs, starts: actor(obs, starts)):
            with pytest.raises(InputError, match="pendulum: an action of the policy is NaN or infinite"):
                evaluate(vec, plays, 4, 0)


# Whole runs

HERE = "tests.support.field:NotANumber"


class Slides(gymnasium.Env):
    """One continuous action; its observation is NaN once, in its 90th step."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t, self.count = self.t + 1, self.count + 1
        seen = np.array([self.t, np.nan if self.count == 90 else 1], np.float32)
        return seen, 1.0, False, self.t == 10, {}


OPTIONS = {"env__backend": "serial", "env__num_envs": 4, "train__total_steps": 512, "train__num_steps": 16,
           "eval__final_episodes": 4}


@pytest.mark.parametrize("algo", ["ppo", "sac", "dagger", "gail", "sqil"])
def test_a_run_names_it_learns_nothing_of_it_and_keeps_what_it_had(algo, tmp_path):
    where = {"env__name": f"{__name__}:Slides"} if algo == "sac" else {
        "env__name": HERE, "env__kwargs": {"where": "observation", "at": 90}}
    options = {**OPTIONS, **where}
    if algo == "dagger":
        options["dagger__expert"] = "random"
    if algo in ("gail", "sqil"):
        demos = puffer_il.collect("random", Steps, episodes=4)
        demos.save(tmp_path / "d.npz")
        options["demos__source"] = str(tmp_path / "d.npz")
    recorder = run(tiny(algo, tmp_path / "run", **options))
    summary = recorder.summary
    assert summary["status"] == "diverged" and "an observation is nan in column 1" in summary["cause"]
    assert "learning rate" not in summary["cause"]
    state = final_state(tmp_path / "run")
    assert state["env_steps"] == summary["env_steps"] == len(recorder.metrics) * 64 > 0
    assert _numbers_are_finite(state["learner"])
    assert puffer_il.load(tmp_path / "run").predict(np.zeros(state["spec"]["obs_shape"], np.float32))[0] is not None


def test_a_run_that_masks_goes_on_to_its_end_and_tells_once(tmp_path):
    options = {**OPTIONS, "env__name": HERE, "env__kwargs": {"where": "observation", "at": 90}, "env__on_nan": "mask"}
    recorder = run(tiny("ppo", tmp_path / "run", **options))
    assert recorder.summary["status"] == "finished" and recorder.summary["env_steps"] == 512
    told = [line for line in recorder.messages if "such rows are left out" in line]
    assert len(told) == 1 and max(m.get("rollout/left_out", 0) for m in recorder.metrics) > 0
    assert _numbers_are_finite(final_state(tmp_path / "run")["learner"])
    assert all(math.isfinite(value) for metrics in recorder.metrics for value in metrics.values())


def test_an_environment_that_fails_in_the_first_evaluation_ends_in_one_line(tmp_path, capsys):
    assert main(["train", "ppo", HERE, "--env.kwargs.where", "reward", "--env.kwargs.at", "3", "--env.backend",
                 "serial", "--env.num-envs", "2", "--run-dir", str(tmp_path / "run")]) == 1
    out = "".join(capsys.readouterr())
    assert "in an evaluation, the reward of row 0 is nan" in out and "Traceback" not in out


def test_a_run_whose_last_evaluation_fails_keeps_what_it_has_learned(tmp_path):
    """The random policy's evaluation takes 10 steps of each row, the last one comes to the 15th."""
    options = {**OPTIONS, "env__name": HERE, "env__kwargs": {"where": "reward", "at": 15}, "train__total_steps": 64,
               "train__num_steps": 8, "env__num_envs": 8}
    recorder = run(tiny("ppo", tmp_path / "run", **options))
    assert recorder.summary["status"] == "diverged" and "in an evaluation" in recorder.summary["cause"]
    assert final_state(tmp_path / "run")["env_steps"] == 64


@pytest.mark.parametrize("name", ["obs", "actions", "rewards", "next_obs"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_demonstrations_are_refused(name, value, tmp_path):
    demos = puffer_il.load_demos(scripted_cartpole_demos(tmp_path / "d.npz"))
    given = {key: np.array(getattr(demos, key)) for key in ("obs", "actions", "next_obs", "terminations", "truncations",
                                                            "episode_starts", "rewards")}
    given[name] = given[name].astype(np.float32)
    given[name].reshape(-1)[7] = value
    with pytest.raises(InputError, match=f"{name} is NaN or infinite in row"):
        puffer_il.load_demos(given)


def _numbers_are_finite(state):
    if isinstance(state, torch.Tensor):
        return not state.is_floating_point() or bool(state.isfinite().all())
    if isinstance(state, dict):
        return all(map(_numbers_are_finite, state.values()))
    return all(map(_numbers_are_finite, state)) if isinstance(state, list | tuple) else True
