"""`puffer-il reward`: what a learned reward pays for."""

import json
import shutil
import sys
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from puffer_il.cli import parser

EXAMPLES = """\
examples:
  puffer-il reward show runs/airl                     on the demonstrations, a random policy and the run's own
  puffer-il reward show runs/airl --env.kwargs.g 15   where the environment has changed
  puffer-il train transfer pendulum --transfer.reward runs/airl --env.kwargs.g 15
"""


def add(commands: Any) -> None:
    group = parser.group(commands, "reward", "learned rewards: show", description="Learned rewards.")
    look = parser.command(group, "show", show, "show what a learned reward pays for, beside the true reward",
                          epilog=EXAMPLES)
    look.add_argument("run", type=Path, metavar="RUN", help="a run of an algorithm that learns a reward, or its "
                                                            "reward.pt")
    look.add_argument("--env", default="", help="another environment with the same observations (default: the run's)")
    look.add_argument("--demos", default="", metavar="SRC", help="demonstrations to use instead of the run's")
    look.add_argument("--episodes", type=parser.count, default=50, metavar="N", help="episodes per policy (default 50)")
    parser.takes_seed(look)
    parser.takes_trust(look)
    look.add_argument("--json", action="store_true", help="print JSON instead of lines")
    look.add_argument("--out", type=Path, metavar="FILE", help="also write a picture (.png)")
    parser.takes_kwargs(look)


def show(args: Namespace) -> int:
    from puffer_il.core import terminal
    from puffer_il.report.measure_reward import measure
    from puffer_il.report.show_reward import check_path, lines, picture
    from puffer_il.vector.make import fastest_name

    if args.out:
        check_path(args.out)
    env = args.env and fastest_name(args.env, parser.notice)
    with terminal.others_on_stderr() if args.json else nullcontext():
        told = measure(args.run, env, args.kwargs, args.demos, args.episodes, args.seed, args.trust)
    if args.json:
        print(json.dumps(told, indent=2, default=lambda scalar: scalar.item()))
    else:
        depth = terminal.colors() if terminal.is_terminal() else terminal.PLAIN
        print("\n".join(lines(told, shutil.get_terminal_size().columns, depth)))
    if args.out:
        picture(told, args.out)
        print(f"{args.out}: written", file=sys.stderr if args.json else sys.stdout)
    return 0
