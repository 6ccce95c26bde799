"""What a policy is worth: complete episodes on the true reward, against an expert and the random policy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from puffer_il.core.config import EnvConfig, TrainConfig
from puffer_il.core.errors import InputError
from puffer_il.demos import load_demos, shipped_path
from puffer_il.demos.read import Source
from puffer_il.nn.policy import Policy
from puffer_il.rollout.actors import RandomActor
from puffer_il.rollout.episode_limit import episode_limit
from puffer_il.rollout.evaluate import EVAL_SEED, FINAL_SEED, evaluate, log_likelihood, make_eval_vec
from puffer_il.training.hung import guarded
from puffer_il.training.kept import differs
from puffer_il.training.process import torch_threads
from puffer_il.training.resolve_actor import resolve_actor
from puffer_il.training.saved_run import load_policy
from puffer_il.vector.make import Creator


def score(policy: Any, creator: Creator, episodes: int, seed: int = 0, *, deterministic: bool | None = None,
          demos: Source | dict[str, Any] | None = None, both: bool = False,
          clip_actions: bool | None = None) -> dict[str, Any]:
    """The `eval` part of summary.json, with `expert_return` and `random_return`.

    policy         as `resolve_actor` takes it. The directory of a run, as a Path, also tells `env_steps`, whom to
                   compare with, and where `deterministic` is None whether to act by the mode
    demos          the expert in place of those that come with the environment, if there is no run to tell of one; also
                   tells under `demos` how likely the policy finds them. A section {"source": …, "episodes": …} as well
    both           also play by the mode and by sampling: `eval_greedy` and `eval_sampled`, of which one is the above;
                   `differs` is a line if they are not worth the same
    clip_actions   clip continuous ones to their range; None: as the run does, and True where there is none
    InputError for what does not fit.
    """
    env, known, limit, threads = EnvConfig(), None, 0, TrainConfig.torch_threads
    if isinstance(policy, Path) and policy.is_dir():
        run = policy
        policy, config, known = load_policy(run)
        env, limit, threads = config.env, config.eval.max_episode_steps, config.train.torch_threads
        deterministic = config.eval.deterministic if deterministic is None else deterministic
    if clip_actions is not None:
        env = replace(env, clip_actions=clip_actions)
    with torch_threads(threads), make_eval_vec(env, episodes, creator) as vec, guarded(vec):
        vec.reset()
        spec = vec.spec
        if known and known["spec"].pictures != spec.pictures:
            raise InputError(f"{run}: its policy saw pictures with {known['spec'].pictures}, but they are prepared "
                             f"with {spec.pictures}; leave these options out")
        if known and creator.name == env.name and not spec.same_spaces(known["spec"]):
            raise InputError(f"{run}: the environment {env.name!r} has changed since the run (observations "
                             f"{spec.obs_shape} against {known['spec'].obs_shape}); train again")
        section = demos if isinstance(demos, dict) and "source" in demos else {"source": demos}
        shown = load_demos(spec=spec, **section) if demos is not None else None
        expert = load_demos("shipped", spec) if not known and shown is None and shipped_path(spec.name).is_file() else (
            shown)
        limit = limit or episode_limit(0, vec.time_limit, expert)
        greedy = deterministic is not False
        played = {mode: evaluate(vec, resolve_actor("policy", policy, vec, deterministic=mode, seed=seed), episodes,
                                 FINAL_SEED + seed, limit) for mode in ((greedy, not greedy) if both else (greedy,))}
        if known:
            scale = {name: known[name] for name in ("expert_return", "random_return")}
            scale["env_steps"] = known["policy_steps"]
        else:
            chance = evaluate(vec, RandomActor(spec, seed), episodes, EVAL_SEED + seed, limit) if expert else None
            scale = {"expert_return": expert and expert.return_mean,
                     "random_return": chance and float(chance.returns.mean())}
    parts = {mode: scores.summary(scale["random_return"], scale["expert_return"]) for mode, scores in played.items()}
    result = parts[greedy] | scale
    if both:
        result |= {"eval_greedy": parts[True], "eval_sampled": parts[False]}
        if told := differs(played[True], played[False], greedy, chance=scale["random_return"]):
            result["differs"] = told
    if shown is not None:
        if not isinstance(policy, Policy):
            raise InputError(f"demos {shown.source}: this policy does not give the likelihood of actions; leave them "
                             "out")
        result["demos"] = {"source": shown.source, "transitions": len(shown),
                           "log_likelihood": log_likelihood(policy, shown)}
    return result
