"""The command line: `main`, and which exit code an ending gives. One file for each group of commands beside it.

Only the standard library's light modules are imported here, so that --help answers at once.
"""

import errno
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import puffer_il
from puffer_il.cli import algos, bench, demos, env, evaluate, overrides, reward, train
from puffer_il.cli.parser import DEMOS, KWARGS, PICTURES, Parser, UsageError, no_output

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 it failed, 2 wrong input, 130 interrupted."""
    _open_closed_streams()
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
        no_output()
        return FAILED
    except Exception as error:
        return _report(error)


def _run(arguments: list[str]) -> int:
    keys, words = overrides.split(arguments)
    args, extra = make_parser().parse_known_args(words)
    args.typed, args.overrides = shlex.join(["puffer-il", *arguments]), keys
    if extra and args.do in (train.train, env.play) and args.env is None and not extra[0].startswith("-"):
        args.env = extra.pop(0)  # argparse gives up on a name that may be left out if an option stands before it
    if DEMOS[2:] in args:
        args.demo_keys, keys = overrides.demo_keys(keys)
        args.demo_keys |= {"columns": args.columns} if args.columns else {}
    if PICTURES[2:] in args:
        args.pictures, keys = overrides.pictures(keys)
    if KWARGS[2:] in args:
        args.kwargs = overrides.env_kwargs(keys)
    elif keys and args.do is not train.train:
        extra = [f"--{keys[0][0]}", *extra]
    if extra:
        raise UsageError(args.unknown(extra[0], args))
    return args.do(args)


def make_parser() -> Parser:
    parser = Parser(prog="puffer-il", description="Fast imitation learning on PufferLib vector environments.",
                    epilog="start with: puffer-il train --help")
    parser.add_argument("--version", action="version", version=f"puffer-il {puffer_il.__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    for group in (train, evaluate, demos, env, reward, algos, bench):
        group.add(commands)
    return parser


def _open_closed_streams() -> None:
    """Standard streams that a daemon has closed lead nowhere: no file that is opened later may get their numbers."""
    while (handle := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(handle)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 (for good)


def _report(error: Exception) -> int:
    """One line for what the user can put right, the environment's own traceback for its failure, ours for the rest."""
    from puffer_il.core.errors import EnvFailure, InputError

    if isinstance(error, UsageError | InputError):
        return _complain(f"error: {error}", BAD_INPUT)
    if isinstance(error, EnvFailure):
        print(f"puffer-il: {error}", file=sys.stderr)
        return FAILED
    if _disk_is_full(error):
        return _complain("error: the disk is full; free some space, then continue a run with --resume", BAD_INPUT)
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and error.filename:
        return _complain(f"error: {error.filename}: {error.strerror}; change its permissions or use another place",
                         BAD_INPUT)
    traceback.print_exception(error)
    return FAILED


def _complain(text: str, code: int) -> int:
    from puffer_il.core.text import shown

    print("puffer-il:", shown(" ".join(text.split())), file=sys.stderr)
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
    previous = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN}  # nohup ignores it
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
