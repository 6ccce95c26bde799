"""The loop: its summary, its ends, its checkpoints, and that every shared config key does something."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.kernels import _kernels as kernels
from puffer_il.kernels.threads import cores
from puffer_il.learners.experiment import SHARED, replaced
from puffer_il.learners.ppo import PPO
from puffer_il.nn import fused
from puffer_il.nn.fused_policy import FusedPolicy
from puffer_il.rollout.actors import RandomActor
from puffer_il.rollout.collector import Collector
from puffer_il.training import checkpoints, judge
from puffer_il.training.process import choose_device
from tests.support.runs import final_state, run, same_state, scripted_cartpole_demos, tiny


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return scripted_cartpole_demos(tmp_path_factory.mktemp("demos") / "scripted.npz")


def test_summary_is_what_the_design_says(tmp_path, demos):
    recorder = run(tiny("gail", tmp_path / "run", demos__source=str(demos)))
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert written["status"] == "finished" and written["algo"] == "gail" and written["env"] == "cartpole"
    assert written["seed"] == 1 and written["env_steps"] == 1024 and written["device"] == "cpu"
    assert written["demos"] == {"source": str(demos), "episodes": 6, "return_mean": written["expert_return"]}
    assert set(written["eval"]) == {"episodes", "return_mean", "return_std", "length_mean", "normalized", "ci95"}
    assert 15 < written["random_return"] < 35 and 0 < written["train_s"] < written["wall_s"]
    assert written["sps"] == pytest.approx(1024 / written["train_s"])
    assert {"puffer_il", "torch", "numpy", "python"} <= set(written["versions"])
    assert recorder.summary["eval"] == written["eval"]
    assert (tmp_path / "run" / "config.toml").is_file()


def test_stops_at_the_experts_level_if_asked(tmp_path, demos):
    config = tiny("gail", tmp_path / "run", demos__source=str(demos), eval__interval_steps=256,
                  train__total_steps=10**6, train__stop_at_expert=0.01)
    recorder = run(config)
    assert recorder.summary["status"] == "finished" and recorder.summary["env_steps"] < 10**5


def test_one_lucky_evaluation_does_not_stop_a_run(tmp_path, demos, monkeypatch):
    played = judge.evaluate

    def lucky(vec, actor, episodes, seed, *rest):
        scores, luck = played(vec, actor, episodes, seed, *rest), not isinstance(actor, RandomActor)
        return dataclasses.replace(scores, returns=scores.returns + 10**6 * (luck and seed == judge.EVAL_SEED))

    monkeypatch.setattr(judge, "evaluate", lucky)
    summary = run(tiny("gail", tmp_path / "run", demos__source=str(demos), eval__interval_steps=256, train__seed=0,
                       train__total_steps=1024, train__stop_at_expert=100.0)).summary
    assert summary["best"]["return_mean"] < 10**5 and summary["env_steps"] == 1024


def test_the_result_is_scored_on_episodes_that_did_not_decide_when_to_stop(tmp_path, demos, monkeypatch):
    starts = []

    def noting(inner):
        def noted(vec, actor, episodes, seed, *rest):
            starts.append(vec.reset(seed).copy())
            return inner(vec, actor, episodes, seed, *rest)

        return noted

    monkeypatch.setattr(judge, "evaluate", noting(judge.evaluate))
    run(tiny("ppo", tmp_path / "run", eval__interval_steps=256))
    random, *rest = starts
    between, last, choice = rest[:3], rest[3], rest[4:8]  # the last policy, then it and the three before
    assert all(np.array_equal(between[0], other) for other in between)
    assert all(np.array_equal(choice[0], other) for other in choice)
    assert not np.isin(last, between[0]).any() and not np.isin(last, random).any()
    assert not np.isin(choice[0], [*between[0], *last]).any()
    assert all(np.array_equal(last, other) for other in rest[8:]) and len(rest) > 8


def test_time_to_expert_counts_from_the_first_evaluation_at_that_level(tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "EXPERT_LEVEL", -10.0)  # any policy passes at once
    demos = scripted_cartpole_demos(tmp_path / "d.npz")
    recorder = run(tiny("gail", tmp_path / "run", demos__source=str(demos), eval__interval_steps=256))
    first = next(m for m in recorder.metrics if "eval/return_mean" in m)
    assert 0 < recorder.summary["time_to_expert_s"] <= first["wall_s"]


def test_divergence_is_said_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    update = PPO.update

    def broken(self, buffer, progress):
        metrics = update(self, buffer, progress)
        return metrics | ({"losses/policy": float("nan")} if progress >= 0.5 else {})

    monkeypatch.setattr(PPO, "update", broken)
    recorder = run(tiny("ppo", tmp_path / "run", train__checkpoint_steps=256))
    assert recorder.summary["status"] == "diverged"
    assert final_state(tmp_path / "run")["env_steps"] == 512


def test_a_dead_environment_leaves_a_checkpoint(tmp_path, monkeypatch):
    collect = Collector.collect

    def dies(self):
        if self.vec.num_envs and len(deaths := getattr(self, "deaths", [])) == 2:
            raise EnvFailure("worker 0 was killed by SIGKILL")
        self.deaths = [*deaths, 1]
        return collect(self)

    monkeypatch.setattr(Collector, "collect", dies)
    with pytest.raises(EnvFailure, match="SIGKILL"):
        run(tiny("ppo", tmp_path / "run"))
    assert final_state(tmp_path / "run")["env_steps"] == 512
    monkeypatch.setattr(Collector, "collect", collect)
    assert run(tiny("ppo", tmp_path / "run"), resume=True).summary["env_steps"] == 1024


def test_kill_minus_9_goes_on_from_the_checkpoint(tmp_path):
    command = [sys.executable, "-m", "puffer_il", "train", "ppo", "cartpole", "--run-dir", str(tmp_path / "run"),
               "--total-steps", "100000000", "--train.checkpoint-steps", "20000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "run" / "checkpoints").glob("*[1-9]*.pt")) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    steps = final_state(tmp_path / "run")["env_steps"]
    assert steps >= 16384
    from puffer_il.training.run_dir import load_config

    config = replaced(load_config(tmp_path / "run"), {"train.total_steps": steps + 16384})
    assert run(config, resume=True).summary["env_steps"] == steps + 16384


def test_resuming_a_finished_run_says_what_to_raise(tmp_path):
    run(tiny("ppo", tmp_path / "run"))
    with pytest.raises(InputError, match="--total-steps"):
        run(tiny("ppo", tmp_path / "run"), resume=True)


def test_a_run_directory_is_never_written_twice(tmp_path):
    run(tiny("ppo", tmp_path / "run"))
    with pytest.raises(InputError, match="holds a run"):
        run(tiny("ppo", tmp_path / "run"))


def test_an_unwritable_run_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"train\.run_dir = .* cannot be written"):
        run(tiny("ppo", tmp_path / "file" / "run"))


def test_demonstrations_are_asked_for(tmp_path):
    with pytest.raises(InputError, match="--demos"):
        run(tiny("gail", tmp_path / "run"))


def test_cuda_is_refused_where_there_is_none(tmp_path):
    if torch.cuda.is_available():
        assert choose_device("auto").type == "cuda"
    else:
        with pytest.raises(InputError, match=r"train\.device = 'cuda'"):
            run(tiny("ppo", tmp_path / "run", train__device="cuda"))


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_policies_with_a_memory_train_and_resume(tmp_path, memory):
    keys = {f"policy__{memory}": 8}
    run(tiny("ppo", tmp_path / "whole", **keys))
    run(tiny("ppo", tmp_path / "cut", **keys), interrupt_after=2)
    run(tiny("ppo", tmp_path / "cut", **keys), resume=True)
    assert same_state(final_state(tmp_path / "whole")["policy"], final_state(tmp_path / "cut")["policy"])


def test_workers_resume_exactly_too(tmp_path):
    workers = {"env__backend": "multiprocessing", "env__num_workers": 2, "env__num_groups": 2}
    run(tiny("ppo", tmp_path / "whole", **workers))
    run(tiny("ppo", tmp_path / "cut", **workers), interrupt_after=2)
    run(tiny("ppo", tmp_path / "cut", **workers), resume=True)
    assert same_state(final_state(tmp_path / "whole")["policy"], final_state(tmp_path / "cut")["policy"])


@pytest.mark.parametrize("name", ["pendulum", "gymnasium:Pendulum-v1"])
def test_a_run_that_goes_on_with_other_parameters_has_them(tmp_path, name, monkeypatch):
    """A saved state holds the parameters too, and would bring the earlier ones back without a word."""
    def begun(folder, **more):
        return run(tiny("ppo", tmp_path / folder, env__name=name, **more), interrupt_after=1).summary["random_return"]

    first = begun("run", env__kwargs={"g": 10.0})
    weightless = begun("other", env__kwargs={"g": 0.0})
    told = []
    monkeypatch.setattr("puffer_il.training.trainer.Trainer.message", lambda self, text: told.append(text))
    resumed = run(tiny("ppo", tmp_path / "run", env__name=name, env__kwargs={"g": 0.0}), resume=True)
    assert "the environments begin new episodes, as their state cannot be put back (env.kwargs have changed)" in told
    assert resumed.summary["random_return"] == weightless != first


def test_subsampled_demonstrations_have_no_sequences_for_an_lstm(tmp_path, demos):
    for key, name in (("lstm", "an LSTM"), ("gru", "a GRU")):
        with pytest.raises(InputError, match=rf"demos\.subsample = 3: {name} .*policy\.{key} to 0"):
            run(tiny("bc", tmp_path / key, demos__source=str(demos), demos__subsample=3, **{f"policy__{key}": 4}))


# One check per shared key: two runs that differ in it alone must differ where the key says so.
WEIGHTS = {
    "env.name": "acrobot", "env.num_envs": 16, "env.kwargs": {"gravity": 20.0},
    "policy.hidden": [8], "policy.activation": "relu", "policy.shared": True, "policy.obs_norm": False,
    "policy.lstm": 4, "policy.gru": 4, "train.precision": "bfloat16",
    "train.total_steps": 512, "train.num_steps": 16, "train.seed": 2,
}
CONTINUOUS = {"policy.squash": True, "policy.init_log_std": -1.0, "policy.state_std": True}
IMITATION = {"demos.source": None, "demos.episodes": 2, "demos.subsample": 3, "demos.weighting": "return"}
ELSEWHERE = {
    "env.backend": "test_backend_and_workers_are_chosen", "env.num_workers": "test_backend_and_workers_are_chosen",
    "env.clip_actions": "tests/vector/test_actions.py",
    **dict.fromkeys((f"env.{key}" for key in ("resize", "grey", "stack", "channels")),
                    "tests/training/test_pictures.py"),
    "env.timeout_s": "tests/training/test_hung.py", "env.on_timeout": "tests/training/test_hung.py",
    "env.num_groups": "test_backend_and_workers_are_chosen", "demos.clip_actions": "tests/demos",
    "demos.fields": "tests/demos/test_fields.py", "demos.columns": "tests/demos/formats/test_trained.py",
    "demos.obs_columns": "tests/demos/formats/test_trained.py",
    "demos.temperature": "tests/demos/test_weights.py", "demos.good": "tests/demos/test_good.py",
    "demos.good_share": "tests/demos/test_good.py", "demos.format": "tests/demos/test_kinds.py",
    **dict.fromkeys((f"policy.{key}" for key in ("head", "mixtures", "flow_steps", "chunk", "execute", "ensemble")),
                    "tests/learners/test_bc_heads.py"),
    "train.device": "test_cuda_is_refused_where_there_is_none", "train.threads": "test_threads_are_set",
    "train.torch_threads": "tests/training/test_threads.py",
    "train.compile": "test_a_compiled_loss_learns_the_same",
    "train.cuda_graphs": "tests/learners/common/test_cuda_graphs.py",
    "train.fused": "test_the_kernels_can_be_switched_off", "train.bf16": "tests/training/test_bf16.py",
    "train.result": "tests/training/test_kept.py", "train.policy_memory": "tests/training/test_averaged.py",
    "train.run_dir": "test_a_run_directory_is_never_written_twice",
    "train.checkpoint_minutes": "test_checkpoints_come_by_time_and_by_steps",
    "train.checkpoint_steps": "test_checkpoints_come_by_time_and_by_steps",
    "train.keep_checkpoints": "test_checkpoints_come_by_time_and_by_steps",
    "train.stop_at_expert": "test_stops_at_the_experts_level_if_asked",
    "train.tensorboard": "tests/training/test_loggers.py",
    "train.on_divergence": "tests/training/test_divergence.py",
    "train.max_rollbacks": "tests/training/test_divergence.py", "env.on_nan": "tests/rollout/test_finite.py",
    "eval.interval_steps": "test_evaluations_follow_their_keys", "eval.episodes": "test_evaluations_follow_their_keys",
    "eval.final_episodes": "test_evaluations_follow_their_keys",
    "eval.max_episode_steps": "tests/rollout/test_evaluate.py",
    "eval.deterministic": "test_evaluations_follow_their_keys",
}


def test_every_shared_key_is_checked_somewhere():
    keys = {f"{s}.{f.name}" for s, cls in SHARED.items() for f in dataclasses.fields(cls)}
    assert keys == {*WEIGHTS, *CONTINUOUS, *IMITATION, *ELSEWHERE}
    here = Path(__file__).read_text()
    assert all(where.startswith("tests/") or f"def {where}(" in here for where in ELSEWHERE.values())


@pytest.fixture(scope="module")
def baselines(tmp_path_factory, demos):
    folder = tmp_path_factory.mktemp("baselines")
    run(tiny("ppo", folder / "ppo"))
    run(tiny("ppo", folder / "pendulum", env__name="pendulum"))
    run(tiny("gail", folder / "gail", demos__source=str(demos)))
    return {name: final_state(folder / name)["policy"] for name in ("ppo", "pendulum", "gail")}


@pytest.mark.parametrize("key", WEIGHTS)
def test_key_changes_the_weights(key, tmp_path, baselines):
    run(tiny("ppo", tmp_path / "run", **{key.replace(".", "__"): WEIGHTS[key]}))
    assert not same_state(final_state(tmp_path / "run")["policy"], baselines["ppo"])


@pytest.mark.parametrize("key", CONTINUOUS)
def test_key_changes_a_continuous_policy(key, tmp_path, baselines):
    run(tiny("ppo", tmp_path / "run", env__name="pendulum", **{key.replace(".", "__"): CONTINUOUS[key]}))
    assert not same_state(final_state(tmp_path / "run")["policy"], baselines["pendulum"])


@pytest.mark.parametrize("key", IMITATION)
def test_key_changes_what_is_imitated(key, tmp_path, demos, baselines):
    value = IMITATION[key] or str(scripted_cartpole_demos(tmp_path / "other.npz", seed=50))
    run(tiny("gail", tmp_path / "run", **{"demos__source": str(demos), key.replace(".", "__"): value}))
    assert not same_state(final_state(tmp_path / "run")["policy"], baselines["gail"])


def test_backend_and_workers_are_chosen(tmp_path):
    backend = {}
    for name, overrides in {"native": {}, "workers": {"env__backend": "multiprocessing", "env__num_workers": 2,
                                                      "env__num_groups": 2}}.items():
        recorder = run(tiny("ppo", tmp_path / name, **overrides))
        backend[name] = recorder.info.backend
    assert backend == {"native": "native", "workers": "multiprocessing"}


def test_a_compiled_loss_learns_the_same(tmp_path, monkeypatch):
    whole, compiled = torch.compile, []

    def traced(function, **options):  # without the minutes that generating code takes
        compiled.append(function)
        return whole(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", traced)
    weights = {}
    for on in (False, True):
        run(tiny("ppo", tmp_path / str(on), train__compile=on, train__fused=False, env__num_envs=8,
                 train__total_steps=512))
        weights[on] = final_state(tmp_path / str(on))["policy"]
    assert len(compiled) == 1
    for key, plain in weights[False].items():
        torch.testing.assert_close(weights[True][key], plain, rtol=1e-4, atol=1e-5)


def test_threads_are_set(tmp_path):
    run(tiny("ppo", tmp_path / "run", train__threads=2))
    assert kernels.get_threads() == 2
    run(tiny("ppo", tmp_path / "again", train__threads=0))
    assert kernels.get_threads() == cores()


@pytest.mark.parametrize("algo", ["gail", "bc"])
def test_the_kernels_can_be_switched_off(algo, tmp_path, demos, monkeypatch):
    """Off, nothing goes through them; and what is learned is the same up to rounding."""
    used: list[str] = []
    spied = {"Layers.compute": (fused.Layers, "compute"), "networks": (FusedPolicy, "networks"),
             "moments": (kernels, "moments"), "pairs": (kernels, "pairs"), "clone": (kernels, "clone"),
             "score": (kernels, "score")}
    for name, (owner, attribute) in spied.items():
        inner = getattr(owner, attribute)
        monkeypatch.setattr(owner, attribute,
                            lambda *a, name=name, inner=inner, **k: used.append(name) or inner(*a, **k))
    weights, expected = {}, {"gail": {"Layers.compute", "moments", "networks", "pairs"},
                             "bc": {"clone", "score", "moments", "networks"}}[algo]
    for on in (True, False):
        used.clear()
        run(tiny(algo, tmp_path / str(on), demos__source=str(demos), env__num_envs=16, train__fused=on,
                 train__total_steps=1024))
        assert set(used) == (expected if on else set())
        weights[on] = final_state(tmp_path / str(on))["policy"]
    assert not same_state(weights[True], weights[False])
    for key, ours in weights[True].items():
        torch.testing.assert_close(ours, weights[False][key], rtol=1e-3, atol=1e-3)


def test_checkpoints_come_by_time_and_by_steps(tmp_path, monkeypatch):
    run(tiny("ppo", tmp_path / "steps", train__checkpoint_steps=256, train__keep_checkpoints=3))
    assert len(list((tmp_path / "steps" / "checkpoints").glob("*.pt"))) == 3
    run(tiny("ppo", tmp_path / "seldom", train__checkpoint_minutes=1e-6, train__keep_checkpoints=9))
    assert len(list((tmp_path / "seldom" / "checkpoints").glob("*.pt"))) == 1, "they would take over 1% of the time"
    monkeypatch.setattr(checkpoints, "SHARE", 1e6)
    run(tiny("ppo", tmp_path / "time", train__checkpoint_minutes=1e-6, train__keep_checkpoints=9))
    assert len(list((tmp_path / "time" / "checkpoints").glob("*.pt"))) == 4
    run(tiny("ppo", tmp_path / "none", train__checkpoint_minutes=0))
    assert len(list((tmp_path / "none" / "checkpoints").glob("*.pt"))) == 1


def test_evaluations_follow_their_keys(tmp_path):
    recorder = run(tiny("ppo", tmp_path / "run", eval__interval_steps=512, eval__episodes=4, eval__final_episodes=6))
    assert sum("eval/return_mean" in m for m in recorder.metrics) == 2  # at 512, and the last
    assert recorder.summary["eval"]["episodes"] == 6
    greedy = recorder.summary["eval"]["return_mean"]
    stochastic = run(tiny("ppo", tmp_path / "s", eval__deterministic=False, eval__final_episodes=6))
    assert stochastic.summary["eval"]["return_mean"] != greedy


def test_interrupts_are_handed_back_afterwards(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run(tiny("ppo", tmp_path / "run"), interrupt_after=1)
    assert signal.getsignal(signal.SIGINT) is before
    assert np.isclose(final_state(tmp_path / "run")["env_steps"], 256) and os.getpid()
