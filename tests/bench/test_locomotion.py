"""`bench locomotion`, with fake runs and peers: when one has arrived, when a peer is given up, and what is said."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from puffer_il.bench import locomotion, speed
from puffer_il.bench.locomotion_tables import locomotion_tables
from puffer_il.bench.peers import run
from puffer_il.bench.peers.run import EntryResult
from puffer_il.demos import shipped_path
from tests.support.command_line import refused

sys.path.insert(0, str(Path(run.__file__).with_name("workers")))
from race import race, shown

CODE = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
folder.mkdir()
with (folder / "metrics.jsonl").open("w") as out:
    for step, score in {scores}:
        out.write(json.dumps({{"env_steps": step, "eval/return_mean": score}}) + "\\n")
        out.flush()
    out.write('{{"env_steps": 9')
{end}
"""


def run_of(scores, end="", **limits):
    return locomotion.our_run([sys.executable, "-c", CODE.format(scores=scores, end=end)], 101, 95.0, **limits)


def test_our_run_has_arrived_at_its_first_evaluation_that_is_good_enough_and_is_then_ended():
    found = run_of([(10, 50), (20, 96), (30, 99)], "time.sleep(600)")
    assert found["reached"] and found["steps"] == 20 and 0 < found["seconds"] < 60 and found["best"] == 99


def test_our_run_that_never_arrives_keeps_its_best_return():
    found = run_of([(10, 90), (20, 80)])
    assert not found["reached"] and found["steps"] == 20 and found["best"] == 90
    assert not run_of([(10, 90)], "time.sleep(600)", limit=1.0)["reached"]


def test_our_run_that_fails_says_why():
    with pytest.raises(RuntimeError, match="exit code 3"):
        run_of([], "sys.exit(3)")


def test_a_peer_is_given_up_at_twenty_times_our_median():
    own = [{"reached": True, "seconds": s} for s in (10.0, 30.0, 40.0)]
    assert locomotion.peer_cap(own) == 600
    assert locomotion.peer_cap([*own, {"reached": False, "seconds": 500.0}]) == 600
    assert locomotion.peer_cap([{"reached": False, "seconds": 9.0}]) == locomotion.OUR_LIMIT


def test_a_peer_that_did_not_arrive_gives_a_lower_bound():
    own = [{"seed": s, "reached": True, "seconds": 10.0, "steps": 500, "best": 3600.0} for s in (101, 102)]
    samples = [{"seed": s, "reached": s == 101, "process_seconds": 200.0 + s, "steps": 90_000, "best": 700.0}
               for s in (101, 102)]
    peer = locomotion.peer_result(EntryResult("imitation", samples), "hopper", 3400.0, 300.0, own)
    assert peer["ratio"] == {"median": pytest.approx(30.15), "bound": True}
    ours = {"name": "puffer_il GAIL", "task": "hopper", "target": 3400.0, "runs": own, "error": ""}
    absent = {**ours, "name": "TorchRL", "runs": [], "error": "no network"}
    table, = locomotion_tables(json.loads(json.dumps([ours, peer, absent])))
    assert [row[1] for row in table.rows] == ["2 of 2", "1 of 2", "–"]
    assert table.rows[1][2].startswith("> ") and table.rows[1][5].startswith("> 30")
    assert "TorchRL: left out, no network." in table.notes


@pytest.mark.parametrize(("scores", "cap", "reached"), [((1.0, 5.0, 9.0), 1e9, True), ((1.0, 1.0, 1.0), 0.0, False)])
def test_a_peer_works_until_it_arrives_or_its_seconds_are_over(scores, cap, reached):
    answers, trained = iter(scores), []
    found = race({"target": 9.0, "cap": cap}, 2.0, lambda: trained.append(0) or 10_000, lambda: next(answers))
    assert found["reached"] == reached and found["steps"] == 10_000 * len(trained) and found["process_seconds"] >= 2
    assert len(trained) == (6 if reached else 1) and found["best"] == (9.0 if reached else 1.0)


def test_peers_see_the_rows_of_the_first_episodes():
    path = shipped_path("cartpole")
    with np.load(path) as data:
        ends = [*data["episode_starts"], len(data["obs"])]
        for number, (obs, actions, _) in enumerate(shown(str(path), 3)):
            assert np.array_equal(obs[:-1], data["obs"][ends[number]:ends[number + 1]])
            assert len(actions) == len(obs) - 1
    assert number == 2


def test_peers_are_asked_for_the_same_demonstrations_and_return(monkeypatch):
    asked = []
    monkeypatch.setattr(locomotion, "target", lambda demos: 95.0)
    monkeypatch.setattr(locomotion, "our_run", lambda command, seed, goal: asked.append((command, seed, goal)) or {
        "seed": seed, "reached": True, "seconds": 2.0, "steps": 10, "best": 99.0})
    monkeypatch.setattr(locomotion, "peer_entry", lambda peer, name, settings, say: asked.append(settings) or (
        run.Entry(name, lambda: {"steps": 5, "seconds": 1.0, "process_seconds": 40.0, "seed": 101, "reached": False,
                                 "best": 1.0})))
    entries = []
    args = Namespace(tasks=["hopper"], demos_folder=Path("shown"), seeds=1, peers=True, cap=0)
    locomotion.locomotion(args, entries, lambda line: None)
    assert [e["name"] for e in entries] == ["puffer_il GAIL", *locomotion.PEERS.values()]
    demos = str(Path("shown/hopper.npz").resolve())
    assert demos in asked[0][0] and asked[0][1:] == (101, 95.0)
    assert all(s["demos"] == demos and s["target"] == 95.0 and s["cap"] == 40.0 for s in asked[1:])
    assert entries[1]["ratio"] == {"median": 20.0, "bound": True}
    args.cap = 7
    locomotion.locomotion(args, [], lambda line: None)
    assert asked[-1]["cap"] == 7
    assert speed.plan("locomotion", True) == ("locomotion",)


def test_locomotion_without_demonstrations_says_what_is_missing(capsys):
    assert "--demos-folder a folder with hopper.npz" in refused(capsys, "bench", "locomotion")
    assert "hoper" in refused(capsys, "bench", "locomotion", "--tasks", "hoper")
