"""The vector that a Gymnasium id has registered: when it is taken, and that it plays what single environments play."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv

from puffer_il.vector.plan import VECTOR_FROM
from puffer_il.vector.vec import make_vec
from puffer_il.vector.watch import Watch

NAME = "gymnasium:CartPole-v1"


class Wider(CartPoleVectorEnv):
    """Of other spaces than the environment itself."""

    def __init__(self, num_envs: int = 1, **kwargs):
        super().__init__(num_envs, **kwargs)
        self.single_observation_space = gymnasium.spaces.Box(-1, 1, (4,))


class Longer(CartPoleEnv):
    """Of a parameter that the vector does not have."""

    def __init__(self, extra: float = 0.0, **kwargs):
        super().__init__(**kwargs)


@pytest.fixture(scope="module", autouse=True)
def ids():
    for id, single, own in (("Wider-v0", CartPoleEnv, Wider), ("Longer-v0", Longer, CartPoleVectorEnv)):
        gymnasium.register(id, single, vector_entry_point=own, max_episode_steps=500)
    yield
    for id in ("Wider-v0", "Longer-v0"):
        del gymnasium.registry[id]


def backend(name: str = NAME, num_envs: int = VECTOR_FROM, **more) -> str:
    with make_vec(name, num_envs=num_envs, **more) as vec:
        own = any("the vector environment that comes with it" in notice for notice in vec.notices)
        assert own == (vec.backend == "native")
        return vec.backend


def test_it_is_taken_where_it_pays_unless_something_else_is_asked_for():
    assert backend() == backend(kwargs={"sutton_barto_reward": True}) == backend("Longer-v0") == "native"
    assert backend(num_envs=VECTOR_FROM - 1) == backend(backend="serial") == "serial"
    assert backend(num_workers=2) == backend(watch=Watch(on_timeout="restart")) == "multiprocessing"


def test_it_is_not_taken_where_it_is_another_environment():
    for name, kwargs in (("Wider-v0", {}), ("Longer-v0", {"extra": 1.0})):
        assert backend(name, kwargs=kwargs) != "native"


@pytest.mark.parametrize("limit", [500, 200])
def test_each_row_plays_what_a_single_environment_plays(limit):
    count = 32
    with make_vec(NAME if limit == 500 else "gymnasium:CartPole-v0", num_envs=count) as vec:
        obs, inside = vec.reset(3).copy(), vec.envs[0].env.unwrapped
        singles = [gymnasium.make("CartPole-v1", max_episode_steps=limit) for _ in range(count)]
        ends, rng = np.zeros(3, int), np.random.default_rng(0)

        def begin(row: int) -> None:
            singles[row].reset()
            singles[row].unwrapped.state = inside.state[:, row].copy()

        for row in range(count):
            begin(row)
        for _ in range(2 * limit):
            # Half of the rows balance until the limit comes, the others fall.
            balances = (obs[:, 2] + 0.5 * obs[:, 3] + 0.02 * obs[:, 0] + 0.1 * obs[:, 1] > 0).astype(np.int32)
            actions = np.where(np.arange(count) % 2 == 0, balances, rng.integers(0, 2, count)).astype(np.int32)
            batch = vec.step(actions[:, None])
            obs = batch.obs.copy()
            for row, single in enumerate(singles):
                if not batch.valid[row]:
                    begin(row)
                    assert batch.rewards[row] == 0 and not batch.terminations[row] | batch.truncations[row]
                    assert np.abs(obs[row]).max() <= 0.05
                    ends[2] += 1
                    continue
                own, reward, terminated, truncated, _ = single.step(int(actions[row]))
                assert np.allclose(obs[row], own, atol=1e-5) and batch.rewards[row] == reward
                assert batch.terminations[row] == terminated
                assert batch.truncations[row] == (truncated and not terminated)
                if terminated or truncated:
                    assert np.allclose(batch.final_obs[row], own, atol=1e-5)
                    ends += [terminated, truncated and not terminated, 0]
    assert ends[0] > 50 and ends[1] > 10 and ends[2] > 60


def test_a_seed_decides_and_a_saved_state_goes_on():
    with make_vec(NAME, num_envs=VECTOR_FROM, resumable=True) as vec, make_vec(NAME, num_envs=VECTOR_FROM) as other:
        assert vec.exact_state and np.array_equal(vec.reset(7), other.reset(7))
        assert not np.array_equal(vec.reset(7), other.reset(8))
        actions = np.random.default_rng(0).integers(0, 2, (80, VECTOR_FROM, 1)).astype(np.int32)
        for action in actions[:30]:
            vec.step(action)
        state, seen = vec.get_state(), [vec.step(action).obs.copy() for action in actions[30:]]
        assert vec.set_state(state)
        assert np.array_equal([vec.step(action).obs.copy() for action in actions[30:]], seen)
