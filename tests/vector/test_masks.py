"""Actions that the environment says may not be taken are never taken: in training, evaluation, cloning and DAgger."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from puffer_il.cli import main
from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.demos import collect, load_demos
from puffer_il.nn import Policy
from puffer_il.rollout.actors import RandomActor
from puffer_il.training.saved_run import load_policy
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import make_vec
from tests.support.masked import Board
from tests.support.runs import run, tiny

BOARD = "tests.support.masked:Board"
SAYS = ["dict", "info", "method"]


def config(algo, folder, says="dict", **overrides):
    settings = {"env__name": BOARD, "env__num_envs": 8, "env__backend": "serial", "env__kwargs": {"says": says},
                "train__num_steps": 16, "train__total_steps": 8 * 16 * 2, "eval__final_episodes": 8}
    return tiny(algo, folder, **settings | overrides)


def recorded(says="dict", episodes=8):
    """The expert's own actions."""
    with make_vec(BOARD, num_envs=2, backend="serial", kwargs={"says": says}) as vec:
        envs = [env.original for env in vec._puffer.envs]
        return collect(vec, lambda obs, starts: np.array([[env.expert()] for env in envs], np.int32), episodes, "board")


@pytest.mark.parametrize("says", SAYS)
def test_the_mask_is_a_part_of_the_row_that_networks_do_not_see(says):
    spec = find_creator(BOARD, {"says": says}).facts().spec
    assert spec.mask is not None and spec.mask.shape == (4,) and (spec.mask.path is None) == (says != "dict")
    assert Policy(spec, PolicyConfig()).encoder.dim == 4


def test_an_environment_that_says_nothing_has_no_mask():
    assert find_creator(BOARD, {"says": "none"}).facts().spec.mask is None


@pytest.mark.parametrize("backend", ["serial", "multiprocessing"])
@pytest.mark.parametrize("says", SAYS)
def test_every_row_of_a_vector_carries_the_mask_of_its_own_state(says, backend):
    with make_vec(BOARD, num_envs=2, backend=backend, num_workers=2 * (backend != "serial"),
                  kwargs={"says": says}) as vec:
        obs, actor = vec.reset(1), RandomActor(vec.spec, 1)
        heights = next(f for f in vec.spec.obs_fields if not f.mask)
        for _ in range(30):
            mask = vec.spec.mask.of(obs) != 0
            assert np.array_equal(mask, heights.of(obs) < 2)
            obs = vec.step(actor(obs, np.zeros(2, bool))).obs


@pytest.mark.parametrize("says", SAYS)
@pytest.mark.parametrize("algo", ["ppo", "sqil", "gail", "bc"])
def test_masked_actions_are_never_taken(algo, says, tmp_path):
    extra = {}
    if algo != "ppo":
        recorded(says).save(tmp_path / "d.npz")
        extra = {"demos__source": str(tmp_path / "d.npz")}
    summary = run(config(algo, tmp_path / "run", says, **extra)).summary  # the environment raises at any other action
    assert summary["status"] == "finished"


@pytest.mark.parametrize("policy", [{"lstm": 8}, {"shared": True}])
def test_masked_actions_are_never_taken_by_other_policies(policy, tmp_path):
    keys = {f"policy__{key}": value for key, value in policy.items()}
    assert run(config("ppo", tmp_path / "run", "info", **keys)).summary["status"] == "finished"


def test_several_choices_have_a_mask_each(tmp_path):
    cfg = config("ppo", tmp_path / "run", env__name="tests.support.masked:Pair", env__kwargs={})
    assert run(cfg).summary["status"] == "finished"


def test_dagger_labels_and_acts_within_the_masks(tmp_path):
    run(config("ppo", tmp_path / "expert", "info"))
    cfg = config("dagger", tmp_path / "run", "info", dagger__expert=str(tmp_path / "expert"))
    assert run(cfg).summary["status"] == "finished"


def test_predict_takes_the_mask_from_the_observation_or_beside_it(tmp_path):
    for says in ("dict", "info"):
        run(config("ppo", tmp_path / says, says, env__kwargs={"says": says, "start": 3}))
        policy, env = load_policy(tmp_path / says)[0], Board(says, start=3)
        obs, info = env.reset(seed=0)
        for stone in range(6):
            action, _ = policy.predict(obs, **({} if says == "dict" else {"action_masks": info["action_mask"]}))
            obs, _, over, _, info = env.step(action)
            assert over == (stone == 5)


def test_a_mask_for_a_policy_that_knows_none_is_refused():
    spec = find_creator(BOARD, {"says": "none"}).facts().spec
    with pytest.raises(InputError, match="an action mask is given, but the policy was trained without any"):
        Policy(spec, PolicyConfig()).predict(np.zeros(4, np.float32), action_masks=np.ones(4))


def test_a_mask_of_another_length_is_refused():
    spec = find_creator(BOARD, {"says": "info"}).facts().spec
    with pytest.raises(InputError, match="the action mask has 3 numbers but there are 4 choices"):
        Policy(spec, PolicyConfig()).predict(np.zeros(4, np.float32), action_masks=np.ones(3))


def test_probabilities_are_those_of_the_allowed_actions_alone():
    """Against the softmax of the allowed logits: likelihood, entropy, and no gradient to a masked one."""
    spec = find_creator(BOARD, {"says": "info"}).facts().spec
    policy = Policy(spec, PolicyConfig(hidden=(8,)))
    mask = np.array([1, 0, 1, 0])
    rows = torch.tensor(spec.pack(np.ones((5, 4), np.float32), np.tile(mask, (5, 1)))[0])
    actions = torch.tensor([[0], [2], [2], [0], [2]], dtype=torch.int32)
    logprobs, entropy, _ = policy.evaluate(rows, actions)
    plain = policy.actor(policy.encoder(policy.flatten(rows))[:, :4])[:, [0, 2]].log_softmax(1)
    torch.testing.assert_close(logprobs, plain.gather(1, (actions // 2).long())[:, 0])
    torch.testing.assert_close(entropy, -(plain.exp() * plain).sum(1))
    (logprobs.sum() + entropy.sum()).backward()
    assert policy.actor[-1].bias.grad[[1, 3]].tolist() == [0, 0]


def test_where_nothing_is_allowed_everything_is():
    spec = find_creator(BOARD, {"says": "info"}).facts().spec
    policy = Policy(spec, PolicyConfig(hidden=(8,)))
    rows = torch.tensor(spec.pack(np.ones((3, 4), np.float32), np.zeros((3, 4)))[0])
    assert torch.isfinite(policy.evaluate(rows, torch.zeros(3, 1))[0]).all()


def test_demonstrations_of_what_may_not_be_done_are_refused():
    demos = recorded()
    spec = find_creator(BOARD).facts().spec
    actions = demos.actions.copy()
    full = np.flatnonzero(spec.mask.of(demos.obs)[5] == 0)[0]
    actions[5] = full
    wrong = {"obs": spec.unpack(demos.obs), "next_obs": spec.unpack(demos.next_obs), "actions": actions,
             "terminations": demos.terminations, "truncations": demos.truncations}
    with pytest.raises(InputError, match=rf"action \[{full}\] in row 5 is one that its observation says may not"):
        load_demos(wrong, spec)


def test_demonstrations_without_masks_fit_an_environment_that_says_them_beside():
    bare = recorded("none")
    spec = find_creator(BOARD, {"says": "info"}).facts().spec
    demos = load_demos(bare, spec)
    assert (spec.mask.of(demos.obs) == 1).all() and np.array_equal(spec.unpack(demos.obs), bare.obs)


def test_agents_of_a_parallel_environment_have_a_mask_each(tmp_path):
    for says in ("dict", "info"):
        cfg = config("ppo", tmp_path / says, says, env__name="tests.support.masked:Boards")
        assert run(cfg).summary["status"] == "finished"
        spec = find_creator("tests.support.masked:Boards", {"says": says}).facts().spec
        assert spec.num_agents == 2 and spec.mask is not None


def test_what_is_called_a_mask_and_is_none_is_an_observation_with_a_notice():
    with make_vec("tests.support.masked:Called", num_envs=1, backend="serial") as vec:
        assert vec.spec.mask is None and Policy(vec.spec, PolicyConfig()).encoder.dim == 6
        assert any("the part 'action_mask' is read as an observation" in notice for notice in vec.notices)


def test_env_check_keeps_to_the_masks():
    assert main(["env", "check", BOARD, "--seconds", "1"]) == 0
