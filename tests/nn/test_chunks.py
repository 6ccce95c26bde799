"""Chunks of actions: what is done when, what is forgotten at an episode's end, what is learned from."""

import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.nn import Noise, Policy, fused
from puffer_il.nn.chunks import Chunks, targets

BOX = ActionSpec(low=np.float32([-2, -1]), high=np.float32([2, 1]), shape=(2,))
SPACES = {"discrete": ActionSpec(nvec=(3,)), "pair": ActionSpec(nvec=(3, 2), shape=(2,)), "box": BOX}
CPU = torch.device("cpu")


def make_policy(action: ActionSpec = BOX, **keys) -> Policy:
    torch.manual_seed(0)
    policy = Policy(EnvSpec("test", (4,), np.dtype(np.float32), action), PolicyConfig(hidden=(16, 16), **keys))
    with torch.no_grad():
        for p in policy.parameters():
            p += torch.randn_like(p) / 2
    return policy


def whole_chunk(policy: Policy, obs: torch.Tensor) -> torch.Tensor:
    """(n, size, dim) the likeliest chunks."""
    with torch.no_grad():
        return policy.dist.mode(policy.action_params(obs)).reshape(len(obs), policy.chunks.size, -1)


HEADS = [("discrete", "plain"), ("pair", "plain"), ("box", "plain"), ("box", "mixture"), ("box", "flow")]


@pytest.mark.parametrize(("space", "head"), HEADS)
def test_steps_of_a_chunk_are_done_one_after_the_other_whatever_is_seen_meanwhile(space, head):
    policy = make_policy(SPACES[space], head=head, chunk=5, execute=3)
    obs, state = torch.randn(7, 6, 4), policy.initial_state(6)
    for t in range(7):
        actions, *_, state = policy.act(obs[t], state, deterministic=True)
        expected = whole_chunk(policy, obs[t - t % 3])[:, t % 3]
        assert actions.dtype == (torch.int32 if space != "box" else torch.float32)
        torch.testing.assert_close(actions, expected.to(actions.dtype))


@pytest.mark.parametrize("lstm", [0, 8])
def test_an_episodes_end_drops_the_rest_of_the_chunk_in_that_row_alone(lstm):
    policy = make_policy(chunk=4, execute=4, lstm=lstm)
    obs = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    first, state = policy.predict(obs, deterministic=True)
    _, state = policy.predict(obs + 1, state, deterministic=True)
    third, _ = policy.predict(obs, state, np.array([False, True]), deterministic=True)
    assert not np.allclose(third[0], first[0]) and np.allclose(third[1], first[1])


def test_without_a_state_every_action_is_the_first_of_a_new_chunk():
    policy, obs = make_policy(chunk=4, execute=4), np.ones((1, 4), np.float32)
    actions = [policy.predict(obs, deterministic=True)[0] for _ in range(3)]
    assert np.array_equal(actions[0], actions[1]) and np.array_equal(actions[0], actions[2])


def test_half_of_a_chunk_is_done_unless_said_otherwise():
    done = [Chunks(BOX, PolicyConfig(chunk=chunk, execute=execute)).execute
            for chunk, execute in ((1, 0), (8, 0), (5, 0), (8, 2))]
    assert done == [1, 4, 3, 2]


def test_an_ensemble_weighs_all_predictions_for_a_step_the_oldest_most():
    decay, size = 0.4, 3
    policy = make_policy(chunk=size, ensemble=decay)
    obs, state = torch.randn(6, 5, 4), policy.initial_state(5)
    chunks = [whole_chunk(policy, obs[t]) for t in range(6)]
    for t in range(6):
        if t == 4:
            state[2] = 0  # a new episode in that row
        actions, *_, state = policy.act(obs[t], state, deterministic=True)
        for row in range(5):
            begin = 4 if row == 2 and t >= 4 else 0
            said = [chunks[s][row, t - s] for s in range(max(begin, t - size + 1), t + 1)]  # the oldest first
            weights = np.exp(-decay * np.arange(len(said)))
            expected = sum(float(w) * a for w, a in zip(weights, said, strict=True)) / weights.sum()
            torch.testing.assert_close(actions[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["plain", "mixture", "flow"])
def test_sampled_chunks_differ_between_rows_and_begin_again_with_the_seed(head):
    policy, obs = make_policy(head=head, chunk=4), torch.ones(8, 4)
    first, again, other = (policy.act(obs, policy.initial_state(8), Noise.on(CPU, seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and float(first.std(0).min()) > 0


def test_no_network_runs_while_a_chunk_is_under_way(monkeypatch):
    fused.enable(False)
    policy = make_policy(chunk=4, execute=4)
    calls = []
    policy.actor.register_forward_hook(lambda *_: calls.append(1))
    state = policy.initial_state(3)
    for _ in range(8):
        *_, state = policy.act(torch.randn(3, 4), state)
    assert len(calls) == 2


def test_targets_end_with_their_episode():
    actions, episodes = np.arange(6)[:, None] * 10, np.array([0, 0, 0, 7, 7, 3])
    chunks, inside = targets(actions, episodes, 3)
    assert chunks.tolist() == [[0, 10, 20], [10, 20, 20], [20, 20, 20], [30, 40, 40], [40, 40, 40], [50, 50, 50]]
    assert inside.sum(1).tolist() == [3, 2, 1, 2, 1, 1] and bool(inside[:, 0].all())


@pytest.mark.parametrize(("space", "keys", "message"), [
    ("box", {"chunk": 4, "execute": 5}, r"policy\.execute = 5: only policy\.chunk = 4"),
    ("box", {"ensemble": 0.1}, r"policy\.ensemble = 0\.1: chunks of one step"),
    ("box", {"ensemble": 0.1, "chunk": 4, "execute": 2}, r"policy\.execute = 2: an ensemble"),
    ("pair", {"ensemble": 0.1, "chunk": 4}, r"policy\.ensemble = 0\.1: a mean of discrete"),
    ("pair", {"head": "mixture"}, r"policy\.head = 'mixture': the actions are discrete"),
    ("box", {"head": "flow", "squash": True}, r"policy\.squash = True: .*'flow'"),
    ("box", {"head": "flow", "shared": True}, r"policy\.shared = True: a flow")])
def test_keys_that_do_not_go_together_are_refused(space, keys, message):
    with pytest.raises(InputError, match=message):
        make_policy(SPACES[space], **keys)
