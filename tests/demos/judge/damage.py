"""Ways in which recordings are spoilt: each takes the arrays of a good one, as a file of ours has them, and spoils them
in place, or returns others."""

from __future__ import annotations

import numpy as np

from puffer_il.demos import read_demos
from puffer_il.native.catalogue import env_folders

ROWS = ("obs", "actions", "next_obs", "terminations", "truncations", "rewards", "states")


def good(env, episodes=8, steps=120):
    """The arrays of the first steps of some shipped episodes."""
    demos = read_demos(env_folders()[env] / "demos" / "expert.npz")
    rows = np.concatenate([np.arange(a, min(a + steps, b)) for a, b in
                           zip(demos.episode_starts[:episodes], demos.episode_ends, strict=False)])
    made = {name: np.array(array)[rows] for name in ROWS if (array := getattr(demos, name)) is not None}
    starts = np.append(0, np.flatnonzero(np.diff(rows) != 1) + 1)
    if episodes > 1 and len(starts) < episodes:  # whole episodes lie side by side
        starts = np.searchsorted(rows, demos.episode_starts[:episodes])
    made["episode_starts"] = starts
    made["truncations"][ends(made) - 1] |= ~made["terminations"][ends(made) - 1]
    return made


def ends(d):
    return np.append(d["episode_starts"][1:], len(d["obs"]))


def follow(d):
    """Successors that are the next rows again, the last of an episode as it was."""
    last = ends(d) - 1
    final = d["next_obs"][last].copy()
    d["next_obs"] = np.append(d["obs"][1:], d["obs"][-1:], 0)
    d["next_obs"][last] = final


def rows_of(d, index, starts):
    """Other rows, in other episodes."""
    for name in ROWS:
        if name in d:
            d[name] = d[name][index]
    d["episode_starts"] = np.asarray(starts)
    inner = np.setdiff1d(np.arange(len(index)), ends(d) - 1)
    d["terminations"][inner], d["truncations"][inner] = False, False


def with_column(d, values, final=None):
    """One more number in each observation."""
    last = ends(d) - 1
    after = np.append(values[1:], values[-1])
    after[last] = values[last] + (values[last] - values[last - 1]) if final is None else final
    d["obs"] = np.column_stack([d["obs"], values]).astype(np.float32)
    d["next_obs"] = np.column_stack([d["next_obs"], after]).astype(np.float32)


def late(d, carry=False):
    before = d["next_obs"][-1] * 0
    for a, b in zip(d["episode_starts"], ends(d), strict=True):
        seen = np.concatenate([(before if carry else d["obs"][a])[None], d["obs"][a:b]])
        d["obs"][a:b], d["next_obs"][a:b], before = seen[:-1], seen[1:], seen[-1]
    d.pop("states", None)


def late_carried(d):
    late(d, carry=True)


def late_actions(d):
    for a, b in zip(d["episode_starts"], ends(d), strict=True):
        d["actions"][a + 1:b] = d["actions"][a:b - 1].copy()


def late_rewards(d):
    for a, b in zip(d["episode_starts"], ends(d), strict=True):
        d["rewards"][a + 1:b] = d["rewards"][a:b - 1].copy()


def late_states(d):
    for a, b in zip(d["episode_starts"], ends(d), strict=True):
        d["states"][a + 1:b] = d["states"][a:b - 1].copy()


def clock(d, tick=0.02):
    starts = d["episode_starts"]
    steps = np.arange(len(d["obs"])) - starts[np.searchsorted(starts, np.arange(len(d["obs"])), side="right") - 1]
    with_column(d, tick * steps)


def clock_gap(d):
    clock(d)
    d["obs"][300:360, -1] += 0.2  # of episode 2, which ends in row 359
    d["next_obs"][299:360, -1] += 0.2


def clock_back(d):
    clock(d)
    d["obs"][300:360, -1] -= 0.2
    d["next_obs"][299:360, -1] -= 0.2


def clock_still(d):
    clock(d)
    d["obs"][300:360, -1] -= 0.02
    d["next_obs"][299:360, -1] -= 0.02


def jittered_clock(d):
    clock(d)
    rng = np.random.default_rng(0)
    inner = np.setdiff1d(np.arange(len(d["obs"])), d["episode_starts"])
    d["obs"][inner, -1] += rng.uniform(-0.008, 0.008, len(inner)).astype(np.float32)
    follow(d)


def last_action(d):
    starts = d["episode_starts"]
    values = np.roll(np.asarray(d["actions"][:, 0], np.float64), 1)
    values[starts] = 0
    with_column(d, values, final=d["actions"][ends(d) - 1, 0])


def own_action(d):
    with_column(d, 3 - 2 * np.asarray(d["actions"][:, 0], np.float64), final=0)


def constant_column(d):
    with_column(d, np.full(len(d["obs"]), 7.0), final=7.0)


def hung_sensor(d):
    d["obs"][300:340, 0] = d["obs"][300, 0]
    follow(d)


def spike(d):
    d["obs"][300, 0] += 10 * d["obs"][:, 0].std()
    follow(d)


def sentinel(d):
    d["obs"][[300, 420, 700], 1] = -999
    follow(d)


def zero_rows(d):
    d["obs"][[300, 301, 500]] = 0
    follow(d)


def padding(d):
    for a, b in zip(d["episode_starts"], ends(d), strict=True):
        for name in ("obs", "next_obs", "actions", "rewards"):
            d[name][b - 40 if name != "next_obs" else b - 41:b] = 0
        assert b - a > 40


def idle_start(d):
    for a in d["episode_starts"][:3]:
        for name in ("obs", "actions", "rewards"):
            d[name][a:a + 30] = d[name][a + 30]
    d["rewards"][:] = np.where(np.arange(len(d["rewards"])) % 120 < 30, -9, d["rewards"])
    follow(d)


def shuffled_rows(d):
    order = np.random.default_rng(0).permutation(len(d["obs"]))
    d["obs"], d["actions"] = d["obs"][order], d["actions"][order]
    follow(d)


def shuffled_actions(d):
    d["actions"] = d["actions"][np.random.default_rng(0).permutation(len(d["actions"]))]


def glued(d):
    """Episodes 2 and 3 as one."""
    row = d["episode_starts"][3] - 1
    d["episode_starts"] = np.delete(d["episode_starts"], 3)
    d["terminations"][row], d["truncations"][row] = False, False
    d["next_obs"][row] = d["obs"][row + 1]


def missing_rows(d):
    starts = d["episode_starts"].copy()
    kept = np.setdiff1d(np.arange(len(d["obs"])), np.arange(starts[1] + 10, starts[1] + 50))
    starts[2:] -= 40
    rows_of(d, kept, starts)
    follow(d)


def reset_leak(d):
    last = ends(d)[:-1] - 1
    d["next_obs"][last] = d["obs"][last + 1]


def final_again(d):
    last = ends(d) - 1
    d["next_obs"][last] = d["obs"][last]


def copied(d):
    a, b = d["episode_starts"][2], d["episode_starts"][3]
    for name in ("obs", "actions", "next_obs", "rewards"):
        d[name][a:b] = d[name][:b - a]


def copy_of(d):
    """Episode 0 once more, at the end."""
    rows = np.append(np.arange(len(d["obs"])), np.arange(d["episode_starts"][1]))
    rows_of(d, rows, np.append(d["episode_starts"], len(d["obs"])))


def nearly_copied(d):
    copied(d)
    rng = np.random.default_rng(0)
    d["obs"][240:360] += (1e-4 * d["obs"].std(0) * rng.standard_normal((120, d["obs"].shape[1]))).astype(np.float32)
    follow(d)


def windows(d):
    """Windows of 80 rows, each beginning 40 after the one before, of the first episode."""
    firsts = [0, 40]
    rest = np.arange(120, len(d["obs"]))
    rows_of(d, np.concatenate([np.arange(a, a + 80) for a in firsts] + [rest]),
            [0, 80, *range(160, 160 + len(rest), 120)])
    d["truncations"][ends(d) - 1] = True
    follow(d)


def failed(d):
    """Episode 5 falls after 12 steps."""
    kept = np.setdiff1d(np.arange(len(d["obs"])), np.arange(5 * 120 + 12, 6 * 120))
    starts = d["episode_starts"].copy()
    starts[6:] -= 108
    rows_of(d, kept, starts)
    d["terminations"][starts[6] - 1] = True


def jerky(d):
    rng = np.random.default_rng(0)
    a, b = d["episode_starts"][5], d["episode_starts"][6]
    d["actions"][a:b] = rng.choice([-1, 1], d["actions"][a:b].shape)


def two_ways(d):
    """Every other episode does the opposite in the same states."""
    for k in range(1, len(d["episode_starts"]), 2):
        a, b = d["episode_starts"][k], ends(d)[k]
        for name in ("obs", "next_obs"):
            d[name][a:b] = d[name][a - (b - a):a] + 1e-3
        d["actions"][a:b] = -d["actions"][a - (b - a):a] + 0.01


def pieces(d):
    """Two pieces of each episode, as if they were episodes."""
    d["episode_starts"] = np.arange(0, len(d["obs"]), 60)
    d["truncations"][ends(d) - 1] |= ~d["terminations"][ends(d) - 1]


def one_start(d):
    """All episodes begin in one corner of the environment's starts."""
    corner = np.array([0.03, 0.03, 0.03, 0.03], np.float32)
    rng = np.random.default_rng(0)
    d["obs"][d["episode_starts"]] = corner + rng.uniform(-0.01, 0.01, (len(d["episode_starts"]), 4))


def wrapped_angle(d):
    turn = np.linspace(0, 40, len(d["obs"]))
    with_column(d, (turn + np.pi) % (2 * np.pi) - np.pi, final=0)


def flipped_quaternion(d):
    half = np.linspace(0.3, 2.8, len(d["obs"]))
    sign = np.where(np.arange(len(half)) // 50 % 2, -1, 1)
    for values in (np.cos(half) * sign, np.sin(half) * sign, 0 * half, 0 * half):
        with_column(d, values, final=values[ends(d) - 1])
