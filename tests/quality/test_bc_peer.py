"""Our cloning beside `imitation`'s: the same demonstrations, network, batches and epochs, in turn in one test."""

from __future__ import annotations

import math
import statistics
import time

import numpy as np
import pytest
import torch

from puffer_il.bench.peers.install import RECIPES, cache_folder
from puffer_il.bench.peers.run import Entry, interleave, peer_entry
from puffer_il.demos import collect, read_demos
from puffer_il.demos.subset import first_episodes
from puffer_il.learners.bc import BC
from puffer_il.learners.experiment import build
from puffer_il.rollout.evaluate import log_likelihood
from puffer_il.vector.vec import make_vec

pytestmark = pytest.mark.slow
EPISODES, HELD_OUT, EPOCHS, BATCH, SEEDS, SLIPS = 20, 20, 10, 32, 5, 0.2
LIMIT = -((1 - SLIPS / 2) * math.log(1 - SLIPS / 2) + SLIPS / 2 * math.log(SLIPS / 2))  # nats, of the expert itself


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """CartPole's script, which slips in a fifth of the steps: a policy can be sure of nine actions in ten at most."""
    path, rng = tmp_path_factory.mktemp("peer") / "slips.npz", np.random.default_rng(0)
    with make_vec("cartpole", num_envs=20, kwargs={"max_episode_steps": 200}) as vec:
        def act(obs, starts):
            return np.where(rng.random((len(obs), 1)) < SLIPS, rng.integers(0, 2, (len(obs), 1)), vec.expert_actions())

        collect(vec, act, EPISODES + HELD_OUT, str(path)).save(path)
    return path


def clone(path, seed: int) -> dict:
    demos = read_demos(path)
    with make_vec("cartpole", num_envs=1) as vec:
        spec = vec.spec
    torch.manual_seed(seed)
    config = build("bc", [("as imitation has it", {
        "bc": {"batch_size": BATCH, "weight_decay": 0.0, "ent_coef": 1e-3, "validation": 0.0, "patience": 0,
               "max_grad_norm": 0.0}, "policy": {"hidden": [32, 32], "obs_norm": False}})])
    learner = BC(spec, first_episodes(demos, EPISODES), config, torch.device("cpu"), seed)
    begin = time.perf_counter()
    for _ in range(EPOCHS):
        learner.update(None, 0.0)
    seconds = time.perf_counter() - begin
    first = demos.episode_starts[EPISODES]
    with torch.no_grad():
        params = learner.policy.action_params(torch.tensor(demos.obs[first:]))
        score = float(learner.policy.dist.log_prob(params, torch.tensor(demos.actions[first:])).mean())
    assert seed or score == pytest.approx(log_likelihood(learner.policy, demos), abs=0.05)
    return {"steps": EPOCHS * len(learner.train), "seconds": seconds, "train_seconds": seconds, "log_likelihood": score,
            "layers": [list(p.shape) for p in list(learner.policy.actor.parameters())[:-2]]}


def test_the_same_likelihood_as_imitation_at_twenty_times_the_speed(demos):
    if not (cache_folder() / "imitation" / "complete").is_file():
        pytest.skip(f"no environment of imitation at {cache_folder()}; 'puffer-il bench --peers' makes it")
    assert "imitation==1.0.1" in RECIPES["imitation"].steps[1]
    seeds = iter(range(SEEDS))
    ours, theirs = interleave([
        Entry("puffer_il", lambda: clone(demos, next(seeds))),
        peer_entry("imitation", "imitation", {"mode": "bc_likelihood", "demos": str(demos), "episodes": EPISODES,
                                              "held_out": HELD_OUT, "epochs": EPOCHS, "batch_size": BATCH, "seed": 0,
                                              "threads": 1})], SEEDS)
    assert not theirs.error, theirs.error
    assert ours.samples[0]["layers"] == theirs.samples[0]["layers"] == [[32, 4], [32], [32, 32], [32]]
    scores = [[sample["log_likelihood"] for sample in result.samples] for result in (ours, theirs)]
    rates = [[sample["steps"] / sample["train_seconds"] for sample in result.samples] for result in (ours, theirs)]
    faster = [a / b for a, b in zip(*rates, strict=True)]
    for name, score, rate in zip(("puffer_il", "imitation"), scores, rates, strict=True):
        print(f"\n{name}: log-likelihood {statistics.mean(score):.4f} ± {statistics.stdev(score):.4f} over {SEEDS} "
              f"seeds, {statistics.median(rate):,.0f} samples/s", end="")
    print(f"\nlimit {-LIMIT:.4f}; {statistics.median(faster):.0f} × faster ({min(faster):.0f} to {max(faster):.0f})")
    noise = math.hypot(*(statistics.stdev(score) / math.sqrt(SEEDS) for score in scores))
    assert abs(statistics.mean(scores[0]) - statistics.mean(scores[1])) < max(3 * noise, 2e-3)
    assert all(statistics.mean(score) > -LIMIT - 0.1 for score in scores)
    assert min(faster) > 20
