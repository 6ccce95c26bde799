"""Whole minibatches in single calls against their counterparts in torch: the same gradients, the same numbers."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.airl import AIRL
from puffer_il.learners.bc import BC
from puffer_il.learners.common.adversarial import DISC_METRICS
from puffer_il.learners.common.cloning import clone_score
from puffer_il.learners.common.discriminator import Discriminator, Logit, discriminator_gradients
from puffer_il.learners.experiment import build
from puffer_il.learners.gail import GAIL
from puffer_il.learners.ppo import PPO
from puffer_il.nn import fused
from puffer_il.nn.fused_policy import FusedPolicy
from puffer_il.nn.losses import bernoulli_entropy, discriminator_loss
from puffer_il.nn.observations import Flatten, obs_moments
from puffer_il.rollout.buffer import RolloutBuffer
from tests.support.kernels import ACTIVATIONS, EACH_SET, error, in_float64, make_net

CPU = torch.device("cpu")
ACTIONS = {
    "discrete": ActionSpec(nvec=(4,)),
    "multidiscrete": ActionSpec(nvec=(3, 2, 5), shape=(3,)),
    "box": ActionSpec(low=np.float32([-2, 0, -1]), high=np.float32([1, 4, 1]), shape=(3,)),
    "unbounded": ActionSpec(low=np.float32([-np.inf] * 2), high=np.float32([np.inf] * 2), shape=(2,)),
}
DTYPES = ("float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
PARTS = {"columns": (slice(5, 31), True), "scattered columns": (np.array([0, 3, 4, 17, 36]), True),
         "rows": (np.random.default_rng(3).permutation(222)[:100], False), "one row": (np.array([221]), False)}


def make_spec(action: str = "discrete", dtype: str = "float32", shape: tuple[int, ...] = (5,)) -> EnvSpec:
    return EnvSpec("test", shape, np.dtype(dtype), ACTIONS[action])


def random_obs(spec: EnvSpec, n: int, rng: np.random.Generator) -> Array:
    """Columns of different scales, far from zero on either side."""
    columns = math.prod(spec.obs_shape)
    scales = (np.linspace(1, 4, columns) * (-1) ** np.arange(columns)).reshape(spec.obs_shape)
    numbers, kind = rng.normal(size=(n, *spec.obs_shape)) * scales + 20 * scales, spec.obs_dtype.kind
    return numbers > 20 * scales if kind == "b" else (abs(numbers) if kind == "u" else numbers).astype(spec.obs_dtype)


def random_actions(spec: EnvSpec, n: int, rng: np.random.Generator) -> Array:
    action = spec.action
    if action.discrete:
        return (rng.random((n, action.dim)) * np.array(action.nvec)).astype(np.int32)
    return (2 * rng.normal(size=(n, action.dim))).astype(np.float32)  # some of them out of range


def make_demos(spec: EnvSpec, n: int = 300) -> Demos:
    rng = np.random.default_rng(5)
    obs, ends = random_obs(spec, n, rng), np.arange(n) % 50 == 49
    return Demos(obs, random_actions(spec, n, rng), np.roll(obs, -1, 0), ends, np.zeros(n, bool), np.arange(0, n, 50))


def config(algo: str, **tables: dict[str, Any]) -> Any:
    return build(algo, [("test", tables)])


def shake(module: nn.Module, seed: int = 1) -> None:
    """Weights as after some training: biases that are not zero, an actor that is not flat."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)


# ---- PPO ----


def ppo_learner(spec: EnvSpec, policy: dict[str, Any] | None = None, **ppo: Any) -> PPO:
    """A learner whose policy stands still, so that both routes start from the same weights."""
    torch.manual_seed(0)
    ppo = {"ent_coef": 0.02, "vf_coef": 0.7, "learning_rate": 0.0} | ppo
    learner = PPO(spec, None, config("ppo", ppo=ppo, policy={"hidden": [20, 33]} | (policy or {})), CPU, 0)
    shake(learner.policy)
    learner.optimizer.learning_rate = 0.0
    learner.optimizer.prepare()
    return learner


def rollout_of(learner: PPO, spec: EnvSpec, invalid: bool = False, num_steps: int = 6,
               num_envs: int = 37) -> RolloutBuffer:
    """A rollout whose ratios lie on both sides of the clip range, and values that have moved far and little."""
    rng = np.random.default_rng(0)
    buffer, n = RolloutBuffer(spec, num_steps, num_envs), num_steps * num_envs
    buffer.start()
    flat = buffer.flat()
    flat.obs[:], flat.actions[:] = random_obs(spec, n, rng), random_actions(spec, n, rng)
    learner.policy.update_norm(*obs_moments(learner.policy.flatten, torch.from_numpy(flat.obs)))
    with torch.no_grad():
        logprobs, _, values = learner.policy.evaluate(torch.from_numpy(flat.obs), torch.from_numpy(flat.actions))
    flat.logprobs[:] = logprobs.numpy() + 0.3 * rng.normal(size=n)
    flat.values[:] = values.numpy() + 0.3 * rng.normal(size=n)
    flat.advantages[:], flat.returns[:] = rng.normal(size=n), rng.normal(size=n)
    flat.valid[:] = True
    if invalid:
        hidden = rng.random(n) < 0.2
        flat.valid[:] = ~hidden
        flat.obs[hidden], flat.logprobs[hidden], flat.returns[hidden], flat.advantages[hidden] = 99, -40.0, 1e6, 1e4
    return buffer


def both_steps(learner: PPO, buffer: RolloutBuffer, part: Any, columns: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Losses (with the gradient's norm) and gradients: by the kernels, by torch."""
    results = []
    for make in (learner._fused_step, learner._torch_step):
        step = make(buffer)
        assert step is not None
        learner.optimizer.grad.fill_(math.nan)  # all of it is written
        if make == learner._torch_step:
            learner.optimizer.zero_grad()
        losses = step(part, columns)
        results.append([losses, learner.optimizer.grad.clone()])
    return results[0], results[1]


@pytest.mark.parametrize("invalid", [False, True], ids=["valid", "invalid"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_ppo_minibatch_is_torchs(action: str, shared: bool, part: str, invalid: bool) -> None:
    spec = make_spec(action)
    learner = ppo_learner(spec, {"shared": shared}, vf_clip_coef=0.2 if invalid else 0.0)
    buffer = rollout_of(learner, spec, invalid)
    ours, expected = both_steps(learner, buffer, *PARTS[part])
    assert error(ours[1:], expected[1:]) < 1e-5
    torch.testing.assert_close(ours[0], expected[0], rtol=2e-5, atol=2e-6)
    if part == "columns":
        assert 0.1 < float(ours[0][4]) < 0.9  # clipped and free rows are both among them


@EACH_SET
@ACTIVATIONS
@pytest.mark.parametrize("action", ["multidiscrete", "box"])
def test_a_ppo_minibatch_is_torchs_with_every_activation(action: str, activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    spec = make_spec(action)
    for policy in ({"hidden": [64, 64], "obs_norm": False}, {"hidden": [130], "shared": True}, {"hidden": [9, 17, 5]}):
        learner = ppo_learner(spec, policy | {"activation": activation}, vf_clip_coef=0.1)
        with torch.no_grad():
            for p in learner.policy.parameters():
                p.mul_(0.5 if policy.get("obs_norm") is None else 0.1)
        ours, expected = both_steps(learner, rollout_of(learner, spec), slice(0, 37), True)
        assert error(ours[1:], expected[1:]) < 1e-5
        torch.testing.assert_close(ours[0], expected[0], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_ppo_minibatch_reads_observations_of_every_dtype(dtype: str) -> None:
    spec = make_spec(dtype=dtype, shape=(3, 2))
    learner = ppo_learner(spec)
    ours, expected = both_steps(learner, rollout_of(learner, spec), PARTS["rows"][0], False)
    assert error(ours, expected) < 1e-5


@pytest.mark.parametrize("name", ["clip_coef", "vf_coef", "ent_coef", "vf_clip_coef"])
def test_coefficients_at_their_limits_are_torchs(name: str) -> None:
    for value in (0.0, 1e-3, 1.0):
        spec = make_spec("multidiscrete")
        learner = ppo_learner(spec, **{name: value})
        ours, expected = both_steps(learner, rollout_of(learner, spec), slice(0, 20), True)
        assert error(ours, expected) < 1e-5


def test_a_policy_that_has_run_away_is_torchs() -> None:
    """Ratios beyond what float holds: bounded, and nothing flows through the bound."""
    spec = make_spec("box")
    learner = ppo_learner(spec)
    buffer = rollout_of(learner, spec)
    buffer.logprobs[::2] -= 100.0
    buffer.logprobs[1::4] += 300.0
    ours, expected = both_steps(learner, buffer, slice(0, 37), True)
    assert bool(ours[0].isfinite().all()) and error(ours, expected) < 1e-5


def test_any_number_of_threads_gives_the_same_ppo_gradient() -> None:
    spec = make_spec("box")
    learner = ppo_learner(spec, {"hidden": [64, 64], "shared": True})
    buffer = rollout_of(learner, spec, True, 50, 90)
    gradients = []
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        gradients.append(both_steps(learner, buffer, slice(0, 90), True)[0])
    assert all(torch.equal(a, b) for other in gradients[1:] for a, b in zip(gradients[0], other, strict=True))


@pytest.mark.parametrize("name", ["logprobs", "returns", "advantages", "obs"])
def test_a_nan_in_a_rollout_is_seen_in_losses_and_gradient(name: str) -> None:
    spec = make_spec("box")
    learner = ppo_learner(spec, {"activation": "relu"})
    buffer = rollout_of(learner, spec)
    getattr(buffer, name)[2, 10] = math.nan
    step = learner._fused_step(buffer)
    losses = step(slice(0, 37), True)
    assert bool(losses[:2].isnan().any()) and bool(losses[5].isnan()) and bool(learner.optimizer.flat.isnan().any())


def test_a_minibatch_without_rows_is_refused() -> None:
    spec = make_spec()
    learner = ppo_learner(spec, num_minibatches=230, minibatch="rows")
    buffer = rollout_of(learner, spec)
    with pytest.raises(InputError, match="num_minibatches"):
        learner.update(buffer, 0.0)


def test_a_policy_is_covered_or_not() -> None:
    def covered(spec: EnvSpec, **policy: Any) -> bool:
        return FusedPolicy.of(ppo_learner(spec, policy).policy) is not None

    box, image = make_spec("box"), make_spec(dtype="uint8", shape=(8, 8, 3))
    assert covered(box) and covered(box, shared=True) and covered(box, hidden=[512, 512, 512])
    assert covered(make_spec(dtype="int16", shape=(2, 2, 2)))
    assert not covered(box, squash=True) and not covered(box, state_std=True)
    assert not covered(box, lstm=4) and not covered(image)
    assert not covered(box, hidden=[8] * 4) and not covered(box, hidden=[1024], shared=True)
    many = EnvSpec("many", (3,), np.dtype(np.float32), ActionSpec(nvec=(2,) * 65, shape=(65,)))
    assert not covered(many)
    policy = ppo_learner(box).policy
    with torch.autocast("cpu", torch.bfloat16):
        assert FusedPolicy.of(policy) is None
    fused.enable(False)
    assert FusedPolicy.of(policy) is None


def test_a_policy_of_another_dtype_is_not_covered() -> None:
    assert FusedPolicy.of(ppo_learner(make_spec()).policy.double()) is None


# ---- the discriminator ----


def gail_learner(spec: EnvSpec, **gail: Any) -> GAIL:
    torch.manual_seed(0)
    gail = {"disc_hidden": [20, 33], "disc_batch_size": 250, "max_grad_norm": 0.0} | gail
    learner = GAIL(spec, make_demos(spec), config("gail", gail=gail, policy={"hidden": [8]}), CPU, 0)
    with torch.no_grad():
        shake(learner.discriminator)
        for p in learner.discriminator.net.parameters():
            p *= 1.5  # some gradients are above norm 1, where the one-sided penalty begins
    return learner


def by_the_kernels(cfg: Any, logit: Logit, expert: Tensor, policy: Tensor, mix: Tensor | None) -> Tensor:
    stats = discriminator_gradients(logit, expert, policy, loss=cfg.loss, label_smoothing=cfg.label_smoothing,
                                    ent_coef=cfg.disc_ent_coef, gp_coef=cfg.gp_coef, gp_kind=cfg.gp_kind,
                                    gp_target=cfg.gp_target, mix=mix)
    assert stats is not None and len(stats) == len(DISC_METRICS)
    return stats


def both_discriminator_steps(learner: GAIL, rows: int = 250, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Statistics and gradients: by the kernels, by torch."""
    cfg, width = learner.config, learner.discriminator.absorbing_rows(1).shape[1]
    generator = torch.Generator().manual_seed(seed)
    expert, policy = (torch.randn(rows, width, generator=generator) for _ in range(2))
    mix = torch.rand(rows, generator=generator) if cfg.gp_coef and cfg.gp_kind == "interpolated" else None
    grad = learner.optimizer.grad.fill_(math.nan)
    first = [by_the_kernels(cfg, learner.discriminator.logit(), expert, policy, mix), grad.clone()]
    return first, [learner._gradients_in_torch(expert, policy, mix), grad.clone()]


@EACH_SET
@ACTIVATIONS
@pytest.mark.parametrize("penalty", ["interpolated", "zero_centred", "none"])
def test_a_discriminator_step_is_torchs(penalty: str, activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    keys = {"gp_coef": 0.0} if penalty == "none" else {"gp_kind": penalty, "gp_coef": 3.0}
    for hidden in ([20, 33], [64], [16, 16, 16]):
        learner = gail_learner(make_spec("box"), disc_activation=activation, disc_hidden=hidden, disc_ent_coef=0.1,
                               label_smoothing=0.1, **keys)
        for rows in (1, 47, 250):
            ours, expected = both_discriminator_steps(learner, rows)
            assert error(ours, expected) < 1e-5
        *_, worth, norm = ours[0].tolist()
        assert (worth > 0.05) == (penalty != "none") == (norm > 0)


@EACH_SET
@pytest.mark.parametrize(("loss", "smoothing"), [("least_squares", 0.0), ("least_squares", 0.2), ("wasserstein", 0.0)])
def test_every_loss_is_torchs(loss: str, smoothing: float, isa: str) -> None:
    kernels.use_instruction_set(isa)
    for penalty in ("interpolated", "zero_centred"):
        learner = gail_learner(make_spec("box"), loss=loss, label_smoothing=smoothing, disc_ent_coef=0.1,
                               gp_kind=penalty, gp_target=0.4)
        for rows in (1, 47, 250):
            ours, expected = both_discriminator_steps(learner, rows)
            assert error(ours, expected) < 1e-5


@pytest.mark.parametrize("loss", ["bce", "least_squares", "wasserstein"])
def test_gradients_of_every_loss_are_finite_differences_of_it(loss: str) -> None:
    learner = gail_learner(make_spec(), loss=loss, gp_coef=0.0, disc_ent_coef=0.3)
    net = in_float64(learner.discriminator.net)
    width = learner.discriminator.width
    (_, gradient), _ = both_discriminator_steps(learner, 40)
    generator = torch.Generator().manual_seed(0)
    expert, policy = (torch.randn(40, width, generator=generator).double() for _ in range(2))

    def value() -> float:
        with torch.no_grad():
            ours, theirs = net(expert)[:, 0], net(policy)[:, 0]
            entropy = bernoulli_entropy(torch.cat((ours, theirs))).mean()
            return float(discriminator_loss(loss, ours, theirs) - 0.3 * entropy)

    first, h = net[0].weight, 1e-6
    for place in ((0, 0), (7, 3), (19, 6)):
        values = []
        for step in (h, -2 * h):
            with torch.no_grad():
                first[place] += step
            values.append(value())
        with torch.no_grad():
            first[place] += h
        slope = (values[0] - values[1]) / (2 * h)
        assert float(gradient[place[0] * width + place[1]]) == pytest.approx(slope, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("key", ["label_smoothing", "disc_ent_coef", "gp_coef", "gp_target"])
@pytest.mark.parametrize("value", [0.0, 0.4])
def test_the_discriminators_coefficients_are_torchs(key: str, value: float) -> None:
    ours, expected = both_discriminator_steps(gail_learner(make_spec("multidiscrete"), **{key: value}))
    assert error(ours, expected) < 1e-5


def test_accuracies_are_torchs_with_labels_of_one_half() -> None:
    ours, expected = both_discriminator_steps(gail_learner(make_spec(), label_smoothing=0.5))
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-5, atol=1e-6)


def test_a_discriminator_that_is_certain_has_finite_losses_and_gradients() -> None:
    learner = gail_learner(make_spec(), disc_activation="relu", gp_coef=0.0)
    with torch.no_grad():
        for p in learner.discriminator.net.parameters():
            p *= 30
    ours, expected = both_discriminator_steps(learner)
    assert float(ours[0][3].abs()) > 1000 and error(ours, expected) < 1e-5


def test_any_number_of_threads_gives_the_same_discriminator_gradient() -> None:
    learner, results = gail_learner(make_spec("box")), []
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        results.append(both_discriminator_steps(learner, 5001)[0])
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_a_nan_in_the_discriminator_is_seen_in_its_loss() -> None:
    learner = gail_learner(make_spec("box"))
    with torch.no_grad():
        learner.discriminator.net[0].weight[3, 2] = math.nan
    (stats, gradient), _ = both_discriminator_steps(learner)
    assert bool(gradient.isnan().any()) and bool(stats[0].isnan())


@pytest.mark.parametrize("changes", [{"spectral_norm": True}, {"disc_hidden": [8] * 4}])
def test_other_discriminators_are_torchs(changes: dict[str, Any]) -> None:
    learner = gail_learner(make_spec(), **changes)
    check_that_torch_steps(learner, learner.demo_beside)


def check_that_torch_steps(learner: GAIL | AIRL, beside: Any) -> None:
    rows = learner._expert_rows()
    keys: dict[str, Any] = {"loss": "bce", "label_smoothing": 0.0, "ent_coef": 0.0, "gp_coef": 0.0,
                            "gp_kind": "interpolated", "gp_target": 1.0}
    assert discriminator_gradients(learner.discriminator.logit(), rows, rows, mix=None, **keys) is None
    learner.optimizer.prepare()
    flat = learner.optimizer.flat.clone()
    learner._update_discriminator(learner.demo_obs, beside, None, 0.0)
    assert not torch.equal(learner.optimizer.flat, flat) and bool(learner.optimizer.flat.isfinite().all())


# ---- a discriminator made of two networks, airl's ----


def airl_learner(spec: EnvSpec, inputs: str = "state_action", **airl: Any) -> AIRL:
    torch.manual_seed(0)
    airl = {"disc_hidden": [20, 33], "shaping_hidden": [17], "disc_batch_size": 250, "max_grad_norm": 0.0} | airl
    tables = {"airl": airl | {"inputs": inputs}, "policy": {"hidden": [8]}, "ppo": {"gamma": 0.8}}
    learner = AIRL(spec, make_demos(spec), config("airl", **tables), CPU, 0)
    with torch.no_grad():
        shake(learner.discriminator)
        for network in (learner.discriminator.reward, learner.discriminator.shaping):
            for p in network.net.parameters():
                p *= 1.5
    return learner


def both_airl_steps(learner: AIRL, expert: Tensor, policy: Tensor, shaping: bool = True) -> tuple[list[Tensor], ...]:
    """Statistics and gradients: by the kernels, by torch's own layers. Without shaping the logit is g − log π."""
    cfg, shaped, grad = learner.config, learner.discriminator, learner.optimizer.grad
    mix = torch.rand(len(expert), generator=torch.Generator().manual_seed(1))
    mix = mix if cfg.gp_coef and cfg.gp_kind == "interpolated" else None
    logit = shaped.logit() if shaping else shaped.logit()._replace(terms=shaped.logit().terms[:1])
    grad.fill_(math.nan if shaping else 0.0)  # all of it is written
    first, own = [by_the_kernels(cfg, logit, expert, policy, mix), grad.clone()], shaped.reward.width
    if not shaping:
        learner.discriminator = lambda rows: shaped.reward(rows[:, :own]) - rows[:, -1].detach()
    fused.enable(False)
    second = [learner._gradients_in_torch(expert, policy, mix), grad.clone()]
    fused.enable(True)
    learner.discriminator = shaped
    return first, second


def random_rows(learner: AIRL, rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    expert, policy = (torch.randn(rows, learner.discriminator.width, generator=generator) for _ in range(2))
    return expert, policy


@EACH_SET
@ACTIVATIONS
@pytest.mark.parametrize("penalty", ["interpolated", "zero_centred", "none"])
def test_an_airl_step_is_torchs(penalty: str, activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    keys = {"gp_coef": 0.0} if penalty == "none" else {"gp_kind": penalty, "gp_coef": 3.0}
    for inputs, action, hidden in (("state", "box", [64, 64]), ("state_action", "multidiscrete", [20, 33]),
                                   ("state_action", "unbounded", [9])):
        learner = airl_learner(make_spec(action), inputs, disc_activation=activation, disc_hidden=hidden,
                               disc_ent_coef=0.1, **keys)
        for rows in (1, 47, 250):
            for shaping in (True, False):
                ours, expected = both_airl_steps(learner, *random_rows(learner, rows), shaping)
                assert error(ours, expected) < 1e-5
        *_, worth, norm = ours[0].tolist()
        assert (worth > 0.01) == (penalty != "none") == (norm > 0)


@pytest.mark.parametrize("inputs", ["state", "next_state", "state_action"])
@pytest.mark.parametrize("action", ACTIONS)
def test_an_airl_step_on_its_own_rows_is_torchs(action: str, inputs: str) -> None:
    """Rows of demonstrations, with ends and absorbing states among them, made by the kernels and by torch."""
    spec, rng = make_spec(action, "int16", (2, 3)), np.random.default_rng(1)
    learner = airl_learner(spec, inputs)
    shaped, steps = learner.discriminator, learner.demo_steps
    shaped.update_norm(*obs_moments(shaped.flatten, learner.demo_obs))
    learner._ask_policy(slice(0, 300))
    assert bool(steps.ended.any()) and bool((steps.logprobs < 0).any())
    index = torch.from_numpy(rng.integers(300, size=200))
    made = []
    for on in (True, False):
        fused.enable(on)
        made.append([shaped.rows(learner.demo_obs, steps), shaped.rows(learner.demo_obs, steps, index)])
        into = torch.full((200, shaped.width + 2), 7.0)
        assert torch.equal(shaped.rows(learner.demo_obs, steps, index, into[:, 1:-1]), made[-1][1])
        assert torch.equal(into[:, 1:-1], made[-1][1]) and bool((into[:, [0, -1]] == 7).all())
    fused.enable(True)
    torch.testing.assert_close(made[0], made[1], rtol=1e-6, atol=1e-6)
    assert torch.equal(made[0][0][index], made[0][1])
    expert, policy = learner._with_absorbing(made[0][1], 0.1), made[0][0][:200]
    ours, expected = both_airl_steps(learner, expert, policy)
    assert error(ours, expected) < 1e-5


def test_any_number_of_threads_gives_the_same_airl_gradient() -> None:
    learner, results = airl_learner(make_spec("box"), disc_hidden=[64, 64]), []
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        results.append(both_airl_steps(learner, *random_rows(learner, 5001))[0])
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@EACH_SET
def test_a_nan_of_an_earlier_airl_step_is_forgotten(isa: str) -> None:
    kernels.use_instruction_set(isa)
    learner = airl_learner(make_spec("box"))
    before, _ = both_airl_steps(learner, *random_rows(learner, 7))
    nans = torch.full((100, learner.discriminator.width), math.nan)
    spoilt = discriminator_gradients(learner.discriminator.logit(), nans, nans, loss="bce", label_smoothing=0.0,
                                     ent_coef=0.0, gp_coef=1.0, gp_kind="zero_centred", gp_target=1.0, mix=None)
    assert spoilt is not None and bool(spoilt[0].isnan()) and bool(learner.optimizer.grad.isnan().any())
    after, _ = both_airl_steps(learner, *random_rows(learner, 7))
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("changes", [{"disc_hidden": [8] * 4}, {"shaping_hidden": [8] * 4}])
def test_other_airl_networks_are_torchs(changes: dict[str, Any]) -> None:
    learner = airl_learner(make_spec(), **changes)
    check_that_torch_steps(learner, learner.demo_steps)


# ---- behaviour cloning ----


def cloning_learner(spec: EnvSpec, batch_size: int = 64, policy: dict[str, Any] | None = None, **bc: Any) -> BC:
    torch.manual_seed(0)
    tables = {"bc": {"batch_size": batch_size, "validation": 0.0} | bc, "policy": {"hidden": [20, 33]} | (policy or {})}
    learner = BC(spec, make_demos(spec), config("bc", **tables), CPU, 0)
    shake(learner.policy)
    return learner


def cloned(spec: EnvSpec, on: bool, batch_size: int = 64, **keys: Any) -> tuple[list[float], list[Tensor]]:
    """Losses and weights after an epoch."""
    fused.enable(on)
    learner = cloning_learner(spec, batch_size, **keys)
    losses = learner._epoch()
    assert float(learner.optimizer.steps) == math.ceil(300 / batch_size)
    return losses, [p.detach().clone() for p in learner.policy.parameters()]


@EACH_SET
@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("action", ACTIONS)
def test_an_epoch_of_cloning_is_torchs(action: str, shared: bool, isa: str) -> None:
    kernels.use_instruction_set(isa)
    spec = make_spec(action)
    for keys in ({}, {"ent_coef": 0.05, "weight_decay": 0.1, "max_grad_norm": 0.0}, {"batch_size": 299}):
        (losses, ours), (expected_losses, expected) = (cloned(spec, on, policy={"shared": shared}, **keys)
                                                       for on in (True, False))
        np.testing.assert_allclose(losses, expected_losses, rtol=2e-5)
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@EACH_SET
@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("action", ACTIONS)
def test_the_score_of_a_clone_is_torchs(action: str, shared: bool, isa: str) -> None:
    kernels.use_instruction_set(isa)
    learner = cloning_learner(make_spec(action), 64, policy={"shared": shared})
    learner._epoch()
    scores = []
    for on in (True, False):
        fused.enable(on)
        with torch.no_grad():
            scores.append([float(x) for x in learner._score(learner.train)])
        assert (clone_score(learner.policy, learner.train.obs, learner.train.actions) is not None) == on
    np.testing.assert_allclose(scores[0], scores[1], rtol=2e-5, atol=1e-6)


@ACTIVATIONS
@pytest.mark.parametrize("dtype", ["float64", "uint8", "int16", "bool"])
def test_an_epoch_of_cloning_reads_observations_of_every_dtype(dtype: str, activation: str) -> None:
    spec = make_spec("box", dtype, (3, 2))
    (losses, ours), (expected_losses, expected) = (cloned(spec, on, policy={"activation": activation})
                                                   for on in (True, False))
    np.testing.assert_allclose(losses, expected_losses, rtol=2e-5)
    assert error(ours, expected) < 1e-4


def test_any_number_of_threads_clones_the_same() -> None:
    results = []
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        results.append(cloned(make_spec("box"), True, 300, policy={"hidden": [256, 256]}))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0][1], other[1], strict=True))


def test_a_smaller_last_minibatch_stays_within_its_memory() -> None:
    """15,361 rows go into fewer chunks of gradient sums than 15,360 do."""
    source = """
import numpy as np, torch
from puffer_il.kernels import _kernels as kernels
from puffer_il.core.config import PolicyConfig
from puffer_il.learners.common.cloning import clone_epoch
from puffer_il.nn.optim import FlatAdam
from puffer_il.nn.policy import Policy
from puffer_il.core.spec import ActionSpec, EnvSpec
kernels.set_threads(1)
policy = Policy(EnvSpec("", (8,), np.dtype(np.float32), ActionSpec(nvec=(2,))), PolicyConfig(hidden=(256, 256)))
n = 15361 + 15360
print(clone_epoch(policy, torch.randn(n, 8), torch.zeros(n, 1, dtype=torch.int32), np.arange(n), 15361, 0.0,
                  FlatAdam(policy.actor.parameters(), learning_rate=1e-3)))
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# ---- no call sees another's memory ----


def spoil_memory(net: nn.Module) -> None:
    """Leave a NaN wherever a network of this shape has its activations."""
    kernels.set_threads(1)
    with torch.no_grad():
        assert bool(net(torch.full((kernels.BLOCK_ROWS, net[0].in_features), math.nan)).isnan().all())


@EACH_SET
@pytest.mark.parametrize("action", ["discrete", "box"])
def test_a_nan_of_an_earlier_call_is_forgotten_by_ppo(action: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    spec = make_spec(action)
    learner = ppo_learner(spec)
    buffer = rollout_of(learner, spec)
    before, _ = both_steps(learner, buffer, np.arange(7), False)
    spoil_memory(learner.policy.actor)
    after, _ = both_steps(learner, buffer, np.arange(7), False)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@EACH_SET
def test_a_nan_of_an_earlier_call_is_forgotten_by_the_discriminator(isa: str) -> None:
    kernels.use_instruction_set(isa)
    learner = gail_learner(make_spec())
    before, _ = both_discriminator_steps(learner, 7)
    spoil_memory(learner.discriminator.net)
    after, _ = both_discriminator_steps(learner, 7)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@EACH_SET
def test_a_nan_of_an_earlier_call_is_forgotten_by_cloning(isa: str) -> None:
    kernels.use_instruction_set(isa)
    before = cloning_learner(make_spec(), 7)._epoch()
    learner = cloning_learner(make_spec(), 7)
    spoil_memory(learner.policy.actor)
    assert learner._epoch() == before


@EACH_SET
def test_a_nan_of_an_earlier_call_is_forgotten_by_networks_and_samples(isa: str) -> None:
    kernels.use_instruction_set(isa)
    learner = ppo_learner(make_spec("box"))
    obs = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    before = [*learner.policy.act(obs, noise=None, deterministic=True)[:3]]
    spoil_memory(learner.policy.actor)
    assert all(torch.equal(a, b) for a, b in zip(learner.policy.act(obs, deterministic=True)[:3], before, strict=True))
    net = make_net(5, (20,), 9, "silu")
    spoil_memory(net)
    x = obs.requires_grad_()
    gradient, = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)


# ---- rows and their moments ----


@pytest.mark.parametrize("masked", [False, True], ids=["all", "valid"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_are_those_of_float64(dtype: str, masked: bool) -> None:
    spec = make_spec(dtype=dtype, shape=(3, 4))
    rng = np.random.default_rng(0)
    for n in (1, 2, 4096, 9001):
        obs, valid = random_obs(spec, n, rng), rng.random(n) < 0.7
        valid[0] = True
        counted = obs[valid] if masked else obs
        reference = counted.reshape(len(counted), -1).astype(np.float32).astype(np.float64)  # as networks see them
        found = []
        for threads in (1, 3):
            kernels.set_threads(threads)
            found.append(obs_moments(Flatten(spec), torch.from_numpy(obs), torch.from_numpy(valid) if masked else None))
            mean, variance, count = found[-1]
            assert mean.dtype == variance.dtype == torch.float32 and count == len(counted)
            np.testing.assert_allclose(mean, reference.mean(0), rtol=1e-6)
            np.testing.assert_allclose(variance, reference.var(0), rtol=1e-5, atol=1e-9)
        assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
        fused.enable(False)
        slow = obs_moments(Flatten(spec), torch.from_numpy(obs), torch.from_numpy(valid) if masked else None)
        fused.enable(True)
        assert error(slow[:2], [torch.from_numpy(reference.mean(0)), torch.from_numpy(reference.var(0))]) < 1e-4


def test_moments_far_from_zero_keep_their_digits() -> None:
    spec = make_spec(shape=(1,))
    obs = (1e5 + np.random.default_rng(0).normal(size=(5000, 1))).astype(np.float32)
    _, variance, _ = obs_moments(Flatten(spec), torch.from_numpy(obs))
    np.testing.assert_allclose(variance, obs.astype(np.float64).var(0), rtol=1e-6)


@pytest.mark.parametrize("garbage", [1e20, math.nan])
def test_an_invalid_first_row_does_not_enter_the_moments(garbage: float) -> None:
    spec = make_spec()
    obs = random_obs(spec, 100, np.random.default_rng(0))
    obs[0] = garbage
    valid = torch.arange(100) > 0
    mean, variance, count = obs_moments(Flatten(spec), torch.from_numpy(obs), valid)
    assert count == 99
    np.testing.assert_allclose(mean, obs[1:].mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, obs[1:].var(0), rtol=1e-5)


def test_no_rows_have_moments_without_a_crash() -> None:
    _, _, count = obs_moments(Flatten(make_spec()), torch.zeros(0, *make_spec().obs_shape))
    assert count == 0


def test_moments_of_wide_observations_do_not_overrun_the_stack() -> None:
    source = """
import numpy as np, torch
from puffer_il.nn.observations import Flatten, obs_moments
from puffer_il.core.spec import ActionSpec, EnvSpec
flatten = Flatten(EnvSpec("", (1200, 1000), np.dtype(np.float32), ActionSpec(nvec=(2,))))
print(obs_moments(flatten, torch.ones(3, 1200, 1000)))
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def make_discriminator(spec: EnvSpec, hidden: tuple[int, ...] = (8,), activation: str = "tanh") -> Discriminator:
    torch.manual_seed(0)
    discriminator = Discriminator(spec, hidden, activation, False)
    shake(discriminator.net)
    obs = random_obs(spec, 200, np.random.default_rng(9))
    discriminator.update_norm(*obs_moments(discriminator.flatten, torch.from_numpy(obs)))
    return discriminator


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pairs_are_torchs(dtype: str, action: str) -> None:
    spec = make_spec(action, dtype, (2, 3))
    rng = np.random.default_rng(0)
    discriminator = make_discriminator(spec)
    obs, actions = (torch.from_numpy(f(spec, 2500, rng)) for f in (random_obs, random_actions))
    obs[5] = 100  # beyond what is clipped
    for index in (None, torch.randint(2500, (3000,)), torch.randint(2500, (3000,))[17:], torch.arange(0)):
        found = []
        for on in (True, False):
            fused.enable(on)
            found.append(discriminator.rows(obs, actions, index))
        assert found[0].shape == (2500 if index is None else len(index), discriminator.width)
        torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)
        into = torch.full((*found[0].shape[:1], discriminator.width + 1), 7.0)
        discriminator.rows(obs, actions, index, into[:, 1:])  # by torch
        fused.enable(True)
        assert torch.equal(into[:, 1:], found[1]) and bool((into[:, 0] == 7).all())
        assert torch.equal(discriminator.rows(obs, actions, index, into[:, 1:]), found[0])
        assert torch.equal(into[:, 1:], found[0]) and bool((into[:, 0] == 7).all())
    kernels.set_threads(3)
    assert torch.equal(discriminator.rows(obs, actions), discriminator.rows(obs.clone(), actions.clone()))
    strided = discriminator.rows(obs[::2], actions[::2])
    assert torch.equal(strided, discriminator.rows(obs[::2].contiguous(), actions[::2].contiguous()))


@EACH_SET
@ACTIVATIONS
@pytest.mark.parametrize("action", ACTIONS)
def test_logits_of_pairs_are_the_discriminators(action: str, activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    for dtype, hidden in (("float32", (64, 64)), ("uint8", (20,)), ("int64", (9, 300))):
        spec, rng = make_spec(action, dtype, (2, 3)), np.random.default_rng(0)
        discriminator = make_discriminator(spec, hidden, activation)
        for n in (1, 49, 3001):
            obs, actions = (torch.from_numpy(f(spec, n, rng)) for f in (random_obs, random_actions))
            kernels.set_threads(1 + n % 3)
            ours = discriminator.logits(obs, actions)
            assert ours is not None and ours.shape == (n,)
            with torch.no_grad():
                expected = discriminator(discriminator.rows(obs, actions))
                torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
                fused.enable(False)
                torch.testing.assert_close(ours, discriminator(discriminator.rows(obs, actions)), rtol=1e-4, atol=1e-5)
            assert discriminator.logits(obs, actions) is None
            fused.enable(True)


@EACH_SET
@pytest.mark.parametrize("kind", ["state_next_state", "state"])
def test_rows_and_logits_without_actions_are_torchs(kind: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    for dtype in DTYPES:
        spec, rng = make_spec("box", dtype, (2, 3)), np.random.default_rng(0)
        torch.manual_seed(0)
        discriminator = Discriminator(spec, (20,), "tanh", False, kind)
        obs, later = (torch.from_numpy(random_obs(spec, 3001, rng)) for _ in range(2))
        beside = later if kind == "state_next_state" else None
        discriminator.update_norm(*obs_moments(discriminator.flatten, obs))
        later[5] = 100  # beyond what is clipped
        for index in (None, torch.randint(3001, (500,)), torch.arange(0)):
            found = []
            for on in (True, False):
                fused.enable(on)
                found.append(discriminator.rows(obs, beside, index))
            assert found[0].shape == (3001 if index is None else len(index), 13 if beside is not None else 7)
            torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
        fused.enable(True)
        logits = discriminator.logits(obs, beside)
        assert logits is not None
        with torch.no_grad():
            torch.testing.assert_close(logits, discriminator(discriminator.rows(obs, beside)), rtol=1e-5, atol=1e-5)


def test_logits_of_other_discriminators_are_torchs() -> None:
    spec, rng = make_spec(), np.random.default_rng(0)
    obs, actions = (torch.from_numpy(f(spec, 20, rng)) for f in (random_obs, random_actions))
    for discriminator in (Discriminator(spec, (8,), "tanh", True), make_discriminator(spec, (8,) * 4)):
        assert discriminator.logits(obs, actions) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert make_discriminator(spec).logits(obs, actions) is None


def test_logits_of_a_discriminator_of_another_dtype_are_torchs() -> None:
    spec, rng = make_spec(), np.random.default_rng(0)
    obs, actions = (torch.from_numpy(f(spec, 20, rng)) for f in (random_obs, random_actions))
    assert make_discriminator(spec).double().logits(obs, actions) is None


def test_pairs_of_an_index_that_is_not_contiguous() -> None:
    spec = make_spec()
    rng = np.random.default_rng(0)
    obs, actions = (torch.from_numpy(f(spec, 100, rng)) for f in (random_obs, random_actions))
    discriminator, index = make_discriminator(spec), torch.randint(100, (60,))[::3]
    assert torch.equal(discriminator.rows(obs, actions, index), discriminator.rows(obs, actions, index.clone()))


def test_pairs_of_actions_of_another_dtype() -> None:
    spec = make_spec("box")
    rng = np.random.default_rng(0)
    obs, actions = (torch.from_numpy(f(spec, 100, rng)) for f in (random_obs, random_actions))
    discriminator = make_discriminator(spec)
    assert torch.equal(discriminator.rows(obs, actions.double()), discriminator.rows(obs, actions))
