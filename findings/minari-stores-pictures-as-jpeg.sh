#!/usr/bin/env bash
# What surprises: Minari 0.5.4 stores observations of uint8 from 32 x 32 on as JPEG unless it is told otherwise, so that
#   what `load_dataset` gives is not what was recorded. A map of classes (semantic segmentation, an occupancy grid, the
#   board of a game) comes back with other classes in it, some of which were never there.
# The guess before it was run: a dataset of uint8 comes back bit by bit, as HDF5's own compression would have it.
# What follows: write with `jpeg_encoding=False`; distrust the least bits of pictures in other people's data sets.
# Seen on 2026-11-30 (Python 3.11, minari 0.5.4, gymnasium 1.4.0, numpy 2.4.6, pillow 13.0.0):
#   by default: changed cells yes, classes that were never recorded yes
#   jpeg_encoding=False: changed cells no, classes that were never recorded no
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "minari[hdf5]==0.5.4" gymnasium==1.4.0 numpy==2.4.6 pillow==13.0.0
cat > "$folder/show.py" <<'PYTHON'
import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

classes = np.array([0, 7, 19], np.uint8)  # road, sign, rider
seen = classes[np.random.default_rng(0).integers(0, 3, (4, 64, 64, 1)).repeat(3, 3)]
episode = EpisodeBuffer(observations=seen, actions=np.zeros(3, np.int64), rewards=[0.0, 0.0, 1.0],
                        terminations=[False, False, True], truncations=[False] * 3)
for name, more in (("by default", {}), ("jpeg_encoding=False", {"jpeg_encoding": False})):
    minari.create_dataset_from_buffers(f"trial/maps{len(more)}-v0", [episode], action_space=spaces.Discrete(2),
                                       observation_space=spaces.Box(0, 255, (64, 64, 3), np.uint8), **more)
    read = minari.load_dataset(f"trial/maps{len(more)}-v0")[0].observations
    said = ["yes" if found else "no" for found in ((read != seen).any(), not np.isin(read, classes).all())]
    print(f"{name}: changed cells {said[0]}, classes that were never recorded {said[1]}")
PYTHON
seen=$(MINARI_DATASETS_PATH="$folder/data" "$folder/venv/bin/python" -W ignore "$folder/show.py")
echo "$seen"
expected='by default: changed cells yes, classes that were never recorded yes
jpeg_encoding=False: changed cells no, classes that were never recorded no'
[ "$seen" = "$expected" ] || { echo "CHANGED: minari no longer behaves like this" >&2; exit 1; }
