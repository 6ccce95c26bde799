"""Arrays under the usual names, in each way to lay episodes; and what is to be run where they are pickled."""

import gzip
import pickle
import subprocess
import sys

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos

OBS = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]], np.float32)  # episode and step
ACTIONS, ENDS = np.arange(6), np.array([0, 0, 1, 0, 0, 1], bool)
FIRST = [[0, 0], [0, 1], [1, 0], [1, 1]]  # of two episodes of three rows those that have a successor


def save(tmp_path, **arrays):
    np.savez(tmp_path / "d.npz", **arrays)
    return tmp_path / "d.npz"


@pytest.mark.parametrize("names", [("observation", "action"), ("states", "actions"), ("state", "act"), ("obs", "acts"),
                                   ("observations", "acts")])
@pytest.mark.parametrize("ends", ["done", "dones", "terminated", "timeouts", "truncated"])
def test_the_usual_names_are_read(tmp_path, names, ends):
    demos = read_demos(save(tmp_path, **{names[0]: OBS, names[1]: ACTIONS, ends: ENDS, "reward": np.ones(6)}))
    assert demos.obs.tolist() == FIRST and demos.actions[:, 0].tolist() == [0, 1, 3, 4]
    assert demos.next_obs.tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]] and demos.returns.tolist() == [3, 3]
    assert demos.truncated.all()


def test_successors_keep_all_rows_and_their_ends(tmp_path):
    demos = read_demos(save(tmp_path, states=OBS, actions=ACTIONS, next_states=OBS + 10, timeouts=ENDS,
                            terminated=ENDS & (OBS[:, 0] > 0)))
    assert len(demos) == 6 and demos.terminated.tolist() == [False, True] and demos.truncated.tolist() == [True, False]
    np.testing.assert_array_equal(demos.next_obs, OBS + 10)


@pytest.mark.parametrize("apart", [{"episode_starts": np.array([1, 0, 0, 1, 0, 0], bool)}, {"episode_starts": [0, 3]},
                                   {"is_first": [1, 0, 0, 1, 0, 0]}, {"lengths": [3, 3]}, {"episode_ends": [3, 6]}])
def test_each_way_to_tell_episodes_apart_is_read(tmp_path, apart):
    demos = read_demos(save(tmp_path, obs=OBS, act=ACTIONS, **apart))
    assert demos.obs.tolist() == FIRST and demos.truncated.all()
    assert demos.notes[-1].startswith("the file does not say how episodes end")


@pytest.mark.parametrize("flags", [{}, {"dones": ENDS.reshape(2, 3)}, {"lengths": [3, 3]},
                                   {"rewards": np.ones((2, 3))}])
def test_episodes_times_steps_are_laid_end_to_end(tmp_path, flags):
    demos = read_demos(save(tmp_path, observations=OBS.reshape(2, 3, 2), actions=ACTIONS.reshape(2, 3, 1), **flags))
    assert demos.obs.tolist() == FIRST and demos.actions[:, 0].tolist() == [0, 1, 3, 4]


def test_one_observation_more_than_actions_keeps_the_last_step(tmp_path):
    demos = read_demos(save(tmp_path, states=OBS.reshape(2, 3, 2), actions=np.arange(4).reshape(2, 2),
                            dones=[[False, True], [False, False]]), 99)
    assert demos.obs.tolist() == FIRST and demos.actions[:, 0].tolist() == [0, 1, 2, 3]
    assert demos.next_obs.tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert demos.terminated.tolist() == [True, False]
    flat = read_demos(save(tmp_path, states=OBS, actions=np.arange(4), lengths=[2, 2]))
    assert flat.obs.tolist() == FIRST and flat.next_obs[:, 1].tolist() == [1, 2, 1, 2]


def test_rows_after_an_end_or_a_length_are_padding(tmp_path):
    padded = np.concatenate([OBS.reshape(2, 3, 2), np.full((2, 2, 2), 9.0)], 1)
    padded[1, 2] = 9
    demos = read_demos(save(tmp_path, obs=padded, actions=np.zeros((2, 5, 1)), lengths=[3, 2]))
    assert demos.obs.tolist() == FIRST[:3] and demos.notes[0].startswith("5 rows after the ends of their")
    ends = np.array([[0, 0, 1, 0, 0], [0, 1, 0, 0, 0]], bool)
    told = read_demos(save(tmp_path, obs=padded, actions=np.zeros((2, 5, 1)), terminated=ends))
    assert told.obs.tolist() == FIRST[:3]


@pytest.mark.parametrize("name", ["{}_{}", "{}{}", "episode_{1}/{0}", "traj{1}_{0}"])
def test_an_array_for_each_episode_is_read_in_the_order_of_their_numbers(tmp_path, name):
    arrays = {}
    for k in range(11):
        arrays |= {name.format("obs", k): np.array([[k, 0], [k, 1.0], [k, 2]]), name.format("actions", k): [k, k]}
    demos = read_demos(save(tmp_path, **arrays))
    assert demos.obs[::2, 0].tolist() == list(range(11)) and demos.actions[::2, 0].tolist() == list(range(11))
    assert demos.num_episodes == 11 and demos.next_obs[:, 1].tolist() == [1, 2] * 11


def test_ragged_lists_in_memory_are_episodes():
    demos = read_demos({"obs": [OBS[:3], OBS[3:5]], "actions": [np.zeros(3, int), np.ones(2, int)]})
    assert demos.obs.tolist() == FIRST[:3] and demos.actions[:, 0].tolist() == [0, 0, 1]


def test_a_structured_array_is_read_by_the_names_of_its_fields(tmp_path):
    rows = np.zeros(6, [("state", "f4", 2), ("action", "i4"), ("done", "?")])
    rows["state"], rows["action"], rows["done"] = OBS, ACTIONS, ENDS
    np.save(tmp_path / "d.npy", rows)
    assert read_demos(tmp_path / "d.npy").obs.tolist() == FIRST


@pytest.mark.parametrize(("arrays", "message"), [
    ({"states": OBS, "actions": ACTIONS}, "its 6 rows cannot be told apart into episodes; save as well"),
    ({"states": OBS, "actions": ACTIONS, "done": ENDS[:3]}, "done has 3 rows but there are 6 actions"),
    ({"states": OBS, "actions": ACTIONS, "lengths": [3, 4]}, r"lengths end at \[3, 7\] but there are 6 actions"),
    ({"states": OBS[:5], "actions": ACTIONS, "done": ENDS}, "has 5 observations for 6 actions in 2 episodes"),
    ({"states": OBS.reshape(2, 3, 2), "actions": np.zeros((2, 3)), "reward": np.zeros((2, 4))},
     r"reward has shape \(2, 4\) but there are 2 episodes of 3 steps|give all arrays"),
    ({"obs_0": OBS, "actions_0": ACTIONS, "obs_1": OBS}, "episode 1 has obs_1, but the first one actions_0, obs_0"),
    ({"obs_0": OBS, "actions_0": ACTIONS[:3]}, "episode 0 has 6 observations for 3 actions"),
])
def test_what_disagrees_is_named_with_both_numbers(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message) as refused:
        read_demos(save(tmp_path, **arrays))
    assert "\n" not in str(refused.value)


EPISODES = [{"observations": OBS[:3], "actions": ACTIONS[:3], "terminals": ENDS[:3], "infos": [{"a": 1}]},
            {"observations": OBS[3:5], "actions": ACTIONS[3:5], "terminals": ENDS[3:5] & False}]


def ragged(path):
    columns = {}
    for name in ("observations", "actions", "terminals"):
        columns[name] = np.empty(2, object)
        columns[name][:] = [one[name] for one in EPISODES]
    np.savez(path, **columns)


def test_a_file_packed_with_gzip_that_is_no_pickle_is_to_be_unpacked(tmp_path):
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress(b'{"t": 0}'))
    with pytest.raises(InputError, match=r"is packed with gzip; unpack it with gunzip --keep \S*log.jsonl.gz"):
        read_demos(tmp_path / "log.jsonl.gz")


@pytest.mark.parametrize(("name", "write"), [
    ("d.pkl", lambda path: path.write_bytes(pickle.dumps(EPISODES))),
    ("d.pkl.gz", lambda path: path.write_bytes(gzip.compress(pickle.dumps(EPISODES)))),
    ("d.pt", lambda path: pytest.importorskip("torch").save(EPISODES, path)),
    ("d.npz", ragged)])
def test_what_is_said_to_be_run_for_a_pickle_writes_a_file_that_is_read(tmp_path, name, write):
    write(tmp_path / name)
    with pytest.raises(InputError, match="pickled Python objects, which are never loaded") as refused:
        read_demos(tmp_path / name)
    recipe = str(refused.value).partition("give plain.npz: ")[2]
    assert recipe.count("; ") == 4
    subprocess.run([sys.executable, "-c", recipe], cwd=tmp_path, check=True)
    assert read_demos(tmp_path / "plain.npz").obs.tolist() == FIRST[:3]
