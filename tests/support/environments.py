"""What the tests of C environments share: where they are, random actions, recordings, environments made on the spot."""

from pathlib import Path

import numpy as np

from puffer_il.native.native_env import NativeEnv

FOLDERS = {toml.parent.name: toml.parent for toml in sorted(Path(__file__).parents[2].glob("envs/*/env.toml"))}


def random_actions(env: NativeEnv, steps: int, seed: int = 0) -> np.ndarray:
    """(steps, *env.actions.shape) within the bounds, and within 3 where there are none."""
    space, uniform = env.env_file.action, np.random.default_rng(seed).random((steps, *env.actions.shape))
    if space.nvec:
        return (uniform * np.array(space.nvec).reshape(space.shape)).astype(np.int32)
    low, high = np.maximum(env.single_action_space.low, -3), np.minimum(env.single_action_space.high, 3)
    return (low + (high - low) * uniform).astype(np.float32)


def wild_actions(env: NativeEnv, steps: int, seed: int = 0) -> np.ndarray:
    """(steps, *env.actions.shape) continuous ones from N(0, 3²), most of them out of range."""
    return np.random.default_rng(seed).normal(0, 3, (steps, *env.actions.shape)).astype(np.float32)


def record(env: NativeEnv, actions: np.ndarray) -> dict[str, np.ndarray]:
    """All that the steps give, (steps, num_agents, …); final observations are zero where nothing ended."""
    names = ("observations", "rewards", "terminals", "truncations", "masks", "final_observations")
    rows: dict[str, list] = {name: [] for name in names}
    for row in actions:
        env.step(row)
        env.final_observations[~(env.terminals | env.truncations)] = 0
        for name in names:
            rows[name].append(getattr(env, name).copy())
    return {name: np.array(values) for name, values in rows.items()}


def same_bytes(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Byte for byte."""
    return all(a[name].tobytes() == b[name].tobytes() for name in a)


def write_env(root: Path, name: str, toml: str, header: str) -> Path:
    """A folder with an environment, as an author would write it."""
    folder = root / name
    folder.mkdir()
    (folder / "env.toml").write_text(toml)
    (folder / f"{name}.h").write_text('#include "env.h"\n' + header)
    return folder
