"""Files of demonstrations on the command line: read as their options say, and what is said of one that was written."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from puffer_il.cli import parser

if TYPE_CHECKING:
    from puffer_il.core.spec import EnvSpec
    from puffer_il.demos.dataset import Demos


def report_written(path: str, demos: Demos) -> int:
    from puffer_il.core.text import number

    returns = "" if demos.returns is None else f", mean return {number(demos.returns.mean())}"
    size = f", {math.ceil(Path(path).stat().st_size / 1000)} kB" if Path(path).is_file() else ""
    print(f"{path}: {demos.num_episodes} episodes, {len(demos):,} transitions{returns}{size}")
    return 0


def spec_of(args: Namespace) -> EnvSpec | None:
    """What --env names, if it does."""
    from puffer_il.vector import trust
    from puffer_il.vector.make import find_creator

    if not args.env and args.kwargs:
        raise parser.UsageError("--env.kwargs.NAME sets a parameter of an environment; name it with --env ENV")
    if not args.env and args.pictures:
        raise parser.UsageError(f"{args.pictures}: prepares the pictures of an environment; name it with --env ENV")
    if not args.env:
        return None
    trust.remember(args.env, args.kwargs)
    return find_creator(args.env, args.kwargs, args.pictures).facts().spec


def read(args: Namespace, spec: EnvSpec | None, time_limit: int | None = None) -> Demos:
    """The demonstrations, read as --demos.KEY says, their actions as rows of the environment."""
    from puffer_il.demos import as_rows, clipped, first_episodes, read_demos, subsample_rows, with_fields

    keys = args.demo_keys
    own = {key: keys[key] for key in ("columns", "obs_columns") if key in keys}
    demos = read_demos(args.file, time_limit, keys.get("format", "auto"), **own)
    demos = with_fields(demos, keys.get("fields", ()), spec)
    if spec is not None:
        demos = as_rows(demos, spec)
    if keys.get("episodes"):
        demos = first_episodes(demos, keys["episodes"])
    if keys.get("clip_actions"):
        if spec is None:
            raise parser.UsageError("--demos.clip-actions clips to the range of an environment; name it with --env ENV")
        demos = clipped(demos, spec)
    return subsample_rows(demos, keys["subsample"]) if keys.get("subsample", 1) > 1 else demos


def environment_in(file: str) -> tuple[str, str]:
    """What a file of ours says of its environment and of how it came about; empty for others."""
    from puffer_il.core.errors import InputError
    from puffer_il.demos import read_meta

    try:
        meta = read_meta(file)
    except InputError:
        return "", ""
    return meta["env"], meta["collected"]
