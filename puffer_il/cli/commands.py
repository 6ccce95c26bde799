"""What each command does. Wrong input is raised as InputError; `cli.py` maps endings to exit codes.

torch is imported inside the functions that need it: it takes seconds, and most of these answer in a tenth of one.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from puffer_il.cli import options
from puffer_il.core.config import Config
from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec
from puffer_il.core.text import duration, number, quantity
from puffer_il.demos.dataset import Demos
from puffer_il.native.catalogue import env_folders
from puffer_il.training import auto
from puffer_il.training.loggers import JsonlLogger, PlainLogger, TensorBoardLogger, evaluation

EXIT = {"finished": 0, "interrupted": 130}
WIDTH = 120  # of a table that might be wider


def train(args: Namespace) -> int:
    """Train, print the result, and say by the exit code how it ended."""
    if args.show_help:
        algo = options.resolve(args).algo if args.algo == auto.NAME else args.algo
        print(f"{args.usage()}\n{options.keys_help(algo, args.env)}")
        return 0
    if args.autotune and args.resume:
        raise InputError("--autotune: a resumed run keeps the settings of its config.toml; leave one of the two out")
    config = options.resolve(args)
    if config.chosen_because and not args.resume:
        print("\n  ".join([f"auto: {config.algo}", *config.chosen_because]))
    from puffer_il.training import trainer

    if args.autotune:
        from puffer_il.training.tune import tune

        config = tune(config, options.given(args))
    loggers = make_loggers(config)
    profile = None
    if args.profile:
        from puffer_il.training.profile import Profile

        loggers.append(profile := Profile(config, args.autotune))
    try:
        with person_asked(config) as person, run_directory(config, args.resume) as run_dir:
            summary = trainer.train(config, loggers, run_dir, resume=args.resume is not None, person=person).summary
    finally:
        for logger in loggers:
            logger.close()
    print("\n".join(result(summary, run_dir)))
    if profile is not None:
        profile.show()
    return EXIT.get(summary["status"], 1)


@contextmanager
def person_asked(config: Config) -> Iterator[Any]:
    """What makes the person at the terminal who is asked, while the terminal is theirs; None where nobody is."""
    if not asks_person(config):
        yield None
        return
    from puffer_il.envkit.person import person_at_terminal

    with person_at_terminal(f"{config.algo}.expert", config.env.num_envs) as person:
        yield person


def asks_person(config: Config) -> bool:
    return getattr(config.sections[config.algo], "expert", "") == "person"


@contextmanager
def run_directory(config: Config, resume: Path | None) -> Iterator[Path]:
    """The run's directory with the resolved config in it; what fails before the run begins leaves no trace."""
    from puffer_il.core import checkpoint
    from puffer_il.training.run_dir import prepare_run_dir

    run_dir = resume or prepare_run_dir(config)
    path = run_dir / "config.toml"
    before = path.read_text()
    try:
        if resume:
            checkpoint.write_text(path, config.to_toml())
        yield run_dir
    except BaseException as error:
        if resume and isinstance(error, InputError):
            checkpoint.write_text(path, before)
        elif not resume and list(run_dir.iterdir()) == [path]:
            path.unlink()
            run_dir.rmdir()
        raise


def make_loggers(config: Config) -> list[Any]:
    """metrics.jsonl, what the terminal shows unless somebody is asked there, and TensorBoard if asked for."""
    shown = [] if asks_person(config) else [terminal_logger()]
    return [JsonlLogger(), *shown, *([TensorBoardLogger()] if config.train.tensorboard else [])]


def terminal_logger() -> Any:
    """The dashboard where the terminal can show it, plain lines elsewhere."""
    if not sys.stdout.isatty():
        return PlainLogger()
    from rich.console import Console

    from puffer_il.training.dashboard import Dashboard

    console = Console(highlight=False)
    able = not console.is_dumb_terminal and console.encoding.startswith("utf") and console.width >= 60
    return Dashboard(console) if able else PlainLogger()


def result(summary: dict[str, Any], run_dir: Path) -> list[str]:
    """The end of a run, for people: the score, what it took, and what to type next."""
    run = shlex.quote(str(run_dir))
    took = f"{duration(summary['wall_s'])}, {summary['env_steps']:,} steps"
    took += f" at {quantity(summary['sps'])}/s" if summary["sps"] else ""
    if summary["time_to_expert_s"] is not None:
        took += f"; at the expert's level after {summary['time_to_expert_s']:.1f} s"
    then = {"finished": [("evaluate", f"puffer-il eval {run}"),
                         ("train on", f"puffer-il train --resume {run} --total-steps {2 * summary['env_steps']}")],
            "interrupted": [("go on", f"puffer-il train --resume {run}")],
            "diverged": [("advice", "a loss is not finite; lower the learning rates, see metrics.jsonl")]}
    title = f"{summary['status']}: {summary['algo']} on {summary['env']}, seed {summary['seed']}"
    return ["", title, *scores(summary, summary["eval"]),
            *_lines([("time", took), ("run", str(run_dir)), *then[summary["status"]]])]


def scores(known: dict[str, Any], played: dict[str, Any] | None) -> list[str]:
    """Returns of the policy (an `eval` part, None if it has not played), the expert and the random policy."""
    lines = [("policy", "not evaluated")]
    if played is not None:
        metrics = {f"eval/{key}": value for key, value in played.items() if isinstance(value, int | float)}
        metrics |= dict(zip(("eval/ci_low", "eval/ci_high"), played["ci95"], strict=True))
        log = [f"{name.replace('_', ' ')} {number(x)}" for name, x in played.get("log", {}).items()]
        lines = [("policy", evaluation(metrics)), ("played", ", ".join([f"{played['episodes']} episodes", *log]))]
    returns = ((name, known[f"{name}_return"]) for name in ("expert", "random"))
    return _lines(lines + [(name, number(value)) for name, value in returns if value is not None])


def evaluate(args: Namespace) -> int:
    from puffer_il.training.saved_run import evaluate_run

    played = evaluate_run(args.run_dir, args.episodes, args.seed, args.demos, args.kwargs)
    if args.json:
        print(json.dumps(played, indent=2))
        return 0
    lines = [f"{args.run_dir}, after {played['env_steps']:,} steps", *scores(played, played)]
    if args.demos:
        shown = played["demos"]
        lines += _lines([("likelihood", f"{shown['log_likelihood']:.3f} nats an action (the mean log-likelihood of "
                                        f"{shown['transitions']:,} demonstrated ones)")])
    print("\n".join(lines))
    return 0


def demos_info(args: Namespace) -> int:
    from puffer_il.demos import describe, read_demos

    facts = describe(read_demos(args.file))
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    lengths, returns = facts["lengths"], facts["returns"]
    lines = [("episodes", f"{facts['episodes']}: {facts['terminated']} terminated, {facts['truncated']} truncated, "
                          f"{facts['open']} without an end"),
             ("transitions", f"{facts['transitions']:,}, {_spread(lengths)} an episode"),
             ("returns", _spread(returns) if returns else "unknown: no rewards")]
    for name in ("obs", "actions"):
        array = facts[name]
        lines.append((name, "none stored: observations alone" if array is None else
                      f"{array['dtype']} {tuple(array['shape'])}, from {array['min']:.4g} to {array['max']:.4g}"))
    if facts["weights"]:
        lines.append(("weights", f"from {facts['weights']['min']:.4g} to {facts['weights']['max']:.4g}"))
    if facts["states"]:
        lines.append(("states", f"{facts['states']['shape'][0]} numbers each, so that episodes can begin in them"))
    print("\n".join([facts["source"], *_lines(lines + [("note", note) for note in facts["notes"]])]))
    return 0


def _spread(summary: dict[str, float]) -> str:
    return (f"{number(summary['mean'])} ± {number(summary['sd'])}, from {number(summary['min'])} to "
            f"{number(summary['max'])}")


def demos_check(args: Namespace) -> int:
    """Print what looks wrong; demonstrations that cannot be used are wrong input."""
    from puffer_il.demos import check_fit, doubts, read_demos

    demos, spec = read_demos(args.file), _spec(args.env) if args.env else None
    found = doubts(demos, spec)
    for doubt in found:
        print(f"look: {doubt}")
    if spec is not None:
        check_fit(demos, spec)
    print(f"{args.file}: {'usable' if found else 'nothing looks wrong'}")
    return 0


def demos_import(args: Namespace) -> int:
    from puffer_il.demos import check_fit, read_demos

    demos = read_demos(args.file, args.time_limit)
    if args.no_actions:
        demos = replace(demos, actions=None)
    if args.env:
        check_fit(demos, _spec(args.env))
    demos.save(args.out, env=args.env or "", collected=args.typed)
    return _written(args.out, demos)


def demos_export(args: Namespace) -> int:
    from puffer_il.demos import fit, read_demos, read_meta
    from puffer_il.demos.formats import imitation, minari

    demos = read_demos(args.file)
    if not args.out.startswith(minari.PREFIX):
        imitation.write(args.out, demos)
        return _written(args.out, demos)
    env = args.env or read_meta(args.file)["env"]
    if not env:
        raise InputError(f"demos {args.file}: does not say which environment it is of; give --env ENV")
    spec = _spec(env)
    demos = fit(demos, spec)
    minari.write(args.out, demos, spec)
    return _written(args.out, demos)


def demos_collect(args: Namespace) -> int:
    """Record a run's policy in its own environment's parameters, an expert's file or script, or random actions."""
    from puffer_il.demos import collect
    from puffer_il.envkit.actors import Actor
    from puffer_il.vector.make import find_creator
    from puffer_il.vector.vec import make_vec

    actor = Actor(args)
    rows = min(args.episodes, 64) * find_creator(actor.env, actor.kwargs).facts().num_agents
    with make_vec(actor.env, num_envs=rows, kwargs=actor.kwargs, seed=args.seed) as vec:
        vec.reset()
        demos = collect(vec, actor.act(vec), args.episodes, args.typed, seed=args.seed)
    demos.save(args.out, env=args.env, collected=args.typed)
    return _written(args.out, demos)


def _written(path: str, demos: Demos) -> int:
    returns = "" if demos.returns is None else f", mean return {number(demos.returns.mean())}"
    size = f", {math.ceil(Path(path).stat().st_size / 1000)} kB" if Path(path).is_file() else ""
    print(f"{path}: {demos.num_episodes} episodes, {len(demos):,} transitions{returns}{size}")
    return 0


def _spec(env: str) -> EnvSpec:
    from puffer_il.vector.make import find_creator

    return find_creator(env).facts().spec


def env_list(args: Namespace) -> int:
    """Name, spaces, agents and hooks of each environment, and beside them what the task is, as far as it fits."""
    from puffer_il.native.envfile import EnvFile, Space, read_env
    from puffer_il.native.glue import hooks

    def space(space: Space) -> str:
        if space.nvec:
            return f"{'×'.join(map(str, space.nvec))} choices"
        return f"{space.dtype} {'×'.join(map(str, space.shape))}"

    def has(file: EnvFile) -> str:
        found = hooks(file)
        return " ".join(word for word, hook in (("expert", "EXPERT"), ("picture", "RENDER")) if hook in found) or "–"

    files = [read_env(folder) for _, folder in sorted(env_folders().items())]
    print(table(("name", "observations", "actions", "agents", "has", "task"),
                [(file.name, space(file.observation), space(file.action), str(file.agents), has(file),
                  file.description) for file in files], WIDTH))
    print("\nexpert: for 'demos collect --expert'; picture: for 'env play'. Any Gymnasium id, module:function or folder"
          "\nworks as well; 'puffer-il env new NAME' writes a folder to begin with.")
    return 0


def env_new(args: Namespace) -> int:
    from puffer_il.envkit.new import main

    return main(args)


def env_check(args: Namespace) -> int:
    from puffer_il.envkit.check.run import main

    return main(args)


def env_play(args: Namespace) -> int:
    from puffer_il.envkit.play import main

    return main(args)


def env_bench(args: Namespace) -> int:
    from puffer_il.bench.environment import main

    return main(args)


def reward_show(args: Namespace) -> int:
    from puffer_il.report.reward_view import main

    return main(args)


def algos(args: Namespace) -> int:
    from puffer_il.cli.algos import main

    return main(args)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], width: int = 0) -> str:
    """Columns as wide as their widest cell, the last as it is, or cut where lines would be longer than `width`."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    if width:
        room = width - sum(widths[:-1]) - 2 * len(widths[:-1])
        rows = [(*row[:-1], row[-1] if len(row[-1]) <= room else f"{row[-1][:room - 1].rstrip()}…") for row in rows]
        widths[-1] = min(widths[-1], room)
    lines = [head, tuple("─" * width for width in widths), *rows]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _lines(pairs: list[tuple[str, str]]) -> list[str]:
    return [f"  {name:<12}{value}" for name, value in pairs]
