"""Options for pictures in whole runs: what stacks are good for, and where files, runs and policies meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import puffer_il
from puffer_il.cli import main
from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures
from puffer_il.demos import load_demos, read_demos
from puffer_il.nn import Policy
from puffer_il.nn.numpy_policy import EnvPolicy
from puffer_il.training.auto import pick
from puffer_il.vector.make import find_creator
from tests.support.pictures import STEPS, MovingDot, dot_demos
from tests.support.runs import final_state, run, same_state, tiny

DOTS = "tests.support.pictures:MovingDot"
OPTIONS: dict[str, Any] = {"resize": (8, 8), "grey": True, "stack": 2}


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dot_demos(tmp_path_factory.mktemp("dots") / "dots.npz")


def cloned(folder: Path, demos: Path, epochs: int = 2, **more: Any) -> Any:
    """A clone's config: small, on these demonstrations."""
    return tiny("bc", folder, env__name=DOTS, demos__source=str(demos), train__total_steps=epochs * 60 * STEPS,
                **{f"env__{key}": value for key, value in OPTIONS.items()} | more)


def test_two_pictures_tell_what_one_does_not(tmp_path, dots):
    """Which way the dot moves: from the second step on a stack of two shows it, a single picture never does."""
    returns = {}
    for stack in (2, 1):
        config = cloned(tmp_path / str(stack), dots, 12, env__stack=stack, eval__final_episodes=100)
        returns[stack] = run(config).summary["eval"]["return_mean"]
    assert returns[2] > 0.75 * STEPS and returns[1] < 0.6 * STEPS, returns


@pytest.mark.parametrize("key, value", [("env__resize", (4, 4)), ("env__grey", False), ("env__stack", 3),
                                        ("env__channels", "first"), ("bc__random_shift", 2)])
def test_every_option_changes_what_is_learned(key, value, tmp_path, dots):
    more = {"env__grey": False} if key == "env__channels" else {}
    run(cloned(tmp_path / "a", dots, **more))
    run(cloned(tmp_path / "b", dots, **more | {key: value}))
    assert not same_state(final_state(tmp_path / "a")["policy"], final_state(tmp_path / "b")["policy"])


def test_a_resumed_run_with_shifts_is_the_run_that_was_not_stopped(tmp_path, dots):
    run(cloned(tmp_path / "whole", dots, 4, bc__random_shift=2))
    run(cloned(tmp_path / "cut", dots, 4, bc__random_shift=2), interrupt_after=2)
    run(cloned(tmp_path / "cut", dots, 4, bc__random_shift=2), resume=True)
    whole, cut = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    assert all(same_state(whole[part], cut[part]) for part in ("learner", "policy", "last_eval"))


def test_shifts_of_an_off_policy_learner_resume_and_matter(tmp_path):
    def config(name: str, shift: int = 2) -> Any:
        return tiny("sac", tmp_path / name, env__name=DOTS, env__resize=(8, 8), env__stack=2, env__num_envs=4,
                    sac__random_shift=shift)

    run(config("whole"))
    run(config("cut"), interrupt_after=2)
    run(config("cut"), resume=True)
    run(config("still", 0))
    whole, cut, still = (final_state(tmp_path / name)["learner"] for name in ("whole", "cut", "still"))
    assert same_state(whole, cut) and not same_state(whole, still)


def test_a_run_goes_on_with_its_own_pictures(tmp_path, dots):
    """Three grey pictures fit the weights of a colour one, and would be learned from without a word."""
    colours = {"env__grey": False, "env__stack": 1}
    run(cloned(tmp_path / "run", dots, 1, **colours))
    with pytest.raises(InputError, match=r"saw pictures with env\.resize = 8,8, and is to go on with .*env\.stack = 3"):
        run(cloned(tmp_path / "run", dots, 2, env__stack=3), resume=True)
    run(cloned(tmp_path / "run", dots, 2, **colours), resume=True)


def test_workers_and_one_process_learn_the_same(tmp_path):
    for name, backend, workers in (("a", "serial", 0), ("b", "multiprocessing", 2)):
        run(tiny("ppo", tmp_path / name, env__name=DOTS, env__num_envs=4, env__backend=backend,
                 env__num_workers=workers, train__num_steps=16, train__total_steps=128,
                 **{f"env__{key}": value for key, value in OPTIONS.items()}))
    one, two = (final_state(tmp_path / name) for name in "ab")
    assert same_state(one["policy"], two["policy"])


def test_raw_recordings_become_what_is_recorded_with_the_options(tmp_path):
    for states in (False, True):
        spec = find_creator(MovingDot, {"states": states}, Pictures(**OPTIONS)).facts().spec
        raw, made = (puffer_il.collect(_always_right, MovingDot, episodes=5, seed=2, states=states, pictures=options)
                     for options in (None, OPTIONS))
        assert raw.pictures is None and made.pictures == Pictures(**OPTIONS)
        for name, demos in (("raw", raw), ("made", made)):
            demos.save(path := tmp_path / f"{states}-{name}.npz")
            fitted = load_demos(path, spec)
            for array in ("obs", "next_obs"):
                assert np.array_equal(getattr(fitted, array), getattr(made, array)), (name, array)
        again = load_demos(fitted, spec)
        assert np.array_equal(again.obs, made.obs)  # and not twice


def _always_right(obs: Any) -> Any:
    return np.ones(len(obs["eye"] if isinstance(obs, dict) else obs), np.int64)


def test_recordings_that_do_not_fit_the_options_are_refused_in_one_line(tmp_path, dots):
    spec = find_creator(MovingDot, None, Pictures(**OPTIONS)).facts().spec
    other = find_creator(MovingDot, None, Pictures(stack=3)).facts().spec
    plain = find_creator(MovingDot).facts().spec
    load_demos(dots, spec).save(path := tmp_path / "made.npz")
    for wrong in (other, plain):
        with pytest.raises(InputError, match=r"recorded with env\.resize = 8,8, env.grey = true, env.stack = 2, but"):
            load_demos(path, wrong)
    load_demos(dots, plain, subsample=3).save(some := tmp_path / "some.npz")
    with pytest.raises(InputError, match="rows are missing"):
        load_demos(some, spec)
    assert load_demos(some, find_creator(MovingDot, None, Pictures(grey=True)).facts().spec).obs.shape[3] == 1
    made = read_demos(path)
    bare = {name: getattr(made, name) for name in ("obs", "next_obs", "actions", "terminations", "truncations")}
    taken = load_demos(bare, spec)  # says nothing, but nothing else has that shape
    assert np.array_equal(taken.obs, made.obs) and "are taken for such" in taken.notes[-1]


def test_pictures_with_their_channels_at_the_other_end_are_turned(dots):
    demos = read_demos(dots)
    for options in (None, Pictures(**OPTIONS)):
        spec, turned = (find_creator(MovingDot, {"first": first}, options).facts().spec for first in (False, True))
        fitted, other = load_demos(demos, spec), load_demos(demos, turned)
        assert np.array_equal(np.moveaxis(other.obs, 1, 3), fitted.obs) and "are turned" in other.notes[-1]


def test_a_policy_stacks_what_it_is_shown_one_by_one(tmp_path, dots):
    run(cloned(tmp_path / "run", dots))
    policy = puffer_il.load(tmp_path / "run")
    raw, made = MovingDot(), puffer_il.make(MovingDot, pictures=policy)
    state, begins = None, True
    (seen, _), (prepared, _) = raw.reset(seed=4), made.reset(seed=4)
    for _ in range(STEPS):
        action, state = policy.predict(seen, state, np.array([begins]), deterministic=True)
        wanted, nothing = policy.predict(prepared, deterministic=True)
        assert action == wanted and nothing is None
        assert np.array_equal(state[-1][0], prepared)
        seen, prepared, begins = raw.step(action)[0], made.step(action)[0], False
    with pytest.raises(InputError, match="hand the state that predict returned"):
        policy.predict(seen, deterministic=True)
    scores = [puffer_il.evaluate(one, env, episodes=5)["return_mean"] for one, env in (
        (tmp_path / "run", None), (policy, None), (policy, MovingDot))]
    assert len(set(scores)) == 1
    with pytest.raises(InputError, match=r"saw pictures with env\.resize.*prepared with env\.stack = 3"):
        puffer_il.evaluate(tmp_path / "run", pictures={"stack": 3})
    with pytest.raises(InputError, match=r"prepared with env\.resize.*are with env.stack = 3"):
        puffer_il.evaluate(policy, MovingDot, pictures={"stack": 3})


@pytest.mark.parametrize("name", ["MovingDot", "Choosy"])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("lstm", [0, 4])
def test_a_state_holds_the_pictures_beside_what_the_policy_remembers(name, states, lstm):
    """A batch of two, of which one begins anew halfway; as actors in vectors do it, who are given prepared rows."""
    torch.manual_seed(0)
    spec = find_creator(f"tests.support.pictures:{name}", {"states": states}, Pictures(**OPTIONS)).facts().spec
    policy = Policy(spec, PolicyConfig(hidden=(8,), lstm=lstm))
    raw = [MovingDot(states=states) for _ in range(2)]
    made = [puffer_il.make(MovingDot, states=states, pictures=policy) for _ in range(2)]
    masks = {"action_masks": np.array([[1, 0], [0, 1]])} if name == "Choosy" else {}
    state = other = None
    for t in range(6):
        begins = np.array([t == 0, t in (0, 3)])
        seen, prepared = ([env.reset(seed=t + k)[0] if begins[k] else env.step(1)[0] for k, env in enumerate(envs)]
                          for envs in (raw, made))
        actions, state = policy.predict(_batch(seen), state, begins, deterministic=True, **masks)
        wanted, other = policy.predict(_batch(prepared), other, begins, deterministic=True, **masks)
        assert np.array_equal(actions, wanted)
        assert len(state) == (2 if lstm else 1) and (other is None) == (not lstm)
        assert not lstm or np.array_equal(state[0], other[0])


def _batch(observations: list) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.stack([one[key] for one in observations]) for key in observations[0]}
    return np.stack(observations)


def test_a_policy_in_another_framework_stacks_too():
    spec = find_creator(MovingDot, None, Pictures(stack=2)).facts().spec
    policy = EnvPolicy(_Newest(), spec)
    env = MovingDot()
    (seen, _), state = env.reset(seed=1), None
    for t in range(3):
        action, state = policy.predict(seen, state, np.array([t == 0]))
        assert action == int(t > 0)  # the two pictures differ from the second step on
        assert state[0] == t + 1
        seen = env.step(0)[0]
    with pytest.raises(InputError, match="hand the state that predict returned"):
        policy.predict(seen)


class _Newest:
    """Tells by whether the newest picture is another than the one before, and counts."""

    def set_random_seed(self, seed: int) -> None:
        pass

    def predict(self, obs: Any, state: Any, starts: Any, deterministic: bool) -> tuple[Any, Any]:
        return (obs[..., :3] != obs[..., 3:]).any((1, 2, 3)).astype(np.int64)[:, None], (state or 0) + 1


def test_auto_takes_prepared_pictures_for_images(dots):
    for name in (DOTS, "tests.support.pictures:Flat"):
        config = tiny("ppo", Path("x"), env__name=name, env__stack=2, env__resize=(8, 8))
        spec = find_creator(name, None, config.env.pictures).facts().spec
        demos = load_demos(dots, spec) if name == DOTS else puffer_il.collect(
            _always_right, name, episodes=3, pictures={"stack": 2, "resize": (8, 8)})
        choice = pick(config, {"demos": demos}, lambda algo, name=name: tiny(
            algo, Path("x"), env__name=name, env__stack=2, env__resize=(8, 8)))
        assert choice.algo == "gail" and "observed as images" in choice.reasons[0]


def test_the_command_line_prepares_and_says_so(tmp_path, dots, capsys):
    out, options = str(tmp_path / "d.npz"), ["--env.stack", "2", "--env.resize", "8,8"]
    assert main(["demos", "collect", DOTS, "--random", "--episodes", "2", "--out", out, *options]) == 0
    assert "becomes (8, 8, 6)" in capsys.readouterr().err
    assert main(["demos", "check", out, "--env", DOTS, *options]) == 0
    assert "recorded with env.resize = 8,8, env.stack = 2; train with the same" in capsys.readouterr().out
    assert main(["demos", "info", out]) == 0
    assert "prepared with env.resize = 8,8, env.stack = 2" in capsys.readouterr().out
    assert main(["demos", "check", out, "--env", DOTS]) == 2
    bare = read_demos(out)
    np.savez(tmp_path / "bare.npz", **{name: getattr(bare, name) for name in (
        "obs", "next_obs", "actions", "terminations", "truncations", "rewards", "episode_starts")})
    assert main(["demos", "check", str(tmp_path / "bare.npz"), "--env", DOTS, *options]) == 0
    assert "of prepared pictures, and are taken for such" in capsys.readouterr().out
    assert main(["demos", "check", str(dots)]) == 0
    assert "(16, 16, 3) are read as height x width x channels" in capsys.readouterr().out
    assert main(["demos", "check", str(dots), "--env.stack", "2"]) == 2
    assert "name it with --env" in capsys.readouterr().err
    run_dir = tmp_path / "run"
    assert main(["train", "bc", DOTS, "--demos", out, "--total-steps", "64", "--run-dir", str(run_dir), *options,
                 "--eval.final-episodes", "2"]) == 0
    assert "becomes (8, 8, 6)" in capsys.readouterr().out
    assert main(["demos", "collect", DOTS, "--policy", str(run_dir), "--episodes", "2", "--out",
                 str(tmp_path / "e.npz")]) == 0
    assert read_demos(tmp_path / "e.npz").pictures == Pictures((8, 8), stack=2)
