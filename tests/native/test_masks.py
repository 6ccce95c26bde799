"""c_mask: which actions a C environment says may be taken, in its rows, in training, and through Gymnasium's face."""

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.native.gymnasium_env import GymnasiumEnv
from puffer_il.native.masked_env import MaskedEnv, open_native
from puffer_il.native.native_env import NativeEnv
from puffer_il.rollout.actors import RandomActor
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import make_vec
from tests.support.environments import write_env
from tests.support.runs import run, tiny

TOML = """
agents = 2
state = 4
[observation]
dtype = "float32"
shape = [3]
low = 0
high = 2
[action]
discrete = 3
"""
# Each of two agents fills its own columns, two stones each; the reward of a full one is -100.
BOARD = """
typedef struct { double height[2][3]; } Env;

static inline void c_observe(const Env *env, Io io) {
    for (int a = 0; a < ENV_AGENTS; a++)
        for (int k = 0; k < 3; k++)
            io.observations[a * ENV_OBS_SIZE + k] = (Obs)env->height[a][k];
}

static inline void c_reset(Env *env, Io io) {
    memset(env, 0, sizeof *env);
    env->height[0][rng_below(io.rng, 3)] = 2;
    env->height[1][rng_below(io.rng, 3)] = 2;
    c_observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    for (int a = 0; a < ENV_AGENTS; a++) {
        double *column = &env->height[a][io.actions[a]];
        io.rewards[a] = *column >= 2 ? -100 : 1;
        *column += *column < 2;
        io.terminations[a] = env->height[a][0] + env->height[a][1] + env->height[a][2] >= 6;
    }
    c_observe(env, io);
}

static inline void c_mask(const Env *env, Io io, uint8_t *mask) {
    for (int a = 0; a < ENV_AGENTS; a++)
        for (int k = 0; k < ENV_CHOICES; k++)
            if (env->height[a][k] >= 2)
                mask[a * ENV_CHOICES + k] = 0;
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_env(tmp_path_factory.mktemp("envs"), "board", TOML.replace("state = 4", "state = 6"), BOARD)


@pytest.mark.parametrize("backend", ["native", "multiprocessing"])
def test_rows_carry_the_mask_of_their_state(folder, backend):
    with make_vec(str(folder), num_envs=8, backend=backend, num_workers=2 * (backend != "native")) as vec:
        assert vec.spec.obs_shape == (6,) and vec.spec.obs_dtype == np.float32 and vec.spec.num_agents == 2
        obs, actor, ended = vec.reset(3), RandomActor(vec.spec, 3), 0
        for _ in range(20):
            assert np.array_equal(obs[:, 3:] != 0, obs[:, :3] < 2)
            batch = vec.step(actor(obs, np.zeros(8, bool)))
            obs, ended = batch.obs, ended + batch.terminations.sum()
            assert (batch.rewards[batch.valid] == 1).all()  # nobody ever played a full column
            assert (batch.final_obs[batch.terminations][:, :3] == 2).all()
    assert ended > 8


@pytest.mark.parametrize("algo", ["ppo", "bc"])
def test_training_never_takes_a_masked_action(folder, algo, tmp_path):
    cfg = tiny(algo, tmp_path / "run", env__name=str(folder), env__num_envs=8, train__num_steps=16,
               train__total_steps=512, eval__final_episodes=8,
               **({"demos__source": recorded(folder, tmp_path)} if algo == "bc" else {}))
    assert run(cfg).summary["eval"]["return_mean"] == 4  # a full column costs 100


def recorded(folder, tmp_path):
    from puffer_il.demos import collect

    with make_vec(str(folder), num_envs=4) as vec:
        collect(vec, RandomActor(vec.spec, 0), 8, "board").save(tmp_path / "d.npz")
    return str(tmp_path / "d.npz")


def test_a_state_that_is_put_back_has_its_mask_again(folder):
    env = open_native(folder, 2)
    assert isinstance(env, MaskedEnv)
    env.reset(1)
    saved, states, rows = env.get_state(), env.env_states(), env.observations.copy()
    for _ in range(3):
        env.step(np.argmax(env.action_masks(), 1))
    assert not np.array_equal(env.observations, rows)
    env.set_state(saved)
    assert np.array_equal(env.observations, rows)
    env.step(np.argmax(env.action_masks(), 1))
    env.set_env_states(states)
    assert np.array_equal(env.observations, rows)


def test_gymnasium_sees_the_mask_in_info(tmp_path):
    folder = write_env(tmp_path, "alone", TOML.replace("agents = 2\nstate = 4\n", ""),
                       BOARD.replace("height[2][3]", "height[1][3]").replace(
                           "    env->height[1][rng_below(io.rng, 3)] = 2;\n", ""))
    env = GymnasiumEnv(folder)
    obs, info = env.reset(seed=0)
    for _ in range(4):
        assert obs.shape == (3,) and np.array_equal(info["action_mask"] != 0, obs < 2)
        obs, *_, info = env.step(env.action_space.sample(info["action_mask"]))


def test_an_environment_without_masks_is_as_it_was(folder):
    cartpole = find_creator("cartpole")
    assert type(cartpole(num_envs=1)) is NativeEnv and cartpole.facts().spec.mask is None


def test_a_mask_of_continuous_actions_is_refused(tmp_path):
    folder = write_env(tmp_path, "board", TOML.replace("state = 4", "state = 6").replace(
        "discrete = 3", 'dtype = "float32"\nshape = [1]\nlow = 0\nhigh = 1'), BOARD)
    with pytest.raises(InputError, match="c_mask says which of a fixed number of choices"):
        open_native(folder)
