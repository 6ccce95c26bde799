"""`puffer-il demos collect`: stopped and gone on with, filtered, of functions and other people's folders, and what the
file says of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import puffer_il
from puffer_il.cli import main
from puffer_il.demos import read_demos, read_meta
from puffer_il.training.policy_origin import changed, digests
from tests.support.command_line import one_line

ACTING = """
import numpy as np

def lean(obs):
    return (obs[:, 2] > 0).astype(int)

class Model:
    def predict(self, obs, state=None, episode_start=None, deterministic=False):
        return lean(obs), None

number = 7
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "acting", raising=False)
    Path("acting.py").write_text(ACTING)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def collect(*words) -> int:
    return main(["demos", "collect", *map(str, words)])


@pytest.mark.parametrize("name", ["lean", "Model"])
def test_a_function_or_an_object_of_a_module_acts(here, name):
    assert collect("cartpole", "--policy", f"acting:{name}", "--episodes", 3, "--out", "d.npz") == 0
    demos = read_demos("d.npz")
    assert (demos.actions[:, 0] == (demos.obs[:, 2] > 0)).all()


@pytest.mark.parametrize(("name", "said"), [("acting:number", "module acting has no function number"),
                                            ("acting:none", "module acting has no function none"),
                                            ("nowhere_at_all:lean", "there is no module 'nowhere_at_all'|no module")])
def test_what_cannot_act_is_one_line(here, name, said, capsys):
    assert collect("cartpole", "--policy", name, "--episodes", 3, "--out", "d.npz") == 2
    line = one_line(capsys)
    assert f"--policy {name}: " in line and any(part in line for part in said.split("|"))


def test_a_policy_in_a_package_that_is_broken_is_one_line(here, capsys):
    Path("broken").mkdir()
    Path("broken/__init__.py").write_text("def (")
    assert collect("cartpole", "--policy", "broken.acting:lean", "--episodes", 3, "--out", "d.npz") == 2
    assert "--policy broken.acting:lean: cannot be imported (SyntaxError" in one_line(capsys)


def test_the_command_and_the_choice_are_kept_in_the_file(here, capsys):
    words = ["cartpole", "--policy", "acting:lean", "--episodes", "4", "--min-return", "35", "--epsilon", "0.05",
             "--out", "d.npz"]
    assert collect(*words) == 0
    demos = read_demos("d.npz")
    assert (demos.returns >= 35).all() and demos.num_episodes == 4
    assert demos.notes == ("only episodes with return at least 35 were kept, so that their beginnings are chosen too",
                           "actions were executed with epsilon 0.05, and are recorded without")
    assert (demos.actions[:, 0] == (demos.obs[:, 2] > 0)).all()
    capsys.readouterr()
    assert main(["demos", "info", "d.npz", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["env"], told["collected"]) == ("cartpole", f"puffer-il demos collect {' '.join(words)}")


def test_the_best_are_kept(here, capsys):
    assert collect("cartpole", "--random", "--episodes", 20, "--out", "all.npz") == 0
    assert collect("cartpole", "--random", "--episodes", 20, "--best", 3, "--out", "best.npz") == 0
    assert sorted(read_demos("best.npz").returns) == sorted(read_demos("all.npz").returns)[-3:]
    capsys.readouterr()
    assert collect("cartpole", "--random", "--episodes", 30, "--best", 3, "--out", "best.npz", "--resume") == 2
    assert "holds only the best of its episodes" in one_line(capsys)


def test_an_existing_recording_is_added_to_by_the_same_command_alone(here, capsys):
    words = ["cartpole", "--random", "--out", "d.npz", "--seed", 4]
    assert collect(*words, "--episodes", 70) == 0
    assert collect(*words, "--episodes", 100, "--resume") == 0
    resumed = Path("d.npz").read_bytes()
    assert read_meta("d.npz")["collected"].endswith("--seed 4 --episodes 100")
    assert collect(*words, "--episodes", 100) == 0
    assert Path("d.npz").read_bytes() == resumed
    capsys.readouterr()
    assert collect(*words[:-1], 5, "--episodes", 120, "--resume") == 2
    assert "d.npz was recorded with `puffer-il demos collect cartpole --random" in one_line(capsys)
    np.savez("other.npz", **dict(np.load("d.npz")) | {"meta": np.array("{}")})
    assert collect("cartpole", "--random", "--episodes", 1, "--out", "other.npz", "--resume") == 2
    assert "other.npz does not say how far its recording has come" in one_line(capsys)


SLOW = """
import os
import time
import gymnasium
from gymnasium import spaces
import numpy as np

class Slow(gymnasium.Env):
    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        with open("resets", "a") as file:
            file.write("x")
        self.left = int(self.np_random.integers(3, 9))
        return self.np_random.random(2, np.float32), {}

    def step(self, action):
        time.sleep(float(os.environ.get("PAUSE", 0)))
        self.left -= 1
        return self.np_random.random(2, np.float32), 1.0, self.left == 0, False, {}
"""


def test_an_interrupted_recording_goes_on_to_the_same_bytes(here, monkeypatch):
    """A real process, a real signal: what is finished is kept, and the file in the end is byte for byte that of a
    recording that nobody interrupted."""
    Path("slow.py").write_text(SLOW)
    words = ["slow:Slow", "--random", "--episodes", "90", "--out", "d.npz"]
    command = [sys.executable, "-m", "puffer_il", "demos", "collect", *words]
    path = os.pathsep.join([str(here), str(Path(puffer_il.__file__).parents[1])])
    env = os.environ | {"PAUSE": "0.004", "PYTHONPATH": path}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    deadline, resets = time.monotonic() + 60, Path("resets")
    while process.poll() is None and time.monotonic() < deadline and (
            not resets.exists() or resets.stat().st_size < 150):  # until it is in the middle of its rounds
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "of 90 episodes; the same command with --resume goes on" in said
    kept = read_demos("d.npz")
    assert 0 < kept.num_episodes < 90 and kept.terminated.all()
    monkeypatch.delitem(sys.modules, "slow", raising=False)
    assert collect(*words, "--resume") == 0
    resumed = Path("d.npz").read_bytes()
    assert collect(*words) == 0
    assert Path("d.npz").read_bytes() == resumed


def test_a_folder_of_rl_zoo_is_played_with_its_statistics(here, capsys):
    sb3 = pytest.importorskip("stable_baselines3", reason="the extra 'dev' is not installed")
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    env = VecNormalize(make_vec_env("CartPole-v1", 1, seed=0))
    model = sb3.PPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, device="cpu").learn(64)
    folder, inner = Path("CartPole-v1_1"), Path("CartPole-v1_1/CartPole-v1")
    inner.mkdir(parents=True)
    model.save(folder / "CartPole-v1.zip")
    model.save(folder / "best_model.zip")
    env.save(inner / "vecnormalize.pkl")
    (inner / "config.yml").write_text("!!python/object/apply:collections.OrderedDict\n- - - n_envs\n    - 8\n"
                                      "  - - normalize\n    - '{''norm_obs'': True, ''norm_reward'': False}'\n"
                                      "  - - normalize_advantage\n    - false\n")
    words = ["cartpole", "--episodes", 2, "--out", "d.npz", "--policy"]
    assert collect(*words, folder) == 0
    assert "observations are normalised with the statistics of CartPole-v1_1/CartPole-v1/vecnormalize.pkl" in (
        capsys.readouterr().err)
    demos = read_demos("d.npz")
    expected = model.predict(env.normalize_obs(demos.obs), deterministic=True)[0]
    assert (demos.actions[:, 0] == expected).all()
    assert collect(*words, folder / "best_model.zip") == 0
    assert (read_demos("d.npz").actions == demos.actions).all()
    flat = Path("ppo-CartPole-v1")  # as the Zoo's repositories on the Hub are, and copies without folders
    flat.mkdir()
    for path in (folder / "CartPole-v1.zip", inner / "vecnormalize.pkl", inner / "config.yml"):
        shutil.copy(path, flat)
    (flat / "args.yml").write_text("!!python/object/apply:collections.OrderedDict\n- - - algo\n    - ppo\n")
    assert collect(*words, flat) == 0
    assert (read_demos("d.npz").actions == demos.actions).all()
    (flat / "vecnormalize.pkl").unlink()
    capsys.readouterr()
    assert collect(*words, flat) == 2
    assert "config.yml says that observations were normalised" in one_line(capsys)
    (inner / "vecnormalize.pkl").unlink()
    capsys.readouterr()
    assert collect(*words, folder) == 2
    assert "config.yml says that observations were normalised" in one_line(capsys)
    shutil.rmtree(inner)
    assert collect(*words, folder) == 2
    assert "holds 2 models (CartPole-v1.zip, best_model.zip); give the file of one" in one_line(capsys)


def test_a_policy_that_has_changed_since_is_not_gone_on_with(here, capsys):
    words = ["cartpole", "--policy", "acting:lean", "--out", "d.npz"]
    assert collect(*words, "--episodes", 64) == 0
    assert collect(*words, "--episodes", 65, "--resume") == 0
    Path("acting.py").write_text(ACTING.replace("> 0", "> 0.01"))
    capsys.readouterr()
    assert collect(*words, "--episodes", 66, "--resume") == 2
    line = one_line(capsys)
    assert "--resume: d.npz: its policy is no longer the same: acting.py has changed since (SHA-256 " in line
    assert line.rstrip().endswith("put the old one back, or record to another --out")


def test_a_packages_policy_may_lie_elsewhere_after_an_installation(tmp_path, monkeypatch):
    """Recordings of before this was so hold the paths of its files."""
    made = []
    for place in ("old", "new"):
        package = tmp_path / place / "packaged_policies"
        package.mkdir(parents=True)
        for name in ("__init__.py", "lean.py"):
            (package / name).write_text(ACTING)
        monkeypatch.setattr(sys, "path", [str(tmp_path / place), *sys.path[1:]])
        made.append(digests(Path("packaged_policies.lean:lean")))
    assert list(made[0]) == ["packaged_policies/__init__.py", "packaged_policies/lean.py"]
    paths = {f"{tmp_path}/old/{name}": digest for name, digest in made[0].items()}
    assert not changed(made[0], made[1]) and not changed(paths, made[1])
    (package / "lean.py").write_text(ACTING + " ")
    now = digests(Path("packaged_policies.lean:lean"))
    assert all("packaged_policies/lean.py has changed since" in changed(before, now) for before in (made[0], paths))


def test_statistics_that_are_new_or_gone_change_a_policy(tmp_path):
    model = tmp_path / "model.zip"
    model.write_bytes(b"weights")
    alone = digests(model)
    assert [Path(name).name for name in alone] == ["model.zip"] and not changed(alone, digests(model))
    (tmp_path / "vecnormalize.pkl").write_bytes(b"numbers")
    both = digests(model)
    assert changed(alone, both).endswith("vecnormalize.pkl is new since")
    assert changed(both, alone).endswith("vecnormalize.pkl has been there, and is not now")
    assert digests(None) == digests(tmp_path / "none.zip") == {}
