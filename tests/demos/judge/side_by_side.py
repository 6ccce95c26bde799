"""What `puffer-il demos check`, robot-report-card and raftaar say of the same damaged recordings.

    python -m tests.demos.judge.side_by_side FOLDER BIN

FOLDER is where the recordings are written, as LeRobot 3.0 data sets; BIN the folder of the programs `rrc` and `raftaar`
(pip install robot-report-card[score] raftaar[lerobot], in an environment of its own). Printed is, for each kind of
damage, what each of them says that it does not say of the recording before it was damaged.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.demos.judge import damage

EPISODES = 24  # of detour, 2,141 rows


def swapped(d):
    d["actions"] = d["actions"][:, [0, 0]]


def dead(d):
    d["actions"][:, 1] = 0


KINDS = {"frames a row late": damage.late, "actions a row late": damage.late_actions, "a clock": damage.clock,
         "the last action observed": damage.last_action, "a spike": damage.spike, "a hung sensor": damage.hung_sensor,
         "rows of zeros": damage.zero_rows, "rows missing": damage.missing_rows, "two episodes as one": damage.glued,
         "idle starts": damage.idle_start, "a copied episode": damage.copy_of, "an episode of noise": damage.jerky,
         "rows in disorder": damage.shuffled_rows, "a dead actuator": dead,
         "an actuator recorded twice": swapped, "actions of other rows": damage.shuffled_actions}


def ours(folder: Path) -> dict[str, str]:
    """Alone, and against the environment where its observations are those of the environment."""
    found = {}
    for words in ([], ["--env", "detour"]):
        said = subprocess.run([sys.executable, "-m", "puffer_il", "demos", "check", folder, "--json", *words],
                              capture_output=True, text=True, check=False)
        found |= {one["kind"]: one["line"] for one in json.loads(said.stdout)["findings"] if not one["refused"]}
    return found


def report_card(folder: Path, programs: Path) -> dict[str, str]:
    out = folder.with_suffix(".rrc.json")
    subprocess.run([programs / "rrc", "score", folder, "--json-out", out, "--overwrite"], capture_output=True,
                   check=True)
    flagged = [one for one in json.loads(out.read_text())["episodes"] if one["quality"] != "ok"]
    return {f"episode {one['episode_index']}": "; ".join([*one["hard_flags"], *one["reasons"]]) for one in flagged}


def raftaar(folder: Path, programs: Path) -> dict[str, str]:
    out = folder.with_suffix(".raftaar")
    subprocess.run([programs / "raftaar", "scan", folder, "--out", out], capture_output=True, check=True)
    return {found["id"]: f"{found['severity']} {found['where']}: {found['what']}"
            for found in json.loads((out / "report.json").read_text())["findings"]}


def main(target: Path, programs: Path) -> None:
    before: dict[str, dict[str, str]] = {}
    for name, spoil in {"nothing": lambda d: None, **KINDS}.items():
        d = damage.good("detour", episodes=EPISODES, steps=1000)
        spoil(d)
        file, folder = target / "d.npz", target / name.replace(" ", "-")
        np.savez(file, **d)
        subprocess.run([sys.executable, "-m", "puffer_il", "demos", "export", file, folder, "--to", "lerobot"],
                       capture_output=True, check=True)
        said = {"puffer_il": ours(folder), "robot-report-card": report_card(folder, programs),
                "raftaar": raftaar(folder, programs)}
        print(f"== {name}")
        for who, lines in said.items():
            for key, line in lines.items():
                if key not in before.get(who, {}):
                    print(f"   {who}: {key}: {line}")
        before = before or said


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
