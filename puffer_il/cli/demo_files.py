"""Files of demonstrations on the command line: read as their options say, and what is said of one that was written."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    if not args.env and args.kwargs:
        raise parser.UsageError("--env.kwargs.NAME sets a parameter of an environment; name it with --env ENV")
    if not args.env and args.pictures:
        raise parser.UsageError(f"{args.pictures}: prepares the pictures of an environment; name it with --env ENV")
    if not args.env:
        return None
    from puffer_il.vector import trust
    from puffer_il.vector.make import find_creator

    trust.remember(args.env, args.kwargs)
    return find_creator(args.env, args.kwargs, args.pictures).facts().spec


def read(args: Namespace, spec: EnvSpec | None, time_limit: int | None = None) -> Demos:
    """The demonstrations, read as --demos.KEY says, their actions as rows of the environment."""
    from puffer_il.demos import read_demos

    return taken(read_demos(args.file, time_limit, **format_keys(args)), args, spec, args.demo_keys.get("episodes"))


def format_keys(args: Namespace) -> dict[str, Any]:
    """Those that `read_demos` takes."""
    return {key: args.demo_keys[key] for key in ("format", "columns", "obs_columns") if key in args.demo_keys}


def taken(demos: Demos, args: Namespace, spec: EnvSpec | None, episodes: int | None, seed: Any = 0) -> Demos:
    """What --demos.KEY says of demonstrations that are read, their actions as rows of the environment."""
    from puffer_il.demos import as_rows, clipped, first_episodes, subsample_rows, with_fields

    keys = args.demo_keys
    demos = with_fields(demos, keys.get("fields", ()), spec)
    if spec is not None:
        demos = as_rows(demos, spec)
    if episodes:
        demos = first_episodes(demos, episodes)
    if keys.get("clip_actions"):
        if spec is None:
            raise parser.UsageError("--demos.clip-actions clips to the range of an environment; name it with --env ENV")
        demos = clipped(demos, spec)
    return subsample_rows(demos, keys["subsample"], seed) if keys.get("subsample", 1) > 1 else demos


def fitted(demos: Demos, args: Namespace, spec: EnvSpec | None) -> Demos:
    """As `demos import` writes them."""
    from puffer_il.demos import check_fit, relaid

    if args.no_actions:
        demos = replace(demos, actions=None)
    if spec:
        demos = relaid(demos, spec)
        check_fit(demos, spec)
    return demos


def environment_in(file: str) -> tuple[str, str]:
    """What a file of ours says of its environment and of how it came about; empty for others."""
    from puffer_il.core.errors import InputError
    from puffer_il.demos import read_meta

    try:
        meta = read_meta(file)
    except InputError:
        return "", ""
    return meta["env"], meta["collected"]
