"""`puffer-il demos collect`: record whole episodes of whoever acts, stop, and go on."""

from __future__ import annotations

import argparse
import shlex
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puffer_il.cli import parser
from puffer_il.cli.demo_files import report_written

if TYPE_CHECKING:
    from puffer_il.demos.record import Recorded

EXAMPLES = """\
examples:
  puffer-il demos collect my_env --expert --episodes 20 --out d.npz    its scripted expert
  puffer-il demos collect acrobot --policy runs/x --episodes 10 --out d.npz
  puffer-il demos collect cartpole --policy model.zip --episodes 10 --out d.npz
  puffer-il demos collect cartpole --policy my_module:act --episodes 10 --out d.npz    a function of n observations
  puffer-il demos collect cartpole --keys --episodes 10 --out d.npz    you, at the keyboard
  puffer-il demos collect cartpole --random --episodes 10 --out d.npz --env.kwargs.gravity 20
  puffer-il demos collect acrobot --policy runs/x --episodes 50 --min-return -90 --epsilon 0.1 --out d.npz
Control-C ends a recording and keeps the finished episodes; the same command with --resume goes on with it.
"""
MOST_ROWS = 64  # environments that are recorded at once
SAVE_S = 30.0  # a recording is kept so often while it goes on, that of a person after each episode
STOPPED = 130


def add(group: Any) -> None:
    record = parser.command(group, "collect", collect, "record whole episodes of a policy, an expert or a person",
                            epilog=EXAMPLES)
    record.add_argument("env", help="as in 'puffer-il train'")
    who = record.add_mutually_exclusive_group(required=True)
    parser.takes_actor(who)
    who.add_argument("--keys", action="store_true", help="you: the terminal shows the environment and reads your keys")
    who.add_argument("--gamepad", action="store_true", help="you, in a window: keys while they are held, or a gamepad "
                     "(needs pygame)")
    record.add_argument("--episodes", type=parser.count, required=True, metavar="N", help="how many are kept")
    record.add_argument("--out", required=True, metavar="FILE", help="an .npz file")
    record.add_argument("--resume", action="store_true", help="go on with the recording in --out, which the same "
                        "command began; with a larger --episodes, add to it")
    record.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the likeliest")
    record.add_argument("--min-return", type=float, metavar="R", help="keep only episodes with at least this return")
    record.add_argument("--successes-only", action="store_true", help="keep only episodes that the environment says "
                        "have succeeded")
    record.add_argument("--best", type=parser.count, metavar="K", default=0, help="of the N episodes keep the K with "
                        "the highest returns")
    record.add_argument("--epsilon", type=share, metavar="P", default=0.0, help="do a random action instead, with this "
                        "probability; the actor's own is recorded")
    record.add_argument("--noise", type=parser.positive, metavar="S", default=0.0, help="add Gaussian noise to what is "
                        "done, its standard deviation as a share of half the action's range; the actor's own action "
                        "is recorded")
    parser.takes_seed(record)
    parser.takes_trust(record)
    parser.takes_kwargs(record)
    parser.takes_pictures(record)


def share(text: str) -> float:
    value = parser.positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is a probability: give a number up to 1")
    return value


def collect(args: Namespace) -> int:
    from puffer_il.demos.noise import noise_of
    from puffer_il.demos.record import Recorded, Recorder, Recording, Wanted, best_of
    from puffer_il.training.policy_origin import digests
    from puffer_il.vector.make import fastest_name

    args.policy_files = digests(args.policy)
    args.env, args.person = fastest_name(args.env, parser.notice), args.keys or args.gamepad
    wanted = Wanted(args.min_return, args.successes_only, args.best)
    before = _before(args)
    rows = before.recording.rows if before else 0
    at = before or Recorded((), Recording(args.seed, 0))
    try:
        with _playing(args, rows) as (vec, actor, limit, stopped):
            for line in vec.notices:
                parser.notice(line)
            saved = time.monotonic()
            before = before or Recorded((), Recording(args.seed, vec.num_envs))
            recorder = Recorder(vec, actor, args.typed, wanted, noise_of(vec.spec, args.epsilon, args.noise), stopped,
                                limit)
            for at in recorder.record(args.episodes, before):
                if at.parts and not at.finished and (args.person or time.monotonic() - saved > SAVE_S):
                    _save(args, at)
                    saved = time.monotonic()
    except BaseException:  # whatever it was, what is finished is kept
        if at.parts and at is not before:
            _keep(args, at)
        raise
    if not at.finished:
        _keep(args, at)
        return STOPPED
    if args.best:
        demos = at.demos("")
        assert demos is not None
        at = Recorded((best_of(demos, args.best),), at.recording, True)
    return _save(args, at, show=True)


@contextmanager
def _playing(args: Namespace, rows: int) -> Iterator[tuple[Any, Any, int, Callable[[], bool]]]:
    """The vector, who acts in it, how long an episode may be, and what says that the user has stopped them."""
    from puffer_il.training.hung import guarded
    from puffer_il.training.process import interruptible, torch_threads
    from puffer_il.training.resolve_actor import flagged, given_policy, resolve_actor
    from puffer_il.training.run_dir import environment_of, patience_of
    from puffer_il.vector.make import find_creator
    from puffer_il.vector.vec import make_vec

    args.policy = given_policy(args.policy)
    env, kwargs, pictures = environment_of(args.policy, args.env, args.kwargs, args.trust)
    pictures = args.pictures or pictures
    with ExitStack() as stack:
        if args.person:
            from puffer_il.envkit.person import player

            yield *stack.enter_context(player(env, kwargs, args.seed, pictures, args.episodes,
                                             args.gamepad)), 0, lambda: False
            return
        rows = rows or find_creator(env, kwargs, pictures).facts().rows_for(min(args.episodes, MOST_ROWS))
        stack.enter_context(torch_threads(1))
        limit, watch = patience_of(args.policy)
        vec = stack.enter_context(make_vec(env, num_envs=rows, kwargs=kwargs, seed=args.seed, pictures=pictures,
                                           watch=watch))
        signals = stack.enter_context(interruptible())
        stack.enter_context(guarded(vec))
        vec.reset()
        actor = resolve_actor(*flagged(args.policy, args.expert), vec, deterministic=not args.stochastic,
                              seed=args.seed)
        yield vec, actor, limit, lambda: bool(signals)


def _before(args: Namespace) -> Recorded | None:
    """What --out holds already, for --resume. InputError where that is not the same recording."""
    from puffer_il.core.errors import InputError
    from puffer_il.demos import read_demos, read_meta
    from puffer_il.demos.record import Recorded, Recording, first_of
    from puffer_il.training.policy_origin import changed

    if not Path(args.out).exists():
        return None
    if not args.resume:
        if args.person:
            raise InputError(f"--out {args.out}: is there already, and what a person did cannot be done again; add "
                             "--resume to go on with it, or give another name")
        return None
    meta = read_meta(args.out)
    if not meta["recording"]:
        raise InputError(f"--resume: {args.out} does not say how far its recording has come; give another --out")
    if _same(meta["collected"]) != _same(args.typed):
        raise InputError(f"--resume: {args.out} was recorded with `{meta['collected']}`; give the same options, or "
                         "another --out")
    args.typed = _with_episodes(meta["collected"], args.episodes)
    try:
        files = dict(meta["recording"].pop("policy_files", args.policy_files))
        state = Recording(**{name: int(value) for name, value in meta["recording"].items()})
    except (TypeError, ValueError):
        raise InputError(f"--resume: {args.out} has a damaged `recording` in its meta; give another --out") from None
    if what := changed(files, args.policy_files):
        raise InputError(f"--resume: {args.out}: its policy is no longer the same: {what}; put the old one back, or "
                         "record to another --out")
    demos = read_demos(args.out)
    if demos.num_episodes < state.whole:
        raise InputError(f"--resume: {args.out} holds only the best of its episodes; record to another --out")
    return Recorded((first_of(demos, state.whole),) if state.whole else (), state)


def _same(command: str) -> list[str]:
    """What decides which episodes a command records."""
    words = shlex.split(command)
    where = [k for k, word in enumerate(words) if word == "--episodes"]
    return [word for k, word in enumerate(words) if word != "--resume" and not word.startswith("--episodes=")
            and k not in where and k - 1 not in where]


def _with_episodes(command: str, episodes: int) -> str:
    words = shlex.split(command)
    for k, word in enumerate(words):
        if word == "--episodes":
            words[k + 1] = str(episodes)
        elif word.startswith("--episodes="):
            words[k] = f"--episodes={episodes}"
    return shlex.join(words)


def _keep(args: Namespace, at: Recorded) -> None:
    """Of a recording that has not come to its end."""
    if not at.count:
        parser.notice("stopped: no episode was finished, so that nothing is written")
        return
    _save(args, at, show=True)
    parser.notice(f"stopped after {at.count} of {args.episodes} episodes; the same command with --resume goes on")


def _save(args: Namespace, at: Recorded, show: bool = False) -> int:
    demos = at.demos(args.typed, tuple(_notes(args, at.finished)))
    assert demos is not None
    recording = asdict(at.recording) | ({"policy_files": args.policy_files} if args.policy_files else {})
    demos.save(args.out, env=args.env, collected=args.typed, recording=recording)
    if not show:
        return 0
    for line in demos.notes:
        parser.notice(line)
    return report_written(args.out, demos)


def _notes(args: Namespace, finished: bool) -> Iterator[str]:
    """What the reader of the file should know."""
    from puffer_il.demos.record import Wanted

    if kept := str(Wanted(args.min_return, args.successes_only)):
        yield f"only episodes with {kept} were kept, so that their beginnings are chosen too"
    if args.best and finished:
        yield f"the best {args.best} of {args.episodes} episodes were kept, so that their beginnings are chosen too"
    noise = [f"{name} {value:g}" for name, value in (("epsilon", args.epsilon), ("noise", args.noise)) if value]
    if noise:
        yield f"actions were executed with {' and '.join(noise)}, and are recorded without"
