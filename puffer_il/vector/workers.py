"""PufferLib's Multiprocessing backend, made fit for any number of cores and for environments that die.

PufferLib's own spins: waiting workers keep the processor from working ones, and it waits for a dead one for ever. Here
a wait yields for a moment, then sleeps on a semaphore, and checks meanwhile that the processes are alive, and how long
they have been silent (watch.py).
"""

import contextlib
import faulthandler
import multiprocessing
import os
import pickle
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing import connection, util
from typing import Any

import numpy as np

from puffer_il.core.errors import EnvFailure, InputError, Quit, WorkerKilled
from puffer_il.core.spec import Array
from puffer_il.native.pufferlib import pufferlib
from puffer_il.vector.make import Creator, EnvFacts, env_seed
from puffer_il.vector.processes import end_with_parent, kill, launch
from puffer_il.vector.serial import Serial, allocate, layout, numbered
from puffer_il.vector.snapshot import Unreadable
from puffer_il.vector.watch import Restarts, Wait, Watch

STEP, RESET, GET_STATE, SET_STATE, CLOSE, FAILED, OPEN = range(7)
DOING = {RESET: "reset", GET_STATE: "telling its state", SET_STATE: "taking up a state", OPEN: "being opened"}
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
    One that does not answer is reported, and restarted or given up, as `watch` says; `restarted` are the rows of those
    that were in the last step, until the next `send`. Workers leave with their parent, however it ends.
    """

    def __init__(self, creator: Creator, facts: EnvFacts, count: int, rows: int, num_workers: int, num_groups: int = 1,
                 seed: int = 0, watch: Watch | None = None) -> None:
        context: Any = multiprocessing.get_context(START_METHOD)
        memory = {name: context.RawArray("b", rows * dtype.itemsize * int(np.prod(shape)))
                  for name, (dtype, shape) in layout(facts).items()}
        self.__dict__ |= {"final_observations": None, "logs": None} | allocate(facts, rows, memory)
        self.masks[:] = True  # as `allocate` has them
        self.single_observation_space = facts.single_observation_space
        self.single_action_space = facts.single_action_space
        self.num_workers, self.num_agents, self.agents_per_batch = num_workers, rows, rows // num_groups
        self.agent_ids = np.arange(rows)
        self._name, self._rows_each, self._workers_each = creator.name, rows // num_workers, num_workers // num_groups
        self.watch = watch or Watch()
        self.restarted: list[slice] = []
        self._restarts, self._facts = Restarts(num_workers), facts
        self._seeds, self._steps = [seed] * num_workers, [0] * num_workers  # of each worker, steps since that seed
        self._commands = context.RawArray("b", [OPEN] * num_workers)
        self._at = context.RawArray("i", num_workers)  # what each worker's Serial writes into `at`
        self._go, self._done = ([context.Semaphore(0) for _ in range(num_workers)] for _ in range(2))
        self._busy = [True] * num_workers  # constructing
        self._pipes: list[connection.Connection] = []
        self.processes: list[Any] = []
        # Runs on close, when nobody holds this object any more, and at exit before multiprocessing joins its children.
        self._finalize = util.Finalize(self, _end, (self.processes, self._pipes, self._commands, self._go),
                                       exitpriority=100)
        self._context, self._arguments = context, (creator, facts, count, self._rows_each, num_workers, memory, seed)
        for worker in range(num_workers):
            self._start(worker)
        self._wait(range(num_workers))

    def async_reset(self, seed: int) -> None:
        """New episodes of every environment, seeded by `seed` and its index; `recv` once for each group."""
        workers = range(self.num_workers)
        self._wait(workers)
        self._seeds[:], self._steps[:] = [seed] * self.num_workers, [0] * self.num_workers
        self._tell(workers, RESET)
        for pipe in self._pipes:
            with contextlib.suppress(BrokenPipeError):  # `recv` tells how the worker died
                pipe.send(seed)

    def send(self, actions: Array | None, group: int = 0) -> None:
        """Begin a step of a group. `actions` (rows, …) of the group, or None if they are in `self.actions` already."""
        if self.restarted:
            self._take_part_again(group)
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

    def _start(self, worker: int) -> None:
        """Start the process of a worker, for the first time or in place of one that is gone."""
        ours, theirs = self._context.Pipe()
        creator, *more = self._arguments
        process = self._context.Process(target=_work, name=f"puffer_il worker {worker}", args=(
            worker, creator, *more, theirs, self._commands, self._at, self._go[worker], self._done[worker]))
        with warnings.catch_warnings():
            # Forking beside threads is warned of from Python 3.12 on; workers use nothing that threads may hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                launch(process)
            except (pickle.PicklingError, AttributeError, TypeError) as error:  # what pickling a function raises
                self.close()
                raise InputError(f"environment {creator.name!r} cannot be sent to worker processes ({error}); "
                                 "define its function at the top of a module, or set env.backend = 'serial'"
                                 ) from None
        self.processes[worker:worker + 1], self._pipes[worker:worker + 1] = [process], [ours]
        theirs.close()  # so that reading from a dead worker ends

    def _tell(self, workers: range, command: int) -> None:
        for worker in workers:
            self._busy[worker] = True
            if command == STEP:
                self._steps[worker] += 1
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
                if not _acquire(self._done[worker], PATIENCE_S):
                    self._wait_longer(worker)
                self._busy[worker] = False
                if self._commands[worker] == FAILED:
                    raise self._failure()

    def _wait_longer(self, worker: int) -> None:
        """The same for one worker that is slow, with a look at the clock now and then."""
        wait = Wait(self.watch, needed=self._commands[worker] in (GET_STATE, SET_STATE))
        while True:
            again = self.watch.on_timeout == "restart" and FAILED not in self._commands[:]
            if again and not self.processes[worker].is_alive():
                ended = _ending(self.processes[worker])
                self._restart(worker, f"{self._who(worker).rstrip(',')}: its process {ended}")
            elif not again and not all(process.is_alive() for process in self.processes):
                raise self._failure()
            elif verdict := self._verdict(worker, wait):
                told = wait.told(self._who(worker))
                if verdict == "stop":
                    kill(self.processes[worker])
                    raise self._given_up(f"{told} (env.on_timeout = 'stop')")
                self._restart(worker, told)
            elif not _acquire(self._done[worker], PATIENCE_S):
                continue
            return

    def _verdict(self, worker: int, wait: Wait) -> str:
        """What is to be done about a worker that is slow; if that is to end all, it is not waited for in closing."""
        try:
            return wait.over(lambda: self._who(worker))
        except Quit:
            kill(self.processes[worker])
            raise

    def _restart(self, worker: int, why: str) -> None:
        """Begin again with a new process and new episodes in place of a worker that is gone, or does not answer; the
        step that it was in is of no worth."""
        command, number = self._commands[worker], self._steps[worker]
        if command in (GET_STATE, SET_STATE) or not self._restarts.add(worker, number):
            raise self._given_up(f"{why}; it is not restarted again")
        seed = self._restarts.seed(self._seeds[worker], worker)
        first = worker * self._rows_each
        rows = slice(first, first + self._rows_each)
        self.watch.say(f"{why}: worker {worker} is restarted, and its rows {first} to {rows.stop - 1} begin new "
                       f"episodes from the seed {seed}")
        kill(self.processes[worker])
        self._pipes[worker].close()
        self._go[worker], self._done[worker] = self._context.Semaphore(0), self._context.Semaphore(0)
        self._commands[worker], self._busy[worker] = OPEN, True
        self._start(worker)
        self._wait(range(worker, worker + 1))
        if command != OPEN:
            self._seeds[worker] = seed
            self._tell(range(worker, worker + 1), RESET)
            with contextlib.suppress(BrokenPipeError):
                self._pipes[worker].send(seed)
            self._wait(range(worker, worker + 1))
        self._steps[worker] = number  # counted on, so that restarts in a row are seen
        if command == STEP:
            self.rewards[rows], self.terminals[rows], self.truncations[rows] = 0, False, False
            self.masks[rows] = False
            self.restarted.append(rows)

    def _take_part_again(self, group: int) -> None:
        """Rows of a group that were restarted in the last step count from now on; not every environment says so."""
        own = self._rows(group)
        for rows in [rows for rows in self.restarted if own.start <= rows.start < own.stop]:
            self.masks[rows] = True
            self.restarted.remove(rows)

    def _who(self, worker: int) -> str:
        """Who does not answer, and in what, for the user."""
        command, at = self._commands[worker], self._at[worker]
        index = at if at >= 0 else -1 - at  # as Serial writes it
        first = worker * self._rows_each // self._facts.num_agents
        each = 1 if not self._facts.native else self._rows_each // self._facts.num_agents
        number = first + index * each
        doing = DOING.get(command, f"{'the reset in ' if at < 0 else ''}step {self._steps[worker]}")
        seed = self._seeds[worker] if self._facts.indexed else env_seed(self._seeds[worker], number)
        return (f"environment {self._name!r}, {numbered(number, number + each - 1)} {self._where(worker)}, in {doing} "
                f"since the seed {seed},")

    def _where(self, worker: int) -> str:
        rows = f"rows {worker * self._rows_each} to {(worker + 1) * self._rows_each - 1}"
        return f"(worker {worker} of {self.num_workers}, {rows})"

    def _given_up(self, text: str) -> EnvFailure:
        self.close()
        return EnvFailure(text)

    def _failure(self) -> EnvFailure:
        """What happened to the first dead worker, after all are ended."""
        worker = next((w for w, command in enumerate(self._commands) if command == FAILED), None)
        if worker is None:
            ended = connection.wait([process.sentinel for process in self.processes], GRACE_S)
            worker = next(w for w, process in enumerate(self.processes) if process.sentinel in ended)
        process, pipe = self.processes[worker], self._pipes[worker]
        where = self._where(worker)
        if self._commands[worker] == FAILED:
            return self._given_up(f"{pipe.recv()} {where}")
        text = f"environment {self._name!r}: its process {_ending(process)} {where}"
        killed = process.exitcode == -signal.SIGKILL
        self.close()
        return WorkerKilled(text) if killed else EnvFailure(text)


def _ending(process: Any) -> str:
    """How a process that is gone has ended."""
    process.join()
    code = process.exitcode
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


def _acquire(semaphore: Any, timeout: float | None = None) -> bool:
    """Wait for a semaphore: yielding at first, then asleep. False if `timeout` seconds were not enough."""
    asleep = time.perf_counter() + YIELD_S
    while not semaphore.acquire(False):
        if time.perf_counter() > asleep:
            return semaphore.acquire(True, timeout)
        _yield()
    return True


def _work(worker: int, creator: Creator, facts: EnvFacts, count: int, rows: int, num_workers: int,
          memory: dict[str, Any], seed: int, pipe: connection.Connection, commands: Any, at: Any, go: Any, done: Any
          ) -> None:
    """A worker process: does what it is told until told to close, or until something fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means,
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # also one that is sent to all processes of a job
    with contextlib.suppress(RuntimeError, OSError, ValueError):  # without a standard error
        faulthandler.enable()  # so that a crash shows where in Python it was
    end_with_parent()
    try:
        first_env = worker * rows // facts.num_agents
        # Environments that draw from the global generators must not draw the same numbers in every worker.
        random.seed(env_seed(seed, first_env))
        np.random.seed(env_seed(seed, first_env))
        shared = allocate(facts, rows * num_workers, memory)
        own = {name: array[worker * rows:(worker + 1) * rows] for name, array in shared.items()}
        envs = Serial(creator, facts, count, own, seed, first_env)
        envs.at = memoryview(at).cast("B").cast("i")[worker:]
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


def _end(processes: list[Any], pipes: list[connection.Connection], commands: Any, go: list[Any]) -> None:
    for worker in range(len(processes)):
        commands[worker] = CLOSE
        go[worker].release()
    deadline = time.monotonic() + GRACE_S
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            kill(process)
        process.join()
    for pipe in pipes:
        pipe.close()
