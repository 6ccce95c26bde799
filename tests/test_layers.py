"""Who may import whom: a module imports from its own layer or those before it, some things in one place only."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (  # a folder counts as one module; a new module is given its place here
    "types config registry",  # numpy alone
    "_buffer _replay _kernels _limits _maxent _coupling",  # C, which knows nothing of ours
    "fused optim lbfgs",
    "buffer mirror graphs demos networks distributions fast policy transitions mixins aggregate discriminator "
    "losses rewards stats replay soft coupling",
    "tabular maxent mujoco_assets",
    "envfile glue envdata models native single cythonenv oldgym emulation creators serial workers vec "
    "guide foreign collector learners adversarial checkpoint learned_reward",
    "sinks sheet evaluate reward_facts experts runtime trainer peers bench tune profile",
    "panels dashboard envkit auto options algos reward_view commands",
    "cli",
)
LAYER = {module: k for k, modules in enumerate(LAYERS) for module in modules.split()}
ONLY = {  # what little the fast path may know, so that it can be read, and used, by itself
    "fused": {"_kernels"}, "optim": {"_kernels"}, "fast": {"_kernels", "fused", "networks", "types"},
    "peers": {"peers"},
}
INSIDE_PEERS = "puffer_il/peers/workers/"  # run by other interpreters, beside what those have installed
# vec.py and what it is made of
VEC = {"native", "cythonenv", "oldgym", "emulation", "creators", "serial", "workers", "vec"}
ENVS, PACKAGE = (sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py"))
                 for folder in ("envs", "puffer_il"))
PACKAGE = [file for file in PACKAGE if "/template/" not in file]  # what `env new` writes belongs to its user


def imports(file: str) -> tuple[set[str], set[str]]:
    """Modules of ours and packages of others that a file imports, also in functions, but not for type checkers."""
    nodes = list(ast.walk(ast.parse((ROOT / file).read_text())))
    hidden = {child for node in nodes if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
              for child in ast.walk(node)}
    names = [name for node in nodes if node not in hidden for name in (
        [alias.name for alias in node.names] if isinstance(node, ast.Import) else
        [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else [])]
    ours = {name.split(".")[1] for name in names if name.startswith("puffer_il.") and "__" not in name}
    # `from puffer_il.emulation import pufferlib` is an import of PufferLib as well.
    others = {name.split(".")[0] for name in names} | {"pufferlib" for name in names if name.endswith(".pufferlib")}
    return ours, others - sys.stdlib_module_names - {"puffer_il"}


@pytest.mark.parametrize("file", [file for file in PACKAGE if file != "puffer_il/__init__.py"])
def test_imports_point_down(file: str) -> None:
    module, (ours, others) = Path(file).with_suffix("").parts[1], imports(file)
    assert {module, *ours} <= LAYER.keys(), "give the new module a layer"
    assert not {name for name in ours if LAYER[name] > LAYER[module]}, "imports a later layer"
    assert ours <= ONLY.get(module, ours)
    if LAYER[module] == 0:
        assert others <= ({"numpy", "tomli_w"} if module == "config" else {"numpy"})
    if module in VEC:
        assert not ours & {"learners", "policy", "collector"}, "a vec never sees a learner"
    elif not file.startswith(INSIDE_PEERS):
        assert "pufferlib" not in others
    if module in ("learners", "adversarial"):
        assert not ours & {*VEC, "collector"}, "a learner sees arrays and demonstrations, never a vec"
    if module != "cli":
        assert "cli" not in ours, "nothing imports cli"


@pytest.mark.parametrize("file", ENVS)
def test_environments_know_nothing_of_learning(file: str) -> None:
    ours, others = imports(file)
    assert ours <= {"types", "native", "mujoco_assets", "tabular"}
    assert others <= {"numpy", "gymnasium", "icu_sepsis"}


@pytest.mark.parametrize("file", [file for file in PACKAGE if file.startswith(INSIDE_PEERS)])
def test_what_runs_inside_peers_never_imports_ours(file: str) -> None:
    assert not imports(file)[0]


def test_importing_the_package_costs_nothing() -> None:
    assert imports("puffer_il/__init__.py") == (set(), set())


@pytest.mark.parametrize("header", sorted((ROOT / "csrc").rglob("*.h")), ids=lambda path: path.name)
def test_headers_know_only_c(header: Path) -> None:
    included = {line.split()[1] for line in header.read_text().splitlines() if line.startswith("#include")}
    standard = {"math", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string"}
    beside = {path.name for path in header.parent.glob("*.h")}
    if header.parent.name == "kernels":  # threads and vector instructions are theirs alone
        standard |= {"immintrin", "pthread", "stdatomic", "unistd"}
        beside.add("../vec_api.h")
    elif header.stem.startswith("yardstick"):
        beside.add("kernels/pool.h")
    elif header.name == "copy.h":  # stores past the caches
        standard.add("emmintrin")
    elif header.parent.name == "check":  # a program of its own, with a watchdog
        standard |= {"signal", "sys/time", "time", "unistd"}
    elif header.name == "mujoco_env.h":
        standard |= {"stdatomic", "mujoco/mujoco"}
    assert included <= {f"<{name}.h>" for name in standard} | {f'"{name}"' for name in beside}


def test_environments_do_not_lean_on_the_kernels() -> None:
    for header in (ROOT / "envs").rglob("*.h"):
        assert "kernels/" not in header.read_text()
