"""Environments of packages that nobody here had seen before; each is skipped where its package is missing.

`docs/field.md` names the versions that these were run with. Their own dependencies are pygame, pymunk below 7, box2d,
opencv-python-headless and networkx.
"""

import importlib
import os
from typing import Any

import numpy as np
import pytest

import puffer_il
from tests.support import field

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
TEAM = {"reward_weights": [1.0, 1.0]}  # one number for each player

REAL: list[tuple[str, dict[str, Any]]] = [
    ("flappy_bird_gymnasium:FlappyBird-v0", {"use_lidar": False}),
    ("tetris_gymnasium.envs:tetris_gymnasium/Tetris", {}), ("boing_gym:Boing-v0", {}),
    ("anesthesim:anesthesim/CombinedAnesthesia-v0", {}), ("antibiosim:antibiosim/DoseOptimization-v0", {}),
    ("cardiosim:cardiosim/PacingControl-v0", {}), ("buffalo_gym:Buffalo-v0", {}), ("crosswalk_env:crosswalk-v1", {}),
    ("gym_pusht:gym_pusht/PushT-v0", {}), ("popgym:popgym-BattleshipEasy-v0", {}),
    ("popgym:popgym-AutoencodeEasy-v0", {}), ("popgym:popgym-MineSweeperEasy-v0", {}),
    ("mpe2.simple_spread_v3:parallel_env", {}), ("minatar.gym:BaseEnv", {"game": "breakout"}),
    ("gym_anytrading:stocks-v0", {}), ("Box2D:LunarLander-v3", {}), ("Box2D:LunarLander-v3", {"continuous": True}),
    ("rware:rware-tiny-2ag-v2", TEAM), ("lbforaging:Foraging-5x5-2p-1f-v3", TEAM)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kwargs"), REAL)
def test_it_is_recorded_cloned_trained_on_and_acted_in(name, kwargs):
    package = name.partition(":")[0].partition(".")[0]
    pytest.importorskip(package)
    importlib.import_module(name.partition(":")[0])
    name = name.removeprefix("Box2D:")
    first, again = (puffer_il.collect("random", name, episodes=2, seed=1, **kwargs) for _ in range(2))
    np.testing.assert_array_equal(first.obs, again.obs)
    env = {"kwargs": kwargs, "num_envs": 6}
    for algo in ("bc", "ppo"):
        run = field.trained(algo, name, 200, demos=first, env=env)
        assert run.summary["status"] == "finished" and np.isfinite(run.summary["eval"]["return_mean"])
    if "parallel_env" not in name:
        single = puffer_il.make(name, **kwargs)
        action = run.policy.predict(single.reset(seed=0)[0], deterministic=True)[0]
        assert single.action_space.contains(action)
        single.step(action)
