#!/usr/bin/env bash
# What surprises: in ale-py 0.12.1 a vector of games writes its autoreset mode into a dictionary that belongs to the class.
#   The moment a second one is made with another mode, the first one's metadata names that other mode too, though it goes
#   on stepping by its own: the same step after a game's end still says whose it is by the infos.
# The guess before it was run: each vector's metadata names its own mode, as gymnasium's SyncVectorEnv copies it for itself.
# What follows: who reads the mode from the metadata after having opened two (one to train on, one to evaluate) takes the
#   first observation of the next episode for the last of this one, or loses a step in each episode. The mode is to be read
#   as soon as a vector is made, and kept.
# Seen on 2026-11-30 (Python 3.11, ale-py 0.12.1, gymnasium 1.4.0):
#   gymnasium: NextStep alone, NextStep beside another, one dictionary: False
#   ale-py: NextStep alone, SameStep beside another, one dictionary: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check ale-py==0.12.1 gymnasium==1.4.0
cat > "$folder/show.py" <<'PYTHON'
import gymnasium
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

MAKERS = {
    "gymnasium": lambda mode: SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")], autoreset_mode=mode),
    "ale-py": lambda mode: AtariVectorEnv("pong", num_envs=1, autoreset_mode=mode),
}
for package, make in MAKERS.items():
    first = make(AutoresetMode.NEXT_STEP)
    alone = first.metadata["autoreset_mode"].value
    second = make(AutoresetMode.SAME_STEP)
    beside = first.metadata["autoreset_mode"].value
    print(f"{package}: {alone} alone, {beside} beside another, one dictionary: {first.metadata is second.metadata}")
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/show.py" 2> /dev/null)
echo "$seen"
expected='gymnasium: NextStep alone, NextStep beside another, one dictionary: False
ale-py: NextStep alone, SameStep beside another, one dictionary: True'
[ "$seen" = "$expected" ] || { echo "CHANGED: these vectors no longer behave like this" >&2; exit 1; }
