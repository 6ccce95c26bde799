"""`make gpu` where there is no GPU: every measure is taken once, small; what fails, hangs or crashes is told."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
import torch

from puffer_il.bench import apart, gpu
from puffer_il.bench.apart import take
from puffer_il.bench.gpu import FULL, SMALL, Bench, agreement, cells, main, measures

CPU = torch.device("cpu")


def test_without_a_gpu_a_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    line = "puffer-il: make gpu: no CUDA device is visible; run it where there is a GPU and a CUDA build of torch\n"
    assert capsys.readouterr().err == line


def test_every_measure_is_taken_and_written(tmp_path, capsys):
    found, table = tmp_path / "gpu.json", tmp_path / "gpu.md"
    assert main(["--device", "cpu", "--seconds", "0", "--json", str(found), "--markdown", str(table)]) == 0
    data, said = json.loads(found.read_text()), capsys.readouterr().out
    assert list(data["measures"]) == list(measures(SMALL)) and len(data["measures"]) > 15
    for name, row in data["measures"].items():
        assert row.get("agrees", row.get("samples", 0) >= 1), name
        assert f"| {name} |" in table.read_text() and f"{name}: " in said
    assert len(measures(FULL)) == len(measures(SMALL))
    assert "measures nothing" in table.read_text()


def test_weights_that_differ_are_told(monkeypatch):
    real = gpu.weights_of
    calls: list[int] = []

    def wrong(learner: Any, algo: str) -> Any:
        calls.append(1)
        return real(learner, algo) + 0.01 * (len(calls) == 6)  # after the updates of the third learner

    monkeypatch.setattr(gpu, "weights_of", wrong)
    torch.set_num_threads(1)
    row = agreement(Bench(CPU, 0.0, SMALL), "bc", gpu.NUMBERS, {})
    assert not row["agrees"] and row["off"]["plain"] < 1e-6 < gpu.AGREES < row["off"]["graphs"]
    assert cells("BC", row)[1].startswith("DIFFERS: plain off by 0.0%")


def failing(connection: Any, names: list[str], place: str) -> None:
    for name in names:
        if name == "hangs":
            time.sleep(60)
        if name == "dies":
            os._exit(7)
        told = {"error": "CUDA error", "broken": True} if name == "breaks" else {}
        connection.send({"pid": os.getpid(), "took_s": 0.0} | told)
        if name == "breaks":
            return


def test_what_fails_costs_only_its_own_row(monkeypatch):
    monkeypatch.setattr(apart, "START_S", 20.0)
    rows: dict[str, Any] = {}
    take(["a", "dies", "b", "breaks", "c", "d"], failing, ("",), 5.0, 100.0, rows.__setitem__)
    assert list(rows) == ["a", "dies", "b", "breaks", "c", "d"]
    assert "exit code 7" in rows["dies"]["error"] and rows["breaks"]["error"] == "CUDA error"
    assert rows["c"]["pid"] == rows["d"]["pid"] != rows["b"]["pid"] != rows["a"]["pid"]
    rows.clear()
    monkeypatch.setattr(apart, "START_S", 10.0)
    take(["a", "hangs", "b"], failing, ("",), 0.5, 60.0, rows.__setitem__)
    assert rows["hangs"]["error"].startswith("no answer within") and "error" not in rows["b"]
    rows.clear()
    begin = time.monotonic()
    take(["hangs", "b"], failing, ("",), 50.0, 1.0, rows.__setitem__)
    assert time.monotonic() - begin < 30 and all("out of time: 1 s" in row["error"] for row in rows.values())
    assert len(rows) == 2


def test_a_failure_stands_in_the_table():
    assert cells("SAC", {"error": "RuntimeError: a | b"}) == ["SAC", "failed: RuntimeError: a / b", "", "", ""]
    row = {"seconds": {"plain": 2e-3, "graphs": 1e-3}, "ratio": {"plain": 1.0, "graphs": 2.0}, "samples": 3,
           "peak_bytes": {"plain": 2e6, "graphs": 3e6}, "steps": 100}
    found = "plain 2 ms (50,000 steps/s) · graphs 1 ms (100,000 steps/s)"
    assert cells("x", row) == ["x", found, "1.00 · 2.00", "2 · 3", "3"]
    with pytest.raises(SystemExit):
        main(["--device", "tpu"])
