"""`puffer-il env play`: pictures in a terminal and in files, keys, and everything that can be looked at."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from argparse import Namespace

import gymnasium
import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.core import pictures, terminal
from puffer_il.core.spec import ActionSpec
from puffer_il.envkit import film
from puffer_il.envkit.keys import Controls, Keyboard
from puffer_il.envkit.play import Play, Theatre
from puffer_il.envkit.viewer import Viewer, _colored
from tests.support.command_line import refused

# Pictures

def picture(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_resizing_takes_means_and_repeats():
    ramp = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    assert np.array_equal(pictures.resized(ramp, 4, 2), ramp)
    assert np.array_equal(pictures.resized(ramp, 2, 2)[0, 0], ramp[:2, 0].mean(0))
    assert np.array_equal(pictures.resized(ramp, 8, 6), ramp.repeat(2, 0).repeat(3, 1))
    assert pictures.shrunk(picture(40, 60), 30).shape == (20, 30, 3)
    assert pictures.shrunk(picture(40, 60), 90).shape == (40, 60, 3)


def test_a_png_is_what_it_was_made_of():
    image = pytest.importorskip("PIL.Image")
    assert np.array_equal(np.asarray(image.open(io.BytesIO(pictures.png(picture())))), picture())


@pytest.mark.parametrize("fps, count, shown", [(10, 30, 30), (50, 101, 51), (60, 120, 61), (300, 300, 26)])
def test_a_gif_runs_at_the_speed_of_its_frames(fps, count, shown):
    image = pytest.importorskip("PIL.Image")
    frames = [np.zeros((20, 30, 3), np.uint8) for _ in range(count)]
    for i, frame in enumerate(frames):
        frame[i % 20, i % 30] = 255
    data, told = pictures.gif(frames, fps)
    film = image.open(io.BytesIO(data))
    lengths = []
    for index in range(film.n_frames):
        film.seek(index)
        lengths.append(film.info["duration"])
    assert told == film.n_frames == shown
    assert sum(lengths) - 1000 * pictures.HOLD_S == pytest.approx(1000 * count / fps, abs=20)
    assert min(lengths) >= 20 and film.info["loop"] == 0


def test_a_gif_gives_up_size_before_it_grows(monkeypatch):
    pytest.importorskip("PIL.Image")
    monkeypatch.setattr(pictures, "GIF_BYTES", 20_000)
    still = [pictures.resized(picture(4, 6), 400, 600)] * 30  # what does not change costs nothing
    data, shown = pictures.gif(still, 10)
    assert len(data) <= 20_000 and shown == 30
    noise = [pictures.resized(picture(20, 30, i), 400, 600) for i in range(30)]
    smaller, fewer = pictures.gif(noise, 10)
    assert fewer < 30 and len(smaller) < 200_000


@pytest.mark.parametrize("name, words", [
    ("a.jpg", "--out a.jpg: must end in one of .gif, .mp4, .png"),
    ("nowhere/a.gif", "no folder nowhere; make it first"),
    ("a.mp4", "--out a.mp4: needs imageio_ffmpeg; pip install 'puffer-il[render]'")])
def test_files_that_cannot_be_are_refused_before_anything_is_played(capsys, monkeypatch, name, words):
    monkeypatch.setitem(film.KINDS, ".mp4", ("imageio_ffmpeg",))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert words in refused(capsys, "env", "play", "no-such-environment", "--out", name)


# The terminal

def drawn(depth: int, *whats, size: tuple[int, int] = (40, 16), monkeypatch) -> list[str]:
    """What each drawing writes, without the bracket that makes it appear at once."""
    monkeypatch.setattr(terminal.shutil, "get_terminal_size", lambda: os.terminal_size(size))
    out, texts = io.StringIO(), []
    screen = terminal.Screen(out, depth)
    for what in whats:
        screen.draw(what, ["status", "keys"])
        texts.append(out.getvalue().removeprefix("\x1b[?2026h").removesuffix("\x1b[?2026l"))
        out.seek(0)
        out.truncate()
    return texts


def test_two_pixels_share_a_character_and_only_changes_are_drawn(monkeypatch):
    one = np.zeros((2, 3, 3), np.uint8)
    one[0], one[1, 2] = (255, 0, 0), (0, 0, 255)
    two = one.copy()
    two[1, 1] = (1, 2, 3)
    first, again, changed = drawn(terminal.FULL, one, one.copy(), two, size=(3, 4), monkeypatch=monkeypatch)
    assert "\x1b[1;1H\x1b[38;2;255;0;0m\x1b[48;2;0;0;0m▀▀\x1b[48;2;0;0;255m▀" in first
    assert "\x1b[3;1Hst…" in first
    assert again == "\x1b[0m"
    assert changed == "\x1b[1;2H\x1b[38;2;255;0;0m\x1b[48;2;1;2;3m▀\x1b[0m"


def test_a_picture_is_as_large_as_it_fits_and_in_the_middle(monkeypatch):
    text, = drawn(terminal.FULL, picture(40, 40), size=(80, 23), monkeypatch=monkeypatch)
    assert text.count("▀") == 20 * 40 and "\x1b[1;21H" in text
    assert terminal.blocks(picture(400, 600), 60, 100).shape == (20, 60, 2, 3)
    assert terminal.blocks(picture(3, 1000), 50, 10).shape == (1, 50, 2, 3)


def test_picture_lines_pair_pixels():
    two = np.zeros((4, 2, 3), np.uint8)
    two[0], two[1, 1] = (255, 0, 0), (0, 255, 0)
    assert terminal.picture_lines(two, 80) == [
        "\x1b[38;2;255;0;0;48;2;0;0;0m▀\x1b[38;2;255;0;0;48;2;0;255;0m▀\x1b[0m", "\x1b[38;2;0;0;0;48;2;0;0;0m▀▀\x1b[0m"]
    assert terminal.picture_lines(two, 80, terminal.INDEXED)[1] == "\x1b[38;5;16;48;5;16m▀▀\x1b[0m"
    assert len(terminal.picture_lines(np.zeros((100, 200, 3), np.uint8), 50)) == 12


def test_fewer_colours_and_none(monkeypatch):
    colors = np.array([[255, 0, 0], [0, 0, 0], [255, 255, 255], [128, 128, 128], [95, 135, 175]], np.uint8)
    assert terminal.indexed(colors).tolist() == [196, 16, 231, 244, 67]
    paper = np.full((8, 8, 3), 250, np.uint8)
    paper[:4, :4] = 0
    text, = drawn(terminal.PLAIN, paper, size=(8, 7), monkeypatch=monkeypatch)
    assert "@@@@" in text and "▀" not in text and "38;" not in text


def test_lines_that_are_gone_are_wiped(monkeypatch):
    _, shorter = drawn(terminal.FULL, ["a", "b", "\x1b[41mc\x1b[0m"], ["a", "x"], monkeypatch=monkeypatch)
    assert shorter.startswith("\x1b[2;1Hx") and "\x1b[6;1H\x1b[0m\x1b[K" in shorter and "\x1b[1;1H" not in shorter
    assert terminal.cut("\x1b[1mlong\x1b[0m words", 5) == "long…"


@pytest.mark.parametrize("environment, depth", [
    ({"TERM": "xterm", "COLORTERM": "truecolor"}, 24), ({"TERM": "xterm-256color"}, 8), ({"TERM": "tmux-direct"}, 24),
    ({"TERM": "vt100"}, 0), ({"TERM": "dumb", "COLORTERM": "truecolor"}, 0),
    ({"TERM": "xterm", "COLORTERM": "truecolor", "NO_COLOR": "1"}, 0)])
def test_colours_are_those_that_the_terminal_says_it_has(monkeypatch, environment, depth):
    for name in ("TERM", "COLORTERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal.colors() == depth


def test_numbers_stand_between_their_bounds():
    values, low, high = np.array([0.0, 2, -9, np.nan]), np.array([-1.0, 0, -1, -1]), np.array([1.0, 2, 1, 1])
    lines = terminal.bars(["a", "bb", "c", "d"], values, low, high, 40, 10)
    assert [line.index("●") for line in lines] == [16, 27, 4, 4] and lines[1].endswith("        2")
    assert all(len(line) == len(lines[0]) for line in lines)
    assert terminal.bars(["a"] * 30, np.zeros(30), np.zeros(30), np.ones(30), 40, 5)[-1] == "… and 26 more"


# Keys

def discrete(*nvec: int) -> Controls:
    return Controls(ActionSpec(nvec=nvec))


@pytest.mark.parametrize("n, keys, actions", [
    (2, ["right", "left", "1", "7", " "], [1, 0, 1, 1, 0]), (3, ["left", "right", " ", "0"], [0, 2, 1, 0]),
    (4, ["left", "down", "right", "up"], [0, 1, 2, 3]), (18, ["9", "up", "x", " "], [9, 3, 3, 0]),
    (1, ["left", "0"], [0, 0])])
def test_one_choice_by_arrows_and_digits(n, keys, actions):
    controls, got = discrete(n), []
    for key in keys:
        controls.press(key)
        got.append(int(controls.value[0]))
    assert got == actions and controls.value.dtype == np.int32
    assert not controls.press("x")


def test_several_choices_and_numbers_by_pairs_of_keys():
    controls = discrete(3, 2)
    for key in ("right", "right", "right", "up", "left"):
        assert controls.press(key)
    assert controls.value.tolist() == [1, 1]
    box = Controls(ActionSpec(low=np.array([-2, 0, -np.inf], np.float32), high=np.array([2, 1, np.inf], np.float32),
                              shape=(3,)))
    for key in ("right", "up", "a"):
        assert box.press(key)
    assert box.value.tolist() == [2, 1, -1] and box.press(" ") and box.value.tolist() == [0, 0, 0]
    assert not box.press("w")


def test_the_help_says_which_key_does_what():
    assert discrete(3).help() == "← is 0 · → is 2 · space is 1 · or the digits 0 to 2"
    assert "←→ ↓↑ a choice down or up" in discrete(2, 2).help()
    many = Controls(ActionSpec(low=-np.ones(8, np.float32), high=np.ones(8, np.float32), shape=(8,)))
    assert many.help() == "←→ ↓↑ ad sw jl ki a number to its lowest or highest (the other 2 stay) · space lets go"


def test_keys_come_one_by_one_and_in_time():
    reader, writer = os.pipe()
    keys = Keyboard(reader)
    os.write(writer, b"q\x1b[A\x1bOD \xc3\xa9\x1b[3~")
    assert list(keys.wait(time.monotonic() + 0.02)) == ["q", "up", "left", " ", "é", "~"]
    begin = time.monotonic()
    assert list(keys.wait(begin + 0.05)) == [] and time.monotonic() - begin >= 0.05
    os.write(writer, b"x")
    assert list(keys.wait(None)) == ["x"]
    os.close(writer)
    assert list(keys.wait(None)) == ["q"]  # the terminal has gone
    os.close(reader)
    assert list(Keyboard(None).wait(time.monotonic())) == []


# Environments

class Plain(gymnasium.Env):
    """Draws nothing; its observation is half an image."""

    observation_space = gymnasium.spaces.Dict(view=gymnasium.spaces.Box(0, 255, (6, 8, 1), np.uint8),
                                              speed=gymnasium.spaces.Box(-1, 1, (2,), np.float32))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return {"view": np.full((6, 8, 1), 7, np.uint8), "speed": np.array([0.5, -1], np.float32)}, {}

    def step(self, action):
        return (*self.reset()[:1], 1.0, True, False, {})


class Numbers(Plain):
    observation_space = gymnasium.spaces.Dict(speed=Plain.observation_space["speed"])

    def reset(self, *, seed=None, options=None):
        return {"speed": np.array([0.5, -1], np.float32)}, {}


class Drawing(Numbers):
    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, render_mode=None, broken=True):
        self.render_mode, self.broken = render_mode, broken

    def render(self):
        if self.render_mode == "ansi":
            return "as text\n"
        if self.broken:
            raise ImportError("no screen\nin here")
        return np.full((4, 6, 3), 9, np.uint8)


def viewer(name: str, **kwargs) -> Viewer:
    return Viewer(name, kwargs, seed=0)


def test_what_there_is_to_see():
    here = f"{__name__}:"
    assert viewer("cartpole").view().ndim == 3 and viewer("cartpole").at_once
    assert viewer(f"{here}Drawing", broken=False).view().tolist() == np.full((4, 6, 3), 9).tolist()
    broken = viewer(f"{here}Drawing")
    assert broken.view() == ["as text"] and broken.picture() is None
    assert broken.notice == "no picture: no screen in here"
    assert broken.fps == 4 and not broken.at_once
    assert viewer(f"{here}Plain").picture().tolist() == np.full((6, 8, 3), 7).tolist()
    lines = viewer(f"{here}Numbers").view(60, 10)
    assert [line.split()[0] for line in lines] == ["speed[0]", "speed[1]"] and lines[0].endswith("0.5")
    assert viewer("FrozenLake-v1", render_mode="ansi").view()[-4:][3].endswith("HFFG")


def without_a_mode():
    return gymnasium.make("CartPole-v1")


def drawing_without_a_mode():
    return Drawing()


def test_an_environment_that_was_made_without_a_render_mode_is_asked_to_draw():
    assert viewer(f"{__name__}:without_a_mode").picture().shape == (400, 600, 3)
    assert viewer("gymnasium:CartPole-v1").picture().shape == (400, 600, 3)
    broken = viewer(f"{__name__}:drawing_without_a_mode")
    assert broken.notice == "no picture: no screen in here" and broken.view()[0].startswith("speed[0]")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (1, 5, 7), (4, 5, 7), (5, 7, 4), (5, 7, 3), (3, 5, 7)])
def test_images_in_any_layout_become_pictures(shape):
    assert _colored(np.zeros(shape, np.uint8)).shape == (5, 7, 3)
    assert _colored(np.ones(shape, np.float32)).max() == 255
    assert _colored(np.zeros(5, np.uint8)) is None


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
    lines = play(f"{__name__}:Numbers", capsys, "--episodes", "2")  # resets in a step of its own
    assert lines[1:] == [f"episode {i}: return 1.00, 1 steps, terminated" for i in (1, 2)]
    lines = play("tron", capsys, "--episodes", "1")
    assert re.fullmatch(r"episode 1: return \S+, mean of 2 agents, \d+ steps, terminated", lines[1])


def test_files(capsys, tmp_path):
    image = pytest.importorskip("PIL.Image")
    line = play("cartpole", capsys, "--steps", "40", "--out", str(tmp_path / "a.gif"))[-1]
    assert re.fullmatch(r".*a\.gif: 21 pictures, 0\.8 s, \d+ kB", line)
    play("cartpole", capsys, "--out", str(tmp_path / "a.png"), "--env.kwargs.max-episode-steps", "30")
    middle = np.asarray(image.open(tmp_path / "a.png"))
    shown = viewer("cartpole", max_episode_steps=30)
    for _ in range(15):
        shown.vec.step(shown.vec.expert_actions())
    assert np.array_equal(middle, shown.picture())
    shown.vec.reset(0)
    for _ in range(4):
        shown.vec.step(shown.vec.expert_actions())
    play("cartpole", capsys, "--steps", "4", "--out", str(tmp_path / "a.png"))
    assert np.array_equal(np.asarray(image.open(tmp_path / "a.png")), shown.picture())


def test_a_film_keeps_few_pictures_whatever_its_length(tmp_path):
    film_ = film.Film(tmp_path / "a.png", 10, whole=False)
    for i in range(1000):
        film_.add(np.full((2, 2, 3), i // 4, np.uint8), first=True)
        assert len(film_._kept) <= film.CHOICE
    film_.add(np.zeros((2, 2, 3), np.uint8), first=False)
    assert abs(int(film_._kept[len(film_._kept) // 2][0, 0, 0]) - 125) < 6


@pytest.mark.parametrize("arguments, words", [
    ([], "an environment is missing; give its name, a folder, or the run of a policy"),
    (["cartpole", "--keys"], "--keys: there is no terminal to read keys from"),
    (["cartpole", "--keys", "--random"], "not allowed with argument"),
    (["cartpole", "--ppo.gamma", "1"], "--ppo.gamma: only parameters of the environment can be set here"),
    (["cartpole", "--env.kwargs.gravty", "1"], "did you mean 'gravity'?"),
    (["cartpole", "--fps", "fast"], "'fast' is not a number of at least 0"),
    (["gymnasium:CartPole-v1", "--expert"], "--expert: gymnasium:CartPole-v1 has no scripted expert"),
    ([f"{__name__}:Numbers", "--out", "a.png"], "draws no pictures"),
])
def test_wrong_input(capsys, monkeypatch, arguments, words):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert words in refused(capsys, "env", "play", *arguments)


# Playing

class Typist(Keyboard):
    """A keyboard on which somebody types one word at each opportunity."""

    def __init__(self, *words: str) -> None:
        self.words, self.waits = list(words), []

    def wait(self, until):
        self.waits.append(until)
        yield from self.words.pop(0).split("+") if self.words else ["q"]


def theatre(typist: Typist, monkeypatch, name: str = "cartpole", **args) -> Play:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    defaults = dict(keys=True, policy=None, expert=False, random=False, fps=None, episodes=None, steps=None, out=None)
    played = Play(viewer(name), Namespace(**defaults | args), None)
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


def test_pause_one_step_and_on(monkeypatch):
    defaults = dict(keys=False, policy=None, expert=False, random=True, fps=1e6, episodes=1, steps=None, out=None)
    shown = viewer("cartpole")
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
                               preexec_fn=_own_terminal, env=os.environ | {"TERM": "xterm", "COLORTERM": "truecolor"})
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


def _own_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which whoever runs the tests in the background has it ignore
