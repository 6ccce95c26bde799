"""A rollout in one call of the C kernels is, row for row and bit for bit, the rollout that Python steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.core.spec import Array
from puffer_il.kernels import _kernels as kernels
from puffer_il.nn import FusedPolicy, Noise, Policy, obs_moments
from puffer_il.rollout import collector as collector_file
from puffer_il.rollout.actors import policy_actor
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.rollout.evaluate import evaluate
from puffer_il.rollout.native_rollout import ARRAYS, native_rollout
from puffer_il.vector.vec import make_vec
from tests.support.environments import write_env
from tests.support.kernel_learners import BENT
from tests.support.kernels import EACH_SET
from tests.support.runs import final_state, run, same_state, scripted_cartpole_demos, tiny

CPU = torch.device("cpu")
# Agents that leave one by one and wait for the others, on observations of which a step writes only what has changed.
TROOP = ("""
agents = 3
max_episode_steps = 9
[observation]
dtype = "int16"
shape = [2, 2]
low = -1000
high = 1000
[action]
discrete = [3, 5]
""", """
typedef struct { int32_t step, last[ENV_AGENTS]; } Env;

static inline void c_reset(Env *env, Io io) {
    env->step = 0;
    for (int a = 0; a < ENV_AGENTS; a++) {
        env->last[a] = 2 + (int32_t)rng_below(io.rng, 9);
        for (int k = 0; k < ENV_OBS_SIZE; k++)
            io.observations[a * ENV_OBS_SIZE + k] = (int16_t)rng_below(io.rng, 20);
    }
}

static inline void c_step(Env *env, Io io) {
    env->step++;
    for (int a = 0; a < ENV_AGENTS; a++) {
        const int action = 5 * io.actions[2 * a] + io.actions[2 * a + 1];
        io.observations[a * ENV_OBS_SIZE + env->step % ENV_OBS_SIZE] = (int16_t)(action + (int)rng_below(io.rng, 5));
        io.rewards[a] = (float)(0.1 * action);
        io.terminations[a] = env->step == env->last[a] && a != 1;
        io.truncations[a] = env->step == env->last[a] && a == 1;
    }
}
""")
# Agents that restart by themselves, with actions of which some dimensions are bounded.
CROWD = ("""
agents = 5
autoreset = false
[observation]
dtype = "uint8"
shape = [3]
low = 0
high = 255
[action]
dtype = "float32"
shape = [2]
low = [-0.5, -1e30]
high = [0.25, 1e30]
""", """
typedef struct { int32_t age[ENV_AGENTS]; } Env;

static inline void look(Env *env, Io io, int a) {
    io.observations[3 * a] = (uint8_t)env->age[a];
    io.observations[3 * a + 1] = (uint8_t)rng_below(io.rng, 256);
}

static inline void c_reset(Env *env, Io io) {
    for (int a = 0; a < ENV_AGENTS; a++)
        look(env, io, a);
}

static inline void c_step(Env *env, Io io) {
    for (int a = 0; a < ENV_AGENTS; a++) {
        env->age[a]++;
        io.rewards[a] = io.actions[2 * a] + 1e-3f * io.actions[2 * a + 1];
        if (rng_below(io.rng, 6) == 0) {
            io.final_observations[3 * a + 2] = (uint8_t)env->age[a];
            io.terminations[a] = rng_below(io.rng, 2);
            io.truncations[a] = !io.terminations[a];
            env->age[a] = 0;
        }
        look(env, io, a);
    }
}
""")
ENVS: dict[str, dict[str, Any]] = {
    "cartpole": {"max_episode_steps": 15}, "pendulum": {"max_episode_steps": 13},
    "acrobot": {"max_episode_steps": 20}, "mountaincar": {"max_episode_steps": 17}, "troop": {}, "crowd": {},
}
AGENTS = {"troop": 3, "crowd": 5}
EACH_ENV = pytest.mark.parametrize("env", ENVS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    root = tmp_path_factory.mktemp("envs")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(root))
    yield {name: str(write_env(root, name, *text)) for name, text in (("troop", TROOP), ("crowd", CROWD))}
    patch.undo()


@pytest.fixture
def collect(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Array]]]:
    """Rollouts in a row, each as a dict of all that is there after it. `natively` says how, or how in each."""
    natively, calls = Collector._collect_natively, []
    monkeypatch.setattr(collector_file, "native_rollout", lambda *a: calls.append(1) or native_rollout(*a))

    def collect(env: str, ways: list[bool], *, num_envs: int = 100, num_steps: int = 23, threads: int = 2,
                **policy: Any) -> list[dict[str, Array]]:
        kernels.set_threads(threads)
        calls.clear()
        torch.manual_seed(0)
        num_envs = -(-num_envs // AGENTS.get(env, 1)) * AGENTS.get(env, 1)
        found = []
        with make_vec(folders.get(env, env), num_envs=num_envs, kwargs=ENVS[env]) as vec:
            assert vec.backend == "native"
            learner = Policy(vec.spec, PolicyConfig(**({"hidden": (20, 33)} | policy)))
            buffer = RolloutBuffer(vec.spec, num_steps, num_envs, state_dim=learner.state_dim)
            collector = Collector(vec, learner, buffer, CPU, seed=5)
            for way in ways:
                with torch.no_grad():  # between rollouts a policy learns
                    for p in learner.parameters():
                        p += 0.05 * torch.randn(p.shape)
                monkeypatch.setattr(Collector, "_collect_natively", natively if way else lambda self: False)
                collector.collect()
                learner.encoder.update_norm(*obs_moments(learner.flatten, torch.from_numpy(buffer.flat().obs)))
                found.append(everything(collector))
        assert len(calls) == sum(ways)
        return found

    return collect


def everything(collector: Collector) -> dict[str, Array]:
    buffer, state = collector.buffer, collector.vec.get_state()
    arrays = {name: getattr(buffer, name) for name in (*ARRAYS, "final_index", "final_obs", "last_obs", "last_values",
                                                    "initial_state")}
    arrays |= {"next_obs": buffer.next_obs(), "starts": collector.episode_starts, "obs to act on": collector.vec.obs,
               "memory": np.array(0) if collector.state is None else collector.state.numpy(),
               "step": np.array(collector.noise.step), **{f"vec {name}": array for name, array in state.items()}}
    for name in ("episode_returns", "episode_lengths"):
        arrays[name] = np.concatenate([np.empty(0), *getattr(collector, name)])
    return {name: array.copy() for name, array in arrays.items()}


def assert_same(ours: list[dict[str, Array]], expected: list[dict[str, Array]]) -> None:
    for a, b in zip(ours, expected, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, name
            assert a[name].tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("num_envs", [6, 25, 100, 200, 401])
@EACH_ENV
def test_rollouts_in_one_call_are_those_that_python_steps(env: str, num_envs: int, collect: Callable[..., Any]) -> None:
    expected = collect(env, [False] * 4, num_envs=num_envs)
    assert_same(collect(env, [True] * 4, num_envs=num_envs), expected)
    ended = [rows["terminations"] | rows["truncations"] for rows in expected]
    assert all(rows.any() for rows in ended) and any(len(rows["episode_returns"]) > 5 for rows in expected)
    assert any(rows["truncations"].any() for rows in expected)
    if env in ("cartpole", "troop", "crowd"):
        assert any(rows["terminations"].any() for rows in expected)
    assert any(not rows["valid"].all() for rows in expected) == (env == "troop")


@pytest.mark.parametrize("policy", [
    {"shared": True}, {"activation": "silu", "hidden": (64, 64)}, {"obs_norm": False},
    {"hidden": (128,), "activation": "relu"}, {"hidden": (9, 8, 7), "activation": "elu"},
    {"lstm": 19}, {"lstm": 64, "shared": True, "obs_norm": False}, {"gru": 19},
], ids=["shared", "silu", "raw", "wide", "deep", "lstm", "lstm and shared", "gru"])
@pytest.mark.parametrize("env", ["cartpole", "pendulum", "troop"])
def test_whatever_the_policy(env: str, policy: dict[str, Any], collect: Callable[..., Any]) -> None:
    assert_same(collect(env, [True] * 2, **policy), collect(env, [False] * 2, **policy))


@EACH_SET
@pytest.mark.parametrize("policy", BENT, ids=str)
def test_squashed_actions_and_spreads_of_each_state(policy: dict[str, bool], isa: str,
                                                    collect: Callable[..., Any]) -> None:
    kernels.use_instruction_set(isa)
    for keys in (policy, policy | {"shared": True}):
        assert_same(collect("pendulum", [True] * 2, **keys), collect("pendulum", [False] * 2, **keys))


@pytest.mark.parametrize("activation", ["tanh", "silu"])
@pytest.mark.parametrize("num_envs", [1, 2, 3, 8, 23, 24, 30])
def test_few_rows_of_wide_layers(num_envs: int, activation: str, collect: Callable[..., Any]) -> None:
    keys = {"num_envs": num_envs, "hidden": (256, 256), "activation": activation}
    assert_same(collect("cartpole", [True] * 2, **keys), collect("cartpole", [False] * 2, **keys))


@EACH_SET
@pytest.mark.parametrize("env", ["acrobot", "crowd"])
def test_whatever_the_instruction_set(env: str, isa: str, collect: Callable[..., Any]) -> None:
    kernels.use_instruction_set(isa)
    assert_same(collect(env, [True] * 2), collect(env, [False] * 2))


@EACH_ENV
def test_any_number_of_threads_gives_the_same_rollouts(env: str, collect: Callable[..., Any]) -> None:
    expected = collect(env, [True] * 3, num_envs=800, threads=1)
    for threads in (2, 3, 5):
        assert_same(collect(env, [True] * 3, num_envs=800, threads=threads), expected)


@EACH_ENV
def test_both_ways_can_take_turns(env: str, collect: Callable[..., Any]) -> None:
    expected = collect(env, [False] * 5)
    assert_same(collect(env, [True, False, True, True, False]), expected)
    assert_same(collect(env, [False, True, False, False, True]), expected)


@pytest.mark.parametrize("num_steps", [1, 2])
def test_rollouts_may_be_short(num_steps: int, collect: Callable[..., Any]) -> None:
    assert_same(collect("troop", [True] * 12, num_steps=num_steps), collect("troop", [False] * 12, num_steps=num_steps))


def test_many_ends_are_all_kept(collect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVS, "cartpole", {"max_episode_steps": 1})
    for rows in collect("cartpole", [True, False], num_envs=300, num_steps=200):
        assert np.array_equal(rows["final_index"], np.arange(60_000)) and len(rows["episode_returns"]) == 60_000
        assert (rows["episode_lengths"] == 1).all() and rows["episode_starts"].all()


@pytest.mark.parametrize(("num_envs", "memory"), [(1, "lstm"), (8, "gru"), (401, "lstm")])
def test_what_a_memory_remembers_goes_along_whoever_steps(num_envs: int, memory: str,
                                                          collect: Callable[..., Any]) -> None:
    keys = {"num_envs": num_envs, memory: 12}
    expected = collect("cartpole", [False] * 5, **keys)
    assert_same(collect("cartpole", [True, False, True, True, False], **keys), expected)
    assert_same(collect("cartpole", [True] * 5, threads=1, **keys), expected)
    assert all(rows["memory"].any() for rows in expected) and any(rows["final_values"].any() for rows in expected)


@EACH_SET
def test_a_memory_acts_alike_whatever_the_instruction_set(isa: str, collect: Callable[..., Any]) -> None:
    kernels.use_instruction_set(isa)
    for keys in ({"lstm": 40}, {"gru": 24}):
        assert_same(collect("crowd", [True] * 2, **keys), collect("crowd", [False] * 2, **keys))


def test_what_is_not_covered_is_left_to_python(collect: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="0 == 1"):
        collect("pendulum", [True], head="mixture", state_std=True)


@pytest.mark.parametrize("lstm", [0, 12])
@pytest.mark.parametrize("deterministic", [True, False])
@EACH_ENV
def test_evaluations_in_whole_rollouts_give_the_scores_of_single_steps(env: str, deterministic: bool, lstm: int,
                                                                       folders: dict[str, str]) -> None:
    torch.manual_seed(3)
    with make_vec(folders.get(env, env), num_envs=30, kwargs=ENVS[env]) as vec:
        policy = Policy(vec.spec, PolicyConfig(hidden=(16,), lstm=lstm))
        with torch.no_grad():
            for p in policy.parameters():
                p += 0.2 * torch.randn(p.shape)
        for episodes in (7, 100):
            ours = evaluate(vec, policy_actor(policy, vec, deterministic, 7), episodes, 5)
            actor = policy_actor(policy, vec, deterministic, 7)
            expected = evaluate(vec, lambda *asked, actor=actor: actor(*asked), episodes, 5)  # one by one
            assert len(ours.returns) == episodes and np.array_equal(ours.lengths, expected.lengths)
            assert np.array_equal(ours.returns, expected.returns)


@pytest.mark.parametrize("env", ["troop", "crowd"])
def test_greedy_rollouts_take_the_likeliest_actions(env: str, folders: dict[str, str]) -> None:
    torch.manual_seed(3)
    with make_vec(folders[env], num_envs=60, kwargs=ENVS[env]) as vec:
        policy, buffer = Policy(vec.spec, PolicyConfig(hidden=(16,), shared=True)), RolloutBuffer(vec.spec, 9, 60)
        with torch.no_grad():
            for p in policy.parameters():
                p += 0.5 * torch.randn(p.shape)
        vec.reset(1)
        fast, batch = FusedPolicy.of(policy), vec.native_batch()
        assert fast is not None and batch is not None
        native_rollout(fast, batch, buffer, np.ones(60, bool), Noise.on(CPU, 0), greedy=True)
        rows = buffer.flat()
        actions, logprobs, values, _ = policy.act(torch.from_numpy(rows.obs), deterministic=True)
        np.testing.assert_allclose(rows.actions, actions, rtol=1e-6)
        assert len(np.unique(rows.actions)) > 1
        np.testing.assert_allclose(rows.logprobs, logprobs, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(rows.values, values, rtol=1e-5, atol=1e-5)


# ---- in whole runs ----

MANY = {"env__num_envs": 32}  # enough for rollouts in one call


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_cartpole_demos(tmp_path_factory.mktemp("demos") / "scripted.npz")


@pytest.mark.parametrize("algo", ["ppo", "gail"])
def test_a_resumed_run_is_the_run_that_was_not_stopped(algo: str, tmp_path: Path, demos: Path) -> None:
    keys = MANY | {"train__total_steps": 5 * 32 * 32} | ({"demos__source": str(demos)} if algo == "gail" else {})
    run(tiny(algo, tmp_path / "whole", **keys))
    run(tiny(algo, tmp_path / "cut", **keys), interrupt_after=2)
    run(tiny(algo, tmp_path / "cut", **keys), resume=True)
    expected, got = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    for part in ("learner", "collector", "policy"):
        assert same_state(expected[part], got[part]), part


@pytest.mark.parametrize(("algo", "policy"), [("ppo", {}), ("gail", {}), ("gail", {"policy__lstm": 16})], ids=str)
def test_kernels_and_torch_learn_alike(algo: str, policy: dict[str, Any], tmp_path: Path, demos: Path) -> None:
    """Twenty updates from the same seed: the same numbers but for rounding."""
    keys = MANY | policy | {"train__total_steps": 20 * 32 * 32}
    keys |= {"demos__source": str(demos)} if algo == "gail" else {}
    curves = [run(tiny(algo, tmp_path / str(on), train__fused=on, **keys)).metrics[:20] for on in (True, False)]
    assert [len(curve) for curve in curves] == [20, 20]
    names = {name for name in curves[0][0] if name.split("/")[0] in ("losses", "disc", "rollout")}
    assert {"losses/policy", "losses/grad_norm", "rollout/return_mean"} <= names
    for ours, expected in zip(*curves, strict=True):
        for name in names & ours.keys():
            assert ours[name] == pytest.approx(expected[name], rel=1e-2, abs=1e-3), name
