"""Who may import whom, read from the address: a file imports from its own room or from a lower row of the house."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOUSE = """
    cli gym
    envkit bench report export sweep
    training
    learners
    rollout
    vector demos
    native nn
    core kernels
"""
ROWS = [row.split() for row in HOUSE.split("\n") if row.strip()][::-1]
ROW = {room: height for height, row in enumerate(ROWS) for room in row}
TOP = ROW["cli"]
ANNEXES = ROWS[TOP - 1]
INSIDE_PEERS = "puffer_il/bench/peers/workers/"  # run by other interpreters, beside what those have installed
ENVS, PACKAGE = (sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py"))
                 for folder in ("envs", "puffer_il"))
PACKAGE = [file for file in PACKAGE if "/template/" not in file]  # what `env new` writes belongs to its user
FACE = ("puffer_il/__init__.py", "puffer_il/__main__.py", "puffer_il/api.py", "puffer_il/gym.py")


def room(module: str) -> str:
    """The room of a dotted name of ours; the package's face is at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROW else "cli"


def names(file: str, late: bool = True) -> set[str]:
    """Dotted names that a file imports, for type checkers too; without `late` only what its import itself loads."""
    nodes = list(ast.walk(ast.parse((ROOT / file).read_text())))
    inner = {child for node in nodes if isinstance(node, ast.FunctionDef | ast.If) for child in ast.walk(node)}
    return {name for node in nodes if late or node not in inner for name in (
        [alias.name for alias in node.names] if isinstance(node, ast.Import) else
        [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else [])}


def packages(imported: set[str]) -> set[str]:
    return {name.split(".")[0] for name in imported} - sys.stdlib_module_names - {"puffer_il"}


@pytest.mark.parametrize("file", [file for file in PACKAGE if file not in FACE])
def test_a_file_imports_from_its_own_room_or_a_lower_row(file: str) -> None:
    own, imported = Path(file).parts[1], names(file)
    rooms = {room(name) for name in imported if name.startswith("puffer_il.") and "__version__" not in name}
    assert own in ROW, f"puffer_il/{own} is no room of the house"
    assert not {other for other in rooms if other != own and ROW[other] >= ROW[own]}
    if own == "learners":
        assert "vector" not in rooms and "puffer_il.rollout.collector" not in {n.rpartition(".")[0] for n in imported}
    if own not in ("native", "vector") and not file.startswith(INSIDE_PEERS):
        # `from puffer_il.native.pufferlib import pufferlib` is an import of PufferLib as well.
        assert "pufferlib" not in packages(imported) and not any(n.endswith(".pufferlib") for n in imported)
    if own in ("core", "kernels", "native"):
        assert "torch" not in packages(names(file, late=False)), "torch begins with nn"


@pytest.mark.parametrize("file", ENVS)
def test_environments_know_nothing_of_learning(file: str) -> None:
    imported = names(file)
    assert {room(name) for name in imported if name.startswith("puffer_il.")} <= {"core", "native"}
    assert packages(imported) <= {"numpy", "gymnasium", "icu_sepsis"}


@pytest.mark.parametrize("file", [file for file in PACKAGE if file.startswith(INSIDE_PEERS)
                                  and not file.endswith("revision_worker.py")])  # its puffer_il is another commit's
def test_what_runs_inside_peers_never_imports_ours(file: str) -> None:
    assert not any(name.startswith("puffer_il") for name in names(file))


def test_no_circle_of_files() -> None:
    """Within a room as well: what a file imports at its top never leads back to it."""
    files = {".".join(Path(file).with_suffix("").parts).removesuffix(".__init__"): file for file in PACKAGE}
    arrows = {module: {target for name in names(file) if name.startswith("puffer_il.")
                       for target in [name if name in files else name.rpartition(".")[0]]
                       if target in files and target != module and "._" not in name}
              for module, file in files.items()}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module):], module))
        if module not in done:
            for target in arrows[module]:
                visit(target, (*way, module))
            done.add(module)

    for module in arrows:
        visit(module, ())


def test_importing_the_package_costs_nothing() -> None:
    assert not packages(names("puffer_il/__init__.py", late=False))
    assert not {name for name in names("puffer_il/__init__.py", late=False) if name.startswith("puffer_il.")}


@pytest.mark.parametrize("header", sorted((ROOT / "csrc").rglob("*.h")), ids=lambda path: path.name)
def test_headers_know_only_c(header: Path) -> None:
    included = {line.split()[1] for line in header.read_text().splitlines() if line.startswith("#include")}
    standard = {"math", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string"}
    beside = {path.name for path in header.parent.glob("*.h")}
    if header.parent.name == "kernels":  # threads, vector instructions and mapped files are theirs alone
        standard |= {"immintrin", "pthread", "stdatomic", "sys/mman", "unistd"}
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
