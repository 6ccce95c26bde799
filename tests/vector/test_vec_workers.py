"""Worker processes: how they die, how they end, and that nothing of them stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.vector import workers
from puffer_il.vector.vec import make_vec
from tests.support.identified import SEED, Gymnasium

GYMNASIUM, FRAGILE = "tests.support.identified:Gymnasium", "tests.support.identified:Fragile"
TWO = {"num_envs": 4, "backend": "multiprocessing", "num_workers": 2}
IDLE = np.zeros((4, 1), np.int32)


def children():
    """Worker processes; Python's own resource tracker, which spawning starts, stays for good."""
    return [child for child in psutil.Process().children() if "resource_tracker" not in " ".join(child.cmdline())]


@pytest.fixture(autouse=True)
def nothing_stays():
    """No test leaves a child process or shared memory behind."""
    shared = set(os.listdir("/dev/shm"))
    yield
    assert not children()
    left, deadline = set(os.listdir("/dev/shm")) - shared, time.monotonic() + 2
    while left and time.monotonic() < deadline:  # other processes make and remove names of their own
        time.sleep(0.01)
        left &= set(os.listdir("/dev/shm"))
    assert not left


def fails(vec, within=2.0):
    """Step until the environment fails; the message. It must take less than `within` seconds, with all ended."""
    vec.reset(SEED)
    start = time.monotonic()
    with pytest.raises(EnvFailure) as failure:
        for _ in range(10):
            vec.step(IDLE)
    assert time.monotonic() - start < within
    assert not children()
    return str(failure.value)


@pytest.mark.parametrize("how, told", [
    ("exception", r"ZeroDivisionError: the pole has snapped"),
    ("exit", "SystemExit: 3"),
    ("os_exit", "its process exited with code 4"),
    ("segfault", "its process was killed by SIGSEGV"),
    ("kill", "its process was killed by SIGKILL"),
])
def test_a_death_in_step_ends_the_vector_at_once(how, told):
    with make_vec(FRAGILE, kwargs={"how": how}, **TWO) as vec:
        message = fails(vec)
    assert told in message and "(worker 1 of 2, rows 2 to 3)" in message
    assert ("number 2, failed in step" in message) == (how in ("exception", "exit"))


def test_a_death_is_noticed_while_another_worker_is_slow():
    """Worker 0 never answers; the wait for it must still see that worker 1 is gone."""
    with make_vec(FRAGILE, kwargs={"how": "hang", "who": 1}, **TWO) as vec:
        vec.reset(SEED)
        for _ in range(2):
            vec.step(IDLE)
        vec.send(IDLE)
        start = time.monotonic()
        os.kill(children()[1].pid, signal.SIGKILL)
        with pytest.raises(EnvFailure, match="SIGKILL"):
            vec.recv()
        assert time.monotonic() - start < 2


def test_a_death_between_two_steps_is_noticed():
    with make_vec(GYMNASIUM, **TWO) as vec:
        vec.reset(SEED)
        vec.step(IDLE)
        os.kill(children()[0].pid, signal.SIGKILL)
        start = time.monotonic()
        with pytest.raises(EnvFailure, match=r"SIGKILL \(worker 0 of 2, rows 0 to 1\)"):
            vec.step(IDLE)
        assert time.monotonic() - start < 2


def test_a_death_in_reset():
    with (make_vec(FRAGILE, kwargs={"how": "exception", "when": "reset"}, **TWO) as vec,
          pytest.raises(EnvFailure, match=r"number 2, failed in reset:\n(.|\n)*the pole has snapped")):
        vec.reset(SEED)


def test_a_death_in_the_constructor():
    with pytest.raises(EnvFailure, match="no display in this process"):
        make_vec("tests.support.identified:fragile_constructor", kwargs={"parent": os.getpid()}, **TWO)


@pytest.mark.parametrize("how", ["exception", "exit"])
def test_a_failure_in_this_process_tells_the_same(how):
    with make_vec(FRAGILE, kwargs={"how": how}, num_envs=4, backend="serial") as vec:
        assert "number 2, failed in step" in fails(vec)


def test_a_state_cannot_be_had_from_the_dead():
    with make_vec("cartpole", **TWO) as vec:
        vec.reset(SEED)
        os.kill(children()[1].pid, signal.SIGKILL)
        with pytest.raises(EnvFailure, match="SIGKILL"):
            vec.get_state()


def test_closing_ends_a_worker_that_hangs():
    vec = make_vec(FRAGILE, kwargs={"how": "hang"}, **TWO)
    vec.reset(SEED)
    for _ in range(2):
        vec.step(IDLE)
    vec.send(IDLE)
    start = time.monotonic()
    vec.close()
    assert time.monotonic() - start < 2
    vec.close()


def test_a_forgotten_vector_ends_its_workers():
    vec = make_vec(GYMNASIUM, **TWO)
    vec.reset(SEED)
    del vec
    assert not children()


def test_workers_leave_interrupts_to_their_parent():
    with make_vec(GYMNASIUM, **TWO) as vec:
        vec.reset(SEED)
        for worker in children():
            worker.send_signal(signal.SIGINT)
            worker.send_signal(signal.SIGTERM)
        assert vec.step(IDLE).valid.all()


PARENT = f"""
import sys, time, threading
from puffer_il.vector.vec import make_vec
import numpy as np
made = []
def make():
    made.append(make_vec("{FRAGILE}", kwargs={{"how": "hang", "who": int(sys.argv[1])}}, num_envs=4, num_workers=2))
if sys.argv[2] == "thread":
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
else:
    make()
vec = made[0]
vec.reset({SEED})
for _ in range(2):
    vec.step(np.zeros((4, 1), np.int32))
vec.send(np.zeros((4, 1), np.int32))
print(*[process.pid for process in vec._puffer.processes], flush=True)
if sys.argv[2] != "exit":
    time.sleep(60)
"""


@pytest.mark.parametrize("who, ending, stopped", [(9, "wait", False), (2, "wait", False), (9, "exit", False),
                                                  (9, "wait", True), (9, "thread", True)])
def test_workers_do_not_outlive_their_parent(who, ending, stopped):
    """Killed while its workers are idle, in an endless step, or stopped, whichever thread has started them; or ended
    without closing."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(who), ending], stdout=subprocess.PIPE, text=True,
                              cwd=Path(__file__).parents[2])
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    if stopped:
        os.kill(pids[0], signal.SIGSTOP)
    if ending != "exit":
        assert all(map(runs, pids))
        parent.kill()
    parent.wait(5)
    parent.stdout.close()
    deadline = time.monotonic() + 2
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(runs, pids))


def runs(pid):
    """False once it is gone, or left over for init to collect."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_function_that_spawned_workers_cannot_be_sent_is_refused(monkeypatch):
    monkeypatch.setattr(workers, "START_METHOD", "spawn")
    with pytest.raises(InputError, match=r"'lambda\(\)' cannot be sent to worker processes .*at the top of a module"):
        make_vec(lambda: Gymnasium(), num_envs=2, num_workers=2)


def test_spawned_workers_give_the_same_rows_and_import_no_torch(monkeypatch):
    def rows():
        with make_vec(GYMNASIUM, kwargs={"observation": "dict"}, **TWO) as vec:
            vec.reset(SEED)
            maps = [Path(f"/proc/{worker.pid}/maps").read_text() for worker in vec._puffer.processes]
            return [vec.step(IDLE).obs.tobytes() for _ in range(5)], "libtorch" in "".join(maps)

    forked, _ = rows()
    monkeypatch.setattr(workers, "START_METHOD", "spawn")
    spawned, torch = rows()
    assert spawned == forked and not torch


def test_waiting_workers_leave_the_processor_alone():
    with make_vec("CartPole-v1", **TWO) as vec:
        vec.reset(SEED)
        vec.step(IDLE)
        time.sleep(0.05)
        before = [sum(worker.cpu_times()[:2]) for worker in children()]
        time.sleep(0.3)
        after = [sum(worker.cpu_times()[:2]) for worker in children()]
        assert max(np.subtract(after, before)) <= 0.02


def test_more_workers_than_cores_do_not_stall():
    cores = os.cpu_count()
    with make_vec("CartPole-v1", num_envs=8 * cores, backend="multiprocessing", num_workers=4 * cores) as vec:
        vec.reset(SEED)
        start = time.monotonic()
        for _ in range(200):
            vec.step(np.zeros((vec.num_envs, 1), np.int32))
        assert time.monotonic() - start < 2
