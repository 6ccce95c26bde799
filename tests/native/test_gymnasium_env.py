"""C environments as Gymnasium's; that all shipped ones give what its own vector gives is in the contract test."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from puffer_il.native.gymnasium_env import GymnasiumEnv, GymnasiumVectorEnv
from puffer_il.native.pufferlib import pufferlib
from tests.support.environments import FOLDERS

CARTPOLE = FOLDERS["cartpole"]


def test_first_episode_without_a_seed_is_random():
    for make in (GymnasiumEnv, GymnasiumVectorEnv):
        a, b = make(CARTPOLE), make(CARTPOLE)
        assert (a.reset()[0] != b.reset()[0]).any()
        assert (a.reset(seed=1)[0] == b.reset(seed=1)[0]).all()
        assert (a.reset()[0] == b.reset()[0]).all()


def test_environments_of_a_vector_differ():
    vec = GymnasiumVectorEnv(CARTPOLE, 64)
    for options in ({}, {"seed": 1}):
        assert len(np.unique(vec.reset(**options)[0], axis=0)) == 64


def test_vector_describes_itself_as_gymnasium_asks():
    vec = GymnasiumVectorEnv(CARTPOLE, 3, threads=2)
    assert vec.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP and vec.metadata["render_fps"] == 50
    assert "autoreset_mode" not in GymnasiumEnv(CARTPOLE).metadata
    obs, infos = vec.reset(seed=1)
    assert obs in vec.observation_space and infos == {}
    obs, rewards, terminations, truncations, infos = vec.step(vec.action_space.sample())
    assert obs in vec.observation_space and infos == {}
    assert rewards.dtype == np.float64 and terminations.dtype == truncations.dtype == bool
    assert rewards.shape == terminations.shape == truncations.shape == (3,)


def test_final_observations_are_those_of_the_episodes_that_ended():
    vec = GymnasiumVectorEnv(CARTPOLE, 8, max_episode_steps=5)
    vec.reset(seed=1)
    for _ in range(5):
        obs, _, _, truncations, infos = vec.step(np.ones(8, int))
    assert truncations.all() and infos["_final_obs"].all() and infos["_final_info"].all()
    final = np.stack(infos["final_obs"])
    assert (final[:, 1] > 0.5).all() and (abs(obs) <= 0.05).all()  # pushed five times; begun anew


def test_arrays_are_not_overwritten_by_later_steps():
    vec = GymnasiumVectorEnv(CARTPOLE, 2)
    first = vec.reset(seed=1)[0]
    rows = vec.step(np.ones(2, int))[:4]
    kept = [array.copy() for array in (first, *rows)]
    for _ in range(30):
        vec.step(np.ones(2, int))
    assert all((a == b).all() for a, b in zip((first, *rows), kept, strict=True))


def test_gymnasiums_wrappers_see_the_episodes():
    vec = RecordEpisodeStatistics(GymnasiumVectorEnv(CARTPOLE, 2, max_episode_steps=4))
    vec.reset(seed=1)
    for _ in range(4):
        infos = vec.step(np.array([0, 1]))[4]
    assert infos["episode"]["l"].tolist() == [4, 4] and infos["episode"]["r"].tolist() == [4, 4]


@pytest.mark.parametrize(("seed", "mask", "message"), [
    ([1, 2], None, "seed has 2 numbers, but there are 3 environments"),
    (None, np.ones(2, bool), r"options\['reset_mask'\] is bool \(2,\), but must be bool \(3,\) with a True"),
    (None, np.ones(3, int), "is int64"),
    (None, np.zeros(3, bool), "with a True"),
])
def test_reset_refuses_what_does_not_fit(seed: list[int] | None, mask: np.ndarray | None, message: str):
    vec = GymnasiumVectorEnv(CARTPOLE, 3)
    with pytest.raises(ValueError, match=message):
        vec.reset(seed=seed, options=None if mask is None else {"reset_mask": mask})


def test_closed_vector_cannot_be_used():
    vec = GymnasiumVectorEnv(CARTPOLE, 2)
    vec.reset(seed=1)
    vec.close()
    vec.close()
    assert vec.closed
    for use in (vec.reset, lambda: vec.step(np.ones(2, int))):
        with pytest.raises(pufferlib.APIUsageError):
            use()


def test_gymnasium_makes_a_vector_through_its_entry_point():
    gymnasium.register("puffer_il_test/Pole-v0", vector_entry_point=GymnasiumVectorEnv, kwargs={"folder": CARTPOLE})
    vec = gymnasium.make_vec("puffer_il_test/Pole-v0", num_envs=4, gravity=5.0)
    assert isinstance(vec, GymnasiumVectorEnv) and vec.num_envs == 4
    assert repr(vec) == "GymnasiumVectorEnv(puffer_il_test/Pole-v0, num_envs=4)"
    gymnasium.registry.pop("puffer_il_test/Pole-v0")
