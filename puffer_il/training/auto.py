"""`puffer-il train auto`: look at the demonstrations and the environment, choose an algorithm, and say why.

    agreement = how alike the nearest rows of different episodes act: the share of equal actions, or for continuous ones
                1 − E|a − a'|² / (2 Var a), which is 0 for actions that have nothing to do with the state
    cloning is enough from CLONE / agreement² transitions on: what is noisy, or seldom near, has to be seen more often
"""

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from puffer_il.core.config import Config
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import Learner
from puffer_il.learners.registry import usable_learners

NAME = "auto"
CLONE = 20_000  # transitions of a consistent demonstrator from which on cloning hardly drifts
ALIKE = 0.9  # agreement from which on a clone is nearly good enough
UNKNOWN = 0.5  # agreement that a single episode is credited with
PROBES, NUMBERS = 1_000, 8_000_000  # rows asked for their neighbour; numbers of the rows that may be it
# In order of preference; the first that is registered and covers the actions is taken.
EXPERT, STATES, TABLES = ("dagger", "noise_bc"), ("gaifo", "amp"), ("maxent_irl",)
CLONES, PLENTY, DEAR, ALIKE_DEAR = ("bc",), ("gail", "mm", "bc"), ("sqil", "csil", "gail", "bc"), ("csil", "sqil")


@dataclass(frozen=True)
class Choice:
    """An algorithm, and one to three sentences that say why."""

    algo: str
    reasons: tuple[str, ...]


def pick(config: Config, given: Mapping[str, Any]) -> Choice:
    """`choose` for the environment and the demonstrations that `config` names, whatever its algorithm, or that are
    `given` as objects, as `assemble` takes them."""
    from puffer_il.demos import load_demos, shipped_path
    from puffer_il.native.envfile import read_env
    from puffer_il.native.glue import hooks
    from puffer_il.vector.make import find_creator
    from puffer_il.vector.model import model_of

    creator = find_creator(given.get("make_env", config.env.name), config.env.kwargs)
    facts = creator.facts()
    expert = creator.kind == "folder" and "EXPERT" in hooks(read_env(creator.target))
    model = False
    if facts.spec.action.kind == "discrete" and facts.spec.obs_fields[0].categories:
        with suppress(InputError):
            model_of(creator)
            model = True
    demos = None
    source = given.get("demos", config.demos.source)
    if source or not expert or shipped_path(facts.spec.name).is_file():
        options = {key: value for key, value in vars(config.demos).items() if key != "source"}
        demos = load_demos(source or "shipped", facts.spec, seed=config.train.seed, **options)
    return choose(facts.spec, demos, usable_learners()[0], cheap=facts.native, expert=expert, model=model)


def choose(spec: EnvSpec, demos: Demos | None, learners: Mapping[str, type[Learner]], *, cheap: bool, expert: bool,
           model: bool) -> Choice:
    """The algorithm of `learners` (name → class) that suits `demos` and the environment.

    cheap   the environment steps in C, so that practising costs next to nothing
    expert  it has a scripted expert that can be asked
    model   its table of transitions is known
    Raises InputError where nothing can be imitated: without demonstrations and expert, or where no learner fits.
    """
    kind = spec.action.kind
    able = {name: cls for name, cls in learners.items() if kind in cls.about.spaces}
    if demos is None:
        if not expert:
            raise InputError(f"auto: {spec.name} comes with no demonstrations and no scripted expert; give a file with "
                             "--demos, or train ppo on its reward")
        name = _first(EXPERT, able, lambda cls: cls.needs_expert, kind)
        return Choice(name, ("no demonstrations, but a scripted expert that can be asked in every state",))
    seen = f"{demos.num_episodes} episodes, {len(demos):,} transitions, {kind} actions"
    if demos.actions is None:
        name = _first(STATES, able, lambda cls: cls.needs_demos and not cls.needs_actions, kind)
        return Choice(name, (f"{seen}, none of which was recorded: only states can be compared",
                             *_remarks(demos, spec, learners[name])))
    if model and TABLES[0] in able:
        return Choice(TABLES[0], (f"{seen}; the table of transitions is known, so the reward can be solved for exactly",
                                  *_remarks(demos, spec, able[TABLES[0]])))
    agreement = agreement_of(demos, spec)
    needed = float(f"{CLONE / max(UNKNOWN if agreement is None else agreement, 0.1) ** 2:.2g}")
    alike = "a single episode cannot be compared with another" if agreement is None else (
        f"the nearest states of different episodes agree on {max(agreement, 0):.0%} of the action")
    short = f"cloning would need about {needed:,.0f}, and the environment steps in"
    names: tuple[str, ...]
    if len(demos) >= needed:
        names, why = CLONES, f"cloning needs about {needed:,.0f} of such transitions, so there is no need to practise"
    elif cheap:
        names, why = PLENTY, f"{short} C: practise against a discriminator"
    else:
        names = ALIKE_DEAR + DEAR if (agreement or 0) >= ALIKE else DEAR
        why = f"{short} Python: an off-policy learner practises with the fewest steps"
    name = _first(names, able, lambda cls: cls.needs_demos and not cls.needs_expert, kind)
    return Choice(name, (f"{seen}; {alike}", why, *_remarks(demos, spec, able[name])))


def agreement_of(demos: Demos, spec: EnvSpec) -> float | None:
    """How alike the nearest rows of different episodes act, 1 at most; None for a single episode.

    Some PROBES rows, drawn with a seed of their own, are compared with the nearest among as many rows as memory takes.
    """
    assert demos.actions is not None
    if demos.num_episodes < 2:
        return None
    rng, size = np.random.default_rng(0), int(np.prod(spec.obs_shape))
    known = _draw(rng, len(demos), max(PROBES, NUMBERS // size))
    probes = _draw(rng, len(known), PROBES)
    episode = np.searchsorted(demos.episode_starts, known, side="right")
    obs = demos.obs[known].reshape(len(known), -1).astype(np.float32)
    obs = (obs - obs.mean(0)) / (obs.std(0) + 1e-6)
    actions, squares = demos.actions[known].astype(np.float64), np.square(obs).sum(1)
    nearest = np.empty(len(probes), np.int64)
    for i, probe in enumerate(probes):
        distances = squares - 2 * (obs @ obs[probe])
        distances[episode == episode[probe]] = np.inf
        nearest[i] = distances.argmin()
    mine, theirs = actions[probes], actions[nearest]
    if spec.action.discrete:
        return float((mine == theirs).all(1).mean())
    variance = actions.var(0).sum()
    return float(1 - np.square(mine - theirs).sum(1).mean() / (2 * variance)) if variance > 0 else 1.0


def _draw(rng: np.random.Generator, total: int, count: int) -> Array:
    return np.arange(total) if total <= count else rng.choice(total, count, replace=False)


def _first(names: tuple[str, ...], able: Mapping[str, type[Learner]], fits: Any, kind: str) -> str:
    """The first of `names` that can do it, or else any other learner that `fits`; InputError if there is none."""
    for name in (*names, *able):
        if name in able and fits(able[name]):
            return name
    raise InputError(f"auto: no algorithm here can learn {kind} actions from that; see 'puffer-il algos'")


def _remarks(demos: Demos, spec: EnvSpec, cls: type[Learner]) -> list[str]:
    """At most one more sentence on what the choice rests on."""
    ended = int(demos.terminated.sum())
    if spec.num_agents > 1:
        return [f"its {spec.num_agents} agents share one policy"]
    if demos.returns is None:
        return ["no rewards are stored: there will be no score against the demonstrator"]
    if ended and "absorbing" in {field.name for field in dataclasses.fields(cls.section)}:
        return [f"{ended} episodes terminate: an absorbing state keeps the reward from paying for living or dying"]
    return []
