"""The command line: what may be typed, and which exit code an ending gives. `commands.py` does the work.

Only the standard library's light modules are imported here, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import puffer_il

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
# Besides `train`, which takes every key.
TAKE_KWARGS = ("eval", "env play", "env bench", "env check", "demos collect", "reward show")
OVERRIDE = re.compile(r"--([A-Za-z_][\w-]*(?:\.[\w-]+)+)(?:=(.*))?", re.DOTALL)
EXAMPLES = """\
examples:
  puffer-il train gail cartpole                      from the demonstrations that come with CartPole
  puffer-il train ppo cartpole --seed 2              an expert, from the environment's own reward
  puffer-il train bc HalfCheetah-v4 --demos d.npz    a Gymnasium environment, demonstrations of your own
  puffer-il train gail path/to/my_env --demos d.npz  your own environment: a folder, or module:function
  puffer-il train gail cartpole --ppo.learning-rate 1e-3 --env.kwargs.gravity 9.9
                                                     any key of the config, any parameter of the environment
  puffer-il train gail cartpole --config mine.toml   your keys from a file, over the shipped ones
  puffer-il train auto my_env --demos d.npz          an algorithm that suits the demonstrations, and why
  puffer-il train --resume runs/cartpole-gail-…      go on exactly where a run stopped
  puffer-il train gail cartpole --help               every key, its value in this experiment, what it does
"""
ENV_EXAMPLES = """\
from nothing to a policy of your own:
  puffer-il env new my_env                           a folder with a small C environment that works as it is
  puffer-il env check my_env                         does it keep to the contract?
  puffer-il env play my_env                          watch it, or --keys to play it yourself
  puffer-il demos collect my_env --expert --episodes 20 --out my_env/demos.npz
  puffer-il train gail my_env --demos my_env/demos.npz --config my_env/gail.toml --run-dir runs/my_env
  puffer-il env play my_env --policy runs/my_env
"""
KWARGS = "--env.kwargs.NAME"
KWARGS_HELP: dict[str, Any] = {"metavar": "VALUE", "help": "a parameter of the environment"}  # see split_overrides
REWARD_EXAMPLES = """\
examples:
  puffer-il reward show runs/airl                    on the demonstrations, a random policy and the run's own
  puffer-il reward show runs/airl --env.kwargs.g 15  where the environment has changed
  puffer-il train transfer pendulum --transfer.reward runs/airl --env.kwargs.g 15
"""
NEW_EXAMPLES = """\
examples:
  puffer-il env new my_env                           the folder my_env/: a header in C, env.toml, a test, a README
  puffer-il env new lander --dir envs                the folder envs/lander/
  puffer-il env new my_env --cython                  a PufferEnv in Cython instead: one .pyx
Compiled when it is first used: there is nothing to build. It refuses a folder that holds something.
"""
PLAY_EXAMPLES = """\
examples:
  puffer-il env play cartpole                        the scripted expert if there is one, random actions otherwise
  puffer-il env play cartpole --keys                 yourself: the arrows and digits; the last line says which is what
  puffer-il env play cartpole --policy runs/x        what a run has learned; the name may then be left out
  puffer-il env play my_env --env.kwargs.size 9      with other parameters
  puffer-il env play Humanoid-v5 --random            any Gymnasium environment that can draw or print itself
  puffer-il env play cartpole --policy runs/x --out cartpole.gif
                                                     a GIF at its real speed, small enough for a page; .mp4, .png
An environment without a picture shows its observation as bars. While you watch: space pauses, . is one step, q quits.
"""
COLLECT_EXAMPLES = """\
examples:
  puffer-il demos collect my_env --expert --episodes 20 --out d.npz    its scripted expert
  puffer-il demos collect acrobot --policy runs/x --episodes 10 --out d.npz
  puffer-il demos collect cartpole --policy model.zip --episodes 10 --out d.npz
  puffer-il demos collect cartpole --random --episodes 10 --out d.npz --env.kwargs.gravity 20
"""
CHECK_EXAMPLES = """\
examples:
  puffer-il env check my_env                         a folder: its C code under sanitizers, then everything in Python
  puffer-il env check my_package.envs:make           any other environment, seen from Python
  puffer-il env check my_env --env.kwargs.size 20    with other parameters
Exit code 0: it keeps to the contract. 1: it does not; every finding names what is wrong and what to do about it.
"""
BENCH_EXAMPLES = """\
examples:
  puffer-il env bench cartpole                       at 1,024, 4,096 and 16,384 environments
  puffer-il env bench my_env --num-envs 512          at your number of environments
  puffer-il env bench HalfCheetah-v5 --seconds 30    longer, and so surer
"native" is one call for all environments, "serial" one after the other in this process, "workers" other processes.
Rates are environment steps per second through the same interface that training uses, actions given.
"""


class UsageError(Exception):
    """The command line itself is wrong: one line that says what to type instead."""


class Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 it failed, 2 wrong input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a "±" must not end a run where the locale has none
    # torch's threads otherwise spin while they wait, which on shared cores stalls them and the environments for long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with _sigterm_interrupts():
            return _run(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as request:  # of --help and --version
        return int(request.code or OK)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes at exit
        return FAILED
    except Exception as error:
        return _report(error)


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["bench"]:
        return import_module("puffer_il.bench").main(arguments[1:])
    typed = shlex.join(["puffer-il", *arguments])
    overrides: list[tuple[str, str]] = []
    if arguments[:1] == ["train"] or {" ".join(arguments[:1]), " ".join(arguments[:2])} & set(TAKE_KWARGS):
        overrides, arguments = split_overrides(arguments)
    args, extra = _parser().parse_known_args(arguments)
    args.typed, args.overrides = typed, overrides
    if extra and args.command in ("train", "env_play") and args.env is None and not extra[0].startswith("-"):
        args.env = extra.pop(0)  # argparse gives up on a name that may be left out if an option stands before it
    if args.command == "train" and args.show_help and not (args.algo and args.env):
        print(args.usage())
        return OK
    commands = import_module("puffer_il.cli.commands")
    if extra:
        raise UsageError(commands.options.unknown_argument(extra[0], args))
    if args.command != "train":
        args.kwargs = commands.options.env_kwargs(overrides)
    return getattr(commands, args.command)(args)


def split_overrides(arguments: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Take `--section.key VALUE` and `--section.key=VALUE` out of the arguments; UsageError if a value is missing."""
    found, rest, words = [], [], list(arguments)
    while words:
        word = words.pop(0)
        match = OVERRIDE.fullmatch(word)
        if match is None:
            rest.append(word)
        elif match[2] is not None:
            found.append((match[1], match[2]))
        elif words and not words[0].startswith("--"):
            found.append((match[1], words.pop(0)))
        else:
            raise UsageError(f"{word} needs a value: {word} VALUE, or {word} true for a switch")
    return found, rest


def _report(error: Exception) -> int:
    """One line for what the user can put right, the environment's own traceback for its failure, ours for the rest."""
    from puffer_il.core.errors import EnvFailure, InputError

    if isinstance(error, UsageError | InputError):
        return _complain(f"error: {error}", BAD_INPUT)
    if isinstance(error, EnvFailure):
        print(f"puffer-il: {error}", file=sys.stderr)
        return FAILED
    if _disk_is_full(error):
        return _complain("error: the disk is full; free some space, and a run goes on with --resume", BAD_INPUT)
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and error.filename:
        return _complain(f"error: {error.filename}: {error.strerror}; change that or use another place", BAD_INPUT)
    traceback.print_exception(error)
    return FAILED


def _complain(text: str, code: int) -> int:
    print("puffer-il:", " ".join(text.split()), file=sys.stderr)
    return code


def _disk_is_full(error: BaseException | None) -> bool:
    """True if a full disk is behind the error, which torch and zipfile may wrap in one of their own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _parser() -> Parser:
    parser = Parser(prog="puffer-il", description="Fast imitation learning on PufferLib vector environments.",
                    epilog="start with: puffer-il train --help")
    parser.add_argument("--version", action="version", version=f"puffer-il {puffer_il.__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    _add_train(commands)
    _add_eval(commands)
    _add_demos(commands)
    _add_env(commands)
    _add_reward(commands)
    _add(commands, "bench", "bench", "measure throughput, stage by stage")  # only listed: it parses its own arguments
    algos = _add(commands, "algos", "algos", "the algorithms: what they need, when to use them, where they come from")
    algos.add_argument("algo", nargs="?", help="one of them: all about it, and its keys")
    algos.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _add(group: Any, name: str, command: str, help: str, **options: Any) -> Parser:
    """A sub-command that calls the function `command` of commands.py."""
    parser = group.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", **options)
    parser.set_defaults(command=command)
    return parser


def _add_train(commands: Any) -> None:
    train = _add(commands, "train", "train", "train a policy", epilog=EXAMPLES, add_help=False,
                 usage="puffer-il train <algo> <env> [options] [--<section>.<key> VALUE …]")
    train.set_defaults(usage=train.format_help)
    train.add_argument("algo", nargs="?", help="see 'puffer-il algos'; 'auto' looks at the demonstrations and chooses")
    train.add_argument("env", nargs="?", help="see 'puffer-il env list'; or a folder with an env.toml, a Gymnasium id, "
                                              "module:function")
    train.add_argument("-h", "--help", action="store_true", dest="show_help",
                       help="show this; after <algo> <env> also every config key")
    train.add_argument("--demos", metavar="SRC", help="a file of demonstrations, or 'shipped' (the default) for those "
                                                      "that come with the environment")
    train.add_argument("--config", metavar="FILE", type=Path, help="TOML file with keys that go over the shipped ones")
    train.add_argument("--run-dir", metavar="DIR", help="where the run is written (default: a new folder in runs/)")
    train.add_argument("--seed", metavar="N", help="one seed decides everything")
    train.add_argument("--device", metavar="NAME", help="auto, cpu or cuda")
    train.add_argument("--total-steps", metavar="N", help="environment steps of the whole run, such as 2e6")
    train.add_argument("--resume", metavar="RUN", type=Path, help="go on from the newest checkpoint of a run directory")
    train.add_argument("--autotune", action="store_true", help="measure for some seconds first, and set environments, "
                       "workers, threads and minibatches; keys that you give stay (the defaults are good without it)")
    train.add_argument("--profile", action="store_true", help="at the end, print where the time went and which flag "
                                                              "would save the most of it")


def _add_eval(commands: Any) -> None:
    evaluate = _add(commands, "eval", "evaluate", "play a run's newest policy on the true reward")
    evaluate.add_argument("run_dir", type=Path, metavar="run-dir")
    evaluate.add_argument("--episodes", type=_count, default=100, metavar="N", help="default 100")
    evaluate.add_argument("--seed", type=_seed, default=0, metavar="N", help="another one starts elsewhere")
    evaluate.add_argument("--demos", metavar="SRC", help="also say how likely the policy finds these demonstrations' "
                                                         "actions: a score where returns tell little")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")
    evaluate.add_argument(KWARGS, **KWARGS_HELP)


def _add_demos(commands: Any) -> None:
    demos = commands.add_parser("demos", help="demonstrations: info, check, import, export, collect")
    group = demos.add_subparsers(metavar="command", required=True)
    info = _add(group, "info", "demos_info", "what a file of demonstrations holds")
    check = _add(group, "check", "demos_check", "what looks wrong with a file of demonstrations")
    convert = _add(group, "import", "demos_import", "read another package's file and write ours")
    export = _add(group, "export", "demos_export", "write ours in the format of the package 'imitation' or of Minari")
    for parser in (info, check, convert, export):
        parser.add_argument("file", help="an .npz of ours, of the package 'imitation' or of CS 285, or minari:ID")
    convert.add_argument("out", help="an .npz file")
    export.add_argument("out", help="an .npz file, or minari:ID for a local Minari dataset")
    info.add_argument("--json", action="store_true", help="print JSON instead of lines")
    for parser in (check, convert, export):
        parser.add_argument("--env", help="the environment that they should fit")
    convert.add_argument("--time-limit", type=_count, metavar="STEPS",
                         help="the environment's, for a file that takes its time limit for a termination")
    convert.add_argument("--no-actions", action="store_true", help="keep the observations alone")
    collect = _add(group, "collect", "demos_collect", "record whole episodes of a policy", epilog=COLLECT_EXAMPLES)
    collect.add_argument("env", help="as in 'puffer-il train'")
    _add_actors(collect.add_mutually_exclusive_group(required=True))
    collect.add_argument("--episodes", type=_count, required=True, metavar="N")
    collect.add_argument("--out", required=True, metavar="FILE", help="an .npz file")
    collect.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the likeliest")
    collect.add_argument("--seed", type=_seed, default=0, metavar="N")
    collect.add_argument(KWARGS, **KWARGS_HELP)


def _add_actors(who: Any) -> None:
    who.add_argument("--policy", type=Path, metavar="RUN_OR_FILE",
                     help="a run directory, a zip of Stable-Baselines3, or an npz of the GAIL paper's experts")
    who.add_argument("--expert", action="store_true", help="the environment's own scripted expert (c_expert)")
    who.add_argument("--random", action="store_true", help="uniformly random actions")


def _add_env(commands: Any) -> None:
    env = commands.add_parser("env", help="environments: list, new, check, play, bench", epilog=ENV_EXAMPLES,
                              description="Environments: those that come with it, and your own.")
    group = env.add_subparsers(metavar="command", required=True)
    _add(group, "list", "env_list", "the environments that come with puffer_il and with installed packages")
    new = _add(group, "new", "env_new", "write a small environment that works as it is, to be changed into yours",
               epilog=NEW_EXAMPLES)
    new.add_argument("name", help="its name, a name in C; or a path whose last part is one")
    new.add_argument("--dir", type=Path, metavar="DIR", help="the folder to write it into (default: this one)")
    new.add_argument("--cython", action="store_true", help="a PufferEnv in Cython instead of a header in C")
    check = _add(group, "check", "env_check", "find out whether an environment keeps to the contract",
                 epilog=CHECK_EXAMPLES)
    play = _add(group, "play", "env_play", "watch an environment, play it, or make a GIF of it", epilog=PLAY_EXAMPLES)
    bench = _add(group, "bench", "env_bench", "steps per second, natively and in processes, and which to take",
                 epilog=BENCH_EXAMPLES)
    check.add_argument("path", metavar="env", help="a folder, or any other environment as in 'puffer-il train'")
    play.add_argument("env", nargs="?", help="as in 'puffer-il train'; with --policy RUN it may be left out")
    bench.add_argument("env", help="as in 'puffer-il train'")
    who = play.add_mutually_exclusive_group()
    _add_actors(who)
    who.add_argument("--keys", action="store_true", help="you, by the keyboard")
    play.add_argument("--stochastic", action="store_true", help="sample a policy's actions instead of its likeliest")
    play.add_argument("--episodes", type=_count, metavar="N", help="default 3; of a file 1; of --keys until you quit")
    play.add_argument("--steps", type=_count, metavar="N", help="no more steps than these (a .png then shows the last)")
    play.add_argument("--seed", type=_seed, default=0, metavar="N", help="another one starts elsewhere")
    play.add_argument("--out", type=Path, metavar="FILE", help="a .gif, .mp4, or .png (the first episode's middle)")
    play.add_argument("--fps", type=_rate, metavar="F", help="steps per second (default: the environment's own); 0 "
                                                             "with --keys: a step for each key")
    bench.add_argument("--num-envs", type=_count, metavar="N", help="environments (default: 1,024, 4,096 and 16,384, "
                                                                     "or 8 and 64 that are stepped one by one)")
    check.add_argument("--seconds", type=_positive, metavar="S", help="how long to run it (default 10)")
    bench.add_argument("--seconds", type=_positive, default=10.0, metavar="S", help="how long to measure (default 10)")
    for parser in (check, bench):
        parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    for parser in (check, play, bench):
        parser.add_argument(KWARGS, **KWARGS_HELP)


def _add_reward(commands: Any) -> None:
    reward = commands.add_parser("reward", help="learned rewards: show", description="Learned rewards.")
    group = reward.add_subparsers(metavar="command", required=True)
    show = _add(group, "show", "reward_show", "what a learned reward pays for, and how close it is to the true one",
                epilog=REWARD_EXAMPLES)
    show.add_argument("run", type=Path, metavar="RUN", help="a run of an algorithm that learns a reward, or its "
                                                            "reward.pt")
    show.add_argument("--env", help="another environment with the same observations (default: that of the run)")
    show.add_argument("--demos", metavar="SRC", help="other demonstrations than the run's")
    show.add_argument("--episodes", type=_count, default=50, metavar="N", help="of each policy; default 50")
    show.add_argument("--seed", type=_seed, default=0, metavar="N", help="another one starts elsewhere")
    show.add_argument("--json", action="store_true", help="print JSON instead of lines")
    show.add_argument("--out", type=Path, metavar="FILE", help="a picture as well, .png")
    show.add_argument(KWARGS, **KWARGS_HELP)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return value


def _positive(text: str) -> float:
    value = _rate(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0")
    return value


def _count(text: str) -> int:
    return _at_least(1, text)


def _seed(text: str) -> int:
    return _at_least(0, text)


def _at_least(low: int, text: str) -> int:
    if not text.isdecimal() or int(text) < low:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
