"""`puffer-il demos check`: what will hurt, whether there are likely enough, and which algorithm suits them."""

from __future__ import annotations

import json
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puffer_il.cli import parser
from puffer_il.cli.demo_files import environment_in, read, spec_of

if TYPE_CHECKING:
    from puffer_il.demos.dataset import Demos
    from puffer_il.demos.judge.verdict import Verdict
    from puffer_il.vector.world import World

EXAMPLES = """\
examples:
  puffer-il demos check d.npz                           the environment is the one that the file names
  puffer-il demos check log.hdf5 --env my_env --html page.html
  puffer-il demos check d.npz --env cartpole --json     for programs
"""


def add(group: Any) -> parser.Parser:
    command = parser.command(group, "check", check, "show what looks wrong with a file of demonstrations",
                             epilog=EXAMPLES)
    command.add_argument("--json", action="store_true", help="print JSON instead of lines")
    command.add_argument("--html", type=Path, metavar="PAGE.html", help="write a page with pictures as well")
    return command


def check(args: Namespace) -> int:
    """Print what looks wrong; demonstrations that cannot be used are wrong input."""
    from puffer_il.core.errors import InputError
    from puffer_il.core.text import shown
    from puffer_il.demos.judge import page, verdict

    with ExitStack() as opened:
        found = verdict.Verdict(str(args.file))
        _own_environment(args, found)
        demos, world = _looked_at(args, found, opened)
        if args.html is not None:
            page.write(args.html, demos, found, world)
    if args.json:
        print(json.dumps(found.told(), indent=2))
    else:
        for line in found.lines():
            print(parser.filled(shown(line), parser.terminal_width()))
    if found.refused:
        raise InputError(f"demos {args.file}: {found.refused[0].line}")
    return 0


def _own_environment(args: Namespace, found: Verdict) -> None:
    """Without --env the environment that the file names, if it may be opened and was recorded with its defaults."""
    from puffer_il.core.errors import InputError

    if args.env or args.kwargs or args.pictures:
        return
    name, collected = environment_in(args.file)
    if not name or "--env." in collected:
        other = f" --env {name} with its parameters" if name else " --env ENV"
        found.notes.append(f"not judged against an environment; name it with{other}")
        return
    from puffer_il.vector import trust
    from puffer_il.vector.make import find_creator

    try:
        trust.check(name, {}, "")
        find_creator(name, {}, None).facts()
    except InputError:
        found.notes.append(f"not judged against {name}, which the file names; give --env {name} if you know it")
        return
    args.env = name


def _looked_at(args: Namespace, found: Verdict, opened: ExitStack) -> tuple[Demos, World | None]:
    """The demonstrations, and the environment that was asked; what is said of them goes into `found`."""
    from puffer_il.core.frames import picture_notices
    from puffer_il.demos import judge, picture_lines, relaid
    from puffer_il.demos.check import misfits
    from puffer_il.demos.formats import puffer_il_shards
    from puffer_il.demos.judge.finding import Finding
    from puffer_il.demos.judge.subject import looked_at
    from puffer_il.demos.shard_writer import MANIFEST

    if (Path(args.file) / MANIFEST).is_file():
        puffer_il_shards.verify(args.file)
    spec = spec_of(args)
    demos = read(args, spec)
    world = None
    found.notes += [*demos.notes, *picture_lines(demos, spec)]
    if spec is not None:
        found.notes += picture_notices(spec)
        fitted = relaid(demos, spec)
        found.notes += fitted.notes[len(demos.notes):]  # pictures that were turned, or taken for prepared ones
        wrong = [Finding("misfit", line, refused=True) for line in misfits(fitted, spec)]
        if not wrong:
            from puffer_il.vector.world import World

            demos, world = fitted, opened.enter_context(World(args.env, args.kwargs, args.pictures))
        found.findings += wrong
        found.env = args.env
    part = looked_at(demos)
    if len(part) < len(demos):
        found.notes.append(f"judged by the first {part.num_episodes:,} of {demos.num_episodes:,} episodes")
    found.findings += judge(demos, spec, world)
    if world is not None:
        _advise(found, demos, world)
    return demos, world


def _advise(found: Verdict, demos: Demos, world: World) -> None:
    """Whether there are likely enough, and which algorithm suits them, in `found`."""
    from puffer_il.core.errors import InputError
    from puffer_il.learners.registry import declaration, usable_learners
    from puffer_il.training.auto import choose, needed_of

    found.needed, found.transitions = needed_of(demos, world.spec), len(demos)
    try:
        choice = choose(world.spec, demos, usable_learners(declaration)[0], cheap=world.native, expert=False,
                        model=False)
        found.algo, found.reasons = choice.algo, choice.reasons
    except InputError as error:
        found.notes.append(str(error))
