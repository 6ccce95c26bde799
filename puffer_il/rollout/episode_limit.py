"""After how many steps an episode that does not end is given up, where somebody evaluates."""

from dataclasses import replace

from puffer_il.core.config import Config
from puffer_il.demos.dataset import Demos

LONGEST = 27_000  # where nothing is known, as long as Atari's limit
TIMES = 10  # the longest demonstration: a policy that is much slower still comes to its end
LEAST = 1_000


def episode_limit(asked: int, own: int | None, demos: Demos | None = None) -> int:
    """Steps: `asked` for (eval.max_episode_steps), or where that is 0 the environment's `own` limit, or where it tells
    none ten times the longest of the demonstrations, at least 1,000, or without these 27,000."""
    return asked or own or (LONGEST if demos is None else max(LEAST, TIMES * int(demos.whole_lengths.max())))


def with_limit(config: Config, own: int | None, demos: Demos | None) -> Config:
    """The config of a run whose demonstrations decide, with what they have decided: whoever evaluates the run later
    need not have them."""
    if own or demos is None or config.eval.max_episode_steps:
        return config
    chosen = replace(config.eval, max_episode_steps=episode_limit(0, None, demos))
    return replace(config, sections=config.sections | {"eval": chosen})
