"""`puffer-il algos`: what each algorithm needs, the actions it covers, when to use it, and where it comes from."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import sys
import textwrap
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from puffer_il.cli import options
from puffer_il.learners.base import Learner
from puffer_il.learners.experiment import section_types
from puffer_il.learners.registry import get_learner, package_of, usable_learners

LEAST, WIDE = 80, 120  # characters of a line, between which the terminal decides
NEEDS_WIDTH = {"paper": 120, "actions": 100}  # what is left out of a narrower table
SPACES = ("discrete", "multi-discrete", "continuous")
LAST = 28  # least characters for the last column


def main(args: Namespace) -> int:
    """The table, or all about one algorithm: `args.algo`. Broken ones are named below it."""
    if args.algo:
        facts = describe(args.algo, get_learner(args.algo))
        print(json.dumps(facts, indent=2) if args.json else "\n".join(page(facts)))
        return 0
    learners, complaints = usable_learners()
    all_facts = [describe(name, cls) for name, cls in learners.items()]
    if args.json:
        print(json.dumps({"algorithms": all_facts, "unusable": complaints}, indent=2))
        return 0
    width = max(LEAST, min(WIDE, shutil.get_terminal_size((WIDE, 24)).columns))
    cells = {"name": lambda facts: facts["name"], "learns from": lambda facts: learns_from(facts["needs"]),
             "steps": lambda facts: "yes" if facts["needs"]["rollouts"] else "no",
             "actions": lambda facts: "any" if len(facts["spaces"]) == len(SPACES) else ", ".join(facts["spaces"]),
             "paper": lambda facts: short(facts["paper"]), "when to use it": lambda facts: facts["when"]}
    head = tuple(name for name in cells if width >= NEEDS_WIDTH.get(name, 0))
    rows = [tuple(cells[name](facts) for name in head) for facts in all_facts]
    print("\n".join([*columns(head, rows, width), "", "steps: whether it acts in the environment while it learns",
                     "'puffer-il algos NAME' shows one and its keys, 'puffer-il train auto' chooses"]))
    for complaint in complaints:
        print(f"puffer-il: {complaint}", file=sys.stderr)
    return 0


def describe(name: str, cls: type[Learner]) -> dict[str, Any]:
    """An algorithm in plain numbers and texts, for JSON; what a third party leaves out is "not said"."""
    what = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split()).partition("Paper:")[0]
    return {"name": name, "package": package_of(name),
            "needs": {"rollouts": cls.needs_rollouts, "demonstrations": cls.needs_demos,
                      "actions": cls.needs_demos and cls.needs_actions, "expert": cls.needs_expert},
            "spaces": list(cls.about.spaces), "paper": cls.about.paper, "what": what.strip().rstrip(".") or "not said",
            "when": cls.about.when, "uses": list(getattr(cls, "uses", ())), "metrics": list(cls.promised_metrics)}


def learns_from(needs: dict[str, bool]) -> str:
    demos = ["states, actions" if needs["actions"] else "states alone"] if needs["demonstrations"] else []
    return " and ".join(demos + ["an expert to ask"] * needs["expert"]) or "a reward"


def short(paper: str) -> str:
    """Authors and year, without the address."""
    return re.split(r",? (?:arXiv|doi|https?):", paper)[0]


def page(facts: dict[str, Any]) -> list[str]:
    """All about one algorithm, and the keys of its sections."""
    needs, pad = facts["needs"], " " * 14
    lines = [("what", facts["what"]), ("when", facts["when"]), ("learns from", learns_from(needs)),
             ("steps", "acts in the environment while it learns" if needs["rollouts"] else
              "learns without the environment, which only evaluates it"),
             ("actions", ", ".join(facts["spaces"])), ("paper", facts["paper"]), ("package", facts["package"]),
             ("reports", ", ".join(facts["metrics"]))]
    text = [line for name, value in lines for line in
            textwrap.wrap(value, WIDE, initial_indent=f"  {name:<12}", subsequent_indent=pad, break_on_hyphens=False)]
    types = section_types(facts["name"])
    keys = [line for section in (facts["name"], *facts["uses"]) for line in
            ("", *options.section_help(section, types[section], types[section]()))]
    return [facts["name"], *text, *keys]


def columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """A table whose last column is wrapped so that no line is longer than `width`, if that is enough."""
    widths = [max(map(len, column)) for column in zip(*(line[:-1] for line in (head, *rows)), strict=True)]
    last = max(LAST, width - sum(widths) - 2 * len(widths))
    lines = []
    for row in (head, tuple("─" * w for w in (*widths, last)), *rows):
        first, *more = textwrap.wrap(row[-1], last, break_on_hyphens=False) or [""]
        lines.append("".join(f"{cell:<{w}}  " for cell, w in zip(row, widths, strict=False)) + first)
        lines += [" " * (sum(widths) + 2 * len(widths)) + part for part in more]
    return lines
