"""Where episodes begin, against where those of the environment begin."""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.sessions import split_by
from puffer_il.demos.judge.subject import Subject

ASKED, FEWEST = 256, 32  # starts of the environment, and from how many on they say something
DRAWS = 20  # as many sets of its own starts as the demonstrations have, to compare with
WORSE = 1.3  # times the worst of these: further from the environment's starts than any such set is
BEYOND = 0.5  # of the range of its starts that a start may lie outside, as ASKED do not show all of it
BY_CHANCE = 1e-3  # how seldom starts that are spread evenly leave such a gap, over all columns
FEWEST_EPISODES = 20
SIDES = 0.05, 3  # share of the episodes, and how many, that must begin on either side: an outlier makes no gap
PLACES = 0.9  # of the starts must differ: a few fixed places are meant
UNITS = ((180 / np.pi, "degrees, not radians"), (np.pi / 180, "radians, not degrees"), (1000, "thousandths"),
         (0.001, "in units of 1,000"), (100, "hundredths"), (0.01, "in units of 100"))


def starts(s: Subject) -> Iterator[Finding]:
    demos = s.demos
    if s.world is None or not s.obs.shape[1] or demos.obs.shape[1:] != s.world.starts(1).shape[1:]:
        return
    own, theirs = s.numbers(s.world.starts(ASKED)), s.obs[demos.episode_starts]
    if own.shape[1] != theirs.shape[1] or len(own) < FEWEST:
        return
    low, high = own.min(0), own.max(0)
    room = BEYOND * (high - low) + 1e-3 * np.maximum(1, np.abs(own).max(0))
    beyond = (theirs < low - room) | (theirs > high + room)
    if beyond.any():
        yield _elsewhere(s, beyond, own, theirs)
    elif s.whole and demos.num_episodes > 1 and np.ptp(own, axis=0).any():
        yield from _holes(s, own, theirs)


def gaps(s: Subject) -> Iterator[Finding]:
    """A range in which no episode begins, in the middle of those in which they do; where no environment tells where its
    own episodes begin. Of n points spread evenly over a range, the chance that some two neighbours are apart by a share
    g of it is at most (n − 1)(1 − g)^(n − 2)."""
    demos = s.demos
    firsts, count = s.obs[demos.episode_starts], demos.num_episodes
    known = s.world is not None and s.spec is not None and demos.obs.shape[1:] == s.spec.obs_shape
    if known or not s.whole or not firsts.shape[1] or count < FEWEST_EPISODES:
        return
    fewest = max(SIDES[1], SIDES[0] * count)
    found = []
    elsewhere = split_by(s)[0]  # which a camera may have been moved for
    for column in map(int, np.setdiff1d(np.flatnonzero(np.ptp(firsts, axis=0) > 0), elsewhere)):
        values = np.unique(firsts[:, column])
        if len(values) < PLACES * count:
            continue
        widths = np.diff(values) / (values[-1] - values[0])
        k = int(widths.argmax())
        chance = (count - 1) * (1 - widths[k]) ** (count - 2) if min(k + 1, len(values) - k - 1) >= fewest else 1.0
        found.append((chance, column, values[k], values[k + 1]))
    if found and min(found)[0] * len(found) < BY_CHANCE:
        _, column, low, high = min(found)
        yield Finding("gap", f"no episode begins with obs column {s.named([column])} between {low:.4g} and {high:.4g}, "
                             "though they do on both sides",
                      "add some there, unless the task never begins so", columns=(column,))


def _elsewhere(s: Subject, beyond: Array, own: Array, theirs: Array) -> Finding:
    episodes = np.flatnonzero(beyond.any(1))
    episode = int(episodes[0])
    column = int(np.argmax(beyond[episode]))
    low, high, where = own[:, column].min(), own[:, column].max(), beyond.any(0)
    return Finding("elsewhere",
                   f"begins with {theirs[episode, column]:.4g} in obs column {s.named([column])}, the environment "
                   f"with {low:.3g} to {high:.3g} ({len(episodes)} of {len(theirs)} episodes)",
                   _unit(own[:, where], theirs[:, where]) or "give whole episodes of it and its parameters",
                   episode=episode, row=int(s.demos.episode_starts[episode]), columns=(column,))


def _unit(own: Array, theirs: Array) -> str:
    """A remedy where columns (n, columns) are by a known factor larger, or smaller, than the environment's."""
    ratio = np.sqrt(np.square(theirs).mean() / (np.square(own).mean() + 1e-30))
    told = [what for factor, what in UNITS if 0.75 < ratio / factor < 1.33]
    return f"{told[0]} ({ratio:.3g} times)? give its units" if told else ""


def _holes(s: Subject, own: Array, theirs: Array) -> Iterator[Finding]:
    """Starts of the environment that are further from any demonstrated one than they would be from as many of its own
    starts, drawn by chance."""
    rng, count = np.random.default_rng(0), min(len(theirs), ASKED // 2)
    scale = own.std(0) + 1e-9
    own, theirs = own / scale, theirs / scale
    probes = own[::2]

    def furthest(of: Array) -> tuple[float, int]:
        near = np.sqrt(np.square(probes[:, None] - of[None]).sum(2)).min(1)
        return float(np.quantile(near, 0.9)), int(near.argmax())

    usual = max(furthest(rng.choice(own[1::2], count, replace=False))[0] for _ in range(DRAWS))
    found, probe = furthest(theirs)
    if found > WORSE * usual and found > 1e-6:
        column = int(np.abs(probes[probe] - theirs[np.square(theirs - probes[probe]).sum(1).argmin()]).argmax())
        value, unit = probes[probe, column], scale[column]
        yield Finding("hole", f"no episode begins near some starts of the environment, such as obs column "
                              f"{s.named([column])} = {value * unit:.3g} (here "
                              f"{theirs[:, column].min() * unit:.3g} to {theirs[:, column].max() * unit:.3g})",
                      "add episodes that begin there",
                      columns=(column,))
