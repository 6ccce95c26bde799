"""One seed decides everything: how many threads work at it changes no weight, whatever the learner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import puffer_il
from puffer_il.demos import collect, record
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.registry import learner_names
from puffer_il.training import score
from puffer_il.training.machine import instruction_sets
from puffer_il.training.process import torch_threads
from puffer_il.vector import plan
from puffer_il.vector.vec import make_vec
from tests.support.runs import CONTRACT, final_state, run, same_state, tiny

ENVS, STEPS = 512, 72  # more rows than torch, the kernels and NumPy leave to one thread
WIDE: dict[str, Any] = {"env__num_envs": ENVS, "train__num_steps": STEPS,
                        "policy__hidden": [64, 64]}  # LAPACK makes their first weights, on its own threads
REWARD = {"disc_updates": 1, "disc_batch_size": 9000, "disc_hidden": [64, 64]}
OWN: dict[str, dict[str, Any]] = {  # what is wide for the learner, beside that
    "ppo": {"ppo__update_epochs": 1, "ppo__num_minibatches": 1},
    **{algo: {f"{algo}__{key}": value for key, value in REWARD.items()}
       for algo in ("gail", "gaifo", "amp", "mm", "airl", "deep_maxent_irl")},
    "red": {"red__fit_updates": 2, "red__fit_batch_size": 9000},
    "bc": {"train__total_steps": 80_000, "bc__batch_size": 9000},
    "sac": {"env__name": "pendulum", "env__num_envs": 128, "sac__updates": 1, "sac__batch_size": 9000},
    "sqil": {"sac__updates": 1, "sac__batch_size": 9000},
    "csil": {"env__name": "pendulum", "env__num_envs": 128, "sac__updates": 1, "sac__batch_size": 9000,
             "bc__batch_size": 9000, "csil__bc_epochs": 1, "csil__critic_updates": 1},
    "dagger": {"dagger__epochs": 1, "bc__batch_size": 9000},
    "noise_bc": {"noise_bc__epochs": 1, "bc__batch_size": 9000},
    "transfer": {"transfer__reward": "{folder}/reward.pt"},
    "maxent_irl": {**CONTRACT["maxent_irl"][0], "env__num_envs": 8, "train__num_steps": 32},
}


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    with torch_threads(torch.get_num_threads()):
        yield


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with many demonstrated rows of each environment, and what else learners need."""
    folder = tmp_path_factory.mktemp("demos")
    CONTRACT["transfer"][1](folder / "few.npz")
    CONTRACT["maxent_irl"][1](folder / "mdp.npz")
    for env, episodes in (("cartpole", 96), ("pendulum", 192)):
        with make_vec(env, num_envs=episodes) as vector:
            shown = collect(vector, lambda *_, vector=vector: vector.expert_actions(), episodes, env, seed=0)
            shown.save(folder / f"{env}.npz")
    return folder


def settings(algo: str, folder: Path, **more: Any) -> dict[str, Any]:
    known = tiny(algo, folder).sections
    keys = {key: value.format(folder=folder) if isinstance(value, str) else value
            for key, value in (WIDE | OWN["ppo"] | OWN.get(algo, {}) | more).items() if key.split("__")[0] in known}
    return {"demos__source": str(folder / f"{keys.get('env__name', 'cartpole')}.npz"),
            "train__total_steps": keys["env__num_envs"] * keys["train__num_steps"], **keys}  # one iteration


def learned(algo: str, folder: Path, at: Path, threads: int, **more: Any) -> dict[str, Any]:
    """Everything that a run has learned."""
    run(tiny(algo, at / f"{algo}-{threads}", train__threads=threads, **settings(algo, folder, **more)))
    state = final_state(at / f"{algo}-{threads}")
    return {key: state[key] for key in ("learner", "policy", "kept", "shown", "collector")}


@pytest.mark.parametrize("algo", learner_names())
def test_any_number_of_threads_learns_the_same_bytes(algo: str, demos: Path, tmp_path: Path) -> None:
    first = learned(algo, demos, tmp_path, 1)
    others = (2, 3, 8) if algo == "gail" else (3,)
    assert [n for n in others if not same_state(first, learned(algo, demos, tmp_path, n))] == []


@pytest.mark.parametrize("keys", [{"train__fused": False, "env__num_envs": 128},
                                  {"policy__lstm": 8, "env__num_envs": 64}], ids=["without kernels", "lstm"])
def test_what_torch_computes_does_not_depend_on_the_threads_either(keys: dict[str, Any], demos: Path, tmp_path: Path
                                                                   ) -> None:
    same = same_state(*(learned("gail", demos, tmp_path, threads, **keys) for threads in (1, 3)))
    assert same


def test_images_are_learned_from_alike_with_any_number_of_threads(tmp_path: Path) -> None:
    keys = {"env__name": "breakout", "env__num_envs": 8, "train__num_steps": 8, "train__total_steps": 64,
            "policy__hidden": [64, 64]}
    weights = []
    for threads in (1, 3):
        run(tiny("ppo", tmp_path / str(threads), train__threads=threads, **keys))
        weights.append(final_state(tmp_path / str(threads))["policy"])
    same = same_state(*weights)
    assert same


@pytest.mark.parametrize("num_envs", [32, 48])
def test_by_default_the_number_of_cores_does_not_matter_where_workers_step(num_envs: int, tmp_path: Path,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    """More cores mean more workers, and groups of them, whose rows are inferred apart."""
    keys = {"env__name": "Acrobot-v1", "env__num_envs": num_envs, "policy__hidden": [128, 128], "train__num_steps": 8,
            "train__total_steps": 16 * num_envs}
    weights, machines = [], []
    for count in (1, 8):
        monkeypatch.setattr(plan, "cores", lambda count=count: count)
        recorder = run(tiny("ppo", tmp_path / str(count), **keys))
        weights.append(final_state(tmp_path / str(count))["policy"])
        assert recorder.summary is not None
        machines.append(recorder.summary["machine"])
    assert [told["workers"] for told in machines] == [1, num_envs // 8]
    assert [told["groups"] for told in machines] == [1, 2 if num_envs == 48 else 1]
    same = same_state(*weights)
    assert same


def test_the_number_of_torchs_threads_is_part_of_the_experiment(demos: Path, tmp_path: Path) -> None:
    """It rounds otherwise: who asks for it is given it, on any machine."""
    run(tiny("ppo", tmp_path / "run", train__threads=2, train__torch_threads=3))
    assert (torch.get_num_threads(), kernels.get_threads()) == (3, 2)
    alike = [learned("gail", demos, tmp_path / str(n), 1, env__num_envs=64, train__torch_threads=n)["policy"]
             for n in (1, 3)]
    same = same_state(*alike)
    assert not same


def test_by_default_no_machine_chooses_torchs_threads(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    run(tiny("ppo", tmp_path / "run", train__threads=0))
    assert torch.get_num_threads() == 1


def test_evaluations_use_the_threads_of_the_run_and_give_the_callers_back(tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    run(tiny("ppo", tmp_path / "run", train__torch_threads=3))
    torch.set_num_threads(2)
    seen = []
    for module, name in ((score, "evaluate"), (record, "recorded")):
        inner = getattr(module, name)
        monkeypatch.setattr(module, name,
                            lambda *a, inner=inner, **k: seen.append(torch.get_num_threads()) or inner(*a, **k))
    puffer_il.evaluate(tmp_path / "run", episodes=1)
    puffer_il.collect(tmp_path / "run", episodes=1)
    assert seen == [3, 1] and torch.get_num_threads() == 2


def test_the_summary_says_what_rounded_its_numbers(tmp_path: Path) -> None:
    """Wider vectors sum in another order, so a run gives the same bytes where the instruction sets are the same."""
    weights, sets = [], {}
    for name in ("", "portable"):
        kernels.use_instruction_set(name)
        recorder = run(tiny("ppo", tmp_path / f"run-{name}", train__threads=2))
        assert recorder.summary is not None
        told = recorder.summary["machine"]
        sets[name] = told["instruction_sets"]
        weights.append(final_state(tmp_path / f"run-{name}")["policy"])
    assert told["threads"] == 2 and told["torch_threads"] == 1 and told["groups"] == 1 and told["processor"]
    assert sets["portable"] == sets[""] | {"kernels": "portable"} == instruction_sets()
    assert sets[""]["torch"] == torch.backends.cpu.get_cpu_capability() and sets[""]["numpy"]
    same = same_state(*weights)
    assert same == (sets[""]["kernels"] == "portable")


def test_a_run_that_goes_on_elsewhere_says_that_it_rounds_otherwise(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"train__total_steps": 512}
    run(tiny("ppo", tmp_path / "run", **keys), interrupt_after=1)
    best = kernels.instruction_set()
    if best == "portable":
        pytest.skip("this processor has one instruction set only")
    kernels.use_instruction_set("portable")
    told = run(tiny("ppo", tmp_path / "run", **keys), resume=True).messages
    assert [line for line in told if "rounds" in line] == [
        f"this machine computes with kernels portable instead of {best}: from here on the run rounds otherwise than it "
        "would have there"]


def test_a_run_that_goes_on_where_it_began_does_not(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"train__total_steps": 512}
    run(tiny("ppo", tmp_path / "run", **keys), interrupt_after=1)
    assert not any("rounds" in line for line in run(tiny("ppo", tmp_path / "run", **keys), resume=True).messages)
