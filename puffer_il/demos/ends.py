"""Whether an episode was terminated or cut off, where a file has one flag for both.

Older recorders store a single `done`, so a time limit looks like a termination. An episode counts as cut off (a
truncation) if its length is the time limit: the caller's, or one that the file itself shows, which is the longest
length if it is a multiple of ROUND and both two episodes and a SHARE of all reach it. Notes say what was assumed.
"""

import numpy as np

from puffer_il.core.spec import Array

ROUND, SHARE = 50, 0.1


def split_ends(lengths: Array, flags: Array, time_limit: int | None, notes: list[str]) -> tuple[Array, Array]:
    """Terminations and truncations (transitions,) of episodes of `lengths` whose flags (episodes,) may mean either."""
    limits = [limit for limit in (time_limit, _implied_limit(lengths)) if limit is not None]
    cut = np.isin(lengths, limits)
    for limit in sorted(set(lengths[cut].tolist())):
        origin = "the environment's time limit" if limit == time_limit else "which looks like a time limit"
        notes.append(f"{np.sum(lengths == limit)} of {len(lengths)} episodes are {limit} steps long, {origin}; they "
                     "count as truncated, not as terminated")
    last = np.cumsum(lengths) - 1
    terminations, truncations = np.zeros((2, int(lengths.sum())), bool)
    terminations[last] = flags.astype(bool) & ~cut
    truncations[last] = cut
    return terminations, truncations


def _implied_limit(lengths: Array) -> int | None:
    longest = int(lengths.max(initial=0))
    reached = int(np.sum(lengths == longest))
    return longest if longest and longest % ROUND == 0 and reached >= max(2, SHARE * len(lengths)) else None
