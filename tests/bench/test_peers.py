"""The machinery of `bench --peers`, with fake peers that need no virtual environment."""

import ast
import json
import sys
import time
from pathlib import Path

import psutil
import pytest

from puffer_il.bench.peers import install, run
from puffer_il.bench.peers.install import PeerError, Recipe
from puffer_il.bench.peers.run import Entry, EntryResult, interleave, peer_entry, ratio

WORKERS = Path(run.__file__).with_name("workers")
FAKE = f"""
import sys, time
sys.path.insert(0, {str(WORKERS)!r})
from protocol import Stages, serve

class Peer:
    def work(self, seconds):
        time.sleep(seconds)

def prepare(settings):
    peer, stages, calls = Peer(), Stages(), iter(range(10**9))
    stages.wrap(peer, "work", "work")
    def unit():
        with open(settings["log"], "a") as log:
            log.write(settings["name"] + "<")
            print("noise that a peer prints")
            peer.work(settings.get("seconds", 0.01))
            log.write(settings["name"] + ">")
        if next(calls) == settings.get("crash_at"):
            raise ValueError("the pole fell")
        return {{"steps": 10, "stages": stages.take()}}
    return unit, {{"settings": settings, "once": settings["once"]}}

serve(prepare, ("pytest",))
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes entries of a peer that logs when it works, by the real protocol."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = tmp_path / "fake.py"
    script.write_text(FAKE)

    def make(name, **settings):
        settings = {"name": name, "log": str(tmp_path / "log"), "once": True, **settings}
        return Entry(name, [sys.executable, str(script), json.dumps(settings)])

    return make


@pytest.fixture(autouse=True)
def nothing_stays():
    before = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) <= before


def script(code, name="peer", **timeouts):
    return Entry(name, [sys.executable, "-c", code], **timeouts)


def test_one_works_at_a_time_and_in_turn(fake, tmp_path):
    def ours():
        with (tmp_path / "log").open("a") as log:
            log.write("us")
        return {"steps": 5, "seconds": 0.5}

    lines = []
    results = interleave([fake("A"), Entry("ours", ours), fake("B")], 3, lines.append)
    assert (tmp_path / "log").read_text() == "A<A>usB<B>" * 3
    assert [r.name for r in results] == ["A", "ours", "B"] and not any(r.error for r in results)
    assert [len(r.samples) for r in results] == [3, 3, 3] and results[1].rates == [10, 10, 10]
    assert lines[0].startswith("A: ready after") and lines[-2:][0] == "ours: round 3 of 3, 10/s"


def test_a_sample_says_steps_seconds_stages_and_versions(fake):
    result, = interleave([fake("A")], 2)
    for sample in result.samples:
        assert sample["steps"] == 10 and 0.01 <= sample["stages"]["work"] <= sample["seconds"] < 5
    assert result.facts["versions"] == {"pytest": pytest.__version__} and result.facts["settings"]["name"] == "A"
    assert result.rate["min"] <= result.rate["median"] <= result.rate["max"] and result.stages["work"] >= 0.01


def test_a_short_unit_is_repeated_until_it_can_be_timed(fake):
    result, = interleave([fake("A", once=False, unit_seconds=0.2)], 1)
    assert result.samples[0]["steps"] == 10 * result.facts["repeats"] > 20
    assert result.samples[0]["seconds"] > 0.1


def test_a_waiting_worker_uses_no_processor(fake):
    with run.start_worker(fake("A")) as worker:
        worker.answer(60, "setting up")
        process = psutil.Process(worker.process.pid)
        begin = process.cpu_times()
        time.sleep(0.5)
        assert sum(process.cpu_times()[:2]) - sum(begin[:2]) < 0.1


def test_a_worker_does_not_outlive_us(fake, tmp_path):
    with run.start_worker(fake("A", seconds=60)) as worker:
        worker.answer(60, "setting up")
        worker.process.stdin.write("go\n")
        worker.process.stdin.close()  # as it is if we are killed
        assert worker.process.wait(5) != 0
    assert not list(tmp_path.glob("tmp*"))


READY = "print('{\"ready\": true}', flush=True); "


@pytest.mark.parametrize(("entry", "said"), [
    (script("import sys; sys.exit('no such demonstrations')"), "setting up (exit code 1: no such demonstrations)"),
    (script("import nothing_like_it"), "ModuleNotFoundError: No module named 'nothing_like_it'"),
    (script("print('hello')"), "answered 'hello' while setting up, which is not a JSON object"),
    (script("print('{}')"), "does not say ready"),
    (script("import time; time.sleep(60)", ready_timeout=0.3), "no answer within 0.3 s while setting up"),
    (script(READY + "input(); import os; os.kill(os.getpid(), 9)"), "ended while measuring (signal SIGKILL)"),
    (script(READY), "ended while measuring (exit code 0)"),
    (script(READY + "import time; time.sleep(60)", sample_timeout=0.3), "no answer within 0.3 s while measuring"),
    (script(READY + "input(); print('{\"steps\": 0, \"seconds\": 1}')"), "no steps and seconds above zero"),
    (Entry("peer", ["no-such-program"]), "cannot be started"),
    (Entry("peer", (), "cannot be installed"), "cannot be installed"),
], ids=range(11))
def test_a_peer_that_fails_is_one_line_and_ends_nothing(entry, said, fake, monkeypatch):
    monkeypatch.setattr(run, "QUIT_TIMEOUT", 0.5)
    lines = []
    failed, good = interleave([entry, fake("B")], 2, lines.append)
    assert said in failed.error and "\n" not in failed.error and not failed.samples
    assert [line for line in lines if "left out" in line] == [f"peer: left out, {failed.error}"]
    assert len(good.samples) == 2 and not good.error
    assert failed.rate is None and failed.stages == {}


def test_rounds_before_a_crash_are_kept(fake):
    crashed, good = interleave([fake("A", crash_at=1), fake("B")], 3)
    assert crashed.error == "ended while measuring (exit code 1: ValueError: the pole fell)"
    assert len(crashed.samples) == 1 and len(good.samples) == 3
    assert ratio(good, crashed)["samples"] == 1


def test_ratios_are_taken_pair_by_pair():
    ours, theirs = (EntryResult(name, [{"steps": s, "seconds": 2.0} for s in steps])
                    for name, steps in (("ours", (20, 60, 20)), ("theirs", (10, 10, 20))))
    assert ratio(ours, theirs) == {"median": 2, "min": 1, "max": 6, "samples": 3}
    assert ratio(ours, EntryResult("none", error="crashed")) is None


def test_our_own_failure_is_not_swallowed(fake):
    with pytest.raises(ZeroDivisionError):
        interleave([fake("A"), Entry("ours", lambda: {"steps": 1 // 0, "seconds": 1})], 1)


def test_what_cannot_be_installed_is_one_line(tmp_path, monkeypatch):
    python = tmp_path / "python"  # makes an "environment" of itself, in which every installation fails
    python.write_text("""#!/bin/sh
        if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; exit 0; fi
        echo "Collecting nothing"; echo "ERROR: No matching distribution found"; echo "more of it"; exit 7
    """)
    python.chmod(0o755)
    monkeypatch.setenv("PUFFER_IL_PEERS", str(tmp_path / "peers"))
    monkeypatch.setattr(install, "find_python", lambda: str(python))
    lines = []
    entry = peer_entry("imitation", "imitation GAIL", {}, lines.append)
    log = tmp_path / "peers" / "imitation" / "build.log"
    assert entry.error == (f"installing {install.TORCH} (step 1 of 2) failed with exit code 7 "
                           f"(ERROR: No matching distribution found); all of it is in {log}")
    assert "Collecting nothing" in log.read_text() and not (log.parent / "complete").exists()
    assert lines[0] == "imitation: creating the virtual environment (0 s)"


def test_an_environment_is_built_once_and_again_if_unfinished_or_changed(tmp_path, monkeypatch):
    built = []

    def build(what, recipe):
        built.append(recipe)
        what.folder.mkdir(exist_ok=True)
        if len(built) == 1:
            raise PeerError("interrupted")

    monkeypatch.setenv("PUFFER_IL_PEERS", str(tmp_path))
    monkeypatch.setattr(install, "_build", build)
    with pytest.raises(PeerError):
        install.ensure_environment("pufferlib", [].append)
    for _ in range(2):
        assert install.ensure_environment("pufferlib", [].append) == tmp_path / "pufferlib" / "bin" / "python"
    assert len(built) == 2
    monkeypatch.setitem(install.RECIPES, "pufferlib", Recipe((("torch",),)))
    install.ensure_environment("pufferlib", [].append)
    assert len(built) == 3


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PUFFER_IL_PEERS", str(tmp_path / "file" / "peers"))
    assert "PUFFER_IL_PEERS" in peer_entry("sb3", "SB3 PPO", {}).error


def test_a_python_that_peers_can_live_in_is_asked_for(monkeypatch):
    monkeypatch.setattr(install, "PYTHONS", ((2, 6), (2, 7)))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PeerError, match=r"python2\.7 or python2\.6"):
        install.find_python()


def test_demonstrations_are_found_from_where_the_worker_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ensure_environment", lambda name, progress: Path("python"))
    monkeypatch.chdir(tmp_path)
    entry = peer_entry("imitation", "GAIL", {"mode": "gail", "demos": "expert.npz"})
    assert json.loads(entry.work[2]) == {"mode": "gail", "demos": str(tmp_path / "expert.npz")}
    assert Path(entry.work[1]).is_file()


@pytest.mark.parametrize("file", sorted({*WORKERS.glob("*.py")} - {WORKERS / "revision_worker.py"}),  # its peer is ours
                         ids=lambda path: path.name)
def test_workers_import_nothing_of_ours_and_their_peer_only_when_run(file):
    tree = ast.parse(file.read_text())
    names = {node: [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
             for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)}
    assert not any(name.startswith("puffer_il") for found in names.values() for name in found)
    top = {name.split(".")[0] for node in tree.body for name in names.get(node, [])}
    assert top <= {*sys.stdlib_module_names, "protocol", "race"}
