"""`puffer-il env bench`: every way of stepping is measured, and the advice is flags that do what was measured."""

from __future__ import annotations

import json
import shlex

import pytest

from puffer_il.bench import environment as bench
from puffer_il.cli import main
from puffer_il.cli.overrides import override
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import make_vec


def test_a_c_environment_natively_and_by_workers(monkeypatch, capsys):
    monkeypatch.setattr(bench, "cores", lambda: 2)
    assert main(["env", "bench", "cartpole", "--num-envs", "64", "--seconds", "0.2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "cartpole: steps per second, on 2 cores" and out[1].split() == ["64", "envs"]
    assert [line[2:].split("  ")[0] for line in out[2:7]] == [
        "C alone, 1 thread", "native, 1 thread", "native, 2 threads", "1 worker", "2 workers"]
    assert out[7].startswith("- at 64 environments use ") and "--env.backend " in out[7] and "±" in out[2]
    assert "--train.threads N" in out[8]


def test_json_and_the_environments_parameters(monkeypatch, capsys):
    monkeypatch.setattr(bench, "cores", lambda: 1)
    assert main(["env", "bench", "gymnasium:CartPole-v1", "--num-envs", "2", "--seconds", "0.1", "--json",
                 "--env.kwargs.sutton-barto-reward", "true"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["steps_per_s"]["2"]) == ["serial", "1 worker"] and told["cores"] == told["agents"] == 1
    figure = told["steps_per_s"]["2"]["serial"]
    assert figure["min"] <= figure["median"] <= figure["max"] and figure["samples"] == bench.REPEATS
    assert told["best"]["2"]["flags"].startswith("--env.backend ")


@pytest.mark.parametrize("name", ["cartpole", "CartPole-v1"])
def test_every_flag_does_what_was_measured(monkeypatch, name):
    monkeypatch.setattr(bench, "cores", lambda: 2)
    creator = find_creator(name)
    for way in bench.ways(creator.facts(), creator.kind == "folder", 4):
        words = shlex.split(way.flags)
        options = {}
        for flag, value in zip(words[::2], words[1::2], strict=True):
            options |= override(flag.removeprefix("--"), value)["env"]
        with make_vec(name, num_envs=4, backend=options["backend"],
                      num_workers=int(options.get("num_workers", 0))) as vec:
            assert (vec.backend, vec.num_workers) == (way.backend, way.workers)


def test_ways_depend_on_the_machine_and_the_environment(monkeypatch):
    batched, single = find_creator("cartpole").facts(), find_creator("CartPole-v1").facts()
    for count, workers in ((1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])):
        monkeypatch.setattr(bench, "cores", lambda count=count: count)
        assert [way.workers for way in bench.ways(single, False, 24)] == [0, *workers]
        assert [way.threads for way in bench.ways(batched, True, 24) if way.backend == "native"] == workers
    assert [way.workers for way in bench.ways(single, False, 6)] == [0, 1, 2]  # those that divide the environments


def test_the_simplest_is_taken_unless_another_is_clearly_faster():
    rates = {bench.ALONE: 900, "native, 1 thread": 95, "native, 2 threads": 100, "1 worker": 30}
    figures = {name: {"median": rate, "min": rate, "max": rate, "samples": 1} for name, rate in rates.items()}
    assert bench.best(figures) == "native, 1 thread"
    figures["2 workers"] = {"median": 200, "min": 90, "max": 210, "samples": 7}
    assert bench.best(figures) == "native, 1 thread"
    assert "repeats differ by up to 55%" in bench.noise({8: figures})[0]
    figures["2 workers"]["min"] = 170
    assert bench.best(figures) == "2 workers" and bench.noise({8: figures}) == []


def test_an_environment_that_cannot_be_opened_is_one_line(capsys):
    assert main(["env", "bench", "cartpol"]) == 2
    assert "did you mean 'cartpole'?" in capsys.readouterr().err
    assert main(["env", "bench", "cartpole", "--seconds", "0"]) == 2
    assert "'0' must be above 0" in capsys.readouterr().err
