"""`puffer-il train`: which source of a key wins; runs that end, fail, stop and resume; what is said."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tomllib
from argparse import Namespace

import pytest

from puffer_il.cli import main, parser
from puffer_il.cli import train as command
from puffer_il.core import checkpoint
from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.learners.experiment import build, experiment_layers
from puffer_il.rollout.collector import Collector
from puffer_il.training import trainer
from puffer_il.training.loggers import PlainLogger
from puffer_il.training.resolve import resolve
from tests.support.command_line import metrics, one_line, train
from tests.support.runs import scripted_cartpole_demos


def typed(algo=None, env=None, *, overrides=(), **options) -> Namespace:
    nothing = dict.fromkeys(("demos", "config", "run_dir", "seed", "device", "total_steps", "resume", "trust"))
    return Namespace(algo=algo, env=env, overrides=list(overrides), prog="puffer-il train", **(nothing | options))


def test_the_command_line_wins_over_the_file_and_that_over_the_shipped_ones(tmp_path):
    (tmp_path / "own.toml").write_text("[ppo]\ngamma = 0.5\nclip_coef = 0.3\n[train]\nseed = 3\n")
    config = command.resolve(typed("ppo", "cartpole", config=tmp_path / "own.toml", seed="4", total_steps="2e6",
                           overrides=[("ppo.gamma", "0.25"), ("ppo.gamma", "0.125")]))
    shipped = build("ppo", experiment_layers("ppo", "cartpole"))
    assert (config.ppo.gamma, config.ppo.clip_coef, config.train.seed) == (0.125, 0.3, 4)
    assert config.train.total_steps == 2_000_000 and config.env.name == "cartpole"
    assert config.ppo.learning_rate == shipped.ppo.learning_rate != type(shipped.ppo)().learning_rate


def test_parameters_of_the_environment_are_set_one_by_one(tmp_path):
    (tmp_path / "own.toml").write_text("[env.kwargs]\nlength = 1.0\ngravity = 1.0\n")
    config = command.resolve(typed("ppo", "cartpole", config=tmp_path / "own.toml",
                           overrides=[("env.kwargs.gravity", "9.9"), ("env.kwargs", "{tau = 0.01}")]))
    assert config.env.kwargs == {"length": 1.0, "gravity": 9.9, "tau": 0.01}


@pytest.mark.parametrize("algo, given, source", [
    ("gail", None, "shipped"), ("bc", None, "shipped"), ("ppo", None, ""), ("gail", "mine.npz", "mine.npz")])
def test_the_shipped_demonstrations_are_the_default_where_any_are_needed(algo, given, source):
    assert command.resolve(typed(algo, "cartpole", demos=given)).demos.source == source


def test_a_config_file_may_name_algorithm_and_environment(tmp_path):
    (tmp_path / "own.toml").write_text('algo = "ppo"\n[env]\nname = "pendulum"\n')
    config = command.resolve(typed(config=tmp_path / "own.toml"))
    assert (config.algo, config.env.name) == ("ppo", "pendulum")
    assert command.resolve(typed("bc", "acrobot", config=tmp_path / "own.toml")).env.name == "acrobot"


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    tables = {"env": {"name": "cartpole"}, "ppo": {"gamma": 0.7}, "train": {"run_dir": "elsewhere"}}
    config = build("ppo", [("test", tables)])
    (folder / "config.toml").write_text(config.to_toml())
    return folder


def test_a_resumed_run_keeps_its_config_but_for_what_is_typed(run_dir):
    config = command.resolve(typed(resume=run_dir, total_steps="5000", overrides=[("ppo.clip-coef", "0.1")]))
    assert (config.algo, config.env.name, config.ppo.gamma) == ("ppo", "cartpole", 0.7)
    assert (config.train.total_steps, config.ppo.clip_coef) == (5000, 0.1)
    assert config.ppo.learning_rate == type(config.ppo)().learning_rate, "the shipped files are not read again"
    assert config.train.run_dir == str(run_dir), "it may have been moved"
    assert command.resolve(typed("ppo", "cartpole", resume=run_dir)).ppo.gamma == 0.7


@pytest.mark.parametrize("wrong, words", [
    ({"algo": "bc"}, "that is a run of ppo on cartpole, not of bc on cartpole; leave both out"),
    ({"env": "acrobot"}, "not of ppo on acrobot"),
    ({"run_dir": "new"}, "--run-dir new: a resumed run continues in its own directory"),
])
def test_what_a_resumed_run_cannot_change(run_dir, wrong, words):
    with pytest.raises(InputError, match=words):
        command.resolve(typed(resume=run_dir, **wrong))


def test_what_is_no_run_cannot_be_resumed(tmp_path):
    with pytest.raises(InputError, match=r"--resume .*: no run directory \(it has no config.toml\)"):
        command.resolve(typed(resume=tmp_path))


@pytest.mark.parametrize("words", [(), ("gail",)])
def test_algorithm_and_environment_are_asked_for(words):
    with pytest.raises(InputError, match="train needs an algorithm and an environment, such as 'puffer-il train gail"):
        command.resolve(typed(*words))


@pytest.mark.parametrize("overrides, words", [
    ([("ppo.gama", "1")], "command line: unknown option --ppo.gama; did you mean --ppo.gamma?"),
    ([("gail.reward", "logit")], "command line: unknown section 'gail'"),
    ([("ppo.gamma.deep", "1")], "command line: ppo.gamma = {'deep': 1}: expected a number"),
    ([("env.kwargs", "3")], "command line: env.kwargs = '3': expected a table"),
    ([("policy.shared", "yes")], "command line: policy.shared = 'yes': expected true or false, such as false"),
])
def test_wrong_overrides_are_refused(overrides, words):
    with pytest.raises(InputError) as refusal:
        command.resolve(typed("ppo", "cartpole", overrides=overrides))
    assert words in str(refusal.value)


def test_a_broken_run_file_names_the_file(run_dir):
    (run_dir / "config.toml").write_text('algo = "ppo"\nenv = 5\n')
    with pytest.raises(InputError, match=r"env\.name = None: must name"):
        command.resolve(typed(resume=run_dir))
    with pytest.raises(InputError, match=r"env\.name = None: must name"):
        command.resolve(typed("ppo", "cartpole", resume=run_dir))


@pytest.mark.parametrize("argument, algo, env, words", [
    ("--learning-rate", "ppo", None, "unknown option '--learning-rate'; did you mean --ppo.learning-rate?"),
    ("--gamma=1", "gail", None, "did you mean --ppo.gamma?"),
    ("--max_grad_norm", "gail", None,
     "did you mean --ppo.max-grad-norm or --bc.max-grad-norm or --gail.max-grad-norm?"),
    ("--lr", "gail", "cartpole",
     "did you mean --ppo.learning-rate or --bc.learning-rate or --gail.disc-learning-rate?"),
    ("--xyzzy", "ppo", None, "unknown option '--xyzzy'; see 'puffer-il train ppo ENV --help'"),
    ("--xyzzy", "ppo", "acrobot", "unknown option '--xyzzy'; see 'puffer-il train ppo acrobot --help'"),
    ("--xyzzy", None, None, "unknown option '--xyzzy'; see 'puffer-il train --help'"),
    ("extra", "ppo", "acrobot", "unexpected argument 'extra'; see 'puffer-il train --help'"),
])
def test_unknown_options_get_a_hint(argument, algo, env, words):
    assert words in command.unknown(argument, typed(algo, env))


@pytest.mark.parametrize("key, words", [
    ("ppo.lr", "unknown option --ppo.lr; did you mean --ppo.learning-rate or"),
    ("gail.lr", "unknown option --gail.lr; did you mean --gail.disc-learning-rate or --ppo.learning-rate"),
    ("gail.bs", "did you mean --gail.disc-batch-size or "),
])
def test_abbreviated_keys_get_their_full_names(key, words):
    with pytest.raises(InputError) as refusal:
        command.resolve(typed("gail", "cartpole", overrides=[(key, "1")]))
    assert words in str(refusal.value)


def test_train_leaves_a_whole_run_directory_and_says_what_next(tmp_path, capsys):
    run_dir = tmp_path / "a run"
    assert train("ppo", "cartpole", "--total-steps", "512", "--run-dir", str(run_dir), "--seed", "3") == 0
    out = capsys.readouterr().out
    assert out.startswith("ppo on cartpole · seed 3 · cpu · 8 envs native")
    tail = out[out.index("finished: ppo on cartpole, seed 3"):].splitlines()
    assert [line.split()[0] for line in tail[1:]] == [
        "policy", "played", "random", "time", "run", "evaluate", "continue"]
    assert "3 episodes" in tail[2] and f"puffer-il eval '{run_dir}'" in tail[6]
    assert f"puffer-il train --resume '{run_dir}' --total-steps 1024" in tail[7]
    config = tomllib.loads((run_dir / "config.toml").read_text())
    assert (config["algo"], config["train"]["seed"], config["policy"]["hidden"]) == ("ppo", 3, [16, 16])
    steps = [line["step"] for line in metrics(run_dir)]
    assert steps == [256, 512, 512] and "eval/return_mean" in metrics(run_dir)[-1]
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "finished"


def test_gail_from_demonstrations_reports_against_the_expert(tmp_path, capsys, demos):
    assert train("gail", "cartpole", "--total-steps", "512", "--run-dir", str(tmp_path / "run"), "--demos", str(demos),
                 "--gail.disc-batch-size", "64") == 0
    out = capsys.readouterr().out
    assert "of the expert (95% CI" in out and "\n  expert      " in out and "6 episodes" in out


def test_an_interrupted_run_exits_130_and_goes_on_from_there(tmp_path, capsys, monkeypatch):
    run_dir, collect = tmp_path / "run", Collector.collect

    def interrupted(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return collect(self)

    monkeypatch.setattr(Collector, "collect", interrupted)
    assert train("ppo", "cartpole", "--total-steps", "1024", "--run-dir", str(run_dir)) == 130
    out = capsys.readouterr().out
    assert "interrupted: ppo on cartpole" in out and f"continue    puffer-il train --resume {run_dir}" in out
    monkeypatch.setattr(Collector, "collect", collect)
    assert main(["train", "--resume", str(run_dir), "--total-steps", "768"]) == 0
    assert [line["step"] for line in metrics(run_dir)] == [256, 512, 768, 768]
    assert tomllib.loads((run_dir / "config.toml").read_text())["train"]["total_steps"] == 768
    before = (run_dir / "config.toml").read_text()
    assert main(["train", "--resume", str(run_dir), "--ppo.gamma", "0.5"]) == 2
    assert "--total-steps" in capsys.readouterr().err and (run_dir / "config.toml").read_text() == before


def test_a_diverged_run_exits_1(tmp_path, capsys):
    assert train("ppo", "cartpole", "--total-steps", "512", "--run-dir", str(tmp_path / "run"),
                 "--ppo.learning-rate", "1e30", "--ppo.max-grad-norm", "0") == 1
    assert "diverged: ppo on cartpole" in capsys.readouterr().out


def test_a_failing_environment_exits_1_with_its_traceback_and_a_checkpoint(tmp_path, capsys, monkeypatch):
    collect, calls = Collector.collect, []

    def dies(self):
        calls.append(1)
        if len(calls) == 2:
            raise EnvFailure("worker 0 died:\nTraceback of the environment")
        return collect(self)

    monkeypatch.setattr(Collector, "collect", dies)
    assert train("ppo", "cartpole", "--total-steps", "1024", "--run-dir", str(tmp_path / "run")) == 1
    assert "puffer-il: worker 0 died:\nTraceback of the environment" in capsys.readouterr().err
    monkeypatch.setattr(Collector, "collect", collect)
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0


def test_a_disk_that_is_full_from_the_start_is_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch):
    def full(path, state):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    assert train("ppo", "cartpole", "--total-steps", "512", "--run-dir", str(tmp_path / "run")) == 2
    assert "the disk is full" in one_line(capsys)


def test_metrics_that_cannot_be_written_end_no_run_and_are_told_by_the_exit_code(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").symlink_to("/dev/full")
    assert train("ppo", "cartpole", "--total-steps", "512", "--run-dir", str(tmp_path / "run")) == 1
    printed = capsys.readouterr()
    assert printed.out.count("metrics.jsonl cannot be written (No space left on device)") == 1
    assert "metrics.jsonl of" in printed.err and (tmp_path / "run" / "summary.json").is_file()


def test_an_unwritable_run_directory_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train("ppo", "cartpole", "--run-dir", str(tmp_path / "file" / "run")) == 2
    assert "train.run_dir = " in one_line(capsys)


@pytest.mark.parametrize("arguments, words", [
    (["bc", "cartpole", "--demos", "none.npz"], "none.npz"), (["ppo", "cartpol"], "did you mean 'cartpole'?"),
    (["ppo", "cartpole", "--env.kwargs.gravty", "1"], "gravity"),
])
def test_wrong_input_leaves_no_run_directory(tmp_path, capsys, arguments, words):
    assert train(*arguments, "--run-dir", str(tmp_path / "run")) == 2
    assert words in one_line(capsys) and not (tmp_path / "run").exists()


def test_a_second_run_in_the_same_directory_leaves_the_first_alone(finished, capsys):
    before = sorted(finished.rglob("*"))
    assert train("ppo", "cartpole", "--run-dir", str(finished)) == 2
    assert "holds a run" in one_line(capsys) and sorted(finished.rglob("*")) == before


def test_loggers_are_closed_however_a_run_ends(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(PlainLogger, "close", lambda self: closed.append(1))
    monkeypatch.setattr(trainer.Trainer, "iterate", lambda self: 1 / 0)
    assert train("ppo", "cartpole", "--run-dir", str(tmp_path / "run")) == 1
    assert closed == [1]


SUMMARY = {"status": "finished", "algo": "gail", "env": "cartpole", "seed": 1, "env_steps": 1000, "wall_s": 65.0,
           "sps": 312e3, "expert_return": 500.0, "random_return": 22.3, "time_to_expert_s": 4.25,
           "eval": {"episodes": 100, "return_mean": 487.2, "return_std": 8.1, "length_mean": 487.2, "normalized": 0.973,
                    "ci95": [0.95, 0.99]}}


def test_the_result_of_a_run(tmp_path):
    assert command.result(SUMMARY, tmp_path)[1:7] == [
        "finished: gail on cartpole, seed 1",
        "  policy      487.2 ± 8.10, 0.97 of the expert (95% CI 0.95 to 0.99)", "  played      100 episodes",
        "  expert      500.0", "  random      22.3",
        "  time        1:05 since the start, 1,000 steps at 312k/s; expert's level after 4.2 s"]
    kept = SUMMARY | {"best": {"env_steps": 800, "return_mean": 491.0}, "eval_last": SUMMARY["eval"]}
    assert "  kept        the policy of step 800; the last one returns 487.2" in command.result(kept, tmp_path)
    unknown = dict.fromkeys(("eval", "sps", "time_to_expert_s", "expert_return"))
    early = SUMMARY | {"status": "interrupted"} | unknown
    assert command.result(early, tmp_path)[1:5] == [
        "interrupted: gail on cartpole, seed 1", "  policy      not evaluated", "  random      22.3",
        "  time        1:05 since the start, 1,000 steps"]


def test_the_result_is_wrapped_between_words_and_what_is_copied_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(command.parser, "terminal_width", lambda: 60)
    cause = "an observation is nan in column 0, after step 24 of the rollout, in row 0"
    run_dir = tmp_path / ("x" * 60)
    told = "\n".join(command.result(SUMMARY | {"status": "diverged", "cause": cause}, run_dir))
    words, copied = told.split("  run  ")
    copied, last = copied.split("\n  cause  ")
    assert max(map(len, words.splitlines())) <= 60 >= max(map(len, last.splitlines()))
    assert " ".join(last.split()) == cause, "which is the last that is read"
    assert f"  continue    puffer-il train --resume {run_dir}" in copied.splitlines()


def hint(capsys) -> list[list[str]]:
    """The commands that the refusal of a run without demonstrations names."""
    return [words.split()[1:] for words in one_line(capsys).partition("record an expert first: ")[2].split(" && ")]


def test_without_demonstrations_a_command_that_records_the_script_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train("gail", "tron") == 2
    record, = hint(capsys)
    assert record == ["demos", "collect", "tron", "--expert", "--episodes", "20", "--out", "tron.npz"]
    assert main(record) == 0
    assert train("bc", "tron", "--demos", "tron.npz", "--total-steps", "512", "--run-dir", "run") == 0


def test_without_a_script_the_expert_is_first_trained_on_the_reward(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train("bc", "gymnasium:CartPole-v1") == 2
    learn, record = hint(capsys)
    assert learn == ["train", "ppo", "gymnasium:CartPole-v1", "--run-dir", "runs/gymnasium-CartPole-v1-ppo"]
    assert train(*learn[1:], "--total-steps", "512") == 0 and main(record) == 0
    file = record[-1]
    assert train("bc", "gymnasium:CartPole-v1", "--demos", file, "--total-steps", "512", "--run-dir", "run") == 0


def test_a_gymnasium_id_is_trained_on_its_c_environment_and_every_command_agrees(tmp_path, capsys):
    run_dir = str(tmp_path / "run")
    assert train("gail", "CartPole-v1", "--total-steps", "256", "--run-dir", run_dir, "--gail.disc-batch-size",
                 "64") == 0
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "CartPole-v1 is the C environment 'cartpole'" in captured.err
    assert "gail on cartpole" in captured.out and "envs native" in captured.out
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["env"]["name"] == "cartpole"
    assert main(["eval", run_dir, "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
    assert main(["train", "--resume", run_dir, "--total-steps", "512"]) == 0
    for command_ in (["env", "play"], ["demos", "collect"]):
        extra = ["--episodes", "1", *(["--out", str(tmp_path / "d.npz")] if "collect" in command_ else [])]
        assert main([*command_, "CartPole-v1", "--policy", run_dir, *extra]) == 0
        assert "CartPole-v1 is the C environment 'cartpole'" in capsys.readouterr().err


def test_a_module_is_found_in_the_current_folder_and_otherwise_said_where_it_was_sought(tmp_path, monkeypatch, capsys):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a_task_of_mine.py").write_text(
        "from gymnasium.envs.classic_control import CartPoleEnv as make\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    words = ("ppo", "a_task_of_mine:make", "--env.backend", "serial", "--total-steps", "256", "--run-dir", "run")
    assert train(*words) == 2
    assert (f"no module 'a_task_of_mine' is in the current folder ({tmp_path}) or on Python's path; go to the folder "
            "that holds it, or name that folder in PYTHONPATH") in one_line(capsys)
    monkeypatch.chdir(tmp_path / "code")
    assert train(*words) == 0


def test_something_is_said_before_torch_is_imported():
    script = ("import sys; sys.stdout.isatty = lambda: True; import puffer_il.cli as cli\n"
              "class NoTorch:\n"
              "    def find_spec(self, name, path=None, target=None):\n"
              "        if name == 'torch': sys.exit(7)\n"
              "sys.meta_path.insert(0, NoTorch())\n"
              "sys.exit(cli.main(['train', 'gail', 'cartpole']))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "gail on cartpole …\n", "")


def test_a_closed_pipe_ends_a_run_with_a_word_and_a_checkpoint(tmp_path, capsys, monkeypatch):
    def closed(self, step, metrics):
        raise BrokenPipeError

    monkeypatch.setattr(PlainLogger, "log", closed)
    monkeypatch.setattr(parser, "no_output", lambda: None)
    assert train("ppo", "cartpole", "--total-steps", "512", "--run-dir", str(tmp_path / "run")) == 130
    assert f"puffer-il train --resume {tmp_path / 'run'}\n" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step_000000000256.pt"]


def test_a_command_works_without_standard_output():
    """As daemons run it; nor may a file get its number."""
    command = f"{sys.executable} -m puffer_il --version >&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_goes_on_from_another_working_folder_and_after_it_was_moved(tmp_path, capsys, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    scripted_cartpole_demos(here / "d.npz")
    monkeypatch.chdir(here)
    assert train("bc", "cartpole", "--demos", "d.npz", "--total-steps", "512", "--run-dir", "run") == 0
    (here / "run").rename(there / "run")
    monkeypatch.chdir(there)
    assert main(["train", "--resume", "run", "--total-steps", "1024"]) == 0
    assert json.loads((there / "run" / "summary.json").read_text())["env_steps"] >= 1024


def test_words_that_stand_for_no_path_stay_although_a_folder_has_their_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shipped").mkdir()
    (tmp_path / "script").mkdir()
    config = resolve("dagger", "cartpole", [("test", {"demos": {"source": "shipped"}, "dagger": {"expert": "script"}})])
    assert (config.demos.source, config.get("dagger.expert")) == ("shipped", "script")
