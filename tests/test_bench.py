"""The benchmark measures real runs and says what it measured."""

import json

from puffer_il import bench


def test_throughput_is_written_with_its_stages(tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert bench.main(["throughput", "--algos", "ppo,gail", "--num-envs", "32", "--num-steps", "16", "--updates", "2",
                       "--json", str(out)]) == 0
    results = json.loads(out.read_text())["results"]
    assert [r["algo"] for r in results] == ["ppo", "gail"]
    for r in results:
        assert 0 < r["sps_min"] <= r["sps"] <= r["sps_max"]
        assert r["seconds"]["collect"] > 0 and r["seconds"]["update"] > 0
        # The stages are all that an iteration does: with them the rate can be worked out again.
        assert 0.5 < r["sps"] * sum(r["seconds"].values()) / (32 * 16) < 1.5
    assert results[1]["seconds"]["reward"] > results[0]["seconds"]["reward"]
    assert "32 environments × 16 steps" in capsys.readouterr().out


def test_backends_are_compared_in_pairs():
    result = bench.backends("CartPole-v1", 8, 2, 0.02, 3)
    assert len(result["ratios"]) == 3 and min(result["ratios"]) > 0
    assert result["serial_sps"] > 0 and result["multiprocessing_sps"] > 0
