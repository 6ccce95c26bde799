"""`puffer-il demos`: look at demonstrations, check them, convert them, record them."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from puffer_il.cli import demos_check, demos_edit, parser
from puffer_il.cli.demo_files import read, report_written, spec_of

if TYPE_CHECKING:
    pass

COLLECT_EXAMPLES = """\
examples:
  puffer-il demos collect my_env --expert --episodes 20 --out d.npz    its scripted expert
  puffer-il demos collect acrobot --policy runs/x --episodes 10 --out d.npz
  puffer-il demos collect cartpole --policy model.zip --episodes 10 --out d.npz
  puffer-il demos collect cartpole --random --episodes 10 --out d.npz --env.kwargs.gravity 20
"""


def add(commands: Any) -> None:
    group = parser.group(commands, "demos", "demonstrations: info, check, edit, import, export, collect")
    about = parser.command(group, "info", info, "show what a file of demonstrations holds")
    suspicious = demos_check.add(group)
    convert = parser.command(group, "import", import_, "convert another package's file into ours")
    write = parser.command(group, "export", export, "convert them into another package's file")
    for one in (about, suspicious, convert, write):
        one.add_argument("file", help="a file or folder of a format that docs/demonstrations.md names, or minari:ID")
    convert.add_argument("out", help="an .npz file")
    write.add_argument("out", help="a file, a folder for lerobot, or minari:ID for a local Minari dataset")
    write.add_argument("--to", metavar="FORMAT", help="imitation (the default), lerobot, table, … or minari")
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
    record = parser.command(group, "collect", collect, "record whole episodes of a policy", epilog=COLLECT_EXAMPLES)
    record.add_argument("env", help="as in 'puffer-il train'")
    parser.takes_actor(record.add_mutually_exclusive_group(required=True))
    record.add_argument("--episodes", type=parser.count, required=True, metavar="N")
    record.add_argument("--out", required=True, metavar="FILE", help="an .npz file")
    record.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the likeliest")
    parser.takes_seed(record)
    parser.takes_trust(record)
    parser.takes_kwargs(record)
    parser.takes_pictures(record)


def info(args: Namespace) -> int:
    from puffer_il.core.text import facts, number, shown
    from puffer_il.demos import describe

    told = describe(read(args, None))
    if args.json:
        print(json.dumps(told, indent=2))
        return 0

    def spread(of: dict[str, float]) -> str:
        return f"{number(of['mean'])} ± {number(of['sd'])}, from {number(of['min'])} to {number(of['max'])}"

    lines = [("episodes", f"{told['episodes']}: {told['terminated']} terminated, {told['truncated']} truncated, "
                          f"{told['open']} without an end"),
             ("transitions", f"{told['transitions']:,}, {spread(told['lengths'])} an episode"),
             ("returns", spread(told["returns"]) if told["returns"] else "unknown: no rewards")]
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
    print("\n".join([shown(told["source"]), *facts(lines + [("note", note) for note in told["notes"]])]))
    return 0


def import_(args: Namespace) -> int:
    from puffer_il.demos import check_fit, relaid

    spec = spec_of(args)
    demos = read(args, spec, args.time_limit)
    if args.no_actions:
        demos = replace(demos, actions=None)
    if spec:
        demos = relaid(demos, spec)
        check_fit(demos, spec)
    demos.save(args.out, env=args.env or "", collected=args.typed)
    return report_written(args.out, demos)


def export(args: Namespace) -> int:
    from puffer_il.core.errors import InputError, unknown
    from puffer_il.demos import fit, read_meta
    from puffer_il.demos.formats import formats, minari
    from puffer_il.vector import trust

    to = args.to or ("minari" if args.out.startswith(minari.PREFIX) else "imitation")
    written = [name for name, format in formats().items() if hasattr(format, "write") and name != "puffer_il"]
    if to not in written:
        raise InputError(unknown("--to", to, written))
    if to == "minari" and not args.out.startswith(minari.PREFIX):
        raise InputError(f"--to minari: OUT is {args.out}, but must name a local data set: minari:own/name-v0")
    if to == "minari" and not args.env:
        args.env = read_meta(args.file)["env"]
        if not args.env:
            raise InputError(f"demos {args.file}: does not name its environment; give --env ENV")
        trust.check(args.env, args.kwargs, f"demos {args.file}", args.trust)
    spec = spec_of(args)
    demos = read(args, spec)
    if to == "minari":
        assert spec is not None
        demos = fit(demos, spec)
        minari.write(args.out, demos, spec)
    else:
        formats()[to].write(args.out, demos)
    return report_written(args.out, demos)


def collect(args: Namespace) -> int:
    """Record a run's policy in its own environment's parameters, an expert's file or script, or random actions."""
    from puffer_il.demos import collect
    from puffer_il.training.hung import guarded
    from puffer_il.training.process import torch_threads
    from puffer_il.training.resolve_actor import flagged, resolve_actor
    from puffer_il.training.run_dir import environment_of, patience_of
    from puffer_il.vector.make import fastest_name, find_creator
    from puffer_il.vector.vec import make_vec

    args.env = fastest_name(args.env, parser.notice)
    env, kwargs, pictures = environment_of(args.policy, args.env, args.kwargs, args.trust)
    pictures = args.pictures or pictures
    rows = find_creator(env, kwargs, pictures).facts().rows_for(min(args.episodes, 64))
    limit, watch = patience_of(args.policy)
    with torch_threads(1), make_vec(env, num_envs=rows, kwargs=kwargs, seed=args.seed, pictures=pictures,
                                    watch=watch) as vec, guarded(vec):
        vec.reset()
        actor = resolve_actor(*flagged(args.policy, args.expert), vec, deterministic=not args.stochastic,
                              seed=args.seed)
        for line in vec.notices:
            parser.notice(line)
        demos = collect(vec, actor, args.episodes, args.typed, seed=args.seed, limit=limit)
    for line in demos.notes:
        parser.notice(line)
    demos.save(args.out, env=args.env, collected=args.typed)
    return report_written(args.out, demos)
