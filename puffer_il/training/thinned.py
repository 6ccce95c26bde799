"""Which iterations of a long run keep their line of metrics: more and more thinly, as a function of how far it is.

    stride(u) = 2^⌈log₂(u / MOST)⌉, at least 1        after u iterations every stride(u)-th is kept

So a run of any length keeps at most MOST iterations, evenly spaced, and no fewer than half as many once it is long. As
only the number of iterations decides, a run that was resumed keeps those that an undisturbed one does.
"""

from typing import Any

MOST = 8_192  # iterations that are kept: more than a plot has columns, a few megabytes, and a day of one in 10 s


def stride(updates: int) -> int:
    """Every which iteration is kept after `updates` of them."""
    return 1 << max(0, (updates - 1) // MOST).bit_length()


def is_kept(line: dict[str, Any], every: int) -> bool:
    """Whether the metrics of an iteration, or a line of metrics.jsonl, are among each `every` that are kept: the first,
    all evaluations, and what is no iteration are too."""
    updates = line.get("updates", 0)
    return updates <= 1 or updates % every == 0 or "eval/return_mean" in line
