"""The arrays of an MDP, from keyword arguments or a file, and the gridworld that stands in for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.npz import read_npz
from puffer_il.native import tabular

NEEDED, OPTIONAL = ("transitions", "rewards", "initial"), ("terminal", "expert", "places")

GRID = ("....#....",  # walls, pits, a goal
        "..x.#.x..",
        ".........",
        "##.##.##.",
        "..x...x..",
        "....#...G")
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # north, east, south, west
MOST_PLACES = 1_000_000  # cells of a picture
SLIP = 0.1  # to either side of where one meant to go
REWARDS = {"G": 1.0, "x": -1.0, ".": -0.02}  # of getting there
GRID_STATES = sum(row.count(tile) for row in GRID for tile in REWARDS)


def load(*, file: str, gamma: float, grid_width: int, num_states: int, num_actions: int, max_episode_steps: int,
         **given: Any) -> dict[str, Any]:
    """The tables of csrc/tabular.h. InputError, a line, for arrays that are missing, superfluous or wrong."""
    origin = f"environment mdp: {file}" if file else "environment mdp"
    for name in given:
        if name not in NEEDED + OPTIONAL:
            raise InputError(f"{origin}: {name} follows from the other arrays; leave it out")
    if file and given:
        raise InputError(f"{origin}: {', '.join(given)} are given beside a file; leave out one of the two")
    arrays = read_file(file, origin) if file else given or gridworld()
    for name in NEEDED:
        if name not in arrays:
            raise InputError(f"{origin}: the array {name} is missing; an MDP has {', '.join(NEEDED)}")
    mdp = tabular.MDP(*(arrays[name] for name in NEEDED), arrays.get("terminal"), origin)
    for name, value, size, default in (("num_states", num_states, mdp.num_states, GRID_STATES),
                                       ("num_actions", num_actions, mdp.num_actions, len(MOVES))):
        if value not in (default, size):
            raise InputError(f"{origin}: {name} = {value}, but the arrays have {size}; leave it out")
    if "expert" in arrays:
        expert = tabular.check_policy(mdp, "expert", arrays["expert"])
    else:
        expert, _ = tabular.optimal_policy(mdp, gamma)
    values = tabular.worths(mdp, expert, min(gamma, 0.99))  # below 1, so that they are finite
    places = np.asarray(arrays.get("places", np.arange(mdp.num_states)))
    whole = places.shape == (mdp.num_states,) and places.dtype.kind in "iu"
    if not whole or places.min() < 0 or places.max() > MOST_PLACES:
        raise InputError(f"{origin}: places must be {mdp.num_states} whole numbers from 0 to {MOST_PLACES:,}, the "
                         "states' cells in the picture")
    own_width = math.ceil(math.sqrt(places.max() + 1)) if file or given else len(GRID[0])
    return {**tabular.make_tables(mdp, expert, values, places), "num_states": mdp.num_states,
            "num_actions": mdp.num_actions, "grid_width": grid_width or own_width}


def read_file(file: str, origin: str) -> dict[str, Any]:
    """The arrays of an .npz file."""
    try:
        arrays: dict[str, Any] = dict(read_npz(file))
    except (OSError, ValueError) as error:
        raise InputError(f"{origin}: cannot be read ({one_line(error)}); give an .npz file that numpy.savez wrote"
                         ) from None
    for name in arrays:
        if name not in NEEDED + OPTIONAL:
            raise InputError(f"{origin}: unknown array {name!r}; it may hold {', '.join(NEEDED + OPTIONAL)}")
    return arrays


def gridworld() -> dict[str, Any]:
    """A small world of two rooms above and two below, whose pits are best passed at a distance."""
    cells = [(i, j) for i, row in enumerate(GRID) for j, tile in enumerate(row) if tile in REWARDS]
    number = {cell: s for s, cell in enumerate(cells)}
    states, tiles = len(cells), [GRID[i][j] for i, j in cells]
    transitions = np.zeros((states, len(MOVES), states))
    for (i, j), s in number.items():
        for meant in range(len(MOVES)):
            for turn, chance in ((0, 1 - 2 * SLIP), (1, SLIP), (3, SLIP)):
                di, dj = MOVES[(meant + turn) % len(MOVES)]
                transitions[s, meant, number.get((i + di, j + dj), s)] += chance
    terminal = np.array([tile != "." for tile in tiles])
    transitions[terminal] = np.eye(states)[terminal][:, None]
    rewards = np.broadcast_to([REWARDS[tile] for tile in tiles], transitions.shape)
    return {"transitions": transitions, "rewards": rewards, "initial": ~terminal / (~terminal).sum(),
            "terminal": terminal, "places": np.array([i * len(GRID[0]) + j for i, j in cells])}
