"""The page of environments shows all there are, and every link of the docs leads somewhere."""

import re
from pathlib import Path

import pytest

from tests.support.environments import FOLDERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", FOLDERS)
def test_every_environment_has_a_picture(name: str):
    picture = ROOT / "docs" / "pictures" / f"{name}.gif"
    assert picture.read_bytes()[:4] == b"GIF8"
    assert f"pictures/{name}.gif" in (ROOT / "docs" / "environments.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path):
    links = re.findall(r'\]\(([^)#:]+)\)|(?:src|href)="([^"#:]+)"', page.read_text())
    assert not [a or b for a, b in links if not (page.parent / (a or b)).exists()]
