"""`demos check` finds observations that come a row late, and says nothing of those that do not."""

from dataclasses import replace

import numpy as np
import pytest

import puffer_il
from puffer_il.demos import doubts, read_demos
from puffer_il.demos.subset import subsample_rows
from puffer_il.native.catalogue import env_folders
from tests.support.demos import make_demos

SHIPPED = sorted(name for name, folder in env_folders().items() if (folder / "demos" / "expert.npz").is_file())


def late(demos, carry=True):
    """Every observation one row later; episodes begin with the last one of the episode before, or with their first."""
    obs, next_obs = demos.obs.copy(), demos.next_obs.copy()
    before = demos.obs[0] * 0
    for a, b in zip(demos.episode_starts, demos.episode_ends, strict=True):
        seen = np.concatenate([(before if carry else demos.obs[a])[None], demos.obs[a:b]])
        obs[a:b], next_obs[a:b], before = seen[:-1], seen[1:], seen[-1]
    return replace(demos, obs=obs, next_obs=next_obs)


def timing(demos):
    return [doubt for doubt in doubts(demos) if "late" in doubt]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_demonstrations_are_in_time(name):
    assert timing(read_demos(env_folders()[name] / "demos" / "expert.npz")) == []


@pytest.mark.parametrize("name", ["cartpole", "pendulum", "detour"])
@pytest.mark.parametrize("carry", [True, False])
def test_frames_that_come_a_row_late_are_found(name, carry):
    found = timing(late(read_demos(env_folders()[name] / "demos" / "expert.npz"), carry))
    assert any("the action of the row before" in doubt for doubt in found)
    assert any("begin where the one before ended" in doubt for doubt in found) is carry


def test_random_actions_of_a_c_environment_are_in_time():
    demos = puffer_il.collect("random", "acrobot", episodes=3)
    assert timing(demos) == []


def test_what_cannot_be_told_is_left_alone():
    assert timing(make_demos()) == []  # a few rows
    assert timing(replace(make_demos((60, 60)), actions=None)) == []
    demos = late(read_demos(env_folders()["cartpole"] / "demos" / "expert.npz"))
    assert timing(subsample_rows(demos, 5)) == []
    assert timing(make_demos((200, 200), obs_shape=(8, 8, 3, 8), obs_dtype="uint8")) == []


@pytest.mark.parametrize("lengths", [(5,), (1, 1, 1), (1,)])
def test_a_single_episode_and_episodes_of_one_step_can_be_checked(lengths):
    assert not [line for line in doubts(make_demos(lengths)) if "one row late" in line]
