"""`--peers`: ourselves and others in turn, each in a process or environment of its own (see peers/run.py)."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from puffer_il.bench.limits import RawSteps
from puffer_il.bench.loops import GAIL_VARIANTS, Keys, Loop, time_to_expert
from puffer_il.bench.measure import Say, figure
from puffer_il.bench.peers.run import Entry, EntryResult, Sample, interleave, peer_entry, ratio
from puffer_il.demos import shipped_path
from puffer_il.kernels import _kernels as kernels
from puffer_il.kernels.threads import cores
from puffer_il.native.catalogue import env_folders
from puffer_il.training.process import set_threads

Make = Callable[[ExitStack, Say], Entry]
MUJOCO = {"hopper": "Hopper", "halfcheetah": "HalfCheetah", "walker2d": "Walker2d", "ant": "Ant", "swimmer": "Swimmer",
          "humanoid": "Humanoid", "reacher": "Reacher"}
ENVPOOL = ((64, 64), (256, 256), (64, 32), (256, 128))  # environments, and how many of them a step waits for
SOFT_ROWS, SOFT_UPDATES, SOFT_REPEATS = 256, 64, 4  # of SAC: rows of an update, updates of a call, calls of a sample
ROLLOUT = 4096 * 64  # steps of one iteration, ours as well as PufferLib's


@dataclass(frozen=True)
class Group:
    """Competitors that are measured in turn, ours and theirs; `unit` is what is counted per second."""

    name: str
    unit: str
    entries: Sequence[Make]


def ours(name: str, algo: str, keys: Keys) -> Make:
    return lambda stack, say: Entry(f"puffer_il {name}", Loop(algo, keys, stack, 1.0))


def theirs(peer: str, name: str, **settings: Any) -> Make:
    return lambda stack, say: peer_entry(peer, f"{peer} {name}", settings, say)


def groups() -> list[Group]:
    demos = str(shipped_path("cartpole"))
    made = [Group("GAIL", "steps", [
        *(ours(f"GAIL{name}", "gail", keys) for name, keys in GAIL_VARIANTS.items()),
        theirs("imitation", "GAIL, tuned", mode="gail", demos=demos)])]
    for epochs in (1, 4):
        for minibatch in (32_768, 65_536):
            keys: Keys = {"ppo.update_epochs": epochs, "ppo.num_minibatches": ROLLOUT // minibatch}
            settings = {"epochs": epochs, "minibatch": minibatch}
            entries = [ours("PPO", "ppo", keys), theirs("pufferlib", "PPO, 1 thread", threads=1, **settings),
                       theirs("pufferlib", "PPO, its own threads", **settings)]
            if (epochs, minibatch) == (4, 32_768):
                entries.append(theirs("sb3", "PPO"))
            name = f"PPO, {epochs} epoch{'s' * (epochs > 1)}, minibatches of {minibatch:,}"
            made.append(Group(name, "steps", entries))
    for batch in (256, 4096):
        made.append(Group(f"BC, batches of {batch:,}", "samples", [
            ours("BC", "bc", {"bc.batch_size": batch}),
            theirs("imitation", "BC", mode="bc", demos=demos, batch_size=batch),
            *([theirs("imitation", "BC, its default batch of 32", mode="bc", demos=demos)] if batch == 256 else [])]))
    made += [Group(f"SAC, 2×{width}", "updates", [
        soft_updates(width, norm=False), soft_updates(width, norm=True),
        *([soft_updates(width, norm=False, bf16="on")] if kernels.has_bf16() else []),
        theirs("sb3_sac", "SAC", net_arch=[width, width], batch_size=SOFT_ROWS, updates=SOFT_UPDATES, threads=1)])
        for width in (64, 256)]
    return [*made, pictures(1, 16, 256), pictures(4, 8, 128)]


def pictures(scale: int, num_envs: int, num_steps: int) -> Group:
    """PPO on Breakout's four planes of 21·`scale` pixels, 4 epochs of 4 minibatches on one thread; actor and critic
    share the convolutions and have a hidden layer of 64 units each."""
    keys: Keys = {"env.name": "breakout", "env.kwargs": {"scale": scale}, "env.num_envs": num_envs,
                  "train.num_steps": num_steps, "train.threads": 1, "train.torch_threads": 1, "demos.source": "",
                  "ppo.update_epochs": 4, "ppo.num_minibatches": 4, "policy.hidden": [64], "policy.activation": "relu"}
    size = 21 * scale
    settings = {"size": size, "n_envs": num_envs, "n_steps": num_steps, "batch_size": num_envs * num_steps // 4}
    return Group(f"Pictures of 4×{size}×{size}, PPO", "steps", [
        ours("PPO", "ppo", keys), theirs("sb3_pictures", "PPO, the same network", **settings),
        *([theirs("sb3_pictures", "PPO, NatureCNN", network="nature", **settings)] if size >= 36 else [])])  # its least


def soft_updates(width: int, norm: bool, bf16: str = "off") -> Make:
    """Gradient updates of SAC on Pendulum, on one thread, with and without normalised critics and bf16; the network is
    Stable-Baselines3's: rectified units, a spread that depends on the state, a learned temperature."""
    keys: Keys = {"env.name": "pendulum", "env.num_envs": 64, "train.num_steps": 8, "train.threads": 1,
                  "train.bf16": bf16, "demos.source": "", "policy.hidden": [width, width], "policy.activation": "relu",
                  "policy.squash": True, "policy.state_std": True, "sac.critic_hidden": [width, width],
                  "sac.critic_norm": norm, "sac.target_negentropy": 1.0, "sac.updates": 1, "sac.warmup": 0}

    def make(stack: ExitStack, say: Say) -> Entry:
        loop = Loop("sac", keys, stack)
        learner: Any = loop.run.learner

        def work() -> Sample:
            set_threads(loop.run.config.train)
            begin = time.perf_counter()
            for _ in range(SOFT_REPEATS):
                learner.learn(learner.replay.sample(SOFT_UPDATES, SOFT_ROWS))
            return {"steps": SOFT_REPEATS * SOFT_UPDATES, "seconds": time.perf_counter() - begin}

        return Entry(f"puffer_il SAC{', normalised critics' if norm else ''}{', bf16' if bf16 == 'on' else ''}", work)

    return make


def mujoco_groups() -> list[Group]:
    """The MuJoCo environments beside EnvPool's, the same physics in C++ on threads, under random actions drawn
    beforehand. EnvPool takes part with several numbers of environments, and in its asynchronous mode."""
    return [Group(f"MuJoCo, {task}-v5", "steps", [steps(name), *(
        theirs("envpool", f"{count} by {batch}", id=f"{task}-v5", num_envs=count, batch_size=batch, cores=cores(),
               unit_seconds=0.5) for count, batch in ENVPOOL)]) for name, task in MUJOCO.items()]


def steps(name: str, num_envs: int = 128) -> Make:
    """Our environment, stepped by all cores; one sample is 256 steps of all environments."""
    def make(stack: ExitStack, say: Say) -> Entry:
        raw = RawSteps(env_folders()[name], num_envs, 256)

        def work() -> Sample:
            begin = time.perf_counter()
            for actions in raw.actions:
                raw.env.step(actions)
            return {"steps": 256 * num_envs, "seconds": time.perf_counter() - begin}

        return Entry(f"puffer_il {num_envs}", work)

    return make


def compare(results: list[dict[str, Any]], rounds: int, say: Say, chosen: Sequence[Group]) -> None:
    """Group by group; each is in `results` as soon as it is done."""
    for group in chosen:
        with ExitStack() as stack:
            entries = [make(stack, lambda line: say(f"peers: {line}")) for make in group.entries]
            results.append(compared(group, interleave(entries, rounds, lambda line: say(f"peers: {line}"))))


def compared(group: Group, done: Sequence[EntryResult]) -> dict[str, Any]:
    """Rates and stages of everyone, and each of ours over each of theirs, pair by pair."""
    entries = [{"name": result.name, **({"rate": result.rate} if result.samples else {}), "stages": result.stages,
                "error": result.error, **{key: result.facts.get(key) for key in ("versions", "settings")}}
               for result in done]
    own = [r for r in done if r.name.startswith("puffer_il")]
    pairs = [{"ours": a.name, "theirs": b.name, "ratio": r}
             for b in done if b not in own for a in own if (r := ratio(a, b))]
    return {"name": group.name, "unit": group.unit, "entries": entries, "ratios": pairs}


def expert_times(results: list[dict[str, Any]], seeds: int, with_peer: bool, say: Say) -> None:
    """Seconds from the start of the process until an evaluation reaches the expert, for seeds 1 to `seeds`."""
    numbers = iter(range(1, seeds + 1))
    entries = [Entry("puffer_il GAIL", lambda: time_to_expert(next(numbers)))]
    if with_peer:
        entries.append(peer_entry("imitation", "imitation GAIL, tuned",
                                  {"mode": "time_to_expert", "demos": str(shipped_path("cartpole")), "seed": 1}, say))
    for result in interleave(entries, seeds, lambda line: say(f"time to the expert: {line}")):
        own = result.name.startswith("puffer_il")
        times = [s["expert_s"] if own else s["process_seconds"] if s["reached"] else None for s in result.samples]
        reached = [t for t in times if t is not None]
        results.append({"name": result.name, "unit": "seconds to the expert", "error": result.error, "times": times,
                        "steps": [s["steps"] for s in result.samples],
                        **({"seconds": figure(reached)} if reached else {})})


def best_of_theirs(group: dict[str, Any], peer: str) -> str | None:
    """The name under which a peer was fastest in a group."""
    rates = {e["name"]: e["rate"]["median"] for e in group["entries"] if e["name"].startswith(peer) and "rate" in e}
    return max(rates, key=lambda name: rates[name]) if rates else None
