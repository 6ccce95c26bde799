"""Tables of the comparison with other packages, and what is to be known about it."""

from __future__ import annotations

from typing import Any

from puffer_il.bench.rivals import best_of_theirs
from puffer_il.bench.section import Entries, Section, both, failed


def rival_sections(entries: Entries) -> list[Section]:
    made = []
    for group in entries:
        rows = [[e["name"], *both(e.get("rate"))] for e in group["entries"]]
        best = best_of_theirs(group, "pufferlib")
        for pair in group["ratios"]:
            if pair["theirs"] == best or not pair["theirs"].startswith("pufferlib"):
                median, spread = both(pair["ratio"])
                rows.append([f"{pair['ours']} / {pair['theirs']}", f"{median}×", spread])
        made.append(Section(f"Side by side: {group['name']}", ("who", f"{group['unit']}/s", "range"), rows,
                            [*_remarks(group), *failed(group["entries"])]))
    return made


REMARKS = {
    "GAIL": "imitation has no tuned settings for CartPole; these are its tutorials': 8 environments × 2,048 steps, 5 "
            "PPO epochs in minibatches of 64, 8 discriminator updates of 1,024 + 1,024 rows, no gradient penalty. Ours "
            "are 4,096 environments × 64 steps, 1 epoch, 8 updates of 4,096 + 4,096. So the ratio compares what each "
            "does by its own settings; 'no penalty' is what imitation's GAIL computes.",
    "PPO": "PufferLib: its trainer and C CartPole, 4,096 × 64, the same two networks of 2×64 tanh, Adam; the ratio is "
           "to the faster of its thread settings. Its CartPole ends after 200 steps, ours after 500.",
    "BC": "One epoch over 10 episodes of 500 steps. Ours holds one of them out and scores it after every epoch, which "
          "is in its time; imitation's does not."}


def _remarks(group: dict[str, Any]) -> list[str]:
    remarks = [text for start, text in REMARKS.items() if group["name"].startswith(start)]
    if any(e["name"].startswith("sb3") for e in group["entries"]):
        remarks.append("Stable-Baselines3: 8 of Gymnasium's CartPole × 256 steps, 4 epochs in minibatches of 512.")
    versions = {f"{k} {v}" for e in group["entries"] for k, v in (e.get("versions") or {}).items()}
    return [*remarks, *([f"Theirs: {', '.join(sorted(versions))}."] if versions else [])]


def expert_sections(entries: Entries) -> list[Section]:
    rows = [[e["name"], *both(e.get("seconds")), ", ".join("never" if t is None else f"{t:.1f}" for t in e["times"])]
            for e in entries]
    return [Section("Time to the expert", ("who", "seconds", "range", "each seed"), rows, (
        "From the start of the process until an evaluation reaches the expert's level: `puffer-il train gail cartpole` "
        "as it is, from the shipped demonstrations, Python's and torch's start included. imitation: until 20 greedy "
        "episodes average 475, asked after every round.", *failed(entries)))]
