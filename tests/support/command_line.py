"""The command line in tests: one command, what it printed, and what it refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from puffer_il.cli import main

SMALL = ["--env.num-envs", "8", "--train.num-steps", "32", "--train.threads", "1", "--policy.hidden", "16,16",
         "--eval.interval-steps", "0", "--eval.final-episodes", "3"]


def run_command(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys: Any, *arguments: str) -> str:
    """The one line on stderr of a command that is wrong input."""
    code, out, err = run_command(capsys, *arguments)
    assert (code, out) == (2, "") and err.startswith("puffer-il: error: ")
    assert err.endswith("\n") and err.count("\n") == 1
    return err.removeprefix("puffer-il: error: ").rstrip("\n")


def one_line(capsys: Any) -> str:
    """What was printed on stderr, which is one line about wrong input."""
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("puffer-il: error: ")
    return err


def train(*arguments: str) -> int:
    """A small run of `puffer-il train`."""
    return main(["train", *arguments, *SMALL])


def collect(*arguments: Any) -> int:
    return main(["demos", "collect", *map(str, arguments)])


def metrics(folder: Path) -> list[dict]:
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
