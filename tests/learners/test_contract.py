"""What every registered learner keeps; a new one is tested by being registered."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from puffer_il.config import section_types
from puffer_il.demos import read_demos, write_demos
from puffer_il.registry import get_learner, learner_names
from puffer_il.types import InputError
from tests.helpers import final_state, run, same, scripted_cartpole_demos, tiny

LEARNERS = learner_names()
# Values that change something within a few updates, where halving the default would not, and what must be on for the
# key to matter. Everything else is found by `alternatives`.
CHANGED: dict[str, list[Any]] = {
    "ppo.target_kl": [1e-9], "ppo.vf_clip_coef": [1e-3], "ppo.max_grad_norm": [1e-3], "ppo.clip_coef": [1e-4],
    "ppo.minibatch": ["columns"], "gail.reward_clip": [1e-3], "gail.max_grad_norm": [1e-3], "gail.bc_epochs": [1],
    "gail.replay_size": [64], "bc.patience": [1], "bc.validation": [0.4],
    "bc.max_grad_norm": [1e-3], "gail.true_reward_coef": [1.0],
}
CONTEXT: dict[str, dict[str, Any]] = {
    "gail.gp_coef": {"gail__gp_kind": "zero_centred"},  # small networks are below the one-sided penalty's norm
    "gail.replay_share": {"gail__replay_size": 64},
    "gail.reward": {"gail__reward_scale": False},
    "bc.sequence_length": {"policy__lstm": 4},
    "bc.patience": {"bc__learning_rate": 0.3},  # an epoch soon fails to improve
}


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return scripted_cartpole_demos(tmp_path_factory.mktemp("demos") / "scripted.npz")


def config(algo, run_dir, demos, **overrides):
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
    initial = get_learner(algo)
    assert initial.__doc__ and "Paper" in initial.__doc__


@pytest.mark.parametrize("algo", LEARNERS)
def test_same_seed_gives_the_same_weights(algo, tmp_path, demos):
    states = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(config(algo, tmp_path / name, demos, train__seed=seed))
        states.append(final_state(tmp_path / name)["learner"])
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


@pytest.mark.parametrize("algo", LEARNERS)
def test_a_resumed_run_is_the_run_that_was_not_stopped(algo, tmp_path, demos):
    whole = run(config(algo, tmp_path / "whole", demos))
    cut = run(config(algo, tmp_path / "cut", demos), interrupt_after=2)
    assert cut.summary["status"] == "interrupted" and len(cut.metrics) == 2
    rest = run(config(algo, tmp_path / "cut", demos), resume=True)
    assert rest.summary["env_steps"] == whole.summary["env_steps"]
    expected, got = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    for part in ("learner", "collector", "policy", "last_eval"):
        assert same(expected[part], got[part]), part
    timed = ("SPS", "SPS_mean", "wall_s")
    for metrics, reference in zip(rest.metrics, whole.metrics[2:], strict=True):
        kept = {k for k in reference if not k.startswith("time/") and k not in timed}
        assert {k: metrics[k] for k in kept} == {k: reference[k] for k in kept}


@pytest.mark.parametrize("algo", [a for a in LEARNERS if get_learner(a).needs_demos])
def test_refuses_demos_that_do_not_fit(algo, tmp_path, demos):
    good = read_demos(demos)
    changes = {
        "shape": {"obs": good.obs[:, :3], "next_obs": good.next_obs[:, :3]},
        "action": {"actions": good.actions + 2},
    }
    for name, change in changes.items():
        path = tmp_path / f"{name}.npz"
        write_demos(path, dataclasses.replace(good, **change))
        with pytest.raises(InputError, match=path.name) as error:
            run(config(algo, tmp_path / name, path))
        assert "\n" not in str(error.value)


def alternatives(key: str, field: dataclasses.Field) -> list[Any]:
    if key in CHANGED:
        return CHANGED[key]
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
    context = CONTEXT.get(key, {})
    run(config(algo, tmp_path / "default", demos, **context))
    before = final_state(tmp_path / "default")
    for i, value in enumerate(alternatives(key, field)):
        assert value != field.default
        run(config(algo, tmp_path / str(i), demos, **context, **{key.replace(".", "__"): value}))
        after = final_state(tmp_path / str(i))
        assert not same(weights(before), weights(after)), f"{key} = {value} does nothing"


def weights(state: dict[str, Any]) -> dict[str, np.ndarray]:
    return {"policy": state["policy"], "env_steps": state["env_steps"]}
