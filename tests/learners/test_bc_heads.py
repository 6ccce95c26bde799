"""Behaviour cloning of chunks, and of demonstrators who do the same thing in several ways."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from puffer_il.core.errors import InputError
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.nn import fused
from tests.learners.test_bc import fit, make
from tests.support.demos import make_demos
from tests.support.rollouts import sign_demos
from tests.support.runs import final_state, run, same_state, scripted_cartpole_demos, tiny

BOX = EnvSpec("box", (3,), np.dtype(np.float32),
              ActionSpec(low=np.float32([-2]), high=np.float32([2]), shape=(1,)))
PAIR = EnvSpec("pair", (3,), np.dtype(np.float32), ActionSpec(nvec=(2, 3), shape=(2,)))


def with_actions(actions, n: int = 2000):
    return dataclasses.replace(sign_demos(n), actions=actions)


def two_ways(n: int = 2000) -> np.ndarray:
    """(n, 1) the one or the other in every row, whatever is observed."""
    rng = np.random.default_rng(0)
    return (rng.choice([-1.0, 1.0], (n, 1)) + rng.normal(scale=0.1, size=(n, 1))).astype(np.float32)


@pytest.mark.parametrize("head", ["mixture", "flow"])
def test_a_mixture_and_a_flow_do_one_thing_or_the_other_where_a_gaussian_does_neither(head):
    shares = {}
    for name in ("plain", head):
        learner = make(with_actions(two_ways()), BOX, {"head": name, "hidden": [32, 32]}.items(), validation=0.1)
        fit(learner, 40)
        actions = learner.policy.act(torch.randn(2000, 3), None)[0]
        shares[name] = float(((actions.abs() - 1).abs() < 0.4).float().mean())
        if name == head:
            assert 0.3 < float((actions > 0).float().mean()) < 0.7
            mode = learner.policy.act(torch.randn(9, 3), deterministic=True)[0]
            assert head == "flow" or float((mode.abs() - 1).abs().max()) < 0.4
    assert shares[head] > 0.85 > 0.6 > shares["plain"]


@pytest.mark.parametrize(("policy", "bc", "said"), [
    ({"head": "mixture"}, {}, "cloning of a mixture: torch"), ({"head": "flow"}, {}, "cloning of a flow: torch"),
    ({"chunk": 4}, {}, "cloning of chunks: torch"), ({"squash": True}, {"loss": "mse"}, ""),
    ({"state_std": True}, {"loss": "mse"}, ""), ({}, {"loss": "mse"}, ""),
])
def test_what_the_kernels_do_not_clone_is_told(policy, bc, said):
    fused.forget()
    fused.take_notices()
    learner = make(with_actions(two_ways(40), 40), BOX, policy.items(), validation=0.0, **bc)
    learner.update(None, 0.0)
    notices = fused.take_notices()
    assert len(notices) == bool(said) and all(said in notice for notice in notices)


@pytest.mark.parametrize(("space", "mask", "said"), [
    (spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(4)}), 0, "parts of several kinds"),
    (spaces.Box(-1, 1, (3,)), 3, "action masks"), (spaces.Dict({"a": spaces.Box(-1, 1, (2,))}), 0, "")])
def test_rows_that_the_kernels_do_not_read_are_told(space, mask, said):
    fused.forget()
    fused.take_notices()
    layout = lay_out(space, mask, mask)
    spec = EnvSpec("rows", layout.shape, layout.dtype, ActionSpec(nvec=(3,)), layout.fields)
    demos = make_demos((20, 20), obs_shape=layout.shape, obs_dtype=layout.dtype.str)
    demos = dataclasses.replace(demos, obs=np.zeros_like(demos.obs), next_obs=np.zeros_like(demos.next_obs))
    for field, target in layout.targets(demos.obs.copy()):
        target[...] = field.mask
    make(demos, spec, {}.items(), validation=0.0).update(None, 0.0)
    notices = fused.take_notices()
    assert len(notices) == bool(said) and all(f"cloning of observations with {said}: torch" in one for one in notices)


@pytest.mark.parametrize("lstm", [0, 8])
def test_a_chunk_learns_what_comes_next(lstm, route):
    """The number of the step decides the action: a chunk that begins at row t is a_t, a_t+1, … to the episode's end."""
    n = 400
    demos = sign_demos(n)
    place = (np.arange(n) % 10).astype(np.float32)
    obs = np.stack((place / 5, np.ones(n), np.zeros(n)), 1).astype(np.float32)
    actions = (place[:, None] / 5 - 1).astype(np.float32)
    demos = dataclasses.replace(demos, obs=obs, next_obs=np.roll(obs, -1, 0), actions=actions)
    keys = {"chunk": 4, "hidden": [32], "lstm": lstm}
    learner = make(demos, BOX, keys.items(), validation=0.0, sequence_length=5)
    fit(learner, 100)
    policy, state = learner.policy, learner.policy.initial_state(1)
    for t in range(10):
        action, *_, state = policy.act(torch.from_numpy(obs[t:t + 1]), state, deterministic=True)
        assert float(action) == pytest.approx(actions[t, 0], abs=0.25)


def test_what_is_beyond_an_episode_is_not_learned_from():
    """Rows of the last episodes' steps have padding; its content changes nothing."""
    learner = make(with_actions(two_ways(40), 40), BOX, {"chunk": 6}.items(), validation=0.0)
    before = learner._score(learner.train)
    counts = learner.train.counts
    assert counts is not None and int(counts.sum()) == 4 * sum(min(6, 10 - t) for t in range(10))
    learner.train.actions[~counts] = 100.0
    assert [float(x) for x in learner._score(learner.train)] == [float(x) for x in before]


def test_the_loss_of_a_chunk_is_that_of_its_steps_on_average():
    demos = with_actions((np.arange(2000)[:, None] % 2).astype(np.int32).repeat(2, 1))
    losses = []
    for chunk in (1, 4):
        learner = make(demos, PAIR, {"chunk": chunk}.items(), validation=0.0)
        with torch.no_grad():
            learner.policy.actor[-1].weight.zero_(), learner.policy.actor[-1].bias.zero_()
            losses.append(float(learner._score(learner.train)[1]))
    inside = sum(min(4, 10 - t) for t in range(10)) / 40
    assert losses[0] == pytest.approx(np.log(2) + np.log(3), rel=1e-5)
    assert losses[1] == pytest.approx(losses[0] * inside, rel=1e-5)


@pytest.mark.parametrize(("space", "bc"), [(BOX, {"loss": "mse"}), (PAIR, {"loss": "mse"}),
                                           (PAIR, {"class_balanced": True}), (PAIR, {"label_smoothing": 0.1})])
def test_the_other_losses_leave_the_padding_out_too(space, bc):
    rng = np.random.default_rng(0)
    actions = two_ways(40) if space is BOX else rng.integers(0, (2, 3), (40, 2)).astype(np.int32)
    learners = [make(with_actions(actions, 40), space, {"chunk": 6}.items(), validation=0.0, **bc) for _ in range(2)]
    counts = learners[1].train.counts
    assert counts is not None
    learners[1].train.actions[~counts] = 1
    for learner in learners:
        fit(learner, 3)
    for a, b in zip(learners[0].policy.parameters(), learners[1].policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_whole_episodes_are_held_out_of_chunks():
    demos = dataclasses.replace(sign_demos(), episode_starts=np.array([0, 20]), terminations=np.arange(40) % 20 == 19)
    assert make(demos, policy={"chunk": 2}.items(), validation=0.1)._split(demos).sum() == 20


def test_demonstrations_with_gaps_have_no_chunks():
    demos = sign_demos()
    with pytest.raises(InputError, match=r"rows are missing .*policy\.chunk to 1"):
        make(dataclasses.replace(demos, next_obs=np.roll(demos.next_obs, 3)), policy={"chunk": 4}.items())


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    return scripted_cartpole_demos(tmp_path_factory.mktemp("demos") / "demos.npz")


@pytest.mark.parametrize(("keys", "message"), [
    ({"demos__subsample": 3}, r"demos\.subsample = 3: a chunk"),
    ({"policy__head": "mixture", "policy__chunk": 1}, r"policy\.head = 'mixture': the actions are discrete")])
def test_what_a_chunk_or_head_cannot_do_is_refused(keys, message, tmp_path, cartpole):
    with pytest.raises(InputError, match=message):
        run(tiny("bc", tmp_path / "run", **{"demos__source": str(cartpole), "policy__chunk": 4} | keys))


@pytest.mark.parametrize(("algo", "keys", "message"), [
    ("ppo", {"policy__head": "flow"}, r"policy\.head = 'flow': ppo cannot learn .*'plain', or train bc"),
    ("sac", {"policy__head": "mixture"}, r"policy\.head = 'mixture': sac cannot"),
    ("ppo", {"policy__chunk": 4}, r"policy\.chunk = 4: ppo learns single actions"),
    ("dagger", {"policy__chunk": 4}, r"policy\.chunk = 4: dagger learns single actions")])
def test_learners_refuse_what_they_cannot_learn(algo, keys, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run(tiny(algo, tmp_path / "run", env__name="pendulum", **keys))


@pytest.mark.parametrize("head", ["mixture", "flow"])
def test_dagger_and_its_kin_learn_such_heads(head, tmp_path):
    for algo in ("dagger", "noise_bc"):
        recorder = run(tiny(algo, tmp_path / algo, env__name="pendulum", policy__head=head))
        assert all(np.isfinite(list(metrics.values())).all() for metrics in recorder.metrics)


def test_a_resumed_clone_of_chunks_ends_with_the_same_weights(tmp_path):
    keys = {"env__name": "pendulum", "demos__source": "shipped", "demos__episodes": 4, "policy__head": "flow",
            "policy__chunk": 4, "train__total_steps": 4000}
    run(tiny("bc", tmp_path / "whole", **keys))
    run(tiny("bc", tmp_path / "cut", **keys), interrupt_after=2)
    run(tiny("bc", tmp_path / "cut", **keys), resume=True)
    assert same_state(final_state(tmp_path / "whole")["policy"], final_state(tmp_path / "cut")["policy"])


# One check per key of the heads: two clones that differ in it alone must differ in weights or in what they do.
KEYS = {"policy.head": ({}, "flow"), "policy.mixtures": ({"policy__head": "mixture"}, 3),
        "policy.flow_steps": ({"policy__head": "flow"}, 2), "policy.chunk": ({}, 4),
        "policy.execute": ({"policy__chunk": 4}, 1), "policy.ensemble": ({"policy__chunk": 4}, 0.1)}


@pytest.mark.parametrize("key", KEYS)
def test_key_changes_what_is_cloned_or_how_it_acts(key, tmp_path):
    common, value = KEYS[key]
    scores = []
    for changes in ({}, {key.replace(".", "__"): value}):
        recorder = run(tiny("bc", tmp_path / str(len(changes)), env__name="pendulum", demos__source="shipped",
                            demos__episodes=4, train__total_steps=2000, **common, **changes))
        assert recorder.summary is not None
        scores.append(recorder.summary["eval"]["return_mean"])
    assert scores[0] != scores[1]
