"""`puffer-il env list`: what there is, whole lines in a pipe and lines that fit on a terminal."""

from __future__ import annotations

import sys

import pytest

from puffer_il.cli import main
from puffer_il.core.terminal import ESCAPES
from puffer_il.native.catalogue import env_folders


def test_env_list_describes_what_there_is(capsys):
    assert main(["env", "list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "float32 4" in rows["cartpole"] and "2 choices" in rows["cartpole"] and "float32 1" in rows["pendulum"]
    assert "demos expert picture" in rows["cartpole"] and "…" not in "".join(rows.values())


@pytest.mark.parametrize("width", [80, 120])
def test_env_list_fits_the_terminal(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["env", "list"]) == 0
    head, _, *rows = ESCAPES.sub("", capsys.readouterr().out).splitlines()
    rows = rows[:rows.index("")]
    assert {len(row) <= width for row in rows} == {True} and len(rows) == len(env_folders()), "a line for each"
    assert ("agents" in head.split()) == (width == 120) and head.split()[-1] == "task"
