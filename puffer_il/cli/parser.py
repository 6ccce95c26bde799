"""What the command groups share: their parser, the kinds of values that options take, options that several have.

A group is a file with a function `add`, which declares its commands, and beside it the functions that do them.
`command` ties the two. Nothing heavy is imported before a command is done, so that --help answers at once.
"""

import argparse
import os
import re
import shutil
import sys
import textwrap
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

LEAST, INDENT = 24, 6  # what a second column needs, and its indent in a line of its own where there is less
# Only for --help: cli/overrides.py takes them out before the parser sees them.
KWARGS, PICTURES, DEMOS = "--env.kwargs.NAME", "--env.stack", "--demos.KEY"


class UsageError(Exception):
    """The command line itself is wrong: one line that says what to type instead."""

    def __init__(self, text: str) -> None:
        from puffer_il.core.errors import joined

        super().__init__(joined(text))


class Formatter(argparse.RawDescriptionHelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(wrapped(line, width) for line in text.splitlines())


class Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=Formatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            from puffer_il.core.errors import unknown

            raise UsageError(unknown(str(action.metavar or action.dest), value, list(action.choices)))


def unknown(argument: str, args: Namespace) -> str:
    """What to say of an argument that the command does not know."""
    kind = "unknown option" if argument.startswith("-") else "unexpected argument"
    return f"{kind} {argument!r}; see '{args.prog} --help'"


def command(commands: Any, name: str, do: Callable[[Namespace], int], help: str, **options: Any) -> Parser:
    """Add a command that is done by `do`, which returns the exit code."""
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", **options)
    parser.set_defaults(do=do, unknown=unknown, prog=parser.prog)
    return parser


def group(commands: Any, name: str, help: str, **options: Any) -> Any:
    """Add a command that has commands of its own."""
    parser = commands.add_parser(name, help=help, **options)
    return parser.add_subparsers(metavar="command", required=True)


def takes_kwargs(parser: Parser) -> None:
    """The command takes parameters of the environment, as `args.kwargs`."""
    parser.add_argument(KWARGS, metavar="VALUE", help="a parameter of the environment")


def takes_pictures(parser: Parser) -> None:
    """The command takes how pictures are prepared, as `args.pictures`, None where nothing is said."""
    parser.add_argument(PICTURES, metavar="N", help="pictures of an observation, as in training; likewise --env.resize "
                                                    "H,W, --env.grey true, --env.channels first or last")


def takes_demo_keys(parser: Parser) -> None:
    """The command takes how demonstrations are read, as `args.demo_keys`."""
    parser.add_argument(DEMOS, metavar="VALUE", help="how they are read, as in training: --demos.episodes N, "
                                                     "--demos.subsample N, --demos.clip-actions true, --demos.fields "
                                                     "A,B, --demos.format NAME, --demos.obs-columns A,B")
    parser.add_argument("--columns", metavar="TOML", help="of a table (CSV, Parquet): the file that says which columns "
                                                          "are what; by default the one beside it (demos.columns)")


def takes_seed(parser: Parser) -> None:
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="another seed begins in other states")


def takes_trust(parser: Parser) -> None:
    parser.add_argument("--trust", action="store_true", help="open the environment that the file names, although it is "
                        "code that you have not used in this form before")


def takes_actor(who: Any) -> None:
    who.add_argument("--policy", type=Path, metavar="RUN_OR_FILE",
                     help="a run directory; another package's file: a zip of Stable-Baselines3, TorchScript, ONNX, …; "
                     "a folder of RL Zoo; or module:function, of n observations")
    who.add_argument("--expert", action="store_true", help="the environment's own scripted expert (c_expert)")
    who.add_argument("--random", action="store_true", help="uniformly random actions")


def wrapped(line: str, width: int) -> str:
    """A line of two columns, which two spaces or more part: the second is wrapped below itself. Others stay whole."""
    first = re.match(r" *\S.*?  +(?=\S)", line)
    if len(line) <= width or first is None:
        return line
    before, at = first[0], len(first[0])
    if width - at < LEAST:
        before, at = f"{before.rstrip()}\n{' ' * INDENT}", INDENT
    second = textwrap.wrap(line[len(first[0]):], width - at, break_on_hyphens=False, break_long_words=False)
    return before + f"\n{' ' * at}".join(second)


def filled(line: str, width: int) -> str:
    """A sentence, broken between words alone; what follows the first line stands a little to the right."""
    return line if len(line) <= width else textwrap.fill(line, width, subsequent_indent=" " * INDENT,
                                                         break_on_hyphens=False, break_long_words=False)


def terminal_width() -> int:
    """Characters of a line; no limit in a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def notice(text: str) -> None:
    """A line that the user should read beside the result, which may be JSON."""
    from puffer_il.core.text import shown

    print("puffer-il:", shown(text), file=sys.stderr, flush=True)


def no_output() -> None:
    """Standard output leads nowhere from now on; or else the interpreter complains when it flushes it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def positive(text: str) -> float:
    value = rate(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0")
    return value


def _at_least(low: int, text: str) -> int:
    if not text.isdecimal() or int(text) < low:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {low}")
    return int(text)


count, seed = partial(_at_least, 1), partial(_at_least, 0)


def counts(text: str) -> tuple[int, ...]:
    return tuple(map(count, text.split(",")))
