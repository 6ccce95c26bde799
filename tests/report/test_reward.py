"""`puffer-il reward show`: its numbers against known ones, its lines in narrow and in wide terminals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from puffer_il import cli
from puffer_il.core import terminal
from puffer_il.core.spec import ActionSpec, EnvSpec, ObsField
from puffer_il.demos.dataset import Demos
from puffer_il.learners.common.learned_reward import LearnedReward, NetworkReward, TableReward, save_reward
from puffer_il.report.measure_reward import Scored, correlation, exchanged, measure, moved_by, parts_of, slices, truth
from puffer_il.report.show_reward import lines
from puffer_il.vector.make import find_creator
from tests.support.runs import gridworld_demos, run, scripted_cartpole_demos, tiny

SPEC = EnvSpec("made up", (3,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
GAMMA = 0.9


class FirstNumber(LearnedReward):
    """What the first number of the observation says."""

    kind = "first number"
    reads = ("obs",)

    def forward(self, obs, actions=None, next_obs=None):
        return obs[:, 0].float()


def episodes(n: int = 400, length: int = 10) -> Demos:
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(n, 3)).astype(np.float32)
    next_obs = np.roll(obs, -1, 0)
    ends = np.arange(n) % length == length - 1
    next_obs[ends] = rng.normal(size=(ends.sum(), 3))
    return Demos(obs, rng.integers(0, 2, (n, 1)).astype(np.int32), next_obs, np.zeros(n, bool), ends,
                 np.arange(0, n, length), obs[:, 0].copy())


def compared(learned: np.ndarray, demos: Demos) -> dict:
    return truth([Scored("here", demos, learned.astype(np.float64))], FirstNumber(SPEC, "none"), GAMMA, SPEC)


def test_the_true_reward_itself_goes_along_with_itself():
    demos = episodes()
    same = compared(3 * demos.rewards + 1, demos)
    assert [same[name] for name in ("step", "step_rank", "returns")] == pytest.approx([1, 1, 1])
    assert same["distance"] == pytest.approx(0, abs=1e-6)
    assert compared(-demos.rewards, demos)["distance"] == pytest.approx(1)


def test_shaping_is_seen_through_but_not_by_the_correlation_of_steps():
    demos = episodes()
    potential = [5 * x[:, 1].astype(np.float64) ** 2 - x[:, 2] for x in (demos.obs, demos.next_obs)]
    shaped = compared(demos.rewards + GAMMA * potential[1] - potential[0], demos)
    assert shaped["step"] < 0.3 and shaped["distance"] == pytest.approx(0, abs=1e-3)


def test_noise_is_unrelated_to_the_true_reward():
    demos = episodes()
    noise = compared(np.random.default_rng(7).normal(size=len(demos)), demos)
    assert noise["distance"] == pytest.approx(math.sqrt(0.5), abs=0.06)


def test_what_does_not_vary_has_no_correlation():
    demos = episodes()
    assert compared(np.ones(len(demos)), demos)["step"] is None
    assert correlation(np.arange(5.0), np.arange(5.0) ** 3) == pytest.approx(154 / 170)


def test_an_end_counts_what_follows_it():
    """Two kinds of episodes that differ in their end alone: the returns tell them apart by the absorbing reward."""
    length = 5
    ends = np.arange(100) % length == length - 1
    failed = np.repeat(np.arange(20) % 2 == 0, length)
    obs = np.zeros((100, 3), np.float32)
    rewards = np.where(ends & failed, -1.0, 0.0).astype(np.float32)
    demos = Demos(obs, np.zeros((100, 1), np.int32), obs.copy(), ends & failed, ends & ~failed,
                  np.arange(0, 100, length), rewards)
    for absorbing, expected in ((-2.0, 1.0), (2.0, -1.0)):
        reward = FirstNumber(SPEC, "none", absorbing)
        found = truth([Scored("here", demos, np.zeros(100))], reward, GAMMA, SPEC)
        assert found["returns"] == pytest.approx(expected)


def test_the_part_that_it_reads_moves_it_and_the_others_do_not():
    demos = episodes()
    found = {one["part"]: one["sd"] for one in
             moved_by(FirstNumber(SPEC, "none"), demos, parts_of(SPEC, demos.obs), 0)}
    assert found["obs[0]"] == pytest.approx(math.sqrt(2), abs=0.1)  # the difference of two independent draws
    assert found["obs[1]"] == found["obs[2]"] == 0


def test_parts_of_a_record_are_cut_by_bytes():
    fields = (ObsField("speed", np.dtype("f4"), (2,), 0), ObsField("gear", np.dtype("i4"), (), 8, 5))
    spec = EnvSpec("car", (12,), np.dtype(np.uint8), ActionSpec(nvec=(2,)), fields)
    obs = np.zeros((6, 12), np.uint8)
    obs[:, :8] = np.arange(12, dtype=np.float32).reshape(6, 2).view(np.uint8)
    obs[:, 8] = range(6)
    parts = parts_of(spec, obs)
    assert [part.name for part in parts] == ["speed[0]", "speed[1]", "gear"]
    assert parts[1].values.tolist() == [1, 3, 5, 7, 9, 11] and parts[2].values.tolist() == [0, 1, 2, 3, 4, 5]
    moved = exchanged(obs, parts[1], np.arange(6)[::-1])
    assert moved[:, 4:8].view(np.float32)[:, 0].tolist() == [11, 9, 7, 5, 3, 1]
    assert np.array_equal(moved[:, :4], obs[:, :4]) and np.array_equal(moved[:, 8:], obs[:, 8:])


def test_slices_are_means_of_the_steps_seen():
    demos = episodes(4000)
    parts = parts_of(SPEC, demos.obs)
    made = slices(demos.obs[:, 0].astype(float), parts, [{"part": "obs[0]", "sd": 1.4}, {"part": "obs[2]", "sd": 0.1}])
    means = np.array(made["one"][0]["means"], float)
    assert (np.diff(means) > 0).all()  # the reward is that very number
    assert made["two"]["x"] == "obs[0]" and np.shape(made["two"]["means"]) == (24, 24)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    demos = scripted_cartpole_demos(folder / "demos.npz")
    run(tiny("airl", folder / "run", demos__source=str(demos)))
    return folder


@pytest.fixture(scope="module")
def measured(trained):
    return measure(trained / "run", "", {}, "", 4, 0)


def show(*arguments) -> int:
    return cli.main(["reward", "show", *map(str, arguments)])


def test_json_holds_all_that_is_measured(trained, capsys):
    assert show(trained / "run", "--episodes", 4, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["algo"], told["kind"], told["reads"], told["env"]) == ("airl", "shaped", ["obs"], "cartpole")
    assert set(told["sources"]) == {"demonstrations", "random policy", "trained policy"}
    assert told["sources"]["random policy"]["episodes"] == 4
    assert told["truth"]["step"] is None  # CartPole pays 1 for every step
    assert -1 <= told["truth"]["returns"] <= 1
    assert [one["part"] for one in told["moved_by"]] and len(told["slices"]["one"]) == 2


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("depth", [terminal.PLAIN, terminal.INDEXED, terminal.FULL])
def test_lines_fit_the_terminal(measured, width, depth):
    plain = [terminal.ESCAPES.sub("", line) for line in lines(measured, width, depth)]
    assert max(map(len, plain)) <= width
    assert not any("…" in line for line in plain)  # nothing had to be cut
    assert any("trained policy" in line for line in plain) and any("obs[" in line for line in plain)


def test_a_reward_by_itself_needs_no_run(trained, tmp_path, capsys):
    (tmp_path / "reward.pt").write_bytes((trained / "run" / "reward.pt").read_bytes())
    assert show(tmp_path / "reward.pt", "--env.kwargs.gravity", 12, "--episodes", 3) == 0
    text = capsys.readouterr().out
    assert "gravity=12" in text and "trained policy" not in text and "demonstrations" not in text


def test_a_table_of_rewards_is_shown_by_state(tmp_path, capsys):
    demos = gridworld_demos(tmp_path / "demos.npz")
    spec = find_creator("mdp").facts().spec
    save_reward(TableReward.of(spec, "maxent_irl", np.arange(45.0)), tmp_path / "reward.pt")
    assert show(tmp_path / "reward.pt", "--demos", demos, "--episodes", 5) == 0
    text = capsys.readouterr().out
    assert "table (45) of maxent_irl" in text and "Mean reward by obs" in text and "demonstrations" in text


def test_the_picture_is_written_in_many_colours(trained, tmp_path, capsys):
    pillow = pytest.importorskip("PIL.Image")
    assert show(trained / "run", "--episodes", 3, "--out", tmp_path / "reward.png") == 0
    assert f"{tmp_path / 'reward.png'}: written" in capsys.readouterr().out
    picture = np.asarray(pillow.open(tmp_path / "reward.png"))
    assert picture.shape[2] == 3 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_wrong_input_is_one_line(trained, tmp_path, capsys):
    torch.manual_seed(0)
    save_reward(NetworkReward(SPEC, "gail", hidden=(8,)), tmp_path / "other.pt")
    episodes().save(tmp_path / "d.npz")
    for arguments, match in (
            ((tmp_path,), "holds no learned reward"),
            ((trained / "run", "--out", tmp_path / "x.gif"), "the picture is a PNG"),
            ((tmp_path / "other.pt", "--env", "cartpole"), "reads observations"),
            ((trained / "run", "--demos", tmp_path / "d.npz"), "d.npz")):
        assert show(*arguments) == 2
        error = capsys.readouterr().err
        assert match in error and error.count("\n") == 1
