"""Run by the Python of `imitation` 1.0.1's own environment: its MCE-IRL on MDPs of the package seals.

    python imitation_mce.py FOLDER LINF_EPS

Writes FOLDER/<name>.npz for each: the tables, the expert's occupancy (states, over horizon + 1 steps), what MCE-IRL
makes of it, how many seconds its training took, imports and set-up left out, and whether it converged.
"""

import logging
import sys
import time
from functools import partial

import numpy as np
import torch
from imitation.algorithms.mce_irl import MCEIRL, mce_occupancy_measures, mce_partition_fh
from imitation.rewards.reward_nets import BasicRewardNet
from seals.diagnostics.cliff_world import CliffWorldEnv
from seals.diagnostics.random_trans import RandomTransitionEnv

MDPS = {
    "random16": partial(RandomTransitionEnv, n_states=16, n_actions=3, branch_factor=2, horizon=20, random_obs=False,
                        generator_seed=1),
    "random50": partial(RandomTransitionEnv, n_states=50, n_actions=4, branch_factor=5, horizon=20, random_obs=False,
                        generator_seed=2),
    "cliff4x7": partial(CliffWorldEnv, width=7, height=4, horizon=8, use_xy_obs=False),
}
MAX_ITERATIONS = 10_000


def solve(env, linf_eps):
    """A linear reward on one-hot states, as in its example; Adam at 0.1, as at 0.01, the default, it takes longer."""
    torch.manual_seed(0)
    _, _, policy = mce_partition_fh(env)
    _, expert = mce_occupancy_measures(env, pi=policy)
    net = BasicRewardNet(env.observation_space, env.action_space, hid_sizes=[], use_action=False, use_done=False,
                         use_next_state=False)
    trainer = MCEIRL(expert, env, net, rng=np.random.default_rng(0), linf_eps=linf_eps, grad_l2_eps=0,
                     log_interval=None, optimizer_kwargs={"lr": 0.1})
    begin = time.perf_counter()
    found = trainer.train(max_iter=MAX_ITERATIONS)
    seconds = time.perf_counter() - begin
    return {"transitions": env.transition_matrix, "initial": env.initial_state_dist, "horizon": env.horizon,
            "expert_policy": policy, "expert": expert, "found": found, "policy": trainer.policy.pi, "seconds": seconds}


if __name__ == "__main__":
    logging.disable()
    torch.set_num_threads(1)
    for name in sys.argv[3:] or MDPS:
        np.savez(f"{sys.argv[1]}/{name}.npz", **solve(MDPS[name](), float(sys.argv[2])))
