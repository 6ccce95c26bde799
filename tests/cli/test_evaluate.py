"""`puffer-il eval`: lines for people, JSON for programs."""

from __future__ import annotations

import json

from puffer_il.cli import main


def test_eval_prints_lines_or_json(finished, capsys):
    assert main(["eval", str(finished), "--episodes", "4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{finished}, after 512 steps\n  policy      ")
    assert "4 episodes" in out and "\n  random " in out
    assert main(["eval", str(finished), "--episodes", "4", "--json"]) == 0
    played = json.loads(capsys.readouterr().out)
    assert played["episodes"] == 4 and played["normalized"] is None and played["random_return"] > 0
    assert f"{played['return_mean']:.1f}" in out or f"{played['return_mean']:.2f}" in out
    assert main(["eval", str(finished), "--episodes", "4", "--both"]) == 0
    assert "\n  greedy " in (out := capsys.readouterr().out) and "\n  sampled " in out
    assert main(["eval", str(finished), "--episodes", "4", "--both", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert both["eval_greedy"].items() <= both.items() and both["eval_sampled"] != both["eval_greedy"]
    assert both["return_mean"] == played["return_mean"]
    assert main(["eval", str(finished), "--episodes", "4", "--seed", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["return_mean"] != played["return_mean"]


def test_eval_samples_where_it_is_told_to(finished, capsys):
    def played(*words):
        assert main(["eval", str(finished), "--episodes", "4", "--json", *words]) == 0
        return json.loads(capsys.readouterr().out)

    both = played("--both")
    assert both["eval_sampled"]["return_mean"] != both["eval_greedy"]["return_mean"]
    assert played("--stochastic")["return_mean"] == both["eval_sampled"]["return_mean"]


def test_keys_of_demonstrations_need_demonstrations(finished, capsys):
    assert main(["eval", str(finished), "--demos.episodes", "1"]) == 2
    assert "name them with --demos SRC" in capsys.readouterr().err
