"""Chunks of actions and disturbed experts keep to the masks: each step by what may be done when its turn comes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.core.spec import ActionSpec
from puffer_il.demos import collect
from puffer_il.learners.common.demo_rows import load_rows
from puffer_il.learners.noise_bc import disturb, fitted_noise
from puffer_il.nn import Policy
from puffer_il.nn.masks import MASKED
from puffer_il.rollout.actors import PolicyActor
from puffer_il.training.saved_run import load_policy
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import make_vec
from tests.support.runs import final_state, run
from tests.vector.test_masks import BOARD, config, recorded

CPU = torch.device("cpu")


def boards_policy(**keys):
    torch.manual_seed(0)
    policy = Policy(find_creator(BOARD).facts().spec, PolicyConfig(hidden=(16,), **keys))
    with torch.no_grad():
        for p in policy.parameters():
            p += torch.randn_like(p)
    return policy


def seen(policy, heights, mask):
    return torch.tensor(policy.spec.pack({"observation": np.float32(heights), "action_mask": np.int8(mask)})[0])


def test_a_step_of_a_chunk_is_chosen_by_the_mask_of_its_own_time():
    policy = boards_policy(chunk=3, execute=3)
    rng = np.random.default_rng(0)
    heights, masks = rng.uniform(0, 2, (6, 4)), rng.integers(0, 2, (3, 6, 4))
    masks[:, :, 1] = 1
    first, state = seen(policy, heights, masks[0]), policy.initial_state(6)
    with torch.no_grad():
        logits = policy.action_params(seen(policy, heights, np.ones((6, 4)))).reshape(6, 3, 4)
    for t in range(3):
        obs = first if t == 0 else seen(policy, rng.uniform(0, 2, (6, 4)), masks[t])  # nothing else matters then
        actions, logprobs, _, state = policy.act(obs, state, deterministic=True)
        allowed = torch.where(torch.tensor(masks[t]) > 0, logits[:, t], torch.tensor(MASKED))
        assert actions.dtype == torch.int32
        assert torch.equal(actions[:, 0].long(), allowed.argmax(1))
        torch.testing.assert_close(logprobs, allowed.log_softmax(1).max(1).values)


def test_sampled_steps_of_a_chunk_follow_the_masked_distribution():
    policy, n = boards_policy(chunk=2, execute=2), 4000
    mask = np.tile([1, 0, 1, 1], (n, 1))
    heights = np.ones((n, 4))
    with torch.no_grad():
        later = policy.action_params(seen(policy, heights[:1], [[1] * 4])).reshape(2, 4)[1]
    _, _, _, state = policy.act(seen(policy, heights, np.ones((n, 4))), policy.initial_state(n))
    actions = policy.act(seen(policy, heights, mask), state)[0][:, 0]
    wanted = torch.where(torch.tensor(mask[0]) > 0, later, torch.tensor(MASKED)).softmax(0)
    np.testing.assert_allclose(np.bincount(actions, minlength=4) / n, wanted, atol=0.03)


@pytest.mark.parametrize("length", [0, 3])
def test_cloning_counts_each_step_of_a_chunk_among_what_was_allowed_then(length):
    demos = recorded(episodes=4)
    policy = boards_policy(chunk=3, lstm=8 if length else 0)
    allowed = policy.spec.mask.of(demos.obs) != 0
    episodes = np.repeat(np.arange(demos.num_episodes), demos.lengths)
    heights = policy.spec.unpack(demos.obs)["observation"] + np.arange(len(demos))[:, None] / 1000  # that say which row
    obs = policy.spec.pack({"observation": heights, "action_mask": allowed})[0]
    data = load_rows(obs, demos.actions, None, episodes, length, CPU, 3, allowed)
    data.refresh(policy)
    params, actions, _, counts = data.evaluate(policy, np.arange(len(data)))
    rows = {row.tobytes(): k for k, row in enumerate(obs)}
    order = [rows[row.numpy().tobytes()] for row in data.chosen_obs()]
    last = np.repeat(demos.episode_ends - 1, demos.lengths)
    assert len(set(order)) == len(order) == len(params)
    for place, row in enumerate(order):
        for step in range(3):
            inside = row + step <= last[row]
            assert bool(counts[place, step]) == inside
            if inside:
                possible = (params[place].reshape(3, 4)[step] > MASKED / 2).numpy()
                np.testing.assert_array_equal(possible, allowed[row + step])
                assert possible[int(actions[place, step])]


@pytest.mark.parametrize("keys", [{"policy__execute": 3}, {"policy__execute": 3, "policy__lstm": 8},
                                  {"policy__execute": 1}])
def test_cloned_chunks_never_do_what_may_not_be_done(tmp_path, keys):
    """The environment raises an error at any other action. The expert plays the dearest column that is free, which
    chunks can do although they do not look at every step."""
    recorded(episodes=30).save(tmp_path / "d.npz")
    run(config("bc", tmp_path / "run", demos__source=str(tmp_path / "d.npz"), policy__chunk=3, policy__hidden=(32,),
               train__total_steps=6000 if "policy__lstm" in keys else 25_000, **keys))
    policy = load_policy(tmp_path / "run")[0]
    with make_vec(BOARD, num_envs=4, backend="serial") as vec:
        done = collect(vec, PolicyActor(policy, 4), 20, "policy")
    dearest = 3 - (policy.spec.mask.of(done.obs) != 0)[:, ::-1].argmax(1)
    assert (done.actions[:, 0] == dearest).mean() > 0.95


def test_a_disturbed_expert_does_what_may_be_done_as_often_as_epsilon_says():
    rng, n = np.random.default_rng(0), 40_000
    spec, actions = ActionSpec(nvec=(4, 2)), np.tile(np.int32([[3, 1]]), (n, 1))
    allowed = [np.tile([True, False, True, True], (n, 1)), np.tile([False, True], (n, 1))]
    done = disturb(actions, np.array([0.3, 0.5]), spec, rng, allowed)
    assert done.dtype == np.int32 and (done[:, 1] == 1).all() and set(done[:, 0]) == {0, 2, 3}
    np.testing.assert_allclose(np.bincount(done[:, 0], minlength=4) / n, [0.1, 0, 0.1, 0.8], atol=0.01)


def test_noise_is_fitted_to_as_many_choices_as_there_were():
    """Of rows with 2, 3 or 1 choices whose modes are random with a known rate, that rate is found again."""
    rng, n, rate = np.random.default_rng(0), 60_000, 0.3
    allowed = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 1]], bool)[rng.integers(0, 3, n)]
    labels = (rng.random(allowed.shape) * allowed).argmax(1)[:, None]
    other = (rng.random(allowed.shape) * allowed).argmax(1)[:, None]
    modes = np.where(rng.random((n, 1)) < rate, other, labels)
    assert fitted_noise(modes, labels, ActionSpec(nvec=(3,)), 0.0, [allowed])[0] == pytest.approx(rate, abs=0.01)
    assert fitted_noise(modes, labels, ActionSpec(nvec=(3,)), 0.07, [allowed]).tolist() == [0.07]
    only = np.eye(3, dtype=bool)[labels[:, 0]]
    assert fitted_noise(labels, labels, ActionSpec(nvec=(3,)), 0.0, [only]).tolist() == [0]


def test_noise_bc_learns_from_an_expert_with_masks(tmp_path):
    recorded(episodes=20).save(tmp_path / "d.npz")
    first = run(config("bc", tmp_path / "expert", demos__source=str(tmp_path / "d.npz"), train__total_steps=6000))
    made = run(config("noise_bc", tmp_path / "run", noise_bc__expert=str(tmp_path / "expert"), noise_bc__noise=0.5,
                      train__total_steps=8 * 16 * 4))
    assert first.summary["status"] == made.summary["status"] == "finished"
    assert final_state(tmp_path / "run")["learner"]["noise"].shape == (1,)
