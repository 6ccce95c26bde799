"""Runs whose environments do not answer, or die: what is said, and what is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium
import numpy as np
import psutil
import pytest

import puffer_il
from puffer_il.core.errors import EnvFailure
from puffer_il.training import hung
from puffer_il.training.run_dir import prepare_run_dir
from puffer_il.training.slow import Slow
from puffer_il.training.trainer import train
from puffer_il.vector import watch
from tests.support.runs import Recorder, final_state, run, tiny

ROOT = Path(__file__).parents[2]
FEW = {"env__num_envs": 4, "train__num_steps": 16, "train__total_steps": 256}
SERIAL = FEW | {"env__backend": "serial"}


def asked() -> bool:
    return "question" in multiprocessing.current_process().name


class Sleepy(gymnasium.Env):
    """Episodes of ten steps. From its `after`-th step of all on, a step takes `seconds`; in the first such one it
    interrupts the process `tells`, and a second time if it is to do so `twice`. Where it is only asked whether its
    state can be saved, it behaves."""

    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)

    def __init__(self, after: int = 10**9, seconds: float = 60.0, deaf: bool = False, tells: int = 0,
                 twice: bool = False) -> None:
        self.after, self.seconds, self.deaf, self.steps = after, seconds, deaf, 0
        self.tells, self.twice = tells, twice
        self.lock = threading.Lock()  # so that a resumed run does not get a saved one back, with all its faults
        if asked():
            self.after = 10**9

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        if self.steps > self.after:
            if self.deaf:  # as C code is, which Python's signal handlers wait for
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            self.tells = self.tells if self.tells >= 0 else os.getpid()
            if self.tells and self.steps == self.after + 1:
                os.kill(self.tells, signal.SIGINT)
                if self.twice:
                    threading.Timer(0.1, os.kill, (self.tells, signal.SIGINT)).start()
            time.sleep(self.seconds)
        return self.observation_space.sample(), 1.0, self.steps % 10 == 0, False, {}


def sleepy(folder: Path, *, after: int, **more) -> object:
    kwargs = {"after": after} | more.pop("kwargs", {})
    return tiny("ppo", folder, env__name=f"{__name__}:Sleepy", env__kwargs=kwargs, **more)


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(watch, "STOP_S", 0.3)
    monkeypatch.setattr(hung, "LOOK_S", 0.05)


# Of 45 steps of the vector, four begin the next episode.
class Impatient(Recorder):
    """Interrupts the run as soon as it says that an environment does not answer."""

    def message(self, text: str) -> None:
        super().message(text)
        if "waiting on" in text:
            self.since = time.monotonic()
            os.kill(os.getpid(), signal.SIGINT)


PLACES = {"serial": SERIAL, "workers": FEW | {"env__backend": "multiprocessing", "env__num_workers": 2}}


@pytest.mark.parametrize("place", PLACES)
def test_a_hang_is_reported_and_one_interrupt_ends_it_with_a_checkpoint(place, tmp_path):
    """In training, after the random policy was measured. A resumed run begins new episodes."""
    keys = PLACES[place] | {"env__timeout_s": 0.3}
    recorder = Impatient()
    prepare_run_dir(config := sleepy(tmp_path / "run", after=40, **keys))
    train(config, [recorder], tmp_path / "run")
    assert time.monotonic() - recorder.since < 5 and recorder.summary["status"] == "interrupted"
    told = [text for text in recorder.messages if "has not answered" in text]
    assert "in step 45 since the seed" in told[0] and "waiting on" in told[0]
    assert any("the rollout under way was given up" in text for text in recorder.messages)
    assert final_state(tmp_path / "run")["env_steps"] == 2 * 64
    summary = run(sleepy(tmp_path / "run", after=10**9, **keys), resume=True).summary
    assert summary["status"] == "finished" and summary["env_steps"] == 256


@pytest.mark.parametrize("place", PLACES)
def test_a_hang_stops_the_run_with_a_checkpoint_if_that_is_wanted(place, tmp_path):
    config = sleepy(tmp_path / "run", after=40, **PLACES[place], env__timeout_s=0.3, env__on_timeout="stop")
    with pytest.raises(EnvFailure, match=r"in step 45 since the seed \d+, has not answered for .* 'stop'"):
        run(config)
    assert final_state(tmp_path / "run")["env_steps"] == 2 * 64


def test_a_run_goes_on_when_its_workers_are_restarted(tmp_path):
    keys = FEW | {"env__timeout_s": 0.3, "env__on_timeout": "restart"}
    recorder = run(sleepy(tmp_path / "run", after=40, **keys))
    assert recorder.info.backend == "multiprocessing" and recorder.summary["status"] == "finished"
    assert any("is restarted, and its rows 0 to 3 begin new episodes" in text for text in recorder.messages)


def test_an_interrupt_is_heard_while_the_random_policy_is_measured(tmp_path):
    """And leaves a checkpoint, from which the run goes on."""
    slow = {"seconds": 0.1, "tells": os.getpid()}
    recorder = run(sleepy(tmp_path / "run", after=3, kwargs=slow, **FEW | {"env__num_envs": 1}))
    assert recorder.summary["status"] == "interrupted" and recorder.summary["random_return"] is None
    assert not recorder.metrics and recorder.info is not None
    assert final_state(tmp_path / "run")["env_steps"] == 0
    summary = run(sleepy(tmp_path / "run", after=10**9, **FEW | {"env__num_envs": 1}), resume=True).summary
    assert summary["status"] == "finished" and summary["random_return"] == 10


def test_what_takes_long_is_told_again_each_time_it_has_taken_twice_as_long():
    clock, told = [0.0], []
    slow = Slow(told.append, "measuring a random policy", 100, 3.0, clock=lambda: clock[0])
    for done in range(100):
        clock[0] += 0.5
        slow(done)
    assert told == [f"measuring a random policy: {done} of 100 episodes after {seconds}"
                    for done, seconds in ((5, "0:03"), (11, "0:06"), (23, "0:12"), (47, "0:24"), (95, "0:48"))]


def test_the_second_interrupt_costs_no_finished_iteration(tmp_path):
    """Both come in a rollout: what the learner has is that of the last iteration."""
    with pytest.raises(KeyboardInterrupt):
        run(sleepy(tmp_path / "run", after=40, kwargs={"tells": os.getpid(), "twice": True}, **SERIAL))
    assert final_state(tmp_path / "run")["env_steps"] == 2 * 64


OUTSIDE = {"one worker": "auto", "serial": "serial"}


@pytest.mark.parametrize("place", OUTSIDE)
def test_evaluations_and_recordings_report_a_hang_and_stop_if_that_is_wanted(place, tmp_path, capfd):
    """Without a run around them, by the keys of the run whose policy plays."""
    for choice in ("wait", "stop"):
        folder = tmp_path / choice
        config = tiny("ppo", folder, env__name=f"{__name__}:Sleepy", env__backend=OUTSIDE[place], env__timeout_s=0.3,
                      env__on_timeout=choice, eval__final_episodes=1, **{**FEW, "train__total_steps": 64})
        run(config)
        for use in (puffer_il.evaluate, puffer_il.collect):
            slow = {"after": 9, "seconds": 0.6 if choice == "wait" else 30.0, "episodes": 2, "trust": True}
            if choice == "wait":
                use(folder, **slow)
                told = capfd.readouterr().err
                assert "in step 10 since the seed" in told and "waiting on (env.on_timeout" in told, told
                continue
            begin = time.monotonic()
            with pytest.raises(EnvFailure, match=r"in step 10 since the seed \d+, has not answered for .* 'stop'"):
                use(folder, **slow)
            assert time.monotonic() - begin < 10
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_ends_a_recording_that_hangs_at_once():
    begin, here = time.monotonic(), os.getpid()
    with pytest.raises(KeyboardInterrupt):
        puffer_il.collect(lambda obs: np.zeros(len(obs), int), lambda: Sleepy(5, tells=here), episodes=1)
    assert time.monotonic() - begin < 10


DEAF = """
from puffer_il.training import hung
from tests.support.runs import run
from tests.training.test_hung import SERIAL, sleepy
from pathlib import Path
import sys
hung.GRACE_S = hung.DEAF_S = 0.5
how = {"tells": -1} if sys.argv[2] == "interrupt" else {}
keys = {} if how else {"env__timeout_s": 0.3, "env__on_timeout": "stop"}
run(sleepy(Path(sys.argv[1]), after=40, kwargs={"deaf": True} | how, **SERIAL, **keys))
"""


@pytest.mark.parametrize("how, code, told", [("stop", 1, "in step 45 since the seed"),
                                             ("interrupt", 130, "interrupted in an environment")])
def test_what_cannot_be_interrupted_is_ended_with_a_checkpoint_all_the_same(how, code, told, tmp_path):
    """As a loop in C that has given up the interpreter's lock."""
    done = subprocess.run([sys.executable, "-c", DEAF, tmp_path / "run", how], cwd=ROOT, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == code and told in done.stderr, done.stderr
    assert final_state(tmp_path / "run")["env_steps"] == 2 * 64


def crashing(*keys: str, folder: Path) -> subprocess.CompletedProcess:
    """A run on the command line whose environment crashes."""
    words = [sys.executable, "-m", "puffer_il", "train", "ppo", f"{__name__}:Crashing", "--run-dir", folder,
             "--env.num-envs", "4", "--train.num-steps", "16", "--train.threads", "1", "--eval.final-episodes", "2",
             *keys]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)


class Crashing(Sleepy):
    """Ends its process in its 41st step: by a signal, or without a word."""

    def __init__(self, signal: int = 0) -> None:
        super().__init__()
        self.signal = signal

    def step(self, action):
        if self.steps == 40 and not asked():
            os.kill(os.getpid(), self.signal) if self.signal else os._exit(0)
        return super().step(action)


def test_a_python_environment_that_crashes_takes_only_its_worker_along(tmp_path):
    """So few environments have a worker only for that."""
    done = crashing("--env.kwargs.signal", "11", folder=tmp_path / "run")
    assert done.returncode == 1 and "was killed by SIGSEGV (worker 0 of 1, rows 0 to 3)" in done.stderr
    assert "test_hung.py" in done.stderr and "Traceback" not in done.stderr  # where it was
    assert final_state(tmp_path / "run")["env_steps"] == 2 * 64


def test_a_process_that_is_gone_without_a_word_has_a_last_one(tmp_path):
    done = crashing("--env.backend", "serial", folder=tmp_path / "run")
    assert done.returncode == 0  # which is what the environment has left with
    assert f"continue from its last checkpoint by puffer-il train --resume {tmp_path / 'run'}" in done.stderr
    assert final_state(tmp_path / "run")["env_steps"] == 0


@pytest.mark.parametrize(("name", "backend", "told"), [
    (f"{__name__}:Sleepy", "serial", True), (f"{__name__}:Sleepy", "multiprocessing", False),
    ("cartpole", "serial", False)])
def test_a_run_says_at_its_start_where_a_crash_would_cost_work(name, backend, told, tmp_path):
    recorder = run(tiny("ppo", tmp_path / "run", env__name=name, **FEW | {"env__backend": backend,
                                                                         "train__total_steps": 64}))
    lines = [text for text in recorder.messages if "since the last checkpoint is lost" in text]
    assert len(lines) == told and all("env.backend = 'multiprocessing'" in line for line in lines)


SHELLED = """
from pathlib import Path
from puffer_il.training.last_word import last_word
import psutil, time
with last_word(Path("a run")):
    print(psutil.Process().children()[0].pid, flush=True)
    time.sleep(60)
"""


def test_what_has_the_last_word_is_gone_with_its_process_though_it_was_stopped():
    parent = subprocess.Popen([sys.executable, "-c", SHELLED], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True)
    shell = psutil.Process(int(parent.stdout.readline()))
    shell.send_signal(signal.SIGSTOP)
    parent.kill()
    assert "puffer-il train --resume 'a run'" in parent.communicate(timeout=10)[1]
    deadline = time.monotonic() + 2
    while shell.is_running() and shell.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
