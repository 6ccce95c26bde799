"""Small demonstrations whose cells say where they belong, and files as other recorders write them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from puffer_il.demos.dataset import Demos


def make_demos(lengths: Sequence[int] = (3, 1, 4), *, obs_shape: tuple[int, ...] = (2,), continuous: bool = False,
               columns: int = 1, rewards: bool = True, ends: str = "alternate", obs_dtype: str = "float32",
               seed: int = 0) -> Demos:
    """Episodes with random values; `ends` is 'alternate' (terminated, truncated, …), 'terminated' or 'open'."""
    rng, n = np.random.default_rng(seed), sum(lengths)
    starts = np.cumsum([0, *lengths[:-1]])
    last = np.append(starts[1:], n) - 1
    terminations, truncations = np.zeros((2, n), bool)
    if ends != "open":
        terminations[last[::2] if ends == "alternate" else last] = True
        truncations[last[1::2] if ends == "alternate" else []] = True
    rows = rng.integers(0, 200, (n + len(lengths), *obs_shape)).astype(obs_dtype)  # each episode's final one included
    first = np.delete(np.arange(n + len(lengths)), last + np.arange(len(lengths)) + 1)
    actions = (rng.uniform(-1, 1, (n, columns)).astype(np.float32) if continuous
               else rng.integers(0, 2, (n, columns), dtype=np.int32))
    return Demos(obs=rows[first], actions=actions, next_obs=rows[first + 1], terminations=terminations,
                 truncations=truncations, episode_starts=starts,
                 rewards=rng.normal(size=n).astype(np.float32) if rewards else None)


def same_demos(left: Demos, right: Demos) -> None:
    """Every array equal in value, dtype and presence."""
    for name in ("obs", "actions", "next_obs", "terminations", "truncations", "episode_starts", "rewards",
                 "episode_returns", "episode_lengths", "episode_terminations", "episode_truncations", "weights",
                 "states"):
        a, b = getattr(left, name), getattr(right, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_array_equal(a, b, err_msg=name, strict=True)


def write_imitation(path, lengths, terminal=None, **changes):
    """A file as `imitation` writes it: observation k of episode e is e + k / 1000."""
    obs = np.concatenate([e + np.arange(n + 1) / 1000 for e, n in enumerate(lengths)])[:, None]
    n = sum(lengths)
    arrays = {"obs": obs, "acts": np.arange(n) % 2, "rews": np.ones(n), "indices": np.cumsum(lengths)[:-1],
              "terminal": np.ones(len(lengths), bool) if terminal is None else np.array(terminal),
              "infos": np.array([{}] * n, dtype=object)}
    np.savez(path, **{key: array for key, array in (arrays | changes).items() if array is not None})
    return path


def write_ours(path, lengths):
    n, starts = sum(lengths), np.cumsum([0, *lengths[:-1]])
    ends = np.zeros(n, bool)
    ends[-1] = True
    np.savez(path, obs=np.zeros((n, 2)), actions=np.zeros(n, int), final_obs=np.zeros((len(lengths), 2)), meta="{}",
             terminations=ends, truncations=~ends & False, episode_starts=starts, rewards=np.zeros(n),
             episode_returns=np.zeros(2), episode_lengths=np.array(lengths))
    return path


def write_cs285(path, lengths, **changes):
    n = sum(lengths)
    terminal = np.zeros(n, bool)
    terminal[np.cumsum(lengths) - 1] = True
    arrays = {"observation": np.arange(n * 2.0).reshape(n, 2), "action": np.zeros((n, 1)), "reward": np.ones(n),
              "next_observation": np.arange(n * 2.0).reshape(n, 2) + 2, "terminal": terminal,
              "episode_starts": np.cumsum([0, *lengths[:-1]])}
    np.savez(path, **{key: array for key, array in (arrays | changes).items() if array is not None})
    return path
