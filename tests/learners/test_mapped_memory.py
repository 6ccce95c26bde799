"""Of mapped demonstrations little is resident at any time: whole passes let go of what they have passed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from puffer_il.demos import read_demos
from puffer_il.demos.shard_writer import ShardWriter
from tests.support.memory import STATUS

ROOT = Path(__file__).parents[2]
WIDTH, LENGTH, PART, PARTS = 1024, 500, 10_000, 10  # 4 kB rows, 410 MB of them

PROGRAM = """
import gymnasium as gym, numpy as np, puffer_il, puffer_il.learners.bc, sys, torch
from puffer_il.demos.rows import mapped_bytes
from puffer_il.learners.common.demo_rows import moments_of, on_device
from puffer_il.nn import obs_moments
from tests.support.memory import forget_highest, highest, resident

class Wide(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1024,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    def reset(self, *, seed=None, options=None):
        return np.zeros(1024, np.float32), {}
    def step(self, action):
        return np.zeros(1024, np.float32), 0.0, True, False, {}

def learn(source, policy={}, **more):
    return puffer_il.train("bc", Wide, demos=source, seed=1, device="cpu", policy={"hidden": (8,), **policy},
                           train={"total_steps": 1, "threads": 2}, eval={"episodes": 1}, **more)

puffer_il.learners.bc.WINDOW_RUNS = 8  # each of 2 MB, of which the system maps as many more
bc = {"window": 4096, "batch_size": 2048}
WAYS = {"bc": {"bc": bc}, "bc of squared distances, nothing held out": {"bc": bc | {"validation": 0, "loss": "mse"}},
        "bc of chunks, in torch": {"bc": bc, "policy": {"chunk": 2}}}
rows = np.zeros((100, 1024), np.float32)
few = {"obs": rows, "next_obs": rows, "actions": np.zeros((100, 2), np.float32),
       "terminations": np.arange(1, 101) % 10 == 0, "truncations": np.zeros(100, bool), "episode_starts": [0]}
few["episode_starts"] = np.arange(0, 100, 10)
for name, way in WAYS.items():
    learn(few, **way)
    forget_highest()
    before = resident("VmRSS")
    run = learn(sys.argv[1], **way)
    print("grew", highest() - before, name)
obs, flatten = puffer_il.load_demos(sys.argv[1]).obs, run.policy.flatten
listed = torch.arange(0, len(obs), 3)
held = on_device(obs, torch.device("cpu"))
forget_highest()
before = resident("VmRSS")
moments_of(flatten, obs, held)
print("grew", highest() - before, "moments of all")
for index in (None, listed):
    mapped = obs_moments(flatten, held, index=index, mapped=mapped_bytes(obs))
    copied = obs_moments(flatten, torch.from_numpy(np.array(obs)), index=index)
    print("same", torch.equal(mapped[0], copied[0]) and torch.equal(mapped[1], copied[1]) and mapped[2] == copied[2])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("wide") / "d.shards"
    ends = np.arange(1, PART + 1) % LENGTH == 0
    with ShardWriter(path) as writer:
        for _ in range(PARTS):
            obs = rng.standard_normal((PART, WIDTH), np.float32)
            writer.add(read_demos({"obs": obs, "final_obs": obs[ends], "terminations": np.zeros(PART, bool),
                                   "truncations": ends, "episode_starts": np.arange(0, PART, LENGTH),
                                   "actions": np.tanh(obs[:, :2])}))
    return path


@pytest.mark.skipif(not STATUS.is_file() or not os.access("/proc/self/clear_refs", os.W_OK),
                    reason="needs Linux's /proc")
def test_whole_passes_leave_little_of_a_mapping_resident_and_sum_up_the_same(folder):
    size = PART * PARTS * WIDTH * 4
    out = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=True,
                         cwd=ROOT).stdout
    grew = {words[2]: int(words[1]) for line in out.splitlines() if (words := line.split(maxsplit=2))[0] == "grew"}
    assert len(grew) == 4 and {name: bytes / size for name, bytes in grew.items() if bytes > 0.6 * size} == {}
    assert [line for line in out.splitlines() if line.startswith("same")] == ["same True"] * 2
