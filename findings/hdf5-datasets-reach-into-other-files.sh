#!/usr/bin/env bash
# What surprises: an HDF5 file holds no code, and yet a data set of a stranger reads any file of whoever loads it. An array
#   may say that its bytes lie in another file, by an absolute path; h5py 3.16.0 opens that file without a word, and so does
#   minari 0.5.4, whose episode then has a private key for its actions. Read-only mode changes nothing.
# The guess before it was run: a data set without pickles is safe to load from anywhere, and a file that is opened alone is
#   read alone.
# What follows: what is learned from, exported again or published from such a data set carries other files with it. Links to
#   other files and virtual datasets do the same. Whoever reads HDF5 from outside has to ask each array first (`external`,
#   `is_virtual`, the class of each link); puffer_il refuses all three in one line.
# Seen on 2026-11-30 (Python 3.11, h5py 3.16.0, minari 0.5.4):
#   h5py: b'-----BEGIN KEY-----'
#   minari: b'-----BEGIN KEY-----'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check h5py==3.16.0 "minari[hdf5]==0.5.4" pillow
cat > "$folder/show.py" <<'PYTHON'
import os
import sys
from pathlib import Path

import h5py
import numpy as np

folder, private = Path(sys.argv[1]), b"-----BEGIN KEY-----"
os.environ["MINARI_DATASETS_PATH"] = str(folder)
(folder / "id_rsa").write_bytes(private)

import minari  # noqa: E402
from gymnasium.spaces import Box  # noqa: E402

n = len(private)
episode = minari.data_collector.EpisodeBuffer(
    observations=np.zeros((n + 1, 1), np.float32), actions=np.zeros((n, 1), np.uint8), rewards=np.zeros(n),
    terminations=np.zeros(n, bool), truncations=np.arange(n) == n - 1)
minari.create_dataset_from_buffers("own/toy-v0", [episode], observation_space=Box(-1, 1, (1,)),
                                   action_space=Box(0, 255, (1,), np.uint8), data_format="hdf5")
path = folder / "own/toy-v0/data/main_data.hdf5"
with h5py.File(path, "a") as file:  # the stranger
    del file["episode_0/actions"]
    file.create_dataset("episode_0/actions", (n, 1), "u1", external=[(str(folder / "id_rsa"), 0, n)])
with h5py.File(path, "r") as file:
    print("h5py:", bytes(file["episode_0/actions"][...]))
print("minari:", bytes(next(iter(minari.load_dataset("own/toy-v0").iterate_episodes())).actions))
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/show.py" "$folder" 2> /dev/null)
echo "$seen"
expected="h5py: b'-----BEGIN KEY-----'
minari: b'-----BEGIN KEY-----'"
[ "$seen" = "$expected" ] || { echo "CHANGED: an array of another file is no longer read like this" >&2; exit 1; }
