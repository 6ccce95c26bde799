"""Runs and rewards of somebody whose files say what no run says: refused in one line, before anything is done."""


import numpy as np
import pytest
import torch

from puffer_il.core import checkpoint
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.learners.common.learned_reward import TableReward, load_reward, save_reward
from puffer_il.training import run_dir
from puffer_il.training.loggers import _is_before
from puffer_il.training.run_dir import load_config
from puffer_il.training.trainer import train
from tests.support.runs import run, tiny


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that was interrupted after its first iteration, and the state in its checkpoint."""
    folder = tmp_path_factory.mktemp("crafted") / "run"
    run(tiny("ppo", folder, train__total_steps=512, eval__final_episodes=2), interrupt_after=1)
    path = checkpoint.latest(folder)
    return folder, path, torch.load(path, weights_only=True)


@pytest.mark.parametrize("change", [
    {"env_steps": -(10**18)}, {"env_steps": "many"}, {"env_steps": 1.5}, {"updates": None}, {"train_s": "long"},
    {"expert_return": "good"}, {"last_eval": 5}, {"shown": {"average": {"a": 1}}}, {"rollbacks": torch.ones(2)},
    {"rollbacks": -2000},
    {"kept": [{"env_steps": 5, "policy": {}, "reward": None, "score": None, "return_mean": 1.0}]}])
def test_a_run_of_odd_counts_is_not_resumed(interrupted, change):
    folder, path, state = interrupted
    checkpoint.write_tensors(path, state | change)
    with pytest.raises(InputError, match="does not hold what it should") as refusal:
        train(load_config(folder), [], folder, resume=True)
    assert "\n" not in str(refusal.value)
    checkpoint.write_tensors(path, state)


@pytest.mark.parametrize("part, change", [
    ("collector", {"episode_starts": torch.ones(1, dtype=torch.bool)}), ("collector", {"state": torch.ones(1, 1)}),
    ("collector", {"noise_step": "x"}), ("vec", {"returns": torch.ones(1)}), ("vec", {"lengths": torch.ones(3)})])
def test_rows_of_another_shape_are_not_spread_over_environments(interrupted, part, change):
    folder, path, state = interrupted
    collector = state["collector"]
    crafted = collector | change if part == "collector" else collector | {"vec": collector["vec"] | change}
    checkpoint.write_tensors(path, state | {"collector": crafted})
    with pytest.raises(InputError, match="does not hold what it should") as refusal:
        train(load_config(folder), [], folder, resume=True)
    assert "\n" not in str(refusal.value)
    checkpoint.write_tensors(path, state)


def test_lines_and_summaries_of_endless_lists_are_those_of_no_run(tmp_path):
    deep = b'{"step": ' + b"[" * 100_000
    assert not _is_before(deep + b"\n", 5, False, 1)
    (tmp_path / "summary.json").write_bytes(deep)
    assert not run_dir.is_finished(tmp_path)


def test_a_reward_that_takes_no_rows_of_its_spaces_is_refused(tmp_path):
    spec = EnvSpec("mdp", (1,), np.dtype(np.int32), ActionSpec(nvec=(2,)))
    save_reward(TableReward.of(spec, "maxent_irl", np.zeros((3, 2))), tmp_path / "reward.pt")
    state = torch.load(tmp_path / "reward.pt", weights_only=True)
    assert load_reward(tmp_path).predict(np.zeros((2, 1), np.int32), np.zeros((2, 1))).tolist() == [0, 0]
    for change in ({"obs_shape": []}, {"obs_shape": [2], "obs_fields": []}, {"nvec": [2, 2]}, {"obs_dtype": "O"}):
        checkpoint.write_tensors(tmp_path / "reward.pt", state | {"spec": state["spec"] | change})
        with pytest.raises(InputError, match="does not hold what it should"):
            load_reward(tmp_path)
