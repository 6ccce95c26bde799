#!/usr/bin/env bash
# What surprises: whether the actions of a d3rlpy 2.8.1 MDPDataset are continuous or discrete is decided by the numbers
#   of its first episode, not by their dtype and not by all episodes. Torques in float32 that happen to be -1 and 1 there,
#   as bang-bang control, a saturated controller or a gripper has them, make the whole set discrete, with as many choices
#   as the largest of them says; the same episodes in another order are continuous with one dimension.
# The guess before it was run: float32 with fractions in it is continuous, whichever episode comes first.
# What follows: say `action_space=` and `action_size=` yourself when episodes are handed to d3rlpy.
# Seen on 2026-11-30 (Python 3.11, d3rlpy 2.8.1, torch 2.13.0, numpy 2.4.6):
#   saturated episode first: DISCRETE, size 2
#   the other one first: CONTINUOUS, size 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 d3rlpy==2.8.1 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import d3rlpy
import numpy as np

obs = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
actions = np.tile(np.array([[1.0], [-1.0]], np.float32), (20, 1))
actions[20:] *= np.float32(0.37)
ends = np.zeros(40)
ends[[19, 39]] = 1
for name, way in (("saturated episode first", 1), ("the other one first", -1)):
    info = d3rlpy.dataset.MDPDataset(obs[::way], actions[::way], np.ones(40, np.float32), ends).dataset_info
    print(f"{name}: {info.action_space.name}, size {info.action_size}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/show.py" 2> "$folder/warnings" | grep ": [A-Z]*, size") || { cat "$folder/warnings" >&2; exit 1; }
echo "$seen"
expected='saturated episode first: DISCRETE, size 2
the other one first: CONTINUOUS, size 1'
[ "$seen" = "$expected" ] || { echo "CHANGED: d3rlpy no longer behaves like this" >&2; exit 1; }
