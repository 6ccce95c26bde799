"""Updates as recorded graphs learn what the updates themselves learn, and recording leaves no trace.

Without a GPU a stand-in records and replays (tests/support/recorded_graphs.py), so that everything but the recording
itself is tested everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from puffer_il.core.config import Config
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.learners.airl import AIRL
from puffer_il.learners.amp import AMP
from puffer_il.learners.bc import BC
from puffer_il.learners.common import cuda_graphs
from puffer_il.learners.common.cuda_graphs import MOST_GRAPHS, Graphs
from puffer_il.learners.common.off_policy import SoftActorCritic
from puffer_il.learners.csil import CSIL
from puffer_il.learners.deep_maxent_irl import DeepMaxEntIRL
from puffer_il.learners.experiment import build
from puffer_il.learners.gaifo import GAIfO
from puffer_il.learners.gail import GAIL
from puffer_il.learners.mm import MM
from puffer_il.learners.ppo import PPO
from puffer_il.learners.sac import SAC
from puffer_il.nn import FlatAdam, fused
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.tensors import DeviceRollout
from tests.support.recorded_graphs import Graph, stand_in

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SPECS = {
    "discrete": EnvSpec("discrete", (3,), np.dtype(np.float32), ActionSpec(nvec=(3,))),
    "continuous": EnvSpec("continuous", (3,), np.dtype(np.float32),
                          ActionSpec(low=np.float32([-2, 0]), high=np.float32([2, 1]), shape=(2,)))}
ADVERSARIAL: dict[str, tuple[type, dict[str, Any]]] = {
    "gail": (GAIL, {}), "gail, zero-centred": (GAIL, {"gp_kind": "zero_centred"}),
    "gail, no penalty": (GAIL, {"gp_coef": 0.0}), "gail, spectral norm": (GAIL, {"spectral_norm": True}),
    "gail, replay": (GAIL, {"replay_size": 40}), "gail, smoothed": (GAIL, {"label_smoothing": 0.1}),
    "gaifo": (GAIfO, {}), "amp": (AMP, {"replay_size": 60}), "mm": (MM, {}), "airl": (AIRL, {"replay_size": 50}),
    "deep_maxent_irl": (DeepMaxEntIRL, {})}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The graphs that were recorded, while torch alone learns."""
    monkeypatch.setattr(FlatAdam, "__init__", _without_kernel(FlatAdam.__init__))
    fused.enable(False)
    yield stand_in(monkeypatch)
    fused.enable(True)


def _without_kernel(init: Any) -> Any:
    def without(self: FlatAdam, *args: Any, **keys: Any) -> None:
        init(self, *args, **keys)
        self.kernel = None  # graphs are for devices, where the optimiser's step is torch's
        self.prepare()

    return without


def demos_of(spec: EnvSpec, n: int = 60) -> Demos:
    rng = np.random.default_rng(0)
    obs, ends, none = rng.normal(size=(n, 3)).astype(np.float32), np.arange(n) % 10 == 9, np.zeros(n, bool)
    return Demos(obs, actions_of(spec, rng, n), np.roll(obs, -1, 0), ends, none, np.arange(0, n, 10),
                 np.ones(n, np.float32))


def actions_of(spec: EnvSpec, rng: np.random.Generator, *lead: int) -> np.ndarray:
    if spec.action.discrete:
        return rng.integers(0, spec.action.nvec[0], (*lead, 1)).astype(np.int32)
    return rng.uniform(spec.action.low, spec.action.high, (*lead, 2)).astype(np.float32)


def rollout(buffer: RolloutBuffer, spec: EnvSpec, seed: int, invalid: bool = False) -> RolloutBuffer:
    """Another rollout in the same buffer, on the device."""
    rng, n = np.random.default_rng(seed), buffer.num_envs
    buffer.start()
    for t in range(buffer.num_steps):
        obs = rng.normal(size=(n, 3)).astype(np.float32)
        buffer.write_actions(t, slice(0, n), obs, actions_of(spec, rng, n), rng.normal(-1, 0.1, n).astype(np.float32),
                             rng.normal(size=n).astype(np.float32))
        ends, valid = rng.random(n) < 0.2, np.ones(n, bool)
        valid[0] = not (invalid and t % 2)
        buffer.write_outcome(t, slice(0, n), rng.normal(size=n).astype(np.float32), ends & valid, np.zeros(n, bool),
                             valid, obs)
    buffer.last_obs[:] = rng.normal(size=(n, 3))
    buffer.compute_advantages(0.9, 0.95)
    return buffer


def new_buffer(spec: EnvSpec) -> RolloutBuffer:
    buffer = RolloutBuffer(spec, 8, 6)
    buffer.rollout = DeviceRollout(buffer, DEVICE)
    return buffer


def make(monkeypatch: pytest.MonkeyPatch, graphs: bool, cls: type, spec: EnvSpec, demos: Demos | None = None,
         **tables: Any) -> Any:
    torch.manual_seed(0)
    config: Config = build(cls.name, [("test", {"policy": {"hidden": [8]}} | tables)])
    for module in ("ppo", "sac", "common.adversarial", "common.graphed_cloning"):
        monkeypatch.setattr(f"puffer_il.learners.{module}.wanted", lambda config, device: graphs)
    return cls(spec, demos, config, DEVICE, 0)


def weights(learner: Any) -> dict[str, Tensor]:
    """All tensors that a learner would save."""
    found: dict[str, Tensor] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Tensor):
            found[path] = value.clone()
        elif isinstance(value, dict):
            for key, part in value.items():
                walk(f"{path}.{key}", part)
        elif isinstance(value, list | tuple):
            for k, part in enumerate(value):
                walk(f"{path}.{k}", part)

    walk("", learner.state_dict())
    return found


def check_alike(learners: list[Any], metrics: list[list[dict[str, float]]]) -> None:
    plain, recorded = map(weights, learners)
    assert plain.keys() == recorded.keys() and len(plain) > 5
    for name, tensor in plain.items():
        torch.testing.assert_close(recorded[name], tensor, rtol=1e-6, atol=1e-6, msg=f"{name}: {recorded[name]}")
    for ours, expected in zip(metrics[1], metrics[0], strict=True):
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert not learners[1].notices


def replays(made: list[Graph]) -> int:
    return sum(graph.replays for graph in made)


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("minibatch", ["columns", "rows"])
def test_ppo(made, monkeypatch, kind, minibatch):
    learners, metrics = [], []
    for graphs in (False, True):
        spec = SPECS[kind]
        ppo = {"minibatch": minibatch, "num_minibatches": 4, "update_epochs": 3, "ent_coef": 0.01, "vf_clip_coef": 0.2,
               "learning_rate": 1e-2, "target_kl": 0.0}
        learner, buffer = make(monkeypatch, graphs, PPO, spec, ppo=ppo), new_buffer(spec)
        # Other rollouts in the same memory, other moments and learning rates, then some rows that do not count.
        metrics.append([learner.update(rollout(buffer, spec, seed, seed == 3), 0.2 * seed) for seed in range(5)])
        learners.append(learner)
    check_alike(learners, metrics)
    sizes = 2 if minibatch == "columns" else 1  # 6 environments in 4 parts
    assert DEVICE.type == "cuda" or (len(made) == 2 * sizes and replays(made) == 5 * 12 - 2 * sizes)


@pytest.mark.parametrize("invalid", [False, True])
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("case", ADVERSARIAL)
def test_discriminators(made, monkeypatch, case, kind, invalid):
    (cls, keys), spec, learners, metrics = ADVERSARIAL[case], SPECS[kind], [], []
    for graphs in (False, True):
        learner = make(monkeypatch, graphs, cls, spec, demos_of(spec), ppo={"update_epochs": 1, "num_minibatches": 2},
                       **{cls.name: {"disc_batch_size": 16, "disc_updates": 4} | keys})
        buffer = new_buffer(spec)
        metrics.append([])
        for seed in range(4):
            found = learner.relabel(rollout(buffer, spec, seed, invalid))
            learner.advantages(buffer)
            metrics[-1].append(found | learner.update(buffer, 0.1 * seed))
        learners.append(learner)
    check_alike(learners, metrics)
    # All but the first of the discriminator, of its first one with old rows, and of PPO.
    assert DEVICE.type == "cuda" or replays(made) == 4 * 4 - 1 - ("replay_size" in keys) + 4 * 2 - 1


@pytest.mark.parametrize("keys", [{}, {"target_negentropy": 0.5, "updates": 5}, {"critic_norm": False},
                                  {"max_grad_norm": 0.1, "updates": 0}])
@pytest.mark.parametrize("kind", SPECS)
def test_sac(made, monkeypatch, kind, keys):
    spec, learners, metrics = SPECS[kind], [], []
    for graphs in (False, True):
        sac = {"batch_size": 8, "updates": 6, "critic_hidden": (8,)} | keys
        learner, buffer = make(monkeypatch, graphs, SAC, spec, sac=sac), new_buffer(spec)
        metrics.append([learner.update(rollout(buffer, spec, seed, seed > 1), 0.0) for seed in range(4)])
        # Ends are worth something else, and the policy does not move.
        learner.learn(learner.replay.sample(4, 8), end_value=1.5, move=False)
        learner.learn(learner.replay.sample(4, 8), end_value=-2.5)
        learners.append(learner)
    check_alike(learners, metrics)
    assert DEVICE.type == "cuda" or replays(made) > 20


def test_an_anchor_in_sac(made, monkeypatch):
    spec, learners = SPECS["continuous"], []
    for graphs in (False, True):
        learner = make(monkeypatch, graphs, CSIL, spec, demos_of(spec), sac={"batch_size": 8, "updates": 6},
                       csil={"refine": 2, "critic_updates": 6}, bc={"patience": 1})
        buffer = new_buffer(spec)
        for seed in range(4):
            learner.relabel(rollout(buffer, spec, seed))
            learner.update(buffer, 0.0)
        assert isinstance(learner.sac.engine, SoftActorCritic) and learner.sac.engine.anchor is not None
        assert float(learner.sac.engine.anchor.distance) > 0
        learners.append(learner)
    check_alike(learners, [[], []])
    assert DEVICE.type == "cuda" or replays(made) > 10


@pytest.mark.parametrize(("kind", "bc", "policy"), [
    ("discrete", {}, {}), ("discrete", {"class_balanced": True, "label_smoothing": 0.1}, {}),
    ("discrete", {"ent_coef": 0.01, "loss": "mse"}, {}), ("continuous", {}, {"state_std": True}),
    ("continuous", {"loss": "mse"}, {}), ("continuous", {}, {"head": "mixture"}), ("continuous", {}, {"chunk": 3}),
    ("discrete", {}, {"chunk": 3})])
def test_cloning(made, monkeypatch, kind, bc, policy):
    spec, learners, metrics = SPECS[kind], [], []
    for graphs in (False, True):
        learner = make(monkeypatch, graphs, BC, spec, demos_of(spec), bc={"batch_size": 16, "patience": 0} | bc,
                       policy={"hidden": [8]} | policy)
        metrics.append([learner.update(None, 0.0) for _ in range(4)])
        learners.append(learner)
    check_alike(learners, metrics)
    assert DEVICE.type == "cuda" or (len(made) == 2 and replays(made) == 4 * 4 - 2)  # of 54 rows, and the last six


@pytest.mark.parametrize(("policy", "what"), [({"head": "flow"}, "a flow"), ({"lstm": 4}, "sequences")])
def test_cloning_that_graphs_do_not_cover_says_so(made, monkeypatch, policy, what):
    spec = SPECS["continuous"]
    learner = make(monkeypatch, True, BC, spec, demos_of(spec), policy={"hidden": [8]} | policy)
    assert np.isfinite(learner.update(None, 0.0)["losses/grad_norm"])
    assert not made and learner.notices == [f"train.cuda_graphs = true: cloning of {what} runs without CUDA graphs"]


def step_of(numbers: Tensor) -> Any:
    def step(x: Tensor) -> Tensor:
        numbers.add_(x.sum())
        return numbers.sum() * 2

    return step


def test_a_graph_is_recorded_at_the_second_call_and_again_for_other_shapes_and_places(made):
    (numbers, other), notices = torch.zeros(2, 2, device=DEVICE), []
    graphs, step, total = Graphs("sums", DEVICE, lambda: [numbers, other], notices), step_of(numbers), 0.0
    for size, count in ((3, 0), (3, 1), (3, 1), (5, 1), (5, 2), (3, 2)):
        result = graphs(step, (torch.ones(size),))
        total += size
        assert numbers.tolist() == [total, total] and float(result) == 4 * total and len(graphs.recorded) == count
    for _ in range(3):
        graphs(step_of(other), (torch.ones(3),), (other,))
    assert other.tolist() == [9, 9] and numbers.tolist() == [total, total] and len(graphs.recorded) == 3
    for size in range(10, 10 + 2 * MOST_GRAPHS):
        graphs(step, (torch.ones(size),))
        graphs(step, (torch.ones(size),))
    assert len(graphs.recorded) == MOST_GRAPHS and not notices


@pytest.mark.parametrize("reads", [lambda x: x.sum().item(), lambda x: x[x > 0].sum(), lambda x: float(x[0]),
                                   lambda x: x.nonzero().sum(), lambda x: 1 if (x > 0).any() else 0,
                                   lambda x: x.tolist()[0], lambda x: float(x.cpu().numpy()[0])])
def test_what_cannot_be_recorded_runs_as_it_is_and_is_told_once(made, reads):
    numbers, notices = torch.zeros(2, device=DEVICE), []

    def step(x: Tensor) -> Tensor:
        numbers.add_(reads(x))
        return numbers.sum()

    graphs = Graphs("sums", DEVICE, lambda: [numbers], notices)
    expected = 0.0
    for _ in range(4):
        expected += float(reads(torch.ones(3)))
        graphs(step, (torch.ones(3),))
        assert numbers.tolist() == [expected] * 2
    assert graphs.refused and not graphs.recorded and len(notices) == 1
    assert notices[0].startswith("train.cuda_graphs = true: sums cannot be recorded as a CUDA graph (")
    assert "\n" not in notices[0]


def test_graphs_are_for_a_gpu_and_for_those_who_ask():
    on, off = (build("ppo", [("test", {"train": {"cuda_graphs": graphs}})]) for graphs in (True, False))
    assert cuda_graphs.wanted(on, torch.device("cuda")) and not cuda_graphs.wanted(off, torch.device("cuda"))
    assert not cuda_graphs.wanted(on, torch.device("cpu"))
