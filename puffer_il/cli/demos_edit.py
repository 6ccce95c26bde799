"""`puffer-il demos edit`: demonstrations made into others, one edit after the other in the order in which they are
given."""

from __future__ import annotations

import argparse
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puffer_il.cli import parser
from puffer_il.cli.demo_files import environment_in, format_keys, report_written, taken

if TYPE_CHECKING:
    from puffer_il.demos.dataset import Demos
    from puffer_il.demos.edit.by_number import ByNumber
    from puffer_il.vector.world import World

EXAMPLES = """\
examples:
  puffer-il demos edit d.npz --out best.npz --best 10
  puffer-il demos edit a.npz b.npz --out both.npz --drop-copies           several files as one
  puffer-il demos edit d.npz --out few.npz --min-return 400 --subsample 20
  puffer-il demos edit d.npz --out train.npz --split 0.8                  the rest goes to train-rest.npz
  puffer-il demos edit late.npz --out mended.npz --shift 1
  puffer-il demos edit d.npz --out e.npz --rescale-actions=-1,1 --env pendulum
"""


class InOrder(argparse.Action):
    """Remembers which edit was asked for, and in which order."""

    def __call__(self, parser: Any, args: Any, values: Any, option: Any = None) -> None:
        args.edits = [*(args.edits or []), (self.dest, values)]


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def pair(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0.0
    if low == high:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH, two different numbers")
    return low, high


OPTIONS: tuple[tuple[str, Any, str, str], ...] = (
    ("keep", str, "EPISODES", "only these episodes, such as 0,3,5-9"),
    ("drop", str, "EPISODES", "all but these"),
    ("min-return", float, "R", "only episodes that return at least R"),
    ("max-return", float, "R", "only episodes that return at most R"),
    ("min-length", parser.count, "STEPS", "only episodes of at least so many steps"),
    ("max-length", parser.count, "STEPS", "only episodes of at most so many steps"),
    ("success", None, "", "only episodes whose last reward is above 0"),
    ("best", parser.count, "N", "the N episodes with the highest returns"),
    ("drop-copies", None, "", "one of each set of equal episodes"),
    ("split", share, "SHARE", "a share of the episodes, drawn with --seed; the rest goes into a second file, OUT-rest"),
    ("cut-at", str, "ROWS", "episodes begin in these rows as well"),
    ("cut-idle", None, "", "without the rows at the ends of episodes in which nothing moves"),
    ("subsample", parser.count, "K", "every K-th transition of each episode from a random offset, as papers do"),
    ("shift", int, "ROWS", "actions paired with the observations of so many rows later"),
    ("drop-actions", None, "", "only the observations"),
    ("rescale-actions", pair, "LOW,HIGH", "map these two values of actions to the ends of the range of --env"),
    ("rewards", str, "HOW", "env asks the environment of --env, none drops them, a number is given to every row"),
    ("noise-obs", parser.positive, "S", "Gaussian noise of S standard deviations of each column, drawn with --seed"),
    ("noise-actions", parser.positive, "S", "the same on the actions"))


def add(group: Any) -> None:
    command = parser.command(group, "edit", edit, "make other demonstrations of them: choose, cut, merge, mend",
                             epilog=EXAMPLES)
    command.add_argument("file", nargs="+", help="one file, or several that are taken as one")
    command.add_argument("--out", required=True, metavar="NEW", help="an .npz file; or a folder, whose name ends in / "
                                                                     "or .shards, for what is larger than memory")
    for name, kind, value, text in OPTIONS:
        more = {"nargs": 0} if kind is None else {"type": kind, "metavar": value}
        command.add_argument(f"--{name}", action=InOrder, dest=name, help=text, **more)
    command.set_defaults(edits=[])
    command.add_argument("--env", help="an environment, for --rescale-actions and --rewards env")
    command.add_argument("--seed", type=parser.seed, default=0, metavar="N", help="draws what is drawn by chance")
    parser.takes_kwargs(command)
    parser.takes_demo_keys(command)


def edit(args: Namespace) -> int:
    """Read, edit in order, write; a note in the file tells the command and the sources' hashes."""
    from puffer_il.core.errors import InputError
    from puffer_il.demos import read_demos
    from puffer_il.demos.edit import episodes, history
    from puffer_il.demos.edit.by_number import by_number

    out = Path(args.out)
    outs = [args.out, f"{out.with_name(f'{out.stem}-rest{out.suffix}')}{'/' * args.out.endswith('/')}"]
    splits = sum(name == "split" for name, _ in args.edits)
    if splits > 1:
        raise InputError("--split: is given twice; split once, and the parts with further commands")
    if any(Path(out).resolve() == Path(file).expanduser().resolve() for out in outs[:1 + splits] for file in args.file):
        raise InputError(f"--out {args.out}: is the file that is read; choose another name")
    with ExitStack() as opened:
        world = _world(args, opened)
        spec, keys = None if world is None else world.spec, args.demo_keys
        sets = [read_demos(file, **format_keys(args)) for file in args.file]
        rows = None if keys.get("fields") else by_number(sets, args.edits)
        sets = [taken(demos, args, spec, keys.get("episodes"), args.seed)
                for demos in (sets if rows is None else rows.stand_ins)]
        found = [history.with_history(episodes.merged(sets), args.typed, args.file)]
        for name, value in args.edits:
            found = [made for demos in found for made in _edited(demos, name, value, args.seed, world, rows)]
    env, collected = environment_in(args.file[0])
    for file, demos in zip(outs, found, strict=False):
        _save(file, demos, rows, args.env or env, collected)
        report_written(file, demos)
    return 0


def _save(file: str, demos: Demos, rows: ByNumber | None, env: str, collected: str) -> None:
    """What has been edited; where `rows` are given, with the observations that its numbers stand for."""
    from puffer_il.demos.formats.puffer_il_shards import is_folder
    from puffer_il.demos.shard_writer import ShardWriter

    if rows is None or not is_folder(file):
        (demos if rows is None else rows.whole(demos)).save(file, env=env, collected=collected)
        return
    with ShardWriter(file, env=env, collected=collected) as writer:
        for part in rows.parts(demos):
            writer.add(part)


def _world(args: Namespace, opened: ExitStack) -> World | None:
    from puffer_il.vector import trust
    from puffer_il.vector.world import World

    if not args.env:
        if args.kwargs:
            raise parser.UsageError("--env.kwargs.NAME sets a parameter of an environment; name it with --env ENV")
        return None
    trust.remember(args.env, args.kwargs)
    return opened.enter_context(World(args.env, args.kwargs))


def _edited(demos: Demos, name: str, value: Any, seed: int, world: World | None, rows: ByNumber | None
            ) -> list[Demos]:
    """The edit `name` done to them; two sets where they are split."""
    from puffer_il.demos import subsample_rows
    from puffer_il.demos.edit import episodes, pieces, values

    limits = {"min-return": (episodes.returns_of, value, float("inf")),
              "max-return": (episodes.returns_of, float("-inf"), value),
              "min-length": (episodes.lengths_of, value, float("inf")),
              "max-length": (episodes.lengths_of, 0, value)}
    if name == "split":
        return episodes.split(demos, value, seed)
    if name in limits:
        return [episodes.between(f"--{name} {value:g}", *limits[name])(demos)]
    edits: dict[str, Any] = {
        "keep": lambda: episodes.keep(demos, value), "drop": lambda: episodes.drop(demos, value),
        "success": lambda: episodes.succeeded(demos), "best": lambda: episodes.best(demos, value),
        "drop-copies": lambda: episodes.without_copies(demos, None if rows is None else rows.looked_at(demos)),
        "cut-at": lambda: pieces.cut_at(demos, value),
        "cut-idle": lambda: pieces.without_idle(demos), "subsample": lambda: subsample_rows(demos, value, seed),
        "shift": lambda: pieces.shifted_by(demos, value), "drop-actions": lambda: values.without_actions(demos),
        "rescale-actions": lambda: values.rescaled(demos, value, None if world is None else world.spec),
        "rewards": lambda: values.rewarded(demos, value, world),
        "noise-obs": lambda: values.noisy(demos, "obs", value, seed),
        "noise-actions": lambda: values.noisy(demos, "actions", value, seed)}
    return [edits[name]()]
