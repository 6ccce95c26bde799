"""PufferLib's own PPO on its own C CartPole. One unit is one rollout (`evaluate`) and its update (`train`)."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from typing import Any

from protocol import Stages, Work, serve

DEFAULTS = {"num_envs": 4096, "horizon": 64, "epochs": 1, "minibatch": 32768, "hidden": [64, 64], "optimizer": "adam",
            "seed": 42}
NEVER = 10**12


def prepare(settings: dict[str, Any]) -> Work:
    # Its environment names functions of raylib, which draws. They are not there, and nothing draws.
    sys.setdlopenflags(os.RTLD_LAZY)
    import torch
    from pufferlib import pufferl

    s = {**DEFAULTS, **settings}
    torch.manual_seed(s["seed"])
    vec = make_vec(s)

    class Trainer(pufferl.PuffeRL):
        def print_dashboard(self, *args: Any, **kwargs: Any) -> None: ...

    trainer = Trainer(config(s), vec, make_policy(vec.driver_env, s["hidden"]))
    trainer.utilization.stop()  # its thread would go on looking at the machine while others measure
    stages, steps = Stages(), s["num_envs"] * s["horizon"]
    stages.wrap(trainer, "evaluate", "collect")
    stages.wrap(trainer, "train", "update")

    def unit() -> dict[str, Any]:
        trainer.evaluate()
        trainer.train()
        return {"steps": steps, "stages": stages.take()}

    return unit, {"settings": s}


def make_vec(s: dict[str, Any]) -> Any:
    """Its native vectorisation, in this process: its worker processes would spin while others are measured.

    The environment's statistics are read once per rollout, not at every step, which is to its advantage.
    """
    import pufferlib.vector
    from pufferlib.ocean.cartpole.cartpole import Cartpole

    return pufferlib.vector.make(Cartpole, env_kwargs={"num_envs": s["num_envs"], "report_interval": s["horizon"]})


def config(s: dict[str, Any]) -> dict[str, Any]:
    """The keys of its default.ini and cartpole.ini, at their values but for the sizes, the device and the optimiser."""
    return {
        "env": "puffer_cartpole", "seed": s["seed"], "torch_deterministic": True, "cpu_offload": False, "device": "cpu",
        "optimizer": s["optimizer"], "learning_rate": 0.05 if s["optimizer"] == "muon" else 1e-3, "anneal_lr": True,
        "precision": "float32", "total_timesteps": NEVER, "gamma": 0.95, "gae_lambda": 0.90,
        "update_epochs": s["epochs"], "clip_coef": 0.2, "vf_coef": 2.0, "vf_clip_coef": 0.2, "max_grad_norm": 1.5,
        "ent_coef": 0.001, "adam_beta1": 0.95, "adam_beta2": 0.999, "adam_eps": 1e-12, "data_dir": "experiments",
        "checkpoint_interval": NEVER, "batch_size": s["num_envs"] * s["horizon"], "minibatch_size": s["minibatch"],
        "max_minibatch_size": s["minibatch"], "bptt_horizon": s["horizon"], "compile": False,
        "compile_mode": "default", "compile_fullgraph": True, "vtrace_rho_clip": 1.0, "vtrace_c_clip": 1.0,
        "prio_alpha": 0.8, "prio_beta0": 0.2, "use_rnn": False}


def make_policy(env: Any, hidden: int | list[int]) -> Any:
    """A list: policy and critic apart, tanh, as ours are. A number: its own default policy of one shared layer."""
    import numpy as np
    from pufferlib import models
    from pufferlib.pytorch import layer_init
    from torch import nn

    if isinstance(hidden, int):
        return models.Default(env, hidden_size=hidden)

    def mlp(outputs: int, gain: float) -> nn.Sequential:
        sizes = [int(np.prod(env.single_observation_space.shape)), *hidden]
        layers = [module for a, b in pairwise(sizes) for module in (layer_init(nn.Linear(a, b)), nn.Tanh())]
        return nn.Sequential(*layers, layer_init(nn.Linear(sizes[-1], outputs), std=gain))

    class Separate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.actor, self.critic = mlp(int(env.single_action_space.n), 0.01), mlp(1, 1.0)

        def forward_eval(self, observations: Any, state: Any = None) -> tuple[Any, Any]:
            return self.actor(observations), self.critic(observations)

        def forward(self, observations: Any, state: Any = None) -> tuple[Any, Any]:
            return self.forward_eval(observations, state)

    return Separate()


if __name__ == "__main__":
    serve(prepare, ("pufferlib", "heavyball", "numpy", "torch"))
