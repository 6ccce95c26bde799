"""The command line as other programs see it: exit codes, one line for wrong input, help that answers at once."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from puffer_il import cli
from puffer_il.cli import main
from puffer_il.cli.parser import filled, wrapped
from puffer_il.core.errors import EnvFailure, InputError
from tests.support.command_line import refused, run_command

COLLECT = ["demos", "collect", "--episodes", "1", "--out", "x.npz"]


@pytest.mark.parametrize("arguments, words", [
    ([], "the following arguments are required: command; see 'puffer-il --help'"),
    (["trian"], "unknown command 'trian'; did you mean 'train'?"),
    (["demos", "xyz"], "unknown command 'xyz'; known: info, check, import, export, edit, collect"),
    (["train"], "train needs an algorithm and an environment, such as 'puffer-il train gail cartpole'"),
    (["train", "gial", "cartpole"], "unknown algorithm 'gial'; did you mean 'gail'?"),
    (["train", "ppo", "cartpole", "extra"], "unexpected argument 'extra'"),
    (["train", "ppo", "cartpole", "--learning-rate", "1"], "did you mean --ppo.learning-rate?"),
    (["train", "ppo", "cartpole", "--see", "1"], "unknown option '--see'"),  # no guessing at abbreviations
    (["train", "ppo", "cartpole", "--seed"], "argument --seed: expected one argument; see 'puffer-il train --help'"),
    (["train", "ppo", "cartpole", "--seed", "x"], "command line: train.seed = 'x': expected a whole number, such as 1"),
    (["train", "ppo", "cartpole", "--device", "gpu"], "train.device = 'gpu': choose one of auto, cpu, cuda"),
    (["train", "ppo", "cartpole", "--total-steps", "0"], "train.total_steps = '0': must be at least 1"),
    (["train", "ppo", "cartpole", "--ppo.gama", "1"], "unknown option --ppo.gama; did you mean --ppo.gamma?"),
    (["train", "ppo", "cartpole", "--pop.gamma", "1"], "unknown section 'pop'; did you mean 'ppo'?"),
    (["train", "ppo", "cartpole", "--ppo.gamma", "high"], "ppo.gamma = 'high': expected a number, such as 0.99"),
    (["train", "ppo", "cartpole", "--config", "none.toml"], "config file none.toml does not exist"),
    (["train", "--resume", "nowhere"], "--resume nowhere: no run directory"),
    (["eval", "nowhere"], "nowhere is not a run directory"),
    (["eval"], "the following arguments are required: run-dir; see 'puffer-il eval --help'"),
    (["eval", "x", "--episodes", "0"], "argument --episodes: '0' is not a whole number of at least 1; see 'puffer-"),
    (["eval", "x", "--episodes", "many"], "argument --episodes: 'many' is not a whole number of at least 1"),
    (["eval", "x", "--seed", "-1"], "argument --seed: '-1' is not a whole number of at least 0"),
    (["demos"], "the following arguments are required: command"),
    (["demos", "info", "none.npz"], "demos none.npz: no such file"),
    ([*COLLECT, "cartpole"], "one of the arguments --policy --expert --random --keys --gamepad is required"),
    ([*COLLECT, "cartpole", "--policy", "a", "--random"], "not allowed with argument"),
    ([*COLLECT, "cartpol", "--random"], "did you mean 'cartpole'?"),
    ([*COLLECT, "cartpole", "--policy", "none.npz"], "--policy none.npz: there is no such file or run directory"),
    ([*COLLECT, "cartpole", "--random", "--env.kwargs.gravty", "1"], "did you mean 'gravity'?"),
    ([*COLLECT, "cartpole", "--random", "--env.num-envs", "1"], "--env.num-envs: only parameters of the environment"),
    ([*COLLECT, "gymnasium:CartPole-v1", "--expert"], "--expert: gymnasium:CartPole-v1 has no scripted expert"),
    (["env"], "the following arguments are required: command"),
    (["env", "new"], "the following arguments are required: name"),
    (["env", "check", "x", "--seconds", "-1"], "argument --seconds: '-1' is not a number of at least 0"),
    (["env", "bench", "cartpole", "--env.kwargs.gravity"], "--env.kwargs.gravity needs a value"),
    (["algos", "--verbose"], "unknown option '--verbose'; see 'puffer-il algos --help'"),
])
def test_wrong_input_is_one_line_and_exit_code_2(capsys, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error, code, words", [
    (InputError("demos x:\n  broken"), 2, "puffer-il: error: demos x: broken\n"),
    (OSError(errno.ENOSPC, "No space left on device"), 2, "puffer-il: error: the disk is full; "),
    (PermissionError(errno.EACCES, "Permission denied", "runs/x/checkpoints"), 2,
     "puffer-il: error: runs/x/checkpoints: Permission denied; change its permissions or use another place\n"),
    (EnvFailure("worker 1 died:\n  Traceback …\nKeyError"), 1, "puffer-il: worker 1 died:\n  Traceback …\nKeyError\n"),
    (KeyboardInterrupt(), 130, "puffer-il: interrupted\n"),
    (ZeroDivisionError("own bug"), 1, "Traceback (most recent call last)"),
])
def test_exit_codes_of_what_a_command_raises(capsys, monkeypatch, error, code, words):
    def fails(args):
        raise error

    monkeypatch.setattr(cli.algos, "algos", fails)
    got, out, err = run_command(capsys, "algos")
    assert (got, out) == (code, "") and words in err
    assert ("Traceback (most" in err) == isinstance(error, ZeroDivisionError)


def test_a_full_disk_behind_another_error_is_still_a_full_disk(capsys, monkeypatch):
    def fails(args):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904 (as torch.save does)

    monkeypatch.setattr(cli.algos, "algos", fails)
    assert refused(capsys, "algos").startswith("the disk is full")


def test_sigterm_is_an_interrupt_and_the_handler_is_put_back(capsys, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli.algos, "algos", lambda args: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5) or 0)
    assert run_command(capsys, "algos")[0] == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_main_runs_in_another_thread_too(monkeypatch):
    monkeypatch.setattr(cli.algos, "algos", lambda args: 0)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["algos"])))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("words", [["gail", "--seed", "2", "cartpole"], ["--seed", "2", "gail", "cartpole"],
                                   ["--train.seed", "2", "gail", "--ppo.gamma=0.5", "cartpole"], ["gail", "cartpole"]])
def test_options_may_stand_anywhere(monkeypatch, words):
    seen = []
    monkeypatch.setattr(cli.train, "train", lambda args: seen.append((args.algo, args.env)) or 0)
    assert main(["train", *words]) == 0 and seen == [("gail", "cartpole")]


def test_help_shows_the_commands_and_how_to_start(capsys):
    code, out, err = run_command(capsys, "--help")
    assert code == 0 and err == ""
    assert all(command in out for command in ("train", "eval", "demos", "env", "bench", "algos", "--version"))
    assert "puffer-il train --help" in out
    assert run_command(capsys, "--version")[1].startswith("puffer-il 0.")


def test_train_help_teaches_by_examples_and_then_lists_every_key(capsys):
    code, out, err = run_command(capsys, "train", "--help")
    assert code == 0 and err == "" and "examples:" in out and "--resume" in out and "--ppo.gamma 0.98" in out
    assert "--gail.reward-clip" not in out
    code, out, err = run_command(capsys, "train", "gail", "cartpole", "-h")
    assert code == 0 and "examples:" in out and "--gail.reward-clip 10.0" in out and "--env.kwargs.gravity 9.8" in out


def test_a_sentence_is_broken_between_words_where_a_terminal_is_narrow():
    assert filled("warning: no rewards are stored", 20) == "warning: no rewards\n      are stored"
    assert filled("warning: no rewards are stored", sys.maxsize) == "warning: no rewards are stored"


def test_help_is_wrapped_in_its_second_column():
    assert wrapped("  puffer-il x   what it does, at some length", 40) == (
        "  puffer-il x   what it does, at some\n                length")
    assert wrapped("  puffer-il x --with --many   what it does", 40) == (
        "  puffer-il x --with --many\n      what it does")
    assert wrapped("a command that is to be copied stays whole", 20) == "a command that is to be copied stays whole"


TAKE_KWARGS = ("eval", "env play", "env bench", "env check", "demos collect", "demos check", "demos import",
               "demos export", "reward show")


@pytest.mark.parametrize("command", ["eval", "demos", "demos collect", "demos import", "demos check", "demos export",
                                     "env", "env list", "env new",
                                     "env check", "env play", "env bench", "reward", "reward show", "algos", "bench"])
def test_every_command_has_help(capsys, command):
    code, out, err = run_command(capsys, *command.split(), "--help")
    assert (code, err) == (0, "") and out.startswith(f"usage: puffer-il {command}")
    assert ("--env.kwargs.NAME VALUE" in out) == (command in TAKE_KWARGS)


@pytest.mark.parametrize("command", ["env", "env new", "env check", "env play", "env bench", "demos collect",
                                     "reward show"])
def test_help_teaches_by_examples_that_are_understood(capsys, monkeypatch, command):
    out = run_command(capsys, *command.split(), "--help")[1]
    examples = [shlex.split(line.partition("   ")[0]) for line in out.splitlines() if line.startswith("  puffer-il ")]
    taken = []
    for group, name in ((cli.env, "new"), (cli.env, "check"), (cli.env, "play"), (cli.env, "bench"),
                        (cli.collect, "collect"), (cli.train, "train"), (cli.reward, "show")):
        monkeypatch.setattr(group, name, lambda args: taken.append(args) or 0)
    assert len(examples) >= 3 and all(main(words[1:]) == 0 for words in examples), capsys.readouterr().err
    assert len(taken) == len(examples)


def test_an_environment_may_stand_after_its_options(monkeypatch):
    seen = []
    monkeypatch.setattr(cli.env, "play", lambda args: seen.append((args.env, args.kwargs)) or 0)
    for words in (["cartpole", "--random"], ["--random", "cartpole"],
                  ["--policy", "r", "--env.kwargs.a-b=1", "cartpole"],
                  ["--policy", "r", "--env.kwargs.a.b", "x", "--env.kwargs.a.c", "2"]):
        assert main(["env", "play", *words]) == 0
    assert seen == [("cartpole", {}), ("cartpole", {}), ("cartpole", {"a_b": 1}), (None, {"a": {"b": "x", "c": 2}})]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_answers_within_a_third_of_a_second(arguments):
    def once() -> float:
        """Seconds of the processor: what else runs here makes no difference."""
        begin = os.times()
        subprocess.run([sys.executable, "-m", "puffer_il", *arguments], check=True, stdout=subprocess.DEVNULL)
        end = os.times()
        return end.children_user + end.children_system - begin.children_user - begin.children_system

    assert min(once() for _ in range(3)) < 0.3


def test_a_reader_that_has_left_is_not_told_so():
    process = subprocess.Popen([sys.executable, "-m", "puffer_il", "env", "list"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == cli.FAILED


def test_a_locale_without_the_characters_is_no_reason_to_stop():
    result = subprocess.run([sys.executable, "-m", "puffer_il", "env", "list"], capture_output=True,
                            env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0 and b"cartpole" in result.stdout
