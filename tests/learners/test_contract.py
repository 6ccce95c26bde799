"""What every registered learner keeps; a new one is tested by being registered."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from puffer_il.core.config import MixConfig
from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from puffer_il.learners.common.adversarial import Adversarial
from puffer_il.learners.experiment import section_types
from puffer_il.learners.registry import get_learner, learner_names
from tests.support.pictures import dot_demos
from tests.support.runs import CONTRACT, final_state, run, same_state, scripted_cartpole_demos, tiny

LEARNERS = learner_names()
# Values that change something within a few updates, where halving the default would not, and what must be on for the
# key to matter. Everything else is found by `alternatives`.
CHANGED: dict[str, list[Any]] = {
    "ppo.target_kl": [1e-9], "ppo.vf_clip_coef": [1e-3], "ppo.max_grad_norm": [1e-3], "ppo.clip_coef": [1e-4],
    "ppo.minibatch": ["columns"], "bc.patience": [1], "bc.validation": [0.4],
    "adversarial.reward_clip": [1e-3], "adversarial.max_grad_norm": [1e-3], "adversarial.replay_size": [64],
    "adversarial.true_reward_coef": [1.0], "adversarial.reward": ["logit", "logsigmoid"], "amp.replay_size": [2],
    "adversarial.gp_target": [0.0], "adversarial.disc_batch_size": [32],
    "gail.bc_epochs": [1], "amp.reward": ["logit"], "red.true_reward_coef": [1.0],
    "pwil.true_reward_coef": [1.0], "red.fit_updates": [40],
    "dagger.expert": ["random"], "dagger.capacity": [256], "noise_bc.expert": ["random"], "noise_bc.capacity": [256],
    "noise_bc.noise": [0.5],
    "bc.max_grad_norm": [1e-3],
    "sac.replay_size": [64], "sac.warmup": [300], "sac.max_grad_norm": [1e-3], "sac.alpha": [0.02],
    "csil.bc_epochs": [4], "csil.reward_clip": [1e-2],
    "airl.replay_size": [32], "airl.reward_memory": [1], "airl.temperature": [1.0], "airl.bc_epochs": [1],
    "airl.reward": ["logit"], "deep_maxent_irl.temperature": [0.5],
    "deep_maxent_irl.inputs": ["state", "next_state"], "deep_maxent_irl.reward_memory": [1],
    "transfer.reward": ["{folder}/other.pt"],
    "maxent_irl.features": ["{folder}/features.npy"], "maxent_irl.horizon": [100], "maxent_irl.memory": [1],
    "maxent_irl.tolerance": [1.0],
}
CONTEXT: dict[str, dict[str, Any]] = {
    "adversarial.gp_coef": {"gp_kind": "zero_centred"},  # small networks are below the one-sided penalty's norm
    "adversarial.gp_target": {"gp_kind": "interpolated"},
    "adversarial.replay_share": {"replay_size": 64},
    "adversarial.reward": {"reward_scale": False},
    "bc.sequence_length": {"policy__lstm": 4},
    "csil.bc_epochs": {"bc__validation": 0.0},  # the first epoch may be the best on episodes held out
    "csil.trust": {"env__name": "pendulum", "demos__source": "shipped", "critic_updates": 0},
    "bc.random_shift": {"env__name": "tests.support.pictures:MovingDot", "demos__source": "{folder}/dots.npz"},
    "sac.random_shift": {"env__name": "tests.support.pictures:MovingDot"},
    "sac.critic_hidden": {"env__name": "pendulum"}, "sac.critic_norm": {"env__name": "pendulum"},
    "dagger.decay": {"dagger__schedule": "exponential"},
    "dagger.rampdown": {"dagger__schedule": "linear"},
    "dagger.mix": {"dagger__beta": 0.5},
    "bc.patience": {"bc__learning_rate": 0.3},  # an epoch soon fails to improve
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demos")


@pytest.fixture
def demos(request, folder):
    """Those of CartPole, or what helpers.CONTRACT says for the algorithm that the test is about."""
    algo = getattr(request.node, "callspec", None) and request.node.callspec.params.get("algo")
    path, make = folder / "scripted.npz", scripted_cartpole_demos
    if algo in CONTRACT:
        path, make = folder / f"{algo}.npz", CONTRACT[algo][1]
    return path if path.is_file() else make(path)


def config(algo, run_dir, demos, **overrides):
    settings = CONTRACT.get(algo, ({}, None))[0]
    overrides = {key: value.format(folder=demos.parent) if isinstance(value, str) else value
                 for key, value in settings.items()} | overrides
    if get_learner(algo).needs_demos:
        overrides = {"demos__source": str(demos)} | overrides
    if not get_learner(algo).needs_rollouts:
        overrides = {"train__total_steps": 4 * len(read_demos(demos))} | overrides
    return tiny(algo, run_dir, **overrides)


@pytest.mark.parametrize("algo", LEARNERS)
def test_trains_and_reports_the_metrics_it_promises(algo, tmp_path, demos):
    recorder = run(config(algo, tmp_path / "run", demos))
    updates = [m for m in recorder.metrics if "SPS" in m]
    assert len(updates) >= 2
    for metrics in updates:
        missing = set(get_learner(algo).promised_metrics) - metrics.keys()
        assert not missing
        assert all(isinstance(v, (int, float)) and math.isfinite(v) for v in metrics.values())
    assert recorder.summary["status"] == "finished"
    assert recorder.summary["eval"]["episodes"] == 3
    about = get_learner(algo).about
    assert re.search(r"\d{4}", about.paper) and about.when != "not said"


@pytest.mark.parametrize("algo", LEARNERS)
def test_same_seed_gives_the_same_weights(algo, tmp_path, demos):
    states = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(config(algo, tmp_path / name, demos, train__seed=seed))
        states.append(final_state(tmp_path / name)["learner"])
    assert same_state(states[0], states[1])
    assert not same_state(states[0], states[2])


@pytest.mark.parametrize("algo", LEARNERS)
def test_a_resumed_run_is_the_run_that_was_not_stopped(algo, tmp_path, demos):
    whole = run(config(algo, tmp_path / "whole", demos))
    cut = run(config(algo, tmp_path / "cut", demos), interrupt_after=2)
    assert cut.summary["status"] == "interrupted" and len(cut.metrics) == 2
    rest = run(config(algo, tmp_path / "cut", demos), resume=True)
    assert rest.summary["env_steps"] == whole.summary["env_steps"]
    expected, got = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    for part in ("learner", "collector", "policy", "last_eval"):
        assert same_state(expected[part], got[part]), part
    timed = ("SPS", "SPS_mean", "wall_s")
    for metrics, reference in zip(rest.metrics, whole.metrics[2:], strict=True):
        kept = {k for k in reference if not k.startswith("time/") and k not in timed}
        assert {k: metrics[k] for k in kept} == {k: reference[k] for k in kept}


@pytest.mark.parametrize("algo", [a for a in LEARNERS if get_learner(a).needs_demos])
def test_refuses_demos_that_do_not_fit(algo, tmp_path, demos):
    good = read_demos(demos)
    changes = {
        "shape": {"obs": np.repeat(good.obs, 2, 1), "next_obs": np.repeat(good.next_obs, 2, 1)},
        "action": {"actions": good.actions + 2},
    }
    for name, change in changes.items():
        path = tmp_path / f"{name}.npz"
        dataclasses.replace(good, **change).save(path)
        with pytest.raises(InputError, match=path.name) as error:
            run(config(algo, tmp_path / name, path))
        assert "\n" not in str(error.value)


def told(table: dict[str, Any], key: str, default: Any) -> Any:
    """What is said of a key, or of that key of all adversarial learners."""
    algo, name = key.split(".")
    if key not in table and issubclass(get_learner(algo), Adversarial):
        key = f"adversarial.{name}"
    return table.get(key, default)


def context_of(key: str) -> dict[str, Any]:
    algo = key.split(".")[0]
    return {name if "__" in name else f"{algo}__{name}": value for name, value in told(CONTEXT, key, {}).items()}


def alternatives(key: str, field: dataclasses.Field) -> list[Any]:
    if told(CHANGED, key, None):
        return told(CHANGED, key, None)
    value, meta = field.default, field.metadata
    if meta["choices"]:
        return [choice for choice in meta["choices"] if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, tuple):
        return [(*value, 8)]
    if isinstance(value, int):
        return [value * 2 + 1]
    return [min(value * 0.5 + 0.05, meta["high"] or math.inf)]


@pytest.mark.parametrize(("algo", "key"), [(a, f"{a}.{f.name}") for a in LEARNERS
                                           for f in dataclasses.fields(section_types(a)[a])])
def test_every_config_key_changes_something(algo, key, tmp_path, demos):
    field = {f.name: f for f in dataclasses.fields(get_learner(algo).section)}[key.split(".")[1]]
    context = {name: value.format(folder=demos.parent) if isinstance(value, str) else value
               for name, value in context_of(key).items()}
    if "dots.npz" in str(context):
        dot_demos(demos.parent / "dots.npz", 8)
    before = default_state(algo, demos, tuple(context.items()))
    for i, value in enumerate(alternatives(key, field)):
        value = value.format(folder=demos.parent) if isinstance(value, str) else value
        assert value != field.default
        run(config(algo, tmp_path / str(i), demos, **context, **{key.replace(".", "__"): value}))
        after = final_state(tmp_path / str(i))
        assert not same_state(weights(before), weights(after)), f"{key} = {value} does nothing"


@cache
def default_state(algo: str, demos: Path, context: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """How a run ends in which only the context is told."""
    run_dir = demos.parent / f"{algo} {context}"
    run(config(algo, run_dir, demos, **dict(context)))
    return final_state(run_dir)


@pytest.mark.parametrize("algo", [a for a in LEARNERS if get_learner(a).needs_demos])
def test_weights_of_the_demonstrations_count(algo, tmp_path, demos):
    found = []
    for name, change in (("alike", {}), ("weighted", {"demos__weighting": "return"})):
        run(config(algo, tmp_path / name, demos, **change))
        found.append(weights(final_state(tmp_path / name)))
    assert not same_state(*found)


MIX = {"mix__expert_resets": 0.5, "mix__expert_rows": 0.2, "mix__bc_coef": 0.5, "mix__batch_size": 32,
       "mix__expert": "random"}


@pytest.mark.parametrize("key", [f.name for f in dataclasses.fields(MixConfig)])
def test_every_mix_in_changes_something(key, tmp_path, demos):
    base = {"demos__source": str(demos)} | ({"mix__bc_coef": 0.5} if key in ("bc_final", "batch_size") else
                                            {"mix__expert_envs": 0.25} if key == "expert" else {})
    found = []
    for name, change in (("default", {}), ("changed", {f"mix__{key}": MIX.get(f"mix__{key}", 0.5)})):
        run(config("ppo", tmp_path / name, demos, **base, **change))
        found.append(weights(final_state(tmp_path / name)))
    assert not same_state(*found)


@pytest.mark.parametrize("algo", [a for a in LEARNERS if "mix" in section_types(a)])
def test_every_learner_that_holds_ppo_takes_the_mix_ins(algo, tmp_path, demos):
    found = []
    for name, change in (("plain", {}), ("mixed", {"mix__bc_coef": 0.5})):
        recorder = run(config(algo, tmp_path / name, demos, **{"demos__source": str(demos)} | change))
        assert ("losses/expert_nll" in recorder.metrics[0]) == (name == "mixed")
        found.append(weights(final_state(tmp_path / name)))
    assert not same_state(*found)


def test_a_resumed_run_with_mix_ins_is_the_run_that_was_not_stopped(tmp_path, demos):
    run(config("gail", tmp_path / "whole", demos, **MIX))
    run(config("gail", tmp_path / "cut", demos, **MIX), interrupt_after=2)
    run(config("gail", tmp_path / "cut", demos, **MIX), resume=True)
    expected, got = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    assert all(same_state(expected[part], got[part]) for part in ("learner", "collector", "policy"))


@pytest.mark.parametrize("key", ["expert_resets", "expert_rows", "bc_coef"])
def test_a_mix_in_without_demonstrations_is_refused(key, tmp_path, demos):
    with pytest.raises(InputError, match=rf"demos\.source is empty and mix\.{key} = 0\.5 takes from demonst"):
        run(config("ppo", tmp_path / "run", demos, **{f"mix__{key}": 0.5}))


def weights(state: dict[str, Any]) -> dict[str, np.ndarray]:
    learner = state["learner"]
    kept = {"reward": learner["average"]["mean"]} if "average" in learner else {}  # of airl
    return {"policy": state["policy"], "env_steps": state["env_steps"], **kept}
