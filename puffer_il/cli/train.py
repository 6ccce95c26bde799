"""`puffer-il train`: from what was typed to a run, and what is said of it."""

from __future__ import annotations

import shlex
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puffer_il.cli import parser
from puffer_il.cli.evaluate import scores
from puffer_il.cli.overrides import override

if TYPE_CHECKING:
    from puffer_il.core.config import Config
    from puffer_il.learners.experiment import Layer

EXIT = {"finished": 0, "interrupted": 130}
EXAMPLES = """\
examples:
  puffer-il train gail cartpole                      from the demonstrations that come with CartPole
  puffer-il train ppo cartpole --seed 2              an expert, from the environment's own reward
  puffer-il train bc HalfCheetah-v4 --demos d.npz    a Gymnasium environment, demonstrations of your own
  puffer-il train gail path/to/my_env --demos d.npz  your own environment: a folder, or module:function
  puffer-il train gail cartpole --ppo.gamma 0.98     any key of the config
  puffer-il train ppo cartpole --env.kwargs.tau 0.1  any parameter of the environment
  puffer-il train gail cartpole --config mine.toml   your keys from a file, over the shipped ones
  puffer-il train auto my_env --demos d.npz          an algorithm that suits the demonstrations, and why
  puffer-il train --resume runs/cartpole-gail-…      continue exactly where a run stopped
  puffer-il train gail cartpole --help               every key, its value in this experiment, what it does

A Gymnasium id such as CartPole-v1 stands for the C environment that equals it
step for step, where there is one; gymnasium:CartPole-v1 is Gymnasium's own.
"""


def add(commands: Any) -> None:
    train_parser = parser.command(commands, "train", train, "train a policy", epilog=EXAMPLES, add_help=False,
                                  usage="puffer-il train <algo> <env> [options] [--<section>.<key> VALUE …]")
    train_parser.set_defaults(usage=train_parser.format_help, unknown=unknown)
    option = train_parser.add_argument
    option("algo", nargs="?", help="see 'puffer-il algos'; 'auto' looks at the demonstrations and chooses")
    option("env", nargs="?", help="see 'puffer-il env list'; or a folder with an env.toml, a Gymnasium id, "
                                  "module:function")
    option("-h", "--help", action="store_true", dest="show_help",
           help="show this help; after <algo> <env> also every config key")
    option("--demos", metavar="SRC", help="a file of demonstrations, or 'shipped' (the default) for those that come "
                                          "with the environment")
    option("--config", metavar="FILE", type=Path, help="a TOML file whose keys override the shipped ones")
    option("--run-dir", metavar="DIR", help="where the run is written (default: a new folder in runs/)")
    option("--seed", metavar="N", help="one seed decides everything")
    option("--device", metavar="NAME", help="auto, cpu or cuda")
    option("--total-steps", metavar="N", help="environment steps of the whole run, such as 2e6")
    option("--resume", metavar="RUN", type=Path, help="continue from the newest checkpoint of a run directory")
    option("--trust", action="store_true", help="with --resume: open the run's environment, although it is code that "
           "you have not used in this form before")
    option("--autotune", action="store_true", help="measure for some seconds first, then set environments, workers, "
           "threads and minibatches; keys that you give are kept (the defaults are good without it)")
    option("--profile", action="store_true", help="at the end, print where the time went and which flag would save "
                                                  "the most of it")


def train(args: Namespace) -> int:
    """Train, print the result, and say by the exit code how it ended."""
    if args.show_help:
        return show_help(args)
    from puffer_il.core.errors import InputError
    from puffer_il.training.resolve import given_keys

    if args.autotune and args.resume:
        raise InputError("--autotune: a resumed run keeps the settings of its config.toml; leave one of the two out")
    named = f"{args.algo} on {args.env}" if args.env else args.resume or args.config
    if named and sys.stdout.isatty():  # at once, because torch takes a second or more to import
        print(f"{named} …", flush=True)
    config = resolve(args)
    if config.chosen_because and not args.resume:
        print("\n  ".join([f"auto: {config.algo}", *config.chosen_because]), flush=True)
    from puffer_il.envkit.person import person_asked
    from puffer_il.training import trainer
    from puffer_il.training.dashboard import make_loggers
    from puffer_il.training.last_word import last_word
    from puffer_il.training.process import process_seconds
    from puffer_il.training.run_dir import run_directory

    if args.autotune:
        from puffer_il.training.tune import tune

        config = tune(config, given_keys(layers(args)))
    loggers, profile = make_loggers(config), None
    if args.profile:
        from puffer_il.training.profile import Profile

        loggers.append(profile := Profile(config, args.autotune))
    with (person_asked(config) as person, run_directory(config, args.resume) as run_dir, last_word(run_dir)):
        try:
            outcome = trainer.train(config, loggers, run_dir, resume=args.resume is not None, person=person,
                                    began=time.monotonic() - process_seconds())
        except BrokenPipeError:  # of `puffer-il train … | head`
            parser.no_output()
            parser.notice("standard output was closed, so that the run has stopped, with a checkpoint; continue it by "
                          f"puffer-il train --resume {shlex.quote(str(run_dir))}")
            return EXIT["interrupted"]
    print("\n".join(result(outcome.summary, outcome.run_dir)))
    if profile is not None:
        profile.show()
    if outcome.unwritten:
        parser.notice(f"error: {outcome.unwritten}")
        return 1
    return EXIT.get(outcome.summary["status"], 1)


def show_help(args: Namespace) -> int:
    print(args.usage())
    if args.algo and args.env:
        from puffer_il.cli.keys import keys_help

        print(keys_help(resolve(args).algo if args.algo == "auto" else args.algo, args.env))
    return 0


def layers(args: Namespace) -> list[Layer]:
    """--config, over it the options, over them the keys that were typed."""
    from puffer_il.core.config import read_toml
    from puffer_il.learners.experiment import COMMAND_LINE

    options = {"demos": {"source": args.demos}, "train": {"seed": args.seed, "device": args.device,
                                                          "total_steps": args.total_steps, "run_dir": args.run_dir}}
    given = {section: {key: value for key, value in table.items() if value is not None}
             for section, table in options.items()}
    return [*([(str(args.config), read_toml(args.config))] if args.config else []),
            *((COMMAND_LINE, tables) for tables in (given, *(override(key, text) for key, text in args.overrides)))]


def resolve(args: Namespace) -> Config:
    from puffer_il.core.errors import InputError
    from puffer_il.training.resolve import resolve

    if args.resume and args.run_dir:
        raise InputError(f"--run-dir {args.run_dir}: a resumed run continues in its own directory; leave it out")
    return resolve(args.algo, args.env, layers(args), args.resume, say=parser.notice, trusted=args.trust)


def unknown(argument: str, args: Namespace) -> str:
    """What to type instead of an option that `train` does not know: the config keys that may be meant."""
    if args.algo in (None, "auto") or not argument.startswith("-"):
        return parser.unknown(argument, args)
    from puffer_il.core.config import as_option
    from puffer_il.learners.experiment import meant_keys, section_types
    from puffer_il.learners.registry import declaration

    name = argument.lstrip("-").partition("=")[0].replace("-", "_")
    meant = meant_keys(name, section_types(args.algo, declaration))
    hint = f"did you mean {' or '.join(map(as_option, meant))}?" if meant else (
        f"see 'puffer-il train {args.algo} {args.env or 'ENV'} --help'")
    return f"unknown option {argument!r}; {hint}"


def result(summary: dict[str, Any], run_dir: Path) -> list[str]:
    """The end of a run, for people: the score, what it took, and what to type next."""
    from puffer_il.core.text import duration, facts, number, quantity, shown

    run = shlex.quote(str(run_dir))
    took = f"{duration(summary['wall_s'])} since the start, {summary['env_steps']:,} steps"
    took += f" at {quantity(summary['sps'])}/s" if summary["sps"] else ""
    if summary["time_to_expert_s"] is not None:
        took += f"; expert's level after {summary['time_to_expert_s']:.1f} s"
    best, last = summary.get("best"), summary.get("eval_last")
    kept = [("kept", f"the policy of step {best['env_steps']:,}; the last one returns {number(last['return_mean'])}")
            ] if best and last and best["env_steps"] < summary["env_steps"] else []
    then = {"finished": [("evaluate", f"puffer-il eval {run}"),
                         ("continue", f"puffer-il train --resume {run} --total-steps {2 * summary['env_steps']}")],
            "interrupted": [("evaluate", f"puffer-il eval {run}"), ("continue", f"puffer-il train --resume {run}")],
            "diverged": [("evaluate", f"puffer-il eval {run}"), ("continue", f"puffer-il train --resume {run}")]}
    cause = [("cause", str(summary.get("cause")))] if summary["status"] == "diverged" else []
    title = shown(f"{summary['status']}: {summary['algo']} on {summary['env']}, seed {summary['seed']}")
    told, width = [*scores(summary, summary["eval"]), *facts([*kept, ("time", took)])], parser.terminal_width()
    return ["", title, *(parser.wrapped(line, width) for line in told),
            *facts([("run", str(run_dir)), *then[summary["status"]]]),  # whole, to be copied
            *(parser.wrapped(line, width) for line in facts(cause))]
