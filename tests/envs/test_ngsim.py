"""Recorded traffic: what is replayed is what was recorded, and the human's actions lead along the human's path."""

import json
from pathlib import Path

import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from puffer_il.native.native_env import NativeEnv
from tests.support.environments import FOLDERS

FOLDER = FOLDERS["ngsim"]
SCENES = ("USA_Lanker-1_1_T-1", "USA_US101-3_3_T-1", "USA_Peach-4_8_T-1")
DRIVERS = {"USA_Lanker-1_1_T-1": 21, "USA_US101-3_3_T-1": 12, "USA_Peach-4_8_T-1": 7}


def played(env: NativeEnv, expert: bool) -> dict[str, float]:
    """Means over an episode of every environment."""
    env.reset(1)
    still = np.zeros_like(env.actions)
    for _ in range(int(env._params.view(np.int64)[-1])):  # as many as there are frames
        env.step(env.expert_actions() if expert else still)
    return env.pop_log_means()


def test_an_invented_scene_needs_no_file():
    env = NativeEnv(FOLDER, 20)
    human, straight = played(env, True), played(env, False)
    assert human["ade"] < 0.05 and human["crashed"] == 0
    assert straight["ade"] > 20 * human["ade"]


@pytest.mark.parametrize("kind", ["xml", "npz"])
@pytest.mark.parametrize("scene", SCENES)
def test_human_actions_stay_with_the_recording(test_data: Path, scene: str, kind: str):
    env = NativeEnv(FOLDER, 60, scene=str(test_data / "ngsim_commonroad" / f"{scene}.{kind}"))
    human, straight = played(env, True), played(env, False)
    assert human["ade"] < 0.15 and human["fde"] < 0.1 and human["crashed"] == 0  # metres; cars are 1.8 wide
    assert straight["ade"] > 2


@pytest.mark.parametrize("scene", SCENES)
def test_the_others_are_where_they_were_recorded(test_data: Path, scene: str):
    path = test_data / "ngsim_commonroad" / f"{scene}.npz"
    with np.load(path) as file:
        rows = file["rows"]
    env = NativeEnv(FOLDER, DRIVERS[scene], scene=str(path), neighbours=50)
    env.reset()
    ids = np.unique(rows[:, 0])
    tracks, drivers = env._arrays[0], env._arrays[2]
    assert len(drivers) == DRIVERS[scene] and len(tracks) == len(ids)
    for _ in range(10):
        for state, obs in zip(env.env_states(), env.observations, strict=True):
            driver, frame, x, y, heading = int(state[0]), int(state[1]), *state[2:5]
            others = obs[10:].reshape(50, 5)
            others = others[others[:, 0] == 1, 1:3].astype(float) * 20
            turn = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
            seen = others @ turn + (x, y)
            now = rows[(rows[:, 1] == frame + rows[:, 1].min()) & (rows[:, 0] != ids[drivers[driver][0]])]
            wanted = now[np.argsort(np.hypot(now[:, 2] - x, now[:, 3] - y)), 2:4][:50]
            assert len(seen) == len(wanted)
            np.testing.assert_allclose(seen, wanted, atol=1e-3)
        env.step(env.expert_actions())


def test_hitting_somebody_ends_the_episode():
    env = NativeEnv(FOLDER, 20, vehicle=3)
    env.reset()
    ended = np.zeros(20, bool)
    full = np.tile(np.array([8, 0], np.float32), (20, 1))
    for _ in range(50):
        env.step(full)
        assert (env.rewards[env.terminals] == 0).all()
        ended |= env.terminals
    assert ended.all() and env.pop_log_means()["crashed"] > 0.9


def test_who_is_driven_can_be_chosen():
    for vehicle in (0, 4, 14):  # there are ten, and they are counted round
        env = NativeEnv(FOLDER, 8, vehicle=vehicle)
        env.reset()
        assert set(env.env_states()[:, 0]) == {vehicle % 10}


def test_drivers_can_be_held_out():
    drivers = {}
    for split in ("all", "train", "test"):
        env = NativeEnv(FOLDER, split=split)
        drivers[split] = set(env._arrays[2][:, 0].tolist())
    assert drivers["train"] | drivers["test"] == drivers["all"] and not drivers["train"] & drivers["test"]
    assert (len(drivers["train"]), len(drivers["test"])) == (8, 2)


def test_wrong_scenes_are_named_in_one_line(tmp_path: Path):
    empty, entities, rows = tmp_path / "empty.xml", tmp_path / "entities.xml", tmp_path / "rows.npz"
    empty.write_text('<commonRoad timeStepSize="0.1"/>')
    entities.write_text('<!DOCTYPE x [<!ENTITY a "aaaa">]><commonRoad timeStepSize="0.1">&a;</commonRoad>')
    np.savez(rows, rows=np.array([[1, t, 0.01 * t, 0, 0, 0.1, 0] for t in range(40)]))
    for scene, message in ((tmp_path / "none.xml", "cannot be read"), (empty, "has 0 frames"),
                           (entities, "declares entities"), (rows, r"nobody in it moves 5\.0 m")):
        with pytest.raises(InputError, match=message) as error:
            NativeEnv(FOLDER, scene=str(scene))
        assert str(scene) in str(error.value) and "\n" not in str(error.value)


def test_a_recording_becomes_demonstrations_and_a_policy(test_data: Path, tmp_path: Path, capsys):
    """Human driving → demonstrations → behaviour cloning, scored by displacement against going straight on."""
    scene = str(test_data / "ngsim_commonroad" / "USA_US101-3_3_T-1.xml")
    demos, run = str(tmp_path / "us101.npz"), tmp_path / "run"
    assert main(["demos", "collect", "ngsim", "--expert", "--episodes", "40", "--out", demos,
                 "--env.kwargs.scene", scene]) == 0
    assert read_demos(demos).num_episodes == 40
    assert main(["train", "bc", "ngsim", "--demos", demos, "--env.kwargs.scene", scene, "--run-dir", str(run),
                 "--env.num-envs", "32", "--total-steps", "300000", "--eval.interval-steps", "0"]) == 0
    log = json.loads((run / "summary.json").read_text())["eval"]["log"]
    assert log["ade"] < 1.5 < played(NativeEnv(FOLDER, 60, scene=scene), False)["ade"]
    capsys.readouterr()
    assert main(["eval", str(run), "--episodes", "4", "--demos", demos, "--json", "--env.kwargs.split", "test"]) == 0
    likelihood = json.loads(capsys.readouterr().out)["demos"]["log_likelihood"]
    uniform = -np.log(16 * 1.2)  # of any action in the box
    assert likelihood > uniform + 1.5
