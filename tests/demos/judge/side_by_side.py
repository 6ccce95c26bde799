"""What `puffer-il demos check`, robot-report-card and raftaar say of the same damaged recordings.

    python -m tests.demos.judge.side_by_side FOLDER BIN

FOLDER is where the recordings are written, as LeRobot 3.0 data sets; BIN the folder of the programs `rrc` and
`raftaar` (pip install robot-report-card[score,sim] raftaar[lerobot] pandas, in an environment of its own). Printed is,
for each kind of damage, what each of them says that it does not say of the recording before it was damaged: of our own
kinds, and of the faults that the other two invent.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.demos.judge import damage, peer_faults

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


def ours(folder: Path, env: str = "") -> dict[str, str]:
    """Alone, and against the environment where its observations are those of the environment."""
    found = {}
    for words in ([], ["--env", env]) if env else ([],):
        said = subprocess.run([sys.executable, "-m", "puffer_il", "demos", "check", folder, "--json", *words],
                              capture_output=True, text=True, check=False)
        if not said.stdout:
            return {"refused": said.stderr.strip()}
        told = json.loads(said.stdout)
        found |= {one["kind"]: one["line"] for one in told["findings"] if not one["refused"]}
        found |= {note: note for note in told["notes"] if "frame" in note}
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
    return {f"{found['id']} {found['where']}": f"{found['severity']} {found['where']}: {found['what']}"
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
        said = {"puffer_il": ours(folder, "detour"), "robot-report-card": report_card(folder, programs),
                "raftaar": raftaar(folder, programs)}
        before = before or said
        show(name, said, before if said is not before else {})
    own, sound = target / "raftaar-synth", target / "rrc-bench"
    before = {}
    for name, folder, same in peer_faults.of_raftaar(own, programs):
        said = {"puffer_il": ours(same), "robot-report-card": report_card(same, programs),
                "raftaar": raftaar(folder, programs)}
        before = before or said
        show(f"raftaar's {name}", said, before if said is not before else {})
    before = {}
    for name, folder in (*peer_faults.of_report_card(sound, programs),
                         *peer_faults.corrupted(sound / "sound.lerobot", target / "rrc-corrupt", programs)):
        said = {"puffer_il": ours(folder), "robot-report-card": report_card(folder, programs),
                "raftaar": raftaar(folder, programs)}
        before = before or said
        show(f"robot-report-card's {name}", said, before if said is not before else {})


def show(name: str, said: dict[str, dict[str, str]], before: dict[str, dict[str, str]]) -> None:
    print(f"== {name}")
    for who, lines in said.items():
        for key, line in lines.items():
            if before.get(who, {}).get(key) is None:
                print(f"   {who}: {key}: {line}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
