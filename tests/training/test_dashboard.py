"""The dashboard as a whole: its lines at 80 and 120 columns, in low terminals, without colours, and its end."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest
from rich.console import Console

from puffer_il.training.dashboard import Dashboard, terminal_logger
from tests.support.loggers import Clock, info
from tests.training.test_panels import DISC, SCORES

BASE = {"SPS": 312_000.0, "SPS_mean": 298_000.0, "progress": 0.4, "env_steps": 400.0, "updates": 4.0, "wall_s": 3.0,
        "time/collect": 0.2, "time/update": 0.3}
PPO = {f"losses/{name}": 0.1 for name in ("policy", "value", "entropy", "approx_kl", "grad_norm")}
BC = {"bc/train_nll": 0.3, "bc/val_nll": 0.4, "bc/accuracy": 0.9}


class Frames:
    """A dashboard that draws into memory."""

    def __init__(self, width: int = 80, height: int = 40, **changes) -> None:
        self.clock, self.stream = Clock(), io.StringIO()
        self.console = Console(file=self.stream, width=width, height=height, force_terminal=True, highlight=False,
                               color_system="standard", legacy_windows=False)
        self.board = Dashboard(self.console, self.clock)
        self.board.start(info(**changes))

    def lines(self) -> list[str]:
        plain = Console(file=io.StringIO(), width=self.console.width, height=self.console.height, highlight=False)
        plain.print(self.board)
        return plain.file.getvalue().splitlines()


@pytest.fixture
def frames():
    made = []

    def make(*args, **kwargs) -> Frames:
        made.append(Frames(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.board.close()


def test_the_clock_is_that_of_the_summary(frames):
    frame = frames(80, wall_s=65.0)
    frame.clock.now += 2
    frame.board.log(400, BASE)
    assert "1:07" in frame.lines()[5]


def test_eighty_columns_are_stacked(frames):
    frame = frames(80)
    frame.board.log(400, BASE | PPO | DISC | SCORES)
    lines = frame.lines()
    assert lines[0].split() == ["gail", "on", "cartpole", "runs/x"]
    assert lines[1].strip() == "10 episodes, 5,000 transitions, mean return 500.0"
    assert lines[2].strip() == "seed 1 · cpu · 4,096 envs native · 9.35k parameters"
    assert lines[4].strip().endswith("40%") and lines[4].count("━") == round(0.4 * 71)
    assert re.sub(" +", " ", lines[5].strip()) == "400 of 1k steps 312k steps/s, 298k mean 0:00 since start · –:–– left"
    titles = [line.split("─ ")[1].split(" ")[0] for line in lines if line.startswith("╭")]
    assert titles == ["return", "discriminator", "losses", "time"]
    assert max(map(len, lines)) == 80


def test_hundred_and_twenty_columns_are_paired(frames):
    frame = frames(120)
    frame.board.log(400, BASE | PPO | DISC | SCORES)
    lines = frame.lines()
    assert lines[1].startswith("  10 episodes") and lines[1].endswith("9.35k parameters")
    tops = [line for line in lines if line.startswith("╭")]
    assert "return" in tops[0] and "discriminator · healthy" in tops[0] and "losses" in tops[1] and "time" in tops[1]
    assert {len(line) for line in lines if line[:1] in "╭│╰" and line} == {120}


def test_an_odd_panel_leads_on_its_own(frames):
    frame = frames(120, algo="ppo", expert_return=None, demos="none")
    frame.board.log(400, BASE | PPO)
    tops = [line for line in frame.lines() if line.startswith("╭")]
    assert [line.count("╭") for line in tops] == [1, 2] and "no demonstrations" in frame.lines()[1]


def test_behaviour_cloning_counts_samples_and_has_no_discriminator(frames):
    frame = frames(80, algo="bc", num_envs=0, backend="none")
    frame.board.log(400, BASE | BC)
    text = "\n".join(frame.lines())
    assert "400 of 1k samples" in text and "312k samples/s" in text and "val nll" in text
    assert "discriminator" not in text and "envs" not in text and "training" not in text


@pytest.mark.parametrize("height", [16, 24, 30, 40])
def test_low_terminals_get_the_most_important_panels(frames, height):
    frame = frames(80, height)
    frame.board.log(400, BASE | PPO | DISC | SCORES)
    lines = frame.lines()
    assert len(lines) <= height and lines[-2].startswith("╰") and lines[-1] == ""
    assert "return" in "".join(lines)


def test_before_the_first_iteration(frames):
    lines = frames(80).lines()
    assert "0%" in lines[4] and "0 of 1k steps" in lines[5] and "none yet" in "".join(lines)


def test_the_clock_runs_between_iterations_and_stops_at_the_end(frames):
    frame = frames(80)
    frame.board.log(100, BASE | {"progress": 0.1})
    frame.clock.now += 30
    frame.board.log(200, BASE | {"progress": 0.4})
    frame.clock.now += 15
    assert "0:45 since start · 0:45 left" in frame.lines()[5]
    frame.board.finish({"status": "finished"})
    frame.clock.now += 100
    assert frame.lines()[5].endswith("finished after 0:45")


def test_the_clock_goes_on_from_what_the_runs_clock_says(frames):
    frame = frames(80, wall_s=65.0)
    frame.clock.now += 5
    assert "1:10 since start" in frame.lines()[5]


def test_draws_by_itself_gives_the_cursor_back_and_leaves_the_last_frame(frames):
    frame = frames(80)
    begin = time.monotonic()
    frame.board.log(400, BASE | PPO | SCORES)
    while "452.0" not in frame.stream.getvalue():  # only the drawing thread can have written it
        assert time.monotonic() - begin < 5
        time.sleep(0.02)
    frame.board.message("warning: [gail] is in brackets")
    frame.board.finish({"status": "interrupted"})
    output = frame.stream.getvalue()
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l") and "[gail] is in brackets" in output
    assert "interrupted after" in output[output.rindex("gail\x1b"):] and output.endswith("\x1b[?25h")
    frame.board.close()
    assert frame.stream.getvalue() == output


def test_a_run_that_failed_says_so(frames):
    frame = frames(80)
    frame.board.close()
    assert "failed after" in frame.stream.getvalue()


def test_no_color_is_respected(frames, monkeypatch):
    frame = frames(80)
    frame.board.log(400, BASE | PPO | DISC | SCORES)
    coloured, plain = io.StringIO(), io.StringIO()
    Console(file=coloured, width=80, height=40, force_terminal=True, color_system="standard").print(frame.board)
    monkeypatch.setenv("NO_COLOR", "1")
    Console(file=plain, width=80, height=40, force_terminal=True).print(frame.board)
    assert "\x1b[36m" in coloured.getvalue() and "\x1b[36m" not in plain.getvalue()
    assert "●" in plain.getvalue() and "━" in plain.getvalue()


@pytest.mark.parametrize("tty, term, width, able", [
    (True, "xterm-256color", 80, True), (True, "dumb", 80, False), (True, "xterm", 40, False),
    (False, "xterm", 80, False)])
def test_the_dashboard_is_for_terminals_that_can_show_it(monkeypatch, tty, term, width, able):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: tty, raising=False)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", str(width))
    assert (type(terminal_logger()).__name__ == "Dashboard") == able
