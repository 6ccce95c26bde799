"""`bench scores` makes each run once, says what it leaves out, and its tables say what the runs did."""

import json
import sys
import threading
import time

import numpy as np
import pytest

from puffer_il.bench import scores
from puffer_il.bench.score_tables import tables
from puffer_il.bench.scores import Demonstrations, Experiment
from puffer_il.cli import main, make_parser
from puffer_il.learners.registry import learner_names
from puffer_il.rollout import stats
from tests.support.command_line import refused
from tests.support.runs import run, scripted_cartpole_demos, tiny

# Stands for `puffer-il train`: writes what a run writes, notes that it was called, or does what the seed says.
STUB = """\
import json, pathlib, sys, time
words = sys.argv[1:]
folder, seed = (words[words.index(flag) + 1] for flag in ("--run-dir", "--seed"))
with open(CALLS, "a") as calls:
    calls.write(json.dumps(words) + "\\n")
if seed == "7":
    time.sleep(60)
if words[1] == "red":
    print("puffer-il: error: red wants more; give it", file=sys.stderr)
    sys.exit(2)
if words[1] == "mm":
    sys.exit("RuntimeError: it broke")
run = pathlib.Path(folder)
run.mkdir(parents=True)
mean = 500.0 - 100 * int(seed)
lines = [{"env_steps": 64 * k, "wall_s": k / 2, "eval/return_mean": m} for k, m in ((1, 100.0), (2, 480.0), (3, mean))]
(run / "metrics.jsonl").write_text("\\n".join(map(json.dumps, [*lines, {"env_steps": 4, "SPS": 1.0}])))
(run / "summary.json").write_text(json.dumps({
    "status": "finished", "expert_return": 500.0, "random_return": 20.0, "env_steps": 192, "wall_s": 1.5,
    "eval": {"return_mean": mean}}))
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Trains by the stub; returns a function that tells, and forgets, with which words it was called."""
    path = tmp_path / "calls"
    program = STUB.replace("CALLS", repr(str(path)))
    monkeypatch.setattr(scores, "_program", lambda *words: [sys.executable, "-c", program, *words])

    def taken():
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    return taken


def cells_of(path):
    return {(c["algo"], c["env"], c["demos"], c["seed"]): c for c in json.loads(path.read_text())["cells"]}


def test_every_cell_is_run_once_and_again_only_when_its_experiment_has_changed(calls, tmp_path, monkeypatch):
    out, page = tmp_path / "scores.json", tmp_path / "scores.md"
    words = ["scores", "--algos", "gail,ppo", "--envs", "cartpole", "--seeds", "3", "--demos", "1,10", "--jobs", "2",
             "--json", str(out), "--markdown", str(page)]
    assert main(["bench", *words]) == 0
    first = calls()
    assert len(first) == 2 * 3 + 3
    gail = next(words for words in first if words[1] == "gail")
    assert gail[gail.index("--demos") + 1].endswith("expert.npz") and "--demos.episodes" in gail
    assert not any("--demos" in words for words in first if words[1] == "ppo")
    cell = cells_of(out)["gail", "cartpole", 1, 2]
    assert (cell["score"], cell["expert_steps"], cell["expert_s"]) == ((300 - 20) / 480, 128, 1.0)
    assert cells_of(out)["ppo", "cartpole", 0, 1]["expert_return"] == 500  # the demonstrations that it did not see
    assert "| gail | 10 | 0.58 |" in page.read_text() and "not complete" not in page.read_text()

    assert main(["bench", *words]) == 0 and calls() == []
    monkeypatch.setattr(scores, "experiment_layers",
                        lambda algo, env: [("changed", {"env": {"num_envs": 7}})] if algo == "ppo" else [])
    main(["bench", "scores", "--algos", "ppo", "--envs", "cartpole", "--seeds", "2", "--json", str(out)])
    assert [words[1] for words in calls()] == ["ppo", "ppo"]
    assert len(cells_of(out)) == 9  # what was not asked for stays


def test_what_cannot_be_run_is_said_and_nothing_else_is_lost(calls, tmp_path, capsys):
    out = tmp_path / "scores.json"
    words = ["scores", "--algos", "red,mm,gail,maxent_irl", "--envs", "pendulum", "--seeds", "2", "--demos", "10",
             "--json", str(out)]
    assert main(["bench", *words]) == 0
    assert [w[1] for w in calls()].count("red") == 1  # a second seed would be refused as well
    data = json.loads(out.read_text())
    assert {(r["algo"], r["why"]) for r in data["refused"]} == {
        ("red", "red wants more; give it"), ("maxent_irl", "its actions are continuous, the algorithm's discrete")}
    assert {c["error"] for c in data["cells"] if c["algo"] == "mm"} == {"RuntimeError: it broke"}
    said = " ".join(capsys.readouterr().out.split())
    assert "red on pendulum: red wants more; give it." in said and "mm on pendulum (10 demos, seed 1)" in said
    main(["bench", *words])
    assert {w[1] for w in calls()} == {"mm", "red"}, "what failed is tried again"


def test_an_interrupt_keeps_what_has_ended(calls, tmp_path, monkeypatch):
    out, real = tmp_path / "scores.json", scores.run

    def interrupted_at_the_second(e, *rest):
        if e.seed == 2:
            raise KeyboardInterrupt
        return real(e, *rest)

    monkeypatch.setattr(scores, "run", interrupted_at_the_second)
    words = ["scores", "--algos", "ppo", "--envs", "cartpole", "--seeds", "3", "--json", str(out)]
    assert main(["bench", *words]) == 130
    assert list(cells_of(out)) == [("ppo", "cartpole", 0, 1)] and json.loads(out.read_text())["interrupted"]
    monkeypatch.setattr(scores, "run", real)
    assert main(["bench", *words]) == 0 and len(calls()) == 3 and len(cells_of(out)) == 3


@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_that_takes_too_long_is_ended(calls, stopped):
    stop, begin = threading.Event(), time.monotonic()
    if stopped:
        stop.set()
    cell = scores.run(Experiment("ppo", "cartpole", 0, 7, ""), Demonstrations(None, ""), 60 if stopped else 1, (), stop)
    assert cell["status"] == "failed" and time.monotonic() - begin < 20


def test_ctrl_c_ends_the_runs_with_the_command(calls, monkeypatch):
    def interrupted(running, return_when):
        assert len(running) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr(scores, "wait", interrupted)
    begin = time.monotonic()
    words = ["scores", "--algos", "ppo,gail", "--envs", "cartpole", "--seeds", "1", "--demos", "1", "--jobs", "2"]
    monkeypatch.setattr(scores, "plan", lambda args, shown: (
        [Experiment("ppo", "cartpole", demos, 7, "") for demos in (0, 1)], []))
    assert main(["bench", *words]) == 130 and time.monotonic() - begin < 30


def test_a_cell_is_what_the_run_reported(tmp_path):
    demos, run_dir = scripted_cartpole_demos(tmp_path / "demos.npz"), tmp_path / "run"
    recorder = run(tiny("gail", run_dir, demos__source=str(demos), eval__interval_steps=256))
    (run_dir / "metrics.jsonl").write_text("\n".join(map(json.dumps, recorder.metrics)))
    e, shown, summary = Experiment("gail", "cartpole", 6, 1, "x"), Demonstrations(demos, "a file"), recorder.summary
    found = scores.read_run(e, shown, run_dir)
    assert (found["score"], found["return_mean"]) == (summary["eval"]["normalized"], summary["eval"]["return_mean"])
    assert (found["env_steps"], found["source"]) == (summary["env_steps"], "a file")
    assert (found["expert_s"] is None) == (summary["time_to_expert_s"] is None)

    (run_dir / "summary.json").write_text(json.dumps({**summary, "status": "diverged"}))
    found = scores.read_run(e, shown, run_dir)
    assert found["score"] == 0 and found["return_mean"] == summary["random_return"]


def cell(env, seed, score, steps=None, demos=10):
    return {"algo": "gail", "env": env, "demos": demos, "seed": seed, "score": score, "return_mean": 100 * score,
            "expert_return": 100.0, "random_return": 0.0, "source": "its own", "expert_steps": steps, "error": "",
            "expert_s": None if steps is None else steps / 1000}


def test_tables_hold_the_statistics():
    one, two = [0.1, 0.9, 1.0, 1.1], [0.5, 0.6, 0.7, 0.8, 0.9]
    steps = [None, 3000, 1000, 2000]
    cells = [cell("a", k, s, t) for k, (s, t) in enumerate(zip(one, steps, strict=True))]
    cells += [cell("b", k, s) for k, s in enumerate(two)]
    together, a, b = tables({"cells": cells, "refused": []})
    low, high = stats.stratified_bootstrap_ci(np.array([one, two[:4]]).T)
    assert together.rows == [["gail", "10", "a, b", "4", "0.75", f"{low:.2f} to {high:.2f}"]]
    assert a.rows[0][2] == "0.95" and a.rows[0][-3:] == ["3 of 4", "2.5k", "2.50"]
    assert b.rows[0][-3:] == ["0 of 5", "–", "–"]
    assert tables({"cells": cells[:2], "refused": []})[0].rows[0][3] == "–", "two runs make no interval"
    never, = tables({"cells": [cell("a", 1, 1.0, 1000), cell("a", 2, 0.1)], "refused": []})
    assert never.rows[0][-3:] == ["1 of 2", "–", "–"], "half of the runs never were there"


def test_without_demonstrations_the_scripted_expert_makes_them(tmp_path):
    found = scores.demonstrations("mdp", 2, tmp_path)
    assert found.episodes == scores.COLLECTED and found.source == "10 episodes of its scripted expert"
    none = scores.demonstrations("icusepsis_gone", 2, tmp_path)
    assert none.file is None and "icusepsis_gone" in none.source


def test_all_learners_are_asked_for_without_being_named(monkeypatch):
    asked = []
    monkeypatch.setattr(scores, "plan", lambda args, shown: asked.extend(args.algos) or ([], []))
    assert main(["bench", "scores", "--envs", "cartpole"]) == 0 and set(asked) == set(learner_names())


def test_an_interrupted_table_is_even(tmp_path):
    args = make_parser().parse_args(["bench", "scores", "--algos", "gail,ppo", "--envs", "cartpole,pendulum", "--seeds",
                                     "2", "--demos", "1,10,11"])
    todo, refused = scores.plan(args, {env: scores.demonstrations(env, 11, tmp_path) for env in args.envs})
    assert [e.seed for e in todo] == [1] * 6 + [2] * 6 and not refused, "no more demonstrations than there are"
    assert {(e.algo, e.env, e.demos) for e in todo} == {
        (algo, env, n) for env in args.envs for algo, n in (("gail", 1), ("gail", 10), ("ppo", 0))}


@pytest.mark.parametrize(("arguments", "said"), [
    (["scores", "--algos", "gial"], "did you mean 'gail'"),
    (["scores", "--envs", "NoSuch-v0"], "NoSuch"),
    (["scores", "--demos", "0"], "'0' is not a whole number of at least 1"),
    (["scores", "--json", __file__], "was not written by 'puffer-il bench scores'"),
])
def test_bad_input_is_one_line(arguments, said, capsys):
    assert said in refused(capsys, "bench", *arguments)


def test_a_success_rate_has_a_column_where_it_is_told():
    told = [cell("a", k, 0.5) | {"success_rate": rate} for k, rate in enumerate((0.25, 0.75, None))]
    with_rate, without = tables({"cells": [*told, cell("b", 1, 0.5)], "refused": []})[1:]
    place = with_rate.columns.index("success")
    assert with_rate.rows[0][place] == "50%" and "success" not in without.columns
    assert all(len(row) == len(table.columns) for table in (with_rate, without) for row in table.rows)


def test_a_run_whose_expert_is_no_better_than_chance_has_no_score_and_the_page_says_why(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"eval/return_mean": 3.0}))
    (tmp_path / "summary.json").write_text(json.dumps({
        "status": "finished", "expert_return": 2.0, "random_return": 5.0, "env_steps": 1, "wall_s": 1.0,
        "eval": {"return_mean": 3.0, "success_rate": 0.5}}))
    found = scores.read_run(Experiment("gail", "cartpole", 6, 1, "x"), Demonstrations(tmp_path, "a file"), tmp_path)
    assert found["score"] is None and found["success_rate"] == 0.5 and found["expert_steps"] is None
    missing, = tables({"cells": [found], "refused": []})
    assert "no normalised score" in missing.notes[0] and "failed" not in missing.notes[0]
