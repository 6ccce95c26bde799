"""What other packages read from our exports, and what comes back."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import load_demos, read_demos
from puffer_il.demos.formats import imitation, minari
from puffer_il.demos.load import subsample_rows

FLOAT = np.dtype(np.float32)
BOUND = np.ones(2, np.float32)


def test_imitation_reads_its_own_format(tmp_path, make_demos):
    demos = make_demos([3, 1, 4])
    imitation.write(tmp_path / "x.npz", demos)
    with np.load(tmp_path / "x.npz", allow_pickle=True) as data:  # as imitation.data.serialize.load does
        trajectories = len(data["indices"])
        obs = np.split(data["obs"], data["indices"] + np.arange(trajectories) + 1)
        acts, infos, rews = (np.split(data[key], data["indices"]) for key in ("acts", "infos", "rews"))
        terminal = data["terminal"]
    assert terminal.tolist() == [True, False, True]
    for i, (start, end) in enumerate(zip(demos.episode_starts, demos.episode_ends, strict=True)):
        np.testing.assert_array_equal(obs[i][:-1], demos.obs[start:end])
        np.testing.assert_array_equal(obs[i][1:], demos.next_obs[start:end])
        np.testing.assert_array_equal(acts[i], demos.actions[start:end, 0])
        np.testing.assert_array_equal(rews[i], demos.rewards[start:end])
        assert infos[i].tolist() == [{}] * (end - start)


@pytest.mark.parametrize("shape", [{}, {"continuous": True, "columns": 2}, {"columns": 3}, {"rewards": False}])
def test_imitation_round_trip(tmp_path, make_demos, same, shape):
    demos = make_demos(ends="terminated", **shape)
    imitation.write(tmp_path / "x.npz", demos)
    same(read_demos(tmp_path / "x.npz"), demos)


def test_the_real_file_survives(tmp_path, test_data, same):
    demos = read_demos(test_data / "imitation_testdata" / "cartpole_0_final.npz")
    imitation.write(tmp_path / "x.npz", demos)
    same(read_demos(tmp_path / "x.npz"), demos)


@pytest.fixture
def minari_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return pytest.importorskip("minari", reason="the extra 'minari' is not installed")


@pytest.mark.parametrize(("action", "shape"), [
    (ActionSpec(nvec=(2,)), {}),
    (ActionSpec(nvec=(2, 2), shape=(2,)), {"columns": 2}),
    (ActionSpec(low=-BOUND, high=BOUND, shape=(2,)), {"columns": 2, "continuous": True}),
    (ActionSpec(nvec=(2,)), {"obs_shape": (32, 32, 3), "obs_dtype": "uint8"}),
])
def test_minari_round_trip(minari_folder, make_demos, same, action, shape):
    demos = make_demos(**shape)
    spec = EnvSpec("toy", demos.obs.shape[1:], demos.obs.dtype, action)
    minari.write("own/toy-v0", demos, spec)
    same(load_demos("minari:own/toy-v0", spec), demos)
    dataset = minari_folder.load_dataset("own/toy-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (3, 8)
    assert all(dataset.action_space.contains(a) for episode in dataset.iterate_episodes() for a in episode.actions)
    assert all(dataset.observation_space.contains(o) for episode in dataset.iterate_episodes()
               for o in episode.observations)


@pytest.mark.filterwarnings("ignore::UserWarning")  # it asks for authors and links
def test_minari_datasets_of_others(minari_folder):
    from gymnasium.spaces import Box, Dict, Discrete
    from minari.data_collector import EpisodeBuffer

    def record(name, observations, space):
        both = np.array([False, True])
        episode = EpisodeBuffer(observations=observations, actions=np.array([4, 5]), rewards=[1.0, 2.0],
                                terminations=both, truncations=both)
        minari_folder.create_dataset_from_buffers(name, [episode], observation_space=space,
                                                  action_space=Discrete(2, start=4))

    box = Box(-9, 9, (1,), np.float64)
    record("a-v0", np.arange(3.0)[:, None], box)
    demos = read_demos("minari:a-v0")
    assert demos.actions[:, 0].tolist() == [0, 1]  # counted from the space's start
    assert (demos.terminated.tolist(), demos.truncated.tolist()) == ([True], [False])  # Minari may flag both
    assert demos.next_obs[:, 0].tolist() == [1, 2]
    record("b-v0", {"x": np.arange(3.0)[:, None]}, Dict(x=box))
    with pytest.raises(InputError, match="has Dict, Tuple or Text observations"):
        read_demos("minari:b-v0")


def test_minari_refusals(minari_folder, make_demos, discrete_spec, tmp_path):
    with pytest.raises(InputError, match="not on this machine; fetch it with `minari download own/none-v0`"):
        read_demos("minari:own/none-v0")
    with pytest.raises(InputError, match="Malformed dataset ID"):
        minari.write("no version", make_demos(), discrete_spec)
    minari.write("own/toy-v0", make_demos(), discrete_spec)
    with pytest.raises(InputError, match="already exists"):
        minari.write("own/toy-v0", make_demos(), discrete_spec)
    with pytest.raises(InputError, match="no rewards"):
        minari.write("own/other-v0", make_demos(rewards=False), discrete_spec)
    (tmp_path / "own" / "toy-v0" / "data" / "main_data.hdf5").write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot be read") as error:
        read_demos("minari:own/toy-v0")
    assert "\n" not in str(error.value)


def test_subsampled_rows_cannot_be_exported(tmp_path, make_demos, discrete_spec):
    pytest.importorskip("minari", reason="the extra 'minari' is not installed")
    demos = subsample_rows(make_demos([9, 9]), 3)
    with pytest.raises(InputError, match="do not follow on one another"):
        imitation.write(tmp_path / "x.npz", demos)
    with pytest.raises(InputError, match="do not follow on one another"):
        minari.write("own/toy-v0", demos, discrete_spec)


def test_without_the_extra_the_way_to_it_is_named(monkeypatch, make_demos, discrete_spec):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(InputError, match=r"pip install 'puffer-il\[minari\]'"):
        minari.write("own/toy-v0", make_demos(), discrete_spec)
    with pytest.raises(InputError, match=r"pip install 'puffer-il\[minari\]'"):
        read_demos("minari:own/toy-v0")


def test_other_formats_need_actions(tmp_path, make_demos, discrete_spec):
    demos = replace(make_demos(), actions=None)
    with pytest.raises(InputError, match="no actions are stored"):
        imitation.write(tmp_path / "x.npz", demos)
    with pytest.raises(InputError, match="no actions are stored"):
        minari.write("own/x-v0", demos, discrete_spec)
    assert not (tmp_path / "x.npz").exists()
