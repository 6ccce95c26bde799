"""Small demonstrations whose cells say where they belong."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from puffer_il.core.spec import ActionSpec, EnvSpec
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


@pytest.fixture(name="make_demos", scope="session")
def _make_demos() -> Callable[..., Demos]:
    return make_demos


@pytest.fixture
def discrete_spec() -> EnvSpec:
    return EnvSpec("toy", (2,), np.dtype(np.float32), ActionSpec(nvec=(2,)))


@pytest.fixture
def continuous_spec() -> EnvSpec:
    bound = np.ones(1, np.float32)
    return EnvSpec("toy", (2,), np.dtype(np.float32), ActionSpec(low=-bound, high=bound, shape=(1,)))


def same(left: Demos, right: Demos) -> None:
    """Every array equal in value, dtype and presence."""
    for name in ("obs", "actions", "next_obs", "terminations", "truncations", "episode_starts", "rewards",
                 "episode_returns", "episode_lengths", "episode_terminations", "episode_truncations"):
        a, b = getattr(left, name), getattr(right, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_array_equal(a, b, err_msg=name, strict=True)


@pytest.fixture(name="same", scope="session")
def _same() -> Callable[[Demos, Demos], None]:
    return same
