"""`puffer-il bench`: how fast each part is, and how well every algorithm learns."""

from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from puffer_il.cli import parser

WHAT = {"throughput": "whole training loops, and peak memory (the default)",
        "stages": "each stage alone against its limit",
        "scaling": "loops by environments, horizon, hidden size, threads, workers",
        "env": "stepping: every C environment, and a Python one in processes",
        "buffer": "advantages, writes and gathers against memory",
        "learners": "the cost of every learner against GAIL's",
        "rows": "rows of a Dict and rows with action masks against plain ones",
        "mlp": "fused networks against torch",
        "all": "all of the above",
        "cliffs": "one key more of PPO, GAIL, BC and SAC beside the plain ones; fails (1) where it costs too much",
        "bf16": "training loops that multiply in bfloat16 beside the same loops in float32",
        "mujoco": "the MuJoCo environments beside EnvPool's, which is installed on first use in PUFFER_IL_PEERS",
        "locomotion": "GAIL's time to the expert on hopper and halfcheetah; with --peers imitation and TorchRL too",
        "scores": "how well and how soon every algorithm learns, by whole training runs; this takes hours"}


def add(commands: Any) -> None:
    measure = parser.command(commands, "bench", bench, "measure speed stage by stage, or how well algorithms learn",
                             epilog="\n".join(["what to measure:", *(f"  {k:<12} {v}" for k, v in WHAT.items())]))
    measure.add_argument("what", nargs="?", metavar="what", help=f"{', '.join(WHAT)}")
    option = measure.add_argument
    option("--json", type=Path, metavar="FILE", help="write all figures to this file, after every step; 'scores' keeps "
                                                     "every run in it and does not repeat it")
    option("--markdown", type=Path, metavar="FILE", help="write the tables to this file as a page")
    option("--against", metavar="REV", help="training loops of this tree beside those of an earlier commit, which is "
           "built in PUFFER_IL_PEERS; the exit code is 1 if one has become slower than 0.97 times")
    option("--algos", type=_names, metavar="A,…", help="of throughput: ppo,gail (default both); of scores: default all")
    option("--seeds", type=parser.count, default=5, metavar="N", help="of scores, and of --peers' time to the expert: "
                                                                      "1 to N (default 5)")
    option = measure.add_argument_group("throughput and its parts").add_argument
    option("--peers", action="store_true", help="imitation, Stable-Baselines3 and PufferLib's PPO beside ours, in "
           "virtual environments of their own (about 3 GB, made on first use in PUFFER_IL_PEERS)")
    option("--peer-expert", action="store_true", help="with --peers: imitation's time to the expert too, some minutes")
    option("--env", default="CartPole-v1", help="the Python environment of 'env' (default Gymnasium's CartPole-v1)")
    option("--num-envs", type=parser.count, default=0, metavar="N", help="default 4096; 64 for Python environments")
    option("--num-steps", type=parser.count, default=64, metavar="N", help="steps of a rollout (default 64)")
    option("--epochs", type=parser.count, default=1, metavar="N", help="PPO epochs of throughput (default 1)")
    option("--updates", type=parser.count, default=10, metavar="N", help="measured iterations of throughput "
                                                                         "(default 10)")
    option("--hidden", type=parser.counts, default=(64, 256), metavar="N,…", help="hidden widths of stages (default "
                                                                                  "64,256)")
    option("--repeats", type=parser.count, default=7, metavar="N", help="repeats of everything else (default 7)")
    option("--seconds", type=_seconds, default=0.1, metavar="S", help="minimum seconds of one repeat (default 0.1)")
    option = measure.add_argument_group("scores").add_argument
    option("--envs", type=_names, default="cartpole,acrobot,mountaincar,pendulum,mdp", metavar="E,…",
           help="default cartpole,acrobot,mountaincar,pendulum,mdp")
    option("--demos", type=parser.counts, default=(1, 10), metavar="N,…", help="demonstrated episodes (default 1,10)")
    option("--jobs", type=parser.count, default=1, metavar="N", help="runs at a time (default 1, so that none slows "
                                                                     "another)")
    option("--limit", type=parser.count, default=1800, metavar="S", help="seconds after which a run is given up "
                                                                         "(default 1800)")
    option = measure.add_argument_group("locomotion").add_argument
    option("--tasks", type=_names, default="hopper,halfcheetah", metavar="T,…", help="default hopper,halfcheetah")
    option("--demos-folder", type=Path, metavar="DIR", help="holds the demonstrations, T.npz, of which all see the "
                                                            "first 10 episodes")
    option("--cap", type=parser.count, default=0, metavar="S", help="seconds at which a peer is given up (default 20 "
                                                                    "times our median)")


def bench(args: Namespace) -> int:
    if args.what not in (None, *WHAT):
        from puffer_il.core.errors import unknown

        raise parser.UsageError(unknown("benchmark", args.what, list(WHAT)))
    if args.against and args.what:
        raise parser.UsageError(f"--against {args.against} measures loops of its own; leave {args.what!r} out")
    if args.what == "scores":
        from puffer_il.bench import scores

        return scores.main(args)
    from puffer_il.bench import speed

    return speed.main(args)


def _names(text: str) -> list[str]:
    return text.split(",")


def _seconds(text: str) -> float:
    seconds = parser.rate(text)
    if seconds > 60:
        raise ArgumentTypeError(f"{text!r} is more than 60 seconds")
    return seconds
