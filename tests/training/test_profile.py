"""The profile: where the time went, and which advice follows; by made-up seconds, and once for real."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from time import sleep
from typing import Any

import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.cli.overrides import override
from puffer_il.core import checkpoint
from puffer_il.core.text import FLAG
from puffer_il.learners.experiment import build, section_types
from puffer_il.rollout.collector import Collector
from puffer_il.training.loggers import RunInfo
from puffer_il.training.panels import State
from puffer_il.training.profile import Profile, Timings, advice, rows, title
from tests.support.command_line import SMALL
from tests.support.runs import Recorder, tiny
from tests.support.runs import run as train

RUN = RunInfo(algo="gail", env="cartpole", seed=1, run_dir="runs/x", total_steps=10**6, num_envs=256, backend="native",
              device="cpu", expert_return=500.0, random_return=20.0, demos="none", parameters=1000)


def times(seconds: dict[str, float], algo: str = "gail", rows: int = 256 * 64, in_torch: bool = False,
          tuned: bool = False, run: dict[str, Any] | None = None, **keys: Any) -> Timings:
    """100 s of ten iterations on four cores; what `seconds` leaves is other."""
    tables: dict[str, dict[str, Any]] = {"train": {"num_steps": 64}, "env": {"num_envs": 256}}
    for key, value in keys.items():
        section, name = key.split("__")
        tables.setdefault(section, {})[name] = value
    seconds = seconds | {"other": 100.0 - sum(s for stage, s in seconds.items() if stage not in ("env", "act"))}
    return Timings(build(algo, [("test", tables)]), replace(RUN, algo=algo, **(run or {})), seconds, 100.0, 10, rows, 4,
                 in_torch, tuned)


SERIAL, WORKERS = {"backend": "serial"}, {"backend": "multiprocessing", "num_workers": 2}
ENVS = {"collect": 80.0, "env": 70.0, "act": 5.0}


@pytest.mark.parametrize("given, expected", [
    (times(ENVS, run=SERIAL), ["--env.num-workers 4 steps them in parallel"]),
    (times(ENVS, run=SERIAL | {"num_envs": 6, "num_agents": 2}), ["--env.num-workers 3 "]),
    (times(ENVS | {"act": 20.0, "env": 50.0}, run=WORKERS), ["--env.num-groups 2 "]),
    (times(ENVS, run=WORKERS), ["--env.num-workers 4 uses more cores"]),
    (times(ENVS, run=WORKERS | {"num_workers": 4}), ["an environment in C (csrc/env.h"]),
    (times(ENVS, run=SERIAL, tuned=True), ["an environment in C"]),
    (times({"collect": 50.0}, rows=1024, run={"num_envs": 16}), [
        "--env.num-envs 128 or --train.num-steps 512 spreads them (fewer, larger updates need more samples"]),
    (times({"collect": 60.0, "act": 50.0}, policy__lstm=0), ["--env.num-envs 512 with --train.num-steps 32 "]),
    (times({"update": 60.0}), ["--ppo.update-epochs 5 saves 50% of it, or --policy.shared true "]),
    (times({"update": 60.0}, ppo__update_epochs=3), ["--ppo.update-epochs 1 saves 67% of it"]),
    (times({"update": 60.0}, ppo__update_epochs=1, policy__shared=True, policy__hidden=(256, 128)), [
        "--policy.hidden 128,64 makes the network smaller"]),
    (times({"update": 60.0}, ppo__num_minibatches=64), ["--ppo.num-minibatches 32 makes fewer, larger steps"]),
    (times({"update": 60.0}, algo="bc", run={"num_envs": 0}), ["--bc.batch-size 1024 "]),
    (times({"eval": 40.0}, eval__interval_steps=1000), ["--eval.interval-steps 2000 makes them half as frequent"]),
    (times({"final eval": 40.0}), ["--eval.final-episodes 50 halves it"]),
    (times({"reward": 60.0}), ["--gail.disc-updates 4 halves that; --gail.gp-coef 0 drops the gradient penalty"]),
    (times({"reward": 60.0}, gail__disc_updates=1, gail__gp_coef=0.0), ["no stage stands out; --autotune"]),
    (times({"update": 30.0}, train__fused=False), ["--train.fused true lets the C", "--train.torch-threads 4 "]),
    (times({"update": 30.0}, train__compile=True, train__torch_threads=4), ["--train.compile false "]),
    (times({"update": 30.0}, in_torch=True, policy__hidden=(64,) * 9, train__torch_threads=4),
     ["--policy.hidden 64,64,64,64,64,64,64,64 "]),
    (times({"reward": 30.0}, in_torch=True, gail__disc_hidden=(4096, 64), train__torch_threads=4),
     ["--gail.disc-hidden 2048,64 "]),
    (times({"update": 30.0}, policy__lstm=8), ["no stage stands out"]),
    (times({"update": 30.0}, train__fused=False, run={"device": "cuda"}), ["no stage stands out"]),
    (times({"update": 30.0}, train__threads=1), ["train.threads = 1 of 4 cores: --train.threads 0 "]),
    (times({"update": 30.0}, train__threads=1, tuned=True), ["no stage stands out"]),
    (times({"checkpoint": 30.0}), ["--train.checkpoint-minutes 1 "]),
    (times({"checkpoint": 30.0}, train__checkpoint_steps=500), ["--train.checkpoint-steps 1000 "]),
    (times({"collect": 20.0, "update": 30.0}), ["no stage stands out"]),
], ids=lambda value: value[0][:40] if isinstance(value, list) else "")
def test_advice_follows_from_where_the_time_went(given, expected):
    said = advice(given)
    assert len(said) == len(expected)
    assert all(words in text for words, text in zip(expected, said, strict=True)), said


def test_the_most_valuable_advice_comes_first_and_there_is_never_much_of_it():
    everything = times({"collect": 36.0, "env": 36.0, "update": 42.0, "eval": 21.0}, run=SERIAL, rows=1024,
                       train__fused=False, train__checkpoint_steps=5, eval__interval_steps=10)
    said = advice(everything)
    assert len(said) == 4
    assert [re.findall(FLAG, text)[0] for text in said[:2]] == ["--train.fused true", "--env.num-workers 4"]


def test_every_flag_that_is_advised_is_a_key_of_the_config():
    for given, _ in test_advice_follows_from_where_the_time_went.pytestmark[0].args[1]:
        for flag in re.findall(FLAG, " ".join(advice(given))):
            key, _, value = flag.removeprefix("--").partition(" ")
            if key.partition(".")[0] in section_types(given.config.algo):
                build(given.config.algo, [("command line", override(key, value))])


def profiled(times: list[dict[str, float]], wall: float) -> Profile:
    now = iter([0.0, wall])
    profile = Profile(build("ppo", []), clock=lambda: next(now))
    profile.start(replace(RUN, algo="ppo"))
    for k, time in enumerate(times, 1):
        profile.log(1000 * k, {f"time/{name}": s for name, s in time.items()} | {"env_steps": 1000 * k, "updates": k})
    profile.log(1000 * len(times), {"time/eval": 1.0, "env_steps": 1000 * len(times)})
    profile.finish({})
    return profile


def test_stages_add_up_to_the_wall_time():
    iteration = {"collect": 1.0, "env": 0.6, "act": 0.3, "reward": 0.0, "update": 0.5, "own": 0.25}
    found = profiled([iteration, iteration | {"eval": 0.5, "checkpoint": 0.25}], 6.0).timings()
    assert title(found) == "profile: 2 iterations of 1,000 steps in 6.0 s, 333 steps/s overall"
    assert rows(found) == [
        ("collect", "1,000", "33%"), ("  environments", "600.0", "20%"), ("  policy", "300.0", "10%"),
        ("update", "500.0", "17%"), ("eval", "250.0", "8%"), ("final eval", "500.0", "17%"),
        ("checkpoint", "125.0", "4%"), ("own", "250.0", "8%"), ("other", "375.0", "12%"), ("all", "3,000", "100%")]


def test_a_network_that_torch_computes_is_heard_of():
    profile = profiled([{"update": 1.0}], 1.0)
    profile.message("one notice")
    profile.message("cloning of a flow: torch computes this, which takes long")
    assert not profile.timings().in_torch
    profile.message("9 hidden layers (the kernels cover 1 to 8): torch computes this, which takes long")
    assert profile.timings().in_torch


def test_without_an_iteration_nothing_is_printed(capsys):
    profiled([], 1.0).show()
    assert capsys.readouterr().out == ""


def test_the_general_path_tells_environments_from_policy(tmp_path):
    general = train(tiny("ppo", tmp_path / "general", env__backend="serial", env__name="CartPole-v1"))
    for metrics in general.metrics[:-1]:
        assert min(metrics["time/env"], metrics["time/act"]) > 0
        assert metrics["time/env"] + metrics["time/act"] < metrics["time/collect"]
    in_c = train(tiny("ppo", tmp_path / "native", env__num_envs=32))
    assert not any("time/env" in metrics or "time/act" in metrics for metrics in in_c.metrics)
    assert "time/eval" in in_c.metrics[-1] and "time/collect" not in in_c.metrics[-1]


def test_the_dashboard_does_not_count_the_parts_of_collect_twice():
    state = State(RUN)
    state.add(1, {"time/collect": 1.0, "time/env": 0.6, "time/act": 0.3, "time/update": 1.0})
    assert state.seconds == {"collect": 1.0, "update": 1.0} and not state.latest


def test_checkpoints_are_timed(tmp_path):
    recorder: Recorder = train(tiny("ppo", tmp_path, train__checkpoint_steps=256))
    counted = [metrics.get("time/checkpoint", 0.0) > 0 for metrics in recorder.metrics]
    assert counted == [False, True, True, True, True], "each tells of those since the one before, not of the start's"


def test_the_first_checkpoint_is_none_of_the_time_that_a_profile_tells_of(tmp_path, capsys, monkeypatch):
    save = checkpoint.save

    def slow(*arguments):
        sleep(1.0 if arguments[1] == 0 else 0)
        save(*arguments)

    monkeypatch.setattr(checkpoint, "save", slow)
    assert main(["train", "ppo", "cartpole", *SMALL, "--profile", "--total-steps", "512", "--run-dir",
                 str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out[out.index("profile: "):].splitlines() if line.startswith("  checkpoint")]
    assert float(rows[0][1]) < 1000 / 2  # ms per iteration, of two


def test_a_profile_ends_a_finished_run_and_an_interrupted_one(tmp_path, capsys, monkeypatch):
    arguments = ["train", "ppo", "cartpole", *SMALL, "--profile", "--total-steps", "512", "--run-dir"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    out = capsys.readouterr().out
    assert out.index("profile: 2 iterations of 256 steps") > out.index("continue ")
    collect = Collector.collect

    def interrupted(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return collect(self)

    monkeypatch.setattr(Collector, "collect", interrupted)
    assert main([*arguments, str(tmp_path / "part")]) == 130
    out = capsys.readouterr().out
    lines = out[out.index("profile: 1 iteration of 256 steps"):].splitlines()
    shares = [float(line.split()[-1].rstrip("%")) for line in lines[2:] if line.startswith("  ") and line[2] != " "]
    assert shares[-1] == 100 and np.isclose(sum(shares[:-1]), 100, atol=4)
    assert lines[-1].startswith("- ")
