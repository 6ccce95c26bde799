"""`puffer-il env`: the environments that there are, and what helps to write one."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from puffer_il.cli import parser

EXAMPLES = """\
from nothing to a policy of your own:
  puffer-il env new my_env                           a folder with a small C environment that works as it is
  puffer-il env check my_env                         does it keep to the contract?
  puffer-il env play my_env                          watch it, or --keys to play it yourself
  puffer-il demos collect my_env --expert --episodes 20 --out my_env/demos.npz
  puffer-il train gail my_env --demos my_env/demos.npz --config my_env/gail.toml --run-dir runs/my_env
  puffer-il env play my_env --policy runs/my_env
"""
NEW_EXAMPLES = """\
examples:
  puffer-il env new my_env                           the folder my_env/: a header in C, env.toml, a test, a README
  puffer-il env new lander --dir envs                the folder envs/lander/
  puffer-il env new my_env --cython                  a PufferEnv in Cython instead: one .pyx
The environment is compiled when it is first used: there is nothing to build. A folder that is not empty is refused.
"""
PLAY_EXAMPLES = """\
examples:
  puffer-il env play cartpole                        the scripted expert if there is one, random actions otherwise
  puffer-il env play cartpole --keys                 you play: arrows and digits; the last line shows the keys
  puffer-il env play cartpole --policy runs/x        what a run has learned; the name may then be left out
  puffer-il env play my_env --env.kwargs.size 9      with other parameters
  puffer-il env play LunarLander-v3 --random         any Gymnasium environment that can draw or print itself
  puffer-il env play cartpole --random --out a.gif   a GIF at its real speed, small enough for a page; .mp4, .png
An environment without a picture shows its observation as bars. While you watch: space pauses, . is one step, q quits.
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
  puffer-il env bench HalfCheetah-v4 --seconds 30    longer, and therefore more certain
"native" is one call for all environments, "serial" steps one after the other in this process, "workers" are other
processes. Rates are environment steps per second through the interface that training uses, with given actions.
"""
NARROW = 100  # characters of a line below which the table of `env list` leaves columns out


def add(commands: Any) -> None:
    group = parser.group(commands, "env", "environments: list, new, check, play, bench", epilog=EXAMPLES,
                         description="Environments: those that are shipped, and your own.")
    parser.command(group, "list", list_, "list the environments of puffer_il and of installed packages")
    create = parser.command(group, "new", new, "write a small environment that works as it is, to change into yours",
                            epilog=NEW_EXAMPLES)
    create.add_argument("name", help="its name (letters, digits and _), or a path that ends in one")
    create.add_argument("--dir", type=Path, metavar="DIR", default=Path(),
                        help="the folder to write it into (default: the current one)")
    create.add_argument("--cython", action="store_true", help="a PufferEnv in Cython instead of a header in C")
    prove = parser.command(group, "check", check, "check an environment against the contract", epilog=CHECK_EXAMPLES)
    prove.add_argument("env", help="a folder, or any other environment as in 'puffer-il train'")
    add_play(parser.command(group, "play", play, "watch an environment, play it, or make a GIF of it",
                            epilog=PLAY_EXAMPLES))
    measure = parser.command(group, "bench", bench, "measure every way of stepping an environment, and recommend one",
                             epilog=BENCH_EXAMPLES)
    measure.add_argument("env", help="as in 'puffer-il train'")
    measure.add_argument("--num-envs", type=parser.count, metavar="N", help="environments (default: 1,024, 4,096 and "
                         "16,384, or 8 and 64 where they are stepped one by one)")
    for one, what in ((prove, "run it"), (measure, "measure")):
        one.add_argument("--seconds", type=parser.positive, default=10.0, metavar="S",
                         help=f"how long to {what} (default 10)")
        one.add_argument("--json", action="store_true", help="print JSON instead of lines")
        parser.takes_kwargs(one)


def add_play(show: parser.Parser) -> None:
    option = show.add_argument
    option("env", nargs="?", help="as in 'puffer-il train'; with --policy RUN it may be left out")
    who = show.add_mutually_exclusive_group()
    parser.takes_actor(who)
    who.add_argument("--keys", action="store_true", help="you play, with the keyboard")
    option("--stochastic", action="store_true", help="sample a policy's actions instead of taking the likeliest")
    option("--episodes", type=parser.count, metavar="N", help="default 3; for a file 1; with --keys until you quit")
    option("--steps", type=parser.count, metavar="N", help="at most this many steps (a .png then shows the last one)")
    parser.takes_seed(show)
    parser.takes_trust(show)
    option("--out", type=Path, metavar="FILE", help="a .gif, .mp4, or .png (the middle of the first episode)")
    option("--fps", type=parser.rate, metavar="F", help="steps per second (default: the environment's own); 0 with "
                                                        "--keys: a step for each key")
    parser.takes_kwargs(show)
    parser.takes_pictures(show)


def list_(args: Namespace) -> int:
    """Name, spaces, agents and hooks of each environment, and beside them what the task is, as far as it fits."""
    from puffer_il.core.text import Table
    from puffer_il.demos.load import shipped_path
    from puffer_il.native.catalogue import env_folders
    from puffer_il.native.envfile import EnvFile, Space, read_env
    from puffer_il.native.glue import hooks

    def space(space: Space) -> str:
        if space.nvec:
            return f"{'×'.join(map(str, space.nvec))} choices"
        return f"{space.dtype} {'×'.join(map(str, space.shape))}"

    def has(file: EnvFile) -> str:
        found = {*hooks(file), *(["DEMOS"] if shipped_path(file.name).is_file() else [])}
        words = {"DEMOS": "demos", "EXPERT": "expert", "RENDER": "picture"}
        return " ".join(word for hook, word in words.items() if hook in found) or "–"

    cells = {"name": lambda file: file.name, "observations": lambda file: space(file.observation),
             "actions": lambda file: space(file.action), "agents": lambda file: str(file.agents), "has": has,
             "task": lambda file: file.description}
    if parser.terminal_width() < NARROW:
        del cells["agents"], cells["has"]
    files = [read_env(folder) for _, folder in sorted(env_folders().items())]
    Table("", tuple(cells), [tuple(cell(file) for cell in cells.values()) for file in files], layout="cut").show()
    print("\ndemos: demonstrations come with it; expert: for 'demos collect --expert';\n"
          "picture: for 'env play'. Any Gymnasium id, module:function or folder works as well;\n"
          "'puffer-il env new NAME' writes a folder to begin with.")
    return 0


def new(args: Namespace) -> int:
    """Write the folder, and say what to type next."""
    from puffer_il.envkit.new import after, write, written

    folder = args.dir / args.name
    print("\n".join([*written(write(folder, args.cython), folder), "", *after(folder, args.cython)]))
    return 0


def check(args: Namespace) -> int:
    from puffer_il.envkit.check.run import check
    from puffer_il.vector import trust
    from puffer_il.vector.make import fastest_name

    trust.remember(args.env, args.kwargs)
    return check(fastest_name(args.env, parser.notice), args.kwargs, args.seconds, as_json=args.json)


def play(args: Namespace) -> int:
    from puffer_il.envkit.play import main
    from puffer_il.vector.make import fastest_name

    args.env = args.env and fastest_name(args.env, parser.notice)
    return main(args)


def bench(args: Namespace) -> int:
    from puffer_il.bench.environment import bench
    from puffer_il.vector import trust
    from puffer_il.vector.make import fastest_name

    trust.remember(args.env, args.kwargs)
    return bench(fastest_name(args.env, parser.notice), args.kwargs, args.num_envs, args.seconds, as_json=args.json)
