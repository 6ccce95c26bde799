"""Prepared pictures in vectors: the same in every way of stepping, and never from another episode."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FrameStackObservation, GrayscaleObservation

import puffer_il
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures
from puffer_il.vector.make import env_seed, find_creator
from puffer_il.vector.vec import make_vec
from tests.support.pictures import SIZE, Flat, MovingDot

SEED = 3


def in_one_step(num_envs: int = 1) -> SyncVectorEnv:
    return SyncVectorEnv([MovingDot] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def in_the_next(num_envs: int = 1) -> SyncVectorEnv:
    return SyncVectorEnv([MovingDot] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP)


DOTS, AGENTS = "tests.support.pictures:MovingDot", "tests.support.pictures:Agents"
OPTIONS = {"resize": (8, 6), "grey": True, "stack": 3}
WAYS: dict[str, dict[str, Any]] = {
    "serial": {"name": DOTS, "backend": "serial"},
    "workers": {"name": DOTS, "backend": "multiprocessing", "num_workers": 2, "num_groups": 2},
    "channels first": {"name": DOTS, "backend": "serial", "kwargs": {"first": True}},
    "dict": {"name": DOTS, "backend": "serial", "kwargs": {"states": True}},
    "masks": {"name": "tests.support.pictures:Choosy", "backend": "serial"},
    "two axes": {"name": Flat, "backend": "serial"},
    "agents": {"name": AGENTS, "backend": "serial"},
    "vector, same step": {"name": in_one_step}, "vector, next step": {"name": in_the_next},
    "C": {"name": "breakout"},
}


def played(steps: int, num_envs: int, way: dict[str, Any], **more: Any) -> tuple[Any, list]:
    """The spec, the first rows, and of each step: rows, final rows, valid, ended."""
    with make_vec(num_envs=num_envs, seed=SEED, **way, **more) as vec:
        rng, found = np.random.default_rng(0), []
        found.append((vec.reset(SEED).copy(), None, np.ones(num_envs, bool), np.zeros(num_envs, bool)))
        for _ in range(steps):
            batch = vec.step(rng.integers(0, 2, (num_envs, vec.spec.action.dim)).astype(np.int32))
            found.append((batch.obs.copy(), batch.final_obs.copy(), batch.valid.copy(),
                          (batch.terminations | batch.truncations) & batch.valid))
        return vec.spec, found


@pytest.mark.parametrize("way", WAYS)
def test_rows_are_those_of_raw_pictures_prepared_one_by_one(way):
    options = {"stack": 3, "resize": (10, 8)} if way == "C" else OPTIONS
    num_envs = 6 if way == "agents" else 4
    raw_spec, raw = played(40 if way == "C" else 25, num_envs, WAYS[way])
    spec, made = played(40 if way == "C" else 25, num_envs, WAYS[way], pictures=Pictures(**options))
    frames = spec.frames
    assert frames is not None and raw_spec.frames is None and spec.raw.layout == raw_spec.layout
    at_once = find_creator(WAYS[way]["name"], WAYS[way].get("kwargs")).facts().native
    single = [frames.begin(rows) for rows, *_ in raw]
    histories = [[0] * 3 for _ in range(num_envs)]  # steps of which the stack holds the pictures
    ends = 0
    for t, ((rows, final, valid, ended), (_, raw_final, same_valid, same_ended)) in enumerate(zip(made, raw,
                                                                                                 strict=True)):
        assert np.array_equal(valid, same_valid) and np.array_equal(ended, same_ended)
        for i, history in enumerate(histories):
            before, newest = list(history), t
            if not valid[i] or (ended[i] and at_once) or t == 0:
                history[:] = [newest] * 3
            else:
                history[:] = [*history[1:], newest]
            pool = np.stack([one[i] for one in single])
            if not (ended[i] and way == "vector, next step"):  # this row is never acted on
                assert np.array_equal(rows[i], frames.gathered(pool, np.array([history]))[0]), (t, i)
            if t and ended[i]:
                ends += 1
                pool = np.concatenate((pool, frames.begin(raw_final[i:i + 1])))
                wanted = frames.gathered(pool, np.array([[*before[1:], len(pool) - 1]]))[0]
                assert np.array_equal(final[i], wanted), (t, i)
    assert ends or way == "C"


def test_rows_are_gymnasiums_stacked_frames():
    """FrameStackObservation with its padding "reset", whose axis of frames is here among the channels; greys may be one
    less there, as it rounds down."""
    for options, wrap in (({"stack": 3}, lambda env: env),
                          ({"stack": 4, "grey": True}, lambda env: GrayscaleObservation(env, keep_dim=True))):
        envs = [FrameStackObservation(wrap(MovingDot()), options["stack"]) for _ in range(2)]
        with make_vec(DOTS, num_envs=2, backend="serial", pictures=Pictures(**options), seed=SEED) as vec:
            rows = vec.reset(SEED)
            seen = [env.reset(seed=env_seed(SEED, i))[0] for i, env in enumerate(envs)]
            over = False
            for _ in range(20):
                for row, frames in zip(rows, seen, strict=True):
                    theirs = np.moveaxis(frames, 0, 2).reshape(SIZE, SIZE, -1)
                    assert np.isin(row.astype(int) - theirs, (0, 1) if "grey" in options else (0,)).all()
                rows = vec.step(np.ones((2, 1), np.int32)).obs
                steps = [env.reset()[:1] if over else env.step(1) for env in envs]
                seen, over = [step[0] for step in steps], not over and steps[0][3]


def test_resized_pictures_are_gymnasiums():
    pytest.importorskip("cv2")
    from gymnasium.wrappers import ResizeObservation

    env = ResizeObservation(MovingDot(), (7, 10))
    own = puffer_il.make(MovingDot, pictures={"resize": (7, 10)})
    for seed in range(5):
        assert np.abs(env.reset(seed=seed)[0].astype(int) - own.reset(seed=seed)[0]).max() <= 1


@pytest.mark.parametrize("screen", ["rgb", "grayscale"])
def test_pong_is_what_gymnasiums_wrappers_make_of_it(screen):
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    from gymnasium.wrappers import ResizeObservation

    kwargs = {"repeat_action_probability": 0.0, "obs_type": screen}
    env = gymnasium.make("ale_py:ALE/Pong-v5", disable_env_checker=True, **kwargs)
    env = FrameStackObservation(ResizeObservation(env if screen == "grayscale" else GrayscaleObservation(env),
                                                  (84, 84)), 4)
    options = Pictures((84, 84), screen == "rgb", 4)
    with make_vec("ale_py:ALE/Pong-v5", num_envs=1, backend="serial", pictures=options, kwargs=kwargs) as vec:
        rows, (seen, _) = vec.reset(SEED), env.reset(seed=env_seed(SEED, 0))
        for t in range(40):
            apart = np.abs(np.moveaxis(seen, 0, 2).astype(int) - rows[0]).max()
            assert apart <= (screen == "rgb")  # two means are rounded
            rows, seen = vec.step(np.array([[t % 6]], np.int32)).obs, env.step(t % 6)[0]


def test_an_exact_state_holds_the_pictures_that_are_stacked():
    with make_vec("breakout", num_envs=3, pictures=Pictures(stack=3), seed=SEED) as vec:
        assert vec.exact_state and vec.native_batch() is None
        vec.reset()
        act = np.array([[0], [1], [2]], np.int32)
        for _ in range(5):
            vec.step(act)
        state = vec.get_state()
        wanted = [vec.step(act).obs.copy() for _ in range(4)]
        vec.step(act[::-1])
        vec.set_state(state)
        assert all(np.array_equal(vec.step(act).obs, rows) for rows in wanted)


def test_options_that_are_off_cost_nothing():
    with make_vec(DOTS, num_envs=2, backend="serial", pictures=Pictures(channels="last")) as vec:
        assert vec.spec.frames is None and vec._puffer._prepared is None
        assert np.shares_memory(vec.obs, vec.envs[0].observations)


def test_what_was_read_and_made_is_said():
    assert find_creator(DOTS, {"first": True}).facts().notices == (
        "image 'obs' (3, 16, 16) is read as channels x height x width, its pixels scaled from the declared range 0 to "
        "255",)
    (said,) = find_creator(DOTS, {"states": True}, Pictures(**OPTIONS)).facts().notices
    assert said == ("image 'eye' (16, 16, 3) is read as height x width x channels, its pixels scaled from the declared "
                    "range 0 to 255; it becomes (8, 6, 3) by env.resize = 8,6, env.grey = true, env.stack = 3")
    turned = find_creator(DOTS, {}, Pictures(channels="first")).facts()
    assert "read as channels x height x width" in turned.notices[0]
    assert not turned.spec.obs_fields[0].channels_last


def test_observations_without_pictures_are_refused():
    with pytest.raises(InputError, match=r"CartPole-v1': env.stack = 2: .* has no pictures"):
        make_vec("gymnasium:CartPole-v1", num_envs=1, pictures=Pictures(stack=2))


@pytest.mark.parametrize("states", [False, True])
def test_the_face_gives_prepared_pictures(states):
    env = puffer_il.make(MovingDot, states=states, pictures=OPTIONS)
    vec = puffer_il.make_vec(MovingDot, 2, pictures=OPTIONS, states=states)
    with make_vec(MovingDot, num_envs=1, backend="serial", pictures=Pictures(**OPTIONS), kwargs={"states": states},
                  seed=SEED) as rows:
        wanted, seen = rows.reset(SEED), env.reset(seed=env_seed(SEED, 0))[0]
        for _ in range(10):
            assert env.observation_space.contains(seen)
            assert np.array_equal(rows.spec.pack(seen)[0], wanted)
            batch = rows.step(np.ones((1, 1), np.int32))
            seen, *_, over, _ = env.step(1)
            wanted = batch.final_obs if over else batch.obs
            if over:
                break
    assert vec.reset(seed=1)[0]["eye" if states else ...].shape == (2, 8, 6, 3)
    assert isinstance(puffer_il.make(MovingDot), gymnasium.Env)
    with pytest.raises(InputError, match="there is no such option"):
        puffer_il.make(MovingDot, pictures={"size": 3})
