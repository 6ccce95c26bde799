"""`puffer-il demos`: look at demonstrations, check them, convert them, record them."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from puffer_il.cli import collect, demos_check, demos_edit, parser
from puffer_il.cli.demo_files import fitted, format_keys, read, report_written, spec_of, taken

WRITTEN = ("imitation", "imitation_folder", "lerobot", "minari", "robomimic", "table")  # --help names them without
# importing them; a test holds this against demos/formats/

LAYOUT = """what a recorder of your own saves with np.savez("demos.npz", obs=obs, …):
  obs, next_obs    (n, …), what was observed before and after each action
  actions          int (n,) or float (n, dim), choices or continuous ones
  terminations     bool (n,), True where an episode ended; so truncations, where it was cut off
  episode_starts   int (episodes,), the first row of each
  rewards          float (n,), where they are known"""


def add(commands: Any) -> None:
    group = parser.group(commands, "demos", "demonstrations: info, check, edit, import, export, collect")
    about = parser.command(group, "info", info, "show what a file of demonstrations holds")
    suspicious = demos_check.add(group)
    convert = parser.command(group, "import", import_, "convert another package's file into ours", epilog=LAYOUT)
    write = parser.command(group, "export", export, "convert them into another package's file")
    for one in (about, suspicious, convert, write):
        one.add_argument("file", help="a file or folder of a format that docs/demonstrations.md names, or minari:ID")
    convert.add_argument("out", help="an .npz file; or a folder, whose name ends in / or .shards, for demonstrations "
                                     "that are larger than memory")
    write.add_argument("out", help="a file, a folder for lerobot and imitation_folder, or minari:ID for a local "
                       "Minari dataset")
    write.add_argument("--to", metavar="FORMAT", help=f"{', '.join(WRITTEN)}; by default imitation, or minari "
                       "for minari:ID")
    write.add_argument("--drop", metavar="NAMES", default="", help="leave these out, which FORMAT may have no place "
                       "for: rewards, weights, states, masks, episode_returns, …")
    about.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.takes_demo_keys(about)
    for one in (suspicious, convert, write):
        one.add_argument("--env", help="an environment, which the demonstrations have to fit")
        parser.takes_kwargs(one)
        parser.takes_pictures(one)
        parser.takes_demo_keys(one)
    demos_edit.add(group)
    parser.takes_trust(write)
    convert.add_argument("--time-limit", type=parser.count, metavar="STEPS", help="the environment's time limit, for a "
                                                                                  "file that marks it as a termination")
    convert.add_argument("--no-actions", action="store_true", help="keep only the observations")
    collect.add(group)


def info(args: Namespace) -> int:
    from puffer_il.core.text import facts, number, shown
    from puffer_il.demos import describe, provenance

    told = describe(read(args, None)) | provenance(args.file)
    if args.json:
        print(json.dumps(told, indent=2))
        return 0

    def spread(of: dict[str, float]) -> str:
        return f"{number(of['mean'])} ± {number(of['sd'])}, from {number(of['min'])} to {number(of['max'])}"

    lines = [("episodes", f"{told['episodes']}: {told['terminated']} terminated, {told['truncated']} truncated, "
                          f"{told['open']} without an end"),
             ("transitions", f"{told['transitions']:,}, {spread(told['lengths'])} an episode"),
             ("returns", spread(told["returns"]) if told["returns"] else "unknown: no rewards")]
    parts = sum(field["name"].startswith("obs ") for field in told["fields"])
    if parts:
        lines.append(("obs", f"rows of {told['obs']['dtype']} {tuple(told['obs']['shape'])}, in {parts} parts"))
    for field in told["fields"]:
        ends = "" if field["min"] is None else f", from {field['min']:.4g} to {field['max']:.4g}"
        lines.append((field["name"], f"{field['dtype']} {tuple(field['shape'])}{ends}"))
    if told["actions"] is None:
        lines.append(("actions", "none: the file holds only observations"))
    if told["pictures"]:
        lines.append(("pictures", f"prepared with {told['pictures']}"))
    if told["weights"]:
        lines.append(("weights", f"from {told['weights']['min']:.4g} to {told['weights']['max']:.4g}"))
    if told["states"]:
        lines.append(("states", f"{told['states']['shape'][0]} numbers each, so that episodes can begin in them"))
    lines += [(name, told[name]) for name in ("env", "collected") if told[name]]
    print("\n".join([shown(told["source"]), *facts(lines + [("note", note) for note in told["notes"]])]))
    return 0


def import_(args: Namespace) -> int:
    import numpy as np

    from puffer_il.demos import read_demos, read_parts
    from puffer_il.demos.formats.puffer_il_shards import is_folder
    from puffer_il.demos.shard_writer import ShardWriter

    spec = spec_of(args)
    if not is_folder(args.out):
        demos = fitted(read(args, spec, args.time_limit), args, spec)
        demos.save(args.out, env=args.env or "", collected=args.typed)
        return report_written(args.out, demos)
    wanted, rng = args.demo_keys.get("episodes") or 2**62, np.random.default_rng(0)
    with ShardWriter(args.out, env=args.env or "", collected=args.typed) as writer:
        for part in read_parts(args.file, args.time_limit, **format_keys(args)):
            episodes = min(wanted - writer.episodes, part.num_episodes)
            if episodes:
                writer.add(fitted(taken(part, args, spec, episodes, rng), args, spec))
    return report_written(args.out, read_demos(args.out))


def export(args: Namespace) -> int:
    from puffer_il.core.errors import InputError, unknown
    from puffer_il.demos import fit, read_meta
    from puffer_il.demos.formats import formats, minari
    from puffer_il.demos.kept import MASKS, without
    from puffer_il.vector import trust

    to = args.to or ("minari" if args.out.startswith(minari.PREFIX) else "imitation")
    if to not in WRITTEN:
        raise InputError(unknown("--to", to, list(WRITTEN)))
    if to == "minari" and not args.out.startswith(minari.PREFIX):
        raise InputError(f"--to minari: OUT is {args.out}, but must name a local data set: minari:own/name-v0")
    if to == "minari" and not args.env:
        args.env = read_meta(args.file)["env"]
        if not args.env:
            raise InputError(f"demos {args.file}: does not name its environment; give --env ENV")
        trust.check(args.env, args.kwargs, f"demos {args.file}", args.trust)
    spec = spec_of(args)
    demos = read(args, spec)
    dropped = [name for name in args.drop.split(",") if name]
    if to == "minari":
        assert spec is not None
        demos = fit(demos, spec)
        minari.write(args.out, without(demos, [name for name in dropped if name != MASKS]), spec,
                     masks=MASKS not in dropped)
    else:
        formats()[to].write(args.out, without(demos, dropped))
    return report_written(args.out, demos)
