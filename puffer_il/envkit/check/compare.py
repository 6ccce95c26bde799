"""What was compared and differed, as findings: other memory, other company, another past, the same seed again."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from puffer_il.envkit.check.findings import ALL_FIELDS, MANY
from puffer_il.envkit.check.program import ProgramRun
from puffer_il.envkit.check.results import FOLLOW, ROOTS, Checks, at_step
from puffer_il.envkit.check.states import check_states, check_views

BY_FIELDS = {  # comparison → the check that it belongs to, what it finds, what to do
    "fresh": ("initialised", "uninitialised read: {fields} of Env is used before c_reset has set it ({what} depend on "
              "what its memory held before, {step})", ALL_FIELDS),
    "reset": ("reset", "missing reset: c_reset leaves {fields} from the last episode ({what} of the next one differ, "
              "{step})", ALL_FIELDS),
}


def check_comparisons(runs: Mapping[str, ProgramRun], unwritten: list[str], shared: bool, checks: Checks,
                      observer: str = "c_set_state") -> None:
    """What differed where nothing may differ, and which fields of Env it was due to. `observer` is the function that
    writes the observations of a state that is set."""
    zero, sanitized = runs.get("zero", ProgramRun()), runs.get("sanitized", ProgramRun())
    records = list(dict.fromkeys([*zero.records, *sanitized.records]))
    differs = {record[1]: record[2:] for record in reversed(records) if record[0] == "differs"}
    fields = {label: [f"env->{record[2]}" for record in records if record[:2] == ("field", label)]
              for label in (*BY_FIELDS, "state")}
    if set(fields["fresh"]) <= set(fields["reset"]):
        differs.pop("fresh" if "reset" in differs else "", None)  # of the two, what is met in practice
    _unwritten(records, observer, checks)
    _memory(runs, unwritten, checks)
    if "repeat" in differs:
        what, step = differs["repeat"]
        checks["determinism"].add(f"not deterministic: the same seed and actions give different {what} the second "
                                  f"time, {at_step(step)}",
                                  "everything must come from Env, io.params, io.data and io.rng: no static variables, "
                                  "no rand(), no clock, no addresses as numbers", compared=True)
    for label, text in (("alone", "when it is alone"), ("split", "when the batch is split")):
        if label in differs and (shared or "repeat" not in differs):
            what, step = differs[label]
            checks["sharing"].add(f"shared state: an environment gives different {what} {text}, {at_step(step)}",
                                  "keep everything that changes in Env: no static variables", compared=True)
            break
    for label, (name, text, cure) in BY_FIELDS.items():
        if label in differs:
            what, step = differs[label]
            checks[name].add(text.format(fields=", ".join(dict.fromkeys(fields[label])) or "something", what=what,
                                         step=at_step(step)), cure, compared=True)
    check_states(records, differs.get("state"), fields, checks)
    check_views(records, observer, checks)
    _hooks(records, checks)


def _hooks(records: list[tuple[str, ...]], checks: Checks) -> None:
    """What expert and pictures have shown of themselves."""
    for k, value, low, high, step in [record[1:] for record in records if record[0] == "expert"][:1]:
        checks["expert"].add(f"out of space: c_expert's action[{k}] is {value}, but must be from {low} to {high}, "
                             f"{at_step(step)}", "clip it in c_expert; demonstrations would record it unclipped")
    for drawn, moves, repeats in [record[1:] for record in records if record[0] == "picture"][:1]:
        if drawn == "0":
            checks["picture"].add("the picture is of one colour", "does c_render draw inside width × height?", False)
        elif moves == "0":
            checks["picture"].add("the picture never changes", "does c_render draw what moves in Env?", False)
        if repeats == "0":
            checks["picture"].add("drawing the same state twice gives two pictures", "draw from env and io alone")


def _unwritten(records: list[tuple[str, ...]], observer: str, checks: Checks) -> None:
    for function, array, name in (("c_reset", "io.observations", "initialised"), ("c_get_state", "state", "state"),
                                  ("c_set_state", "io.observations", "state"), ("c_expert", "actions", "expert")):
        found = list(dict.fromkeys(record[2] for record in records if record[:2] == ("unwritten", function)))
        if found:
            shown = ", ".join(f"[{element}]" for element in found[:MANY]) + ", …" * (len(found) > MANY)
            who = observer if function == "c_set_state" else function
            checks[name].add(f"{who} does not write {array}{shown}", f"write every element of {array}; it may hold "
                             "anything beforehand")


def _memory(runs: Mapping[str, ProgramRun], unwritten: list[str], checks: Checks) -> None:
    """Locals and buffers that were zero in one build and something else in the other."""
    found = first_difference(runs["zero"], runs["pattern"]) if {"zero", "pattern"} <= runs.keys() else None
    if found is None:
        return
    again = first_difference(runs["zero"], runs["again"]) if "again" in runs else None
    if again is not None:
        checks["determinism"].add(f"not deterministic: another process gives different {again[0]}, {at_step(again[1])}",
                                  "no clock, no rand(), no addresses as numbers: random numbers come from io.rng")
        return
    lines = f": {'; '.join(unwritten)}" if unwritten else ""
    checks["initialised"].add(f"uninitialised read: {found[0]} depend on memory that nobody has written, "
                              f"{at_step(found[1])}{lines}", "give every local variable a value, write all of "
                              "io.observations, and read io.actions in c_step only", compared=True)


def mark_followers(checks: Checks) -> None:
    """Say of what may be a consequence of something else that it may be one."""
    for name in FOLLOW:
        before = ROOTS[:ROOTS.index(name)] if name in ROOTS else ROOTS
        roots = checks.failed(*before)
        if name in checks and roots:
            remedy = f"may follow from '{roots[0]}': mend that first, and check again"
            checks[name].findings = [replace(found, remedy=remedy, root=roots[0]) if found.compared else found
                                     for found in checks[name].findings]


def first_difference(a: ProgramRun, b: ProgramRun) -> tuple[str, int] | None:
    """What differs first between two runs, and at which step; None if they agree as far as both go."""
    n = min(len(a.trace), len(b.trace))
    rows, kinds = np.nonzero(a.trace[:n] != b.trace[:n])
    return (("observations", "rewards", "ends")[kinds[0]], int(rows[0])) if len(rows) else None
