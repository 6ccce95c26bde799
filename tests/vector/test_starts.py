"""Episodes that begin in states that were given: in C, at every autoreset, alike however the rows are split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Starts
from puffer_il.demos import collect
from puffer_il.native.native_env import NativeEnv
from puffer_il.nn.policy import Policy
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.vector.vec import make_vec
from tests.native.test_hooks import HEADER, LOAD, TOML
from tests.support.environments import write_env

STATES = np.array([[-1.1, 0.01], [0.3, 0.05], [-0.2, -0.03]])  # of mountaincar: position, velocity


def roll(starts: Starts | None, steps: int = 450, **split) -> tuple[np.ndarray, np.ndarray]:
    """Observations (steps + 1, 16, 2) and ends (steps, 16) of random actions."""
    rng = np.random.default_rng(0)
    with make_vec("mountaincar", num_envs=16, starts=starts, seed=3, **split) as vec:
        seen, ends = [vec.reset(3).copy()], []
        for _ in range(steps):
            batch = vec.step(rng.integers(0, 3, (16, 1)).astype(np.int32))
            seen.append(batch.obs.copy())
            ends.append(batch.terminations | batch.truncations)
    return np.array(seen), np.array(ends)


def first_observations(seen: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return np.concatenate([seen[0], seen[1:][ends]])


def test_a_share_of_the_episodes_begins_in_the_states_all_as_likely():
    env = NativeEnv(Path("envs/mountaincar"), 4000, seed=1)
    env.begin_in(Starts(STATES, 0.3))
    obs = env.reset()[0]
    counts = [int((obs == np.float32(state)).all(1).sum()) for state in STATES]
    assert all(abs(count - 400) < 4 * 19 for count in counts), counts  # binomial: sd 19
    others = obs[~(obs[:, None] == np.float32(STATES)).all(2).any(1)]
    assert np.all(others[:, 1] == 0) and np.all(np.abs(others[:, 0] + 0.5) <= 0.1)  # where c_reset begins


@pytest.mark.parametrize("split", [{"backend": "serial"}] + [{"backend": "multiprocessing", "num_workers": n}
                                                             for n in (1, 2, 8)], ids=str)
def test_the_same_bytes_for_any_split(split):
    expected, got = roll(Starts(STATES, 0.5)), roll(Starts(STATES, 0.5), **split)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(expected, got, strict=True))


def test_always_and_never():
    seen, ends = roll(Starts(STATES, 1.0))
    first = first_observations(seen, ends)
    assert len(first) > 40 and (first[:, None] == np.float32(STATES)).all(2).any(1).all()
    never, plain = roll(Starts(STATES, 0.0)), roll(None)
    assert never[0].tobytes() == plain[0].tobytes(), "no random number is drawn for it"
    assert not (first_observations(*plain)[:, None] == np.float32(STATES)).all(2).any()


def test_the_time_limit_counts_from_the_reset_and_the_final_observation_is_the_last_one():
    with make_vec("mountaincar", num_envs=8, starts=Starts(np.array([[-0.5, 0.0]]), 1.0), seed=0) as vec:
        vec.reset(0)
        for step in range(1, 401):
            batch = vec.step(np.ones((8, 1), np.int32))  # no push: it stays in the valley
            assert batch.truncations.all() == (step % 200 == 0)
            if step % 200 == 0:
                assert (batch.obs == np.float32([-0.5, 0.0])).all()
                assert (np.abs(batch.final_obs - batch.obs) > 1e-3).any(1).all()
                assert batch.episode_lengths.tolist() == [200] * 8


def test_the_rollout_in_c_begins_there_too():
    """And the same steps by the collector's own loop."""
    rollouts = []
    for native in (True, False):
        torch.manual_seed(0)
        with make_vec("mountaincar", num_envs=32, starts=Starts(STATES, 0.5), seed=5) as vec:
            policy = Policy(vec.spec, PolicyConfig(hidden=(8,)))
            buffer = RolloutBuffer(vec.spec, 210, 32)
            collector = Collector(vec, policy, buffer, torch.device("cpu"), 5)
            if not native:
                collector._collect_natively = lambda: False
            rollouts.append(collector.collect().obs.copy())
    np.testing.assert_array_equal(*rollouts)
    assert (rollouts[0][200:, :, None] == np.float32(STATES)).all(3).any(2).sum() > 3


def test_states_of_demonstrations_are_those_of_their_rows():
    with make_vec("mountaincar", num_envs=4, seed=0) as vec:
        vec.reset(0)
        demos = collect(vec, lambda obs, starts: vec.expert_actions(), 6, "script")
    np.testing.assert_array_equal(demos.states.astype(np.float32), demos.obs)
    assert demos.states.dtype == np.float64


def test_an_environment_that_was_put_there_goes_on_as_the_demonstration_did():
    with make_vec("pendulum", num_envs=2, seed=0) as vec:
        vec.reset(0)
        demos = collect(vec, lambda obs, starts: vec.expert_actions(), 2, "script")
    env = NativeEnv(Path("envs/pendulum"), 1)
    for row in (0, 17, 150):
        env.begin_in(Starts(demos.states[row:row + 1], 1.0))
        np.testing.assert_array_equal(env.reset()[0], demos.obs[row:row + 1])
        env.step(demos.actions[row])
        np.testing.assert_array_equal(env.observations[0], demos.next_obs[row])


def test_of_several_agents_the_last_state_in_which_all_took_part_is_kept():
    with make_vec("tron", num_envs=8, kwargs={"players": 4, "scripted": 0}, seed=2) as vec:
        vec.reset(2)
        rng = np.random.default_rng(1)
        demos = collect(vec, lambda obs, starts: rng.integers(0, 3, (8, 1)).astype(np.int32), 8, "chance", seed=2)
        assert vec.spec.num_agents == 4
    for agents in (range(4), range(4, 8)):  # of one environment each
        together = demos.lengths[agents].min()
        assert together < demos.lengths[agents].max(), "some leave before the others"
        spans = zip(demos.episode_starts[agents], demos.episode_ends[agents], strict=True)
        paths = [demos.states[a:b] for a, b in spans]
        for path in paths:
            np.testing.assert_array_equal(path[:together], paths[0][:together])
            assert (path[together:] == path[together - 1]).all()
            assert len(np.unique(path[:together], axis=0)) == together


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    folder = write_env(tmp_path, "walk", TOML, HEADER)
    (folder / "walk.py").write_text(LOAD)
    return folder


def stateless(folder: Path) -> Path:
    text = (folder / "walk.h").read_text()
    begin, end = text.index("static inline void c_get_state"), text.index("static void c_render")
    (folder / "walk.h").write_text(text[:begin] + text[end:])
    (folder / "env.toml").write_text((folder / "env.toml").read_text().replace("state = 2\n", ""))
    return folder


def test_refusals_are_one_line_with_a_remedy(walk: Path):
    starts = Starts(np.zeros((1, 3)), 0.5)
    with pytest.raises(InputError, match=r"states of 2 numbers, the demonstrations of 3; collect them in the same"):
        make_vec(str(walk), num_envs=4, starts=starts)
    with pytest.raises(InputError, match=r"only a C environment can.*CartPole-v1 is not one; set mix.expert_resets"):
        make_vec("CartPole-v1", num_envs=4, starts=starts)
    toml = walk / "env.toml"
    toml.write_text("autoreset = false\n" + toml.read_text().replace("max_episode_steps = 9\n", ""))
    with pytest.raises(InputError, match=r"begins episodes itself .*; set mix.expert_resets to 0") as error:
        make_vec(str(walk), num_envs=4, starts=Starts(np.zeros((1, 2)), 0.5))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"walk.h defines no c_set_state; set mix.expert_resets to 0"):
        make_vec(str(stateless(walk)), num_envs=4, starts=Starts(np.zeros((1, 2)), 0.5))
