"""The benchmark measures real runs and says what it measured. Nothing here depends on how fast."""

import json
from argparse import Namespace

import numpy as np
import puffer_il.bench._limits as yardstick
import pytest

from puffer_il.bench import bf16, cliffs, environment, limits, loops, measure, memory, networks, rows, speed, stages
from puffer_il.bench.against import Row
from puffer_il.bench.measure import Effort
from puffer_il.bench.peers import compare
from puffer_il.bench.peers.run import Entry, EntryResult
from puffer_il.bench.tables import TABLES, both, markdown, tables
from puffer_il.cli import main
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.experiment import build, section_types
from puffer_il.learners.registry import learner_names
from puffer_il.native.catalogue import env_folders
from puffer_il.nn.networks import mlp
from puffer_il.vector.make import find_creator
from tests.support.command_line import refused

QUICK = Effort(repeats=2, seconds=0.0)
TINY = {"env.num_envs": 32, "train.num_steps": 16, "gail.disc_batch_size": 64}


def quiet(text):
    """Wants no progress."""


def is_figure(found):
    return 0 < found["min"] <= found["median"] <= found["max"] and found["samples"] >= 1


@pytest.fixture
def small_limits(monkeypatch):
    """Arrays and loops that take no time."""
    monkeypatch.setattr(limits, "LEVELS", {"cache": 48 << 10, "shared": 384 << 10, "memory": 3 << 20})
    monkeypatch.setattr(limits, "FMA_ROUNDS", 1000)
    monkeypatch.setattr(limits, "GEMM_SIZE", 32)


def page_of(**results):
    """The Markdown page of some results, by the way of JSON."""
    data = {"machine": limits.machine(2, "puffer-il bench"), "limits": {}, "results": results, "interrupted": False}
    return markdown(json.loads(json.dumps(data)))


def test_throughput_is_written_with_its_stages(tmp_path, capsys):
    out, page = tmp_path / "bench.json", tmp_path / "bench.md"
    assert main(["bench", "throughput", "--algos", "ppo", "--num-envs", "32", "--num-steps", "16", "--updates", "2",
                         "--json", str(out), "--markdown", str(page)]) == 0
    data = json.loads(out.read_text())
    assert {"cpu", "cores", "instruction_set", "torch", "threads", "date"} <= data["machine"].keys()
    assert not data["interrupted"] and data["limits"] == {}
    ppo, more = data["results"]["throughput"]
    assert (ppo["name"], more["name"]) == ("ppo", "ppo, 4 epochs") and more["keys"]["ppo.update_epochs"] == 4
    for found in (ppo, more):
        assert is_figure(found["steps_per_s"]) and found["steps_per_s"]["samples"] == 2 and not found["error"]
        assert found["stages"]["collect"] > 0 and found["stages"]["update"] > 0
        # The stages are nearly all that an iteration does: with them the rate can be worked out again.
        assert 0.2 < found["steps_per_s"]["median"] * sum(found["stages"].values()) / (32 * 16) < 2
    memory_entry, = data["results"]["memory"]
    assert 50 * 2**20 < memory_entry["bytes"] < 2**30
    said = capsys.readouterr().out
    assert "32 environments × 16 steps" in said and "Peak memory" in said
    assert "## Whole training loop" in page.read_text() and "| ppo, 4 epochs |" in page.read_text()


def test_gail_is_measured_on_other_networks_and_without_penalty():
    found = loops.standard_variants(32, 16, 1, ["ppo", "gail"])
    assert found.keys() == {"ppo", "gail", "gail, no penalty", "gail, shared", "gail, shared, no penalty",
                            "gail, 2×256", "ppo, 4 epochs", "gail, 4 epochs"}
    assert found["gail, shared, no penalty"][1].items() >= {"policy.shared": True, "gail.gp_coef": 0.0}.items()
    loops.tables("ppo", found["gail, no penalty"][1])  # keys of sections that PPO lacks are no error


def test_limits_are_of_this_machine(small_limits):
    found = limits.measure_limits(2, QUICK, quiet)
    assert found["fma"].keys() == found["gemm"].keys() == found["steps"].keys() == {"1", "2"}
    assert all(is_figure(f) for f in (*found["fma"].values(), *found["gemm"].values(), *found["steps"].values()))
    for level, size in limits.LEVELS.items():
        assert found["bandwidth"][level]["bytes"] == size
        assert all(is_figure(found["bandwidth"][level][kind]["2"]) for kind in limits.KINDS)
    data = {"machine": limits.machine(2, ""), "limits": found, "results": {}, "interrupted": True}
    page = markdown(data)
    assert "## Limits of the machine" in page and "FLOP/s" in page and "interrupted" in page


def test_what_the_yardstick_says_it_did():
    assert yardstick.fma(8000, 1) == pytest.approx(2 * yardstick.fma(4000, 1), rel=0.01)
    assert yardstick.fma(8000, 3) == 3 * yardstick.fma(8000, 1)
    a, b, c = (np.full(1 << 16, x, np.float32) for x in (0, 2, 6))
    for kind, size, value in (("read", 1, 0), ("fill", 1, 1), ("copy", 2, 2), ("triad", 3, 5)):
        assert yardstick.stream(kind, a, b, c, 2, 2) == 2 * size * a.nbytes
        assert (a == value).all()
    with pytest.raises(ValueError, match="equal multiples of 64"):
        yardstick.stream("copy", a, b[:64], c, 1, 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_raw_steps_are_those_of_the_environment(threads):
    raw, other = (limits.RawSteps(env_folders()["cartpole"], 300, 7) for _ in range(2))
    raw.work(threads)()
    for actions in other.actions:
        other.env.step(actions)
    assert np.array_equal(raw.env.observations, other.env.observations)
    assert np.array_equal(raw.env.get_state(), other.env.get_state())


def test_every_stage_has_a_limit_and_a_share(small_limits):
    results = []
    stages.stages(results, 32, 8, (16,), QUICK, quiet)
    names = {r["name"] for r in results}
    assert {"GAE", "buffer: writes", "env: a call per step", "vec: a Batch per step", "act: one vector step",
            "rollout: act, step, write", "discriminator update", "reward: whole rollout", "PPO update: one epoch",
            "copies: next observations"} <= names
    for r in results:
        assert is_figure(r["seconds"]) and is_figure(r["rows_per_s"]) and is_figure(r["share"]) and r["limit"]
        assert r["limit_seconds"]["median"] > 0
    assert "discriminator update, 2×16" in page_of(stages=results)


def test_the_buffer_is_measured_at_every_size(small_limits):
    results = []
    memory.buffers(results, (16, 64), 4, QUICK, quiet)
    assert {r["num_envs"] for r in results} == {16, 64} and all(is_figure(r["share"]) for r in results)
    page = page_of(buffer=results)
    assert "| GAE, 64 |" in page and "| replay: draw minibatches, 64 |" in page


def test_flops_are_those_of_the_matrices():
    assert stages.weights(mlp(4, (64, 64), 2, "tanh")) == 4 * 64 + 64 * 64 + 64 * 2
    assert memory.row_bytes(memory.random_rollout(memory.CARTPOLE, 2, 3), ("obs", "actions", "valid")) == 16 + 4 + 1
    assert [limits.level_of(size) for size in (1, 1 << 20, 1 << 30)] == ["cache", "shared", "memory"]


def test_loops_scale_along_every_axis():
    results = []
    axes = {"environments": [(n, {**TINY, "env.num_envs": n}) for n in (16, 32)],
            "hidden": [(8, {**TINY, "policy.hidden": [8, 8]}), (0, {**TINY, "policy.hidden": [0]})]}
    loops.scaling(results, axes, 2, 0.0, quiet)
    assert [(r["axis"], r["value"]) for r in results] == [("environments", 16), ("environments", 32), ("hidden", 8),
                                                          ("hidden", 0)]
    assert all(is_figure(r["steps_per_s"]) for r in results[:3]) and "policy.hidden" in results[3]["error"]
    page = page_of(scaling=results)
    assert "## GAIL by environments" in page and "hidden 0 was not measured" in page
    assert {"environments", "horizon", "hidden", "threads", "torch_threads", "workers"} == loops.standard_axes().keys()
    assert [n for n, _ in loops.standard_axes()["environments"]][::5] == [64, 65_536]


def test_every_learner_has_a_cost():
    results = []
    loops.learners(results, TINY, 2, 0.0, quiet)
    assert {r["name"] for r in results} == set(learner_names())
    assert results[0]["name"] == "gail" and results[0]["cost"]["median"] == 1
    measured = {r["name"]: r for r in results if not r["error"]}
    assert results[0]["name"] in measured and set(learner_names()) - measured.keys() <= {"maxent_irl"}, "no MDP's table"
    assert all(is_figure(r["cost"]) for r in measured.values())
    assert {name for name, r in measured.items() if "updates_per_s" in r} == {"sac", "sqil", "csil"}
    sac = measured["sac"]
    assert sac["updates_per_s"]["median"] == pytest.approx(sac["steps_per_s"]["median"] * 32 / (32 * 16))
    page = page_of(learners=results)
    assert "| bc | offline |" in page and "| gail | on-policy |" in page
    assert "| dagger | expert |" in page and "maxent_irl was not measured" in page


def test_rows_of_other_kinds_have_a_cost():
    results = []
    rows.rows(results, {"env.num_envs": 2, "train.num_steps": 8}, 1, 0.0, quiet, episodes=2)
    assert [(r["algo"], r["name"]) for r in results] == [(algo, form) for algo in rows.ALGOS for form in rows.FORMS]
    assert all(is_figure(r["cost"]) for r in results) and results[0]["cost"]["median"] == 1
    page = page_of(rows=results)
    assert "| ppo | masked dict |" in page and "One Python environment, 2 copies" in page
    specs = {form: find_creator(rows.NAME, {"form": form}).facts().spec for form in rows.FORMS}
    assert [form for form, spec in specs.items() if spec.mask is not None] == ["masked", "masked dict"]
    assert [form for form, spec in specs.items() if not spec.structured] == ["plain", "dict"]


def tiny_walk(*turned):
    return cliffs.Walk("small", "ppo", {"env.num_envs": 8, "train.num_steps": 16}, {
        name: keys for part in turned for name, keys in part.items()})


def test_one_key_more_has_a_cost_and_a_growth():
    results = []
    walk = tiny_walk(cliffs.keys("policy", "hidden", [128, 128], [8] * 9), cliffs.keys("ppo", "ent_coef", 0.01))
    cliffs.cliffs(results, [walk], 2, 0.0, quiet)
    plain, wide, deep, entropy = results
    assert [r["name"] for r in results] == ["plain: small", "policy.hidden = 128,128",
                                            "policy.hidden = 8,8,8,8,8,8,8,8,8", "ppo.ent_coef = 0.01"]
    assert all(is_figure(r["cost"]) and not r["error"] for r in results) and plain["cost"]["median"] == 1
    weights = [4 * n + n * n + 2 * n + 4 * n + n * n + n for n in (64, 128)]
    assert wide["growth"] == pytest.approx(weights[1] / weights[0]) and deep["growth"] == entropy["growth"] == 1
    assert deep["told"] > 1 and "9 hidden layers" in deep["notices"][0] and wide["told"] == plain["told"] == 1
    page = page_of(cliffs=results)
    assert "| ppo | policy.hidden = 128,128 |" in page and f"up to {deep['told']:g}×" in page


def test_a_cliff_is_what_costs_much_and_is_not_told(monkeypatch, capsys):
    assert cliffs.is_steep(1.6, 1.0) and not cliffs.is_steep(1.4, 1.0) and not cliffs.is_steep(4.0, 3.0)
    assert cliffs.told(["slow", "x: torch computes this, which takes up to 2.5 times as long as the C kernels"]) == 2.5
    monkeypatch.setattr(cliffs, "standard_walks", lambda folder: [tiny_walk(cliffs.keys("ppo", "ent_coef", 0.01))])
    monkeypatch.setattr(cliffs, "is_steep", lambda cost, told: cost != 1)
    assert main(["bench", "cliffs", "--repeats", "1", "--seconds", "0"]) == 1
    assert "Cliffs: ppo, small: ppo.ent_coef = 0.01." in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(cliffs, "is_steep", lambda cost, told: False)
    assert main(["bench", "cliffs", "--repeats", "1", "--seconds", "0"]) == 0


@pytest.mark.skipif(not kernels.has_bf16(), reason="this processor has no instruction for bf16")
def test_bfloat16_is_measured_beside_float32():
    results = []
    small = Row("small", "ppo", {"env.num_envs": 8, "train.num_steps": 16, "policy.hidden": [64, 64]})
    bf16.beside_float32(results, [small], 2, 0.0, quiet)
    found, = results
    assert is_figure(found["speedup"]) and not found["error"] and found["keys"]["train.bf16"] == "on"
    assert "| small |" in page_of(bf16=results)


def test_bfloat16_is_not_measured_without_an_instruction_for_it(monkeypatch, capsys):
    monkeypatch.setattr(bf16.kernels, "has_bf16", lambda: False)
    assert "AVX512_BF16" in refused(capsys, "bench", "bf16")
    for row in bf16.standard_rows():
        build(row.algo, [("test", loops.tables(row.algo, row.keys | {"train.bf16": "on"}))])


def test_every_turned_key_is_a_key_of_its_algorithm(tmp_path):
    for walk in cliffs.standard_walks(tmp_path):
        for turned in walk.turned.values():
            build(walk.algo, [("test", loops.tables(walk.algo, walk.plain | turned))])
            assert {key.partition(".")[0] for key in turned} <= section_types(walk.algo).keys()


def test_an_environment_has_as_many_actions_as_a_walk_wants(tmp_path):
    spec = find_creator(cliffs.write_env(tmp_path, 12)).facts().spec
    assert spec.action.dim == 12 and spec.obs_shape == (8,)


def test_learners_are_compared_on_the_same_work():
    found = loops.same_work("airl", {"gail.disc_batch_size": 64})
    assert (found["airl.disc_updates"], found["airl.disc_batch_size"], found["airl.disc_hidden"]) == (8, 64, (64, 64))
    assert loops.same_work("ppo", {}) == {}
    kinds = {name: loops.kind(name) for name in ("gail", "ppo", "transfer", "sqil", "dagger", "bc")}
    assert kinds == {"gail": "on-policy", "ppo": "on-policy", "transfer": "on-policy", "sqil": "off-policy",
                     "dagger": "expert", "bc": "offline"}


def test_learners_above_the_bound_are_named():
    cost = {"median": 1.6, "min": 1.5, "max": 1.7, "samples": 3}
    entry = {"name": "airl", "kind": "on-policy", "unit": "step", "steps_per_s": cost, "cost": cost, "error": "",
             "keys": TINY}
    assert "cost: airl (1.60×)." in page_of(learners=[entry])
    assert "cost: none." in page_of(learners=[{**entry, "kind": "off-policy"}])


def test_environments_are_stepped_in_every_way_that_suits_them(monkeypatch):
    monkeypatch.setattr(speed, "env_folders", lambda: {"cartpole": None, "tron": None})
    monkeypatch.setattr(environment, "cores", lambda: 2)
    results = []
    args = Namespace(envs=16, env="CartPole-v1", num_envs=4, effort=QUICK)
    speed.STEPS["env"](args, results, quiet)
    assert [(r["name"], r["num_envs"]) for r in results] == [("cartpole", 16), ("tron", 16), ("CartPole-v1", 4)]
    native = ["C alone, 1 thread", "native, 1 thread", "native, 2 threads"]
    assert [list(r["steps_per_s"]) for r in results] == [native, native, ["serial", "1 worker", "2 workers"]]
    assert all(is_figure(figure) for r in results for figure in r["steps_per_s"].values())
    page = page_of(env=results)
    assert "| cartpole, C alone, 1 thread | 16 |" in page and "| CartPole-v1, serial | 4 |" in page


def test_networks_are_compared_with_torch():
    results, updates = [], []
    networks.mlps(results, 2, QUICK, quiet, batches=(1, 64), hidden=(16,), activations=("tanh", "silu"))
    assert [(r["batch"], r["activation"]) for r in results] == [(1, "tanh"), (64, "tanh"), (1, "silu")]
    assert all(is_figure(r[key]["ratio"]) for r in results for key in ("forward", "forward_backward"))
    networks.continuous_update(updates, 2, QUICK, quiet, num_envs=32, num_steps=4, hidden=(16, 16))
    assert is_figure(updates[0]["ratio"])
    page = page_of(mlp=results, update=updates)
    assert "forward and backward" in page and "17 → 16×16 → 6" in page


def test_peers_are_compared_with_ours_and_the_faster_setting_counts():
    group = compare.Group("PPO, 1 epoch", "steps", [])
    ten, five = ([{"steps": steps, "seconds": 1}] * 2 for steps in (10, 5))
    done = [EntryResult("puffer_il PPO", [{"steps": 30, "seconds": s} for s in (1, 2)]),
            EntryResult("pufferlib PPO, 1 thread", ten, facts={"versions": {"pufferlib": "3"}}),
            EntryResult("pufferlib PPO, its own threads", five), EntryResult("sb3 PPO", error="broke")]
    found = compare.compared(group, done)
    assert compare.best_of_theirs(found, "pufferlib") == "pufferlib PPO, 1 thread"
    assert [(p["theirs"], p["ratio"]["median"]) for p in found["ratios"]] == [
        ("pufferlib PPO, 1 thread", 2.25), ("pufferlib PPO, its own threads", 4.5)]
    page = page_of(peers=[found])
    assert "| puffer_il PPO / pufferlib PPO, 1 thread | 2.25× |" in page and "its own threads |" in page
    assert "4.50×" not in page and "sb3 PPO was not measured: broke." in page and "200 steps" in page


def test_groups_cover_what_is_promised(monkeypatch):
    names = [group.name for group in compare.groups()]
    assert names == ["GAIL", *(f"PPO, {e}, minibatches of {m}" for e in ("1 epoch", "4 epochs")
                               for m in ("32,768", "65,536")), "BC, batches of 256", "BC, batches of 4,096",
                     "SAC, 2×64", "SAC, 2×256", "Pictures of 4×21×21, PPO", "Pictures of 4×84×84, PPO"]
    results, ours = [], compare.ours("BC", "bc", {"bc.batch_size": 256})
    other = compare.Group("BC, batches of 256", "samples", [
        ours, lambda stack, say: Entry("imitation BC", lambda: {"steps": 1, "seconds": 1.0})])
    compare.compare(results, 1, quiet, [other])
    assert results[0]["entries"][0]["rate"]["median"] > 0 and len(results[0]["ratios"]) == 1


def test_updates_of_sac_are_measured_beside_another_packages():
    results: list = []
    other = compare.Group("SAC, 2×64", "updates", [compare.soft_updates(64, norm=True), lambda stack, say: Entry(
        "sb3_sac SAC", lambda: {"steps": 64, "seconds": 0.4})])
    compare.compare(results, 1, quiet, [other])
    assert results[0]["entries"][0]["rate"]["median"] > 0 and len(results[0]["ratios"]) == 1
    assert "64 updates of 256 rows" in page_of(peers=results) and "CartPole × 256" not in page_of(peers=results)


def test_the_mujoco_environments_are_measured_beside_envpools():
    groups = compare.mujoco_groups()
    assert len(groups) == 7 and all(len(group.entries) == 1 + len(compare.ENVPOOL) for group in groups)
    results: list = []
    other = compare.Group("MuJoCo, Hopper-v5", "steps", [compare.steps("cartpole", 4), *(
        lambda stack, say, n=n: Entry(f"envpool {n} by 32", lambda: {"steps": n, "seconds": 1.0}) for n in (64, 32))])
    compare.compare(results, 2, quiet, [other])
    ours = results[0]["entries"][0]
    assert ours["name"] == "puffer_il 4" and is_figure(ours["rate"])
    page = page_of(mujoco=results)
    assert "| puffer_il 4 / envpool 64 by 32 |" in page and "/ envpool 32 by 32" not in page


def test_time_to_the_expert_counts_from_the_start_of_the_process(monkeypatch):
    answers = iter([{"steps": 9, "seconds": 3.0, "expert_s": 2.0}, {"steps": 9, "seconds": 3.0, "expert_s": None}])
    monkeypatch.setattr(compare, "time_to_expert", lambda seed: {"seed": seed, **next(answers)})
    results = []
    compare.expert_times(results, 2, False, quiet)
    assert results[0]["times"] == [2.0, None] and results[0]["seconds"]["median"] == 2
    assert "2.00, never" in page_of(expert=results)


def test_a_round_measures_all_in_turn():
    done = []
    seconds = measure.interleaved({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, Effort(3, 0.0))
    assert done == ["a", "a", "b", "b"] + ["a", "b"] * 3 and len(seconds["a"]) == 3
    assert measure.quotient([4, 9], [2, 3])["median"] == 2.5 and measure.rate(6, [2])["median"] == 3


def test_an_interrupt_keeps_what_was_measured(tmp_path, monkeypatch, capsys):
    def interrupted(args, entries, say):
        entries.append({"name": "gail", "keys": {"env.num_envs": 8, "train.num_steps": 8}, "bytes": 2**20})
        raise KeyboardInterrupt

    monkeypatch.setitem(speed.STEPS, "throughput", lambda args, entries, say: None)
    monkeypatch.setitem(speed.STEPS, "memory", interrupted)
    out = tmp_path / "bench.json"
    assert main(["bench", "throughput", "--json", str(out)]) == 130
    data = json.loads(out.read_text())
    assert data["interrupted"] and data["results"]["memory"][0]["bytes"] == 2**20
    assert "Peak memory" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "said"), [
    (["trhoughput"], "did you mean 'throughput'"),
    (["throughput", "--algos", "gial"], "did you mean 'gail'"),
    (["env", "--env", "NoSuch-v0"], "NoSuch"),
    (["--json", "/nowhere/at/all.json"], "/nowhere/at/all.json cannot be written"),
    (["--markdown", "/tmp"], "/tmp cannot be written (is a folder)"),
    (["--repeats", "0"], "'0' is not a whole number of at least 1"),
    (["--seconds", "long"], "'long' is not a number of at least 0"),
    (["--hidden", "64,x"], "'x' is not a whole number"),
    (["--fast"], "unknown option '--fast'; see 'puffer-il bench --help'"),
    (["scores", "--envs", "cartpol"], "did you mean 'cartpole'"),
])
def test_bad_input_is_one_line_before_anything_runs(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(speed, "STEPS", {})
    assert said in refused(capsys, "bench", *arguments)


def test_plans():
    assert speed.plan(None, False) == ("throughput", "memory")
    assert speed.plan("buffer", True) == ("buffer", "peers", "expert")
    alone = {"cliffs", "bf16", "mujoco", "locomotion"}
    assert {*speed.plan("all", True), *alone} == set(TABLES) - {"against"} == set(speed.STEPS)
    assert {"stages", "buffer", "update", "peers", "expert"} <= set(speed.plan(None, True))


def test_a_range_has_its_unit_once():
    figures = ({"median": 1.5e3, "min": 1.1e3, "max": 2.2e3}, {"median": 1.5e3, "min": 900, "max": 2.2e3}, None)
    assert [both(figure) for figure in figures] == [["1.5k", "1.1–2.2k"], ["1.5k", "900–2.2k"], ["–", "–"]]


def test_nothing_measured_is_no_table():
    assert tables({"limits": {}, "results": {"throughput": [], "mlp": []}}) == []
