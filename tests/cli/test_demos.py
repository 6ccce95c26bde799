"""`puffer-il demos`: collected from runs, scripts and other people's experts; looked at, checked and converted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.demos import read_demos, read_meta
from tests.support.command_line import collect, one_line, train


def test_demos_are_collected_from_a_run(tmp_path, finished, capsys):
    out = tmp_path / "new" / "d.npz"
    assert collect("cartpole", "--policy", finished, "--episodes", 3, "--out", out) == 0
    demos = read_demos(out)
    assert demos.num_episodes == 3
    assert f"{out}: 3 episodes, {len(demos)} transitions, mean return" in capsys.readouterr().out
    command = f"puffer-il demos collect cartpole --policy {finished} --episodes 3 --out {out}"
    assert (read_meta(out)["env"], read_meta(out)["collected"]) == ("cartpole", command)
    assert collect("cartpole", "--policy", finished, "--episodes", 3, "--out", tmp_path / "s.npz", "--stochastic") == 0
    assert len(read_demos(tmp_path / "s.npz")) != len(demos)
    assert collect("gymnasium:CartPole-v1", "--policy", finished, "--episodes", 2, "--out", tmp_path / "g.npz") == 0
    assert read_demos(tmp_path / "g.npz").num_episodes == 2


def test_a_runs_own_parameters_are_kept_when_collecting(tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert train("ppo", "cartpole", "--total-steps", "256", "--run-dir", str(run_dir),
                 "--env.kwargs.max-episode-steps", "3") == 0
    assert collect("cartpole", "--policy", run_dir, "--episodes", 2, "--out", tmp_path / "d.npz") == 0
    assert read_demos(tmp_path / "d.npz").lengths.tolist() == [3, 3]


def test_given_parameters_go_over_those_of_the_run(tmp_path, finished):
    out = tmp_path / "d.npz"
    assert collect("cartpole", "--policy", finished, "--episodes", 2, "--out", out,
                   "--env.kwargs.max-episode-steps", "4") == 0
    assert read_demos(out).lengths.tolist() == [4, 4]


def test_demos_are_collected_from_scripted_experts(tmp_path, capsys):
    assert collect("cartpole", "--expert", "--episodes", 3, "--out", tmp_path / "a.npz") == 0
    assert read_demos(tmp_path / "a.npz").returns.tolist() == [500.0] * 3
    assert "mean return 500.0" in capsys.readouterr().out
    assert collect("tron", "--expert", "--episodes", 2, "--out", tmp_path / "b.npz", "--seed", 1) == 0
    assert read_demos(tmp_path / "b.npz").num_episodes == 2  # of two agents


def test_random_demos_depend_on_the_seed_alone(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert collect("pendulum", "--random", "--episodes", 2, "--out", tmp_path / name, "--seed", seed) == 0
    a, b, c = (read_demos(tmp_path / name) for name in "abc")
    assert np.array_equal(a.actions, b.actions) and np.array_equal(a.obs, b.obs)
    assert a.actions.std() > 0.8 and not np.array_equal(a.obs, c.obs)


def test_demos_are_collected_from_other_peoples_experts(tmp_path, test_data):
    expert = test_data / "gail_paper_experts" / "classic_CartPole.npz"
    assert collect("cartpole", "--policy", expert, "--episodes", 2, "--out", tmp_path / "d.npz") == 0
    assert read_demos(tmp_path / "d.npz").returns.mean() > 450


def test_a_policy_of_another_environment_is_refused(tmp_path, finished, capsys):
    assert collect("acrobot", "--policy", finished, "--episodes", 1, "--out", tmp_path / "d.npz") == 2
    assert "a policy for cartpole" in one_line(capsys) and not (tmp_path / "d.npz").exists()


def test_demos_info(demos, capsys):
    assert main(["demos", "info", str(demos)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == str(demos) and out[1].split()[:2] == ["episodes", "6:"]
    assert [line.split()[0] for line in out[2:7]] == ["transitions", "returns", "obs", "actions", "states"]
    assert "4 numbers each, so that episodes can begin in them" in out[6]
    assert main(["demos", "info", str(demos), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["episodes"] == 6 and facts["states"]["shape"] == [4] and facts["weights"] is None


def test_demonstrations_without_actions(demos, finished, tmp_path, capsys):
    bare = str(tmp_path / "bare.npz")
    assert main(["demos", "import", str(demos), bare, "--no-actions", "--env", "cartpole"]) == 0
    assert main(["demos", "info", bare]) == 0
    assert "actions     none: the file holds only observations" in capsys.readouterr().out
    assert main(["demos", "check", bare, "--env", "cartpole"]) == 0
    assert "no actions are stored" in capsys.readouterr().out
    assert train("bc", "cartpole", "--demos", bare, "--run-dir", str(tmp_path / "run")) == 2
    refused = capsys.readouterr().err
    assert refused.count("\n") == 1 and f"demos {bare}: no actions are stored and bc learns from them" in refused
    assert main(["eval", str(finished), "--episodes", "1", "--demos", bare]) == 2
    assert "no actions are stored, so their likelihood is unknown" in capsys.readouterr().err


def test_demos_check_tells_doubts_from_what_does_not_fit(demos, tmp_path, capsys):
    assert main(["demos", "check", str(demos), "--env", "cartpole"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{demos}: ")
    assert main(["demos", "check", str(demos), "--env", "acrobot"]) == 2
    assert "observations have shape (4,) but acrobot has (6,)" in capsys.readouterr().err
    assert collect("cartpole", "--random", "--episodes", 2, "--out", tmp_path / "short.npz") == 0
    arrays = dict(np.load(tmp_path / "short.npz"))
    arrays["actions"][:] = 0
    np.savez(tmp_path / "idle.npz", **arrays)
    capsys.readouterr()
    assert main(["demos", "check", str(tmp_path / "idle.npz")]) == 0
    out = capsys.readouterr().out
    assert f"warning: {tmp_path / 'idle.npz'}: 1 of 1 action columns never change" in out
    assert out.splitlines()[-1].endswith("usable")


def test_demos_go_to_imitation_and_back(demos, tmp_path, capsys):
    there, back = tmp_path / "there.npz", tmp_path / "back.npz"
    assert main(["demos", "export", str(demos), str(there)]) == 0
    assert main(["demos", "import", str(there), str(back), "--env", "cartpole", "--time-limit", "60"]) == 0
    ours, again = read_demos(demos), read_demos(back)
    for name in ("obs", "actions", "next_obs", "rewards", "episode_starts"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(again, name))
    assert read_meta(back)["env"] == "cartpole" and "demos import" in read_meta(back)["collected"]
    assert main(["demos", "import", str(there), str(tmp_path / "x.npz"), "--env", "acrobot"]) == 2
    assert not (tmp_path / "x.npz").exists()


def test_minari_needs_to_know_the_environment(demos, capsys):
    assert main(["demos", "export", str(demos), "minari:own/cartpole-v0"]) == 2
    assert "give --env ENV" in one_line(capsys)


def test_demos_go_to_minari_and_back(demos, tmp_path, monkeypatch, capsys):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert main(["demos", "export", str(demos), "minari:own/cartpole-v0", "--env", "cartpole"]) == 0
    assert capsys.readouterr().out.startswith("minari:own/cartpole-v0: 6 episodes")
    assert main(["demos", "import", "minari:own/cartpole-v0", str(tmp_path / "back.npz")]) == 0
    np.testing.assert_array_equal(read_demos(demos).obs, read_demos(tmp_path / "back.npz").obs)


@pytest.fixture
def beyond(tmp_path):
    """Demonstrations whose torques the recorder's environment clipped itself: up to 3 where Pendulum takes 2."""
    assert collect("pendulum", "--random", "--episodes", 3, "--out", tmp_path / "d.npz") == 0
    with np.load(tmp_path / "d.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "d.npz", **arrays | {"actions": arrays["actions"] * 1.5})
    return tmp_path / "d.npz"


def test_every_command_takes_the_option_that_it_recommends(tmp_path, beyond, capsys):
    capsys.readouterr()
    assert main(["demos", "check", str(beyond), "--env", "pendulum"]) == 2
    assert "give --demos.clip-actions true" in one_line(capsys)
    clip = ["--demos.clip-actions", "true"]
    assert main(["demos", "check", str(beyond), "--env", "pendulum", *clip]) == 0
    assert main(["demos", "import", str(beyond), str(tmp_path / "c.npz"), "--env", "pendulum", *clip]) == 0
    assert np.abs(read_demos(tmp_path / "c.npz").actions).max() == 2
    assert main(["demos", "export", str(beyond), str(tmp_path / "e.npz"), "--env", "pendulum", *clip]) == 0
    assert np.abs(read_demos(tmp_path / "e.npz").actions).max() == 2
    run_dir, few = str(tmp_path / "run"), ["--total-steps", "1000"]
    assert train("bc", "pendulum", "--demos", str(tmp_path / "c.npz"), *few, "--run-dir", run_dir) == 0
    capsys.readouterr()
    assert main(["eval", run_dir, "--episodes", "2", "--demos", str(beyond)]) == 2
    assert "give --demos.clip-actions true" in one_line(capsys)
    assert main(["eval", run_dir, "--episodes", "2", "--demos", str(beyond), *clip, "--demos.episodes", "1"]) == 0
    assert "likelihood" in (out := capsys.readouterr().out) and "of 200 demonstrated actions" in out


def test_demonstrations_are_limited_and_subsampled_as_in_training(tmp_path, demos, capsys):
    out = tmp_path / "few.npz"
    assert main(["demos", "import", str(demos), str(out), "--demos.episodes", "2", "--demos.subsample", "10"]) == 0
    few = read_demos(out)
    assert few.num_episodes == 2 and few.whole_lengths.tolist() == read_demos(demos).lengths[:2].tolist()
    assert (few.lengths < few.whole_lengths / 5).all()
    for words, says in ((["--demos.weighting", "rank"], "only --demos.format, --demos.episodes, --demos.subsample"),
                        (["--demos.episodes", "x"], "demos.episodes = 'x': expected a whole number"),
                        (["--demos.clip-actions", "true"], "name it with --env ENV"),
                        (["--env.kwargs.gravity", "9"], "name it with --env ENV")):
        assert main(["demos", "check", str(demos), *words]) == 2
        assert says in one_line(capsys)


def test_demonstrations_are_checked_against_an_environment_of_other_parameters(tmp_path, capsys):
    out = tmp_path / "d.npz"
    assert collect("tron", "--expert", "--episodes", 2, "--out", out, "--env.kwargs.players", "4") == 0
    capsys.readouterr()
    assert main(["demos", "check", str(out), "--env", "tron", "--env.kwargs.players", "4"]) == 0
    assert main(["demos", "check", str(out), "--env", "tron", "--env.kwargs.playrs", "4"]) == 2
    assert "playrs" in one_line(capsys)
