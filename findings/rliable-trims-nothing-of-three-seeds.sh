#!/usr/bin/env bash
# What surprises: with the few seeds that most papers have, the robust scores of rliable 1.2.0 are plain means. Its
#   interquartile mean drops whole scores only, a quarter rounded down, at each end: none of three, so that one seed gone
#   wrong counts in full; one of five, a fifth instead of a quarter. And `aggregate_median` of one task is the mean of its
#   runs, because it is the median over tasks of means over runs.
# The guess before it was run: an interquartile mean of three scores weighs the outer ones less (SciPy's and NumPy's
#   quartiles interpolate), and the median of 1, 1 and 10 is 1.
# What follows: "IQM of 3 seeds on one task" promises a robustness that is not there. Four runs in all are the least that
#   trims, and a score per task needs another median than this.
# Seen on 2026-11-30 (Python 3.11, rliable 1.2.0, scipy 1.17.1, numpy 2.4.6, pandas 2.3.3):
#   1, 1, 10: mean 4.0, interquartile mean 4.0, aggregate_median 4.0
#   1, 1, 1, 10: mean 3.25, interquartile mean 1.0, aggregate_median 3.25
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check rliable==1.2.0 scipy==1.17.1 numpy==2.4.6 pandas==2.3.3
cat > "$folder/show.py" <<'PYTHON'
import numpy as np
from rliable import metrics

for scores in ([1, 1, 10], [1, 1, 1, 10]):
    runs_of_one_task = np.array(scores, np.float64)[:, None]
    print(f"{', '.join(map(str, scores))}: mean {np.mean(scores)}, "
          f"interquartile mean {metrics.aggregate_iqm(runs_of_one_task)}, "
          f"aggregate_median {metrics.aggregate_median(runs_of_one_task)}")
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/show.py" 2> /dev/null)
echo "$seen"
expected='1, 1, 10: mean 4.0, interquartile mean 4.0, aggregate_median 4.0
1, 1, 1, 10: mean 3.25, interquartile mean 1.0, aggregate_median 3.25'
[ "$seen" = "$expected" ] || { echo "CHANGED: rliable no longer behaves like this" >&2; exit 1; }
