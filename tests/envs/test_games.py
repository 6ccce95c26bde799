"""Snake, Breakout and Tron: their rules from states set by hand, their experts, demonstrations and pictures.

The Arcade's own games come from ale-py through Gymnasium, where that is installed.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from puffer_il import cli
from puffer_il.core.errors import InputError
from puffer_il.demos import load_demos
from puffer_il.native.native_env import NativeEnv
from puffer_il.vector.vec import make_vec
from tests.support.environments import FOLDERS, random_actions

UP, RIGHT, DOWN, LEFT = range(4)
STAY, TO_LEFT, TO_RIGHT = range(3)  # of Breakout
STRAIGHT, TURN_LEFT, TURN_RIGHT = range(3)  # of Tron
FULL_ROW, BRICKS = 2**7 - 1, 42
ODD = {"width": 6, "height": 5}
LARGE = {"scale": 2, "view": "frames"}  # of Breakout
CROWD = {"players": 5, "width": 20, "height": 9, "sight": 3}
VARIANTS = [("snake", {}), ("snake", ODD), ("breakout", {"sticky": 0.0}),
            ("breakout", LARGE | {"sticky": 0.0, "lives": 3, "points": True}),
            ("tron", {}), ("tron", CROWD), ("tron", {"scripted": 1})]


def make(name: str, num_envs: int = 1, seed: int = 1, **params) -> NativeEnv:
    env = NativeEnv(FOLDERS[name], num_envs, seed=seed, **params)
    env.reset()
    return env


def expert_returns(name: str, num_envs: int, **params) -> np.ndarray:
    """(rows,) what the expert collects in the first episode of each row."""
    env = make(name, num_envs, seed=5, **params)
    returns, running = np.zeros(env.num_agents), np.ones(env.num_agents, bool)
    while running.any():
        env.step(env.expert_actions())
        returns += env.rewards * running
        running &= ~(env.terminals | env.truncations)
    return returns


def last(env: NativeEnv, action) -> tuple[list[float], list[bool], np.ndarray]:
    """Rewards, terminations and the true successors of one step of one environment."""
    env.step(np.array(action))
    ended = env.terminals | env.truncations
    shape = (-1, *[1] * (env.observations.ndim - 1))
    seen = np.where(ended.reshape(shape), env.final_observations, env.observations)
    return env.rewards.astype(float).round(3).tolist(), env.terminals.tolist(), seen


# Snake


def snake(cells: list[tuple[int, int]], heading: int, food: tuple[int, int] | None, fasted: int = 0,
          **params) -> NativeEnv:
    """A snake that lies on `cells` (x, y), the head first, on a board of 6 × 5."""
    env = make("snake", **ODD, **params)
    body = np.zeros((5, 6))
    for k, (x, y) in enumerate(cells):
        body[y, x] = len(cells) - k
    at = -1 if food is None else food[1] * 6 + food[0]
    env.set_env_states(np.array([[*body.ravel(), *cells[0], heading, at, len(cells), fasted]]))
    return env


def test_snake_moves_and_shows_itself():
    env = snake([(2, 2), (1, 2), (0, 2)], RIGHT, (5, 4))
    body, order, head, food = last(env, [DOWN])[2][0]
    assert np.argwhere(body).tolist() == [[2, 1], [2, 2], [3, 2]] and set(body[body > 0]) == {255}
    assert (order[2, 1], order[2, 2], order[3, 2]) == (85, 170, 255)
    assert np.argwhere(head).tolist() == [[3, 2]] and np.argwhere(food).tolist() == [[4, 5]]


def test_snake_eats_and_grows():
    env = snake([(2, 2), (1, 2), (0, 2)], RIGHT, (3, 2), fasted=40)
    rewards, terminals, obs = last(env, [RIGHT])
    assert (rewards, terminals) == ([1], [False])
    assert obs[0, 0].sum() == 4 * 255 and obs[0, 3].sum() == 255  # the tail has not moved, and food is somewhere else
    assert not (obs[0, 3] & obs[0, 0]).any()
    state = env.env_states()[0]
    assert state[-2:].tolist() == [4, 0]  # length, and steps since the meal


def test_snake_cannot_turn_straight_back():
    env = snake([(2, 2), (1, 2), (0, 2)], RIGHT, (5, 4))
    assert np.argwhere(last(env, [LEFT])[2][0, 2]).tolist() == [[2, 3]]


@pytest.mark.parametrize(("cells", "heading", "action"), [
    ([(5, 1), (4, 1), (3, 1)], RIGHT, RIGHT),  # a wall
    ([(5, 0), (4, 0), (3, 0)], RIGHT, UP),  # and the one above
    ([(2, 2), (2, 3), (3, 3), (3, 2), (3, 1), (2, 1)], UP, RIGHT),  # itself
])
def test_snake_dies(cells: list, heading: int, action: int):
    env = snake(cells, heading, (0, 4))
    rewards, terminals, _ = last(env, [action])
    assert (rewards, terminals) == ([-1], [True])
    assert env.pop_log_means() == {"score": 0, "starved": 0, "filled": 0}


def test_snake_may_follow_its_tail():
    env = snake([(2, 2), (2, 3), (3, 3), (3, 2)], UP, (0, 4))
    assert last(env, [RIGHT])[:2] == ([0], [False])
    assert env.observations[0, 0].sum() == 4 * 255


def test_snake_starves():
    env = snake([(2, 2), (1, 2), (0, 2)], RIGHT, (5, 4), fasted=2 * 30 - 2)
    assert last(env, [RIGHT])[:2] == ([0], [False])
    assert last(env, [RIGHT])[:2] == ([-1], [True])
    assert env.pop_log_means()["starved"] == 1


def test_snake_fills_the_board():
    """All but one cell are the snake; the food is there."""
    path = [(x if y % 2 else 5 - x, y) for y in range(5) for x in range(6)]
    cells, food = path[::-1][1:], path[-1]
    env = snake(cells, RIGHT if food[0] > cells[0][0] else LEFT, food)
    assert last(env, [RIGHT if food[0] > cells[0][0] else LEFT])[:2] == ([1], [True])
    assert env.pop_log_means()["filled"] == 1


def test_snake_needs_an_even_side_for_its_expert():
    with pytest.raises(InputError, match="even"):
        NativeEnv(FOLDERS["snake"], width=5, height=7)


# Breakout


def breakout(x: float, y: float, paddle: float = 21, slope: float = 0.4, down: int = 1, half: float = 4, hits: int = 0,
             level: int = 0, bricks: tuple[int, ...] = (FULL_ROW,) * 6, **params) -> NativeEnv:
    """The ball at (x, y) on its way down (1) or up (-1), as if it had been there for some time."""
    env = make("breakout", **{"sticky": 0.0} | params)
    broken = BRICKS - sum(row.bit_count() for row in bricks)
    lives = params.get("lives", 1)
    frames = [x, y, paddle, half, *bricks] * 4
    env.set_env_states(np.array([[*frames, slope, down, hits, level, lives, broken, 0]]))
    return env


def ball(env: NativeEnv) -> dict[str, float]:
    """The newest picture, and the rest."""
    state = np.delete(env.env_states()[0], np.s_[10:40])
    names = ("x", "y", "paddle", "half", *(f"row{k}" for k in range(6)), "slope", "down", "hits", "level", "lives",
             "broken", "action")
    return dict(zip(names, state.round(9), strict=True))


def test_breakout_ball_flies_and_paddle_moves():
    """Two units of the field are a pixel, and what covers a part of one makes it grey."""
    env = breakout(11, 25)
    rewards, terminals, obs = last(env, [TO_RIGHT])
    now = ball(env)
    assert (now["x"], now["y"], now["paddle"]) == (11.4, 26, 23) and (rewards, terminals) == ([0], [False])
    paddle, place, trail, wall = obs[0].astype(int)
    assert paddle[19, 9:14].tolist() == [128, 255, 255, 255, 128] and paddle.sum() == paddle[19].sum()
    assert place[12:14, 5:7].tolist() == [[102, 25], [102, 25]] and place.sum() == 254  # 0.8 and 0.2 of a half each
    assert trail[12, 5] == 195 and (trail > 0).sum() == 1
    assert np.argwhere(wall.any(1)).ravel().tolist() == list(range(3, 9)) and len(np.unique(wall[3:9])) == 6


@pytest.mark.parametrize(("state", "slope", "down"), [
    ({"x": 1.1, "y": 25, "slope": -0.7}, 0.7, 1),
    ({"x": 40.9, "y": 25, "slope": 0.7}, -0.7, 1),
    ({"x": 10, "y": 1.2, "slope": 0.4, "down": -1}, 0.4, 1),
])
def test_breakout_ball_bounces(state: dict, slope: float, down: int):
    env = breakout(**state)
    last(env, [STAY])
    assert (ball(env)["slope"], ball(env)["down"]) == (slope, down)


def test_breakout_ceiling_shrinks_the_paddle():
    env = breakout(10, 1.2, down=-1)
    last(env, [STAY])
    assert ball(env)["half"] == 2
    env = breakout(10, 1.2, down=-1, shrink=False)
    last(env, [STAY])
    assert ball(env)["half"] == 4


@pytest.mark.parametrize(("offset", "slope"), [(-4, -1), (-2, -0.7), (-1, -0.4), (1, 0.4), (3, 0.7), (4.5, 1)])
def test_breakout_paddle_decides_where_the_ball_goes(offset: float, slope: float):
    env = breakout(20 + offset, 36.8, paddle=20, slope=0)
    last(env, [STAY])
    now = ball(env)
    assert (now["slope"], now["down"], now["hits"]) == (slope, -1, 1) and now["y"] < 37


@pytest.mark.parametrize(("row", "points"), [(5, 1), (4, 1), (3, 4), (2, 4), (1, 7), (0, 7)])
def test_breakout_bricks_break_and_score(row: int, points: int):
    bricks = tuple(FULL_ROW if k <= row else 0 for k in range(6))
    for option, reward in ((False, 1), (True, points)):
        env = breakout(10, 8 + 2 * row + 1.2, slope=0, down=-1, bricks=bricks, points=option)
        assert last(env, [STAY])[:2] == ([reward], [False])
        now = ball(env)
        assert now[f"row{row}"] == FULL_ROW ^ 1 << 1 and now["down"] == 1
        assert now["level"] == 2 - row // 2


def test_breakout_becomes_faster():
    for hits, level, pace in ((0, 0, 1), (4, 0, 1.15), (12, 0, 1.3), (12, 1, 1.45), (12, 2, 1.6), (0, 2, 1.3)):
        env = breakout(10, 25, hits=hits, level=level)
        last(env, [STAY])
        assert ball(env)["y"] == 25 + pace
    env = breakout(10, 25, hits=12, level=2, speed_up=False)
    last(env, [STAY])
    assert ball(env)["y"] == 26


def test_breakout_missed_balls_cost_lives():
    env = breakout(5, 40.5, paddle=30, lives=2)
    assert last(env, [STAY])[:2] == ([0], [False])
    now = ball(env)
    assert (now["lives"], now["y"], now["down"], now["hits"]) == (1, 26, -1, 0) and abs(now["slope"]) in (0.4, 0.7)
    env = breakout(5, 40.5, paddle=30)
    assert last(env, [STAY])[:2] == ([0], [True])


def test_breakout_ends_with_the_last_brick():
    env = breakout(10, 8 + 10 + 1.2, slope=0, down=-1, bricks=(0, 0, 0, 0, 0, 1 << 1))
    assert last(env, [STAY])[:2] == ([1], [True])
    assert env.pop_log_means() == {"bricks": BRICKS, "points": 1, "cleared": 1}


def test_breakout_actions_stick():
    """A new action is taken up a step later, or two, … with a chance of 1 - sticky each."""
    env = make("breakout", 1000, sticky=0.4)
    moving = []
    for _ in range(3):
        env.step(np.full(1000, TO_LEFT))
        moving.append((env.env_states()[:, -1] == TO_LEFT).mean())
    assert np.allclose(moving, [0.6, 0.84, 0.936], atol=0.05)


def test_breakout_stacks_the_last_pictures():
    env = make("breakout", 4, seed=3, **LARGE)
    assert env.observations.shape == (4, 4, 42, 42)
    assert (env.observations == env.observations[:, :1]).all()  # four times the first one
    seen = [env.observations[:, 0].copy()] * 4
    for actions in random_actions(env, 12):
        env.step(actions)
        seen = [*seen[1:], env.observations[:, 3].copy()]
        assert (env.observations == np.stack(seen, 1)).all()
        assert (seen[2] != seen[3]).any()


def test_breakout_views_show_the_same_game():
    """The newest picture is the planes on top of each other."""
    planes, pictures = (make("breakout", 4, seed=3, scale=2, view=view) for view in ("planes", "frames"))
    for actions in random_actions(planes, 30):
        planes.step(actions)
        pictures.step(actions)
        assert (planes.observations[:, [0, 1, 3]].max(1) == pictures.observations[:, 3]).all()
    assert planes.env_states().tobytes() == pictures.env_states().tobytes()


# Tron


def tron(cycles: list[tuple[int, int, int]], trails: dict[tuple[int, int], int] | None = None, **params) -> NativeEnv:
    """Cycles (x, y, heading) on the board, and cells of `trails` that belong to a player."""
    env = make("tron", **params)
    width, height = params.get("width", 16), params.get("height", 16)
    board = np.zeros((height, width))
    for (x, y), player in (trails or {}).items():
        board[y, x] = 1 + 4 * player
    for k, (x, y, heading) in enumerate(cycles):
        board[y, x] = 1 + 4 * k + heading
    rest = [number for x, y, heading in cycles for number in (1, heading, y * width + x)]
    env.set_env_states(np.array([[*board.ravel(), *rest]]))
    return env


def test_tron_all_move_at_once_and_leave_trails():
    env = tron([(2, 3, RIGHT), (6, 3, UP)])
    rewards, terminals, _ = last(env, [TURN_RIGHT, STRAIGHT])
    assert (rewards, terminals) == ([0.01, 0.01], [False, False])
    board, rest = np.split(env.env_states()[0], [16 * 16])
    assert np.argwhere(board.reshape(16, 16)).tolist() == [[2, 6], [3, 2], [3, 6], [4, 2]]
    assert rest.tolist() == [1, DOWN, 4 * 16 + 2, 1, UP, 2 * 16 + 6]


def test_tron_wall_and_trails_kill():
    for cycle, action in (((0, 3, LEFT), STRAIGHT), ((4, 0, RIGHT), TURN_LEFT), ((4, 5, RIGHT), STRAIGHT)):
        env = tron([cycle, (8, 6, UP)], {(5, 5): 0})
        assert last(env, [action, STRAIGHT])[:2] == ([-1, 1.01], [True, True])
        assert env.pop_log_means() == {"steps": 1, "won": 1, "drawn": 0}


@pytest.mark.parametrize("second", [(4, 3, LEFT), (3, 3, LEFT)])  # both into the cell between, or into each other
def test_tron_head_on_crash_is_a_draw(second: tuple[int, int, int]):
    env = tron([(2, 3, RIGHT), second])
    assert last(env, [STRAIGHT, STRAIGHT])[:2] == ([0, 0], [True, True])
    assert env.pop_log_means() == {"steps": 1, "won": 0, "drawn": 1}


def test_tron_who_is_out_stays_out_until_the_game_ends():
    env = tron([(0, 3, LEFT), (9, 0, UP), (0, 0, UP), (4, 3, RIGHT), (4, 5, RIGHT)], **CROWD)
    assert last(env, [STRAIGHT] * 5)[:2] == ([-1, -1, -1, 0.01, 0.01], [True, True, True, False, False])
    assert last(env, [STRAIGHT] * 5)[:2] == ([0, 0, 0, 0.01, 0.01], [False] * 5)
    assert env.masks.tolist() == [False, False, False, True, True]
    crash = [STRAIGHT, STRAIGHT, STRAIGHT, TURN_RIGHT, TURN_LEFT]  # the last two, into the same cell
    assert last(env, crash)[:2] == ([0] * 5, [False, False, False, True, True])
    last(env, [STRAIGHT] * 5)
    assert env.masks.all()


def test_tron_agents_see_the_board_from_where_they_head():
    """The same scene, turned by quarters, is the same observation."""
    seen = []
    for heading, (dx, dy) in enumerate([(0, -1), (1, 0), (0, 1), (-1, 0)]):
        front, right, centre = np.array([dx, dy]), np.array([-dy, dx]), np.array([8, 8])
        other, trail = centre + 2 * front + right, centre - front - 2 * right
        env = tron([(*centre, heading), (*other, heading)], {tuple(trail): 1})
        seen.append(env.observations[0, :, 2:13, 2:13].copy())  # without the rim, which is not the same
        assert np.argwhere(env.observations[1, 1]).tolist() == [[9, 6]]  # the first one, behind the second
    walls, heads = seen[0]
    assert np.argwhere(walls).tolist() == [[3, 6], [5, 5], [6, 3]] and np.argwhere(heads).tolist() == [[3, 6]]
    assert all((other == seen[0]).all() for other in seen)
    corner = tron([(15, 0, UP), (4, 8, UP)]).observations[0, 0]
    assert (corner[:7] == 255).all() and (corner[:, 8:] == 255).all() and corner[8:, :8].sum() == 0


def test_tron_scripted_players_are_no_agents():
    env = make("tron", 64, scripted=1)
    assert env.num_agents == 64
    with pytest.raises(InputError, match="agents"):
        make("tron", scripted=2)
    games = wins = 0
    for actions in random_actions(env, 100):
        env.step(actions)
        games += env.terminals.sum()
        wins += (env.rewards > 0.5).sum()
    assert games > 300 and wins < 0.02 * games


def test_tron_expert_holds_its_own_against_itself():
    """The scripted one and the one that is asked win as often."""
    returns = expert_returns("tron", 300, scripted=1, survival=0.0)
    assert abs(returns.mean()) < 0.2 and (returns == 0).mean() < 0.1


# All three


@pytest.mark.parametrize(("name", "params", "num_envs", "mean", "least"), [
    ("snake", {}, 30, 97, 97),  # every board is filled
    ("snake", ODD, 50, 27, 27),
    ("breakout", {}, 300, 39.5, 0),  # of 42 bricks
    ("tron", {}, 200, 0.65, -1),  # returns of a game add up to 0 but for 0.01 per step: 65 steps
])
def test_experts_reach_what_they_say(name: str, params: dict, num_envs: int, mean: float, least: float):
    returns = expert_returns(name, num_envs, **params)
    assert returns.mean() >= mean and returns.min() >= least


@pytest.mark.parametrize(("name", "params"), VARIANTS)
def test_states_go_on_exactly(name: str, params: dict):
    """What is set is got back, and another environment goes on from it to the bit, where the episode does."""
    env, other = (make(name, 8, seed=seed, **params) for seed in (3, 9))
    for actions in random_actions(env, 10, seed=2):
        env.step(actions)
    states = env.env_states()
    other.set_env_states(states)
    assert other.env_states().tobytes() == states.tobytes()
    assert other.observations.tobytes() == env.observations.tobytes()
    actions = env.expert_actions()
    env.step(actions)
    other.step(actions)
    going = env.masks & ~(env.terminals | env.truncations)
    going &= ~(other.terminals | other.truncations)
    assert going.any()
    for rows in ("observations", "rewards"):
        assert getattr(env, rows)[going].tobytes() == getattr(other, rows)[going].tobytes()


@pytest.mark.parametrize(("name", "params"), VARIANTS)
def test_asking_the_expert_and_drawing_change_nothing(name: str, params: dict):
    asked, left = (make(name, 4, seed=3, **params) for _ in range(2))
    actions = random_actions(asked, 20)
    for row in actions:
        asked.expert_actions()
        picture = asked.render(1)
        asked.step(row)
        left.step(row)
        assert asked.observations.tobytes() == left.observations.tobytes()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5
    assert (picture != asked.render(2)).any()


@pytest.mark.parametrize(("name", "episodes", "least"), [("snake", 2, 97), ("breakout", 4, 25), ("tron", 20, 0.5)])
def test_demonstrations_of_the_experts(name: str, episodes: int, least: float, tmp_path: Path,
                                       capsys: pytest.CaptureFixture):
    """Of Tron they are self-play: an episode for every cycle of every game."""
    out = tmp_path / "demos.npz"
    assert cli.main(["demos", "collect", name, "--expert", "--episodes", str(episodes), "--out", str(out)]) == 0
    assert f"{episodes} episodes" in capsys.readouterr().out
    with make_vec(name, num_envs=2) as vec:
        demos = load_demos(out, vec.spec)
    assert demos.num_episodes == episodes and demos.obs.dtype == np.uint8 and demos.obs.shape[1:] == vec.spec.obs_shape
    assert demos.rewards is not None and demos.rewards.sum() / episodes >= least
    if name == "tron":
        assert demos.terminations.sum() == episodes and demos.lengths.min() > 10


# The Arcade itself

needs_ale = pytest.mark.skipif(importlib.util.find_spec("ale_py") is None, reason="ale-py is not installed")

SMALL_PONG = """
import gymnasium
import numpy as np


def pong():
    env = gymnasium.make("ale_py:ALE/Pong-v5", obs_type="grayscale", max_episode_steps=20)
    space = gymnasium.spaces.Box(0, 255, (42, 40), np.uint8)
    env = gymnasium.wrappers.TransformObservation(env, lambda obs: obs[::5, ::4], space)
    return gymnasium.wrappers.FrameStackObservation(env, 4)
"""


@needs_ale
@pytest.mark.parametrize("backend", ["serial", "multiprocessing"])
def test_arcade_steps_by_its_id(backend: str):
    with make_vec("ale_py:ALE/Pong-v5", num_envs=2, backend=backend, kwargs={"frameskip": 8}) as vec:
        assert vec.spec.obs_shape == (210, 160, 3) and vec.spec.obs_dtype == np.uint8 and vec.spec.action.nvec == (6,)
        vec.reset(1)
        points = np.zeros(2)
        for t in range(100):
            points += vec.step(np.full((2, 1), t % 6, np.int32)).rewards
        assert (points < 0).all()  # by now the machine has scored


@needs_ale
def test_arcade_trains_by_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "small_pong.py").write_text(SMALL_PONG)
    monkeypatch.syspath_prepend(tmp_path)
    run_dir = tmp_path / "run"
    args = ["--total-steps", "128", "--run-dir", str(run_dir), "--env.num_envs", "2", "--env.backend", "serial",
            "--eval.final_episodes", "1", "--train.num_steps", "32", "--ppo.update_epochs", "1"]
    assert cli.main(["train", "ppo", "small_pong:pong", *args]) == 0
    assert (run_dir / "summary.json").is_file() and "small_pong" in sys.modules
