"""The documentation: a short README, an index that lists every page, links and names that lead somewhere, examples that
run."""

from __future__ import annotations

import dataclasses
import json
import pkgutil
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.demos import read_demos
from puffer_il.demos.formats import formats
from puffer_il.demos.kinds import kinds_of
from puffer_il.learners.experiment import section_types
from puffer_il.learners.registry import usable_learners
from tests.support.environments import FOLDERS
from tests.test_layers import HOUSE

ROOT = Path(__file__).resolve().parents[1]
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md")), *sorted((DOCS / "formats").glob("*.md"))]
FOLDER_NAMES = "puffer_il|tests|csrc|envs|configs|examples|docs"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_has_at_most_1200_words():
    assert len(README.read_text().split()) <= 1200


def test_the_index_lists_every_page_once():
    listed = re.findall(r"^- \[[^]]+\]\(([\w-]+\.md)\)", (DOCS / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md") if page.name != "README.md")


def test_every_page_of_a_format_is_in_the_table_of_formats_and_named_as_the_format_is():
    listed = re.findall(r"\(formats/(\w+)\.md\)", (DOCS / "demonstrations.md").read_text())
    pages = {page.stem for page in (DOCS / "formats").glob("*.md")}
    assert set(listed) == pages and pages <= set(formats())
    assert {name for name, format in formats().items() if "hdf5" in kinds_of(format)} <= pages


def test_the_page_on_the_house_shows_the_rooms_that_there_are():
    text = (DOCS / "layout.md").read_text()
    rooms = {path.parent.name for path in (ROOT / "puffer_il").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)) == rooms
    drawing = text.split("```")[1]
    drawn, house = ([found for line in lines.split("\n") if (found := [word for word in line.split() if word in rooms])]
                    for lines in (drawing, HOUSE))
    assert drawn == house


@pytest.mark.parametrize("name", FOLDERS)
def test_every_environment_has_a_picture(name: str):
    assert (DOCS / "pictures" / f"{name}.gif").read_bytes()[:4] == b"GIF8"
    assert f"pictures/{name}.gif" in (DOCS / "environments.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path):
    links = [a or b for a, b in re.findall(r'\]\(([^):]+)\)|(?:src|href)="([^":]+)"', page.read_text())]
    for path, _, anchor in (link.partition("#") for link in links):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {path}#{anchor}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_files_and_modules_that_are_named_exist(page: Path):
    text = page.read_text()
    paths = re.findall(rf'(?<![\w/."-])((?:{FOLDER_NAMES})/[\w/.-]*\w)', text)
    assert not [path for path in paths if not (ROOT / path).exists()]
    for name in re.findall(r"puffer_il\.(?:\w+\.)+\w+", text):
        pkgutil.resolve_name(name)


def test_code_files_that_the_code_names_exist():
    """In comments and docstrings too, which nothing else reads."""
    files = [path for folder in FOLDER_NAMES.split("|") for path in (ROOT / folder).rglob("*.*")]
    there = {f"/{path.relative_to(ROOT)}" for path in [ROOT / "setup.py", *files] if path.suffix in (".py", ".pyx")}
    sources = [path for path in files if path.suffix in (".py", ".pyx", ".h", ".toml")
               and not {"template", "tests"} & set(path.parts)]
    for source in sources:
        for name in re.findall(r"(?<![\w/.{}*<>\"-])(?:[a-z]\w*/)*[a-z_]\w+\.pyx?\b(?!\()", source.read_text()):
            assert any(path.endswith(f"/{name}") for path in there), f"{source} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_config_keys_that_are_named_exist(page: Path):
    known = {f"{section}.{field.name}" for algo in usable_learners()[0] for section, cls in section_types(algo).items()
             for field in dataclasses.fields(cls)}
    named = re.findall(r"--((?!env\.kwargs)[a-z_]+\.[a-z0-9-]+)", page.read_text())
    assert not {key for key in named if key.replace("-", "_") not in known | {"nearest.width"}}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_that_are_named_exist_and_take_these_options(page: Path, capsys):
    commands = set(re.findall(r"^puffer-il (.*?) *(?:#.*)?$|`puffer-il ([^`]+)`", page.read_text(), re.MULTILINE))
    for command in (block or inline for block, inline in commands):
        words = command.split()
        depth = 2 if words[0] in ("demos", "env", "reward") or words[:2] == ["bench", "scores"] else 1
        if words[0].isupper() or "--help" in words:
            continue
        assert main([*words[:depth], "--help"]) == 0, command
        usage = capsys.readouterr().out
        assert not [word for word in words if re.fullmatch("--[a-z-]+", word) and word not in usage], command


def test_every_metric_that_an_algorithm_promises_is_in_the_reference():
    text = (DOCS / "run-directory.md").read_text()
    for name in {metric for cls in usable_learners()[0].values() for metric in cls.promised_metrics}:
        group, _, rest = name.partition("/")
        documented = f"`{group}/…`" in text and (f"`{rest}`" in text or group in ("maxent", "reward", "transfer"))
        assert f"`{name}`" in text or documented, name


def test_what_a_run_writes_is_in_the_reference(tmp_path):
    text, run_dir = (DOCS / "run-directory.md").read_text(), tmp_path / "run"
    assert main(["train", "gail", "cartpole", "--run-dir", str(run_dir), "--total-steps", "128", "--env.num-envs", "8",
                 "--train.num-steps", "16", "--eval.interval-steps", "128", "--eval.episodes", "2",
                 "--eval.final-episodes", "2", "--train.threads", "1", "--gail.disc-updates", "1"]) == 0
    summary = json.loads((run_dir / "summary.json").read_text())
    metrics = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[0])
    grouped = re.compile("(losses|disc|time)/")  # there the names stand alone
    assert not {key for key in (*summary, *summary["eval"], *summary["demos"], *metrics)
                if not {f"`{key}`", f"`{grouped.sub('', key)}`"} & set(re.findall("`[^`]+`", text))}
    assert not {path.name for path in run_dir.iterdir() if f"`{path.name}" not in text}


def test_demonstrations_are_written_from_arrays_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / "demonstrations.md").read_text(), re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if "load_demos({" in block)
    n = 600
    truncations = np.zeros(n, bool)
    truncations[[199, 399, 599]] = True
    exec(block, {"obs": np.zeros((n, 4), np.float32), "actions": np.zeros((n, 1), np.int32),
                    "next_obs": np.zeros((n, 4), np.float32), "rewards": np.ones(n, np.float32),
                    "terminations": np.zeros(n, bool), "truncations": truncations})
    assert read_demos("mine.npz").returns.tolist() == [200.0, 200.0, 200.0]


@pytest.mark.parametrize(("example", "run", "at_least"), [
    ("A robot", "arm", -12), ("A car", "car", 90), ("A game", "taxi", -40), ("A patient record", "glucose", 260)])
def test_a_log_becomes_a_policy_as_the_page_says(example, run, at_least, tmp_path, monkeypatch, capsys):
    """The files of an example are written, its commands run, and the policy returns what a good one does."""
    text = (DOCS / "demonstrations.md").read_text()
    section = re.search(rf"^### {example}\n(.*?)^##", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "arm", raising=False)
    for name, content in re.findall(r"^```\w+\n# (\S+)\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL):
        Path(name).write_text(content)
    for command in re.findall(r"^((?:python|puffer-il) .*)$", section[1], re.MULTILINE):
        program, *words = shlex.split(command)
        if program == "python":
            runpy.run_path(words[0])
        else:
            more = ["--eval.final-episodes", "20", "--train.threads", "1"] if words[0] == "train" else []
            assert main([*words, *more]) == 0, capsys.readouterr().err
    assert json.loads(Path("runs", run, "summary.json").read_text())["eval"]["return_mean"] > at_least
