"""What people copy first: every Python example of the README and the guide runs, and so does the notebook."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def run_all(parts: list[tuple[str, str]]) -> dict:
    """One after the other in one namespace, (where it stands, its code) each."""
    namespace: dict = {"__name__": "guide"}
    for place, code in parts:
        exec(compile(code, place, "exec"), namespace)
    return namespace


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_every_python_example_runs_in_the_order_of_the_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text()
    found = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert found
    run_all([(f"{page}, line {text[:block.start()].count(chr(10)) + 1}", block[1]) for block in found])


def test_the_notebook_runs_and_holds_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code), "it is committed without output"
    names = run_all([(f"{NOTEBOOK.name}, cell {i}", "".join(cell["source"])) for i, cell in enumerate(code)])
    assert names["run"].summary["eval"]["normalized"] > 0.9 > names["clone"].summary["eval"]["normalized"]
    assert not list(tmp_path.iterdir())
