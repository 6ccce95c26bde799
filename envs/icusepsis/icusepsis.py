"""The tables of ICU-Sepsis, as the package icu-sepsis carries them (MIT licence)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.native import tabular
from puffer_il.native.glue import package_folder

TERMINAL = (713, 714, 715)  # death, survival, and the absorbing state after them
DEATH = TERMINAL[0]


def load(*, file: str, inadmissible: str, grid_width: int, max_episode_steps: int, **given: Any) -> dict[str, Any]:
    """The tables of csrc/tabular.h. InputError if there is neither the package nor the file, or it is another."""
    if given:
        raise InputError(f"environment icusepsis: {', '.join(given)}: its arrays come from the package icu-sepsis; "
                         "give your own to the environment mdp")
    path = Path(file) if file else _installed()
    origin = f"environment icusepsis: {path}"
    try:
        with np.load(path, allow_pickle=False) as archive:
            transitions, rewards, initial, expert = (archive[name] for name in ("tx_mat", "r_mat", "d_0",
                                                                                "expert_policy"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{origin}: cannot be read ({error}); give the dynamics.npz of icu-sepsis") from None
    if inadmissible == "terminate":
        transitions[~_admissible(path.with_name("admissible_actions.txt"), expert.shape)] = np.eye(len(expert))[DEATH]
    terminal = np.isin(np.arange(len(expert)), TERMINAL)
    mdp = tabular.MDP(transitions, rewards, initial, terminal, origin)
    expert = tabular.check_policy(mdp, "expert_policy", expert)
    survival = tabular.worths(mdp, expert)
    places = np.empty(len(survival), np.int32)
    places[np.argsort(survival, kind="stable")] = np.arange(len(survival))  # the picture goes from bad to good
    return tabular.make_tables(mdp, expert, survival, places)


def _installed() -> Path:
    """The package's file. The package itself is not imported: it would bring pandas and the old gym."""
    folder = package_folder("icu_sepsis")
    if folder is None:
        raise InputError("environment icusepsis reads its tables from the package icu-sepsis, which is not installed; "
                         "pip install icu-sepsis (--no-deps suffices), or give its dynamics.npz as `file`")
    return folder / "envs" / "assets" / "dynamics.npz"


def _admissible(path: Path, shape: tuple[int, ...]) -> Array:
    """(S, A) bool: a line of counts, then the actions of each state."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise InputError(f"environment icusepsis: inadmissible = 'terminate' needs {path}: {error}") from None
    table = np.zeros(shape, bool)
    for state, line in enumerate(lines[1:1 + shape[0]]):
        table[state, [int(action) for action in line.split()]] = True
    return table
