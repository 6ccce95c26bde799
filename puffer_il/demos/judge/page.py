"""A verdict as one page of HTML with pictures, which needs nothing but itself."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np

from puffer_il.core.checkpoint import whole
from puffer_il.core.errors import InputError, one_line
from puffer_il.core.text import number, shown
from puffer_il.demos.check import describe
from puffer_il.demos.dataset import Demos
from puffer_il.demos.judge import drawings
from puffer_il.demos.judge.subject import Subject, looked_at
from puffer_il.demos.judge.verdict import Verdict
from puffer_il.demos.judge.world import World

COLUMNS = 6  # of the observation and of the action that are drawn, those with findings first
STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --page: #fcfcfd; --card: #fff; --edge: #e0e3e7;
  --bar: #8fa3b8; --line: #33658a; --bad: #d9730d; --stop: #c62a2f; --good: #2b7a4b }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #a5abb5; --page: #111214; --card: #191a1d;
  --edge: #32353b; --bar: #5f7286; --line: #8fc1e3; --bad: #ffa057; --stop: #ff6369; --good: #63c18a } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1100px; padding: 24px 20px 48px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.35rem; margin: 0 } h2 { font-size: 1.05rem; margin: 2rem 0 .6rem }
.word { font-weight: 600 } .refused { color: var(--stop) } .usable { color: var(--bad) } .nothing { color: var(--good) }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 1rem 0 0;
  padding: 0 }
.facts div, figure, li.finding { background: var(--card); border: 1px solid var(--edge); border-radius: 8px }
.facts div { padding: 8px 12px } dt { color: var(--soft); font-size: .85rem } dd { margin: 0; font-weight: 600 }
ul { list-style: none; margin: 0; padding: 0 } li.finding { padding: 10px 14px; margin-bottom: 8px;
  border-left: 4px solid var(--bad) } li.finding.stop { border-left-color: var(--stop) }
.where { color: var(--soft); font-size: .85rem } .remedy { color: var(--soft) }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 12px }
figure { margin: 0; padding: 10px 12px } figcaption { font-size: .9rem; margin-bottom: 6px }
figcaption span { color: var(--soft) } svg { display: block; width: 100%; height: auto }
svg text { font-size: 9px; fill: var(--soft) } .bar { fill: var(--bar) } .bad { fill: var(--bad) }
.line { fill: none; stroke: var(--line); stroke-width: 1.5; vector-effect: non-scaling-stroke }
.mark, .edge { stroke: var(--bad); stroke-width: 2; vector-effect: non-scaling-stroke }
.edge { stroke: var(--soft); stroke-dasharray: 4 4 } p { margin: .3rem 0 }
"""


def write(path: Path, demos: Demos, found: Verdict, world: World | None = None) -> None:
    """All or nothing; InputError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary:
            temporary.write_text(html(demos, found, world), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--html {path}: cannot be written ({one_line(error)}); choose another place") from None


def html(demos: Demos, found: Verdict, world: World | None = None) -> str:
    """The page."""
    findings = "".join(_finding(finding.line, finding.refused) for finding in found.findings)
    notes = "".join(f"<p>{_text(line)}</p>" for line in [*found.advice(), *found.notes])
    against = f" against {_text(found.env)}" if found.env else ""
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><title>{_text(found.file)}</title>'
            f"<style>{STYLE}</style></head><body><h1>{_text(found.file)}</h1>"
            f'<p><span class="word {found.word.split()[0]}">{found.word}</span>{against}</p>{_facts(demos, found)}'
            f"<h2>{len(found.findings) or 'No'} finding{'s' * (len(found.findings) != 1)}</h2><ul>{findings}</ul>"
            f'<h2>Pictures</h2><div class="pictures">{"".join(_pictures(demos, found, world))}</div>'
            f"{f'<h2>Notes</h2>{notes}' * bool(notes)}</body></html>\n")


def _text(text: str) -> str:
    return escape(shown(text))


def _finding(line: str, stops: bool) -> str:
    what, _, remedy = line.rpartition("; ") if "; " in line else (line, "", "")
    return (f'<li class="finding{" stop" * stops}">{_text(what)}'
            f'{f"<br><span class=remedy>{_text(remedy)}</span>" if remedy else ""}</li>')


def _facts(demos: Demos, found: Verdict) -> str:
    told = describe(demos)
    returns = told["returns"]
    facts = [("episodes", f"{told['episodes']:,}"), ("transitions", f"{told['transitions']:,}"),
             ("steps an episode", f"{told['lengths']['min']:,.0f} to {told['lengths']['max']:,.0f}"),
             ("return", f"{number(returns['mean'])} ± {number(returns['sd'])}" if returns else "unknown")]
    if found.needed is not None:
        facts.append(("likely enough to clone", f"{found.needed:,} transitions"))
    if found.algo:
        facts.append(("algorithm", found.algo))
    return f'<dl class="facts">{"".join(f"<div><dt>{k}</dt><dd>{_text(v)}</dd></div>" for k, v in facts)}</dl>'


def _pictures(demos: Demos, found: Verdict, world: World | None) -> Iterator[str]:
    subject = Subject(looked_at(demos))
    episodes = [f.episode for f in found.findings if f.episode is not None]
    if demos.returns is not None:
        yield drawings.bars("Return of each episode", demos.returns, episodes, "")
    yield drawings.bars("Length of each episode", demos.whole_lengths, episodes, "steps")
    places = [(f.episode, f.row - int(demos.episode_starts[f.episode])) for f in found.findings
              if f.episode is not None and f.row is not None]
    yield drawings.strips("Where the findings are", demos.lengths, places)
    if demos.actions is not None:
        for column in range(min(demos.actions.shape[1], COLUMNS)):
            yield drawings.histogram(f"Action column {column}", demos.actions[:, column], *_range(world, column))
    if subject.obs.shape[1]:
        yield from _columns(subject, found)
        if world is not None:
            yield from _starts(subject, world)


def _range(world: World | None, column: int) -> tuple[float, float]:
    action = None if world is None else world.spec.action
    if action is None or action.discrete or column >= action.dim:
        return -np.inf, np.inf
    return float(np.asarray(action.low)[column]), float(np.asarray(action.high)[column])


def _columns(subject: Subject, found: Verdict) -> Iterator[str]:
    """Numbers of the observation through the episode with findings, or the first."""
    about = [f for f in found.findings if f.row is not None]
    episode = int(subject.episode[about[0].row]) if about else 0
    first, end = subject.demos.episode_starts[episode], subject.demos.episode_ends[episode]
    marked = [f.row - int(first) for f in about if f.row is not None and first <= f.row < end]
    odd = [k for f in found.findings if "observation" in f.what for k in f.columns]
    for column in list(dict.fromkeys([*odd, *range(subject.obs.shape[1])]))[:COLUMNS]:
        yield drawings.line(f"Observation column {subject.named([column])}, episode {episode}",
                            subject.obs[first:end, column], marked)


def _starts(subject: Subject, world: World) -> Iterator[str]:
    own, theirs = subject.numbers(world.starts(256)), subject.obs[subject.demos.episode_starts]
    if own.shape[1] != theirs.shape[1] or own.shape[1] < 2:
        return
    first, second = (int(k) for k in np.argsort(-np.ptp(own, axis=0) / (np.abs(own).max(0) + 1e-9), kind="stable")[:2])
    yield drawings.dots("Where episodes begin", own[:, [first, second]], theirs[:, [first, second]],
                        (f"column {subject.named([first])}", f"column {subject.named([second])}"))
