"""From a file to what a learner gets: first episodes, fit, subsampling."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import fit, load_demos
from puffer_il.demos.subset import first_episodes, subsample_rows
from tests.support.demos import make_demos, same_demos


@pytest.fixture
def saved(tmp_path):
    """Writes demonstrations and hands back the path."""

    def save(*args, **kwargs):
        make_demos(*args, **kwargs).save(tmp_path / "x.npz")
        return tmp_path / "x.npz"

    return save


def test_without_options_the_whole_file_is_loaded(saved, discrete_spec):
    same_demos(load_demos(saved(), discrete_spec), make_demos())


def test_only_the_first_episodes_are_kept(saved, discrete_spec):
    demos, whole = load_demos(saved(), discrete_spec, episodes=2), make_demos()
    assert demos.lengths.tolist() == [3, 1]
    np.testing.assert_array_equal(demos.obs, whole.obs[:4])
    np.testing.assert_array_equal(demos.next_obs, whole.next_obs[:4])
    np.testing.assert_array_equal(demos.returns, whole.returns[:2])
    assert demos.notes == ()


def test_fewer_episodes_than_asked_for_is_said(saved, discrete_spec):
    demos = load_demos(saved(), discrete_spec, episodes=5)
    assert demos.num_episodes == 3
    assert demos.notes == ("asked for 5 episodes, found 3",)


def test_first_episodes_of_subsampled_ones_keep_their_totals():
    demos = first_episodes(subsample_rows(make_demos([9, 7, 8]), 4), 2)
    assert demos.whole_lengths.tolist() == [9, 7]
    np.testing.assert_array_equal(demos.returns, make_demos([9, 7, 8]).returns[:2])


@pytest.mark.parametrize("obs_dtype", ["float64", "float32", "uint8"])
def test_observations_get_the_environments_dtype(saved, obs_dtype):
    spec = EnvSpec("toy", (2,), np.dtype(obs_dtype), ActionSpec(nvec=(2,)))
    demos = load_demos(saved(), spec)
    assert demos.obs.dtype == demos.next_obs.dtype == obs_dtype


def test_bare_numbers_become_rows(saved):
    spec = EnvSpec("toy", (1,), np.dtype(np.int64), ActionSpec(nvec=(2,)))
    assert load_demos(saved(obs_shape=(), obs_dtype="int32"), spec).obs.shape == (8, 1)


def test_whole_float_actions_become_discrete(discrete_spec):
    demos = make_demos()
    object.__setattr__(demos, "actions", demos.actions.astype(np.float32))
    assert fit(demos, discrete_spec).actions.dtype == np.int32


def test_actions_beyond_the_range_are_refused_or_clipped(saved, continuous_spec):
    half = np.full(1, 0.5, np.float32)
    narrow = EnvSpec("narrow", (2,), np.dtype(np.float32), ActionSpec(low=-half, high=half, shape=(1,)))
    path = saved(continuous=True)
    assert load_demos(path, continuous_spec).notes == ()
    with pytest.raises(InputError, match=r"\[-0\.5, 0\.5\].*--demos\.clip-actions true"):
        load_demos(path, narrow)
    demos = load_demos(path, narrow, clip_actions=True)
    assert np.abs(demos.actions).max() == 0.5
    assert "clipped" in demos.notes[0]
    assert load_demos(path, continuous_spec, clip_actions=True).notes == ()


def test_rounding_beyond_the_range_is_cut_off(continuous_spec):
    demos = make_demos(continuous=True)
    object.__setattr__(demos, "actions", np.full((8, 1), 1 + 1e-6, np.float32))
    assert fit(demos, continuous_spec).actions.max() == 1


@pytest.mark.parametrize("every", [2, 5, 20])
def test_subsampled_rows_are_whole_transitions(every):
    whole = make_demos([40, 3, 61], obs_shape=(4,))
    demos = subsample_rows(whole, every, seed=3)
    position = {row.tobytes(): i for i, row in enumerate(whole.obs)}
    kept = np.array([position[row.tobytes()] for row in demos.obs])
    for name in ("actions", "next_obs", "rewards", "terminations", "truncations"):
        np.testing.assert_array_equal(getattr(demos, name), getattr(whole, name)[kept])
    for episode in range(3):
        rows = kept[demos.episode_starts[episode]:demos.episode_ends[episode]] - whole.episode_starts[episode]
        assert (np.diff(rows) == every).all()
        assert 0 <= rows[0] < min(every, whole.lengths[episode])
        assert rows[-1] + every >= whole.lengths[episode]
    np.testing.assert_array_equal(demos.returns, whole.returns)
    np.testing.assert_array_equal(demos.whole_lengths, whole.lengths)
    np.testing.assert_array_equal(demos.terminated, whole.terminated)
    np.testing.assert_array_equal(demos.truncated, whole.truncated)


def test_offsets_are_random_and_seeded():
    whole = make_demos([100] * 50)
    same_demos(subsample_rows(whole, 20, seed=1), subsample_rows(whole, 20, seed=1))
    flags = [subsample_rows(whole, 20, seed).terminations.sum() for seed in range(40)]
    assert 0.8 < np.mean(flags) / (25 / 20) < 1.2  # each end is kept once in twenty
    assert len(set(flags)) > 1


def test_subsampling_is_said_and_can_be_repeated(saved, discrete_spec):
    demos = load_demos(saved([10, 20]), discrete_spec, subsample=5, seed=2)
    assert demos.notes == ("every 5th transition: 6 of 30",)
    again = subsample_rows(demos, 2)
    np.testing.assert_array_equal(again.returns, make_demos([10, 20]).returns)
    assert again.whole_lengths.tolist() == [10, 20]


def test_seed_reaches_the_offsets(saved, discrete_spec):
    path = saved([30] * 5)
    loaded = [load_demos(path, discrete_spec, subsample=10, seed=seed).obs for seed in (0, 0, 1)]
    np.testing.assert_array_equal(loaded[0], loaded[1])
    assert not np.array_equal(loaded[0], loaded[2])


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """One environment, `toy`, whose folder may ship demonstrations."""
    monkeypatch.setattr(sys.modules["puffer_il.native.catalogue"], "env_folders", lambda: {"toy": tmp_path / "toy"})
    return tmp_path


def test_shipped_demonstrations_are_found_by_the_environments_name(folders, discrete_spec):
    with pytest.raises(InputError, match=r"toy comes with no demonstrations; give a file with --demos FILE, or record"):
        load_demos("shipped", discrete_spec)
    make_demos().save(folders / "toy" / "demos" / "expert.npz")
    same_demos(load_demos("shipped", discrete_spec), make_demos())


def test_shipped_by_an_environment_outside_the_library(folders):
    make_demos().save(folders / "own" / "demos" / "expert.npz")
    spec = EnvSpec(str(folders / "own"), (2,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
    same_demos(load_demos("shipped", spec), make_demos())


@pytest.mark.parametrize(("limit", "truncated"), [("max_episode_steps = 7", [True, False]), ("", [False, False])])
def test_the_time_limit_comes_from_the_environment(folders, discrete_spec, limit, truncated):
    (folders / "toy").mkdir()
    (folders / "toy" / "env.toml").write_text(limit)
    obs, done = np.zeros((14, 2), np.float32), np.ones(2, bool)
    np.savez(folders / "x.npz", obs=obs, acts=np.zeros(12, int), indices=np.array([7]), terminal=done)
    assert load_demos(folders / "x.npz", discrete_spec).truncated.tolist() == truncated
    assert load_demos(folders / "x.npz", discrete_spec, time_limit=5).truncated.tolist() == [False, True]
    np.savez(folders / "y.npz", obs=np.zeros((533, 2)), acts=np.zeros(531, int), indices=np.array([500]), terminal=done)
    for name in ("CartPole-v1", "gymnasium:CartPole-v1"):
        registered = EnvSpec(name, (2,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
        assert load_demos(folders / "y.npz", registered).truncated.tolist() == [True, False]


def test_an_empty_source_is_refused(discrete_spec):
    with pytest.raises(InputError, match="give --demos FILE"):
        load_demos("", discrete_spec)


def test_the_real_files_fit_their_environments(test_data):
    limits = np.ones(6, np.float32)
    cheetah = EnvSpec("HalfCheetah-v4", (17,), np.dtype(np.float64), ActionSpec(low=-limits, high=limits, shape=(6,)))
    path = test_data / "cs285_mujoco_v4" / "HalfCheetah-v4.npz"
    with pytest.raises(InputError, match=r"but HalfCheetah-v4 takes \[-1, 1\]"):
        load_demos(path, cheetah)
    demos = load_demos(path, cheetah, clip_actions=True, subsample=20, time_limit=1000)
    assert (len(demos), demos.obs.dtype, demos.actions.max()) == (100, np.float64, 1)
    assert demos.returns == pytest.approx((4067.7, 4001.9), abs=0.05)
    cartpole = EnvSpec("cartpole", (4,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
    demos = load_demos(test_data / "imitation_testdata" / "cartpole_0_final.npz", cartpole, episodes=10)
    assert (demos.num_episodes, len(demos), demos.terminated.sum()) == (10, 4624, 8)


@pytest.mark.parametrize("spec", ["discrete_spec", "continuous_spec"])
def test_demonstrations_without_actions_fit_any_action_space(request, spec):
    whole = replace(make_demos(obs_dtype="float64"), actions=None)
    fitted = fit(whole, request.getfixturevalue(spec), clip_actions=True)
    assert fitted.actions is None and fitted.obs.dtype == np.float32
    assert first_episodes(fitted, 2).lengths.tolist() == [3, 1]
    assert subsample_rows(fitted, 2).actions is None and len(subsample_rows(fitted, 2)) < len(whole)


@pytest.mark.parametrize(("recorded", "wanted", "says"), [
    ([5, 7, 6, 5, 5, 5, 5, 5], [0, 2, 1, 0, 0, 0, 0, 0], True),
    ([0, 2, 1, 0, 0, 0, 0, 0], [0, 2, 1, 0, 0, 0, 0, 0], False),
])
def test_the_environments_own_numbers_are_counted_from_0(recorded, wanted, says):
    spec = EnvSpec("counts", (2,), np.dtype(np.float32), ActionSpec(nvec=(3,), start=(5,)))
    demos = load_demos(replace(make_demos(), actions=np.array(recorded, np.int32)[:, None]), spec)
    assert demos.actions[:, 0].tolist() == wanted
    assert (demos.notes == ("actions are numbered as counts numbers them, from 5",)) is says
    with pytest.raises(InputError, match=r"action 4 in row 0 but counts takes whole numbers 5\.\.7"):
        load_demos(replace(make_demos(), actions=np.full((8, 1), 4, np.int32)), spec)
