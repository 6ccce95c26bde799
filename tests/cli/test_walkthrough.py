"""The commands of docs/your-environment.md lead from an empty folder to a trained policy."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from puffer_il.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your-environment.md"
HEADING = "## In C, from an empty folder to a trained policy"


def commands() -> list[list[str]]:
    """The first block after the heading, a list of words per line."""
    section = f"\n{PAGE.read_text()}".partition(f"\n{HEADING}\n")[2]
    block = re.search(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert block is not None, f"{PAGE} has no commands under {HEADING!r}"
    return [shlex.split(line, comments=True) for line in block[1].splitlines()]


def test_from_an_empty_folder_to_a_trained_policy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    typed = commands()
    assert [" ".join(words[1:3]) for words in typed] == [
        "env new", "env check", "env play", "demos collect", "train gail", "eval runs/my_env", "env play"]
    told = []
    for words in typed:
        assert words[0] == "puffer-il"
        assert main(words[1:]) == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"
        told.append(capsys.readouterr().out)
    assert "keeps to the contract" in told[1] and "scripted expert" in told[2] and "20 episodes" in told[3]
    summary = json.loads(Path("runs/my_env/summary.json").read_text())
    assert summary["eval"]["normalized"] >= 0.9 and summary["time_to_expert_s"] is not None
    assert summary["eval"]["log"]["docked"] >= 0.8
    assert 1_000 < Path("my_env.gif").stat().st_size < 300_000
