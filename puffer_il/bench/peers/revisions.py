"""An earlier commit of this project as a peer: built from the git checkout into an environment of its own, and kept.

It has nothing but that commit: every other package, torch above all, is the one that this Python uses, so that only our
own code differs.
"""

import subprocess
import sys
import tarfile
import tempfile
from functools import partial
from pathlib import Path

import puffer_il
from puffer_il.bench.measure import Say
from puffer_il.bench.peers.install import Build, PeerError, Recipe, ensure
from puffer_il.core.errors import InputError

SOURCE = Path(puffer_il.__file__).resolve().parents[1]


def commit(revision: str, source: Path = SOURCE) -> str:
    """The full hash of a revision. InputError if this is no git checkout, or has no such revision."""
    try:
        done = subprocess.run(["git", "-C", str(source), "rev-parse", "--verify", "--quiet", "--end-of-options",
                               f"{revision}^{{commit}}"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise InputError(f"--against {revision}: git cannot be started ({error.strerror}); install it") from None
    if done.returncode > 1:
        raise InputError(f"--against {revision}: {source} is not a git checkout; run this from a clone of the project")
    if done.returncode:
        raise InputError(f"--against {revision}: there is no such commit in {source}; `git log --oneline` lists them")
    return done.stdout.strip()


def ensure_revision(sha: str, progress: Say, source: Path = SOURCE) -> Path:
    """The Python in which that commit is installed, built first if need be; PeerError if it cannot be."""
    recipe = Recipe((), partial(_finish, sha=sha, source=source), key=sha, python=sys.executable)
    return ensure(f"revision-{sha[:12]}", recipe, progress)


def _finish(build: Build, sha: str, source: Path) -> None:
    shared = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    packages, = build.folder.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text("\n".join(shared) + "\n")  # behind its own, so that its own commit is found
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "commit.tar")
        build.run(f"taking {sha[:12]} from git", ["git", "-C", str(source), "archive", "-o", str(archive), sha])
        with tarfile.open(archive) as tar:
            tar.extractall(Path(folder, "commit"), filter="data")
        build.pip("compiling it", "--no-deps", "--force-reinstall", str(Path(folder, "commit")))
    code = "import sys, puffer_il; sys.exit(0 if puffer_il.__file__.startswith(sys.prefix) else 'another puffer_il')"
    try:
        build.run("importing it", [str(build.python), "-c", code], cwd=build.folder)  # not where a checkout may lie
    except PeerError as error:
        raise PeerError(f"{sha[:12]} cannot be measured: {error}") from None
