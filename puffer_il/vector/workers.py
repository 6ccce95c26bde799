"""PufferLib's Multiprocessing backend, made fit for any number of cores and for environments that die.

PufferLib's own spins: waiting workers keep the processor from working ones, and it waits for a dead one for ever. Here
a wait yields for a moment, then sleeps on a semaphore, and checks meanwhile that the processes are alive.
"""

import contextlib
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing import connection, util
from typing import Any

import numpy as np

from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.core.spec import Array
from puffer_il.native.pufferlib import pufferlib
from puffer_il.vector.make import Creator, EnvFacts, env_seed
from puffer_il.vector.serial import Serial, allocate, layout
from puffer_il.vector.snapshot import Unreadable

STEP, RESET, GET_STATE, SET_STATE, CLOSE, FAILED = range(6)
# To sleep and be woken costs 20 to 100 µs on a virtual machine: a wait of that order is better spent yielding the
# processor. Yielding for longer gained nothing and would disturb the learner, which needs the same cores in between.
YIELD_S = 200e-6
PATIENCE_S = 0.1  # between two looks at whether the workers are alive
GRACE_S = 1.0  # for environments to close
MESSAGE_CHARACTERS = 16_000  # fewer than a pipe holds, so that a failing worker never waits for its parent to read
START_METHOD = "fork" if sys.platform == "linux" else "spawn"
_yield = getattr(os, "sched_yield", lambda: time.sleep(0))


class Workers(pufferlib.vector.Multiprocessing):
    """`num_workers` processes, each with a Serial of `count` instances on memory that it shares with this one.

    Group g is the g-th of `num_groups` contiguous blocks of workers; `send` and `recv` take one group at a time.
    A worker that dies is noticed within PATIENCE_S of waiting for any of them: all are ended and EnvFailure is raised.
    Workers leave with their parent, however it ends.
    """

    def __init__(self, creator: Creator, facts: EnvFacts, count: int, rows: int, num_workers: int, num_groups: int = 1,
                 seed: int = 0) -> None:
        context: Any = multiprocessing.get_context(START_METHOD)
        memory = {name: context.RawArray("b", rows * dtype.itemsize * int(np.prod(shape)))
                  for name, (dtype, shape) in layout(facts).items()}
        self.__dict__ |= {"final_observations": None, "logs": None} | allocate(facts, rows, memory)
        self.single_observation_space = facts.single_observation_space
        self.single_action_space = facts.single_action_space
        self.num_workers, self.num_agents, self.agents_per_batch = num_workers, rows, rows // num_groups
        self.agent_ids = np.arange(rows)
        self._name, self._rows_each, self._workers_each = creator.name, rows // num_workers, num_workers // num_groups
        self._commands = context.RawArray("b", num_workers)
        self._go, self._done = ([context.Semaphore(0) for _ in range(num_workers)] for _ in range(2))
        self._busy = [True] * num_workers  # constructing
        self._pipes: list[connection.Connection] = []
        self.processes: list[Any] = []
        # Runs on close, when nobody holds this object any more, and at exit before multiprocessing joins its children.
        self._finalize = util.Finalize(self, _end, (self.processes, self._pipes, self._commands, self._go),
                                       exitpriority=100)
        for worker in range(num_workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, name=f"puffer_il worker {worker}", args=(
                worker, creator, facts, count, self._rows_each, num_workers, memory, seed, theirs, self._commands,
                self._go[worker], self._done[worker]))
            with warnings.catch_warnings():
                # Forking beside threads is warned of from Python 3.12 on; workers use nothing that threads may hold.
                warnings.simplefilter("ignore", DeprecationWarning)
                try:
                    process.start()
                except (pickle.PicklingError, AttributeError, TypeError) as error:  # what pickling a function raises
                    self.close()
                    raise InputError(f"environment {creator.name!r} cannot be sent to worker processes ({error}); "
                                     "define its function at the top of a module, or set env.backend = 'serial'"
                                     ) from None
            self.processes.append(process)
            self._pipes.append(ours)
            theirs.close()  # so that reading from a dead worker ends
        self._wait(range(num_workers))

    def async_reset(self, seed: int) -> None:
        """New episodes of every environment, seeded by `seed` and its index; `recv` once for each group."""
        workers = range(self.num_workers)
        self._wait(workers)
        self._tell(workers, RESET)
        for pipe in self._pipes:
            with contextlib.suppress(BrokenPipeError):  # `recv` tells how the worker died
                pipe.send(seed)

    def send(self, actions: Array | None, group: int = 0) -> None:
        """Begin a step of a group. `actions` (rows, …) of the group, or None if they are in `self.actions` already."""
        if actions is not None:
            self.actions[self._rows(group)] = actions
        self._tell(self._workers(group), STEP)

    def recv(self, group: int = 0) -> tuple:
        """What PufferLib's recv returns, for the rows of a group: views of shared memory."""
        self._wait(self._workers(group))
        rows = self._rows(group)
        return (self.observations[rows], self.rewards[rows], self.terminals[rows], self.truncations[rows], [],
                self.agent_ids[rows], self.masks[rows])

    def get_state(self) -> Array:
        """uint8 (num_workers, bytes); only where environments are exact. Unreadable if it cannot be had now."""
        workers = range(self.num_workers)
        self._wait(workers)
        self._tell(workers, GET_STATE)
        self._wait(workers)
        parts = self._answers()
        width = max(part.shape[1] for part in parts)
        return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])

    def set_state(self, state: Array) -> None:
        """Unreadable if it cannot be put back; the environments must then be reset."""
        workers = range(self.num_workers)
        self._wait(workers)
        self._tell(workers, SET_STATE)
        for pipe, part in zip(self._pipes, state, strict=True):
            with contextlib.suppress(BrokenPipeError):
                pipe.send(part[None])
        self._wait(workers)
        self._answers()

    def close(self) -> None:
        """Close the environments and end the workers, those that do not answer within GRACE_S by force."""
        self._finalize()

    def _rows(self, group: int) -> slice:
        return slice(group * self.agents_per_batch, (group + 1) * self.agents_per_batch)

    def _workers(self, group: int) -> range:
        return range(group * self._workers_each, (group + 1) * self._workers_each)

    def _tell(self, workers: range, command: int) -> None:
        for worker in workers:
            self._busy[worker] = True
            self._commands[worker] = command
            self._go[worker].release()

    def _answers(self) -> list[Any]:
        """What every worker has to say; Unreadable if one could not do it."""
        try:
            answers = [pipe.recv() for pipe in self._pipes]
        except EOFError:
            raise self._failure() from None
        if unable := [answer for answer in answers if isinstance(answer, str)]:
            raise Unreadable(unable[0])
        return answers

    def _wait(self, workers: range) -> None:
        """Wait until these workers are done; EnvFailure as soon as any worker is found dead."""
        for worker in workers:
            if self._busy[worker]:
                while not _acquire(self._done[worker], PATIENCE_S):
                    if not all(process.is_alive() for process in self.processes):
                        raise self._failure()
                self._busy[worker] = False
                if self._commands[worker] == FAILED:
                    raise self._failure()

    def _failure(self) -> EnvFailure:
        """What happened to the first dead worker, after all are ended."""
        worker = next((w for w, command in enumerate(self._commands) if command == FAILED), None)
        if worker is None:
            ended = connection.wait([process.sentinel for process in self.processes], GRACE_S)
            worker = next(w for w, process in enumerate(self.processes) if process.sentinel in ended)
        process, pipe = self.processes[worker], self._pipes[worker]
        rows = f"rows {worker * self._rows_each} to {(worker + 1) * self._rows_each - 1}"
        where = f"(worker {worker} of {self.num_workers}, {rows})"
        if self._commands[worker] == FAILED:
            text = f"{pipe.recv()} {where}"
        else:
            process.join()
            code = process.exitcode
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
            text = f"environment {self._name!r}: its process {how} {where}"
        self.close()
        return EnvFailure(text)


def _acquire(semaphore: Any, timeout: float | None = None) -> bool:
    """Wait for a semaphore: yielding at first, then asleep. False if `timeout` seconds were not enough."""
    asleep = time.perf_counter() + YIELD_S
    while not semaphore.acquire(False):
        if time.perf_counter() > asleep:
            return semaphore.acquire(True, timeout)
        _yield()
    return True


def _work(worker: int, creator: Creator, facts: EnvFacts, count: int, rows: int, num_workers: int,
          memory: dict[str, Any], seed: int, pipe: connection.Connection, commands: Any, go: Any, done: Any) -> None:
    """A worker process: does what it is told until told to close, or until something fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means,
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # also one that is sent to all processes of a job
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        first_env = worker * rows // facts.num_agents
        # Environments that draw from the global generators must not draw the same numbers in every worker.
        random.seed(env_seed(seed, first_env))
        np.random.seed(env_seed(seed, first_env))
        shared = allocate(facts, rows * num_workers, memory)
        own = {name: array[worker * rows:(worker + 1) * rows] for name, array in shared.items()}
        envs = Serial(creator, facts, count, own, seed, first_env)
        reply = None
        while True:
            done.release()
            if reply is not None:
                pipe.send(reply)  # after the release, as it waits until the parent reads
                reply = None
            _acquire(go)
            command = commands[worker]
            if command == STEP:
                envs.send(None)
            elif command == RESET:
                envs.async_reset(pipe.recv())
            elif command == GET_STATE:
                reply = _tried(envs.get_state)
            elif command == SET_STATE:
                state = pipe.recv()
                reply = _tried(partial(envs.set_state, state))
            else:
                break
        envs.close()
    except BaseException as error:
        told = isinstance(error, EnvFailure | InputError)
        pipe.send((str(error) if told else traceback.format_exc())[-MESSAGE_CHARACTERS:])
        commands[worker] = FAILED
        done.release()


def _tried(do: Callable[[], Any]) -> Any:
    """Its result, True for None; why it could not be done if that is Unreadable."""
    try:
        result = do()
    except Unreadable as error:
        return str(error)
    return True if result is None else result


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _end(processes: list[Any], pipes: list[connection.Connection], commands: Any, go: list[Any]) -> None:
    for worker in range(len(processes)):
        commands[worker] = CLOSE
        go[worker].release()
    deadline = time.monotonic() + GRACE_S
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()
    for pipe in pipes:
        pipe.close()
