"""Autotuning: which settings are measured and taken, by made-up costs; and once for real."""

from __future__ import annotations

import math
import time
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from puffer_il.cli import main
from puffer_il.core.config import Config
from puffer_il.core.errors import EnvFailure
from puffer_il.learners.experiment import build
from puffer_il.training.tune.probe import time_limit
from puffer_il.training.tune.report import report
from puffer_il.training.tune.search import Cost, Machine, TimeUp, Tuner, changes, flags
from tests.support.command_line import SMALL, one_line
from tests.support.runs import final_state, same_state


def experiment(algo: str = "ppo", **keys: Any) -> Config:
    tables: dict[str, dict[str, Any]] = {"env": {"name": "cartpole", "num_envs": 256},
                                         "train": {"num_steps": 64, "total_steps": 10**9}}
    if algo != "bc":
        tables["ppo"] = {"num_minibatches": 8}
    for key, value in keys.items():
        section, name = key.split("__")
        tables.setdefault(section, {})[name] = value
    return build(algo, [("test", tables)])


def tuner(seconds: Callable[[Config], float], config: Config | None = None, given: set[str] | None = None,
          cores: int = 4, python: bool = False, budget: float = math.inf, **more: Any) -> Tuner:
    """A search on made-up seconds per iteration, by a clock that runs no further than they do."""
    now = [0.0]

    def measure(config: Config, limit: float) -> Cost:
        rows, took = config.env.num_envs * config.train.num_steps, seconds(config)
        now[0] += min(took, limit)
        if took > limit:
            raise TimeUp
        return Cost(rows, took, took)

    machine = Machine(cores, python, **more)
    return Tuner(config or experiment(), given or set(), machine, measure, budget, clock=lambda: now[0])


def linear(config: Config) -> float:
    return 1e-6 * config.env.num_envs * config.train.num_steps


def fixed(seconds: float) -> Callable[[Config], float]:
    """A fixed cost on top of a microsecond per row."""
    return lambda config: seconds + linear(config)


def tried(search: Tuner, key: str) -> list[Any]:
    section, name = key.split(".")
    return list(dict.fromkeys(getattr(getattr(trial.config, section), name) for trial in search.trials))


def test_what_makes_no_difference_stays_as_it_is():
    search = tuner(linear, given={"ppo.num_minibatches"})
    assert search.run() == search.config
    assert tried(search, "train.threads") == [0, 1, 2, 4] and tried(search, "env.num_envs") == [256, 512]


@pytest.mark.parametrize("best", [1, 2, 4])
def test_the_fastest_number_of_threads_is_taken(best):
    chosen = tuner(lambda config: linear(config) * (1 if config.train.threads == best else 1.2)).run()
    assert chosen.train.threads == best


def test_larger_work_is_not_measured_with_fewer_threads_than_suited_smaller_work():
    search = tuner(lambda config: fixed(0.1)(config) * (1 if config.train.threads == 2 else 1.2))
    assert search.run().train.threads == 2
    assert {trial.config.train.threads for trial in search.trials if trial.config.env.num_envs > 256} == {0, 2, 4}


def test_environments_grow_while_that_pays_and_the_fewest_that_do_are_taken():
    search = tuner(fixed(0.05))  # n rows: n / (50,000 + n) million steps/s, 0.84 at 4,096 × 64, 0.91 at twice
    assert search.run().env.num_envs == 4096
    assert tried(search, "env.num_envs") == [256, 512, 1024, 2048, 4096, 8192]


def test_minibatches_keep_their_size_when_environments_grow():
    search = tuner(fixed(0.05), given={"train.threads"})
    search.begin = 0.0
    search.sizes(search.config)
    assert [(t.config.env.num_envs, t.config.ppo.num_minibatches) for t in search.trials[:3]] == [
        (256, 8), (512, 16), (1024, 32)]
    given = tuner(fixed(0.05), given={"ppo.num_minibatches"})
    given.run()
    assert tried(given, "ppo.num_minibatches") == [8]


@pytest.mark.parametrize("cost, count", [(0.0, 16), (0.01, 16), (0.03, 8), (0.2, 4)])
def test_the_most_minibatches_that_cost_little_are_taken(cost, count):
    search = tuner(lambda config: 1 + cost * config.ppo.num_minibatches, given={"env.num_envs", "train.threads"})
    assert search.run().ppo.num_minibatches == count
    assert tried(search, "ppo.num_minibatches") == [8, 4, 16]


@pytest.mark.parametrize("keys, budget, remark", [
    ({"train__total_steps": 20 * 512 * 64}, math.inf, "1,024 environments would leave fewer than 20 iterations"),
    ({}, 30.0, "512 environments would take longer to measure than there is time"),
    ({"env__num_envs": 8192}, math.inf, "32,768 environments are more than autotune considers"),
    ({"env__num_envs": 2}, math.inf, "256 environments are more than autotune considers"),
])
def test_environments_that_cannot_be_are_not_tried(keys, budget, remark):
    search = tuner(lambda config: 8.0, experiment(**keys), {"train.threads"}, budget=budget)
    search.run()
    assert len(search.remarks) == 1 and search.remarks[0].startswith(f"not tried: {remark}")


def test_luck_is_not_taken_for_speed():
    calls: list[int] = []

    def lucky(config: Config) -> float:
        calls.append(config.train.threads)
        return linear(config) * (0.5 if config.train.threads == 4 and calls.count(4) == 1 else
                                 2 if config.train.threads == 4 else 1)

    search = tuner(lucky, given={"env.num_envs", "ppo.num_minibatches"})
    assert search.run() == search.config
    assert search.remarks == ["--train.threads 4 looked best, but not when measured again"]


def test_memory_is_not_filled():
    search = tuner(fixed(1e6), memory=1e9)
    search.measure = lambda config, limit: Cost(config.env.num_envs, 1.0, 1.0, 1e6 * config.env.num_envs)
    assert search.run().env.num_envs == 256
    assert search.remarks == ["not tried: 512 environments would take more than half of the free memory"]


def python_costs(per_step: float, travel: float) -> Callable[[Config], float]:
    def seconds(config: Config) -> float:
        env = config.env
        work = config.train.num_steps * env.num_envs * per_step / max(1, env.num_workers)
        return work + config.train.num_steps * travel * (env.num_workers > 0) * max(1, env.num_groups)
    return seconds


@pytest.mark.parametrize("per_step, travel, expected", [
    (1e-6, 1e-3, ("serial", 0, 0)), (1e-4, 1e-5, ("multiprocessing", 4, 1)), (1e-4, -1e-5, ("multiprocessing", 4, 2))])
def test_python_environments_are_stepped_where_they_are_fastest(per_step, travel, expected):
    env = tuner(python_costs(per_step, travel), python=True).run().env
    assert (env.backend, env.num_workers, env.num_groups) == expected


def test_workers_divide_the_environments_and_short_rollouts_tell():
    search = tuner(python_costs(1e-4, 1e-5), experiment(env__num_envs=36), python=True, cores=9)
    assert search.run().env.num_workers == 9
    assert tried(search, "env.num_workers") == [0, 2, 4, 9]
    assert all(trial.config.train.num_steps == (8 if trial.collecting else 64) for trial in search.trials)
    multi = tuner(python_costs(1e-4, 1e-5), experiment(env__num_envs=36), python=True, cores=9, agents=6)
    multi.run()
    assert tried(multi, "env.num_workers") == [0, 2, 6]


def test_more_workers_are_not_tried_once_they_have_stopped_to_pay():
    search = tuner(python_costs(1e-6, 1e-3), python=True, cores=64)
    search.run()
    assert tried(search, "env.num_workers") == [0, 2, 4]


@pytest.mark.parametrize("given, keys, allowed", [
    ({"env.backend"}, {"env__backend": "serial"}, {("serial", 0, 0)}),
    ({"env.num_workers"}, {"env__num_workers": 2}, {("multiprocessing", 2, 1), ("multiprocessing", 2, 2)}),
    ({"env.num_groups"}, {"env__num_groups": 2}, {("multiprocessing", 2, 2), ("multiprocessing", 4, 2)}),
])
def test_what_was_given_of_the_stepping_stays(given, keys, allowed):
    search = tuner(python_costs(1e-4, 1e-5), experiment(**keys), given, python=True)
    search.run()
    assert {(t.config.env.backend, t.config.env.num_workers, t.config.env.num_groups) for t in search.trials} <= allowed


@pytest.mark.parametrize("key", ["env.num_envs", "train.threads", "ppo.num_minibatches"])
def test_given_keys_are_never_changed_and_the_report_says_so(key):
    search = tuner(lambda config: fixed(0.05)(config) / (1 + config.train.threads), given={key})
    chosen = search.run()
    assert key not in changes(search.config, chosen) and len(tried(search, key)) == 1
    assert any(remark.startswith(f"kept as you gave it: {key} = ") for remark in report(search, chosen, 1.0).notes)


def test_cloning_tunes_threads_alone():
    search = tuner(lambda config: 1 / (1 + config.train.threads), experiment("bc"))
    assert changes(search.config, search.run()) == {"train.threads": 4}
    assert tried(search, "env.num_envs") == [256]


def failing(error: Exception, when: Callable[[Config], bool]) -> Callable[[Config], float]:
    def seconds(config: Config) -> float:
        if when(config):
            raise error
        return linear(config)
    return seconds


def test_a_setting_that_fails_is_dropped_and_told():
    broken = failing(EnvFailure("worker 0 died:\nTraceback\nOSError: no display"), lambda c: c.env.num_workers > 0)
    search = tuner(broken, python=True)
    chosen = search.run()
    assert chosen.env.backend == "serial"
    lines = report(search, chosen, 1.0).lines()
    assert any(line.startswith("- processes 2 workers") and line.endswith("OSError: no display") for line in lines)


def test_if_nothing_works_the_first_error_is_raised():
    with pytest.raises(EnvFailure, match="broken"):
        tuner(failing(EnvFailure("broken"), lambda config: True), python=True).run()


def test_what_takes_too_long_is_left_and_the_budget_holds():
    search = tuner(lambda config: 100.0, python=True, budget=10.0)
    chosen = search.run()
    assert chosen == search.config and search.clock() <= 10
    assert "nothing could be measured in time" in " ".join(report(search, chosen, 10.0).notes)
    with pytest.raises(TimeUp), time_limit(0.05):
        time.sleep(5)
    time.sleep(0.1)  # no timer is left


def test_the_report_marks_what_was_taken_and_says_what_to_type():
    search = tuner(lambda config: fixed(0.02)(config) / (2 if config.train.threads == 1 else 1))
    chosen = search.run()
    table = report(search, chosen, 2.0)
    assert table.title == f"autotune: ppo on cartpole, {len(search.trials)} settings in 2.0 s"
    assert table.columns == ("environments", "threads", "minibatches", "ms/iteration", "steps/s", "")
    taken = [row for row in table.rows if row[-1]]
    assert len(taken) == 1 and taken[0][:2] == (f"{chosen.env.num_envs:,}", "1")
    typed = flags(changes(search.config, chosen))
    assert f"the same without measuring: {typed}" in table.notes
    assert any("--env.num-envs 256, learn from fewer samples" in note for note in table.notes)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A real run of PPO on CartPole that was tuned, and where it was written."""
    run_dir = tmp_path_factory.mktemp("runs") / "tuned"
    given = [word for word in SMALL if word not in {"--train.threads", "1"}]  # threads and minibatches are open
    assert main(["train", "ppo", "cartpole", "--autotune", "--run-dir", str(run_dir), *given, "--total-steps", "1024",
                 "--profile"]) == 0
    return run_dir


def test_a_tuned_run_is_one_with_these_flags(tuned, tmp_path):
    config = tomllib.loads((tuned / "config.toml").read_text())
    assert config["env"]["num_envs"] == 8, "given"
    chosen = ["--train.threads", str(config["train"]["threads"]), "--ppo.num-minibatches",
              str(config["ppo"]["num_minibatches"]), "--total-steps", "1024", "--run-dir", str(tmp_path / "typed")]
    small = [word for word in SMALL if word not in {"--train.threads", "1"}]
    assert main(["train", "ppo", "cartpole", *small, *chosen]) == 0
    assert same_state(final_state(tuned)["policy"], final_state(tmp_path / "typed")["policy"])


def test_a_tuned_run_is_resumed_without_tuning(tuned, capsys):
    assert main(["train", "--resume", str(tuned), "--autotune"]) == 2
    assert "a resumed run keeps the settings of its config.toml" in one_line(capsys)
    before = tomllib.loads((tuned / "config.toml").read_text())
    assert main(["train", "--resume", str(tuned), "--total-steps", "1280"]) == 0
    after = tomllib.loads((tuned / "config.toml").read_text())
    assert "autotune" not in capsys.readouterr().out and after["train"]["threads"] == before["train"]["threads"]


def test_what_is_wrong_is_said_as_without_tuning(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "bc", "cartpole", "--autotune", "--demos", "none.npz"]) == 2
    assert "none.npz: no such file" in one_line(capsys) and list(tmp_path.iterdir()) == []
