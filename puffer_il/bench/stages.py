"""Each stage of a training loop alone, on a real rollout of CartPole, against the limit that bounds it.

Floating-point operations are those of the networks' matrices, two per multiply-add: forward 2 per weight and row,
forward and backward 6, and the discriminator's gradient penalty 12 (forward, gradient by the input, and the gradient
of that by the weights). Activations, losses and sampling are work too, but are not counted.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from puffer_il.bench.limits import Limits, Need, RawSteps, Stage, measure_stage
from puffer_il.bench.loops import Loop
from puffer_il.bench.measure import Effort, Say, Work
from puffer_il.bench.memory import buffer_stages
from puffer_il.kernels.threads import cores
from puffer_il.learners.common.discriminator import Discriminator, discriminator_gradients
from puffer_il.learners.common.rewards import reward_from_logits
from puffer_il.native.catalogue import env_folders
from puffer_il.native.native_env import NativeEnv
from puffer_il.nn import FlatAdam, obs_moments
from puffer_il.vector.vec import make_vec

FORWARD, FORWARD_BACKWARD, PENALTY = 2, 6, 12  # operations per weight and row


def stages(results: list[dict[str, Any]], num_envs: int, num_steps: int, hidden: tuple[int, ...], effort: Effort,
           say: Say) -> None:
    """The stages that do not depend on the network once, the others for every hidden width (two such layers)."""
    limits = Limits()
    for k, width in enumerate(hidden):
        with ExitStack() as stack:
            keys = {"env.num_envs": num_envs, "train.num_steps": num_steps, "policy.hidden": [width, width],
                    "gail.disc_hidden": [width, width], "ppo.learning_rate": 0.0}
            say(f"stages: setting up 2×{width}")
            loop = Loop("gail", keys, stack)
            chosen = _network_stages(loop, limits, {"hidden": width})
            for stage in ([*_plain_stages(loop, limits, stack), *chosen] if k == 0 else chosen):
                say(f"stages: {stage.name}, 2×{width}")
                results.append(measure_stage(stage, effort))


def weights(*networks: nn.Module) -> int:
    """Multiply-adds of a forward pass per row."""
    return sum(layer.in_features * layer.out_features for network in networks for layer in network.modules()
               if isinstance(layer, nn.Linear))


def _plain_stages(loop: Loop, limits: Limits, stack: ExitStack) -> Iterator[Stage]:
    """Stepping, the buffer, and what else has no network in it."""
    buffer = loop.run.collector.buffer  # type: ignore[union-attr]
    n, steps = buffer.num_envs, buffer.num_steps
    rows, raw = n * steps, RawSteps(env_folders()["cartpole"], n, steps)
    env = NativeEnv(env_folders()["cartpole"], n)
    env.reset(0)
    vec = stack.enter_context(make_vec("cartpole", num_envs=n))
    vec.reset(0)
    yield Stage("env: a call per step", lambda: [env.step(a) for a in raw.actions], rows, 1,
                [limits.steps(raw, rows, 1)])
    actions = raw.actions.reshape(steps, n, -1)
    yield Stage("vec: a Batch per step", lambda: [vec.step(a) for a in actions], rows, 1, [limits.steps(raw, rows, 1)])
    yield from buffer_stages(buffer, limits)
    obs = torch.from_numpy(buffer.flat().obs)
    yield Stage("normaliser: moments", lambda: obs_moments(loop.run.learner.policy.flatten, obs), rows, cores(),
                [limits.bytes("read", obs.numel() * obs.element_size(), obs.numel() * obs.element_size(), cores())])


def _network_stages(loop: Loop, limits: Limits, settings: dict[str, Any]) -> Iterator[Stage]:
    learner: Any = loop.run.learner
    collector, threads = loop.run.collector, cores()
    assert collector is not None
    buffer, policy, config = collector.buffer, learner.policy, loop.run.config
    n, steps = buffer.num_envs, buffer.num_steps
    rows, macs, disc_macs = n * steps, weights(policy), weights(learner.discriminator)
    raw = RawSteps(env_folders()["cartpole"], n, steps)
    flat = buffer.flat()
    obs, actions = torch.from_numpy(flat.obs), torch.from_numpy(flat.actions)
    first = torch.from_numpy(buffer.obs[0].copy())

    def stage(name: str, work: Any, count: int, *needs: Need) -> Stage:
        return Stage(name, work, count, threads, needs, settings)

    yield stage("act: one vector step", lambda: policy.act(first, None, collector.noise), n,
                limits.flops(FORWARD * macs * n, threads))
    yield stage("rollout: act, step, write", collector.collect, rows, limits.flops(FORWARD * macs * rows, threads),
                limits.steps(raw, rows, threads))
    count = learner.batch_size
    update = _discriminator_update(learner.discriminator, obs, actions, count, config.gail.gp_coef)
    yield stage("discriminator update", update, 2 * count,
                limits.flops((2 * FORWARD_BACKWARD + PENALTY) * disc_macs * count, threads))
    yield stage("reward: whole rollout", lambda: _rewards(learner.discriminator, obs, actions), rows,
                limits.flops(FORWARD * disc_macs * rows, threads))
    learner.advantages(buffer)
    yield stage("PPO update: one epoch", lambda: learner.ppo.update(buffer, 0.0), rows,
                limits.flops(FORWARD_BACKWARD * macs * rows, threads))


def _discriminator_update(discriminator: Discriminator, obs: Tensor, actions: Tensor, count: int,
                          gp_coef: float) -> Work:
    """One update as GAIL makes it: rows drawn and gathered from both sides, gradients with the penalty, Adam. What is
    expert makes no difference to the time. The learning rate is 0, so that it can be done again and again."""
    optimizer = FlatAdam((p for p in discriminator.parameters() if p.requires_grad), learning_rate=0.0)
    generator = torch.Generator().manual_seed(0)

    def work() -> None:
        optimizer.prepare()
        expert, policy = (discriminator.rows(obs, actions, torch.randint(len(obs), (count,), generator=generator))
                          for _ in range(2))
        mix = torch.rand(count, generator=generator)
        discriminator_gradients(discriminator.logit(), expert, policy, loss="bce", label_smoothing=0.0, ent_coef=1e-3,
                                gp_coef=gp_coef, gp_kind="interpolated", gp_target=1.0, mix=mix)
        optimizer.step()

    return work


@torch.no_grad()
def _rewards(discriminator: Discriminator, obs: Tensor, actions: Tensor) -> None:
    reward_from_logits(discriminator.logits(obs, actions), "logit", 10.0)
