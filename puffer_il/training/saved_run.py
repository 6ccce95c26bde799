"""What a run has learned, from its checkpoint: its newest policy, and how that scores."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from puffer_il.core import checkpoint
from puffer_il.core.config import Config
from puffer_il.core.errors import InputError
from puffer_il.demos import load_demos
from puffer_il.learners.experiment import make_policy
from puffer_il.nn.numpy_policy import NumpyPolicy
from puffer_il.nn.policy import Policy
from puffer_il.rollout.actors import policy_actor
from puffer_il.rollout.evaluate import FINAL_SEED, evaluate, log_likelihood, make_eval_vec
from puffer_il.training.run_dir import load_config


def load_policy(run_dir: Path, device: str = "cpu") -> tuple[Policy | NumpyPolicy, Config, dict[str, Any]]:
    """The newest policy of a run, its config, and the checkpoint's state, whose "spec" is now the run's EnvSpec.

    Needs no environment.
    """
    config = load_config(run_dir)
    state = checkpoint.load(checkpoint.latest(run_dir), device)
    state["spec"] = checkpoint.spec_from_state(state["spec"])
    policy = make_policy(state["spec"], config, device)
    policy.load_state_dict(state["policy"])
    return policy, config, state


def evaluate_run(run_dir: Path, episodes: int, seed: int, demos: str | None = None,
                 kwargs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Play a run's newest policy: the `eval` part of summary.json plus `expert_return` and `random_return`, and how
    likely it finds `demos`, a source of demonstrations. `kwargs` go over the environment's parameters of the run."""
    policy, config, state = load_policy(Path(run_dir))
    spec = state["spec"]
    env = replace(config.env, kwargs=config.env.kwargs | (kwargs or {}))
    with make_eval_vec(env, episodes) as vec:
        if not vec.spec.same_spaces(spec):
            raise InputError(f"{run_dir}: the environment {config.env.name!r} has changed since the run "
                             f"(observations {vec.spec.obs_shape} against {spec.obs_shape}); train again")
        scores = evaluate(vec, policy_actor(policy, vec, config.eval.deterministic, seed), episodes, FINAL_SEED + seed)
    expert, random = state["expert_return"], state["random_return"]
    result = {**scores.summary(random, expert), "expert_return": expert, "random_return": random,
              "env_steps": state["env_steps"]}
    if demos:
        if not isinstance(policy, Policy):
            raise InputError(f"--demos {demos}: the policy of {config.algo} does not give the likelihood of actions; "
                             "leave it out")
        shown = load_demos(demos, spec)
        result["demos"] = {"source": demos, "transitions": len(shown), "log_likelihood": log_likelihood(policy, shown)}
    return result
