"""What functions that write states and observations have shown, and which is to blame where they disagree."""

from collections.abc import Mapping, Sequence

from puffer_il.envkit.check.results import Checks, at_step

Records = Sequence[tuple[str, ...]]
GET, SET = "c_get_state", "c_set_state"
CURES = {GET: "write it to `state`, read it back in c_set_state, and raise `state` in env.toml; caches too",
         SET: "set it from `state`, where c_get_state has put it"}
SAME = "write io.observations in one function, and call that at the end of c_reset, c_step and c_set_state"


def check_states(records: Records, differs: tuple[str, ...] | None, fields: Mapping[str, list[str]],
                 checks: Checks) -> None:
    """What states lose on their way. `differs`: what went on differently and at which step, None if nothing did;
    `fields` by what they were found for."""
    if any(record[:2] == ("unwritten", GET) for record in records):
        return  # anything may come of what it has not written
    lost = {hook: list(dict.fromkeys(record[2] for record in records if record[:2] == ("lost", hook)))
            for hook in (GET, SET)}
    what, step = differs or ("", "0")
    how = (f"after c_get_state and c_set_state the episode goes on differently ({what} differ, {at_step(step)})"
           if differs else "c_set_state writes other observations than the state had")
    left = fields["state"] and set(fields["state"]) <= set(fields["reset"])  # c_reset is to blame, and is told so
    for hook, names in lost.items():
        if names and not left:
            checks["state"].add(f"{hook} forgets {', '.join(names)}: {how}", CURES[hook], compared=True)
    unlike = [record[1:] for record in records if record[0] == "identity"]
    for k, before, after in unlike[:0 if lost[SET] else 1]:
        checks["state"].add(f"c_set_state does not set what c_get_state reads: state[{k}] is {before}, but {after} "
                            "after both", "set the fields that c_get_state reads, in the same order")
    if differs and not unlike and not any(lost.values()):  # all that c_get_state reads was set
        checks["state"].add(f"{GET} forgets something: {how}", CURES[GET], compared=True)


def check_views(records: Records, observer: str, checks: Checks) -> None:
    """Whether the functions that write observations write the same of the same state. Where one of them disagrees with
    the two others, it is that one. `observer` writes them when a state is set."""
    idle = next((record[2] for record in records if record[:2] == ("idle", "c_step")), None)
    if idle is not None:
        checks["observations"].add(f"c_step never writes io.observations: {int(idle):,} steps, in which no episode "
                                   "ended, left every element as it was", SAME)
    if any(record[0] in ("lost", "identity") for record in records):
        return  # it was not the same state
    told = {record[1] for record in records if record[0] in ("unwritten", "idle")}
    seen = {record[1]: record[2:] for record in reversed(records) if record[0] == "seen" and record[1] not in told}
    if len(seen) == 2:  # what c_set_state writes is what neither of the others has written
        k, there, own, step = seen["c_step"]
        checks["state"].add(f"{observer} writes {own} into io.observations[{k}] of a state in which c_step has written "
                            f"{there}, {at_step(step)}", SAME)
    for writer, (k, there, own, step) in seen.items() if len(seen) == 1 else ():
        checks["observations"].add(f"{writer} leaves {there} in io.observations[{k}], {at_step(step)}, but {observer} "
                                   f"writes {own} for that state", SAME)
