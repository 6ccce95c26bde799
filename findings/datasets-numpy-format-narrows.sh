#!/usr/bin/env bash
# What surprises: Hugging Face datasets 5.2.0, the format in which the `imitation` package keeps trajectories, does not
#   give back the types that it stores once `with_format("numpy")` is set. A column of float64 is read as float32 and a
#   column of uint8 as int64, eight times the memory. Nested float64 lists (the observations of one trajectory) lose
#   half of their digits as well. A float64 scalar depends on how it is asked for: row by row it is exact, as a column
#   it is rounded, so the same cell has two values.
# The guess before it was run: the declared Features decide, and both ways of reading agree.
# What follows: read the Arrow columns themselves where exact numbers are wanted.
# Seen on 2026-11-29 (Python 3.11, datasets 5.2.0, pyarrow 26.0.1, numpy 2.4.6):
#   declared float64, nested: float32
#   declared uint8, nested: int64
#   declared uint8, Array3D: int64
#   one cell: row 16777217.0, column 16777216.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import numpy as np
from datasets import Array3D, Dataset, Features, List, Value

features = Features({"obs": List(List(Value("float64"))), "small": List(List(Value("uint8"))),
                     "image": Array3D((2, 2, 3), "uint8"), "reward": Value("float64")})
image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
rows = {"obs": [[[0.1, 0.2], [0.3, 0.4]]] * 2, "small": [[[1, 2], [3, 4]]] * 2, "image": [image, image],
        "reward": [16777217.0, 0.5]}
data = Dataset.from_dict(rows, features=features).with_format("numpy")
print("declared float64, nested:", data[0]["obs"].dtype)
print("declared uint8, nested:", data[0]["small"].dtype)
print("declared uint8, Array3D:", data[0]["image"].dtype)
print(f"one cell: row {float(data[0]['reward'])}, column {float(data[:]['reward'][0])}")
PYTHON
seen=$(HF_HUB_OFFLINE=1 HF_HOME="$folder/hf" "$folder/venv/bin/python" "$folder/show.py")
echo "$seen"
expected='declared float64, nested: float32
declared uint8, nested: int64
declared uint8, Array3D: int64
one cell: row 16777217.0, column 16777216.0'
[ "$seen" = "$expected" ] || { echo "CHANGED: datasets no longer behaves like this" >&2; exit 1; }
