"""`puffer-il eval`: the score of a run's policy."""

import json
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from puffer_il.cli import parser


def add(commands: Any) -> None:
    evaluate_parser = parser.command(commands, "eval", evaluate, "play the policy of a run on the true reward")
    option = evaluate_parser.add_argument
    option("run_dir", type=Path, metavar="run-dir")
    option("--episodes", type=parser.count, default=100, metavar="N", help="how many to play (default 100)")
    parser.takes_seed(evaluate_parser)
    parser.takes_trust(evaluate_parser)
    option("--demos", metavar="SRC", help="also report how likely the policy finds the actions of these "
                                          "demonstrations: a score where returns tell little")
    option("--stochastic", action="store_true", help="sample actions instead of what the run's key "
                                                     "eval.deterministic says")
    option("--both", action="store_true", help="play by the likeliest actions and by sampled ones, and compare")
    option("--json", action="store_true", help="print JSON instead of lines")
    parser.takes_kwargs(evaluate_parser)
    parser.takes_demo_keys(evaluate_parser)


def evaluate(args: Namespace) -> int:
    from puffer_il import api
    from puffer_il.core.terminal import others_on_stderr
    from puffer_il.core.text import facts
    from puffer_il.rollout.evaluate import unfinished

    if args.demo_keys and not args.demos:
        raise parser.UsageError("--demos.KEY says how demonstrations are read; name them with --demos SRC")
    demos = {"source": args.demos, **args.demo_keys} if args.demos else None
    with others_on_stderr() if args.json else nullcontext():
        played = api.evaluate(args.run_dir, episodes=args.episodes, seed=args.seed, demos=demos, both=args.both,
                              trust=args.trust, deterministic=False if args.stochastic else None, **args.kwargs)
    for line in unfinished(played):
        parser.notice(line)
    if args.json:
        print(json.dumps(played, indent=2))
        return 0
    lines = [f"{args.run_dir}, after {played['env_steps']:,} steps", *scores(played, played)]
    if args.both:
        lines += facts([(name, one_line(played[f"eval_{name}"])) for name in ("greedy", "sampled")])
        if played.get("differs"):
            parser.notice(played["differs"])
    if args.demos:
        shown = played["demos"]
        lines += facts([("likelihood", f"{shown['log_likelihood']:.3f} nats an action (the mean log-likelihood of "
                                       f"{shown['transitions']:,} demonstrated actions)")])
    print("\n".join(lines))
    return 0


def scores(known: dict[str, Any], played: dict[str, Any] | None) -> list[str]:
    """Returns of the policy (an `eval` part, None if it has not played), the expert and the random policy."""
    from puffer_il.core.text import facts, number

    lines = [("policy", "not evaluated")]
    if played is not None:
        log = [f"{name.replace('_', ' ')} {number(x)}" for name, x in played.get("log", {}).items()]
        lines = [("policy", one_line(played)), ("played", ", ".join([f"{played['episodes']} episodes", *log]))]
        if played.get("unscored"):
            lines.append(("score", played["unscored"].replace("no normalised score", "none", 1)))
    returns = ((name, known[f"{name}_return"]) for name in ("expert", "random"))
    return facts(lines + [(name, number(value)) for name, value in returns if value is not None])


def one_line(played: dict[str, Any]) -> str:
    """Return, score and interval of an `eval` part."""
    from puffer_il.training.loggers import evaluation

    metrics = {f"eval/{key}": value for key, value in played.items() if isinstance(value, int | float)}
    return evaluation(metrics | dict(zip(("eval/ci_low", "eval/ci_high"), played["ci95"] or (), strict=False)))
