"""`puffer-il env play`: watch an environment in the terminal, play it, or make a GIF, an MP4 or a PNG of it."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from puffer_il.core import terminal
from puffer_il.core.errors import InputError, Quit
from puffer_il.core.spec import Array
from puffer_il.core.text import number
from puffer_il.envkit.film import Film, check_path
from puffer_il.envkit.keys import PAUSE, STEP, Controls, Keyboard, keyboard
from puffer_il.envkit.viewer import Viewer
from puffer_il.training.run_dir import environment_of

if TYPE_CHECKING:
    from puffer_il.rollout.actors import Actor

EPISODES = 3  # to watch; a file has one, and who plays goes on for as long as they like
FILE_S = 20.0  # of a file, unless --steps says otherwise
TURNS_FPS = 5  # environments that are drawn so slowly wait for their player
DRAWN_HZ = 40  # a terminal gains nothing from more
PAUSE_S = 0.8  # after an episode, so that its end is seen
DIM, BOLD, END = "\x1b[2m", "\x1b[1m", "\x1b[0m"


def main(args: Namespace) -> int:
    path = check_path(args.out) if args.out else None
    if args.keys and not (sys.stdin.isatty() and terminal.is_terminal()):
        raise InputError("--keys: there is no terminal to read keys from; use --expert, --policy or --random")
    if args.policy:
        from puffer_il.training.resolve_actor import given_policy

        args.policy = given_policy(args.policy)
    env, kwargs, pictures = environment_of(args.policy, args.env, args.kwargs, args.trust)
    viewer = Viewer(env, kwargs, args.seed, args.pictures or pictures)
    try:
        if not (args.policy or args.expert or args.random or args.keys):
            args.expert = viewer.vec.expert_actions() is not None
        if path and viewer.picture() is None:
            raise InputError(f"--out {path}: {env} draws no pictures ("
                             + (viewer.notice or "a C environment needs a function c_render, any other render_mode = "
                                "'rgb_array'") + ")")
        actor: Actor | None = None
        if not args.keys:
            from puffer_il.training.resolve_actor import flagged, resolve_actor  # a keyboard does not wait for torch

            actor = resolve_actor(*flagged(args.policy, args.expert), viewer.vec, deterministic=not args.stochastic,
                                  seed=args.seed)
            for notice in viewer.vec.notices:
                print(f"note: {notice}", file=sys.stderr)
        play = Play(viewer, args, actor)
        if path:
            play.film = Film(path, play.fps or TURNS_FPS, whole=bool(args.steps))
        (perform if terminal.is_terminal() and (args.keys or not path) else rehearse)(play)
        if viewer.notice and not viewer.drawn:
            print(f"note: {viewer.notice}", file=sys.stderr)
        if play.film:
            print(play.film.save())
    finally:
        viewer.vec.close()
    return 0


@dataclass
class Episode:
    """What has happened in it so far, per agent."""

    returns: Array
    over: Array
    steps: int = 0
    ending: str = "not over yet"

    def line(self, index: int) -> str:
        agents = f", mean of {len(self.returns)} agents" if len(self.returns) > 1 else ""
        return (f"episode {index}: return {number(float(self.returns.mean()))}{agents}, {self.steps:,} steps, "
                f"{self.ending}")


class Play:
    """Episodes of one environment, step by step. `actor` is None for a keyboard, which sets `action`."""

    def __init__(self, viewer: Viewer, args: Namespace, actor: Actor | None) -> None:
        self.viewer, self.actor, self.done = viewer, actor, list[Episode]()
        self.who = ("you" if args.keys else f"policy {args.policy}" if args.policy else
                    "scripted expert" if args.expert else "random actions")
        self.fps = viewer.fps if args.fps is None else args.fps
        if args.keys and args.fps is None and viewer.fps <= TURNS_FPS:
            self.fps = 0  # by turns
        self.episodes = args.episodes or (0 if args.keys else 1 if args.out else EPISODES)
        self.limit = args.steps or (round(FILE_S * (self.fps or TURNS_FPS)) if args.out and not args.keys else 0)
        self.steps, self._rows = 0, viewer.vec.num_envs
        self.action = np.zeros((self._rows, viewer.vec.spec.action.dim), viewer.vec.spec.action.dtype)
        self.film: Film | None = None
        self._starts, self.episode = np.ones(self._rows, bool), self._fresh()

    def _fresh(self) -> Episode:
        return Episode(np.zeros(self._rows), np.zeros(self._rows, bool))

    @property
    def over(self) -> bool:
        return 0 < self.episodes <= len(self.done) or 0 < self.limit <= self.steps

    def step(self) -> bool:
        """One step of all agents; True if it was the last of an episode. What is to be seen before it is filmed."""
        if self.film:
            self.shoot()
        if self.actor is not None:
            self.action = self.actor(self.viewer.vec.obs, self._starts)
        batch, episode = self.viewer.vec.step(self.action), self.episode
        ended = (batch.terminations | batch.truncations) & batch.valid
        self._starts = ended | ~batch.valid
        if batch.valid.any():  # otherwise it has only begun the next episode
            self.steps += 1
            episode.steps += 1
            episode.returns += np.where(batch.valid & ~episode.over, batch.rewards, 0)
        episode.over |= ended
        if not episode.over.all():
            return False
        episode.ending = "truncated" if batch.truncations.any() else "terminated"
        self.done.append(episode)
        self.episode = self._fresh()
        return True

    def shoot(self) -> None:
        """The present picture goes into the film."""
        picture = self.viewer.picture()
        assert picture is not None and self.film
        self.film.add(picture, first=not self.done)

    def lines(self) -> list[str]:
        """A line for each episode, and one for what is left over."""
        episodes = self.done + [self.episode] * (self.episode.steps > 0)
        return [f"{self.viewer.vec.spec.name}: {self.who}", *(e.line(i) for i, e in enumerate(episodes, 1))]


def rehearse(play: Play) -> None:
    """To the end without being seen, as fast as it goes."""
    while not play.over:
        play.step()
    if play.film and not (play.viewer.at_once and play.episode.steps == 0):
        play.shoot()
    print("\n".join(play.lines()), flush=True)


def perform(play: Play) -> None:
    """On the terminal, at its own speed, until it is over or somebody presses q."""
    with terminal.alternate(sys.stdout), keyboard() as keys:
        Theatre(play, keys).run()
    print("\n".join(play.lines()), flush=True)


class Theatre:
    """The terminal while it shows a Play."""

    def __init__(self, play: Play, keys: Keyboard) -> None:
        self.play, self.keys = play, keys
        self.screen = terminal.Screen(sys.stdout, terminal.colors())
        self.controls = Controls(play.viewer.vec.spec.action, play.viewer.vec.spec.name) if play.actor is None else None
        self.paused = False

    def run(self) -> None:
        with suppress(Quit):
            due = drawn = time.monotonic()
            turns = self.controls is not None and not self.play.fps  # one for each key
            self.draw()
            while not self.play.over:
                due = max(due + (1 / self.play.fps if self.play.fps else 0), time.monotonic())
                self.keys.listen(self.press, lambda: turns or self.paused, due)  # as long as it is paused, or to a turn
                if self.controls is not None:
                    self.play.action[:] = self.controls.value
                ended = self.play.step()
                if ended or time.monotonic() - drawn > 1 / DRAWN_HZ:
                    self.draw()
                    drawn = time.monotonic()
                if ended:
                    self.keys.listen(self.press, lambda: self.paused, time.monotonic() + PAUSE_S)
                    due = time.monotonic()

    def press(self, key: str) -> bool:
        """True for a key that asks for a step."""
        if self.controls is not None:
            return self.controls.press(key)
        if key == PAUSE:
            self.paused = not self.paused
            self.draw()
            return not self.paused
        return key == STEP

    def draw(self) -> None:
        self.screen.draw(self.play.viewer.view(*self.screen.room()), self.status())

    def status(self) -> list[str]:
        play = self.play
        over = play.episode.steps == 0 and play.done
        episode = play.done[-1] if over else play.episode
        action = "" if play.episode.steps == 0 and not over else f" · action {_action(play.action[0])}"
        name, index = play.viewer.vec.spec.name, len(play.done) + (not over)
        first = (f"{BOLD}{name}{END}{DIM} · {play.who} · episode{END} {index}"
                 f"{DIM} · step{END} {episode.steps}{DIM} · return{END} {number(float(episode.returns.mean()))}"
                 f"{DIM}{f' · {episode.ending}' if over else action}{END}")
        keys = self.controls.help() if self.controls else f"space {'goes on' if self.paused else 'pauses'} · . one step"
        return [first, f"{DIM}q quits · {keys}{END}"]


def _action(action: Array) -> str:
    numbers = [str(x) if action.dtype.kind == "i" else f"{x:+.2f}" for x in action[:4].tolist()]
    return " ".join(numbers) + (" …" if len(action) > 4 else "")
