"""`puffer-il train auto`: look at the demonstrations and the environment, choose an algorithm, and say why.

    needed = CLONE (1 − agreement) / agreement²    transitions from which on cloning is enough: what is noisy, or seldom
                                                   near in another episode, has to be seen more often (likeness.py)

A choice has been tried: what an algorithm refuses is passed over.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from puffer_il.core.config import Config
from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec
from puffer_il.core.text import number
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import Learner
from puffer_il.learners.registry import usable_learners
from puffer_il.training.likeness import acts_by_chance, agreement_of, is_mixed

NAME = "auto"
CLONE, LEAST = 50_000, 1_000  # from two episodes of Walker2d, which are enough, to CartPole's ten, which are not quite
IMAGES = 20_000  # transitions of images from which on cloning hardly drifts
ALIKE = 0.9  # agreement from which on a clone is nearly good enough
UNKNOWN = 0.5  # agreement that a single episode is credited with
TRIED = 64  # demonstrated transitions with which an algorithm is tried
# In order of preference; the first that is registered, covers the actions and can be made is taken.
EXPERT, STATES, TABLES = ("dagger", "noise_bc"), ("gaifo", "amp"), ("maxent_irl",)
CLONES, PLENTY, DEAR, ALIKE_DEAR = ("bc",), ("gail", "mm", "bc"), ("sqil", "csil", "gail", "bc"), ("csil", "sqil")
Try = Callable[[str], None]  # raises InputError if the algorithm of this name cannot be made


@dataclass(frozen=True)
class Choice:
    """An algorithm, and sentences that say why, and what else might help."""

    algo: str
    reasons: tuple[str, ...]


def pick(config: Config, given: Mapping[str, Any], build: Callable[[str], Config]) -> Choice:
    """`choose` for the environment and the demonstrations that `config` names, whatever its algorithm, or that are
    `given` as objects, as `assemble` takes them. `build` gives the config of the run with the algorithm of a name."""
    import torch

    from puffer_il.demos import first_rows, load_demos, shipped_path
    from puffer_il.native.envfile import read_env
    from puffer_il.native.glue import hooks
    from puffer_il.training.assemble import make_learner
    from puffer_il.vector.make import find_creator
    from puffer_il.vector.model import model_of

    creator = find_creator(given.get("make_env", config.env.name), config.env.kwargs, config.env.pictures)
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
    learners = usable_learners()[0]

    def attempt(name: str) -> None:
        # A table is solved for all that was demonstrated; any other learner is made with little of it.
        shown = demos if demos is None or learners[name].needs_model else first_rows(demos, TRIED)
        with torch.random.fork_rng(devices=[]):
            make_learner(build(name), facts.spec, shown, torch.device("cpu"), creator)

    return choose(facts.spec, demos, learners, cheap=facts.native, expert=expert, model=model, attempt=attempt)


def choose(spec: EnvSpec, demos: Demos | None, learners: Mapping[str, type[Learner]], *, cheap: bool, expert: bool,
           model: bool, attempt: Try = lambda name: None) -> Choice:
    """The algorithm of `learners` (name → class) that suits `demos` and the environment.

    cheap    the environment steps in C, so that practising costs next to nothing
    expert   it has a scripted expert that can be asked
    model    its table of transitions is known
    attempt  tells of an algorithm whether it can be made
    Raises InputError where nothing can be imitated: without demonstrations and expert, or where no learner fits.
    """
    kind = spec.action.kind
    able = {name: cls for name, cls in learners.items() if cls.about.covers(spec.action)}
    if demos is None:
        if not expert:
            raise InputError(f"auto: {spec.name} comes with no demonstrations and no scripted expert; give a file with "
                             "--demos, or train ppo on its reward")
        name = _first(EXPERT, able, lambda cls: cls.needs_expert, kind, attempt)
        return Choice(name, ("no demonstrations, but a scripted expert that can be asked in every state",))
    seen = f"{demos.num_episodes} episodes, {len(demos):,} transitions, {kind} actions"
    if demos.actions is None:
        name = _first(STATES, able, lambda cls: cls.needs_demos and not cls.needs_actions, kind, attempt)
        return Choice(name, (f"{seen}, none of which was recorded: only states can be compared",
                             *_remarks(demos, spec, learners[name])))
    if model and TABLES[0] in able:
        with suppress(InputError):  # it takes whole episodes only
            attempt(TABLES[0])
            return Choice(TABLES[0], (f"{seen}; the table of transitions is known, so the reward can be solved for "
                                      "exactly", *_remarks(demos, spec, able[TABLES[0]])))
    images = any(field.image for field in spec.obs_fields)
    names, alike, why = _of_images(demos, cheap) if images else _of_states(demos, spec, cheap)
    name = _first(names, able, lambda cls: cls.needs_demos and not cls.needs_expert and not cls.needs_model, kind,
                  attempt)
    return Choice(name, (f"{seen}; {alike}", why, *_remarks(demos, spec, able[name])))


def needed_of(demos: Demos, spec: EnvSpec) -> int | None:
    """Transitions of such demonstrations from which on cloning is likely enough; None without actions."""
    if demos.actions is None:
        return None
    images = any(field.image for field in spec.obs_fields)
    return IMAGES if images else int(_needed(agreement_of(demos, spec)))


def _needed(agreement: float | None) -> float:
    credited = max(UNKNOWN if agreement is None else agreement, 0.1)
    return max(LEAST, float(f"{CLONE * (1 - credited) / credited ** 2:.2g}"))


Preference = tuple[tuple[str, ...], str, str]  # names in order, what was measured, and why these


def _of_states(demos: Demos, spec: EnvSpec, cheap: bool) -> Preference:
    agreement = agreement_of(demos, spec)
    needed = _needed(agreement)
    alike = "a single episode cannot be compared with another" if agreement is None else (
        f"the nearest states of different episodes agree on {max(agreement, 0):.0%} of the action")
    short = f"cloning would need about {needed:,.0f}, and the environment steps in"
    if len(demos) >= needed:
        return CLONES, alike, f"cloning needs about {needed:,.0f} of such transitions, so there is no need to practise"
    if cheap:
        return PLENTY, alike, f"{short} C: practise against a discriminator"
    names = ALIKE_DEAR + DEAR if (agreement or 0) >= ALIKE else DEAR
    return names, alike, f"{short} Python: an off-policy learner practises with the fewest steps"


def _of_images(demos: Demos, cheap: bool) -> Preference:
    """Neither their distances nor replays full of them are of use."""
    alike = "observed as images, whose distances say nothing about what they show"
    if len(demos) >= IMAGES:
        return CLONES, alike, f"cloning needs about {IMAGES:,} images, so there is no need to practise"
    return PLENTY, alike, (f"cloning would need about {IMAGES:,} images: a discriminator learns what to look at"
                           + ", but every step of this environment costs time" * (not cheap))


def _first(names: tuple[str, ...], able: Mapping[str, type[Learner]], fits: Any, kind: str, attempt: Try) -> str:
    """The first of `names` that can do it, or else any other learner that `fits`; InputError if there is none, which is
    the first one's own where it was refused."""
    refusal: InputError | None = None
    for name in dict.fromkeys((*names, *able)):
        if name in able and fits(able[name]):
            try:
                attempt(name)
                return name
            except InputError as error:
                refusal = refusal or error
    raise refusal or InputError(f"auto: no algorithm here can learn {kind} actions from that; see 'puffer-il algos'")


def _remarks(demos: Demos, spec: EnvSpec, cls: type[Learner]) -> Iterator[str]:
    """What else the choice rests on, and what might help."""
    ended = int(demos.terminated.sum())
    if demos.actions is not None and demos.weights is None and is_mixed(demos, spec):
        assert demos.returns is not None
        yield (f"returns run from {number(demos.returns.min())} to {number(demos.returns.max())}, and the worse "
               "episodes act otherwise: '--demos.weighting return' lets the better ones count more")
    if demos.actions is not None and acts_by_chance(demos, spec):
        yield ("even in the states that are most alike the actions differ: where the greedy policy gets stuck, "
               "'--eval.deterministic false' acts by sampling")
    if spec.num_agents > 1:
        yield f"its {spec.num_agents} agents share one policy"
    elif demos.returns is None:
        yield "no rewards are stored: there will be no score against the demonstrator"
    elif ended and "absorbing" in {field.name for field in dataclasses.fields(cls.section)}:
        yield f"{ended} episodes terminate: an absorbing state keeps the reward from paying for living or dying"
