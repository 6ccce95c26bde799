"""`puffer-il env play`: episodes in lines, in files, and in a terminal where somebody plays."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from argparse import Namespace

import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.envkit.play import Play, Theatre
from puffer_il.envkit.viewer import Viewer
from tests.support.command_line import refused
from tests.support.keyboard import Typist, own_terminal

DRAWING = "tests.support.drawing"


def play(name: str, capsys, *arguments: str) -> list[str]:
    assert main(["env", "play", name, *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_without_a_terminal_there_is_a_line_for_each_episode(capsys):
    assert play("cartpole", capsys, "--random") == [
        "cartpole: random actions", *play("cartpole", capsys, "--random", "--episodes", "3")[1:]]
    lines = play("cartpole", capsys, "--random", "--seed", "1", "--env.kwargs.max-episode-steps", "5")
    assert lines[1:] == [f"episode {i}: return 5.00, 5 steps, truncated" for i in (1, 2, 3)]
    lines = play("cartpole", capsys, "--expert", "--steps", "7")
    assert lines == ["cartpole: scripted expert", "episode 1: return 7.00, 7 steps, not over yet"]
    assert play("cartpole", capsys, "--steps", "7") == lines  # the expert is the default
    lines = play(f"{DRAWING}:Numbers", capsys, "--episodes", "2")  # resets in a step of its own
    assert lines[1:] == [f"episode {i}: return 1.00, 1 steps, terminated" for i in (1, 2)]
    lines = play("tron", capsys, "--episodes", "1")
    assert re.fullmatch(r"episode 1: return \S+, mean of 2 agents, \d+ steps, terminated", lines[1])


def test_files_show_what_was_played(capsys, tmp_path):
    image = pytest.importorskip("PIL.Image")
    line = play("cartpole", capsys, "--steps", "40", "--out", str(tmp_path / "a.gif"))[-1]
    assert re.fullmatch(r".*a\.gif: 21 pictures, 0\.8 s, \d+ kB", line)
    play("cartpole", capsys, "--out", str(tmp_path / "a.png"), "--env.kwargs.max-episode-steps", "30")
    middle = np.asarray(image.open(tmp_path / "a.png"))
    shown = Viewer("cartpole", {"max_episode_steps": 30}, seed=0)
    for _ in range(15):
        shown.vec.step(shown.vec.expert_actions())
    assert np.array_equal(middle, shown.picture())
    shown.vec.reset(0)
    for _ in range(4):
        shown.vec.step(shown.vec.expert_actions())
    play("cartpole", capsys, "--steps", "4", "--out", str(tmp_path / "a.png"))
    assert np.array_equal(np.asarray(image.open(tmp_path / "a.png")), shown.picture())


@pytest.mark.parametrize("arguments, words", [
    ([], "an environment is missing; give its name, a folder, or the run of a policy"),
    (["cartpole", "--keys"], "--keys: there is no terminal to read keys from"),
    (["cartpole", "--keys", "--random"], "not allowed with argument"),
    (["cartpole", "--ppo.gamma", "1"], "--ppo.gamma: only parameters of the environment can be set here"),
    (["cartpole", "--env.kwargs.gravty", "1"], "did you mean 'gravity'?"),
    (["cartpole", "--fps", "fast"], "'fast' is not a number of at least 0"),
    (["gymnasium:CartPole-v1", "--expert"], "--expert: gymnasium:CartPole-v1 has no scripted expert"),
    ([f"{DRAWING}:Numbers", "--out", "a.png"], "draws no pictures"),
])
def test_wrong_input_is_one_line(capsys, monkeypatch, arguments, words):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert words in refused(capsys, "env", "play", *arguments)


def theatre(typist: Typist, monkeypatch, name: str = "cartpole", **args) -> Play:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    defaults = dict(keys=True, policy=None, expert=False, random=False, fps=None, episodes=None, steps=None, out=None)
    played = Play(Viewer(name, {}, seed=0), Namespace(**defaults | args), None)
    Theatre(played, typist).run()
    return played


def test_an_action_stays_until_the_next_key(monkeypatch):
    taken = []
    monkeypatch.setattr(Play, "step", lambda self: taken.append(int(self.action[0, 0])) or False)
    theatre(Typist("right", "", "", "left", "x", "q"), monkeypatch, fps=1e6)
    assert taken == [1, 1, 1, 0, 0]


def test_by_turns_a_step_is_a_key(monkeypatch):
    typist = Typist("right+right", "x", "left", "q")
    assert theatre(typist, monkeypatch, fps=0).steps == 2
    assert typist.waits == [None] * 4


def test_space_pauses_and_a_dot_is_one_step(monkeypatch):
    defaults = dict(keys=False, policy=None, expert=False, random=True, fps=1e6, episodes=1, steps=None, out=None)
    shown = Viewer("cartpole", {}, seed=0)
    played = Play(shown, Namespace(**defaults), lambda obs, starts: np.ones((1, 1), np.int32))
    typist = Typist("", " ", ".", ".", "x", " ", "", "q")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    Theatre(played, typist).run()
    assert played.steps == 5
    assert [until is None for until in typist.waits] == [False, False, True, True, True, True, False, False]


@pytest.mark.parametrize("typed, code", [(b"\x1b[Cq", 0), (b"\x03", 130)])
def test_in_a_real_terminal_which_is_as_it_was_afterwards(typed, code):
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    command = [sys.executable, "-m", "puffer_il", "env", "play", "cartpole", "--keys", "--fps", "5"]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
                               preexec_fn=own_terminal, env=os.environ | {"TERM": "xterm", "COLORTERM": "truecolor"})
    seen, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([leader], [], [], 0.2)[0]:
            seen += os.read(leader, 65536)
        if b"quits" in seen and typed:
            os.write(leader, typed)
            typed = b""
    while select.select([leader], [], [], 0.1)[0]:
        seen += os.read(leader, 65536)
    if process.poll() is None:
        process.kill()  # it would wait for ever
    assert process.wait() == code and termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)
    text = seen.decode()
    assert "▀" in text and text.index("\x1b[?1049h") < text.index("\x1b[?1049l") and "\x1b[?25h" in text
    assert ("cartpole: you" if code == 0 else "interrupted") in text.rpartition("\x1b[?1049l")[2]
