"""The sdist holds all that a build needs: a wheel made from it lacks no kernel, environment or experiment."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_sdist_has_every_source(tmp_path):
    if not (ROOT / "setup.py").is_file():
        pytest.skip("runs in the repository only")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path, "sdist", "--dist-dir", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    archive, = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        held = {name.split("/", 1)[1] for name in tar.getnames() if "/" in name}
    patterns = ("puffer_il/**/*.py", "puffer_il/**/*.pyx", "csrc/**/*.h", "envs/**/*.h", "envs/**/*.toml",
                "envs/**/*.npz", "configs/**/*.toml", "setup.py", "pyproject.toml", "README.md", "LICENSE")
    needed = {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)}
    assert len(needed) > 50 and needed <= held
