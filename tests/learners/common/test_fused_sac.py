"""Soft actor-critic by the C kernels against torch, on the same noise: what is learned, threads, resuming."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.common.anchor import FIRST, LEAST, MOST, Anchor
from puffer_il.learners.common.off_policy import SACConfig, SoftActorCritic
from puffer_il.nn import fused
from puffer_il.nn.policy import Policy
from puffer_il.rollout.replay import Transitions
from tests.support.kernels import EACH_SET
from tests.support.runs import same_state

CPU = torch.device("cpu")


def make_spec(obs: int, dims: int) -> EnvSpec:
    low = -np.arange(1, dims + 1, dtype=np.float32)
    return EnvSpec("made up", (obs,), np.dtype(np.float32), ActionSpec(low=low, high=low + 3, shape=(dims,)))


def make_rows(spec: EnvSpec, updates: int, n: int, seed: int = 0) -> Transitions:
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, updates, n, *spec.obs_shape)).astype(np.float32)
    actions = rng.uniform(spec.action.low, spec.action.high, (updates, n, spec.action.dim)).astype(np.float32)
    return Transitions(obs, actions, rng.normal(size=(updates, n)).astype(np.float32), next_obs,
                       rng.random((updates, n)) < 0.3)


def make_engine(spec: EnvSpec, activation: str = "silu", hidden: tuple[int, ...] = (32, 16), *, anchored: bool = False,
                bound: float = 0.05, log_price: float = FIRST, same_critics: bool = False,
                policy: dict[str, Any] | None = None, **sac: Any) -> SoftActorCritic:
    torch.manual_seed(0)
    made = Policy(spec, PolicyConfig(**{"hidden": hidden, "squash": True, "activation": activation} | (policy or {})))
    origin = copy.deepcopy(made)
    with torch.no_grad():  # far enough from zero that every term of a loss matters
        for p in made.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    keys = {"critic_hidden": hidden, "tau": 0.3, "gamma": 0.9, "learning_rate": 1e-3} | sac
    engine = SoftActorCritic(made, SACConfig(**keys), activation, CPU, 5)
    with torch.no_grad():
        for p in engine.critics.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    if same_critics:
        for pair in (engine.critics.nets, engine.target.nets):
            pair[1].load_state_dict(pair[0].state_dict())
    engine.most = 3.0
    if anchored:
        engine.anchor = Anchor(origin, bound)
        engine.anchor.log_price.fill_(log_price)
    return engine


def learned(engine: SoftActorCritic) -> dict[str, torch.Tensor]:
    found = {"followers": engine.followers, "log alpha": engine.temperature.log.detach()}
    for name in ("critic_optimizer", "actor_optimizer"):
        for part in ("flat", "mean", "square", "steps"):
            found[f"{name}.{part}"] = getattr(getattr(engine, name), part)
    if engine.anchor is not None:
        found |= {"price": engine.anchor.log_price, "distance": engine.anchor.distance}
    return found


CASES: dict[str, dict[str, Any]] = {
    "plain critics": {"critic_norm": False},
    "normalised critics": {},
    "a spread of each state": {"policy": {"state_std": True}},
    "spreads at their bounds": {"policy": {"state_std": True, "init_log_std": 1.9}},
    "critics that are the same": {"same_critics": True},
    "a learned temperature": {"target_negentropy": 0.5},
    "clipped gradients": {"max_grad_norm": 0.1},
    "a shared trunk": {"policy": {"shared": True}},
    "an anchor": {"anchored": True},
    "an anchor at the least price": {"anchored": True, "bound": 1e6, "log_price": LEAST},
    "an anchor at the highest price": {"anchored": True, "log_price": MOST},
    "an anchor with a spread of each state": {"anchored": True, "policy": {"state_std": True}},
    "three layers": {"hidden": (8, 40, 20)},
    "one layer of tanh": {"hidden": (24,), "activation": "tanh"},
    "elu": {"activation": "elu"},
    "elu without normalisation": {"activation": "elu", "critic_norm": False},
}


def both_ways(spec: EnvSpec, rows: Transitions, move: bool = True, **keys: Any) -> list[SoftActorCritic]:
    """Engines that have learned the same rows twice, by the kernels and in torch."""
    engines, stats = [], []
    for on in (True, False):
        fused.enable(on)
        engine = make_engine(spec, **keys)
        if on:
            engine.update = None  # type: ignore[assignment]  # not in torch
        stats += [engine.learn(rows, -2.0, move), engine.learn(rows, -2.0, move)]
        engines.append(engine)
    torch.testing.assert_close(torch.stack(stats[:2]), torch.stack(stats[2:]), rtol=1e-3, atol=1e-4)
    return engines


def check_same(engines: list[SoftActorCritic]) -> None:
    ours, expected = map(learned, engines)
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=5e-3, atol=5e-5, msg=f"{name}: {ours[name]} for {tensor}")


@pytest.mark.parametrize("case", CASES)
def test_the_kernels_learn_what_torch_learns(case: str) -> None:
    spec = make_spec(5, 3)
    check_same(both_ways(spec, make_rows(spec, 4, 100), **CASES[case]))


@EACH_SET
@pytest.mark.parametrize(("n", "obs", "dims", "norm"), [(1, 1, 1, True), (48, 3, 9, False), (601, 17, 6, True)])
def test_any_shape_is_learned_from_on_every_instruction_set(n: int, obs: int, dims: int, norm: bool, isa: str) -> None:
    kernels.use_instruction_set(isa)
    spec = make_spec(obs, dims)
    check_same(both_ways(spec, make_rows(spec, 2, n), critic_norm=norm, policy={"state_std": True}))


def test_a_policy_that_is_not_to_move_stays_in_the_kernels_too() -> None:
    spec = make_spec(5, 3)
    engines = both_ways(spec, make_rows(spec, 3, 64), move=False, target_negentropy=1.0)
    check_same(engines)
    assert all(int(engine.actor_optimizer.steps) == 0 for engine in engines)


@pytest.mark.parametrize("norm", [True, False])
def test_what_is_learned_does_not_depend_on_the_threads(norm: bool) -> None:
    spec = make_spec(5, 3)
    rows, states = make_rows(spec, 3, 700), []
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        engine = make_engine(spec, hidden=(200, 100), critic_norm=norm, anchored=True)
        engine.learn(rows, -2.0)
        states.append(engine.state_dict())
    assert same_state(states[0], states[1]) and same_state(states[0], states[2])


def test_a_restored_engine_learns_on_bit_by_bit() -> None:
    spec = make_spec(5, 3)
    keys: dict[str, Any] = {"anchored": True, "target_negentropy": 0.5, "policy": {"state_std": True}}
    engine, other = make_engine(spec, **keys), make_engine(spec, **keys)
    engine.learn(make_rows(spec, 3, 64), -2.0)
    state, policy = copy.deepcopy(engine.state_dict()), copy.deepcopy(engine.policy.state_dict())
    other.learn(make_rows(spec, 1, 64, seed=7), 1.0)
    other.load_state_dict(state)
    other.policy.load_state_dict(policy)
    for one in (engine, other):
        one.learn(make_rows(spec, 2, 64, seed=3), -2.0)
    assert same_state(engine.state_dict(), other.state_dict())
    assert same_state(dict(engine.policy.state_dict()), dict(other.policy.state_dict()))


@pytest.mark.parametrize(("dims", "layers", "told"), [(1, 10, "10 hidden layers"), (257, 1, "257 action dimensions")])
def test_what_is_too_large_is_learned_by_torch_with_a_notice(dims: int, layers: int, told: str) -> None:
    fused.take_notices()
    fused.forget()
    spec = make_spec(2, dims)
    engine = make_engine(spec, critic_hidden=(8,) * layers)
    assert torch.isfinite(engine.learn(make_rows(spec, 1, 8), 0.0)).all()
    notice, = fused.take_notices()
    assert notice.startswith(told)


@pytest.mark.parametrize("keys", [{"hidden": (), "critic_hidden": (8,)}, {"critic_hidden": ()}])
def test_networks_without_hidden_layers_are_learned_by_torch_with_a_notice(keys: dict[str, Any]) -> None:
    fused.take_notices()
    fused.forget()
    spec = make_spec(2, 1)
    engine = make_engine(spec, **keys)
    assert torch.isfinite(engine.learn(make_rows(spec, 1, 8), 0.0)).all()
    notice, = fused.take_notices()
    assert notice.startswith("an actor or critics without hidden layers: torch computes this")


def test_values_that_are_not_numbers_are_not_hidden() -> None:
    spec = make_spec(5, 3)
    rows = make_rows(spec, 1, 50)
    rows.rewards[0, 3] = np.nan
    for on in (True, False):
        fused.enable(on)
        engine = make_engine(spec)
        assert not torch.isfinite(engine.learn(rows, 0.0)).all()
        assert not torch.isfinite(engine.critic_optimizer.flat).all()
