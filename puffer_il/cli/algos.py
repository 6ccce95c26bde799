"""`puffer-il algos`: what each algorithm needs, the actions it covers, when to use it, and where it comes from."""

import json
import re
from argparse import Namespace
from typing import Any

from puffer_il.cli import parser

NEEDS_WIDTH = {"paper": 120, "actions": 100}  # characters of a line below which the table leaves a column out
WIDEST = 120  # characters of a line of text
SPACES = ("discrete", "multi-discrete", "continuous")


def add(commands: Any) -> None:
    listing = parser.command(commands, "algos", algos, "the algorithms: what they need, when to use them, their papers")
    listing.add_argument("algo", nargs="?", help="show this one with its keys")
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")


def algos(args: Namespace) -> int:
    """The table, or all about one algorithm: `args.algo`. Broken ones are named below it."""
    from puffer_il.core.text import Table
    from puffer_il.learners.registry import declaration, describe, usable_learners

    if args.algo:
        facts = describe(args.algo, declaration(args.algo))
        print(json.dumps(facts, indent=2) if args.json else "\n".join(page(facts)))
        return 0
    learners, complaints = usable_learners(declaration)
    all_facts = [describe(name, cls) for name, cls in learners.items()]
    if args.json:
        print(json.dumps({"algorithms": all_facts, "unusable": complaints}, indent=2))
        return 0
    cells = {"name": lambda facts: facts["name"], "learns from": lambda facts: learns_from(facts["needs"]),
             "steps": lambda facts: "yes" if facts["needs"]["rollouts"] else "no",
             "actions": lambda facts: "any" if len(facts["spaces"]) == len(SPACES) else ", ".join(facts["spaces"]),
             "paper": lambda facts: short(facts["paper"]), "when to use it": lambda facts: facts["when"]}
    head = [name for name in cells if parser.terminal_width() >= NEEDS_WIDTH.get(name, 0)]
    Table("", head, [[cells[name](facts) for name in head] for facts in all_facts], layout="wrap").show()
    print("\nsteps: whether it acts in the environment while it learns\n"
          "'puffer-il algos NAME' shows one and its keys, 'puffer-il train auto' chooses")
    for complaint in complaints:
        parser.notice(complaint)
    return 0


def learns_from(needs: dict[str, bool]) -> str:
    demos = ["states, actions" if needs["actions"] else "states alone"] if needs["demonstrations"] else []
    return " and ".join(demos + ["an expert to ask"] * needs["expert"]) or "a reward"


def short(paper: str) -> str:
    """Authors and year, without the address."""
    return re.split(r",? (?:arXiv|doi|https?):", paper)[0]


def page(facts: dict[str, Any]) -> list[str]:
    """All about one algorithm, and the keys of its sections."""
    from puffer_il.cli.keys import section_help
    from puffer_il.core import text
    from puffer_il.learners.experiment import section_types
    from puffer_il.learners.registry import declaration

    needs, types = facts["needs"], section_types(facts["name"], declaration)
    lines = [("what", facts["what"]), ("when", facts["when"]), ("learns from", learns_from(needs)),
             ("steps", "acts in the environment while it learns" if needs["rollouts"] else
              "learns without the environment, which only evaluates it"),
             ("actions", ", ".join(facts["spaces"])), ("paper", facts["paper"]), ("package", facts["package"]),
             ("reports", ", ".join(facts["metrics"]))]
    keys = [line for section in (facts["name"], *facts["uses"])
            for line in ("", *section_help(section, types[section], types[section]()))]
    width = min(parser.terminal_width(), WIDEST)
    return [facts["name"], *(parser.wrapped(line, width) for line in (*text.facts(lines), *keys))]
