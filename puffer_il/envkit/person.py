"""A person as the expert of a learner: the terminal shows the environment, and their keys are the answers."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from puffer_il.core import terminal
from puffer_il.core.config import Config
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.envkit.keys import Controls, Keyboard, keyboard
from puffer_il.envkit.play import DIM, END, TURNS_FPS
from puffer_il.envkit.viewer import Viewer
from puffer_il.rollout.actors import EVERY, Actor
from puffer_il.training.resolve_actor import asks_person
from puffer_il.vector.vec import Vec


class Person(Actor):
    """Asked at every step, by turns where the environment is slow, otherwise at its own speed: then an answer stays
    until another key changes it. Whoever acts, what counts is what the person would do in the state that is shown."""

    stepwise = True

    def __init__(self, vec: Vec, keys: Keyboard) -> None:
        if not vec.envs:
            raise InputError("env.backend = 'multiprocessing': a person sees only environments of this process; set "
                             "env.backend = 'serial' and env.num_workers = 0")
        self.viewer, self.controls, self.keys = Viewer.over(vec), Controls(vec.spec.action), keys
        self.screen = terminal.Screen(sys.stdout, terminal.colors())
        self.turns = self.viewer.fps <= TURNS_FPS
        self.answers, self.due = 0, time.monotonic()

    def __call__(self, obs: Array, starts: Array, rows: slice = EVERY) -> Array:
        """(1, dim) the present answer; Quit if the person has had enough."""
        self.draw(bool(starts[0]))
        self.due = max(self.due + 1 / self.viewer.fps, time.monotonic())
        self.keys.listen(self.controls.press, lambda: self.turns, self.due)
        self.answers += 1
        return self.controls.value[None].copy()

    def draw(self, begins: bool) -> None:
        value = " ".join(f"{x:g}" for x in np.asarray(self.controls.value, float)[:4])
        asked = "the episode begins: what would you do?" if begins else "what would you do?"
        name, help = self.viewer.vec.spec.name, self.controls.help()
        self.screen.draw(self.viewer.view(*self.screen.room()),
                         [f"{name}{DIM} · {self.answers} answers · the last was {value} · {END}{asked}",
                          f"{DIM}{help} · q ends the run and keeps what was learned{END}"])


@contextmanager
def person_asked(config: Config) -> Iterator[Any]:
    """What makes, for a vector, the Person whom the learner of a run asks, while the terminal is theirs; None where
    nobody is asked. InputError without a terminal, or with more than one environment."""
    if not asks_person(config):
        yield None
        return
    key, num_envs = f"{config.algo}.expert", config.env.num_envs
    if not (sys.stdin.isatty() and terminal.is_terminal()):
        raise InputError(f"{key} = 'person': there is no terminal to ask somebody at; give 'script', or a policy's run "
                         "directory or file")
    if num_envs != 1:
        raise InputError(f"{key} = 'person': a person answers for 1 environment, not {num_envs}; set env.num_envs = 1")
    with terminal.alternate(sys.stdout), keyboard() as keys:
        yield lambda vec: Person(vec, keys)
