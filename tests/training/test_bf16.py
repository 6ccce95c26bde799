"""train.bf16: rollouts and updates round alike; what runs say of it, where it is refused, how they go on."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import puffer_il.training.process as process
from puffer_il.core.errors import InputError
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.registry import get_learner
from puffer_il.rollout import evaluate as evaluation
from puffer_il.training.process import set_threads
from puffer_il.training.resolve import resolve
from tests.support.runs import final_state, run, same_state, tiny

HARDWARE = pytest.mark.skipif(not kernels.has_bf16(), reason="this processor has no instruction for bf16")
WIDE: dict[str, Any] = {"policy__hidden": [64, 64], "train__bf16": "on"}


class Processor:
    """Stands for the kernels where a process is prepared: with an instruction for bf16, which is emulated, or none."""

    def __init__(self, bf16: bool) -> None:
        self.bf16 = bf16

    def __getattr__(self, name: str) -> Any:
        return getattr(kernels, name)

    def has_bf16(self) -> bool:
        return self.bf16

    def use_bf16(self, how: str) -> None:
        assert self.bf16 or not how
        kernels.use_bf16("emulated" if how else "")


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    return lambda bf16: monkeypatch.setattr(process, "kernels", Processor(bf16))


@pytest.mark.parametrize("policy", [{}, {"shared": True}, {"lstm": 40}, {"gru": 40}, {"hidden": [256, 256]}], ids=str)
@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
def test_the_first_minibatch_has_ratios_of_one(env: str, policy: dict[str, Any], tmp_path: Path,
                                               processor: Any) -> None:
    """The policy that has acted and the policy that learns are the same, to the last bit."""
    processor(True)
    keys = WIDE | {f"policy__{key}": value for key, value in policy.items()}
    for bf16 in ("off", "on"):
        told = run(tiny("ppo", tmp_path / bf16, env__name=env, env__num_envs=32, ppo__update_epochs=1,
                        ppo__num_minibatches=1, ppo__target_kl=0.0, **{**keys, "train__bf16": bf16}))
        first = told.metrics[0]
        assert first["losses/approx_kl"] == first["losses/clip_fraction"] == 0, first


def test_few_environments_have_ratios_near_one(tmp_path: Path, processor: Any) -> None:
    """Their wide layers are multiplied in another order, which is float32's error, not bf16's."""
    processor(True)
    told = run(tiny("ppo", tmp_path / "run", env__num_envs=8, ppo__update_epochs=1, ppo__num_minibatches=1,
                    ppo__target_kl=0.0, **(WIDE | {"policy__hidden": [256, 256]})))
    assert told.metrics[0]["losses/approx_kl"] < 1e-9


@pytest.mark.parametrize("algo", ["ppo", "gail", "bc", "sac", "sqil"])
def test_the_key_changes_what_is_learned_and_only_a_little(algo: str, tmp_path: Path, processor: Any) -> None:
    processor(True)
    env = {"env__name": "pendulum" if algo in ("sac", "sqil") else "cartpole"}
    env |= {"demos__source": "shipped"} if get_learner(algo).needs_demos else {}
    weights = {}
    for bf16 in ("off", "auto", "on"):
        run(tiny(algo, tmp_path / bf16, **env, **(WIDE | {"train__bf16": bf16, "train__total_steps": 128})))
        weights[bf16] = final_state(tmp_path / bf16)["policy"]
    assert same_state(weights["auto"], weights["on"]) and not same_state(weights["off"], weights["on"])
    off, on = (torch.cat([p.flatten().double() for p in weights[name].values()]) for name in ("off", "on"))
    assert float((off - on).norm() / off.norm()) < 0.05


@HARDWARE
def test_the_summary_and_the_config_say_that_it_was_used(tmp_path: Path) -> None:
    for bf16, told in (("off", ""), ("auto", "+bf16"), ("on", "+bf16")):
        recorder = run(tiny("ppo", tmp_path / bf16, **(WIDE | {"train__bf16": bf16})))
        assert recorder.summary is not None and kernels.bf16() == ""
        assert recorder.summary["machine"]["instruction_sets"]["kernels"] == kernels.instruction_set() + told
        assert tomllib.loads((tmp_path / bf16 / "config.toml").read_text())["train"]["bf16"] == bf16


def test_evaluations_are_in_float32(tmp_path: Path, processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(True)
    inner, seen = evaluation._played, []

    def spied(*args: Any) -> Any:
        seen.append(kernels.bf16())
        return inner(*args)

    monkeypatch.setattr(evaluation, "_played", spied)
    run(tiny("ppo", tmp_path / "run", **WIDE))
    assert seen and set(seen) == {""}


def test_a_run_goes_on_without_the_instruction_and_says_so(tmp_path: Path, processor: Any) -> None:
    processor(True)
    keys: dict[str, Any] = WIDE | {"train__total_steps": 512}
    run(tiny("ppo", tmp_path / "run", **keys), interrupt_after=1)
    config = resolve(None, None, resume=tmp_path / "run")
    assert config.train.bf16 == "on"
    same = run(tiny("ppo", tmp_path / "run", **keys), resume=True, interrupt_after=1).messages
    assert not [line for line in same if "rounds" in line]
    processor(False)
    assert resolve(None, None, resume=tmp_path / "run").train.bf16 == "on"
    told = run(tiny("ppo", tmp_path / "run", **keys), resume=True).messages
    name = kernels.instruction_set()
    assert [line for line in told if "rounds" in line] == [
        f"this machine computes with kernels {name} instead of {name}+bf16: from here on the run rounds otherwise than "
        "it would have there"]


def test_it_is_refused_where_it_cannot_be_had(processor: Any, tmp_path: Path) -> None:
    def asked(**train: Any) -> Any:
        return resolve("ppo", "cartpole", [("test", {"train": train})])

    processor(False)
    with pytest.raises(InputError, match=r"^train\.bf16 = 'on': .*AVX512_BF16.*use auto or off$"):
        asked(bf16="on")
    with pytest.raises(InputError, match=r"train\.bf16 = 'yes': choose one of off, on, auto"):
        asked(bf16="yes")
    set_threads(asked(bf16="auto").train)
    assert kernels.bf16() == ""
    run(tiny("ppo", tmp_path / "run"), interrupt_after=1)
    with pytest.raises(InputError, match=r"train\.bf16 = 'on'"):
        resolve(None, None, [("test", {"train": {"bf16": "on"}})], tmp_path / "run")
    processor(True)
    with pytest.raises(InputError, match=r"^train\.bf16 = 'on': .*train\.fused = false.*$"):
        asked(bf16="on", fused=False)
    set_threads(asked(bf16="auto", fused=False).train)
    assert kernels.bf16() == ""
    set_threads(asked(bf16="auto").train)
    assert kernels.bf16() == "emulated"
