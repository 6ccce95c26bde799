"""Gymnasium's vector environments as one batch, against the same environments stepped alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

import puffer_il
from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.demos import collect
from puffer_il.vector.make import env_seed, find_creator
from puffer_il.vector.vec import make_vec
from tests.support import identified
from tests.support.alone import Alone, compare, same
from tests.support.runs import run, tiny

MODES = {mode.name: mode for mode in AutoresetMode}
HERE = "tests.vector.test_gym_vector"
SEED = identified.SEED


def vector(num_envs: int = 1, mode: str = "NEXT_STEP", observation: str = "plain", action: str = "discrete",
           kind: type = SyncVectorEnv) -> VectorEnv:
    single = partial(identified.Gymnasium, observation, action)
    return kind([single] * num_envs, autoreset_mode=MODES[mode])


def cartpoles(num_envs: int = 1, mode: str = "NEXT_STEP") -> VectorEnv:
    return SyncVectorEnv([cartpole] * num_envs, autoreset_mode=MODES[mode])


def cartpole() -> gymnasium.Env:
    return gymnasium.make("CartPole-v1", max_episode_steps=20, disable_env_checker=True)


def three() -> VectorEnv:
    """A vector with a size of its own."""
    return vector(3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("observation, action", [
    ("plain", "discrete"), ("plain", "shifted"), ("float64", "multidiscrete"), ("dict", "dict"), ("tuple", "box"),
    ("category", "multibinary"), ("multidiscrete", "matrix"), ("bits", "boxes")])
def test_rows_are_those_of_environments_that_step_alone(mode: str, observation: str, action: str):
    kwargs = {"mode": mode, "observation": observation, "action": action}
    with make_vec(f"{HERE}:vector", num_envs=6, kwargs=kwargs) as vec:
        assert vec.backend == "native" and vec.spec.num_agents == 1
        first = vec.reset(SEED)
        alone = [Alone(identified.Gymnasium(observation, action), env_seed(SEED, i), mode) for i in range(6)]
        assert all(same(vec, first[i], env.obs) for i, env in enumerate(alone))
        ends = compare(vec, alone, 40)
        assert (ends > 10).all()


@pytest.mark.parametrize("mode", MODES)
def test_seeds_and_time_limits_are_those_of_copies(mode: str):
    with make_vec(f"{HERE}:cartpoles", num_envs=5, kwargs={"mode": mode}) as vec:
        vec.reset(3)
        assert (compare(vec, [Alone(cartpole(), env_seed(3, i), mode) for i in range(5)], 120) > 5).all()
        vec.reset(4)
        compare(vec, [Alone(cartpole(), env_seed(4, i), mode) for i in range(5)], 30)


@pytest.mark.parametrize("backend", [{"backend": "serial"}, {"backend": "multiprocessing", "num_workers": 2}])
def test_it_is_the_same_in_parts(backend: dict):
    """Of six environments, as one batch or one for each worker."""
    with make_vec(f"{HERE}:vector", num_envs=6, **backend) as vec:
        vec.reset(SEED)
        compare(vec, [Alone(identified.Gymnasium(), env_seed(SEED, i), "NEXT_STEP") for i in range(6)], 20)


def test_a_vector_with_a_size_of_its_own_is_opened_as_often_as_needed():
    with make_vec(f"{HERE}:three", num_envs=6, backend="serial") as vec:
        vec.reset(SEED)
        compare(vec, [Alone(identified.Gymnasium(), env_seed(SEED, i), "NEXT_STEP") for i in range(6)], 20)
    with make_vec(f"{HERE}:three", num_envs=3) as vec:
        assert vec.backend == "native"
    with pytest.raises(InputError, match=r"env\.num_envs = 4: must be a multiple of 3, because .*three is a vector of"):
        make_vec(f"{HERE}:three", num_envs=4)


def test_our_own_vector_is_one():
    kwargs = {"id": "puffer_il/CartPole-v0", "max_episode_steps": 20}
    import puffer_il.gym
    with make_vec("gymnasium:make_vec", num_envs=4, kwargs=kwargs) as vec:
        vec.reset(1)
        alone = [Alone(puffer_il.make("cartpole", max_episode_steps=20), env_seed(1, i), "SAME_STEP") for i in range(4)]
        assert compare(vec, alone, 60).sum() > 5


def test_processes_of_gymnasium_are_one_batch():
    with make_vec(f"{HERE}:vector", num_envs=2, kwargs={"kind": AsyncVectorEnv, "mode": "SAME_STEP"}) as vec:
        vec.reset(SEED)
        compare(vec, [Alone(identified.Gymnasium(), env_seed(SEED, i), "SAME_STEP") for i in range(2)], 20)


def test_the_vector_entry_point_of_an_id_is_a_backend():
    """It draws from one generator for all, so that it is another environment than its copies."""
    with make_vec("gymnasium:CartPole-v1", num_envs=8, backend="vector") as vec:
        inside = vec.envs[0].env.unwrapped
        assert type(inside).__name__ == "CartPoleVectorEnv" and inside.num_envs == 8
        own = gymnasium.make_vec("CartPole-v1", num_envs=8, vectorization_mode="vector_entry_point")
        assert np.array_equal(vec.reset(5), own.reset(seed=env_seed(5, 0))[0])
        for _ in range(30):
            actions = np.arange(8)[:, None].astype(np.int32) % 2
            assert np.array_equal(vec.step(actions).obs, own.step(actions[:, 0].astype(np.int64))[0])
    with make_vec("gymnasium:CartPole-v1", num_envs=8) as vec:
        assert vec.backend != "native"
    with pytest.raises(InputError, match=r"env\.backend = 'vector': it has no vector_entry_point"):
        make_vec("Pendulum-v1", num_envs=2, backend="vector")


# Beside the observations

class Choosy(gymnasium.Env):
    """Three choices, of which `info` allows two."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(3)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        super().reset(seed=seed)
        self.t = 0
        return self._now()

    def step(self, action: Any) -> tuple:
        self.t += 1
        obs, info = self._now()
        return obs, 1.0, False, self.t == 4, info

    def _now(self) -> tuple:
        return np.zeros(1, np.float32), {"action_mask": np.arange(3) != self.t % 3}


@pytest.mark.parametrize("mode", MODES)
def test_masks_of_infos_are_kept_with_the_rows(mode: str):
    with make_vec(lambda num_envs=1: SyncVectorEnv([Choosy] * num_envs, autoreset_mode=MODES[mode]), num_envs=2) as vec:
        assert vec.spec.layout.mask is not None and not any("mask" in line for line in vec.notices)
        masks = [vec.spec.layout.mask.of(vec.reset(0))]
        masks += [vec.spec.layout.mask.of(vec.step(np.zeros((2, 1), np.int32)).obs) for _ in range(5)]
        cycle = [0, 1, 2, 0, 1, 0] if mode == "NEXT_STEP" else [0, 1, 2, 0, 0, 1]
        assert [mask.tolist() for mask in masks] == [[[int(k != t) for k in range(3)]] * 2 for t in cycle]


def test_what_does_not_say_when_it_begins_anew_is_refused():
    class Silent(SyncVectorEnv):
        metadata: dict = {}  # noqa: RUF012

        def __init__(self, env_fns: list) -> None:
            super().__init__(env_fns)
            del self.autoreset_mode
            self.metadata = {}

    with pytest.raises(InputError, match=r"a Silent, that does not say when it begins the next episode; set metadata"):
        make_vec(lambda: Silent([identified.Gymnasium] * 2), num_envs=2)


def test_a_final_observation_that_is_missing_is_refused():
    class Hiding(gymnasium.vector.VectorWrapper):
        def step(self, actions: Any) -> tuple:
            *step, infos = self.env.step(actions)
            return (*step, {key: part for key, part in infos.items() if "final" not in key})

    with make_vec(lambda num_envs=1: Hiding(vector(num_envs, "SAME_STEP")), num_envs=2) as vec:
        vec.reset(SEED)
        with pytest.raises(InputError, match=r"have no 'final_obs', the true last observation; open it with autoreset"):
            for _ in range(10):
                vec.step(np.zeros((2, 1), np.int32))


def test_final_observations_may_be_a_whole_batch():
    """As ale-py's vector gives them, not as an array of objects."""
    class Whole(gymnasium.vector.VectorWrapper):
        def step(self, actions: Any) -> tuple:
            *step, infos = self.env.step(actions)
            if "final_obs" in infos:
                rows = [np.zeros(4, np.float32) if row is None else row for row in infos["final_obs"]]
                infos["final_obs"] = np.stack(rows)
            return (*step, infos)

    with make_vec(lambda num_envs=1: Whole(vector(num_envs, "SAME_STEP")), num_envs=4) as vec:
        vec.reset(SEED)
        compare(vec, [Alone(identified.Gymnasium(), env_seed(SEED, i), "SAME_STEP") for i in range(4)], 20)


def test_a_function_must_hand_its_number_on():
    with pytest.raises(InputError, match=r"vector of 5 environments where 4 are asked for; its function must hand"):
        make_vec(lambda num_envs: vector(num_envs + num_envs // 4), num_envs=4)


def test_a_function_that_knows_its_own_number_has_a_size_of_its_own():
    """As Meta-World's ten tasks, whatever is asked for."""
    assert find_creator(lambda num_envs: vector(3)).facts().rows == 3
    with make_vec(lambda num_envs: vector(3), num_envs=6, backend="serial") as vec:
        vec.reset(SEED)
        compare(vec, [Alone(identified.Gymnasium(), env_seed(SEED, i), "NEXT_STEP") for i in range(6)], 20)


def test_it_is_no_single_environment():
    with pytest.raises(InputError, match="it is a SyncVectorEnv, no Gymnasium environment"):
        find_creator(f"{HERE}:three").as_gymnasium()


# Whole runs

def test_ppo_learns_on_a_vector(tmp_path: Path):
    recorder = run(tiny("ppo", tmp_path / "run", env__name=f"{HERE}:cartpoles", env__num_envs=16,
                        train__total_steps=16 * 32 * 24, ppo__learning_rate=3e-3,
                        eval__final_episodes=16))
    assert recorder.summary["status"] == "finished"
    assert recorder.summary["eval"]["return_mean"] > 19.5, "of 20; chance is 16"


def test_demonstrations_are_those_of_copies():
    def push(obs: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return (obs[:, 2:3] > 0).astype(np.int32)

    shown = []
    for name, kwargs in ((cartpole, {}), (cartpoles, {}), (cartpoles, {"mode": "SAME_STEP"})):
        with make_vec(name, num_envs=4, kwargs=kwargs) as vec:
            shown.append(collect(vec, push, 10, "d", seed=2))
    for other in shown[1:]:
        for name in ("obs", "actions", "next_obs", "terminations", "truncations", "rewards", "episode_starts"):
            assert np.array_equal(getattr(other, name), getattr(shown[0], name)), name


def test_an_environment_that_breaks_is_told(tmp_path: Path):
    class Breaks(gymnasium.vector.VectorWrapper):
        def step(self, actions: Any) -> tuple:
            raise RuntimeError("the simulator is gone")

    with make_vec(lambda num_envs=1: Breaks(vector(num_envs)), num_envs=2) as vec:
        vec.reset(0)
        with pytest.raises(EnvFailure, match="the simulator is gone"):
            vec.step(np.zeros((2, 1), np.int32))


def test_the_face_takes_a_vector():
    assert puffer_il.evaluate("random", f"{HERE}:cartpoles", episodes=4)["episodes"] == 4
