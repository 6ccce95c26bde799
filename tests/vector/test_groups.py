"""Groups of environments in this process, beside the same in one piece."""

from __future__ import annotations

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.vector.vec import Vec, make_vec
from tests.support.identified import SEED
from tests.vector.test_vec import FINAL, GYMNASIUM, check

KINDS = {"C": ("cartpole", {"max_episode_steps": 9}), "Gymnasium": ("CartPole-v1", {"max_episode_steps": 9})}


def make(kind: str, groups: int, num_envs: int = 6) -> Vec:
    name, kwargs = KINDS[kind]
    return make_vec(name, num_envs=num_envs, num_groups=groups, groups_here=True, kwargs=kwargs, resumable=True,
                    backend="native" if kind == "C" else "serial")


def steps(vec: Vec, count: int, seed: int = 0) -> list[np.ndarray]:
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        batch = vec.step(rng.integers(0, 2, (vec.num_envs, 1), dtype=np.int32))
        found.append(np.concatenate([vec.obs.reshape(vec.num_envs, -1), batch.rewards[:, None],
                                     batch.terminations[:, None], batch.valid[:, None]], 1))
    return found


@pytest.mark.parametrize("name", [GYMNASIUM, FINAL])
@pytest.mark.parametrize("groups", [2, 3])
def test_rows_keep_the_contract(name, groups):
    with make_vec(name, num_envs=6, backend="serial", num_groups=groups, groups_here=True) as vec:
        assert len(vec.groups) == groups and vec.native_batch() is None
        check(vec)
        check(vec, group_order=range(groups)[::-1])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_depend_on_the_groups(kind):
    found = []
    for groups in (1, 2, 3):
        with make(kind, groups) as vec:
            vec.reset(SEED)
            found.append(steps(vec, 30))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_gone_on_from(kind):
    with make(kind, 2) as vec, make(kind, 2) as other, make(kind, 3) as third:
        vec.reset(SEED)
        steps(vec, 7)
        state = vec.get_state()
        expected = steps(vec, 20, seed=1)
        assert other.set_state(state) and np.array_equal(steps(other, 20, seed=1), expected)
        if kind == "C":  # whose state is of one size
            with pytest.raises(InputError, match=r"keep .* and env\.num_groups"):
                third.set_state(state)
        else:
            assert not third.set_state(state) and third.began_anew == "it is not of 3 groups"


@pytest.mark.parametrize(("options", "message"), [
    ({"num_groups": 4}, "env.num_groups = 4 does not divide 6 environments; use 3 or 6"),
    ({"num_groups": 2, "groups_here": False}, "env.num_groups = 2: groups are groups of workers but the backend is"),
])
def test_what_cannot_be_cut_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        make_vec("cartpole", num_envs=6, backend="native", **{"groups_here": True} | options)
