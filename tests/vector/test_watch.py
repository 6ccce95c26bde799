"""Environments that do not answer: who is told, and what becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import gymnasium
import numpy as np
import psutil
import pytest

from puffer_il.core.errors import EnvFailure, InputError, Quit
from puffer_il.rollout.evaluate import evaluate
from puffer_il.vector import plan
from puffer_il.vector.make import env_seed
from puffer_il.vector.vec import make_vec
from puffer_il.vector.watch import RESTARTS, STOP_S, Watch
from tests.support.identified import SEED, Gymnasium

FRAGILE = "tests.support.identified:Fragile"
TWO = {"num_envs": 4, "backend": "multiprocessing", "num_workers": 2}
IDLE = np.zeros((4, 1), np.int32)


@pytest.fixture(autouse=True)
def nothing_stays():
    before = set(psutil.Process().children())  # of other tests: multiprocessing keeps a process of its own
    yield
    assert not set(psutil.Process().children()) - before


class Told(list):
    """What a watch says; somebody asks for the end once `enough` was said."""

    def __init__(self, enough: int = 1) -> None:
        super().__init__()
        self.enough = enough

    def asked_s(self) -> float:
        return STOP_S + 1 if len(self) >= self.enough else 0.0


def watch(told: Told, on_timeout: str = "wait", timeout_s: float = 0.3) -> Watch:
    return Watch(timeout_s, on_timeout, say=told.append, asked_s=told.asked_s)


def hung(told: Told, on_timeout: str = "wait", how: str = "hang", **more):
    """A vector whose environment number 2 breaks in its third step, after two steps."""
    vec = make_vec(FRAGILE, kwargs={"how": how}, watch=watch(told, on_timeout), **TWO | more)
    vec.reset(SEED)
    for _ in range(2):
        vec.step(IDLE)
    return vec


def test_a_hang_is_told_with_environment_step_and_seed_and_waiting_ends_when_somebody_wants_it():
    told = Told()
    with hung(told) as vec:
        begin = time.monotonic()
        with pytest.raises(Quit):
            vec.step(IDLE)
        assert time.monotonic() - begin < 3
    assert len(told) == 2 and all(
        f"'{FRAGILE}', number 2 (worker 1 of 2, rows 2 to 3), in step 3 since the seed {env_seed(SEED, 2)}" in text
        for text in told)
    assert "has not answered for 0 s; waiting on" in told[0] and "is not waited for" in told[1]


def test_a_hang_in_a_reset_is_told_as_one():
    told = Told()
    with make_vec(FRAGILE, kwargs={"how": "hang", "when": "reset"}, watch=watch(told), **TWO) as vec, \
            pytest.raises(Quit):
        vec.reset(SEED)
    assert "number 2 (worker 1 of 2, rows 2 to 3), in reset since the seed" in told[0]


def test_a_hang_stops_the_vector_if_that_is_wanted():
    with hung(Told(9), "stop") as vec, pytest.raises(EnvFailure, match=r"number 2 .*in step 3 .* 'stop'"):
        vec.step(IDLE)


def restarted_rows(vec) -> np.ndarray:
    """The first observations after the step that restarted worker 1, which must mask its rows alone."""
    batch = vec.step(IDLE)
    assert not batch.valid[2:].any() and batch.valid[:2].any() and vec.dropped == [slice(2, 4)]
    assert not batch.rewards[2:].any() and not batch.terminations[2:].any() and not batch.truncations[2:].any()
    return batch.obs[2:].copy()


@pytest.mark.parametrize("how", ["hang", "os_exit", "segfault"])
def test_a_worker_that_hangs_or_dies_is_restarted_and_its_rows_begin_new_episodes(how):
    """From a seed that follows from the vector's, the worker's number and how often it was restarted."""
    told = Told(9)
    with hung(told, "restart", how) as vec:
        obs = restarted_rows(vec)
        seed = int(np.random.SeedSequence((SEED, 2, 1)).generate_state(1)[0])
        assert f"from the seed {seed}" in told[0] and "worker 1 is restarted" in told[0] and ",:" not in told[0]
        assert ("has not answered" if how == "hang" else "its process") in told[0]
        assert (obs[:, 0] == np.float32([env_seed(seed, 2) - env_seed(SEED, 0), env_seed(seed, 3) - env_seed(SEED, 0)])
                ).all() and (obs[:, 2] == 0).all()
        batch = vec.step(IDLE)
        assert batch.valid[2:].all() and not vec.dropped and (batch.obs[2:, 2] == 1).all()
        lengths = [length for _ in range(4) for length in vec.step(IDLE).episode_lengths]
        assert max(lengths) <= 5  # those of whole episodes: nothing of the ones that were given up


@pytest.mark.parametrize("name", ["cartpole", FRAGILE])
def test_a_stopped_worker_is_restarted_too(name):
    told = Told(9)
    kwargs = {"how": "hang", "who": 9} if name == FRAGILE else {}
    with make_vec(name, kwargs=kwargs, watch=watch(told, "restart"), **TWO) as vec:
        vec.reset(SEED)
        vec.step(IDLE)
        stopped = vec._puffer.processes[1]
        os.kill(stopped.pid, signal.SIGSTOP)
        restarted_rows(vec)
        assert not psutil.pid_exists(stopped.pid) and "in step 2 since the seed" in told[0]
        assert vec.step(IDLE).valid[2:].all()


def test_a_stopped_worker_that_goes_on_is_waited_for():
    told = Told(9)
    with make_vec("cartpole", watch=watch(told), **TWO) as vec:
        vec.reset(SEED)
        pid = vec._puffer.processes[0].pid
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (pid, signal.SIGCONT)).start()
        assert vec.step(IDLE).valid.all()
    assert len(told) == 1 and "numbers 0 to 1 (worker 0 of 2, rows 0 to 1), in step 1" in told[0]


def test_a_worker_that_never_gets_anywhere_is_not_restarted_for_ever():
    told = Told(99)
    with make_vec(FRAGILE, kwargs={"how": "os_exit", "when": "reset", "who": 0}, num_envs=1, num_workers=1,
                  backend="multiprocessing", watch=watch(told, "restart")) as vec:
        vec._puffer._restarts.seed = lambda seed, worker: SEED  # so that it is environment number 0 again
        with pytest.raises(EnvFailure, match="it is not restarted again"):
            vec.reset(SEED)
    assert len(told) == RESTARTS


class Once(gymnasium.Env):
    """Episodes of 5 steps with a reward of 1; the first process of all hangs in the third step."""

    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (1,)), gymnasium.spaces.Discrete(2)

    def __init__(self, marker: str) -> None:
        self.marker, self.steps = Path(marker), 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 3 and not self.marker.exists():
            self.marker.touch()
            time.sleep(60)
        return np.zeros(1, np.float32), 1.0, self.steps == 5, False, {}


def test_an_evaluated_episode_that_was_given_up_is_played_again(tmp_path):
    told = Told(9)
    with make_vec(Once, kwargs={"marker": str(tmp_path / "hung")}, num_envs=2, num_workers=1,
                  watch=watch(told, "restart")) as vec:
        scores = evaluate(vec, lambda obs, starts: np.zeros((2, 1), np.int32), 4, SEED)
    assert scores.returns.tolist() == [5.0] * 4 and scores.lengths.tolist() == [5] * 4 and len(told) == 1


def test_environments_that_could_crash_step_elsewhere_where_that_is_wanted(monkeypatch):
    def backend(name, **more):
        with make_vec(name, num_envs=2, **more) as vec:
            return vec.backend, vec.num_workers

    guard = Watch(guard=True)
    assert backend(Gymnasium) == ("serial", 0)
    assert backend(Gymnasium, watch=guard) == ("multiprocessing", 1)
    assert backend(Gymnasium, watch=guard, backend="serial") == ("serial", 0)
    assert backend("cartpole", watch=guard) == ("native", 0)
    assert backend("cartpole", watch=Watch(on_timeout="restart")) == ("multiprocessing", 1)
    monkeypatch.setattr(plan, "START_METHOD", "spawn")
    assert backend(lambda: Gymnasium(), watch=guard) == ("serial", 0)  # which another process could not open


def test_this_process_cannot_be_restarted():
    with pytest.raises(InputError, match=r"env\.on_timeout = 'restart': the serial backend .* 'multiprocessing'"):
        make_vec(FRAGILE, kwargs={"how": "hang"}, num_envs=2, backend="serial", watch=Watch(on_timeout="restart"))
    with pytest.raises(InputError, match=r"env\.on_timeout = 'never'"):
        Watch(on_timeout="never")


def test_a_state_in_the_middle_of_a_step_begins_new_episodes():
    with make_vec("cartpole", **TWO) as vec:
        vec.reset(SEED)
        whole = vec.get_state()
        vec.send(IDLE)
        half = vec.get_state()
        vec.recv()
        assert "environments" in whole and "environments" not in half
        first = vec.reset(SEED).copy()
        vec.set_state(half)
        assert (vec.obs != first).any() and vec.step(IDLE).valid.all()


def test_workers_do_not_end_with_the_thread_that_started_them():
    made = []
    thread = threading.Thread(target=lambda: made.append(make_vec(Gymnasium, **TWO)))
    thread.start()
    thread.join()
    time.sleep(0.1)
    with made[0] as vec:
        vec.reset(SEED)
        assert vec.step(IDLE).valid.all()


def test_what_an_environment_has_started_ends_with_a_worker_that_is_killed(tmp_path):
    told = Told(9)
    with make_vec(Starts, kwargs={"note": str(tmp_path / "pid")}, num_envs=1, num_workers=1, backend="multiprocessing",
                  watch=watch(told, "stop")) as vec:
        vec.reset(SEED)
        simulator = psutil.Process(int((tmp_path / "pid").read_text()))
        with pytest.raises(EnvFailure, match="has not answered"):
            vec.step(np.zeros((1, 1), np.int32))
        deadline = time.monotonic() + 2
        while simulator.is_running() and simulator.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)


class Starts(Gymnasium):
    """Has a simulator in a process of its own, and waits for it for ever."""

    def __init__(self, note: str) -> None:
        super().__init__()
        self.note = note

    def reset(self, seed=None, options=None):
        self.simulator = subprocess.Popen(["sleep", "600"])
        Path(self.note).write_text(str(self.simulator.pid))
        return super().reset(seed=seed)

    def step(self, action):
        self.simulator.wait()

    def close(self):
        self.simulator.kill()
        self.simulator.wait()


