"""What does not fit is refused with the numbers; what is odd is found; what is described is right."""

import json
from dataclasses import replace

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import check_fit, describe, doubts, read_demos
from puffer_il.demos.check import misfits
from puffer_il.demos.subset import subsample_rows
from tests.support.demos import make_demos

FLOAT = np.dtype(np.float32)
BINARY = EnvSpec("x", (2,), FLOAT, ActionSpec(nvec=(2,)))


def box(low, high, shape=None):
    low, high = np.array(low, np.float32), np.array(high, np.float32)
    return ActionSpec(low=low, high=high, shape=shape or low.shape)


def test_demonstrations_that_fit_pass(discrete_spec, continuous_spec):
    check_fit(make_demos(), discrete_spec)
    check_fit(make_demos(continuous=True), continuous_spec)
    check_fit(make_demos(continuous=True, columns=2), EnvSpec("x", (2,), FLOAT, box([-np.inf, -1], [np.inf, 1])))
    check_fit(make_demos(columns=3), EnvSpec("x", (2,), FLOAT, ActionSpec(nvec=(2, 3, 2))))
    check_fit(make_demos(obs_shape=()), EnvSpec("x", (1,), FLOAT, ActionSpec(nvec=(2,))))
    check_fit(make_demos(obs_dtype="uint8"), EnvSpec("x", (2,), np.dtype(np.uint8), ActionSpec(nvec=(2,))))


@pytest.mark.parametrize(("changes", "spec", "message"), [
    ({}, EnvSpec("x", (3,), FLOAT, ActionSpec(nvec=(2,))), r"shape \(2,\) but x has \(3,\)"),
    ({}, EnvSpec("x", (2,), FLOAT, ActionSpec(nvec=(2, 2))), "actions have 1 columns but x takes 2"),
    ({}, EnvSpec("x", (2,), FLOAT, ActionSpec(nvec=(1,))), r"action 1 in row \d but x takes whole numbers 0\.\.0"),
    ({"actions": np.full((8, 1), -1, np.int32)}, BINARY, r"action -1 in row 0"),
    ({"actions": np.full((8, 1), 0.5, np.float32)}, BINARY, r"action 0\.5"),
    ({"actions": np.full((8, 1), 1.01, np.float32)}, EnvSpec("x", (2,), FLOAT, box([-1], [1])),
     r"column 0 range over \[1\.01, 1\.01\] but x takes \[-1, 1\] \(8 of 8 rows\)"),
    ({"actions": np.full((8, 1), -3, np.float32)}, EnvSpec("x", (2,), FLOAT, box([-2], [np.inf])),
     r"takes \[-2, inf\]"),
    ({"obs": np.full((8, 2), 0.5, np.float32)}, EnvSpec("x", (2,), np.dtype(np.uint8), ActionSpec(nvec=(2,))),
     r"obs holds 0\.5 but x has uint8"),
    ({"obs": np.full((8, 2), -1.0, np.float32)}, EnvSpec("x", (2,), np.dtype(np.uint8), ActionSpec(nvec=(2,))),
     r"obs holds -1\.0"),
])
def test_misfits_name_both_sides(changes, spec, message):
    demos = replace(make_demos(), **changes)
    with pytest.raises(InputError, match=message) as error:
        check_fit(demos, spec)
    assert "\n" not in str(error.value)
    assert demos.source in str(error.value)


def test_every_misfit_is_listed():
    spec = EnvSpec("x", (3,), FLOAT, ActionSpec(nvec=(1,)))
    assert len(list(misfits(make_demos([9, 8, 10]), spec))) == 2


def test_describe_counts_episodes_ends_and_arrays():
    demos = make_demos([3, 1, 4])
    summary = describe(demos)
    assert (summary["episodes"], summary["transitions"]) == (3, 8)
    assert (summary["terminated"], summary["truncated"], summary["open"]) == (2, 1, 0)
    assert summary["lengths"] == {"mean": 8 / 3, "sd": pytest.approx(np.std([3, 1, 4])), "min": 1, "max": 4}
    assert summary["returns"]["mean"] == pytest.approx(demos.rewards.sum() / 3)
    assert summary["obs"] == {"shape": [2], "dtype": "float32", "min": demos.obs.min(), "max": demos.obs.max()}
    assert summary["actions"]["dtype"] == "int32"
    json.dumps(summary)


def test_describe_subsampled_ones_by_their_whole_episodes():
    whole = make_demos([30, 10, 40])
    summary, before = describe(subsample_rows(whole, 10)), describe(whole)
    assert (summary["transitions"], before["transitions"]) == (8, 80)
    for key in ("episodes", "lengths", "returns", "terminated", "truncated", "open"):
        assert summary[key] == before[key]


def test_describe_without_rewards_or_ends():
    summary = describe(make_demos(rewards=False, ends="open"))
    assert summary["returns"] is None
    assert summary["open"] == 3


def test_sound_demonstrations_raise_no_doubts(discrete_spec):
    assert doubts(make_demos([9, 8, 10]), discrete_spec) == []


def constant_column(demos):
    obs = demos.obs.copy()
    obs[:, 1] = 3
    return replace(demos, obs=obs, next_obs=np.append(demos.next_obs[:, :1], np.full((len(obs), 1), 3, FLOAT), 1))


def twins(demos):
    rows = np.tile(np.arange(demos.episode_ends[0]), 2)
    names = ("obs", "actions", "next_obs", "terminations", "truncations", "rewards")
    return replace(demos, episode_starts=demos.episode_starts[:2],
                   **{name: getattr(demos, name)[rows] for name in names})


@pytest.mark.parametrize(("spoil", "kwargs", "message"), [
    (constant_column, {}, "1 of 2 obs columns never change (1)"),
    (lambda d: replace(d, actions=np.zeros_like(d.actions)), {}, "does nothing teaches nothing"),
    (lambda d: replace(d, rewards=None), {}, "no rewards are stored"),
    (lambda d: d, {"ends": "open"}, "3 of 3 episodes neither terminate nor are truncated (0, 1, 2)"),
    (lambda d: d, {"lengths": [9, 1, 8]}, "1 episodes are one step long (1)"),
    (lambda d: d, {"lengths": [9, 9, 9], "ends": "terminated"}, "all 3 terminated episodes are 9 steps long"),
    (lambda d: replace(d, next_obs=d.next_obs[::-1]), {}, "next_obs differs from the next row's obs"),
])
def test_oddities_raise_doubts(spoil, kwargs, message):
    demos = spoil(make_demos(**{"lengths": [9, 8, 10], **kwargs}))
    assert any(message in doubt for doubt in doubts(demos))


def test_copies_are_found():
    assert any("2 episodes are copies of one another (0, 1)" in doubt for doubt in doubts(twins(make_demos([9, 9, 3]))))


def test_actions_never_taken_are_found():
    spec = EnvSpec("x", (2,), FLOAT, ActionSpec(nvec=(9,)))
    found = doubts(make_demos([9, 8, 10]), spec)
    assert any("7 of 9 actions are never taken (2, 3, 4, 5, 6…)" in line for line in found)


def test_subsampled_rows_need_not_follow_on_one_another(discrete_spec):
    assert doubts(subsample_rows(make_demos([90, 80, 100]), 3), discrete_spec) == []


def test_real_files_raise_no_doubts(test_data):
    for name in ("imitation_testdata/cartpole_0_final", "imitation_testdata/pendulum_0_final",
                 "cs285_mujoco_v4/Hopper-v4"):
        assert doubts(read_demos(test_data / f"{name}.npz")) == []


def test_missing_actions_are_described_and_found(discrete_spec):
    demos = replace(make_demos(), actions=None)
    check_fit(demos, discrete_spec)
    assert describe(demos)["actions"] is None
    assert any("no actions are stored" in doubt for doubt in doubts(demos, discrete_spec))
    twice = replace(make_demos([2, 2]), actions=None, obs=np.tile(demos.obs[:2], (2, 1)))
    assert any("copies" in doubt for doubt in doubts(twice))


def test_choices_are_named_as_the_environment_numbers_them():
    spec = EnvSpec("counts", (2,), FLOAT, ActionSpec(nvec=(3,), start=(5,)))
    with pytest.raises(InputError, match=r"action 3 in row 0 but counts takes whole numbers 5\.\.7, or "
                                         r"0\.\.2 counted from 0, in column 0"):
        check_fit(replace(make_demos(), actions=np.full((8, 1), 3, np.int32)), spec)
    ones = replace(make_demos(), actions=np.arange(8, dtype=np.int32)[:, None] % 2)
    assert any("1 of 3 actions are never taken (7)" in line for line in doubts(ones, spec))
