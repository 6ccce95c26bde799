"""Environments of this process that do not come back: said by a thread, which the user's choice then makes act.

Environments in worker processes are waited for by `vector.workers`, which needs none of this. Here the main thread is
inside the environment. Its Python code and system calls are interrupted by an error that the main thread raises; C code
that has given up the interpreter's lock is not, so that after GRACE_S or DEAF_S this thread writes the checkpoint and
ends the process. C code that never returns and keeps the lock stops this thread too: only kill -9 ends that, and
what is left is the last regular checkpoint.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from puffer_il.core.errors import EnvFailure, Quit
from puffer_il.training.process import Interrupts, reachable
from puffer_il.vector.vec import Vec
from puffer_il.vector.watch import Wait

LOOK_S = 0.25  # between two looks
GRACE_S = 5.0  # for the main thread to be interrupted
DEAF_S = 20.0  # the same where somebody wants the end: a long rollout in C may still come to its own
LastWords = Callable[[BaseException], None]


@contextmanager
def watched(vecs: list[Vec], interrupts: Interrupts, last_words: LastWords) -> Iterator[None]:
    """While the main thread steps `vecs`, a thread looks at those of this process. `last_words` is called by it with
    the error that could not be raised, and does not return. Nothing is looked at if another thread steps them."""
    here = [vec for vec in vecs if vec.backend != "multiprocessing"]
    over = threading.Event()
    thread = threading.Thread(target=_look, args=(here, interrupts, last_words, over), name="puffer_il watch",
                              daemon=True)
    if not here or threading.current_thread() is not threading.main_thread():
        yield
        return
    with interrupts.wakened():
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@contextmanager
def guarded(vec: Vec) -> Iterator[Vec]:
    """The same for a vector that no run steps: `eval` and `demos collect`, where there is no checkpoint to write."""
    if vec.backend == "multiprocessing" or threading.current_thread() is not threading.main_thread():
        yield vec
        return
    with reachable() as interrupts, watched([vec], interrupts, end_process):
        vec.watch.asked_s = interrupts.asked_s
        try:
            yield vec
        except Quit:  # said by a signal that C code kept from the main thread
            raise KeyboardInterrupt from None


def end_process(error: BaseException) -> None:
    """Leave at once, with the error as the last word."""
    text = str(error) or "interrupted in an environment that does not come back"
    print(f"puffer-il: {text}", file=sys.stderr, flush=True)
    os._exit(130 if isinstance(error, Quit) else 1)


def _look(vecs: list[Vec], interrupts: Interrupts, last_words: LastWords, over: threading.Event) -> None:
    waits: list[tuple[int, Wait] | None] = [None] * len(vecs)
    while not over.wait(LOOK_S):
        interrupts.look()
        for place, vec in enumerate(vecs):
            doing, before = vec.doing(), waits[place]
            if doing is None or before is None or before[0] != doing[0]:
                waits[place] = None if doing is None else (doing[0], Wait(vec.watch))
                continue
            if (error := _error_of(before[1], doing[1])) is None:
                continue
            still = partial(_still, vec, doing[0])
            for _ in range(round((DEAF_S if isinstance(error, Quit) else GRACE_S) / LOOK_S)):
                interrupts.raise_in_main(error, still)  # again, as an environment may catch it
                if over.wait(LOOK_S) or not still():
                    break
            else:
                last_words(error)
            interrupts.look()  # away with those of our own
            waits[place] = None


def _still(vec: Vec, number: int) -> bool:
    """Whether the vector is at what it was at."""
    now = vec.doing()
    return now is not None and now[0] == number


def _error_of(wait: Wait, who: str) -> BaseException | None:
    """What is to be raised where the environments are."""
    try:
        verdict = wait.over(lambda: who)
    except Quit as quit:
        return quit
    return EnvFailure(f"{wait.told(who)} (env.on_timeout = 'stop')") if verdict else None
