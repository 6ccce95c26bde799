"""Who acts: a run's policy, other people's expert, an environment's own scripted expert, or chance."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos.collect import Act
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import Vec


class Actor:
    """What `--policy RUN_OR_FILE`, `--expert` or `--random` stand for, before there is an environment.

    env     the environment's name: as given, or else that of the run
    kwargs  its parameters: those of the run if it is of that environment, under those given
    """

    def __init__(self, args: Namespace) -> None:
        self._args, self._policy = args, None
        self.env: str = args.env or ""
        self.kwargs: dict[str, Any] = dict(args.kwargs)
        path: Path | None = args.policy
        if path and path.is_dir():
            from puffer_il.training.saved_run import load_policy

            self._policy, config, state = load_policy(path)
            self._spec = state["spec"]
            self.env = self.env or config.env.name
            if same_environment(self.env, config.env.name):
                self.kwargs = config.env.kwargs | self.kwargs
        if not self.env:
            raise InputError("an environment is missing; give its name, a folder, or the run of a policy: --policy RUN")

    def act(self, vec: Vec) -> Act:
        """Its actions in `vec`, which has been reset; InputError if it does not fit."""
        from puffer_il.rollout.actors import policy_actor, random_actor
        from puffer_il.rollout.policy_files import load_expert

        args, policy = self._args, self._policy
        if args.policy and policy is None:
            return load_expert(args.policy, vec.spec, not args.stochastic, args.seed)
        if policy is not None:
            spec = self._spec
            if replace(spec, name="", num_agents=1) != replace(vec.spec, name="", num_agents=1):
                raise InputError(f"--policy {args.policy}: a policy for {spec.name}, whose observations "
                                 f"{spec.obs_shape} or actions are not those of {self.env}; use a run on "
                                 f"{self.env}")
            return policy_actor(policy, vec.num_envs, not args.stochastic, args.seed)
        if args.expert:
            if vec.expert_actions() is None:
                raise InputError(f"--expert: {self.env} has no scripted expert (a function c_expert in its header); "
                                 "use --policy RUN_OR_FILE, or --random")
            return lambda obs, starts: _known(vec.expert_actions())
        return random_actor(vec.spec, args.seed)


def _known(actions: Array | None) -> Array:
    assert actions is not None
    return actions


def same_environment(one: str, other: str) -> bool:
    """True for two ways to write the same environment, such as `my_env` and `./my_env/`."""
    if one == other:
        return True
    try:
        a, b = find_creator(one), find_creator(other)
    except InputError:
        return False
    return (a.kind, a.target) == (b.kind, b.target)
