"""What mix-ins are for, by the command line, over seeds: `make quality`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from puffer_il.demos import read_demos
from puffer_il.demos.dataset import Demos
from tests.support.quality import SEEDS, puffer_il

pytestmark = pytest.mark.slow
LENGTH, ACTIONS = 12, 4


def train(folder: Path, name: str, *arguments: object) -> dict:
    """A run's summary, with `steps`, those of its first evaluation at 0.95 or more (None without)."""
    puffer_il("train", *arguments, "--run-dir", folder / name)
    summary = json.loads((folder / name / "summary.json").read_text())
    played = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    reached = [m["env_steps"] for m in played if m.get("eval/normalized", 0) >= 0.95]
    summary["steps"] = reached[0] if reached else None
    print(f"\n{name}: return {summary['eval']['return_mean']:.2f}, normalised {summary['eval']['normalized']:.3f}, "
          f"0.95 after {summary['steps']} steps of {summary['env_steps']:,}")
    return summary


@pytest.fixture(scope="module")
def lock(tmp_path_factory) -> tuple[Path, Path]:
    """A combination lock, and one demonstration: of four actions one goes on, the others end the episode with nothing;
    the twelfth right one opens it. Chance needs 4¹² episodes."""
    folder, states = tmp_path_factory.mktemp("lock"), LENGTH + 2
    right = np.random.default_rng(0).integers(ACTIONS, size=LENGTH)
    transitions, rewards = np.zeros((2, states, ACTIONS, states))
    transitions[:, :, LENGTH] = 1  # closed for good
    transitions[LENGTH + 1, :, :] = np.eye(states)[LENGTH + 1]
    for state, action in enumerate(right):
        transitions[state, action] = np.eye(states)[state + 1 if state < LENGTH - 1 else LENGTH + 1]
    rewards[LENGTH - 1, right[-1], LENGTH + 1] = 1
    ended = np.arange(states) >= LENGTH
    np.savez(folder / "lock.npz", transitions=transitions, rewards=rewards, initial=np.eye(states)[0], terminal=ended)
    puffer_il("demos", "collect", "mdp", "--env.kwargs.file", folder / "lock.npz", "--expert", "--episodes", 1, "--out",
              folder / "demos.npz")
    return folder / "lock.npz", folder / "demos.npz"


@pytest.mark.parametrize("seed", SEEDS)
def test_expert_resets_find_what_chance_cannot(seed, tmp_path, lock):
    """FILTER's argument: from the demonstrated states, the last one first, each step is found by a chance of 1 in 4."""
    file, demos = lock
    for share, opened in ((0.0, 0.0), (0.5, 1.0)):
        summary = train(tmp_path, f"ppo-resets-{share}-{seed}", "ppo", "mdp", "--env.kwargs.file", file,
                        "--demos", demos, "--mix.expert-resets", share, "--seed", seed, "--total-steps", 500_000,
                        "--eval.interval-steps", 20_000, "--train.stop-at-expert", 0.95)
        assert summary["eval"]["return_mean"] == opened, f"share {share}"


@pytest.fixture(scope="module")
def half_bad(tmp_path_factory) -> tuple[Path, float]:
    """Ten episodes of MountainCarContinuous's expert and ten of random actions, and what the expert returns."""
    folder = tmp_path_factory.mktemp("half-bad")
    for actor, seed in (("expert", 5), ("random", 6)):
        puffer_il("demos", "collect", "mountaincarcontinuous", f"--{actor}", "--episodes", 10, "--seed", seed, "--out",
                  folder / f"{actor}.npz")
    good, bad = (read_demos(folder / f"{actor}.npz") for actor in ("expert", "random"))
    both = {name: np.concatenate([getattr(good, name), getattr(bad, name)])
            for name in ("obs", "actions", "next_obs", "terminations", "truncations", "rewards")}
    starts = np.concatenate([good.episode_starts, bad.episode_starts + len(good)])
    Demos(episode_starts=starts, **both).save(folder / "both.npz", env="mountaincarcontinuous")
    return folder / "both.npz", float(good.returns.mean())


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_repair_demonstrations_of_which_half_are_random(seed, tmp_path, half_bad):
    demos, expert = half_bad
    scores = {}
    for weighting in ("none", "return", "rank"):
        summary = train(tmp_path, f"bc-{weighting}-{seed}", "bc", "mountaincarcontinuous", "--demos", demos,
                        "--demos.weighting", weighting, "--seed", seed)
        random = summary["random_return"]
        scores[weighting] = (summary["eval"]["return_mean"] - random) / (expert - random)
    assert scores["none"] < 0.6 and scores["return"] >= 0.95 and scores["rank"] >= 0.95, scores
