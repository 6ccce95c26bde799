"""Observations and actions of every structure arrive as they were sent, through PufferLib's emulation."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from puffer_il.core.errors import InputError
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import ActionSpec
from puffer_il.vector import emulation
from puffer_il.vector.vec import make_vec
from tests.support import identified
from tests.support.identified import ACTIONS, SEED, code

GYMNASIUM, PARALLEL = "tests.support.identified:Gymnasium", "tests.support.identified:Parallel"


def read(spec, row):
    """name → leaf of one observation row, cut by the offsets of its fields."""
    flat = np.frombuffer(row.tobytes(), np.uint8)
    return {f.name: flat[f.offset:f.offset + f.dtype.itemsize * int(np.prod(f.shape))].view(f.dtype).reshape(f.shape)
            for f in spec.obs_fields}


def rows(observation, num_envs=3):
    with make_vec(GYMNASIUM, num_envs=num_envs, backend="serial", kwargs={"observation": observation}) as vec:
        yield vec.spec
        yield vec.reset(SEED).copy()
        yield vec.step(np.full((num_envs, 1), 4, np.int32)).obs.copy()


def test_a_dict_is_cut_into_its_leaves():
    spec, first, second = rows("dict")
    assert spec.structured and spec.obs_dtype == np.uint8 and spec.obs_shape == (28,)
    assert [(f.name, f.dtype, f.shape, f.offset, f.categories, f.image) for f in spec.obs_fields] == [
        ("kind", np.int32, (), 0, 8, False), ("picture", np.uint8, (2, 3, 1), 4, 0, True),
        ("where", np.float32, (4,), 12, 0, False)]
    for step, batch, echo in ((0, first, 0), (1, second, 4)):
        for index, row in enumerate(batch):
            leaves = read(spec, row)
            assert leaves["kind"] == step and (leaves["picture"] == step).all()
            assert np.array_equal(leaves["where"], [index, 0, step, echo])


def test_a_tuple_of_categories():
    spec, first, second = rows("tuple")
    assert [(f.name, f.offset, f.categories) for f in spec.obs_fields] == [("f0", 0, 100), ("f1", 4, 9), ("f2", 8, 9)]
    assert spec.structured and spec.obs_dtype == np.int32
    assert np.array_equal(first, [[0, 0, 0], [1, 0, 0], [2, 0, 0]])
    assert np.array_equal(second, [[0, 0, 1], [1, 0, 1], [2, 0, 1]])


def test_a_single_category_may_begin_above_zero():
    spec, first, _ = rows("category", num_envs=1)
    field = spec.obs_fields[0]
    assert spec.obs_shape == (1,) and spec.structured and (field.categories, field.first) == (10_000, 1)
    assert first[0, 0] == 1 + code(0, 0, 0)


@pytest.mark.parametrize("observation, dtype, second", [
    ("plain", np.float32, [[0, 0, 1, 4], [1, 0, 1, 4], [2, 0, 1, 4]]),
    ("float64", np.float32, [[0, 0, 1, 4], [1, 0, 1, 4], [2, 0, 1, 4]]),
    ("multidiscrete", np.int32, [[0, 0, 1], [1, 0, 1], [2, 0, 1]]),
    ("bits", np.int8, [[0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1]]),
])
def test_flat_observations(observation, dtype, second):
    spec, first, after = rows(observation)
    assert spec.obs_dtype == dtype and first.dtype == dtype and not spec.structured
    assert np.array_equal(after, second)


def test_nested_fields_are_named_by_their_path():
    layout = lay_out(spaces.Dict({
        "a": spaces.Dict({"x": spaces.Box(0, 1, (3,), np.float64), "n": spaces.Discrete(3, start=-1)}),
        "b": spaces.Tuple([spaces.Box(0, 9, (2,), np.int16), spaces.MultiBinary((2, 2))])}))
    assert [(f.name, f.dtype, f.shape, f.offset, f.categories) for f in layout.fields] == [
        ("a.n", np.int32, (), 0, 3), ("a.x", np.float32, (3,), 4, 0),
        ("b.f0", np.int16, (2,), 16, 0), ("b.f1", np.int8, (2, 2), 20, 0)]


@pytest.mark.parametrize("action, spec, sent, echo", [
    ("discrete", ActionSpec(nvec=(5,)), [[3]], 3),
    ("shifted", ActionSpec(nvec=(5,), start=(-2,)), [[1]], -1),
    ("multidiscrete", ActionSpec(nvec=(3, 4, 5), shape=(3,)), [[2, 0, 4]], 6),
    ("multibinary", ActionSpec(nvec=(2, 2, 2), shape=(3,)), [[1, 0, 1]], 2),
    ("dict", ActionSpec(nvec=(3, 4, 2, 5), shape=(4,), parts=(
        (("a",), (), "int64"), (("b", 0), (), "int64"), (("b", 1), (2,), "int64"))),
     [[2, 3, 1, 4]], 10),
    ("box", ActionSpec(low=np.full(2, -1), high=np.ones(2), shape=(2,)), [[0.5, 0.25]], 0.75),
    ("box64", ActionSpec(low=np.full(2, -1), high=np.ones(2), shape=(2,)), [[0.5, 0.25]], 0.75),
    ("matrix", ActionSpec(low=np.full(6, -1), high=np.ones(6), shape=(2, 3)), [[1, 0, 0, 0, 0, 0.5]], 1.5),
    ("boxes", ActionSpec(low=np.array([-1, 0, 0]), high=np.ones(3), shape=(3,), parts=(
        (("a",), (), "float32"), (("b",), (2,), "float32"))),
     [[-1, 1, 0.5]], 0.5),
])
def test_actions_of_every_structure(action, spec, sent, echo):
    """The environment checks that they are in its own space and that nobody writes into them later."""
    with make_vec(GYMNASIUM, num_envs=2, backend="serial", kwargs={"action": action}) as vec:
        assert vec.spec.action == spec
        vec.reset(SEED)
        actions = np.repeat(np.array(sent, spec.dtype), 2, axis=0)
        assert (vec.step(actions).obs[:, 3] == echo).all()
        assert vec.step(np.zeros_like(actions)).valid.all()


@pytest.mark.parametrize("action", ACTIONS)
def test_actions_of_parallel_environments(action):
    with make_vec(PARALLEL, num_envs=6, backend="serial", kwargs={"action": action}) as vec:
        vec.reset(SEED)
        zeros = np.zeros((6, vec.spec.action.dim), vec.spec.action.dtype)
        assert vec.step(zeros).valid.sum() == 4


def test_an_environment_is_wrapped_only_where_it_must_be():
    plain, wide = (identified.Gymnasium(observation) for observation in ("plain", "float64"))
    assert emulation.emulate(plain, None, 0).env is plain
    assert emulation.emulate(wide, None, 0).env.env is wide
    assert wide.observation_space.dtype == np.float64  # the environment keeps its own spaces


def test_what_is_wrapped_by_pufferlib_already_is_unwrapped():
    env = identified.Gymnasium("category")
    wrapped = emulation.GymnasiumPufferEnv(env=env)
    assert emulation.emulate(wrapped, None, 0).single_observation_space.shape == (1,)


class TurnBased:
    agent_iter = possible_agents = ()


class Unlike(identified.Parallel):
    def action_space(self, agent):
        return spaces.Discrete(2 + int(agent[-1]))


@pytest.mark.parametrize("env, message", [
    (TurnBased(), r"turn-based PettingZoo environment; wrap it in .*aec_to_parallel"),
    (Unlike(), "agent 'agent1' has the action space Discrete\\(3\\) but agent 'agent0' has Discrete\\(2\\)"),
    (5, "it is a int; return a Gymnasium environment"),
])
def test_what_cannot_be_emulated_is_refused(env, message):
    with pytest.raises(InputError, match=message):
        emulation.emulate(env, None, 0)


@pytest.mark.parametrize("kind, space, message", [
    ("observation", spaces.Text(5), "observation space Text has no fixed size"),
    ("observation", spaces.Dict({"a": spaces.Sequence(spaces.Discrete(2))}), "Sequence has .*, or leave 'a' out"),
    ("observation", spaces.Dict({}), "observation space is empty"),
    ("action", spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(0, 1)}), "action space .* is not supported"),
    ("action", spaces.Box(0, 65_535, (2,), np.uint16), "action space .* is not supported"),
    ("action", spaces.Box(0, 5000 + np.arange(90), dtype=np.int32), "action space .* is not supported"),
])
def test_spaces_that_cannot_be_rows_are_refused(kind, space, message):
    env = identified.Gymnasium()
    setattr(env, f"{kind}_space", space)
    with pytest.raises(InputError, match=message) as error:
        emulation.emulate(env, None, 0)
    assert "\n" not in str(error.value)


def test_vectors_are_refused():
    closed = []

    class Steps(DummyVecEnv):
        def close(self):
            closed.append(self)

    for vector in (gymnasium.make_vec("CartPole-v1", 2, "sync"), Steps([lambda: gymnasium.make("CartPole-v1")])):
        with pytest.raises(InputError, match=r"it is a vector of environments, a .*; return a single one"):
            emulation.emulate(vector, None, 0)
    assert len(closed) == 1


def test_a_real_parallel_environment_of_pettingzoo():
    pettingzoo = pytest.importorskip("pettingzoo")

    class Guess(pettingzoo.ParallelEnv):
        metadata: dict = {}  # noqa: RUF012
        possible_agents = ["left", "right"]  # noqa: RUF012

        def observation_space(self, agent):
            return spaces.Discrete(4)

        def action_space(self, agent):
            return spaces.Discrete(4)

        def reset(self, seed=None, options=None):
            self.agents, self.step_ = list(self.possible_agents), 0
            return dict.fromkeys(self.agents, 0), {agent: {} for agent in self.agents}

        def step(self, actions):
            self.step_ += 1
            observations, over = {a: actions[a] for a in self.agents}, dict.fromkeys(self.agents, self.step_ == 3)
            if self.step_ == 3:
                self.agents = []
            return observations, over, dict.fromkeys(over, False), over, {agent: {} for agent in over}

    env = emulation.emulate(Guess(), None, 0)
    env.reset(1)
    for _ in range(3):
        env.step(np.array([1, 3], np.int32))
    assert np.array_equal(env.observations, [[1], [3]]) and np.array_equal(env.rewards, [1, 1])
    assert env.truncations.all() and not env.terminals.any() and env.masks.all() and env.done


def test_observations_of_another_shape_are_refused():
    class Liar(gymnasium.Wrapper):
        def reset(self, **kwargs):
            return np.zeros(3, np.float32), {}

    env = emulation.emulate(Liar(identified.Gymnasium()), None, 0)
    with pytest.raises(InputError, match=r"has shape \(3,\) but its space declares \(4,\)"):
        env.reset(SEED)
