"""The sdist holds all that a build needs, and what is installed holds all that a run needs."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = ("csrc/**/*.h", "envs/**/*.h", "envs/**/*.toml", "envs/**/*.npz", "envs/**/*.py", "configs/**/*.toml")


def files(*patterns: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, and lib/ with what is installed besides compiled modules."""
    if not (ROOT / "setup.py").is_file():
        pytest.skip("runs in the repository only")
    folder = tmp_path_factory.mktemp("built")
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder, "sdist", "--dist-dir", folder,
                    "build_py", "--build-lib", folder / "lib"], cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_sdist_has_every_source(built: Path):
    archive, = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        held = {name.split("/", 1)[1] for name in tar.getnames() if "/" in name}
    needed = files(*DATA, "puffer_il/**/*.py", "puffer_il/**/*.pyx", "puffer_il/**/*.pxi", "setup.py", "pyproject.toml",
                   "README.md", "LICENSE")
    assert len(needed) > 200 and needed <= held


def test_what_is_installed_lies_inside_the_package(built: Path):
    installed = {str(path.relative_to(built / "lib")) for path in (built / "lib").rglob("*") if path.is_file()}
    assert all(path.startswith("puffer_il/") for path in installed)
    needed = {f"puffer_il/{path}" for path in files(*DATA)} | files("puffer_il/**/*.py", "puffer_il/**/template/*/*")
    assert needed | {"puffer_il/py.typed"} <= installed


def test_the_extra_mujoco_has_all_that_gymnasiums_environments_import():
    """`glfw` alone is left out: it draws in a window, which is imported when one is opened."""
    import gymnasium

    folder = Path(gymnasium.__file__).parent / "envs" / "mujoco"
    nodes = [node for path in folder.glob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *project["optional-dependencies"]["mujoco"]]
    given = {re.match(r"[\w-]+", need)[0] for need in needs}  # type: ignore[index]
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names - {"glfw"} <= given
