"""Do the recorded actions lead to the recorded observations, rewards and ends? The environment itself is asked, where
it can be put into the recorded states: those of the file, or observations that are the whole state."""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject
from puffer_il.demos.judge.world import Steps

MOST = 20_000  # rows
NEAR = 1e-2  # of the usual change of a number from row to row; float32 and other versions of a library stay below
FEW = 0.01  # of the rows; more are the rule
SHIFT = 0.9  # of the rows that another action, or another order, explains
REWARD = 1e-3  # relative to the largest reward


def reproduced(s: Subject) -> Iterator[Finding]:
    demos, spec, world = s.demos, s.spec, s.world
    if world is None or spec is None or demos.actions is None or not s.whole:
        return
    if demos.obs.shape[1:] != spec.obs_shape or demos.actions.shape[1] not in (spec.action.dim, spec.action.width):
        return
    rows = np.arange(min(len(demos), world.most))
    states, stored = demos.states, True
    if states is None:
        states, stored = world.states_of(demos.obs[rows]), False
    if states is None:
        return
    rows = rows[together(states[rows], spec.num_agents)]
    if not stored:
        rows = rows[np.isfinite(states[rows]).all(1)]
    if not len(rows):
        return
    actions, unsure = spec.action.chosen(demos.actions), 0.0 if stored else world.unsure
    played = world.replay(states[rows], actions[rows])
    if played is None:
        yield Finding("states", "the environment cannot be put into the stored states",
                      "collect them in the same environment, with the same parameters")
        return
    again = world.replay(states[rows], actions[rows], seed=1)
    if again is None or not _same(played, again):
        return  # the environment is random: what was recorded is one of its ways
    differs = _differs(s, rows, played.next_obs)
    shift = _shifted(s, rows, states, actions, differs) if differs.mean() > FEW else None
    if shift is not None:
        yield shift
    elif stored and _differs(s, rows, played.obs, before=True).mean() > FEW:
        wrong = rows[_differs(s, rows, played.obs, before=True)]
        yield Finding("states", f"the stored state shows another observation ({len(wrong)} of {len(rows)} rows)",
                      "they are of different rows or parameters: record them together", **s.at(wrong[0]))
    elif differs.mean() > unsure:
        yield _unlike(s, rows, differs, played, stored)
    else:
        yield from _rewards(s, rows, played, unsure)
        yield from _ends(s, rows, played, unsure)


def together(states: Array, agents: int) -> Array:
    """(k * agents,) the numbers of those rows of `states` (n, state size) whose state so many rows share as there are
    agents in an environment, side by side: they took part in the same step. Agents are in the order of their rows, as
    recordings have them."""
    if agents == 1:
        return np.arange(len(states))
    _, kind, counts = np.unique(states, axis=0, return_inverse=True, return_counts=True)
    kind = kind.reshape(-1)
    rows = np.flatnonzero(counts[kind] == agents)
    steps = rows[np.argsort(kind[rows], kind="stable")].reshape(-1, agents)
    return steps[np.argsort(steps[:, 0])].reshape(-1)


def _same(one: Steps, other: Steps) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
               for name in ("next_obs", "rewards", "terminations"))


def _differs(s: Subject, rows: Array, seen: Array, before: bool = False) -> Array:
    """(rows,) bool, where what the environment shows is not what was recorded; pictures to the last pixel."""
    if not s.obs.shape[1]:
        told = np.asarray((s.demos.obs if before else s.demos.next_obs)[rows])
        return (seen != told).reshape(len(rows), -1).any(1)
    recorded, own = (s.obs if before else s.next_obs)[rows], s.numbers(seen)
    usual = np.abs(s.next_obs - s.obs).mean(0)
    slack = NEAR * usual + 1e-5 * np.abs(s.obs).max(0) + 1e-7
    return (np.abs(own - recorded) > slack).any(1)


def _shifted(s: Subject, rows: Array, states: Array, actions: Array, differs: Array) -> Finding | None:
    """Whether actions of other rows, or others of the same row, lead to what was recorded."""
    assert s.world is not None and s.spec is not None
    agents = s.spec.num_agents
    inside = np.isin(rows, s.inner) & np.isin(rows - 1, s.inner)
    inside = np.repeat(inside.reshape(-1, agents).all(1), agents)  # steps of which every agent knows the next ones
    chosen = np.flatnonzero(inside)[:2_000 // agents * agents]
    some, own = rows[chosen], differs[chosen].mean() if len(chosen) else 0.0
    if len(some) < 20:
        return None
    tries = [("late-frames", actions[some - 1], "the row before's action leads here: observations come one row late",
              "pair them anew with demos edit --shift 1"),
             ("early-frames", actions[some + 1], "the next row's action leads here: actions come one row late",
              "pair them anew with demos edit --shift -1")]
    spec = s.spec
    if not spec.action.discrete and spec.action.bounded:
        mirrored = (np.asarray(spec.action.low) + np.asarray(spec.action.high) - actions[some]).astype(np.float32)
        tries.append(("mirrored-actions", mirrored, "actions of the opposite sign lead to what was recorded",
                      "turn them with demos edit --rescale-actions=1,-1 --env ENV"))
    elif spec.action.discrete:
        tries.append(("mirrored-actions", np.array(spec.action.nvec) - 1 - actions[some],
                      "actions numbered in the opposite order lead to what was recorded",
                      "number them as the environment does"))
    for kind, tried, what, remedy in tries:
        played = s.world.replay(states[some], tried)
        if played is not None and own > 1 - SHIFT and (off := _differs(s, some, played.next_obs).mean()) <= min(
                1 - SHIFT, own / 2):
            return Finding(kind, f"{what} ({100 * (1 - off):.0f}% of the rows)", remedy, **s.at(rows[differs][0]))
    return None


def _unlike(s: Subject, rows: Array, differs: Array, played: Steps, stored: bool) -> Finding:
    first, kind = int(np.argmax(differs)), "state" if stored else "observation"
    remedy = ("it was altered, or rows are missing: repair it, or --drop it" if differs.mean() < 0.2
              else "of another version, or of other parameters: give --env.kwargs")
    count = f"({differs.sum()} of {len(rows)} rows)"
    if not s.obs.shape[1]:
        return Finding("unreproduced", f"the action leads from the {kind} to another picture {count}", remedy,
                       **s.at(rows[first]))
    own, recorded = s.numbers(played.next_obs)[first], s.next_obs[rows[first]]
    column = int(np.argmax(np.abs(own - recorded) / s.scale))
    return Finding("unreproduced", f"the action leads to {own[column]:.4g} in obs column {s.named([column])}, not to "
                                   f"{recorded[column]:.4g} {count}", remedy, **s.at(rows[first]), columns=(column,))


def _rewards(s: Subject, rows: Array, played: Steps, unsure: float) -> Iterator[Finding]:
    recorded = s.demos.rewards
    if recorded is None or any(note.startswith("clipped ") for note in s.demos.notes):
        return  # tasks of MuJoCo charge for what was asked for, and not for what was done
    slack = REWARD * max(np.abs(recorded).max(), np.abs(played.rewards).max())
    wrong = np.abs(recorded[rows] - played.rewards) > slack
    if not wrong.any() or wrong.mean() <= unsure:
        return
    first, late = int(np.argmax(wrong)), ""
    inner = np.isin(rows, s.inner)
    if inner.any() and (np.abs(recorded[rows[inner] + 1] - played.rewards[inner]) <= slack).mean() > SHIFT > (
            1 - wrong.mean()):
        late = ": rewards come one row late"
    yield Finding("rewards", f"the environment rewards it with {played.rewards[first]:.4g}, not "
                             f"{recorded[rows[first]]:.4g}{late} ({wrong.sum()} of {len(rows)} rows)",
                  "take its own with demos edit --rewards env", **s.at(rows[first]))


def _ends(s: Subject, rows: Array, played: Steps, unsure: float) -> Iterator[Finding]:
    ends, cut = s.demos.terminations[rows], s.demos.truncations[rows]
    for wrong, what, remedy in (
            (ends & ~played.terminations, "a termination was recorded, but the environment goes on",
             "a time limit is a truncation: name it with demos import --time-limit STEPS"),
            (~ends & played.terminations, "the environment terminates here, but "
             + "no termination was recorded", "mark it in terminations, or its value counts beyond the end")):
        if wrong.any() and wrong.mean() > unsure:
            row = rows[np.argmax(wrong)]
            also = "a truncation" if cut[row] else ""
            yield Finding("ends", what.replace("no termination", also or "no termination") + f" ({wrong.sum()} rows)",
                          remedy, **s.at(row))

