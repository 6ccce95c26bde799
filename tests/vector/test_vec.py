"""The row contract, with environments whose every cell says where it comes from, over all backends and splits."""

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.vector.vec import make_vec
from tests.support.identified import SEED, code, end, length

PLACE = "tests.support.identified:"
GYMNASIUM, PUFFER, FINAL = PLACE + "Gymnasium", PLACE + "Puffer", PLACE + "PufferWithFinal"
SERIAL = {"backend": "serial"}
ONE, TWO, FOUR = ({"backend": "multiprocessing", "num_workers": n} for n in (1, 2, 4))
SPLITS = {"serial": SERIAL, "native": {"backend": "native"}, "1 worker": ONE, "2 workers": TWO, "4 workers": FOUR,
          "2 groups": FOUR | {"num_groups": 2}, "4 groups": FOUR | {"num_groups": 4}}
EMULATED = [split for split in SPLITS if split != "native"]


class Expected:
    """One environment of `identified`, told step by step as the row contract wants it."""

    def __init__(self, index, same_step):
        self.index, self.same_step, self.episode, self.step, self.over = index, same_step, 0, 0, False

    def obs(self, echo=0.0):
        return [self.index, self.episode, self.step, echo]

    def advance(self, echo):
        """(obs, reward, termination, truncation, valid, final observation or None, finished (return, length))."""
        if self.over:
            self.episode, self.step, self.over = self.episode + 1, 0, False
            return self.obs(), 0.0, False, False, False, None, None
        reward = code(self.index, self.episode, self.step)
        self.step += 1
        if self.step < length(self.index, self.episode):
            return self.obs(echo), reward, False, False, True, None, None
        termination, truncation = end(self.index, self.episode)
        truncation &= not termination
        final = self.obs(echo)
        finished = sum(code(self.index, self.episode, t) for t in range(self.step)), self.step
        if self.same_step:
            self.episode, self.step = self.episode + 1, 0
            return self.obs(), reward, termination, truncation, True, final, finished
        self.over = True
        return final, reward, termination, truncation, True, final, finished


def check(vec, steps=30, group_order=None):
    """Step with random actions and compare every cell of every batch."""
    same_step = not vec.spec.name.startswith(GYMNASIUM)
    models = [Expected(i, same_step) for i in range(vec.num_envs)]
    rng = np.random.default_rng(0)
    assert np.array_equal(vec.reset(SEED), [model.obs() for model in models])
    for _ in range(steps):
        actions = rng.integers(0, 5, (vec.num_envs, 1), dtype=np.int32)
        for group, rows in enumerate(vec.groups):
            vec.send(actions[rows], group)
        for group in group_order or range(len(vec.groups)):
            batch, rows = vec.recv(group), vec.groups[group]
            assert batch.rows == rows
            told = [models[i].advance(float(actions[i, 0])) for i in range(rows.start, rows.stop)]
            for column, name in enumerate(("obs", "rewards", "terminations", "truncations", "valid")):
                assert np.array_equal(getattr(batch, name), [row[column] for row in told]), name
            for final, row in zip((row[5] for row in told), batch.final_obs, strict=True):
                assert final is None or np.array_equal(row, final)
            finished = [row[6] for row in told if row[6]]
            assert list(zip(batch.episode_returns, batch.episode_lengths, strict=True)) == finished
            assert batch.rewards.dtype == np.float32 and batch.terminations.dtype == bool
    assert np.array_equal(vec.obs[:, 1], [model.episode for model in models])


@pytest.mark.parametrize("split", EMULATED)
def test_rows_of_gymnasium(split):
    with make_vec(GYMNASIUM, num_envs=12, **SPLITS[split]) as vec:
        check(vec, group_order=range(len(vec.groups))[::-1])
        check(vec, 5)  # a second reset begins anew


@pytest.mark.parametrize("split", SPLITS)
def test_rows_of_a_puffer_env(split):
    with make_vec(FINAL, num_envs=12, **SPLITS[split]) as vec:
        assert not vec.notices
        check(vec)


@pytest.mark.parametrize("name", [PLACE + "PufferSingle", PLACE + "puffer_without_buf"])
@pytest.mark.parametrize("split", ["serial", "2 workers"])
def test_puffer_envs_of_one_environment_and_those_with_arrays_of_their_own(name, split):
    with make_vec(name, num_envs=6, **SPLITS[split]) as vec:
        check(vec)


@pytest.mark.parametrize("split", ["serial", "native", "2 groups"])
def test_without_final_observations_the_last_one_acted_on_stands_in(split):
    with make_vec(PUFFER, num_envs=4, **SPLITS[split]) as vec:
        assert len(vec.notices) == 1 and "final_observations" in vec.notices[0]
        before, ends = vec.reset(SEED).copy(), 0
        for _ in range(12):
            batch = vec.step(np.ones((4, 1), np.int32))
            for i in np.flatnonzero(batch.terminations | batch.truncations):
                assert np.array_equal(batch.final_obs[i], before[i])
                ends += 1
            before = batch.obs.copy()
        assert ends > 8


def test_step_joins_the_groups():
    with (make_vec(GYMNASIUM, num_envs=8, **SPLITS["2 groups"]) as grouped,
          make_vec(GYMNASIUM, num_envs=8, **SERIAL) as vec):
        assert len(grouped.groups) == 2
        assert np.array_equal(grouped.reset(SEED), vec.reset(SEED))
        for _ in range(10):
            ours, theirs = (v.step(np.full((8, 1), 2, np.int32)) for v in (grouped, vec))
            for name in ("rows", "obs", "rewards", "terminations", "truncations", "valid", "episode_returns",
                         "episode_lengths"):
                assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize("split", ["serial", "1 worker", "2 workers", "4 workers"])
def test_agents_that_come_and_go(split):
    """Agent 2 arrives in step 1 and is cut in step 4, agent 0 dies in step 2, agent 1 in 3, in odd episodes unseen."""
    with make_vec(PLACE + "Parallel", num_envs=12, **SPLITS[split]) as vec:
        assert vec.spec.num_agents == 3
        obs = vec.reset(SEED)
        assert np.array_equal(obs[:3], [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
        for episode in range(4):
            for step in range(4):
                batch = vec.step(np.full((12, 1), 3, np.int32))
                valid = [step < 2, step < 3, step > 0]
                unseen = episode % 2 and step == 2
                for agent in range(3):
                    rows = np.arange(agent, 12, 3)
                    assert (batch.valid[rows] == valid[agent]).all(), (episode, step, agent)
                    lost = agent == 1 and unseen
                    reward = [code(row, episode, step) * valid[agent] * (not lost) for row in rows]
                    assert np.array_equal(batch.rewards[rows], reward)
                    assert (batch.terminations[rows] == (step == agent + 1 and agent < 2)).all()
                    assert (batch.truncations[rows] == (step == 3 and agent == 2)).all()
                    seen = [row if not lost else 0 for row in rows]
                    if valid[agent]:
                        assert np.array_equal(batch.final_obs[rows, 0], seen)
                        assert np.array_equal(batch.obs[rows, 0], seen)
                assert len(batch.episode_returns) == (4 if step > 0 else 0)
                assert (batch.episode_lengths == {0: 0, 1: 2, 2: 3, 3: 3}[step]).all()
            batch = vec.step(np.zeros((12, 1), np.int32))  # the next episode begins
            assert not batch.valid.any() and not batch.rewards.any()
            assert not (batch.terminations | batch.truncations).any()
            assert np.array_equal(batch.obs[:, 1], [episode + 1, episode + 1, 0] * 4)


def test_an_episode_that_ends_without_a_flag_is_a_termination():
    with make_vec(PLACE + "Parallel", num_envs=3, backend="serial", kwargs={"silent": True}) as vec:
        vec.reset(SEED)
        batches = [vec.step(np.zeros((3, 1), np.int32)) for _ in range(4)]
        assert np.array_equal(batches[-1].terminations, [False, False, True]) and not batches[-1].truncations.any()
        assert np.array_equal(batches[-1].final_obs[2], [2, 0, 4, 0])
        assert not vec.step(np.zeros((3, 1), np.int32)).valid.any()


@pytest.mark.parametrize("name, kwargs", [("CartPole-v1", {}), ("cartpole", {}), (GYMNASIUM, {"observation": "dict"})])
def test_same_seed_same_bytes_for_any_split(name, kwargs):
    def bytes_of(split, seed=3):
        with make_vec(name, num_envs=8, kwargs=kwargs, **SPLITS[split]) as vec:
            if name == GYMNASIUM:
                seed = SEED
            rng = np.random.default_rng(1)
            rows = [vec.reset(seed).tobytes()]
            for _ in range(40):
                batch = vec.step(rng.integers(0, 2, (8, 1), dtype=np.int32))
                ended = batch.terminations | batch.truncations
                rows += [array.tobytes() for array in (batch.obs, batch.rewards, ended, batch.valid,
                                                       batch.final_obs[ended], batch.episode_returns)]
            return b"".join(rows)

    reference = bytes_of("serial")
    for split in ["1 worker", "2 workers", "4 groups", *(["native"] if name == "cartpole" else [])]:
        assert bytes_of(split) == reference, split
    assert name == GYMNASIUM or bytes_of("serial", seed=4) != reference


def test_every_environment_has_a_seed_of_its_own():
    with make_vec("CartPole-v1", num_envs=64, **TWO) as vec:
        first = vec.reset(1).copy()
        assert len(np.unique(first[:, 0])) == 64
        again = vec.reset(1).copy()
        assert np.array_equal(first, again)
        assert not np.isin(vec.reset(2)[:, 0], first[:, 0]).any()


def test_workers_do_not_share_the_state_of_the_global_generators():
    with make_vec(PLACE + "Careless", num_envs=4, **TWO) as vec:
        assert len(np.unique(vec.reset(1)[:, 0])) == 4


def test_a_c_environment_goes_on_exactly_from_its_state():
    def play(vec, steps, seed):
        rng = np.random.default_rng(seed)
        batches = [vec.step(rng.integers(0, 2, (8, 1), dtype=np.int32)) for _ in range(steps)]
        return batches[-1].obs.copy(), np.concatenate([b.episode_returns for b in batches])

    for split in ("native", "serial", "2 workers"):
        with (make_vec("cartpole", num_envs=8, **SPLITS[split]) as vec,
              make_vec("cartpole", num_envs=8, **SPLITS[split]) as other):
            vec.reset(1)
            play(vec, 33, seed=1)
            assert vec.exact_state
            state = {key: array.copy() for key, array in vec.get_state().items()}
            obs, wanted = vec.obs.copy(), play(vec, 60, seed=2)
            other.reset(9)
            other.set_state(state)
            assert np.array_equal(other.obs, obs), split
            got = play(other, 60, seed=2)
            assert np.array_equal(got[0], wanted[0]) and np.array_equal(got[1], wanted[1]) and len(wanted[1]), split


def test_a_state_that_was_split_otherwise_is_refused():
    with make_vec("cartpole", num_envs=8, **TWO) as vec, make_vec("cartpole", num_envs=8) as other:
        vec.reset(1), other.reset(1)
        with pytest.raises(InputError, match=r"env\.num_workers"):
            other.set_state(vec.get_state())


def test_python_environments_go_on_with_new_episodes():
    with make_vec("CartPole-v1", num_envs=4, **SERIAL) as vec:
        assert not vec.exact_state
        first = vec.reset(1).copy()
        vec.step(np.zeros((4, 1), np.int32))
        state = vec.get_state()
        seen = [first]
        for _ in range(2):  # resumed twice from the same checkpoint: the same; from a later one: other episodes
            vec.set_state(state)
            assert not np.isin(vec.obs, first).any()
            seen.append(vec.obs.copy())
        assert np.array_equal(seen[1], seen[2])
        vec.set_state(vec.get_state())
        assert not np.isin(vec.obs, seen[1]).any()
        batch = [vec.step(np.zeros((4, 1), np.int32)) for _ in range(12)][-1]
        assert batch.obs.shape == (4, 4)


@pytest.mark.parametrize("split", ["serial", "2 workers"])
def test_actions_are_clipped_into_a_copy(split):
    with make_vec(GYMNASIUM, num_envs=4, kwargs={"action": "box"}, **SPLITS[split]) as vec:
        vec.reset(SEED)
        actions = np.array([[0.5, -7], [np.inf, 0], [-np.inf, 1], [0.25, 0.25]], np.float32)
        sent = actions.copy()
        batch = vec.step(sent)
        assert np.array_equal(sent, actions)
        assert np.array_equal(batch.obs[:, 3], [-0.5, 1, 0, 0.5])


def test_misuse_is_told():
    with make_vec(GYMNASIUM, num_envs=4, **SERIAL) as vec:
        with pytest.raises(RuntimeError, match="reset"):
            vec.send(np.zeros((4, 1), np.int32))
        vec.reset(SEED)
        with pytest.raises(RuntimeError, match="not been sent"):
            vec.recv()
        with pytest.raises(ValueError, match=r"\(4,\).*\(4, 1\)"):
            vec.send(np.zeros(4, np.int32))
        with pytest.raises(TypeError):
            vec.send(np.zeros((4, 1), np.float32))
        vec.send(np.zeros((4, 1), np.int64))
        with pytest.raises(RuntimeError, match="already"):
            vec.send(np.zeros((4, 1), np.int32))


@pytest.mark.parametrize("settings, message", [
    ({"num_envs": 12, "num_workers": 5}, "env.num_workers = 5 does not divide 12 environments; use 4 or 6"),
    ({"num_envs": 4, "num_workers": 9}, "env.num_workers = 9 does not divide 4 environments; use 4"),
    ({"num_envs": 12, "num_workers": 4, "num_groups": 3}, "env.num_groups = 3 does not divide 4 workers; use 2 or 4"),
    ({"num_envs": 4, "backend": "serial", "num_groups": 2}, "env.num_groups = 2: .* the backend is serial"),
    ({"num_envs": 4, "backend": "serial", "num_workers": 2}, "env.num_workers = 2: the serial backend has no workers"),
    ({"num_envs": 4, "backend": "native"}, "env.backend = 'native': .* does not step 4 environments by itself"),
    ({"num_envs": 4, "backend": "ray"}, "env.backend = 'ray': choose one of auto, native"),
    ({"num_envs": 0}, "env.num_envs = 0: .*; use 1"),
])
def test_impossible_splits_name_the_remedy(settings, message):
    with pytest.raises(InputError, match=message):
        make_vec(GYMNASIUM, **settings)


def test_a_c_batch_can_be_stepped_by_others_between_two_steps():
    with make_vec("cartpole", num_envs=6, num_workers=0) as vec:
        assert vec.native_batch() is None  # nothing has begun
        vec.reset(1)
        batch = vec.native_batch()
        assert batch.vec and batch.step and batch.agents == 1 and batch.owner.num_envs == 6
        assert batch.returns.shape == batch.lengths.shape == (6,)
        vec.send(np.zeros((6, 1), np.int32))
        assert vec.native_batch() is None  # a step is under way
        vec.recv()
        assert vec.native_batch().returns is batch.returns and (batch.lengths == 1).all()
    for settings in ({"backend": "multiprocessing", "num_workers": 2}, {"backend": "serial"}):
        with make_vec("cartpole", num_envs=4, **settings) as vec:
            vec.reset(1)
            assert vec.native_batch() is None
    with make_vec(FINAL, num_envs=4) as vec:  # a batch, but not of C
        vec.reset(1)
        assert vec.backend == "native" and vec.native_batch() is None


def test_rows_are_agents():
    with pytest.raises(InputError, match=r"env\.num_envs = 256: must be a multiple of 3, .*; use 255 or 258"):
        make_vec(PLACE + "Parallel", num_envs=256)


def test_the_backend_is_chosen(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    for name, num_envs, settings, backend, workers in (
            ("cartpole", 64, {}, "native", 0), ("cartpole", 64, {"num_workers": 2}, "multiprocessing", 2),
            (FINAL, 64, {}, "native", 0), (PLACE + "PufferSingle", 1, {}, "native", 0),
            (GYMNASIUM, 8, {}, "serial", 0), (GYMNASIUM, 33, {}, "multiprocessing", 3),
            (GYMNASIUM, 32, {}, "multiprocessing", 4),
            (GYMNASIUM, 6, {"backend": "multiprocessing"}, "multiprocessing", 3)):
        with make_vec(name, num_envs=num_envs, **settings) as vec:
            assert (vec.backend, vec.num_workers) == (backend, workers), name
