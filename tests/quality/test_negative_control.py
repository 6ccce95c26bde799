"""The classic failure: demonstrations of a policy that does nothing, and a reward whose sign alone teaches survival.

An always-left "expert" drops the pole within 10 steps, so imitating it well means a return near 9. A reward form that
pays for staying alive balances the pole instead. `make quality` prints what every form does.
"""

from __future__ import annotations

import numpy as np
import pytest

from puffer_il.demos import collect
from puffer_il.learners.experiment import build, experiment_layers
from puffer_il.vector.vec import make_vec
from tests.support.runs import run

STEPS = 500_000


@pytest.fixture(scope="module")
def do_nothing(tmp_path_factory):
    path = tmp_path_factory.mktemp("control") / "left.npz"
    with make_vec("cartpole", num_envs=20) as vec:
        demos = collect(vec, lambda obs, starts: np.zeros((len(obs), 1), np.int32), 200, str(path))
    assert demos.returns.max() < 15
    demos.save(path)
    return path


def best_return(demos, folder, **gail) -> float:
    """The best evaluation during a run of the default experiment on these demonstrations."""
    layers = [*experiment_layers("gail", "cartpole"),
              ("control", {"env": {"name": "cartpole"}, "demos": {"source": str(demos)}, "gail": gail,
                           "train": {"total_steps": STEPS, "stop_at_expert": 0, "run_dir": str(folder / "run")}})]
    recorder = run(build("gail", layers))
    return max(m["eval/return_mean"] for m in recorder.metrics if "eval/return_mean" in m)


def test_the_default_imitates_a_policy_that_does_nothing(do_nothing, tmp_path):
    assert best_return(do_nothing, tmp_path) < 100


# What an expert of the task returns, and a demonstrator that does nothing is not to be turned into.
EXPERTS = {"acrobot": -75, "mountaincar": -100, "pendulum": -150, "hopper": 3571, "halfcheetah": 4463}


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["gail", "gaifo", "airl"])
@pytest.mark.parametrize("task", EXPERTS)
def test_no_task_is_done_for_a_demonstrator_who_does_nothing(task, algo, tmp_path):
    with make_vec(task, num_envs=20) as vec:
        action = np.full((20, vec.spec.action.dim), int(task in ("acrobot", "mountaincar")))  # no force
        demos = collect(vec, lambda obs, starts: action.astype(vec.spec.action.dtype), 20, task)
    demos.save(tmp_path / "nothing.npz")
    layers = [*experiment_layers(algo, task),
              ("control", {"env": {"name": task}, "demos": {"source": str(tmp_path / "nothing.npz")},
                           "eval": {"interval_steps": 50_000},
                           "train": {"total_steps": 300_000, "stop_at_expert": 0, "run_dir": str(tmp_path / "run")}})]
    recorder = run(build(algo, layers))
    best = max(m["eval/return_mean"] for m in recorder.metrics if "eval/return_mean" in m)
    nothing = demos.return_mean
    print(f"\n{algo} on {task}: demonstrations {nothing:.1f}, best evaluation {best:.1f}, an expert {EXPERTS[task]}")
    assert best < nothing + 0.25 * (EXPERTS[task] - nothing)


@pytest.mark.slow
@pytest.mark.parametrize("absorbing", [True, False])
@pytest.mark.parametrize("form", ["softplus", "logsigmoid", "logit"])
def test_what_each_reward_form_does(form, absorbing, do_nothing, tmp_path, record_property):
    best = best_return(do_nothing, tmp_path, reward=form, absorbing=absorbing)
    record_property("best_return", best)
    print(f"\ndo-nothing demonstrations, reward {form}, absorbing {absorbing}: best return {best:.1f}")
    if form == "softplus" and not absorbing:
        assert best > 100  # the failure itself: without it this control would control nothing
    elif form != "logsigmoid" or not absorbing:
        assert best < 100
    # log D with an absorbing state is only recorded: early on, every absorbing step costs more than any step alive, so
    # that staying alive pays until the discriminator has learned better.
