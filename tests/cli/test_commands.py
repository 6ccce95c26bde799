"""What the commands do, end to end on tiny runs: train, interrupt, resume, evaluate; demos collected and converted."""

from __future__ import annotations

import json
import os
import signal
import sys
import tomllib

import numpy as np
import pytest

from puffer_il.cli import commands, main
from puffer_il.core.errors import EnvFailure
from puffer_il.demos import read_demos, read_meta
from puffer_il.envkit.actors import same_environment
from puffer_il.native.catalogue import env_folders
from puffer_il.rollout.collector import Collector
from puffer_il.training import trainer
from puffer_il.training.loggers import PlainLogger
from tests.support.runs import scripted_cartpole_demos
from tests.training.test_loggers import lines

SMALL = ["--env.num-envs", "8", "--train.num-steps", "32", "--train.threads", "1", "--policy.hidden", "16,16",
         "--eval.interval-steps", "0", "--eval.final-episodes", "3"]


def train(*arguments: str) -> int:
    return main(["train", *arguments, *SMALL])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of PPO on CartPole, to its end."""
    run_dir = tmp_path_factory.mktemp("runs") / "ppo"
    assert train("ppo", "cartpole", "--total-steps", "512", "--run-dir", str(run_dir)) == 0
    return run_dir


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return scripted_cartpole_demos(tmp_path_factory.mktemp("demos") / "scripted.npz")


def test_train_leaves_a_whole_run_directory_and_says_what_next(tmp_path, capsys):
    run_dir = tmp_path / "a run"
    assert train("ppo", "cartpole", "--total-steps", "512", "--run-dir", str(run_dir), "--seed", "3") == 0
    out = capsys.readouterr().out
    assert out.startswith("ppo on cartpole · seed 3 · cpu · 8 envs native")
    tail = out[out.index("finished: ppo on cartpole, seed 3"):].splitlines()
    assert [line.split()[0] for line in tail[1:]] == ["policy", "played", "random", "time", "run", "evaluate", "train"]
    assert "3 episodes" in tail[2] and f"puffer-il eval '{run_dir}'" in tail[6]
    assert f"puffer-il train --resume '{run_dir}' --total-steps 1024" in tail[7]
    config = tomllib.loads((run_dir / "config.toml").read_text())
    assert (config["algo"], config["train"]["seed"], config["policy"]["hidden"]) == ("ppo", 3, [16, 16])
    steps = [line["step"] for line in lines(run_dir)]
    assert steps == [256, 512, 512] and "eval/return_mean" in lines(run_dir)[-1]
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
    assert "interrupted: ppo on cartpole" in out and f"go on       puffer-il train --resume {run_dir}" in out
    monkeypatch.setattr(Collector, "collect", collect)
    assert main(["train", "--resume", str(run_dir), "--total-steps", "768"]) == 0
    assert [line["step"] for line in lines(run_dir)] == [256, 512, 768, 768]
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


def one_line(capsys) -> str:
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("puffer-il: error: ")
    return err


def test_a_full_disk_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").symlink_to("/dev/full")
    assert train("ppo", "cartpole", "--total-steps", "512", "--run-dir", str(tmp_path / "run")) == 2
    assert "the disk is full" in one_line(capsys)


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
    assert "holds a run already" in one_line(capsys) and sorted(finished.rglob("*")) == before


def test_loggers_are_closed_however_a_run_ends(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(PlainLogger, "close", lambda self: closed.append(1))
    monkeypatch.setattr(trainer, "train", lambda *args, **kwargs: 1 / 0)
    assert train("ppo", "cartpole", "--run-dir", str(tmp_path / "run")) == 1
    assert closed == [1]


@pytest.mark.parametrize("tty, term, width, dashboard", [
    (True, "xterm-256color", 80, True), (True, "dumb", 80, False), (True, "xterm", 40, False),
    (False, "xterm", 80, False)])
def test_the_dashboard_is_for_terminals_that_can_show_it(monkeypatch, tty, term, width, dashboard):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: tty, raising=False)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", str(width))
    assert (type(commands.terminal_logger()).__name__ == "Dashboard") == dashboard


def test_eval_prints_lines_or_json(finished, capsys):
    assert main(["eval", str(finished), "--episodes", "4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{finished}, after 512 steps\n  policy      ")
    assert "4 episodes" in out and "\n  random " in out
    assert main(["eval", str(finished), "--episodes", "4", "--json"]) == 0
    played = json.loads(capsys.readouterr().out)
    assert played["episodes"] == 4 and played["normalized"] is None and played["random_return"] > 0
    assert f"{played['return_mean']:.1f}" in out or f"{played['return_mean']:.2f}" in out
    assert main(["eval", str(finished), "--episodes", "4", "--seed", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["return_mean"] != played["return_mean"]


def collect(*arguments) -> int:
    return main(["demos", "collect", *map(str, arguments)])


def test_demos_are_collected_from_a_run(tmp_path, finished, capsys):
    out = tmp_path / "new" / "d.npz"
    assert collect("cartpole", "--policy", finished, "--episodes", 3, "--out", out) == 0
    demos = read_demos(out)
    assert demos.num_episodes == 3
    assert f"{out}: 3 episodes, {len(demos)} transitions, mean return" in capsys.readouterr().out
    command = f"puffer-il demos collect cartpole --policy {finished} --episodes 3 --out {out}"
    assert (read_meta(out)["env"], read_meta(out)["collected"]) == ("cartpole", command)
    assert collect("cartpole", "--policy", finished, "--episodes", 3, "--out", tmp_path / "s.npz", "--stochastic") == 0
    assert len(read_demos(tmp_path / "s.npz")) != len(demos)
    assert collect("CartPole-v1", "--policy", finished, "--episodes", 2, "--out", tmp_path / "g.npz") == 0
    assert read_demos(tmp_path / "g.npz").num_episodes == 2


def test_a_runs_own_parameters_are_kept_when_collecting(tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert train("ppo", "cartpole", "--total-steps", "256", "--run-dir", str(run_dir),
                 "--env.kwargs.max-episode-steps", "3") == 0
    assert collect("cartpole", "--policy", run_dir, "--episodes", 2, "--out", tmp_path / "d.npz") == 0
    assert read_demos(tmp_path / "d.npz").lengths.tolist() == [3, 3]


def test_given_parameters_go_over_those_of_the_run(tmp_path, finished):
    out = tmp_path / "d.npz"
    assert collect("cartpole", "--policy", finished, "--episodes", 2, "--out", out,
                   "--env.kwargs.max-episode-steps", "4") == 0
    assert read_demos(out).lengths.tolist() == [4, 4]


def test_an_environment_is_the_same_however_it_is_written():
    folder = env_folders()["cartpole"]
    assert same_environment("cartpole", str(folder)) and same_environment(f"{folder}/", "cartpole")
    assert not same_environment("cartpole", "CartPole-v1") and not same_environment("cartpole", "gone")


def test_demos_are_collected_from_scripted_experts(tmp_path, capsys):
    assert collect("cartpole", "--expert", "--episodes", 3, "--out", tmp_path / "a.npz") == 0
    assert read_demos(tmp_path / "a.npz").returns.tolist() == [500.0] * 3
    assert "mean return 500.0" in capsys.readouterr().out
    assert collect("tron", "--expert", "--episodes", 2, "--out", tmp_path / "b.npz", "--seed", 1) == 0
    assert read_demos(tmp_path / "b.npz").num_episodes == 2  # of two agents


def test_random_demos_depend_on_the_seed_alone(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert collect("pendulum", "--random", "--episodes", 2, "--out", tmp_path / name, "--seed", seed) == 0
    a, b, c = (read_demos(tmp_path / name) for name in "abc")
    assert np.array_equal(a.actions, b.actions) and np.array_equal(a.obs, b.obs)
    assert a.actions.std() > 0.8 and not np.array_equal(a.obs, c.obs)


def test_demos_are_collected_from_other_peoples_experts(tmp_path, test_data):
    expert = test_data / "gail_paper_experts" / "classic_CartPole.npz"
    assert collect("cartpole", "--policy", expert, "--episodes", 2, "--out", tmp_path / "d.npz") == 0
    assert read_demos(tmp_path / "d.npz").returns.mean() > 450


def test_a_policy_of_another_environment_is_refused(tmp_path, finished, capsys):
    assert collect("acrobot", "--policy", finished, "--episodes", 1, "--out", tmp_path / "d.npz") == 2
    assert "a policy for cartpole" in one_line(capsys) and not (tmp_path / "d.npz").exists()


def test_demos_info(demos, capsys):
    assert main(["demos", "info", str(demos)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == str(demos) and out[1].split()[:2] == ["episodes", "6:"]
    assert [line.split()[0] for line in out[2:7]] == ["transitions", "returns", "obs", "actions", "states"]
    assert "4 numbers each, so that episodes can begin in them" in out[6]
    assert main(["demos", "info", str(demos), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["episodes"] == 6 and facts["states"]["shape"] == [4] and facts["weights"] is None


def test_demonstrations_without_actions(demos, finished, tmp_path, capsys):
    bare = str(tmp_path / "bare.npz")
    assert main(["demos", "import", str(demos), bare, "--no-actions", "--env", "cartpole"]) == 0
    assert main(["demos", "info", bare]) == 0
    assert "actions     none stored: observations alone" in capsys.readouterr().out
    assert main(["demos", "check", bare, "--env", "cartpole"]) == 0
    assert "no actions are stored" in capsys.readouterr().out
    assert train("bc", "cartpole", "--demos", bare, "--run-dir", str(tmp_path / "run")) == 2
    refused = capsys.readouterr().err
    assert refused.count("\n") == 1 and f"demos {bare}: no actions are stored and bc learns from them" in refused
    assert main(["eval", str(finished), "--episodes", "1", "--demos", bare]) == 2
    assert "no actions are stored, so none can be likely" in capsys.readouterr().err


def test_demos_check_tells_doubts_from_what_does_not_fit(demos, tmp_path, capsys):
    assert main(["demos", "check", str(demos), "--env", "cartpole"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{demos}: ")
    assert main(["demos", "check", str(demos), "--env", "acrobot"]) == 2
    assert "observations have shape (4,) but acrobot has (6,)" in capsys.readouterr().err
    assert collect("cartpole", "--random", "--episodes", 2, "--out", tmp_path / "short.npz") == 0
    arrays = dict(np.load(tmp_path / "short.npz"))
    arrays["actions"][:] = 0
    np.savez(tmp_path / "idle.npz", **arrays)
    capsys.readouterr()
    assert main(["demos", "check", str(tmp_path / "idle.npz")]) == 0
    out = capsys.readouterr().out
    assert "look: 1 of 1 action columns never change" in out and out.splitlines()[-1].endswith("usable")


def test_demos_go_to_imitation_and_back(demos, tmp_path, capsys):
    there, back = tmp_path / "there.npz", tmp_path / "back.npz"
    assert main(["demos", "export", str(demos), str(there)]) == 0
    assert main(["demos", "import", str(there), str(back), "--env", "cartpole", "--time-limit", "60"]) == 0
    ours, again = read_demos(demos), read_demos(back)
    for name in ("obs", "actions", "next_obs", "rewards", "episode_starts"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(again, name))
    assert read_meta(back)["env"] == "cartpole" and "demos import" in read_meta(back)["collected"]
    assert main(["demos", "import", str(there), str(tmp_path / "x.npz"), "--env", "acrobot"]) == 2
    assert not (tmp_path / "x.npz").exists()


def test_minari_needs_to_know_the_environment(demos, capsys):
    assert main(["demos", "export", str(demos), "minari:own/cartpole-v0"]) == 2
    assert "give --env ENV" in one_line(capsys)


def test_demos_go_to_minari_and_back(demos, tmp_path, monkeypatch, capsys):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert main(["demos", "export", str(demos), "minari:own/cartpole-v0", "--env", "cartpole"]) == 0
    assert capsys.readouterr().out.startswith("minari:own/cartpole-v0: 6 episodes")
    assert main(["demos", "import", "minari:own/cartpole-v0", str(tmp_path / "back.npz")]) == 0
    np.testing.assert_array_equal(read_demos(demos).obs, read_demos(tmp_path / "back.npz").obs)


def test_env_list_describes_what_there_is(capsys):
    assert main(["env", "list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "float32 4" in rows["cartpole"] and "2 choices" in rows["cartpole"] and "float32 1" in rows["pendulum"]
    assert "expert picture" in rows["cartpole"] and all(len(row) <= 120 for row in rows.values())


SUMMARY = {"status": "finished", "algo": "gail", "env": "cartpole", "seed": 1, "env_steps": 1000, "wall_s": 65.0,
           "sps": 312e3, "expert_return": 500.0, "random_return": 22.3, "time_to_expert_s": 4.25,
           "eval": {"episodes": 100, "return_mean": 487.2, "return_std": 8.1, "length_mean": 487.2, "normalized": 0.973,
                    "ci95": [0.95, 0.99]}}


def test_the_result_of_a_run(tmp_path):
    assert commands.result(SUMMARY, tmp_path)[1:7] == [
        "finished: gail on cartpole, seed 1",
        "  policy      487.2 ± 8.10, 0.97 of the expert (95% CI 0.95 to 0.99)", "  played      100 episodes",
        "  expert      500.0", "  random      22.3",
        "  time        1:05, 1,000 steps at 312k/s; at the expert's level after 4.2 s"]
    unknown = dict.fromkeys(("eval", "sps", "time_to_expert_s", "expert_return"))
    early = SUMMARY | {"status": "interrupted"} | unknown
    assert commands.result(early, tmp_path)[1:5] == [
        "interrupted: gail on cartpole, seed 1", "  policy      not evaluated", "  random      22.3",
        "  time        1:05, 1,000 steps"]
