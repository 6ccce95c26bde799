"""What the program's records mean: each becomes a finding of the check that it belongs to, with a remedy."""

from collections.abc import Mapping

from puffer_il.envkit.check.program import ProgramRun
from puffer_il.envkit.check.results import Checks, at_step
from puffer_il.envkit.check.sanitizers import CRASH_REMEDY, CRASHES, beside_block, remedy, tell_endless
from puffer_il.native.envfile import EnvFile

ALL_FIELDS = "set every field of Env in c_reset; *env = (Env){0}; at its beginning does"
MANY = 8  # elements that are told one by one


def check_run(env: EnvFile, runs: Mapping[str, ProgramRun], checks: Checks) -> None:
    """How the programs ended, and what they saw in their long run."""
    for name, run in runs.items():
        for died in run.all("died"):
            _died(name, died, checks)
        for function, text in run.all("refused"):
            checks["runs"].add(f"{function} refused: {text}", "see what it says; nothing else could be checked")
        if run.code is None:
            phase = (run.all("phase") or [("start",)])[-1][0]
            checks["runs"].add(f"does not come to an end while '{phase}' is checked", "an environment may not wait: no "
                               "sleep, no input, no locks")
        elif not run.records or run.code == 4:
            checks["runs"].add(f"the program that checks it could not run (exit code {run.code})",
                               "is there room in the temporary folder, and enough memory?")
        for block, offset, size, function, step in run.all("guard"):
            if not checks.failed("memory"):
                where = beside_block(block, int(offset), int(size))
                checks["memory"].add(f"out of bounds: {function} writes {where}, {at_step(step)}", remedy(env, block))
        for what, changed in run.all("changed"):
            _changed(what, changed, checks)
    best = max(runs.values(), key=lambda run: len(run.trace), default=ProgramRun())
    _observations(env, best, checks)
    for reward, step in best.all("reward")[:1]:
        checks["rewards"].add(f"a reward is {reward}, {at_step(step)}", "look for a division by zero, log or sqrt of a "
                              "negative number, or a state that grows without limit")
    for count, episodes, finite in best.all("ran"):
        checks["runs"].about = f"{int(count):,} steps, {int(episodes):,} episodes"
        if finite == "0":
            checks["rewards"].add("io.log holds a NaN or an infinity", "look at what c_step adds to it")
        if episodes == "0":
            checks["runs"].add(f"no episode has ended in {int(count):,} steps", "set max_episode_steps in env.toml, "
                               "unless only a good policy ends them", fatal=False)


def _died(name: str, died: tuple[str, ...], checks: Checks) -> None:
    how, phase, function, step = died
    if how in ("sanitizer", "endless") and name == "sanitized":
        return  # told with its line
    if name == "pattern" or phase == "fresh":
        if not checks.failed("runs"):
            crash = "does not return" if how in ("endless", "blocked") else f"crashes ({how})"
            checks["initialised"].add(f"uninitialised read: {function} {crash}, {at_step(step)}, when memory that "
                                      "nobody has written holds anything but zeros", ALL_FIELDS)
    elif checks.failed("runs"):
        return
    elif how == "endless":
        tell_endless(died, None, checks)
    elif how == "blocked":
        checks["runs"].add(f"{function} does not return, {at_step(step)}, and waits for something",
                           "an environment may not wait: no sleep, no input, no locks")
    elif how == "exit":
        checks["runs"].add(f"crash: {function} ends the program, {at_step(step)}", "an environment may not call exit()")
    else:
        why = CRASHES.get(how.removeprefix("SIG"), "unknown")
        checks["runs"].add(f"crash: {how} in {function}, {at_step(step)}: {why}", CRASH_REMEDY)


def _changed(what: str, changed: str, checks: Checks) -> None:
    if what == "it":
        checks["sharing"].add(f"{changed} are written to, and they are the same for all environments",
                              "io.params and io.data are read-only: copy what changes into Env")
        return
    name = {"c_expert": "expert", "c_render": "picture"}.get(what, "state")
    checks[name].add(f"{what} changes {changed}, but it may only look",
                     f"work on a copy of env in {what}, without casts that drop const")


def _observations(env: EnvFile, run: ProgramRun, checks: Checks) -> None:
    """NaN, infinities, numbers outside of the space, and what never changes."""
    check, told = checks["observations"], run.all("observation")
    for kind in ("finite", "bounds"):
        found = [record[1:] for record in told if record[0] == kind]
        if not found:
            continue
        element, value, low, high, step = found[0]
        more = f"; so do {len(found) - 1} other elements" if len(found) > 1 else ""
        if kind == "finite":
            check.add(f"observation[{element}] becomes {value}, {at_step(step)}{more}", "look for a division by zero, "
                      "sqrt or log of a negative number, or a state that grows without limit")
            continue
        above = float(value) > float(high)
        bound = f"above high = {high}" if above else f"below low = {low}"
        check.add(f"out of space: observation[{element}] is {value}, {bound}, {at_step(step)}{more}",
                  f"clip it in the header, or correct {'high' if above else 'low'} in [observation] of env.toml")
    constant, size = run.all("constant"), env.observation.size
    steps_seen = next((f"{int(count):,} steps" for count, *_ in run.all("ran")), "the whole run")
    if len(constant) == size:
        check.add(f"constant: no element of the observation ever changes in {steps_seen}, in no environment",
                  "does c_step write io.observations after it has moved?")
    elif constant and env.observation.dtype == "float32":
        shown = ", ".join(f"[{element}] = {value}" for element, value in constant[:MANY])
        check.add(f"{len(constant)} of {size} elements never change in {steps_seen}: {shown}"
                  f"{', …' * (len(constant) > MANY)}", "fine if that is meant; they tell a policy nothing", fatal=False)
