#!/usr/bin/env bash
# What surprises: an MDPDataset of d3rlpy 2.8.1 forgets the rows after the last end. Of ten rows whose only terminal is
#   the fifth, five remain, without a warning: the last episode, which a recorder stopped, is gone, and with it what may
#   be most of a file with a few terminals.
# The guess before it was run: the open episode is kept as one that was cut off, as d3rlpy has such episodes (timeouts).
# What follows: set `timeouts` on the last row of a recording.
# Seen on 2026-11-30 (Python 3.11, d3rlpy 2.8.1, torch 2.13.0, numpy 2.4.6):
#   terminal in row 4 of 10: 5 rows kept
#   and a timeout in the last row: 10 rows kept
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 d3rlpy==2.8.1 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import d3rlpy
import numpy as np

obs, actions, rewards = np.zeros((10, 2), np.float32), np.full((10, 1), 0.5, np.float32), np.ones(10, np.float32)
terminals, timeouts = np.zeros(10), np.zeros(10)
terminals[4] = timeouts[9] = 1
for name, more in (("terminal in row 4 of 10", {}), ("and a timeout in the last row", {"timeouts": timeouts})):
    data = d3rlpy.dataset.MDPDataset(obs, actions, rewards, terminals, **more)
    print(f"{name}: {sum(len(episode.rewards) for episode in data.episodes)} rows kept")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/show.py" 2> "$folder/warnings" | grep "rows kept") || { cat "$folder/warnings" >&2; exit 1; }
echo "$seen"
expected='terminal in row 4 of 10: 5 rows kept
and a timeout in the last row: 10 rows kept'
[ "$seen" = "$expected" ] || { echo "CHANGED: d3rlpy no longer behaves like this" >&2; exit 1; }
