"""The kernels' threads: through forks, from several Python threads at once, and that no call sees another's memory."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from puffer_il.kernels import _kernels as kernels
from puffer_il.native.glue import CSRC
from puffer_il.nn.fused import FusedMLP
from tests.support.kernels import make_net

TIMEOUT = 30.0
SOURCE = r"""
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include "kernels/pool.h"
#define SHOWN __attribute__((visibility("default")))
enum { MOST = 512 };

static atomic_int times[MOST], inside[MAX_THREADS], faults;

static void task(void *context, int64_t i, int thread) {
    const Work *work = context;
    if (thread < 0 || thread >= work->threads || atomic_fetch_add(&inside[thread], 1))
        atomic_fetch_add(&faults, 1);  // two tasks at once in one thread's memory
    for (int64_t k = 0; k < i % 7 * 100; k++)
        relax();
    atomic_fetch_add(&times[i], 1);
    atomic_fetch_sub(&inside[thread], 1);
}

/* How often a task was not run exactly once, by a thread that was free. */
SHOWN int stress(int threads, int rounds, int most) {
    for (int round = 0; round < rounds; round++) {
        const int count = round % most + 1;
        memset(times, 0, sizeof times);
        Work work = begin_work(1 + round % threads, 64);
        run_tasks(&work, count, task, &work);
        end_work(&work);
        for (int i = 0; i < MOST; i++)
            if (times[i] != (i < count))
                atomic_fetch_add(&faults, 1);
    }
    return faults;
}

static atomic_bool held;

static void *holder(void *unused) {
    pthread_mutex_lock(&pool.lock);
    atomic_store(&held, true);
    usleep(300000);
    pthread_mutex_unlock(&pool.lock);
    return unused;
}

/* 0 if a child that is forked while another thread has pool.lock can run tasks, else the signal that ends it. */
SHOWN int fork_while_locked(unsigned seconds) {
    stress(3, 20, 50);
    pthread_t thread;
    atomic_store(&held, false);
    pthread_create(&thread, NULL, holder, NULL);
    while (!atomic_load(&held))
        relax();
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(seconds);
        _exit(stress(3, 20, 50));
    }
    int status;
    waitpid(child, &status, 0);
    pthread_join(thread, NULL);
    return status;
}

#ifdef ALONE
int main(void) {
    return stress(4, 3000, 40);
}
#endif
"""


def build(folder: Path, target: str, *flags: str) -> Path:
    (folder / "pool.c").write_text(SOURCE)
    subprocess.run(["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", *flags, f"-I{CSRC}",
                    str(folder / "pool.c"), "-o", str(folder / target), "-lpthread"], check=True, capture_output=True)
    return folder / target


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(str(build(tmp_path_factory.mktemp("pool"), "lib.so", "-shared", "-fPIC", "-fvisibility=hidden")))


def job(rows: int = 6000, seed: int = 0) -> tuple[FusedMLP, Tensor, Tensor]:
    """A network, rows enough for all threads, and what comes out."""
    net = make_net(6, (64, 64), 3, "tanh", seed)
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return net, x, net(x)


def fork_and_check(net: FusedMLP, x: Tensor, expected: Tensor, timeout: float) -> int | None:
    """Exit status of a child that computes the same, 0 if it comes out right; None if it does not end."""
    child = os.fork()
    if child == 0:
        with torch.no_grad():
            os._exit(0 if torch.equal(net(x), expected) else 1)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


def test_every_task_is_run_once_by_a_thread_that_is_free(lib: ctypes.CDLL) -> None:
    assert lib.stress(1, 100, 300) == 0
    assert lib.stress(5, 1200, 300) == 0


def test_the_pool_has_no_data_race(tmp_path: Path) -> None:
    try:
        program = build(tmp_path, "race", "-DALONE", "-g", "-fsanitize=thread")
    except subprocess.CalledProcessError:
        pytest.skip("this compiler has no ThreadSanitizer")
    done = subprocess.run([program], capture_output=True, text=True, timeout=4 * TIMEOUT)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot run on this kernel")
    assert done.returncode == 0, done.stderr[:3000]


def test_a_forked_child_starts_threads_of_its_own() -> None:
    kernels.set_threads(3)
    net, x, expected = job()
    for _ in range(10):
        time.sleep(0.002)  # the threads are asleep
        assert fork_and_check(net, x, expected, TIMEOUT) == 0
        assert torch.equal(net(x).detach(), expected)  # nor has the parent lost anything


def test_a_fork_while_a_thread_holds_the_lock_leaves_the_child_a_pool_that_works(lib: ctypes.CDLL) -> None:
    """As threads do for an instant whenever they fall asleep or wake."""
    assert lib.fork_while_locked(2) == 0


def test_a_child_of_multiprocessing_can_use_them() -> None:
    kernels.set_threads(3)
    net, x, expected = job()
    context = multiprocessing.get_context("fork")
    received, sent = context.Pipe(duplex=False)

    def work() -> None:
        with torch.no_grad():
            sent.send(bool(torch.equal(net(x), expected)))

    child = context.Process(target=work)
    child.start()
    child.join(TIMEOUT)
    assert child.exitcode == 0, child.kill()
    assert received.recv()


def test_python_threads_may_call_at_once() -> None:
    kernels.set_threads(2)
    jobs = [job(rows, seed) for seed, rows in enumerate((6000, 6000, 50))]
    wrong: list[int] = []
    start = threading.Barrier(len(jobs))

    def work(k: int) -> None:
        net, x, expected = jobs[k]
        start.wait()
        for _ in range(60):
            with torch.no_grad():
                if not torch.equal(net(x), expected):
                    wrong.append(k)
        gradients = [torch.autograd.grad(net(x).sum(), list(net.parameters())) for _ in range(10)]
        if not all(torch.equal(a, b) for g in gradients for a, b in zip(g, gradients[0], strict=True)):
            wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert not any(thread.is_alive() for thread in threads) and wrong == []


def test_the_number_of_threads_may_change_between_calls() -> None:
    net, x, expected = job()
    assert kernels.get_threads() >= 1
    for count in (1, 5, 2, 3, 0, -1):
        kernels.set_threads(count)
        assert kernels.get_threads() == max(1, count)
        assert torch.equal(net(x).detach(), expected)


def test_a_process_ends_although_threads_sleep() -> None:
    source = ("import torch; from puffer_il.kernels import _kernels as k; from puffer_il.nn.networks import mlp\n"
              "k.set_threads(4); print(mlp(4, (64,), 2, 'tanh')(torch.zeros(9000, 4)).shape)")
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=2 * TIMEOUT)
    assert done.returncode == 0 and "9000" in done.stdout
