"""Each edit does what it says, to the rows that it names, and says so in a note."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import judge, read_demos
from puffer_il.demos.build import follows_on
from puffer_il.demos.edit import episodes, history, pieces, values
from puffer_il.vector.world import World
from tests.demos.judge.damage import good, idle_start, late, late_actions, padding
from tests.support.demos import make_demos, same_demos

BOX = ActionSpec(low=np.array([-2.0], np.float32), high=np.array([2.0], np.float32), shape=(1,))


def spoilt(env, spoil):
    d = good(env, steps=1000 if env == "detour" else 120)
    spoil(d)
    return read_demos(d)


def test_episodes_are_chosen_by_their_numbers():
    demos = make_demos([3, 1, 4, 2])
    assert episodes.keep(demos, "0,2-3").lengths.tolist() == [3, 4, 2]
    same_demos(episodes.drop(demos, "1"), replace(episodes.keep(demos, "0,2-3")))
    for text in ("4", "2-1", "x", "", "1-", "99999999999999999999999999999999999999999"):
        with pytest.raises(InputError, match="none of 0 to 3; give numbers and ranges"):
            episodes.keep(demos, text)


def test_episodes_are_chosen_by_return_length_and_success():
    demos = replace(make_demos([3, 1, 4, 2]), rewards=np.array([1, 1, 1, 5, 0, 0, 0, 1, 2, -1], np.float32))
    assert episodes.between("", episodes.returns_of, 2, np.inf)(demos).returns.tolist() == [3, 5]
    assert episodes.between("", episodes.lengths_of, 0, 2)(demos).lengths.tolist() == [1, 2]
    assert episodes.succeeded(demos).lengths.tolist() == [3, 1, 4]
    assert episodes.best(demos, 2).returns.tolist() == [3, 5]
    with pytest.raises(InputError, match="--min-return 9 leaves none of 4 episodes; choose less strictly"):
        episodes.between("--min-return 9", episodes.returns_of, 9, np.inf)(demos)
    for edit in (episodes.succeeded, lambda d: episodes.best(d, 1)):
        with pytest.raises(InputError, match="no rewards are stored"):
            edit(replace(demos, rewards=None))


def test_a_split_takes_every_episode_once_and_by_the_seed():
    demos = make_demos([3, 1, 4, 2, 5])
    parts = episodes.split(demos, 0.6, 1)
    assert [part.num_episodes for part in parts] == [3, 2]
    assert sorted(np.concatenate([part.rewards for part in parts])) == sorted(demos.rewards)
    same_demos(episodes.split(demos, 0.6, 1)[0], parts[0])
    assert [part.num_episodes for part in episodes.split(make_demos([1, 1]), 0.01, 0)] == [1, 1]
    with pytest.raises(InputError, match="single episode"):
        episodes.split(make_demos([3]), 0.5, 0)


def test_sets_are_merged_in_their_order_and_copies_dropped():
    one, other = make_demos([3, 1]), make_demos([2], seed=1)
    both = episodes.merged([one, other, one])
    assert both.lengths.tolist() == [3, 1, 2, 3, 1]
    assert episodes.without_copies(both).lengths.tolist() == [3, 1, 2]
    with pytest.raises(InputError, match="give demonstrations of the same environment"):
        episodes.merged([one, make_demos([2], obs_shape=(3,))])


def test_what_is_cut_in_two_is_truncated_there():
    cut = pieces.cut_at(make_demos([3, 1, 4], ends="terminated"), "2,6")
    assert cut.lengths.tolist() == [2, 1, 1, 2, 2]
    assert cut.truncated.tolist() == [True, False, False, True, False] and follows_on(cut)


def test_idle_rows_at_the_ends_are_cut_off():
    demos = spoilt("detour", idle_start)
    cut = pieces.without_idle(demos)
    assert (demos.lengths - cut.lengths)[:3].min() >= 28 and follows_on(cut)
    assert not [finding for finding in judge(cut) if finding.kind == "idle"]
    padded = spoilt("cartpole", padding)
    assert pieces.without_idle(padded).lengths.max() <= 82


@pytest.mark.parametrize(("spoil", "count"), [(late, 1), (late_actions, -1)])
def test_what_is_late_is_paired_anew(spoil, count):
    mended = pieces.shifted_by(spoilt("cartpole", spoil), count)
    assert len(mended) == 8 * 119 and follows_on(mended)
    with World("cartpole") as world:
        assert not judge(mended, world.spec, world)
    with pytest.raises(InputError, match="--shift 120 leaves no pair"):
        pieces.shifted_by(read_demos(good("cartpole")), 120)


def test_rewards_are_the_environments_a_number_or_none():
    demos = read_demos(good("pendulum"))
    with World("pendulum") as world:
        again = values.rewarded(replace(demos, rewards=None), "env", world)
    np.testing.assert_allclose(again.rewards, demos.rewards, atol=1e-5)
    assert values.rewarded(demos, "-1", None).rewards.tolist() == [-1] * len(demos)
    assert values.rewarded(demos, "none", None).returns is None
    for how, message in (("env", "name it with --env"), ("much", "expected env, none or a"), ("nan", "expected")):
        with pytest.raises(InputError, match=message):
            values.rewarded(demos, how, None)


def test_actions_are_mapped_to_the_environments_range():
    spec = EnvSpec("toy", (2,), np.dtype(np.float32), BOX)
    demos = make_demos(continuous=True)
    np.testing.assert_allclose(values.rescaled(demos, (-1, 1), spec).actions, 2 * demos.actions, atol=1e-6)
    np.testing.assert_allclose(values.rescaled(demos, (1, -1), spec).actions, -2 * demos.actions, atol=1e-6)
    for wrong, own in ((None, demos), (spec, make_demos(columns=2)), (spec, replace(demos, actions=None))):
        with pytest.raises(InputError, match="--rescale-actions"):
            values.rescaled(own, (-1, 1), wrong)


def test_noise_is_of_its_size_and_follows_from_row_to_row():
    demos = make_demos([900, 900], continuous=True)
    for name in ("obs", "actions"):
        made = values.noisy(demos, name, 0.1, 3)
        off = getattr(made, name) - getattr(demos, name)
        np.testing.assert_allclose(off.std(0), 0.1 * getattr(demos, name).std(0), rtol=0.1)
        assert follows_on(made)
        same_demos(made, values.noisy(demos, name, 0.1, 3))
    with pytest.raises(InputError, match="leave --noise-actions out"):
        values.noisy(make_demos(), "actions", 0.1, 0)


def test_only_observations_are_left_without_actions():
    assert values.without_actions(make_demos()).actions is None


def test_a_file_says_what_it_was_made_of(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert history.digest(str(tmp_path / "a")) == known and history.digest("minari:x") == "unknown"
    before = history.digest(str(tmp_path))
    (tmp_path / "a").write_bytes(b"abd")
    assert history.digest(str(tmp_path)) != before
