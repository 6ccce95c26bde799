"""RLlib's offline data, as its writers lay it out; real ones where ray is installed."""

import json

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from tests.support.tables import write_parquet


def batch(episode, steps, **changes):
    """Observation t of episode e is (e, t), in a SampleBatch of plain lists."""
    steps = list(steps)
    columns = {"type": "SampleBatch", "t": steps, "eps_id": [episode] * len(steps), "actions": [t % 2 for t in steps],
               "obs": [[episode, t] for t in steps], "new_obs": [[episode, t + 1] for t in steps],
               "rewards": [1.0] * len(steps), "terminateds": [False] * len(steps), "truncateds": [False] * len(steps)}
    return {key: column for key, column in (columns | changes).items() if column is not None}


def write(path, *batches):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, batches)) + "\n\n")
    return path


def test_fragments_of_an_episode_are_put_together_again(tmp_path):
    path = write(tmp_path / "output.json", batch(7, range(2)), batch(9, range(2), truncateds=[False, True]),
                 batch(7, range(2, 4), terminateds=[False, True]))
    demos = read_demos(path)
    assert demos.obs.tolist() == [[7, 0], [7, 1], [7, 2], [7, 3], [9, 0], [9, 1]] and demos.returns.tolist() == [4, 2]
    assert demos.next_obs[:, 1].tolist() == [1, 2, 3, 4, 1, 2] and demos.actions[:, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert demos.terminated.tolist() == [True, False] and demos.truncated.tolist() == [False, True]
    assert demos.notes == ()


def test_a_folder_of_files_is_one_source_in_the_order_of_their_numbers(tmp_path):
    for k in range(11):
        write(tmp_path / "out" / f"output-2024_worker-0_{k}.json", batch(k, range(2)))
    demos = read_demos(tmp_path / "out")
    assert demos.obs[::2, 0].tolist() == list(range(11))


def test_a_gap_in_time_begins_another_episode_and_none_is_joined_over_it(tmp_path):
    demos = read_demos(write(tmp_path / "o.json", batch(1, [0, 1, 5, 6])))
    assert demos.episode_starts.tolist() == [0, 2] and demos.truncated.all()
    assert demos.notes == ("2 of 2 episodes have no end: they count as cut off after their last row",)


def test_one_flag_may_mean_a_time_limit_and_a_missing_successor_costs_a_row(tmp_path):
    done = batch(1, range(4), terminateds=None, truncateds=None, dones=[False] * 3 + [True])
    assert read_demos(write(tmp_path / "o.json", done), 4).truncated.tolist() == [True]
    assert read_demos(tmp_path / "o.json", 9).terminated.tolist() == [True]
    demos = read_demos(write(tmp_path / "o.json", batch(1, range(4), new_obs=None)))
    assert demos.obs[:, 1].tolist() == [0, 1, 2] and "the last row of each of 1 episodes is left out" in demos.notes[0]


def test_one_policy_of_a_multi_agent_batch_is_read_and_several_are_refused(tmp_path):
    one = {"type": "MultiAgentBatch", "count": 2, "policy_batches": {"p": batch(1, range(2), type=None)}}
    assert len(read_demos(write(tmp_path / "o.json", one))) == 2
    one["policy_batches"]["q"] = one["policy_batches"]["p"]
    with pytest.raises(InputError, match=r"line 1: holds the rows of 2 policies \(p, q\); write those of one"):
        read_demos(write(tmp_path / "o.json", one))


@pytest.mark.parametrize(("broken", "message"), [
    (batch(1, range(2), obs="BCJNGGhA"), r"line 2: obs is compressed \(a pickle inside, which is never loaded\)"),
    (batch(1, range(2), obs=[[1], [2, 3]]), "line 2: obs holds no numbers, or rows of different lengths"),
    (batch(1, range(2), obs=None), "line 2: has no column 'obs', only type, t"),
    (batch(1, range(2), rewards=[1.0]), "line 2: rewards has 1 rows but obs 2"),
    (batch(1, range(2), obs=[[1, 2, 3]] * 2), r"obs have rows of \(3,\) and of \(2,\)"),
    ({"type": "SampleBatch", "policy": []}, "line 2: has no column 'obs'"),
    ([1], "line 2: is no SampleBatch"),
])
def test_damage_is_told_by_its_line(tmp_path, broken, message):
    with pytest.raises(InputError, match=message) as refused:
        read_demos(write(tmp_path / "o.json", batch(0, range(2)), broken))
    assert "o.json" in str(refused.value) and "\n" not in str(refused.value)


def test_a_json_file_of_something_else_is_no_sample_batch(tmp_path):
    (tmp_path / "o.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="is a JSON file, which matches no known format"):
        read_demos(tmp_path / "o.json")


def tables(folder, episode, steps, rows=1, **changes):
    """A table for each row, as ray.data writes what is recorded step by step."""
    columns = {key: value for key, value in batch(episode, steps, **changes).items() if key not in ("type", "t")}
    for k in range(0, len(columns["obs"]), rows):
        write_parquet(folder / f"abc_{k:06d}-0.parquet", {
            **{key: value[k:k + rows] for key, value in columns.items()}, "eps_id": [f"id{episode}"] * rows})


def test_tables_are_read_and_what_later_writes_repeat_is_taken_once(tmp_path):
    pytest.importorskip("pyarrow")
    tables(tmp_path / "out/env/run-000001-00001", 4, range(3))
    tables(tmp_path / "out/env/run-000001-00002", 4, range(12), terminateds=[False] * 11 + [True])
    demos = read_demos(tmp_path / "out")
    assert demos.obs[:, 1].tolist() == list(range(12)) and demos.terminated.tolist() == [True]
    assert demos.notes == ("3 rows are in the files more than once: they are taken once",)


def test_what_the_tables_hold_packed_is_refused_with_the_way_to_record_it(tmp_path):
    pytest.importorskip("pyarrow")
    tables(tmp_path / "a", 1, range(2), obs=["BCJN", "BCJN"])
    write_parquet(tmp_path / "b/x.parquet", {"item": [b"\x81\xa3"]})
    for folder, says in (("a", "column 'obs' is compressed"), ("b", "holds whole episodes packed with msgpack")):
        with pytest.raises(InputError, match=f"{says}.*output_write_episodes=False, output_compress_columns="):
            read_demos(tmp_path / folder)


def test_continuous_actions_are_said_to_be_the_policys_own(tmp_path):
    demos = read_demos(write(tmp_path / "o.json", batch(1, range(2), actions=[[0.5], [-2.9]])))
    assert demos.notes[0].startswith("actions are as RLlib's policy gave them: neither clipped to the space nor scaled")


def test_what_ray_writes_is_read(tmp_path):
    writer = pytest.importorskip("ray.rllib.offline.json_writer", reason="needs ray[rllib]")
    from ray.rllib.policy.sample_batch import SampleBatch

    columns = {key: np.array(value) for key, value in batch(3, range(5)).items() if key != "type"}
    writer.JsonWriter(str(tmp_path / "plain"), compress_columns=[]).write(SampleBatch(columns))
    assert read_demos(tmp_path / "plain").obs.tolist() == columns["obs"].tolist()
    writer.JsonWriter(str(tmp_path / "packed")).write(SampleBatch(columns))
    with pytest.raises(InputError, match="obs is compressed"):
        read_demos(tmp_path / "packed")
