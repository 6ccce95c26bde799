"""Two ways of doing the same are told; a switching line and tremor are not."""

from __future__ import annotations

import numpy as np

from puffer_il.demos import judge, read_demos
from puffer_il.native.catalogue import env_folders


def kinds(demos):
    return [finding.kind for finding in judge(demos)]


def recorded(act, episodes=40, steps=60, seed=0):
    """Points that drift through a plane, and what `act` (obs (n, 2), rng, episode) does there."""
    rng, obs, actions = np.random.default_rng(seed), [], []
    for e in range(episodes):
        seen = rng.uniform(-1, 1, 2) + np.cumsum(rng.normal(0, 0.05, (steps + 1, 2)), 0)
        obs.append(seen)
        actions.append(act(seen[:-1], rng, e))
    last = np.cumsum(np.full(episodes, steps)) - 1
    ends = np.isin(np.arange(episodes * steps), last)
    return read_demos({"obs": np.concatenate([o[:-1] for o in obs]), "next_obs": np.concatenate([o[1:] for o in obs]),
                       "actions": np.concatenate(actions), "terminations": ends & False, "truncations": ends,
                       "episode_starts": last - steps + 1, "rewards": np.ones(episodes * steps)})


def test_the_two_ways_round_a_wall_are_told():
    (found,) = [f for f in judge(read_demos(env_folders()["detour"] / "demos" / "expert.npz")) if f.kind == "modes"]
    assert found.row is not None and "--policy.head mixture" in found.line and "in nearly the same state" in found.line


def test_demonstrators_of_two_kinds_are_told_whatever_the_state():
    act = lambda obs, rng, e: np.where(e % 2, 1.0, -1.0) + rng.normal(0, 0.1, (len(obs), 1))  # noqa: E731
    assert "modes" in kinds(recorded(act))


def test_a_switching_line_and_tremor_are_no_modes():
    assert "modes" not in kinds(recorded(lambda obs, rng, e: np.sign(obs[:, :1])))
    assert "modes" not in kinds(recorded(lambda obs, rng, e: obs[:, :1] + rng.normal(0, 0.5, (len(obs), 1))))
