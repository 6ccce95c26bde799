"""From a Config to the parts of a run, which the trainer is handed."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import gymnasium
import torch

import puffer_il.kernels._kernels as kernels
from puffer_il.core.config import Config
from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec
from puffer_il.demos import load_demos
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import Learner
from puffer_il.learners.common import mixins
from puffer_il.learners.common.row_logits import row_logits
from puffer_il.learners.registry import get_learner, usable_learners
from puffer_il.rollout.actors import Actor
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.rollout.episode_limit import with_limit
from puffer_il.rollout.evaluate import make_eval_vec
from puffer_il.rollout.labeller import Labeller
from puffer_il.rollout.slices import ExpertSlice
from puffer_il.rollout.tensors import allocator
from puffer_il.training.process import choose_device, set_threads
from puffer_il.training.resolve_actor import PERSON, RANDOM, SCRIPT, MakePerson, asks_person, resolve_actor
from puffer_il.vector.make import Creator, find_creator
from puffer_il.vector.model import model_of
from puffer_il.vector.vec import Vec, make_vec
from puffer_il.vector.watch import Watch


@dataclass(frozen=True)
class Parts:
    """What a run is made of.

    eval_vec   environments apart from those of training, in which policies are scored on the true reward
    collector  with the training environments (`vec`) and the `buffer`; None for a learner without rollouts
    expert     whom the learner asks, as `resolve_actor` takes it; None if it asks nobody
    """

    config: Config
    device: torch.device
    spec: EnvSpec
    demos: Demos | None
    learner: Learner
    eval_vec: Vec
    collector: Collector | None
    expert: Any

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one iteration, or samples for a learner without rollouts."""
        buffer = self.collector and self.collector.buffer
        return buffer.num_steps * buffer.num_envs if buffer else self.learner.steps_per_update

    def scale(self) -> Actor | None:
        """The expert as an actor in `eval_vec`, whose return scores are measured against. None if there is no expert,
        if a script's environments are in worker processes, and for a person, random actions or an Actor, which training
        uses.
        """
        vec, expert = self.eval_vec, self.expert
        if expert in (None, PERSON, RANDOM) or isinstance(expert, Actor) or (
                expert == SCRIPT and vec.backend == "multiprocessing"):
            return None
        return _expert(self.config, expert, vec)


def assemble(config: Config, stack: ExitStack, *, demos: Demos | None = None,
             make_env: Callable[..., gymnasium.Env] | None = None, expert: Any = None,
             person: MakePerson | None = None) -> Parts:
    """The parts of the run that `config` describes; `stack` closes them.

    demos     instead of those that `demos.source` names; the other keys of the section apply to them as well
    make_env  makes an environment of the name `env.name` instead of what that names; `env.kwargs` are its arguments
    expert    instead of the one that the key `<algo>.expert` names; anything that `resolve_actor` takes
    person    makes the expert of a learner that asks somebody at the terminal
    The process is prepared too: threads, torch's seed and precision. InputError for what does not go together.
    """
    cfg, env, cls = config.train, config.env, get_learner(config.algo)
    device = choose_device(cfg.device)
    stack.callback(kernels.use_bf16, kernels.bf16())  # what comes after the run computes in float32 again
    set_threads(cfg)
    torch.manual_seed(cfg.seed)
    # Casts are not kept: parameters change while the context lasts.
    stack.enter_context(torch.autocast(device.type, torch.bfloat16, enabled=cfg.precision == "bfloat16",
                                       cache_enabled=False))
    creator = find_creator(env.name, env.kwargs, env.pictures) if make_env is None else (
        Creator(env.name, "callable", make_env, env.kwargs, pictures=env.pictures))
    # The evaluation's environments tell the spec, so demonstrations are checked before workers start.
    eval_vec = stack.enter_context(make_eval_vec(env, max(config.eval.episodes, config.eval.final_episodes), creator,
                                                 watch_of(config)))
    spec = eval_vec.spec
    check_actions(config, cls, spec)
    demos = _demos(config, cls, spec, demos, device)
    config = with_limit(config, eval_vec.time_limit, demos)
    learner = make_learner(config, spec, demos, device, creator)
    if not cls.needs_expert:
        expert = None
    elif expert is None:
        expert = config.get(f"{config.algo}.expert")
    collector = None
    if cls.needs_rollouts:
        mix, policy = config.sections.get("mix"), learner.policy
        sliced = bool(mix and (mix.expert_envs or mix.expert_envs_final))
        vec = stack.enter_context(make_vec(
            creator, num_envs=env.num_envs, backend=env.backend, num_workers=env.num_workers,
            num_groups=env.num_groups, seed=cfg.seed, clip_actions=env.clip_actions, resumable=True,
            on_nan=env.on_nan, watch=watch_of(config), groups_here=device.type != "cpu",
            starts=mixins.starts_of(mix, demos, env.name) if mix else None))
        buffer = RolloutBuffer(spec, cfg.num_steps, vec.num_envs, state_dim=getattr(policy, "state_dim", 0),
                               allocate=allocator(device), expert=expert is not None, shown=sliced)
        share = None
        if mix and sliced:
            vec.reset()  # so that a script can be asked whether it is there
            driver = resolve_actor(f"mix.expert = {mix.expert!r}", mix.expert, vec, seed=cfg.seed)
            share = ExpertSlice(driver, mix.expert_envs, mix.expert_envs_final, vec.num_envs, spec.num_agents)
        mixer: Any = learner
        labeller = None if expert is None else Labeller(_expert(config, expert, vec, person), mixer)
        collector = Collector(vec, policy, buffer, device, cfg.seed, allocator(device), labeller, share)
    return Parts(config, device, spec, demos, learner, eval_vec, collector, expert)


def watch_of(config: Config) -> Watch:
    """What becomes of environments that do not answer. Those that could crash step elsewhere, unless somebody is to see
    them."""
    return Watch(config.env.timeout_s, config.env.on_timeout, guard=not asks_person(config))


def make_learner(config: Config, spec: EnvSpec, demos: Demos | None, device: torch.device, creator: Creator) -> Learner:
    """The learner of `config`, untrained; InputError for what it cannot learn."""
    cls = get_learner(config.algo)
    check_actions(config, cls, spec)
    _check_policy(config, cls)
    model = {"model": model_of(creator)} if cls.needs_model else {}
    return cls(spec, demos, config, device, config.train.seed, **model)


def check_actions(config: Config, cls: type[Learner], spec: EnvSpec) -> None:
    """InputError for actions that the learner does not cover."""
    if spec.action.kind not in cls.about.spaces:
        raise InputError(f"{config.algo} is for {' and '.join(cls.about.spaces)} actions but {config.env.name} has "
                         f"{spec.action.kind} ones; choose another, see 'puffer-il algos'")
    if not cls.about.covers(spec.action):
        raise InputError(f"{config.algo} is for actions within bounds but those of {config.env.name} have none; choose "
                         "another, see 'puffer-il algos'")


def _check_policy(config: Config, cls: type[Learner]) -> None:
    """InputError for a policy that the learner cannot learn."""
    policy, about = config.policy, cls.about
    if policy.head not in about.heads:
        raise InputError(f"policy.head = {policy.head!r}: {config.algo} cannot learn such a policy; set policy.head to "
                         f"{' or '.join(map(repr, about.heads))}, or train bc")
    if policy.chunk > 1 and not about.chunks:
        raise InputError(f"policy.chunk = {policy.chunk}: {config.algo} learns single actions; set policy.chunk to "
                         "1, or train bc")


def _demos(config: Config, cls: type[Learner], spec: EnvSpec, given: Demos | None, device: torch.device
           ) -> Demos | None:
    """The demonstrations that the learner or a mix-in needs; others that are given only set the expert's return."""
    cfg, mix = config.demos, config.sections.get("mix")
    mixed_in = mixins.wants(mix) if mix else ""
    source: str | Demos = cfg.source if given is None else given
    if not source and (cls.needs_demos or mixed_in):
        who = f"{config.algo} learns" if cls.needs_demos else f"{mixed_in} takes"
        raise InputError(f"demos.source is empty and {who} from demonstrations; give a file with --demos")
    if not source:
        return None
    options = {key: value for key, value in vars(cfg).items() if key != "source"}
    demos = load_demos(source, spec, seed=config.train.seed, **options,
                       score=lambda rows, known: row_logits(rows, known, spec, config.train.seed, device))
    if demos.actions is None and cls.needs_actions:
        able = [name for name, other in usable_learners()[0].items() if other.needs_demos and not other.needs_actions]
        raise InputError(f"demos {demos.source}: no actions are stored and {config.algo} learns from them; "
                         f"record them, or train {' or '.join(able) or 'an algorithm that needs none'}")
    return demos


def _expert(config: Config, source: Any, vec: Vec, person: MakePerson | None = None) -> Actor:
    vec.reset()  # so that a script can be asked whether it is there
    given = f"{config.algo}.expert = {source!r}"
    return resolve_actor(given, source, vec, seed=config.train.seed, person=person)
