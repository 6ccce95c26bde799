"""Commands import no more than they need: torch takes a second and more, and each of the others a tenth of one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from puffer_il.demos import read_demos, shipped_path

HEAVY = ("numpy", "torch", "pyarrow", "gymnasium", "pufferlib", "mujoco", "rich", "h5py", "pandas", "matplotlib",
         "scipy")
SHIPPED = str(shipped_path("cartpole"))
PURE = [["--help"], ["--version"], ["train", "--help"], ["train", "gail", "--help"], ["bench", "--help"],
        ["demos", "check", "--help"], ["env", "play", "--help"]]
LIGHT = [["algos"], ["algos", "csil"], ["algos", "--json"], ["train", "gail", "cartpole", "--help"],
         ["train", "sac", "HalfCheetah-v4", "--help"], ["env", "list"], ["demos", "info", SHIPPED]]


def imported(arguments: list[str]) -> set[str]:
    """The heavy packages that a command which ends well has imported."""
    code = ("import sys, puffer_il.cli as cli; code = cli.main(sys.argv[1:]); "
            "print(code, *sys.modules, file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True)
    code, *modules = done.stderr.split()
    assert code == "0", done.stderr
    return set(HEAVY) & set(modules)


@pytest.mark.parametrize("arguments", PURE, ids=" ".join)
def test_help_imports_nothing_heavy(arguments):
    assert imported(arguments) == set()


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_what_looks_up_facts_imports_numpy_at_most(arguments):
    assert imported(arguments) == {"numpy"}


def test_demonstrations_are_checked_without_torch_and_without_an_environment_without_its_packages(tmp_path):
    nameless = tmp_path / "d.npz"
    read_demos(SHIPPED).save(nameless)
    assert imported(["demos", "check", str(nameless)]) == {"numpy"}
    assert imported(["demos", "check", SHIPPED]) == {"numpy", "gymnasium", "pufferlib"}


def test_a_key_that_is_not_there_is_refused_without_torch():
    code = ("import sys, puffer_il.cli as cli; code = cli.main(['train', 'gail', 'cartpole', '--gamma', '1']); "
            "sys.exit(code + ('torch' in sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "did you mean --ppo.gamma" in done.stderr
