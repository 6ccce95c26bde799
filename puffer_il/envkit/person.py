"""A person as the expert of a learner: the terminal shows the environment, and their keys are the answers."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from puffer_il.core import terminal
from puffer_il.core.config import Config
from puffer_il.core.errors import Discard, InputError
from puffer_il.core.frames import Pictures
from puffer_il.core.spec import Array, Batch
from puffer_il.core.text import number
from puffer_il.envkit.keys import Controls, Keyboard, keyboard
from puffer_il.envkit.play import DIM, END, TURNS_FPS
from puffer_il.envkit.viewer import Viewer
from puffer_il.envkit.window import Window, window
from puffer_il.rollout.actors import EVERY, Actor
from puffer_il.training.resolve_actor import asks_person
from puffer_il.vector.vec import Vec

DISCARD = "x"


class Person(Actor):
    """Asked at every step, by turns where the environment is slow, otherwise at its own speed: then an answer stays
    until another key changes it. Whoever acts, what counts is what the person would do in the state that is shown."""

    stepwise = True

    def __init__(self, vec: Vec, keys: Keyboard, viewer: Viewer | None = None) -> None:
        if not vec.envs:
            raise InputError("env.backend = 'multiprocessing': a person sees only environments of this process; set "
                             "env.backend = 'serial' and env.num_workers = 0")
        self.viewer, self.keys = viewer or Viewer.over(vec), keys
        self.controls = Controls(vec.spec.action, vec.spec.name)
        self.screen: terminal.Screen | Window = terminal.Screen(sys.stdout, terminal.colors())
        self.turns = self.viewer.fps <= TURNS_FPS
        self.answers, self.due = 0, time.monotonic()

    def __call__(self, obs: Array, starts: Array, rows: slice = EVERY) -> Array:
        """(1, dim) the present answer; Quit if the person has had enough."""
        self.draw(bool(starts[0]))
        self.due = max(self.due + 1 / self.viewer.fps, time.monotonic())
        self.keys.listen(self.press, lambda: self.turns, self.due)
        self.answers += 1
        return self.controls.value[None].copy()

    def press(self, key: str) -> bool:
        return self.controls.press(key)

    def draw(self, begins: bool) -> None:
        value = " ".join(f"{x:g}" for x in np.asarray(self.controls.value, float)[:4])
        asked = "the episode begins: what would you do?" if begins else "what would you do?"
        name, help = self.viewer.vec.spec.name, self.controls.help()
        self.screen.draw(self.viewer.view(*self.screen.room()),
                         [f"{name}{DIM} · {self.answers} answers · the last was {value} · {END}{asked}",
                          f"{DIM}q ends the run and keeps what was learned · {help}{END}"])


class Player(Person):
    """A person whose episodes are recorded: what they have done so far is shown, and DISCARD begins another episode, of
    which nothing is kept."""

    def __init__(self, viewer: Viewer, keys: Keyboard, episodes: int) -> None:
        super().__init__(viewer.vec, keys, viewer)
        self.window = keys if isinstance(keys, Window) else None
        self.screen = self.window or self.screen
        self.episodes, self.done, self.steps, self.total = episodes, 0, 0, 0.0

    def begin(self, seed: int) -> None:
        self.controls.value[:] = self.controls.neutral
        self.steps, self.total, self.due = 0, 0.0, time.monotonic()

    def __call__(self, obs: Array, starts: Array, rows: slice = EVERY) -> Array:
        answer = super().__call__(obs, starts, rows)
        if self.window is None:
            return answer
        self.window.steer(self.controls)
        return self.controls.value[None].copy()

    def hear(self, batch: Batch) -> None:
        """What a step came to."""
        self.steps += int(batch.valid[0])
        self.total += float(batch.rewards[0]) if batch.valid[0] else 0.0
        if batch.valid[0] and (batch.terminations[0] or batch.truncations[0]):
            self.done += 1

    def press(self, key: str) -> bool:
        if key == DISCARD:
            raise Discard
        return super().press(key)

    def draw(self, begins: bool) -> None:
        value = " ".join(f"{x:g}" for x in np.asarray(self.controls.value, float)[:4])
        help = self.controls.help()
        rate = "by turns" if self.turns else f"{self.viewer.fps:g} steps a second"
        self.screen.draw(self.viewer.view(*self.screen.room()),
                         [f"{self.viewer.vec.spec.name}{DIM} · episode{END} {self.done + 1} of {self.episodes}{DIM} · "
                          f"step{END} {self.steps}{DIM} · return{END} {number(self.total)}{DIM} · action {value} · "
                          f"{rate}{END}",
                          f"{DIM}q ends · {DISCARD} discards the episode · {help}{END}"])


@contextmanager
def player(env: str, kwargs: dict[str, Any], seed: int, pictures: Pictures, episodes: int, gamepad: bool = False
           ) -> Iterator[tuple[Vec, Player]]:
    """The environment and the person who plays it while the terminal is theirs, or in a window if they have a
    `gamepad`. InputError without a terminal or window, or with several agents."""
    if not gamepad and not (sys.stdin.isatty() and terminal.is_terminal()):
        raise InputError("--keys: there is no terminal to read keys from; use --expert, --policy or --random")
    viewer = Viewer(env, kwargs, seed, pictures)
    try:
        if viewer.vec.num_envs != 1:
            raise InputError(f"{'--gamepad' if gamepad else '--keys'}: {env} has {viewer.vec.num_envs} agents, and a "
                             "person plays one; record a policy")
        with ExitStack() as stack:
            if not gamepad:
                stack.enter_context(terminal.alternate(sys.stdout))
            keys = stack.enter_context(window(f"puffer-il: {env}") if gamepad else keyboard())
            yield viewer.vec, Player(viewer, keys, episodes)
    finally:
        viewer.vec.close()


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
