"""A person as the expert: their keys are the labels, in a terminal of their own."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import time

import numpy as np
import pytest

import puffer_il
from puffer_il.cli import main
from puffer_il.core import checkpoint
from puffer_il.core.errors import InputError, Quit
from puffer_il.demos import read_demos
from puffer_il.envkit.person import Person
from puffer_il.vector.vec import make_vec
from tests.support.command_line import refused
from tests.support.keyboard import Typist, own_terminal


def person(monkeypatch, name: str, *keys: str) -> Person:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    vec = make_vec(name, num_envs=1)
    vec.reset(0)
    return Person(vec, Typist(*keys))


def test_by_turns_every_step_waits_for_an_answer(monkeypatch):
    asked = person(monkeypatch, "frozenlake", "x", "right", "down", "x", "q")
    with asked.viewer.vec as vec:
        answers = []
        with pytest.raises(Quit):
            while True:
                answers.append(asked(vec.obs, np.zeros(1, bool), slice(0, 1)))
                vec.step(answers[-1])
    np.testing.assert_array_equal(np.concatenate(answers)[:, 0], [2, 1])  # left, down, right, up
    assert asked.keys.waits == [None] * len(asked.keys.waits)
    assert "2 answers" in sys.stdout.getvalue() and "what would you do?" in sys.stdout.getvalue()


def test_at_the_environments_speed_an_answer_stays(monkeypatch):
    asked = person(monkeypatch, "pendulum", "right", "", "left", "")
    asked.viewer.fps = 1e5
    with asked.viewer.vec as vec:
        answers = []
        for _ in range(4):
            answers.append(asked(vec.obs, np.zeros(1, bool), slice(0, 1)))
    assert np.concatenate(answers)[:, 0].tolist() == [2, 2, -2, -2] and answers[0].dtype == np.float32
    assert None not in asked.keys.waits


def test_without_a_terminal_or_for_several_environments_it_is_refused(capsys, monkeypatch, tmp_path):
    command = ["train", "dagger", "cartpole", "--dagger.expert", "person", "--run-dir", str(tmp_path / "run")]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert "dagger.expert = 'person': there is no terminal" in refused(capsys, *command)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("puffer_il.core.terminal.is_terminal", lambda: True)
    assert "set env.num_envs = 1" in refused(capsys, *command)


def test_dagger_asks_in_a_real_terminal_and_keeps_what_was_learned(tmp_path):
    """Two rollouts of four answers are learned; in the third the person leaves."""
    leader, follower = pty.openpty()
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "puffer_il", "train", "dagger", "frozenlake", "--dagger.expert", "person",
               "--env.num-envs", "1", "--train.num-steps", "4", "--eval.final-episodes", "2", "--run-dir", str(run_dir)]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
                               preexec_fn=own_terminal, env=os.environ | {"TERM": "xterm", "COLORTERM": "truecolor"})
    seen, typed, deadline = b"", [*"12301230", "1", "q"], time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([leader], [], [], 0.2)[0]:
            seen += os.read(leader, 65536)
        if typed and f"{10 - len(typed)} answers".encode() in seen:
            os.write(leader, typed.pop(0).encode())
    while select.select([leader], [], [], 0.1)[0]:
        seen += os.read(leader, 65536)
    if process.poll() is None:
        process.kill()
    os.close(leader)
    os.close(follower)
    text = seen.decode()
    assert process.wait() == 130, text[-2000:]
    assert "interrupted: dagger on frozenlake" in text.rpartition("\x1b[?1049l")[2]
    state = checkpoint.load(checkpoint.latest(run_dir))
    labels = [rollout[1].reshape(-1).tolist() for rollout in state["learner"]["data"]["rollouts"]]
    assert labels == [[1, 2, 3, 0]] * 2 and state["updates"] == 2


def test_what_draws_nothing_is_shown_as_numbers(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    asked = person(monkeypatch, "tests.support.drawing:Numbers", "right")
    asked.viewer.fps = 1e5
    with asked.viewer.vec as vec:
        asked(vec.obs, np.ones(1, bool), slice(0, 1))
    assert "speed[1]" in sys.stdout.getvalue() and "the episode begins" in sys.stdout.getvalue()


def test_an_environment_in_another_process_cannot_be_seen():
    with (make_vec("cartpole", num_envs=1, backend="multiprocessing", num_workers=1) as vec,
          pytest.raises(InputError, match=r"env\.backend = 'serial'")):
        vec.reset(0)
        Person(vec, Typist())


def test_it_is_offered_by_the_command_line(capsys):
    assert main(["train", "dagger", "cartpole", "--help"]) == 0
    assert "'person' (at the terminal)" in " ".join(capsys.readouterr().out.split())


def test_a_person_records_episodes_in_a_real_terminal(tmp_path):
    """One discarded episode, one whole one, and a third that is left: the second is kept."""
    out = tmp_path / "d.npz"
    (tmp_path / "steps.py").write_text(TWO_STEPS)
    command = [sys.executable, "-m", "puffer_il", "demos", "collect", "steps:Steps", "--keys", "--episodes", "2",
               "--out", str(out)]
    text, code = in_terminal(command, tmp_path, [*"1x21", *"0q"])
    assert code == 130, text[-2000:]
    assert "episode\x1b[0m 1 of 2" in text and "step\x1b[0m 1" in text and "x discards" in text
    assert "stopped after 1 of 2 episodes" in text
    assert read_demos(out).actions[:, 0].tolist() == [2, 1]
    assert main(command[3:]) == 2  # what a person did is not overwritten


TWO_STEPS = """
import gymnasium
import numpy as np
from gymnasium import spaces

class Steps(gymnasium.Env):
    metadata = {"render_fps": 2}
    observation_space = spaces.Box(0, 9, (1,), np.float32)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, self.t == 2, False, {}
"""


def in_terminal(command: list[str], folder, keys: list[str]) -> tuple[str, int]:
    """What a command shows that somebody answers key by key, whenever it has drawn anew; and its exit code."""
    leader, follower = pty.openpty()
    root = os.path.dirname(os.path.dirname(puffer_il.__file__))
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
                               preexec_fn=own_terminal, cwd=folder, env=os.environ | {
                                   "TERM": "xterm", "COLORTERM": "truecolor", "PYTHONPATH": f"{folder}:{root}"})
    seen, typed, deadline, drawn = b"", list(keys), time.monotonic() + 100, False
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([leader], [], [], 0.2)[0]:
            seen += os.read(leader, 65536)
            drawn = True
        elif typed and drawn and b"return" in seen:  # it waits
            os.write(leader, typed.pop(0).encode())
            drawn = False
    while select.select([leader], [], [], 0.1)[0]:
        seen += os.read(leader, 65536)
    if process.poll() is None:
        process.kill()
    os.close(leader)
    os.close(follower)
    return seen.decode(), process.wait()
