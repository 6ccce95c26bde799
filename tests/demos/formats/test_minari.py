"""Minari data sets: ours as it reads them, and those of others."""

import sys

import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import load_demos, read_demos
from puffer_il.demos.formats import minari
from puffer_il.vector.emulation import action_spec, plain_actions
from tests.support.demos import make_demos, same_demos

FLOAT = np.dtype(np.float32)


BOUND = np.ones(2, np.float32)


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
def test_minari_gives_back_what_was_written(minari_folder, action, shape):
    demos = make_demos(**shape)
    spec = EnvSpec("toy", demos.obs.shape[1:], demos.obs.dtype, action)
    minari.write("own/toy-v0", demos, spec)
    same_demos(load_demos("minari:own/toy-v0", spec), demos)
    dataset = minari_folder.load_dataset("own/toy-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (3, 8)
    assert all(dataset.action_space.contains(a) for episode in dataset.iterate_episodes() for a in episode.actions)
    assert all(dataset.observation_space.contains(o) for episode in dataset.iterate_episodes()
               for o in episode.observations)


@pytest.mark.filterwarnings("ignore::UserWarning")  # it asks for authors and links
def test_minari_reads_data_sets_of_others(minari_folder):
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
    nested = read_demos("minari:b-v0")
    assert nested.obs.dtype == np.float32 and nested.obs[:, 0].tolist() == [0, 1]
    assert [field.path for field in nested.layout.fields] == [("x",)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("stored", ["hdf5", "arrow", "parquet"])
def test_every_storage_of_minari_is_read(minari_folder, stored):
    if stored != "hdf5":
        pytest.importorskip("pyarrow")
    from minari.data_collector import EpisodeBuffer

    space = spaces.Dict({"goal": spaces.Box(-9, 9, (2,), np.float32), "depth": spaces.Box(0, 65535, (3, 4), np.uint16)})
    episodes = []
    for k, n in enumerate((3, 1)):
        rows = np.arange(n + 1)
        ends = rows[1:] == n
        episodes.append(EpisodeBuffer(
            observations={"goal": np.stack([rows, rows + k], 1).astype(np.float32), "depth": np.full(
                (n + 1, 3, 4), 1000 * k, np.uint16) + rows[:, None, None].astype(np.uint16)},
            actions=rows[1:] + 4, rewards=rows[1:] / 4, terminations=ends & (k == 0), truncations=ends & (k == 1)))
    minari_folder.create_dataset_from_buffers("own/x-v0", episodes, observation_space=space, data_format=stored,
                                              action_space=spaces.Discrete(9, start=4))
    demos = read_demos("minari:own/x-v0")
    seen, after = (demos.layout.unpack(rows) for rows in (demos.obs, demos.next_obs))
    assert demos.lengths.tolist() == [3, 1] and demos.terminated.tolist() == [True, False]
    assert demos.truncated.tolist() == [False, True]
    assert seen["goal"].tolist() == [[0, 0], [1, 1], [2, 2], [0, 1]] and after["goal"][:, 0].tolist() == [1, 2, 3, 1]
    assert seen["depth"].dtype == np.uint16 and after["depth"][:, 2, 3].tolist() == [1, 2, 3, 1001]
    assert demos.actions[:, 0].tolist() == [1, 2, 3, 1] and demos.rewards.tolist() == [0.25, 0.5, 0.75, 0.25]


def test_minari_names_what_cannot_be_read_or_written(minari_folder, discrete_spec, tmp_path):
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


def test_without_the_extra_the_way_to_it_is_named(monkeypatch, discrete_spec):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(InputError, match=r"pip install 'puffer-il\[minari\]'"):
        minari.write("own/toy-v0", make_demos(), discrete_spec)
    with pytest.raises(InputError, match=r"pip install 'puffer-il\[minari\]'"):
        read_demos("minari:own/toy-v0")


def _short(minari_folder, tmp_path, kept):
    """Three episodes, of which the second has only its first `kept` observations for 3 actions."""
    import h5py
    from gymnasium.spaces import Box, Discrete
    from minari.data_collector import EpisodeBuffer

    ends = np.array([False, False, True])
    episodes = [EpisodeBuffer(id=i, observations=np.arange(4.0)[:, None] + 10 * i, actions=np.array([0, 1, 0]),
                              rewards=np.ones(3), terminations=ends, truncations=ends & False) for i in range(3)]
    minari_folder.create_dataset_from_buffers("own/short-v0", episodes, action_space=Discrete(2),
                                              observation_space=Box(-99, 99, (1,), np.float64))
    with h5py.File(tmp_path / "own" / "short-v0" / "data" / "main_data.hdf5", "r+") as file:
        observations = file["episode_1"]["observations"][:kept]
        del file["episode_1"]["observations"]
        file["episode_1"]["observations"] = observations


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_episode_without_its_final_observation_loses_its_last_action(minari_folder, tmp_path):
    _short(minari_folder, tmp_path, 3)
    demos = read_demos("minari:own/short-v0")
    assert demos.lengths.tolist() == [3, 2, 3] and demos.terminated.tolist() == [True, False, True]
    assert demos.obs[:, 0].tolist() == [0, 1, 2, 10, 11, 20, 21, 22]
    assert demos.next_obs[:, 0].tolist() == [1, 2, 3, 11, 12, 21, 22, 23]
    assert demos.notes == ("episode 1 lacks its final observation: its last action is left out",)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_episode_that_lacks_more_is_refused_by_its_number(minari_folder, tmp_path):
    _short(minari_folder, tmp_path, 2)
    with pytest.raises(InputError, match="episode 1 has 2 observations for 3 actions, but needs one more"):
        read_demos("minari:own/short-v0")


def test_a_format_whose_package_is_missing_names_the_extra(minari_folder, monkeypatch):
    def load(_):
        raise ImportError("pyarrow is not installed")

    monkeypatch.setattr(minari_folder, "load_dataset", load)
    with pytest.raises(InputError, match=r"pip install 'minari\[arrow\]'$"):
        read_demos("minari:own/arrow-v0")


def _spec(space):
    return EnvSpec("toy", (1,), FLOAT, action_spec(plain_actions(space)[0], space))


def _recorded(minari_folder, name, space, actions):
    """An episode of these actions, of which there are 5."""
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    episode = EpisodeBuffer(observations=np.arange(6.0)[:, None], actions=actions, rewards=np.ones(5),
                            terminations=np.arange(5) == 4, truncations=np.zeros(5, bool))
    minari_folder.create_dataset_from_buffers(name, [episode], action_space=space,
                                              observation_space=Box(-9, 9, (1,), np.float64))


K = np.arange(5)
ACTIONS = [
    (spaces.Dict(b=spaces.Box(-9, 9, (2,)), a=spaces.Box(0, 9, (), np.float64)),
     {"b": np.stack([K, -K], 1).astype(np.float32), "a": K / 2}),
    (spaces.Tuple([spaces.Discrete(5, start=2), spaces.Dict(x=spaces.MultiBinary(2), y=spaces.MultiDiscrete([5, 6]))]),
     (K + 2, {"x": np.stack([K % 2, K // 3], 1).astype(np.int8), "y": np.stack([K, 5 - K], 1)})),
    (spaces.Box(-2, 2, (1, 2), np.int8), np.stack([K - 2, 2 - K], 1)[:, None].astype(np.int8)),
    (spaces.Dict(z=spaces.Box(250, 254, (1,), np.uint8)), {"z": (K + 250).astype(np.uint8)[:, None]}),
    (spaces.MultiDiscrete([5, 5], start=[3, -3]), np.stack([K + 3, K - 3], 1)),
]


def _same(found, given):
    if isinstance(given, np.ndarray):
        np.testing.assert_array_equal(found, given)
        return
    for key in given if isinstance(given, dict) else range(len(given)):
        _same(found[key], given[key])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("space", "actions"), ACTIONS)
def test_actions_of_any_space_are_read_and_written_back_in_the_environments_own_numbers(minari_folder, space, actions):
    spec = _spec(space)
    _recorded(minari_folder, "own/any-v0", space, actions)
    demos = load_demos("minari:own/any-v0", spec)
    assert demos.notes == () and demos.actions.dtype == spec.action.dtype
    _same(spec.action.to_env(demos.actions), actions)
    minari.write("own/any-v1", demos, spec)
    (written,) = minari_folder.load_dataset("own/any-v1").iterate_episodes()
    _same(written.actions, actions)
    same_demos(load_demos("minari:own/any-v1", spec), demos)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_parts_are_found_by_their_names_whatever_the_order_of_the_environment(minari_folder):
    space, actions = ACTIONS[0]
    _recorded(minari_folder, "own/any-v0", space, actions)
    other = _spec(spaces.Dict([("b", space["b"]), ("a", space["a"])]))
    assert [path for path, *_ in other.action.parts] == [("b",), ("a",)]
    _same(other.action.to_env(load_demos("minari:own/any-v0", other).actions), actions)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_actions_that_no_policy_has_are_refused_in_one_line(minari_folder, tmp_path):
    mixed = spaces.Dict(a=spaces.Discrete(9), b=spaces.Box(-9, 9, (1,)))
    _recorded(minari_folder, "own/mixed-v0", mixed, {"a": K, "b": np.float32(K)[:, None]})
    with pytest.raises(InputError, match=r"both choices and continuous parts \('a' int64, 'b' float32\), and a policy"):
        read_demos("minari:own/mixed-v0")
    _recorded(minari_folder, "own/text-v0", spaces.Text(3), ["abc"] * 5)
    with pytest.raises(InputError, match=r"its actions are <U3 \(5,\); give plain numbers"):
        read_demos("minari:own/text-v0")
    _recorded(minari_folder, "own/box-v0", spaces.Box(0, 9, (1,), np.int64), K[:, None])
    with pytest.raises(InputError, match="column 0 are whole numbers from 0 on, but toy takes them from -5 on"):
        load_demos("minari:own/box-v0", _spec(spaces.Box(-5, 4, (1,), np.int64)))
    read_demos("minari:own/box-v0").save(tmp_path / "d.npz")  # which says so too
    with pytest.raises(InputError, match="column 0 are whole numbers from 0 on"):
        load_demos(tmp_path / "d.npz", _spec(spaces.Box(-5, 4, (1,), np.int64)))
