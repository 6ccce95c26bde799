"""What every folder under envs/ must keep to; a new environment is tested without another line here.

One that is elsewhere is tested by `pytest tests/envs/test_contract.py --env path/to/my_env`.
"""

import functools
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Batch, Starts
from puffer_il.envkit.check.child import write_input
from puffer_il.envkit.check.findings import check_run
from puffer_il.envkit.check.program import build_object, build_program, run_program
from puffer_il.envkit.check.results import Checks
from puffer_il.envkit.check.sanitizers import check_sanitizers
from puffer_il.native.envdata import open_env
from puffer_il.native.envfile import read_env
from puffer_il.native.gymnasium_env import GymnasiumEnv, GymnasiumVectorEnv
from puffer_il.native.native_env import NativeEnv
from puffer_il.native.pufferlib import pufferlib
from puffer_il.native.vec_api import BUFFERS, VecEnv
from puffer_il.vector.vec import make_vec
from tests.support.environments import FOLDERS, random_actions, record, same_bytes

STEPS = 60


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given = {Path(path).name: Path(path).resolve() for path in metafunc.config.getoption("--env")}
    metafunc.parametrize("folder", (given or FOLDERS).values(), ids=given or FOLDERS)


@functools.cache
def missing(folder: Path) -> str:
    """What must be installed before the environment can be made, or nothing."""
    try:
        NativeEnv(folder)
    except InputError as error:
        if "pip install" in str(error):
            return str(error)
        raise
    return ""


@pytest.fixture(autouse=True)
def can_be_made(folder: Path) -> None:
    """Skips, saying so, where the package that an environment is made of is not installed."""
    if missing(folder):
        pytest.skip(missing(folder))


def make(folder: Path, num_envs: int = 8, seed: int = 1, **options) -> NativeEnv:
    env = NativeEnv(folder, num_envs, seed=seed, **options)
    env.reset()
    return env


def short(folder: Path, limit: int = 9) -> dict[str, int]:
    """A time limit that a short test meets, where the environment has one at all."""
    return {"max_episode_steps": limit} if read_env(folder).autoreset else {}


def test_describes_itself(folder: Path):
    env = read_env(folder)
    assert env.description and env.source
    assert not env.gymnasium_id or env.gymnasium_id in gymnasium.registry


def test_arrays_and_bounds(folder: Path):
    env = make(folder, **short(folder, 150))
    n = 8 * env.env_file.agents
    assert env.num_agents == n
    assert env.observations.shape == (n, *env.single_observation_space.shape) == env.final_observations.shape
    assert env.observations.dtype == env.single_observation_space.dtype
    assert env.actions.dtype == (np.int32 if env.env_file.action.nvec else np.float32)
    assert [getattr(env, name).dtype for name in ("rewards", "terminals", "masks")] == [np.float32, bool, bool]
    for actions in random_actions(env, 400):
        obs, rewards, terminals, truncations, infos = env.step(actions)
        assert np.isfinite(rewards).all() and infos == []
        for seen in (*obs, *env.final_observations[terminals | truncations]):
            assert env.single_observation_space.contains(seen)


def test_observations_vary(folder: Path):
    seen = record(make(folder), random_actions(make(folder), STEPS))["observations"]
    assert (seen != seen[0]).any(axis=0).all(axis=0).any()  # some element changes in every environment
    assert (seen[0] != seen[0, 0]).any()  # and they do not all start alike


def test_same_seed_same_bytes(folder: Path):
    actions = random_actions(make(folder), STEPS)
    env = NativeEnv(folder, 8, seed=1, **short(folder))
    clocks = env._clocks.reshape(8, -1)  # the generator comes first
    seeded = clocks[:, :16].copy()
    env.reset()
    first = record(env, actions)
    draws = bool((clocks[:, :16] != seeded).any())  # some have no chance in them
    assert same_bytes(first, record(make(folder, **short(folder)), actions))
    assert same_bytes(first, record(make(folder, seed=2, **short(folder)), actions)) != draws
    used = make(folder, seed=7, **short(folder))
    record(used, actions[::-1])
    used.reset(1)
    assert same_bytes(first, record(used, actions))


@pytest.mark.parametrize("split", [(1,) * 8, (3, 5), (4, 4)])
def test_does_not_matter_how_a_batch_is_split(folder: Path, split: tuple[int, ...]):
    agents = read_env(folder).agents
    actions = random_actions(make(folder), STEPS)
    whole = record(make(folder, **short(folder)), actions)
    parts, start = [], 0
    for size in split:
        part = make(folder, size, seed=9, first_env=start, **short(folder))
        part.reset(1)
        parts.append(record(part, actions[:, start * agents:(start + size) * agents]))
        start += size
    assert same_bytes(whole, {name: np.concatenate([part[name] for part in parts], axis=1) for name in whole})


def test_c_callers_may_step_ranges_into_other_buffers(folder: Path):
    whole, pieces = make(folder, **short(folder)), make(folder, **short(folder))
    elsewhere = {name: getattr(pieces, name).copy() for name in BUFFERS}  # only what changes may be written
    moved = VecEnv.from_buffer_copy(pieces._vec)
    for name, array in elsewhere.items():
        setattr(moved, name, array.ctypes.data)
    for actions in random_actions(whole, STEPS):
        whole.step(actions)
        elsewhere["actions"][:] = actions
        for lo, hi in ((5, 8), (0, 2), (2, 5), (3, 3)):
            pieces._api.step(moved, lo, hi)
        for name, array in elsewhere.items():
            assert array.tobytes() == getattr(whole, name).tobytes()


def test_time_limit_truncates_and_terminations_come_apart(folder: Path):
    if not read_env(folder).autoreset:
        pytest.skip("its agents restart by themselves")
    limit, agents = 7, read_env(folder).agents
    env = make(folder, 64, max_episode_steps=limit)
    steps = record(env, random_actions(env, 40))
    assert steps["truncations"].any()
    assert not (steps["terminals"] & steps["truncations"]).any()
    age, ended = np.zeros(64, int), np.zeros((64, agents), bool)
    for now, masks in zip(steps["terminals"] | steps["truncations"], steps["masks"], strict=True):
        assert (masks.reshape(64, agents) == ~ended).all()  # absent from the step after its end
        assert not (now.reshape(64, agents) & ended).any()  # nobody ends twice
        ended |= now.reshape(64, agents)
        age += 1
        over = ended.all(axis=1)
        assert over[age == limit].all()
        age[over], ended[over] = 0, False


def test_final_observation_is_the_true_successor(folder: Path):
    """The same environments without the limit go on to what the truncated ones saw last."""
    if not read_env(folder).autoreset:
        pytest.skip("its agents restart by themselves")
    limit = 5
    cut, free = make(folder, 64, max_episode_steps=limit), make(folder, 64, max_episode_steps=0)
    actions = random_actions(cut, limit)
    a, b = record(cut, actions), record(free, actions)
    rows = a["truncations"][-1] & ~(b["terminals"] | b["truncations"]).any(axis=0)
    assert rows.any()
    assert a["final_observations"][-1][rows].tobytes() == b["observations"][-1][rows].tobytes()
    assert a["rewards"][:, rows].tobytes() == b["rewards"][:, rows].tobytes()
    assert a["observations"][-1][rows].tobytes() == free.reset()[0][rows].tobytes()  # and begin anew at once


def test_final_observations_of_others_are_left_alone(folder: Path):
    env = make(folder, 64, **short(folder))
    for actions in random_actions(env, STEPS):
        before = env.final_observations.copy()
        env.step(actions)
        going = ~(env.terminals | env.truncations)
        assert env.final_observations[going].tobytes() == before[going].tobytes()


def test_saved_state_goes_on_exactly(folder: Path):
    env = make(folder, **short(folder))
    record(env, random_actions(env, 25, seed=1))
    saved, obs = env.get_state(), env.observations.copy()
    actions = random_actions(env, STEPS, seed=2)
    expected = record(env, actions)
    assert saved.dtype == np.uint8 and saved.ndim == 1
    other = NativeEnv(folder, 8, seed=99, **short(folder))  # never reset
    for restored in (env, other):
        restored.set_state(saved)
        assert restored.observations.tobytes() == obs.tobytes()
        assert same_bytes(expected, record(restored, actions))
    with pytest.raises(ValueError, match=r"uint8 \(\d+,\), but 8 environments need uint8 \(\d+,\)"):
        env.set_state(saved[:-1])


def test_episodes_begin_in_states_that_were_given(folder: Path):
    env = make(folder, **short(folder))
    if not env.state_size or not env.env_file.autoreset:
        pytest.skip("cannot be put into a state, or begins episodes by itself")
    record(env, random_actions(env, 25, seed=1))
    states, there = env.env_states(), make(folder, 1)
    others = make(folder, 32, seed=3, **short(folder))
    others.begin_in(Starts(states, 1.0))
    others.reset()
    found = others.env_states()
    which = [next(i for i, state in enumerate(states) if state.tobytes() == begun.tobytes()) for begun in found]
    assert len(set(which)) > 1 or len(np.unique(states, axis=0)) == 1
    for i, begun in enumerate(found):
        there.set_env_states(begun[None])
        agents = slice(i * env.env_file.agents, (i + 1) * env.env_file.agents)
        assert there.observations.tobytes() == others.observations[agents].tobytes()


def test_writes_only_where_it_may(folder: Path):
    """Its buffers are parts of larger ones, whose other bytes must keep their pattern."""
    plain = make(folder, **short(folder))
    guarded, views = {}, {}
    for name in BUFFERS:
        array = getattr(plain, name)
        guarded[name] = np.full(array.nbytes + 128, 0xA5, np.uint8)
        views[name] = guarded[name][64:-64].view(array.dtype).reshape(array.shape)
    env = make(folder, buf=views, **short(folder))
    actions = random_actions(env, STEPS)
    assert same_bytes(record(plain, actions), record(env, actions))
    for array in guarded.values():
        assert (array[:64] == 0xA5).all() and (array[-64:] == 0xA5).all()


def test_actions_out_of_range_act_as_if_clipped(folder: Path):
    """Nothing but the reward tells them apart, which can only be lower, and in one environment the last bit."""
    space = read_env(folder).action
    a, b = make(folder, **short(folder)), make(folder, **short(folder))
    shape = (STEPS, *a.actions.shape)
    rng = np.random.default_rng(0)
    if space.nvec:
        wild = rng.choice(np.array([-2**31, -1, 0, 2**31 - 1, max(space.nvec)], np.int32), shape)
        tame = np.clip(wild, 0, np.array(space.nvec).reshape(space.shape) - 1).astype(np.int32)
    else:
        wild = rng.choice(np.array([-np.inf, -1e30, np.nan, 1e30, np.inf], np.float32), shape)
        low, high = a.single_action_space.low, a.single_action_space.high
        tame = np.where(np.isnan(wild), low, np.clip(wild, low, high))
    theirs, ours = record(a, wild), record(b, tame)
    assert (theirs.pop("rewards") <= ours.pop("rewards")).all()
    for name, values in theirs.items():
        np.testing.assert_allclose(values, ours[name], rtol=1e-5 * (folder.name == "mountaincarcontinuous"))


def test_parameters_are_checked(folder: Path):
    for parameter in read_env(folder).parameters:
        with pytest.raises(InputError, match=parameter.name) as error:
            NativeEnv(folder, **{parameter.name: []})
        assert "\n" not in str(error.value)
        with pytest.raises(InputError, match=f"did you mean '{parameter.name}'"):
            NativeEnv(folder, **{parameter.name + "_x": 1})


def copied(batch: Batch) -> bytes:
    """All of a step that must agree."""
    ended = batch.terminations | batch.truncations
    return b"".join(np.ascontiguousarray(array).tobytes() for array in (
        batch.obs, batch.rewards, batch.valid, batch.terminations, batch.truncations, batch.final_obs[ended]))


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_workers_give_the_same_rows(folder: Path, workers: int):
    agents = read_env(folder).agents
    actions = random_actions(make(folder), STEPS).reshape(STEPS, 8 * agents, -1)
    rows = []
    for backend, count in (("native", 0), ("multiprocessing", workers)):
        with make_vec(str(folder), num_envs=8 * agents, backend=backend, num_workers=count,
                      kwargs=short(folder)) as vec:
            vec.reset(5)
            rows.append([copied(vec.step(row)) for row in actions])
    assert rows[0] == rows[1]


def test_threads_give_the_same_bytes(folder: Path):
    actions = random_actions(make(folder, 64), STEPS)
    alone = record(make(folder, 64, **short(folder)), actions)
    assert same_bytes(alone, record(make(folder, 64, threads=3, **short(folder)), actions))


def test_expert_acts_within_the_space_and_changes_nothing(folder: Path):
    env, unasked = make(folder, **short(folder, 40)), make(folder, **short(folder, 40))
    if env.expert_actions() is None:
        pytest.skip("no c_expert")
    for _ in range(STEPS):
        before = env.env_states().tobytes(), env.observations.tobytes()
        actions = env.expert_actions()
        assert (env.env_states().tobytes(), env.observations.tobytes()) == before
        assert all(env.single_action_space.contains(action) for action in actions)
        env.step(actions)
        unasked.step(actions)
        assert env.observations.tobytes() == unasked.observations.tobytes()


def test_states_can_be_read_and_set_one_by_one(folder: Path):
    """An environment that is put into another's state goes on like it, until generators come in."""
    limit = short(folder, 0)
    env = make(folder, **limit)
    if not env.state_size:
        pytest.skip("no c_get_state and c_set_state")
    record(env, random_actions(env, 5, seed=1))
    states, obs = env.env_states(), env.observations.copy()
    other = make(folder, seed=9, **limit)
    other.set_env_states(states)
    assert other.env_states().tobytes() == states.tobytes()
    assert other.observations.tobytes() == obs.tobytes()
    other._clocks[:] = env._clocks  # generators
    actions = random_actions(env, STEPS, seed=2)
    assert same_bytes(record(env, actions), record(other, actions))
    agents = env.env_file.agents
    other.set_env_states(states[:2], np.array([3, 1]))  # some of them, in any order
    assert other.observations[3 * agents:4 * agents].tobytes() == obs[:agents].tobytes()
    assert other.observations[agents:2 * agents].tobytes() == obs[agents:2 * agents].tobytes()


def test_pictures_show_something_and_change_nothing(folder: Path):
    env, unseen = make(folder), make(folder)
    if not env.env_file.render[0]:
        pytest.skip("no c_render")
    pictures = []
    for actions in random_actions(env, STEPS):
        pictures.append(env.render(1))
        assert pictures[-1].shape == (env.env_file.render[1], env.env_file.render[0], 3)
        env.step(actions)
        unseen.step(actions)
    assert env.get_state().tobytes() == unseen.get_state().tobytes()
    assert all(len(np.unique(picture.reshape(-1, 3), axis=0)) > 2 for picture in pictures[::20])
    assert len({picture.tobytes() for picture in pictures}) > 1


@pytest.mark.parametrize("backend", ["PufferEnv", "Serial"])
def test_pufferlib_steps_it(folder: Path, backend: str):
    vector = pufferlib.vector
    copies = 1 if backend == "PufferEnv" else 2
    vec = vector.make(NativeEnv, env_args=[folder], env_kwargs={"num_envs": 4}, num_envs=copies,
                      backend=vector.PufferEnv if backend == "PufferEnv" else backend)
    obs, infos = vec.reset(seed=3)
    own = [make(folder, 4, seed=3 + i) for i in range(copies)]  # PufferLib's own numbering of seeds
    assert obs.tobytes() == b"".join(env.observations.tobytes() for env in own) and not infos
    actions = np.concatenate([random_actions(env, 20, seed=i) for i, env in enumerate(own)], axis=1)
    for row in actions:
        obs, rewards, *_ = vec.step(row)
        for env, part in zip(own, np.split(row, copies), strict=True):
            env.step(part)
        assert obs.tobytes() == b"".join(env.observations.tobytes() for env in own)
        assert rewards.tobytes() == b"".join(env.rewards.tobytes() for env in own)
    vec.close()


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # advice about symmetric or unbounded spaces
def test_gymnasium_accepts_one_environment(folder: Path):
    if read_env(folder).agents > 1:
        with pytest.raises(InputError, match="agents"):
            GymnasiumEnv(folder)
        return
    check_env(GymnasiumEnv(folder), skip_render_check=True)
    env, batch = GymnasiumEnv(folder, **short(folder)), make(folder, 1, seed=5, **short(folder))
    obs, info = env.reset(seed=5)
    assert np.array_equal(np.ravel(obs), batch.observations[0].ravel()) and info == {}
    for actions in random_actions(batch, 20):
        obs, reward, terminated, truncated, _ = env.step(actions[0])
        batch.step(actions)
        ended = batch.terminals[0] or batch.truncations[0]
        expected = batch.final_observations if ended else batch.observations
        assert np.array_equal(np.ravel(obs), expected[0].ravel()) and reward == batch.rewards[0]
        assert (terminated, truncated) == (batch.terminals[0], batch.truncations[0])


def test_gymnasiums_own_vector_gives_the_same(folder: Path):
    """Observations, ends, infos of 3 environments that are reset in the same step, and after other resets."""
    if read_env(folder).agents > 1:
        with pytest.raises(InputError, match="agents"):
            GymnasiumVectorEnv(folder, 2)
        return
    ours = GymnasiumVectorEnv(folder, 3, **short(folder))
    theirs = SyncVectorEnv([lambda: GymnasiumEnv(folder, **short(folder))] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    mask = np.array([True, False, True])
    ends = 0
    for seed, options in ((7, None), (None, None), ([1, None, 3], None), (9, {"reset_mask": mask})):
        both = [vec.reset(seed=seed, options=options and options.copy()) for vec in (ours, theirs)]
        assert data_equivalence(*both, exact=True)
        for actions in random_actions(ours._env, STEPS):
            both = [vec.step(actions) for vec in (ours, theirs)]
            assert data_equivalence(*both, exact=True)
            ends += len(both[0][4])
    assert ends
    ours.close()
    theirs.close()


def test_compilers_and_sanitizers_find_nothing(folder: Path, tmp_path: Path):
    """What `env check` sees when it steps the environment in C with random, extreme and wild actions."""
    write_input(folder, short(folder), tmp_path / "input")
    env, checks = read_env(folder, open_env(folder, short(folder))[1]), Checks()
    built, told = build_object(env, tmp_path)
    assert built is not None and not told
    program, told = build_program(env, "sanitized", tmp_path)
    assert program is not None, told
    run = run_program(program, "sanitized", tmp_path / "input", tmp_path, 0.3, 3.0)
    check_sanitizers(env, run, checks)
    check_run(env, {"sanitized": run}, checks)
    assert run.code == 0
    assert not [finding for check in checks.values() for finding in check.findings if finding.fatal]
    crafted = run_program(program, "sanitized", tmp_path / "input", tmp_path, 0.3, 3.0, "-crafted", "crafted")
    assert crafted.code == 0 and "runtime error" not in crafted.log, crafted.log[:3000] + str(crafted.records)
